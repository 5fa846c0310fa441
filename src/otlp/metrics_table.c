/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/metrics_table.h"

const struct otlp_metric otlp_metrics_table[OTLP_FAMILIES] = {
    [OTLP_HTTP_SERVER_DURATION] = {"http.server.request.duration", "s", "Duration of HTTP server requests.", OTLP_HISTOGRAM,
                                   OTLP_SECONDS, OTLP_HTTP_SERVER},
    [OTLP_HTTP_CLIENT_DURATION] = {"http.client.request.duration", "s", "Duration of HTTP client requests.", OTLP_HISTOGRAM,
                                   OTLP_SECONDS, OTLP_HTTP_CLIENT},
    [OTLP_HTTP_SERVER_REQUEST_SIZE] = {"http.server.request.body.size", "By", "Size of HTTP server request bodies.",
                                       OTLP_HISTOGRAM, OTLP_SIZE, OTLP_HTTP_SERVER},
    [OTLP_HTTP_SERVER_RESPONSE_SIZE] = {"http.server.response.body.size", "By", "Size of HTTP server response bodies.",
                                        OTLP_HISTOGRAM, OTLP_SIZE, OTLP_HTTP_SERVER},
    [OTLP_HTTP_CLIENT_REQUEST_SIZE] = {"http.client.request.body.size", "By", "Size of HTTP client request bodies.",
                                       OTLP_HISTOGRAM, OTLP_SIZE, OTLP_HTTP_CLIENT},
    [OTLP_HTTP_CLIENT_RESPONSE_SIZE] = {"http.client.response.body.size", "By", "Size of HTTP client response bodies.",
                                        OTLP_HISTOGRAM, OTLP_SIZE, OTLP_HTTP_CLIENT},
    [OTLP_RPC_SERVER_DURATION] = {"rpc.server.call.duration", "s", "Duration of inbound remote procedure calls.",
                                  OTLP_HISTOGRAM, OTLP_SECONDS, OTLP_RPC_SERVER},
    [OTLP_RPC_CLIENT_DURATION] = {"rpc.client.call.duration", "s", "Duration of outbound remote procedure calls.",
                                  OTLP_HISTOGRAM, OTLP_SECONDS, OTLP_RPC_CLIENT},
    [OTLP_DNS_DURATION] = {"dns.lookup.duration", "s", "Time from a DNS query to its answer.", OTLP_HISTOGRAM, OTLP_SECONDS,
                           OTLP_DNS},
    [OTLP_PROCESS_CPU] = {"process.cpu.time", "s", "CPU time, user and system.", OTLP_SUM, OTLP_SECONDS, OTLP_NO_LABEL},
    [OTLP_PROCESS_MEMORY] = {"process.memory.usage", "By", "Physical memory in use.", OTLP_UPDOWN, OTLP_SIZE, OTLP_NO_LABEL},
    [OTLP_PROCESS_THREADS] = {"process.thread.count", "{thread}", "Threads.", OTLP_UPDOWN, OTLP_COUNT, OTLP_NO_LABEL},
    [OTLP_PROCESS_FDS] = {"process.unix.file_descriptor.count", "{file_descriptor}", "Open file descriptors.", OTLP_UPDOWN,
                          OTLP_COUNT, OTLP_NO_LABEL},
    [OTLP_PROCESS_DISK] = {"process.disk.io", "By", "Bytes read from and written to files.", OTLP_SUM, OTLP_SIZE,
                           OTLP_DISK_WAY},
    [OTLP_PROCESS_NET] = {"process.network.io", "By", "Bytes received and sent through internet sockets.", OTLP_SUM,
                          OTLP_SIZE, OTLP_NET_WAY},
    [OTLP_CHILDREN] = {"appscope.process.children", "{process}", "Children that live.", OTLP_UPDOWN, OTLP_COUNT,
                       OTLP_NO_LABEL},
    [OTLP_FILE_OPERATIONS] = {"appscope.file.operations", "{operation}", "Operations on files.", OTLP_SUM, OTLP_COUNT,
                              OTLP_OPERATION},
    [OTLP_FILE_TIME] = {"appscope.file.io.time", "s", "Time that reading and writing files took.", OTLP_SUM, OTLP_SECONDS,
                        OTLP_NO_LABEL},
    [OTLP_FILE_ERRORS] = {"appscope.file.errors", "{error}", "Operations on files that failed.", OTLP_SUM, OTLP_COUNT,
                          OTLP_CLASS},
    [OTLP_NET_IO] = {"appscope.network.io", "By", "Bytes received and sent through sockets.", OTLP_SUM, OTLP_SIZE,
                     OTLP_NET_WAY_CLASS},
    [OTLP_NET_OPERATIONS] = {"appscope.network.operations", "{operation}", "Calls that received or sent.", OTLP_SUM,
                             OTLP_COUNT, OTLP_NET_WAY_CLASS},
    [OTLP_NET_OPENED] = {"appscope.network.connections.opened", "{connection}", "Connections opened.", OTLP_SUM, OTLP_COUNT,
                         OTLP_NO_LABEL},
    [OTLP_NET_CLOSED] = {"appscope.network.connections.closed", "{connection}", "Connections closed.", OTLP_SUM, OTLP_COUNT,
                         OTLP_NO_LABEL},
    [OTLP_NET_TIME] = {"appscope.network.connections.time", "s", "How long connections that were closed had been open.",
                       OTLP_SUM, OTLP_SECONDS, OTLP_NO_LABEL},
    [OTLP_NET_CONNECTIONS] = {"appscope.network.connections.open", "{connection}", "Connections that are open.", OTLP_UPDOWN,
                              OTLP_COUNT, OTLP_SOCKET},
    [OTLP_NET_PORTS] = {"appscope.network.ports", "{port}", "Ports that are listened on.", OTLP_UPDOWN, OTLP_COUNT,
                        OTLP_NO_LABEL},
    [OTLP_NET_ERRORS] = {"appscope.network.errors", "{error}", "Network operations that failed.", OTLP_SUM, OTLP_COUNT,
                         OTLP_CLASS},
    [OTLP_DNS_QUERIES] = {"appscope.dns.queries", "{query}", "DNS queries.", OTLP_SUM, OTLP_COUNT, OTLP_NO_LABEL},
    [OTLP_PROCESSES] = {"appscope.processes", "{process}", "Processes that are observed.", OTLP_UPDOWN, OTLP_COUNT,
                        OTLP_NO_LABEL},
    [OTLP_STARTED] = {"appscope.processes.started", "{process}", "Programs whose observation began.", OTLP_SUM, OTLP_COUNT,
                      OTLP_NO_LABEL},
    [OTLP_LOST] = {"appscope.lost", "{record}", "What could not be observed, recorded or delivered, by kind.", OTLP_SUM,
                   OTLP_COUNT, OTLP_LOST_KIND},
    [OTLP_SERIES] = {"appscope.series", "{series}", "Series of all processes.", OTLP_UPDOWN, OTLP_COUNT, OTLP_NO_LABEL},
    [OTLP_OVERFLOWED] = {"appscope.series.overflow", "{measurement}",
                         "Measurements that had no room for a series of their own.", OTLP_SUM, OTLP_COUNT, OTLP_NO_LABEL},
};

