/* SPDX-License-Identifier: Apache-2.0 */
/* Events, metrics, lines, filters and limits: what comes out for what goes in, byte for byte. */
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/mem.h"
#include "journal/reader.h"
#include "output/internal.h"
#include "sink/ndjson.h"
#include "telemetry/filter.h"
#include "telemetry/internal.h"
#include "telemetry/limit.h"
#include "telemetry/telemetry.h"

#define STR(field, text)      {.name = field, .type = TM_STR, .v.str = {text, sizeof(text) - 1}}
#define UINT(field, n)        {.name = field, .type = TM_UINT, .v.u = n}
#define INT(field, n)         {.name = field, .type = TM_INT, .v.i = n}
#define COUNT(array)          (sizeof(array) / sizeof(*(array)))
#define SECOND                UINT64_C(1000000000)
#define T0                    (UINT64_C(1700000000) * SECOND)

struct bed {
    struct config_sources *sources;
    struct config *cfg;
    struct event_base *base;
    struct telemetry *t;
    char dir[64], events[80], metrics[80];
    struct tm_process p;
};

static void set(struct bed *b, const char *key, const char *value)
{
    if (config_set(b->sources, key, value, "test", NULL, NULL))
        fail_msg("config_set(%s, %s)", key, value);
}

/* The words of a list such as "[fs, net]" are switched on, all others off. */
static void choose(bool *enable, size_t stride, const char *const *names, size_t n, const char *list)
{
    for (size_t i = 0; i < n; i++, enable = (bool *)(void *)((char *)enable + stride))
        *enable = strstr(list, names[i]) != NULL;
}

/* Keys and values follow, ended by NULL. event.watch and metric.watch take a list of the watches that are on. */
static struct bed *open_bed(const char *key, ...)
{
    static const char *const event_types[] = {"file", "console", "syslog", "metric", "http", "net", "fs", "dns",
                                              "process", "syscall", "notice"};
    static const char *const metric_types[] = {"fs", "net", "http", "dns", "process", "statsd"};
    struct bed *b = xcalloc(1, sizeof(*b));
    const char *events = NULL, *metrics = NULL;
    va_list ap;

    strcpy(b->dir, "/tmp/test_telemetry.XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->events, sizeof(b->events), "%s/events", b->dir);
    snprintf(b->metrics, sizeof(b->metrics), "%s/metrics", b->dir);
    b->sources = config_sources_new();
    set(b, "event.transport.type", "file");
    set(b, "event.transport.path", b->events);
    set(b, "metric.transport.type", "file");
    set(b, "metric.transport.path", b->metrics);
    set(b, "libscope.configevent", "false");
    va_start(ap, key);
    for (; key; key = va_arg(ap, const char *)) {
        const char *value = va_arg(ap, const char *);

        if (strcmp(key, "event.watch") == 0)
            events = value;
        else if (strcmp(key, "metric.watch") == 0)
            metrics = value;
        else
            set(b, key, value);
    }
    va_end(ap);
    b->cfg = config_for(b->sources, NULL);
    if (events)
        choose(&b->cfg->event.watch[0].enable, sizeof(b->cfg->event.watch[0]), event_types, CFG_EW_MAX, events);
    if (metrics)
        choose(b->cfg->metric.watch, sizeof(bool), metric_types, CFG_MW_MAX, metrics);
    b->base = event_base_new();
    return b;
}

static void start(struct bed *b)
{
    b->p = (struct tm_process){.pid = 42, .ppid = 7, .uid = 1000, .gid = 100, .username = "ann", .groupname = "users",
                               .host = "h1", .proc = "prog", .cmd = "prog -x", .cgroup = "0::/u", .exe = "/bin/prog",
                               .machine_id = "0123456789abcdef0123456789abcdef",
                               .uuid = "da845a9b-a55d-4c42-893d-08b54ee6e999", .id = "h1-prog-prog -x"};
    b->t = telemetry_new(b->base, b->cfg);
    telemetry_process_start(b->t, &b->p);
}

#define BED(...) ({ struct bed *bed_ = open_bed(__VA_ARGS__, NULL); start(bed_); bed_; })

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "r");
    struct buf text = BUF_INIT;
    char piece[4096];
    size_t n;

    while (f && (n = fread(piece, 1, sizeof(piece), f)) > 0)
        buf_add(&text, piece, n);
    if (f)
        fclose(f);
    return buf_cstr(&text);
}

/* All lines so far must be JSON without duplicate keys. */
static void check_json(const char *text)
{
    while (*text) {
        const char *end = strchr(text, '\n');
        json_error_t error;
        json_t *j;

        assert_non_null(end);
        j = json_loadb(text, (size_t)(end - text), JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL,
                       &error);
        if (!j)
            fail_msg("%s in: %.*s", error.text, (int)(end - text), text);
        json_decref(j);
        text = end + 1;
    }
}

static char *events(struct bed *b)
{
    char *text;

    assert_true(telemetry_flush(b->t));
    text = read_all(b->events);
    check_json(text);
    return text;
}

static char *metrics(struct bed *b)
{
    assert_true(telemetry_flush(b->t));
    return read_all(b->metrics);
}

static void expect_events(struct bed *b, const char *expected)
{
    char *text = events(b);

    assert_string_equal(text, expected);
    free(text);
    assert_int_equal(truncate(b->events, 0), 0);
}

static void expect_metrics(struct bed *b, const char *expected)
{
    char *text = metrics(b);

    assert_string_equal(text, expected);
    free(text);
    assert_int_equal(truncate(b->metrics, 0), 0);
}

static size_t count(const char *text, const char *part)
{
    size_t n = 0;

    for (const char *p = text; (p = strstr(p, part)); p += strlen(part))
        n++;
    return n;
}

static void close_bed(struct bed *b)
{
    telemetry_free(b->t, 1000);
    unlink(b->events);
    unlink(b->metrics);
    rmdir(b->dir);
    config_free(b->cfg);
    config_sources_free(b->sources);
    event_base_free(b->base);
    free(b);
}

static void send_event(struct bed *b, enum cfg_event_watch watch, const char *source, uint64_t time_ns,
                       uint64_t channel, const struct tm_field *f, size_t n)
{
    telemetry_event(b->t, &b->p, &(struct tm_event){.watch = watch, .source = source, .time_ns = time_ns,
                                                    .channel = channel, .fields = f, .field_count = n});
}

#define ENVELOPE(type, time, source, channel)                                                                          \
    "{\"type\":\"evt\",\"id\":\"h1-prog-prog -x\",\"_channel\":\"" channel "\",\"body\":{\"sourcetype\":\"" type      \
    "\",\"_time\":" time ",\"source\":\"" source "\",\"host\":\"h1\",\"proc\":\"prog\",\"cmd\":\"prog -x\",\"pid\":42"

/* --- events --- */

static void event_has_all_kinds_of_fields(void **state)
{
    static const char *const addrs[] = {"10.0.0.1", "::1"};
    struct tm_field f[] = {
        STR("file", "/etc/hosts"),
        UINT("big", UINT64_MAX),
        INT("small", INT64_MIN),
        {.name = "ratio", .type = TM_NUM, .v.num = 0.1},
        {.name = "third", .type = TM_NUM, .v.num = 1.0 / 3},
        {.name = "none", .type = TM_NUM, .v.num = NAN},
        {.name = "yes", .type = TM_BOOL, .v.b = true},
        {.name = "addrs", .type = TM_STRLIST, .v.list = {addrs, 2}},
        {.name = "null", .type = TM_STR},
    };
    struct bed *b = BED("event.watch", "[fs, net]");

    send_event(b, CFG_EW_FS, "fs.open", T0 + 123456789, UINT64_MAX, f, COUNT(f));
    expect_events(b, ENVELOPE("fs", "1700000000.123456", "fs.open", "18446744073709551615")
                  ",\"data\":{\"file\":\"/etc/hosts\",\"big\":18446744073709551615,\"small\":-9223372036854775808,"
                  "\"ratio\":0.1,\"third\":0.33333333333333331,\"none\":null,\"yes\":true,"
                  "\"addrs\":[\"10.0.0.1\",\"::1\"],\"null\":\"\"}}}\n");
    close_bed(b);
}

static void event_without_channel_and_fields(void **state)
{
    struct bed *b = BED("event.watch", "[fs, net]");

    send_event(b, CFG_EW_NET, "net.close", T0, 0, NULL, 0);
    expect_events(b, ENVELOPE("net", "1700000000.000000", "net.close", "none") ",\"data\":{}}}\n");
    close_bed(b);
}

static void every_watch_has_its_sourcetype(void **state)
{
    static const char *const types[] = {"file", "console", "syslog", "metric", "http", "net", "fs", "dns", "process",
                                        "syscall", "notice"};
    struct bed *b = open_bed(NULL);

    for (int i = 0; i < CFG_EW_MAX; i++)
        b->cfg->event.watch[i].enable = true;
    start(b);
    for (int i = 0; i < CFG_EW_MAX; i++) {
        char *text, expected[40];

        send_event(b, i, i == CFG_EW_FILE ? "/var/log/x.log" : i == CFG_EW_CONSOLE ? "stdout" : "x", T0, 1, NULL, 0);
        text = events(b);
        snprintf(expected, sizeof(expected), "\"sourcetype\":\"%s\"", types[i]);
        assert_non_null(strstr(text, expected));
        free(text);
        assert_int_equal(truncate(b->events, 0), 0);
    }
    close_bed(b);
}

static void strings_are_always_valid_utf8(void **state)
{
    struct tm_field f[] = {STR("file", "a\xff" "b\xc3\xa4\xe2\x82\"\\\x01\n")};
    struct bed *b = open_bed("event.watch", "[fs]", NULL);

    start(b);
    b->p.cmd = "p \xf0\x9f\x98\x80 \xed\xa0\x80";
    telemetry_process_start(b->t, &b->p); /* exec: members have changed */
    send_event(b, CFG_EW_FS, "fs.open", T0, 1, f, 1);
    expect_events(b,
                  "{\"type\":\"evt\",\"id\":\"h1-prog-prog -x\",\"_channel\":\"1\",\"body\":{\"sourcetype\":\"fs\","
                  "\"_time\":1700000000.000000,\"source\":\"fs.open\",\"host\":\"h1\",\"proc\":\"prog\",\"cmd\":\"p "
                  "\xf0\x9f\x98\x80 \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"pid\":42,\"data\":{\"file\":"
                  "\"a\xef\xbf\xbd" "b\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\\\"\\\\\\u0001\\n\"}}}\n");
    close_bed(b);
}

static void tags_stand_between_pid_and_data(void **state)
{
    struct cfg_tag tags[] = {{"team", "blue \"1\""}, {"host", "fake"}, {"team", "again"}, {"env", "prod"}};
    struct bed *b = open_bed("event.watch", "[fs]", NULL);

    b->cfg->tags = tags; /* past the checks of the loader, which refuses reserved names */
    b->cfg->tag_count = COUNT(tags);
    start(b);
    b->cfg->tags = NULL;
    b->cfg->tag_count = 0;
    send_event(b, CFG_EW_FS, "fs.open", T0, 0, NULL, 0);
    expect_events(b, ENVELOPE("fs", "1700000000.000000", "fs.open", "none")
                  ",\"team\":\"blue \\\"1\\\"\",\"env\":\"prod\",\"data\":{}}}\n");
    close_bed(b);
}

