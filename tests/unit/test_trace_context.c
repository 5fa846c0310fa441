/* SPDX-License-Identifier: Apache-2.0 */
/* What header fields say of a span, and what of a URL nobody gets to see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "protocol/trace_context.h"
#include "protocol/url.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN  "b7ad6b7169203331"

static struct slice slice(const char *s)
{
    return (struct slice){s, strlen(s)};
}

static struct http_field field(const char *name, const char *value)
{
    return (struct http_field){slice(name), slice(value)};
}

static const uint8_t trace_bytes[16] = {0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd,
                                        0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c},
                     span_bytes[8] = {0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31};

/* The header of one request: name, value, ..., NULL. */
static bool parse(const char *const *texts, struct trace_parent *ret)
{
    struct http_field f[8];
    size_t n = 0;

    for (; texts[2 * n]; n++)
        f[n] = field(texts[2 * n], texts[2 * n + 1]);
    return trace_parent(f, n, ret);
}
#define PARSE(ret, ...) parse((const char *const[]){__VA_ARGS__, NULL}, ret)

static void is_ours(const struct trace_parent *p, int flags)
{
    assert_memory_equal(p->trace_id, trace_bytes, 16);
    assert_memory_equal(p->span_id, span_bytes, 8);
    assert_int_equal(p->decided, flags >= 0);
    if (flags >= 0)
        assert_int_equal(p->flags, flags);
}

static void test_w3c(void **state)
{
    static const char *const bad[] = {
        "",
        "00-" TRACE "-" SPAN,
        "00-" TRACE "-" SPAN "-0",
        "00-" TRACE "-" SPAN "-01-",
        "00-" TRACE "-" SPAN "-01 ",
        "ff-" TRACE "-" SPAN "-01",
        "0g-" TRACE "-" SPAN "-01",
        "01-" TRACE "-" SPAN "-01x",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033311-01",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "_" SPAN "-01",
        "00-" TRACE "-" SPAN "_01",
        "00-" TRACE "-" SPAN "-0x",
        "00-+af7651916cd43dd8448eb211c80319c-" SPAN "-01",
    };
    struct trace_parent p;

    (void)state;
    assert_true(PARSE(&p, "Host", "h", "traceparent", "00-" TRACE "-" SPAN "-01"));
    is_ours(&p, 1);
    assert_true(p.w3c);
    assert_true(PARSE(&p, "TraceParent", "00-" TRACE "-" SPAN "-00"));
    is_ours(&p, 0);
    assert_true(PARSE(&p, "traceparent", "cc-" TRACE "-" SPAN "-03-what the future brings"));
    is_ours(&p, 3);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (PARSE(&p, "traceparent", bad[i]))
            fail_msg("taken: %s", bad[i]);
    /* two are one too many, even if they are the same */
    assert_false(PARSE(&p, "traceparent", "00-" TRACE "-" SPAN "-01", "Traceparent", "00-" TRACE "-" SPAN "-01"));
    assert_false(PARSE(&p, "Host", "h"));
}

static void test_b3(void **state)
{
    static const char *const bad[] = {
        "", "0", "1", "d", TRACE, TRACE "-", TRACE "-" SPAN "x", "x" TRACE "-" SPAN, TRACE "-b7ad6b716920333",
        "0000000000000000-" SPAN, TRACE "-0000000000000000-1", "0af7651916cd43dd8448eb211c80319-" SPAN,
    };
    struct trace_parent p;

    (void)state;
    assert_true(PARSE(&p, "b3", TRACE "-" SPAN "-1"));
    is_ours(&p, 1);
    assert_false(p.w3c);
    assert_true(PARSE(&p, "B3", TRACE "-" SPAN "-0-05e3ac9a4f6e3b90"));
    is_ours(&p, 0);
    assert_true(PARSE(&p, "b3", TRACE "-" SPAN "-d"));
    is_ours(&p, 1);
    assert_true(PARSE(&p, "b3", TRACE "-" SPAN));
    is_ours(&p, -1);
    assert_true(PARSE(&p, "b3", TRACE "-" SPAN "-"));
    is_ours(&p, -1);
    assert_true(PARSE(&p, "b3", "8448EB211C80319C-" SPAN "-1"));
    assert_memory_equal(p.trace_id, "\0\0\0\0\0\0\0\0", 8);
    assert_memory_equal(p.trace_id + 8, trace_bytes + 8, 8);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (PARSE(&p, "b3", bad[i]))
            fail_msg("taken: %s", bad[i]);

    assert_true(PARSE(&p, "X-B3-TraceId", TRACE, "X-B3-SpanId", SPAN, "x-b3-sampled", "1"));
    is_ours(&p, 1);
    assert_true(PARSE(&p, "x-b3-spanid", SPAN, "x-b3-traceid", TRACE, "X-B3-Sampled", "false"));
    is_ours(&p, 0);
    assert_true(PARSE(&p, "x-b3-spanid", SPAN, "x-b3-traceid", TRACE));
    is_ours(&p, -1);
    assert_true(PARSE(&p, "x-b3-spanid", SPAN, "x-b3-traceid", TRACE, "X-B3-Flags", "1"));
    is_ours(&p, 1);
    assert_false(PARSE(&p, "x-b3-traceid", TRACE, "X-B3-Sampled", "1"));
    assert_false(PARSE(&p, "x-b3-traceid", TRACE, "x-b3-spanid", "0000000000000000"));
    assert_false(PARSE(&p, "x-b3-traceid", TRACE, "x-b3-spanid", SPAN SPAN));
    /* the W3C's comes first, and B3 where that makes no sense; of B3 the single field */
    assert_true(PARSE(&p, "b3", "1111111111111111-2222222222222222-0", "traceparent", "00-" TRACE "-" SPAN "-01"));
    is_ours(&p, 1);
    assert_true(PARSE(&p, "b3", TRACE "-" SPAN "-0", "traceparent", "nonsense", "x-b3-traceid",
                      "1111111111111111", "x-b3-spanid", "2222222222222222"));
    is_ours(&p, 0);
}

