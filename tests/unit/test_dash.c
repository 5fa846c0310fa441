/* SPDX-License-Identifier: Apache-2.0 */
/* The dashboard without a terminal: sums of its model, and what its view makes of them. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dash/bounded.h"
#include "dash/grid.h"
#include "dash/latency.h"
#include "dash/model.h"
#include "dash/view.h"

#define NS UINT64_C(1000000000)
#define START (UINT64_C(1700000000) * NS)
#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define STR(n, text) \
    { \
        .name = n, .type = TM_STR, .v.str = { text, sizeof(text) - 1 } \
    }
#define NUM(n, value) \
    { \
        .name = n, .type = TM_UINT, .v.u = value \
    }

static struct tm_process web = {.pid = 10, .host_pid = 10, .ppid = 1, .proc = "web", .cmd = "web -x", .host = "h"};

static void event(struct model *m, const struct tm_process *who, uint64_t at, const char *type, const char *source,
                  const struct tm_field *fields, size_t count)
{
    struct ev_record r = {.kind = EV_EVENT,
                          .who = who,
                          .time_ns = at,
                          .sourcetype = type,
                          .source = source,
                          .fields = fields,
                          .field_count = count,
                          .channel = 7};

    dash_take(m, 0, &r);
}

static void metric(struct model *m, const struct tm_process *who, uint64_t at, const char *name, int64_t value)
{
    static const struct tm_field summary = STR("summary", "true");
    struct ev_record r = {.kind = EV_METRIC,
                          .who = who,
                          .time_ns = at,
                          .name = name,
                          .type = "counter",
                          .fields = &summary,
                          .field_count = 1,
                          .value = {.type = TM_INT, .v.i = value}};

    dash_take(m, 0, &r);
}

/* The whole screen as text. */
static char *screen(struct view *v, const struct model *m, unsigned width, unsigned height)
{
    struct grid g = {.width = width, .height = height, .utf8 = true};
    char *all = calloc(height, (size_t)width * 16 + 2);

    view_draw(v, m, &g);
    assert_int_equal(g.width, width);
    for (unsigned y = 0; y < height; y++) {
        char *row = grid_row(&g, y);

        for (const char *p = row; *p; p++)
            assert_true((unsigned char)*p >= ' ' && *p != 0x7f); /* nothing that a terminal acts on */
        strcat(strcat(all, row), "\n");
        free(row);
        /* Each cell has one character, or is the right half of a wide one. */
        for (unsigned x = 0; x < width; x++) {
            const struct grid_cell *c = &g.cells[(size_t)y * width + x];

            if (!c->ch[0])
                assert_true(x > 0 && wcwidth(c[-1].ch[0]) == 2);
            else
                assert_true(wcwidth(c->ch[0]) == 1 || (wcwidth(c->ch[0]) == 2 && x + 1 < width && !c[1].ch[0]));
        }
    }
    grid_free(&g);
    return all;
}

static struct view new_view(void)
{
    return (struct view){.what = "all sessions", .state = "LIVE", .live = true, .losses = "", .note = "", .filter = ""};
}

static void expect(const char *screen_text, const char *text)
{
    if (!strstr(screen_text, text))
        fail_msg("no \"%s\" in\n%s", text, screen_text);
}

static void bounded_cuts_keys(void **state)
{
    struct bounded *b = bounded_new(100, sizeof(uint64_t), NULL);
    char key[300];

    memset(key, 'k', sizeof(key));
    *(uint64_t *)bounded_get(b, key, sizeof(key)) = 5;
    assert_int_equal(*(uint64_t *)bounded_find(b, key, BOUNDED_KEY_MAX), 5); /* cut */
    bounded_remove(b, key, 256);
    assert_null(bounded_find(b, key, 256));
    assert_int_equal(bounded_count(b), 0);
    bounded_free(b);
}

static uint64_t weight(const void *v)
{
    return *(const uint64_t *)v;
}

static void bounded_is_bounded(void **state)
{
    struct bounded *b = bounded_new(64, sizeof(uint64_t), weight);
    const void *best[3];

    for (uint64_t i = 1; i <= 10000; i++) {
        uint64_t key = i * 7919 % 10007;

        *(uint64_t *)bounded_get(b, &key, sizeof(key)) = key;
        assert_true(bounded_count(b) <= 64);
    }
    assert_int_equal(bounded_count(b) + bounded_dropped(b), 10000);
    assert_int_equal(bounded_best(b, NULL, best, 3), 3);
    assert_int_equal(*(const uint64_t *)best[0], 10006); /* the heaviest were never dropped */
    assert_int_equal(*(const uint64_t *)best[1], 10005);
    assert_int_equal(*(const uint64_t *)best[2], 10004);
    bounded_free(b);
}

