/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs what an arm64 plan puts in place of an image's instructions, beside those:
 *
 *   run_patched IMAGE PLAN
 *
 * The image is laid into memory with a trap in place of each word of text. For each site that is patched its few
 * instructions are put back, once as they were and once patched, and run with the same registers, the system call being
 * an instruction that sets x0. Both must end at the same place with the same registers, flags and memory, but for
 * registers that hold nothing; and the hooks must have got the call's first argument and its result.
 *
 * To be run by user-mode emulation, or on the machine itself. Prints a line for each site that isn't as it should be,
 * and then: "N sites, N runs, N wrong".
 */
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include "wire/plan_format.h"

#define SVC     0xd4000001u
#define BRK     0xd4200000u
#define SCRATCH 65536u /* bytes of memory that registers point to; the stack is in its middle */
#define RUNS    8u     /* of each site, with other registers */
#define FRAME   224u   /* of the hooks: src/plan/arch/aarch64/sites.c */
#define POISON  UINT64_C(0xdead5c0fedead5c0)

/* What a hook saw. The entry code below writes it. */
struct hook {
    uint64_t entry, slot, result, arg0, arg1, sp;
};
struct hook hooks[16];
uint64_t hook_count;

/* Common entry points as those of the probe, but that they only take notes and spoil what they may. */
__asm__(".text\n"
        ".macro note entry, slot, a, b\n" /* a, b: free registers, saved below the stack */
        "  adrp \\a, hook_count\n  add \\a, \\a, :lo12:hook_count\n  ldr \\b, [\\a]\n"
        "  add \\b, \\b, #1\n  str \\b, [\\a]\n  sub \\b, \\b, #1\n  and \\b, \\b, #15\n"
        "  adrp \\a, hooks\n  add \\a, \\a, :lo12:hooks\n"
        "  add \\a, \\a, \\b, lsl #5\n  add \\a, \\a, \\b, lsl #4\n" /* 48 bytes each */
        "  mov \\b, #\\entry\n  str \\b, [\\a]\n  str \\slot, [\\a, #8]\n"
        ".endm\n"
        ".macro c_entry name, entry\n"
        ".globl \\name\n\\name:\n"
        "  stp x2, x3, [sp, #-16]!\n"
        "  note \\entry, x0, x2, x3\n"
        "  ldr x3, [sp, #16]\n  str x3, [x2, #16]\n  ldr x3, [sp, #24]\n  str x3, [x2, #24]\n"
        "  ldr x3, [sp, #32]\n  str x3, [x2, #32]\n  add x3, sp, #16\n  str x3, [x2, #40]\n"
        "  ldp x2, x3, [sp], #16\n"
        "  ldr x1, [x0, #8]\n  mov x0, #-7\n  br x1\n"
        ".endm\n"
        ".macro go_entry name, entry\n" /* x16 and x27 are free, and nothing may be written to the stack */
        ".globl \\name\n\\name:\n"
        "  note \\entry, x18, x16, x27\n"
        "  str x0, [x16, #16]\n  str x17, [x16, #24]\n  str x1, [x16, #32]\n  mov x27, sp\n  str x27, [x16, #40]\n"
        "  ldr x27, [x18, #8]\n  mov x16, #-7\n  mov x18, #-7\n  br x27\n"
        ".endm\n"
        "c_entry entry_exit, 0\n"
        "c_entry entry_enter, 1\n"
        "c_entry entry_call, 2\n"
        "go_entry entry_go_exit, 3\n"
        "go_entry entry_go_enter, 4\n"
        "c_entry entry_timed, 6\n"
        ".globl entry_function\nentry_function:\n" /* x16 is the slot, x17 is free, too */
        "  stp x2, x3, [sp, #-16]!\n  note 5, x16, x2, x3\n  str x0, [x2, #16]\n  str x0, [x2, #24]\n"
        "  str x1, [x2, #32]\n  ldp x2, x3, [sp], #16\n  ldr x17, [x16, #8]\n  mov x16, #-7\n  br x17\n");

extern const char entry_exit[], entry_enter[], entry_call[], entry_go_exit[], entry_go_enter[], entry_timed[],
    entry_function[];