static void watch_that_is_off_sends_nothing(void **state)
{
    struct bed *b = BED("event.watch", "[net]");

    assert_false(telemetry_wants_event(b->t, CFG_EW_FS, "fs.open", 7));
    assert_true(telemetry_wants_event(b->t, CFG_EW_NET, "net.open", 8));
    send_event(b, CFG_EW_FS, "fs.open", T0, 0, NULL, 0);
    expect_events(b, "");
    close_bed(b);
    b = BED("event.enable", "false");
    assert_false(telemetry_wants_event(b->t, CFG_EW_NET, "net.open", 8));
    send_event(b, CFG_EW_NET, "net.open", T0, 0, NULL, 0);
    assert_int_not_equal(access(b->events, F_OK), 0);
    close_bed(b);
}

static void start_message_has_the_process_and_the_configuration(void **state)
{
    static const char start_of_message[] = "{\"format\":\"ndjson\",\"info\":{\"process\":{\"libscopever\":\"";
    struct bed *b = open_bed("libscope.configevent", "true", "cribl.authtoken", "secret", NULL);
    char *text, *config, *expected;

    start(b);
    text = events(b);
    config = config_to_json(b->cfg);
    expected = xasprintf(
        "\",\"pid\":42,\"ppid\":7,\"gid\":100,\"groupname\":\"users\",\"uid\":1000,\"username\":\"ann\","
        "\"hostname\":\"h1\",\"procname\":\"prog\",\"cmd\":\"prog -x\",\"id\":\"h1-prog-prog -x\",\"cgroup\":\"0::/u\","
        "\"machine_id\":\"0123456789abcdef0123456789abcdef\",\"uuid\":\"da845a9b-a55d-4c42-893d-08b54ee6e999\"},"
        "\"configuration\":{\"current\":%s},\"environment\":{}}}\n", config);
    assert_memory_equal(text, start_of_message, sizeof(start_of_message) - 1);
    assert_string_equal(strchr(text + sizeof(start_of_message) - 1, '"'), expected);
    assert_null(strstr(text, "secret"));
    assert_int_equal(count(text, "\n"), 1);
    free(text);
    free(config);
    free(expected);

    assert_int_equal(truncate(b->events, 0), 0);
    b->p.username = b->p.groupname = NULL;
    b->p.k8s_pod = "pod-1";
    telemetry_process_start(b->t, &b->p);
    text = events(b);
    assert_null(strstr(text, "groupname"));
    assert_null(strstr(text, "username"));
    assert_non_null(strstr(text, "\"environment\":{\"CRIBL_K8S_POD\":\"pod-1\"}}}\n"));
    free(text);
    close_bed(b);
}

static void file_that_was_moved_away_is_made_anew_with_start_messages(void **state)
{
    struct bed *b = BED("libscope.configevent", "true", "event.watch", "[fs]");
    char moved[96], *text;

    send_event(b, CFG_EW_FS, "before", T0, 0, NULL, 0);
    free(events(b));
    snprintf(moved, sizeof(moved), "%s.1", b->events);
    assert_int_equal(rename(b->events, moved), 0);
    usleep(1100000); /* the name is looked at once a second */
    send_event(b, CFG_EW_FS, "after", T0, 0, NULL, 0);
    text = events(b);
    assert_memory_equal(text, "{\"format\":\"ndjson\"", 18);
    assert_non_null(strstr(text, "\"source\":\"after\""));
    assert_int_equal(count(text, "\n"), 2);
    free(text);
    text = read_all(moved);
    assert_int_equal(count(text, "\n"), 2);
    assert_null(strstr(text, "after"));
    free(text);
    unlink(moved);
    close_bed(b);
}

/* --- filters --- */

static void filter_table(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool match;
    } rows[] = {
        {".*", "", true}, {"", "x", true}, {"^.*$", "x", true}, {"open", "fs.open", true}, {"^open", "fs.open", false},
        {"fs\\.(open|close)$", "fs.close", true}, {"(?i)FS", "fs.open", true}, {"^\\d+$", "123", true},
        {"^\\d+$", "12a", false}, {"x", "", false}, {"^[^h]+", "host", false}, {"^[^h]+", "proc", true},
        {"(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", false}, /* explodes: no match, no hang */
        {"[", "anything", true}, /* broken: the default */
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct filter *f = filter_new(rows[i].pattern, ".*");
        size_t len = strlen(rows[i].text);

        assert_int_equal(filter_match(f, rows[i].text, len), rows[i].match);
        for (int twice = 0; twice < 2; twice++) /* from the cache the second time */
            assert_int_equal(filter_match_name(f, rows[i].text, len), rows[i].match);
        filter_free(f);
    }
}

static void names_in_the_cache_do_not_mix(void **state)
{
    struct filter *f = filter_new("7$", ".*");
    char name[300];

    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 5000; i++) {
            int n = snprintf(name, sizeof(name), "/some/path/%d", i);

            assert_int_equal(filter_match_name(f, name, (size_t)n), i % 10 == 7);
        }
    memset(name, 'x', sizeof(name));
    name[298] = '7';
    assert_true(filter_match_name(f, name, 299)); /* longer than the cache takes */
    assert_false(filter_match_name(f, name, 298));
    filter_free(f);
}

struct filter_row {
    const char *name, *field, *value;
    const char *data; /* NULL: nothing is sent */
};

static void check_filters(const struct filter_row *row, size_t rows, const struct tm_field *f, size_t fields)
{
    for (const struct filter_row *end = row + rows; row < end; row++) {
        struct bed *b = open_bed(NULL);
        struct cfg_watch *w = &b->cfg->event.watch[CFG_EW_FS];
        struct tm_stats stats;
        char *expected;

        free(w->name);
        free(w->field);
        free(w->value);
        w->name = xstrdup(row->name);
        w->field = xstrdup(row->field);
        w->value = xstrdup(row->value);
        start(b);
        send_event(b, CFG_EW_FS, "fs.open", T0, 0, f, fields);
        expected = row->data ? xasprintf(ENVELOPE("fs", "1700000000.000000", "fs.open", "none") ",\"data\":%s}}\n",
                                         row->data)
                             : xstrdup("");
        expect_events(b, expected);
        telemetry_stats(b->t, &stats);
        assert_int_equal(stats.filtered, !row->data);
        assert_int_equal(stats.events, !!row->data);
        free(expected);
        close_bed(b);
    }
}

static void event_filters(void **state)
{
    static const struct filter_row rows[] = {
        {".*", ".*", ".*", "{\"file\":\"/tmp/a\",\"bytes\":512,\"share\":0.25}"},
        {"open$", ".*", ".*", "{\"file\":\"/tmp/a\",\"bytes\":512,\"share\":0.25}"},
        {"close$", ".*", ".*", NULL},
        {".*", "^f", ".*", "{\"file\":\"/tmp/a\"}"},
        {".*", "bytes|share", ".*", "{\"bytes\":512,\"share\":0.25}"},
        {".*", "nothing", ".*", "{}"},
        {".*", ".*", "^/tmp", "{\"file\":\"/tmp/a\",\"bytes\":512,\"share\":0.25}"},
        {".*", ".*", "^512$", "{\"file\":\"/tmp/a\",\"bytes\":512,\"share\":0.25}"},
        {".*", ".*", "^0\\.25$", "{\"file\":\"/tmp/a\",\"bytes\":512,\"share\":0.25}"},
        {".*", "file", "^512$", "{\"file\":\"/tmp/a\"}"}, /* value looks at all fields, selected or not */
        {".*", ".*", "513", NULL},
    };
    static const struct tm_field f[] = {STR("file", "/tmp/a"), UINT("bytes", 512),
                                        {.name = "share", .type = TM_NUM, .v.num = 0.25}};

    check_filters(rows, COUNT(rows), f, COUNT(f));
}

/* Members that are encoded once per process are filtered as any other. */
static void event_filters_see_groups(void **state)
{
#define WHO "\"proc\":\"prog\",\"pid\":42,\"host\":\"h1\""
#define OWNER "\"proc_uid\":1000,\"proc_gid\":100,\"proc_cgroup\":\"0::/u\""
    static const struct filter_row rows[] = {
        {".*", ".*", ".*", "{" WHO ",\"op\":\"open\"," OWNER "}"},
        {".*", ".*", "^h1$", "{" WHO ",\"op\":\"open\"," OWNER "}"},
        {".*", ".*", "^1000$", "{" WHO ",\"op\":\"open\"," OWNER "}"},
        {".*", "^p", ".*", "{\"proc\":\"prog\",\"pid\":42," OWNER "}"},
        {".*", "op|gid|host", "^0::", "{\"host\":\"h1\",\"op\":\"open\",\"proc_gid\":100}"},
        {".*", ".*", "who|owner", NULL},
    };
    static const struct tm_field f[] = {{.name = "who", .type = TM_WHO}, STR("op", "open"),
                                        {.name = "owner", .type = TM_OWNER}};

    check_filters(rows, COUNT(rows), f, COUNT(f));
}

/* HTTP's events may have hundreds of header fields. */
static void event_filters_see_all(void **state)
{
    enum { MANY = 300 };
    static const struct filter_row rows[] = {{".*", "^last$", ".*", "{\"last\":7}"}, {".*", "^last$", "^7$", "{\"last\":7}"}};
    struct tm_field f[MANY];

    for (int i = 0; i < MANY; i++)
        f[i] = (struct tm_field){.name = i == MANY - 1 ? "last" : "other", .type = TM_UINT, .v.u = i == MANY - 1 ? 7 : 1};
    check_filters(rows, COUNT(rows), f, COUNT(f));
}

/* --- rate --- */

static void limiter_arithmetic(void **state)
{
    struct limit none = {.rate = 0}, l = {.rate = 10}, odd = {.rate = 3}, big = {.rate = UINT32_MAX};
    int passed = 0;

    for (int i = 0; i < 1000; i++)
        assert_true(limit_take(&none, T0));

    for (int i = 0; i < 25; i++)
        passed += limit_take(&l, T0);
    assert_int_equal(passed, 10);
    assert_false(limit_take(&l, T0 + SECOND / 10 - 1));
    assert_true(limit_take(&l, T0 + SECOND / 10));
    assert_false(limit_take(&l, T0 + SECOND / 10));
    assert_false(limit_take(&l, T0)); /* a late one earns nothing */
    for (passed = 0; limit_take(&l, T0 + 3600 * SECOND);)
        passed++;
    assert_int_equal(passed, 10); /* never more than one second's worth */
    for (passed = 0; limit_take(&l, T0);) /* the clock was set back by an hour */
        passed++;
    assert_int_equal(passed, 0);
    for (passed = 0; limit_take(&l, T0 + SECOND / 2);)
        passed++;
    assert_int_equal(passed, 5);

    passed = 0; /* steady: exactly 3 a second after the first burst, whatever the steps */
    for (uint64_t ms = 0; ms <= 100000; ms++)
        passed += limit_take(&odd, T0 + ms * 1000000);
    assert_int_equal(passed, 3 + 300);

    assert_true(limit_take(&big, 0));
    assert_true(limit_take(&big, UINT64_MAX));
}

