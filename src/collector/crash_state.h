/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of crashes while they are dealt with: of each, and of all of the
 * collector. crashes.c leads them from one stage to the next; crash_files.c and
 * crash_tell.c do what belongs to files and words.
 */
#ifndef SCOPE_COLLECTOR_CRASH_STATE_H
#define SCOPE_COLLECTOR_CRASH_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/door.h"
#include "collector/kept.h"
#include "collector/peer.h"
#include "crash/crash.h"
#include "sink/flight.h"
#include "wire/crash.h"

struct collector;
struct crashes;
struct event;
struct segment;
struct telemetry;

enum stage {
    WAITS,    /* for a worker */
    RUNS,     /* the worker has the process */
    IS_OVER,  /* what is known is known; everything recorded before must be told first */
    COMES_UP, /* ... that is in the backlog */
    FLUSHES,  /* it was told; the journal is being written */
    FLIGHT,   /* the flight record is */
};

struct crash {
    struct crash *next;
    struct crashes *all;
    enum stage stage;
    struct segment *seg; /* referenced */
    unsigned place;
    bool let_go;
    uint64_t sequence; /* among all that were seen */
    uint64_t since;    /* CLOCK_MONOTONIC ns: when it was seen; of FLUSHES and FLIGHT, when that began */
    enum crash_kind kind;
    struct crash_cause cause;
    struct crash_wishes wishes;
    uint32_t pid, tid; /* as the process sees them */
    bool guest;
    struct peer who; /* that very process; of guests the user that the segment came from, whom the worker becomes */
    char thread[16];
    uint64_t number; /* of the session's */
    char name[48];   /* of its directory */
    char *path;      /* absolute; NULL: there is none */
    int dir;         /* -1: none */
    struct crash_job *job;
    struct event *event;
    struct crash_summary sum;
    const char *why; /* static; why it wasn't looked at; NULL: it was */
    int why_errno;   /* 0: why says it all */
    /* for the flight record, when the process is long gone */
    char *journal; /* NULL: there is none */
    struct telemetry *tm;
    struct flight flight;
    pid_t writer;
};

struct crashes {
    struct collector *c;
    void (*wake)(void *ctx);
    void *ctx;
    struct crash *list; /* oldest first */
    unsigned running, guests_running, count;
    unsigned writers, guest_writers;
    unsigned dirs, guest_dirs;
    uint64_t guest_text;    /* bytes of guests' files other than cores */
    uint64_t look;          /* CLOCK_MONOTONIC ns: when the next guest's may be looked for */
    bool looks_wait;        /* one waits for that */
    uint64_t budget[2];     /* of all, of guests: CLOCK_MONOTONIC ns, passes() */
    uint64_t sweep;         /* CLOCK_MONOTONIC ns: when to look for free places */
    uint64_t sequence;      /* of the last crash */
    uint64_t number;        /* of the last directory */
    uint64_t core_bytes[2]; /* of the cores so far: guests' in [1] */
    int dir;                /* "crash" in the session's directory; -1: not made yet */
    struct door_log lines;  /* places that made no sense */
    struct kept kept[2];    /* workers that can't be ended; guests' in [1] */
};

#endif
