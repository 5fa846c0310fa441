/* SPDX-License-Identifier: Apache-2.0 */
/* Hash tables, and texts that are kept once: so that keys made of texts are compared by their addresses. */
#ifndef SCOPE_OTLP_TEXTS_H
#define SCOPE_OTLP_TEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* The first member of what is in a table is a pointer to the next one in the same slot. */
struct slots {
    void **slot;
    size_t slots, count; /* slots: 0 or a power of two */
};

static inline void *slots_first(const struct slots *t, uint64_t hash)
{
    return t->slots ? t->slot[hash & (t->slots - 1)] : NULL;
}

/* hash_of: for when the table grows. */
void slots_add(struct slots *t, void *entry, uint64_t (*hash_of)(const void *entry));
/* It must be there. */
void slots_remove(struct slots *t, void *entry, uint64_t hash);
/* Not what is in it. */
void slots_free(struct slots *t);

#define TEXT_MAX 255u /* bytes of a cleaned text */

struct text {
    struct text *same_slot;
    uint64_t hash;
    uint32_t refs; /* 0: text_drop() frees it */
    uint32_t len;
    char p[];
};

struct texts {
    struct slots table;
    uint64_t seed;    /* nobody who chooses texts may know it */
    size_t bytes;     /* memory of all */
    struct buf scratch;
};

/* All texts must have been dropped. */
void texts_release(struct texts *t);
/* Any bytes; NULL if it is new and none shall be made. One that is made has no references. */
const struct text *text_of(struct texts *t, const char *p, size_t len, bool make);
/* The same as valid UTF-8 of at most TEXT_MAX bytes: what isn't is replaced by U+FFFD, the rest cut off. So texts that look
 * the same where they are told are the same. */
const struct text *text_cleaned(struct texts *t, const char *p, size_t len, bool make);
/* NULL is fine. */
void text_ref(const struct text *text);
void text_put(struct texts *t, const struct text *text);
/* Frees it if nobody refers to it. */
void text_drop(struct texts *t, const struct text *text);

#endif
