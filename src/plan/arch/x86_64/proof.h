/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which bytes of a text that also holds data are certainly instructions.
 *
 * A sweep that meets data may take some of it for code, and what it takes for a
 * syscall there must not be replaced. What is reached from where the program
 * certainly runs is code: from its entry point and main, functions that symbols
 * name, and calls in functions that the unwind tables describe. Control is
 * followed along every branch whose target is known, and past a call only if the
 * function that is called can return: behind one that can't there may be anything.
 *
 * An address that code takes or data holds proves nothing, it may be that of data.
 * But where control that begins there comes to a call of a proven function, it is
 * a function, too: a 32-bit distance that is right by chance is hardly to be had,
 * and in code that is kept as data, to be copied elsewhere, it is wrong.
 */
#ifndef SCOPE_PLAN_X86_PROOF_H
#define SCOPE_PLAN_X86_PROOF_H

#include "plan/arch/x86_64/code.h"
#include "plan/arch/x86_64/number.h"

struct proof;

/* Follows the control of the swept image; text that unwind tables or Go's table describe is not entered, they have the
 * proof. Where the sweep was wrong, targets of branches that it missed become CODE_ENTRY in its marks. NULL if there is
 * not enough memory, or more to follow than any program has. Release with proof_free(), before the code. */
struct proof *proof_make(struct code *c, struct number_finder *f);
void proof_free(struct proof *p);

/* Whether an instruction begins at vaddr, and no other one that was reached reaches over it. */
int proof_holds(const struct proof *p, uint64_t vaddr);

#endif
