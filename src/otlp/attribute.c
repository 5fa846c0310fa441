/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/attribute.h"

#include <inttypes.h>
#include <stdio.h>

/* KeyValue */
enum { KEY = 1, VALUE = 2 };
/* AnyValue */
enum { STRING = 1, BOOL, INT, DOUBLE, ARRAY };
#define ARRAY_VALUES 1 /* ArrayValue.values */

static size_t cut(const char *s, size_t len)
{
    size_t n = OTLP_VALUE_MAX;

    if (len <= n)
        return len;
    for (unsigned back = 0; back < 3 && ((unsigned char)s[n] & 0xc0) == 0x80; back++)
        n--;
    return ((unsigned char)s[n] & 0xc0) == 0x80 ? OTLP_VALUE_MAX : n;
}

void otlp_text(struct buf *b, unsigned field, const char *s, size_t len)
{
    size_t value = pb_begin(b, field);

    pb_string(b, STRING, s, len);
    pb_end(b, value);
}

static size_t begin(struct buf *b, unsigned field, const char *key)
{
    size_t at = pb_begin(b, field);

    pb_str(b, KEY, key);
    return at;
}

/* As otlp_attr_text() does; all lengths have one byte. */
static void short_text(struct buf *b, unsigned field, const char *key, size_t key_len, const char *s, size_t len)
{
    char *begin = buf_room(b, PB_VARINT_MAX + 128), *p = begin + pb_put_varint(begin, field << 3 | PB_LEN);

    *p++ = (char)(2 + key_len + 4 + len);
    *p++ = KEY << 3 | PB_LEN;
    *p++ = (char)key_len;
    memcpy(p, key, key_len);
    p += key_len;
    *p++ = VALUE << 3 | PB_LEN;
    *p++ = (char)(2 + len);
    *p++ = STRING << 3 | PB_LEN;
    *p++ = (char)len;
    if (len)
        memcpy(p, s, len);
    b->len += (size_t)(p - begin) + len;
}

void otlp_attr_text(struct buf *b, unsigned field, const char *key, const char *s, size_t len)
{
    size_t key_len = strlen(key), at;

    if (key_len + len < 120 && pb_ascii(key, key_len) && pb_ascii(s, len)) {
        short_text(b, field, key, key_len, s, len);
        return;
    }
    at = begin(b, field, key);
    otlp_text(b, VALUE, s, cut(s, len));
    pb_end(b, at);
}

void otlp_attr_int(struct buf *b, unsigned field, const char *key, int64_t v)
{
    size_t at = begin(b, field, key), value = pb_begin(b, VALUE);

    pb_uint(b, INT, (uint64_t)v);
    pb_end(b, value);
    pb_end(b, at);
}

void otlp_attr_double(struct buf *b, unsigned field, const char *key, double v)
{
    size_t at = begin(b, field, key), value = pb_begin(b, VALUE);

    pb_double(b, DOUBLE, v);
    pb_end(b, value);
    pb_end(b, at);
}

void otlp_attr_bool(struct buf *b, unsigned field, const char *key, bool v)
{
    size_t at = begin(b, field, key), value = pb_begin(b, VALUE);

    pb_uint(b, BOOL, v);
    pb_end(b, value);
    pb_end(b, at);
}

static void list(struct buf *b, unsigned field, const char *key, const struct tm_field *f)
{
    size_t at = begin(b, field, key), value = pb_begin(b, VALUE), array = pb_begin(b, ARRAY);

    for (size_t i = 0; i < f->v.list.count; i++)
        if (f->v.list.p[i])
            otlp_text(b, ARRAY_VALUES, f->v.list.p[i], cut(f->v.list.p[i], strlen(f->v.list.p[i])));
    pb_end(b, array);
    pb_end(b, value);
    pb_end(b, at);
}

void otlp_attr_field(struct buf *b, unsigned field, const char *key, const struct tm_field *f)
{
    char digits[24];

    switch (f->type) {
    case TM_STR:
        otlp_attr_text(b, field, key, f->v.str.p, f->v.str.p ? f->v.str.len : 0);
        break;
    case TM_INT:
        otlp_attr_int(b, field, key, f->v.i);
        break;
    case TM_UINT:
        if (f->v.u <= INT64_MAX)
            otlp_attr_int(b, field, key, (int64_t)f->v.u);
        else
            otlp_attr_text(b, field, key, digits, (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, f->v.u));
        break;
    case TM_NUM:
        otlp_attr_double(b, field, key, f->v.num);
        break;
    case TM_HUNDREDTHS:
        otlp_attr_double(b, field, key, (double)f->v.i / 100);
        break;
    case TM_BOOL:
        otlp_attr_bool(b, field, key, f->v.b);
        break;
    case TM_STRLIST:
        list(b, field, key, f);
        break;
    case TM_WHO:
    case TM_OWNER:
        break;
    }
}

/* Most attributes have a name that is a constant, and a short text or a number as their value. These are written without
 * any call, where there is room for all of them. */
#define SHORT_MAX 130u /* bytes of one: all of its lengths have one byte */
#define SHORT_KEY (SHORT_MAX - 20)

/* The attribute up to its value's type; value: bytes of the AnyValue. */
static inline char *short_key(char *p, unsigned field, const struct tm_field *f, size_t value)
{
    p[0] = (char)(field << 3 | PB_LEN);
    p[1] = (char)(2 + f->name_len + 2 + value);
    p[2] = KEY << 3 | PB_LEN;
    p[3] = (char)f->name_len;
    pb_copy(p + 4, f->name, f->name_len);
    p += 4 + f->name_len;
    p[0] = VALUE << 3 | PB_LEN;
    p[1] = (char)value;
    return p + 2;
}

static inline char *short_number(char *p, unsigned field, const struct tm_field *f)
{
    size_t len = pb_varint_len(f->v.u);

    p = short_key(p, field, f, 1 + len);
    *p++ = INT << 3 | PB_VARINT;
    pb_put_varint(p, f->v.u);
    return p + len;
}

/* NULL: it isn't ASCII. */
static inline char *short_string(char *p, unsigned field, const struct tm_field *f)
{
    size_t len = f->v.str.len;

    p = short_key(p, field, f, 2 + len);
    p[0] = STRING << 3 | PB_LEN;
    p[1] = (char)len;
    return pb_copy_ascii(p + 2, f->v.str.p, len) ? p + 2 + len : NULL;
}

void otlp_attr_fields(struct buf *b, unsigned field, const struct tm_field *f, size_t count)
{
    char *p = buf_room(b, count * SHORT_MAX), *end;

    for (const struct tm_field *last = f + count; f < last; f++) {
        end = NULL;
        if (f->name_len && f->name_len < SHORT_KEY) {
            if (f->type == TM_STR && f->v.str.p && f->name_len + f->v.str.len < SHORT_KEY)
                end = short_string(p, field, f);
            else if ((f->type == TM_UINT && f->v.u <= INT64_MAX) || f->type == TM_INT)
                end = short_number(p, field, f);
        }
        if (end) {
            p = end;
            continue;
        }
        b->len = (size_t)(p - b->p);
        otlp_attr_field(b, field, f->name, f);
        p = buf_room(b, (size_t)(last - f) * SHORT_MAX);
    }
    b->len = (size_t)(p - b->p);
}
