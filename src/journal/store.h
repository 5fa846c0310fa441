/* SPDX-License-Identifier: Apache-2.0 */
/* Brings blocks into the file: a queue of bounded size, and a thread that takes from it. */
#ifndef SCOPE_JOURNAL_STORE_H
#define SCOPE_JOURNAL_STORE_H

#include "journal/format.h"
#include "journal/writer.h"

struct store;

struct store_block {
    struct store_block *next;
    size_t room, size;      /* of bytes: there are, are used */
    uint64_t group;         /* those of one depend on the first */
    struct block_head head; /* all but number, back, len and check sums */
    uint8_t bytes[];        /* room for the head, body, index, room for the trailer */
};

/* See journal_writer_new(). */
struct store *store_new(int fd);
/* Waits at most ms milliseconds for the thread. */
void store_free(struct store *s, unsigned ms);
bool store_has_room(const struct store *s, size_t size);
struct store_block *store_block_new(struct store *s, size_t size);
void store_put(struct store *s, struct store_block *b);
/* Whether a block of this group couldn't be written. */
bool store_has_lost(const struct store *s, uint64_t group);
/* Counts records that won't come. */
void store_lose(struct store *s, uint64_t records);
/* Until the queue is empty; false: it isn't. */
bool store_wait(struct store *s, unsigned ms);
/* Gives back what is kept to be used again. True: the queue isn't empty, there will be more. */
bool store_trim(struct store *s);
void store_stats(const struct store *s, struct journal_stats *ret);

#endif
