/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/backlog.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define CHUNK_BYTES ((size_t)1 << 20)

struct backlog_chunk {
    struct backlog_chunk *next;
    size_t cap, used, done;
    _Alignas(16) uint8_t data[];
};

static size_t entry_bytes(uint32_t size)
{
    return sizeof(struct backlog_entry) + (((size_t)size + 7) & ~(size_t)7);
}

static struct backlog_chunk *chunk_get(struct backlog *b, size_t need)
{
    struct backlog_chunk *c = b->spare;

    if (c && c->cap >= need) {
        b->spare = c->next;
    } else {
        size_t cap = need > CHUNK_BYTES ? need : CHUNK_BYTES;

        c = xmalloc(sizeof(*c) + cap);
        c->cap = cap;
    }
    c->next = NULL;
    c->used = c->done = 0;
    return c;
}

/* One chunk is kept, so that a steady flow needs no allocation and an old peak doesn't stay. */
static void chunk_put(struct backlog *b, struct backlog_chunk *c)
{
    if (b->spare || c->cap > CHUNK_BYTES) {
        free(c);
        return;
    }
    c->next = NULL;
    b->spare = c;
}

void *backlog_add(struct backlog *b, enum backlog_kind kind, void *owner, uint64_t arrival, uint32_t size)
{
    size_t need = entry_bytes(size);
    struct backlog_entry *e;

    if (!b->last || b->last->cap - b->last->used < need) {
        struct backlog_chunk *c = chunk_get(b, need);

        if (b->last)
            b->last->next = c;
        else
            b->first = c;
        b->last = c;
    }
    e = (struct backlog_entry *)(void *)(b->last->data + b->last->used);
    *e = (struct backlog_entry){size, kind, owner, arrival};
    b->last->used += need;
    b->bytes += need;
    return e + 1;
}

struct backlog_entry *backlog_peek(struct backlog *b, void **ret_data)
{
    struct backlog_entry *e;

    if (!b->bytes)
        return NULL;
    while (b->first->done == b->first->used) {
        struct backlog_chunk *c = b->first;

        b->first = c->next;
        chunk_put(b, c);
    }
    e = (struct backlog_entry *)(void *)(b->first->data + b->first->done);
    *ret_data = e + 1;
    return e;
}

const struct backlog_entry *backlog_ahead(const struct backlog *b, struct backlog_place *at, const void **ret_data)
{
    const struct backlog_entry *e;

    if (!at->chunk && b->first)
        *at = (struct backlog_place){b->first, b->first->done};
    while (at->chunk && at->offset == at->chunk->used)
        *at = (struct backlog_place){at->chunk->next, 0};
    if (!at->chunk)
        return NULL;
    e = (const void *)(at->chunk->data + at->offset);
    at->offset += entry_bytes(e->size);
    *ret_data = e + 1;
    return e;
}

void backlog_pop(struct backlog *b)
{
    const struct backlog_entry *e = (const void *)(b->first->data + b->first->done);
    size_t n = entry_bytes(e->size);

    b->first->done += n;
    b->bytes -= n;
    if (!b->bytes && b->first == b->last)
        b->first->done = b->first->used = 0;
}

void backlog_move(struct backlog *b, struct backlog *from)
{
    const struct backlog_entry *e;
    void *data;

    while ((e = backlog_peek(from, &data))) {
        void *to = backlog_add(b, e->kind, e->owner, e->arrival, e->size);

        if (e->size)
            memcpy(to, data, e->size);
        backlog_pop(from);
    }
    backlog_free(from);
}

void backlog_free(struct backlog *b)
{
    while (b->first) {
        struct backlog_chunk *c = b->first;

        b->first = c->next;
        free(c);
    }
    free(b->spare);
    *b = (struct backlog){0};
}