static void limiter_holds_back_and_tells(void **state)
{
    struct bed *b = BED("event.format.maxeventpersec", "100", "event.watch", "[fs, console]");
    struct tm_stats stats;
    char *text;

    for (int i = 0; i < 200; i++)
        send_event(b, CFG_EW_FS, "fs.open", T0, 0, NULL, 0);
    for (int i = 0; i < 50; i++) /* console lines count, too */
        telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 1, "x\n", 2, 0, NULL);
    text = events(b);
    assert_int_equal(count(text, "\n"), 100);
    free(text);
    telemetry_finish(b->t, 1000);
    telemetry_stats(b->t, &stats);
    assert_int_equal(stats.held_back, 150);
    assert_int_equal(stats.events, 101);
    text = read_all(b->events);
    check_json(text);
    assert_int_equal(count(text, "\"sourcetype\":\"metric\""), 1);
    assert_int_equal(count(text, "\"source\":\"notice\""), 1);
    assert_non_null(strstr(text, "\"data\":\"Truncated events. Your rate exceeded 100 events per second; 150 were held "
                                 "back (150 since the start)\"}}\n"));
    free(text);
    close_bed(b);
}

static void notice_comes_within_seconds_while_running(void **state)
{
    struct bed *b = BED("event.format.maxeventpersec", "1", "event.watch", "[fs]");
    char *text;

    for (int i = 0; i < 5; i++)
        send_event(b, CFG_EW_FS, "fs.open", T0, 0, NULL, 0);
    event_base_loopexit(b->base, &(struct timeval){.tv_sec = 1, .tv_usec = 700000});
    event_base_dispatch(b->base);
    text = events(b);
    assert_int_equal(count(text, "\n"), 2);
    assert_int_equal(count(text, "; 4 were held back (4 since the start)"), 1);
    assert_non_null(
        strstr(text, "\"cmd\":\"prog -x\",\"pid\":42,\"data\":\"Truncated")); /* the process that was limited */
    free(text);
    close_bed(b);
}

/* --- limits of notices --- */

static void send_notice(struct bed *b, struct tm_rule *rule, uint64_t time_ns, const char *source)
{
    struct tm_field f = STR("why", "tested");
    struct tm_event e = {.watch = CFG_EW_NOTICE, .source = source, .time_ns = time_ns, .fields = &f, .field_count = 1};

    telemetry_notice(b->t, &b->p, rule, &e);
}

static void notices_have_limits_of_their_own(void **state)
{
    struct bed *b = BED("event.format.maxeventpersec", "1", "notice.maxpersec", "12", "notice.maxperrule", "5", "event.watch",
                        "[fs, notice]");
    struct tm_rule one = {.name = "one"}, two = {.name = "two"}, three = {.name = "three"};
    struct tm_stats stats;
    char *text;

    send_event(b, CFG_EW_FS, "fs.open", T0, 0, NULL, 0);
    send_event(b, CFG_EW_FS, "fs.open", T0, 0, NULL, 0); /* held back, which no notice is for that */
    for (int i = 0; i < 8; i++) {
        send_notice(b, &one, T0, "notice.exec");
        send_notice(b, &two, T0, "notice.net");
        send_notice(b, &three, T0, "notice.dns");
    }
    text = events(b); /* 4 of each: their own limits are not reached */
    assert_int_equal(count(text, "\"notice.exec\""), 4);
    assert_int_equal(count(text, "\"notice.net\""), 4);
    assert_int_equal(count(text, "\"notice.dns\""), 4);
    assert_int_equal(count(text, "fs.open"), 1);
    assert_int_equal(count(text, "\"sourcetype\":\"notice\""), 12);
    free(text);
    for (int i = 0; i < 8; i++)
        send_notice(b, &one, T0 + 2 * SECOND, "notice.exec");
    telemetry_finish(b->t, 1000);
    telemetry_stats(b->t, &stats);
    text = read_all(b->events);
    check_json(text);
    assert_int_equal(count(text, "\"notice.exec\""), 4 + 5);
    assert_int_equal(stats.held_back, 1 + 3 * 4 + 3);
    assert_int_equal(count(text, "\"source\":\"notice.held\""), 3);
    assert_non_null(strstr(text, "\"rule\":\"one\",\"held\":7,\"held_total\":7}"));
    assert_non_null(strstr(text, "\"rule\":\"three\",\"held\":4,\"held_total\":4}"));
    assert_int_equal(one.held, 0);
    free(text);
    close_bed(b);
}

static void held_notices_are_told_while_running(void **state)
{
    struct bed *b = BED("notice.maxperrule", "1", "event.watch", "[notice]");
    struct tm_rule rule = {.name = "r"};
    char *text;

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++)
            send_notice(b, &rule, T0 + (uint64_t)round * 100 * SECOND, "notice.exec");
        event_base_loopexit(b->base, &(struct timeval){.tv_sec = 1, .tv_usec = 700000});
        event_base_dispatch(b->base);
    }
    text = events(b);
    assert_non_null(strstr(text, "\"data\":{\"proc\":\"prog\",\"pid\":42,\"host\":\"h1\",\"rule\":\"r\",\"held\":2,\"held_total\":2}"));
    assert_non_null(strstr(text, "\"rule\":\"r\",\"held\":2,\"held_total\":4}"));
    assert_int_equal(count(text, "notice.held"), 2);
    free(text);
    close_bed(b);
}

static void notices_pass_filters(void **state)
{
    struct bed *b = BED("notice.enable", "true", "notice.name", "exec$", "notice.value", "^tested$", "notice.maxpersec", "0",
                        "notice.maxperrule", "0");
    struct tm_rule rule = {.name = "r"};
    char *text;

    for (int i = 0; i < 1000; i++)
        send_notice(b, &rule, T0, i % 2 ? "notice.exec" : "notice.net");
    text = events(b);
    assert_int_equal(count(text, "\n"), 500);
    assert_int_equal(count(text, "\"notice.exec\""), 500);
    free(text);
    close_bed(b);
}

/* --- lines --- */

static void message(struct bed *b, uint64_t time_ns, uint64_t channel, const char *text)
{
    telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", time_ns, channel, text, strlen(text), 0, NULL);
}

#define LINE(time, channel, text) \
    ENVELOPE("console", time, "stdout", channel) ",\"data\":{\"message\":\"" text "\"}}}\n"

static void one_line_is_one_event(void **state)
{
    struct bed *b = BED("event.watch", "[console]");

    message(b, T0, 5, "one\ntwo\n\nthr");
    expect_events(b, LINE("1700000000.000000", "5", "one") LINE("1700000000.000000", "5", "two")
                     LINE("1700000000.000000", "5", ""));
    message(b, T0 + SECOND, 6, "other\n");          /* another descriptor: not mixed */
    message(b, T0 + 2 * SECOND, 5, "ee\nfour");     /* the time is that of the line's first byte */
    expect_events(b, LINE("1700000001.000000", "6", "other") LINE("1700000000.000000", "5", "three"));
    message(b, T0 + 3 * SECOND, 5, "\n");
    expect_events(b, LINE("1700000002.000000", "5", "four"));
    message(b, T0 + 4 * SECOND, 5, "no newline");
    telemetry_process_end(b->t, &b->p, T0 + 5 * SECOND);
    expect_events(b, LINE("1700000004.000000", "5", "no newline"));
    close_bed(b);
}

static void unfinished_line_waits_two_seconds(void **state)
{
    struct bed *b = BED("event.watch", "[console]");

    message(b, T0, 5, "prompt> ");
    event_base_loopexit(b->base, &(struct timeval){.tv_sec = 1, .tv_usec = 500000});
    event_base_dispatch(b->base);
    expect_events(b, "");
    event_base_loopexit(b->base, &(struct timeval){.tv_sec = 1, .tv_usec = 300000});
    event_base_dispatch(b->base);
    expect_events(b, LINE("1700000000.000000", "5", "prompt> "));
    message(b, T0 + SECOND, 5, "quit\n");
    expect_events(b, LINE("1700000001.000000", "5", "quit"));
    close_bed(b);
}

static void long_lines_are_cut_between_characters(void **state)
{
    struct bed *b = BED("event.watch", "[console]");
    size_t sizes[3] = {32767, 32768, 5};
    struct buf text = BUF_INIT;
    char *out, *p;

    for (size_t i = 0; i < 32767; i++)
        buf_char(&text, 'a');
    buf_str(&text, "\xc3\xa4"); /* would be divided at 32768 */
    for (size_t i = 0; i < 32766 + 5; i++)
        buf_char(&text, 'b');
    for (int way = 0; way < 3; way++) {
        buf_char(&text, '\n');
        if (way == 0) { /* in one piece */
            telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 5, text.p, text.len, 0, NULL);
        } else if (way == 1) { /* without the newline at first */
            telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 5, text.p, text.len - 1, 0, NULL);
            message(b, T0, 5, "\n");
        } else {
            for (size_t i = 0; i < text.len; i += 1000)
                telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 5, text.p + i,
                                  text.len - i < 1000 ? text.len - i : 1000, 0, NULL);
        }
        text.len--;
        p = out = events(b);
        for (int i = 0; i < 3; i++) {
            char *from = strstr(p, "\"message\":\""), *to;

            assert_non_null(from);
            from += 11;
            to = strchr(from, '"');
            assert_int_equal(to - from, sizes[i]);
            p = to;
        }
        assert_int_equal(count(out, "\n"), 3);
        free(out);
        assert_int_equal(truncate(b->events, 0), 0);
    }
    buf_free(&text);
    close_bed(b);
}

static void value_filter_sees_the_raw_text(void **state)
{
    struct bed *b = open_bed("event.watch", "[console]", NULL);

    free(b->cfg->event.watch[CFG_EW_CONSOLE].value);
    b->cfg->event.watch[CFG_EW_CONSOLE].value = xstrdup("^say \"hi\"$");
    start(b);
    message(b, T0, 5, "say \"hi\"\nsay \"hi\" \n");
    expect_events(b, LINE("1700000000.000000", "5", "say \\\"hi\\\""));
    close_bed(b);
}

static void binary_output_becomes_one_placeholder(void **state)
{
    struct bed *b = open_bed("event.watch", "[console]", NULL);

    b->cfg->event.watch[CFG_EW_CONSOLE].allowbinary = false;
    start(b);
    message(b, T0, 5, "gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x98\x80 \x1b[1mbold\x1b[0m\t\b\a\r\n"); /* text */
    expect_events(b, LINE("1700000000.000000", "5",
                          "gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x98\x80 \\u001b[1mbold\\u001b[0m\\t\\b\\u0007\\r"));
    message(b, T0, 5, "half");
    telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 5, "\x7f" "ELF\0", 5, 0, NULL);
    message(b, T0, 5, "\x01\x02\n");
    message(b, T0, 5, "\xff\n");
    expect_events(b, LINE("1700000000.000000", "5", "half")
                     LINE("1700000000.000000", "5", "-- binary data ignored --"));
    message(b, T0, 5, "text\n");
    message(b, T0, 5, "\x01\n");
    expect_events(b, LINE("1700000000.000000", "5", "text")
                     LINE("1700000000.000000", "5", "-- binary data ignored --"));
    message(b, T0, 6, "a \xe2\x82"); /* a character divided between two writes is text */
    message(b, T0, 6, "\xac b\n");
    expect_events(b, LINE("1700000000.000000", "6", "a \xe2\x82\xac b"));
    message(b, T0, 6, "a \xe2\x82");
    message(b, T0, 6, "x\n");
    expect_events(b, LINE("1700000000.000000", "6", "a \xef\xbf\xbd\xef\xbf\xbdx"));
    message(b, T0, 7, "\xac\n"); /* without a beginning it isn't */
    expect_events(b, LINE("1700000000.000000", "7", "-- binary data ignored --"));
    close_bed(b);
}

