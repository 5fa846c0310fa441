/* SPDX-License-Identifier: Apache-2.0 */
#include "dash/latency.h"

#include <string.h>

/* Exact below 8; above, four buckets for each power of two. */
static unsigned bucket_of(uint64_t ms)
{
    unsigned power, b;

    if (ms < 8)
        return (unsigned)ms;
    power = 63u - (unsigned)__builtin_clzll(ms);
    b = 8 + (power - 3) * 4 + (unsigned)(ms >> (power - 2) & 3);
    return b < LATENCY_BUCKETS ? b : LATENCY_BUCKETS - 1;
}

static uint64_t last_of(unsigned bucket)
{
    unsigned power = (bucket - 8) / 4 + 3, quarter = (bucket - 8) % 4;

    if (bucket < 8)
        return bucket;
    return ((uint64_t)(4 + quarter + 1) << (power - 2)) - 1;
}

void latency_add(struct latency *l, uint64_t second, uint64_t ms)
{
    uint64_t at = second / LATENCY_SLOT_S;
    struct latency_slot *s = &l->slots[at % LATENCY_SLOTS];

    if (s->at > at)
        return;
    if (s->at != at) {
        memset(s, 0, sizeof(*s));
        s->at = at;
    }
    s->count[bucket_of(ms)]++;
}

int64_t latency_percentile(const struct latency *l, uint64_t now, unsigned seconds, unsigned percent)
{
    uint64_t last = now / LATENCY_SLOT_S, first = last - seconds / LATENCY_SLOT_S, total = 0, seen = 0;
    uint64_t sum[LATENCY_BUCKETS] = {0};

    for (unsigned i = 0; i < LATENCY_SLOTS; i++) {
        if (l->slots[i].at < first || l->slots[i].at > last)
            continue;
        for (unsigned b = 0; b < LATENCY_BUCKETS; b++) {
            sum[b] += l->slots[i].count[b];
            total += l->slots[i].count[b];
        }
    }
    for (unsigned b = 0; b < LATENCY_BUCKETS; b++) {
        seen += sum[b];
        if (total && seen * 100 >= total * percent)
            return (int64_t)last_of(b);
    }
    return -1;
}
