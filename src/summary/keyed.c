/* SPDX-License-Identifier: Apache-2.0 */
#include "summary/keyed.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"
#include "base/mem.h"

#define SLOTS_MIN 64u
#define CHAIN_MAX 64 /* at one row for each slot, chains of honest keys are far shorter */

/* Observed programs choose keys, and could choose such as collide if they knew this. */
static uint64_t hash_of(const void *key, size_t len)
{
    static uint64_t secret;

    if (!secret && (getrandom(&secret, sizeof(secret), GRND_NONBLOCK) != sizeof(secret) || !secret))
        secret = (uintptr_t)&secret | 1;
    return hash_secret(secret, key, len);
}

static void grow(struct keyed *t)
{
    size_t count = t->slot_count ? 2 * t->slot_count : SLOTS_MIN;
    struct keyed_row **slots = xcalloc(count, sizeof(struct keyed_row *));

    for (size_t i = 0; i < t->slot_count; i++) {
        for (struct keyed_row *row = t->slots[i], *next; row; row = next) {
            next = row->next;
            row->next = slots[row->hash & (count - 1)];
            slots[row->hash & (count - 1)] = row;
        }
    }
    free(t->slots);
    t->slots = slots;
    t->slot_count = count;
}

static struct keyed_row *find(const struct keyed *t, uint64_t hash, const void *key, size_t len, int *ret_steps)
{
    struct keyed_row *row = t->slot_count ? t->slots[hash & (t->slot_count - 1)] : NULL;

    for (*ret_steps = 0; row; row = row->next, ++*ret_steps)
        if (row->hash == hash && row->key_len == len && memcmp(row->key, key, len) == 0)
            return row;
    return NULL;
}

void *keyed_find(const struct keyed *t, const void *key, size_t len)
{
    int steps;

    return find(t, hash_of(key, len), key, len, &steps);
}

void *keyed_at(struct keyed *t, const void *key, size_t len)
{
    uint64_t hash = hash_of(key, len);
    int steps;
    struct keyed_row *row = find(t, hash, key, len, &steps);

    if (row)
        return row;
    if (t->count >= t->max || steps >= CHAIN_MAX || (t->max_key_bytes && len > t->max_key_bytes - t->key_bytes)) {
        t->refused++;
        return NULL;
    }
    if (t->count >= t->slot_count)
        grow(t);
    row = xmalloc(t->row_size + len + 1);
    memset(row, 0, t->row_size);
    row->key = (char *)row + t->row_size;
    memcpy(row->key, key, len);
    row->key[len] = '\0';
    row->key_len = len;
    row->hash = hash;
    row->order = t->made++;
    row->next = t->slots[hash & (t->slot_count - 1)];
    t->slots[hash & (t->slot_count - 1)] = row;
    t->count++;
    t->key_bytes += len;
    return row;
}

void keyed_remove(struct keyed *t, void *row)
{
    struct keyed_row *gone = row, **at = &t->slots[gone->hash & (t->slot_count - 1)];

    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    t->count--;
    t->key_bytes -= gone->key_len;
    free(gone);
}

static int compare_order(const void *a, const void *b)
{
    const struct keyed_row *x = *(struct keyed_row *const *)a, *y = *(struct keyed_row *const *)b;

    return x->order < y->order ? -1 : x->order > y->order;
}

void **keyed_list(const struct keyed *t)
{
    void **list = xcalloc(t->count + 1, sizeof(void *));
    size_t n = 0;

    for (size_t i = 0; i < t->slot_count; i++)
        for (struct keyed_row *row = t->slots[i]; row; row = row->next)
            list[n++] = row;
    qsort(list, n, sizeof(*list), compare_order);
    return list;
}

void keyed_clear(struct keyed *t)
{
    for (size_t i = 0; i < t->slot_count; i++) {
        for (struct keyed_row *row = t->slots[i], *next; row; row = next) {
            next = row->next;
            free(row);
        }
    }
    free(t->slots);
    *t = (struct keyed){.row_size = t->row_size, .max = t->max, .max_key_bytes = t->max_key_bytes};
}
