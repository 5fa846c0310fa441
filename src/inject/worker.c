/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "inject/yama.h"

#define STACKS_MAX 8 /* that a thread may be on at once: its own, alternate ones */
#define CHUNK_WORDS 8192u /* holds more than one of Go's alternate stacks, 32 KiB each */
#define PAGE ARCH_PAGE
#define FRAME_ROOM ((ARCH_FRAME_MAX + ARCH_RED_ZONE + PAGE) & ~(PAGE - 1))
#define GO_FIRST_STACK UINT64_C(0x10000) /* what Go uses of the stack that the kernel has made, from where it began */

uint64_t worker_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int worker_run_(int (*fn)(void *), void *arg, void **ret_shared, size_t size)
{
    int status;
    pid_t pid;

    worker_done_(ret_shared, size);
    *ret_shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (*ret_shared == MAP_FAILED) {
        *ret_shared = NULL;
        return -ENOMEM;
    }
    pid = fork();
    if (pid == 0)
        _exit(-fn(arg));
    if (pid < 0)
        return -errno;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

void worker_done_(void **shared, size_t size)
{
    if (*shared)
        munmap(*shared, size);
    *shared = NULL;
}

static const char *error_text(int err)
{
    switch (err) {
    case EPERM:
    case EACCES:
        return yama_refusal();
    case ESRCH:
        return "there is no such process (any more)";
    case EINTR:
        return "whoever was about to do it was killed; the process goes on as it was";
    case ELIBEXEC:
        return "it may have no new code: MemoryDenyWriteExecute (PR_SET_MDWE or a seccomp filter), or SELinux";
    case ENOSPC:
        return "there is no free memory near its code";
    case ENOMEM:
        return "it has too little memory (ulimit -v)";
    case EMFILE:
        return "it has no descriptor free (ulimit -n)";
    case EFAULT:
        return "its stacks have no room";
    case EBUSY:
        return "none of its threads is on a stack that has room, while it runs Go code; try again";
    case ENOEXEC:
        return "it runs code of another kind";
    case ETIMEDOUT:
        return "one of its threads can't be stopped: it waits for a device or for a child that has not exec'ed yet; "
               "try "
               "again";
    case EAGAIN:
        return "it keeps starting programs or loading libraries; try again";
    case ENOTSUP:
        return "this kernel or CPU can't do it (no vDSO)";
    default:
        return strerror(err);
    }
}

int worker_explain(int rc, pid_t pid, char **ret_why)
{
    if (rc == -EPERM && !*ret_why)
        *ret_why = process_tracer(pid); /* since it was looked at: of two at once one loses */
    if (rc < 0 && !*ret_why)
        *ret_why = xstrdup(error_text(-rc));
    return rc;
}

int worker_open_mem(pid_t pid)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
    fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? (errno == ENOENT ? -ESRCH : -errno) : fd;
}

/* --- stacks --- */

/* Whether a thread has its thread pointer from a C library. */
static bool has_libc(const struct trace *t, const struct trace_thread *th)
{
    uint64_t tp = arch_thread_pointer(&th->regs), self;

    return tp && trace_read(t, tp, &self, sizeof(self)) == 0 && arch_is_libcs_pointer(tp, self);
}

/* Whether sp is on the stack that the kernel (first thread) or the C library has made for a thread; the latter keep
 * what the thread pointer points to at the upper end of it. */
static bool is_own_stack(const struct trace *t, const struct process_maps *m, const struct trace_thread *th, uint64_t sp)
{
    const struct process_map *v = process_map_at(m, sp);
    uint64_t tp = arch_thread_pointer(&th->regs);

    return v && (strcmp(v->name, "[stack]") == 0 || (sp < tp && tp < v->hi && has_libc(t, th)));
}

/* The upper end of what is never used at the lower end of the first thread's stack, if a Go runtime without a C library
 * runs on it (rt0_go() in its src/runtime/asm_*.s); 0: nothing. */
static uint64_t unused_stack(const struct trace *t, const struct process_maps *m)
{
    uint64_t start = process_start_stack(t->pid);
    const struct process_map *v = start ? process_map_at(m, start) : NULL;

    return v && start - v->lo >= GO_FIRST_STACK + FRAME_ROOM ? v->lo + FRAME_ROOM : 0;
}

enum where { OWN_STACK, UNUSED_STACK, ANY_STACK, WHERE_END };

/* The stack pointer below which a frame may be written to borrow a thread; 0: not there. */
static uint64_t room_for_frame(const struct trace *t, const struct process_maps *m, bool go,
                               const struct trace_thread *th, enum where where)
{
    uint64_t sp = arch_sp(&th->regs);

    switch (where) {
    case OWN_STACK:
        return is_own_stack(t, m, th, sp) ? sp : 0;
    case UNUSED_STACK:
        return go && !has_libc(t, th) ? unused_stack(t, m) : 0;
    default:
        return go ? 0 : sp;
    }
}

int worker_can_borrow(const struct trace *t, const struct trace_thread *threads, size_t count,
                      const struct process_maps *m, bool go)
{
    for (int where = 0; where < WHERE_END; where++)
        for (size_t i = 0; i < count; i++)
            if (room_for_frame(t, m, go, &threads[i], (enum where)where))
                return 0;
    return -EBUSY;
}

