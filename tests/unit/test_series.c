/* SPDX-License-Identifier: Apache-2.0 */
/* What a Prometheus is told: names, labels, totals, and how much of it at most. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "sink/scrape.h"
#include "sink/series.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const struct tm_process nginx = {.pid = 7, .host_pid = 4242, .host = "h1", .proc = "nginx"};

static void sample(struct series_set *s, const struct tm_process *who, enum tm_metric m, int64_t value, uint64_t numops,
                   const char *class_)
{
    series_sample(s, who, &(struct tm_sample){.metric = m, .value = value, .numops = numops, .class_ = class_});
}

static void exchange(struct series_set *s, const struct tm_process *who, const char *method, unsigned status,
                     int64_t microseconds)
{
    series_sample(s, who, &(struct tm_sample){.metric = TM_HTTP_DURATION_SERVER, .value = microseconds, .numops = 1,
                                              .exchange = &(struct tm_exchange){.method = {method, strlen(method)}, .status = status}});
}

static char *scrape(struct series_set *s, bool openmetrics, uint64_t now_ms, bool seen)
{
    struct buf b = BUF_INIT;
    uint64_t number = series_text(s, openmetrics, now_ms, &b);

    if (seen)
        series_seen(s, number);
    return buf_cstr(&b);
}

static void has(const char *text, const char *wanted)
{
    if (!strstr(text, wanted))
        fail_msg("no \"%s\" in:\n%s", wanted, text);
}

static void hasnt(const char *text, const char *unwanted)
{
    if (strstr(text, unwanted))
        fail_msg("\"%s\" in:\n%s", unwanted, text);
}

/* The value of a line that begins so; -1: there is none. */
static long long value_of(const char *text, const char *line)
{
    const char *at = strstr(text, line);

    return at ? strtoll(at + strlen(line), NULL, 10) : -1;
}

static size_t lines_of_processes(const char *text)
{
    size_t n = 0;

    for (const char *p = text; (p = strstr(p, "{proc=")); p++)
        n++;
    return n;
}

