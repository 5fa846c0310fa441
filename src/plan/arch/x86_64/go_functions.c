/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/x86_64/functions.h"

#include <string.h>

#include "plan/arch/x86_64/place.h"

#define RETURNS_MAX 64 /* of one function: crypto/tls has none with more than 30 */
#define RET_SIZE 1u

/* Where a function's hooks go. */
struct go_places {
    struct place entry, exit[RETURNS_MAX];
    unsigned exits;
};

/* What a function of Go begins with tells how it is called: it compares its stack with the goroutine's limit, which is
 * found by r14 since arguments are passed in registers (Go 1.17, "Go internal ABI specification"), else by the thread's
 * word at fs:-8 (cmd/internal/obj/x86/obj6.go, stacksplit). False: it begins otherwise. */
static int calling_convention(const struct code *c, uint64_t entry, unsigned *ret_flags)
{
    static const uint8_t limit[] = {0x49, 0x3b, 0x66, 0x10},                   /* cmp 16(%r14),%rsp */
        below[] = {0x4d, 0x3b, 0x66, 0x10},                                    /* cmp 16(%r14),%r12 */
        lea8[] = {0x4c, 0x8d, 0x64, 0x24}, lea32[] = {0x4c, 0x8d, 0xa4, 0x24}, /* lea -N(%rsp),%r12 */
        word[] = {0x64, 0x48, 0x8b, 0x0c, 0x25, 0xf8, 0xff, 0xff, 0xff};       /* mov %fs:-8,%rcx */
    size_t left;
    const uint8_t *p = code_bytes(c, entry, &left);

    if (!p || left < 16)
        return 0;
    *ret_flags = 0;
    if (memcmp(p, limit, sizeof(limit)) == 0 ||
        (memcmp(p, lea8, sizeof(lea8)) == 0 && memcmp(p + 5, below, sizeof(below)) == 0) ||
        (memcmp(p, lea32, sizeof(lea32)) == 0 && memcmp(p + 8, below, sizeof(below)) == 0))
        return 1;
    *ret_flags = PLAN_F_GO_STACK;
    return memcmp(p, word, sizeof(word)) == 0;
}

/* What is replaced at a return: it, and as much of what gives the frame back as a jump needs. */
static enum plan_reason place_return(const struct code *c, uint64_t ret, struct place *at)
{
    enum plan_reason why = region_before(c, ret, JUMP_SIZE - RET_SIZE, &at->r);
    const uint8_t *m = code_marks(c, ret);

    at->padding = 0;
    if (why)
        return why;
    if (*m & (CODE_TARGET | CODE_ENTRY))
        return PLAN_R_BRANCH_TARGET;
    if (*m & (CODE_TAKEN | CODE_FIXED | CODE_CANCEL | CODE_BAD))
        return PLAN_R_OVERLAP;
    for (unsigned i = 0; i < at->r.count; i++) {
        struct x86_instr in;

        if (!code_decode(c, at->r.insn[i], &in) || (in.kind != X86_OTHER && in.kind != X86_NOP))
            return PLAN_R_RELOCATE;
    }
    at->r.hi = ret + RET_SIZE;
    return PLAN_OK;
}

/* All ways out of the function must be known: a call that is noted and not seen to return would be lost. It leaves by
 * returning; panics leave it by a return, too, if they are recovered. */
static enum plan_reason find_places(const struct code *c, const struct go_function *f, struct go_places *ret)
{
    enum plan_reason why = place_after(c, f->lo, &ret->entry);
    struct x86_instr in;

