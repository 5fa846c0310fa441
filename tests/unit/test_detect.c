/* SPDX-License-Identifier: Apache-2.0 */
/* Detection: which protocol it is, whatever the pieces; the user's rules; what it costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "conversation.h"
#include "protocol/detect.h"
#include "protocol/dns.h"
#include "protocol/preamble.h"
#include "protocol/statsd.h"
#include "protocol/tls.h"

/* Stand-ins for the decoders of HTTP, which have tests of their own: what matters here is what is made of the answers. */

static int starts(const char *with, const uint8_t *data, size_t len)
{
    size_t n = strlen(with);

    if (len < n)
        return memcmp(with, data, len) == 0 ? -1 : 0;
    return memcmp(with, data, n) == 0;
}

static unsigned http1_calls;

static int http1(const uint8_t *data, size_t len, bool whole)
{
    const uint8_t *end = memchr(data, '\n', len);
    int response = starts("HTTP/1.", data, len);

    http1_calls++;
    if (response)
        return response;
    for (size_t i = 0; i < len && data[i] != ' '; i++)
        if (data[i] < 'A' || data[i] > 'Z')
            return 0;
    return end ? memmem(data, (size_t)(end - data), " HTTP/1.", 8) != NULL : -1;
}

static int http2(const uint8_t *data, size_t len, bool whole)
{
    return starts("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", data, len);
}

static int proxy(const uint8_t *data, size_t len, bool whole)
{
    return preamble_proxy_detect(data, len);
}

static int tls(const uint8_t *data, size_t len, bool whole)
{
    return tls_detect(data, len);
}

static int dns_on_stream(const uint8_t *data, size_t len, bool whole)
{
    return dns_detect_stream(data, len);
}

static int dns_message(const uint8_t *data, size_t len, bool whole)
{
    return dns_detect(data, len);
}

static const struct detect_builtin builtins[] = {
    {.name = "PROXY", .stream = proxy},
    {.name = "SOCKS", .exchange = preamble_socks_detect},
    {.name = "TLS", .stream = tls, .replaceable = true},
    {.name = "HTTP", .stream = http2, .replaceable = true, .unmistakable = true},
    {.name = "HTTP", .stream = http1, .replaceable = true, .unmistakable = true},
    {.name = "DNS", .stream = dns_on_stream, .datagram = dns_message, .replaceable = true},
    {.name = "STATSD", .stream = statsd_detect, .datagram = statsd_detect, .replaceable = true},
};
static const struct detect_builtin *const all[] = {&builtins[0], &builtins[1], &builtins[2], &builtins[3],
                                                   &builtins[4], &builtins[5], &builtins[6]};

/* ------------------------------------------------------------------------ */

static struct detect_rules *rules;
static bool datagrams;

static void use_rules(const struct detect_rule *list, size_t count)
{
    detect_rules_free(rules);
    rules = detect_rules_new(list, count, all, COUNT(all), NULL, NULL);
}

static int drop_rules(void **state)
{
    detect_rules_free(rules);
    rules = NULL;
    datagrams = false;
    return 0;
}

struct run {
    struct detect *d;
    struct buf replayed[PROTO_DIRS], fed[PROTO_DIRS], order;
    bool found;
};

static void on_replay(void *ctx, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct run *r = ctx;

    if (data)
        buf_add(&r->replayed[dir], data, (size_t)len);
    else
        for (uint64_t i = 0; i < len; i++)
            buf_char(&r->replayed[dir], '?');
}

static void add_missed(struct buf *b, const uint8_t *data, size_t len)
{
    if (data)
        buf_add(b, data, len);
    else
        for (size_t i = 0; i < len; i++)
            buf_char(b, '?');
}

static void feed(void *ctx, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    struct run *r = ctx;
    size_t kept;

    add_missed(&r->fed[dir], data, len);
    if (r->found) {
        assert_int_equal(detect_feed(r->d, dir, data, len, time_ns), 0);
        add_missed(&r->replayed[dir], data, len);
        return;
    }
    kept = detect_feed(r->d, dir, data, len, time_ns);
    assert_true(kept <= len);
    if (detect_answer(r->d).state == DETECT_FOUND) {
        r->found = true;
        detect_replay(r->d, on_replay, r);
        on_replay(r, dir, data ? data + kept : NULL, len - kept, time_ns);
    }
}

static bool tell_when; /* whether it took the ends of both directions to have an answer */

