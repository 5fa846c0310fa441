/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/trace_context.h"

#include "protocol/http_name.h"

static int digit(char c, bool any_case)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (any_case)
        c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 2 * n digits. False: they aren't all. */
static bool hex(const char *p, uint8_t *to, size_t n, bool any_case)
{
    for (size_t i = 0; i < n; i++) {
        int high = digit(p[2 * i], any_case), low = digit(p[2 * i + 1], any_case);

        if (high < 0 || low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool any(const uint8_t *p, size_t n)
{
    uint8_t all = 0;

    for (size_t i = 0; i < n; i++)
        all |= p[i];
    return all;
}

/* An id: all zeros are none. */
static bool id(const char *p, uint8_t *to, size_t n, bool any_case)
{
    return hex(p, to, n, any_case) && any(to, n);
}

/* VERSION-TRACE-PARENT-FLAGS (section 3.2.2): later versions may go on behind a further '-'. */
bool trace_parse_w3c(struct slice v, struct trace_parent *ret)
{
    uint8_t version;

    if (v.len < 55 || !hex(v.p, &version, 1, false) || version == 0xff || (v.len > 55 && (!version || v.p[55] != '-')) ||
        v.p[2] != '-' || v.p[35] != '-' || v.p[52] != '-')
        return false;
    *ret = (struct trace_parent){.decided = true, .w3c = true};
    return id(v.p + 3, ret->trace_id, 16, false) && id(v.p + 36, ret->span_id, 8, false) &&
           hex(v.p + 53, &ret->flags, 1, false);
}

/* 32 digits, or 16. */
static bool b3_trace(struct slice v, struct trace_parent *ret)
{
    if (v.len == 32)
        return id(v.p, ret->trace_id, 16, true);
    return v.len == 16 && id(v.p, ret->trace_id + 8, 8, true);
}

/* "d" is debug, which is sampled. */
static void b3_sampled(struct slice v, struct trace_parent *ret)
{
    bool yes = (v.len == 1 && (v.p[0] == '1' || v.p[0] == 'd')) || http_name_is(v, "true");

    if (!yes && !(v.len == 1 && v.p[0] == '0') && !http_name_is(v, "false"))
        return;
    ret->decided = true;
    ret->flags = yes;
}

/* TRACE-SPAN, TRACE-SPAN-SAMPLED or TRACE-SPAN-SAMPLED-PARENT; what is only a decision names no span. */
bool trace_parse_b3(struct slice v, struct trace_parent *ret)
{
    const char *dash = memchr(v.p, '-', v.len < 33 ? v.len : 33);
    size_t trace = dash ? (size_t)(dash - v.p) : 0, rest = v.len - trace;

    *ret = (struct trace_parent){0};
    if (!dash || rest < 17 || !b3_trace((struct slice){v.p, trace}, ret) || !id(dash + 1, ret->span_id, 8, true) ||
        (rest > 17 && dash[17] != '-'))
        return false;
    if (rest > 18)
        b3_sampled((struct slice){dash + 18, rest > 19 && dash[19] != '-' ? rest - 18 : 1}, ret);
    return true;
}

bool trace_parent(const struct http_field *fields, size_t count, struct trace_parent *ret)
{
    const struct slice *w3c = NULL, *b3 = NULL, *trace = NULL, *span = NULL, *sampled = NULL, *debug = NULL;
    bool twice = false;

    for (size_t i = 0; i < count; i++) {
        const struct http_field *f = &fields[i];

        switch (f->name.len) {
        case 2:
            if (http_name_is(f->name, "b3"))
                b3 = &f->value;
            break;
        case 10:
            if (http_name_is(f->name, "x-b3-flags"))
                debug = &f->value;
            break;
        case 11:
            if (http_name_is(f->name, "traceparent")) {
                twice |= w3c != NULL;
                w3c = &f->value;
            } else if (http_name_is(f->name, "x-b3-spanid")) {
                span = &f->value;
            }
            break;
        case 12:
            if (http_name_is(f->name, "x-b3-traceid"))
                trace = &f->value;
            else if (http_name_is(f->name, "x-b3-sampled"))
                sampled = &f->value;
            break;
        default:
            break;
        }
    }
    if (w3c && !twice && trace_parse_w3c(*w3c, ret))
        return true;
    if (b3 && trace_parse_b3(*b3, ret))
        return true;
    if (!trace || !span)
        return false;
    *ret = (struct trace_parent){0};
    if (!b3_trace(*trace, ret) || span->len != 16 || !id(span->p, ret->span_id, 8, true))
        return false;
    if (sampled)
        b3_sampled(*sampled, ret);
    if (debug && debug->len == 1 && debug->p[0] == '1') {
        ret->decided = true;
        ret->flags = 1;
    }
    return true;
}

/* Adds its members as long as they fit. False: one doesn't. */
static bool add_members(char to[TRACE_STATE_MAX], size_t *len, struct slice v)
{
    while (v.len) {
        const char *comma = memchr(v.p, ',', v.len);
        size_t n = comma ? (size_t)(comma - v.p) : v.len, all = comma ? n + 1 : n, from = 0;

        while (n > from && (v.p[n - 1] == ' ' || v.p[n - 1] == '\t'))
            n--;
        while (from < n && (v.p[from] == ' ' || v.p[from] == '\t'))
            from++;
        n -= from;
        if (n && *len + n + (*len > 0) > TRACE_STATE_MAX)
            return false;
        if (n && *len)
            to[(*len)++] = ',';
        memcpy(to + *len, v.p + from, n);
        *len += n;
        v.p += all;
        v.len -= all;
    }
    return true;
}

size_t trace_state(const struct http_field *fields, size_t count, char to[TRACE_STATE_MAX])
{
    size_t len = 0;

    for (size_t i = 0; i < count; i++)
        if (http_name_is(fields[i].name, "tracestate") && !add_members(to, &len, fields[i].value))
            break;
    return len;
}
