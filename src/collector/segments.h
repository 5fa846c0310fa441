/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: taking them over, reading their rings in time, letting them go. */
#ifndef SCOPE_COLLECTOR_SEGMENTS_H
#define SCOPE_COLLECTOR_SEGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/backlog.h"
#include "collector/segment.h"
#include "wire/syscalls.h"

struct collector;
struct crash_places;
struct key_scan;
struct peer;
struct proc;
struct sleep_group;
struct tls_keys;

#define BACKLOG_MAX ((size_t)64 << 20)    /* bytes; then the rings fill and the probes count what doesn't fit */
#define SEGMENTS_MAX 32768u               /* mappings: vm.max_map_count is 65530 by default */

/* A segment and who writes to it. */
struct segment {
    struct collector *c;
    struct segment *next, *prev;
    struct segment *pid_next; /* by host_pid */
    struct segment_map map;
    unsigned refs;            /* queued entries, processes, the list itself */
    struct proc *owner;       /* NULL before its process is known and after it left */
    pid_t host_pid;
    struct proc *borrowers;   /* linked by borrow_next */
    unsigned borrower_count;
    unsigned inner_guests;    /* borrowers with inner_pid */
    struct proc *last_found;
    bool attached;            /* BL_ATTACH was processed */
    bool held;                /* wait for REC_UPGRADE in another ring before reading */
    bool broken;
    bool listed;              /* in collector.segments, or asleep */
    uint64_t held_until;      /* CLOCK_MONOTONIC ns */
    uint64_t left_ns;         /* CLOCK_MONOTONIC ns when owner and last borrower had left; 0: not */
    uint64_t id;              /* of the session's segments, from 1 */
    int pidfd;                /* of the process, from its connection; -1: none. Given to its object. */
    bool attach_again;        /* BL_ATTACH was put off */
    struct segment *after;    /* where its process wrote before; NULL: nothing of that is missing */
    uint64_t after_head;      /* ring position up to which that must be read first */
    uint64_t stall_look;      /* CLOCK_MONOTONIC ns: when to look into the present stall of the ring; 0: there is none */
    bool orphans;             /* the owner left while it was forking: unknown borrowers may follow */
    uid_t uid;                /* who has handed it over, (uid_t)-1: not known */
    struct guest_user *user;  /* a guest's */
    bool guest;               /* of another user than the collector's, whose share is bounded: GUEST_BYTES */
    uint64_t queued, queued_bytes; /* records in the backlog, and in `waiting` */
    uint64_t record_ns;       /* what a record of its takes to look at: a running mean */
    struct backlog waiting;   /* records that were read while it was held, so that its writers need not wait */
    int64_t debt_ns;          /* what its records took beyond RECORD_NS each; segment_charge() */
    uint64_t debt_at;         /* CPU time of this thread, ns: when that was looked at last */
    bool too_dear;            /* its records are dropped */
    uint64_t next_poll, interval; /* CLOCK_MONOTONIC ns */
    struct sleep_group *group; /* sleepers.h; NULL: it is in collector.segments */
    unsigned place;           /* in that */
    bool naps;                /* whoever fills a part of it wakes us: segments_nap() */
    uint64_t busy_ns;         /* CLOCK_MONOTONIC: when something was last found in its ring */
    uint64_t words_look;      /* collector.now_mono when it was last read for one that has died */
    uint64_t shared_look;     /* CLOCK_MONOTONIC ns: when it was last asked whether anybody still has it mapped */
    struct crash_places *crashes; /* crash_places.h; freed with it; NULL: nothing crashes */
    struct tls_keys *keys;    /* keys.h; freed with it; NULL: nobody has asked */
    struct key_reader key_reader;
    struct key_search {       /* for keys in the memory of its process: keys.c */
        struct key_scan *scan; /* the one that is under way; freed with it; NULL: none */
        uint64_t begun, done; /* so many were */
        uint64_t next_ns;     /* CLOCK_MONOTONIC: not before does another one begin */
        uint64_t from;        /* address where it begins: the last one was cut there */
        bool asked;           /* somebody waits for another one */
        bool never;           /* there will be none */
    } search;
    uint32_t refused_seen;        /* of segment_crashes_refused(): those that are told */
    uint64_t loss_seen[LOSS_MAX], torn_seen;
    uint64_t op_seen[OP_MAX], failed_seen[OP_MAX];
};

