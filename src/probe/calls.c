/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hooks: what is done before and after an observed system call, by the
 * shape of its arguments (wire/syscalls.h). Entered from arch/<arch>/entry.S on
 * the program's stack.
 *
 * Memory of the program is read directly where the kernel has just read it too
 * (the call succeeded, or failed in a way that comes after reading), otherwise
 * after mem_readable().
 */
#include <linux/close_range.h>
#include <linux/resource.h>
#include <linux/sched.h>

#include "after.h"
#include "aio.h"
#include "calls.h"
#include "contents.h"
#include "crash.h"
#include "descriptors.h"
#include "exec.h"
#include "functions.h"
#include "join.h"
#include "rights.h"
#include "tasks.h"
#include "uring.h"

#define HIDDEN __attribute__((visibility("hidden")))

_Static_assert(sizeof(struct regs) == 96 && offsetof(struct regs, slot) == 56 && offsetof(struct regs, sp) == 64 &&
                   offsetof(struct regs, stash_key) == 80,
               "entry.S knows struct regs");
_Static_assert(offsetof(struct plan_slot, tail) == 8 && offsetof(struct plan_slot, flags) == 20 &&
                   offsetof(struct plan_slot, site_pc) == 24,
               "entry.S knows struct plan_slot");

_Static_assert(PLAN_F_NR_KEPT == 0x100 && OP_NR_MAX == 512 && SCF_ENTER == 2 && SCF_TIMED == 4 &&
                   offsetof(struct probe, timing) == 41,
               "entry.S knows what to do before a call");

/* For entry.S, by number: 0 if the call isn't observed, else 1 with the flags that matter before it. */
extern const uint8_t scope_nr_flags[OP_NR_PLACES] __attribute__((visibility("hidden")));
const uint8_t scope_nr_flags[OP_NR_PLACES] = {
#define SYSCALL(name, group, shape, paths, flags) [OP_NR_PLACE(__NR_##name)] = 1 | ((flags) & (SCF_ENTER | SCF_TIMED)),
#include "wire/syscalls.def"
#undef SYSCALL
};

void scope_hook_exit(struct regs *r, const struct plan_slot *slot);
void scope_hook_enter(struct regs *r, const struct plan_slot *slot);

/* A call inside a function of a TLS library says which socket that uses. */
static __attribute__((noinline)) void inside_function(struct segment_header *s, enum op_id op, const struct regs *r)
{
    int fd = (int)r->arg0;
    struct fd_entry *e;
    bool sends;

    switch (op_table[op].shape) {
    case SHP_READ: case SHP_READV: case SHP_RECVFROM: case SHP_RECVMSG:
        sends = false;
        break;
    case SHP_WRITE: case SHP_WRITEV: case SHP_SENDTO: case SHP_SENDMSG:
        sends = true;
        break;
    default:
        return;
    }
    e = foreign() ? NULL : fd_entry(s, fd);
    if (!e)
        return;
    if (e->kind == FDK_UNKNOWN)
        e->kind = (uint8_t)kind_of_fd(fd, e);
    if (e->kind == FDK_SOCKET)
        function_socket(fd, e, sends, r);
}

/* Successful calls of which nothing but the number is wanted: most. */
static inline bool only_counted(enum op_id op, uint32_t mode)
{
    const struct op_desc *d = &op_table[op];

    return d->shape <= SHP_PATHS && !(d->flags & SCF_RECORD) && op != OP_io_uring_register &&
           !(mode & (SEG_M_REC_RW | SEG_M_REC_SEEK | SEG_M_REC_STAT | SEG_M_REC_ALL));
}

/* Calls that have moved bytes and tell nothing else. */
static inline bool only_reads(uint8_t shape, const struct regs *r)
{
    return shape == SHP_READ || shape == SHP_READV ||
           (shape == SHP_RECVFROM && !r->arg4 && !(r->arg3 & (MSG_ASIDE | MSG_TRUNC))) ||
           (shape == SHP_RECVMSG && !(r->arg2 & MSG_ASIDE) && !((const struct msghdr *)r->arg1)->name &&
            !((const struct msghdr *)r->arg1)->controllen);
}

static inline bool only_writes(uint8_t shape, const struct regs *r)
{
    return shape == SHP_WRITE || shape == SHP_WRITEV || (shape == SHP_SENDTO && !r->arg4) ||
           (shape == SHP_SENDMSG && !((const struct msghdr *)r->arg1)->name &&
            !((const struct msghdr *)r->arg1)->controllen);
}

