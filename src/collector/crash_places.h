/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector's side of the places where threads of a segment say that they are
 * about to die (wire/crash.h): what they hold is the program's, what is known of
 * who has one is ours. Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_CRASH_PLACES_H
#define SCOPE_COLLECTOR_CRASH_PLACES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/crash.h"

struct segment;

/* What is known of a segment's places; there is none until one was taken. Freed with the segment. */
struct crash_places {
    uint64_t budget;
    struct {
        pid_t pid, tid;   /* ours, of who has it; 0: unknown */
        uint64_t done_ns; /* CLOCK_MONOTONIC: when it was let go; 0: it wasn't yet */
    } of[SEG_CRASHES];
};

/* One of them, which the program may write to at any time. i < SEG_CRASHES. */
struct seg_crash *place_at(const struct segment *seg, unsigned i);
/* Stores an enum crash_state, and wakes the thread. */
void place_set(struct segment *seg, unsigned i, uint32_t state);
/* Nobody has looked: whoever else could keep this crash (scope daemon) sees it by this. Before CRASH_DONE. */
void place_not_seen(struct segment *seg, unsigned i);
/* Whether its processes are to be looked at: some configuration says so, and so does that of who writes to it. */
bool places_wanted(const struct segment *seg);
/* Whether somebody who said before that he is about to die goes on: of who has this place, and of others after a while
 * (now: CLOCK_MONOTONIC ns). */
bool place_lives_on(const struct segment *seg, unsigned i, uint64_t now);
/* Forgets who had it, unless that thread is there: then it still has it. */
void place_forget(struct segment *seg, unsigned i);
/* Frees those whose threads have died since. */
void places_free(struct segment *seg);
/* Whether a process has this thread, be it a zombie; both as we see them. */
bool place_thread_is_there(pid_t pid, pid_t tid);

#endif
