/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/unwind.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "core_arch.h"
#include "crash/symbols.h"
#include "machine.h"

#define SCAN_WORDS 512u                    /* of stack that are looked through for a return address */
#define FRAME_MAX_SIZE (UINT64_C(1) << 20) /* of one that frame pointers lead across */

/* How the way goes on from a frame, where libdwfl's walk has been ended. */
enum next { NEXT_END, NEXT_CONTEXT, NEXT_SWITCH, NEXT_GUESS };

struct walk {
    const struct look *l;
    const struct crash_thread *of;
    struct symbols *symbols;
    struct results *r;
    struct result_thread *thread;
    uint64_t regs[MACHINE_DWARF_REGS]; /* of the frame to begin with; of the last one seen afterwards */
    uint64_t last_sp;
    bool first;    /* the next frame is the one to begin with */
    bool exact;    /* ... and its pc is an instruction, not a return address */
    bool last_exact; /* so is that of the last one */
    bool by_link;    /* the way goes on by a return address in a register: the caller's stack pointer may be the same */
    bool in_probe; /* the last frame was ours */
    uint32_t mark; /* flags of the next frame */
    enum next next;
    unsigned shown;
};

static bool is_code(const struct walk *w, uint64_t address)
{
    const struct process_map *m = process_map_at(&w->l->view.maps, address);

    return m && m->execute;
}

static bool is_sigreturn(struct walk *w, uint64_t pc)
{
    uint8_t code[MACHINE_SIGRETURN_SIZE];

    return symbols_code(w->symbols, pc, code, sizeof(code)) && machine_is_sigreturn(code);
}

static bool is_probe(const struct walk *w, uint64_t pc)
{
    const struct module *m = modules_at(&w->l->modules, pc);

    return m && m->probe;
}

/* A word of a stack that may be a return address. */
static bool read_code(const struct walk *w, uint64_t address, uint64_t *ret)
{
    if (!copies_read(&w->l->copies, address, ret, sizeof(*ret)))
        return false;
    *ret = machine_code(&w->of->more, *ret);
    return true;
}

static bool add_bare(struct walk *w, uint64_t pc, bool exact)
{
    struct result_frame *f;

    if (is_probe(w, pc)) /* ours is nobody's business */
        return true;
    if (w->shown == CRASH_FRAMES) {
        w->thread->flags |= THREAD_CUT;
        return false;
    }
    f = results_add_frame(w->r);
    if (!f)
        return false;
    *f = (struct result_frame){.pc = pc, .flags = w->mark | (exact ? FRAME_EXACT_PC : 0)};
    w->mark = 0;
    w->shown++;
    w->thread->bare.count++;
    return true;
}

/* Functions that nobody has called. */
static bool is_first_function(const char *name)
{
    static const char *const names[] = {"_start",     "__clone",        "clone",          "__clone3",
                                        "clone3",     "runtime.goexit", "runtime.rt0_go", "_rt0_amd64_linux",
                                        "_rt0_amd64", "runtime.mstart", "runtime.mcall",  "_rt0_arm64_linux",
                                        "_rt0_arm64"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        size_t n = strlen(names[i]);

        /* Go adds the kind of call to the names of its assembly. */
        if (strncmp(name, names[i], n) == 0 && (!name[n] || strcmp(name + n, ".abi0") == 0))
            return true;
    }
    return false;
}

/* Functions of Go's runtime that go over from a goroutine's stack to that of the thread. */
static bool is_switch(const char *name)
{
    return strncmp(name, "runtime.systemstack", 19) == 0 ? !name[19] || name[19] == '.'
                                                         : strncmp(name, "runtime.asmcgocall", 18) == 0;
}

static int on_frame(Dwfl_Frame *state, void *arg)
{
    struct walk *w = arg;
    Dwarf_Addr pc;
    Dwarf_Word v;
    bool exact = false, first = w->first;
    const char *function;

    w->next = NEXT_END;
    if (!dwfl_frame_pc(state, &pc, &exact))
        return DWARF_CB_ABORT;
    w->first = false;
    if (first) {
        exact = w->exact;
        pc += !exact; /* it was told the call */
    }
    for (unsigned i = 0; i < MACHINE_DWARF_REGS; i++)
        w->regs[i] = dwfl_frame_reg(state, i, &v) == 0 ? v : 0;
    w->regs[MACHINE_DWARF_PC] = pc;
    if (!first && w->regs[MACHINE_DWARF_SP] == w->last_sp && !exact && !is_probe(w, pc))
        return DWARF_CB_ABORT; /* a frame without a size would repeat for ever */
    w->last_sp = w->regs[MACHINE_DWARF_SP];
    if (!pc && !first)
        return DWARF_CB_ABORT;
    if (!(first && exact) && is_sigreturn(w, pc)) {
        w->next = NEXT_CONTEXT;
        return DWARF_CB_ABORT;
    }
    if (exact && !first && !w->in_probe && !is_probe(w, pc)) /* our hooks look like signal frames, but aren't */
        w->mark |= FRAME_SIGNAL;
    w->in_probe = is_probe(w, pc);
    w->last_exact = exact;
    if (!add_bare(w, pc, exact))
        return DWARF_CB_ABORT;
    function = symbols_function(w->symbols, exact ? pc : pc - 1, NULL);
    if (is_first_function(function))
        return DWARF_CB_ABORT;
    if (is_switch(function)) {
        w->next = NEXT_SWITCH;
        return DWARF_CB_ABORT;
    }
    if (!symbols_has_cfi(w->symbols, exact ? pc : pc - 1)) {
        w->next = NEXT_GUESS;
        return DWARF_CB_ABORT;
    }
    return DWARF_CB_OK;
}

