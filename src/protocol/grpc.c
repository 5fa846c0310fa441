/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/grpc.h"

#include <string.h>
#include <strings.h>

static const struct slice *field(const struct http_field *fields, size_t count, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < count; i++) {
        if (fields[i].name.len == len && !memcmp(fields[i].name.p, name, len))
            return &fields[i].value;
    }
    return NULL;
}

/* Digits only, at most max of them (no more than 9). */
static bool number(const char *p, size_t len, size_t max, uint32_t *value)
{
    *value = 0;
    for (size_t i = 0; i < len; i++) {
        if (i == max || p[i] < '0' || p[i] > '9')
            return false;
        *value = *value * 10 + (uint32_t)(p[i] - '0');
    }
    return len;
}

bool grpc_is(const struct http_head *head)
{
    static const char type[] = "application/grpc";
    const size_t len = sizeof(type) - 1;
    const struct slice *value = field(head->fields, head->field_count, "content-type");

    return value && value->len >= len && !strncasecmp(value->p, type, len) &&
           (value->len == len || value->p[len] == '+' || value->p[len] == ';' || value->p[len] == ' ');
}

bool grpc_call(struct slice path, struct slice *service, struct slice *method)
{
    const char *slash;

    if (!path.len || path.p[0] != '/')
        return false;
    /* The last one: a service may live below a prefix. */
    slash = memrchr(path.p, '/', path.len);
    *service = (struct slice){path.p + 1, slash == path.p ? 0 : (size_t)(slash - path.p - 1)};
    *method = (struct slice){slash + 1, path.len - (size_t)(slash + 1 - path.p)};
    return service->len && method->len;
}

uint64_t grpc_timeout_ns(const struct http_field *fields, size_t count)
{
    static const char units[] = "HMSmun";
    static const uint64_t ns[] = {UINT64_C(3600000000000), UINT64_C(60000000000), 1000000000, 1000000, 1000, 1};
    const struct slice *value = field(fields, count, "grpc-timeout");
    const char *unit;
    uint64_t all;
    uint32_t n;

    if (!value || value->len < 2)
        return 0;
    unit = memchr(units, value->p[value->len - 1], sizeof(units) - 1);
    if (!unit || !number(value->p, value->len - 1, 8, &n))
        return 0;
    return __builtin_mul_overflow(n, ns[unit - units], &all) ? UINT64_MAX : all;
}

int grpc_status(const struct http_field *fields, size_t count)
{
    const struct slice *value = field(fields, count, "grpc-status");
    uint32_t n;

    return value && number(value->p, value->len, 9, &n) ? (int)n : -1;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool grpc_message(const struct http_field *fields, size_t count, struct buf *out)
{
    const struct slice *value = field(fields, count, "grpc-message");

    if (!value)
        return false;
    for (size_t i = 0; i < value->len; i++) {
        const char *p = value->p + i;

        /* What isn't an escape stays as it is, as the protocol demands. */
        if (*p == '%' && value->len - i > 2 && hex(p[1]) >= 0 && hex(p[2]) >= 0) {
            buf_char(out, (char)(hex(p[1]) << 4 | hex(p[2])));
            i += 2;
        } else {
            buf_char(out, *p);
        }
    }
    return true;
}

const char *grpc_status_text(int status)
{
    static const char *const texts[] = {
        "OK",        "CANCELLED",       "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND", "ALREADY_EXISTS",  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",   "OUT_OF_RANGE",    "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
        "DATA_LOSS", "UNAUTHENTICATED",
    };

    return status >= 0 && (size_t)status < sizeof(texts) / sizeof(*texts) ? texts[status] : NULL;
}

static void message_end(struct grpc_messages *m)
{
    m->count++;
    m->compressed += m->prefix[0];
    m->have = 0;
}

void grpc_feed(struct grpc_messages *m, const uint8_t *data, uint64_t len)
{
    uint64_t n;

    for (; len && !m->lost; len -= n, data = data ? data + n : NULL) {
        if (m->have < sizeof(m->prefix)) {
            n = 1;
            if (!data || (!m->have && *data > 1)) {
                m->lost = true;
                return;
            }
            m->prefix[m->have++] = *data;
            if (m->have < sizeof(m->prefix))
                continue;
            m->left = (uint32_t)m->prefix[1] << 24 | (uint32_t)m->prefix[2] << 16 | (uint32_t)m->prefix[3] << 8 |
                      m->prefix[4];
        } else {
            n = len < m->left ? len : m->left;
            m->left -= (uint32_t)n;
            m->bytes += n;
        }
        if (!m->left)
            message_end(m);
    }
}
