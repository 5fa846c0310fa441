/* SPDX-License-Identifier: Apache-2.0 */
/* A token bucket: `rate` events per second, at most one second's worth at once. Exact (no floating point). */
#ifndef SCOPE_TELEMETRY_LIMIT_H
#define SCOPE_TELEMETRY_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct limit {
    uint32_t rate;   /* per second; 0: no limit */
    bool started;
    uint64_t last;   /* ns, latest time seen */
    uint64_t credit; /* billionths of an event */
};

/* May an event of this time (ns) pass? Times may come slightly out of order; only later ones earn credit. */
static inline bool limit_take(struct limit *l, uint64_t time_ns)
{
    const uint64_t second = 1000000000, clock_was_set = 60 * second;
    uint64_t full = l->rate * second;

    if (!l->rate)
        return true;
    if (!l->started) {
        l->started = true;
        l->last = time_ns;
        l->credit = full;
    }
    if (time_ns > l->last) {
        uint64_t passed = time_ns - l->last < second ? time_ns - l->last : second;

        l->credit = l->credit + passed * l->rate < full ? l->credit + passed * l->rate : full;
        l->last = time_ns;
    } else if (l->last - time_ns > clock_was_set) {
        l->last = time_ns;
    }
    if (l->credit < second)
        return false;
    l->credit -= second;
    return true;
}

#endif
