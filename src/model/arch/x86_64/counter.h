/* SPDX-License-Identifier: Apache-2.0 */
/* The time stamp counter whose values records of SEG_CLOCK_TSC carry. */
#ifndef SCOPE_MODEL_ARCH_COUNTER_H
#define SCOPE_MODEL_ARCH_COUNTER_H

#include <stdint.h>

static inline uint64_t arch_counter(void)
{
    return __builtin_ia32_rdtsc();
}

#endif