/* The image as its file has it, and in memory. */
struct image {
    const char *file;
    size_t size;
    uint64_t lo, hi;   /* vaddrs of its segments */
    char *memory;      /* of lo */
    uint64_t bias;
    char *blob;
};

static void *read_file(const char *path, size_t *ret_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *p;

    if (fd < 0 || fstat(fd, &st) < 0 ||
        (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED) {
        perror(path);
        exit(2);
    }
    close(fd);
    *ret_size = (size_t)st.st_size;
    return p;
}

static const Elf64_Phdr *segments(const struct image *m, unsigned *ret_count)
{
    const Elf64_Ehdr *eh = (const Elf64_Ehdr *)(const void *)m->file;

    *ret_count = eh->e_phnum;
    return (const Elf64_Phdr *)(const void *)(m->file + eh->e_phoff);
}

/* The image's word at vaddr. */
static uint32_t word_at(const struct image *m, uint64_t vaddr)
{
    unsigned count;
    const Elf64_Phdr *ph = segments(m, &count);
    uint32_t w = BRK;

    for (unsigned i = 0; i < count; i++)
        if (ph[i].p_type == PT_LOAD && vaddr - ph[i].p_vaddr < ph[i].p_filesz)
            memcpy(&w, m->file + ph[i].p_offset + (vaddr - ph[i].p_vaddr), sizeof(w));
    return w;
}

static void lay_out(struct image *m, uint32_t blob_size)
{
    unsigned count;
    const Elf64_Phdr *ph = segments(m, &count);
    size_t room;

    m->lo = UINT64_MAX;
    for (unsigned i = 0; i < count; i++) {
        if (ph[i].p_type != PT_LOAD)
            continue;
        m->lo = ph[i].p_vaddr < m->lo ? ph[i].p_vaddr : m->lo;
        m->hi = ph[i].p_vaddr + ph[i].p_memsz > m->hi ? ph[i].p_vaddr + ph[i].p_memsz : m->hi;
    }
    m->lo &= ~UINT64_C(65535);
    m->hi = (m->hi + 65535) & ~UINT64_C(65535);
    room = (size_t)(m->hi - m->lo);
    m->memory = mmap(NULL, room + blob_size + 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    m->bias = (uint64_t)m->memory - m->lo;
    m->blob = m->memory + room;
    for (unsigned i = 0; i < count; i++) {
        char *to = m->memory + (ph[i].p_vaddr - m->lo);

        if (ph[i].p_type != PT_LOAD)
            continue;
        memcpy(to, m->file + ph[i].p_offset, ph[i].p_filesz);
        for (uint64_t k = 0; ph[i].p_flags & PF_X && k + 4 <= ph[i].p_filesz; k += 4)
            *(uint32_t *)(void *)(to + k) = BRK;
    }
    __builtin___clear_cache(m->memory, m->memory + room);
}

static void put(const struct image *m, uint64_t vaddr, uint32_t word)
{
    char *at = m->memory + (vaddr - m->lo);

    memcpy(at, &word, sizeof(word));
    __builtin___clear_cache(at, at + 4);
}

/* --- running ---------------------------------------------------------------------- */

struct state {
    uint64_t x[31], sp, pc, flags, fault;
    int signal; /* which ended the run */
};

static struct state start, end;
static ucontext_t home;
static char *scratch;
static uint64_t seed = 88172645463325252u;

static uint64_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void on_start(int sig, siginfo_t *si, void *context)
{
    ucontext_t *uc = context;

    (void)sig, (void)si;
    home = *uc;
    memcpy(uc->uc_mcontext.regs, start.x, sizeof(start.x));
    uc->uc_mcontext.sp = start.sp;
    uc->uc_mcontext.pc = start.pc;
    uc->uc_mcontext.pstate = (uc->uc_mcontext.pstate & ~UINT64_C(0xf0000000)) | start.flags;
}

static void on_end(int sig, siginfo_t *si, void *context)
{
    ucontext_t *uc = context;

    memcpy(end.x, uc->uc_mcontext.regs, sizeof(end.x));
    end.sp = uc->uc_mcontext.sp;
    end.pc = uc->uc_mcontext.pc;
    end.flags = uc->uc_mcontext.pstate & UINT64_C(0xf0000000);
    end.fault = sig == SIGSEGV || sig == SIGBUS ? (uint64_t)si->si_addr : 0;
    end.signal = sig;
    uc->uc_mcontext.sp = home.uc_mcontext.sp;
    uc->uc_mcontext.pc = home.uc_mcontext.pc;
    uc->uc_mcontext.pstate = home.uc_mcontext.pstate;
    memcpy(uc->uc_mcontext.regs, home.uc_mcontext.regs, sizeof(home.uc_mcontext.regs));
}

/* Runs from `start` until something ends it, which is in `end` then. */
static void run(void)
{
    hook_count = 0;
    memset(hooks, 0, sizeof(hooks));
    alarm(5); /* a loop */
    raise(SIGUSR1);
    alarm(0);
}

static void choose_registers(void)
{
    memset(&start, 0, sizeof(start));
    for (unsigned i = 0; i < 31; i++) {
        uint64_t r = chance();

        start.x[i] = r & 1 ? (uint64_t)scratch + (r >> 8) % (SCRATCH / 2) / 16 * 16 : r & 2 ? r >> 4 : r >> 58;
    }
    start.sp = (uint64_t)scratch + SCRATCH / 2;
    start.flags = (chance() & 0xf) << 28;
    for (unsigned i = 0; i < SCRATCH / 8; i++)
        ((uint64_t *)(void *)scratch)[i] = chance();
}

static char before[SCRATCH], after[SCRATCH];

static bool wrong(const struct plan_site *s, const char *what, uint64_t a, uint64_t b)
{
    printf("%#llx: %s: %#llx, expected %#llx\n", (unsigned long long)s->vaddr, what, (unsigned long long)a,
           (unsigned long long)b);
    return false;
}

/* Registers in which something may be left. */
static bool may_differ(const struct plan_site *s, unsigned reg)
{
    if (s->flags & PLAN_F_GO)
        return reg >= 16 && (reg <= 18 || reg == 27);
    if (s->flags & PLAN_F_FUNCTION)
        return reg == 16 || reg == 17;
    return reg >= 6 && reg <= 17 && reg != 8;
}

/* The patches of a site: first and last of their vaddrs; how many. */
static unsigned patches_of(const struct plan_header *h, uint32_t site, const struct plan_patch *ret[4])
{
    const struct plan_patch *p = (const struct plan_patch *)(const void *)((const char *)h + h->patch_off);
    unsigned n = 0;

    for (uint32_t i = 0; i < h->patch_count; i++)
        if (p[i].site == site && n < 4)
            ret[n++] = &p[i];
    return n;
}

/* Puts `call` in place of the system call that runs in a slot. Its offset in the blob, 0 if there is none. */
static uint32_t call_in_slot(const struct image *m, const struct plan_header *h, uint32_t slot, uint32_t call)
{
    for (uint32_t at = slot; at + 4 <= h->blob_size && at < slot + 2 * PLAN_SLOT; at += 4) {
        if (at % PLAN_SLOT < PLAN_SLOT_CODE || *(uint32_t *)(void *)(m->blob + at) != SVC)
            continue;
        memcpy(m->blob + at, &call, sizeof(call));
        return at;
    }
    return 0;
}

static bool check_site(const struct image *m, const struct plan_header *h, uint32_t index, bool timed, unsigned round)
{
    const struct plan_site *s = (const struct plan_site *)(const void *)((const char *)h + h->site_off) + index;
    const struct plan_patch *patch[4];
    unsigned count = patches_of(h, index, patch), differ = 0, kept = 31;
    bool function = s->flags & PLAN_F_FUNCTION, caller = s->method == PLAN_CALLER, moved = s->method == PLAN_MOVE;
    uint64_t lo = s->vaddr, hi = moved || caller ? s->vaddr : s->vaddr + 4, arg0 = 0, result;
    uint64_t entry[PLAN_ENTRIES] = {(uint64_t)entry_exit,    (uint64_t)entry_enter,    (uint64_t)entry_call,
                                    (uint64_t)entry_go_exit, (uint64_t)entry_go_enter, (uint64_t)entry_function,
                                    timed ? (uint64_t)entry_timed : 0};
    uint32_t call = round & 1 ? 0x92800000u | (round * 37 & 0xfff) << 5 : 0xd2800000u | (round * 1237 & 0xffff) << 5;
    struct state was, at_call = {0};
    bool exits = false, enters = false;

    if (!count)
        return wrong(s, "patches", 0, 1);
    lo = patch[0]->vaddr < lo ? patch[0]->vaddr : lo;
    hi = function ? patch[0]->vaddr : hi;
    result = round & 1 ? ~(uint64_t)(round * 37 & 0xfff) : round * 1237 & 0xffff;
    choose_registers();
    start.pc = m->bias + lo;

    /* What the call's first argument is. */
    if (!function && !caller) {
        for (uint64_t v = lo; v < s->vaddr; v += 4)
            put(m, v, word_at(m, v));
        memcpy(before, scratch, SCRATCH);
        run();
        memcpy(scratch, before, SCRATCH);
        at_call = end;
        arg0 = end.x[0];
    }
    /* As it was. */
    for (uint64_t v = lo; v <= hi; v += 4)
        put(m, v, v == s->vaddr && !function && !caller ? call : word_at(m, v));
    memcpy(before, scratch, SCRATCH);
    run();
    was = end;
    memcpy(after, scratch, SCRATCH);
    memcpy(scratch, before, SCRATCH);
    if (hook_count)
        return wrong(s, "hooks without a patch", hook_count, 0);
    /* Patched. */
    plan_fill_blob(h, m->blob, (uint64_t)m->blob, m->bias, entry);
    for (unsigned i = 0; i < count; i++) {
        uint8_t bytes[PLAN_PATCH_MAX];
        uint32_t w = word_at(m, patch[i]->vaddr);

        if (patch[i]->len != 4 || memcmp(patch[i]->old, &w, 4) != 0)
            return wrong(s, "bytes to replace at", patch[i]->vaddr, w);
        plan_patch_bytes(patch[i], m->bias, (uint64_t)m->blob, bytes);
        memcpy(&w, bytes, sizeof(w));
        put(m, patch[i]->vaddr, w);
    }
    if (moved && !call_in_slot(m, h, plan_patch_target(h, patch[0]) & ~(PLAN_SLOT - 1), call))
        return wrong(s, "system calls in the slot", 0, 1);
    __builtin___clear_cache(m->blob, m->blob + h->blob_size);
    run();
    for (uint64_t v = lo; v <= hi; v += 4)
        put(m, v, BRK);

    if (was.signal == SIGALRM && end.signal == SIGALRM) /* a loop around the call: once more with another result */
        return true;
    if (end.signal != was.signal || end.fault != was.fault)
        return wrong(s, "ended by signal", (uint64_t)end.signal, (uint64_t)was.signal);
    if (end.pc - (uint64_t)m->blob < h->blob_size) { /* a displaced instruction that faults */
        if (was.signal == SIGTRAP || was.pc - m->bias - lo > hi - lo)
            return wrong(s, "ended in a slot", end.pc - (uint64_t)m->blob, was.pc - m->bias);
        return true; /* registers of the middle of an instruction that was taken to pieces */
    }
    if (end.pc != was.pc)
        return wrong(s, "ended at", end.pc - m->bias, was.pc - m->bias);
    if (end.sp != was.sp)
        return wrong(s, "stack", end.sp, was.sp);
    if (end.flags != was.flags)
        return wrong(s, "flags", end.flags, was.flags);
    for (unsigned i = 0; i < 31; i++) {
        if (end.x[i] == was.x[i])
            continue;
        if (!may_differ(s, i))
            return wrong(s, "a register", i, end.x[i]);
        differ++;
        kept = i;
    }
    /* One, which holds the first argument; the function hook and Go's have two and four. */
    if (!(s->flags & (PLAN_F_GO | PLAN_F_FUNCTION)) && differ > 1)
        return wrong(s, "registers that differ", differ, 1);
    if (!(s->flags & (PLAN_F_GO | PLAN_F_FUNCTION)) && differ && !caller && end.x[kept] != arg0 && !(timed && !end.x[kept]))
        return wrong(s, "the register that differs", end.x[kept], arg0);
    memset(scratch + SCRATCH / 2 - 1024, 0, 1024); /* below the stack pointer there is nothing */
    memset(after + SCRATCH / 2 - 1024, 0, 1024);
    if (memcmp(after, scratch, SCRATCH) != 0 && memcmp(after + 1024, scratch + 1024, SCRATCH / 2 - 4096) != 0)
        return wrong(s, "memory", 1, 0);
    /* What the hooks got. */
    for (uint64_t i = 0; i < hook_count && i < 16; i++) {
        const struct hook *k = &hooks[i];
        bool exit = k->entry == PLAN_ENTRY_EXIT || k->entry == PLAN_ENTRY_GO_EXIT;
        const struct plan_slot *slot = (const struct plan_slot *)(const void *)k->slot;

        if (k->slot - (uint64_t)m->blob >= h->blob_size || k->slot % PLAN_SLOT)
            return wrong(s, "slot", k->slot, (uint64_t)m->blob);
        if (slot->nr != s->nr && !caller)
            return wrong(s, "number", (uint64_t)slot->nr, (uint64_t)s->nr);
        exits |= exit;
        enters |= k->entry == PLAN_ENTRY_ENTER || k->entry == PLAN_ENTRY_GO_ENTER || k->entry == PLAN_ENTRY_CALL;
        if (function || caller)
            continue;
        if (exit && k->result != result)
            return wrong(s, "result", k->result, result);
        if (lo == s->vaddr && !moved) /* the end of a leaf: the hook of its callers puts it there */
            arg0 = start.x[17];
        if (k->arg0 != (exit || k->entry == PLAN_ENTRY_GO_ENTER || k->entry == PLAN_ENTRY_ENTER ? arg0 : k->arg0) &&
            (exit || k->entry == PLAN_ENTRY_GO_EXIT))
            return wrong(s, "first argument", k->arg0, arg0);
        if (!exit && k->result != at_call.x[0])
            return wrong(s, "first argument before the call", k->result, at_call.x[0]);
        if (!exit && k->arg1 != at_call.x[1])
            return wrong(s, "second argument before the call", k->arg1, at_call.x[1]);
        if (k->sp != start.sp - (s->flags & PLAN_F_GO ? 0 : FRAME) && k->sp != was.sp - (s->flags & PLAN_F_GO ? 0 : FRAME))
            return wrong(s, "stack of a hook", k->sp, start.sp);
    }
    if (function || caller)
        return hook_count == 1 ? true : wrong(s, "hooks", hook_count, 1);
    if ((s->flags & PLAN_F_EXIT) && !exits)
        return wrong(s, "hooks after the call", 0, 1);
    if (hook_count > 2)
        return wrong(s, "hooks", hook_count, 2);
    (void)enters;
    return true;
}

int main(int argc, char **argv)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction begin = {.sa_sigaction = on_start, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction stop = {.sa_sigaction = on_end, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGALRM, SIGFPE};
    const struct plan_header *h;
    const struct plan_site *s;
    struct image m = {0};
    unsigned sites = 0, runs = 0, bad = 0;
    size_t size;

    if (argc != 3) {
        fprintf(stderr, "usage: run_patched IMAGE PLAN\n");
        return 2;
    }
    m.file = read_file(argv[1], &m.size);
    h = read_file(argv[2], &size);
    if (!plan_check(h, size) || h->sum != plan_sum(h, size) || h->arch != PLAN_ARCH_AARCH64 ||
        h->table_hash != syscall_table_hash()) {
        fprintf(stderr, "run_patched: %s: not a plan of this version and architecture\n", argv[2]);
        return 2;
    }
    lay_out(&m, h->blob_size);
    scratch = mmap(NULL, SCRATCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaltstack(&alternate, NULL);
    sigaction(SIGUSR1, &begin, NULL);
    for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        sigaction(signals[i], &stop, NULL);
    s = (const struct plan_site *)(const void *)((const char *)h + h->site_off);
    for (uint32_t i = 0; i < h->site_count; i++) {
        if (s[i].method == PLAN_NONE)
            continue;
        sites++;
        for (unsigned round = 0; round < RUNS; round++, runs++)
            if (!check_site(&m, h, i, round >= RUNS / 2, round)) {
                bad++;
                break;
            }
    }
    printf("%u sites, %u runs, %u wrong\n", sites, runs, bad);
    return bad ? 1 : 0;
}
