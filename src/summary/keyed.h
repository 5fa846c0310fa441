/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows found by a key, of which there are only so many. Keys come from observed programs, which may choose them to
 * collide: a row that would make a chain too long is refused like one that is too many, and counted. Not thread-safe.
 */
#ifndef SCOPE_SUMMARY_KEYED_H
#define SCOPE_SUMMARY_KEYED_H

#include <stddef.h>
#include <stdint.h>

/* What each row begins with. Rows don't move. */
struct keyed_row {
    struct keyed_row *next;
    uint64_t hash;
    size_t key_len;
    uint64_t order; /* in which they came, from 0 on */
    char *key;      /* any bytes, and a NUL behind them */
};

struct keyed {
    size_t row_size, max; /* the caller's: bytes of a row, and how many there may be at most */
    size_t max_key_bytes; /* the caller's: of all keys together; 0: as many as there are */
    struct keyed_row **slots;
    size_t slot_count, count, key_bytes;
    uint64_t made, refused;
};

/* The row with this key; a new one is zeroed behind its beginning. NULL: there is no room for it. */
void *keyed_at(struct keyed *t, const void *key, size_t len);
/* The row with this key, or NULL. */
void *keyed_find(const struct keyed *t, const void *key, size_t len);
/* Takes it out and frees it. */
void keyed_remove(struct keyed *t, void *row);
/* All of them in the order in which they came: a malloc'ed array of t->count; the rows stay the table's. */
void **keyed_list(const struct keyed *t);
/* Frees rows and table, not what rows point to. It may be used anew. */
void keyed_clear(struct keyed *t);

#endif
