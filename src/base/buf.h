/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer, and JSON text appended to it. */
#ifndef SCOPE_BASE_BUF_H
#define SCOPE_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf {
    char *p;         /* not NUL-terminated unless buf_cstr() was called */
    size_t len, cap;
};
#define BUF_INIT {NULL, 0, 0}

void buf_free(struct buf *b);
static inline void buf_reset(struct buf *b) { b->len = 0; }
void buf_grow(struct buf *b, size_t n); /* of buf_room(), when there is no room */
/* Makes room for n more bytes and returns the place; the caller adds to len what it used. */
static inline char *buf_room(struct buf *b, size_t n)
{
    if (b->cap - b->len < n)
        buf_grow(b, n);
    return b->p + b->len;
}
static inline void buf_add(struct buf *b, const void *p, size_t n)
{
    if (n)
        memcpy(buf_room(b, n), p, n);
    b->len += n;
}
static inline void buf_str(struct buf *b, const char *s) { buf_add(b, s, strlen(s)); }
static inline void buf_char(struct buf *b, char c)
{
    *buf_room(b, 1) = c;
    b->len++;
}
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_uint(struct buf *b, uint64_t v);
void buf_int(struct buf *b, int64_t v);
/* NUL-terminates and returns the text; valid until the next change. */
char *buf_cstr(struct buf *b);

/* Text that came from elsewhere, for a terminal or a log: one line, without anything that moves the cursor, changes
 * colours or the direction of what follows. Control characters of ASCII become \n, \t or \x1b, U+0080 to U+009F \x9b, the
 * others of Unicode that aren't shown but rearrange lines (U+061C, U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069)
 * \u202e; bytes that aren't valid UTF-8 U+FFFD. */
void buf_visible(struct buf *b, const char *s, size_t len);
/* JSON text with the same characters escaped where they stand in strings; it stays JSON of the same value. */
void buf_visible_json(struct buf *b, const char *s, size_t len);
/* A JSON string with its quotes. Bytes that aren't valid UTF-8 become U+FFFD;
 * control characters are escaped (RFC 8259, section 7), those of Unicode that buf_visible() names too. */
void buf_json(struct buf *b, const char *s, size_t len);
static inline void buf_json_str(struct buf *b, const char *s) { buf_json(b, s, strlen(s)); }
/* Seconds with microseconds, from nanoseconds: 1700000000.123456 */
void buf_time(struct buf *b, uint64_t ns);
/* Length of the valid UTF-8 sequence at text (1..4), 0 if it is not one (RFC 3629). */
unsigned utf8_sequence(const char *text, size_t len);

#endif
