/* SPDX-License-Identifier: Apache-2.0 */
/* An instruction of the text in a slot. */
#ifndef SCOPE_PLAN_A64_RELOCATE_H
#define SCOPE_PLAN_A64_RELOCATE_H

#include "plan/arch/aarch64/text.h"
#include "plan/emit.h"

/* Whether the instruction at vaddr can run elsewhere. One that calls can't where there is a shadow stack (Guarded Control
 * Stack): what is made of it is a jump. At the end of a region only: what it returns to is the text. */
bool a64_movable(const struct text *c, uint64_t vaddr);

/* Emits the instruction at vaddr so that it does what it does there, and then goes on behind it if `back`; without, what
 * falls through comes next in the slot. e->overflow if there isn't enough room. */
void a64_relocate(struct emit *e, const struct text *c, uint64_t vaddr, bool back);

#endif
