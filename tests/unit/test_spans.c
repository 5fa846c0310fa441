/* SPDX-License-Identifier: Apache-2.0 */
/* Spans: what they say, whose children they are, and which are told. */
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "collector_bed.h"

#include "base/log.h"
#include "collector/life.h"
#include "report/spans.h"
#include "traffic/both_ends.h"
#include "traffic/stream.h"

#define TRACE  "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"
#define GET(target, more) "GET " target " HTTP/1.1\r\nHost: h.test:8080\r\nUser-Agent: curl/8\r\n" more "\r\n"
#define ANSWER(status, length) "HTTP/1.1 " status " Text\r\nContent-Length: " length "\r\n\r\n"
#define TRACEPARENT(flags) "Traceparent: 00-" TRACE "-" PARENT "-" flags "\r\n"

/* Others for each test: which connections have nobody at their other end is remembered. */
static uint16_t ports = 3000;

static int setup_spans(void **state)
{
    fake_spans = true;
    ports = (uint16_t)(ports + 10);
    fake_otlp = (struct cfg_otlp){.ratio = 1, .parent_based = true};
    return setup(state);
}

static int teardown_spans(void **state)
{
    fake_spans = false;
    return teardown(state);
}

static void put(struct writer *w, int fd, enum data_source source, const void *data, size_t len)
{
    struct fd_entry *e = writer_fd(w, (unsigned)fd);
    uint64_t *at = source == DATA_TX ? &e->write_bytes : &e->read_bytes;

    assert_true(writer_put(w, REC_DATA, OP_sendto, (int64_t)len, ARGS((uint64_t)fd, 0, *at, source, 0, e->gen), 0,
                           ITEMS({ITEM_DATA, data, len})));
    *at += len;
    *(source == DATA_TX ? &e->write_ops : &e->read_ops) += 1;
}

static void put_text(struct writer *w, uint32_t tid, int fd, enum data_source source, const char *text)
{
    w->tid = tid;
    put(w, fd, source, text, strlen(text));
}

static struct sockaddr_in address(uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

/* A connection that came in, from that port of this host. */
static void put_accept(struct writer *w, int fd, uint16_t port)
{
    struct sockaddr_in peer = address(port), local = address(8080);

    uint32_t gen = ++writer_fd(w, (unsigned)fd)->gen;

    if (port < 2000) /* of another host */
        peer.sin_addr.s_addr = htonl(0xc0000201);

    assert_true(writer_put(w, REC_CALL, OP_accept4, fd, ARGS(3, 0, 0, 0, 0, gen), 0,
                           ITEMS({ITEM_ADDR, &peer, sizeof(peer)}, {ITEM_LOCAL, &local, sizeof(local)})));
}

static void put_connect(struct writer *w, int fd, uint16_t port, uint16_t own)
{
    struct sockaddr_in peer = address(port), local = address(own);
    uint32_t gen = ++writer_fd(w, (unsigned)fd)->gen;

    assert_true(writer_put(w, REC_CALL, OP_socket, fd, ARGS(AF_INET, SOCK_STREAM, 0, 0, 0, gen), 0, NULL));
    assert_true(writer_put(w, REC_CALL, OP_connect, 0, ARGS((uint64_t)fd, 0, 16), 0,
                           ITEMS({ITEM_ADDR, &peer, sizeof(peer)}, {ITEM_LOCAL, &local, sizeof(local)})));
}

/* A server with connections on descriptors 4, 5, 6, from other ports than clients of these tests use; 7, 8, 9 lead out. */
static struct writer serving(void)
{
    struct writer w = prog(NOBODY);

    assert_non_null(attach(&w));
    assert_true(writer_put(&w, REC_CALL, OP_socket, 3, ARGS(AF_INET, SOCK_STREAM, 0, 0, 0, 1), 0, NULL));
    for (int fd = 4; fd < 7; fd++)
        put_accept(&w, fd, (uint16_t)(1000 + fd));
    for (int fd = 7; fd < 10; fd++)
        put_connect(&w, fd, 9090, (uint16_t)(2000 + fd));
    return w;
}

/* What stands behind a name in the n-th span with this in it: valid until the next call of the same slot. */
static const char *value_of(const char *part, const char *name)
{
    static char text[4][40];
    static unsigned slot;
    const char *line = find("span ", part, 0), *p = line ? strstr(line, name) : NULL;
    char *to = text[slot++ % 4];

    if (!p)
        fail_msg("no %s in a span with %s", name, part);
    p += strlen(name);
    snprintf(to, sizeof(text[0]), "%.*s", (int)strcspn(p, " "), p);
    return to;
}

static void is_child(const char *child, const char *parent)
{
    assert_string_equal(value_of(child, " parent="), value_of(parent, " id="));
    assert_string_equal(value_of(child, " trace="), value_of(parent, " trace="));
}

static void is_root(const char *part)
{
    assert_string_equal(value_of(part, " parent="), "0000000000000000");
    assert_string_equal(value_of(part, " remote="), "none");
}

static void kill_process_of(pid_t pid)
{
    struct proc *p = proc_by_host_pid(&c.model, pid);

    p->waited = true;
    p->wait_status = SIGKILL;
    proc_died(p);
    run();
}

/* --- what they say --- */

static void test_server(void **state)
{
    struct writer w = serving();

    (void)state;
    put_text(&w, 1, 4, DATA_RX, GET("/a?b=c&token=x", "X-Forwarded-For: 192.0.2.7 , 10.0.0.1\r\n"));
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "3") "ab");
    run();
    expect_not("span ", NULL);
    put_text(&w, 1, 4, DATA_TX, "c");
    run();
    assert_int_equal(count("span ", NULL), 1);
    expect("span GET pid=4100000 kind=2 status=0 ", " flags=1 remote=none state= http.request.method=GET url.path=/a "
           "url.query=b=c&token=REDACTED http.response.status_code=200 http.response.body.size=3 user_agent.original=curl/8 "
           "url.scheme=http server.address=h.test server.port=8080 client.address=192.0.2.7 network.peer.address=192.0.2.1 "
           "network.peer.port=1004 network.protocol.name=http network.protocol.version=1.1 network.transport=tcp");
    is_root("url.path=/a");
    assert_true(strspn(value_of("url.path=/a", " trace="), "0") < 32);
    assert_true(strspn(value_of("url.path=/a", " id="), "0") < 16);
    expect_not("span ", "error.type");
    expect_not("span ", "url.full");
    /* a server's fault, and none */
    put_text(&w, 1, 5, DATA_RX, GET("/5", ""));
    put_text(&w, 1, 5, DATA_TX, ANSWER("503", "0"));
    put_text(&w, 1, 6, DATA_RX, "fOO /4 HTTP/1.0\r\nContent-Length: 2\r\n\r\nxx");
    put_text(&w, 1, 6, DATA_TX, ANSWER("404", "0"));
    run();
    expect("span GET pid=4100000 kind=2 status=2 ", "http.response.status_code=503");
    assert_string_equal(value_of("url.path=/5", " error.type="), "503");
    expect("span HTTP pid=4100000 kind=2 status=0 ", "http.request.method=_OTHER http.request.method_original=fOO "
           "url.path=/4 http.response.status_code=404 http.request.body.size=2 http.response.body.size=0 "
           "url.scheme=http server.address=127.0.0.1 server.port=8080 client.address=192.0.2.1");
    assert_int_equal(count("span ", "error.type"), 1);
    assert_string_not_equal(value_of("url.path=/5", " trace="), value_of("url.path=/4", " trace="));
    writer_free(&w);
}