/* Registers as the signal found them, from its frame. */
static bool go_on_at_context(struct walk *w)
{
    uint8_t context[MACHINE_CONTEXT_SIZE];

    if (!copies_read(&w->l->copies, w->regs[MACHINE_DWARF_SP] + MACHINE_CONTEXT_AT, context, sizeof(context)))
        return false;
    machine_context_to_dwarf(context, w->regs);
    w->exact = true;
    w->mark |= FRAME_SIGNAL;
    return true;
}

static bool is_return_address(struct walk *w, uint64_t address)
{
    uint8_t code[MACHINE_CALL_SIZE];

    return is_code(w, address) && symbols_code(w->symbols, address - sizeof(code), code, sizeof(code)) &&
           machine_ends_with_call(code, sizeof(code));
}

/* Or code that has been generated, and was not copied: there, that must do. */
static bool is_code_behind_call(struct walk *w, uint64_t address)
{
    const struct process_map *m = process_map_at(&w->l->view.maps, address);

    return is_return_address(w, address) || is_sigreturn(w, address) ||
           (m && m->execute && !m->inode && *m->name != '[');
}

static bool guess(struct walk *w, uint64_t pc, uint64_t sp, uint64_t fp)
{
    w->regs[MACHINE_DWARF_PC] = pc;
    w->regs[MACHINE_DWARF_SP] = sp;
    w->regs[MACHINE_DWARF_FP] = fp;
    w->exact = false;
    w->mark |= FRAME_GUESSED;
    return true;
}

/* The return address of a function that has not saved it yet. */
static bool link_register(const struct walk *w, uint64_t *ret)
{
    if (MACHINE_DWARF_LINK < 0)
        return false;
    *ret = machine_code(&w->of->more, w->regs[MACHINE_DWARF_LINK < 0 ? 0 : MACHINE_DWARF_LINK]);
    return w->last_exact;
}

/* From the thread's stack back to that of the goroutine, where that has left its registers: those of a function that is
 * only there to be found (runtime.systemstack_switch) prove it. */
static bool go_on_at_switch(struct walk *w)
{
    uint64_t g = look_go_g(w->l, w->of), m, other, bounds[2], pc, sp, word;

    if (!g || !copies_read(&w->l->copies, g + GO_G_M, &m, sizeof(m)))
        return false;
    for (uint64_t place = 0; place < GO_M_SIZE; place += 8) {
        if (!copies_read(&w->l->copies, m + place, &other, sizeof(other)) ||
            !copies_read(&w->l->copies, other, bounds, sizeof(bounds)) ||
            !copies_read(&w->l->copies, other + GO_G_SCHED_SP, &sp, sizeof(sp)) ||
            !copies_read(&w->l->copies, other + GO_G_SCHED_PC, &pc, sizeof(pc)) ||
            sp - bounds[0] >= bounds[1] - bounds[0] || w->regs[MACHINE_DWARF_SP] - bounds[0] < bounds[1] - bounds[0] ||
            strncmp(symbols_function(w->symbols, pc, NULL), "runtime.systemstack_switch", 26) != 0)
            continue;
        /* It is where the function that went over began: the return address is there, or above a frame pointer. */
        for (unsigned i = 0; i < 2; i++)
            if (read_code(w, sp + 8 * (uint64_t)i, &word) && is_return_address(w, word)) {
                if (i)
                    copies_read(&w->l->copies, sp, &w->regs[MACHINE_DWARF_FP], 8);
                w->regs[MACHINE_DWARF_PC] = word;
                w->regs[MACHINE_DWARF_SP] = sp + 8 * (uint64_t)i + MACHINE_GO_CALL_SIZE;
                w->exact = false;
                return true;
            }
    }
    return false;
}

