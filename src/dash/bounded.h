/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table from keys (any bytes) to values of one size that never holds more than so many. When it is full the half that
 * weighs least is dropped, and counted. Keys are others' choice: the hash has a secret of its own. Not thread-safe.
 */
#ifndef SCOPE_DASH_BOUNDED_H
#define SCOPE_DASH_BOUNDED_H

#include <stddef.h>
#include <stdint.h>

#define BOUNDED_KEY_MAX 256 /* bytes; of longer keys the beginning */

struct bounded;

/* What a value is worth keeping; the least goes first. */
typedef uint64_t bounded_weight(const void *value);

struct bounded *bounded_new(size_t bound, size_t value_size, bounded_weight *weight);
void bounded_free(struct bounded *b);
void bounded_clear(struct bounded *b);
/* The value of a key, NULL if there is none. Valid until the next bounded_get() or bounded_remove(). */
void *bounded_find(const struct bounded *b, const void *key, size_t len);
/* The same; makes it, all zero, if there is none. Never NULL. */
void *bounded_get(struct bounded *b, const void *key, size_t len);
void bounded_remove(struct bounded *b, const void *key, size_t len);
size_t bounded_count(const struct bounded *b);
/* How many were dropped for want of room since it was cleared. */
uint64_t bounded_dropped(const struct bounded *b);
/* The value at an index below bounded_count(), in no order. */
void *bounded_at(const struct bounded *b, size_t i);
/* The key of a value, NUL-terminated. */
const char *bounded_key(const void *value, size_t *ret_len);
/* The heaviest ones first, at most max of them, into ret: how many. weight NULL: that of the table. */
size_t bounded_best(const struct bounded *b, bounded_weight *weight, const void **ret, size_t max);

#endif
