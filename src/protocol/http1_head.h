/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a head of HTTP/1 (RFC 9112, sections 2 to 6): lines in, slices of them out. Internal to the decoder. */
#ifndef SCOPE_PROTOCOL_HTTP1_HEAD_H
#define SCOPE_PROTOCOL_HTTP1_HEAD_H

#include "protocol/http.h"

/* What the fields say about the body and the connection. Zero is the beginning. */
struct http1_framing {
    bool has_length, has_coding;
    bool chunked;              /* the last transfer coding is chunked */
    bool close, keep_alive;    /* options of Connection */
    bool upgrade;              /* an Upgrade field is there */
    bool expect;               /* Expect: 100-continue */
    bool no_length;            /* the last field is a Content-Length without value, which a folded line may bring */
    uint8_t last;              /* which field came last, for a folded line that continues it; 0: one of no concern */
    uint32_t odd;              /* enum http_oddity */
    int64_t length;            /* Content-Length, if has_length and not HTTP_ODD_LENGTHS */
};

/* What the first bytes of a message tell. */
enum http1_kind { HTTP1_NEITHER, HTTP1_REQUEST, HTTP1_RESPONSE, HTTP1_EITHER /* too few bytes to tell */ };

/* Looks at no more than a method's length of bytes. Not HTTP1_NEITHER for whatever http1_start_line() takes. */
enum http1_kind http1_begins(const char *p, size_t len);

/*
 * A start line, without or with its line end. Fills in what of head it tells, `odd` included (is added to); false if
 * it isn't one. minor: -1, or the minor version where the end of an over-long line, which names it, was cut off.
 */
bool http1_start_line(const char *line, size_t len, int minor, struct http_head *head);
/* The minor version that a request line with this end (at least its last 12 bytes) names, -1 if none. */
int http1_request_version(const char *end, size_t len);
/* Whether the bytes begin with a registered method and a space. */
bool http1_known_method(const char *line, size_t len);
/* Whether a line with its line end can't be anything but a start line: registered method, nothing odd, CRLF. */
bool http1_unmistakable(const char *line, size_t len, struct http_head *head);

/* A line behind the start line, without or with its line end; not the empty one. Returns whether it is a field; folded
 * is set if the line continues the one before, field->value being the continuation. */
bool http1_field_line(const char *line, size_t len, struct http1_framing *framing, struct http_field *field,
                      bool *folded);
/* No other line follows. */
void http1_fields_end(struct http1_framing *framing);
/* The lines behind a start line, to the empty line, or to where the text ends. `fields` has room for HTTP_FIELDS_MAX.
 * Returns the length of all, with the empty line; 0: that isn't there. */
size_t http1_parse_fields(const char *p, size_t len, struct http_head *head, struct http_field *fields,
                          struct http1_framing *framing);

#endif