enum { OP_OPEN, OP_CLOSE, OP_READ, OP_WRITE, OP_SEEK, OP_STAT, OP_DELETE, OP_CREATE, OP_RENAME, OP_CHANGE, OP_SYNC };
const char *const otlp_operations[] = {"open",   "close",  "read",   "write",  "seek", "stat",
                                       "delete", "create", "rename", "change", "sync"};
enum { DISK_READ, DISK_WRITE };
const char *const otlp_disk_ways[] = {"read", "write"};
enum { NET_RECEIVE, NET_TRANSMIT };
const char *const otlp_net_ways[] = {"receive", "transmit"};
enum { SOCKET_TCP, SOCKET_UDP, SOCKET_OTHER };
const char *const otlp_sockets[] = {"tcp", "udp", "other"};

#define NOWHERE             {.value = OTLP_FAMILIES, .count = OTLP_FAMILIES}
#define OPERATION(OP)       {.value = OTLP_FILE_OPERATIONS, .count = OTLP_FAMILIES, .value_word = OP, .times = 1}
#define VALUE(FAMILY, TIMES) {.value = FAMILY, .count = OTLP_FAMILIES, .times = TIMES}
#define SOCKETS(KIND)       {.value = OTLP_NET_CONNECTIONS, .count = OTLP_FAMILIES, .value_word = KIND, .times = 1}
#define DISK(WAY, OP)                                                                                                  \
    {.value = OTLP_PROCESS_DISK, .count = OTLP_FILE_OPERATIONS, .value_word = WAY, .count_word = OP, .times = 1}