static void percentiles(void **state)
{
    static struct latency l;

    assert_int_equal(latency_percentile(&l, 1000, 60, 50), -1);
    for (unsigned i = 1; i <= 100; i++)
        latency_add(&l, 1000, i);
    for (unsigned p = 1; p <= 100; p++) {
        int64_t got = latency_percentile(&l, 1000, 60, p);

        assert_true(got >= p && got <= p + p / 4 + 1);
    }
    assert_int_equal(latency_percentile(&l, 1100, 60, 50), -1); /* too long ago */
    latency_add(&l, 1100, UINT64_MAX);
    assert_true(latency_percentile(&l, 1100, 60, 99) > 1000000);
}

static void rates(void **state)
{
    struct model *m = dash_new();
    struct tm_field resp[] = {NUM("http_status_code", 503), STR("http_method", "GET"), STR("http_target", "/a?secret"),
                              STR("http_host", "x"), NUM("http_server_duration", 40)};
    const struct dash_top *top[4];
    size_t len;

    dash_set_now(m, START + 10 * NS);
    for (unsigned i = 0; i < 100; i++)
        event(m, &web, START + i * NS / 10, "http", "http.resp", resp, COUNT(resp));
    assert_int_equal((int)dash_rate(m, SERIES_HTTP, 10), 10);
    assert_int_equal((int)dash_sum(m, SERIES_HTTP_ERROR), 100);
    assert_int_equal(dash_percentile(m, 50), 47); /* 40 lies in the bucket of 40 to 47 */
    assert_int_equal(dash_top(m, TOP_HTTP, BY_TIME, top, 4), 1);
    assert_string_equal(bounded_key(top[0], &len), "GET x/a");
    assert_int_equal(top[0]->errors, 100);
    /* Ten minutes later it is gone, and a future record does no harm. */
    dash_set_now(m, START + 700 * NS);
    assert_int_equal((int)dash_sum(m, SERIES_HTTP), 0);
    event(m, &web, UINT64_MAX, "fs", "fs.open", NULL, 0);
    event(m, &web, 0, "fs", "fs.open", NULL, 0);
    assert_int_equal((int)dash_sum(m, SERIES_FS_OPEN), 0);
    dash_free(m);
}

static void metrics_are_spread(void **state)
{
    struct model *m = dash_new();

    dash_set_now(m, START + 30 * NS);
    metric(m, &web, START + 10 * NS, "net.rx", 0);
    metric(m, &web, START + 20 * NS, "net.rx", 1000);
    metric(m, &web, START + 20 * NS, "proc.mem", 2048);
    metric(m, &web, START + 20 * NS, "fs.read", 500);
    assert_int_equal((int)dash_at(m, SERIES_NET_RX, 11), 100);
    assert_int_equal((int)dash_at(m, SERIES_NET_RX, 20), 100);
    assert_int_equal((int)dash_at(m, SERIES_NET_RX, 21), 0);
    assert_int_equal((int)dash_rate(m, SERIES_NET_RX, 10), 100); /* of the last period that is known */
    assert_int_equal((int)(dash_sum(m, SERIES_FS_READ) + 0.5), 500);
    dash_set_now(m, START + 100 * NS);
    assert_int_equal((int)dash_rate(m, SERIES_NET_RX, 10), 0);
    dash_free(m);
}

static void tree(void **state)
{
    struct model *m = dash_new();
    struct tm_process child = {.pid = 11, .host_pid = 11, .ppid = 10, .proc = "child"};
    struct tm_process circle[2] = {{.pid = 20, .host_pid = 20, .ppid = 21, .proc = "a"},
                                   {.pid = 21, .host_pid = 21, .ppid = 20, .proc = "b"}};
    struct dash_process **list;

    dash_set_now(m, START + NS);
    event(m, &child, START, "process", "proc.start", NULL, 0);
    event(m, &web, START, "process", "proc.start", NULL, 0);
    event(m, &circle[0], START, "process", "proc.start", NULL, 0);
    event(m, &circle[1], START, "process", "proc.start", NULL, 0);
    assert_int_equal(dash_processes(m, ORDER_TREE, &list), 4); /* each once */
    assert_int_equal(list[0]->pid, 10);
    assert_int_equal(list[1]->pid, 11);
    assert_int_equal(list[1]->depth, 1);
    free(list);
    event(m, &child, START + NS, "process", "proc.exit", NULL, 0);
    dash_set_now(m, START + 20 * NS);
    assert_int_equal(dash_processes(m, ORDER_EVENTS, &list), 3); /* what has ended is shown for ten seconds */
    assert_int_equal(list[0]->events, 1);
    free(list);
    dash_only(m, 10);
    dash_reset(m);
    event(m, &child, START, "process", "proc.start", NULL, 0);
    event(m, &web, START, "process", "proc.start", NULL, 0);
    assert_int_equal(dash_processes(m, ORDER_TREE, &list), 1);
    free(list);
    dash_free(m);
}

