/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which span a request belongs to, as its header says: the W3C's Trace Context
 * (https://www.w3.org/TR/trace-context-2/), else B3, in one field or in several
 * (https://github.com/openzipkin/b3-propagation). Names of fields don't depend
 * on case. Nothing here allocates.
 */
#ifndef SCOPE_PROTOCOL_TRACE_CONTEXT_H
#define SCOPE_PROTOCOL_TRACE_CONTEXT_H

#include "protocol/http.h"

struct trace_parent {
    uint8_t trace_id[16], span_id[8]; /* neither is all zero. B3's ids of 64 bits have zeros in front */
    uint8_t flags;                    /* 1: sampled; others as traceparent has them */
    bool decided;                     /* whether the sender has said if it is sampled: with B3 it may leave that open */
    bool w3c;                         /* tracestate counts */
};

/* False: the header names no span, or not in a way that is valid. A second traceparent makes both invalid. */
bool trace_parent(const struct http_field *fields, size_t count, struct trace_parent *ret);

/* Version 00 of a traceparent, or what a later version begins with. Ids are lower case. */
bool trace_parse_w3c(struct slice value, struct trace_parent *ret);
bool trace_parse_b3(struct slice value, struct trace_parent *ret);

/* All tracestate fields, joined: as many whole members as fit into TRACE_STATE_MAX bytes. Returns its length. */
#define TRACE_STATE_MAX 512u
size_t trace_state(const struct http_field *fields, size_t count, char to[TRACE_STATE_MAX]);

#endif