static void binary_output_is_kept_when_allowed(void **state)
{
    struct bed *b = BED("event.watch", "[console]");

    telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 5, "a\0\xff\n", 4, 0, NULL);
    expect_events(b, LINE("1700000000.000000", "5", "a\\u0000\xef\xbf\xbd"));
    close_bed(b);
}

static void data(struct bed *b, const char *p, size_t len)
{
    telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 5, p, len, 0, NULL);
}

/* One event for all of them, whatever they are divided into and however many newlines there are. */
static void binary_streams_are_bursts(void **state)
{
    char text[512];
    struct bed *b = BED("event.watch", "[console]");
    char random[100000];
    uint32_t x = 1;

    for (size_t i = 0; i < sizeof(random); i++) {
        x = x * 1664525 + 1013904223;
        random[i] = (char)(x >> 24);
    }
    message(b, T0, 5, "before\nhalf");
    data(b, random, 50000);
    for (size_t i = 50000; i < sizeof(random); i += 100)
        data(b, random + i, 100);
    expect_events(b, LINE("1700000000.000000", "5", "before") LINE("1700000000.000000", "5", "half"));
    message(b, T0, 5, "behind\n");
    expect_events(b, LINE("1700000000.000000", "5", "-- 100000 bytes of binary data --")
                     LINE("1700000000.000000", "5", "behind"));
    /* Text of all languages and encodings, also if it is odd, is text. */
    message(b, T0, 5, "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xe4\xbd\xa0\xe5\xa5\xbd \xe0\xa4\xa8\n");
    expect_events(b, LINE("1700000000.000000", "5",
                          "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xe4\xbd\xa0\xe5\xa5\xbd \xe0\xa4\xa8"));
    message(b, T0, 5, "f\xfcr \xe4lter\n");
    expect_events(b, LINE("1700000000.000000", "5", "f\xef\xbf\xbdr \xef\xbf\xbdlter"));
    data(b, "a/b\0a/name\0of/files\0from/find\n", 30);
    expect_events(b, LINE("1700000000.000000", "5", "a/b\\u0000a/name\\u0000of/files\\u0000from/find"));
    message(b, T0, 5, "\x1b[2J\x1b[1;1H\x1b[31mred\x1b[0m\b\b\r\n");
    expect_events(b, LINE("1700000000.000000", "5", "\\u001b[2J\\u001b[1;1H\\u001b[31mred\\u001b[0m\\b\\b\\r"));
    /* The end comes without text. */
    data(b, random, 4096 * 3);
    assert_int_equal(telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 5, random, 512, 1000, NULL), TM_DATA);
    /* A sample that looks like text: it is counted, and asks for the whole of the next. */
    memset(text, 'x', sizeof(text));
    assert_int_equal(telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 5, text, 512, 1000, NULL), TM_UNSURE);
    telemetry_process_end(b->t, &b->p, T0);
    expect_events(b, LINE("1700000000.000000", "5", "-- 15312 bytes of binary data --"));
    close_bed(b);
}

static void file_lines_have_the_path_as_source(void **state)
{
    struct bed *b = BED("event.watch", "[file]");

    assert_true(telemetry_wants_event(b->t, CFG_EW_FILE, "/var/log/app", 12));
    assert_true(telemetry_wants_event(b->t, CFG_EW_FILE, "/home/a/x.log", 13));
    assert_true(telemetry_wants_event(b->t, CFG_EW_FILE, "/home/a/x.log.1", 15));
    assert_false(telemetry_wants_event(b->t, CFG_EW_FILE, "/home/a/x.c", 11));
    telemetry_message(b->t, &b->p, CFG_EW_FILE, "/home/a/x.c", T0, 5, "no\n", 3, 0, NULL);
    telemetry_message(b->t, &b->p, CFG_EW_FILE, "/home/a/x.log", T0, 5, "yes\n", 4, 0, NULL);
    expect_events(b, ENVELOPE("file", "1700000000.000000", "/home/a/x.log", "5") ",\"data\":{\"message\":\"yes\"}}}\n");
    close_bed(b);
}

static void thousands_of_descriptors_with_unfinished_lines(void **state)
{
    struct bed *b = BED("event.watch", "[console]", "event.format.maxeventpersec", "0");
    char *text;

    for (uint64_t i = 1; i <= 3000; i++)
        message(b, T0, i, "x");
    telemetry_process_end(b->t, &b->p, T0);
    text = events(b);
    assert_int_equal(count(text, "\"message\":\"x\""), 3000);
    free(text);
    close_bed(b);
}

/* --- metrics --- */

static void sample(struct bed *b, enum tm_metric m, int64_t value, const char *class_, uint64_t numops, bool summary,
                   const struct tm_field *f, size_t n)
{
    telemetry_sample(b->t, &b->p, &(struct tm_sample){.metric = m, .value = value, .numops = numops, .time_ns = T0,
                                                      .class_ = class_, .fields = f, .field_count = n,
                                                      .summary_only = summary});
}

static struct bed *metric_bed(unsigned verbosity, const char *format)
{
    char v[4];

    snprintf(v, sizeof(v), "%u", verbosity);
    return BED("metric.format.verbosity", v, "metric.format.type", format, "metric.format.statsdmaxlen", "4096",
               "event.enable", "false");
}

/* Independent of the catalogue in metric.c: docs/data-model.md. */
static const struct {
    enum tm_metric m;
    const char *name, *letter, *type, *unit;
    unsigned per_op;
} catalogue[] = {
    {TM_FS_OPEN, "fs.open", "c", "counter", "operation", 6},
    {TM_FS_CLOSE, "fs.close", "c", "counter", "operation", 6},
    {TM_FS_READ, "fs.read", "c", "counter", "byte", 9},
    {TM_FS_WRITE, "fs.write", "c", "counter", "byte", 9},
    {TM_FS_SEEK, "fs.seek", "c", "counter", "operation", 8},
    {TM_FS_STAT, "fs.stat", "c", "counter", "operation", 7},
    {TM_FS_DURATION, "fs.duration", "h", "histogram", "microsecond", 9},
    {TM_FS_ERROR, "fs.error", "c", "counter", "operation", 5},
    {TM_FS_DELETE, "fs.delete", "c", "counter", "operation", 6},
    {TM_FS_CREATE, "fs.create", "c", "counter", "operation", 6},
    {TM_FS_RENAME, "fs.rename", "c", "counter", "operation", 6},
    {TM_FS_CHANGE, "fs.change", "c", "counter", "operation", 6},
    {TM_FS_SYNC, "fs.sync", "c", "counter", "operation", 8},
    {TM_NET_RX, "net.rx", "c", "counter", "byte", 9},
    {TM_NET_TX, "net.tx", "c", "counter", "byte", 9},
    {TM_NET_OPEN, "net.open", "c", "counter", "connection", 7},
    {TM_NET_CLOSE, "net.close", "c", "counter", "connection", 7},
    {TM_NET_DURATION, "net.duration", "ms", "timer", "millisecond", 7},
    {TM_NET_PORT, "net.port", "g", "gauge", "instance", 7},
    {TM_NET_TCP, "net.tcp", "g", "gauge", "connection", 7},
    {TM_NET_UDP, "net.udp", "g", "gauge", "connection", 7},
    {TM_NET_OTHER, "net.other", "g", "gauge", "connection", 7},
    {TM_NET_ERROR, "net.error", "c", "counter", "operation", 5},
    {TM_PROC_START, "proc.start", "c", "counter", "process", 0},
    {TM_PROC_CPU, "proc.cpu", "c", "counter", "microsecond", 0},
    {TM_PROC_CPU_PERC, "proc.cpu_perc", "g", "gauge", "percent", 0},
    {TM_PROC_MEM, "proc.mem", "g", "gauge", "kibibyte", 0},
    {TM_PROC_THREAD, "proc.thread", "g", "gauge", "thread", 0},
    {TM_PROC_FD, "proc.fd", "g", "gauge", "file", 0},
    {TM_PROC_CHILD, "proc.child", "g", "gauge", "process", 0},
    {TM_HTTP_REQ, "http.req", "c", "counter", "request", 10},
    {TM_HTTP_DURATION_SERVER, "http.duration.server", "ms", "timer", "millisecond", 10},
    {TM_HTTP_DURATION_CLIENT, "http.duration.client", "ms", "timer", "millisecond", 10},
    {TM_HTTP_REQ_LENGTH, "http.req.content_length", "c", "counter", "byte", 10},
    {TM_HTTP_RESP_LENGTH, "http.resp.content_length", "c", "counter", "byte", 10},
    {TM_DNS_REQ, "dns.req", "c", "counter", "request", 6},
    {TM_DNS_DURATION, "dns.duration", "ms", "timer", "millisecond", 6},
};

static void each_metric_at_each_verbosity(void **state)
{
    assert_int_equal(COUNT(catalogue) + 1, TM_METRIC_MAX); /* and scope.lost */
    for (unsigned v = 0; v <= 9; v++)
        for (int ndjson = 0; ndjson < 2; ndjson++) {
            struct bed *b = metric_bed(v, ndjson ? "ndjson" : "statsd");

            for (size_t i = 0; i < COUNT(catalogue); i++) {
                bool per_op = v >= catalogue[i].per_op, hundredths = catalogue[i].m == TM_PROC_CPU_PERC;
                bool thousandths = !strcmp(catalogue[i].unit, "millisecond") && catalogue[i].m != TM_NET_DURATION;
                int64_t value = thousandths ? 3000 : 3;
                char *now, *later, start_text[120];

                assert_int_equal(telemetry_per_op(b->t, catalogue[i].m), per_op);
                sample(b, catalogue[i].m, value, NULL, 0, false, NULL, 0);
                sample(b, catalogue[i].m, value, NULL, 0, false, NULL, 0);
                now = metrics(b);
                assert_int_equal(count(now, "\n"), per_op ? 2 : 0);
                telemetry_summarise(b->t, &b->p, T0);
                later = metrics(b);
                assert_int_equal(count(later, "\n"), per_op ? 2 : 1);
                if (ndjson)
                    snprintf(start_text, sizeof(start_text),
                             "{\"type\":\"metric\",\"body\":{\"_metric\":\"%s\",\"_metric_type\":\"%s\",\"_value\":",
                             catalogue[i].name, catalogue[i].type);
                else
                    snprintf(start_text, sizeof(start_text), "%s:", catalogue[i].name);
                assert_memory_equal(later, start_text, strlen(start_text));
                snprintf(start_text, sizeof(start_text), ndjson ? "\"unit\":\"%s\"" : "unit:%s", catalogue[i].unit);
                assert_int_equal(!!strstr(later, start_text), v >= 1);
                assert_int_equal(!!strstr(later, "summary"), v >= 1 && !per_op);
                if (!ndjson) {
                    bool mean_or_last = per_op || catalogue[i].letter[0] != 'c';

                    snprintf(start_text, sizeof(start_text), ":%s|%s%s", hundredths ? "0.03" : thousandths && per_op ? "3.00" : mean_or_last ? "3" : "6",
                             catalogue[i].letter, v >= 1 ? "|#" : "\n");
                    assert_non_null(strstr(later, start_text));
                }
                if (ndjson)
                    check_json(later);
                free(now);
                free(later);
                /* what is a gauge stays and would come again */
                close_bed(b);
                b = metric_bed(v, ndjson ? "ndjson" : "statsd");
            }
            close_bed(b);
        }
}