static void filter(void **state)
{
    struct model *m = dash_new();
    struct tm_field a[] = {STR("file", "/etc/passwd")}, b[] = {STR("file", "/tmp/x")};

    dash_set_now(m, START);
    dash_filter(m, "passwd");
    event(m, &web, START, "fs", "fs.open", a, 1);
    for (unsigned i = 0; i < 2 * MODEL_LINES; i++)
        event(m, &web, START, "fs", "fs.open", b, 1);
    assert_int_equal(dash_line_count(m, LINES_EVENTS), 1); /* others don't push it out */
    assert_string_equal(dash_line(m, LINES_EVENTS, 0)->text, "file=/etc/passwd");
    assert_null(dash_line(m, LINES_EVENTS, 1));
    assert_int_equal((int)dash_at(m, SERIES_EVENTS, 0), 2 * MODEL_LINES + 1); /* rates are of all */
    dash_free(m);
}

static void hostile_names(void **state)
{
    static const char *const names[] = {"\xe2\x80\xae"
                                        "evil",
                                        "\x1b[2J\x1b]0;x\x07",
                                        "\xff\xfe\xc0\x80",
                                        "\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xbd\xa0",
                                        "e\xcc\x81\xcc\x82\xcc\x83\xcc\x84",
                                        "\"quoted\" 'x' %s%n",
                                        "\xcc\x81",
                                        "a\nb\rc\td",
                                        "\xc2\x9b"
                                        "31m",
                                        ""};
    char long_name[4097];
    struct model *m = dash_new();

    for (size_t i = 0; i < sizeof(long_name) - 1; i++)
        long_name[i] = i % 3 == 0 ? '\xe4' : i % 3 == 1 ? '\xbd' : '\xa0';
    long_name[4096] = '\0';
    dash_set_now(m, START + NS);
    for (size_t i = 0; i <= COUNT(names); i++) {
        const char *name = i < COUNT(names) ? names[i] : long_name;
        struct tm_process who = {.pid = (uint32_t)i + 1, .ppid = (uint32_t)i, .proc = name, .cmd = name, .host = name};
        struct tm_field f[] = {{.name = name, .type = TM_STR, .v.str = {name, strlen(name)}},
                               {.name = "file", .type = TM_STR, .v.str = {name, strlen(name)}},
                               {.name = "domain", .type = TM_STR, .v.str = {name, strlen(name)}},
                               {.name = "http_target", .type = TM_STR, .v.str = {name, strlen(name)}},
                               {.name = "http_host", .type = TM_STR, .v.str = {name, strlen(name)}},
                               {.name = "net_peer_ip", .type = TM_STR, .v.str = {name, strlen(name)}},
                               {.name = "net_transport", .type = TM_STR, .v.str = {name, strlen(name)}},
                               {.name = "message", .type = TM_STR, .v.str = {name, strlen(name)}}};

        event(m, &who, START, "fs", "fs.open", f, COUNT(f));
        event(m, &who, START, "net", "net.open", f, COUNT(f));
        event(m, &who, START, "http", "http.resp", f, COUNT(f));
        event(m, &who, START, "dns", "dns.req", f, COUNT(f));
        event(m, &who, START, "console", "stdout", f, COUNT(f));
        event(m, &who, START, name, name, f, COUNT(f));
    }
    for (unsigned width = 1; width <= 300; width += width < 79 ? 26 : 17)
        for (unsigned height = 1; height <= 100; height += 11)
            for (int zoom = 0; zoom < PANEL_COUNT; zoom++) {
                struct view v = new_view();
                char *text;

                v.zoom = zoom;
                v.what = v.losses = v.note = v.filter = v.typing = long_name;
                text = screen(&v, m, width, height);
                assert_null(strstr(text, "\xe2\x80\xae"));
                free(text);
            }
    dash_free(m);
}

