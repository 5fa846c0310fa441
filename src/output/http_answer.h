/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer to one HTTP/1 request, read in pieces of any size (RFC 9112). What a server sends is hostile: head,
 * trailers and interim answers together are at most HTTP_ANSWER_HEAD bytes, and a body is kept up to HTTP_ANSWER_BODY.
 */
#ifndef SCOPE_OUTPUT_HTTP_ANSWER_H
#define SCOPE_OUTPUT_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define HTTP_ANSWER_HEAD ((size_t)16 * 1024)
#define HTTP_ANSWER_BODY ((size_t)64 * 1024)

enum http_content { HTTP_CONTENT_OTHER, HTTP_CONTENT_PROTOBUF, HTTP_CONTENT_TEXT };

struct http_answer {
    /* Known when the head has been read. */
    int status;              /* 200..599, 0: the head isn't complete */
    char reason[64];         /* of the status line, "" if it says none */
    char retry_after[48];    /* as it stands there, "" if there is none */
    char wanted[128];        /* likewise, of the field `want` */
    enum http_content content; /* what body is: readable text, a protobuf message, or something else (or encoded) */
    bool keep_alive;         /* another request may follow on this connection, once the answer is complete */
    struct buf body;

    const char *problem;     /* static text: why feed or end said -EPROTO */
    bool begun;              /* at least one byte has come */

    const char *want;        /* the caller's, kept by http_answer_init(): name of one more field, or NULL */

    /* The parser's own. */
    unsigned char state;
    bool http10, chunked, has_length, encoded;
    uint64_t length;         /* Content-Length */
    uint64_t left;           /* of body or chunk */
    size_t head_bytes;
    struct buf line;
};

/* For the next answer; keeps memory. The first time of a structure that is all zero. */
void http_answer_init(struct http_answer *);
/* 1: complete, *ret_used of the n bytes belong to it. 0: more must come, all were used. -EFBIG: the head is read, the
 * body is longer than is kept: the connection is of no use any more. -EPROTO: see problem. */
int http_answer_feed(struct http_answer *, const char *bytes, size_t n, size_t *ret_used);
/* The connection was closed. 1: that ends the answer; -EPROTO: it is cut off. */
int http_answer_end(struct http_answer *);
void http_answer_free(struct http_answer *);

/* Milliseconds that Retry-After asks for: seconds, or a date in the form of RFC 9110, 5.6.7 (the obsolete ones aren't
 * read), compared with `now` (seconds since 1970). At most `most`; 0 if the text is neither. */
unsigned http_retry_after(const char *text, int64_t now, unsigned most);

#endif