/* What requests of a connection have in common is told of each as it is, whatever the others say. */
static void test_one_connection(void **state)
{
    struct writer w = serving();

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        put_text(&w, 1, 4, DATA_RX, GET("/same", ""));
        put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    }
    put_text(&w, 1, 4, DATA_RX, "GET /other HTTP/1.1\r\nHost: other.test\r\n\r\n");
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    put_text(&w, 1, 4, DATA_RX, GET("/for", "X-Forwarded-For: 192.0.2.99\r\n"));
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    put_text(&w, 1, 5, DATA_RX, GET("/next", ""));
    put_text(&w, 1, 5, DATA_TX, ANSWER("200", "0"));
    put_text(&w, 1, 5, DATA_RX, GET("/last", "X-Forwarded-For: 192.0.2.98\r\n"));
    put_text(&w, 1, 5, DATA_TX, ANSWER("200", "0"));
    run();
    assert_int_equal(count("span GET ", "url.scheme=http server.address=h.test server.port=8080 client.address=192.0.2.1 "
                                         "network.peer.address=192.0.2.1 network.peer.port=1004"), 2);
    assert_string_equal(value_of("url.path=/other", " server.address="), "other.test");
    assert_string_equal(value_of("url.path=/other", " server.port="), "80");
    assert_string_equal(value_of("url.path=/for", " server.address="), "h.test");
    assert_string_equal(value_of("url.path=/for", " client.address="), "192.0.2.99");
    assert_string_equal(value_of("url.path=/next", " client.address="), "192.0.2.1");
    assert_string_equal(value_of("url.path=/next", " network.peer.port="), "1005");
    assert_string_equal(value_of("url.path=/last", " client.address="), "192.0.2.98");
    writer_free(&w);
}

