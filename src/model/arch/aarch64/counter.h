/* SPDX-License-Identifier: Apache-2.0 */
/* The virtual count of the generic timer, whose values records of SEG_CLOCK_TSC carry. The kernel keeps time with it
 * everywhere (arch_sys_counter), and lets programs read it. */
#ifndef SCOPE_MODEL_ARCH_COUNTER_H
#define SCOPE_MODEL_ARCH_COUNTER_H

#include <stdint.h>

/* In order with what was read before: without the barrier the CPU may read it early (Arm ARM, D12.1.2). */
static inline uint64_t arch_counter(void)
{
    uint64_t v;

    __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(v) : : "memory");
    return v;
}

#endif
