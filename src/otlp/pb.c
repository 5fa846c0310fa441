/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/pb.h"

static size_t valid(const char *s, size_t len, size_t i)
{
    for (unsigned n; i < len && (n = utf8_sequence(s + i, len - i)); i += n)
        ;
    return i;
}

void pb_string(struct buf *b, unsigned field, const char *s, size_t len)
{
    size_t at, begin;

    if (pb_ascii(s, len) || valid(s, len, 0) == len) {
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
