/* SPDX-License-Identifier: Apache-2.0 */
/* What tests know of registers of arm64. */
#ifndef TEST_REGS_H
#define TEST_REGS_H

#include <stdint.h>
#include <ucontext.h>

#include "inject/regs.h"

static inline uint64_t context_pc(const ucontext_t *uc)
{
    return uc->uc_mcontext.pc;
}

static inline uint64_t context_sp(const ucontext_t *uc)
{
    return uc->uc_mcontext.sp;
}

/* What the program has of its own is all there is. */
static inline void forget_call(struct arch_regs *regs)
{
    (void)regs;
}

#endif
