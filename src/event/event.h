/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is told: events and metrics as typed values, and whom they are about. The
 * model's side (src/telemetry) makes them, sinks (src/sink) write them in some
 * format, the journal (src/journal) keeps them and gives them back. Nothing here
 * knows how anything is written.
 *
 * Lengths are bytes; strings need not be NUL-terminated where a length is given;
 * times are CLOCK_REALTIME nanoseconds. Nothing is owned: what is pointed to is
 * valid for the call.
 */
#ifndef SCOPE_EVENT_EVENT_H
#define SCOPE_EVENT_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

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
    const char *service_name, *resource_attributes; /* its OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, or NULL */
    void *aggregate;                /* private to telemetry */
};

/* Whether the process has two numbers: it is in a pid namespace of its own. */
static inline bool tm_two_pids(const struct tm_process *p)
{
    return p->host_pid && p->host_pid != p->pid;
}

enum tm_type {
    TM_STR, TM_INT, TM_UINT, TM_NUM, TM_BOOL, TM_STRLIST,
    TM_HUNDREDTHS,                  /* v.i, shown with two decimal places */
    /* Several members of an event, which tm_process says: encoded once per process, not once per event. */
    TM_WHO,                         /* proc pid host */
    TM_OWNER,                       /* proc_uid proc_gid proc_cgroup */
};

/* One field of an event or tag of a metric. */
struct tm_field {
    const char *name;
    uint8_t name_len; /* 0: not known yet */
    uint8_t level; /* verbosity from which on metrics carry it; 0: what docs/data-model.md says for it */
    enum tm_type type;
    union {
        struct { const char *p; size_t len; } str; /* any bytes: invalid UTF-8 is replaced when encoding; NULL: len 0 */
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
    const struct tm_context *trace; /* the span that it happened in; NULL: none, or not known */
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

struct tm_str {
    const char *p;                  /* any bytes; NULL: not known */
    size_t len;
};

/* W3C Trace Context: which span something belongs to. */
struct tm_context {
    uint8_t trace_id[16], span_id[8];
    uint8_t flags;                  /* trace-flags; 1: sampled */
};

/* A request and its response, or a DNS query and its answer. Nothing of it is a tag of the metrics that records tell. */
struct tm_exchange {
    struct tm_str method;          /* HTTP */
    struct tm_str scheme;
    struct tm_str server;          /* host that the request names, without port, else the address of the server's end */
    unsigned server_port;           /* 0: not known */
    struct tm_str version;         /* network.protocol.version: "1.1", "2" */
    unsigned status;                /* HTTP; 0: there was no response */
    struct tm_str rpc_method;      /* SERVICE/METHOD of a gRPC call; NULL: it is none */
    int rpc_status;                 /* -1: not known */
    struct tm_str error;           /* error.type beyond what the status says ("timeout"), or a DNS response code; NULL: none */
    const struct tm_context *trace; /* its span; NULL: it has none, or that isn't sampled */
    bool is_server;                 /* HTTP: the process has received the request */
};

struct tm_sample {
    enum tm_metric metric;
    int64_t value;                  /* TM_PROC_CPU_PERC: hundredths of a percent; TM_HTTP_DURATION_*, TM_DNS_DURATION:
                                     * microseconds */
    uint64_t numops;                /* operations that value stands for, 0 if it doesn't apply */
    uint64_t time_ns;
    const char *class_;             /* bucket when summarised (inet_tcp, open_close, ...), or NULL */
    const struct tm_field *fields;  /* tags of the single operation, beyond proc pid host unit. TM_HTTP_*: of summaries,
                                     * too, which there is one of for each combination of their values. Their names are
                                     * constants: known by their addresses */
    size_t field_count;
    const struct tm_exchange *exchange; /* TM_HTTP_DURATION_*, TM_HTTP_*_LENGTH, TM_DNS_DURATION: what it was, for
                                     * histograms; NULL: not known */
    bool summary_only;              /* value sums up many operations: may only be aggregated */
};

/* A metric that the program has sent to somebody (StatsD): told at once, as it is. */
struct tm_captured {
    const char *name, *text;        /* text: the value as it shall stand in a StatsD line */
    double value;                   /* the same as a number; a set has none */
    const char *type;               /* "c", "g", "ms", "s", "h", "d" */
    uint64_t time_ns;
    const struct tm_field *fields;  /* its dimensions, in order */
    size_t field_count;
};

/* An operation with a beginning and an end. Names of attributes are those of OpenTelemetry's semantic conventions. */
enum tm_span_kind { TM_SPAN_INTERNAL = 1, TM_SPAN_SERVER, TM_SPAN_CLIENT, TM_SPAN_PRODUCER, TM_SPAN_CONSUMER }; /* as in OTLP */
enum tm_span_status { TM_SPAN_UNSET, TM_SPAN_OK, TM_SPAN_ERROR };                                               /* as in OTLP */
/* Attributes that many spans have in common. id: of these, and never of others; not 0. */
struct tm_shared {
    uint64_t id;
    const struct tm_field *fields;
    size_t field_count;
};
struct tm_span {
    enum tm_span_kind kind;
    struct tm_str name;
    struct tm_context id;
    uint8_t parent_id[8];           /* all 0: it is a root */
    bool has_remote, remote;        /* whether the parent is known to be another process's, or not */
    struct tm_str state;           /* tracestate as it was passed on */
    uint64_t start_ns, end_ns;
    enum tm_span_status status;
    struct tm_str status_text;
    const struct tm_field *fields;  /* attributes */
    size_t field_count;
    const struct tm_shared *shared; /* further ones; NULL: none */
};

/* --- as it leaves: filtered, limited, with the tags that it is to have --- */

enum ev_kind {
    EV_EVENT,  /* data is an object of `fields` */
    EV_NOTICE, /* about the telemetry itself: data is `text` */
    EV_METRIC, /* one sample or summary */
};

struct ev_tag { /* that the user has configured */
    const char *name, *value;
};

struct ev_record {
    enum ev_kind kind;
    const struct tm_process *who;
    uint64_t time_ns;
    const struct ev_tag *tags;      /* EV_NOTICE: none */
    size_t tag_count;
    /* Members of data, or tags of a metric, in order. TM_WHO and TM_OWNER stand for what `who` says. */
    const struct tm_field *fields;
    size_t field_count;
    /* EV_EVENT, EV_NOTICE */
    const char *sourcetype;         /* "fs", "net", "http", "console", ... */
    const char *source;             /* "fs.open", path of a file event, "stdout" */
    uint64_t channel;               /* 0: "none" */
    const char *text;
    size_t text_len;
    const struct tm_context *trace; /* NULL: none */
    /* EV_METRIC */
    const char *name, *type;        /* "fs.open"; "counter", "gauge", "timer", "histogram", or what StatsD has besides */
    struct tm_field value;          /* TM_INT, TM_HUNDREDTHS, TM_NUM; TM_STR: a set's. Has no name. */
    /* ... and `text`: how a program's own metric had it in its StatsD line; NULL: as `value` says */
};

#endif