/* The answer at the end, and with it that the decoder gets each byte once. */
static char *run(const struct passage *p, size_t n, size_t chunk, size_t cut)
{
    static const char *const protocols[] = {"proxy", "socks", "tls", "http2", "http1", "dns", "statsd"};
    struct run r = {.d = detect_new(rules, datagrams)};
    struct buf text = BUF_INIT;
    struct detect_answer a;

    feed_all(p, n, chunk, cut, feed, &r);
    a = detect_answer(r.d);
    if (a.state == DETECT_MORE) {
        detect_end(r.d, PROTO_RX);
        detect_end(r.d, PROTO_TX);
        if (tell_when)
            buf_str(&text, "at the end: ");
        a = detect_answer(r.d);
    }
    if (a.state == DETECT_NOTHING)
        buf_str(&text, "nothing");
    else if (a.state == DETECT_FOUND)
        buf_printf(&text, "%s %s %s %d", a.builtin == DETECT_NONE ? "user" : protocols[a.builtin], a.name, a.dir == PROTO_TX ? "tx" : "rx",
                   a.rule == DETECT_NONE ? -1 : (int)a.rule);
    else
        buf_str(&text, "more");
    for (int dir = 0; r.found && dir < PROTO_DIRS; dir++) {
        assert_int_equal(r.replayed[dir].len, r.fed[dir].len);
        for (size_t i = 0; i < r.fed[dir].len; i++)
            assert_true(r.replayed[dir].p[i] == r.fed[dir].p[i] || r.replayed[dir].p[i] == '?');
    }
    for (int dir = 0; dir < PROTO_DIRS; dir++) {
        buf_free(&r.replayed[dir]);
        buf_free(&r.fed[dir]);
    }
    detect_free(r.d);
    return take_text(&text);
}

/* How soon there is an answer depends on the pieces; what it is doesn't. */
static void expect(const struct passage *p, size_t n, const char *want)
{
    static const char late[] = "at the end: ";
    char *got;

    tell_when = true;
    got = run(p, n, 0, 0);
    tell_when = false;
    assert_string_equal(got, want);
    free(got);
    expect_told(run, p, n, want + (strncmp(want, late, strlen(late)) == 0 ? strlen(late) : 0));
}
#define EXPECT(want, ...) \
    do { \
        const struct passage p_[] = {__VA_ARGS__}; \
        expect(p_, COUNT(p_), want); \
    } while (0)

