/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/look.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "crash/notes.h"
#include "core_arch.h"
#include "inject/regs.h"
#include "machine.h"

#define RED_ZONE 128u
#define TLS_SIZE 256u  /* bytes near the thread pointer among which Go's variable is looked for */
#define GO_ASKED 4u    /* threads: if none of the first ones is Go's, none is */
#define SLOT_SIZE 128u /* src/probe/arch: of which the first word matters */
#define SLOT_WORDS 1024u
#define SLOTS_MAX 64u
#define AUXV_MAX 4096

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- while it runs --- */

static int open_perf_map(const struct look *l)
{
    char path[64];
    struct stat st;
    int fd;

    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)l->facts.own_pid);
    fd = facts_open_below(l->root, path);
    if (fd < 0)
        return -1;
    /* Anybody can put a file there: it must be the process's own. */
    if (fstat(fd, &st) < 0 || st.st_uid != l->facts.uid[1] || st.st_size > PERF_MAP_MAX) {
        close(fd);
        return -1;
    }
    return fd;
}

static void read_auxv(struct look *l)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/auxv", (int)l->view.pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    l->view.auxv = xmalloc(AUXV_MAX);
    n = read(fd, l->view.auxv, AUXV_MAX);
    l->view.auxv_size = n > 0 ? (size_t)n : 0;
    close(fd);
}

int look_prepare(struct look *l, const struct crash_cause *cause, int with_environment, unsigned timeout_ms)
{
    char path[64];
    int rc;

    *l = (struct look){.root = -1, .perf = -1};
    l->view = (struct crash_view){.cause = cause, .pid = cause->pid, .own_pid = cause->pid, .mem = -1};
    l->view.deadline = now_ns() + (uint64_t)timeout_ms * 1000000;
    trace_init(&l->trace, cause->pid, timeout_ms);
    snprintf(path, sizeof(path), "/proc/%d/root", (int)cause->pid);
    l->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    rc = process_maps(cause->pid, &l->view.maps);
    if (rc < 0)
        return rc;
    facts_take(&l->facts, cause->pid, l->root, with_environment);
    l->view.own_pid = l->facts.own_pid;
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)cause->pid);
    l->view.mem = open(path, O_RDONLY | O_CLOEXEC);
    read_auxv(l);
    modules_take(&l->modules, cause->pid, &l->view.maps);
    l->perf = open_perf_map(l);
    return 0;
}

/* --- registers --- */

static void *read_xstate(pid_t tid, size_t *ret_size)
{
    uint8_t *bytes = xmalloc(CRASH_XSTATE_MAX);
    struct iovec iov = {bytes, CRASH_XSTATE_MAX};

    if (ptrace(PTRACE_GETREGSET, tid, CORE_XSTATE, &iov) < 0 || !iov.iov_len) {
        free(bytes);
        return NULL;
    }
    *ret_size = iov.iov_len;
    return bytes;
}

static void read_more(pid_t tid, machine_more *ret)
{
    for (size_t i = 0; i < machine_note_count; i++) {
        const struct machine_note *n = &machine_notes[i];
        struct iovec iov = {(char *)ret + n->offset, n->size};

        if (ptrace(PTRACE_GETREGSET, tid, n->type, &iov) == 0 && iov.iov_len == n->size)
            ret->have |= UINT64_C(1) << i;
        else
            memset((char *)ret + n->offset, 0, n->size);
    }
}

/* What the thread was doing when the signal came, out of the frame that the kernel made. False: it isn't there. */
static bool take_context(const struct look *l, struct crash_thread *th)
{
    const struct crash_cause *cause = l->view.cause;
    uint8_t context[MACHINE_CONTEXT_SIZE], fp[MACHINE_FP_SIZE];
    uint64_t fp_at = 0;
    size_t size;

    if (!cause->context || process_read(l->view.pid, cause->context, context, sizeof(context)) < 0)
        return false;
    machine_from_context(context, cause->context, &th->regs, &fp_at, &th->sigmask);
    th->from_context = true;
    if (!fp_at || process_read(l->view.pid, fp_at, fp, sizeof(fp)) < 0)
        return true;
    if (!machine_fp_from_frame(fp, &th->fp))
        return true;
    size = machine_xstate_size(fp);
    if (size > CRASH_XSTATE_MAX)
        return true;
    free(th->xstate);
    th->xstate = NULL; /* it is what the handler has now */
    if (!size)
        return true;
    th->xstate = xcalloc(1, size);
    th->xstate_size = size;
    if (process_read(l->view.pid, fp_at, th->xstate, size) < 0)
        memcpy(th->xstate, fp, sizeof(fp));
    machine_xstate_from_frame(th->xstate, size);
    return true;
}

