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

struct backlog_chunk;

struct backlog {
    struct backlog_chunk *first, *last, *spare;
    size_t bytes;         /* queued */
};

/* Appends and returns the place for `size` bytes of data. */
void *backlog_add(struct backlog *b, enum backlog_kind kind, void *owner, uint64_t arrival, uint32_t size);
/* The oldest entry, or NULL. Stays valid until backlog_pop(). */
struct backlog_entry *backlog_peek(struct backlog *b, void **ret_data);
void backlog_pop(struct backlog *b);
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
