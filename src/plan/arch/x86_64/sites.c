/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/mem.h"
#include "plan/arch/x86_64/code.h"
#include "plan/arch/x86_64/functions.h"
#include "plan/arch/x86_64/keys.h"
#include "plan/arch/x86_64/number.h"
#include "plan/arch/x86_64/place.h"
#include "plan/arch/x86_64/proof.h"
#include "plan/arch/x86_64/relocate.h"
#include "wire/syscalls.h"

#define SYSCALL_SIZE 2u
/* A leaf that makes the syscall for others: its size up to the syscall, and how many may call it. */
#define LEAF_MAX_SIZE 128u
#define LEAF_MAX_CALLERS 16u
/* The largest C libraries have some 500, a program that doubles as its own C library some 2,000. */
#define MAX_SITES 65536u

struct planner {
    const struct elf_image *elf;
    struct emit *e;
    struct code code;
    struct number_finder finder;
    struct proof *proof; /* made when it is needed first; NULL if there is none */
    int proof_made;
};

/* What the table of observed calls wants of a site. */
struct wish {
    int32_t nr; /* -1: not constant */
    int interesting;
    int exit, enter; /* hooks that must be there */
    int timing;      /* an enter hook when calls are timed */
    unsigned flags;  /* enum plan_flag */
    enum plan_when when;
};

static struct wish wish_for(int32_t nr)
{
    struct wish w = {.nr = nr, .interesting = 1, .exit = 1};
    const struct op_desc *op = &op_table[op_of_nr(nr)];