    ret->exits = 0;
    if (why || ret->entry.padding || ret->entry.r.has_call)
        return why ? why : PLAN_R_NO_ROOM;
    place_reserve(c, &ret->entry, 1);
    for (uint64_t v = f->lo; v < f->hi && !why; v += in.len) {
        const uint8_t *m = code_marks(c, v);

        if (!m || !(*m & CODE_START) || !code_decode(c, v, &in))
            return PLAN_R_UNPROVEN;
        if (in.kind == X86_JMP && !in.rel_size)
            return PLAN_R_BRANCH_TARGET;
        if (in.rel_size && in.kind != X86_CALL && x86_rel_target(v, &in) - f->lo >= f->hi - f->lo)
            return PLAN_R_BRANCH_TARGET;
        if (in.kind != X86_RET)
            continue;
        if (in.len != RET_SIZE || ret->exits == RETURNS_MAX)
            return PLAN_R_NO_ROOM;
        why = place_return(c, v, &ret->exit[ret->exits]);
        if (!why)
            place_reserve(c, &ret->exit[ret->exits++], 1);
    }
    return why ? why : ret->exits ? PLAN_OK : PLAN_R_NO_ROOM;
}

/* lea slot(%rip),%r12; jmp *entry(%rip). r12 holds nothing where a function of Go begins or ends. */
static void emit_hook(struct emit *e, uint32_t slot)
{
    static const uint8_t lea_r12[] = {0x4c, 0x8d, 0x25}, jmp[] = {0xff, 0x25};

    emit_code(e, lea_r12, sizeof(lea_r12));
    emit_rel_blob(e, slot, 0);
    emit_code(e, jmp, sizeof(jmp));
    emit_rel_blob(e, PLAN_ENTRY_GO_FUNCTION * 8, 0);
}

/*
 *   entry    hook; the displaced instructions; back behind the region
 *   return   what gives the frame back; hook; ret
 *
 * Nothing of ours is left on the goroutine's stack, which moves, and where return addresses must be Go's.
 */
static void emit_function(struct emit *e, const struct code *c, const struct go_function *f, const struct go_places *at,
                          unsigned flags, uint32_t site)
{
    static const uint8_t ret = 0xc3;
    uint32_t slot = emit_slot(e, (int32_t)f->fn, flags | PLAN_F_ENTER, f->lo, f->lo);

    emit_hook(e, slot);
    emit_tail_blob(e, slot, e->at);
    relocate(e, c, &at->entry.r, 1);
    patch_jump(e, c, &at->entry, slot, PLAN_TRAFFIC_START, site);
    for (unsigned i = 0; i < at->exits; i++) {
        const struct region *r = &at->exit[i].r;

        slot = emit_slot(e, (int32_t)f->fn, flags | PLAN_F_EXIT, r->hi - RET_SIZE, f->lo);
        relocate(e, c, r, 0);
        emit_hook(e, slot);
        emit_tail_blob(e, slot, e->at);
        emit_code(e, &ret, RET_SIZE);
        patch_jump(e, c, &at->exit[i], slot, PLAN_TRAFFIC_START, site);
    }
}

static enum plan_reason plan_go_function(const struct code *c, const struct go_function *f, unsigned *flags,
                                         uint32_t site, struct emit *e)
{
    struct emit_mark mark = emit_mark(e);
    struct go_places at = {.exits = 0};
    enum plan_reason why;
    unsigned convention;

    if (!calling_convention(c, f->lo, &convention))
        return PLAN_R_UNPROVEN;
    *flags |= convention;
    why = find_places(c, f, &at);
    if (!why) {
        emit_function(e, c, f, &at, *flags, site);
        if (e->overflow)
            why = PLAN_R_RELOCATE;
    }
    if (why) {
        emit_rollback(e, mark);
        place_reserve(c, &at.entry, 0);
        for (unsigned i = 0; i < at.exits; i++)
            place_reserve(c, &at.exit[i], 0);
    }
    return why;
}

void x86_plan_go_functions(const struct code *c, struct emit *e)
{
    for (unsigned i = 0; i < c->go.count; i++) {
        const struct go_function *f = &c->go.function[i];
        unsigned flags = PLAN_F_FUNCTION | PLAN_F_GO;
        struct plan_site site = {.vaddr = f->lo, .nr = (int32_t)f->fn};

        site.reason = (uint8_t)plan_go_function(c, f, &flags, emit_site_count(e), e);
        site.flags = (uint16_t)flags;
        if (site.reason == PLAN_OK)
            site.method = PLAN_FUNCTION;
        emit_site(e, &site);
    }
}
