/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration of OTLP: keys, variables of ours and of OpenTelemetry, what stands above what, what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/schema.h"

#define ENV(...)                                                                                                       \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }
#define E "OTEL_EXPORTER_OTLP_"

static void collect(void *ctx, const struct cfg_problem *p)
{
    buf_printf(ctx, "%s%s:%u: %s: %s\n", p->fatal ? "" : "remark: ", p->file, p->line, p->key, p->text);
}

/* In the order in which scope run does it: flags, a file, the environment. */
static struct config_sources *sources_of(const char *const *flags, const char *file, const char *const *env, struct buf *said)
{
    struct config_sources *s = config_sources_new();

    for (; flags && *flags; flags += 2)
        config_set(s, flags[0], flags[1], "--flag", collect, said);
    if (file)
        assert_int_equal(config_add_text(s, "f.yml", file, strlen(file), collect, said), 0);
    config_add_environ(s, env ? env : ENV(NULL), collect, said);
    return s;
}

static char *places(const struct config *c)
{
    struct buf b = BUF_INIT;

    for (int s = 0; s < CFG_OTLP_MAX; s++) {
        const struct cfg_otlp_to *to = &c->otlp.to[s];
        char *base = to->enable ? cfg_transport_url(&to->transport) : NULL;

        if (s)
            buf_char(&b, ' ');
        if (base)
            buf_printf(&b, "%s%s%s", to->protocol == CFG_OTLP_GRPC ? "grpc+" : "", base, to->path);
        else
            buf_str(&b, "off");
        free(base);
    }
    return buf_cstr(&b);
}

/* What is in effect, and again after it was printed and read. */
static void assert_places(const struct config_sources *s, const char *expected)
{
    struct config_sources *again = config_sources_new();
    char *text = NULL, *got, *later;
    struct config *c = config_for(s, NULL), *d;
    struct buf said = BUF_INIT;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    config_print_whole(s, f);
    fclose(f);
    assert_int_equal(config_add_text(again, "printed", text, len, collect, &said), 0);
    d = config_for(again, NULL);
    got = places(c);
    later = places(d);
    if (strcmp(got, expected) != 0)
        fail_msg("%s\nexpected %s", got, expected);
    if (strcmp(later, expected) != 0 || !config_equal(c, d))
        fail_msg("read again: %s\nexpected %s\n%s\n%s", later, expected, buf_cstr(&said), text);
    free(got);
    free(later);
    free(text);
    buf_free(&said);
    config_free(c);
    config_free(d);
    config_sources_free(again);
}

#define ALL(BASE) BASE "/v1/traces " BASE "/v1/metrics " BASE "/v1/logs"

/* --- where it goes --- */