    if (nr < 0) {
        w.flags = PLAN_F_NR_UNKNOWN;
        w.enter = 1;
    } else if (op_of_nr(nr) == OP_NONE) {
        w.interesting = 0;
    } else {
        w.enter = !!(op->flags & SCF_ENTER);
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

static int arrives(const struct code *c, uint64_t vaddr)
{
    const uint8_t *m = code_marks(c, vaddr);

    return m && (*m & (CODE_TARGET | CODE_ENTRY));
}

/* --- what is code ------------------------------------------------------------------- */

/* Whether the sweep came to vaddr from the start of a function without a gap. */
static int follows_function(const struct code *c, uint64_t vaddr)
{
    struct x86_instr in;

    for (uint64_t v = vaddr; v && vaddr - v < 65536; v = code_prev(c, v, &in)) {
        size_t lo = 0, hi = c->functions.count;

        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;

            if (c->functions.v[mid] < v)
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo < c->functions.count && c->functions.v[lo] == v)
            return 1;
    }
    return 0;
}

/* Whether control was followed to vaddr, and the sweep has the same instructions as far before it as a patch may reach.
 */
static int proven(struct planner *p, uint64_t vaddr)
{
    struct x86_instr in;
    uint64_t v = vaddr;

    if (!p->proof_made) {
        p->proof = proof_make(&p->code, &p->finder);
        p->proof_made = 1;
    }
    if (!p->proof || !proof_holds(p->proof, vaddr))
        return 0;
    while (vaddr - v < PLAN_PATCH_MAX && !arrives(&p->code, v)) {
        v = code_prev(&p->code, v, &in);
        if (!v || !proof_holds(p->proof, v))
            return 0;
    }
    return 1;
}

/* Is what the sweep found at vaddr really an instruction? In text without any byte that can't be decoded the sweep is
 * right. Otherwise it must belong to a function, or control must have been followed to it. */
static int is_code(struct planner *p, uint64_t vaddr)
{
    const struct code *c = &p->code;

    if (!c->bad_bytes)
        return 1;
    if (c->eh.count && !go_text_at(&c->go, vaddr)) /* Go has no such tables, only its own list of functions */
        return eh_function_at(&c->eh, vaddr) || proven(p, vaddr);
    return follows_function(c, vaddr) || proven(p, vaddr);
}

/* Likewise for a syscall, of which a known number is proof enough. */
static int confirmed(struct planner *p, uint64_t pc, int32_t nr, int returns)
{
    uint64_t v = pc + SYSCALL_SIZE;
    struct x86_instr in;

    for (unsigned i = 0; i < 4 && returns; i++) { /* what follows must be sane, whatever comes before */
        if (!code_decode(&p->code, v, &in) || in.kind == X86_INT)
            return 0;
        if (x86_ends_flow(&in))
            break;
        v += in.len;
    }
    return nr >= 0 || is_code(p, pc);
}

/* Whether an instruction copies something into eax, as code does that is given the number of a call. */
static int sets_number(const struct x86_instr *in)
{
    if (in->map)
        return 0;
    return (in->opcode == 0x89 && in->modrm >= 0xc0 && !(in->modrm & 7) && !(in->rex & 1)) ||
           ((in->opcode == 0x8b || in->opcode == 0x63) && !(in->modrm >> 3 & 7) && !(in->rex & 4));
}

/* Whether a syscall that isn't proven to be one looks like code that is used: the sweep comes to it from where somebody
 * calls, by way of what sets the number. Not good enough to replace it, but to say that calls may be made there. */
static int seems_used(const struct planner *p, uint64_t pc)
{
    const struct code *c = &p->code;
    struct x86_instr in;
    int number = 0;

    for (uint64_t v = pc, prev; pc - v < LEAF_MAX_SIZE; v = prev) {
        const uint8_t *m = code_marks(c, v);

        if (*m & CODE_ENTRY)
            return number;
        prev = code_prev(c, v, &in);
        if (!prev || (x86_ends_flow(&in) && !(*m & CODE_TARGET)))
            return 0;
        number |= sets_number(&in);
    }
    return 0;
}

/* Whether the call at a site is an fcntl of which nothing is told but that it was made: it asks for, or sets, flags
 * other than FD_CLOEXEC. C libraries make these for kernels that lack accept4 or pipe2, often where no hook fits. */
static int is_minor(struct planner *p, const struct plan_site *site)
{
    enum { RSI = 6 };
    uint64_t command;

    return site->nr == __NR_fcntl && number_register(&p->finder, &p->code, site->vaddr, RSI, &command) &&
           (command == F_GETFD || command == F_GETFL || command == F_SETFL);
}

/* A copy of code that was proven elsewhere is no second place that makes these calls, but data: somebody's template. */
static int is_copy(const struct planner *p, const struct plan_site *unproven)
{
    enum { BEFORE = 16, AFTER = 3 };
    const struct plan_site *s = (const struct plan_site *)(void *)p->e->sites.p;
    size_t left = 0;
    const uint8_t *bytes = code_bytes(&p->code, unproven->vaddr - BEFORE, &left);

    for (uint32_t i = 0; bytes && left >= BEFORE + AFTER && i < emit_site_count(p->e); i++) {
        size_t there = 0;
        const uint8_t *other = code_bytes(&p->code, s[i].vaddr - BEFORE, &there);

        if (s[i].reason == PLAN_OK && s[i].nr < 0 && other && there >= BEFORE + AFTER &&
            memcmp(bytes, other, BEFORE + AFTER) == 0)
            return 1;
    }
    return 0;
}

/* --- trampolines ------------------------------------------------------------ */

/* lea slot(%rip),%rcx; jmp *entry(%rip). rcx and r11 hold nothing around a syscall. */
static void emit_hook(struct emit *e, uint32_t slot, enum plan_entry entry, unsigned flags)
{
    static const uint8_t lea_rcx[] = {0x48, 0x8d, 0x0d}, lea_rax[] = {0x48, 0x8d, 0x05}, jmp[] = {0xff, 0x25};

    if (flags & PLAN_F_GO)
        entry = entry == PLAN_ENTRY_EXIT ? PLAN_ENTRY_GO_EXIT : PLAN_ENTRY_GO_ENTER;
    emit_code(e, entry == PLAN_ENTRY_CALL ? lea_rax : lea_rcx, 3);
    emit_rel_blob(e, slot, 0);
    emit_code(e, jmp, sizeof(jmp));
    emit_rel_blob(e, (uint32_t)entry * 8, 0);
}

/* Exit hook on the bytes at `pc`, which follow the syscall (or the call of a leaf that makes it). */
static enum plan_reason plan_exit(struct planner *p, uint64_t pc, const struct wish *w, unsigned flags,
                                  const struct place *at, uint32_t site)
{
    /* cmp site_pc(%rip),%rcx; jne over the hook (both of its instructions are 13 bytes) */
    static const uint8_t cmp_rcx[] = {0x48, 0x3b, 0x0d}, jne_13[] = {0x75, 0x0d};
    struct emit_mark mark = emit_mark(p->e);
    uint32_t slot = emit_slot(p->e, w->nr, flags, pc, pc);

    if (flags & PLAN_F_CHECK_ORIGIN) {
        emit_code(p->e, cmp_rcx, sizeof(cmp_rcx));
        emit_rel_blob(p->e, slot + offsetof(struct plan_slot, site_pc), 0);
        emit_code(p->e, jne_13, sizeof(jne_13));
    }
    emit_hook(p->e, slot, PLAN_ENTRY_EXIT, flags);
    emit_tail_blob(p->e, slot, p->e->at);
    relocate(p->e, &p->code, &at->r, 1);
    if (p->e->overflow) {
        emit_rollback(p->e, mark);
        return PLAN_R_RELOCATE;
    }
    patch_jump(p->e, &p->code, at, slot, w->when, site);
    return PLAN_OK;
}

/* Enter hook on the bytes before the syscall at `pc`. */
static enum plan_reason plan_enter(struct planner *p, uint64_t pc, const struct wish *w, unsigned flags,
                                   const struct place *at, enum plan_when when, uint32_t site)
{
    struct emit_mark mark = emit_mark(p->e);
    uint32_t slot = emit_slot(p->e, w->nr, flags, pc, pc + SYSCALL_SIZE);

    emit_tail_vaddr(p->e, slot, pc);
    relocate(p->e, &p->code, &at->r, 0);
    emit_hook(p->e, slot, PLAN_ENTRY_ENTER, flags);
    if (p->e->overflow) {
        emit_rollback(p->e, mark);
        return PLAN_R_RELOCATE;
    }
    patch_jump(p->e, &p->code, at, slot, when, site);
    return PLAN_OK;
}

/* The syscall itself runs in the trampoline:
 *
 *   slot 1   instructions before; [enter hook;] syscall; [exit hook of slot 2 | instructions after]
 *   slot 2   tail of the exit hook: instructions after; back behind the region
 */
static enum plan_reason plan_moved(struct planner *p, uint64_t pc, const struct wish *w, unsigned flags,
                                   const struct region *before, const struct region *after, uint32_t site)
{
    static const uint8_t syscall_insn[] = {0x0f, 0x05};
    struct emit_mark mark = emit_mark(p->e);
    uint32_t slot2 = 0, slot, here;
    int full;

    if (w->exit) {
        slot2 = emit_slot(p->e, w->nr, flags, pc + SYSCALL_SIZE, pc + SYSCALL_SIZE);
        emit_tail_blob(p->e, slot2, p->e->at);
        relocate(p->e, &p->code, after, 1);
    }
    full = p->e->overflow;
    p->e->overflow = 0;
    slot = emit_slot(p->e, w->nr, flags, pc, pc + SYSCALL_SIZE);
    relocate(p->e, &p->code, before, 0);
    if (w->enter) {
        emit_hook(p->e, slot, PLAN_ENTRY_ENTER, flags);
        emit_tail_blob(p->e, slot, p->e->at);
    } else {
        emit_tail_vaddr(p->e, slot, pc); /* no hook of this slot ever runs */
    }
    emit_code(p->e, syscall_insn, sizeof(syscall_insn));
    here = p->e->at;
    if (w->exit)
        emit_hook(p->e, slot2, PLAN_ENTRY_EXIT, flags);
    else
        relocate(p->e, &p->code, after, 1);
    if (p->e->overflow || full) {
        emit_rollback(p->e, mark);
        return PLAN_R_RELOCATE;
    }
    emit_site_pc_blob(p->e, slot, here);
    if (w->exit)
        emit_site_pc_blob(p->e, slot2, here);
    patch_jump(p->e, &p->code, &(struct place){.r = {.lo = before->lo, .hi = after->hi}}, slot, w->when, site);
    return PLAN_OK;
}

/* --- leaves that make the syscall for cancellation points ------------------------ */

/* How musl's __syscall_cp_asm and glibc's __syscall_cancel_arch (since 2.41) turn the arguments of a C call
 * (flag, number, a1..a6) into those of a system call; the probe's entry code for calls relies on it. */
static int is_cancellation_leaf(const struct code *c, uint64_t lo, uint64_t syscall)
{
    static const struct {
        uint8_t len, bytes[5];
    } moves[] = {
        {3, {0x48, 0x89, 0xf0}},             /* mov %rsi,%rax */
        {3, {0x48, 0x89, 0xd7}},             /* mov %rdx,%rdi */
        {3, {0x48, 0x89, 0xce}},             /* mov %rcx,%rsi */
        {3, {0x4c, 0x89, 0xc2}},             /* mov %r8,%rdx */
        {3, {0x4d, 0x89, 0xca}},             /* mov %r9,%r10 */
        {5, {0x4c, 0x8b, 0x44, 0x24, 0x08}}, /* mov 8(%rsp),%r8 */
        {5, {0x4c, 0x8b, 0x4c, 0x24, 0x10}}, /* mov 16(%rsp),%r9 */
    };
    size_t left;
    const uint8_t *p = code_bytes(c, lo, &left);

    for (unsigned i = 0; i < sizeof(moves) / sizeof(moves[0]); i++)
        if (!memmem(p, syscall - lo, moves[i].bytes, moves[i].len))
            return 0;
    return 1;
}

/* The function of which the syscall at pc, followed by ret, is the end: its address if everybody who calls it is
 * known and calls it directly, else 0. */
static uint64_t find_leaf(struct planner *p, uint64_t pc)
{
    const struct code *c = &p->code;
    struct x86_instr in;
    uint64_t v = pc;

    if (!code_decode(c, pc + SYSCALL_SIZE, &in) || in.kind != X86_RET)
        return 0;
    while (v && pc - v < LEAF_MAX_SIZE) {
        const struct code_edge *e = code_edges_to(c, v), *end = c->edges + c->edge_count;
        unsigned calls = 0, jumps = 0;

        for (; e && e < end && e->target == v && calls + jumps <= LEAF_MAX_CALLERS; e++) {
            code_decode(c, e->source, &in);
            if (in.kind == X86_CALL)
                calls++;
            else if (e->source < v || e->source > pc)
                jumps++;
        }
        if (calls)
            return jumps || calls > LEAF_MAX_CALLERS || elf_is_exported(p->elf, v) ? 0 : v;
        v = code_prev(c, v, &in);
    }
    return 0;
}

static enum plan_reason plan_caller(struct planner *p, uint64_t call, uint64_t leaf, struct plan_site *site)
{
    const struct code *c = &p->code;
    const struct wish w = {.nr = -1};
    uint32_t index = emit_site_count(p->e), slot;
    struct place after;
    const uint8_t *m = code_marks(c, call + JUMP_SIZE);
    struct plan_patch patch = {.vaddr = call, .len = JUMP_SIZE, .when = PLAN_ALWAYS, .site = index};
    struct emit_mark mark = emit_mark(p->e);
    enum plan_reason why;
    size_t left;