static void make_siginfo(const struct crash_cause *cause, struct crash_thread *th)
{
    th->has_siginfo = cause->signo != 0;
    th->siginfo.si_signo = cause->signo;
    th->siginfo.si_code = cause->code;
    th->siginfo.si_errno = cause->err;
    if (cause->code <= 0) {
        th->siginfo.si_pid = cause->sender;
        th->siginfo.si_uid = cause->sender_uid;
    } else {
        th->siginfo.si_addr = (void *)(uintptr_t)cause->addr; // NOLINT(performance-no-int-to-ptr)
    }
}

/* The number of a thread as the process sees it. */
static pid_t own_number(const struct look *l, pid_t tid)
{
    char path[64], line[512];
    pid_t own = tid;
    FILE *f;

    if (l->facts.own_pid == l->view.pid)
        return tid;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)l->view.pid, (int)tid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) /* in a namespace of its own */
        if (strncmp(line, "NSpid:", 6) == 0)
            own = (pid_t)strtol(strrchr(line, '\t') ? strrchr(line, '\t') : "0", NULL, 10);
    if (f)
        fclose(f);
    return own;
}

static void name_thread(const struct look *l, struct crash_thread *th)
{
    const struct fact_task *known = facts_task(&l->facts, th->tid);
    char path[64], text[32] = "";
    ssize_t n;
    int fd;

    if (known) {
        memcpy(th->comm, known->comm, sizeof(th->comm));
        th->state = known->state;
    } else {
        snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)l->view.pid, (int)th->tid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
        text[n > 0 ? n : 0] = '\0';
        snprintf(th->comm, sizeof(th->comm), "%.*s", (int)strcspn(text, "\n"), text);
        if (fd >= 0)
            close(fd);
    }
    th->own_tid = own_number(l, th->tid);
}

static void take_thread(struct look *l, const struct trace_thread *from, bool stands)
{
    struct crash_thread *th = &l->view.threads[l->view.thread_count++];
    struct iovec iov = {&th->fp, sizeof(th->fp)};

    th->tid = from->tid;
    name_thread(l, th);
    th->stands = stands;
    if (stands) {
        th->regs = from->regs.user;
        read_more(th->tid, &th->more);
        if (l->core) {
            if (ptrace(PTRACE_GETREGSET, th->tid, NT_FPREGSET, &iov) < 0)
                memset(&th->fp, 0, sizeof(th->fp));
            th->xstate = read_xstate(th->tid, &th->xstate_size);
            if (ptrace(PTRACE_GETSIGMASK, th->tid, sizeof(th->sigmask), &th->sigmask) < 0)
                th->sigmask = 0;
        }
    }
    if (l->view.cause->tid && th->tid == l->view.cause->tid) {
        make_siginfo(l->view.cause, th);
        if (take_context(l, th))
            th->stands = true; /* as good as */
    }
}

/* --- memory --- */

/* What is mapped at the address, or not far above it: a stack that has overflowed. */
static const struct process_map *stack_map(const struct look *l, uint64_t sp)
{
    const struct process_maps *maps = &l->view.maps;

    for (size_t i = 0; i < maps->count; i++)
        if (maps->v[i].hi > sp && maps->v[i].read)
            return maps->v[i].lo <= sp || maps->v[i].lo - sp <= LOOK_STACK_MAX ? &maps->v[i] : NULL;
    return NULL;
}

static void copy_stack(struct look *l, uint64_t sp)
{
    const struct process_map *m = stack_map(l, sp);
    uint64_t lo, hi;

    if (!m)
        return;
    if (sp < m->lo)
        sp = m->lo;
    lo = sp - m->lo > RED_ZONE ? sp - RED_ZONE : m->lo;
    hi = m->hi - sp > LOOK_STACK_MAX ? sp + LOOK_STACK_MAX : m->hi;
    copies_take(&l->copies, l->view.pid, lo & ~UINT64_C(7), hi);
}