static void tags_by_verbosity(void **state)
{
    static const struct tm_field f[] = {
        STR("http_status_code", "200"), STR("data", "clear"), STR("class", "c"), STR("proto", "TCP"), STR("op", "read"),
        STR("http_target", "/x"), STR("file", "/f"), STR("domain", "AF_INET"), STR("localip", "1"), STR("port", "80"),
        UINT("fd", 3), STR("args", "a"), UINT("duration", 1), UINT("numops", 2),
        {.name = "mine", .type = TM_STR, .level = 9, .v.str = {"m", 1}}, /* the caller's own level */
    };
    static const char *const lines[] = {
        "proc.mem:7|g\n",
        "proc.mem:7|g|#http_status_code:200,data:clear,unit:kibibyte\n",
        "proc.mem:7|g|#http_status_code:200,data:clear,class:c,proto:TCP,unit:kibibyte\n",
        "proc.mem:7|g|#http_status_code:200,data:clear,class:c,proto:TCP,op:read,unit:kibibyte\n",
        "proc.mem:7|g|#proc:prog,pid:42,host:h1,http_status_code:200,data:clear,class:c,proto:TCP,op:read,"
        "http_target:/x,unit:kibibyte\n",
        "proc.mem:7|g|#proc:prog,pid:42,host:h1,http_status_code:200,data:clear,class:c,proto:TCP,op:read,"
        "http_target:/x,file:/f,domain:AF_INET,unit:kibibyte\n",
        "proc.mem:7|g|#proc:prog,pid:42,host:h1,http_status_code:200,data:clear,class:c,proto:TCP,op:read,"
        "http_target:/x,file:/f,domain:AF_INET,localip:1,port:80,unit:kibibyte\n",
        "proc.mem:7|g|#proc:prog,pid:42,host:h1,http_status_code:200,data:clear,class:c,proto:TCP,op:read,"
        "http_target:/x,file:/f,domain:AF_INET,localip:1,port:80,fd:3,args:a,unit:kibibyte\n",
        "proc.mem:7|g|#proc:prog,pid:42,host:h1,http_status_code:200,data:clear,class:c,proto:TCP,op:read,"
        "http_target:/x,file:/f,domain:AF_INET,localip:1,port:80,fd:3,args:a,duration:1,numops:2,unit:kibibyte\n",
        "proc.mem:7|g|#proc:prog,pid:42,host:h1,http_status_code:200,data:clear,class:c,proto:TCP,op:read,"
        "http_target:/x,file:/f,domain:AF_INET,localip:1,port:80,fd:3,args:a,duration:1,numops:2,mine:m,"
        "unit:kibibyte\n",
    };

    for (unsigned v = 0; v <= 9; v++) {
        struct bed *b = metric_bed(v, "statsd");
        char *text;

        sample(b, TM_PROC_MEM, 7, NULL, 0, false, f, COUNT(f));
        expect_metrics(b, lines[v]);
        close_bed(b);

        b = metric_bed(v, "ndjson"); /* the same tags */
        sample(b, TM_PROC_MEM, 7, NULL, 0, false, f, COUNT(f));
        text = metrics(b);
        check_json(text);
        assert_int_equal(count(text, "\":"),
                         count(lines[v], ":") - 1 + 6); /* type body _metric _metric_type _value _time */
        free(text);
        close_bed(b);
    }
}

static void ndjson_metric_lines(void **state)
{
    static const struct tm_field f[] = {UINT("fd", 9), STR("op", "read"), STR("file", "/etc/x"), UINT("numops", 1)};
    struct bed *b = metric_bed(9, "ndjson");

    sample(b, TM_FS_READ, 8245, NULL, 1, false, f, COUNT(f));
    expect_metrics(
        b, "{\"type\":\"metric\",\"body\":{\"_metric\":\"fs.read\",\"_metric_type\":\"counter\",\"_value\":8245,"
           "\"proc\":\"prog\",\"pid\":42,\"fd\":9,\"host\":\"h1\",\"op\":\"read\",\"file\":\"/etc/x\","
           "\"numops\":1,\"unit\":\"byte\",\"_time\":1700000000.000000}}\n");
    sample(b, TM_PROC_CPU_PERC, 125, NULL, 0, false, NULL, 0);
    expect_metrics(b, "{\"type\":\"metric\",\"body\":{\"_metric\":\"proc.cpu_perc\",\"_metric_type\":\"gauge\","
                      "\"_value\":1.25,\"proc\":\"prog\",\"pid\":42,\"host\":\"h1\",\"unit\":\"percent\","
                      "\"_time\":1700000000.000000}}\n");
    close_bed(b);
    b = metric_bed(4, "ndjson");
    sample(b, TM_FS_READ, 8245, NULL, 2, true, NULL, 0);
    telemetry_summarise(b->t, &b->p, T0 + 10 * SECOND);
    expect_metrics(
        b, "{\"type\":\"metric\",\"body\":{\"_metric\":\"fs.read\",\"_metric_type\":\"counter\",\"_value\":8245,"
           "\"proc\":\"prog\",\"pid\":42,\"host\":\"h1\",\"unit\":\"byte\",\"summary\":\"true\","
           "\"_time\":1700000010.000000}}\n");
    close_bed(b);
}

static void statsd_metric_lines(void **state)
{
    static const struct tm_field rw[] = {UINT("fd", 9), STR("op", "read"), STR("file", "/etc/x"), UINT("numops", 1)};
    static const struct tm_field err[] = {STR("op", "openat"), STR("file", "/x"), STR("errno", "ENOENT")};
    struct bed *b = metric_bed(9, "statsd");

    sample(b, TM_FS_READ, 8245, NULL, 1, false, rw, COUNT(rw));
    expect_metrics(b, "fs.read:8245|c|#proc:prog,pid:42,fd:9,host:h1,op:read,file:/etc/x,numops:1,unit:byte\n");
    sample(b, TM_FS_ERROR, 1, "open_close", 0, false, err, COUNT(err));
    expect_metrics(b, "fs.error:1|c|#proc:prog,pid:42,host:h1,op:openat,file:/x,errno:ENOENT,class:open_close,"
                      "unit:operation\n");
    sample(b, TM_FS_OPEN, 1, NULL, 1, false, err, 2); /* numops is of no interest where it is always 1 */
    expect_metrics(b, "fs.open:1|c|#proc:prog,pid:42,host:h1,op:openat,file:/x,unit:operation\n");
    sample(b, TM_NET_RX, 5, "inet_tcp", 0, false, NULL, 0); /* the bucket is for summaries */
    expect_metrics(b, "net.rx:5|c|#proc:prog,pid:42,host:h1,unit:byte\n");
    sample(b, TM_PROC_CPU_PERC, 125, NULL, 0, false, NULL, 0);
    expect_metrics(b, "proc.cpu_perc:1.25|g|#proc:prog,pid:42,host:h1,unit:percent\n");
    sample(b, TM_PROC_START, 1, NULL, 0, false, NULL, 0);
    expect_metrics(b, "proc.start:1|c|#proc:prog,pid:42,gid:100,groupname:users,uid:1000,username:ann,host:h1,"
                      "args:prog -x,unit:process\n");
    close_bed(b);
    b = metric_bed(0, "statsd");
    sample(b, TM_FS_OPEN, 12, NULL, 0, true, NULL, 0);
    telemetry_summarise(b->t, &b->p, T0);
    expect_metrics(b, "fs.open:12|c\n");
    close_bed(b);
}

static void sums_are_deltas_per_period(void **state)
{
    struct bed *b = metric_bed(1, "statsd");

    sample(b, TM_FS_OPEN, 1, NULL, 0, false, NULL, 0);
    sample(b, TM_FS_OPEN, 41, NULL, 0, true, NULL, 0);
    sample(b, TM_FS_WRITE, INT64_MAX, NULL, 1, true, NULL, 0);
    sample(b, TM_FS_WRITE, 1, NULL, 1, true, NULL, 0); /* saturates, doesn't wrap */
    telemetry_summarise(b->t, &b->p, T0);
    expect_metrics(b, "fs.open:42|c|#unit:operation,summary:true\n"
                      "fs.write:9223372036854775807|c|#unit:byte,summary:true\n");
    telemetry_summarise(b->t, &b->p, T0);
    expect_metrics(b, "");
    sample(b, TM_FS_OPEN, 1, NULL, 0, false, NULL, 0);
    telemetry_process_end(b->t, &b->p, T0);
    expect_metrics(b, "fs.open:1|c|#unit:operation,summary:true\n");
    close_bed(b);
}

static void gauges_are_told_also_when_zero(void **state)
{
    struct bed *b = metric_bed(1, "statsd");

    telemetry_summarise(b->t, &b->p, T0);
    expect_metrics(b, ""); /* unknown is not zero */
    sample(b, TM_NET_TCP, 2, NULL, 0, false, NULL, 0);
    sample(b, TM_NET_TCP, 1, NULL, 0, false, NULL, 0);
    telemetry_summarise(b->t, &b->p, T0);
    telemetry_summarise(b->t, &b->p, T0);
    expect_metrics(b, "net.tcp:1|g|#unit:connection,summary:true\nnet.tcp:1|g|#unit:connection,summary:true\n");
    sample(b, TM_NET_TCP, 0, NULL, 0, false, NULL, 0);
    telemetry_summarise(b->t, &b->p, T0);
    telemetry_summarise(b->t, &b->p, T0);
    expect_metrics(b, "net.tcp:0|g|#unit:connection,summary:true\nnet.tcp:0|g|#unit:connection,summary:true\n");
    close_bed(b);
}

static void durations_are_means(void **state)
{
    for (unsigned v = 1; v < 9; v++) { /* fs.duration comes at every verbosity */
        struct bed *b = metric_bed(v, "statsd");
        char *text;

        sample(b, TM_FS_DURATION, 7, NULL, 2, true, NULL, 0);
        sample(b, TM_FS_DURATION, 3, NULL, 1, true, NULL, 0);
        telemetry_summarise(b->t, &b->p, T0);
        text = metrics(b);
        assert_memory_equal(text, "fs.duration:3.33|h|#", 20);
        assert_int_equal(!!strstr(text, ",numops:3,unit:microsecond"), v >= 8);
        free(text);
        assert_int_equal(truncate(b->metrics, 0), 0);
        if (v < 7) {
            sample(b, TM_NET_DURATION, 10, NULL, 1, false, NULL, 0);
            sample(b, TM_NET_DURATION, 30, NULL, 0, false, NULL, 0); /* without a count it stands for one */
            telemetry_summarise(b->t, &b->p, T0);
            text = metrics(b);
            assert_memory_equal(text, "net.duration:20|ms|#", 20);
            free(text);
        }
        close_bed(b);
    }
}