/* Counts a transfer of which nothing else is wanted; false if that isn't so. */
static inline __attribute__((always_inline)) bool count_transfer(struct segment_header *s, int fd, enum direction dir,
                                                                 int64_t ret, uint32_t mode, bool timed, uint64_t ticks)
{
    struct fd_entry *e = fd_entry(s, fd);

    if (unlikely(mode & (SEG_M_REC_RW | SEG_M_REC_ALL) || process_slow() || !e || e->state & FDS_PENDING) ||
        !quiet(e, mode, dir == DIR_WRITE ? SEG_M_CAPTURE : 0))
        return false;
    add64(dir == DIR_READ ? &e->read_bytes : &e->write_bytes, (uint64_t)ret);
    count_op(s, e, fd, dir, timed, ticks);
    return true;
}

HIDDEN void call_completed(struct segment_header *s, enum op_id op, struct regs *r, int64_t ret)
{
    struct call c = {.op = op, .desc = &op_table[op], .r = r, .s = s, .ret = ret,
                     .mode = __atomic_load_n(&s->mode, __ATOMIC_RELAXED)};

    if (c.desc->shape == SHP_WRITE && ret > 0) {
        struct fd_entry *e = fd_entry(s, (int)r->arg0);

        if (!e || e->kind != FDK_SOCKET)
            unseen(&c, (int)r->arg0, e, c.mode, (uint64_t)ret);
    } else if (c.desc->shape == SHP_SPLICE && ret > 0) {
        unseen(&c, (int)r->arg2, fd_entry(s, (int)r->arg2), c.mode, (uint64_t)ret);
    } else if (c.desc->shape == SHP_TEE && ret > 0) {
        unseen(&c, (int)r->arg1, fd_entry(s, (int)r->arg1), c.mode, (uint64_t)ret);
    }
    c.mode &= ~(uint32_t)(SEG_M_CAPTURE | SEG_M_TRAFFIC); /* of a socket, its counters tell what was missed */
    call_end(&c);
}

/* The exit hook where anything is out of the ordinary. */
static __attribute__((noinline)) void exit_any(struct regs *r, const struct plan_slot *slot)
{
    enum op_id op = slot->flags >> 24;
    struct process *p = process;
    struct segment_header *s;
    struct thread *t = NULL;
    struct call c;
    int64_t ret = (int64_t)r->result;
    uint64_t began = 0;
    uint8_t flags = 0;

    if (op_table[op].shape == SHP_CLONE && ret == 0) {
        born(r, op);
        return;
    }
    s = p->segment;
    if (unlikely(!s) && !(s = process_forked(0)))
        return;
    if (unlikely(probe.mode & SEG_M_CRASH) && unlikely(crash_lent(r))) {
        if ((slot->flags & (PLAN_F_NR_UNKNOWN | PLAN_F_NR_KEPT)) == PLAN_F_NR_UNKNOWN && (t = thread_get(p)))
            call_pop(t, r->sp, &began);
        crash_exit(OP_rt_sigaction, r, true);
        return;
    }
    if (unlikely(dispatching) && dispatched(slot))
        return;
    if (slot->flags & PLAN_F_NR_UNKNOWN) {
        int64_t nr;

        if (slot->flags & PLAN_F_NR_KEPT) {
            nr = (int64_t)(r->stash_key ^ CALL_KEY(r->sp, -1, 0u)) - 1;
            nr = nr < OP_NR_MAX ? nr : -1;
            began = r->stash_time;
        } else {
            t = thread_get(p);
            if (!t)
                return;
            nr = call_pop(t, r->sp, &began);
            if (unlikely(t->child_pid && probe.sandboxed) && ret >= 0 && nr >= 0 &&
                op_table[op_of_nr(nr)].shape == SHP_EXEC)
                nr = call_pop(t, r->sp, &began); /* its vfork child's exec, which doesn't come back: it is the parent */
        }
        if (nr < 0) {
            if (ret == 0 && __atomic_load_n(&p->clones, __ATOMIC_RELAXED))
                __atomic_fetch_sub(&p->clones, 1, __ATOMIC_RELAXED);
            else if (__atomic_load_n(&p->begun, __ATOMIC_RELAXED))
                __atomic_fetch_sub(&p->begun, 1, __ATOMIC_RELAXED);
            else
                count_loss(s, LOSS_NR, 1);
            return;
        }
        op = op_of_nr(nr);
        if (op == OP_NONE)
            return;
        if (op_table[op].shape == SHP_CLONE && ret == 0) {
            if (t && (clone_flags(r, op) & CLONE_VFORK)) /* the parent comes here next, at the same stack pointer */
                call_push(t, r->sp, nr, began);
            born(r, op);
            return;
        }
    } else if (r->stash_key == (r->stash_time ^ r->sp)) {
        began = r->stash_time;
    }
    if (unlikely(op_table[op].flags & SCF_VIRTUAL)) {
        crash_exit(op, r, !!(slot->flags & PLAN_F_ENTER));
        return;
    }
    c.mode = __atomic_load_n(&s->mode, __ATOMIC_RELAXED);
    if (!(c.mode & SEG_M_ON) && !crash_needs(op))
        return;
    if (unlikely(p->slow & SLOW_BORROWED))
        s = process_borrow(s);
    if (unlikely(functions_used) && ret > 0)
        inside_function(s, op, r);
    c.desc = &op_table[op];
    if (ret >= 0 && only_counted(op, c.mode)) {
        add64(&s->op[op].calls, 1);
        return;
    }
    c.ticks = 0;
    if (began && (c.desc->flags & SCF_TIMED)) {
        uint64_t end = now();

        r->stash_key = 0;
        if (end > began) {
            c.ticks = end - began;
            flags = REC_F_TIMED;
        }
    }
    if (ret > 0) {
        if (only_reads(c.desc->shape, r)) {
            if (likely(count_transfer(s, (int)r->arg0, DIR_READ, ret, c.mode, flags, c.ticks)))
                return;
        } else if (only_writes(c.desc->shape, r)) {
            if (likely(count_transfer(s, (int)r->arg0, DIR_WRITE, ret, c.mode, flags, c.ticks)))
                return;
        }
    }
    c.op = op;
    c.r = r;
    c.s = s;
    c.ret = ret;
    c.flags = flags;
    c.has_arg4 = c.has_arg5 = false;
    c.items = 0;
    if (c.desc->shape == SHP_CLONE) {
        after_clone(&c, thread_get(p), !(slot->flags & PLAN_F_NR_UNKNOWN));
        return;
    }
    if (c.desc->shape == SHP_EXEC)
        c.ret = exec_failed(thread_get(p), op, r);
    if (op == OP_close) {
        if (!t)
            t = thread_get(p);
        if (t && call_pop(t, ~r->sp, &began) == 1) {
            c.flags |= REC_F_SAID;
            if (ret >= 0 && !(c.mode & SEG_M_REC_ALL)) {
                add64(&s->op[OP_close].calls, 1);
                return;
            }
        }
    }
    if (op == OP_prctl && (uint32_t)r->arg0 == PR_SET_SYSCALL_USER_DISPATCH_)
        leave_dispatch(s, thread_get(p), r);
    else if ((op == OP_prctl || op == OP_seccomp) && probe.sandboxed == SANDBOX_ASKED)
        leave_prctl(s, ret);
    call_end(&c);
}

