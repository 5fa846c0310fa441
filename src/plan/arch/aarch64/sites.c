/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls of an image. The kernel changes one register, x0, which holds the first argument before and the
 * result after the call. So each call has two hooks: one before it, which at least keeps x0 in a register F that nobody
 * reads there, and one after it.
 *
 *   before                     after
 *     mov x8, #n                 b slot      displaced instruction; [hook]; mov F, x0; b back
 *     svc #0                     svc #0      unchanged
 *     cmn x0, #4095              b slot      hook; displaced instruction; b back
 *
 * F travels by itself through signal handlers, restarts and forks. Where one of the neighbours can't be replaced, the
 * call itself runs in the slot, and only its own word is; a thread that waits in it then stands there.
 *
 * What the common entry points of the probe (arch/aarch64/entry.S) get:
 *
 *   C code   sp lowered by FRAME, struct regs there: result, arg0 (exit: from F), arg1 filled in; x0: the slot; x1: scratch
 *   Go code  x18: the slot; x16, x27: scratch; exit: the first argument in x17. Nothing was written to memory
 *
 * and they go on at plan_slot.tail: with sp as they got it and x1 free; in Go code with x27 free.
 * plan_slot.site_pc of a hook before a call is where a thread that stands at the call would begin to be seen.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "plan/arch/aarch64/functions.h"
#include "plan/arch/aarch64/patch.h"
#include "plan/arch/aarch64/registers.h"
#include "plan/arch/aarch64/relocate.h"
#include "plan/machine.h"
#include "wire/syscalls.h"

#define MAX_SITES 65536u /* the largest C libraries have some 500 */
#define FRAME 224u       /* of the probe's entry points */
#define LEAF_BEFORE 12u  /* words of a leaf before its call */
#define LEAF_CALLERS 64u

#define STP_PRE(a, b)  (0xa9800000u | (((0u - FRAME) / 8) & 0x7f) << 15 | (uint32_t)(b) << 10 | 31u << 5 | (uint32_t)(a))
#define STP(a, b, at)  (0xa9000000u | (at) / 8 << 15 | (uint32_t)(b) << 10 | 31u << 5 | (uint32_t)(a))
#define STR(a, at)     (0xf9000000u | (at) / 8 << 10 | 31u << 5 | (uint32_t)(a))
#define LDR(a, at)     (0xf9400000u | (at) / 8 << 10 | 31u << 5 | (uint32_t)(a))
#define LDR_POST(a)    (0xf8400400u | FRAME << 12 | 31u << 5 | (uint32_t)(a))
#define ADD_SP         (0x91000000u | FRAME << 10 | 31u << 5 | 31u)
#define MOV(to, from)  (0xaa0003e0u | (uint32_t)(from) << 16 | (uint32_t)(to))
#define BR(reg)        (0xd61f0000u | (uint32_t)(reg) << 5)
#define CBZ(reg, words) (0xb4000000u | (uint32_t)(words) << 5 | (uint32_t)(reg))

/* struct regs of the probe (arch/aarch64/arch.h) */
#define REGS_ARG0 8u
#define REGS_ARG1 16u
#define REGS_LEAF_X0 96u /* behind it */

const struct plan_machine *plan_machine_aarch64(void);

struct planner {
    struct text text;
    struct emit *e;
};

/* What the table of observed calls wants of a site. */
struct wish {
    int32_t nr; /* -1: not constant */
    bool interesting, exit, enter, timing;
    unsigned flags; /* enum plan_flag */
    enum plan_when when;
};

static struct wish wish_for(int32_t nr)
{
    struct wish w = {.nr = nr, .interesting = true, .exit = true};
    enum op_id id = op_of_nr(nr);
    const struct op_desc *op = &op_table[id];

    if (nr < 0) {
        w.flags = PLAN_F_NR_UNKNOWN;
        w.enter = true;
    } else if (id == OP_NONE) {
        w.interesting = false;
    } else {
        w.enter = op->flags & SCF_ENTER;
        w.timing = !w.enter && (op->flags & SCF_TIMED);
        w.exit = !(op->flags & SCF_NORETURN);
        w.flags = w.exit ? 0 : PLAN_F_NORETURN;
        if (op->flags & SCF_VIRTUAL) {
            w.flags |= PLAN_F_CRASH;
            w.when = PLAN_CRASH;
        }
    }
    return w;
}

