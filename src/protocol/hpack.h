/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header blocks of one direction of an HTTP/2 connection (RFC 7541), in
 * pieces of any size, and the head of a message that comes out of each.
 * Compression itself is libnghttp2's. What is kept of a head is bounded by
 * HTTP_HEAD_MAX and HTTP_FIELDS_MAX; the table follows all of the block.
 *
 * How large the table may be, its encoder says itself in the blocks (RFC 7541,
 * section 6.3), for raising and for lowering it. The SETTINGS_HEADER_TABLE_SIZE
 * of the other side only tells the encoder what it may say, so an observer
 * needn't know it, nor when it came into force. More than HTTP2_TABLE_MAX isn't
 * followed, nor a name or value of more than 65,536 bytes (libnghttp2).
 */
#ifndef SCOPE_PROTOCOL_HPACK_H
#define SCOPE_PROTOCOL_HPACK_H

#include "protocol/http.h"

#define HTTP2_TABLE_MAX 65536u /* bytes of a header table at most */

struct hpack_block;
struct nghttp2_hd_inflater;

/* Zero-initialised it is ready for the first block; memory is taken when that comes. */
struct hpack {
    struct nghttp2_hd_inflater *inflater;
    struct hpack_block *block; /* NULL between blocks */
};

/* The next bytes of a block; false if they make no sense or go beyond the limits: the table is lost. */
bool hpack_feed(struct hpack *h, const uint8_t *data, size_t len);
/* The block is complete: fills in what a head has from its fields (method to cut), as long as hpack_clear() isn't
 * called. A status that is none is 0. False as above, or if the block is cut short. */
bool hpack_end(struct hpack *h, struct http_head *head);
/* Frees the block; the table remains. */
void hpack_clear(struct hpack *h);
void hpack_free(struct hpack *h);

#endif
