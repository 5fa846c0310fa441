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

/* Names of our own: most have 8 to 32 bytes. */
static inline void copy_name(char *to, const char *name, size_t len)
{
    if (len - 16 <= 16) {
        memcpy(to, name, 16);
        memcpy(to + len - 16, name + len - 16, 16);
    } else if (len - 8 <= 8) {
        memcpy(to, name, 8);
        memcpy(to + len - 8, name + len - 8, 8);
    } else {
        memcpy(to, name, len);
    }
}

/* An attribute up to its value, which has so many bytes. */
static inline void put_key(char *p, unsigned field, const char *name, size_t len, size_t value)
{
    p[0] = (char)(field << 3 | PB_LEN);
    p[1] = (char)(2 + len + 2 + value);
    p[2] = KEY << 3 | PB_LEN;
    p[3] = (char)len;
    copy_name(p + 4, name, len);
    p[4 + len] = VALUE << 3 | PB_LEN;
    p[5 + len] = (char)value;
}

/* Writes one at p; returns its end, NULL: it isn't one of these. */
static inline char *put_short(char *p, unsigned field, const struct tm_field *f)
{
    size_t key_len = f->name_len, len;
    char *value = p + 4 + key_len + 2;

    if (!key_len || key_len >= SHORT_KEY)
        return NULL;
    if (f->type == TM_STR) {
        len = f->v.str.len;
        if (!f->v.str.p || key_len + len >= SHORT_KEY || !pb_copy_ascii(value + 2, f->v.str.p, len))
            return NULL;
        value[0] = STRING << 3 | PB_LEN;
        value[1] = (char)len;
        len += 2;
    } else if ((f->type == TM_UINT && f->v.u <= INT64_MAX) || f->type == TM_INT) {
        value[0] = INT << 3 | PB_VARINT;
        len = 1 + pb_put_varint(value + 1, f->v.u);
    } else {
        return NULL;
    }
    put_key(p, field, f->name, key_len, len);
    return value + len;
}

void otlp_attr_fields(struct buf *b, unsigned field, const struct tm_field *f, size_t count)
{
    char *p = buf_room(b, count * SHORT_MAX), *end;

    for (const struct tm_field *last = f + count; f < last; f++) {
        end = put_short(p, field, f);
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
