/* SPDX-License-Identifier: Apache-2.0 */
/* Formats: what is written for a record, byte for byte. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "sink/ndjson.h"

#define STR(field, text)      {.name = field, .type = TM_STR, .v.str = {text, sizeof(text) - 1}}
#define UINT(field, n)        {.name = field, .type = TM_UINT, .v.u = n}
#define COUNT(array)          (sizeof(array) / sizeof(*(array)))
#define T0                    UINT64_C(1700000000000000000)

static const struct tm_process prog = {.pid = 42, .uid = 1000, .gid = 100, .host = "h1", .proc = "prog", .cmd = "prog -x",
                                       .cgroup = "0::/u", .id = "h1-prog-prog -x"};
static const struct ev_tag team[] = {{"team", "blue \"1\""}, {"env", "prod"}};

#define ENVELOPE(type, time, source, channel)                                                                          \
    "{\"type\":\"evt\",\"id\":\"h1-prog-prog -x\",\"_channel\":\"" channel "\",\"body\":{\"sourcetype\":\"" type      \
    "\",\"_time\":" time ",\"source\":\"" source "\",\"host\":\"h1\",\"proc\":\"prog\",\"cmd\":\"prog -x\",\"pid\":42"
#define WHO   "\"proc\":\"prog\",\"pid\":42,\"host\":\"h1\""
#define OWNER "\"proc_uid\":1000,\"proc_gid\":100,\"proc_cgroup\":\"0::/u\""

static void expect_line(struct ndjson *n, const struct ev_record *r, const char *expected)
{
    struct buf b = BUF_INIT;

    ndjson_record(n, &b, r);
    assert_string_equal(buf_cstr(&b), expected);
    buf_free(&b);
}

static void event_line_has_each_type_of_field(void **state)
{
    static const char *const addrs[] = {"10.0.0.1", "::1"};
    static const struct tm_field f[] = {
        {.name = NULL, .type = TM_WHO},
        STR("file", "/etc/hosts"),
        UINT("big", UINT64_MAX),
        {.name = "small", .type = TM_INT, .v.i = INT64_MIN},
        {.name = "third", .type = TM_NUM, .v.num = 1.0 / 3},
        {.name = "none", .type = TM_NUM, .v.num = NAN},
        {.name = "yes", .type = TM_BOOL, .v.b = true},
        {.name = "addrs", .name_len = 5, .type = TM_STRLIST, .v.list = {addrs, 2}},
        {.name = "null", .type = TM_STR},
        {.name = "cents", .type = TM_HUNDREDTHS, .v.i = -105},
        {.name = NULL, .type = TM_OWNER},
    };
    struct ndjson *n = ndjson_new();

    expect_line(n,
                &(struct ev_record){.kind = EV_EVENT, .who = &prog, .time_ns = T0 + 123456789, .sourcetype = "fs",
                                    .source = "fs.open", .channel = UINT64_MAX, .fields = f, .field_count = COUNT(f)},
                ENVELOPE("fs", "1700000000.123456", "fs.open", "18446744073709551615")
                ",\"data\":{" WHO ",\"file\":\"/etc/hosts\",\"big\":18446744073709551615,\"small\":-9223372036854775808,"
                "\"third\":0.33333333333333331,\"none\":null,\"yes\":true,\"addrs\":[\"10.0.0.1\",\"::1\"],\"null\":\"\","
                "\"cents\":-1.05," OWNER "}}}\n");
    expect_line(n,
                &(struct ev_record){.kind = EV_EVENT, .who = &prog, .time_ns = T0, .sourcetype = "net",
                                    .source = "net.close", .tags = team, .tag_count = COUNT(team)},
                ENVELOPE("net", "1700000000.000000", "net.close", "none")
                ",\"team\":\"blue \\\"1\\\"\",\"env\":\"prod\",\"data\":{}}}\n");
    ndjson_free(n);
}

static void notice_line_has_a_text(void **state)
{
    struct ndjson *n = ndjson_new();

    expect_line(n,
                &(struct ev_record){.kind = EV_NOTICE, .who = &prog, .time_ns = T0, .sourcetype = "metric",
                                    .source = "notice", .text = "a \"b\"", .text_len = 5},
                ENVELOPE("metric", "1700000000.000000", "notice", "none") ",\"data\":\"a \\\"b\\\"\"}}\n");
    ndjson_free(n);
}

static void metric_line(void **state)
{
    static const struct tm_field f[] = {STR("proc", "prog"), UINT("pid", 42), STR("odd \"name\"", "x"), STR("unit", "byte")};
    struct ev_record r = {.kind = EV_METRIC, .who = &prog, .time_ns = T0 + 5000, .name = "fs.read", .type = "counter",
                          .value = {.type = TM_INT, .v.i = -7}, .fields = f, .field_count = COUNT(f), .tags = team,
                          .tag_count = 1};
    struct ndjson *n = ndjson_new();

    expect_line(n, &r,
                "{\"type\":\"metric\",\"body\":{\"_metric\":\"fs.read\",\"_metric_type\":\"counter\",\"_value\":-7,"
                "\"team\":\"blue \\\"1\\\"\",\"proc\":\"prog\",\"pid\":42,\"odd \\\"name\\\"\":\"x\",\"unit\":\"byte\","
                "\"_time\":1700000000.000005}}\n");
    r.field_count = r.tag_count = 0;
    r.value = (struct tm_field){.type = TM_HUNDREDTHS, .v.i = 1250};
    expect_line(n, &r, "{\"type\":\"metric\",\"body\":{\"_metric\":\"fs.read\",\"_metric_type\":\"counter\",\"_value\":12.50,"
                "\"_time\":1700000000.000005}}\n");
    r.value = (struct tm_field){.type = TM_STR, .v.str = {"a\n", 2}};
    expect_line(n, &r, "{\"type\":\"metric\",\"body\":{\"_metric\":\"fs.read\",\"_metric_type\":\"counter\",\"_value\":\"a\\n\","
                "\"_time\":1700000000.000005}}\n");
    ndjson_free(n);
}

static void strings_may_hold_anything(void **state)
{
    struct tm_process odd = prog;
    struct tm_field f = STR("n\"\x01", "a\xff");
    struct ndjson *n = ndjson_new();

    odd.cmd = "p\xf0\x9f\x98\x80\xed";
    odd.host_pid = 7;
    expect_line(n,
                &(struct ev_record){.kind = EV_EVENT, .who = &odd, .sourcetype = "s\"", .source = "\n", .fields = &f,
                                    .field_count = 1},
                "{\"type\":\"evt\",\"id\":\"h1-prog-prog -x\",\"_channel\":\"none\",\"body\":{\"sourcetype\":\"s\\\"\","
                "\"_time\":0.000000,\"source\":\"\\n\",\"host\":\"h1\",\"proc\":\"prog\",\"cmd\":\"p\xf0\x9f\x98\x80\xef\xbf\xbd\","
                "\"pid\":42,\"hostPid\":7,\"data\":{\"n\\\"\\u0001\":\"a\xef\xbf\xbd\"}}}\n");
    ndjson_free(n);
}

/* More than are remembered, in turns; one becomes another program. */
static void processes_do_not_mix(void **state)
{
    enum { MANY = 3000 };
    static struct tm_process who[MANY];
    struct tm_field f = {.type = TM_WHO};
    struct ndjson *n = ndjson_new();
    struct buf b = BUF_INIT;
    char part[80];

    for (uint32_t i = 0; i < MANY; i++)
        who[i] = (struct tm_process){.pid = i + 1, .host = "h", .proc = "p", .cmd = "c", .id = "i"};
    for (uint32_t i = 0; i < 4 * MANY; i++) {
        struct tm_process *p = &who[i * 7919 % MANY];

        if (i == 2 * MANY) {
            ndjson_forget(n, p);
            ndjson_forget(n, p); /* not known any more */
            p->pid = 77777;
        }
        buf_reset(&b);
        ndjson_record(n, &b, &(struct ev_record){.kind = EV_EVENT, .who = p, .sourcetype = "s", .source = "x", .fields = &f,
                                                 .field_count = 1});
        snprintf(part, sizeof(part), "\"pid\":%u,\"data\":{\"proc\":\"p\",\"pid\":%u,", p->pid, p->pid);
        assert_non_null(strstr(buf_cstr(&b), part));
    }
    buf_free(&b);
    ndjson_free(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(event_line_has_each_type_of_field),
        cmocka_unit_test(notice_line_has_a_text),
        cmocka_unit_test(metric_line),
        cmocka_unit_test(strings_may_hold_anything),
        cmocka_unit_test(processes_do_not_mix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
