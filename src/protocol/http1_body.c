/* SPDX-License-Identifier: Apache-2.0 */
/* What is behind a head of HTTP/1: a body of known length, in chunks, or up to the end (RFC 9112, sections 6 and 7). */
#include <string.h>

#include "protocol/http1_parts.h"

/* n bytes of a body; p NULL: they weren't captured. */
static void body(struct http1 *h, struct side *s, const uint8_t *p, uint64_t n)
{
    struct exchange *x = s->exchange;
    bool response = carries_responses(h, s);

    *(response ? &x->totals.response_body : &x->totals.request_body) += n;
    if (h->sink->body && n)
        h->sink->body(h->owner, x->kept, dir_of(h, s), response, p, n);
}

/* Of len bytes those that belong to the body that is being taken; returns how many they are. */
uint64_t http1_take_body(struct http1 *h, struct side *s, const uint8_t *p, uint64_t len, uint64_t now)
{
    uint64_t n = s->state == BODY_TO_END || len < s->left ? len : s->left;

    body(h, s, p, n);
    if (s->state != BODY_TO_END && !(s->left -= n)) {
        if (s->state == CHUNK_DATA)
            s->state = CHUNK_CR;
        else
            http1_message_over(h, s, now);
    }
    return n;
}

/* The chunks can't be followed any more (RFC 9112, section 7.1): what comes is of this message, if of any. */
static void bad_chunk(struct side *s)
{
    s->exchange->totals.odd |= HTTP_ODD_CHUNK;
    s->faulty = true;
    s->state = BODY_TO_END;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Chunk size, then what may be between it and the end of its line. */
size_t http1_take_chunk_line(struct side *s, const uint8_t *p, size_t len)
{
    uint32_t *odd = &s->exchange->totals.odd;
    const uint8_t *lf, *end;
    size_t n = 0;

    for (; s->state == CHUNK_SIZE && n < len; n++) {
        int digit = hex_digit(p[n]);

        if (digit < 0) {
            if (!s->digits) {
                bad_chunk(s);
                return n;
            }
            s->state = CHUNK_SPACE;
            break;
        }
        if (s->left >> 59) { /* 2^63 and more is no length of anything */
            bad_chunk(s);
            return n;
        }
        s->left = s->left << 4 | (uint64_t)digit;
        s->digits += s->digits < UINT8_MAX;
        if (s->digits > 16)
            *odd |= HTTP_ODD_CHUNK;
    }
    for (; s->state == CHUNK_SPACE && n < len; n++) {
        if (p[n] == ';' || p[n] == '\r' || p[n] == '\n') {
            s->state = CHUNK_EXTENSION;
            break;
        }
        if (p[n] != ' ' && p[n] != '\t') {
            bad_chunk(s);
            return n;
        }
        *odd |= HTTP_ODD_CHUNK; /* allowed before extensions only, and even there called bad */
    }
    if (s->state != CHUNK_EXTENSION || n == len)
        return n;
    /* Up to CRLF. Some take any LF, or any CR, for the end of the line. */
    lf = memchr(p + n, '\n', len - n);
    end = lf ? lf : p + len;
    if (end > p + n) {
        bool cr = end[-1] == '\r';

        if (s->place == LINE_BEGIN_CR || memchr(p + n, '\r', (size_t)(end - (p + n)) - cr))
            *odd |= HTTP_ODD_CHUNK;
        s->place = cr ? LINE_BEGIN_CR : IN_LINE;
    }
    if (!lf)
        return len;
    if (s->place != LINE_BEGIN_CR)
        *odd |= HTTP_ODD_CHUNK;
    s->place = LINE_BEGIN;
    s->state = s->left ? CHUNK_DATA : TRAILERS;
    return (size_t)(lf - p) + 1;
}

size_t http1_take_chunk_end(struct side *s, uint8_t c)
{
    if (c == '\r' && s->state == CHUNK_CR) {
        s->state = CHUNK_LF;
        return 1;
    }
    if (c != '\n') {
        bad_chunk(s);
        return 0;
    }
    if (s->state == CHUNK_CR)
        s->exchange->totals.odd |= HTTP_ODD_CHUNK;
    s->state = CHUNK_SIZE;
    s->place = IN_LINE;
    s->digits = 0;
    return 1;
}

/* Bytes up to the end of the empty line that ends a head or trailers; *end tells whether it is there. */
size_t http1_scan_lines(enum place *place, const uint8_t *p, size_t len, bool *end)
{
    size_t n = 0;

    *end = false;
    while (n < len) {
        const uint8_t *lf;

        switch (*place) {
        case LINE_BEGIN:
            if (p[n] == '\r') {
                *place = LINE_BEGIN_CR;
                n++;
                break;
            }
            /* fall through */
        case LINE_BEGIN_CR:
            if (p[n] == '\n') {
                *end = true;
                return n + 1;
            }
            *place = IN_LINE;
            /* fall through */
        default:
            lf = memchr(p + n, '\n', len - n);
            if (!lf)
                return len;
            n = (size_t)(lf - p) + 1;
            *place = LINE_BEGIN;
        }
    }
    return n;
}

size_t http1_take_trailers(struct http1 *h, struct side *s, const uint8_t *p, size_t len, uint64_t now)
{
    bool end;
    size_t n = http1_scan_lines(&s->place, p, len, &end);

    if (end)
        http1_message_over(h, s, now);
    return n;
}

void http1_begin_body(struct http1 *h, struct side *s, const struct http1_framing *f, uint64_t now)
{
    s->left = 0;
    s->digits = 0;
    s->place = IN_LINE;
    if (f->has_coding && f->chunked) {
        s->state = CHUNK_SIZE;
    } else if (f->has_coding) {
        s->state = BODY_TO_END;
        s->faulty = !carries_responses(h, s);
    } else if (f->odd & HTTP_ODD_LENGTHS) {
        s->state = BODY_TO_END;
        s->faulty = true;
    } else if (f->has_length && f->length) {
        s->state = BODY;
        s->left = (uint64_t)f->length;
    } else if (f->has_length || !carries_responses(h, s)) {
        http1_message_over(h, s, now);
    } else {
        s->state = BODY_TO_END;
    }
}