int worker_borrow(struct trace *t, struct trace_thread *threads, size_t count, const struct process_maps *m, bool go,
                  uint64_t vdso, struct trace_thread **ret)
{
    int rc = -EBUSY;

    /* Should we be killed, a call that only the kernel can continue would fail with EINTR: such threads come last. */
    for (int where = 0; where < WHERE_END; where++)
        for (int hidden = 0; hidden < 2; hidden++)
            for (size_t i = 0; i < count; i++) {
                uint64_t sp = room_for_frame(t, m, go, &threads[i], (enum where)where);

                if (!sp || arch_restart_hidden(&threads[i].regs) != hidden)
                    continue;
                *ret = &threads[i];
                rc = trace_borrow(t, &threads[i], vdso, sp);
                if (rc != -EFAULT && rc != -ENOEXEC)
                    return rc;
            }
    return rc;
}

int worker_borrow_one(struct trace *t, struct trace_thread *th, const struct process_maps *m, bool go, uint64_t vdso)
{
    for (int where = 0; where < WHERE_END; where++) {
        uint64_t sp = room_for_frame(t, m, go, th, (enum where)where);

        if (sp)
            return trace_borrow(t, th, vdso, sp);
    }
    return -EBUSY;
}

/* --- signal frames --- */

static void add_context(struct worker_context **list, size_t *count, uint64_t at, uint64_t pc)
{
    *list = xrealloc(*list, *count + 1, sizeof(**list));
    (*list)[(*count)++] = (struct worker_context){at, pc};
}

/* Frames in [sp, end). *stacks gets stack pointers that lie elsewhere. */
static int scan(const struct trace *t, uint64_t sp, uint64_t end, struct worker_context **list, size_t *count,
                uint64_t stacks[STACKS_MAX], unsigned *stack_count)
{
    static uint64_t words[CHUNK_WORDS];

    while (end - sp >= 3 * sizeof(*words)) {
        size_t n = (end - sp) / sizeof(*words) < CHUNK_WORDS ? (size_t)((end - sp) / sizeof(*words)) : CHUNK_WORDS,
               i = 0;
        uint64_t saved_sp = 0;
        int rc = trace_read(t, sp, words, n * sizeof(*words));

        if (rc < 0)
            return rc;
        while ((i = arch_find_context(words, i, n, &saved_sp)) < n) {
            add_context(list, count, sp + i * sizeof(*words), words[i]);
            if ((saved_sp < sp || saved_sp >= end) && *stack_count < STACKS_MAX)
                stacks[(*stack_count)++] = saved_sp;
            i++;
        }
        if (n < CHUNK_WORDS)
            break;
        sp += (n - 4) * sizeof(*words); /* a frame may lie across two pieces */
    }
    return 0;
}

/* Frames on the alternate stack that sp is on, if it is on one. */
static int scan_alternate(const struct trace *t, uint64_t sp, uint64_t end, struct worker_context **list, size_t *count,
                          uint64_t stacks[STACKS_MAX], unsigned *stack_count)
{
    static uint64_t words[CHUNK_WORDS];
    size_t n = (end - sp) / sizeof(*words) < CHUNK_WORDS ? (size_t)((end - sp) / sizeof(*words)) : CHUNK_WORDS;
    uint64_t saved_sp = 0;
    int rc = trace_read(t, sp, words, n * sizeof(*words));

    if (rc < 0)
        return rc;
    for (size_t i = 0; (i = arch_find_context(words, i, n, &saved_sp)) < n; i++) {
        if (!arch_context_alternate(words, i, sp + i * sizeof(*words), sp)) /* left over from another's signal */
            continue;
        add_context(list, count, sp + i * sizeof(*words), words[i]);
        if (*stack_count < STACKS_MAX)
            stacks[(*stack_count)++] = saved_sp & ~UINT64_C(7);
    }
    return 0;
}

int worker_contexts(const struct trace *t, const struct process_maps *m, const struct trace_thread *th, bool go,
                    struct worker_context **ret, size_t *ret_count)
{
    uint64_t stacks[STACKS_MAX] = {arch_sp(&th->regs) & ~UINT64_C(7)};
    unsigned n = 1;

    *ret = NULL;
    *ret_count = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct process_map *v = process_map_at(m, stacks[i]);
        uint64_t sp = stacks[i] & ~UINT64_C(7);
        int rc = 0;

        if (v && v->read)
            rc = (go && !is_own_stack(t, m, th, sp) ? scan_alternate : scan)(t, sp, v->hi, ret, ret_count, stacks, &n);
        if (rc < 0 && rc != -EFAULT) {
            free(*ret);
            *ret = NULL;
            return rc;
        }
    }
    return 0;
}

static int move_thread(struct trace *t, const struct process_maps *m, struct trace_thread *th, bool go,
                       bool (*move)(void *ctx, uint64_t pc, uint64_t *ret_to), void *ctx)
{
    struct worker_context *contexts;
    uint64_t to;
    size_t n;
    int rc = worker_contexts(t, m, th, go, &contexts, &n);

    for (size_t k = 0; rc == 0 && k < n; k++)
        if (move(ctx, contexts[k].pc, &to))
            rc = trace_write(t, contexts[k].at, &to, sizeof(to));
    if (rc == 0 && move(ctx, arch_pc(&th->regs), &to)) {
        struct arch_regs regs = th->regs;

        arch_set_pc(&regs, to);
        rc = trace_set_regs(th, &regs);
    }
    free(contexts);
    return rc;
}

int worker_move_threads(struct trace *t, const struct process_maps *m, struct trace_thread *threads, size_t count,
                        bool go, bool (*move)(void *ctx, uint64_t pc, uint64_t *ret_to), void *ctx)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = move_thread(t, m, &threads[i], go, move, ctx);
        if (rc == 0)
            trace_fault_point();
    }
    return rc;
}