/* A file was opened, and nothing is out of the ordinary. */
static __attribute__((noinline)) void opened(struct segment_header *s, enum op_id op, struct regs *r, uint32_t mode)
{
    struct call c;

    c.op = op;
    c.desc = &op_table[op];
    c.r = r;
    c.s = s;
    c.ret = (int64_t)r->result;
    c.mode = mode;
    c.ticks = 0;
    c.flags = 0;
    c.has_arg4 = c.has_arg5 = false;
    c.items = 0;
    call_end(&c);
}

/* The end of a close that the enter hook has told, whose note is taken; false: it hasn't. */
static __attribute__((noinline)) bool closed(struct process *p, struct segment_header *s, const struct regs *r)
{
    struct thread *t = thread_get(p);
    uint64_t began;

    if (unlikely(!t || call_pop(t, ~r->sp, &began) != 1))
        return false;
    add64(&s->op[OP_close].calls, 1);
    return true;
}

/* Bytes moved by a call of which nothing is wanted but the counters; false if that isn't so. */
static inline bool moved(struct segment_header *s, uint8_t shape, struct regs *r, uint32_t mode)
{
    enum direction dir = only_reads(shape, r) ? DIR_READ : DIR_WRITE;
    uint64_t began = r->stash_key == (r->stash_time ^ r->sp) ? r->stash_time : 0, end = 0;

    if (dir == DIR_WRITE && !only_writes(shape, r))
        return false;
    if (began) {
        end = now();
        end = end > began ? end - began : 0;
    }
    if (!count_transfer(s, (int)r->arg0, dir, (int64_t)r->result, mode, end, end))
        return false;
    r->stash_key = 0;
    return true;
}

/*
 * First what most calls are. What lies in exit_any() would cost them the cache lines that it is in, which the kernel has
 * used for itself meanwhile; so nothing here needs more registers than a function may change.
 */