static void text_has_names_types_units(void **state)
{
    struct series_set *s = series_new(SERIES_LINES);
    char *text;

    series_target(s, "host_name", "h1");
    series_begin(s, &nginx, 0);
    sample(s, &nginx, TM_FS_READ, 1000, 3, NULL);
    sample(s, &nginx, TM_FS_READ, 24, 1, NULL);
    sample(s, &nginx, TM_FS_WRITE, 5, 1, NULL);
    sample(s, &nginx, TM_FS_OPEN, 2, 2, NULL);
    sample(s, &nginx, TM_FS_DURATION, 1500000, 4, NULL);
    sample(s, &nginx, TM_NET_RX, 10, 2, "inet_tcp");
    sample(s, &nginx, TM_NET_TX, 20, 1, "unix_tcp");
    sample(s, &nginx, TM_NET_TCP, 3, 0, NULL);
    sample(s, &nginx, TM_NET_TCP, 2, 0, NULL);
    sample(s, &nginx, TM_NET_DURATION, 250, 1, NULL);
    sample(s, &nginx, TM_FS_ERROR, 1, 0, "stat");
    sample(s, &nginx, TM_PROC_CPU, 1000001, 0, NULL);
    sample(s, &nginx, TM_PROC_MEM, 2, 0, NULL);
    series_lost(s, "record", 6, 3);
    series_lost(s, "record", 6, 4);

    text = scrape(s, false, 0, false);
    has(text, "# TYPE target_info gauge\ntarget_info{host_name=\"h1\"} 1\n");
    has(text, "# TYPE scope_build_info gauge\nscope_build_info{version=\"");
    has(text, "# HELP scope_processes Processes that are observed.\n# TYPE scope_processes gauge\nscope_processes 1\n");
    has(text, "# TYPE scope_lost_total counter\nscope_lost_total{kind=\"record\"} 7\n");
    has(text, "# TYPE scope_file_io_bytes_total counter\n");
    has(text, "scope_file_io_bytes_total{proc=\"nginx\",pid=\"4242\",direction=\"read\"} 1024\n");
    has(text, "scope_file_io_bytes_total{proc=\"nginx\",pid=\"4242\",direction=\"write\"} 5\n");
    has(text, "scope_file_operations_total{proc=\"nginx\",pid=\"4242\",operation=\"read\"} 4\n");
    has(text, "scope_file_operations_total{proc=\"nginx\",pid=\"4242\",operation=\"open\"} 2\n");
    has(text, "# TYPE scope_file_io_duration_seconds summary\n"
              "scope_file_io_duration_seconds_sum{proc=\"nginx\",pid=\"4242\"} 1.500000\n"
              "scope_file_io_duration_seconds_count{proc=\"nginx\",pid=\"4242\"} 4\n");
    has(text, "scope_network_io_bytes_total{proc=\"nginx\",pid=\"4242\",direction=\"receive\",class=\"inet_tcp\"} 10\n");
    has(text, "scope_network_io_operations_total{proc=\"nginx\",pid=\"4242\",direction=\"transmit\",class=\"unix_tcp\"} 1\n");
    has(text, "scope_network_connections{proc=\"nginx\",pid=\"4242\",kind=\"tcp\"} 2\n");
    has(text, "scope_network_connection_duration_seconds_sum{proc=\"nginx\",pid=\"4242\"} 0.250000\n");
    has(text, "scope_file_errors_total{proc=\"nginx\",pid=\"4242\",class=\"stat\"} 1\n");
    has(text, "scope_process_cpu_seconds_total{proc=\"nginx\",pid=\"4242\"} 1.000001\n");
    has(text, "scope_process_resident_memory_bytes{proc=\"nginx\",pid=\"4242\"} 2048\n");
    hasnt(text, "# UNIT");
    hasnt(text, "# EOF");
    free(text);

    text = scrape(s, true, 0, false);
    has(text, "# TYPE target info\ntarget_info{host_name=\"h1\"} 1\n");
    has(text, "# TYPE scope_file_io_bytes counter\n# UNIT scope_file_io_bytes bytes\n"
              "scope_file_io_bytes_total{proc=\"nginx\",pid=\"4242\",direction=\"write\"} 5\n");
    assert_string_equal(text + strlen(text) - 7, "\n# EOF\n");
    free(text);
    series_free(s);
}

static void histogram_has_cumulative_buckets(void **state)
{
    static const int64_t durations[] = {0, 5000, 5001, 75000, 10000000, 10000001};
    struct series_set *s = series_new(SERIES_LINES);
    char *text;

    for (size_t i = 0; i < COUNT(durations); i++)
        exchange(s, &nginx, "GET", 200, durations[i]);
    exchange(s, &nginx, "BREW", 418, 1);
    exchange(s, &nginx, "get", 0, 1);
    text = scrape(s, false, 0, false);
#define LABELS "{proc=\"nginx\",pid=\"4242\",http_request_method=\"GET\",http_response_status_code=\"200\""
#define BUCKET(LE, N) "scope_http_server_request_duration_seconds_bucket" LABELS ",le=\"" LE "\"} " N "\n"
    has(text, "# TYPE scope_http_server_request_duration_seconds histogram\n");
    has(text, BUCKET("0.005", "2") BUCKET("0.01", "3") BUCKET("0.025", "3") BUCKET("0.05", "3") BUCKET("0.075", "4")
                  BUCKET("0.1", "4") BUCKET("0.25", "4") BUCKET("0.5", "4") BUCKET("0.75", "4") BUCKET("1.0", "4")
                      BUCKET("2.5", "4") BUCKET("5.0", "4") BUCKET("7.5", "4") BUCKET("10.0", "5") BUCKET("+Inf", "6")
        "scope_http_server_request_duration_seconds_sum" LABELS "} 20.085002\n"
        "scope_http_server_request_duration_seconds_count" LABELS "} 6\n");
    has(text, "_count{proc=\"nginx\",pid=\"4242\",http_request_method=\"_OTHER\",http_response_status_code=\"418\"} 1\n");
    has(text, "_count{proc=\"nginx\",pid=\"4242\",http_request_method=\"_OTHER\",http_response_status_code=\"\"} 1\n");
    free(text);
    series_free(s);
}

