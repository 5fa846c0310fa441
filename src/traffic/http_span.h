/* SPDX-License-Identifier: Apache-2.0 */
/* What of an HTTP exchange spans say, and histograms (struct tm_exchange). Names of attributes: docs/otlp-traces.md. */
#ifndef SCOPE_TRAFFIC_HTTP_SPAN_H
#define SCOPE_TRAFFIC_HTTP_SPAN_H

#include "protocol/http.h"
#include "protocol/trace_context.h"
#include "protocol/url.h"
#include "report/spans.h"
#include "traffic/protocol.h"

/* error.type where no status says it: the connection ended, or the exchange was given up, before there was a response,
 * or before all of it; a gRPC call ended without a status. */
#define HTTP_NO_RESPONSE "no_response"
#define HTTP_INCOMPLETE "incomplete_response"
#define HTTP_NO_STATUS "no_status"

/* Behind it `state_len` bytes of tracestate. */
struct http_span {
    struct span span;
    uint16_t state_len;
};

/* What was kept of the request. */
struct http_asked {
    struct slice method, target, scheme, host, agent;
    struct slice client; /* X-Forwarded-For, or whom a PROXY header names */
    bool server;         /* it came in */
    bool grpc;
    const char *version; /* "1.1", "2" */
    /* Set by http_asked_whom(): */
    struct url_target url;
    struct slice whom;   /* the host that the request names, else the address of who serves; len 0: not known */
    unsigned port;       /* 0: not known */
    char text[INET6_ADDRSTRLEN];
};

/* Completes it, with what its target and its connection say. */
void http_asked_whom(struct http_asked *asked, const struct stream *s);

/* The span of a request begins; its ids, and where they come from. state: room for its tracestate. */
void http_span_begin(struct http_span *hs, char state[TRACE_STATE_MAX], struct stream *s, const struct http_head *head,
                     bool server);
/* The exchange is over: told, if it is sampled. length: of the request's body, as stated; -1: it wasn't. */
void http_span_end(const struct http_span *hs, struct stream *s, const struct http_asked *asked, int64_t length,
                   const struct http_totals *totals);
/* What histograms want to know. */
void http_exchange(struct tm_exchange *x, const struct http_asked *asked);

#endif
