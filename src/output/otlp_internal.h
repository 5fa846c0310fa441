/* SPDX-License-Identifier: Apache-2.0 */
/* What otlp.c, otlp_http.c and otlp_grpc.c share. */
#ifndef SCOPE_OUTPUT_OTLP_INTERNAL_H
#define SCOPE_OUTPUT_OTLP_INTERNAL_H

#include <zlib.h>

#include "output/http_answer.h"
#include "output/internal.h"
#include "output/otlp_answer.h"

#define OTLP_TOLD      16u     /* kinds of messages that are told */
#define OTLP_PAUSE_MS  300000u /* the longest that a receiver can make us wait */
#define OTLP_READ      ((size_t)16 * 1024)
#define OTLP_READS     64      /* at a time, before others get their turn */
#define GRPC_PREFIX    5       /* a byte for compression, four for the length (gRPC over HTTP/2, Length-Prefixed-Message) */

/* OpenTelemetry's specification, protocol/exporter.md, "User Agent": the distribution's name may go before. */
#define OTLP_USER_AGENT "AppScope/" SCOPE_VERSION " OTel-OTLP-Exporter-C/" SCOPE_VERSION

struct grpc;

struct otlp {
    enum cfg_otlp_protocol protocol;
    enum cfg_otlp_signal signal;
    char *path;
    struct cfg_tag *headers;   /* names in lower case; only those that can be sent */
    size_t header_count;
    bool gzip;
    unsigned timeout_ms;

    /* The request under way. */
    bool busy;
    uint64_t deadline;         /* monotonic ms */
    struct buf body;
    size_t taken, records;     /* bytes and records at the head of the queue */
    uint64_t items;

    size_t limit, most;        /* bytes of the next request; what it may grow to again */
    bool proven;               /* this connection has brought an answer */
    z_stream *zip;
    uint32_t told[OTLP_TOLD];  /* hashes */
    unsigned told_count;

    /* http */
    struct buf head;
    size_t sent;               /* of head and body */
    struct http_answer answer;
    /* grpc */
    struct grpc *grpc;
};

/* Makes the body of the next request. False if nothing waits. */
bool otlp_begin(struct output *o);
/* Milliseconds until the deadline, 0 if it is over. */
unsigned otlp_left(const struct output *o);

/* What becomes of the request; none is under way afterwards. Messages come from the receiver: they may be NULL. */
/* It was accepted but for some items. */
void otlp_accepted(struct output *o, uint64_t rejected, const char *message, size_t len);
/* It was refused for good. what: "400 Bad Request" */
void otlp_refused(struct output *o, const char *what, const char *message, size_t len);
/* It is to be sent again after a while, pause_ms at least. Returns an error for go_down(). */
int otlp_again(struct output *o, unsigned pause_ms, const char *what, const char *message, size_t len);
/* It was too large. True: a smaller one is next; false: it can't be made smaller. */
bool otlp_smaller(struct output *o);
/* The connection broke, or had to be broken, while a request was under way. Returns -ESTALE (try it at once with another
 * one) or an error for go_down(), which failure then explains. */
int otlp_broken(struct output *o, const char *failure);
/* No answer in time. Returns an error for go_down(). */
int otlp_late(struct output *o);

/* otlp_grpc.c */
void grpc_free(struct grpc *); /* or NULL */

#endif