static void labels_are_escaped(void **state)
{
    static const struct tm_process odd = {.pid = 1, .proc = "a\"b\\c\nd\xff\xc3(\xe2\x82\xac\x01"};
    struct series_set *s = series_new(SERIES_LINES);
    char *text;

    series_target(s, "te.am-1", "x\"y");
    series_target(s, "te_am_1", "second");
    series_target(s, "0day", "z");
    series_target(s, "__name__", "n");
    sample(s, &odd, TM_FS_OPEN, 1, 1, NULL);
    text = scrape(s, true, 0, false);
    has(text, "target_info{te_am_1=\"x\\\"y\",_0day=\"z\",_name__=\"n\"} 1\n");
    has(text, "{proc=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\xef\xbf\xbd(\xe2\x82\xac\x01\",pid=\"1\",operation=\"open\"} 1\n");
    free(text);
    series_free(s);
}

static void ended_processes_stay_until_they_are_told(void **state)
{
    struct tm_process again = nginx;
    struct series_set *s = series_new(SERIES_LINES);
    char *text;

    series_begin(s, &nginx, 0);
    sample(s, &nginx, TM_FS_OPEN, 5, 5, NULL);
    sample(s, &nginx, TM_PROC_FD, 9, 0, NULL);
    free(scrape(s, false, 0, true));
    assert_false(series_news(s));
    sample(s, &nginx, TM_FS_OPEN, 2, 2, NULL);
    series_end(s, &nginx, 1000);
    assert_true(series_news(s));
    free(scrape(s, false, 1000 + 10 * SERIES_KEEP_MS, false)); /* the scraper went away in the middle */
    text = scrape(s, false, 1000 + 20 * SERIES_KEEP_MS, true);
    has(text, "operation=\"open\"} 7\n");
    hasnt(text, "open_fds{"); /* it has none any more */
    has(text, "scope_processes 0\n");
    free(text);
    assert_false(series_news(s));
    text = scrape(s, false, 1000 + 20 * SERIES_KEEP_MS, true);
    assert_int_equal(lines_of_processes(text), 0);
    free(text);

    /* A second scraper comes in time. */
    series_begin(s, &nginx, 0);
    sample(s, &nginx, TM_FS_OPEN, 1, 1, NULL);
    series_end(s, &nginx, 0);
    free(scrape(s, false, 1, true));
    text = scrape(s, true, SERIES_KEEP_MS - 1, true);
    has(text, "operation=\"open\"} 1\n");
    free(text);

    /* Another one with its name and pid goes on where it ended. */
    series_begin(s, &again, 0);
    sample(s, &again, TM_FS_OPEN, 1, 1, NULL);
    text = scrape(s, true, 10 * SERIES_KEEP_MS, true);
    has(text, "operation=\"open\"} 2\n");
    free(text);
    series_free(s);
}

static void exec_begins_another_series(void **state)
{
    struct tm_process p = {.pid = 3, .proc = "sh"};
    struct series_set *s = series_new(SERIES_LINES);
    char *text;

    series_begin(s, &p, 0);
    sample(s, &p, TM_FS_OPEN, 1, 1, NULL);
    p.proc = "ls";
    series_begin(s, &p, 0);
    sample(s, &p, TM_FS_OPEN, 2, 2, NULL);
    text = scrape(s, false, 0, true);
    has(text, "{proc=\"sh\",pid=\"3\",operation=\"open\"} 1\n");
    has(text, "{proc=\"ls\",pid=\"3\",operation=\"open\"} 2\n");
    has(text, "scope_processes 1\n");
    has(text, "scope_processes_started_total 2\n");
    free(text);
    series_end(s, &p, 0);
    free(scrape(s, false, SERIES_KEEP_MS, true));
    text = scrape(s, false, SERIES_KEEP_MS, true);
    assert_int_equal(lines_of_processes(text), 0);
    free(text);
    series_free(s);
}

