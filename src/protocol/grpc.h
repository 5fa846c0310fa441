/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC over HTTP/2: what the heads, trailers and bodies of an exchange say about
 * a call ("gRPC over HTTP2", PROTOCOL-HTTP2.md in the grpc repository). gRPC-Web
 * is another protocol. Nothing here allocates, but grpc_message().
 */
#ifndef SCOPE_PROTOCOL_GRPC_H
#define SCOPE_PROTOCOL_GRPC_H

#include "base/buf.h"
#include "protocol/http.h"

/* Whether content-type is application/grpc, alone or with "+CODEC" or parameters. */
bool grpc_is(const struct http_head *head);
/* "/pkg.Service/Method" of a request's :path; false if it hasn't this form. The slices point into it. */
bool grpc_call(struct slice path, struct slice *service, struct slice *method);
/* How long the client waits, in ns; UINT64_MAX for what is longer than that can say. 0: not stated, or malformed. */
uint64_t grpc_timeout_ns(const struct http_field *fields, size_t count);

/* Of trailers, or of the head of a response without body: the code, -1 if there is none or it isn't a number. */
int grpc_status(const struct http_field *fields, size_t count);
/* Appends the decoded grpc-message (UTF-8 if the peer keeps to the rules). False if there is none. */
bool grpc_message(const struct http_field *fields, size_t count, struct buf *out);
/* "OK", "CANCELLED", ...; NULL for a code that gRPC doesn't define. */
const char *grpc_status_text(int status);

/* The messages in the body of one direction. Zero-initialised it is at the beginning. */
struct grpc_messages {
    uint64_t count;      /* those that passed whole */
    uint64_t compressed; /* of them, those with the flag */
    uint64_t bytes;      /* of messages, without prefixes */
    bool lost;           /* a prefix was not captured, or was none: what followed is not counted */
    uint8_t have;        /* bytes of the prefix */
    uint8_t prefix[5];   /* flag and length */
    uint32_t left;       /* bytes of the message */
};

/* Bytes as http_sink.body gets them: in pieces of any size, data NULL for a gap. */
void grpc_feed(struct grpc_messages *m, const uint8_t *data, uint64_t len);
/* Whether a body may end here. */
static inline bool grpc_between(const struct grpc_messages *m)
{
    return !m->have && !m->lost;
}

#endif
