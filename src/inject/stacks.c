/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/stacks.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "base/mem.h"
#include "inject/worker.h"

#define COUNT_MAX 65536u /* the probe's memory is the program's */
#define PAGE ARCH_PAGE

static uint64_t address(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

int stacks_read(struct stacks *s, const struct trace *t, const struct probe_info *info)
{
    int rc = trace_read(t, address(info->crash), &s->crash, sizeof(s->crash));

    s->count = 0;
    s->at = NULL;
    if (rc < 0)
        return rc;
    if (s->crash.stack_count > COUNT_MAX)
        return -EPROTO;
    s->at = xcalloc(s->crash.stack_count + 1, sizeof(*s->at));
    rc = trace_read(t, address(s->crash.stacks), s->at, s->crash.stack_count * sizeof(*s->at));
    for (size_t i = 0; rc == 0 && i < s->crash.stack_count; i++)
        s->count += s->at[i] != 0;
    return rc;
}

void stacks_free(struct stacks *s)
{
    free(s->at);
    s->at = NULL;
}

static bool is_one(const struct stacks *s, const stack_t *st)
{
    for (size_t i = 0; st->ss_sp && i < s->crash.stack_count; i++)
        if (s->at[i] && address(st->ss_sp) == s->at[i] + PAGE)
            return true;
    return false;
}

/* A handler that is under way has kept what there was when it began. */
static int clear_frames(const struct stacks *s, const struct trace *t, const struct process_maps *m,
                        const struct trace_thread *th, bool go)
{
    const stack_t none = {.ss_flags = SS_DISABLE};
    struct worker_context *contexts;
    size_t n;
    int rc = worker_contexts(t, m, th, go, &contexts, &n);

    for (size_t k = 0; rc == 0 && k < n; k++) {
        const uint64_t at = arch_context_stack(contexts[k].at);
        stack_t st;

        if (trace_read(t, at, &st, sizeof(st)) < 0 || !is_one(s, &st)) /* no frame, if it isn't there */
            continue;
        trace_fault_point();
        rc = trace_write(t, at, &none, sizeof(none));
    }
    free(contexts);
    return rc;
}

/* sigaltstack(2) of a borrowed thread; what it gets and tells is in memory of the probe's. */
static int take(const struct stacks *s, struct trace *t, struct trace_thread *th, bool *ret_used)
{
    const stack_t none = {.ss_flags = SS_DISABLE};
    const uint64_t at = address(s->crash.once); /* of signal 0, which there is not */
    stack_t st = none;
    int64_t got;
    int rc;

    _Static_assert(sizeof(st) <= sizeof(*s->crash.once), "has room for one");
    rc = trace_call(t, th, SYS_sigaltstack, (const uint64_t[6]){0, at}, &got);
    if (rc == 0 && got == 0)
        rc = trace_read(t, at, &st, sizeof(st));
    if (rc < 0 || got < 0 || !is_one(s, &st)) {
        *ret_used |= got < 0;
        return rc;
    }
    rc = trace_write(t, at, &none, sizeof(none));
    if (rc == 0)
        rc = trace_call(t, th, SYS_sigaltstack, (const uint64_t[6]){at, 0}, &got);
    *ret_used |= rc == 0 && got < 0; /* EPERM: a handler of the program runs there */
    return rc;
}

int stacks_take(struct stacks *s, struct trace *t, const struct process_maps *m, struct trace_thread *threads,
                size_t count, bool go, uint64_t vdso, bool *ret_used)
{
    const bool yes = true;
    int rc = 0;

    *ret_used = false;
    if (!s->count)
        return 0;
    rc = trace_write(t, address(s->crash.own_stack), &yes, sizeof(yes));
    for (size_t i = 0; rc == 0 && i < count; i++) {
        int undo;

        rc = clear_frames(s, t, m, &threads[i], go);
        if (rc < 0)
            break;
        rc = worker_borrow_one(t, &threads[i], m, go, vdso);
        if (rc == -EBUSY || rc == -EFAULT || rc == -ENOEXEC) {
            *ret_used = true;
            rc = 0;
            continue;
        }
        if (rc < 0)
            break;
        rc = take(s, t, &threads[i], ret_used);
        undo = trace_return(t, &threads[i]);
        rc = rc < 0 ? rc : undo;
    }
    return rc;
}

int stacks_unmap(struct stacks *s, struct trace *t, struct trace_thread *th)
{
    const uint64_t none = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < s->crash.stack_count; i++) {
        int64_t got;

        if (!s->at[i])
            continue;
        rc = trace_call(t, th, SYS_munmap, (const uint64_t[6]){s->at[i], s->crash.stack_size}, &got);
        if (rc == 0)
            rc = trace_write(t, address(s->crash.stacks) + i * sizeof(none), &none, sizeof(none));
    }
    return rc;
}