static void lines_are_bounded(void **state)
{
    enum { LIMIT = 40, PROCESSES = 100 };
    struct tm_process p[PROCESSES] = {{0}};
    struct series_set *s = series_new(LIMIT);
    char *text;

    for (uint32_t i = 0; i < PROCESSES; i++) {
        p[i] = (struct tm_process){.pid = i + 1, .proc = "worker"};
        series_begin(s, &p[i], 0);
        sample(s, &p[i], TM_FS_OPEN, 1, 1, NULL);
        sample(s, &p[i], TM_PROC_FD, 1, 0, NULL);
        exchange(s, &p[i], "GET", 200, 1);
    }
    text = scrape(s, false, 0, true);
    assert_true(lines_of_processes(text) <= LIMIT);
    has(text, "scope_file_operations_total{otel_metric_overflow=\"true\"} ");
    has(text, "scope_http_server_request_duration_seconds_bucket{otel_metric_overflow=\"true\",le=\"+Inf\"} ");
    hasnt(text, "open_fds{otel");
    assert_true(value_of(text, "\nscope_series_overflow_total ") >= PROCESSES);
    free(text);
    for (uint32_t i = 0; i < PROCESSES; i++)
        series_end(s, &p[i], 0);
    series_free(s);
}

/* A process that talks to itself can make up methods and statuses. */
static void one_process_leaves_room_to_others(void **state)
{
    static const char *const verbs[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "BREW"};
    static const struct tm_process other = {.pid = 8, .proc = "honest"};
    struct series_set *s = series_new(SERIES_LINES);
    char *text;

    series_begin(s, &nginx, 0);
    sample(s, &nginx, TM_FS_OPEN, 1, 1, NULL);
    for (unsigned status = 0; status < 1000; status++)
        for (size_t i = 0; i < COUNT(verbs); i++)
            exchange(s, &nginx, verbs[i], status, 1);
    series_begin(s, &other, 0);
    sample(s, &other, TM_PROC_FD, 3, 0, NULL);
    exchange(s, &other, "GET", 200, 1);
    sample(s, &nginx, TM_FS_OPEN, 1, 1, NULL);
    text = scrape(s, false, 0, true);
    has(text, "scope_process_open_fds{proc=\"honest\",pid=\"8\"} 3\n");
    has(text, "_count{proc=\"honest\",pid=\"8\",http_request_method=\"GET\",http_response_status_code=\"200\"} 1\n");
    has(text, "scope_file_operations_total{proc=\"nginx\",pid=\"4242\",operation=\"open\"} 2\n"); /* keeps what it had */
    has(text, "scope_http_server_request_duration_seconds_count{otel_metric_overflow=\"true\"} ");
    hasnt(text, "status_code=\"600\"");
    assert_true(lines_of_processes(text) <= SERIES_LINES / SERIES_SHARE + 18);
    free(text);
    series_free(s);
}

/* --- connections --- */

enum { LONG = 24 << 20 }; /* more than the kernel takes for a reader that is slow */

static struct scrape_text *long_text(void *ctx, bool openmetrics)
{
    struct scrape_text *t = xcalloc(1, sizeof(*t));

    t->refs = 1;
    memset(buf_room(&t->text, LONG), 'x', LONG);
    t->text.len = LONG;
    return t;
}

static void count_sent(void *ctx, const struct scrape_text *text)
{
    ++*(unsigned *)ctx;
}

