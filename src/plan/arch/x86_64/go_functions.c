/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/x86_64/functions.h"

#include <string.h>

#include "plan/arch/x86_64/place.h"

#define RETURNS_MAX 64 /* of one function: crypto/tls has none with more than 30 */
#define RET_SIZE 1u

#define LOOK_BACK 8u /* instructions before a return */

/* What is replaced at a return, and which instructions run in its slot before the hook: those, and all up to `ret`. */
struct go_exit {
    uint64_t ret;
    struct place at;
    struct region run;
};

/* Where a function's hooks go. */
struct go_places {
    struct place entry;
    struct go_exit exit[RETURNS_MAX];
    unsigned exits;
    int safe; /* nobody can stand inside of what is replaced but a thread, whose registers show it */
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

/*
 * Go stops goroutines between any two instructions that it calls safe, and goes on later, on any thread (asynchronous
 * preemption, since Go 1.14). What gives a frame back is safe, a function's entry is not (PCDATA_UnsafePoint). So in a
 * program that runs only a single instruction may be replaced here: the last one that is long enough. Since Go 1.21
 * that is often none, but two of them: `add $N,%rsp; pop %rbp`, of which the second stays, as the last byte of the
 * jump.
 */
static int place_safely(const struct code *c, uint64_t ret, struct go_exit *x)
{
    uint64_t list[LOOK_BACK], v = ret;
    int found = 0;
    unsigned n = 0;

    while (!found && n < LOOK_BACK) {
        struct x86_instr in;
        const uint8_t *m = code_marks(c, v), *p;
        size_t left;

        if (*m & (CODE_TARGET | CODE_ENTRY)) /* who arrives here would pass the hook by */
            return 0;
        v = code_prev(c, v, &in);
        if (!v || (in.kind != X86_OTHER && in.kind != X86_NOP))
            return 0;
        list[n++] = v;
        p = code_bytes(c, v, &left);
        x->at.pops = in.len == 4 && p[0] == 0x48 && p[1] == 0x83 && p[2] == 0xc4 && p[4] == PLAN_POP;
        found = (in.len >= JUMP_SIZE || x->at.pops) && region_after(c, v, JUMP_SIZE, &x->at.r) == PLAN_OK &&
                x->at.r.count == (x->at.pops ? 2 : 1);
    }
    x->at.padding = 0;
    x->run = (struct region){.count = 0};
    while (found && n)
        x->run.insn[x->run.count++] = list[--n];
    return found;
}

/* In a program that starts nobody stands anywhere yet: the return, and as much before it as a jump needs. */
static enum plan_reason place_return(const struct code *c, uint64_t ret, struct go_exit *x)
{
    enum plan_reason why = region_before(c, ret, JUMP_SIZE - RET_SIZE, &x->run);
    const uint8_t *m = code_marks(c, ret);

