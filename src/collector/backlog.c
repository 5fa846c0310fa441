/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/backlog.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define CHUNK_BYTES ((size_t)1 << 20)

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

void backlog_grow(struct backlog *b, size_t need)
{
    struct backlog_chunk *c = chunk_get(b, need);

    if (b->last)
        b->last->next = c;
    else
        b->first = c;
    b->last = c;
}

void backlog_drop_first(struct backlog *b)
{
    struct backlog_chunk *c = b->first;

    b->first = c->next;
    chunk_put(b, c);
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
    at->offset += backlog_entry_bytes(e->size);
    *ret_data = e + 1;
    return e;
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
