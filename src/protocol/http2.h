/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 over one connection (RFC 9113), header compression by libnghttp2 (RFC 7541). What it tells: http.h. */
#ifndef SCOPE_PROTOCOL_HTTP2_H
#define SCOPE_PROTOCOL_HTTP2_H

#include "protocol/http.h"

struct http2;

/* joined: bytes passed before: the tables of header compression can't be known, so no head is told (HTTP_NOTE_JOINED,
 * once). Never fails. An idle connection takes at most 1 KiB plus what its peers put into the tables (bounded by
 * SETTINGS_HEADER_TABLE_SIZE as seen, and by HTTP2_TABLE_MAX). */
struct http2 *http2_new(const struct http_sink *sink, void *owner, bool joined);
void http2_free(struct http2 *h, uint64_t time_ns);
void http2_feed(struct http2 *h, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
void http2_end(struct http2 *h, enum proto_dir dir, uint64_t time_ns);
/* As http1_skip(). */
uint64_t http2_skip(const struct http2 *h, enum proto_dir dir);
/* The connection was upgraded from HTTP/1 (h2c, RFC 7540, section 3.2): the request becomes stream 1, half-closed;
 * kept is its owner's pointer, request_first_ns when it began. To be called before anything is fed. */
void http2_upgraded(struct http2 *h, enum proto_dir request_dir, void *kept, uint64_t request_first_ns);
/* Whether these first bytes of a direction are the client's preface, or what a server begins with (SETTINGS):
 * 1 yes, 0 no, -1 more bytes are needed to tell. */
int http2_detect(const uint8_t *data, size_t len);

#define HTTP2_TABLE_MAX   65536u /* bytes of a header table at most */
#define HTTP2_STREAMS_MAX 1024u  /* outstanding streams at most */

#endif