static void test_endpoint_rule(void **state)
{
    static const struct {
        const char *const env[4];
        const char *expected;
    } rows[] = {
        {{NULL}, "off off off"},
        {{E "ENDPOINT="}, "off off off"},
        {{E "ENDPOINT=http://h:4318"}, ALL("http://h:4318")},
        {{E "ENDPOINT=http://h:4318/"}, ALL("http://h:4318")},
        {{E "ENDPOINT=http://h:4318//"}, ALL("http://h:4318")},
        {{E "ENDPOINT=http://h:4318/base"}, ALL("http://h:4318/base")},
        {{E "ENDPOINT=http://h:4318/base/"}, ALL("http://h:4318/base")},
        {{E "ENDPOINT=http://h/b?k=v"}, "http://h:80/b/v1/traces?k=v http://h:80/b/v1/metrics?k=v http://h:80/b/v1/logs?k=v"},
        {{E "ENDPOINT=http://h"}, ALL("http://h:80")},
        {{E "ENDPOINT=http://h:"}, ALL("http://h:80")},
        {{E "ENDPOINT=HTTPS://h"}, ALL("https://h:443")},
        {{E "ENDPOINT=https://[2001:db8::1]:99/x"}, ALL("https://[2001:db8::1]:99/x")},
        {{E "ENDPOINT=http://[::1]"}, ALL("http://[::1]:80")},
        {{E "TRACES_ENDPOINT=http://h:1/own"}, "http://h:1/own off off"},
        {{E "TRACES_ENDPOINT=http://h:1"}, "http://h:1/ off off"},
        {{E "TRACES_ENDPOINT=http://h:1?a=b"}, "http://h:1/?a=b off off"},
        {{E "METRICS_ENDPOINT=http://h:1/v1/metrics/"}, "off http://h:1/v1/metrics/ off"},
        {{E "LOGS_ENDPOINT=http://h:1", E "ENDPOINT=http://g:2"}, "http://g:2/v1/traces http://g:2/v1/metrics http://h:1/"},
        {{E "ENDPOINT=http://h:1/x", E "PROTOCOL=grpc"}, "grpc+http://h:1/ grpc+http://h:1/ grpc+http://h:1/"},
        {{E "ENDPOINT=https://h", E "PROTOCOL=GRPC", E "INSECURE=true"}, "grpc+https://h:443/ grpc+https://h:443/ grpc+https://h:443/"},
        {{E "TRACES_ENDPOINT=h:4317", E "PROTOCOL=grpc"}, "grpc+https://h:4317/ off off"},
        {{E "TRACES_ENDPOINT=h", E "TRACES_PROTOCOL=grpc", E "INSECURE=TRUE"}, "grpc+http://h:4317/ off off"},
        {{E "TRACES_ENDPOINT=[::1]:5", E "PROTOCOL=grpc", E "TRACES_INSECURE=true"}, "grpc+http://[::1]:5/ off off"},
        {{E "LOGS_ENDPOINT=grpc://h"}, "off off grpc+http://h:4317/"},
        {{E "LOGS_ENDPOINT=grpcs://h:9/", E "INSECURE=true"}, "off off grpc+https://h:9/"},
        {{E "ENDPOINT=http://h:4318", E "METRICS_PROTOCOL=grpc"}, "http://h:4318/v1/traces grpc+http://h:4318/ http://h:4318/v1/logs"},
        {{"SCOPE_OTLP_ENABLE=true"}, ALL("http://localhost:4318")},
        {{"SCOPE_OTLP_ENABLE=true", E "PROTOCOL=grpc"},
         "grpc+http://localhost:4317/ grpc+http://localhost:4317/ grpc+http://localhost:4317/"},
        {{"SCOPE_OTLP_LOGS_ENABLE=true"}, "off off http://localhost:4318/v1/logs"},
        {{"SCOPE_OTLP_ENDPOINT=http://h:1"}, ALL("http://h:1")},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct buf said = BUF_INIT;
        struct config_sources *s = sources_of(NULL, NULL, rows[i].env, &said);

        assert_places(s, rows[i].expected);
        if (!strstr(rows[i].env[0] ? rows[i].env[0] : "", "/x") && said.len)
            fail_msg("%s: unexpected: %s", rows[i].env[0], buf_cstr(&said));
        config_sources_free(s);
        buf_free(&said);
    }
}