HIDDEN __attribute__((used)) void scope_hook_exit(struct regs *r, const struct plan_slot *slot)
{
    enum op_id op = slot->flags >> 24;
    uint8_t shape = op_table[op].shape;
    struct process *p = process;
    struct segment_header *s = p->segment;

    if (likely(s && (int64_t)r->result >= 0 && !(slot->flags & PLAN_F_NR_UNKNOWN) && !(p->slow | p->vforks | dispatching))) {
        uint32_t mode = __atomic_load_n(&s->mode, __ATOMIC_RELAXED);

        if (unlikely(!(mode & SEG_M_ON))) {
            if (probe.mode & SEG_M_CRASH)
                exit_any(r, slot);
            return;
        }
        if (only_counted(op, mode)) {
            add64(&s->op[op].calls, 1);
            return;
        }
        if (shape == SHP_OPEN) {
            opened(s, op, r, mode);
            return;
        }
        if (shape == SHP_CLOSE) {
            if (likely(!(mode & SEG_M_REC_ALL)) && closed(p, s, r))
                return;
        } else if (r->result && !functions_used && moved(s, shape, r, mode)) {
            return;
        }
    }
    exit_any(r, slot);
}

/* ---- before the call ---- */

static __attribute__((noinline)) void enter_close(struct segment_header *s, struct thread *t, struct regs *r)
{
    int fd = (int)r->arg0;
    struct fd_entry *e = foreign() ? NULL : fd_entry(s, fd);
    const uint32_t size = sizeof(struct record) + ring_item_size(sizeof(struct rec_counters));
    struct record *to;
    uint64_t time, pos;

    /* A guest has nothing that would remember whether this is one, nor has who was a guest when it was made. */
    if (unlikely(pending_seen) && (!e || !(e->state & FDS_OPEN)))
        traffic_connect_end(s, fd, e);
    if (!e || !(e->state & FDS_OPEN))
        return;
    if (unlikely(uring_count))
        uring_closed(s, fd);
    if (unlikely(e->state & FDS_PENDING))
        traffic_connect_end(s, fd, e);
    time = now();
    to = ring_place(s, size, ring_kind(REC_ENTER, 0, OP_close), 0, &pos);
    if (likely(to != NULL)) {
        to->time = time;
        to->ret = 0;
        to->ticks = 0;
        to->arg[0] = r->arg0;
        for (unsigned i = 1; i < 6; i++)
            to->arg[i] = 0;
        counters_of(e, fd, (struct rec_counters *)(void *)ring_item((char *)(to + 1), ITEM_COUNTERS, sizeof(struct rec_counters)));
    }
    fd_end(e);
    if (likely(to != NULL))
        ring_commit(s, to, pos, size);
    if (t) /* tells the exit hook; the complement of sp can't be the key of a call */
        call_push(t, ~r->sp, 1, 0);
}

#define RANGE_CHUNK 16

static void enter_close_range(struct segment_header *s, struct regs *r)
{
    uint32_t first = (uint32_t)r->arg0, last = (uint32_t)r->arg1;
    struct rec_counters closed[RANGE_CHUNK];
    struct ring_item item[RANGE_CHUNK];
    struct record rec = {.kind = REC_ENTER, .op = OP_close_range, .arg = {r->arg0, r->arg1, r->arg2}};
    unsigned n = 0;

    if (((uint32_t)r->arg2 & ~(uint32_t)CLOSE_RANGE_UNSHARE) || first > last)
        return;
    for (uint64_t fd = first; is_guest() && fd <= last && fd < GUEST_FDS; fd++)
        guest_fds[fd] = FDK_UNKNOWN;
    for (uint64_t fd = first; fd <= last && fd < s->fd_high && !foreign(); fd++) {
        struct fd_entry *e = fd_entry(s, (int64_t)fd);

        if (!e || (!e->state && !e->read_ops && !e->write_ops))
            continue;
        if (unlikely(e->state & FDS_PENDING))
            traffic_connect_end(s, (int)fd, e);
        counters_of(e, (int)fd, &closed[n]);
        fd_end(e);
        item[n] = (struct ring_item){ITEM_COUNTERS, sizeof(closed[n]), &closed[n]};
        if (++n == RANGE_CHUNK) {
            rec.time = now();
            ring_write(s, &rec, item, n);
            n = 0;
        }
    }
    rec.time = now();
    ring_write(s, &rec, item, n);
}

#define GO_PANICKED 2 /* exit status of a Go program after a panic or a fatal error: runtime.fatalpanic(), among others */