/* By the sizes of frames that Go's own table of functions has. */
static bool go_on_by_go_table(struct walk *w)
{
    uint64_t sp = w->regs[MACHINE_DWARF_SP], pc = w->regs[MACHINE_DWARF_PC], pc_at, fp_at, fp;
    int64_t size;

    if (!symbols_go_frame(w->symbols, w->exact ? pc : pc - 1, &size) || size < 0)
        return false;
    if (machine_go_frame(sp, (uint64_t)size, &pc_at, &fp_at, &sp)) {
        if (!read_code(w, pc_at, &pc) || !is_code(w, pc))
            return false;
        if (fp_at && copies_read(&w->l->copies, fp_at, &fp, sizeof(fp)))
            w->regs[MACHINE_DWARF_FP] = fp;
    } else {
        if (!link_register(w, &pc) || !is_code(w, pc))
            return false;
        w->by_link = true;
    }
    w->regs[MACHINE_DWARF_PC] = pc;
    w->regs[MACHINE_DWARF_SP] = sp;
    w->exact = false;
    return true;
}

/* Without unwind information: a return address that is still in its register, what a call through a wrong pointer has left,
 * frame pointers, or whatever looks like a return address. */
static bool go_on_by_guess(struct walk *w)
{
    uint64_t pc = w->regs[MACHINE_DWARF_PC], sp = w->regs[MACHINE_DWARF_SP], fp = w->regs[MACHINE_DWARF_FP], word[2];

    if (MACHINE_DWARF_LINK >= 0) {
        if (link_register(w, word) && is_return_address(w, word[0])) {
            w->by_link = true;
            return guess(w, word[0], sp, fp);
        }
    } else if (!is_code(w, pc) && read_code(w, sp, word) && is_return_address(w, word[0])) {
        return guess(w, word[0], sp + 8, fp);
    }
    if (fp >= sp && fp - sp < FRAME_MAX_SIZE && !(fp & 7) && copies_read(&w->l->copies, fp, word, 8) &&
        read_code(w, fp + 8, &word[1]) && is_code_behind_call(w, word[1]))
        return guess(w, word[1], fp + 16, word[0]);
    for (unsigned i = 0; i < SCAN_WORDS && read_code(w, sp + 8 * (uint64_t)i, word); i++)
        if (is_return_address(w, word[0]) || is_sigreturn(w, word[0]))
            return guess(w, word[0], sp + 8 * (uint64_t)i + 8, fp);
    return false;
}

static void unwind_thread(struct walk *w, const struct crash_thread *th)
{
    Dwfl *dwfl = symbols_dwfl(w->symbols);
    bool on = true;

    w->of = th;
    machine_to_dwarf(&th->regs, w->regs);
    w->exact = true;
    for (unsigned pieces = 0; on && pieces < CRASH_FRAMES; pieces++) {
        uint64_t sp = w->regs[MACHINE_DWARF_SP], pc = w->regs[MACHINE_DWARF_PC];
        int rc;

        w->first = true;
        w->by_link = false;
        w->last_exact = w->exact;
        w->next = NEXT_END;
        rc = dwfl_getthread_frames(dwfl, th->tid, on_frame, w);
        if (w->first) { /* libdwfl has nothing to begin with */
            if (!add_bare(w, pc, w->exact))
                return;
            w->next = NEXT_GUESS;
        } else if (rc < 0 && w->next == NEXT_END) {
            w->thread->flags |= THREAD_BROKEN;
        }
        if (w->next == NEXT_CONTEXT)
            on = go_on_at_context(w);
        else if (w->next == NEXT_SWITCH && go_on_at_switch(w))
            on = true;
        else
            on = w->next != NEXT_END && (go_on_by_go_table(w) || go_on_by_guess(w)) &&
                 (w->regs[MACHINE_DWARF_SP] > sp || w->by_link);
    }
}

/* --- what libdwfl asks --- */

static struct walk *the_walk; /* set_initial_registers() is told the thread only */

static pid_t next_thread(Dwfl *dwfl, void *arg, void **thread_arg)
{
    return 0;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *arg, void **thread_arg)
{
    *thread_arg = the_walk;
    return true;
}

static bool memory_read(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *ret, void *arg)
{
    const struct look *l = arg;

    uint64_t code;

    if (!copies_read(&l->copies, address, ret, sizeof(*ret)))
        return false;
    code = machine_code(&the_walk->of->more, *ret);
    if (code != *ret && is_code(the_walk, code)) /* libdw takes signed return addresses for what they aren't */
        *ret = code;
    return true;
}

