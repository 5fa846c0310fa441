/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was read from the rings and not yet looked at: one bounded first-in
 * first-out queue for the whole session, so that what happened in one process
 * before it was told about in another stays before it. Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_BACKLOG_H
#define SCOPE_COLLECTOR_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum backlog_kind {
    BL_RECORD,   /* owner: struct segment *; data: struct record with its items */
    BL_ATTACH,   /* owner: struct segment *: its process starts here */
    BL_END,      /* owner: struct proc *: it has died and everything of it came before */
    BL_LEAVE,    /* data: pid_t of a process that is no longer observed */
    BL_CRASH,    /* owner: struct crash *: tell it */
    BL_SYNC,     /* owner: struct client *: answer it */
};

struct backlog_entry {
    uint32_t size;        /* of data */
    uint32_t kind;        /* enum backlog_kind */
    void *owner;
    uint64_t arrival;     /* CLOCK_REALTIME ns when it was read */
    /* data follows, 8-aligned */
};

struct backlog_chunk {
    struct backlog_chunk *next;
    size_t cap, used, done;
    _Alignas(16) uint8_t data[];
};

struct backlog {
    struct backlog_chunk *first, *last, *spare;
    size_t bytes;         /* queued */
};

static inline size_t backlog_entry_bytes(uint32_t size)
{
    return sizeof(struct backlog_entry) + (((size_t)size + 7) & ~(size_t)7);
}

/* Of what follows, which each record passes: another chunk, with room for `need` bytes; the first one is done with. */
void backlog_grow(struct backlog *b, size_t need);
void backlog_drop_first(struct backlog *b);

/* Appends and returns the place for `size` bytes of data. */
static inline void *backlog_add(struct backlog *b, enum backlog_kind kind, void *owner, uint64_t arrival, uint32_t size)
{
    size_t need = backlog_entry_bytes(size);
    struct backlog_entry *e;

    if (!b->last || b->last->cap - b->last->used < need)
        backlog_grow(b, need);
    e = (struct backlog_entry *)(void *)(b->last->data + b->last->used);
    *e = (struct backlog_entry){size, kind, owner, arrival};
    b->last->used += need;
    b->bytes += need;
    return e + 1;
}

/* The oldest entry, or NULL. Stays valid until backlog_pop(). */
static inline struct backlog_entry *backlog_peek(struct backlog *b, void **ret_data)
{
    struct backlog_entry *e;

    if (!b->bytes)
        return NULL;
    while (b->first->done == b->first->used)
        backlog_drop_first(b);
    e = (struct backlog_entry *)(void *)(b->first->data + b->first->done);
    *ret_data = e + 1;
    return e;
}

static inline void backlog_pop(struct backlog *b)
{
    const struct backlog_entry *e = (const void *)(b->first->data + b->first->done);
    size_t n = backlog_entry_bytes(e->size);

    b->first->done += n;
    b->bytes -= n;
    if (!b->bytes && b->first == b->last)
        b->first->done = b->first->used = 0;
}

/* Appends all of `from`, which is empty then. */
void backlog_move(struct backlog *b, struct backlog *from);
/* Looks at those behind it, without taking them: at is {0} first. NULL at the end. */
struct backlog_place {
    const struct backlog_chunk *chunk;
    size_t offset;
};
const struct backlog_entry *backlog_ahead(const struct backlog *b, struct backlog_place *at, const void **ret_data);
void backlog_free(struct backlog *b);

#endif
