/* SPDX-License-Identifier: Apache-2.0 */
/* Words that are put into text and slots. */
#ifndef SCOPE_PLAN_A64_PATCH_H
#define SCOPE_PLAN_A64_PATCH_H

#include "plan/arch/aarch64/text.h"
#include "plan/emit.h"

#define A64_BTI_JC 0xd50324dfu /* bti jc */

/* A patch of the word at vaddr: this jump or call (A64_B, A64_BL) to an offset in the blob. Marks the word as taken. */
void a64_patch(const struct text *c, struct emit *e, uint64_t vaddr, uint32_t jump, uint32_t offset, enum plan_when when,
               uint32_t site);
/* adr and ldr (literal) of a place in the blob that was emitted before, or its entry table; 1 MiB at most. */
void a64_emit_adr(struct emit *e, unsigned reg, uint32_t offset);
void a64_emit_load(struct emit *e, unsigned reg, uint32_t offset);

#endif
