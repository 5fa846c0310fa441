/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.0 and 1.1 over one connection (RFC 9112). What it tells: http.h. */
#ifndef SCOPE_PROTOCOL_HTTP1_H
#define SCOPE_PROTOCOL_HTTP1_H

#include "protocol/http.h"

/*
 * Which direction carries requests is learnt from the first message of either.
 *
 * Pairs: responses come in the order of their requests. A response without a
 * request is early (http_head.early) and takes the next request that is told, if
 * everything was seen so far: the bytes of two directions may be told in another
 * order than they passed. If something was missed (joined, a gap), a request and
 * a response pair only as long as the request is the only one that waits; in a
 * pipeline there is no telling any more, and requests and responses are told
 * without each other. A response to HEAD whose request is unknown is then taken
 * to have the body that it states.
 *
 * What follows a CONNECT or Upgrade is held until the answer tells what it is
 * (HTTP_HEAD_MAX bytes at most).
 *
 * Framing is done as RFC 9112, section 6.3 demands. Where that gives no length
 * (HTTP_ODD_LENGTHS, HTTP_ODD_CODING, a chunk size that is no number), all that
 * comes in the direction counts as body, and the message is not complete. Bytes
 * behind a message that closes the connection are ignored unless they are
 * another one.
 *
 * Memory: twice HTTP_HEAD_MAX for a head that comes in pieces, about 150 bytes for
 * an outstanding request, of which there are HTTP1_OUTSTANDING_MAX.
 */
struct http1;

#define HTTP1_OUTSTANDING_MAX 1024u
#define HTTP1_DETECT_MAX      1024u

/* joined: bytes of the connection passed before, so it may begin within a message. sink is kept by reference, owner
 * is passed to its functions. Never fails. An idle connection (nothing outstanding) takes at most 512 bytes. */
struct http1 *http1_new(const struct http_sink *sink, void *owner, bool joined);
/* Tells what is outstanding (`done`), then frees. NULL is fine. */
void http1_free(struct http1 *h, uint64_t time_ns);

/* len bytes that passed in this direction at time_ns (any clock, as long as it is one). data NULL: they passed but
 * weren't captured. */
void http1_feed(struct http1 *h, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
/* This direction has ended: a body that lasts until then is complete. */
void http1_end(struct http1 *h, enum proto_dir dir, uint64_t time_ns);

/* How many of the next bytes in this direction the decoder needs the number of only, not the bytes: 0 if it needs
 * them, UINT64_MAX if all that will ever come. So that bodies need not be captured. */
uint64_t http1_skip(const struct http1 *h, enum proto_dir dir);

/* Whether these first bytes of a direction can be HTTP/1: 1 yes, 0 no, -1 more bytes are needed to tell (the first
 * line, or HTTP1_DETECT_MAX bytes of it). */
int http1_detect(const uint8_t *data, size_t len);

#endif
