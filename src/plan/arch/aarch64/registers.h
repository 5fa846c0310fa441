/* SPDX-License-Identifier: Apache-2.0 */
/* What is in registers around a system call: its number, and which one holds nothing that anybody reads. */
#ifndef SCOPE_PLAN_A64_REGISTERS_H
#define SCOPE_PLAN_A64_REGISTERS_H

#include "plan/arch/aarch64/text.h"

/* The value that x8 has at vaddr on every way there, if it is a constant; else -1. */
int32_t a64_number(const struct text *c, uint64_t vaddr);

/*
 * A register whose value at vaddr nobody reads: on every way from there it is written before it is read, or it is x16 or
 * x17, and the function doesn't name it anywhere. x16 and x17 hold nothing at a call or return either, as linkers' veneers
 * may change them (AAPCS64, 6.1.1); other registers may, where a compiler knows what the function that is called doesn't
 * touch. None of those in which a call gets its number and arguments. -1: there is none, or the search takes too long.
 */
int a64_dead_register(struct text *c, uint64_t vaddr);
/* Whether this one is. */
bool a64_is_dead(struct text *c, uint64_t vaddr, unsigned reg);

#endif
