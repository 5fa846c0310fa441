/* SPDX-License-Identifier: Apache-2.0 */
/* Which system call does a syscall instruction make? */
#ifndef SCOPE_PLAN_X86_NUMBER_H
#define SCOPE_PLAN_X86_NUMBER_H

#include <capstone/capstone.h>

#include "plan/arch/x86_64/code.h"

/* A disassembler with details, opened once per image. */
struct number_finder {
    csh handle;
    cs_insn *insn;
    unsigned steps;      /* instructions looked at so far, for numbers of calls */
    unsigned more_steps; /* and for other registers */
};

/* 0 or -ENOMEM. */
int number_open(struct number_finder *f);
void number_close(struct number_finder *f);

/* Follows eax backwards over every path that leads to the syscall at vaddr. Returns the number that all of them
 * agree on, or -1 if they don't, if it is computed, or if there may be paths that can't be seen. */
int32_t number_find(struct number_finder *f, const struct code *c, uint64_t vaddr);

/* The value of a 64-bit register (by its number in instructions) before the instruction at vaddr, if it is a constant
 * or an address on all paths: 1 and the value, else 0. */
int number_register(struct number_finder *f, const struct code *c, uint64_t vaddr, unsigned reg, uint64_t *ret);

/* Whether a Go function, to which the syscall at vaddr belongs, leaves r12 and r13 alone. Nobody reads them then before
 * they are written: between Go functions no value is passed in them, nor kept ("Go internal ABI specification", amd64;
 * in assembly, ABI0, no register is). False also if it isn't known where the function begins and ends. */
int number_keepable(struct number_finder *f, const struct code *c, uint64_t vaddr);

#endif
