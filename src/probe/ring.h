/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing records (wire/record.h) into the ring of a segment (wire/segment.h).
 * Any thread, signal handler or vfork child may write at any time.
 */
#ifndef SCOPE_PROBE_RING_H
#define SCOPE_PROBE_RING_H

#include "state.h"

struct ring_item {
    uint16_t type;          /* enum item_type */
    uint32_t len;
    const void *data;       /* readable */
};

struct iovec {              /* readv(2) */
    const char *base;
    size_t len;
};

/* How far the reader is behind, in cells. */
static inline uint64_t ring_taken(const struct segment_header *s)
{
    return __atomic_load_n(&s->ring_head, __ATOMIC_RELAXED) - __atomic_load_n(&s->ring_tail, __ATOMIC_RELAXED);
}
/* Time to be thrifty. */
static inline bool ring_half_full(const struct segment_header *s) { return ring_taken(s) > RING_CELLS / 2; }

/* Behind everything that the collector is to look at soon: wakes it if it sleeps, or would sleep while the ring fills.
 * A nap that isn't seen yet ends by itself soon, and the next writer sees it. */
void ring_rouse_slow(struct segment_header *s);
static inline void ring_rouse(struct segment_header *s)
{
    uint32_t asleep = __atomic_load_n(&s->asleep, ORDER_ASLEEP_LOOK);

    if (asleep != SEG_AWAKE && (unlikely(asleep != SEG_NAPPING) || unlikely(ring_taken(s) > SEG_NAP_CELLS)))
        ring_rouse_slow(s);
}

/* A record can also be written in its place, which saves a copy: ring_place(), all members behind `tid`, the items, one
 * behind the other from the end of the struct on, ring_commit(). */

/* The first members behind `size`, as one word. */
static inline uint32_t ring_kind(enum rec_kind kind, uint8_t flags, enum op_id op)
{
    return (uint32_t)kind | (uint32_t)flags << 8 | (uint32_t)op << 16;
}
_Static_assert(offsetof(struct record, size) == 8 && offsetof(struct record, kind) == 12 && offsetof(struct record, op) == 14,
               "ring_kind() makes these");

/* Reserves `size` bytes, header and items, and writes the members up to `tid`; kind: ring_kind(). NULL if it is lost, and
 * counted; data: bytes of captured data that are lost with it. */
struct record *ring_place(struct segment_header *s, uint32_t size, uint32_t kind, size_t data, uint64_t *ret_pos);

static inline uint32_t ring_item_size(uint32_t len)
{
    return (uint32_t)sizeof(struct rec_item) + ROUND_UP(len, 8u);
}

/* An item's head at w; returns where its data go. */
static inline char *ring_item(char *w, uint16_t type, uint32_t len)
{
    struct rec_item *h = (struct rec_item *)(void *)w;

    *h = (struct rec_item){type, 0, len};
    return w + sizeof(*h);
}

/* False if it was lost after all. */
static inline bool ring_commit(struct segment_header *s, struct record *to, uint64_t pos, uint32_t size)
{
    /* The reader gave the reservation up as torn (a debugger held this thread): the cells may be others' now. */
    if (unlikely(__atomic_load_n(&s->ring_tail, __ATOMIC_RELAXED) > pos)) {
        count_loss(s, LOSS_RECORD, 1);
        return false;
    }
    __atomic_store_n(&to->seq, pos + 1, ORDER_RING_COMMIT);
    /* The collector stores `asleep` and then looks at ring_head once more; ring_place() has changed ring_head, and here
     * `asleep` is looked at: one of us sees the other. The order that this needs is that of the load: an exchange by a
     * pair of exclusive accesses is no barrier for what comes behind it. */
    ring_rouse(s);
    /* The next record's cells have long left the cache. */
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        __builtin_prefetch((char *)to + ROUND_UP(size, RING_CELL) + i * 64, 1);
    return true;
}

/* Writes one record. The caller has filled everything of `r` but seq, size,
 * pid and tid. Returns false if it was lost (and counted). */
bool ring_write(struct segment_header *s, struct record *r, const struct ring_item *items, unsigned count);

/* A record without items. */
bool ring_simple(struct segment_header *s, enum rec_kind kind, enum op_id op, int64_t ret, uint64_t arg0, uint64_t arg1);

/* REC_NOTE; name may be NULL. */
void ring_note(struct segment_header *s, enum note_code code, const char *name, uint64_t arg1);

/* Bytes [data, data+len) that a call of `op` wrote to fd at offset `at` of its total `ret`; flags: 0 or
 * REC_F_UNASKED. Returns how many didn't fit. */
size_t ring_data(struct segment_header *s, enum op_id op, int64_t fd, uint64_t at, int64_t ret, const void *data, size_t len,
                 uint8_t flags);

/* Bytes [at, at+len) of the vectors, which reach that far, as REC_DATA made from `r`, whose arg[1] is set for each
 * record. first: an item for each of them, may be NULL. Returns how many didn't fit: those at the end. */
size_t ring_vector(struct segment_header *s, struct record *r, const struct ring_item *first, const struct iovec *iov,
                   size_t at, size_t len);

#endif
