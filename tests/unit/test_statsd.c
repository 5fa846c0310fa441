/* SPDX-License-Identifier: Apache-2.0 */
/* StatsD and DogStatsD: what lines tell, and what isn't StatsD. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "conversation.h"
#include "protocol/statsd.h"

struct told {
    struct buf text;
    uint64_t other, lost;
    unsigned metrics;
};

static void on_metric(void *owner, enum proto_dir dir, const struct statsd_metric *m, uint64_t time_ns)
{
    struct told *t = owner;

    t->metrics++;
    buf_printf(&t->text, "%s %u ", dir == PROTO_TX ? "tx" : "rx", (unsigned)(time_ns / MS));
    add_slice(&t->text, m->name);
    buf_printf(&t->text, " %s ", statsd_type_text(m->type));
    add_slice(&t->text, m->text);
    buf_printf(&t->text, " %.12g%s", m->value, m->relative ? " relative" : "");
    if (m->rate != 1)
        buf_printf(&t->text, " @%g", m->rate);
    for (size_t i = 0; i < m->tag_count; i++) {
        buf_char(&t->text, ' ');
        add_slice(&t->text, m->tags[i].key);
        buf_char(&t->text, '=');
        add_slice(&t->text, m->tags[i].value);
    }
    buf_str(&t->text, m->cut ? " cut\n" : "\n");
}

static void on_other(void *owner, enum proto_dir dir, uint64_t lines)
{
    ((struct told *)owner)->other += lines;
}

static void on_lost(void *owner, enum proto_dir dir, uint64_t count)
{
    ((struct told *)owner)->lost += count;
}

static const struct statsd_sink sink = {on_metric, on_other, on_lost};
static bool joined;

static void feed_stream(void *s, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    statsd_feed(s, dir, data, len, time_ns);
}

static char *finish(struct told *t)
{
    if (t->other)
        buf_printf(&t->text, "other %u\n", (unsigned)t->other);
    if (t->lost)
        buf_printf(&t->text, "lost %u\n", (unsigned)t->lost);
    return take_text(&t->text);
}

static char *run_stream(const struct passage *p, size_t n, size_t chunk, size_t cut)
{
    struct told t = {0};
    struct statsd *s = statsd_new(&sink, &t, joined);

    feed_all(p, n, chunk, cut, feed_stream, s);
    statsd_end(s, PROTO_TX, 99 * MS);
    statsd_free(s);
    return finish(&t);
}

static char *datagram(const char *p, size_t captured, size_t size)
{
    struct told t = {0};
    struct statsd *s = statsd_new(&sink, &t, false);

    statsd_datagram(s, PROTO_TX, (const uint8_t *)p, captured, size, MS);
    statsd_free(s);
    return finish(&t);
}

static void expect_datagram(const char *line, const char *want)
{
    char *got = datagram(line, strlen(line), strlen(line));

    assert_string_equal(got, want);
    free(got);
}

static void test_lines(void **state)
{
    expect_datagram("a:1|c", "tx 1 a c 1 1\n");
    expect_datagram("a:1|c\n", "tx 1 a c 1 1\n");
    expect_datagram("a:1|c\r\n", "tx 1 a c 1 1\n");
    expect_datagram("a.b-c_d e/f:12.5|ms|@0.1", "tx 1 a.b-c_d e/f ms 12.5 12.5 @0.1\n");
    expect_datagram("g:+3|g", "tx 1 g g +3 3 relative\n");
    expect_datagram("g:-3.25|g", "tx 1 g g -3.25 -3.25 relative\n");
    expect_datagram("g:3|g", "tx 1 g g 3 3\n");
    expect_datagram("c:-3|c", "tx 1 c c -3 -3\n");
    expect_datagram("u:joe@x:y|s", "tx 1 u s joe@x:y 0\n");
    expect_datagram("h:1e3|h", "tx 1 h h 1e3 1000\n");
    expect_datagram("d:.5|d|#k:v,flag,,url:http://x/", "tx 1 d d .5 0.5 k=v flag=- url=http://x/\n");
    expect_datagram("d:1|d|#k:v|@0.5", "tx 1 d d 1 1 @0.5 k=v\n");
    expect_datagram("d:1|d|@0.5|#k:v|c:abc|T1656581400|e:it", "tx 1 d d 1 1 @0.5 k=v\n");
    expect_datagram("h:1:2:3|h|#a:b", "tx 1 h h 1 1 a=b\ntx 1 h h 2 2 a=b\ntx 1 h h 3 3 a=b\n");
    expect_datagram("\xc3\xa9t\xc3\xa9:1|c", "tx 1 \xc3\xa9t\xc3\xa9 c 1 1\n");
    expect_datagram("a:1|c\nb:2|g\n\n\nc:3|ms", "tx 1 a c 1 1\ntx 1 b g 2 2\ntx 1 c ms 3 3\n");
}

static void test_no_metrics(void **state)
{
    static const char *const lines[] = {
        "a",        "a:",         "a:1",         "a:1|",       ":1|c",           "a:|c",
        "a:1|x",    "a:1|cc",     "a:x|c",       "a:1x|c",     "a:0x10|c",       "a:inf|g",
        "a:nan|g",  "a:1e|c",     "a:1e999|c",   "a: 1|c",     "a:1 |c",         "a:--1|c",
        "a:.|c",    "a:1|c|",     "a:1|c|@",     "a:1|c|@0",   "a:1|c|@2",       "a:1|c|@-1",
        "a:1|c|@x", "a|b:1|c",    "a\x01:1|c",   "a:1\x7f|c",  "a:1:|c",         "a:1:x|c",
        "a:|s",     "a:1|c\xff|", "_e{1,1}:a|b", "_sc|name|0", "GET / HTTP/1.1", "a:1|C",
    };

    for (size_t i = 0; i < COUNT(lines); i++) {
        char *got = datagram(lines[i], strlen(lines[i]), strlen(lines[i]));

        if (strcmp(got, "other 1\n") != 0)
            print_error("%s\n", lines[i]);
        assert_string_equal(got, "other 1\n");
        assert_int_equal(statsd_detect((const uint8_t *)lines[i], strlen(lines[i]), true), 0);
        free(got);
    }
    expect_datagram("x\na:1|c\ny", "tx 1 a c 1 1\nother 2\n");
    expect_datagram("a:1|c\nb:1|c\0x:1|c", "tx 1 a c 1 1\ntx 1 b c 1 1\n"); /* strlen() ends it */
}

