/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the clock of a segment to CLOCK_REALTIME nanoseconds.
 *
 * The time stamp counter is compared with the kernel's clocks about once a
 * second. An event is converted with the newest pair that is older than it, so
 * that a step of the wall clock moves only events that come after it, and an
 * error of the measured rate can't accumulate for longer than a second.
 * Single-threaded.
 */
#ifndef SCOPE_MODEL_CLOCK_H
#define SCOPE_MODEL_CLOCK_H

#include <stdint.h>

#define CLOCK_ANCHORS 16u

struct clock_anchor {
    uint64_t tsc, raw, mono, real; /* counter value; CLOCK_MONOTONIC_RAW, _MONOTONIC, _REALTIME in ns, same moment */
};

struct clock_map {
    struct clock_anchor anchor[CLOCK_ANCHORS];
    unsigned count;      /* anchors ever made; the newest is (count - 1) % CLOCK_ANCHORS */
    double ns_per_tick;  /* 0 until two anchors are far enough apart */
};

/* Makes the first anchor. */
void clock_init(struct clock_map *m);
/* Adds an anchor if the newest is older than a second (or the rate isn't known well yet). Cheap. */
void clock_sample(struct clock_map *m);
/* Time of an event, ns. kind is enum seg_clock; arrival is used if the value can't be converted or lies in the future. */
uint64_t clock_to_real(const struct clock_map *m, uint32_t kind, uint64_t value, uint64_t arrival);
/* A duration in ticks, in ns. */
uint64_t clock_ticks_ns(const struct clock_map *m, uint32_t kind, uint64_t ticks);

uint64_t clock_now_real(void); /* CLOCK_REALTIME, ns */
uint64_t clock_now_mono(void); /* CLOCK_MONOTONIC, ns */
uint64_t clock_used(void);     /* CPU time of this thread, ns; a system call */

#endif
