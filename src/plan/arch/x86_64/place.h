/* SPDX-License-Identifier: Apache-2.0 */
/* Finds room for the jump to a slot, and makes the patch. */
#ifndef SCOPE_PLAN_X86_PLACE_H
#define SCOPE_PLAN_X86_PLACE_H

#include "plan/arch/x86_64/relocate.h"

#define JUMP_SIZE 5u
#define SHORT_SIZE 2u

/* Where a region is reached from: directly, or by a short jump over padding. */
struct place {
    struct region r;
    uint64_t padding; /* 0: direct */
    int pops;         /* PLAN_REL_32_POP */
};

/* A place whose region starts, or ends, at vaddr. */
enum plan_reason place_after(const struct code *c, uint64_t vaddr, struct place *ret);
enum plan_reason place_before(const struct code *c, uint64_t vaddr, struct place *ret);
/* Keeps others off a place that was found, until the patch is made or it is given up. */
void place_reserve(const struct code *c, const struct place *at, int taken);
/* Patches the place with a jump to the slot's code. */
void patch_jump(struct emit *e, const struct code *c, const struct place *at, uint32_t slot, enum plan_when when,
                uint32_t site);

#endif