static void test_datagram_cut(void **state)
{
    char *got = datagram("a:1|c\nb:2|", 10, 100);

    assert_string_equal(got, "tx 1 a c 1 1\nlost 94\n");
    free(got);
    got = datagram("a:1|c\nb:2\0|c", 12, 12);
    assert_string_equal(got, "tx 1 a c 1 1\nother 1\n");
    free(got);
    got = datagram(NULL, 0, 7);
    assert_string_equal(got, "lost 7\n");
    free(got);
}

static void test_stream(void **state)
{
    const struct passage p[] = {TX("a:1|c\nb:2|g|#x:y\r\n"), TX("c:"), RX("d:4|c\n"), TX("3|ms\nnothing\nlast:9|c"),
                                RX("e")};

    joined = false;
    expect_told(run_stream, p, COUNT(p),
                "tx 1 a c 1 1\ntx 1 b g 2 2 x=y\nrx 3 d c 4 4\ntx 4 c ms 3 3\ntx 99 last c 9 9\nother 1\nlost 1\n");
}

static void test_stream_joined(void **state)
{
    const struct passage p[] = {TX("1|c\nb:2|g\n")};

    joined = true;
    expect_told(run_stream, p, COUNT(p), "tx 1 b g 2 2\nlost 4\n");
    joined = false;
}

