/* SPDX-License-Identifier: Apache-2.0 */
#include "debts.h"

#define HIDDEN __attribute__((visibility("hidden")))

/* Objects are aligned: the lowest bits say what is owed. */
enum what { RECEIVED, SENT, THE_END };

#define DEBTS 1024u /* a power of two */
#define WINDOW 16u  /* places where an entry may lie, from its hash on: others may come and go between them */
static struct debt {
    uint64_t key;   /* 0: free */
    uint64_t bytes; /* THE_END: not 0 */
} debts[DEBTS];

/* How often there was no place in the table since that was told. */
static uint64_t debts_all;

HIDDEN uint32_t debts_open;

static uint64_t key_of(uint64_t object, enum what what)
{
    return (object & ~UINT64_C(3)) | what;
}

static struct debt *debt_at(uint64_t key, unsigned i)
{
    return &debts[((key * UINT64_C(0x9e3779b97f4a7c15) >> 54) + i) % DEBTS];
}

static struct debt *debt_find(uint64_t key)
{
    for (unsigned i = 0; i < WINDOW; i++)
        if (__atomic_load_n(&debt_at(key, i)->key, __ATOMIC_RELAXED) == key)
            return debt_at(key, i);
    return NULL;
}

/* Likewise, makes one. NULL: no place, which will be told. */
static struct debt *debt_make(uint64_t key)
{
    struct debt *d = debt_find(key);

    if (d)
        return d;
    __atomic_fetch_add(&debts_open, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < WINDOW; i++) {
        uint64_t free = 0;

        if (__atomic_compare_exchange_n(&debt_at(key, i)->key, &free, key, false, ORDER_DEBT_TAKE, __ATOMIC_RELAXED))
            return debt_at(key, i);
    }
    if (__atomic_fetch_add(&debts_all, 1, __ATOMIC_RELAXED)) /* it is counted already */
        __atomic_fetch_sub(&debts_open, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void debt_drop(struct debt *d)
{
    __atomic_store_n(&d->bytes, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&d->key, 0, ORDER_DEBT_FREE);
    __atomic_fetch_sub(&debts_open, 1, __ATOMIC_RELAXED);
}

HIDDEN void debt_add(uint64_t object, enum data_source source, uint64_t bytes)
{
    struct debt *d = debt_make(key_of(object, source == DATA_TLS_TX ? SENT : RECEIVED));

    if (d)
        __atomic_fetch_add(&d->bytes, bytes, __ATOMIC_RELAXED);
}

HIDDEN void debt_forgive(uint64_t object)
{
    struct debt *d;

    for (enum what what = RECEIVED; what <= THE_END; what++)
        if ((d = debt_find(key_of(object, what))))
            debt_drop(d);
}

HIDDEN void debt_end(uint64_t object)
{
    struct debt *d;

    debt_forgive(object);
    if ((d = debt_make(key_of(object, THE_END))))
        __atomic_store_n(&d->bytes, 1, __ATOMIC_RELAXED);
}

/* A record of the object without data: a gap of so many bytes, or if none its end. */
static bool write_empty(struct segment_header *s, const struct record *like, enum data_source source, uint64_t object,
                        uint64_t bytes)
{
    struct record r = *like;

    r.arg[1] = 0;
    r.arg[3] = source;
    r.arg[4] = object;
    r.ret = (int64_t)bytes;
    return ring_write(s, &r, NULL, 0);
}

HIDDEN bool debts_pay(struct segment_header *s, const struct record *r)
{
    uint64_t object = r->arg[4], all = __atomic_load_n(&debts_all, __ATOMIC_RELAXED);
    enum data_source source = (enum data_source)r->arg[3];
    struct debt *d;

    if (all) {
        if (!write_empty(s, r, DATA_TLS_RX, 0, 0))
            return false;
        /* Told before it is cleared: nobody passes by meanwhile. Not cleared if there is more by now. */
        if (__atomic_compare_exchange_n(&debts_all, &all, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            __atomic_fetch_sub(&debts_open, 1, __ATOMIC_RELAXED);
    }
    if ((d = debt_find(key_of(object, THE_END)))) {
        if (!write_empty(s, r, DATA_TLS_RX, object, 0))
            return false;
        debt_drop(d);
    }
    if ((d = debt_find(key_of(object, source == DATA_TLS_TX ? SENT : RECEIVED)))) {
        uint64_t bytes = __atomic_load_n(&d->bytes, __ATOMIC_RELAXED);

        if (bytes && !write_empty(s, r, source, object, bytes)) /* none: who made the entry never came back to it */
            return false;
        debt_drop(d);
    }
    return true;
}

HIDDEN void debts_forked(void)
{
    if (!debts_open)
        return;
    memset(debts, 0, sizeof(debts));
    debts_all = 0;
    debts_open = 0;
}
