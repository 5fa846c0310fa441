/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/handlers.h"

#include <signal.h>
#include <sys/syscall.h>

#define SIGNALS 64

static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};

static uint64_t address(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

/* rt_sigaction(2); *ret: its result. */
static int action(struct trace *t, struct trace_thread *th, int sig, uint64_t new_, uint64_t old, int64_t *ret)
{
    return trace_call(t, th, SYS_rt_sigaction, (const uint64_t[6]){(uint64_t)sig, new_, old, sizeof(uint64_t)}, ret);
}

int handlers_install(struct trace *t, struct trace_thread *th, const struct probe_info *info)
{
    const bool yes = true;
    struct probe_crash c;
    int rc = trace_read(t, address(info->crash), &c, sizeof(c));

    if (rc == 0)
        rc = trace_write(t, address(c.own_stack), &yes, sizeof(yes));
    if (rc == 0)
        rc = trace_write(t, address(c.on), &yes, sizeof(yes));
    for (unsigned i = 0; rc == 0 && i < sizeof(fatal) / sizeof(fatal[0]); i++) {
        const uint64_t at = address(c.dfl) + (uint64_t)fatal[i] * sizeof(*c.dfl);
        struct probe_action now;
        int64_t got;

        rc = action(t, th, fatal[i], 0, at, &got);
        if (rc < 0 || got < 0)
            continue;
        rc = trace_read(t, at, &now, sizeof(now));
        if (rc == 0 && now.handler == (uint64_t)(uintptr_t)SIG_DFL)
            rc = action(t, th, fatal[i], address(c.ours), 0, &got);
    }
    return rc;
}

int handlers_are_set(const struct trace *t, const struct probe_info *info, bool *ret)
{
    struct probe_crash c;
    int rc = trace_read(t, address(info->crash), &c, sizeof(c));

    *ret = false;
    return rc < 0 ? rc : trace_read(t, address(c.on), ret, sizeof(*ret));
}

/* What the kernel shall be told of a signal, at an address in the process; 0: nothing. scratch: the action there is
 * now. */
static int right_action(struct trace *t, const struct probe_crash *c, uint64_t ours, uint64_t onstack, int sig,
                        uint64_t scratch, uint64_t *ret)
{
    struct probe_action now;
    int rc = trace_read(t, scratch, &now, sizeof(now));

    *ret = 0;
    if (rc < 0)
        return rc;
    if (sig < 32 && now.handler == ours) {
        *ret = address(c->dfl) + (uint64_t)sig * sizeof(*c->dfl);
    } else if (sig < 32 && now.handler == c->once_handler) {
        *ret = address(c->once) + (uint64_t)sig * sizeof(*c->once);
    } else if (onstack >> (sig - 1) & 1 && now.handler > (uint64_t)(uintptr_t)SIG_IGN) {
        now.flags |= SA_ONSTACK;
        *ret = scratch;
        rc = trace_write(t, scratch, &now, sizeof(now));
    }
    return rc;
}

int handlers_restore(struct trace *t, struct trace_thread *th, const struct probe_info *info)
{
    const bool no = false;
    struct probe_action ours = {0};
    uint64_t onstack = 0, scratch;
    struct probe_crash c;
    int rc = trace_read(t, address(info->crash), &c, sizeof(c));

    if (rc == 0)
        rc = trace_read(t, address(c.ours), &ours, sizeof(ours));
    if (rc == 0)
        rc = trace_read(t, address(c.onstack), &onstack, sizeof(onstack));
    scratch = rc == 0 ? address(c.once) : 0; /* of signal 0, which there is not */
    for (int sig = 1; rc == 0 && sig <= SIGNALS; sig++) {
        uint64_t right;
        int64_t got;

        rc = action(t, th, sig, 0, scratch, &got);
        if (rc < 0 || got < 0)
            continue;
        rc = right_action(t, &c, ours.handler, onstack, sig, scratch, &right);
        if (rc == 0 && right)
            rc = action(t, th, sig, right, 0, &got);
    }
    return rc < 0 ? rc : trace_write(t, address(c.on), &no, sizeof(no));
}