static void classes_are_separate(void **state)
{
    struct bed *b = metric_bed(2, "statsd");
    char name[20], *text;

    sample(b, TM_NET_RX, 1, "inet_tcp", 1, true, NULL, 0);
    sample(b, TM_NET_RX, 2, "unix_tcp", 1, true, NULL, 0);
    sample(b, TM_NET_RX, 4, "inet_tcp", 1, true, NULL, 0);
    sample(b, TM_FS_ERROR, 1, "stat", 0, false, NULL, 0);
    sample(b, TM_FS_ERROR, 1, "open_close", 0, false, NULL, 0);
    telemetry_summarise(b->t, &b->p, T0);
    expect_metrics(b, "fs.error:1|c|#class:stat,unit:operation,summary:true\n"
                      "fs.error:1|c|#class:open_close,unit:operation,summary:true\n"
                      "net.rx:5|c|#unit:byte,class:inet_tcp,summary:true\n"
                      "net.rx:2|c|#unit:byte,class:unix_tcp,summary:true\n");
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof(name), "class%d", i);
        sample(b, TM_NET_TX, 1, name, 1, true, NULL, 0);
    }
    telemetry_summarise(b->t, &b->p, T0);
    text = metrics(b);
    assert_int_equal(count(text, "net.tx:1|c"), 20); /* four are taken */
    assert_int_equal(count(text, "net.tx:10|c|#unit:byte,class:other,summary:true\n"), 1);
    free(text);
    close_bed(b);
}

/* A summary for each combination of tags, as far as the verbosity lets them through. */
static void http_metrics_by_target(void **state)
{
    struct tm_field f[] = {{.name = "http_target", .type = TM_STR, .level = 4},
                           {.name = "http_status_code", .type = TM_UINT, .level = 1}};
    struct bed *b;
    char *text, *again;

    (void)state;
    for (unsigned v = 0; v <= 4; v += 4) {
        b = metric_bed(v, "statsd");
        for (unsigned i = 0; i < 6; i++) {
            f[0].v.str.p = i % 2 ? "/b" : "/a";
            f[0].v.str.len = 2;
            f[1].v.u = i == 5 ? 404 : 200;
            sample(b, TM_HTTP_REQ, 1, NULL, 1, false, f, 2);
            sample(b, TM_HTTP_DURATION_SERVER, 1000 + 500 * i, NULL, 1, false, f, 1);
        }
        telemetry_summarise(b->t, &b->p, T0);
        text = metrics(b);
        assert_string_equal(text, v ? "http.req:3|c|#http_target:/a,http_status_code:200,proc:prog,pid:42,host:h1,unit:request,summary:true\n"
                                      "http.duration.server:2|ms|#http_target:/a,proc:prog,pid:42,host:h1,unit:millisecond,summary:true\n"
                                      "http.req:2|c|#http_target:/b,http_status_code:200,proc:prog,pid:42,host:h1,unit:request,summary:true\n"
                                      "http.duration.server:2.50|ms|#http_target:/b,proc:prog,pid:42,host:h1,unit:millisecond,summary:true\n"
                                      "http.req:1|c|#http_target:/b,http_status_code:404,proc:prog,pid:42,host:h1,unit:request,summary:true\n"
                                    : "http.req:6|c\nhttp.duration.server:2.25|ms\n");
        telemetry_summarise(b->t, &b->p, T0);
        again = metrics(b);
        assert_string_equal(again, text); /* nothing more */
        free(again);
        free(text);
        close_bed(b);
    }
}

/* Targets that no peer can make memory of. */
static void http_targets_without_number(void **state)
{
    struct tm_field f = {.name = "http_target", .type = TM_STR, .level = 4};
    struct bed *b = metric_bed(4, "statsd");
    char target[24], *text;
    const char *at;
    unsigned long sum = 0;

    (void)state;
    for (unsigned i = 0; i < 10000; i++) {
        snprintf(target, sizeof(target), "/%u", i);
        f.v.str.p = target;
        f.v.str.len = strlen(target);
        sample(b, TM_HTTP_REQ, 1, NULL, 1, false, &f, 1);
    }
    telemetry_summarise(b->t, &b->p, T0);
    text = metrics(b);
    assert_int_equal(count(text, "\n"), 2001);
    for (at = text; (at = strstr(at, "http.req:")); at++)
        sum += strtoul(at + 9, NULL, 10);
    assert_int_equal(sum, 10000);
    assert_non_null(strstr(text, "http.req:8000|c|#http_target:other,"));
    free(text);
    close_bed(b);
}

static void captured_metrics(void **state)
{
    static const struct tm_field f[] = {STR("file", "f"), STR("proc", "theirs"), STR("file", "again")};
    struct tm_captured m = {"a.b", "-2.5", -2.5, "g", T0, f, 3};
    struct bed *b = metric_bed(4, "statsd");
    char *text;

    (void)state;
    telemetry_captured(b->t, &b->p, &m);
    text = metrics(b);
    assert_string_equal(text, "a.b:-2.5|g|#file:f,proc:theirs,pid:42,host:h1\n");
    free(text);
    close_bed(b);
    b = metric_bed(4, "ndjson");
    m.type = "s";
    m.text = "a\"b";
    telemetry_captured(b->t, &b->p, &m);
    text = metrics(b);
    assert_non_null(strstr(text, "\"_metric\":\"a.b\",\"_metric_type\":\"set\",\"_value\":\"a\\\"b\",\"file\":\"f\""));
    check_json(text);
    free(text);
    close_bed(b);
}

static void statsd_values_are_escaped(void **state)
{
    static const struct tm_field f[] = {STR("op", "a,b|c#d:e%f\ng\x7fh\xffi\xc3\xa4")};
    struct bed *b = metric_bed(3, "statsd");

    sample(b, TM_PROC_MEM, 1, NULL, 0, false, f, 1);
    expect_metrics(b, "proc.mem:1|g|#op:a%2Cb%7Cc%23d%3Ae%25f%0Ag%7Fh%FFi\xc3\xa4,unit:kibibyte\n");
    close_bed(b);
}

static void statsd_line_that_is_too_long_loses_detail_first(void **state)
{
    static const struct tm_field f[] = {STR("file", "/a/rather/long/path/name"), STR("op", "read")};
    static const struct {
        const char *max, *line;
    } rows[] = {
        {"512", "pre.fs.open:1|c|#proc:prog,pid:42,host:h1,file:/a/rather/long/path/name,op:read,unit:operation\n"},
        {"95", "pre.fs.open:1|c|#proc:prog,pid:42,host:h1,file:/a/rather/long/path/name,op:read,unit:operation\n"},
        {"94", "pre.fs.open:1|c|#proc:prog,pid:42,host:h1,op:read,unit:operation\n"},
        {"60", "pre.fs.open:1|c|#proc:prog,pid:42,op:read,unit:operation\n"},
        {"40", "pre.fs.open:1|c|#op:read,unit:operation\n"},
        {"39", "pre.fs.open:1|c|#unit:operation\n"},
        {"16", "pre.fs.open:1|c\n"},
        {"15", ""},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bed *b = open_bed("metric.format.type", "statsd", "metric.format.verbosity", "6", "event.enable",
                                 "false", "metric.format.statsdprefix", "pre", NULL);
        struct tm_stats stats;

        b->cfg->metric.statsdmaxlen = (unsigned)atoi(rows[i].max);
        start(b);
        sample(b, TM_FS_OPEN, 1, NULL, 0, false, f, COUNT(f));
        telemetry_stats(b->t, &stats);
        assert_int_equal(stats.lost_queue, !rows[i].line[0]);
        expect_metrics(b, rows[i].line);
        close_bed(b);
    }
}

static void custom_tags_come_first_and_win(void **state)
{
    static const struct tm_field f[] = {STR("op", "read"), STR("file", "/x")};
    struct cfg_tag tags[] = {{"env", "a,b"}, {"op", "mine"}};
    struct bed *b;

    for (int ndjson = 0; ndjson < 2; ndjson++) {
        b = open_bed("metric.format.type", ndjson ? "ndjson" : "statsd", "metric.format.verbosity", "6", "event.enable",
                     "false", NULL);
        b->cfg->tags = tags;
        b->cfg->tag_count = COUNT(tags);
        start(b);
        b->cfg->tags = NULL;
        b->cfg->tag_count = 0;
        sample(b, TM_FS_OPEN, 1, NULL, 0, false, f, COUNT(f));
        expect_metrics(b, ndjson
                              ? "{\"type\":\"metric\",\"body\":{\"_metric\":\"fs.open\",\"_metric_type\":\"counter\","
                                "\"_value\":1,\"env\":\"a,b\",\"op\":\"mine\",\"proc\":\"prog\",\"pid\":42,"
                                "\"host\":\"h1\",\"file\":\"/x\",\"unit\":\"operation\",\"_time\":1700000000.000000}}\n"
                              : "fs.open:1|c|#env:a%2Cb,op:mine,proc:prog,pid:42,host:h1,file:/x,unit:operation\n");
        close_bed(b);
    }
}

static void metric_watches(void **state)
{
    struct bed *b = BED("metric.watch", "[net]", "metric.format.type", "statsd", "metric.format.verbosity", "9");

    assert_false(telemetry_wants_metric(b->t, TM_FS_OPEN));
    assert_true(telemetry_wants_metric(b->t, TM_NET_OPEN));
    assert_false(telemetry_wants_metric(b->t, TM_PROC_CPU));
    assert_true(telemetry_wants_metric(b->t, TM_LOST));
    sample(b, TM_FS_OPEN, 1, NULL, 0, false, NULL, 0);
    sample(b, TM_PROC_CPU, 1, NULL, 0, false, NULL, 0);
    expect_metrics(b, "");
    close_bed(b);
    b = BED("metric.enable", "false");
    assert_false(telemetry_wants_metric(b->t, TM_NET_OPEN));
    assert_false(telemetry_wants_metric(b->t, TM_LOST));
    sample(b, TM_NET_OPEN, 1, NULL, 0, false, NULL, 0);
    telemetry_summarise(b->t, &b->p, T0);
    assert_int_not_equal(access(b->metrics, F_OK), 0);
    close_bed(b);
}

