/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A destination: a bounded queue in front of a transport (file, udp, tcp, unix,
 * or OTLP over HTTP or gRPC).
 * Records are complete: an ndjson line with its newline, a StatsD line, a
 * piece of captured traffic with its header, or a part of an OTLP request.
 * Nothing blocks; connecting, reconnecting (exponential back-off with jitter)
 * and name resolution run in the event loop. Single-threaded.
 *
 * Delivered means: taken by the kernel of this machine (files, udp, unix),
 * acknowledged by that of the receiver (tcp), or accepted by the receiver itself
 * (OTLP). What a broken tcp connection had
 * not acknowledged is sent again on the next one, from the start of a line, so
 * in rare cases a line arrives twice; a unix stream or TLS resends a line that
 * it has sent in part.
 */
#ifndef SCOPE_OUTPUT_OUTPUT_H
#define SCOPE_OUTPUT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "config/config.h"

struct event_base;
struct output;

struct output_stats {
    uint64_t records, bytes;        /* handed to the kernel */
    uint64_t lost_queue;            /* queue full */
    uint64_t lost_destination;      /* refused or lost with a connection */
    uint64_t queued;                /* records waiting now */
    unsigned attempts;              /* connection attempts since the last success */
    bool connected;
    const char *failure;            /* text of the last failure, or NULL */
};

/*
 * datagram_max: largest datagram into which records are packed (udp), 0 for one record each.
 * Destinations with equal configuration share one output (reference counted). The first attempt to connect is made
 * at once. From the first call on the process ignores SIGPIPE and SIGXFSZ.
 */
struct output *output_get(struct event_base *, const struct cfg_transport *, size_t datagram_max);
/* The same without sharing: the connection carries something else than those of equal configuration. Not udp, not file.
 */
struct output *output_get_own(struct event_base *, const struct cfg_transport *);
/*
 * A receiver of OpenTelemetry's protocol (OTLP 1.x, http/protobuf or grpc): cfg is one signal's, with enable set.
 * Outputs with equal configuration and signal are shared. A record that is written to it is
 *
 *     uint32_t   number of items: spans, data points or log records; in the order of this machine
 *     bytes      one or more complete fields resource_spans, resource_metrics or resource_logs (number 1, LEN) of an
 *                ExportTraceServiceRequest, ExportMetricsServiceRequest or ExportLogsServiceRequest
 *
 * A request is the fields of several records, one behind the other: 1 MiB at most, or one record that is larger. What
 * is written within 100 ms, or while the answer to the request before is awaited, goes together. All numbers of
 * output_stats, output_abandon() and output_claim_lost() are items. Lost at the destination are those of a request that
 * the receiver refuses for good, those that it says it has rejected (partial success), and what is given up at the end.
 * A request that broke off, had no answer in time, or is to be sent again by OTLP's rules, is: with the same queue
 * behind it, and so in rare cases twice. output_on_connect() has no effect.
 */
struct output *output_get_otlp(struct event_base *, const struct cfg_otlp_to *cfg, enum cfg_otlp_signal);
/* The last one tries once more to write what is queued; what stays is lost. */
void output_put(struct output *);

/* Text that must be the first thing on a new connection (start messages). fn is called after each connection but
 * the first (what was queued before that one is in order already), and after a file that was moved away has been
 * made anew; what it writes with output_write() goes before everything that is queued. */
typedef void (*output_connected_fn)(void *ctx, struct output *);
void output_on_connect(struct output *, output_connected_fn fn, void *ctx);
/* fn is no longer called with this ctx. */
void output_forget(struct output *, void *ctx);

/* Takes a copy. False if the queue was full: counted as lost_queue. */
bool output_write(struct output *, const char *record, size_t len);
/* Tries to write everything queued now. True if the queue is empty afterwards. */
bool output_flush(struct output *);
/* The same, waiting at most ms milliseconds; connects and reconnects meanwhile. Does not run the event loop. With OTLP
 * requests are waited for that are under way then, and those behind them, 10 s in all; and other outputs of OTLP go on
 * meanwhile. */
bool output_wait(struct output *, unsigned ms);
/* Each user says once that it will write no more. At the last one's what is still queued is given up and counted as
 * lost_destination; returns its number. */
uint64_t output_abandon(struct output *);
void output_stats(const struct output *, struct output_stats *ret);
/* What lost_destination has grown by since the last claim: so users of a shared output count each loss once. */
uint64_t output_claim_lost(struct output *);
const char *output_url(const struct output *);
/* Appends its name and state as a JSON object; behind a comma unless the object is the first behind a bracket. */
void output_describe(const struct output *, const char *name, struct buf *);

#endif
