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

/* What begins there gets its length in front of it, for which there are `room` bytes. */
void pb_move(struct buf *b, size_t begin, size_t room)
{
    size_t len = b->len - begin, need = pb_varint_len(len);

    if (need > room)
        buf_room(b, need - room);
    memmove(b->p + begin - room + need, b->p + begin, len);
    b->len = begin - room + need + len;
    pb_put_varint(b->p + begin - room, len);
}
