/* SPDX-License-Identifier: Apache-2.0 */
/* Durations of the last minutes, as a histogram whose buckets are at most a quarter wide, in slots of ten seconds. */
#ifndef SCOPE_DASH_LATENCY_H
#define SCOPE_DASH_LATENCY_H

#include <stdint.h>

#define LATENCY_SLOTS 60
#define LATENCY_SLOT_S 10
#define LATENCY_BUCKETS 128

struct latency {
    struct latency_slot {
        uint64_t at; /* seconds / LATENCY_SLOT_S */
        uint32_t count[LATENCY_BUCKETS];
    } slots[LATENCY_SLOTS];
};

/* second: of CLOCK_REALTIME, when it was over. */
void latency_add(struct latency *l, uint64_t second, uint64_t ms);
/* The duration, in milliseconds, that `percent` of those of the `seconds` until `now` didn't exceed; the true one is at
 * most a quarter less. -1: there were none. */
int64_t latency_percentile(const struct latency *l, uint64_t now, unsigned seconds, unsigned percent);

#endif
