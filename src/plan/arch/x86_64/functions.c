/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/x86_64/functions.h"

#include "plan/arch/x86_64/place.h"

/* The function begins in the slot instead:
 *
 *   code    lea slot(%rip),%r11; jmp *entry(%rip)     r11 belongs to nobody at a call (System V ABI, 3.2.1)
 *   tail    the displaced instructions; back behind the region
 */
static enum plan_reason plan_function(const struct code *c, const struct function *f, const struct place *at,
                                      uint32_t site, struct emit *e)
{
    static const uint8_t lea_r11[] = {0x4c, 0x8d, 0x1d}, jmp[] = {0xff, 0x25};
    struct emit_mark mark = emit_mark(e);
    uint32_t slot = emit_slot(e, (int32_t)f->fn, PLAN_F_FUNCTION, f->vaddr, f->vaddr);

    emit_code(e, lea_r11, sizeof(lea_r11));
    emit_rel_blob(e, slot, 0);
    emit_code(e, jmp, sizeof(jmp));
    emit_rel_blob(e, PLAN_ENTRY_FUNCTION * 8, 0);
    emit_tail_blob(e, slot, e->at);
    relocate(e, c, &at->r, 1);
    if (e->overflow) {
        emit_rollback(e, mark);
        return PLAN_R_RELOCATE;
    }
    patch_jump(e, c, at, slot, PLAN_TRAFFIC, site);
    return PLAN_OK;
}

void x86_plan_functions(const struct code *c, const struct functions *functions, struct emit *e)
{
    for (size_t i = 0; i < functions->count; i++) {
        const struct function *f = &functions->v[i];
        struct plan_site site = {.vaddr = f->vaddr, .nr = (int32_t)f->fn, .flags = PLAN_F_FUNCTION};
        uint64_t start = f->vaddr;
        struct x86_instr in;
        struct place at;

        /* Indirect calls must find it where it is. */
        if (code_decode(c, start, &in) && in.kind == X86_ENDBR)
            start += in.len;
        if (f->reason != PLAN_OK)
            site.reason = (uint8_t)f->reason;
        else if (go_text_at(&c->go, f->vaddr)) /* no stack to spare, and other arguments */
            site.reason = PLAN_R_NO_STACK;
        else
            site.reason = (uint8_t)place_after(c, start, &at);
        if (site.reason == PLAN_OK)
            site.reason = (uint8_t)plan_function(c, f, &at, emit_site_count(e), e);
        if (site.reason == PLAN_OK)
            site.method = PLAN_FUNCTION;
        emit_site(e, &site);
    }
}
