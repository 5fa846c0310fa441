/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/tls_keys.h"

#include <string.h>
#include <sys/mman.h>

#define FOUND 0u   /* caller of one that was found in memory */
#define CALLERS 8u /* a process has as many as TLS libraries, with two or three each */

struct kept {
    struct tls_open_key key; /* len 0: none, or used up */
    uint64_t caller, time_ns;
};

struct tls_keys {
    uint64_t count;             /* numbers given so far; that of an entry is its place + 1, modulo TLS_KEYS_MAX */
    uint64_t first;             /* lower ones are gone */
    uint64_t lost;              /* overwritten, here or before they came here */
    uint64_t callers[CALLERS];  /* whose keys have opened something; 0: none */
    unsigned next_caller;
    unsigned looks;             /* TLS_KEYS_LOOKS: no more until the next sweep */
    struct kept kept[TLS_KEYS_MAX];
};

struct tls_keys *tls_keys_new(void)
{
    void *p = mmap(NULL, sizeof(struct tls_keys), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    madvise(p, sizeof(struct tls_keys), MADV_DONTDUMP);
    madvise(p, sizeof(struct tls_keys), MADV_WIPEONFORK); /* workers have no business with them */
    mlock2(p, sizeof(struct tls_keys), MLOCK_ONFAULT); /* pages that have no keys cost nothing */
    return p;
}

void tls_keys_free(struct tls_keys *k)
{
    if (!k)
        return;
    explicit_bzero(k->kept, (k->count < TLS_KEYS_MAX ? k->count : TLS_KEYS_MAX) * sizeof(*k->kept));
    munmap(k, sizeof(*k));
}

static struct kept *place_of(struct tls_keys *k, uint64_t number)
{
    return &k->kept[(number - 1) % TLS_KEYS_MAX];
}

void tls_keys_add(struct tls_keys *k, const uint8_t *bytes, uint64_t len, uint64_t caller, uint64_t time_ns)
{
    struct kept *to;

    if (len != 16 && len != 32)
        return;
    to = place_of(k, ++k->count);
    if (k->count > TLS_KEYS_MAX && to->key.len && k->first < k->count - TLS_KEYS_MAX)
        k->lost++;
    explicit_bzero(to, sizeof(*to));
    to->key.len = (uint8_t)len;
    memcpy(to->key.bytes, bytes, len);
    to->caller = caller;
    to->time_ns = time_ns;
    if (k->count > TLS_KEYS_MAX && k->first < k->count - TLS_KEYS_MAX)
        k->first = k->count - TLS_KEYS_MAX;
}

void tls_keys_found(struct tls_keys *k, const uint8_t *bytes, uint64_t len, uint64_t time_ns)
{
    for (uint64_t n = k->first; n < k->count; n++) {
        struct kept *have = &k->kept[n % TLS_KEYS_MAX];

        if (have->key.len == len && !memcmp(have->key.bytes, bytes, len))
            return;
    }
    tls_keys_add(k, bytes, len, FOUND, time_ns);
}

void tls_keys_copy(struct tls_keys *to, const struct tls_keys *from)
{
    for (uint64_t n = from->first; n < from->count; n++) {
        const struct kept *k = &from->kept[n % TLS_KEYS_MAX];

        tls_keys_add(to, k->key.bytes, k->key.len, k->caller, k->time_ns);
    }
    memcpy(to->callers, from->callers, sizeof(to->callers));
    to->next_caller = from->next_caller;
}

void tls_keys_missed(struct tls_keys *k, uint64_t count)
{
    k->lost += count;
}

uint64_t tls_keys_lost(const struct tls_keys *k)
{
    return k->lost;
}

static bool is_proven(const struct tls_keys *k, uint64_t caller)
{
    for (unsigned i = 0; i < CALLERS; i++)
        if (k->callers[i] == caller)
            return true;
    return caller == FOUND;
}

bool tls_keys_next(struct tls_keys *k, uint64_t since_ns, bool all, uint64_t *at, struct tls_open_key *ret)
{
    uint64_t n = *at < k->first ? k->first : *at;

    while (n < k->count) {
        const struct kept *from = &k->kept[n++ % TLS_KEYS_MAX];

        if (!from->key.len || from->time_ns < since_ns || (!all && k->callers[0] && !is_proven(k, from->caller)))
            continue;
        if (k->looks >= TLS_KEYS_LOOKS)
            return false;
        k->looks++;
        *at = n;
        *ret = from->key;
        return true;
    }
    return false;
}

void tls_keys_charge(struct tls_keys *k, unsigned looks)
{
    k->looks += looks;
}

void tls_keys_take(struct tls_keys *k, uint64_t at)
{
    struct kept *from = place_of(k, at);

    if (at <= k->first || at > k->count)
        return;
    if (!is_proven(k, from->caller))
        k->callers[k->next_caller++ % CALLERS] = from->caller;
    explicit_bzero(&from->key, sizeof(from->key));
}

bool tls_keys_sweep(struct tls_keys *k, uint64_t time_ns)
{
    k->looks = 0;
    while (k->first < k->count && k->kept[k->first % TLS_KEYS_MAX].time_ns + TLS_KEYS_NS < time_ns)
        explicit_bzero(&k->kept[k->first++ % TLS_KEYS_MAX].key, sizeof(struct tls_open_key));
    return k->first < k->count;
}