    *site = (struct plan_site){.vaddr = call, .nr = -1, .flags = PLAN_F_NR_UNKNOWN | PLAN_F_SP_BIAS8};
    if (!is_code(p, call))
        return PLAN_R_UNPROVEN;
    if (!m || (*m & (CODE_TARGET | CODE_ENTRY)))
        return PLAN_R_BRANCH_TARGET;
    for (unsigned i = 0; i < JUMP_SIZE; i++) {
        m = code_marks(c, call + i);
        if (*m & CODE_TAKEN)
            return PLAN_R_OVERLAP;
        if (i && (*m & (CODE_TARGET | CODE_ENTRY)))
            return PLAN_R_BRANCH_TARGET;
    }
    why = place_after(c, call + JUMP_SIZE, &after);
    if (why)
        return why;
    site->flags |= PLAN_F_ENTER | PLAN_F_EXIT;
    /* Stack and return address are those of a function that was just called: the leaf. */
    slot = emit_slot(p->e, -1, site->flags, leaf, call + JUMP_SIZE);
    emit_tail_vaddr(p->e, slot, leaf);
    emit_hook(p->e, slot, PLAN_ENTRY_CALL, 0);
    why = plan_exit(p, call + JUMP_SIZE, &w, site->flags, &after, index);
    if (why) {
        emit_rollback(p->e, mark);
        return why;
    }
    memcpy(patch.old, code_bytes(c, call, &left), JUMP_SIZE);
    patch.new_[0] = 0xe8;
    emit_patch_rel(&patch, PLAN_REL_32, 1, slot + PLAN_SLOT_CODE);
    emit_patch(p->e, &patch);
    region_take(c, call, call + JUMP_SIZE);
    site->method = PLAN_CALLER;
    return PLAN_OK;
}

/* Hooks every caller of the leaf that ends with the syscall at pc. Returns 0 if there is no such leaf. */
static int plan_leaf(struct planner *p, uint64_t pc)
{
    const struct code *c = &p->code;
    uint64_t leaf = find_leaf(p, pc);
    const struct code_edge *end = c->edges + c->edge_count;
    unsigned hooked = 0;

    if (!leaf || !is_cancellation_leaf(c, leaf, pc))
        return 0;
    for (uint64_t v = leaf; v <= pc + SYSCALL_SIZE; v++)
        *code_marks(c, v) |= CODE_CANCEL;
    for (const struct code_edge *e = code_edges_to(c, leaf); e && e < end && e->target == leaf; e++) {
        struct plan_site site;
        struct x86_instr in;

        code_decode(c, e->source, &in);
        if (in.kind != X86_CALL || in.len != JUMP_SIZE)
            continue;
        site.reason = (uint8_t)plan_caller(p, e->source, leaf, &site);
        hooked += site.reason == PLAN_OK;
        emit_site(p->e, &site);
    }
    if (!hooked) {
        struct plan_site site = {.vaddr = pc, .nr = -1, .reason = PLAN_R_CANCEL_RANGE, .flags = PLAN_F_NR_UNKNOWN};

        emit_site(p->e, &site);
    }
    return 1;
}

/* --- sites ------------------------------------------------------------------------ */

/* index: where the site is, or will be, in the list. */
static void plan_one(struct planner *p, uint64_t pc, const struct wish *w, uint32_t index, struct plan_site *site)
{
    const struct code *c = &p->code;
    enum plan_reason exit_why = PLAN_OK, enter_why = PLAN_OK, call_why, why;
    unsigned flags = w->flags, check = 0;
    struct place after, before;
    struct region lead, trail;

    if (w->exit) {
        int dead = flags_dead(c, pc + SYSCALL_SIZE);

        /* Hooks don't keep the flags. Compilers never want them of a syscall, but somebody's assembler may. */
        if (!dead) {
            site->reason = arrives(c, pc + SYSCALL_SIZE) ? PLAN_R_BRANCH_TARGET : PLAN_R_RELOCATE;
            return;
        }
        exit_why = place_after(c, pc + SYSCALL_SIZE, &after);
        if (!exit_why && arrives(c, pc + SYSCALL_SIZE)) {
            /* Others come here, too: the stub compares rcx with this address, for which the flags must be free. The
             * kernel puts it there (syscall instruction, SDM volume 2B). CPUs with FRED keep rcx instead; there such
             * a site is seen only if it has an enter hook, too, which leaves with rcx set. */
            check = PLAN_F_CHECK_ORIGIN;
            if (dead != 1)
                exit_why = PLAN_R_BRANCH_TARGET;
        }
    }
    if (w->enter) {
        if (w->exit && !exit_why)
            place_reserve(c, &after, 1); /* both may want the same padding */
        enter_why = place_before(c, pc, &before);
        if (w->exit && !exit_why)
            place_reserve(c, &after, 0);
        if (!enter_why && arrives(c, pc))
            enter_why = PLAN_R_BRANCH_TARGET; /* the hook would be jumped over */
    }
    /* A moved call breaks shadow stacks; a moved syscall doesn't. */
    call_why =
        !exit_why && w->exit && after.r.has_call ? region_around(c, pc, JUMP_SIZE, &lead, &trail) : PLAN_R_NO_ROOM;
    if (!exit_why && !enter_why && (call_why || trail.has_call)) {
        struct emit_mark mark = emit_mark(p->e);

        flags |= (w->exit ? PLAN_F_EXIT | check : 0) | (w->enter ? PLAN_F_ENTER : 0);
        if (w->enter)
            enter_why = plan_enter(p, pc, w, flags, &before, w->when, index);
        if (!enter_why && w->exit)
            exit_why = plan_exit(p, pc + SYSCALL_SIZE, w, flags, &after, index);
        if (!exit_why && !enter_why) {
            int shorts = (w->exit && after.padding) || (w->enter && before.padding);

            site->method = shorts ? PLAN_SHORT : w->exit ? PLAN_AFTER : PLAN_BEFORE;
            site->flags = (uint16_t)flags;
            return;
        }
        emit_rollback(p->e, mark);
        flags = w->flags;
    }
    /* The syscall moves into the trampoline. */
    why = region_around(c, pc, JUMP_SIZE, &lead, &trail);
    if (!why && !trail.has_call) {
        flags |= (w->exit ? PLAN_F_EXIT : 0) | (w->enter ? PLAN_F_ENTER : 0);
        why = plan_moved(p, pc, w, flags, &lead, &trail, index);
        if (!why) {
            site->method = trail.count ? PLAN_SPAN : PLAN_MOVE;
            site->flags = (uint16_t)flags;
            return;
        }
        flags = w->flags;
    }
    /* A known call whose enter hook is impossible is still worth its exit hook. */
    if (w->exit && w->nr >= 0 && !exit_why &&
        plan_exit(p, pc + SYSCALL_SIZE, w, flags | check | PLAN_F_EXIT, &after, index) == PLAN_OK) {
        site->method = after.padding ? PLAN_SHORT : PLAN_AFTER;
        site->flags = (uint16_t)(flags | check | PLAN_F_EXIT);
        site->reason = PLAN_R_ENTER_ONLY;
        return;
    }
    site->reason = (uint8_t)(exit_why ? exit_why : enter_why);
}

/* Enter hooks that only time the call come last: they must not take the place of another site's hook. Such a hook
 * leaves the time on the program's stack; the few calls with a constant number in Go's runtime go without. */
static void plan_timing(struct planner *p, uint32_t index)
{
    struct plan_site *site = (struct plan_site *)(void *)p->e->sites.p + index;
    struct wish w = wish_for(site->nr);
    struct place before;

    if (!w.timing || (site->flags & PLAN_F_GO) || (site->method != PLAN_AFTER && site->method != PLAN_SHORT))
        return;
    if (place_before(&p->code, site->vaddr, &before) == PLAN_OK &&
        plan_enter(p, site->vaddr, &w, site->flags | PLAN_F_ENTER, &before, PLAN_TIMING, index) == PLAN_OK)
        site->flags |= PLAN_F_ENTER;
    else
        site->reason = PLAN_R_ENTER_ONLY;
}

/* Whether the call at pc comes right behind a munmap: a thread that gives back its own stack and then exits (musl's
 * __unmapself) has none that a hook could run on. */
static int after_unmap(struct planner *p, uint64_t pc)
{
    struct x86_instr in;

    for (uint64_t v = pc, i = 0; i < 8 && (v = code_prev(&p->code, v, &in)) && !x86_ends_flow(&in); i++) {
        size_t left;
        const uint8_t *b = code_bytes(&p->code, v, &left);

        if (left >= SYSCALL_SIZE && b[0] == 0x0f && b[1] == 0x05)
            return number_find(&p->finder, &p->code, v) == __NR_munmap;
    }
    return 0;
}

static int plan_sites(const struct elf_image *elf, const struct functions *functions, struct emit *e)
{
    static const uint8_t syscall_insn[] = {0x0f, 0x05};
    struct planner p = {.elf = elf, .e = e};
    uint32_t sites;
    int r = code_sweep(elf, &p.code);

    if (r < 0)
        return r;
    r = number_open(&p.finder);
    if (r < 0) {
        code_free(&p.code);
        return r;
    }
    for (unsigned i = 0; i < elf->text_count; i++) {
        const struct elf_range *t = &elf->text[i];
        const uint8_t *at = t->bytes;

        for (; (at = memmem(at, t->size - (size_t)(at - t->bytes), syscall_insn, 2)); at += 2) {
            uint64_t pc = t->vaddr + (uint64_t)(at - t->bytes);
            struct plan_site site = {.vaddr = pc, .nr = -1};
            struct wish w;

            if (!(p.code.marks[i][at - t->bytes] & CODE_START))
                continue;
            if (emit_site_count(e) >= MAX_SITES) {
                r = -EFBIG;
                goto out;
            }
            site.nr = number_find(&p.finder, &p.code, pc);
            w = wish_for(site.nr);
            if (go_text_at(&p.code.go, pc)) {
                w.flags |= PLAN_F_GO;
                if (w.nr < 0 && number_keepable(&p.finder, &p.code, pc))
                    w.flags |= PLAN_F_NR_KEPT;
            }
            site.flags = (uint16_t)w.flags;
            if (!w.interesting)
                site.reason = PLAN_R_UNINTERESTING;
            else if (!confirmed(&p, pc, site.nr, w.exit))
                site.reason = seems_used(&p, pc) ? PLAN_R_UNPROVEN : PLAN_R_DATA_IN_TEXT;
            else if (site.nr == __NR_exit && after_unmap(&p, pc))
                site.reason = PLAN_R_NO_STACK;
            else if (w.nr < 0 && plan_leaf(&p, pc))
                continue;
            else if (w.when != PLAN_CRASH) /* those come last: nobody goes without a hook because of them */
                plan_one(&p, pc, &w, emit_site_count(e), &site);
            emit_site(e, &site);
        }
    }
    sites = emit_site_count(e);
    for (uint32_t i = 0; i < sites; i++) {
        struct plan_site *site = (struct plan_site *)(void *)e->sites.p + i;

        if (site->reason == PLAN_R_UNPROVEN && is_copy(&p, site))
            site->reason = PLAN_R_DATA_IN_TEXT;
        if (site->method == PLAN_NONE && site->reason != PLAN_R_UNINTERESTING && is_minor(&p, site))
            site->reason = PLAN_R_MINOR;
        plan_timing(&p, i);
    }
    x86_plan_functions(&p.code, functions, e);
    x86_plan_go_functions(&p.code, e);
    for (uint32_t i = 0; i < sites; i++) {
        struct plan_site site = ((struct plan_site *)(void *)e->sites.p)[i];
        struct wish w = wish_for(site.nr);

        if (!(site.flags & PLAN_F_CRASH) || site.reason != PLAN_OK)
            continue;
        w.flags = site.flags;
        plan_one(&p, site.vaddr, &w, i, &site);
        ((struct plan_site *)(void *)e->sites.p)[i] = site;
    }
out:
    proof_free(p.proof);
    number_close(&p.finder);
    code_free(&p.code);
    return r;
}

const struct plan_machine *plan_machine_x86_64(void);

const struct plan_machine *plan_machine_x86_64(void)
{
    static const struct plan_machine m = {.elf = EM_X86_64, .arch = PLAN_ARCH_X86_64, .table_hash = syscall_table_hash,
                                          .op = op_of_nr, .call = {0x0f, 0x05}, .call_size = 2, .keys = x86_find_keys,
                                          .sites = plan_sites};

    return &m;
}
