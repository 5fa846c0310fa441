/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define BLOCK 16384u
#define ALIGNMENT 8u

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED
#endif

#ifdef SANITIZED /* which sees only what malloc() gave */

void *pool_get(struct pool *p)
{
    return xcalloc(1, p->size);
}

void pool_put(struct pool *p, void *object)
{
    (void)p;
    free(object);
}

#else

static size_t step_of(const struct pool *p)
{
    return (p->size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

/* The first unit of a block links it to the one before. */
static void refill(struct pool *p)
{
    size_t step = step_of(p), count = BLOCK / step > 1 ? BLOCK / step - 1 : 1;
    char *block = xmalloc(ALIGNMENT + count * step);

    memcpy(block, &p->block, sizeof(p->block));
    p->block = block;
    for (size_t i = count; i > 0; i--)
        pool_put(p, block + ALIGNMENT + (i - 1) * step);
}

void *pool_get(struct pool *p)
{
    void *object;

    if (!p->free)
        refill(p);
    object = p->free;
    memcpy(&p->free, object, sizeof(p->free));
    return memset(object, 0, p->size);
}

void pool_put(struct pool *p, void *object)
{
    if (!object)
        return;
    memcpy(object, &p->free, sizeof(p->free));
    p->free = object;
}

#endif
