/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the dashboard shows: bounded sums over records of the last ten minutes. It knows neither files nor terminals.
 * Times are CLOCK_REALTIME nanoseconds; strings are raw: whoever shows them cleans them. Not thread-safe.
 *
 * Rates of events are exact to the second. Those of metrics (network and file bytes, CPU, memory) come once a period
 * (docs/data-model.md, 3.1) and are spread evenly over it.
 */
#ifndef SCOPE_DASH_MODEL_H
#define SCOPE_DASH_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event/event.h"

#define MODEL_SECONDS 600
#define MODEL_PROCESSES 16384
#define MODEL_LINES 512    /* last events, and last lines of the console */
#define MODEL_LINE_MAX 512 /* bytes of one */

enum dash_series {
    SERIES_EVENTS,
    SERIES_NET_RX, /* bytes */
    SERIES_NET_TX,
    SERIES_NET_OPEN,
    SERIES_NET_ERROR,
    SERIES_HTTP,
    SERIES_HTTP_ERROR, /* status 400 and above */
    SERIES_DNS,
    SERIES_DNS_ERROR,
    SERIES_FS_OPEN,
    SERIES_FS_READ, /* bytes */
    SERIES_FS_WRITE,
    SERIES_FS_ERROR,
    SERIES_CONSOLE,
    SERIES_COUNT,
};

struct dash_process {
    unsigned session;
    uint32_t pid, ppid; /* as the host sees it, if that is known; ppid: as the process does */
    char name[64], cmd[160];
    int64_t cpu_hundredths, mem_kib, threads, fds, children; /* -1: not known */
    uint64_t events;
    uint64_t first_ns, last_ns;
    uint64_t period_from_ns, period_to_ns; /* of the last metrics; 0: not known */
    uint64_t exit_ns;                      /* 0: lives */
    unsigned depth;                        /* in the tree; set by dash_processes() */
};

/* A file, a target of HTTP, a name of DNS; its name is the key. */
struct dash_top {
    uint64_t count, errors, bytes;
    uint64_t ms, timed, ms_max; /* sum of durations, how many, and the longest */
};

struct dash_connection {
    char transport[16], peer[64], local[64], protocol[16];
    char name[32];
    uint32_t pid;
    uint64_t since_ns;
};

struct dash_line {
    uint64_t time_ns;
    uint32_t pid;
    char proc[32], type[16], source[64];
    char text[MODEL_LINE_MAX];
    size_t text_len;
};

struct model;

struct model *dash_new(void);
void dash_free(struct model *m);
/* Forgets all records; filter and process stay. */
void dash_reset(struct model *m);
/* Of events only those whose program, source or fields contain this text are kept as lines; "" or NULL: all. Holds for
 * what is taken from now on. */
void dash_filter(struct model *m, const char *text);
/* Only records of this process count from now on, by its own number or the host's; 0: all. */
void dash_only(struct model *m, uint32_t pid);
uint32_t dash_only_pid(const struct model *m);
/* The time that it is: what is shown ends here. */
void dash_set_now(struct model *m, uint64_t ns);
/* Whether time stands: then the second that it is counts, too, else only those that are over. */
void dash_stands(struct model *m, bool stands);
uint64_t dash_now(const struct model *m);

/* Takes a record of a session (any number that tells sessions apart). The record isn't kept. */
void dash_take(struct model *m, unsigned session, const struct ev_record *r);

/* --- what there is --- */

uint64_t dash_records(const struct model *m); /* taken */
/* In a second that lies `back` before the current one (0: which isn't over yet). */
double dash_at(const struct model *m, enum dash_series s, unsigned back);
/* How far back the last second lies that is known of a series, at least 1: summaries come when their period is over. */
unsigned dash_behind(const struct model *m, enum dash_series s);
/* Mean per second over the last `seconds` that are known. */
double dash_rate(const struct model *m, enum dash_series s, unsigned seconds);
double dash_sum(const struct model *m, enum dash_series s);       /* of MODEL_SECONDS */
int64_t dash_percentile(const struct model *m, unsigned percent); /* of HTTP in the last minute, ms; -1: none */

enum dash_order { ORDER_TREE, ORDER_CPU, ORDER_MEM, ORDER_EVENTS, ORDER_COUNT };
/* Processes that live or ended within ten seconds; *ret is malloc'ed, what it points to is valid until the next
 * dash_take(). */
size_t dash_processes(const struct model *m, enum dash_order order, struct dash_process ***ret);
uint64_t dash_processes_dropped(const struct model *m);

enum dash_tops { TOP_HTTP, TOP_DNS, TOP_FILES, TOP_COUNT };
enum dash_by { BY_COUNT, BY_BYTES, BY_TIME };
/* The first ones, into ret: how many. Names by bounded_key(). Valid until the next dash_take(). */
size_t dash_top(const struct model *m, enum dash_tops what, enum dash_by by, const struct dash_top **ret, size_t max);
uint64_t dash_top_dropped(const struct model *m, enum dash_tops what);

/* The youngest first. */
size_t dash_connections(const struct model *m, const struct dash_connection **ret, size_t max);
size_t dash_connection_count(const struct model *m);
uint64_t dash_connections_dropped(const struct model *m);

enum dash_lines { LINES_EVENTS, LINES_CONSOLE, LINES_COUNT };
/* back 0: the last one. NULL: there are no more. */
const struct dash_line *dash_line(const struct model *m, enum dash_lines what, size_t back);
size_t dash_line_count(const struct model *m, enum dash_lines what);

#endif
