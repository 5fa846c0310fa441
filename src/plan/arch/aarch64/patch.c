/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/aarch64/patch.h"

#include <string.h>

#define REACH (1 << 20) /* of adr and ldr (literal): 21 bits, signed, in bytes */

void a64_patch(const struct text *c, struct emit *e, uint64_t vaddr, uint32_t jump, uint32_t offset, enum plan_when when,
               uint32_t site)
{
    struct plan_patch patch = {.vaddr = vaddr, .len = A64_SIZE, .when = (uint8_t)when, .site = site};
    uint32_t old = 0;

    text_word(c, vaddr, &old);
    memcpy(patch.old, &old, A64_SIZE);
    memcpy(patch.new_, &jump, A64_SIZE);
    emit_patch_rel(&patch, PLAN_REL_26, 0, offset);
    emit_patch(e, &patch);
    *text_marks(c, vaddr) |= TEXT_TAKEN;
}

static uint32_t distance(struct emit *e, uint32_t offset)
{
    int64_t d = (int64_t)offset - (int64_t)e->at;

    if (d >= REACH || d < -REACH)
        e->overflow = 1;
    return (uint32_t)d;
}

void a64_emit_adr(struct emit *e, unsigned reg, uint32_t offset)
{
    uint32_t d = distance(e, offset);

    emit_word(e, 0x10000000u | (d & 3) << 29 | (d >> 2 & 0x7ffff) << 5 | reg);
}

void a64_emit_load(struct emit *e, unsigned reg, uint32_t offset)
{
    uint32_t d = distance(e, offset);

    emit_word(e, 0x58000000u | (d >> 2 & 0x7ffff) << 5 | reg);
}
