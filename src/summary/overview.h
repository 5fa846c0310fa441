/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session in one picture: what `scope report --html` shows (docs/report.md). Events go in, in the order in which they
 * were recorded, then metrics; sums come out. Memory is bounded whatever the session holds: of each kind there are at
 * most OV_MAX_* rows, and what has no room is counted where it would have been.
 *
 * Times are CLOCK_REALTIME nanoseconds unless a name says otherwise. Texts are the observed program's, any bytes but
 * NUL, cut to OV_TEXT_MAX bytes; NULL: not known. All belong to the overview. Not thread-safe.
 */
#ifndef SCOPE_SUMMARY_OVERVIEW_H
#define SCOPE_SUMMARY_OVERVIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "summary/keyed.h"
#include "summary/record.h"

#define OV_TEXT_MAX 512
#define OV_MAX_PROCESSES 20000
#define OV_MAX_TEXTS 60000 /* different ones, file names apart */
#define OV_MAX_FILES 150000
#define OV_MAX_PATHS (64u << 20) /* bytes of their names */
#define OV_MAX_OPEN 50000        /* connections at a time */
#define OV_MAX_EDGES 4000
#define OV_MAX_ROUTES 4000
#define OV_MAX_DNS 10000
#define OV_MAX_ERRORS 4000
#define OV_MAX_NAMES 20000
#define OV_MAX_BINS 60000
#define OV_MAX_NOTES 500
#define OV_MAX_CONSOLE 400 /* lines whose text is kept */
#define OV_MAX_SLOWEST 500 /* exchanges */
#define OV_MAX_FLOWS 1000  /* connections that are kept one by one: those that moved most */
#define OV_BINS 400        /* parts of the session's time */

/* --- how long something took --- */

/* Four steps for each doubling, from a microsecond to 18 minutes; the last one is open. */
#define OV_STEPS 121
struct ov_times {
    uint64_t count, sum_ns, max_ns;
    uint32_t step[OV_STEPS];
};
/* The upper end of a step. */
uint64_t ov_step_ns(size_t step);
void ov_times_add(struct ov_times *t, uint64_t ns);
/* What so many per mille took at most, exact to a fifth; 0 if there are none. */
uint64_t ov_times_quantile(const struct ov_times *t, unsigned per_mille);

/* --- rows --- */

struct ov_process {
    int64_t pid, ppid;            /* ppid: as the process sees it; 0: not known */
    const char *proc, *cmd, *exe; /* the last program that it ran */
    const char *began;            /* "exec", "fork", "attach"; NULL: before there were events of it */
    const char *signal;           /* that it died of */
    uint64_t start_ns, exec_ns,
        end_ns; /* of the first and last event, where it isn't known; exec_ns: of the last exec, 0: none */
    int parent; /* among the processes; -1: none of them */
    bool ended, has_code, crashed;
    int64_t exit_code;
    uint32_t execs, http, http_errors;
    uint64_t duration_ms, cpu_us, mem_kib;
    uint64_t read, written, files, sent, received, connections, lines;
};

struct ov_file {
    struct keyed_row row; /* the path */
    uint64_t opens, read, written, reads, writes, busy_us, changes;
};

enum ov_way { OV_OUT, OV_IN, OV_BOTH }; /* who has connected: the program, the other side, not known */

/* Connections of one program with one service. */
struct ov_edge {
    struct keyed_row row;
    enum ov_way way;
    const char *proc, *transport, *protocol;
    const char *ip;      /* of the service (OV_OUT) or of the client (OV_IN) */
    unsigned port;       /* of the service */
    const char *here_ip; /* of the program's own end; NULL: OV_BOTH, or not known */
    const char *name;    /* of the service, as DNS, TLS or HTTP had it */
    const char *peer;    /* the program at the other end, if that was observed, too */
    bool told;           /* by the other end's edge: not to be shown twice */
    bool tls;
    uint64_t connections, sent, received, requests, errors;
    struct ov_times wait;
};

