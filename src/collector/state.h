/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector's state, which its parts share. Single-threaded: everything runs
 * in the event loop (collector.c).
 */
#ifndef SCOPE_COLLECTOR_STATE_H
#define SCOPE_COLLECTOR_STATE_H

#include <stddef.h>
#include <sys/types.h>

#include "collector/backlog.h"
#include "collector/door.h"
#include "collector/options.h"
#include "model/model.h"
#include "model/process.h"
#include "report/pipeline.h"
#include "traffic/payloads.h"

struct config_list;
struct crashes;
struct event_base;
struct left;
struct passed;
struct segment;
struct sleepers;

#define PROCS_MAX 131072u
#define UNSEEN_MAX 64

struct collector {
    struct model model;
    struct pipelines pipelines;
    struct payloads payloads;
    const struct collector_options *opt;
    struct event_base *base;
    struct backlog backlog;
    struct segment *segments;
    unsigned nap_count;               /* segments that there were when segments_nap() was called last */
    unsigned segment_count;
    struct sleepers *sleepers;        /* sleepers.h; NULL: all segments are in the list */
    unsigned asleep;                  /* segments that aren't in the list */
    void (*rouse)(struct segment *);  /* sleepers_rouse(), sleepers_rouse_written(): while there are sleepers */
    void (*rouse_written)(struct sleepers *);
    struct segment *drain_from;       /* with whom the next round begins; NULL: the newest */
    int indebted;                     /* segments whose debt_ns isn't 0 */
    size_t waiting_bytes;             /* in all segments' `waiting` */
    size_t guest_bytes;               /* queued by guests */
    uint64_t guest_ns, owner_ns;      /* what the records queued by guests, and by others, will take */
    struct guest_user *guest_users;   /* whose the guests' segments are: segments.c */
    uint64_t drain_round;             /* how often all were looked at */
    unsigned busy_users;              /* users of busy_guests */
    unsigned busy_guests;             /* guests that had something to tell when all were looked at last */
    struct door_log guest_lines;      /* what the log says about segments of guests */
    struct segment *segments_by_pid[PROC_BUCKETS]; /* those in the list, by host_pid, newest first */
    struct guest_key *by_guest[PROC_BUCKETS]; /* those that borrow, by segment and number */
    struct proc *dying_procs;         /* dead ones that aren't told yet */
    struct proc *unwatched_next;      /* whom to look at next; NULL: begin anew */
    unsigned unwatched;               /* processes whose death nothing tells us */
    struct passed *passed;            /* passed.h; NULL: none so far */
    struct crashes *crashes;          /* crashes.h; NULL: nothing is done about them */
    struct left *left;                /* processes that go on without us */
    uint64_t left_sweep;              /* CLOCK_MONOTONIC ns: when to look which of them have ended */
    struct config_list *configs;      /* of processes that have got another than the session's */
    uint64_t processes;               /* that were observed so far */
    uint64_t records;
    uint64_t last_segment;            /* id */
    unsigned attaching;               /* segments whose BL_ATTACH hasn't come up */
    unsigned dying;                   /* processes that are dead and not yet told */
    uint64_t ends_look;               /* CLOCK_MONOTONIC ns: not before is it looked which dead processes are told */
    uint64_t shared_look;             /* CLOCK_MONOTONIC ns: not before is it asked who maps a ring */
    uint64_t next_check;              /* CLOCK_MONOTONIC ns: summaries and old segments */
    struct proc *check_next;          /* whom to look at next; NULL: begin anew */
    uint64_t alone_since;             /* CLOCK_MONOTONIC ns since when there is no process; 0: there is */
    bool seen_process, stopping;
    bool root_ended, root_known;
    int root_status;                  /* wait status of the session's program, if root_known */
    uint64_t end_ns;                  /* CLOCK_REALTIME when the last process had ended */
    int root_pidfd;                   /* of the session's program, whether observed or not; -1: none */
    struct {
        pid_t pid;
        uint64_t time_ns; /* CLOCK_REALTIME */
    } unseen[UNSEEN_MAX]; /* images whose tracer has told why they aren't observed: the last ones */
    unsigned unseen_next;
    uint64_t next_peer_look;          /* CLOCK_MONOTONIC ns: when the kernel's list of connections may be read again */
    void (*sync_done)(void *client);  /* a BL_SYNC came up */
    void (*watch_death)(struct proc *p); /* arrange that proc_died() is called; NULL in tests */
};

/* Whose model it is. */
static inline struct collector *collector_of(struct model *m)
{
    return (struct collector *)((char *)m - offsetof(struct collector, model));
}

#endif
