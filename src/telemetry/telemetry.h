/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From observations to what leaves the house: filters, rate limit, tags,
 * aggregation, verbosity. One `telemetry` per distinct effective configuration;
 * it owns the outputs that the configuration names. Knows nothing about
 * descriptors, system calls or rings; the collector (src/collector) calls it.
 *
 * Single-threaded: all calls come from the collector's event loop. Nothing here
 * blocks. Lengths are bytes; strings need not be NUL-terminated where a length
 * is given; times are CLOCK_REALTIME nanoseconds.
 */
#ifndef SCOPE_TELEMETRY_TELEMETRY_H
#define SCOPE_TELEMETRY_TELEMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "config/config.h"

struct event_base;
struct telemetry;

/* Who observed it. Owned by the collector; valid until telemetry_process_end(). */
struct tm_process {
    uint32_t pid, ppid, uid, gid;   /* in the process's own namespace */
    uint32_t host_pid;              /* in the collector's; 0: unknown */
    const char *username, *groupname; /* NULL if unknown */
    const char *host, *proc, *cmd, *cgroup, *exe;
    const char *machine_id;         /* 32 hex digits */
    char container[65];             /* id, or "" */
    char uuid[37];
    char id[512];                   /* HOST-PROC-CMD as docs/data-model.md says */
    const char *k8s_pod;            /* value of CRIBL_K8S_POD, or NULL */
    void *aggregate;                /* private to telemetry */
};

/* Whether the process has two numbers: it is in a pid namespace of its own. */
static inline bool tm_two_pids(const struct tm_process *p)
{
    return p->host_pid && p->host_pid != p->pid;
}

enum tm_type {
    TM_STR, TM_INT, TM_UINT, TM_NUM, TM_BOOL, TM_STRLIST,
    /* Several members of an event, which tm_process says: encoded once per process, not once per event. */
    TM_WHO,                         /* proc pid host */
    TM_OWNER,                       /* proc_uid proc_gid proc_cgroup */
};

/* One field of an event or tag of a metric. */
struct tm_field {
    const char *name;
    uint8_t name_len; /* 0: not known yet */
    enum tm_type type;
    uint8_t level; /* verbosity from which on metrics carry it; 0: what docs/data-model.md says for it */
    union {
        struct { const char *p; size_t len; } str; /* any bytes: invalid UTF-8 is replaced when encoding */
        int64_t i;
        uint64_t u;
        double num;
        bool b;
        struct { const char *const *p; size_t count; } list;
    } v;
};
#define TM_MAX_FIELDS 40

struct tm_event {
    enum cfg_event_watch watch;     /* gives sourcetype and filters */
    const char *source;             /* "fs.open", path of a file event, "stdout" */
    uint64_t time_ns;
    uint64_t channel;               /* 0: "none" */
    const struct tm_field *fields;  /* members of data, in order */
    size_t field_count;
};

enum tm_metric {
    TM_FS_OPEN, TM_FS_CLOSE, TM_FS_READ, TM_FS_WRITE, TM_FS_SEEK, TM_FS_STAT, TM_FS_DURATION, TM_FS_ERROR,
    TM_FS_DELETE, TM_FS_CREATE, TM_FS_RENAME, TM_FS_CHANGE, TM_FS_SYNC,
    TM_NET_RX, TM_NET_TX, TM_NET_OPEN, TM_NET_CLOSE, TM_NET_DURATION, TM_NET_PORT, TM_NET_TCP, TM_NET_UDP,
    TM_NET_OTHER, TM_NET_ERROR,
    TM_HTTP_REQ, TM_HTTP_DURATION_SERVER, TM_HTTP_DURATION_CLIENT, TM_HTTP_REQ_LENGTH, TM_HTTP_RESP_LENGTH,
    TM_DNS_REQ, TM_DNS_DURATION,
    TM_PROC_START, TM_PROC_CPU, TM_PROC_CPU_PERC, TM_PROC_MEM, TM_PROC_THREAD, TM_PROC_FD, TM_PROC_CHILD,
    TM_LOST,                        /* scope.lost, tag kind: what could not be recorded or delivered */
    TM_METRIC_MAX
};

struct tm_sample {
    enum tm_metric metric;
    int64_t value;                  /* TM_PROC_CPU_PERC: hundredths of a percent; TM_HTTP_DURATION_*, TM_DNS_DURATION:
                                     * microseconds */
    uint64_t numops;                /* operations that value stands for, 0 if it doesn't apply */
    uint64_t time_ns;
    const char *class_;             /* bucket when summarised (inet_tcp, open_close, ...), or NULL */
    const struct tm_field *fields;  /* tags of the single operation, beyond proc pid host unit. TM_HTTP_*: of summaries,
                                     * too, which there is one of for each combination of their values */
    size_t field_count;
    bool summary_only;              /* value sums up many operations: may only be aggregated */
};