/* One connection. */
struct ov_flow {
    uint64_t start_ns, end_ns; /* 0: it was there before; it hasn't ended */
    uint64_t channel, sent, received, requests;
    const char *proc, *transport, *protocol, *peer_ip, *host_ip, *name, *reason;
    const char *tls_version;
    unsigned peer_port, host_port;
    int64_t pid;
    enum ov_way way;
};

/* Requests that are alike. */
struct ov_route {
    struct keyed_row row;
    const char *method, *host, *target, *role; /* target without its query; role "client", "server", NULL */
    unsigned status;                           /* 0: there was no response */
    uint64_t count, bytes;
    struct ov_times wait;
};

struct ov_exchange {
    uint64_t time_ns, wait_ns; /* of the request's first byte; from there to the response's first byte */
    uint64_t opened_ns,
        hello_ns; /* when the connection began, when TLS was agreed on; 0: not known, or not before it */
    bool first;   /* of its connection */
    const char *method, *host, *target, *role, *proc;
    int64_t pid;
    unsigned status;
    int process; /* -1: not among them */
};

struct ov_dns {
    struct keyed_row row;
    const char *domain, *qtype, *outcome, *role, *address; /* outcome: rcode or error; address: the last one */
    uint64_t count, timed, duration_ms, max_ms;
};

struct ov_error {
    struct keyed_row row;
    const char *what, *errno_name, *op, *proc, *place; /* what: "fs open_close", "syscall" */
    uint64_t count;
};

/* What a process did in a part of the time. */
enum ov_doing { OV_FILES, OV_NET, OV_HTTP, OV_HTTP_ERROR, OV_DNS, OV_CONSOLE, OV_DOINGS };
struct ov_bin {
    struct keyed_row row;
    uint32_t process, bin; /* process: among those of the list */
    uint32_t count[OV_DOINGS];
    uint64_t bytes;
};

struct ov_line {
    uint64_t time_ns;
    int process;
    bool err;
    const char *text;
};

struct ov_note { /* what isn't observed (kind NULL), a notice (its rule), a crash ("crash") */
    struct keyed_row row;
    const char *kind, *text, *proc, *about;
    int64_t pid;
    uint64_t count, time_ns;
};

/* --- the whole --- */

struct overview {
    uint64_t from_ns, to_ns; /* of the session: the caller's */
    uint64_t events;
    struct ov_process *processes;
    size_t process_count, process_cap;
    uint64_t processes_more;                                     /* that had no room */
    struct keyed files, edges, routes, dns, errors, bins, notes; /* of struct ov_file ... */
    struct ov_times client, server;                              /* all exchanges by the program's role */
    uint64_t requests, responses, failed;                        /* failed: status 400 and above, or no response */
    uint64_t client_responses, server_responses;
    uint64_t file_opens, file_read, file_written, file_changes;
    uint64_t connections, sent, received, lines, dns_queries, crashes;
    struct ov_exchange slowest[OV_MAX_SLOWEST]; /* after overview_finish(): the slowest first */
    size_t slowest_count;
    struct ov_flow flows[OV_MAX_FLOWS]; /* after overview_finish(): those that moved most first */
    size_t flow_count;
    uint64_t flows_more;
    struct ov_line console[OV_MAX_CONSOLE];
    size_t console_count;

    /* private */
    struct keyed texts, pids, open, names, listening, unix_ends, waiting;
    int64_t last_pid; /* whose index is last_process */
    int last_process;
};

/* Between these times the activity is divided into bins; what lies outside counts as the first or last. */
struct overview *overview_new(uint64_t from_ns, uint64_t to_ns);
void overview_free(struct overview *o);
void overview_event(struct overview *o, const struct sum_event *e);
/* fs.error and net.error, by the object {"type":"metric","body":{...}}; others are passed over. */
void overview_metric(struct overview *o, const struct json_t *object);
/* What remains open is closed, ends are joined, lists are put in order. Once, before anything is read. */
void overview_finish(struct overview *o);

#endif
