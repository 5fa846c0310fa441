/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf)BUF_INIT;
}

void buf_grow(struct buf *b, size_t n)
{
    size_t cap = b->cap ? b->cap * 2 : 256;

    while (cap - b->len < n)
        cap *= 2;
    b->p = xrealloc(b->p, cap, 1);
    b->cap = cap;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    char *at = buf_room(b, 128); /* changes cap: not inside the call, whose arguments have no order */
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(at, b->cap - b->len, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    if ((size_t)n >= b->cap - b->len) {
        va_start(ap, fmt);
        vsnprintf(buf_room(b, (size_t)n + 1), (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    b->len += (size_t)n;
}

static const char two_digits[] = "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
                                 "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/* v with exactly so many digits, which must be enough. */
static void put_digits(char *p, unsigned digits, uint64_t v)
{
    for (; digits >= 2; v /= 100)
        memcpy(p + (digits -= 2), two_digits + v % 100 * 2, 2);
    if (digits)
        *p = (char)('0' + v % 10);
}

static unsigned digits_of(uint64_t v)
{
#define E5(n) n, n * 10, n * 100, n * 1000, n * 10000
    static const uint64_t power[] = {E5(UINT64_C(1)), E5(UINT64_C(100000)), E5(UINT64_C(10000000000)),
                                     E5(UINT64_C(1000000000000000))};
#undef E5
    unsigned bits = 64 - (unsigned)__builtin_clzll(v | 1);
    unsigned guess = bits * 1233 >> 12; /* 1233 / 4096 is a bit more than log10(2): right, or one too high */

    return v | guess ? guess + (v >= power[guess]) : 1;
}

void buf_uint(struct buf *b, uint64_t v)
{
    unsigned digits = digits_of(v);

    put_digits(buf_room(b, digits), digits, v);
    b->len += digits;
}

void buf_int(struct buf *b, int64_t v)
{
    if (v < 0)
        buf_char(b, '-');
    buf_uint(b, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

char *buf_cstr(struct buf *b)
{
    *buf_room(b, 1) = 0;
    return b->p;
}

unsigned utf8_sequence(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned n, lo = 0x80, hi = 0xbf;

    if (!len)
        return 0;
    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (len < n)
        return 0;
    if (s[0] == 0xe0)
        lo = 0xa0; /* overlong */
    else if (s[0] == 0xed)
        hi = 0x9f; /* surrogates */
    else if (s[0] == 0xf0)
        lo = 0x90;
    else if (s[0] == 0xf4)
        hi = 0x8f; /* above U+10FFFF */
    if (s[1] < lo || s[1] > hi)
        return 0;
    for (unsigned i = 2; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

/* Sixteen bytes at once, in whatever way the machine has for that. */
typedef int8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t words2 __attribute__((vector_size(16)));

/* Whether none of sixteen bytes needs a second look in buf_json(): ASCII, not a control character, a quote or a
 * backslash. */
static inline bool plain(uint64_t a, uint64_t b)
{
    bytes16 x = (bytes16)(words2){a, b};
    words2 odd = (words2)((x < 0x20) | (x == '"') | (x == '\\') | (x == 0x7f)); /* those above ASCII are negative */

    return !(odd[0] | odd[1]);
}

static inline uint64_t eight(const char *s)
{
    uint64_t x;

    memcpy(&x, s, sizeof(x));
    return x;
}

static bool eight_plain(const char *s)
{
    uint64_t x = eight(s);

    return plain(x, x);
}

/* Nearly all texts are, and most are short. Pieces may overlap. */
static inline bool all_plain(const char *s, size_t len)
{
    uint32_t first, last;
    uint64_t x = 0;

    if (len >= 8) {
        for (size_t i = 0; i + 16 < len; i += 16)
            if (!plain(eight(s + i), eight(s + i + 8)))
                return false;
        return len >= 16 ? plain(eight(s + len - 16), eight(s + len - 8)) : plain(eight(s), eight(s + len - 8));
    }
    if (len >= 4) {
        memcpy(&first, s, 4);
        memcpy(&last, s + len - 4, 4);
        x = first | (uint64_t)last << 32;
        return plain(x, x);
    }
    if (!len)
        return true;
    x = UINT64_C(0x6161616161000000) | (uint8_t)s[0] | (uint64_t)(uint8_t)s[len / 2] << 8 | (uint64_t)(uint8_t)s[len - 1] << 16;
    return plain(x, x);
}

/* The character that a valid sequence of n bytes stands for. */
static uint32_t code_of(const char *s, unsigned n)
{
    const unsigned char *u = (const unsigned char *)s;

    switch (n) {
    case 1: return u[0];
    case 2: return (u[0] & 0x1fu) << 6 | (u[1] & 0x3fu);
    case 3: return (u[0] & 0x0fu) << 12 | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu);
    default: return (u[0] & 0x07u) << 18 | (u[1] & 0x3fu) << 12 | (u[2] & 0x3fu) << 6 | (u[3] & 0x3fu);
    }
}

/* Whether a terminal does something else than showing it. */
static bool acts(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

void buf_visible(struct buf *b, const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned n = utf8_sequence(s + i, len - i);
        uint32_t c = n ? code_of(s + i, n) : 0;

        if (n == 0)
            buf_str(b, "\xef\xbf\xbd");
        else if (!acts(c))
            buf_add(b, s + i, n);
        else if (c == '\n' || c == '\t')
            buf_str(b, c == '\n' ? "\\n" : "\\t");
        else
            buf_printf(b, c < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)c);
        i += n ? n : 1;
    }
}

void buf_visible_json(struct buf *b, const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned n = utf8_sequence(s + i, len - i);
        uint32_t c = n ? code_of(s + i, n) : 0;

        if (n && c != '\n' && acts(c))
            buf_printf(b, "\\u%04x", (unsigned)c);
        else if (n)
            buf_add(b, s + i, n);
        else
            buf_str(b, "\xef\xbf\xbd");
        i += n ? n : 1;
    }
}

/* What isn't plain is escaped. Apart, so that buf_json() has few registers to save. */
static __attribute__((noinline)) void add_escaped(struct buf *b, const char *s, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t done = 0, i = 0;

    while (i < len) {
        if (len - i >= 8 && eight_plain(s + i)) {
            i += 8;
            continue;
        }
        unsigned char c = (unsigned char)s[i];
        unsigned n;
        char esc[6] = {'\\', 'u', '0', '0', 0, 0};
        size_t esc_len = 2;

        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            i++;
            continue;
        }
        if (c >= 0x7f && (n = utf8_sequence(s + i, len - i))) {
            uint32_t code = code_of(s + i, n);

            if (acts(code)) {
                buf_add(b, s + done, i - done);
                buf_printf(b, "\\u%04x", (unsigned)code);
                done = i + n;
            }
            i += n;
            continue;
        }
        buf_add(b, s + done, i - done);
        done = ++i;
        switch (c) {
        case '"': case '\\': esc[1] = (char)c; break;
        case '\b': esc[1] = 'b'; break;
        case '\f': esc[1] = 'f'; break;
        case '\n': esc[1] = 'n'; break;
        case '\r': esc[1] = 'r'; break;
        case '\t': esc[1] = 't'; break;
        default:
            if (c >= 0x80) {
                buf_str(b, "\xef\xbf\xbd");
                continue;
            }
            esc[4] = hex[c >> 4];
            esc[5] = hex[c & 15];
            esc_len = 6;
        }
        buf_add(b, esc, esc_len);
    }
    buf_add(b, s + done, len - done);
}

void buf_json(struct buf *b, const char *s, size_t len)
{
    char *p = buf_room(b, len + 2);

    *p = '"';
    if (all_plain(s, len)) {
        if (len) /* s may be NULL */
            memcpy(p + 1, s, len);
        p[len + 1] = '"';
        b->len += len + 2;
        return;
    }
    b->len++;
    add_escaped(b, s, len);
    buf_char(b, '"');
}

void buf_time(struct buf *b, uint64_t ns)
{
    uint64_t us = ns / 1000;
    char *p;

    buf_uint(b, us / 1000000);
    p = buf_room(b, 7);
    *p = '.';
    put_digits(p + 1, 6, us % 1000000);
    b->len += 7;
}