static void raw_metric_events(void **state)
{
    static const struct tm_field f[] = {UINT("fd", 3), STR("op", "read"), STR("file", "/x")};
    struct bed *b = BED("event.watch", "[metric]", "metric.enable", "false");

    assert_true(telemetry_per_op(b->t, TM_FS_READ));
    assert_true(telemetry_per_op(b->t, TM_FS_OPEN));
    sample(b, TM_FS_READ, 100, NULL, 1, false, f, COUNT(f)); /* `host` is what the default field filter takes away */
    expect_events(b, ENVELOPE("metric", "1700000000.000000", "fs.read", "none")
                  ",\"data\":{\"_metric\":\"fs.read\",\"_metric_type\":\"counter\",\"_value\":100,\"proc\":\"prog\","
                  "\"pid\":42,\"fd\":3,\"op\":\"read\",\"file\":\"/x\",\"numops\":1,\"unit\":\"byte\"}}}\n");
    sample(b, TM_FS_READ, 100, NULL, 7, true, NULL, 0); /* a sum is no operation */
    expect_events(b, "");
    sample(b, TM_PROC_CPU_PERC, 250, NULL, 0, false, NULL, 0);
    expect_events(b, ENVELOPE("metric", "1700000000.000000", "proc.cpu_perc",
                              "none") ",\"data\":{\"_metric\":\"proc.cpu_perc\",\"_metric_type\":\"gauge\",\"_value\":"
                                      "2.50,\"proc\":\"prog\","
                                      "\"pid\":42,\"unit\":\"percent\"}}}\n");
    close_bed(b);

    b = BED("event.watch", "[metric, fs]", "metric.enable", "false");
    assert_false(telemetry_per_op(b->t, TM_FS_OPEN)); /* there is the fs.open event itself */
    assert_true(telemetry_per_op(b->t, TM_FS_SEEK));
    sample(b, TM_FS_OPEN, 1, NULL, 1, false, f, COUNT(f));
    expect_events(b, "");
    close_bed(b);
}

/* --- losses --- */

static void losses_are_told_per_kind(void **state)
{
    struct bed *b = BED("event.watch", "[fs]", "metric.format.type", "statsd");
    struct tm_stats stats;
    char *text;

    telemetry_loss(b->t, &b->p, "ring", 5, T0);
    expect_events(b, ENVELOPE("metric", "1700000000.000000", "notice", "none")
                  ",\"data\":\"Lost telemetry: 5 more of kind ring (5 since the start)\"}}\n");
    expect_metrics(b, "scope.lost:5|c|#proc:prog,pid:42,host:h1,kind:ring,unit:record\n");
    telemetry_loss(b->t, &b->p, "ring", 0, T0);
    for (int i = 0; i < 100; i++)
        telemetry_loss(b->t, NULL, "ring", 2, T0);
    telemetry_loss(b->t, &b->p, "data", 9, T0); /* another kind has its own second */
    text = events(b);
    assert_int_equal(count(text, "notice"), 1);
    assert_non_null(strstr(text, "9 more of kind data (9 since"));
    free(text);
    telemetry_finish(b->t, 1000);
    text = read_all(b->events);
    assert_int_equal(count(text, "notice"), 2);
    assert_non_null(strstr(text, "\"proc\":\"scope\",\"cmd\":\"scope\""));
    assert_non_null(strstr(text, "Lost telemetry: 200 more of kind ring (205 since the start)"));
    free(text);
    text = read_all(b->metrics);
    assert_non_null(strstr(text, "scope.lost:200|c|#proc:scope,"));
    free(text);
    telemetry_stats(b->t, &stats);
    assert_int_equal(stats.lost_queue + stats.lost_destination, 0); /* those were lost elsewhere */
    close_bed(b);
}

static void loss_is_told_within_a_second_or_two(void **state)
{
    struct bed *b = BED("event.watch", "[fs]", "metric.enable", "false");
    char *text;

    telemetry_loss(b->t, &b->p, "ring", 1, T0);
    telemetry_loss(b->t, &b->p, "ring", 2, T0);
    telemetry_loss(b->t, &b->p, "ring", 4, T0);
    event_base_loopexit(b->base, &(struct timeval){.tv_sec = 1, .tv_usec = 700000});
    event_base_dispatch(b->base);
    text = events(b);
    assert_int_equal(count(text, "\n"), 2);
    assert_non_null(strstr(text, "Lost telemetry: 6 more of kind ring (7 since the start)"));
    free(text);
    close_bed(b);
}

static void nothing_is_lost_when_the_disk_is_full_for_a_while(void **state)
{
    struct bed *b = open_bed("event.watch", "[fs]", "metric.enable", "false", "event.transport.path", "/dev/full",
                             NULL);
    struct tm_stats stats;
    struct buf text = BUF_INIT;

    start(b);
    for (int i = 0; i < 10; i++)
        send_event(b, CFG_EW_FS, "fs.open", T0, 0, NULL, 0);
    assert_false(telemetry_flush(b->t));
    telemetry_describe(b->t, &text);
    assert_string_equal(buf_cstr(&text), "{\"name\":\"events\",\"config\":\"file:///dev/full\",\"connected\":true,"
                                         "\"failure_details\":\"can't write to /dev/full: No space left on device\","
                                         "\"delivered\":0,\"queued\":10,\"lost_queue\":0,\"lost_destination\":0}");
    buf_free(&text);
    assert_false(telemetry_finish(b->t, 50));
    telemetry_stats(b->t, &stats);
    assert_int_equal(stats.events, 10);
    assert_int_equal(stats.lost_destination, 10);
    close_bed(b);
}

/* What goes to a receiver of OTLP besides is an event nonetheless, and one; of what doesn't reach it each item is lost. */
static void records_with_several_destinations_count_once(void **state)
{
    static const struct tm_span span = {.kind = TM_SPAN_SERVER, .name = {"x", 1}, .start_ns = T0, .end_ns = T0 + 1};
    struct bed *b = open_bed("event.watch", "[fs, console]", "metric.enable", "false", "otlp.enable", "true", "otlp.endpoint",
                             "http://127.0.0.1:1", "otlp.logs.events", "console", NULL);
    struct tm_stats stats;
    struct buf text = BUF_INIT;

    start(b);
    send_event(b, CFG_EW_FS, "fs.open", T0, 0, NULL, 0);
    telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 1, "a\nb\n", 4, 0, NULL);
    for (int i = 0; i < 5; i++)
        telemetry_span(b->t, &b->p, &span);
    telemetry_describe(b->t, &text);
    assert_non_null(strstr(buf_cstr(&text), "{\"name\":\"events\""));
    assert_non_null(strstr(buf_cstr(&text), "{\"name\":\"logs\""));
    assert_non_null(strstr(buf_cstr(&text), "{\"name\":\"traces\""));
    buf_free(&text);
    assert_false(telemetry_finish(b->t, 50));
    telemetry_stats(b->t, &stats);
    assert_int_equal(stats.spans, 5);
    assert_int_equal(stats.events, 3);
    assert_int_equal(stats.lost_destination, 7);
    close_bed(b);
}

static void receiver_that_comes_late_learns_what_is_missing(void **state)
{
    struct bed *b = open_bed("event.watch", "[fs]", "event.format.maxeventpersec", "0", "metric.format.type", "statsd",
                             NULL);
    struct buf got = BUF_INIT;
    unsigned long long told;
    struct tm_stats stats;
    char expected[120], *text;
    ssize_t n;
    int fd;

    assert_int_equal(mkfifo(b->events, 0600), 0);
    output_set_limits(64 * 1024, 0, 50);
    start(b);
    output_set_limits(16 * 1024 * 1024, 0, 1000);
    for (int i = 0; i < 1000; i++)
        send_event(b, CFG_EW_FS, "fs.open", T0, 0, NULL, 0);
    telemetry_stats(b->t, &stats);
    assert_int_equal(stats.events + stats.lost_queue, 1000);
    assert_true(stats.lost_queue > 0 && stats.events > 0);
    told = stats.lost_queue;
    event_base_loopexit(b->base, &(struct timeval){.tv_sec = 1, .tv_usec = 200000}); /* telling it doesn't work yet */
    event_base_dispatch(b->base);
    fd = open(b->events, O_RDONLY | O_NONBLOCK);
    assert_true(fd >= 0);
    for (int i = 0; i < 40; i++) {
        event_base_loopexit(b->base, &(struct timeval){.tv_usec = 50000});
        event_base_dispatch(b->base);
        while ((n = read(fd, buf_room(&got, 65536), 65536)) > 0)
            got.len += (size_t)n;
    }
    text = buf_cstr(&got);
    check_json(text);
    assert_int_equal(count(text, "\"source\":\"fs.open\""), 1000 - told);
    snprintf(expected, sizeof(expected), "Lost telemetry: %llu more of kind event_queue (%llu since the start)", told, told);
    assert_int_equal(count(text, expected), 1);
    assert_int_equal(count(text, "notice"), 1);
    telemetry_stats(b->t, &stats);
    assert_int_equal(stats.lost_queue, told); /* notices that didn't fit aren't losses */
    telemetry_finish(b->t, 1000);
    text = read_all(b->metrics);
    snprintf(expected, sizeof(expected), "scope.lost:%llu|c|#proc:prog,pid:42,host:h1,kind:event_queue,", told);
    assert_int_equal(count(text, expected), 1);
    assert_int_equal(count(text, "scope.lost"), 1); /* once, however often the event had to be tried */
    free(text);
    close(fd);
    buf_free(&got);
    close_bed(b);
}

/* --- journals --- */

/* What a journal holds, as lines: events if `metrics` is false. */
static char *journal_lines(const char *path, bool metrics)
{
    struct journal_want want = {.kinds = metrics ? 1u << EV_METRIC : 1u << EV_EVENT | 1u << EV_NOTICE};
    struct journal_reader *reader = journal_reader_new(open(path, O_RDONLY | O_CLOEXEC), &want, NULL);
    struct ndjson *encoder = ndjson_new();
    struct buf text = BUF_INIT;
    struct ev_record r;

    assert_non_null(reader);
    while (journal_next(reader, &r))
        ndjson_record(encoder, &text, &r);
    journal_reader_free(reader);
    ndjson_free(encoder);
    check_json(buf_cstr(&text));
    return text.p;
}

static struct bed *journal_bed(const char *path)
{
    return open_bed("event.watch", "[fs, net, console, metric]", "metric.format.type", "ndjson", "metric.format.verbosity",
                    "9", "event.transport.type", "journal", "event.transport.path", path, "metric.transport.type",
                    "journal", "metric.transport.path", path, NULL);
}

/* Some of everything. */
static void tell_all(struct bed *b)
{
    static const char *const addrs[] = {"10.0.0.1", "::1"};
    static const struct tm_field f[] = {
        {.type = TM_WHO}, STR("file", "a\xff\"\n"), UINT("big", UINT64_MAX), INT("small", INT64_MIN),
        {.name = "third", .type = TM_NUM, .v.num = 1.0 / 3}, {.name = "none", .type = TM_NUM, .v.num = NAN},
        {.name = "yes", .type = TM_BOOL, .v.b = true}, {.name = "addrs", .type = TM_STRLIST, .v.list = {addrs, 2}},
        {.name = "null", .type = TM_STR}, {.type = TM_OWNER},
    };
    static const struct tm_field status[] = {STR("http_target", "/a"), UINT("http_status_code", 200)};
    struct cfg_tag tags[] = {{"team", "blue \"1\""}, {"env", "prod"}};
    struct tm_captured m = {"a.b", "-2.5", -2.5, "g", T0, f + 1, 2};

    b->cfg->tags = tags;
    b->cfg->tag_count = COUNT(tags);
    start(b);
    b->cfg->tags = NULL;
    b->cfg->tag_count = 0;
    send_event(b, CFG_EW_FS, "fs.open", T0 + 123456789, UINT64_MAX, f, COUNT(f));
    send_event(b, CFG_EW_NET, "net.close", T0 + 5, 0, NULL, 0);
    telemetry_message(b->t, &b->p, CFG_EW_CONSOLE, "stdout", T0, 7, "a line\nand \xc3\xa4\n", 15, 0, NULL);
    sample(b, TM_FS_READ, 17, NULL, 3, false, f + 1, 1);
    sample(b, TM_PROC_CPU_PERC, -1234, NULL, 0, false, NULL, 0);
    sample(b, TM_HTTP_REQ, 1, NULL, 1, false, status, 2);
    sample(b, TM_HTTP_DURATION_SERVER, 2500, NULL, 1, false, status, 1);
    telemetry_captured(b->t, &b->p, &m);
    m.type = "s";
    m.text = "a\"b";
    telemetry_captured(b->t, &b->p, &m);
    telemetry_loss(b->t, &b->p, "ring", 3, T0);
    telemetry_summarise(b->t, &b->p, T0 + SECOND);
    b->p.cmd = "other";
    b->p.cgroup = "0::/v";
    telemetry_process_start(b->t, &b->p); /* exec: members have changed */
    send_event(b, CFG_EW_FS, "fs.open", T0 - SECOND, 1, f, COUNT(f));
    assert_true(telemetry_flush(b->t));
}

