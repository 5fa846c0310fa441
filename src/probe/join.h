/* SPDX-License-Identifier: Apache-2.0 */
/* Meeting the collector (wire/join.h). */
#ifndef SCOPE_PROBE_JOIN_H
#define SCOPE_PROBE_JOIN_H

#include "state.h"

/* Makes a segment, describes this process in it and hands it to the collector.
 * Leaves no descriptor open. Returns the mapped segment, or NULL: then nothing
 * was changed. Needs probe.socket and probe.fd_cap; does not touch `process`. */
struct segment_header *join_segment(enum seg_start start);

/* Asks the collector for the plan of an image, sending the descriptor of its
 * file. Returns a descriptor of the plan or -errno; waits at most JOIN_WAIT_MS. */
int join_plan(int image_fd, const char *key, const char *path);

/* Whether the collector's name can be reached from the network namespace that the calling thread is in. */
bool join_reachable(void);

/* Asks the collector to trace the calling thread through the exec that comes next (wire/join.h, TRACE), of a static
 * program or of one with a loader. A descriptor to be kept until then, or -errno; waits at most JOIN_WAIT_MS, twice under Yama. */
int join_trace(bool loader);
/* The exec failed: returns when the thread isn't traced any more, at latest after JOIN_WAIT_MS. Closes the descriptor. */
void join_trace_end(int sock);

/* Called when this process ends, if it is process 1 of its pid namespace: returns when the collector, which ends with
 * it, has delivered what it has; at latest after JOIN_LAST_MS. Any other process, or collector, is not waited for. */
void join_last(void);

/* Starts a collector when there is none ($SCOPE_SOCKET is not set): from
 * $SCOPE_EXEC_PATH, else `scope` beside this library. Fills probe.socket and
 * returns true when it accepts processes. */
bool join_spawn(const char *exec_path, const char *const *envp);

#endif