static void test_builtin(void **state)
{
    use_rules(NULL, 0);
    EXPECT("http1 HTTP tx -1", TX("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), RX("HTTP/1.1 200 OK\r\n"));
    EXPECT("http1 HTTP rx -1", RX("GET / HTTP/1.1\r\n"));
    EXPECT("http1 HTTP rx -1", TX("\1\2\3"), RX("HTTP/1.1 400 Bad\r\n"));
    EXPECT("http1 HTTP rx -1", TX("GE"), RX("HTTP/1.1 408 Late\r\n"), TX("T /"));
    EXPECT("http2 HTTP tx -1", TX("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"));
    EXPECT("tls TLS tx -1", TX("\x16\3\1\0\xc8\1\0\0\xc4\3\3rrrrrrrr"));
    EXPECT("dns DNS tx -1", TX("\0\x1d\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"));
    EXPECT("statsd STATSD tx -1", TX("a:1|c\nb:2|c\n"));
    EXPECT("proxy PROXY rx -1", RX("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n"));
    EXPECT("proxy PROXY tx -1", TX("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), RX("HTTP/1.1 200 OK\r\n"));
    EXPECT("socks SOCKS tx -1", TX("\5\1\0"), RX("\5\0"), TX("\5\1\0\1"));
    EXPECT("socks SOCKS rx -1", RX("\4\1\0\x50\x7f\0\0\1\0"), TX("\0\x5a\0\0\0\0\0\0"));
    EXPECT("at the end: nothing", TX("\5\1\0"));
    EXPECT("http1 HTTP rx -1", TX("\5\1\0"), RX("HTTP/1.1 400 Bad\r\n"));
    EXPECT("at the end: statsd STATSD tx -1", TX("a:1|c"));
    EXPECT("at the end: nothing", TX("\1\2\3\4"), RX("\5\6\7\0\1"));
    EXPECT("nothing", TX("\0\1\2\3"), RX("\0\2\3\4"));
    EXPECT("at the end: nothing", TX("\1\2\3\4"));
    EXPECT("at the end: nothing", TX("GET"), RX("HTT"));
}

/* In the middle of a connection only HTTP is looked for, and only in the direction that begins. */
static void test_turn(void **state)
{
    static const struct {
        const char *text;
        enum detect_state want;
    } list[] = {{"GET / HTTP/1.1\r\n", DETECT_FOUND},      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", DETECT_FOUND},
                {"a:1|c\nb:2|c\n", DETECT_NOTHING},        {"GET ", DETECT_MORE},
                {"needle", DETECT_NOTHING},                {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", DETECT_NOTHING}};
    static const struct detect_rule rule[] = {{.name = "Any", .regex = "needle"}};

    use_rules(rule, 1);
    for (size_t i = 0; i < COUNT(list); i++) {
        struct detect *d = detect_new_turn(rules);

        assert_true(detect_feed(d, PROTO_TX, (const uint8_t *)list[i].text, strlen(list[i].text), MS) > 0);
        assert_int_equal(detect_answer(d).state, list[i].want);
        detect_feed(d, PROTO_RX, (const uint8_t *)"HTTP/1.1 200 OK\r\n", 17, MS);
        assert_int_equal(detect_answer(d).state, list[i].want);
        detect_free(d);
    }
}

/* A request line that is longer than what the older tool looked at, and one that is too long. */
static void test_long_request(void **state)
{
    static char line[DETECT_BUDGET + 100];

    use_rules(NULL, 0);
    memset(line, 'x', sizeof(line));
    memcpy(line, "GET /", 5);
    memcpy(line + 8000, " HTTP/1.1\r\n", 11);
    EXPECT("http1 HTTP tx -1", {PROTO_TX, line, 9000});
    memset(line + 8000, 'x', 100);
    memcpy(line + DETECT_BUDGET - 11, " HTTP/1.1\r\n", 11);
    EXPECT("http1 HTTP tx -1", {PROTO_TX, line, sizeof(line)});
    memset(line + DETECT_BUDGET - 11, 'x', 11);
    memcpy(line + DETECT_BUDGET - 10, " HTTP/1.1\r\n", 11);
    EXPECT("at the end: nothing", {PROTO_TX, line, sizeof(line)});
    EXPECT("http1 HTTP rx -1", {PROTO_TX, line, sizeof(line)}, RX("HTTP/1.1 200 OK\r\n"), TX("more"));
}

static void test_user_rules(void **state)
{
    static const struct detect_rule list[] = {
        {.name = "Redis", .regex = "^[*]\\d+|^[+]\\w+"},
        {.name = "SMTP", .regex = "^220 .*\\r\\n", .len = 100},
        {.name = "Bin", .regex = "^00ff.*be$", .binary = true, .len = 4},
        {.name = "Any", .regex = "needle"},
        {.name = "Exact", .regex = "^exactly$"},
        {.name = "Never", .regex = "(", .len = 9},
    };

    use_rules(list, COUNT(list));
    EXPECT("user Redis tx 0", TX("*1\r\n$4\r\nPING\r\n"), RX("+PONG\r\n"));
    EXPECT("user SMTP rx 1", RX("220 mail ESMTP\r\n"), TX("EHLO a\r\n"));
    EXPECT("user Bin tx 2", TX("\0\xff\1\xbe\5\6\7"));
    EXPECT("at the end: nothing", TX("\0\xff\1\xbf\5\6\7"));
    EXPECT("user Any tx 3", TX("where is the needle?"));
    EXPECT("user Any rx 3", TX("where is it?"), RX("here: needle."));
    EXPECT("user Exact tx 4", TX("exactly"), RX("x"));
    EXPECT("at the end: nothing", TX("exactly not"), RX("x"), TX("y"));
    EXPECT("at the end: user Exact tx 4", TX("exactly"));
    /* What is built in comes after them, once they are sure. */
    EXPECT("http1 HTTP tx -1", TX("GET / HTTP/1.1\r\n"), RX("HTTP/1.1 200 OK\r\nneedle"));
    EXPECT("user Any tx 3", TX("GET /needle HTTP/1.1\r\n"), RX("HTTP/1.1 200 OK\r\n"));
    EXPECT("at the end: http1 HTTP tx -1", TX("GET / HTTP/1.1\r\n"));
}

/* The first byte of the answer ends what a rule sees of the question: the same wherever that is. */
static void test_windows(void **state)
{
    static const struct detect_rule list[] = {{.name = "Two", .regex = "^a.*b$"},
                                              {.name = "Four", .regex = "^w.*w$", .len = 4},
                                              {.name = "Late", .regex = "late"}};
    static const struct detect_rule anchored[] = {{.name = "Begin", .regex = "^abc|^\\Aabd"}};
    static char filler[DETECT_WINDOW + 4];

    use_rules(list, COUNT(list));
    EXPECT("user Two tx 0", TX("a"), TX("b"), RX("x"));
    EXPECT("at the end: nothing", TX("a"), RX("x"), TX("b"), RX("y"));
    EXPECT("user Four tx 1", TX("wxyw"));
    EXPECT("user Four tx 1", TX("wxyw and more"));
    EXPECT("user Late rx 2", TX("a"), RX("late"), TX("b"));
    memset(filler, '-', sizeof(filler));
    memcpy(filler + DETECT_WINDOW - 4, "late", 4);
    EXPECT("user Late tx 2", {PROTO_TX, filler, sizeof(filler)});
    memset(filler, '-', sizeof(filler));
    memcpy(filler + DETECT_WINDOW - 3, "late", 4);
    EXPECT("at the end: nothing", {PROTO_TX, filler, sizeof(filler)});
    /* What can match at the first byte only is known not to match before the window is complete. */
    use_rules(anchored, COUNT(anchored));
    EXPECT("nothing", TX("\0\1\2\3"), RX("\0\1\2\3"));
    EXPECT("at the end: nothing", TX("ab"), RX("\0\1\2\3"));
}

static void test_replaced(void **state)
{
    static const struct detect_rule list[] = {{.name = "http", .regex = "^(GET /api|PRI )"},
                                              {.name = "Tls", .regex = "^160303", .binary = true, .len = 5}};
    static const struct detect_rule api[] = {{.name = "HTTP", .regex = "^GET /api"}};
    static const struct detect_rule statsd[] = {{.name = "STATSD", .regex = "^x"}, {.name = "dns", .regex = "^y"}};

    use_rules(list, COUNT(list));
    EXPECT("http1 http tx 0", TX("GET /api/x HTTP/1.1\r\n"), RX("x"));
    EXPECT("nothing", TX("GET /other HTTP/1.1\r\n"), RX("HTTP/1.1 200 OK\r\n"), TX("x"));
    EXPECT("http2 http tx 0", TX("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    EXPECT("http1 http tx 0", TX("PRI * HTTP/1.1\r\n\r\n"));
    EXPECT("tls Tls tx 1", TX("\x16\3\3\0\xc8\1\0\0\xc4\3\3rrrrrrrr"));
    EXPECT("at the end: nothing", TX("\x16\3\1\0\xc8\1\0\0\xc4\3\3rrrrrrrr"), RX("x"), TX("y"));
    use_rules(api, COUNT(api));
    EXPECT("at the end: nothing", TX("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    use_rules(statsd, COUNT(statsd));
    EXPECT("at the end: nothing", TX("a:1|c\n"));
    EXPECT("statsd STATSD tx 0", TX("x:1|c\n"));
    EXPECT("dns dns tx 1", TX("yes"));
    EXPECT("at the end: nothing", TX("\0\x1d\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"));
}

static void feed_datagrams(const struct passage *p, size_t n, const char *want)
{
    char *got;

    datagrams = tell_when = true;
    got = run(p, n, 0, 0);
    datagrams = tell_when = false;
    assert_string_equal(got, want);
    free(got);
}
#define DATAGRAMS(want, ...) \
    do { \
        const struct passage p_[] = {__VA_ARGS__}; \
        feed_datagrams(p_, COUNT(p_), want); \
    } while (0)

static void test_datagrams(void **state)
{
    static const struct detect_rule list[] = {{.name = "Syslog", .regex = "^<\\d+>.*end$"}};

    use_rules(list, COUNT(list));
    DATAGRAMS("dns DNS tx -1", TX("\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"));
    DATAGRAMS("statsd STATSD tx -1", TX("a:1|c"));
    DATAGRAMS("user Syslog tx 0", TX("<12>the end"));
    DATAGRAMS("nothing", TX("GET / HTTP/1.1\r\n"), TX("a:1|c"), RX("\x16\3\1\0\xc8\1\0\0\xc4\3\3rrrrrrrr"));
    DATAGRAMS("statsd STATSD rx -1", TX("nothing"), TX("a:1|c"), RX("a:1|c"), RX("b:1|c"));
    DATAGRAMS("at the end: nothing", TX("nothing"), TX("a:1|c"), TX("a:1|c"));
}

static void test_more(void **state)
{
    struct detect *d;
    struct detect_answer a;

    use_rules(NULL, 0);
    d = detect_new(rules, false);
    a = detect_answer(d);
    assert_true(a.more[PROTO_RX] && a.more[PROTO_TX]);
    detect_feed(d, PROTO_TX, (const uint8_t *)"GET", 3, 1);
    a = detect_answer(d);
    assert_int_equal(a.state, DETECT_MORE);
    assert_true(a.more[PROTO_RX] && a.more[PROTO_TX]);
    detect_feed(d, PROTO_TX, (const uint8_t *)"\1\1\1\1", 4, 1);
    a = detect_answer(d);
    assert_int_equal(a.state, DETECT_MORE);
    assert_true(a.more[PROTO_RX] && !a.more[PROTO_TX]); /* this direction is nothing */
    detect_end(d, PROTO_RX);
    assert_int_equal(detect_answer(d).state, DETECT_NOTHING);
    detect_free(d);
    d = detect_new(rules, false);
    detect_end(d, PROTO_RX);
    a = detect_answer(d);
    assert_true(!a.more[PROTO_RX] && a.more[PROTO_TX]);
    detect_end(d, PROTO_TX);
    assert_int_equal(detect_answer(d).state, DETECT_NOTHING);
    detect_free(d);
    detect_free(NULL);
}

static void test_gaps(void **state)
{
    use_rules(NULL, 0);
    EXPECT("http1 HTTP rx -1", TX("GET /"), {PROTO_TX, NULL, 100}, TX(" HTTP/1.1\r\n"), RX("HTTP/1.1 200 OK\r\n"));
    EXPECT("at the end: nothing", {PROTO_TX, NULL, 100}, TX("GET / HTTP/1.1\r\n"));
}

/* A conversation that goes to and fro without a sign of what it is has an end, too. */
static void test_turns(void **state)
{
    struct passage p[2 * DETECT_TURNS];

    use_rules(NULL, 0);
    for (size_t i = 0; i < COUNT(p); i++)
        p[i] = i % 2 ? (struct passage)RX("B") : (struct passage)TX("A");
    expect(p, COUNT(p), "nothing");
    expect(p, DETECT_TURNS, "at the end: nothing");
}

struct pieces {
    size_t count;
    uint64_t last_ns;
};

static void on_piece(void *ctx, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct pieces *p = ctx;

    p->count++;
    assert_true(time_ns >= p->last_ns);
    p->last_ns = time_ns;
}

/* Pieces keep their times, but for too many. */
static void test_replay(void **state)
{
    struct detect *d;
    struct pieces p = {0};

    use_rules(NULL, 0);
    d = detect_new(rules, false);
    for (unsigned i = 0; i < 10; i++)
        detect_feed(d, PROTO_TX, (const uint8_t *)"G", 1, i + 1);
    detect_replay(d, on_piece, &p);
    assert_int_equal(p.count, 10);
    assert_int_equal(p.last_ns, 10);
    detect_free(d);
    d = detect_new(rules, false);
    p = (struct pieces){0};
    for (unsigned i = 0; i < 5000; i++)
        detect_feed(d, PROTO_TX, (const uint8_t *)"G", 1, i + 1);
    detect_replay(d, on_piece, &p);
    assert_true(p.count <= DETECT_PIECES);
    detect_free(d);
}

/* Patterns that explode, with bytes that make them: bounded, whatever the pieces. Without a bound the first alone takes
 * longer than anybody waits, also whoever runs the tests. */
static void test_bombs(void **state)
{
    static const struct detect_rule list[] = {
        {.name = "nested", .regex = "^(a+)+$"},
        {.name = "scan", .regex = "a*b?a*b?a*c"},
        {.name = "hex", .regex = "(61|6161)*x", .binary = true},
        {.name = "back", .regex = "(.*)(.*)\\1\\2x"},
        {.name = "recurse", .regex = "(a(?1)?a?)+x"},
        {.name = "power", .regex = "(?:a?){22}[bc]"},
    };
    static char a[DETECT_BUDGET];

    memset(a, 'a', sizeof(a));
    a[DETECT_WINDOW - 1] = '!';
    use_rules(list, COUNT(list));
    for (size_t chunk = 1; chunk < 5000; chunk = chunk * 7 + 3) {
        const struct passage p = {PROTO_TX, a, sizeof(a)};
        char *got = run(&p, 1, chunk, 0);

        assert_string_equal(got, "nothing");
        free(got);
    }
}

/* How often it is looked: not for each piece. */
static void test_looks(void **state)
{
    struct detect *d;

    use_rules(NULL, 0);
    d = detect_new(rules, false);
    http1_calls = 0;
    for (unsigned i = 0; i < DETECT_BUDGET; i++)
        detect_feed(d, PROTO_TX, (const uint8_t *)"G", 1, 1);
    assert_in_range(http1_calls, 10, 50);
    /* A direction that has ended is none to look for; what the other one has doesn't change by it. */
    detect_feed(d, PROTO_RX, (const uint8_t *)"H", 1, 1);
    http1_calls = 0;
    for (unsigned i = 0; i < 10000; i++)
        detect_feed(d, PROTO_TX, (const uint8_t *)"G", 1, 1);
    assert_in_range(http1_calls, 0, 2);
    detect_free(d);
}

static size_t problem_rule;

static void on_problem(void *ctx, size_t rule, const char *text)
{
    problem_rule = rule;
    assert_non_null(strstr(text, "parenthes"));
}

static void test_problem(void **state)
{
    const struct detect_rule list[] = {{.name = "a", .regex = "a"}, {.name = "b", .regex = "(b"}};

    detect_rules_free(detect_rules_new(list, 2, all, COUNT(all), on_problem, NULL));
    assert_int_equal(problem_rule, 1);
    detect_rules_free(NULL);
}

/* Conversations made at random of what the rules look for: the pieces never matter. */
static void test_random(void **state)
{
    static const char *const words[] = {"GET ",    "/",         " HTTP/1.1\r\n", "HTTP/1.1 200\r\n",
                                        "a:1|c\n", "a:",        "needle",        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                        "PRI *",   "220 x\r\n", "\x16\3\1",      "end",
                                        "G",       "ab"};
    static const struct detect_rule list[] = {
        {.name = "Any", .regex = "needle"},       {.name = "End", .regex = "^.*end$"},
        {.name = "Not", .regex = "^G(?!ET)."},    {.name = "Behind", .regex = "(?<!a)b\\b"},
        {.name = "SMTP", .regex = "^220 .*\r\n"}, {.name = "Hex", .regex = "^(..)*6e64", .binary = true, .len = 9},
    };
    unsigned seed = 1;

    use_rules(list, COUNT(list));
    for (unsigned round = 0; round < 2000; round++) {
        struct passage p[8];
        size_t n = 1 + (size_t)rand_r(&seed) % COUNT(p);

        for (size_t i = 0; i < n; i++) {
            const char *word = words[(size_t)rand_r(&seed) % COUNT(words)];

            p[i] = (struct passage){rand_r(&seed) % 2 ? PROTO_TX : PROTO_RX, word, strlen(word)};
        }
        free(run_divided(run, p, n));
    }
}

/* A configuration that is no more: connections that it was recognising go on, and the names that they were told stay. */
static void test_rules_go_first(void **state)
{
    const struct detect_rule mine[] = {{"MINE", "^mine", false, 0}};
    struct detect_rules *gone = detect_rules_new(mine, 1, all, COUNT(all), NULL, NULL);
    struct detect *d = detect_new(gone, false), *other = detect_new_turn(gone);
    struct detect_answer a;

    (void)state;
    detect_rules_free(gone);
    detect_feed(d, PROTO_TX, (const uint8_t *)"mi", 2, 1);
    detect_feed(d, PROTO_TX, (const uint8_t *)"ne and yours", 12, 2);
    a = detect_answer(d);
    assert_int_equal(a.state, DETECT_FOUND);
    detect_free(d);
    detect_free(other);
    assert_string_equal(a.name, "MINE");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, drop_rules)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_go_first),
        TEST(test_builtin), TEST(test_turn),   TEST(test_long_request), TEST(test_user_rules), TEST(test_windows), TEST(test_replaced),
        TEST(test_datagrams), TEST(test_more),         TEST(test_gaps),       TEST(test_turns),   TEST(test_replay),
        TEST(test_bombs),     TEST(test_looks),        TEST(test_problem),    TEST(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