/* --- what is code ------------------------------------------------------------------- */

/* Whether what stands around is sane: no compiler puts reserved words there. */
static bool sane_around(const struct text *c, uint64_t pc)
{
    for (int i = -4; i <= 4; i++) {
        uint64_t at = pc + (uint64_t)((int64_t)i * (int64_t)A64_SIZE);
        uint32_t w;

        if (text_word(c, at, &w) && a64_kind(w) == A64_BAD)
            return false;
    }
    return true;
}

static bool is_code(const struct text *c, uint64_t pc, int32_t nr)
{
    uint64_t lo, hi;

    if (!c->bad_words)
        return true;
    if (!sane_around(c, pc))
        return false;
    if (nr >= 0)
        return true;
    return c->eh.count && !go_text_at(&c->go, pc) ? eh_function_at(&c->eh, pc) != NULL : text_function(c, pc, &lo, &hi);
}

/* Whether control may come to places of this function that no branch names: a jump table. */
static bool has_tables(const struct text *c, uint64_t pc)
{
    uint64_t lo, hi;
    uint32_t w;

    if (!text_function(c, pc, &lo, &hi))
        return true;
    if (hi - lo > 65536)
        return true;
    for (uint64_t v = lo; v < hi && text_word(c, v, &w); v += A64_SIZE)
        if (a64_kind(w) == A64_INDIRECT && (w >> 5 & 31) != A64_X16 && (w >> 5 & 31) != A64_X17)
            return true;
    return false;
}

/* --- slots ------------------------------------------------------------------------ */

/* The instructions emitted since `from`, an offset in the blob, run with the stack pointer lowered; the last one raises it. */
static void mark_lowered(struct emit *e, uint32_t slot, uint32_t from)
{
    uint32_t first = (from - slot - PLAN_SLOT_CODE) / A64_SIZE, count = (e->at - from) / A64_SIZE;

    if (first > 15 || count > 15)
        e->overflow = 1;
    if (!e->overflow)
        emit_slot_flags(e, slot, PLAN_SLOT_LOWERED(first, count));
}

/* The call of a common entry point; slot.tail is behind it. f: register with the first argument of a call that is over;
 * A64_X0 before it. */
static void emit_hook(struct emit *e, uint32_t slot, enum plan_entry entry, unsigned flags, unsigned f)
{
    uint32_t lowered;

    if (flags & PLAN_F_GO) {
        entry = entry == PLAN_ENTRY_EXIT ? PLAN_ENTRY_GO_EXIT : PLAN_ENTRY_GO_ENTER;
        a64_emit_adr(e, A64_X18, slot);
        a64_emit_load(e, A64_X27, (uint32_t)entry * 8);
        emit_word(e, BR(A64_X27));
        emit_tail_blob(e, slot, e->at);
        emit_word(e, A64_BTI_JC);
        return;
    }
    emit_word(e, STP_PRE(A64_X0, f));
    lowered = e->at;
    emit_word(e, STR(A64_X1, REGS_ARG1));
    a64_emit_adr(e, A64_X0, slot);
    a64_emit_load(e, A64_X1, (uint32_t)entry * 8);
    emit_word(e, BR(A64_X1));
    emit_tail_blob(e, slot, e->at);
    emit_word(e, A64_BTI_JC);
    emit_word(e, LDR(A64_X1, REGS_ARG1));
    if (entry == PLAN_ENTRY_EXIT) {
        emit_word(e, LDR_POST(A64_X0));
    } else {
        emit_word(e, LDR(A64_X0, REGS_ARG0));
        emit_word(e, ADD_SP);
    }
    mark_lowered(e, slot, lowered);
}

