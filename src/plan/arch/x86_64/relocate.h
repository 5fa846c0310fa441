/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves instructions: the displaced ones run from a trampoline slot with the
 * same effect, including on flags, stack and red zone.
 */
#ifndef SCOPE_PLAN_X86_RELOCATE_H
#define SCOPE_PLAN_X86_RELOCATE_H

#include "plan/arch/x86_64/code.h"
#include "plan/emit.h"

/* Whole instructions that are to be replaced. */
#define REGION_MAX_INSNS 16
struct region {
    uint64_t lo, hi; /* [lo, hi) */
    unsigned count;  /* instructions to move; padding after an end of flow is not counted */
    uint64_t insn[REGION_MAX_INSNS];
    int ends;     /* the last moved instruction ends the flow: nothing runs into hi */
    int has_call; /* a call is among them (the last one) */
};

/* The region of at least `need` bytes that starts at vaddr: no arrival inside, everything movable, nothing taken. */
enum plan_reason region_after(const struct code *c, uint64_t vaddr, unsigned need, struct region *r);
/* The region of at least `need` bytes that ends at vaddr. */
enum plan_reason region_before(const struct code *c, uint64_t vaddr, unsigned need, struct region *r);
/* A region of at least `need` bytes around the syscall at vaddr, as little of it after the syscall as possible.
 * *before are the instructions in front of the syscall, *after those behind it; either may be empty (lo == hi). */
enum plan_reason region_around(const struct code *c, uint64_t vaddr, unsigned need, struct region *before,
                               struct region *after);
/* Reserves [lo, hi) for a patch. */
void region_take(const struct code *c, uint64_t lo, uint64_t hi);

/* At least 5 bytes that never run, outside of the region and within reach of a 2-byte jump at its start: their
 * address, or 0. */
uint64_t find_padding(const struct code *c, const struct region *r);

/* Writes the region's instructions to the slot that is open in e, then a jump to region.hi unless the flow ends. */
void relocate(struct emit *e, const struct code *c, const struct region *r, int jump_back);

/* 1 if the arithmetic flags are dead at vaddr on every path, 0 if they may be read, -1 if it isn't known. */
int flags_dead(const struct code *c, uint64_t vaddr);

#endif
