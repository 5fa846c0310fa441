/* SPDX-License-Identifier: Apache-2.0 */
#include "dash/bounded.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"
#include "base/mem.h"

struct entry {
    struct entry *next; /* of equal place */
    uint64_t hash;
    size_t index; /* in all[] */
    uint16_t key_len;
    char key[BOUNDED_KEY_MAX + 1];
    _Alignas(16) char value[];
};

struct bounded {
    struct entry **places, **all;
    size_t place_count, count, bound, value_size;
    bounded_weight *weight;
    uint64_t dropped, secret;
};

struct weighed {
    uint64_t weight;
    struct entry *e;
};

static struct entry *entry_of(const void *value)
{
    return (struct entry *)((char *)(uintptr_t)value - offsetof(struct entry, value));
}

struct bounded *bounded_new(size_t bound, size_t value_size, bounded_weight *weight)
{
    struct bounded *b = xcalloc(1, sizeof(*b));

    b->bound = bound;
    b->value_size = value_size;
    b->weight = weight;
    b->place_count = 16;
    while (b->place_count < bound)
        b->place_count *= 2;
    b->places = xcalloc(b->place_count, sizeof(struct entry *));
    b->all = xcalloc(bound, sizeof(struct entry *));
    /* Without one, collisions can be chosen; they only cost time. */
    if (getrandom(&b->secret, sizeof(b->secret), GRND_NONBLOCK) != sizeof(b->secret))
        b->secret = (uintptr_t)b;
    return b;
}

void bounded_clear(struct bounded *b)
{
    for (size_t i = 0; i < b->count; i++)
        free(b->all[i]);
    memset(b->places, 0, b->place_count * sizeof(struct entry *));
    b->count = 0;
    b->dropped = 0;
}

void bounded_free(struct bounded *b)
{
    if (!b)
        return;
    bounded_clear(b);
    free(b->places);
    free(b->all);
    free(b);
}

static struct entry **place_of(const struct bounded *b, uint64_t hash, const void *key, size_t len)
{
    struct entry **at = &b->places[hash & (b->place_count - 1)];

    while (*at && ((*at)->hash != hash || (*at)->key_len != len || memcmp((*at)->key, key, len) != 0))
        at = &(*at)->next;
    return at;
}

static void take_out(struct bounded *b, struct entry *e)
{
    *place_of(b, e->hash, e->key, e->key_len) = e->next;
    b->all[e->index] = b->all[--b->count];
    b->all[e->index]->index = e->index;
    free(e);
}

static int lighter_first(const void *a, const void *b)
{
    uint64_t x = ((const struct weighed *)a)->weight, y = ((const struct weighed *)b)->weight;

    return x < y ? -1 : x > y;
}

/* Half at once: sorting for each new key would cost more than all the rest. */
static void make_room(struct bounded *b)
{
    struct weighed *list = xcalloc(b->count, sizeof(*list));
    size_t drop = b->count / 2 + 1;

    if (drop > b->count)
        drop = b->count;
    for (size_t i = 0; i < b->count; i++)
        list[i] = (struct weighed){b->weight(b->all[i]->value), b->all[i]};
    qsort(list, b->count, sizeof(*list), lighter_first);
    for (size_t i = 0; i < drop; i++)
        take_out(b, list[i].e);
    b->dropped += drop;
    free(list);
}

void *bounded_find(const struct bounded *b, const void *key, size_t len)
{
    struct entry *e;

    if (len > BOUNDED_KEY_MAX)
        len = BOUNDED_KEY_MAX;
    e = *place_of(b, hash_secret(b->secret, key, len), key, len);
    return e ? e->value : NULL;
}

void *bounded_get(struct bounded *b, const void *key, size_t len)
{
    struct entry **at, *e;
    uint64_t hash;

    if (len > BOUNDED_KEY_MAX)
        len = BOUNDED_KEY_MAX;
    hash = hash_secret(b->secret, key, len);
    at = place_of(b, hash, key, len);
    if (*at)
        return (*at)->value;
    if (b->count == b->bound) {
        make_room(b);
        at = place_of(b, hash, key, len);
    }
    e = xcalloc(1, sizeof(*e) + b->value_size);
    e->hash = hash;
    e->key_len = (uint16_t)len;
    memcpy(e->key, key, len);
    e->index = b->count;
    b->all[b->count++] = e;
    *at = e;
    return e->value;
}

void bounded_remove(struct bounded *b, const void *key, size_t len)
{
    void *value = bounded_find(b, key, len);

    if (value)
        take_out(b, entry_of(value));
}

size_t bounded_count(const struct bounded *b)
{
    return b->count;
}

uint64_t bounded_dropped(const struct bounded *b)
{
    return b->dropped;
}

void *bounded_at(const struct bounded *b, size_t i)
{
    return b->all[i]->value;
}

const char *bounded_key(const void *value, size_t *ret_len)
{
    const struct entry *e = entry_of(value);

    *ret_len = e->key_len;
    return e->key;
}

size_t bounded_best(const struct bounded *b, bounded_weight *weight, const void **ret, size_t max)
{
    struct weighed *list = xcalloc(b->count + 1, sizeof(*list));
    size_t n = b->count < max ? b->count : max;

    for (size_t i = 0; i < b->count; i++)
        list[i] = (struct weighed){(weight ? weight : b->weight)(b->all[i]->value), b->all[i]};
    qsort(list, b->count, sizeof(*list), lighter_first);
    for (size_t i = 0; i < n; i++)
        ret[i] = list[b->count - 1 - i].e->value;
    free(list);
    return n;
}