/* The hook before a call, and the first argument into f, if there is to be a hook after it. */
static void emit_before(struct emit *e, uint32_t slot, const struct wish *w, unsigned flags, unsigned f)
{
    uint32_t test = 0;

    if (w->timing && !(flags & PLAN_F_GO)) {
        a64_emit_load(e, f, PLAN_ENTRY_TIMED * 8); /* 0: calls aren't timed */
        test = e->at;
        emit_word(e, CBZ(f, 0));
        emit_hook(e, slot, PLAN_ENTRY_TIMED, flags, A64_X0);
    } else if (w->enter) {
        emit_hook(e, slot, PLAN_ENTRY_ENTER, flags, A64_X0);
    }
    if (test && !e->overflow) {
        uint32_t over = CBZ(f, (e->at - test) / A64_SIZE);

        memcpy(e->blob.p + test, &over, sizeof(over));
    }
    if (w->exit)
        emit_word(e, MOV(f, A64_X0));
}

static enum plan_reason plan_after(struct planner *p, uint64_t pc, const struct wish *w, unsigned flags, unsigned f,
                                   uint32_t site)
{
    struct emit_mark mark = emit_mark(p->e);
    uint32_t before, after;

    before = emit_slot(p->e, w->nr, flags, pc, pc);
    emit_tail_vaddr(p->e, before, pc);
    a64_relocate(p->e, &p->text, pc - A64_SIZE, false);
    emit_site_pc_blob(p->e, before, p->e->at);
    emit_before(p->e, before, w, flags, f);
    emit_branch_vaddr(p->e, A64_B, pc);
    if (p->e->overflow) {
        emit_rollback(p->e, mark);
        return PLAN_R_RELOCATE;
    }
    after = emit_slot(p->e, w->nr, flags, pc + A64_SIZE, pc + A64_SIZE);
    emit_hook(p->e, after, PLAN_ENTRY_EXIT, flags, f);
    a64_relocate(p->e, &p->text, pc + A64_SIZE, true);
    if (p->e->overflow) {
        emit_rollback(p->e, mark);
        return PLAN_R_RELOCATE;
    }
    a64_patch(&p->text, p->e, pc - A64_SIZE, A64_B, before + PLAN_SLOT_CODE, w->when, site);
    a64_patch(&p->text, p->e, pc + A64_SIZE, A64_B, after + PLAN_SLOT_CODE, w->when, site);
    return PLAN_OK;
}

/* The call itself runs in a slot. */
static enum plan_reason plan_moved(struct planner *p, uint64_t pc, const struct wish *w, unsigned flags, unsigned f,
                                   uint32_t site)
{
    struct emit_mark mark = emit_mark(p->e);
    uint32_t slot = emit_slot(p->e, w->nr, flags, pc, pc), first = slot, call;

    emit_tail_vaddr(p->e, slot, pc);
    emit_site_pc_blob(p->e, slot, p->e->at);
    emit_before(p->e, slot, w, flags, f);
    if (w->exit && (w->enter || w->timing)) { /* two tails take two slots; they lie one behind the other */
        emit_branch_blob(p->e, A64_B, slot + PLAN_SLOT + PLAN_SLOT_CODE);
        slot = emit_slot(p->e, w->nr, flags, pc + A64_SIZE, pc + A64_SIZE);
    }
    call = p->e->at;
    emit_word(p->e, A64_SVC);
    if (w->exit) {
        emit_site_pc_blob(p->e, slot, call + A64_SIZE);
        emit_hook(p->e, slot, PLAN_ENTRY_EXIT, flags, f);
    }
    emit_branch_vaddr(p->e, A64_B, pc + A64_SIZE);
    if (p->e->overflow) {
        emit_rollback(p->e, mark);
        return PLAN_R_RELOCATE;
    }
    a64_patch(&p->text, p->e, pc, A64_B, first + PLAN_SLOT_CODE, w->when, site);
    return PLAN_OK;
}

/* --- leaves that make the call for cancellation points ------------------------------- */

/* musl's __syscall_cp_asm, and glibc's __syscall_cancel_arch since 2.41, turn the arguments of a C call (flag, number, a1
 * to a6) into those of a system call, in a range of addresses that the C library compares with. */
static bool is_cancellation_leaf(const struct text *c, uint64_t pc)
{
    static const uint8_t moves[7][2] = {{8, 1}, {0, 2}, {1, 3}, {2, 4}, {3, 5}, {4, 6}, {5, 7}};
    uint32_t w;

    for (unsigned i = 0; i < 7; i++) {
        bool found = false;

        for (unsigned k = 1; k <= LEAF_BEFORE && !found; k++)
            found = text_word(c, pc - (uint64_t)k * A64_SIZE, &w) && w == MOV(moves[i][0], moves[i][1]);
        if (!found)
            return false;
    }
    return text_word(c, pc + A64_SIZE, &w) && a64_kind(w) == A64_RET;
}