static bool set_registers(Dwfl_Thread *thread, void *arg)
{
    struct walk *w = arg;
    uint64_t pc = w->regs[MACHINE_DWARF_PC] - !w->exact;
    Dwarf_Word regs[MACHINE_DWARF_REGS];

    for (unsigned i = 0; i < MACHINE_DWARF_REGS; i++)
        regs[i] = w->regs[i];
    if (MACHINE_DWARF_LINK >= 0)
        regs[MACHINE_DWARF_LINK < 0 ? 0 : MACHINE_DWARF_LINK] = machine_code(&w->of->more, w->regs[MACHINE_DWARF_LINK < 0 ? 0 : MACHINE_DWARF_LINK]);
    regs[MACHINE_DWARF_PC] = pc;
    if (!dwfl_thread_state_registers(thread, 0, MACHINE_DWARF_REGS, regs))
        return false;
    dwfl_thread_state_register_pc(thread, pc);
    return true;
}

static const Dwfl_Thread_Callbacks callbacks = {
    .next_thread = next_thread,
    .get_thread = get_thread,
    .memory_read = memory_read,
    .set_initial_registers = set_registers,
};

static bool attach(const struct look *l, Dwfl *dwfl)
{
    static Elf64_Ehdr ours = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = CORE_MACHINE,
        .e_version = EV_CURRENT,
        .e_ehsize = sizeof(ours),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_shentsize = sizeof(Elf64_Shdr),
    };

    /* The machine is ours, whatever the program's files say. */
    return dwfl_attach_state(dwfl, elf_memory((char *)&ours, sizeof(ours)), l->view.pid, &callbacks, (void *)l);
}

/* What Go's runtime ends a program by, with an exit status of 2: src/runtime/panic.go, signal_unix.go. */
static bool is_panic(const char *name)
{
    static const char *const names[] = {"runtime.fatalpanic",    "runtime.dopanic_m", "runtime.throw",
                                        "runtime.fatalthrow",    "runtime.fatal",     "runtime.sighandler",
                                        "runtime.dieFromSignal", "runtime.badsignal", "runtime.startpanic_m",
                                        "runtime.fatalsignal"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        size_t n = strlen(names[i]);

        if (strncmp(name, names[i], n) == 0 && (!name[n] || name[n] == '.'))
            return true;
    }
    return false;
}

static bool has_panicked(struct symbols *s, const struct results *r)
{
    const struct result_list *bare = &r->threads[0].bare;

    for (uint32_t i = 0; i < bare->count; i++)
        if (is_panic(symbols_function(s, r->frames[bare->first + i].pc - 1, NULL)))
            return true;
    return false;
}

/* The goroutine that a thread runs, or has left for the stack of the thread just now. */
static void name_goroutines(const struct look *l, struct symbols *s, struct results *r)
{
    uint64_t place = 0;

    for (size_t i = 0; !place && i < l->view.thread_count; i++)
        if (l->view.threads[i].stands && look_go_g(l, &l->view.threads[i])) {
            place = symbols_goid_place(s);
            break;
        }
    for (size_t i = 0; place && place <= GO_G_SIZE - 8 && i < l->view.thread_count; i++) {
        uint64_t g = l->view.threads[i].stands ? look_go_g(l, &l->view.threads[i]) : 0, m, other, own, number;
        char text[32];

        if (!g || !copies_read(&l->copies, g + GO_G_M, &m, sizeof(m)))
            continue;
        for (uint64_t at = 0; at < GO_M_SIZE; at += 8)
            if (copies_read(&l->copies, m + at, &other, sizeof(other)) && other != m &&
                copies_read(&l->copies, other + GO_G_M, &own, sizeof(own)) && own == m &&
                copies_read(&l->copies, other + place, &number, sizeof(number)) && number) {
                snprintf(text, sizeof(text), "%llu", (unsigned long long)number); /* those of the runtime have none */
                r->threads[i].goroutine = results_add_text(r, text);
                break;
            }
    }
}

void unwind_all(const struct look *l, struct results *r)
{
    struct symbols *s = symbols_new(l);

    if (!s || !attach(l, symbols_dwfl(s)))
        return;
    for (size_t i = 0; i < l->view.thread_count; i++) {
        struct walk w = {.l = l, .symbols = s, .r = r, .thread = &r->threads[i]};

        r->threads[i].bare.first = r->frame_count;
        if (l->view.threads[i].stands) {
            the_walk = &w;
            unwind_thread(&w, &l->view.threads[i]);
        }
        r->threads[i].bare.done = 1;
        if (i == 0) {
            r->panicked = has_panicked(s, r);
            __atomic_store_n(&r->panic_known, 1, __ATOMIC_RELEASE);
        }
    }
    name_goroutines(l, s, r);
    for (size_t i = 0; i < l->view.thread_count; i++) {
        struct result_list *bare = &r->threads[i].bare, *named = &r->threads[i].named;

        named->first = r->frame_count;
        for (uint32_t k = 0; k < bare->count; k++)
            symbols_name(s, r, &r->frames[bare->first + k]);
        named->count = r->frame_count - named->first;
        __atomic_store_n(&named->done, 1, __ATOMIC_RELEASE);
    }
    r->finished = 1;
}
