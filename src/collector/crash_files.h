/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session keeps of a crash on disk: a directory, the files that a worker
 * (crash/crash.h) leaves there, and the flight record (sink/flight.h), which a
 * process of its own writes. All within bounds. Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_CRASH_FILES_H
#define SCOPE_COLLECTOR_CRASH_FILES_H

#include <stdbool.h>
#include <stdint.h>

#define CRASH_WRITERS 2u /* of flight records at a time; others wait CRASH_QUEUE_MS (crashes.h) */
#define CRASH_GUEST_WRITERS 1u
#define CRASH_DIRS_MAX 1000u /* crashes that a session keeps */
#define CRASH_GUEST_DIRS_MAX (CRASH_DIRS_MAX / 4)
#define CRASH_GUEST_TEXT_MAX \
    (UINT64_C(256) << 20)        /* bytes of guests' files other than cores, beyond which no more begin */
#define CRASH_GUEST_CORES_MAX 2u /* as CRASH_CORES_MAX, of guests alone */
#define CRASH_CORES_MAX 8u       /* cores of a session: as many times libscope.snapshot.coremax bytes in all */

struct crash;
struct crashes;

/* Makes its directory. -EDQUOT: the session keeps as many as it may; -ENODEV: there is no session. */
int crash_dir_make(struct crash *crash);
/* Removes it, if there is one, with what is in it. */
void crash_dir_drop(struct crash *crash);
/* Whether cores of a session (of its guests) take as much room as they may, core_max bytes being the most of one. */
bool crash_cores_full(const struct crashes *cs, bool guest, uint64_t core_max);
/* Counts what the worker has left, whatever it says, or nothing if it was killed. Once, when that is gone. */
void crash_files_count(struct crash *crash);
/* Its files are complete: counts the flight record, and lets go of the directory. */
void crash_files_done(struct crash *crash);

/* Whether there are less writers than CRASH_WRITERS, and of guests CRASH_GUEST_WRITERS. */
bool crash_flight_may_start(const struct crash *crash);
/* Begins to write; the stage is FLIGHT from now on. */
void crash_flight_start(struct crash *crash);
/* False: it writes on. wait: it still may; else it is ended. What has gone wrong is told in the log. */
bool crash_flight_is_over(struct crash *crash, bool wait);
/* Its time was over before it was one's turn: says that there is none. */
void crash_flight_skip(const struct crash *crash);

#endif