/* The places that jump to or call vaddr, at most LEAF_CALLERS; more are counted, too. */
static unsigned callers_of(const struct text *c, uint64_t vaddr, uint64_t ret[LEAF_CALLERS])
{
    unsigned count = 0;

    for (unsigned i = 0; i < c->elf->text_count; i++) {
        const struct elf_range *t = &c->elf->text[i];

        for (uint64_t off = 0; off + A64_SIZE <= t->size; off += A64_SIZE) {
            uint32_t w;

            memcpy(&w, t->bytes + off, sizeof(w));
            if ((w & 0x7c000000) == 0x14000000 && a64_target(w, t->vaddr + off) == vaddr) {
                if (count < LEAF_CALLERS)
                    ret[count] = t->vaddr + off;
                count++;
            }
        }
    }
    return count;
}

static bool plan_caller(struct planner *p, uint64_t call, uint64_t leaf)
{
    struct plan_site site = {.vaddr = call, .nr = -1, .flags = PLAN_F_NR_UNKNOWN | PLAN_F_ENTER, .method = PLAN_CALLER};
    struct emit *e = p->e;
    uint32_t slot = emit_slot(e, -1, site.flags, leaf, leaf), w = 0, lowered;

    text_word(&p->text, call, &w);
    emit_word(e, STP_PRE(1, 2));
    lowered = e->at;
    emit_word(e, STP(3, 4, 16));
    emit_word(e, STP(5, 6, 32));
    emit_word(e, STR(7, 48));
    emit_word(e, STR(A64_X0, REGS_LEAF_X0));
    a64_emit_adr(e, A64_X0, slot);
    a64_emit_load(e, A64_X1, PLAN_ENTRY_CALL * 8);
    emit_word(e, BR(A64_X1));
    emit_tail_blob(e, slot, e->at);
    emit_word(e, A64_BTI_JC);
    emit_word(e, LDR(A64_X0, REGS_LEAF_X0));
    emit_word(e, LDR(A64_X1, 0));
    emit_word(e, LDR(A64_X2, REGS_ARG0));
    emit_word(e, ADD_SP);
    mark_lowered(e, slot, lowered);
    emit_word(e, MOV(A64_X17, A64_X2));
    emit_branch_vaddr(e, A64_B, leaf);
    if (e->overflow)
        return false;
    a64_patch(&p->text, e, call, w & 0xfc000000u, slot + PLAN_SLOT_CODE, PLAN_ALWAYS, emit_site_count(e));
    emit_site(e, &site);
    return true;
}

/* Hooks every caller of the leaf that ends with the call at pc, and its end. False: there is no such leaf. */
static bool plan_leaf(struct planner *p, uint64_t pc)
{
    struct plan_site site = {.vaddr = pc, .nr = -1, .flags = PLAN_F_NR_UNKNOWN, .reason = PLAN_R_CANCEL_RANGE};
    const struct wish w = {.nr = -1, .exit = true};
    uint64_t callers[LEAF_CALLERS], leaf = 0;
    struct emit_mark mark = emit_mark(p->e);
    size_t sites = p->e->sites.len;
    const uint8_t *marks;
    unsigned count;
    bool ok;

    if (!is_cancellation_leaf(&p->text, pc))
        return false;
    /* By calls, or by tail calls alone. Behind its landing pad a range may begin, whose address is taken, too. */
    for (unsigned k = 7; k <= LEAF_BEFORE + 4 && !leaf; k++)
        if ((marks = text_marks(&p->text, pc - (uint64_t)k * A64_SIZE)) && (*marks & (TEXT_CALLED | TEXT_TARGET)))
            leaf = pc - (uint64_t)k * A64_SIZE;
    for (uint64_t v = leaf ? leaf : pc; v <= pc; v += A64_SIZE)
        *text_marks(&p->text, v) |= TEXT_CANCEL;
    count = leaf ? callers_of(&p->text, leaf, callers) : 0;
    /* The address of the leaf's end is taken, to compare with; nobody goes there. */
    ok = count && count <= LEAF_CALLERS && !elf_is_exported(p->text.elf, leaf) &&
         !(*text_marks(&p->text, pc + A64_SIZE) & (TEXT_TARGET | TEXT_CALLED));
    for (unsigned i = 0; i < count && ok; i++) /* all of them: at its end nobody knows who has called */
        ok = !(*text_marks(&p->text, callers[i]) & (TEXT_TAKEN | TEXT_FIXED)) && plan_caller(p, callers[i], leaf);
    if (ok) {
        uint32_t slot = emit_slot(p->e, w.nr, site.flags | PLAN_F_ENTER | PLAN_F_EXIT, pc + A64_SIZE, pc + A64_SIZE);

        emit_hook(p->e, slot, PLAN_ENTRY_EXIT, site.flags, A64_X17);
        a64_relocate(p->e, &p->text, pc + A64_SIZE, true);
        ok = !p->e->overflow;
        if (ok) {
            a64_patch(&p->text, p->e, pc + A64_SIZE, A64_B, slot + PLAN_SLOT_CODE, PLAN_ALWAYS, emit_site_count(p->e));
            site.method = PLAN_AFTER;
            site.reason = PLAN_OK;
            site.flags |= PLAN_F_ENTER | PLAN_F_EXIT;
        }
    }
    if (!ok) {
        emit_rollback(p->e, mark);
        p->e->sites.len = sites;
    }
    emit_site(p->e, &site);
    return true;
}

