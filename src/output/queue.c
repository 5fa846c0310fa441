/* SPDX-License-Identifier: Apache-2.0 */
#include "output/queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define FIRST_BYTES   ((size_t)64 * 1024)
#define FIRST_RECORDS ((size_t)1024)
#define KEEP_BYTES    ((size_t)16 * 1024 * 1024) /* an empty queue has no more */

static size_t round_up(size_t n)
{
    size_t p = 1;

    while (p < n)
        p *= 2;
    return p;
}

void queue_init(struct queue *q, size_t max_bytes, size_t max_records)
{
    memset(q, 0, sizeof(*q));
    q->max_bytes = round_up(max_bytes);
    q->max_records = round_up(max_records);
}

void queue_free(struct queue *q)
{
    free(q->bytes);
    free(q->len);
    memset(q, 0, sizeof(*q));
}

static void copy_in(char *to, size_t cap, uint64_t pos, const char *from, size_t n)
{
    size_t at = pos & (cap - 1), head = cap - at < n ? cap - at : n;

    memcpy(to + at, from, head);
    memcpy(to, from + head, n - head);
}

static bool grow_bytes(struct queue *q, size_t need)
{
    size_t cap = q->cap ? q->cap : FIRST_BYTES < q->max_bytes ? FIRST_BYTES : q->max_bytes, at, head;
    size_t used = (size_t)(q->end - q->first);
    char *bytes;

    while (cap < need && cap < q->max_bytes)
        cap *= 2;
    if (cap < need)
        return false;
    bytes = xmalloc(cap);
    if (used) {
        at = q->first & (q->cap - 1);
        head = q->cap - at < used ? q->cap - at : used;
        copy_in(bytes, cap, q->first, q->bytes + at, head);
        copy_in(bytes, cap, q->first + head, q->bytes, used - head);
    }
    free(q->bytes);
    q->bytes = bytes;
    q->cap = cap;
    return true;
}

static bool grow_records(struct queue *q)
{
    size_t cap = q->len_cap ? q->len_cap * 2 : FIRST_RECORDS < q->max_records ? FIRST_RECORDS : q->max_records;
    uint32_t *len;

    if (cap > q->max_records)
        return false;
    len = xmalloc(cap * sizeof(*len));
    for (uint64_t r = q->rec_first; r != q->rec_end; r++)
        len[r & (cap - 1)] = q->len[r & (q->len_cap - 1)];
    free(q->len);
    q->len = len;
    q->len_cap = cap;
    return true;
}

bool queue_put(struct queue *q, const char *record, size_t n)
{
    size_t used = (size_t)(q->end - q->first);

    if (!used) /* start at the beginning: the same memory stays in the CPU's cache */
        q->first = q->next = q->next_start = q->end = 0;
    if (n > q->max_bytes || (used + n > q->cap && !grow_bytes(q, used + n)))
        return false;
    if (q->rec_end - q->rec_first == q->len_cap && !grow_records(q))
        return false;
    copy_in(q->bytes, q->cap, q->end, record, n);
    q->end += n;
    q->len[q->rec_end++ & (q->len_cap - 1)] = (uint32_t)n;
    return true;
}

int queue_peek(const struct queue *q, size_t limit, struct iovec part[2])
{
    uint64_t waiting = q->end - q->next;

    return queue_peek_at(q, 0, waiting < limit ? (size_t)waiting : limit, part);
}

int queue_peek_at(const struct queue *q, uint64_t offset, size_t n, struct iovec part[2])
{
    size_t at, head;

    if (!n)
        return 0;
    at = (q->next + offset) & (q->cap - 1);
    head = q->cap - at < n ? q->cap - at : n;
    part[0] = (struct iovec){.iov_base = q->bytes + at, .iov_len = head};
    part[1] = (struct iovec){.iov_base = q->bytes, .iov_len = n - head};
    return n > head ? 2 : 1;
}

size_t queue_peek_records(const struct queue *q, size_t limit, size_t *ret_records)
{
    size_t n = 0, records = 0;

    for (uint64_t r = q->rec_next; r != q->rec_end; r++, records++) {
        size_t len = q->len[r & (q->len_cap - 1)];

        if (records && len > limit - n)
            break;
        n += len;
        if (n >= limit) {
            records++;
            break;
        }
    }
    *ret_records = records;
    return n;
}

uint64_t queue_sent(struct queue *q, size_t n)
{
    uint64_t before = q->rec_next;

    q->next += n;
    while (q->rec_next != q->rec_end) {
        size_t len = q->len[q->rec_next & (q->len_cap - 1)];

        if (q->next - q->next_start < len)
            break;
        q->next_start += len;
        q->rec_next++;
    }
    return q->rec_next - before;
}

void queue_release(struct queue *q, uint64_t unacknowledged)
{
    uint64_t arrived = q->next - q->first;

    arrived = arrived > unacknowledged ? arrived - unacknowledged : 0;
    while (q->rec_first != q->rec_next) {
        size_t len = q->len[q->rec_first & (q->len_cap - 1)];

        if (len > arrived)
            break;
        arrived -= len;
        q->first += len;
        q->rec_first++;
    }
    if (q->first == q->end && q->cap > KEEP_BYTES) {
        free(q->bytes);
        q->bytes = NULL;
        q->cap = 0;
    }
}

uint64_t queue_rewind(struct queue *q)
{
    uint64_t back = q->rec_next - q->rec_first;

    q->rec_next = q->rec_first;
    q->next = q->next_start = q->first;
    return back;
}
