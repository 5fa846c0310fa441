/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What descriptor numbers mean, in the table of the segment (struct fd_entry),
 * and what is counted there. Also of the descriptors of guests: processes in a
 * sandbox that have no table.
 */
#ifndef SCOPE_PROBE_DESCRIPTORS_H
#define SCOPE_PROBE_DESCRIPTORS_H

#include "call.h"
#include "calls.h"
#include "traffic.h"

static inline void fd_seen(struct segment_header *s, int fd)
{
    uint64_t high = __atomic_load_n(&s->fd_high, __ATOMIC_RELAXED);

    while (unlikely((uint64_t)fd >= high))
        if (__atomic_compare_exchange_n(&s->fd_high, &high, (uint64_t)fd + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            break;
}

#define GUEST_FDS 4096
#define GUEST_ASKED 256   /* of these it asks before it enters one itself */
#define GUEST_READS 0x80u /* the kernel certainly reads what is written to it */

/* enum fd_kind of each descriptor of a process in a sandbox that has no table in its segment, and can't ask. Its parent
 * has filled it in before the fork. */
extern uint8_t guest_fds[GUEST_FDS];

/* True in a forked process in a sandbox. A vfork child has descriptors of its own in the memory of its parent. */
static inline bool is_guest(void)
{
    return probe.sandboxed && process->slow & SLOW_BORROWED;
}

/* enum fd_kind of a guest's descriptor. */
enum fd_kind guest_kind(int fd);
/* Whether the kernel certainly reads what a guest writes to it. */
bool guest_reads(int fd);

static inline void guest_began(int64_t fd, enum fd_kind kind)
{
    if (is_guest() && (uint64_t)fd < GUEST_FDS)
        guest_fds[fd] = (uint8_t)(kind | (kind == FDK_SOCKET || kind == FDK_PIPE || kind == FDK_MEMFD ? GUEST_READS : 0));
}

static inline void guest_copied(int from, int to)
{
    if (is_guest() && (unsigned)to < GUEST_FDS)
        guest_fds[to] = (unsigned)from < GUEST_FDS ? guest_fds[from] : FDK_UNKNOWN;
}

/* Before a fork by the owner of the table, in a sandbox. */
void guest_prepare(struct segment_header *s);

/* True when this call belongs to another process than the segment's owner: its descriptors aren't in our table. */
static inline bool foreign(void)
{
    struct thread *t;

    if (likely(!process_slow()))
        return false;
    if (process->slow & SLOW_BORROWED)
        return true;
    t = thread_get(process);
    return t && t->child_pid;
}

static inline void counters_of(const struct fd_entry *e, int fd, struct rec_counters *ret)
{
    *ret = (struct rec_counters){fd, e->gen, e->read_bytes, e->read_ops, e->read_ticks,
                                 e->write_bytes, e->write_ops, e->write_ticks, e->state, e->undecided};
}

/* A number now means another descriptor. Returns its generation. */
static inline uint32_t fd_begin(struct segment_header *s, int64_t fd, enum fd_kind kind, bool cloexec, bool writable)
{
    struct fd_entry *e = fd_entry(s, fd);

    if (!e)
        return 0;
    fd_seen(s, (int)fd);
    e->kind = (uint8_t)kind;
    e->undecided = 0;
    e->unsaid = 0;
    e->state = (uint8_t)(FDS_OPEN | (cloexec ? FDS_CLOEXEC : 0) | (writable ? FDS_WRITABLE : 0));
    return add32(&e->gen, 1);
}

static inline void fd_end(struct fd_entry *e)
{
    e->state = 0;
    e->kind = FDK_UNKNOWN;
    add32(&e->gen, 1);
}

enum direction { DIR_READ, DIR_WRITE };

/* Counts one more transfer, whose bytes are counted already. */
static inline void count_op(struct segment_header *s, struct fd_entry *e, int fd, enum direction dir, bool timed,
                            uint64_t ticks)
{
    fd_seen(s, fd);
    add64(dir == DIR_READ ? &e->read_ops : &e->write_ops, 1);
    if (timed)
        add64(dir == DIR_READ ? &e->read_ticks : &e->write_ticks, ticks);
}

/* Counts a transfer on a descriptor. Returns its entry if it was counted there. */
static inline struct fd_entry *transfer(struct call *c, int fd, enum direction dir, uint64_t bytes)
{
    struct fd_entry *e;

    if (unlikely(process_slow()) && foreign())
        return NULL;
    e = fd_entry(c->s, fd);
    if (unlikely(!e))
        return NULL;
    if (unlikely(e->state & FDS_PENDING) && (bytes || dir == DIR_READ))
        traffic_connect(c->s, c->op, fd, e, 0, NULL, 0);
    if (dir == DIR_READ && unlikely(!bytes) && (c->r->arg2 || c->desc->shape == SHP_RECVMSG)) /* it asked for something */
        e->state |= FDS_EOF;
    c->position = fetch_add64(dir == DIR_READ ? &e->read_bytes : &e->write_bytes, bytes);
    count_op(c->s, e, fd, dir, c->flags & REC_F_TIMED, c->ticks);
    c->flags |= REC_F_COUNTED;
    return e;
}

/* Whether nothing of what goes through a descriptor has to be looked at. files: the same for what is written to one. */
static inline bool quiet(const struct fd_entry *e, uint32_t mode, uint32_t files)
{
    return !(mode & (SEG_M_TRAFFIC | files)) || (!(mode & files) && e->kind > FDK_SOCKET) ||
           e->want == (e->gen << 2 | FDW_NONE);
}

/* Whether what goes through e (NULL: it has no entry) may be wanted, if that is a socket. */
static inline bool watched(const struct call *c, const struct fd_entry *e)
{
    return c->mode & SEG_M_TRAFFIC && !(e && quiet(e, c->mode, 0));
}

#endif