/* --- sites ------------------------------------------------------------------------ */

/* Whether the word at vaddr can be replaced by a jump to what it did. One that moves the stack pointer can't: in the slot an
 * unwinder could not tell whether it has. */
static enum plan_reason replaceable(const struct text *c, uint64_t vaddr)
{
    const uint8_t *m = text_marks(c, vaddr);
    uint32_t w;

    if (!m || !a64_movable(c, vaddr) || !text_word(c, vaddr, &w) || a64_moves_sp(w))
        return PLAN_R_RELOCATE;
    return *m & TEXT_TAKEN    ? PLAN_R_OVERLAP
           : *m & TEXT_FIXED  ? PLAN_R_RSEQ
           : *m & TEXT_CANCEL ? PLAN_R_CANCEL_RANGE
                              : PLAN_OK;
}

static enum plan_reason neighbours(const struct text *c, uint64_t pc)
{
    enum plan_reason why = replaceable(c, pc - A64_SIZE);
    uint64_t lo, hi;
    uint32_t w;

    if (!why)
        why = replaceable(c, pc + A64_SIZE);
    if (why)
        return why;
    text_word(c, pc - A64_SIZE, &w);
    if (a64_kind(w) == A64_CALL || a64_kind(w) == A64_CALLREG)
        return PLAN_R_RELOCATE;
    if (text_function(c, pc, &lo, &hi) && (pc == lo || pc + A64_SIZE >= hi))
        return PLAN_R_NO_ROOM;
    if (a64_ends_flow(a64_kind(w)) || text_arrives(c, pc) || text_arrives(c, pc + A64_SIZE) || has_tables(c, pc))
        return PLAN_R_BRANCH_TARGET;
    return PLAN_OK;
}

/* index: where the site is, or will be, in the list. */
static void plan_one(struct planner *p, uint64_t pc, const struct wish *w, uint32_t index, struct plan_site *site)
{
    struct text *c = &p->text;
    unsigned flags = w->flags | (w->exit ? PLAN_F_EXIT : 0) |
                     (w->enter || (w->timing && !(w->flags & PLAN_F_GO)) ? PLAN_F_ENTER : 0);
    const uint8_t *m = text_marks(c, pc);
    enum plan_reason why;
    int f = A64_X17;

    if (*m & (TEXT_TAKEN | TEXT_FIXED | TEXT_CANCEL)) {
        site->reason = *m & TEXT_TAKEN ? PLAN_R_OVERLAP : *m & TEXT_FIXED ? PLAN_R_RSEQ : PLAN_R_CANCEL_RANGE;
        return;
    }
    if (w->exit)
        f = !(w->flags & PLAN_F_GO) ? a64_dead_register(c, pc + A64_SIZE)
            : a64_is_dead(c, pc + A64_SIZE, A64_X17) && a64_is_dead(c, pc + A64_SIZE, A64_X16) ? A64_X17
                                                                                                : -1;
    if (f < 0) {
        site->reason = PLAN_R_NO_REGISTER;
        return;
    }
    why = w->exit ? neighbours(c, pc) : PLAN_R_NO_ROOM;
    if (!why)
        why = plan_after(p, pc, w, flags, (unsigned)f, index);
    if (!why) {
        site->method = PLAN_AFTER;
        site->flags = (uint16_t)flags;
        return;
    }
    why = plan_moved(p, pc, w, flags, (unsigned)f, index);
    if (why) {
        site->reason = (uint8_t)why;
        return;
    }
    site->method = PLAN_MOVE;
    site->flags = (uint16_t)flags;
}

