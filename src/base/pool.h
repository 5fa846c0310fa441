/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for many objects of one size that live long: in blocks of their own,
 * without headers, away from what malloc(3) gives to short-lived ones, which
 * would leave holes between them. What is given back is used again, and stays
 * the pool's until the process ends. Not thread-safe.
 *
 * Objects are aligned to 8 bytes.
 *
 *   static struct pool pool = POOL(struct sock);
 */
#ifndef SCOPE_BASE_POOL_H
#define SCOPE_BASE_POOL_H

#include <stddef.h>

struct pool {
    size_t size;
    void *free;  /* list of those that are free, linked by their first word */
    void *block; /* the newest block: the list of all begins here, so that no tool takes them for lost */
};

#define POOL(type) {.size = sizeof(type)}

/* An object, filled with zeros. Never fails: the process ends as with xcalloc(). */
void *pool_get(struct pool *p);
/* NULL is fine. */
void pool_put(struct pool *p, void *object);

#endif