static void enter_exit(struct segment_header *s, enum op_id op, struct thread *t, struct regs *r, bool go)
{
    struct record rec = {.kind = REC_ENTER, .op = (uint16_t)op, .time = now(), .arg = {r->arg0}};
    struct rec_usage usage;
    struct ring_item item = {ITEM_USAGE, sizeof(usage), &usage};
    struct rusage ru;

    if (unlikely(uring_count) && !foreign())
        uring_reap_all(s);
    if (!foreign())
        aio_last(s);
    for (uint64_t fd = 0; op == OP_exit_group && unlikely(pending_seen) && fd < s->fd_high && !foreign(); fd++) {
        struct fd_entry *e = fd_entry(s, (int64_t)fd);

        if (e && e->state & FDS_PENDING)
            traffic_connect_end(s, (int)fd, e);
    }
    if (op == OP_exit_group && !probe.sandboxed && SYS2(__NR_getrusage, RUSAGE_SELF, &ru) == 0) {
        usage.cpu_us = (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000 +
                       (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
        usage.maxrss_kib = (uint64_t)ru.ru_maxrss;
        ring_write(s, &rec, &item, 1);
    } else {
        ring_write(s, &rec, NULL, 0);
    }
    if (unlikely(probe.mode & SEG_M_CRASH) && op == OP_exit_group && go && (int)r->arg0 == GO_PANICKED)
        crash_go_exit(s, GO_PANICKED, r->go_g, r->sp);
    if (unlikely(s->pid == 1) && op == OP_exit_group && !probe.sandboxed)
        join_last();
    /* Not if the slot may be another task's too, which goes on. */
    if (op == OP_exit && t && !t->child_pid && !(process->slow & SLOW_FOREIGN)) {
        if (unlikely(probe.mode & SEG_M_CRASH))
            crash_thread_end();
        thread_forget(t);
    }
}

/* The enter hook of all calls but most. */
static __attribute__((noinline)) void enter_any(struct regs *r, const struct plan_slot *slot)
{
    enum op_id op = slot->flags >> 24;
    struct process *p = process;
    struct segment_header *s = p->segment;
    struct thread *t = NULL;

    if (unlikely(!s) && !(s = process_forked(0)))
        return;
    if (unlikely(dispatching) && dispatched(slot))
        return;
    if (slot->flags & PLAN_F_SP_BIAS8)
        r->sp += 8;
    if (slot->flags & PLAN_F_NR_UNKNOWN) {
        int64_t nr = regs_nr(r);

        op = op_of_nr(nr);
        if (!(slot->flags & PLAN_F_NR_KEPT))
            t = thread_get(p);
        if (t && nr >= 0 && nr < 0x7fff && !(op_table[op].flags & SCF_NORETURN))
            call_push(t, r->sp, nr, probe.timing && (op_table[op].flags & SCF_TIMED) ? now() : 0);
    }
    if (unlikely(op_table[op].flags & SCF_VIRTUAL)) {
        crash_enter(op, r);
        return;
    }
    if (!(op_table[op].flags & SCF_ENTER) ||
        (!(__atomic_load_n(&s->mode, __ATOMIC_RELAXED) & SEG_M_ON) && !crash_needs(op)))
        return;
    if (!t)
        t = thread_get(p);
    switch (op_table[op].shape) {
    case SHP_CLOSE:
        enter_close(s, t, r);
        break;
    case SHP_CLOSE_RANGE:
        enter_close_range(s, r);
        break;
    case SHP_CLONE:
        enter_clone(s, op, t, r, !(slot->flags & PLAN_F_NR_UNKNOWN));
        break;
    case SHP_EXEC:
        exec_enter(s, t, op, r);
        break;
    case SHP_EXIT:
        enter_exit(s, op, t, r, !!(slot->flags & PLAN_F_GO));
        break;
    case SHP_PRCTL:
        enter_prctl(s, op, r);
        break;
    case SHP_URING_ENTER:
        if (uring_count && !foreign())
            uring_enter(s, (int)r->arg0, (uint32_t)r->arg1);
        break;
    case SHP_AIO:
        if (!foreign())
            aio_enter(s, op, r);
        break;
    }
}

HIDDEN __attribute__((used)) void scope_hook_enter(struct regs *r, const struct plan_slot *slot)
{
    struct process *p = process;
    struct segment_header *s = p->segment;

    if (likely(slot->flags >> 24 == OP_close && s && !dispatching && !(slot->flags & (PLAN_F_SP_BIAS8 | PLAN_F_NR_UNKNOWN)))) {
        if (likely(__atomic_load_n(&s->mode, __ATOMIC_RELAXED) & SEG_M_ON))
            enter_close(s, thread_get(p), r);
        return;
    }
    enter_any(r, slot);
}
