/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the collector of a whole host does beyond that of one session: it records without end, one session after the
 * other, removes old ones, and follows the host's rules. Single-threaded but for a thread that looks through the store.
 */
#ifndef SCOPE_COLLECTOR_HOST_H
#define SCOPE_COLLECTOR_HOST_H

#include <stdbool.h>
#include <sys/types.h>

#include "collector/options.h"
#include "model/loss.h"
#include "traffic/unread.h"

struct collector;
struct host;

/* opt: the collector's, whose session and configuration are exchanged later. */
struct host *host_new(struct collector *c, struct collector_options *opt);
/* Waits for what has to be written to sessions that have ended. */
void host_free(struct host *h);

/* Whether it is time for another session. */
bool host_session_over(struct host *h);
/* From now on everything that is told goes to a new session: nothing is lost, and nothing told twice. What is queued for
 * the old one is written there, after which its metadata say that it has ended. *lock_fd: of the old session (-1: none),
 * becomes that of the new one. 0 or -errno, told: then the old one goes on, and this is tried again. */
int host_next_session(struct host *h, int *lock_fd);
/* Each second: ends sessions, removes old ones. */
void host_look(struct host *h);

/* JOIN_RELOAD: the rules and the configuration have changed. 0, or -EINVAL: they can't be used, what was in force
 * stays. */
int host_reload(struct host *h);
/* JOIN_KNOWN. */
int host_known(struct collector *c, pid_t pid);

/* Numbers of the present session, from those of the collector: c->processes, losses and unread connections of earlier ones are
 * taken away,
 * what telemetry that it has no more of has told is added. */
struct tm_stats;
void host_numbers(const struct host *h, struct tm_stats *sum, uint64_t *processes, uint64_t lost[LK_MAX],
                  uint64_t unread[UNREAD_MAX]);

#endif
