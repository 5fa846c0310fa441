/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 over one connection (RFC 9113), header compression by libnghttp2 (hpack.h). What it tells: http.h.
 *
 * Which side is the client is learnt from the bytes. A CONNECT, extended or not (RFC 8441), is a stream like others
 * that goes on for long; http_sink.upgraded and rest are never called.
 *
 * What peers may not do (RFC 9113: connection errors) ends the decoder, HTTP_NOTE_NOT_HTTP, if it concerns how bytes
 * are to be understood. Other violations have no effect: the frame is passed over.
 *
 * A gap does no harm in payloads whose content isn't needed: DATA, padding, frames that are passed over. Anywhere else
 * it costs the header table, and with it the direction, for good: HTTP_NOTE_LOST, once, with the length of the gap (0:
 * a header block made no sense, or went beyond the limits of hpack.h). The other direction goes on: requests are told
 * without response, or responses without request; their totals have `gap` set.
 */
#ifndef SCOPE_PROTOCOL_HTTP2_H
#define SCOPE_PROTOCOL_HTTP2_H

#include "protocol/http.h"

struct http2;

/* joined: bytes passed before: the tables of header compression can't be known, so no head is told (HTTP_NOTE_JOINED,
 * once), unless the client's preface comes first of all. sink is kept by reference, owner is passed to its functions.
 * Never fails. An idle connection takes at most 1 KiB, and 2 KiB for each direction in which a head passed, plus what
 * its peers put into the tables: libnghttp2 takes up to 8 times what RFC 7541 counts (section 4.1), of which
 * HTTP2_TABLE_MAX (hpack.h) is the bound, 4,096 unless both sides agree otherwise. */
struct http2 *http2_new(const struct http_sink *sink, void *owner, bool joined);
/* Tells what is outstanding (`done`), then frees. NULL is fine. */
void http2_free(struct http2 *h, uint64_t time_ns);
/* len bytes that passed in this direction at time_ns (any clock, as long as it is one). data NULL: they passed but
 * weren't captured. */
void http2_feed(struct http2 *h, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
/* This direction has ended: what waits for something from it is over. */
void http2_end(struct http2 *h, enum proto_dir dir, uint64_t time_ns);
/* As http1_skip(): what is left of a DATA frame, unless the sink has a `body`, and of payloads and padding that nobody
 * looks at. The owner may set `body` later, when a head tells it that it wants bodies (gRPC). */
uint64_t http2_skip(const struct http2 *h, enum proto_dir dir);
/* The connection was upgraded from HTTP/1 (h2c, RFC 7540, section 3.2): the request becomes stream 1, half-closed;
 * kept is its owner's pointer, request_first_ns when it began. To be called before anything is fed; both directions
 * begin behind the HTTP/1 messages. */
void http2_upgraded(struct http2 *h, enum proto_dir request_dir, void *kept, uint64_t request_first_ns);
/* Whether these first bytes of a direction are the client's preface, or what a server begins with (SETTINGS):
 * 1 yes, 0 no, -1 more bytes are needed to tell (at most 24 are). */
int http2_detect(const uint8_t *data, size_t len);

#define HTTP2_STREAMS_MAX 1024u /* outstanding streams at most; one more is told, and forgotten at once */

#endif
