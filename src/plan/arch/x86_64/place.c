/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/x86_64/place.h"

#include <string.h>

void patch_jump(struct emit *e, const struct code *c, const struct place *at, uint32_t slot, enum plan_when when,
                uint32_t site)
{
    uint64_t lo = at->r.lo, hi = at->r.hi, padding = at->padding;
    struct plan_patch patch = {.when = (uint8_t)when, .site = site};
    uint64_t places[2] = {padding ? padding : lo, lo};

    for (unsigned i = 0; i < (padding ? 2 : 1); i++) {
        size_t left;
        const uint8_t *old;

        patch.vaddr = places[i];
        patch.len = padding && i == 0 ? JUMP_SIZE : (uint8_t)(hi - lo < PLAN_PATCH_MAX ? hi - lo : PLAN_PATCH_MAX);
        old = code_bytes(c, patch.vaddr, &left);
        memset(patch.old, 0, sizeof(patch.old));
        memset(patch.new_, 0, sizeof(patch.new_));
        memcpy(patch.old, old, patch.len);
        memset(patch.new_, 0x90, patch.len);
        if (i == 0) {
            patch.new_[0] = 0xe9;
            emit_patch_rel(&patch, at->pops ? PLAN_REL_32_POP : PLAN_REL_32, 1, slot + PLAN_SLOT_CODE);
        } else {
            patch.rel_at = PLAN_REL_NONE;
            patch.new_[0] = 0xeb;
            patch.new_[1] = (uint8_t)(padding - (lo + SHORT_SIZE));
        }
        emit_patch(e, &patch);
        region_take(c, patch.vaddr, patch.vaddr + patch.len);
    }
}

void place_reserve(const struct code *c, const struct place *at, int taken)
{
    struct {
        uint64_t lo, hi;
    } parts[2] = {{at->r.lo, at->r.hi}, {at->padding, at->padding ? at->padding + JUMP_SIZE : 0}};

    for (unsigned i = 0; i < 2; i++)
        for (uint64_t v = parts[i].lo; v < parts[i].hi; v++) {
            uint8_t *m = code_marks(c, v);

            *m = (uint8_t)(taken ? *m | CODE_TAKEN : *m & ~CODE_TAKEN);
        }
}

enum plan_reason place_after(const struct code *c, uint64_t vaddr, struct place *ret)
{
    enum plan_reason why = region_after(c, vaddr, JUMP_SIZE, &ret->r), why2;

    ret->padding = 0;
    ret->pops = 0;
    if (!why && !ret->r.has_call)
        return PLAN_OK;
    /* A moved call breaks shadow stacks, so a short jump is tried first. */
    why2 = region_after(c, vaddr, SHORT_SIZE, &ret->r);
    if (!why2 && !ret->r.has_call && (ret->padding = find_padding(c, &ret->r)))
        return PLAN_OK;
    ret->padding = 0;
    return why ? why : region_after(c, vaddr, JUMP_SIZE, &ret->r);
}

enum plan_reason place_before(const struct code *c, uint64_t vaddr, struct place *ret)
{
    enum plan_reason why = region_before(c, vaddr, JUMP_SIZE, &ret->r);

    ret->padding = 0;
    ret->pops = 0;
    if (why && region_before(c, vaddr, SHORT_SIZE, &ret->r) == PLAN_OK && (ret->padding = find_padding(c, &ret->r)))
        return PLAN_OK;
    return why;
}