    if (why)
        return why;
    if (*m & (CODE_TARGET | CODE_ENTRY))
        return PLAN_R_BRANCH_TARGET;
    if (*m & (CODE_TAKEN | CODE_FIXED | CODE_CANCEL | CODE_BAD))
        return PLAN_R_OVERLAP;
    for (unsigned i = 0; i < x->run.count; i++) {
        struct x86_instr in;

        if (!code_decode(c, x->run.insn[i], &in) || (in.kind != X86_OTHER && in.kind != X86_NOP))
            return PLAN_R_RELOCATE;
    }
    x->at = (struct place){.r = x->run};
    x->at.r.hi = ret + RET_SIZE;
    return PLAN_OK;
}

/* Whether the function leaves the words behind its return address, where its caller has left room for three arguments,
 * as they were at its entry: written once, all of them before anything else happens, or (on_stack: the caller has done
 * it) never. */
static int keeps_arguments(const struct code *c, const struct go_function *f, int on_stack)
{
    static const uint8_t from[] = {0, 3, 1}; /* rax, rbx, rcx */
    int64_t base = 0;
    unsigned pushes = 0, written = 0, calls = 0;
    struct x86_instr in;

    for (uint64_t v = f->lo; v < f->hi; v += in.len) {
        size_t left;
        const uint8_t *p = code_bytes(c, v, &left);
        int32_t at = 0;

        if (!code_decode(c, v, &in))
            return 0;
        calls |= in.kind == X86_CALL;
        if (!base && in.len == 1 && p[0] == 0x55)
            pushes++;
        if (!base && in.rex == 0x48 && in.map == 0 && (in.modrm == 0xec || in.modrm == 0xc4) &&
            (in.opcode == 0x83 || in.opcode == 0x81)) { /* sub $N,%rsp; add $-128,%rsp */
            memcpy(&at, p + in.imm_at, in.imm_size);
            at = in.imm_size == 1 ? (int8_t)at : at; /* NOLINT(bugprone-signed-char-misuse): a signed number */
            base = (in.modrm == 0xec ? at : -(int64_t)at) + 8 * (int64_t)pushes + 8;
        }
        /* An operand in memory below rsp + 8 or 32 bits. */
        if (!base || !in.has_modrm || (in.modrm & 7) != 4 || in.modrm < 0x40 || in.modrm >= 0xc0 ||
            p[in.opcode_at + 2] != 0x24)
            continue;
        memcpy(&at, p + in.opcode_at + 3, in.modrm < 0x80 ? 1 : 4);
        at = in.modrm < 0x80 ? (int8_t)at : at; /* NOLINT(bugprone-signed-char-misuse) */
        if (at + INT64_C(15) < base || at >= base + 24)
            continue;
        if (in.map == 0 && in.opcode == 0x8b) /* reads it */
            continue;
        if (on_stack || calls || in.map || in.opcode != 0x89 || in.rex != 0x48 || at < base || (at - base) % 8 ||
            (in.modrm >> 3 & 7) != from[(at - base) / 8] || (written & 1u << (at - base) / 8))
            return 0;
        written |= 1u << (at - base) / 8;
    }
    return base && written == (on_stack ? 0 : 7);
}

/* All ways out of the function must be known: a call that is noted and not seen to return would be lost. It leaves by
 * returning; panics leave it by a return, too, if they are recovered. */
static enum plan_reason find_places(const struct code *c, const struct go_function *f, struct go_places *ret)
{
    enum plan_reason why = place_after(c, f->lo, &ret->entry);
    struct x86_instr in;

    ret->exits = 0;
    ret->safe = 1;
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
        ret->exit[ret->exits].ret = v;
        if (!place_safely(c, v, &ret->exit[ret->exits])) {
            why = place_return(c, v, &ret->exit[ret->exits]);
            ret->safe = 0;
        }
        if (!why)
            place_reserve(c, &ret->exit[ret->exits++].at, 1);
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
 *   return   all from the displaced instructions on; hook; ret
 *
 * Nothing of ours is left on the goroutine's stack, which moves, and where return addresses must be Go's.
 */
static void emit_function(struct emit *e, const struct code *c, const struct go_function *f, const struct go_places *at,
                          unsigned flags, uint32_t site)
{
    static const uint8_t ret = 0xc3;
    enum plan_when when = at->safe ? PLAN_TRAFFIC : PLAN_TRAFFIC_START;
    uint32_t slot = emit_slot(e, (int32_t)f->fn, flags | PLAN_F_ENTER, f->lo, f->lo);

    emit_hook(e, slot);
    emit_tail_blob(e, slot, e->at);
    relocate(e, c, &at->entry.r, 1);
    patch_jump(e, c, &at->entry, slot, when, site);
    for (unsigned i = 0; i < at->exits; i++) {
        const struct go_exit *x = &at->exit[i];

        slot = emit_slot(e, (int32_t)f->fn, flags | PLAN_F_EXIT, x->ret, f->lo);
        relocate(e, c, &x->run, 0);
        emit_hook(e, slot);
        emit_tail_blob(e, slot, e->at);
        emit_code(e, &ret, RET_SIZE);
        patch_jump(e, c, &x->at, slot, when, site);
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
    if (f->fn == FN_go_tls_read && keeps_arguments(c, f, convention == PLAN_F_GO_STACK))
        *flags |= PLAN_F_GO_KEPT;
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
            place_reserve(c, &at.exit[i].at, 0);
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