static void test_state(void **state)
{
    static char big[10240], text[TRACE_STATE_MAX + 200];
    char to[TRACE_STATE_MAX];
    struct http_field f[4] = {field("tracestate", "a=1, b=2 ,,"), field("Host", "h"), field("TraceState", "c=3")};
    size_t len;

    (void)state;
    len = trace_state(f, 3, to);
    assert_int_equal(len, 11);
    assert_memory_equal(to, "a=1,b=2,c=3", 11);
    assert_int_equal(trace_state(f + 1, 1, to), 0);
    memset(big, 'x', sizeof(big) - 1);
    f[1] = field("tracestate", big); /* one member of 10 kB: it, and what is behind it, is left out */
    len = trace_state(f, 3, to);
    assert_int_equal(len, 7);
    assert_memory_equal(to, "a=1,b=2", 7);
    /* whole members only */
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        text[i] = i % 10 == 9 ? ',' : 'm';
    f[0] = field("tracestate", text);
    len = trace_state(f, 1, to);
    assert_int_equal(len, 509); /* 51 members of 9 bytes, and 50 commas */
    f[0].value.len = 512;
    text[9] = text[19] = 'm';
    len = trace_state(f, 1, to);
    assert_true(len <= TRACE_STATE_MAX);
}

static void is_struck(const char *query, const char *want)
{
    struct buf b = BUF_INIT;
    struct slice s = url_strike(slice(query), &b);

    assert_int_equal(s.len, strlen(want));
    assert_memory_equal(s.p, want, s.len);
    buf_free(&b);
}

static void test_strike(void **state)
{
    (void)state;
    is_struck("", "");
    is_struck("a=1&b", "a=1&b");
    is_struck("sig=abc", "sig=REDACTED");
    is_struck("a=1&sig=abc&b=2", "a=1&sig=REDACTED&b=2");
    is_struck("AWSAccessKeyId=1&Signature=2&X-Goog-Signature=3", "AWSAccessKeyId=REDACTED&Signature=REDACTED&X-Goog-Signature=REDACTED");
    is_struck("ACCESS_TOKEN=a=b=c;password=;token=x", "ACCESS_TOKEN=REDACTED;password=;token=REDACTED");
    is_struck("p%61ssword=1&tok%65n=2&%", "p%61ssword=REDACTED&tok%65n=REDACTED&%");
    is_struck("tokens=1&signature", "tokens=1&signature");
    is_struck("&&=x&;key=k", "&&=x&;key=REDACTED");
}

static void is_target(const char *target, bool connect, const char *want)
{
    struct url_target t;
    char text[200];

    url_target(slice(target), connect, &t);
    snprintf(text, sizeof(text), "%.*s|%.*s|%.*s|%.*s", (int)t.scheme.len, t.scheme.p ? t.scheme.p : "", (int)t.authority.len,
             t.authority.p ? t.authority.p : "", (int)t.path.len, t.path.p ? t.path.p : "", (int)t.query.len,
             t.query.p ? t.query.p : "");
    assert_string_equal(text, want);
}

static void is_authority(const char *text, const char *host, unsigned port)
{
    struct slice h;
    unsigned n;

    url_authority(slice(text), &h, &n);
    assert_int_equal(h.len, strlen(host));
    assert_memory_equal(h.p, host, h.len);
    assert_int_equal(n, port);
}

static void test_url(void **state)
{
    (void)state;
    is_target("/a/b?c=d?e", false, "||/a/b|c=d?e");
    is_target("*", false, "||*|");
    is_target("http://u:p@h:8080/x?y", false, "http|u:p@h:8080|/x|y");
    is_target("https://h", false, "https|h|/|");
    is_target("https://h?q", false, "https|h|/|q");
    is_target("h:443", true, "|h:443||");
    is_target("?x", false, "|||x");
    is_target("a:b", false, "||a:b|");
    is_authority("h", "h", 0);
    is_authority("h:80", "h", 80);
    is_authority("u:p@h:80", "h", 80);
    is_authority("[::1]:8080", "::1", 8080);
    is_authority("[::1]", "::1", 0);
    is_authority("[::1", "::1", 0);
    is_authority("h:99999999999", "h", 0);
    is_authority("h:8x", "h", 0);
    is_authority("", "", 0);
    is_authority("[", "", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_w3c), cmocka_unit_test(test_b3), cmocka_unit_test(test_state), cmocka_unit_test(test_strike),
        cmocka_unit_test(test_url),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