/* Where the list of those with such a number begins; others may be in it. */
struct segment **segments_by_pid(struct collector *c, pid_t host_pid);
/* Takes a segment that a process handed over: `from`, or the tool that has brought the probe into it. fd stays the
 * caller's; from->pidfd is taken if all is well (and is -1 then). 0 or -errno, logged. One that nobody wants any more
 * (left.h) is switched off. */
int segment_attach(struct collector *c, int fd, struct peer *from);
void segment_unref(struct collector *c, struct segment *seg);
/* One of its records has come up, or is dropped: `bytes` of data. */
void segment_unqueue(struct segment *seg, uint32_t bytes);
/* It is held no longer: what was read meanwhile goes into the backlog. */
void segment_release(struct segment *seg);
/* Whether others wait for what is looked at in order. Guests always take CPU time from others: ours comes first. */
bool segment_delays(const struct segment *seg);
bool segment_waits(struct collector *c, struct segment *seg); /* for what its process recorded elsewhere before */
/* Reads what the rings hold into the backlog; all: also those that aren't due. Returns the number of records. */
uint64_t segments_drain(struct collector *c, bool all);
/* Tells the writers of all segments that nobody looks soon, if all have been quiet for a while, and can and need do no
 * more than wake us. Returns how many words are to be waited for (doze.h), at most max; 0: not now. */
size_t segments_sleep(struct collector *c, uint32_t *words[], size_t max);
void segments_wake(struct collector *c);
/* Whether its writers may take us for asleep: they will wake us, and the ring has long been empty. */
bool segment_may_sleep(const struct segment *seg, uint64_t now);
/* Tells the writers of all segments, as far as they may, that we are to be woken when much is in the ring before we come
 * round to it. Returns how many words are to be waited for with SEG_NAPPING, at most max. */
size_t segments_nap(struct collector *c, uint32_t *words[], size_t max);
/* Those whose writers have woken us are due. */
void segments_hurry(struct collector *c);
/* ns until the next ring is due. */
uint64_t segments_due(const struct collector *c);
/* Nobody writes any more: reads the rest, takes the loss counters and lets go. */
void segment_leave(struct collector *c, struct segment *seg);
/* Reads what a process that died at `since` (CLOCK_MONOTONIC ns), with ring_head at `head`, may have left. True if
 * nothing of it is missing any more. */
bool segment_last_words(struct collector *c, struct segment *seg, uint64_t head, uint64_t since);
/*
 * So many records of its were looked at, which took that much CPU time. A record may take RECORD_NS (the usual one takes
 * a tenth of it); rings whose records take more share DEBT_NS, of which a tenth of ours comes back. When one has
 * used up its part they are dropped, and counted, until half of it has come back, as long as more than BEHIND_BYTES are
 * in the backlog: others wait for what is looked at in order. cpu: CPU time of this thread, ns.
 */
#define RECORD_NS INT64_C(20000)
#define DEBT_NS INT64_C(2000000000)
#define BEHIND_BYTES (BACKLOG_MAX / 8)
/*
 * Guests (segment.guest) may use a part of the backlog, in bytes and in the time that it will take: half of the bytes,
 * and as much time as the others use, but at least GUEST_LEAST_NS, or GUEST_MOST_NS where nobody else has anything to
 * tell. Each of those that have something may use the same part of that, but always one record. More stays in their
 * rings: then it is their own writers that wait, or drop and count. Of the places for segments and processes, too, one
 * half is not theirs. On a host, where all users are guests, what they may use is shared by users first: who has many
 * processes gets no more than who has one.
 */
#define GUEST_LEAST_NS UINT64_C(100000000)
#define GUEST_MOST_NS UINT64_C(500000000)
#define GUEST_BYTES (BACKLOG_MAX / 2)
#define GUEST_SEGMENTS_LEAST 256u /* of one user of a host: so many have a place while there is any */
#define GUEST_SEGMENTS_MAX 64u /* of one process: its images that come one after the other */
#define WAITING_MAX ((size_t)8 << 20) /* bytes that are read of a ring that is held; then it is held no longer */
void segment_charge(struct segment *seg, unsigned records, uint64_t ns, uint64_t cpu);
/* Takes over the loss counters. */
void segment_losses(struct collector *c, struct segment *seg);

#endif
