/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/aarch64/functions.h"

#include <string.h>

#include "plan/arch/aarch64/patch.h"
#include "plan/arch/aarch64/relocate.h"

/*
 * The function begins in the slot instead of with its first instruction, or the second where that is a landing pad
 * (bti, paciasp), which indirect calls must find:
 *
 *   code    [autiasp]; adr x16, slot; ldr x17, entry; br x17     x16 and x17 belong to nobody at a call (AAPCS64, 6.1.1)
 *   tail    bti jc; [paciasp]; the displaced instruction; back behind it
 *
 * Where paciasp has signed the return address already, that is undone for the wrapper, which is a function of its own,
 * and done again for the original.
 */
static enum plan_reason plan_function(const struct text *c, const struct function *f, uint32_t site, struct emit *e)
{
    struct emit_mark mark = emit_mark(e);
    uint64_t at = f->vaddr;
    bool signed_ = false;
    uint32_t w, slot;

    if (!text_word(c, at, &w))
        return PLAN_R_NO_ROOM;
    if (w == A64_PACIBSP)
        return PLAN_R_RELOCATE;
    if (w == A64_PACIASP || (w & 0xffffff3f) == 0xd503241f) { /* bti in all its forms */
        signed_ = w == A64_PACIASP;
        at += A64_SIZE;
        if (text_word(c, at, &w) && !signed_ && w == A64_PACIASP) {
            signed_ = true;
            at += A64_SIZE;
        }
    }
    if (*text_marks(c, f->vaddr) & (TEXT_TAKEN | TEXT_FIXED))
        return PLAN_R_OVERLAP;
    if (!a64_movable(c, at))
        return PLAN_R_RELOCATE;
    if (at != f->vaddr && text_arrives(c, at))
        return PLAN_R_BRANCH_TARGET;
    if (*text_marks(c, at) & (TEXT_TAKEN | TEXT_FIXED))
        return PLAN_R_OVERLAP;
    slot = emit_slot(e, (int32_t)f->fn, PLAN_F_FUNCTION, f->vaddr, f->vaddr);
    if (signed_)
        emit_word(e, A64_AUTIASP);
    a64_emit_adr(e, A64_X16, slot);
    a64_emit_load(e, A64_X17, PLAN_ENTRY_FUNCTION * 8);
    emit_word(e, 0xd61f0000u | A64_X17 << 5);
    emit_tail_blob(e, slot, e->at);
    emit_word(e, A64_BTI_JC);
    if (signed_)
        emit_word(e, A64_PACIASP);
    a64_relocate(e, c, at, true);
    if (e->overflow) {
        emit_rollback(e, mark);
        return PLAN_R_RELOCATE;
    }
    a64_patch(c, e, at, A64_B, slot + PLAN_SLOT_CODE, PLAN_TRAFFIC, site);
    return PLAN_OK;
}

void a64_plan_functions(const struct text *c, const struct functions *functions, struct emit *e)
{
    for (size_t i = 0; i < functions->count; i++) {
        const struct function *f = &functions->v[i];
        struct plan_site site = {.vaddr = f->vaddr, .nr = (int32_t)f->fn, .flags = PLAN_F_FUNCTION};

        if (go_text_at(&c->go, f->vaddr)) /* no stack to spare, and other arguments */
            site.reason = PLAN_R_NO_STACK;
        else
            site.reason = (uint8_t)plan_function(c, f, emit_site_count(e), e);
        if (site.reason == PLAN_OK)
            site.method = PLAN_FUNCTION;
        emit_site(e, &site);
    }
}
