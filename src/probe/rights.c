/* SPDX-License-Identifier: Apache-2.0 */
#include "rights.h"

#include <linux/prctl.h>
#include <linux/seccomp.h>

#include "crash.h"
#include "descriptors.h"
#include "uring.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define PR_SYS_DISPATCH_INCLUSIVE_ON_ 2
#define SANDBOX_FDS 32

HIDDEN __attribute__((noinline)) bool dispatched(const struct plan_slot *slot)
{
    const struct thread *t = thread_left();
    const struct dispatch *d = t ? &t->dispatch : NULL;

    if (!d || !d->on || t->owner != process->pid || t->child_pid || (d->selector && !*d->selector))
        return false;
    return (slot->site_pc - d->lo < d->len) == d->inclusive;
}

/* A vfork child gives up what its parent keeps, but what we remember of it lies in the memory of both. So this is put
 * back when the parent goes on: what there was before the first child did so, or has become of the process meanwhile. */
static struct {
    uint32_t count; /* threads whose children have given up something */
    uint32_t wakes;
    uint8_t sandboxed, no_ticks;
} kept;

/* The slot on which a vfork child runs, if the caller is one. */
static struct thread *visited(void)
{
    struct thread *t = process->vforks ? thread_left() : NULL;

    return t && t->child_pid ? t : NULL;
}

/* Before the caller gives up something. */
static void rights_keep(const struct segment_header *s)
{
    struct thread *t = visited();

    if (!t || t->rights)
        return;
    t->rights = true;
    if (__atomic_fetch_add(&kept.count, 1, __ATOMIC_SEQ_CST))
        return;
    kept.wakes = s->wakes;
    kept.sandboxed = probe.sandboxed;
    kept.no_ticks = probe_no_ticks;
}

/* After the process itself has done so while a child of it had. */
static void rights_given(const struct segment_header *s)
{
    if (likely(!kept.count) || visited())
        return;
    kept.wakes = s->wakes;
    kept.sandboxed = probe.sandboxed;
    kept.no_ticks = probe_no_ticks;
}

HIDDEN void rights_back(struct segment_header *s, struct thread *t)
{
    if (likely(!t->rights))
        return;
    t->rights = false;
    if (__atomic_sub_fetch(&kept.count, 1, __ATOMIC_SEQ_CST))
        return;
    probe.sandboxed = kept.sandboxed;
    probe_no_ticks = kept.no_ticks;
    s->wakes = kept.wakes;
}

static bool was_timed; /* before a call that may forbid reading the time stamp counter */

HIDDEN void enter_prctl(struct segment_header *s, enum op_id op, struct regs *r)
{
    uint32_t what = (uint32_t)r->arg0; /* int: the kernel doesn't look at the upper half */
    bool strict = op == OP_prctl ? what == PR_SET_SECCOMP && r->arg1 == SECCOMP_MODE_STRICT
                                 : what == SECCOMP_SET_MODE_STRICT;
    bool dispatch = op == OP_prctl && what == PR_SET_SYSCALL_USER_DISPATCH_ && r->arg1;
    bool filter = op == OP_prctl ? what == PR_SET_SECCOMP && r->arg1 == SECCOMP_MODE_FILTER
                                 : what == SECCOMP_SET_MODE_FILTER;
    uint8_t sandboxed = kept.count && !visited() ? kept.sandboxed : probe.sandboxed;

    /* Calls of ours would come to the program as SIGSYS. */
    if (dispatch)
        filter = true;
    if (op == OP_prctl && what == PR_SET_TSC)
        rights_keep(s);
    if (op == OP_prctl && what == PR_SET_TSC && (int)r->arg1 == PR_TSC_SIGSEGV)
        probe_no_ticks = 1;
    if (op == OP_prctl && what == PR_SET_TSC && (int)r->arg1 == PR_TSC_ENABLE && probe.clock == SEG_CLOCK_TSC)
        probe_no_ticks = 0;
    if (op == OP_prctl && what == PR_SET_TSC)
        rights_given(s);
    if ((strict || filter) && (!sandboxed || (sandboxed == SANDBOX_DISPATCH && !dispatch))) {
        rights_keep(s);
        for (int fd = 0; !probe.sandboxed && fd < SANDBOX_FDS && !foreign(); fd++) { /* the last chance to learn this */
            struct fd_entry *e = fd_entry(s, fd);

            if (e && !(e->state & FDS_READS))
                kind_of_fd(fd, e);
        }
        for (int fd = 0; !probe.sandboxed && fd < GUEST_ASKED && process->slow & SLOW_BORROWED; fd++) {
            struct fd_entry e = {0};
            enum fd_kind kind = kind_of_fd(fd, &e);

            guest_fds[fd] = (uint8_t)(kind | (e.state & FDS_READS ? GUEST_READS : 0));
        }
        if (unlikely(probe.mode & SEG_M_CRASH) && !sandboxed) {
            if (dispatch)
                crash_leave();
            else
                crash_sandbox();
        }
        was_timed = !probe_no_ticks;
        if (strict) /* it disables the counter too, if the kernel was built so */
            probe_no_ticks = 1;
        /* No writer may wake the collector any more: it stays awake from now on. */
        // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): hooks are given a segment
        __atomic_store_n(&s->wakes, 0, ORDER_WAKES_SET);
        ring_rouse_slow(s);
        probe.sandboxed = SANDBOX_ASKED; /* until the result is known */
    }
}

HIDDEN void leave_dispatch(struct segment_header *s, struct thread *t, const struct regs *r)
{
    bool on = (int64_t)r->result >= 0 && r->arg1;

    if ((int64_t)r->result >= 0 && t && !t->child_pid) { /* it is the thread's, not that of who runs on its slot */
        dispatching += (uint32_t)on - (uint32_t)t->dispatch.on;
        t->dispatch = (struct dispatch){on, r->arg1 == PR_SYS_DISPATCH_INCLUSIVE_ON_, r->arg2, r->arg3,
                                        (const volatile uint8_t *)r->arg4};
    }
    if (probe.sandboxed == SANDBOX_ASKED)
        probe.sandboxed = on ? SANDBOX_DISPATCH : 0;
    else if (probe.sandboxed == SANDBOX_DISPATCH && !dispatching)
        probe.sandboxed = 0;
    else
        return;
    s->wakes = !probe.sandboxed;
    rights_given(s);
    if (on)
        ring_note(s, NOTE_DISPATCH, NULL, 0);
}

HIDDEN void leave_prctl(struct segment_header *s, int64_t ret)
{
    probe.sandboxed = ret >= 0 ? SANDBOX_SECCOMP : dispatching ? SANDBOX_DISPATCH : 0;
    if (ret < 0) {
        if (was_timed)
            probe_no_ticks = 0;
        s->wakes = !probe.sandboxed;
        rights_given(s);
        if (unlikely(probe.mode & SEG_M_CRASH) && !probe.sandboxed)
            crash_no_sandbox();
        return;
    }
    rights_given(s);
    ring_note(s, NOTE_SECCOMP, NULL, 0);
    if (uring_count)
        ring_note(s, NOTE_IO_URING, NULL, 0);
}
