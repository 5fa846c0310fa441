/* SPDX-License-Identifier: Apache-2.0 */
#include "output/http_answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define CHUNK_LINE 256 /* bytes of a chunk's size and extensions */

enum { STATUS, HEADER, LENGTH, UNTIL_END, CHUNK, CHUNK_DATA, CHUNK_END, TRAILER, DONE };

void http_answer_init(struct http_answer *a)
{
    struct buf body = a->body, line = a->line;
    const char *want = a->want;

    memset(a, 0, sizeof(*a));
    a->want = want;
    a->body = body;
    a->line = line;
    buf_reset(&a->body);
    buf_reset(&a->line);
    a->keep_alive = true;
}

void http_answer_free(struct http_answer *a)
{
    buf_free(&a->body);
    buf_free(&a->line);
}

static int wrong(struct http_answer *a, const char *text)
{
    a->problem = text;
    return -EPROTO;
}

static bool digits(const char *s)
{
    return *s && !s[strspn(s, "0123456789")];
}

static void keep(char *to, size_t size, const char *s)
{
    size_t n = strnlen(s, size - 1);

    memcpy(to, s, n);
    to[n] = 0;
}

/* HTTP/1.1 200 OK */
static int status_line(struct http_answer *a, const char *s)
{
    if (strncmp(s, "HTTP/1.", 7) != 0 || (s[7] != '0' && s[7] != '1') || s[8] != ' ')
        return wrong(a, "what it says isn't HTTP/1");
    if (strspn(s + 9, "0123456789") != 3 || (s[12] && s[12] != ' ') || s[9] < '1' || s[9] > '5')
        return wrong(a, "its answer has no valid status");
    a->http10 = s[7] == '0';
    a->keep_alive = !a->http10;
    a->status = atoi(s + 9);
    keep(a->reason, sizeof(a->reason), s[12] ? s + 13 : "");
    a->state = HEADER;
    return 0;
}

/* Whether a list of tokens with commas between them has this one. */
static bool lists(const char *s, const char *token)
{
    size_t n = strlen(token);

    for (;;) {
        s += strspn(s, ", \t");
        if (!*s)
            return false;
        if (strncasecmp(s, token, n) == 0 && (!s[n] || strchr(", \t;", s[n])))
            return true;
        s += strcspn(s, ",");
    }
}

static int header(struct http_answer *a, char *s)
{
    char *colon = strchr(s, ':'), *value, *end;
    uint64_t n;

    if (!colon || colon == s || strcspn(s, " \t") < (size_t)(colon - s)) /* as are continued lines (RFC 9112, 5.2) */
        return wrong(a, "its answer has a header without a name");
    *colon = 0;
    value = colon + 1 + strspn(colon + 1, " \t");
    for (end = value + strlen(value); end > value && (end[-1] == ' ' || end[-1] == '\t');)
        *--end = 0;
    if (strcasecmp(s, "content-length") == 0) {
        if (!digits(value) || strlen(value) > 18)
            return wrong(a, "its Content-Length is not a number");
        n = strtoull(value, NULL, 10);
        if (a->has_length && a->length != n)
            return wrong(a, "its answer has two lengths");
        a->has_length = true;
        a->length = n;
    } else if (strcasecmp(s, "transfer-encoding") == 0) {
        if (strcasecmp(value, "chunked") != 0 || a->chunked || a->http10)
            return wrong(a, "its answer has a Transfer-Encoding that it wasn't asked for");
        a->chunked = true;
    } else if (strcasecmp(s, "connection") == 0) {
        if (lists(value, "close"))
            a->keep_alive = false;
        else if (a->http10 && lists(value, "keep-alive"))
            a->keep_alive = true;
    } else if (strcasecmp(s, "content-type") == 0) {
        if (lists(value, "application/x-protobuf"))
            a->content = HTTP_CONTENT_PROTOBUF;
        else if (lists(value, "text/plain") || lists(value, "application/json"))
            a->content = HTTP_CONTENT_TEXT;
    } else if (strcasecmp(s, "content-encoding") == 0) {
        if (strcasecmp(value, "identity") != 0)
            a->encoded = true; /* it wasn't asked for, but what it answers counts */
    } else if (strcasecmp(s, "retry-after") == 0) {
        keep(a->retry_after, sizeof(a->retry_after), value);
    } else if (a->want && strcasecmp(s, a->want) == 0) {
        keep(a->wanted, sizeof(a->wanted), value);
    }
    return 0;
}

static int finished(struct http_answer *a)
{
    a->state = DONE;
    return 1;
}

static int end_of_head(struct http_answer *a)
{
    if (a->status < 200) { /* interim: the answer proper follows */
        size_t head_bytes = a->head_bytes;

        if (a->status == 101)
            return wrong(a, "it changes to another protocol");
        http_answer_init(a);
        a->head_bytes = head_bytes;
        a->begun = true;
        return 0;
    }
    if (a->encoded)
        a->content = HTTP_CONTENT_OTHER;
    if (a->status == 204 || a->status == 304)
        return finished(a);
    if (a->chunked) {
        if (a->has_length)
            a->keep_alive = false; /* RFC 9112, 6.3: may be an attempt to smuggle */
        a->state = CHUNK;
    } else if (a->has_length) {
        a->left = a->length;
        a->state = LENGTH;
        if (!a->left)
            return finished(a);
        if (a->left > HTTP_ANSWER_BODY)
            return -EFBIG;
    } else {
        a->keep_alive = false;
        a->state = UNTIL_END;
    }
    return 0;
}

