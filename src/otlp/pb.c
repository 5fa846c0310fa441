/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/pb.h"

#include <stdbool.h>

static inline uint64_t eight(const char *s)
{
    uint64_t x;

    memcpy(&x, s, sizeof(x));
    return x;
}

/* Nearly all texts are. Pieces may overlap. */
static inline bool is_ascii(const char *s, size_t len)
{
    uint32_t first, last;
    uint64_t any = 0;

    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8)
            any |= eight(s + i);
        any |= eight(s + len - 8);
    } else if (len >= 4) {
        memcpy(&first, s, 4);
        memcpy(&last, s + len - 4, 4);
        any = first | last;
    } else if (len) {
        any = (uint8_t)s[0] | (uint8_t)s[len / 2] | (uint8_t)s[len - 1];
    }
    return !(any & UINT64_C(0x8080808080808080));
}

static size_t valid(const char *s, size_t len, size_t i)
{
    for (unsigned n; i < len && (n = utf8_sequence(s + i, len - i)); i += n)
        ;
    return i;
}

void pb_string(struct buf *b, unsigned field, const char *s, size_t len)
{
    size_t at, begin;

    if (is_ascii(s, len) || valid(s, len, 0) == len) {
        pb_bytes(b, field, s, len);
        return;
    }
    begin = pb_begin(b, field);
    for (size_t from = 0; from < len; from = at + 1) {
        at = valid(s, len, from);
        buf_add(b, s + from, at - from);
        if (at < len)
            buf_str(b, "\xef\xbf\xbd");
    }
    pb_end(b, begin);
}

void pb_end_long(struct buf *b, size_t begin, size_t len)
{
    size_t more = pb_varint_len(len) - 1;

    buf_room(b, more);
    memmove(b->p + begin + more, b->p + begin, len);
    b->len += more;
    pb_put_varint(b->p + begin - 1, len);
}