/* Which source counts, and that it stays so when everything has been read from one file. */
static void test_precedence(void **state)
{
    static const struct {
        const char *const flags[8];
        const char *file;
        const char *const env[6];
        const char *expected;
    } rows[] = {
        /* flags > SCOPE_* > file > OTEL_* */
        {{0}, "otlp: {endpoint: 'http://file:1'}", {E "ENDPOINT=http://otel:1"}, ALL("http://file:1")},
        {{0}, "otlp: {endpoint: 'http://file:1'}", {"SCOPE_OTLP_ENDPOINT=http://env:1"}, ALL("http://env:1")},
        {{"otlp.endpoint", "http://flag:1"}, "otlp: {endpoint: 'http://file:1'}", {"SCOPE_OTLP_ENDPOINT=http://env:1"},
         ALL("http://flag:1")},
        /* One signal before all, of one source ... */
        {{0}, "otlp: {endpoint: 'http://a:1', logs: {endpoint: 'http://b:1/l'}}", {0},
         "http://a:1/v1/traces http://a:1/v1/metrics http://b:1/l"},
        /* ... but not where a stronger one names the place for all. */
        {{"otlp.endpoint", "http://flag:1"}, NULL, {E "TRACES_ENDPOINT=http://otel:1"}, ALL("http://flag:1")},
        {{0}, "otlp: {logs: {endpoint: 'http://b:1/l'}}", {"SCOPE_OTLP_ENDPOINT=http://env:1"}, ALL("http://env:1")},
        {{0}, "otlp: {endpoint: 'http://b:1'}", {"SCOPE_OTLP_LOGS_ENDPOINT=http://env:1"},
         "http://b:1/v1/traces http://b:1/v1/metrics http://env:1/"},
        /* Who names an endpoint switches on, above what weaker sources say ... */
        {{"otlp.endpoint", "http://flag:1"}, "otlp: {enable: false}", {0}, ALL("http://flag:1")},
        {{0}, "otlp: {enable: false}", {E "ENDPOINT=http://otel:1"}, "off off off"},
        {{0}, "otlp: {enable: false, endpoint: 'http://a:1'}", {0}, "off off off"},
        {{0}, "otlp: {enable: false, traces: {endpoint: 'http://a:1'}}", {0}, "off off off"},
        {{0}, "otlp: {enable: false}", {"SCOPE_OTLP_TRACES_ENDPOINT=http://env:1"}, "http://env:1/ off off"},
        {{0}, "otlp: {traces: {enable: true}}", {"SCOPE_OTLP_ENABLE=false"}, "off off off"},
        {{0}, "otlp: {enable: false, traces: {enable: true}}", {0}, "http://localhost:4318/v1/traces off off"},
        /* ... but what is off for one signal stays off when all are switched on. */
        {{"otlp.enable", "true"}, "otlp: {logs: {enable: false}}", {0},
         "http://localhost:4318/v1/traces http://localhost:4318/v1/metrics off"},
        {{"otlp.enable", "true"}, NULL, {"OTEL_LOGS_EXPORTER=none"},
         "http://localhost:4318/v1/traces http://localhost:4318/v1/metrics off"},
        {{"otlp.enable", "true"}, "otlp: {enable: false}", {E "ENDPOINT=http://otel:1"}, ALL("http://otel:1")},
        /* OTEL_* that switch off */
        {{0}, NULL, {E "ENDPOINT=http://h:1", "OTEL_SDK_DISABLED=TRUE"}, "off off off"},
        {{0}, NULL, {E "TRACES_ENDPOINT=http://h:1", "OTEL_SDK_DISABLED=true"}, "off off off"},
        {{0}, NULL, {E "ENDPOINT=http://h:1", "OTEL_SDK_DISABLED=false"}, ALL("http://h:1")},
        {{"otlp.enable", "true"}, NULL, {E "ENDPOINT=http://h:1", "OTEL_SDK_DISABLED=true"}, ALL("http://h:1")},
        {{0}, NULL, {E "ENDPOINT=http://h:1", "OTEL_TRACES_EXPORTER=none"}, "off http://h:1/v1/metrics http://h:1/v1/logs"},
        {{0}, NULL, {E "ENDPOINT=http://h:1", "OTEL_METRICS_EXPORTER=prometheus"}, "http://h:1/v1/traces off http://h:1/v1/logs"},
        {{0}, NULL, {E "ENDPOINT=http://h:1", "OTEL_LOGS_EXPORTER=console, otlp"}, ALL("http://h:1")},
        {{0}, NULL, {"OTEL_TRACES_EXPORTER=otlp"}, "off off off"},
        /* Other keys are settled alike. */
        {{"otlp.protocol", "http/protobuf"}, NULL, {E "ENDPOINT=http://h:1", E "TRACES_PROTOCOL=grpc"}, ALL("http://h:1")},
        {{"otlp.endpoint", "grpc://h:1"}, NULL, {E "PROTOCOL=http/protobuf"}, "grpc+http://h:1/ grpc+http://h:1/ grpc+http://h:1/"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct buf said = BUF_INIT;
        struct config_sources *s = sources_of(rows[i].flags, rows[i].file, rows[i].env, &said);

        assert_places(s, rows[i].expected);
        config_sources_free(s);
        buf_free(&said);
    }
}

static void test_custom(void **state)
{
    static const char file[] = "otlp: {endpoint: 'http://a:1'}\n"
                               "custom:\n  web: {filter: {procname: web}, config: {otlp: {logs: {endpoint: 'http://b:1/l'}}}}\n"
                               "  off: {filter: {procname: off}, config: {otlp: {enable: false}}}\n";
    const struct cfg_process web = {.procname = "web"}, off = {.procname = "off"};
    struct buf said = BUF_INIT;
    struct config_sources *s = sources_of(NULL, file, NULL, &said);
    struct config *c = config_for(s, &web), *d = config_for(s, &off);
    char *got = places(c);

    assert_string_equal(got, "http://a:1/v1/traces http://a:1/v1/metrics http://b:1/l");
    free(got);
    got = places(d);
    assert_string_equal(got, "off off off");
    free(got);
    assert_false(config_equal(c, d));
    assert_int_equal(said.len, 0);
    config_free(c);
    config_free(d);
    config_sources_free(s);
    buf_free(&said);
}

/* Rows of signals stand in the order of those of all: otlp_settle() goes by it. */
static void test_rows(void **state)
{
    const struct key *all = key_find("otlp.enable");
    static const char *const signals[] = {"traces", "metrics", "logs"};

    for (size_t s = 0; s < 3; s++) {
        char *first = xasprintf("otlp.%s.enable", signals[s]);
        const struct key *one = key_find(first);

        for (int i = 0; i < 12; i++) {
            char *path = xasprintf("otlp.%s.%s", signals[s], all[i].path + 5);

            assert_string_equal(one[i].path, path);
            free(path);
        }
        free(first);
    }
    assert_string_equal(all[11].path, "otlp.tls.keypath");
}

/* --- the other keys --- */

static void test_values(void **state)
{
    const struct cfg_otlp *o;
    struct buf said = BUF_INIT;
    struct config_sources *s = sources_of(
        NULL, NULL,
        ENV(E "ENDPOINT=https://h", E "COMPRESSION=gzip", E "LOGS_COMPRESSION=none", E "TIMEOUT=5000", E "TRACES_TIMEOUT=1",
            E "CERTIFICATE=/ca", E "METRICS_CERTIFICATE=/mca", E "CLIENT_KEY=/key", E "CLIENT_CERTIFICATE=/cert",
            "OTEL_METRIC_EXPORT_INTERVAL=1000", E "METRICS_TEMPORALITY_PREFERENCE=Delta",
            E "METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram"),
        &said);
    struct config *c = config_for(s, NULL);

    o = &c->otlp;
    assert_int_equal(said.len, 0);
    assert_true(o->to[CFG_OTLP_TRACES].gzip && o->to[CFG_OTLP_METRICS].gzip && !o->to[CFG_OTLP_LOGS].gzip);
    assert_int_equal(o->to[CFG_OTLP_TRACES].timeout_ms, 1);
    assert_int_equal(o->to[CFG_OTLP_LOGS].timeout_ms, 5000);
    assert_string_equal(o->to[CFG_OTLP_TRACES].transport.tls.cacertpath, "/ca");
    assert_string_equal(o->to[CFG_OTLP_METRICS].transport.tls.cacertpath, "/mca");
    assert_string_equal(o->to[CFG_OTLP_METRICS].transport.tls.certpath, "/cert");
    assert_string_equal(o->to[CFG_OTLP_METRICS].transport.tls.keypath, "/key");
    assert_true(o->to[CFG_OTLP_METRICS].transport.tls.validateserver);
    assert_int_equal(o->interval_ms, 1000);
    assert_true(o->delta && !o->lowmemory && o->exponential);
    assert_true(o->log_events[CFG_EW_CONSOLE] && o->log_events[CFG_EW_FILE] && o->log_events[CFG_EW_NOTICE]);
    assert_true(o->log_crashes && !o->log_events[CFG_EW_PROCESS] && !o->log_events[CFG_EW_FS]);
    config_free(c);
    config_sources_free(s);

    s = sources_of(NULL,
                   "otlp:\n  enable: true\n  servicename: shop\n  resource: {team: 'a, b=c', service.name: other, 'ü': '%'}\n"
                   "  headers: {Authorization: 'Bearer $T, %x', x-b: ''}\n  tls: {validateserver: no, cacertpath: ca}\n"
                   "  traces: {ratio: 0.25, parentbased: no, processes: yes}\n  metrics: {temporality: lowmemory}\n"
                   "  logs: {events: [default, process, dns], headers: {x-c: d}}\n",
                   ENV("T=s,e%c=", "OTEL_TRACES_SAMPLER=always_off"), &said);
    config_sources_start_at(s, "/here");
    c = config_for(s, NULL);
    o = &c->otlp;
    if (said.len)
        fail_msg("%s", buf_cstr(&said));
    assert_string_equal(o->service_name, "shop");
    assert_int_equal(o->resource_count, 2);
    assert_string_equal(o->resource[0].value, "a, b=c");
    assert_string_equal(o->resource[1].name, "ü");
    assert_string_equal(o->resource[1].value, "%");
    assert_int_equal(o->to[0].header_count, 2);
    assert_string_equal(o->to[0].headers[0].name, "authorization");
    assert_string_equal(o->to[0].headers[0].value, "Bearer s,e%c=, %x");
    assert_int_equal(o->to[CFG_OTLP_LOGS].header_count, 1);
    assert_string_equal(o->to[CFG_OTLP_LOGS].headers[0].name, "x-c");
    assert_false(o->to[0].transport.tls.validateserver);
    assert_string_equal(o->to[0].transport.tls.cacertpath, "/here/ca");
    assert_true(o->ratio > 0.2499 && o->ratio < 0.2501 && !o->parent_based && o->processes);
    assert_true(o->delta && o->lowmemory);
    assert_true(o->log_crashes && o->log_events[CFG_EW_PROCESS] && o->log_events[CFG_EW_DNS] && o->log_events[CFG_EW_FILE]);
    config_free(c);
    config_sources_free(s);

    s = sources_of(NULL, "otlp: {resource: {service.name: shop}}", ENV(NULL), &said);
    c = config_for(s, NULL);
    assert_string_equal(c->otlp.service_name, "shop");
    assert_int_equal(c->otlp.resource_count, 0);
    config_free(c);
    config_sources_free(s);
    buf_free(&said);
}

static void test_samplers(void **state)
{
    static const struct {
        const char *sampler, *arg;
        double ratio;
        bool parent;
        const char *said;
    } rows[] = {
        {"always_on", NULL, 1, false, NULL},
        {"always_off", "0.5", 0, false, NULL},
        {"traceidratio", "0.5", 0.5, false, NULL},
        {"traceidratio", NULL, 1, false, NULL},
        {"parentbased_always_on", NULL, 1, true, NULL},
        {"parentbased_always_off", NULL, 0, true, NULL},
        {"PARENTBASED_TRACEIDRATIO", "1e-3", 1, true, "SAMPLER_ARG: \"1e-3\" can't be used; expected a number from 0 to 1"},
        {"parentbased_traceidratio", "0.001", 0.001, true, NULL},
        {"traceidratio", "1.5", 1, false, "SAMPLER_ARG: \"1.5\""},
        {"traceidratio", "-0.5", 1, false, "SAMPLER_ARG: \"-0.5\""},
        {"traceidratio", "half", 1, false, "1 is used instead"},
        {"traceidratio", "0x1", 1, false, "SAMPLER_ARG"},
        {"traceidratio", "0.1.2", 1, false, "SAMPLER_ARG"},
        {"traceidratio", ".", 1, false, "SAMPLER_ARG"},
        {"traceidratio", "nan", 1, false, "SAMPLER_ARG"},
        {"jaeger_remote", NULL, 1, true, "OTEL_TRACES_SAMPLER: \"jaeger_remote\" can't be used; expected one of always_on"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char *sampler = xasprintf("OTEL_TRACES_SAMPLER=%s", rows[i].sampler);
        char *arg = xasprintf("OTEL_TRACES_SAMPLER_ARG=%s", rows[i].arg ? rows[i].arg : "");
        struct buf said = BUF_INIT;
        struct config_sources *s = sources_of(NULL, NULL, ENV(E "ENDPOINT=http://h", sampler, arg), &said);
        struct config *c = config_for(s, NULL);

        assert_true(c->otlp.ratio > rows[i].ratio - 1e-9 && c->otlp.ratio < rows[i].ratio + 1e-9);
        assert_int_equal(c->otlp.parent_based, rows[i].parent);
        if (rows[i].said ? !strstr(buf_cstr(&said), rows[i].said) : said.len)
            fail_msg("%s: %s", sampler, buf_cstr(&said));
        config_free(c);
        config_sources_free(s);
        buf_free(&said);
        free(sampler);
        free(arg);
    }
}

/* --- mistakes --- */

static void assert_once(struct buf *said, const char *text)
{
    const char *at = strstr(buf_cstr(said), text);

    if (!at || strstr(at + 1, text))
        fail_msg("%s \"%s\" in:\n%s", at ? "twice" : "not", text, buf_cstr(said));
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *const env[4];
        const char *said, *expected;
    } rows[] = {
        /* An endpoint that can't be used sends nothing anywhere. */
        {{E "ENDPOINT=http://u:pw@h"}, "ENDPOINT: \"http://***@h\": a user name or password", "off off off"},
        {{E "ENDPOINT=u:pw@h", E "PROTOCOL=grpc"}, "\"***@h\": a user name or password", "off off off"},
        {{E "ENDPOINT=ftp://h"}, "unknown scheme; expected http://, https://, grpc:// or grpcs://; signals that", "off off off"},
        {{E "ENDPOINT=http://h:99999"}, "the port is not a number", "off off off"},
        {{E "ENDPOINT=http://h:0"}, "the port is not a number", "off off off"},
        {{E "ENDPOINT=http://h:otlp"}, "the port is not a number", "off off off"},
        {{E "ENDPOINT=http://::1:4318"}, "put an IPv6 address in brackets", "off off off"},
        {{E "ENDPOINT=http://[::1:4318"}, "isn't closed", "off off off"},
        {{E "ENDPOINT=http://[::1]x"}, "only :PORT", "off off off"},
        {{E "ENDPOINT=http://[h]:1"}, "not an IPv6 address", "off off off"},
        {{E "ENDPOINT=http://"}, "the host is not", "off off off"},
        {{E "ENDPOINT=http:///x"}, "the host is not", "off off off"},
        {{E "ENDPOINT=http://h/a b"}, "blanks", "off off off"},
        {{E "ENDPOINT=http://h/a\r\nx: y"}, "blanks", "off off off"},
        {{E "ENDPOINT=http://h/\xc3\xbc"}, "blanks", "off off off"},
        {{E "ENDPOINT=http://h/#x"}, "behind #", "off off off"},
        {{E "ENDPOINT=h:4318"}, "the scheme is missing; expected http:// or https://", "off off off"},
        {{E "ENDPOINT=http://h:1", E "LOGS_ENDPOINT=bad"}, E "LOGS_ENDPOINT: \"bad\": the scheme is missing",
         "http://h:1/v1/traces http://h:1/v1/metrics off"},
        {{E "ENDPOINT=bad://h", E "LOGS_ENDPOINT=http://h:1"}, E "ENDPOINT: \"bad://h\": unknown scheme", "off off http://h:1/"},
        {{"SCOPE_OTLP_ENDPOINT=bad://h", E "ENDPOINT=http://h:1"}, "SCOPE_OTLP_ENDPOINT: \"bad://h\": unknown scheme", "off off off"},
        {{E "ENDPOINT=http://h:1/x", E "PROTOCOL=grpc"}, "gRPC has no path; it is left out",
         "grpc+http://h:1/ grpc+http://h:1/ grpc+http://h:1/"},
        /* Others are as if they weren't set. */
        {{E "ENDPOINT=http://h:1", E "PROTOCOL=http/json"},
         E "PROTOCOL: http/json is not built; http/protobuf is used instead", ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", E "PROTOCOL=grpc", E "LOGS_PROTOCOL=HTTP/JSON"}, "http/json is not built",
         "grpc+http://h:1/ grpc+http://h:1/ http://h:1/v1/logs"},
        {{E "ENDPOINT=http://h:1", E "PROTOCOL=thrift"}, "expected one of http/protobuf, grpc; http/protobuf is used instead",
         ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", E "LOGS_PROTOCOL=thrift", E "PROTOCOL=grpc"}, "what counts for all signals is used instead",
         "grpc+http://h:1/ grpc+http://h:1/ grpc+http://h:1/"},
        {{E "ENDPOINT=http://h:1", E "COMPRESSION=zstd"}, "COMPRESSION: \"zstd\" can't be used; expected one of none, gzip; none",
         ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", E "TIMEOUT=0"}, "expected a number from 1 to 3600000; 10000 is used instead", ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", E "TIMEOUT=10s"}, E "TIMEOUT: \"10s\" can't be used", ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", "OTEL_METRIC_EXPORT_INTERVAL=-1"}, "expected a number from 100 to 86400000; 60000 is used",
         ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", E "INSECURE=yes"}, E "INSECURE: \"yes\" can't be used; expected true or false; false",
         ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", "OTEL_SDK_DISABLED=1"}, "OTEL_SDK_DISABLED: \"1\" can't be used", ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", E "METRICS_TEMPORALITY_PREFERENCE=x"}, "cumulative, delta, lowmemory; cumulative is used",
         ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", E "METRICS_DEFAULT_HISTOGRAM_AGGREGATION=x"}, "the former is used instead", ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", "OTEL_TRACES_EXPORTER=zipkin"}, "remark: environment:0: OTEL_TRACES_EXPORTER: \"zipkin\"",
         "off http://h:1/v1/metrics http://h:1/v1/logs"},
        {{E "ENDPOINT=https://h:1", E "CLIENT_CERTIFICATE=/c"}, "CLIENT_CERTIFICATE: a client's certificate needs its key",
         ALL("https://h:1")},
        {{E "ENDPOINT=https://h:1", E "LOGS_CLIENT_KEY=/c"}, "LOGS_CLIENT_KEY: a client's certificate needs its key",
         ALL("https://h:1")},
        {{E "ENDPOINT=http://h:1", "OTEL_RESOURCE_ATTRIBUTES=a=b,c"}, "OTEL_RESOURCE_ATTRIBUTES: an entry has no =; expected NAME=VALUE,NAME=VALUE; none of them", ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", "OTEL_RESOURCE_ATTRIBUTES=a=%g0"}, "\"a\" has a % that", ALL("http://h:1")},
        {{E "ENDPOINT=http://h:1", "OTEL_SERVICE_NAME=a\nb"}, "OTEL_SERVICE_NAME: the value is longer than", ALL("http://h:1")},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct buf said = BUF_INIT;
        struct config_sources *s = sources_of(NULL, NULL, rows[i].env, &said);

        assert_once(&said, rows[i].said);
        if (strchr(buf_cstr(&said), '\n') != strrchr(buf_cstr(&said), '\n'))
            fail_msg("more than one problem: %s", buf_cstr(&said));
        assert_null(strstr(buf_cstr(&said), "pw"));
        assert_places(s, rows[i].expected);
        config_sources_free(s);
        buf_free(&said);
    }
}

