/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <asm/errno.h>
#include <linux/futex.h>
#include <linux/time_types.h>

_Static_assert(RING_CELLS * RING_CELL % 65536 == 0, "ring is whole pages");

static inline char *ring_base(struct segment_header *s)
{
    return (char *)s + probe.ring_off;
}

/* A writer's patience in lossless mode. */
struct patience {
    uint64_t tail;          /* where the reader was */
    unsigned still_us;      /* for how long it hasn't moved */
    unsigned sleep_us;
};

#define SLEEP_MIN_US 100u
#define SLEEP_MAX_US 8000u

/* Lossless mode: lets the reader catch up. False when it is time to give up: the reader hasn't moved for
 * SEG_WAIT_MS. Hundreds of threads may be waiting, and they must not eat the CPU that the reader needs. */
static bool ring_wait(struct segment_header *s, struct patience *w)
{
    struct process *p = process;
    uint64_t tail = __atomic_load_n(&s->ring_tail, __ATOMIC_RELAXED);

    if (~__atomic_load_n(&s->mode, __ATOMIC_RELAXED) & (SEG_M_ON | SEG_M_LOSSLESS)) /* or nobody reads any more */
        return false;
    if (p->gave_up) {
        if (p->gave_up_tail == tail)
            return false;
        p->gave_up = 0;
    }
    if (tail != w->tail || !w->sleep_us)
        *w = (struct patience){tail, 0, SLEEP_MIN_US};
    if (w->still_us >= SEG_WAIT_MS * 1000) {
        p->gave_up_tail = tail;
        p->gave_up = 1;
        return false;
    }
    if (probe.sandboxed) {
        for (int i = 0; i < 2000; i++)
            __asm__ volatile("" ::: "memory");
        w->still_us += 1;
    } else {
        struct __kernel_timespec t = {0, (long)w->sleep_us * 1000}, left = {0, 0};

        /* Signals may come all the time, as with Go's: what they cut off was not waited for. */
        if (SYS2(__NR_nanosleep, &t, &left) == -EINTR && left.tv_nsec < t.tv_nsec)
            t.tv_nsec -= left.tv_nsec;
        w->still_us += t.tv_nsec < 1000 ? 1 : (unsigned)(t.tv_nsec / 1000);
        w->sleep_us = MIN(w->sleep_us * 2, SLEEP_MAX_US);
    }
    return true;
}

/* Reserves n cells in a row when that is not done at once: the ring is full, ends too soon, or others are at it. Returns
 * their position, or UINT64_MAX. */
static __attribute__((noinline, cold)) uint64_t ring_reserve(struct segment_header *s, uint32_t n)
{
    struct patience w = {0, 0, 0};

    for (;;) {
        uint64_t head = __atomic_load_n(&s->ring_head, __ATOMIC_RELAXED);
        uint64_t tail = __atomic_load_n(&s->ring_tail, ORDER_RING_ROOM);
        uint32_t at = (uint32_t)(head % RING_CELLS);
        uint32_t pad = at + n > RING_CELLS ? RING_CELLS - at : 0;

        if (head - tail + pad + n > RING_CELLS) {
            /* Others, and the reader, may have gone on between the two loads. */
            if (__atomic_load_n(&s->ring_head, __ATOMIC_RELAXED) != head)
                continue;
            if (ring_wait(s, &w))
                continue;
            return UINT64_MAX;
        }
        if (!__atomic_compare_exchange_n(&s->ring_head, &head, head + pad + n, true, ORDER_RING_TAKE,
                                         __ATOMIC_RELAXED))
            continue;
        if (pad) { /* a cell has no room for a whole struct record */
            struct record *r = (struct record *)(void *)(ring_base(s) + (size_t)at * RING_CELL);

            r->size = pad * RING_CELL;
            r->kind = REC_PAD;
            r->flags = 0;
            r->op = 0;
            __atomic_store_n(&r->seq, head + 1, ORDER_RING_COMMIT);
        }
        return head + pad;
    }
}

void ring_rouse_slow(struct segment_header *s)
{
    if (!probe.sandboxed && __atomic_exchange_n(&s->asleep, SEG_AWAKE, ORDER_ASLEEP_CLEAR))
        SYS6(__NR_futex, &s->asleep, FUTEX_WAKE, 1, 0, 0, 0);
}

static uint8_t ring_guest(const struct process *p, const struct thread *t, struct record *r)
{
    uint8_t flags = p->slow & SLOW_BORROWED ? REC_F_BORROWED : 0;

    if (t && t->child_pid) {
        r->pid = t->child_pid;
        r->tid = t->child_tid;
        flags |= REC_F_BORROWED | REC_F_VFORK;
    }
    return flags;
}

static __attribute__((noinline, cold)) struct record *ring_lost(struct segment_header *s, uint32_t kind, size_t data)
{
    if (kind & (uint32_t)REC_F_UNASKED << 8)
        return NULL;
    if ((uint8_t)kind == REC_DATA)
        count_loss(s, LOSS_DATA, data);
    else
        count_loss(s, LOSS_RECORD, 1);
    return NULL;
}

struct record *ring_place(struct segment_header *s, uint32_t size, uint32_t kind, size_t data, uint64_t *ret_pos)
{
    const struct process *p = process;
    const struct thread *t = thread_get(process);
    uint32_t n = (size + RING_CELL - 1) / RING_CELL;
    uint64_t pos = __atomic_load_n(&s->ring_head, __ATOMIC_RELAXED);
    uint64_t tail = __atomic_load_n(&s->ring_tail, ORDER_RING_ROOM);
    struct record *to;