/* Stacks that the handlers on this one have interrupted lie elsewhere, where they are on an alternate one. */
static void copy_stacks(struct look *l, uint64_t sp)
{
    uint64_t stacks[LOOK_STACKS_MAX] = {sp};
    unsigned n = 1;

    for (unsigned i = 0; i < n; i++) {
        const struct copy *c;
        const uint64_t *words;
        size_t count, at;
        uint64_t saved = 0;

        copy_stack(l, stacks[i]);
        c = copies_at(&l->copies, stacks[i] & ~UINT64_C(7));
        if (!c)
            continue;
        words = (const uint64_t *)(const void *)(c->bytes + ((stacks[i] & ~UINT64_C(7)) - c->lo));
        count = (size_t)(c->hi - (stacks[i] & ~UINT64_C(7))) / sizeof(*words);
        for (at = 0; n < LOOK_STACKS_MAX && (at = arch_find_context(words, at, count, &saved)) < count; at++)
            if (!copies_at(&l->copies, saved))
                stacks[n++] = saved;
    }
}

static uint64_t word_at(const struct look *l, uint64_t address)
{
    uint64_t v;

    if (copies_read(&l->copies, address, &v, sizeof(v)))
        return v;
    return process_map_at(&l->view.maps, address) && process_read(l->view.pid, address, &v, sizeof(v)) == 0 ? v : 0;
}

static bool is_go_g(const struct look *l, uint64_t g)
{
    uint64_t m, g0;

    if (g & 7 || !process_map_at(&l->view.maps, g))
        return false;
    m = word_at(l, g + GO_G_M);
    if (!m || m & 7 || m == g)
        return false;
    g0 = word_at(l, m); /* its first member */
    return g0 && word_at(l, g0 + GO_G_M) == m;
}

uint64_t look_go_g(const struct look *l, const struct crash_thread *th)
{
    uint64_t tp = machine_thread_pointer(&th->regs, &th->more), dwarf[MACHINE_DWARF_REGS], words[TLS_SIZE / 8];

    machine_to_dwarf(&th->regs, dwarf);
    if (tp && copies_read(&l->copies, tp + (uint64_t)MACHINE_GO_TLS, words, sizeof(words)))
        for (size_t i = TLS_SIZE / 8; i-- > 0;)
            if (is_go_g(l, words[i]))
                return words[i];
    return is_go_g(l, dwarf[MACHINE_DWARF_GO_G]) ? dwarf[MACHINE_DWARF_GO_G] : 0;
}

/* What is needed to tell which goroutine it is, and to go on in its stack from that of the scheduler. */
static bool copy_goroutine(struct look *l, const struct crash_thread *th)
{
    uint64_t tp = machine_thread_pointer(&th->regs, &th->more), g, m;
    pid_t pid = l->view.pid;

    if (tp)
        copies_take(&l->copies, pid, tp + (uint64_t)MACHINE_GO_TLS, tp + (uint64_t)MACHINE_GO_TLS + TLS_SIZE);
    g = look_go_g(l, th);
    if (!g)
        return false;
    copies_take(&l->copies, pid, g, g + GO_G_SIZE);
    m = word_at(l, g + GO_G_M);
    copies_take(&l->copies, pid, m, m + GO_M_SIZE);
    for (uint64_t at = m; at < m + GO_M_SIZE; at += 8) {
        uint64_t other = word_at(l, at);

        if (other && other != m && !(other & 7) && word_at(l, other + GO_G_M) == m) {
            copies_take(&l->copies, pid, other, other + GO_G_SIZE);
            copy_stack(l, word_at(l, other + GO_G_SCHED_SP));
        }
    }
    return true;
}

/* A hook's frame says where its slot is, and the slot where the program goes on: unwinding reads both. */
static void copy_slots(struct look *l, const struct crash_thread *th)
{
    uint64_t sp = machine_sp(&th->regs) & ~UINT64_C(7), word;
    unsigned left = SLOTS_MAX;

    for (unsigned i = 0; left && i < SLOT_WORDS && copies_read(&l->copies, sp + 8 * (uint64_t)i, &word, sizeof(word));
         i++) {
        const struct process_map *m = process_map_at(&l->view.maps, word);

        if (!m || !m->execute || m->inode || copies_at(&l->copies, word))
            continue;
        copies_take(&l->copies, l->view.pid, word, word + SLOT_SIZE < m->hi ? word + SLOT_SIZE : m->hi);
        left--;
    }
}