/* Nobody is told of variables that are for the program alone. */
static void test_silent_while_off(void **state)
{
    struct buf said = BUF_INIT;
    struct config_sources *s = sources_of(
        NULL, NULL, ENV(E "PROTOCOL=http/json", E "TIMEOUT=soon", "OTEL_TRACES_SAMPLER=xray", "OTEL_RESOURCE_ATTRIBUTES=,x"),
        &said);

    assert_int_equal(said.len, 0);
    assert_places(s, "off off off");
    config_sources_free(s);
    s = sources_of(NULL, NULL, ENV(E "ENDPOINT=bad://x", "OTEL_SDK_DISABLED=true"), &said);
    assert_int_equal(said.len, 0);
    config_sources_free(s);
}

static void test_headers(void **state)
{
    static const struct {
        const char *text, *expected, *said;
    } rows[] = {
        {"a=b", "a: b\n", NULL},
        {" a = b , C\t=\td=e,", "a: b\nc: d=e\n", NULL},
        {"authorization=Bearer%20x%2Cy%3D", "authorization: Bearer x,y=\n", NULL},
        {"authorization=Basic dXNlcg==", "authorization: Basic dXNlcg==\n", NULL},
        {"a=1,A=2", "a: 2\n", NULL},
        {"a=", "a: \n", NULL},
        {",,a=b,,", "a: b\n", NULL},
        {"a b=c,d=e", "d: e\n", "\"a b\" is not the name of a header"},
        {"a:b=c", "", "\"a:b\" is not the name of a header"},
        {"=x", "", "\"\" is not the name of a header"},
        {"a=b%0d%0aX-Evil:1", "", "\"a\" has a value with line breaks"},
        {"a=b%0aX", "", "\"a\" has a value with line breaks"},
        {"a%0d%0ab=c", "", "is not the name of a header"},
        {"a=%00", "", "\"a\" has a % that two hexadecimal digits must follow"},
        {"a=%", "", "\"a\" has a %"},
        {"a=%2", "", "\"a\" has a %"},
        {"a=%zz", "", "\"a\" has a %"},
        {"a=\xc3\xbc", "", "others than ASCII"},
        {"a", "", "an entry has no ="},
        {"Content-Type=x,b=c", "b: c\n", "\"Content-Type\" is a header that requests have already"},
        {"grpc-timeout=1S", "", "requests have already"},
        {"a=***", "", "what is printed in place of the secret; such headers aren't sent"},
        {"a b=1,c d=2,e f=3,g=h", "g: h\n", ", and 2 more can't be used; such headers aren't sent"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char *var = xasprintf(E "HEADERS=%s", rows[i].text);
        struct buf said = BUF_INIT, got = BUF_INIT;
        struct config_sources *s = sources_of(NULL, NULL, ENV(E "ENDPOINT=http://h", var), &said);
        struct config *c = config_for(s, NULL);

        for (size_t k = 0; k < c->otlp.to[0].header_count; k++)
            buf_printf(&got, "%s: %s\n", c->otlp.to[0].headers[k].name, c->otlp.to[0].headers[k].value);
        assert_string_equal(buf_cstr(&got), rows[i].expected);
        if (rows[i].said)
            assert_once(&said, rows[i].said);
        else if (said.len)
            fail_msg("%s", buf_cstr(&said));
        assert_places(s, ALL("http://h:80"));
        config_free(c);
        config_sources_free(s);
        buf_free(&said);
        buf_free(&got);
        free(var);
    }
}

/* A long list, and many of them: bounded, and told. */
static void test_bounds(void **state)
{
    struct buf list = BUF_INIT, said = BUF_INIT;
    struct config_sources *s;
    struct config *c;

    buf_str(&list, E "HEADERS=");
    for (int i = 0; i < 200; i++)
        buf_printf(&list, "%sx-%d=v", i ? "," : "", i);
    s = sources_of(NULL, NULL, ENV(E "ENDPOINT=http://h", buf_cstr(&list)), &said);
    c = config_for(s, NULL);
    assert_int_equal(c->otlp.to[0].header_count, MAX_PAIR_COUNT);
    assert_once(&said, "\"x-128\" is one too many");
    config_free(c);
    config_sources_free(s);
    buf_reset(&list);
    buf_reset(&said);
    buf_str(&list, E "HEADERS=a=");
    for (int i = 0; i < MAX_PAIRS; i++)
        buf_char(&list, 'x');
    s = sources_of(NULL, NULL, ENV(E "ENDPOINT=http://h", buf_cstr(&list)), &said);
    c = config_for(s, NULL);
    assert_int_equal(c->otlp.to[0].header_count, 0);
    assert_once(&said, "the list is longer than 65536 bytes; it counts as not set");
    config_free(c);
    config_sources_free(s);
    buf_free(&list);
    buf_free(&said);
}

/* --- secrets --- */

static void test_secrets(void **state)
{
    struct buf said = BUF_INIT;
    struct config_sources *s = sources_of(NULL, "otlp: {traces: {headers: {x-t: sesame2}}}",
                                          ENV(E "ENDPOINT=https://h/x?key=sesame1", E "HEADERS=authorization=sesame3"), &said);
    struct config *c = config_for(s, NULL);
    char *text = NULL, *json = config_to_json(c), *line = cfg_otlp_text(&c->otlp);
    size_t len = 0;

    for (int origins = 0; origins < 2; origins++) {
        FILE *f = open_memstream(&text, &len);

        config_print_yaml(s, f, origins);
        fclose(f);
        assert_null(strstr(text, "sesame"));
        assert_non_null(strstr(text, "authorization: '***'"));
        assert_non_null(strstr(text, "https://h/x?***"));
        free(text);
    }
    assert_null(strstr(json, "sesame"));
    assert_non_null(strstr(json, "\"authorization\":\"***\""));
    assert_string_equal(line, "traces, metrics, logs to https://h:443/x");
    free(json);
    free(line);
    config_free(c);
    config_sources_free(s);
    assert_int_equal(said.len, 0);

    /* What was printed isn't taken for the secret. */
    s = sources_of(NULL, "otlp: {endpoint: 'http://h/x?***', headers: {a: '***', b: c}}", NULL, &said);
    assert_places(s, "off off off");
    assert_once(&said, "*** is what is printed in place of a secret");
    assert_once(&said, "\"a\" has ***");
    config_sources_free(s);
    buf_free(&said);
}

static void test_shown(void **state)
{
    static const char *const rows[][2] = {
        {"http://h", "http://h"},
        {"http://h/a@b", "http://h/a@b"},
        {"http://u:p@h/x", "http://***@h/x"},
        {"http://u:p/q@h/x", "http://***@h/x"},
        {"u:p@h", "***@h"},
        {"http:/u:p@h", "***@h"},
        {"https://h?k", "https://h?***"},
        {"", ""},
        {"?", "?***"},
        {"@", "***@"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char *shown = cfg_endpoint_shown(rows[i][0]);

        assert_string_equal(shown, rows[i][1]);
        free(shown);
    }
}

static void test_text(void **state)
{
    static const struct {
        const char *const env[5];
        const char *expected;
    } rows[] = {
        {{E "ENDPOINT=http://h:1/b"}, "traces, metrics, logs to http://h:1/b"},
        {{E "ENDPOINT=http://h:1", E "METRICS_ENDPOINT=grpcs://m:2"}, "traces, logs to http://h:1; metrics to grpcs://m:2"},
        {{E "LOGS_ENDPOINT=http://h:1/own"}, "logs to http://h:1/own"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct config_sources *s = sources_of(NULL, NULL, rows[i].env, NULL);
        struct config *c = config_for(s, NULL);
        char *text = cfg_otlp_text(&c->otlp);

        assert_string_equal(text, rows[i].expected);
        free(text);
        config_free(c);
        config_sources_free(s);
    }
}

/* --- what a process says of itself --- */

static void test_pair_of(void **state)
{
    static const char *const rows[][2] = {
        {"service.name=shop", "shop"},
        {"a=b, service.name = sh%2Cop%20%C3%BC ,c=d", "sh,op ü"},
        {"service.name=", NULL},
        {"service.namex=y", NULL},
        {"service.name=a,x", NULL},
        {"service.name=a,x=%", NULL},
        {"service.name=a%0ab", NULL},
        {"service.name=%ff", NULL},
        {"service.name=a,service.name=b", "b"},
        {"", NULL},
        {",,,", NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char *got = cfg_pair_of(rows[i][0], "service.name");

        if (rows[i][1])
            assert_string_equal(got, rows[i][1]);
        else
            assert_null(got);
        free(got);
    }
    assert_null(cfg_pair_of(NULL, "service.name"));
}

static void test_flag_urls(void **state)
{
    static const struct {
        const char *url;
        int rc;
        bool http;
    } rows[] = {
        {"http://h", 0, true},   {"https://h:1/x", 0, true}, {"grpc://h:4317", 0, false}, {"grpcs://[::1]", 0, false},
        {"grpc://h/", 0, false}, {"grpc://h/x", -EINVAL, 0}, {"h:4317", -EINVAL, 0},      {"", -EINVAL, 0},
        {"tcp://h:1", -EINVAL, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        const char *why = NULL;
        bool http = false;

        assert_int_equal(cfg_endpoint_check(rows[i].url, &http, &why), rows[i].rc);
        if (rows[i].rc)
            assert_non_null(why);
        else
            assert_int_equal(http, rows[i].http);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoint_rule),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_custom),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_samplers),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_silent_while_off),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_shown),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_pair_of),
        cmocka_unit_test(test_flag_urls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
