/* SPDX-License-Identifier: Apache-2.0 */
#include "tasks.h"

#include <linux/sched.h>

#include "descriptors.h"
#include "exec.h"
#include "rights.h"

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN uint64_t clone_flags(const struct regs *r, enum op_id op)
{
    uint64_t f = 0;

    switch (op) {
    case OP_clone: return r->arg0;
    case OP_vfork: return CLONE_VM | CLONE_VFORK;
    case OP_clone3:
        if (r->arg1 >= 8 && (probe.sandboxed ? mem_plausible((const void *)r->arg0) : mem_readable((const void *)r->arg0, 8)))
            __builtin_memcpy(&f, (const void *)r->arg0, 8);
        return f;
    default: return 0;
    }
}

HIDDEN void enter_clone(struct segment_header *s, enum op_id op, struct thread *t, struct regs *r, bool constant)
{
    struct process *p = process;
    uint64_t flags = clone_flags(r, op);
    struct record rec = {.kind = REC_ENTER, .op = (uint16_t)op, .time = now(),
                         .arg = {flags, r->arg1, r->arg2, r->arg3, r->arg4}};

    if (t && !(flags & CLONE_THREAD)) {
        do
            rec.arg[5] = (__atomic_fetch_add(&s->forks, 1, __ATOMIC_RELAXED) + 1) & ~REC_PID_FORK;
        while (!rec.arg[5]);
    }
    if (t)
        t->fork = (uint32_t)rec.arg[5];
    if (probe.sandboxed && !(flags & CLONE_VM) && !foreign())
        guest_prepare(s);
    if ((flags & CLONE_VM) && (flags & CLONE_VFORK)) {
        __atomic_fetch_add(&p->vforks, 1, __ATOMIC_RELAXED);
    } else if (flags & CLONE_VM) {
        p->multi = 1;
        if (!constant)
            __atomic_fetch_add(&p->clones, 1, __ATOMIC_RELAXED);
        if (!(flags & CLONE_THREAD))
            __atomic_fetch_or(&p->slow, SLOW_FOREIGN, __ATOMIC_RELAXED);
        if (flags & CLONE_SETTLS) { /* a thread pointer may be used again before its old slot was freed */
            if (op == OP_clone)
                thread_stale(regs_arg(r, ARCH_CLONE_TLS));
            else if (r->arg1 >= 64 && mem_readable((const void *)r->arg0, 64))
                thread_stale(((const uint64_t *)r->arg0)[7]);
        }
    }
    if (!(flags & CLONE_THREAD))
        ring_write(s, &rec, NULL, 0);
}

HIDDEN void after_clone(struct call *c, struct thread *t, bool constant)
{
    uint64_t flags = clone_flags(c->r, c->op);

    c->has_arg5 = true;
    c->arg5 = t && !(flags & CLONE_THREAD) ? t->fork : 0;
    if (t)
        t->fork = 0;
    if (c->ret < 0 && !constant && (flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM)
        __atomic_fetch_sub(&process->clones, 1, __ATOMIC_RELAXED);
    if ((flags & (CLONE_VM | CLONE_VFORK)) == (CLONE_VM | CLONE_VFORK)) { /* the child is gone or has exec'ed */
        if (t) {
            t->child_pid = 0;
            rights_back(c->s, t); /* first: it says whether we may make calls */
            call_drop_child(t);
            if (t->traced && (flags & CLONE_FILES)) /* the exec gave the child a table of its own */
                own_close(t->traced - 1);
            exec_release(t);
        }
        if (process->vforks) /* not one that began before we came */
            __atomic_fetch_sub(&process->vforks, 1, __ATOMIC_RELAXED);
    }
    call_record(c, REC_CALL);
}

/* What the kernel has told a forked child of its number: the C library has it written into its thread descriptor. 0: no
 * more can be read safely. */
static uint32_t own_number(const struct regs *r, enum op_id op, uint64_t flags)
{
    uint64_t at = 0, descriptor = arch_thread_pointer() - ARCH_DESCRIPTOR_BELOW;

    if (flags & CLONE_CHILD_SETTID)
        at = op == OP_clone ? regs_arg(r, ARCH_CLONE_CHILD_TID) : op == OP_clone3 && r->arg1 >= 24 ? ((const uint64_t *)r->arg0)[2] : 0;
    return at && at >= descriptor && at - descriptor < ARCH_DESCRIPTOR_BELOW + ARCH_DESCRIPTOR_ABOVE && at % 4 == 0 ? *(const uint32_t *)at : 0;
}

HIDDEN void born(const struct regs *r, enum op_id op)
{
    uint64_t flags = clone_flags(r, op);
    struct process *p = process;
    struct thread *t;

    /* A thread gets its slot now, and with it an alternate stack on which the overflow of its own is told. Its creator goes
     * on, so that the flags may be others already. */
    if (unlikely(probe.mode & SEG_M_CRASH) && !probe.sandboxed && p->segment && SYS1(__NR_gettid, 0) != SYS1(__NR_getpid, 0)) {
        thread_get(p);
        return;
    }
    if (!(flags & CLONE_VM)) { /* a process of its own, in a copy of our memory */
        if (!p->segment)
            process_forked(probe.sandboxed ? own_number(r, op, flags) : 0);
        return;
    }
    if (flags & CLONE_VFORK) { /* runs on the parent thread's slot until it execs or exits */
        uint32_t tid, pid;

        if (probe.sandboxed) {
            t = thread_left();
            if (t && t->fork && t->owner == p->pid) { /* else a thread, whose creator went on (below) */
                t->child_tid = 0;
                t->child_pid = REC_PID_FORK | t->fork;
            }
            return;
        }
        tid = (uint32_t)SYS1(__NR_gettid, 0);
        pid = (uint32_t)SYS1(__NR_getpid, 0);
        t = tid == pid ? thread_get(p) : NULL; /* else a thread, whose creator went on and wrote over clone3's flags */
        if (t) {
            t->child_tid = tid;
            t->child_pid = pid;
        }
        return;
    }
    /* A thread, or a stranger in our memory: its thread pointer may still be its parent's (no CLONE_SETTLS), so
     * nothing is touched here; it gets a slot at its first observed call. */
}