static void journal_gives_the_lines_of_files(void **state)
{
    struct bed *files = open_bed("event.watch", "[fs, net, console, metric]", "metric.format.type", "ndjson",
                                 "metric.format.verbosity", "9", NULL);
    char path[] = "/tmp/test_telemetry.XXXXXX", *text, *expected;
    struct tm_stats stats;
    struct bed *b;
    struct stat st;
    int fd = mkstemp(path);

    assert_true(fd >= 0 && unlink(path) == 0);
    close(fd);
    b = journal_bed(path);
    tell_all(files);
    tell_all(b);
    for (int i = 0; i < 2; i++) {
        text = journal_lines(path, i);
        expected = i ? metrics(files) : events(files);
        assert_true(count(expected, "\n") >= 5);
        assert_string_equal(text, expected);
        free(text);
        free(expected);
    }
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    telemetry_stats(b->t, &stats);
    assert_true(stats.events >= 5 && stats.metrics >= 5 && !stats.lost_queue && !stats.lost_destination);
    assert_true(telemetry_finish(b->t, 1000));
    close_bed(files);
    close_bed(b);
    unlink(path);
}

/* Somebody who reads meanwhile sees what happens, without that anybody asks for it. */
static void journal_is_written_at_once(void **state)
{
    struct timeval tv = {.tv_usec = 100000};
    char path[] = "/tmp/test_telemetry.XXXXXX", *text;
    struct bed *b;

    close(mkstemp(path));
    b = journal_bed(path); /* an empty file is one, too */
    start(b);
    for (size_t i = 1; i < 4; i++) {
        send_event(b, CFG_EW_FS, "fs.open", T0, 1, NULL, 0);
        text = xstrdup("");
        for (int tries = 0; tries < 50 && count(text, "\n") < i; tries++) {
            event_base_loopexit(b->base, &tv);
            event_base_dispatch(b->base);
            free(text);
            text = journal_lines(path, false);
        }
        assert_int_equal(count(text, "\n"), i);
        free(text);
    }
    close_bed(b);
    unlink(path);
}

static void journals_of_one_path_are_shared(void **state)
{
    struct bed *b[2];
    char path[] = "/tmp/test_telemetry.XXXXXX", *text;

    close(mkstemp(path));
    b[0] = journal_bed(path);
    b[1] = journal_bed(path);
    event_base_free(b[1]->base);
    b[1]->base = b[0]->base;
    start(b[0]);
    start(b[1]);
    for (int i = 0; i < 10; i++)
        send_event(b[i % 2], CFG_EW_FS, "fs.open", T0, 1, NULL, 0);
    assert_true(telemetry_finish(b[1]->t, 1000)); /* the other one goes on */
    send_event(b[0], CFG_EW_FS, "fs.open", T0, 1, NULL, 0);
    assert_true(telemetry_finish(b[0]->t, 1000));
    text = journal_lines(path, false);
    assert_int_equal(count(text, "\n"), 11);
    free(text);
    telemetry_free(b[1]->t, 0);
    b[1]->t = NULL;
    b[1]->base = event_base_new();
    close_bed(b[1]);
    close_bed(b[0]);
    unlink(path);
}

static void turn(struct bed *b, unsigned ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

    event_base_loopexit(b->base, &tv);
    event_base_dispatch(b->base);
}

/* No file of somebody's is appended to, and nothing is lost silently. */
static void journal_that_cannot_be_opened(void **state)
{
    struct tm_stats stats;
    struct bed *b;
    char path[] = "/tmp/test_telemetry.XXXXXX", *text;
    struct buf described = BUF_INIT;
    int fd = mkstemp(path);

    assert_int_equal(write(fd, "somebody's notes\n", 17), 17);
    close(fd);
    b = journal_bed(path);
    start(b);
    telemetry_describe(b->t, &described);
    assert_non_null(strstr(buf_cstr(&described), "\"name\":\"events,metrics\",\"config\":\"journal:///tmp/"));
    assert_non_null(strstr(described.p, "\"connected\":false"));
    assert_non_null(strstr(described.p, "is there and no journal"));
    buf_free(&described);
    for (int i = 0; i < 3; i++)
        send_event(b, CFG_EW_FS, "fs.open", T0, 1, NULL, 0);
    turn(b, 1500);
    text = read_all(path);
    assert_string_equal(text, "somebody's notes\n");
    free(text);
    telemetry_stats(b->t, &stats);
    assert_int_equal(stats.lost_queue, 3); /* not the notice of it, which is told later */
    unlink(path);
    turn(b, 2500);
    assert_true(telemetry_finish(b->t, 1000));
    text = journal_lines(path, false);
    assert_non_null(strstr(text, "Lost telemetry: 3 more of kind event_queue (3 since the start)"));
    assert_int_equal(count(text, "\n"), 1);
    free(text);
    text = journal_lines(path, true);
    assert_int_equal(count(text, "\"kind\":\"event_queue\""), 1);
    free(text);
    close_bed(b);
    unlink(path);
}

static void journal_has_one_collector(void **state)
{
    char path[] = "/tmp/test_telemetry.XXXXXX", *text;
    struct buf described = BUF_INIT;
    struct bed *b;
    int fd = mkstemp(path);

    assert_int_equal(flock(fd, LOCK_EX), 0);
    b = journal_bed(path);
    start(b);
    telemetry_describe(b->t, &described);
    assert_non_null(strstr(buf_cstr(&described), "another collector writes to it"));
    buf_free(&described);
    close(fd);
    turn(b, 1200); /* it is tried again each second */
    send_event(b, CFG_EW_FS, "fs.open", T0, 1, NULL, 0);
    assert_true(telemetry_finish(b->t, 1000));
    text = journal_lines(path, false);
    assert_int_equal(count(text, "\n"), 1);
    free(text);
    close_bed(b);
    unlink(path);
}

static void journal_that_was_moved_away_is_made_anew(void **state)
{
    char path[] = "/tmp/test_telemetry.XXXXXX", moved[64], *text;
    struct bed *b;

    close(mkstemp(path));
    snprintf(moved, sizeof(moved), "%s.1", path);
    b = journal_bed(path);
    start(b);
    send_event(b, CFG_EW_FS, "before", T0, 1, NULL, 0);
    assert_true(telemetry_flush(b->t));
    assert_int_equal(rename(path, moved), 0);
    turn(b, 1100); /* the name is looked at once a second */
    send_event(b, CFG_EW_FS, "after", T0, 1, NULL, 0);
    assert_true(telemetry_finish(b->t, 1000));
    for (int i = 0; i < 2; i++) {
        text = journal_lines(i ? path : moved, false);
        assert_non_null(strstr(text, i ? "after" : "before"));
        assert_int_equal(count(text, "\n"), 1);
        free(text);
    }
    close_bed(b);
    unlink(path);
    unlink(moved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(event_has_all_kinds_of_fields),
        cmocka_unit_test(event_without_channel_and_fields),
        cmocka_unit_test(every_watch_has_its_sourcetype),
        cmocka_unit_test(strings_are_always_valid_utf8),
        cmocka_unit_test(tags_stand_between_pid_and_data),
        cmocka_unit_test(watch_that_is_off_sends_nothing),
        cmocka_unit_test(start_message_has_the_process_and_the_configuration),
        cmocka_unit_test(file_that_was_moved_away_is_made_anew_with_start_messages),
        cmocka_unit_test(filter_table),
        cmocka_unit_test(names_in_the_cache_do_not_mix),
        cmocka_unit_test(event_filters),
        cmocka_unit_test(event_filters_see_groups), cmocka_unit_test(event_filters_see_all),
        cmocka_unit_test(limiter_arithmetic),
        cmocka_unit_test(limiter_holds_back_and_tells),
        cmocka_unit_test(notice_comes_within_seconds_while_running),
        cmocka_unit_test(notices_have_limits_of_their_own),
        cmocka_unit_test(held_notices_are_told_while_running),
        cmocka_unit_test(notices_pass_filters),
        cmocka_unit_test(one_line_is_one_event),
        cmocka_unit_test(unfinished_line_waits_two_seconds),
        cmocka_unit_test(long_lines_are_cut_between_characters),
        cmocka_unit_test(value_filter_sees_the_raw_text),
        cmocka_unit_test(binary_output_becomes_one_placeholder),
        cmocka_unit_test(binary_output_is_kept_when_allowed),
        cmocka_unit_test(binary_streams_are_bursts),
        cmocka_unit_test(file_lines_have_the_path_as_source),
        cmocka_unit_test(thousands_of_descriptors_with_unfinished_lines),
        cmocka_unit_test(each_metric_at_each_verbosity),
        cmocka_unit_test(tags_by_verbosity),
        cmocka_unit_test(ndjson_metric_lines),
        cmocka_unit_test(statsd_metric_lines),
        cmocka_unit_test(sums_are_deltas_per_period),
        cmocka_unit_test(gauges_are_told_also_when_zero),
        cmocka_unit_test(durations_are_means),
        cmocka_unit_test(classes_are_separate),
        cmocka_unit_test(http_metrics_by_target),
        cmocka_unit_test(http_targets_without_number),
        cmocka_unit_test(captured_metrics),
        cmocka_unit_test(statsd_values_are_escaped),
        cmocka_unit_test(statsd_line_that_is_too_long_loses_detail_first),
        cmocka_unit_test(custom_tags_come_first_and_win),
        cmocka_unit_test(metric_watches),
        cmocka_unit_test(raw_metric_events),
        cmocka_unit_test(losses_are_told_per_kind),
        cmocka_unit_test(loss_is_told_within_a_second_or_two),
        cmocka_unit_test(records_with_several_destinations_count_once),
        cmocka_unit_test(receiver_that_comes_late_learns_what_is_missing),
        cmocka_unit_test(nothing_is_lost_when_the_disk_is_full_for_a_while),
        cmocka_unit_test(journal_gives_the_lines_of_files),
        cmocka_unit_test(journal_is_written_at_once),
        cmocka_unit_test(journals_of_one_path_are_shared),
        cmocka_unit_test(journal_that_cannot_be_opened),
        cmocka_unit_test(journal_has_one_collector),
        cmocka_unit_test(journal_that_was_moved_away_is_made_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