static int chunk_line(struct http_answer *a, const char *s)
{
    size_t n = strspn(s, "0123456789abcdefABCDEF");

    if (!n || n > 15 || (s[n] && !strchr("; \t", s[n])))
        return wrong(a, "a chunk of its answer has no valid size");
    a->left = strtoull(s, NULL, 16);
    a->state = a->left ? CHUNK_DATA : TRAILER;
    return 0;
}

static int line(struct http_answer *a, char *s)
{
    switch (a->state) {
    case STATUS:
        return status_line(a, s);
    case HEADER:
        return *s ? header(a, s) : end_of_head(a);
    case CHUNK:
        return chunk_line(a, s);
    case CHUNK_END:
        a->state = CHUNK;
        return *s ? wrong(a, "a chunk of its answer is longer than it says") : 0;
    default: /* TRAILER */
        return *s ? 0 : finished(a);
    }
}

/* Takes bytes up to the end of a line. */
static int gather_line(struct http_answer *a, const char *p, size_t n, size_t *ret_used)
{
    const char *end = memchr(p, '\n', n);
    bool chunk = a->state == CHUNK || a->state == CHUNK_END;
    size_t take = end ? (size_t)(end - p) + 1 : n;
    int rc;

    if (chunk ? a->line.len + take > CHUNK_LINE : a->head_bytes + take > HTTP_ANSWER_HEAD)
        return wrong(a, "the head of its answer is longer than 16 KiB");
    if (!chunk)
        a->head_bytes += take;
    buf_add(&a->line, p, take);
    *ret_used = take;
    /* What can't become a status line needs no end: another protocol may have none. */
    if (a->state == STATUS && memcmp(a->line.p, "HTTP/1.", a->line.len < 7 ? a->line.len : 7) != 0)
        return wrong(a, "what it says isn't HTTP/1");
    if (!end)
        return 0;
    a->line.len--;
    if (a->line.len && a->line.p[a->line.len - 1] == '\r')
        a->line.len--;
    for (size_t i = 0; i < a->line.len; i++)
        if ((unsigned char)a->line.p[i] < 0x20 && a->line.p[i] != '\t')
            return wrong(a, "its answer has control characters");
    buf_cstr(&a->line);
    rc = line(a, a->line.p);
    buf_reset(&a->line);
    return rc;
}

/* Takes bytes of the body. */
static int gather_body(struct http_answer *a, const char *p, size_t n, size_t *ret_used)
{
    size_t take = a->state != UNTIL_END && a->left < n ? (size_t)a->left : n;

    if (a->body.len + take > HTTP_ANSWER_BODY)
        return -EFBIG;
    buf_add(&a->body, p, take);
    *ret_used = take;
    if (a->state == UNTIL_END)
        return 0;
    a->left -= take;
    if (!a->left && a->state == LENGTH)
        return finished(a);
    if (!a->left)
        a->state = CHUNK_END;
    return 0;
}

int http_answer_feed(struct http_answer *a, const char *bytes, size_t n, size_t *ret_used)
{
    size_t at = 0;
    int rc = a->state == DONE;

    while (at < n && rc == 0) {
        bool body = a->state == LENGTH || a->state == UNTIL_END || a->state == CHUNK_DATA;
        size_t used = 0;

        a->begun = true;
        rc = body ? gather_body(a, bytes + at, n - at, &used) : gather_line(a, bytes + at, n - at, &used);
        at += used;
    }
    *ret_used = at;
    return rc;
}

int http_answer_end(struct http_answer *a)
{
    if (a->state == UNTIL_END || a->state == DONE)
        return finished(a);
    return wrong(a, a->begun ? "the receiver closed the connection in the middle of an answer"
                             : "the receiver closed the connection without an answer");
}

/* "Sun, 06 Nov 1994 08:49:37 GMT": seconds since 1970, or -1. */
static int64_t http_date(const char *s)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const char *shape = "aaa, dd aaa dddd dd:dd:dd GMT", *month;
    struct tm tm = {0};
    char name[4];

    for (size_t i = 0; shape[i]; i++) {
        bool fits = shape[i] == 'd'   ? s[i] >= '0' && s[i] <= '9'
                    : shape[i] == 'a' ? (s[i] | 0x20) >= 'a' && (s[i] | 0x20) <= 'z'
                                      : s[i] == shape[i];

        if (!fits)
            return -1;
    }
    if (s[29])
        return -1;
    memcpy(name, s + 8, 3);
    name[3] = 0;
    month = strstr(months, name);
    if (!month || (month - months) % 3)
        return -1;
    tm.tm_mday = atoi(s + 5);
    tm.tm_mon = (int)(month - months) / 3;
    tm.tm_year = atoi(s + 12) - 1900;
    tm.tm_hour = atoi(s + 17);
    tm.tm_min = atoi(s + 20);
    tm.tm_sec = atoi(s + 23);
    return timegm(&tm);
}

unsigned http_retry_after(const char *text, int64_t now, unsigned most)
{
    int64_t then, ms;

    if (digits(text))
        return strlen(text) > 7 || strtoul(text, NULL, 10) > most / 1000 ? most : (unsigned)atoi(text) * 1000;
    then = http_date(text);
    if (then <= now)
        return 0;
    ms = then - now > most / 1000 ? most : (then - now) * 1000;
    return (unsigned)ms;
}
