/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded queue of records (bytes that belong together: a line, a datagram's
 * part) in one circular buffer. Knows for each record how far it went:
 *
 *     first ........ next ........ end        byte positions, counted from 0
 *     kept for a     to be sent
 *     new attempt
 *
 * The buffer grows as it is needed. What a backlog took beyond 16 MiB is given back when nothing waits any more.
 *
 * `next` may lie inside a record. What lies before it was handed to the kernel;
 * transports that can tell what has really arrived keep it until then.
 */
#ifndef SCOPE_OUTPUT_QUEUE_H
#define SCOPE_OUTPUT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct queue {
    char *bytes;
    size_t cap, max_bytes;           /* powers of two */
    uint64_t first, next, end;
    uint32_t *len;                   /* of each record */
    size_t len_cap, max_records;     /* powers of two */
    uint64_t rec_first, rec_next, rec_end;
    uint64_t next_start;             /* position of the first byte of record rec_next */
};

/* max_bytes and max_records are rounded up to powers of two. */
void queue_init(struct queue *q, size_t max_bytes, size_t max_records);
void queue_free(struct queue *q);
/* Takes a copy; false if there is no room. */
bool queue_put(struct queue *q, const char *record, size_t len);
static inline bool queue_all_sent(const struct queue *q) { return q->next == q->end; }
static inline uint64_t queue_waiting(const struct queue *q) { return q->rec_end - q->rec_next; }
/* True if the first bytes of record rec_next have been sent, but not all. */
static inline bool queue_inside(const struct queue *q) { return q->next != q->next_start; }
/* The bytes to be sent next, at most `limit`; returns the number of parts used (0..2). */
int queue_peek(const struct queue *q, size_t limit, struct iovec part[2]);
/* The n bytes that lie `offset` behind the next one to be sent: as queue_peek(). All of them wait. */
int queue_peek_at(const struct queue *q, uint64_t offset, size_t n, struct iovec part[2]);
/* Length of the waiting record number `index`. */
static inline size_t queue_length(const struct queue *q, size_t index)
{
    return q->len[(q->rec_next + index) & (q->len_cap - 1)];
}
/* The longest run of whole records that is not longer than `limit`, or the next record alone.
 * Returns its length, 0 if nothing waits; *ret_records says how many. Not for use inside a record. */
size_t queue_peek_records(const struct queue *q, size_t limit, size_t *ret_records);
/* n bytes were handed to the kernel. Returns how many records were completed by them. */
uint64_t queue_sent(struct queue *q, size_t n);
/* Of what was sent, all but the last `unacknowledged` bytes has arrived and need not be kept. */
void queue_release(struct queue *q, uint64_t unacknowledged);
/* A connection broke: what is still kept is to be sent again, from the start of a record.
 * Returns how many completed records that takes back. */
uint64_t queue_rewind(struct queue *q);

#endif
