/* SPDX-License-Identifier: Apache-2.0 */
/* What tests know of registers of x86_64. */
#ifndef TEST_REGS_H
#define TEST_REGS_H

#include <stdint.h>
#include <ucontext.h>

#include "inject/regs.h"

static inline uint64_t context_pc(const ucontext_t *uc)
{
    return (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
}

static inline uint64_t context_sp(const ucontext_t *uc)
{
    return (uint64_t)uc->uc_mcontext.gregs[REG_RSP];
}

/* Which call it was in is no register of the program's. */
static inline void forget_call(struct arch_regs *regs)
{
    regs->user.orig_rax = 0;
}

#endif
