/* SPDX-License-Identifier: Apache-2.0 */
/* Which metrics there are in OTLP, and which of them a sample goes to. docs/otlp-metrics.md lists them. */
#ifndef SCOPE_OTLP_METRICS_TABLE_H
#define SCOPE_OTLP_METRICS_TABLE_H

#include "event/event.h"

enum otlp_kind {
    OTLP_SUM,       /* only grows */
    OTLP_UPDOWN,    /* what it is now: a sum that isn't monotonic, always cumulative */
    OTLP_GAUGE,
    OTLP_HISTOGRAM,
};

/* What the values of a sample count, and their unit in OTLP. */
enum otlp_unit {
    OTLP_COUNT,     /* whole numbers, told as they are */
    OTLP_SECONDS,   /* microseconds, told as seconds */
    OTLP_SIZE,      /* bytes; histograms have buckets for sizes */
    OTLP_OWN,       /* numbers of the program's own */
};

/* Attributes of its data points. */
enum otlp_labels {
    OTLP_NO_LABEL,
    OTLP_OPERATION, OTLP_DISK_WAY, OTLP_NET_WAY, OTLP_CLASS, OTLP_NET_WAY_CLASS, OTLP_SOCKET,
    OTLP_HTTP_SERVER, OTLP_HTTP_CLIENT, OTLP_RPC_SERVER, OTLP_RPC_CLIENT, OTLP_DNS,
    OTLP_LOST_KIND,
    OTLP_CAPTURED, /* those that the program has given it */
};

enum otlp_family {
    OTLP_HTTP_SERVER_DURATION, OTLP_HTTP_CLIENT_DURATION,
    OTLP_HTTP_SERVER_REQUEST_SIZE, OTLP_HTTP_SERVER_RESPONSE_SIZE,
    OTLP_HTTP_CLIENT_REQUEST_SIZE, OTLP_HTTP_CLIENT_RESPONSE_SIZE,
    OTLP_RPC_SERVER_DURATION, OTLP_RPC_CLIENT_DURATION,
    OTLP_DNS_DURATION,
    OTLP_PROCESS_CPU, OTLP_PROCESS_MEMORY, OTLP_PROCESS_THREADS, OTLP_PROCESS_FDS, OTLP_PROCESS_DISK, OTLP_PROCESS_NET,
    OTLP_CHILDREN,
    OTLP_FILE_OPERATIONS, OTLP_FILE_TIME, OTLP_FILE_ERRORS,
    OTLP_NET_IO, OTLP_NET_OPERATIONS, OTLP_NET_OPENED, OTLP_NET_CLOSED, OTLP_NET_TIME, OTLP_NET_CONNECTIONS, OTLP_NET_PORTS,
    OTLP_NET_ERRORS,
    OTLP_DNS_QUERIES,
    /* Of the collector itself. */
    OTLP_PROCESSES, OTLP_STARTED, OTLP_LOST, OTLP_SERIES, OTLP_OVERFLOWED,
    OTLP_FAMILIES,
};

struct otlp_metric {
    const char *name, *unit, *help; /* help: empty for a program's own */
    enum otlp_kind kind;
    enum otlp_unit counts;
    enum otlp_labels labels;
};
extern const struct otlp_metric otlp_metrics_table[OTLP_FAMILIES];

/* Values of attributes, by number. */
extern const char *const otlp_operations[], *const otlp_disk_ways[], *const otlp_net_ways[], *const otlp_sockets[];

/* Where a sample goes: its value, and how many operations that stands for. OTLP_FAMILIES: nowhere. */
struct otlp_target {
    uint8_t value, count, also;          /* also: the value, once more, of another metric; 0: none */
    uint8_t value_word, count_word;      /* number of the attribute's value */
    uint16_t times;                      /* what the value is multiplied by: to microseconds, to bytes */
};
extern const struct otlp_target otlp_targets[TM_METRIC_MAX];

#endif
