/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protocol buffers' wire format, written to a struct buf
 * (https://protobuf.dev/programming-guides/encoding/). Fields are written even if
 * they have their default value: whoever calls decides. Fixed numbers are little
 * endian, as the machine is.
 */
#ifndef SCOPE_OTLP_PB_H
#define SCOPE_OTLP_PB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fixed numbers");

enum { PB_VARINT = 0, PB_64 = 1, PB_LEN = 2, PB_32 = 5 };
#define PB_VARINT_MAX 10 /* bytes */

/* Writes at p, where there is room; returns its length, 1 to 10. */
static inline size_t pb_put_varint(char *p, uint64_t v)
{
    size_t n = 0;

    while (v >= 0x80) {
        p[n++] = (char)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (char)v;
    return n;
}

static inline size_t pb_varint_len(uint64_t v)
{
    return (size_t)(70 - __builtin_clzll(v | 1)) / 7;
}

static inline void pb_varint(struct buf *b, uint64_t v)
{
    b->len += pb_put_varint(buf_room(b, PB_VARINT_MAX), v);
}

static inline void pb_tag(struct buf *b, unsigned field, unsigned type)
{
    pb_varint(b, field << 3 | type);
}

/* uint32, uint64, enum, bool; int32 and int64 if cast to uint64_t. */
static inline void pb_uint(struct buf *b, unsigned field, uint64_t v)
{
    pb_tag(b, field, PB_VARINT);
    pb_varint(b, v);
}

/* sint32, sint64 */
static inline void pb_sint(struct buf *b, unsigned field, int64_t v)
{
    pb_uint(b, field, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

static inline void pb_fixed32(struct buf *b, unsigned field, uint32_t v)
{
    pb_tag(b, field, PB_32);
    buf_add(b, &v, sizeof(v));
}

static inline void pb_fixed64(struct buf *b, unsigned field, uint64_t v)
{
    pb_tag(b, field, PB_64);
    buf_add(b, &v, sizeof(v));
}

static inline void pb_double(struct buf *b, unsigned field, double v)
{
    pb_tag(b, field, PB_64);
    buf_add(b, &v, sizeof(v));
}

static inline void pb_bytes(struct buf *b, unsigned field, const void *p, size_t len)
{
    pb_tag(b, field, PB_LEN);
    pb_varint(b, len);
    buf_add(b, p, len);
}

static inline uint64_t pb_eight(const char *s)
{
    uint64_t x;

    memcpy(&x, s, sizeof(x));
    return x;
}

/* Nearly all texts are ASCII. Pieces may overlap. */
static inline bool pb_ascii(const char *s, size_t len)
{
    uint32_t first, last;
    uint64_t any = 0;

    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8)
            any |= pb_eight(s + i);
        any |= pb_eight(s + len - 8);
    } else if (len >= 4) {
        memcpy(&first, s, 4);
        memcpy(&last, s + len - 4, 4);
        any = first | last;
    } else if (len) {
        any = (uint8_t)s[0] | (uint8_t)s[len / 2] | (uint8_t)s[len - 1];
    }
    return !(any & UINT64_C(0x8080808080808080));
}

/* memcpy() for what is mostly short: without a call. False if it isn't ASCII, as of pb_ascii(). */
static inline bool pb_copy_ascii(char *to, const char *p, size_t len)
{
    uint32_t half, rest;
    uint64_t any = 0, x;

    if (len > 16) {
        memcpy(to, p, len);
        return pb_ascii(p, len);
    }
    if (len >= 8) {
        any = pb_eight(p);
        x = pb_eight(p + len - 8);
        memcpy(to, &any, 8);
        memcpy(to + len - 8, &x, 8);
        any |= x;
    } else if (len >= 4) {
        memcpy(&half, p, 4);
        memcpy(&rest, p + len - 4, 4);
        memcpy(to, &half, 4);
        memcpy(to + len - 4, &rest, 4);
        any = half | rest;
    } else if (len) {
        char first = p[0], middle = p[len / 2], last = p[len - 1];

        to[0] = first;
        to[len / 2] = middle;
        to[len - 1] = last;
        any = (uint8_t)(first | middle | last);
    }
    return !(any & UINT64_C(0x8080808080808080));
}

/* Any bytes; those that aren't valid UTF-8 become U+FFFD each, since a receiver refuses the whole request else. */
void pb_string(struct buf *b, unsigned field, const char *s, size_t len);
static inline void pb_str(struct buf *b, unsigned field, const char *s) { pb_string(b, field, s, strlen(s)); }

/* A message, or a packed field: what is written up to pb_end() is in it. May be nested, ended in reverse order. */
static inline size_t pb_begin(struct buf *b, unsigned field)
{
    pb_tag(b, field, PB_LEN);
    buf_char(b, 0); /* its length: most are shorter than 128 bytes */
    return b->len;
}
void pb_move(struct buf *b, size_t begin, size_t room);
static inline void pb_end(struct buf *b, size_t begin)
{
    size_t len = b->len - begin;

    if (len < 0x80)
        b->p[begin - 1] = (char)len;
    else
        pb_move(b, begin, 1);
}

/* The same for one that is mostly longer: of 128 bytes to 16 KiB. */
static inline size_t pb_begin_long(struct buf *b, unsigned field)
{
    pb_tag(b, field, PB_LEN);
    buf_room(b, 2);
    return b->len += 2;
}
static inline void pb_end_long(struct buf *b, size_t begin)
{
    size_t len = b->len - begin;

    if (len >= 0x80 && len < 0x4000)
        pb_put_varint(b->p + begin - 2, len);
    else
        pb_move(b, begin, 2);
}

#endif
