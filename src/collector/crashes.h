/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that say they are about to die (wire/crash.h): each is answered, its
 * process is looked at by a worker (crash/crash.h), and let go; then the crash is
 * told (proc.crash), behind everything that the process had recorded before, and
 * what it did last is written beside the trace. Single-threaded.
 *
 * What is bounded, so that neither a program that crashes all the time nor one
 * that only says so costs the others much: CRASH_WORKERS at a time, of which
 * guests have CRASH_GUEST_WORKERS (one of them if two users wait), and as many
 * crashes as the budgets below allow. A crash beyond that is let go at once and
 * told without a trace. A guest that said so and goes on isn't believed again
 * while it does.
 * Bounds of what is kept on disk: crash_files.h.
 */
#ifndef SCOPE_COLLECTOR_CRASHES_H
#define SCOPE_COLLECTOR_CRASHES_H

#include <stdbool.h>
#include <stdint.h>

#define CRASH_WORKERS       4u
#define CRASH_GUEST_WORKERS 2u      /* for segments of other users */
#define CRASH_QUEUE_MS      8000u   /* a crash waits for a worker so long at most; the thread waits CRASH_WAIT_MS in all */
#define CRASH_TIMEOUT_MS    40000u  /* of a worker; it lets go of the process after a quarter of that */
#define CRASH_END_MS        5000u   /* a session that is ended waits for its workers so long at most */
#define CRASH_FLIGHT_MS     5000u   /* ... and the flight record may take so long */
/* So many at once, and then one more each time these have passed: of a segment, of the session, of all guests together. */
#define CRASH_EACH_BURST    8u
#define CRASH_EACH_NS       UINT64_C(1000000000)
#define CRASH_ALL_BURST     256u
#define CRASH_ALL_NS        UINT64_C(50000000)
#define CRASH_GUEST_BURST   64u
#define CRASH_GUEST_NS      UINT64_C(200000000)

struct buf;
struct collector;
struct crash;
struct crashes;
struct proc;

/* wake: called when a turn is due. */
struct crashes *crashes_new(struct collector *c, void (*wake)(void *ctx), void *ctx);
/* Looks for threads that say so, and goes on with the others. Costs one load for each configuration while nobody wants
 * crashes to be kept. NULL is allowed. */
void crashes_turn(struct crashes *cs);
/* Something isn't told or written yet. */
bool crashes_busy(const struct crashes *cs);
/* ... and waits for the next turn, not for a worker that will wake us. */
bool crashes_wait(const struct crashes *cs);
/* The end of this process must not be told yet: its crash is to be told first. */
bool crashes_hold(const struct crashes *cs, const struct proc *p);
/*
 * Appends a JSON array of what isn't told, or not complete on disk, oldest first: {"number":7,"pid":5439,"hostPid":6001,
 * "proc":"shop","signal":"SIGSEGV","time":1796.25,"state":"names"}. number: rises from crash to crash; hostPid: as we see
 * it, where that is another number; without a signal it may be the exit of a Go program, of which it isn't known yet
 * whether it has panicked; time: seconds, CLOCK_REALTIME. state: "waits" (for a worker), "stands" (its threads do),
 * "names" (they are let go: names are found), "ends" (it is being told, or what it did last written). NULL is allowed.
 */
void crashes_describe(const struct crashes *cs, struct buf *to);
/* An entry of the backlog (BL_CRASH) has come up: all that was recorded before is told. */
void crashes_reached(struct crashes *cs, struct crash *crash);
/* The session ends: waits for the workers, CRASH_END_MS at most, and lets go of all others. */
void crashes_finish(struct crashes *cs);
/* Everything is told and in the journal: writes the flight records that are missing, and waits for them. */
void crashes_last(struct crashes *cs);
void crashes_free(struct crashes *cs);

#endif