static void test_stream_gaps(void **state)
{
    const struct passage inside[] = {TX("a:1|c\nb:"), {PROTO_TX, NULL, 5}, TX("2|c\nc:1|c\n")};
    const struct passage between[] = {TX("a:1|c\n"), {PROTO_TX, NULL, 50}, TX("zz\nc:1|c\n")};

    expect_told(run_stream, inside, COUNT(inside), "tx 1 a c 1 1\ntx 3 c c 1 1\nlost 11\n");
    expect_told(run_stream, between, COUNT(between), "tx 1 a c 1 1\ntx 3 c c 1 1\nlost 53\n");
}

static void test_long_lines(void **state)
{
    static char line[3 * STATSD_LINE_MAX];
    struct passage p[] = {{PROTO_TX, line, 0}, TX("a:1|c\n")};
    size_t sizes[] = {STATSD_LINE_MAX, STATSD_LINE_MAX + 1, STATSD_LINE_MAX + 2, 2 * STATSD_LINE_MAX};

    for (size_t i = 0; i < COUNT(sizes); i++) {
        char want[64], *got;

        memset(line, 'n', sizes[i]);
        memcpy(line + sizes[i] - 4, ":1|c\n", 5);
        p[0].len = sizes[i] + 1;
        got = run_divided(run_stream, p, 2);
        if (i == 0) {
            assert_non_null(strstr(got, "tx 1 nnnn"));
            assert_non_null(strstr(got, "tx 2 a c 1 1\n"));
            assert_null(strstr(got, "other"));
        } else {
            (void)snprintf(want, sizeof(want), "tx 2 a c 1 1\nother 1\n");
            assert_string_equal(got, want);
        }
        free(got);
        assert_int_equal(statsd_detect((uint8_t *)line, p[0].len, false), i == 0);
    }
}

static void test_many(void **state)
{
    static char line[65507];
    struct told t = {0};
    struct statsd *s = statsd_new(&sink, &t, false);
    size_t len = 0;

    /* Values, and tags, without end. */
    len += (size_t)sprintf(line, "a:1");
    while (len < 8000)
        len += (size_t)sprintf(line + len, ":1");
    len += (size_t)sprintf(line + len, "|h");
    statsd_datagram(s, PROTO_TX, (uint8_t *)line, len, len, MS);
    assert_int_equal(t.metrics, (len - 3) / 2);
    buf_reset(&t.text);
    len = (size_t)sprintf(line, "a:1|c|#");
    while (len < 8000)
        len += (size_t)sprintf(line + len, "k:v,");
    statsd_datagram(s, PROTO_TX, (uint8_t *)line, len, len, MS);
    buf_cstr(&t.text);
    assert_non_null(strstr(t.text.p, " cut\n"));
    buf_free(&t.text);
    statsd_free(s);
}

static int detect(const char *text, bool whole)
{
    return statsd_detect((const uint8_t *)text, strlen(text), whole);
}

static void test_detect(void **state)
{
    assert_int_equal(detect("a:1|c\nnothing", false), 1);
    assert_int_equal(detect("a:1|c", false), -1);
    assert_int_equal(detect("a:1|c", true), 1);
    assert_int_equal(detect("a:1|c\r", false), -1);
    assert_int_equal(detect("", false), -1);
    assert_int_equal(detect("", true), 0);
    assert_int_equal(detect("\n", false), 0);
    assert_int_equal(detect("a\x02", false), 0);
    assert_int_equal(detect("HELO x\r\n", false), 0);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(statsd_detect((const uint8_t *)"a:1|c\n", i, false), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),      cmocka_unit_test(test_no_metrics),    cmocka_unit_test(test_datagram_cut),
        cmocka_unit_test(test_stream),     cmocka_unit_test(test_stream_joined), cmocka_unit_test(test_stream_gaps),
        cmocka_unit_test(test_long_lines), cmocka_unit_test(test_many),          cmocka_unit_test(test_detect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