static bool is_observed(const struct look *l)
{
    for (size_t i = 0; i < l->modules.count; i++)
        if (l->modules.v[i].probe)
            return true;
    return false;
}

/* --- the stop --- */

static int by_cause(const struct look *l, pid_t tid)
{
    return tid == (l->view.cause->tid ? l->view.cause->tid : l->view.pid) ? 0 : 1;
}

/* Where ptrace is refused: the threads' names, and what the cause tells. */
static void take_unstopped(struct look *l)
{
    l->view.threads = xcalloc(l->facts.task_count + 1, sizeof(*l->view.threads));
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < l->facts.task_count; i++)
            if (by_cause(l, l->facts.tasks[i].tid) == pass) {
                struct trace_thread th = {.tid = l->facts.tasks[i].tid};

                take_thread(l, &th, false);
            }
}

struct noted {
    struct look *l;
    pid_t *own; /* of each of facts.tasks */
};

static void take_noted(void *ctx, struct crash_thread *th)
{
    const struct noted *n = ctx;
    struct look *l = n->l;

    for (size_t i = 0; i < l->facts.task_count; i++)
        if (n->own[i] == th->own_tid && l->view.thread_count < l->facts.task_count) {
            th->tid = l->facts.tasks[i].tid;
            name_thread(l, th);
            l->view.threads[l->view.thread_count++] = *th;
            return;
        }
    free(th->xstate);
    l->error = -ESRCH;
}

/* Threads that the kernel has stopped for good. */
static void take_notes(struct look *l)
{
    struct noted n = {l, xcalloc(l->facts.task_count + 1, sizeof(pid_t))};

    for (size_t i = 0; i < l->facts.task_count; i++)
        n.own[i] = own_number(l, l->facts.tasks[i].tid);
    l->view.threads = xcalloc(l->facts.task_count + 1, sizeof(*l->view.threads));
    if (!notes_threads(l->notes, l->notes_size, take_noted, &n))
        l->error = -ESRCH;
    free(n.own);
}

void look_stop(struct look *l)
{
    bool observed = is_observed(l), go = false;
    unsigned asked = 0;
    struct process_maps maps;

    l->since = now_ns();
    if (l->notes)
        take_notes(l);
    else
        l->error = trace_stop_those(&l->trace, LOOK_STOP_MS, &l->threads, &l->standing, &l->count);
    if (l->notes) {
        /* nothing changes any more */
    } else if (l->error < 0) {
        take_unstopped(l);
    } else {
        if (process_maps(l->view.pid, &maps) == 0) {
            process_maps_free(&l->view.maps);
            l->view.maps = maps;
        }
        l->view.threads = xcalloc(l->count, sizeof(*l->view.threads));
        for (int pass = 0; pass < 2; pass++)
            for (size_t i = 0; i < l->count; i++)
                if (by_cause(l, l->threads[i].tid) == pass)
                    take_thread(l, &l->threads[i], i < l->standing);
        if (l->standing < l->count)
            l->error = -ETIMEDOUT;
    }
    for (size_t i = 0; i < l->view.thread_count; i++) {
        struct crash_thread *th = &l->view.threads[i];

        if (!th->stands)
            continue;
        copy_stacks(l, machine_sp(&th->regs));
        if (i == 0 && l->view.cause->tid && !l->view.cause->signo && l->view.cause->addr)
            copy_stacks(l, l->view.cause->addr);
        if (go || asked < GO_ASKED) {
            go |= copy_goroutine(l, th);
            asked++;
        }
        if (observed)
            copy_slots(l, th);
    }
}

void look_let_go(struct look *l)
{
    if (!l->standing)
        return;
    trace_let_go_standing(l->threads, l->standing);
    l->stopped_ns = now_ns() - l->since;
    l->count -= l->standing;
    memmove(l->threads, l->threads + l->standing, l->count * sizeof(*l->threads));
    l->standing = 0;
}

void look_finish(struct look *l)
{
    look_let_go(l);
    if (l->threads)
        trace_let_go_those(&l->trace, l->threads, 0, l->count);
    l->threads = NULL;
    l->count = 0;
}
