/* SPDX-License-Identifier: Apache-2.0 */
/* The collector without its loop: it begins, takes its turns, and ends. */
#ifndef SCOPE_COLLECTOR_CORE_H
#define SCOPE_COLLECTOR_CORE_H

#include "collector/state.h"

#define SLICE_NS UINT64_C(2000000) /* longest time spent on the backlog before the rings are looked at again */

void core_init(struct collector *c, const struct collector_options *opt, struct event_base *base);
/* Periodic work: ends of processes, summaries, old segments. Call each turn. */
void core_turn(struct collector *c);
/* A process is no longer observed but goes on: it is forgotten once everything that it recorded was looked at. */
void core_leave(struct collector *c, pid_t host_pid);
/* True if something is still to be told about a process that died before. */
bool core_endings(const struct collector *c);
/* Tells the ends of everything; processes that still run go on unobserved. Telemetry can still be flushed. */
void core_end(struct collector *c);
void core_free(struct collector *c);

#endif