/* Creates the pipeline for a configuration (copied where needed). base: where transports register.
 * Never fails: destinations that can't be reached are retried and counted. */
struct telemetry *telemetry_new(struct event_base *base, const struct config *cfg);
/* One that has no destinations: good for telemetry_wants_*() and telemetry_per_op(), where the others are not yet. */
struct telemetry *telemetry_new_wishes(const struct config *cfg);
/* Ends all processes, tells what was held back or lost and not yet told, and waits for the destinations at most
 * `wait_ms`. Afterwards telemetry_stats() is final: what could not be delivered counts as lost_destination. True if
 * everything was delivered. */
bool telemetry_finish(struct telemetry *, unsigned wait_ms);
/* telemetry_finish() if that wasn't called, then frees. */
void telemetry_free(struct telemetry *, unsigned wait_ms);

/* A process appears: start message (if configured) to the event destination. Called again for a process that goes on
 * as another program (exec) when members of tm_process have changed. */
void telemetry_process_start(struct telemetry *, struct tm_process *);
/* Its last summaries are sent and its aggregates freed. */
void telemetry_process_end(struct telemetry *, struct tm_process *, uint64_t time_ns);

/* Cheap question before an event is built: does anything want this source? Name filter included. */
bool telemetry_wants_event(const struct telemetry *, enum cfg_event_watch watch, const char *source, size_t len);
bool telemetry_wants_metric(const struct telemetry *, enum tm_metric);
/* True if this metric is reported for each operation at the configured verbosity (or as raw metric event). */
bool telemetry_per_op(const struct telemetry *, enum tm_metric);

void telemetry_event(struct telemetry *, struct tm_process *, const struct tm_event *);
/* Text written to a console or log file; `data` of the event is {"message": ...}. more: bytes that were written behind it
 * and that nobody has seen: of binary data, of which only the length is told, they are counted, too. */
enum tm_text {
    TM_LINES,
    TM_DATA,
    TM_UNSURE, /* data before, and what was seen of this looks like text: it was counted as data, the next shall be seen whole */
};
enum tm_text telemetry_message(struct telemetry *, struct tm_process *, enum cfg_event_watch watch, const char *source,
                       uint64_t time_ns, uint64_t channel, const char *text, size_t len, uint64_t more);
void telemetry_sample(struct telemetry *, struct tm_process *, const struct tm_sample *);
/* A metric that the program has sent to somebody (StatsD): told at once, as it is. */
struct tm_captured {
    const char *name, *text;        /* text: the value as it shall stand in a StatsD line */
    double value;                   /* the same as a number; a set has none */
    const char *type;               /* "c", "g", "ms", "s", "h", "d" */
    uint64_t time_ns;
    const struct tm_field *fields;  /* its dimensions, in order */
    size_t field_count;
};
void telemetry_captured(struct telemetry *, struct tm_process *, const struct tm_captured *);

/* End of a summary period for one process: emits its aggregates. */
void telemetry_summarise(struct telemetry *, struct tm_process *, uint64_t time_ns);

/* Something was lost or could not be observed: counted per kind, told as a notice event (at most one per
 * second and kind, with the number) and as metric scope.lost. */
void telemetry_loss(struct telemetry *, struct tm_process *, const char *kind, uint64_t count, uint64_t time_ns);

struct tm_stats {
    uint64_t events, metrics;       /* delivered to the outputs' queues */
    uint64_t held_back;             /* by the rate limiter */
    uint64_t filtered;
    uint64_t lost_queue, lost_destination; /* records dropped behind the filters */
};
void telemetry_stats(const struct telemetry *, struct tm_stats *ret);
/* Hands everything buffered to the destinations now (files: write(2)); true when nothing is pending. */
bool telemetry_flush(struct telemetry *);
/* What is queued waits for destinations that aren't connected; the others have all of theirs. */
bool telemetry_stuck(const struct telemetry *);
/* Writes one line per destination for `scope ps`/logs: name, URL, connected, attempts, failure, queue, lost. */
/* Appends its destinations, with their state: members of a JSON array that may have others in front. */
void telemetry_describe(const struct telemetry *, struct buf *);
/* The line that a payload connection begins with, from whom it comes (this collector): malloc'ed. */
char *telemetry_payload_start(const struct telemetry *);

#endif