static void test_client(void **state)
{
    struct writer w = serving();

    (void)state;
    put_text(&w, 1, 7, DATA_TX, "GET http://me:secret@h.test/p?sig=1&a HTTP/1.1\r\nHost: ignored\r\n\r\n");
    put_text(&w, 1, 7, DATA_RX, ANSWER("404", "0"));
    run();
    expect("span GET pid=4100000 kind=3 status=2 ", "http.request.method=GET url.path=/p url.query=sig=REDACTED&a "
           "url.full=http://REDACTED:REDACTED@h.test/p?sig=REDACTED&a http.response.status_code=404 "
           "http.response.body.size=0 error.type=404 url.scheme=http server.address=h.test server.port=80 "
           "network.peer.address=127.0.0.1 network.peer.port=9090 network.protocol.name=http network.protocol.version=1.1 "
           "network.transport=tcp");
    expect_not("span ", "client.address");
    expect_not("span ", "secret");
    is_root("url.path=/p");
    put_text(&w, 1, 8, DATA_TX, "CONNECT target.test:443 HTTP/1.1\r\nHost: target.test:443\r\n\r\n");
    put_text(&w, 1, 8, DATA_RX, "HTTP/1.1 200 OK\r\n\r\n");
    put_text(&w, 1, 9, DATA_TX, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    put_text(&w, 1, 9, DATA_RX, "HTTP/1.1 204 No\r\n\r\n");
    run();
    expect("span CONNECT ", "server.address=target.test server.port=443");
    expect("span OPTIONS ", "url.path=* url.full=http://h http.response.status_code=204");
    writer_free(&w);
}

/* Exchanges that don't end well. */
static void test_broken(void **state)
{
    struct writer w = serving();

    (void)state;
    put_text(&w, 1, 4, DATA_RX, GET("/none", ""));
    put_text(&w, 1, 5, DATA_RX, GET("/half", ""));
    put_text(&w, 1, 5, DATA_TX, ANSWER("200", "10") "abc");
    put_text(&w, 1, 6, DATA_RX, GET("/to-the-end", ""));
    put_text(&w, 1, 6, DATA_TX, "HTTP/1.0 200 OK\r\n\r\nabc");
    run();
    expect_not("span ", NULL);
    for (int fd = 4; fd < 7; fd++)
        put_close(&w, fd);
    run();
    assert_int_equal(count("span ", NULL), 3);
    assert_string_equal(value_of("url.path=/none", " error.type="), "no_response");
    expect_not("span ", "url.path=/none http.response");
    assert_string_equal(value_of("url.path=/half", " error.type="), "incomplete_response");
    expect("span GET pid=4100000 kind=2 status=0 ", "url.path=/to-the-end http.response.status_code=200 http.response.body.size=3");
    /* a process that is killed */
    put_text(&w, 1, 7, DATA_TX, GET("/killed", ""));
    run();
    kill_process_of(NOBODY);
    assert_string_equal(value_of("url.path=/killed", " error.type="), "no_response");
    writer_free(&w);
}

/* The end of a body that nobody looks at is when its last byte passes. */
static void test_last_byte(void **state)
{
    static const char head[] = ANSWER("200", "100000");
    struct writer w = serving();
    const struct fd_skip *s = (const struct fd_skip *)(const void *)((char *)w.h + w.h->skip_off) + 4;
    const struct fd_entry *e = writer_fd(&w, 4);

    (void)state;
    put_text(&w, 1, 4, DATA_RX, GET("/big", ""));
    put_text(&w, 1, 4, DATA_TX, head);
    run();
    assert_int_equal(skip_left(s->tx, e->gen, e->write_bytes), 99999);
    writer_free(&w);
}

/* --- ids --- */

static void test_parent_from_header(void **state)
{
    struct writer w = serving();

    (void)state;
    put_text(&w, 1, 4, DATA_RX, GET("/1", TRACEPARENT("01") "tracestate: a=1\r\nTracestate: b=2\r\n"));
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    put_text(&w, 1, 5, DATA_RX, GET("/2", "x-b3-traceid: 8448eb211c80319c\r\nX-B3-SpanId: " PARENT "\r\n"));
    put_text(&w, 1, 5, DATA_TX, ANSWER("200", "0"));
    put_text(&w, 1, 6, DATA_RX, GET("/3", "traceparent: 00-" TRACE "-0000000000000000-01\r\n"));
    put_text(&w, 1, 6, DATA_TX, ANSWER("200", "0"));
    run();
    expect("span GET ", " trace=" TRACE);
    assert_string_equal(value_of("url.path=/1", " parent="), PARENT);
    assert_string_not_equal(value_of("url.path=/1", " id="), PARENT);
    expect("span GET ", " flags=1 remote=yes state=a=1,b=2 http.request.method=GET url.path=/1");
    assert_string_equal(value_of("url.path=/2", " trace="), "00000000000000008448eb211c80319c");
    assert_string_equal(value_of("url.path=/2", " parent="), PARENT);
    is_root("url.path=/3");
    /* a client that traces by itself: that is the span around ours */
    put_text(&w, 1, 7, DATA_TX, GET("/4", TRACEPARENT("01")));
    put_text(&w, 1, 7, DATA_RX, ANSWER("200", "0"));
    run();
    assert_string_equal(value_of("url.path=/4", " trace="), TRACE);
    assert_string_equal(value_of("url.path=/4", " parent="), PARENT);
    assert_string_equal(value_of("url.path=/4", " remote="), "no");
    writer_free(&w);
}

/* What a thread asks for while it serves a request, and only then. */
static void test_parent_of_thread(void **state)
{
    static const uint8_t query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01h\x04test\x00\x00\x01\x00\x01",
                         answer[] = "\x12\x34\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00\x01h\x04test\x00\x00\x01\x00\x01";
    struct writer w = serving();

    (void)state;
    put_text(&w, 1, 4, DATA_RX, GET("/outer", TRACEPARENT("01")));
    put_text(&w, 1, 7, DATA_TX, GET("/inner", ""));
    put_text(&w, 2, 8, DATA_TX, GET("/other-thread", ""));
    writer_fd(&w, 10)->gen = 1;
    assert_true(writer_put(&w, REC_CALL, OP_socket, 10, ARGS(AF_INET, SOCK_DGRAM, 0, 0, 0, 1), 0, NULL));
    w.tid = 1;
    put(&w, 10, DATA_TX, query, sizeof(query) - 1);
    put(&w, 10, DATA_RX, answer, sizeof(answer) - 1);
    put_text(&w, 1, 7, DATA_RX, ANSWER("200", "0"));
    put_text(&w, 1, 8, DATA_RX, ANSWER("200", "0"));
    put_text(&w, 1, 9, DATA_TX, GET("/passed-on", TRACEPARENT("01")));
    put_text(&w, 1, 9, DATA_RX, ANSWER("200", "0"));
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    put_text(&w, 1, 7, DATA_TX, GET("/later", ""));
    put_text(&w, 1, 7, DATA_RX, ANSWER("200", "0"));
    run();
    assert_string_equal(value_of("url.path=/outer", " parent="), PARENT);
    is_child("url.path=/inner", "url.path=/outer");
    assert_string_equal(value_of("url.path=/inner", " remote="), "no");
    is_root("url.path=/other-thread");
    is_root("url.path=/later");
    /* the header is the one that came in: whoever handed it on has made no span */
    is_child("url.path=/passed-on", "url.path=/outer");
    is_child("dns.question.name", "url.path=/outer");
    expect("span DNS A pid=4100000 kind=3 status=2 ", "dns.question.name=h.test network.protocol.name=dns network.transport=udp "
           "error.type=NXDOMAIN");
    writer_free(&w);
}

/* Two requests at once: nobody knows which of them the thread is busy with, nor when one of them is left. */
static void test_several_at_once(void **state)
{
    struct writer w = serving();

    (void)state;
    put_text(&w, 1, 4, DATA_RX, GET("/first", ""));
    put_text(&w, 1, 7, DATA_TX, GET("/sure", ""));
    put_text(&w, 1, 5, DATA_RX, GET("/second", ""));
    put_text(&w, 1, 8, DATA_TX, GET("/unsure", ""));
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    put_text(&w, 1, 9, DATA_TX, GET("/still-unsure", ""));
    put_text(&w, 1, 5, DATA_TX, ANSWER("200", "0"));
    put_text(&w, 1, 6, DATA_RX, GET("/third", ""));
    for (int fd = 7; fd < 10; fd++)
        put_text(&w, 1, fd, DATA_RX, ANSWER("200", "0"));
    put_text(&w, 1, 7, DATA_TX, GET("/sure-again", ""));
    put_text(&w, 1, 7, DATA_RX, ANSWER("200", "0"));
    put_text(&w, 1, 6, DATA_TX, ANSWER("200", "0"));
    run();
    is_child("url.path=/sure ", "url.path=/first");
    is_root("url.path=/unsure");
    is_root("url.path=/still-unsure");
    is_child("url.path=/sure-again", "url.path=/third");
    writer_free(&w);
}

/* Goroutines go from thread to thread. */
static void test_go(void **state)
{
    struct writer w = serving();

    (void)state;
    run();
    proc_by_host_pid(&c.model, NOBODY)->go = true;
    put_text(&w, 1, 4, DATA_RX, GET("/alone", ""));
    put_text(&w, 2, 7, DATA_TX, GET("/of-it", ""));
    put_text(&w, 1, 7, DATA_RX, ANSWER("200", "0"));
    put_text(&w, 2, 5, DATA_RX, GET("/another", ""));
    put_text(&w, 1, 8, DATA_TX, GET("/of-whom", ""));
    put_text(&w, 1, 8, DATA_RX, ANSWER("200", "0"));
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    put_text(&w, 1, 5, DATA_TX, ANSWER("200", "0"));
    run();
    is_child("url.path=/of-it", "url.path=/alone");
    is_root("url.path=/of-whom");
    writer_free(&w);
}

static void test_lines(void **state)
{
    struct writer w = serving();
    const char *line;

    (void)state;
    put_open(&w, 11, 1, "/var/log/a.log", O_WRONLY);
    run();
    w.tid = 1;
    assert_true(writer_put(&w, REC_DATA, OP_write, 7, ARGS(11, 0, 0, DATA_FILE, 0, 1), 0, ITEMS({ITEM_DATA, "before\n", 7})));
    put_text(&w, 1, 4, DATA_RX, GET("/x", ""));
    w.tid = 1;
    assert_true(writer_put(&w, REC_DATA, OP_write, 7, ARGS(11, 0, 7, DATA_FILE, 0, 1), 0, ITEMS({ITEM_DATA, "within\n", 7})));
    w.tid = 2;
    assert_true(writer_put(&w, REC_DATA, OP_write, 7, ARGS(11, 0, 14, DATA_FILE, 0, 1), 0, ITEMS({ITEM_DATA, "beside\n", 7})));
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    run();
    line = find("message file /var/log/a.log", "within", 0);
    assert_non_null(line);
    assert_non_null(strstr(line, value_of("url.path=/x", " id=")));
    expect_not("message file /var/log/a.log pid=4100000 before", " span=");
    expect_not("message file /var/log/a.log pid=4100000 beside", " span=");
    expect("message file ", "beside");
    writer_free(&w);
}

/* --- both ends of a connection --- */

#define SERVED(path) "url.path=" path " http.response"
#define ASKED(path)  "url.path=" path " url.full"

/* A client with two connections to the server, on descriptors 4, 5. */
static struct writer asking(uint32_t pid)
{
    struct writer w = prog(pid);

    assert_non_null(attach(&w));
    put_connect(&w, 4, 8080, ports);
    put_connect(&w, 5, 8080, (uint16_t)(ports + 1));
    return w;
}

/* A server with connections from that port and the next on descriptors 4, 5; 7 leads to another one. */
static struct writer answering(uint32_t pid, uint16_t port)
{
    struct writer w = prog(pid);

    assert_non_null(attach(&w));
    put_accept(&w, 4, port);
    put_accept(&w, 5, (uint16_t)(port + 1));
    put_connect(&w, 7, 8080, (uint16_t)(ports + 5));
    return w;
}

static void ask(struct writer *w, int fd, const char *request)
{
    put_text(w, 1, fd, DATA_TX, request);
    put_text(w, 1, fd, DATA_RX, ANSWER("200", "0"));
    run();
}

static void serve(struct writer *w, int fd, const char *request)
{
    put_text(w, 1, fd, DATA_RX, request);
    put_text(w, 1, fd, DATA_TX, ANSWER("200", "0"));
    run();
}

static void test_client_first(void **state)
{
    struct writer client = asking(NOBODY), server = answering(NOBODY + 1, ports);

    (void)state;
    ask(&client, 4, GET("/1", ""));
    ask(&client, 4, GET("/2", ""));
    serve(&server, 4, GET("/1", ""));
    serve(&server, 4, GET("/2", ""));
    is_child(SERVED("/1"), ASKED("/1"));
    is_child(SERVED("/2"), ASKED("/2"));
    assert_string_equal(value_of(SERVED("/1"), " remote="), "yes");
    assert_string_not_equal(value_of(SERVED("/1"), " trace="), value_of(SERVED("/2"), " trace="));
    is_root(ASKED("/1"));
    /* what isn't the same request, or names its parent */
    ask(&client, 4, GET("/3", ""));
    serve(&server, 4, GET("/other", ""));
    ask(&client, 5, GET("/4", TRACEPARENT("01")));
    serve(&server, 5, GET("/4", TRACEPARENT("01")));
    put_close(&server, 4);
    run();
    assert_int_equal(count("span GET pid=4100001 ", SERVED("/other")), 0);
    assert_string_equal(value_of(SERVED("/4"), " parent="), PARENT);
    both_ends_sweep(clock_now_mono() + LINK_WAIT_NS);
    is_root(SERVED("/other"));
    writer_free(&client);
    writer_free(&server);
}

static void test_server_first(void **state)
{
    struct writer client = asking(NOBODY), server = answering(NOBODY + 1, ports);

    (void)state;
    serve(&server, 4, GET("/1", ""));
    expect_not("span ", NULL); /* it may be a child of somebody's */
    ask(&client, 4, GET("/1", ""));
    is_child(SERVED("/1"), ASKED("/1"));
    is_root(ASKED("/1"));
    writer_free(&client);
    writer_free(&server);
}

/* A server in the middle whose server is read first, and so is that one's: all belong to the trace that came in. */
static void test_chain_backwards(void **state)
{
    struct writer last = answering(NOBODY + 2, (uint16_t)(ports + 5)), middle = answering(NOBODY + 1, ports), client = asking(NOBODY);

    (void)state;
    put_text(&last, 1, 4, DATA_RX, GET("/last", ""));
    put_text(&last, 1, 7, DATA_TX, GET("/beyond", "")); /* to somebody who isn't observed */
    put_text(&last, 1, 7, DATA_RX, ANSWER("200", "0"));
    put_text(&last, 1, 4, DATA_TX, ANSWER("200", "0"));
    run();
    expect_not("span ", NULL);
    put_text(&middle, 1, 4, DATA_RX, GET("/middle", ""));
    put_text(&middle, 1, 7, DATA_TX, GET("/last", ""));
    put_text(&middle, 1, 7, DATA_RX, ANSWER("200", "0"));
    put_text(&middle, 1, 4, DATA_TX, ANSWER("200", "0"));
    run();
    expect_not("span ", NULL);
    ask(&client, 4, GET("/middle", ""));
    assert_int_equal(count("span ", NULL), 5);
    is_root(ASKED("/middle"));
    is_child(SERVED("/middle"), ASKED("/middle"));
    is_child(ASKED("/last"), SERVED("/middle"));
    is_child(SERVED("/last"), ASKED("/last"));
    is_child(ASKED("/beyond"), SERVED("/last"));
    writer_free(&client);
    writer_free(&middle);
    writer_free(&last);
}

/* The other end isn't observed: nothing is waited for more than once. */
static void test_alone(void **state)
{
    struct writer server = answering(NOBODY + 1, ports);

    (void)state;
    serve(&server, 4, GET("/1", ""));
    expect_not("span ", NULL);
    both_ends_sweep(clock_now_mono() + LINK_WAIT_NS);
    is_root(SERVED("/1"));
    serve(&server, 4, GET("/2", ""));
    is_root(SERVED("/2"));
    /* nor longer than there is somebody to tell it of */
    serve(&server, 5, GET("/3", ""));
    assert_int_equal(count("span ", NULL), 2);
    kill_process_of(NOBODY + 1);
    is_root(SERVED("/3"));
    writer_free(&server);
}

/* What waits belongs to those that were there before the configuration changed: the next may take no spans. */
static void test_other_configuration(void **state)
{
    struct writer server = answering(NOBODY + 1, ports);

    (void)state;
    serve(&server, 4, GET("/1", ""));
    expect_not("span ", NULL);
    life_reconfigure(proc_by_host_pid(&c.model, NOBODY + 1), config_sources_new());
    is_root(SERVED("/1"));
    writer_free(&server);
}

/* --- processes --- */

static int setup_processes(void **state)
{
    setup_spans(state);
    fake_otlp.processes = true;
    return 0;
}

static void test_processes(void **state)
{
    struct writer w = prog(NOBODY), other = prog(NOBODY), child = writer_new(NOBODY + 1, SEG_START_EXEC, "child", 6);
    struct proc *p, *q;

    (void)state;
    p = attach(&w);
    assert_non_null(p);
    q = attach(&child);
    assert_non_null(q);
    proc_set_parent(q, p);
    span_process_begin(q, "exec", clock_now_real());
    kill_process_of(NOBODY + 1);
    expect("span child pid=4100001 kind=1 status=2 ", " remote=yes state= process.executable.name=child "
           "process.executable.path=/usr/bin/child process.pid=4100001 process.parent_pid=1 error.type=SIGKILL");
    expect_not("span ", "exit.code");
    /* another program in its place, then its end */
    assert_non_null(attach(&other));
    assert_int_equal(count("span prog ", NULL), 1);
    is_child("process.pid=4100001", "process.pid=4100000");
    is_root("process.pid=4100000");
    p->waited = true;
    p->wait_status = 3 << 8;
    proc_died(p);
    run();
    assert_int_equal(count("span prog pid=4100000 kind=1 status=0 ", NULL), 1);
    expect("span prog pid=4100000 kind=1 status=2 ", "process.exit.code=3 error.type=3");
    writer_free(&w);
    writer_free(&other);
    writer_free(&child);
}

/* The copy that a fork makes, on the way to another program, is none. */
static void test_forked_process(void **state)
{
    struct writer w = prog(NOBODY), other = prog(NOBODY);
    struct proc *p = attach(&w);

    (void)state;
    span_process_begin(p, "fork", clock_now_real());
    assert_non_null(attach(&other));
    expect_not("span ", NULL);
    p->waited = true;
    proc_died(p);
    run();
    assert_int_equal(count("span prog pid=4100000 kind=1 status=0 ", "process.exit.code=0"), 1);
    assert_int_equal(count("span ", NULL), 1);
    writer_free(&w);
    writer_free(&other);
}

/* --- gRPC --- */

static size_t frame(uint8_t *to, uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t len)
{
    const uint8_t head[9] = {0, (uint8_t)(len >> 8), (uint8_t)len, type, flags, 0, 0, 0, (uint8_t)stream};

    memcpy(to, head, 9);
    memcpy(to + 9, payload, len);
    return len + 9;
}

/* A header block of literals that are not indexed: name, value, ..., NULL (RFC 7541, section 6.2.2). */
static size_t block(uint8_t *to, const char *const *texts)
{
    size_t n = 0;

    for (size_t i = 0; texts[i]; i++) {
        size_t len = strlen(texts[i]);

        if (i % 2 == 0)
            to[n++] = 0;
        to[n++] = (uint8_t)len;
        memcpy(to + n, texts[i], len);
        n += len;
    }
    return n;
}
#define BLOCK(to, ...) block(to, (const char *const[]){__VA_ARGS__, NULL})

static void put_call(struct writer *w, int fd, bool client, uint32_t stream, const char *status)
{
    uint8_t out[1000], texts[500];
    size_t n = 0;

    w->tid = 1;
    if (stream == 1) {
        memcpy(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
        n = 24 + frame(out + 24, 4, 0, 0, "", 0);
    }
    n += frame(out + n, 1, 4, stream, texts,
               BLOCK(texts, ":method", "POST", ":scheme", "http", ":path", "/pkg.Service/Do", ":authority", "h.test:50051",
                     "content-type", "application/grpc", "traceparent", "00-" TRACE "-" PARENT "-01"));
    n += frame(out + n, 0, 1, stream, "\0\0\0\0\1x", 6);
    put(w, fd, client ? DATA_TX : DATA_RX, out, n);
    n = stream == 1 ? frame(out, 4, 0, 0, "", 0) : 0;
    n += frame(out + n, 1, 4, stream, texts, BLOCK(texts, ":status", "200", "content-type", "application/grpc"));
    n += frame(out + n, 0, 0, stream, "\0\0\0\0\1y", 6);
    if (status)
        n += frame(out + n, 1, 5, stream, texts, BLOCK(texts, "grpc-status", status));
    else
        n += frame(out + n, 3, 0, stream, "\0\0\0\10", 4);
    put(w, fd, client ? DATA_RX : DATA_TX, out, n);
}

static void test_grpc(void **state)
{
    struct writer w = serving();

    (void)state;
    put_call(&w, 7, true, 1, "0");
    put_call(&w, 4, false, 1, "5");
    put_call(&w, 4, false, 3, "13");
    put_call(&w, 7, true, 3, "5");
    put_call(&w, 7, true, 5, NULL);
    run();
    assert_int_equal(count("span pkg.Service/Do ", " trace=" TRACE), 5);
    assert_int_equal(count("span pkg.Service/Do ", " parent=" PARENT), 5);
    assert_int_equal(count("span pkg.Service/Do ", "rpc.system.name=grpc rpc.method=pkg.Service/Do"), 5);
    expect("span pkg.Service/Do pid=4100000 kind=3 status=0 ", "rpc.status_code=OK server.address=h.test server.port=50051");
    expect("span pkg.Service/Do pid=4100000 kind=2 status=0 ", "rpc.status_code=NOT_FOUND");
    expect("span pkg.Service/Do pid=4100000 kind=2 status=2 ", "rpc.status_code=INTERNAL error.type=INTERNAL");
    expect("span pkg.Service/Do pid=4100000 kind=2 status=2 ", "network.protocol.version=2 network.transport=tcp");
    expect("span pkg.Service/Do pid=4100000 kind=3 status=2 ", "error.type=NOT_FOUND");
    expect("span pkg.Service/Do pid=4100000 kind=3 status=2 ", "error.type=incomplete_response");
    expect_not("span ", "http.");
    assert_int_equal(count("metric http.duration.client ", NULL), 3);
    writer_free(&w);
}

/* --- sampling --- */

static void test_parent_decides(void **state)
{
    struct writer w = serving();

    (void)state;
    put_text(&w, 1, 4, DATA_RX, GET("/no", TRACEPARENT("00")));
    put_text(&w, 1, 7, DATA_TX, GET("/inner-no", ""));
    put_text(&w, 1, 7, DATA_RX, ANSWER("200", "0"));
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    put_text(&w, 1, 4, DATA_RX, GET("/open", "b3: " TRACE "-" PARENT "\r\n"));
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    run();
    assert_int_equal(count("span ", NULL), 1);
    assert_string_equal(value_of("url.path=/open", " flags="), "1");
    writer_free(&w);
}

static void test_ratio(void **state)
{
    struct pipeline pl = {0};
    struct config cfg = {0};
    struct span s;
    uint8_t id[16] = {0};
    struct tm_context parent = {.span_id = {1}, .flags = 1};
    unsigned n = 0;

    (void)state;
    pl.cfg = &cfg;
    cfg.otlp.ratio = 0.25;
    for (unsigned i = 0; i < 4000; i++) {
        span_begin(&s, &pl, NULL);
        n += span_sampled(&s);
    }
    assert_in_range(n, 600, 1400); /* 14 standard deviations */
    /* it is the trace that is sampled, whoever asks: by the last 8 bytes of its id, from 0 on */
    for (unsigned first = 0; first < 256; first++) {
        id[0] = 0xff;
        id[8] = (uint8_t)first;
        memcpy(parent.trace_id, id, 16);
        span_begin(&s, &pl, &(struct span_parent){.id = &parent, .decided = true});
        assert_int_equal(span_sampled(&s), first < 64);
    }
    cfg.otlp.parent_based = true;
    span_begin(&s, &pl, &(struct span_parent){.id = &parent, .decided = true});
    assert_true(span_sampled(&s));
    span_begin(&s, &pl, &(struct span_parent){.id = &parent});
    assert_false(span_sampled(&s));
    cfg.otlp.ratio = 0;
    span_begin(&s, &pl, NULL);
    assert_false(span_sampled(&s));
    cfg.otlp.ratio = 1;
    span_begin(&s, &pl, NULL);
    assert_true(span_sampled(&s));
}

/* --- hostile --- */

static void test_long_state(void **state)
{
    static char text[10500];
    struct writer w = serving();
    int n;

    (void)state;
    n = snprintf(text, sizeof(text), "GET /x HTTP/1.1\r\n" TRACEPARENT("01") "tracestate: a=1,");
    memset(text + n, 'x', 10000);
    snprintf(text + n + 10000, sizeof(text) - (size_t)n - 10000, ",b=2\r\n\r\n");
    put_text(&w, 1, 4, DATA_RX, text);
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    run();
    assert_string_equal(value_of("url.path=/x", " state="), "a=1");
    writer_free(&w);
}

/* Many threads, that end in any order, or with their process. */
static void test_many_threads(void **state)
{
    struct writer w = serving();
    struct proc *p = proc_by_host_pid(&c.model, NOBODY);
    static struct span s[1000], more;

    (void)state;
    run();
    for (unsigned i = 0; i < 1000; i++) {
        span_begin(&s[i], p->pl, NULL);
        span_enter(&s[i], p, i % 500 + 1);
    }
    assert_null(span_inside(p, 1));
    for (unsigned i = 0; i < 1000; i += 2)
        span_leave(&s[i]);
    assert_null(span_inside(p, 1));
    span_begin(&more, p->pl, NULL);
    span_enter(&more, p, 1);
    assert_ptr_equal(span_inside(p, 1), &more);
    assert_null(span_inside(p, 0));
    spans_forget(p);
    assert_null(span_inside(p, 1));
    for (unsigned i = 1; i < 1000; i += 2)
        span_leave(&s[i]);
    span_leave(&more);
    span_leave(&more);
    writer_free(&w);
}

/* What peers send doesn't fill the memory, however large it is: what finds no room doesn't wait. */
static void test_large_ones(void **state)
{
    static char text[1 << 20];
    struct tm_field path = {.name = "url.path", .type = TM_STR, .v.str = {text, sizeof(text)}};
    struct tm_span told_as = {.name = {"GET", 3}, .kind = TM_SPAN_SERVER, .fields = &path, .field_count = 1};
    struct writer w = serving();
    struct proc *p = proc_by_host_pid(&c.model, NOBODY);
    struct span_link *link;
    struct span s;

    (void)state;
    run();
    memset(text, 'x', sizeof(text));
    span_begin(&s, p->pl, NULL);
    link = span_link_new(&s, 2);
    span_tell(p, &s, &told_as);
    expect_not("span ", NULL);
    for (unsigned i = 1; i < LINK_PENDING_BYTES / sizeof(text) + 4; i++)
        span_tell(p, &s, &told_as);
    assert_int_equal(count("span ", NULL), 4);
    spans_flush(p);
    assert_int_equal(count("span ", NULL), LINK_PENDING_BYTES / sizeof(text) + 4);
    span_tell(p, &s, &told_as);
    spans_flush(p);
    assert_int_equal(count("span ", NULL), LINK_PENDING_BYTES / sizeof(text) + 5);
    span_link_unref(link);
    span_leave(&s);
    writer_free(&w);
}

/* --- off --- */

static void test_off(void **state)
{
    struct writer w;

    (void)state;
    fake_spans = false;
    w = serving();
    put_text(&w, 1, 4, DATA_RX, GET("/x", TRACEPARENT("01")));
    put_text(&w, 1, 4, DATA_TX, ANSWER("200", "0"));
    run();
    expect("http.resp ", NULL);
    expect_not("span ", NULL);
    assert_null(proc_by_host_pid(&c.model, NOBODY)->spans);
    writer_free(&w);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_spans, teardown_spans)
    const struct CMUnitTest tests[] = {
        T(test_server),      T(test_one_connection), T(test_client),         T(test_broken),     T(test_last_byte), T(test_parent_from_header),
        T(test_parent_of_thread), T(test_several_at_once), T(test_go),   T(test_lines),     T(test_grpc),
        T(test_client_first), T(test_server_first),   T(test_chain_backwards), T(test_alone), T(test_other_configuration),
        cmocka_unit_test_setup_teardown(test_processes, setup_processes, teardown_spans),
        cmocka_unit_test_setup_teardown(test_forked_process, setup_processes, teardown_spans),
        T(test_parent_decides), T(test_ratio),       T(test_long_state), T(test_many_threads), T(test_large_ones),
        T(test_off),
    };

    log_setup(stderr, LOGL_NONE, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
