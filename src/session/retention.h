/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much the sessions of a store may take together, and how long one is kept: for a collector that records without end
 * and begins a new session from time to time. Everything here goes through descriptors of the store, as in session.h.
 */
#ifndef SCOPE_SESSION_RETENTION_H
#define SCOPE_SESSION_RETENTION_H

#include <stdbool.h>
#include <stdint.h>

struct retention {
    uint64_t maxsize;    /* bytes of all sessions; 0: no limit */
    unsigned days;       /* since a session has ended; 0: no limit */
    uint64_t running;    /* id of the one that is being recorded, 0: none: neither that nor a later one is removed */
    uint64_t now_ns;     /* CLOCK_REALTIME */
};

struct retained {
    uint64_t bytes;         /* that all sessions which are left take on disk */
    uint64_t running_bytes; /* of the running one */
    unsigned removed;
    int rc;                 /* -errno of what could not be removed, 0 */
};

/* A descriptor of the store's history for retention_apply(), or -errno: -ENOENT if there is none yet. */
int retention_open(void);
/* Removes sessions that aren't being recorded: first those that are too old, then the oldest as long as all take too
 * much, or the file system has hardly any space left. May take long where sessions have many files, and may run in
 * another thread than the rest of this process. */
void retention_apply(int history, const struct retention *, struct retained *ret);

#define RETENTION_DAY_NS UINT64_C(86400000000000)
/* Whether a session that began then (CLOCK_REALTIME ns) has lasted for a day: it is another one by UTC, or mono_ns have
 * passed. A clock that is set back ends none. */
bool retention_day_over(uint64_t start_ns, uint64_t now_ns, uint64_t mono_ns);

#endif