#define NET(WAY)                                                                                                       \
    {.value = OTLP_NET_IO, .count = OTLP_NET_OPERATIONS, .also = OTLP_PROCESS_NET, .value_word = WAY, .count_word = WAY, \
     .times = 1}

const struct otlp_target otlp_targets[TM_METRIC_MAX] = {
    [TM_FS_OPEN] = OPERATION(OP_OPEN),
    [TM_FS_CLOSE] = OPERATION(OP_CLOSE),
    [TM_FS_READ] = DISK(DISK_READ, OP_READ),
    [TM_FS_WRITE] = DISK(DISK_WRITE, OP_WRITE),
    [TM_FS_SEEK] = OPERATION(OP_SEEK),
    [TM_FS_STAT] = OPERATION(OP_STAT),
    [TM_FS_DURATION] = VALUE(OTLP_FILE_TIME, 1),
    [TM_FS_ERROR] = VALUE(OTLP_FILE_ERRORS, 1),
    [TM_FS_DELETE] = OPERATION(OP_DELETE),
    [TM_FS_CREATE] = OPERATION(OP_CREATE),
    [TM_FS_RENAME] = OPERATION(OP_RENAME),
    [TM_FS_CHANGE] = OPERATION(OP_CHANGE),
    [TM_FS_SYNC] = OPERATION(OP_SYNC),
    [TM_NET_RX] = NET(NET_RECEIVE),
    [TM_NET_TX] = NET(NET_TRANSMIT),
    [TM_NET_OPEN] = VALUE(OTLP_NET_OPENED, 1),
    [TM_NET_CLOSE] = VALUE(OTLP_NET_CLOSED, 1),
    [TM_NET_DURATION] = VALUE(OTLP_NET_TIME, 1000),
    [TM_NET_PORT] = VALUE(OTLP_NET_PORTS, 1),
    [TM_NET_TCP] = SOCKETS(SOCKET_TCP),
    [TM_NET_UDP] = SOCKETS(SOCKET_UDP),
    [TM_NET_OTHER] = SOCKETS(SOCKET_OTHER),
    [TM_NET_ERROR] = VALUE(OTLP_NET_ERRORS, 1),
    [TM_HTTP_REQ] = NOWHERE, /* the counts of the durations */
    [TM_HTTP_DURATION_SERVER] = VALUE(OTLP_HTTP_SERVER_DURATION, 1),
    [TM_HTTP_DURATION_CLIENT] = VALUE(OTLP_HTTP_CLIENT_DURATION, 1),
    [TM_HTTP_REQ_LENGTH] = VALUE(OTLP_HTTP_SERVER_REQUEST_SIZE, 1),
    [TM_HTTP_RESP_LENGTH] = VALUE(OTLP_HTTP_SERVER_RESPONSE_SIZE, 1),
    [TM_DNS_REQ] = VALUE(OTLP_DNS_QUERIES, 1),
    [TM_DNS_DURATION] = VALUE(OTLP_DNS_DURATION, 1),
    [TM_PROC_START] = NOWHERE, /* appscope.processes.started */
    [TM_PROC_CPU] = VALUE(OTLP_PROCESS_CPU, 1),
    [TM_PROC_CPU_PERC] = NOWHERE, /* the rate of CPU time */
    [TM_PROC_MEM] = VALUE(OTLP_PROCESS_MEMORY, 1024),
    [TM_PROC_THREAD] = VALUE(OTLP_PROCESS_THREADS, 1),
    [TM_PROC_FD] = VALUE(OTLP_PROCESS_FDS, 1),
    [TM_PROC_CHILD] = VALUE(OTLP_CHILDREN, 1),
    [TM_LOST] = NOWHERE, /* otlp_metrics_lost() */
};