static void sizes(void **state)
{
    static const unsigned widths[] = {80, 81, 120, 200, 300}, heights[] = {24, 25, 50, 100};
    struct model *m = dash_new();
    struct view v = new_view();
    char *text;

    dash_set_now(m, START);
    v.losses = "record 12";
    for (size_t w = 0; w < COUNT(widths); w++)
        for (size_t h = 0; h < COUNT(heights); h++) {
            text = screen(&v, m, widths[w], heights[h]);
            expect(text, "1 Processes");
            expect(text, "2 Network");
            expect(text, "3 Connections");
            expect(text, "4 HTTP");
            expect(text, "5 DNS");
            expect(text, "6 Files");
            expect(text, "7 Console");
            expect(text, "8 Events");
            expect(text, "LOST: record 12");
            expect(text, "q quit ? help");
            free(text);
        }
    text = screen(&v, m, 79, 24);
    expect(text, "needs 80x24");
    free(text);
    text = screen(&v, m, 80, 23);
    expect(text, "this is 80x23");
    free(text);
    v.help = true;
    text = screen(&v, m, 80, 24);
    expect(text, "Home End");
    expect(text, "so far.");
    free(text);
    dash_free(m);
}

static void many_processes(void **state)
{
    struct model *m = dash_new();
    struct view v = new_view();
    struct dash_process **list;
    char *text;

    dash_set_now(m, START);
    for (uint32_t i = 1; i <= 10000; i++) { /* as deep as can be */
        struct tm_process who = {.pid = i, .ppid = i - 1, .proc = "deep", .cmd = "deep"};

        event(m, &who, START, "process", "proc.start", NULL, 0);
    }
    assert_int_equal(dash_processes(m, ORDER_TREE, &list), 10000);
    for (unsigned i = 0; i < 10000; i++)
        assert_int_equal(list[i]->depth, i);
    free(list);
    v.zoom = PANEL_PROCESSES;
    v.selected = 1000000;
    text = screen(&v, m, 120, 40);
    expect(text, "10000 ");
    assert_int_equal(v.selected, 9999);
    assert_int_equal(view_selected_pid(&v, m), 10000);
    free(text);
    for (uint32_t i = 1; i <= 40000; i++) {
        struct tm_process who = {.pid = i + 100000, .ppid = 1, .proc = "wide", .cmd = "wide"};

        event(m, &who, START + i, "process", "proc.start", NULL, 0);
    }
    assert_true(dash_processes_dropped(m) > 0);
    text = screen(&v, m, 120, 40);
    expect(text, "not kept");
    free(text);
    dash_free(m);
}

static void shows_numbers(void **state)
{
    struct model *m = dash_new();
    struct view v = new_view();
    struct tm_field open[] = {STR("net_transport", "IP.TCP"), STR("net_peer_ip", "10.0.0.9"), NUM("net_peer_port", 443),
                              STR("net_host_ip", "::1"), NUM("net_host_port", 9)};
    struct tm_field app[] = {STR("protocol", "TLS")}, line[] = {STR("message", "hello there")};
    char *text;

    dash_set_now(m, START + 10 * NS);
    event(m, &web, START, "net", "net.open", open, COUNT(open));
    event(m, &web, START, "net", "net.app", app, COUNT(app));
    event(m, &web, START + NS, "console", "stderr", line, COUNT(line));
    metric(m, &web, START + 10 * NS, "proc.thread", 17);
    metric(m, &web, START + 10 * NS, "proc.mem", 1000);
    metric(m, &web, START + 10 * NS, "net.rx", 5000000);
    text = screen(&v, m, 200, 60);
    expect(text, "1.02M   17");
    expect(text, "500kB/s");
    expect(text, "10.0.0.9:443");
    expect(text, "[::1]:9");
    expect(text, "TLS");
    expect(text, "web[10] stderr hello there");
    expect(text, "3 Connections: 1 open");
    free(text);
    event(m, &web, START, "net", "net.close", open, COUNT(open));
    text = screen(&v, m, 200, 60);
    expect(text, "3 Connections: 0 open");
    free(text);
    dash_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bounded_cuts_keys),
                                       cmocka_unit_test(bounded_is_bounded),
                                       cmocka_unit_test(percentiles),
                                       cmocka_unit_test(rates),
                                       cmocka_unit_test(metrics_are_spread),
                                       cmocka_unit_test(tree),
                                       cmocka_unit_test(filter),
                                       cmocka_unit_test(hostile_names),
                                       cmocka_unit_test(sizes),
                                       cmocka_unit_test(many_processes),
                                       cmocka_unit_test(shows_numbers)};

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