/* Whether the call at pc comes right behind a munmap: a thread that gives back its own stack and then exits (musl's
 * __unmapself) has none that a hook could run on. */
static bool after_unmap(const struct text *c, uint64_t pc)
{
    uint32_t w;

    for (unsigned i = 1; i <= 8 && text_word(c, pc - (uint64_t)i * A64_SIZE, &w) && !a64_ends_flow(a64_kind(w)); i++)
        if (w == A64_SVC)
            return a64_number(c, pc - (uint64_t)i * A64_SIZE) == __NR_munmap;
    return false;
}

static int plan_text(struct planner *p, const struct elf_range *t)
{
    static const uint8_t svc[4] = {0x01, 0, 0, 0xd4};
    const uint8_t *at = t->bytes;

    for (; (at = memmem(at, t->size - (size_t)(at - t->bytes), svc, sizeof(svc))); at++) {
        uint64_t pc = t->vaddr + (uint64_t)(at - t->bytes);
        struct plan_site site = {.vaddr = pc, .nr = -1};
        struct wish w;

        if ((at - t->bytes) % A64_SIZE)
            continue;
        if (emit_site_count(p->e) >= MAX_SITES)
            return -EFBIG;
        site.nr = a64_number(&p->text, pc);
        w = wish_for(site.nr);
        if (go_text_at(&p->text.go, pc))
            w.flags |= PLAN_F_GO;
        site.flags = (uint16_t)w.flags;
        if (!w.interesting)
            site.reason = PLAN_R_UNINTERESTING;
        else if (!is_code(&p->text, pc, site.nr))
            site.reason = sane_around(&p->text, pc) ? PLAN_R_UNPROVEN : PLAN_R_DATA_IN_TEXT;
        else if (site.nr == __NR_exit && after_unmap(&p->text, pc))
            site.reason = PLAN_R_NO_STACK;
        else if (w.nr < 0 && plan_leaf(p, pc))
            continue;
        else if (w.when != PLAN_CRASH) /* those come last: nobody goes without a hook because of them */
            plan_one(p, pc, &w, emit_site_count(p->e), &site);
        emit_site(p->e, &site);
    }
    return 0;
}

static int plan_sites(const struct elf_image *elf, const struct functions *functions, struct emit *e)
{
    struct planner p = {.e = e};
    uint32_t sites;
    int r = text_read(elf, &p.text);

    for (unsigned i = 0; i < elf->text_count && r == 0; i++)
        r = plan_text(&p, &elf->text[i]);
    sites = emit_site_count(e);
    if (r == 0)
        a64_plan_functions(&p.text, functions, e);
    for (uint32_t i = 0; i < sites && r == 0; i++) {
        struct plan_site site = ((struct plan_site *)(void *)e->sites.p)[i];
        struct wish w = wish_for(site.nr);

        if (!(site.flags & PLAN_F_CRASH) || site.reason != PLAN_OK)
            continue;
        w.flags = site.flags;
        plan_one(&p, site.vaddr, &w, i, &site);
        ((struct plan_site *)(void *)e->sites.p)[i] = site;
    }
    text_free(&p.text);
    return r;
}

const struct plan_machine *plan_machine_aarch64(void)
{
    static const struct plan_machine m = {.elf = EM_AARCH64, .arch = PLAN_ARCH_AARCH64, .table_hash = syscall_table_hash,
                                          .op = op_of_nr, .call = {0x01, 0, 0, 0xd4}, .call_size = 4, .sites = plan_sites};

    return &m;
}