    if (unlikely((uint32_t)(pos % RING_CELLS) + n > RING_CELLS || pos - tail + n > RING_CELLS ||
                 !__atomic_compare_exchange_n(&s->ring_head, &pos, pos + n, false, ORDER_RING_TAKE, __ATOMIC_RELAXED))) {
        pos = ring_reserve(s, n);
        if (pos == UINT64_MAX)
            return ring_lost(s, kind, data);
    }
    *ret_pos = pos;
    to = (struct record *)(void *)(ring_base(s) + (size_t)(pos % RING_CELLS) * RING_CELL);
    to->pid = p->pid;
    to->tid = likely(t != NULL) ? t->tid : 0;
    if (unlikely(p->slow | p->vforks))
        kind |= (uint32_t)ring_guest(p, t, to) << 8;
    ((uint64_t *)to)[1] = size | (uint64_t)kind << 32;
    return to;
}

/* The same for a record that is in another place, with r->size set. */
static inline struct record *ring_begin(struct segment_header *s, struct record *r, size_t data, uint64_t *ret_pos)
{
    struct record *to = ring_place(s, r->size, ring_kind(r->kind, r->flags, r->op), data, ret_pos);

    if (unlikely(!to))
        return NULL;
#pragma GCC unroll 9
    for (unsigned i = offsetof(struct record, time) / 8; i < sizeof(*r) / 8; i++)
        ((uint64_t *)to)[i] = ((const uint64_t *)r)[i];
    return to;
}

bool ring_write(struct segment_header *s, struct record *r, const struct ring_item *items, unsigned count)
{
    uint64_t pos;
    struct record *to;
    char *w;

    r->size = sizeof(*r);
    for (unsigned i = 0; i < count; i++)
        r->size += ring_item_size(items[i].len);
    to = ring_begin(s, r, count ? items[0].len : 0, &pos);
    if (unlikely(!to))
        return false;
    w = (char *)(to + 1);
    for (unsigned i = 0; i < count; i++) {
        copy_padded(ring_item(w, items[i].type, items[i].len), items[i].data, items[i].len);
        w += ring_item_size(items[i].len);
    }
    return ring_commit(s, to, pos, r->size);
}

bool ring_simple(struct segment_header *s, enum rec_kind kind, enum op_id op, int64_t ret, uint64_t arg0, uint64_t arg1)
{
    struct record r = {.kind = (uint8_t)kind, .op = (uint16_t)op, .time = now(), .ret = ret, .arg = {arg0, arg1}};

    return ring_write(s, &r, NULL, 0);
}

void ring_note(struct segment_header *s, enum note_code code, const char *name, uint64_t arg1)
{
    struct record r = {.kind = REC_NOTE, .time = now(), .arg = {code, arg1}};
    struct ring_item item = {ITEM_PATH, 0, name};

    if (name)
        item.len = (uint32_t)str_len(name, SEG_PATH_MAX);
    ring_write(s, &r, &item, name ? 1 : 0);
}

#define DATA_CHUNK 32768u

size_t ring_data(struct segment_header *s, enum op_id op, int64_t fd, uint64_t at, int64_t ret, const void *data, size_t len,
                 uint8_t flags)
{
    size_t lost = 0;

    while (len) {
        uint32_t n = (uint32_t)MIN(len, (size_t)DATA_CHUNK);
        struct record r = {.kind = REC_DATA, .flags = flags, .op = (uint16_t)op, .time = now(), .ret = ret,
                           .arg = {(uint64_t)fd, at, REC_NO_POSITION, DATA_FILE}};
        struct ring_item item = {ITEM_DATA, n, data};

        if (!ring_write(s, &r, &item, 1))
            lost += n;
        data = (const char *)data + n;
        at += n;
        len -= n;
    }
    return lost;
}

size_t ring_vector(struct segment_header *s, struct record *r, const struct ring_item *first, const struct iovec *iov,
                   size_t at, size_t len)
{
    size_t off = at;

    while (off >= iov->len && len)
        off -= iov++->len;
    while (len) {
        uint32_t n = (uint32_t)MIN(len, (size_t)DATA_CHUNK);
        struct record *to;
        uint64_t pos;
        char *w;

        r->arg[1] = at;
        r->size = (uint32_t)(sizeof(*r) + sizeof(struct rec_item)) + ROUND_UP(n, 8u);
        if (first)
            r->size += (uint32_t)sizeof(struct rec_item) + ROUND_UP(first->len, 8u);
        to = ring_begin(s, r, n, &pos);
        if (!to)
            break;
        w = (char *)(to + 1);
        if (first) {
            w = ring_item(w, first->type, first->len);
            copy_padded(w, first->data, first->len);
            w += ROUND_UP(first->len, 8u);
        }
        w = ring_item(w, ITEM_DATA, n);
        at += n;
        len -= n;
        for (uint32_t left = n; left;) {
            size_t piece = MIN(iov->len - off, (size_t)left);

            copy_bytes(w, iov->base + off, piece);
            w += piece;
            off += piece;
            left -= (uint32_t)piece;
            while (off >= iov->len && (left || len)) {
                off = 0;
                iov++;
            }
        }
        for (; n & 7; n++)
            *w++ = 0;
        ring_commit(s, to, pos, r->size); /* not: counted, and the reader sees what is missing by its position */
    }
    return len;
}
