/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/pb.h"

/* So many of the first bytes are ASCII, or a few more. */
static size_t ascii(const char *s, size_t len)
{
    uint64_t x;
    size_t i = 0;

    for (; len - i >= sizeof(x); i += sizeof(x)) {
        memcpy(&x, s + i, sizeof(x));
        if (x & UINT64_C(0x8080808080808080))
            return i;
    }
    while (i < len && !(s[i] & 0x80))
        i++;
    return i;
}

static size_t valid(const char *s, size_t len, size_t i)
{
    for (unsigned n; i < len && (n = utf8_sequence(s + i, len - i)); i += n)
        ;
    return i;
}

void pb_string(struct buf *b, unsigned field, const char *s, size_t len)
{
    size_t at = ascii(s, len), begin;

    if (at < len)
        at = valid(s, len, at);
    if (at == len) {
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