static int connect_to(const struct scrape *s, const char *first)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)scrape_port(s))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), little = 4096;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little));
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(send(fd, first, strlen(first), 0), strlen(first));
    return fd;
}

/* What there is to do now. */
static void turn(struct event_base *base)
{
    for (int i = 0; i < 4; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
}

static bool is_open(int fd)
{
    char c;

    return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

struct scrapes {
    struct event_base *base;
    struct scrape *s;
    unsigned sent;
};

static void scrapes_open(struct scrapes *x)
{
    struct cfg_transport at = {.host = (char *)"127.0.0.1", .port = (char *)"0"};
    struct scrape_user user = {.text = long_text, .sent = count_sent, .ctx = &x->sent};

    x->sent = 0;
    x->base = event_base_new();
    x->s = scrape_new(x->base, &at, &user);
    assert_int_not_equal(scrape_port(x->s), 0);
}

static void scrapes_close(struct scrapes *x)
{
    scrape_free(x->s);
    event_base_free(x->base);
}

static void idle_connections_do_not_push_out_a_slow_scraper(void **state)
{
    int slow, idle[SCRAPE_CONNECTIONS + 8];
    struct scrapes x;
    size_t got = 0;
    ssize_t n;
    char *part = xmalloc(1 << 20);

    scrapes_open(&x);
    slow = connect_to(x.s, "GET /metrics HTTP/1.0\r\n\r\n");
    turn(x.base);
    for (size_t i = 0; i < COUNT(idle); i++) {
        idle[i] = connect_to(x.s, i % 2 ? "" : "GET");
        turn(x.base);
    }
    while (got < LONG) {
        turn(x.base);
        n = recv(slow, part, 1 << 20, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            fail_msg("the answer ends after %zu bytes", got);
        got += n > 0 ? (size_t)n : 0;
    }
    turn(x.base);
    assert_int_equal(x.sent, 1);
    for (size_t i = 0; i < COUNT(idle); i++)
        close(idle[i]);
    close(slow);
    free(part);
    scrapes_close(&x);
}

static void empty_lines_keep_no_connection(void **state)
{
    int empty, begun, later[SCRAPE_CONNECTIONS - 1];
    struct scrapes x;

    scrapes_open(&x);
    empty = connect_to(x.s, "\r\n");
    turn(x.base);
    begun = connect_to(x.s, "G");
    turn(x.base);
    assert_int_equal(send(empty, "\r\n", 2, 0), 2);
    turn(x.base);
    for (size_t i = 0; i < COUNT(later); i++) {
        later[i] = connect_to(x.s, "");
        turn(x.base);
    }
    assert_true(is_open(begun));
    assert_false(is_open(empty));
    for (size_t i = 0; i < COUNT(later); i++)
        close(later[i]);
    close(begun);
    close(empty);
    scrapes_close(&x);
}

/* Adds what the series of one name have grown by; one that is new has begun at 0, and none goes back. */
static long long grown(const char *text, long long *known, size_t pids)
{
    static const char name[] = "\nscope_file_operations_total{";
    long long sum = 0;

    for (const char *p = text; (p = strstr(p, name)); p++) {
        const char *labels = p + sizeof(name) - 1;
        size_t pid = strncmp(labels, "otel_", 5) == 0 ? 0 : (size_t)value_of(labels, "pid=\"");
        long long value = value_of(labels, "} ");

        assert_true(pid < pids && value >= known[pid]);
        sum += value - known[pid];
        known[pid] = value;
    }
    return sum;
}

static void totals_are_told_once(void **state)
{
    enum { PROCESSES = 12, STEPS = 3000 };
    struct tm_process p[PROCESSES] = {{0}};
    long long known[STEPS + 2] = {0}, sum = 0, fed = 0; /* by pid; [0]: the overflow */
    struct series_set *s = series_new(8);
    uint32_t random = 1, pid = 0;

    for (unsigned step = 0; step <= STEPS; step++) {
        struct tm_process *who;

        random = random * 1664525 + 1013904223;
        who = &p[(random >> 16) % PROCESSES];
        if (!who->proc) {
            *who = (struct tm_process){.pid = ++pid, .proc = "w"};
            series_begin(s, who, step);
        }
        sample(s, who, TM_FS_OPEN, random >> 28, 1, NULL);
        fed += random >> 28;
        if ((random >> 8) % 7 == 0) {
            series_end(s, who, step);
            who->proc = NULL;
        }
        if ((random >> 4) % 11 == 0 || step == STEPS) {
            char *text = scrape(s, false, step, true);

            sum += grown(text, known, STEPS + 2);
            assert_true(lines_of_processes(text) <= 8);
            free(text);
        }
    }
    assert_true(pid > 100 && known[0] > 0);
    assert_int_equal(sum, fed);
    for (unsigned i = 0; i < PROCESSES; i++)
        if (p[i].proc)
            series_end(s, &p[i], 0);
    series_free(s);
}

static void accept_chooses_the_format(void **state)
{
    static const struct {
        const char *accept;
        bool openmetrics;
    } table[] = {
        {"", false},
        {"*/*", false},
        {"text/html,application/xhtml+xml,*/*;q=0.8", false},
        {"text/plain", false},
        {"application/json", false},
        {"application/openmetrics-text", true},
        {"application/openmetrics-text; version=1.0.0; charset=utf-8", true},
        {"application/openmetrics-text;version=2.0.0", false},
        {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
         "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
         true},
        {"text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4", false},
        {"application/openmetrics-text;version=1.0.0;q=0,text/plain;q=0.1", false},
        {"APPLICATION/OpenMetrics-Text ; Version=1.0.0 ; Q=0.9 , text/plain;q=0.8", true},
        {",,;;q=,application/openmetrics-text;q=0.001,", true},
    };

    for (size_t i = 0; i < COUNT(table); i++)
        if (scrape_wants_openmetrics(table[i].accept, strlen(table[i].accept)) != table[i].openmetrics)
            fail_msg("%s", table[i].accept);
}

static char *read_file(const char *path)
{
    struct buf b = BUF_INIT;
    FILE *f = fopen(path, "r");
    size_t n;

    assert_non_null(f);
    do {
        n = fread(buf_room(&b, 4096), 1, 4096, f);
        b.len += n;
    } while (n);
    fclose(f);
    return buf_cstr(&b);
}

static void documentation_lists_all_metrics(void **state)
{
    char *text = read_file(SOURCE_ROOT "/docs/prometheus.md");
    const char *name, *type, *help;

    for (size_t i = 0; series_metric(i, &name, &type, &help); i++) {
        bool counter = strcmp(type, "counter") == 0, info = strcmp(type, "info") == 0;
        char *row = xasprintf("| `%s%s` | %s | ", name, counter ? "_total" : info ? "_info" : "", type);
        char *end = xasprintf(" | %s |\n", help), *at = strstr(text, row);

        if (!at || !strstr(at, end) || strstr(at, end) > strchr(at, '\n'))
            fail_msg("docs/prometheus.md has no row \"%s...%s\"", row, end);
        free(row);
        free(end);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_has_names_types_units),
        cmocka_unit_test(histogram_has_cumulative_buckets),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(ended_processes_stay_until_they_are_told),
        cmocka_unit_test(exec_begins_another_series),
        cmocka_unit_test(lines_are_bounded),
        cmocka_unit_test(one_process_leaves_room_to_others),
        cmocka_unit_test(idle_connections_do_not_push_out_a_slow_scraper),
        cmocka_unit_test(empty_lines_keep_no_connection),
        cmocka_unit_test(totals_are_told_once),
        cmocka_unit_test(accept_chooses_the_format),
        cmocka_unit_test(documentation_lists_all_metrics),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
