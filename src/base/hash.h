/* SPDX-License-Identifier: Apache-2.0 */
/* A quick hash for tables of our own, eight bytes at a time. Not for keys that somebody else can choose to collide,
 * unless a collision costs no more than one entry of a cache. */
#ifndef SCOPE_BASE_HASH_H
#define SCOPE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    __uint128_t m = (__uint128_t)(a ^ UINT64_C(0x9e3779b97f4a7c15)) * (b ^ UINT64_C(0xd6e8feb86659fd93));

    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* n bytes, 8 at most. */
static inline uint64_t hash_load(const char *p, size_t n)
{
    uint64_t v = 0;

    memcpy(&v, p, n);
    return v;
}

static inline uint64_t hash_bytes(const char *p, size_t len)
{
    uint64_t h = len;

    if (len >= 8) {
        for (; len > 8; len -= 8, p += 8)
            h = hash_mix(h, hash_load(p, 8));
        return hash_mix(h, hash_load(p + len - 8, 8));
    }
    if (len >= 4)
        return hash_mix(h, hash_load(p, 4) << 32 | hash_load(p + len - 4, 4));
    if (!len)
        return 0;
    return hash_mix(h, (uint64_t)(uint8_t)p[0] << 16 | (uint64_t)(uint8_t)p[len / 2] << 8 | (uint8_t)p[len - 1]);
}

/* The same for keys that somebody else may choose, who doesn't know the secret: a random number that isn't 0. */
static inline uint64_t hash_secret(uint64_t secret, const char *p, size_t len)
{
    uint64_t h = hash_mix(secret, len);

    for (; len > 8; len -= 8, p += 8)
        h = hash_mix(h, hash_load(p, 8) ^ secret);
    return hash_mix(h, hash_load(p, len) ^ secret);
}

#endif
