/* SPDX-License-Identifier: Apache-2.0 */
#include "output/otlp_answer.h"

#include <errno.h>
#include <string.h>

#define RETRY_MAX_S 86400u

/* --- the little of protobuf that it takes (protobuf.dev/programming-guides/encoding) --- */

struct message {
    const uint8_t *p, *end;
    bool bad;
};

struct field {
    uint64_t number;
    unsigned type;         /* 0: varint, 2: bytes */
    uint64_t value;
    const uint8_t *bytes;
    size_t len;
};

static struct message message_of(const void *bytes, size_t n)
{
    return (struct message){.p = bytes, .end = (const uint8_t *)bytes + n};
}

static uint64_t varint(struct message *m)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 70 && m->p < m->end; shift += 7) {
        uint8_t b = *m->p++;

        v |= shift < 64 ? (uint64_t)(b & 0x7f) << shift : 0;
        if (!(b & 0x80))
            return v;
    }
    m->bad = true;
    return 0;
}

/* The next field; false at the end, or when nothing can be read any more (bad). */
static bool next_field(struct message *m, struct field *f)
{
    uint64_t key, len = 0;

    if (m->p == m->end)
        return false;
    key = varint(m);
    *f = (struct field){.number = key >> 3, .type = key & 7};
    switch (f->type) {
    case 0:
        f->value = varint(m);
        break;
    case 1:
        len = 8;
        break;
    case 2:
        len = varint(m);
        break;
    case 5:
        len = 4;
        break;
    default: /* groups are of the past */
        m->bad = true;
    }
    if (!f->number || len > (size_t)(m->end - m->p))
        m->bad = true;
    if (m->bad)
        return false;
    f->bytes = m->p;
    f->len = (size_t)len;
    m->p += len;
    return true;
}

bool otlp_read_response(const char *bytes, size_t n, struct otlp_partial *ret)
{
    struct message m = message_of(bytes, n);
    struct field f;

    memset(ret, 0, sizeof(*ret));
    while (next_field(&m, &f)) {
        struct message partial;

        if (f.number != 1 || f.type != 2)
            continue;
        partial = message_of(f.bytes, f.len);
        while (next_field(&partial, &f)) {
            if (f.number == 1 && f.type == 0) {
                ret->rejected = f.value > INT64_MAX ? 0 : f.value;
            } else if (f.number == 2 && f.type == 2) {
                ret->message = f.len ? (const char *)f.bytes : NULL;
                ret->message_len = f.len;
            }
        }
        m.bad = m.bad || partial.bad;
    }
    return !m.bad;
}

static bool ends_with(const uint8_t *bytes, size_t n, const char *text)
{
    size_t len = strlen(text);

    return n >= len && memcmp(bytes + n - len, text, len) == 0;
}

/* google.protobuf.Any around a RetryInfo { Duration retry_delay = 1 { int64 seconds = 1; int32 nanos = 2 } } */
static void read_detail(struct message any, struct otlp_status *ret)
{
    bool retry_info = false;
    struct message info = {0}, delay;
    struct field f;
    uint64_t ms = 0;

    while (next_field(&any, &f)) {
        if (f.type == 2 && f.number == 1)
            retry_info = ends_with(f.bytes, f.len, "/google.rpc.RetryInfo");
        else if (f.type == 2 && f.number == 2)
            info = message_of(f.bytes, f.len);
    }
    if (!retry_info)
        return;
    while (next_field(&info, &f)) {
        if (f.number != 1 || f.type != 2)
            continue;
        delay = message_of(f.bytes, f.len);
        while (next_field(&delay, &f)) {
            if (f.type == 0 && f.number == 1) /* negative ones are huge here: none */
                ms += f.value > INT64_MAX ? 0 : (f.value < RETRY_MAX_S ? f.value : RETRY_MAX_S) * 1000;
            else if (f.type == 0 && f.number == 2)
                ms += f.value < 1000000000 ? (f.value + 999999) / 1000000 : 0;
        }
    }
    ret->retry = true;
    ret->retry_ms = ms < (uint64_t)RETRY_MAX_S * 1000 ? ms : (uint64_t)RETRY_MAX_S * 1000;
}

bool otlp_read_status(const char *bytes, size_t n, struct otlp_status *ret)
{
    struct message m = message_of(bytes, n);
    struct field f;

    memset(ret, 0, sizeof(*ret));
    while (next_field(&m, &f)) {
        if (f.number == 2 && f.type == 2) {
            ret->message = f.len ? (const char *)f.bytes : NULL;
            ret->message_len = f.len;
        } else if (f.number == 3 && f.type == 2) {
            read_detail(message_of(f.bytes, f.len), ret);
        }
    }
    return !m.bad;
}

/* --- texts of trailers --- */

static int sextet(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+' || c == '-' ? 62
           : c == '/' || c == '_' ? 63
                                  : -1;
}

long otlp_base64(char *text, size_t n)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t out = 0;

    while (n && text[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++) {
        int v = sextet(text[i]);

        if (v < 0)
            return -EINVAL;
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            text[out++] = (char)(bits >> have);
        }
    }
    return (long)out;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

size_t otlp_percent(char *text, size_t n)
{
    size_t out = 0;

    for (size_t i = 0; i < n; i++) {
        if (text[i] == '%' && i + 2 < n && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
            text[out++] = (char)(hex(text[i + 1]) << 4 | hex(text[i + 2]));
            i += 2;
        } else {
            text[out++] = text[i];
        }
    }
    return out;
}
