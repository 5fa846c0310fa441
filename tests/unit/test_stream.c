/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: captured pieces of connections, put in order, and what the probe is told in return. */
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <sys/socket.h>

#include "collector_bed.h"

#include "base/log.h"
#include "model/images.h"
#include "model/procinfo.h"
#include "traffic/stream.h"
#include "traffic/unread.h"

#define REQUEST(target) "GET " target " HTTP/1.1\r\nHost: h\r\n\r\n"
#define RULES "protocol: [{name: SMTP, regex: '^220 .*SMTP'}, {name: Long, regex: '^MORE AND MORE', len: 100}]\n"
#define ANSWER(length)  "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n\r\n"

static const struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = 0x901f, .sin_addr = {0x0100007f}};

static void put_accept(struct writer *w, int fd, uint32_t gen)
{
    writer_fd(w, (unsigned)fd)->gen = gen;
    assert_true(writer_put(w, REC_CALL, OP_accept4, fd, ARGS(3, 0, 0, 0, 0, gen), 0,
                           ITEMS({ITEM_ADDR, &peer, sizeof(peer)}, {ITEM_LOCAL, &peer, sizeof(peer)})));
}

/* `bytes` more went through fd, of which `len` were captured from `offset` on; in a function of a TLS library, or of
 * none (object 0). */
static void put_part_inside(struct writer *w, int fd, uint64_t object, enum data_source source, const void *data,
                            size_t len, uint64_t offset, uint64_t bytes)
{
    struct fd_entry *e = writer_fd(w, (unsigned)fd);
    uint64_t *at = source == DATA_TX ? &e->write_bytes : &e->read_bytes;
    bool guest = w->pid != w->owner;

    if (len || bytes)
        assert_true(writer_put(w, REC_DATA, OP_sendto, (int64_t)bytes,
                               ARGS((uint64_t)fd, offset, guest ? REC_NO_POSITION : *at, source, object,
                                    guest ? 0 : e->gen), 0,
                               len ? ITEMS({ITEM_DATA, data, len}) : NULL));
    if (!guest) {
        *at += bytes;
        *(source == DATA_TX ? &e->write_ops : &e->read_ops) += 1;
    }
}

static void put_part(struct writer *w, int fd, enum data_source source, const void *data, size_t len, uint64_t offset,
                     uint64_t bytes)
{
    put_part_inside(w, fd, 0, source, data, len, offset, bytes);
}

static void put_data(struct writer *w, int fd, enum data_source source, const char *text)
{
    put_part(w, fd, source, text, strlen(text), 0, strlen(text));
}

/* Bytes that nobody captured, not even their number. */
static void pass_unseen(struct writer *w, int fd, enum data_source source, uint64_t bytes)
{
    struct fd_entry *e = writer_fd(w, (unsigned)fd);

    *(source == DATA_TX ? &e->write_bytes : &e->read_bytes) += bytes;
}

static uint64_t skip_of(struct writer *w, unsigned fd, enum data_source source)
{
    const struct fd_skip *s = (const struct fd_skip *)(const void *)((char *)w->h + w->h->skip_off) + fd;
    const struct fd_entry *e = writer_fd(w, fd);

    return source == DATA_TX ? skip_left(s->tx, e->gen, e->write_bytes) : skip_left(s->rx, e->gen, e->read_bytes);
}

static unsigned want_of_fd(struct writer *w, unsigned fd)
{
    const struct fd_entry *e = writer_fd(w, fd);

    return e->want >> 2 == e->gen ? e->want & 3 : FDW_UNDECIDED;
}

/* A server with a connection on descriptor 4. */
static struct writer serving_as(uint32_t pid)
{
    struct writer w = prog(pid);

    assert_non_null(attach(&w));
    assert_true(w.h->mode & SEG_M_TRAFFIC);
    assert_true(writer_put(&w, REC_CALL, OP_socket, 3, ARGS(AF_INET, SOCK_STREAM, 0, 0, 0, 1), 0, NULL));
    put_accept(&w, 4, 1);
    return w;
}

static struct writer serving(void)
{
    return serving_as(NOBODY);
}

static void test_exchange(void **state)
{
    struct writer w = serving();

    (void)state;
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_UNDECIDED);
    put_data(&w, 4, DATA_RX, "GET /a?b HTTP/1.1\r\nHo");
    put_data(&w, 4, DATA_RX, "st: h\r\n\r\n");
    put_data(&w, 4, DATA_TX, ANSWER("3") "abc");
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_CAPTURE);
    assert_int_equal(count("net.app ", "protocol=HTTP"), 1);
    expect("http.req pid=4100000", "http_method=GET http_target=/a?b http_scheme=http http_flavor=1.1 http_host=h net_transport=IP.TCP");
    expect("http.resp pid=4100000", "http_status_code=200 http_status_text=OK http_server_duration=0 http_host=h http_response_content_length=3");
    expect("metric http.req ", "value=1 numops=1 http_target=/a http_status_code=200");
    expect("metric http.duration.server ", "http_target=/a");
    expect("metric http.resp.content_length ", "value=3");
    put_close(&w, 4);
    put_exit(&w, 0);
    run();
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* What proxies and servers may understand differently is said with the message, or behind the one it is found in. */
static void test_ambiguities(void **state)
{
    struct writer w = serving();

    (void)state;
    put_data(&w, 4, DATA_RX, "POST /1 HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    run();
    assert_int_equal(count("http.req ", "http_ambiguities=content_length_and_transfer_encoding"), 1);
    assert_int_equal(count("http.resp ", "http_ambiguities=content_length_and_transfer_encoding"), 1);
    writer_free(&w);
}

static void test_ambiguous_chunks(void **state)
{
    struct writer w = serving();

    (void)state;
    put_data(&w, 4, DATA_RX, "POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0;x=\n\r\n");
    put_data(&w, 4, DATA_TX, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
    put_data(&w, 4, DATA_RX, REQUEST("/2"));
    put_data(&w, 4, DATA_TX, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n");
    put_data(&w, 4, DATA_RX, REQUEST("/3"));
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    run();
    expect_not("http.req ", "http_ambiguities");
    assert_int_equal(count("http.resp ", "http_ambiguities=chunk"), 1);
    expect("http.resp ", "http_target=/1");
    assert_int_equal(count("http.note ", NULL), 1);
    expect("http.note ", "http_ambiguities=chunk http_status_code=200 net_transport=IP.TCP");
    writer_free(&w);
}

/* Of two threads of a client, the one that reads may be the first to tell: the exchange is as whole as others. */
static void test_early(void **state)
{
    struct writer w = prog(NOBODY);
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(80)};

    (void)state;
    attach(&w);
    assert_true(writer_put(&w, REC_CALL, OP_socket, 4, ARGS(AF_INET, SOCK_STREAM, 0, 0, 0, 1), 0, NULL));
    writer_fd(&w, 4)->gen = 1;
    assert_true(writer_put(&w, REC_CALL, OP_connect, 0, ARGS(4), 0, ITEMS({ITEM_ADDR, &peer, sizeof(peer)})));
    put_data(&w, 4, DATA_TX, REQUEST("/1"));
    put_data(&w, 4, DATA_RX, ANSWER("3") "abc");
    put_data(&w, 4, DATA_RX, "HTTP/1.1 404 Not Found\r\nServer: x\r\nUser-Agent: odd\r\nContent-Length: 5\r\n\r\n");
    run();
    expect_not("http.resp ", "http_status_code=404");
    put_data(&w, 4, DATA_TX, REQUEST("/2"));
    put_data(&w, 4, DATA_RX, "abcde");
    put_data(&w, 4, DATA_TX, REQUEST("/3"));
    put_data(&w, 4, DATA_RX, ANSWER("0"));
    run();
    expect("http.req ", "http_target=/2");
    expect("http.resp ", "http_method=GET http_target=/2 http_scheme=http http_flavor=1.1 http_status_code=404 "
                         "http_status_text=Not Found http_client_duration=0 http_host=h http_user_agent=odd "
                         "http_response_content_length=5");
    assert_int_equal(count("metric http.req ", NULL), 3);
    assert_int_equal(count("metric http.req ", "http_target=/2 http_status_code=404"), 1);
    expect("http.resp ", "http_target=/3");
    /* one that nobody has asked for is told at the end */
    put_data(&w, 4, DATA_RX, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
    run();
    expect_not("http.resp ", "http_status_code=408");
    put_close(&w, 4);
    run();
    expect("http.resp ", "http_flavor=1.1 http_status_code=408 http_status_text=Request Timeout");
    expect_not("http.resp ", "http_target=/4");
    assert_int_equal(count("http.resp ", NULL), 4);
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* More in one piece than is needed to recognise the connection. */
static void test_long_first_piece(void **state)
{
    static const char request[] = REQUEST("/1");
    struct writer w = serving();
    struct buf all = BUF_INIT;

    (void)state;
    for (int i = 0; i < 1000; i++)
        buf_str(&all, request);
    put_part(&w, 4, DATA_RX, all.p, all.len, 0, all.len);
    run();
    assert_int_equal(count("http.req ", "http_target=/1"), 1000);
    put_data(&w, 4, DATA_RX, REQUEST("/2"));
    run();
    assert_int_equal(count("http.req ", "http_target=/2"), 1);
    expect_not("loss ", NULL);
    buf_free(&all);
    writer_free(&w);
}

/* The same in a tunnel, whose first bytes came with the request for it. */
static void test_long_first_piece_in_a_tunnel(void **state)
{
    struct writer w = serving();
    struct buf all = BUF_INIT;
    char *body = xcalloc(30000, 1);

    (void)state;
    buf_str(&all, "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\nPOST /long HTTP/1.1\r\nHost: h\r\nContent-Length: 30000\r\n\r\n");
    buf_add(&all, body, 30000);
    put_part(&w, 4, DATA_RX, all.p, all.len, 0, all.len);
    put_data(&w, 4, DATA_TX, "HTTP/1.1 200 OK\r\n\r\n");
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    put_data(&w, 4, DATA_RX, REQUEST("/next"));
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    run();
    assert_int_equal(count("http.req ", "http_target=/long"), 1);
    assert_int_equal(count("http.req ", "http_target=/next"), 1);
    assert_int_equal(count("http.resp ", "http_target=/next"), 1);
    free(body);
    buf_free(&all);
    writer_free(&w);
}

/* A body is not captured: the probe is told, and its end is where the length says. */
static void test_body_is_skipped(void **state)
{
    struct writer w = serving();

    (void)state;
    put_data(&w, 4, DATA_RX, REQUEST("/1"));
    put_data(&w, 4, DATA_TX, ANSWER("1000000"));
    run();
    assert_int_equal(skip_of(&w, 4, DATA_TX), 1000000);
    assert_int_equal(skip_of(&w, 4, DATA_RX), 0);
    pass_unseen(&w, 4, DATA_TX, 600000);
    put_part(&w, 4, DATA_TX, NULL, 0, 0, 300000); /* sendfile */
    pass_unseen(&w, 4, DATA_TX, 100000);
    put_data(&w, 4, DATA_RX, REQUEST("/2"));
    put_data(&w, 4, DATA_TX, ANSWER("5") "hello");
    run();
    assert_int_equal(skip_of(&w, 4, DATA_TX), 0);
    assert_int_equal(count("http.resp ", "http_server_duration"), 2);
    expect("http.resp ", "http_target=/2");
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* Part of a call is captured: the rest is a gap. */
static void test_parts_of_calls(void **state)
{
    struct writer w = serving();
    const char *text = ANSWER("70000");

    (void)state;
    put_data(&w, 4, DATA_RX, REQUEST("/1"));
    put_part(&w, 4, DATA_TX, text, strlen(text), 0, strlen(text) + 70000);
    put_data(&w, 4, DATA_RX, REQUEST("/2"));
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    run();
    assert_int_equal(count("http.resp ", "http_server_duration"), 2);
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* What is lost in a head is told, and the connection is understood again afterwards. */
static void test_lost_head(void **state)
{
    struct writer w = serving();

    (void)state;
    put_data(&w, 4, DATA_RX, REQUEST("/1"));
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    pass_unseen(&w, 4, DATA_RX, 30);
    pass_unseen(&w, 4, DATA_TX, 40);
    put_data(&w, 4, DATA_RX, REQUEST("/3"));
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    run();
    assert_int_equal(count("http.req ", NULL), 2);
    assert_int_equal(count("http.resp ", NULL), 2);
    expect("http.req ", "http_target=/3");
    expect("loss traffic 30", NULL);
    expect("loss traffic 40", NULL);
    writer_free(&w);
}

/* The number means another connection: nothing of the old one is left. */
static void test_descriptor_is_reused(void **state)
{
    struct writer w = serving();

    (void)state;
    put_data(&w, 4, DATA_RX, REQUEST("/1"));
    put_data(&w, 4, DATA_TX, ANSWER("1000000"));
    run();
    assert_true(skip_of(&w, 4, DATA_TX) > 0);
    pass_unseen(&w, 4, DATA_TX, 500000); /* it is closed in the middle */
    put_close(&w, 4);
    put_accept(&w, 4, 3);
    assert_int_equal(skip_of(&w, 4, DATA_TX), 0); /* not this generation's */
    assert_int_equal(want_of_fd(&w, 4), FDW_UNDECIDED);
    put_data(&w, 4, DATA_RX, REQUEST("/2"));
    put_data(&w, 4, DATA_TX, ANSWER("7") "1234567");
    run();
    assert_int_equal(count("net.app ", NULL), 2);
    expect("http.resp ", "http_target=/2");
    expect("http.resp ", "http_response_content_length=7");
    expect_not("loss ", NULL);
    /* a close and an open that nobody told of: what comes is no continuation */
    put_data(&w, 4, DATA_RX, "GET /3 HTTP/1.1\r\nHos");
    writer_fd(&w, 4)->gen = 5;
    put_data(&w, 4, DATA_RX, REQUEST("/4"));
    run();
    expect_not("http.req ", "http_target=/3");
    expect("http.req ", "http_target=/4");
    writer_free(&w);
}

static void test_not_wanted(void **state)
{
    static const char *const both[] = {"220 mail\r\n", "SSH-2.0-x\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"};

    (void)state;
    for (unsigned i = 0; i < sizeof(both) / sizeof(both[0]); i++) {
        struct writer w = serving();

        for (int k = 0; k < (i == 2 ? 2 : 20); k++) /* it might become TLS for a while */
            put_part(&w, 4, k % 2 ? DATA_TX : DATA_RX, both[i], i == 2 ? 11 : strlen(both[i]), 0,
                     i == 2 ? 11 : strlen(both[i]));
        if (i == 2) /* two clients: nothing that can be read */
            for (int k = 0; k < 2; k++)
                put_part(&w, 4, k ? DATA_TX : DATA_RX, NULL, 0, 0, 100);
        run();
        assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
        put_data(&w, 4, DATA_RX, REQUEST("/never")); /* a record that was on its way */
        put_close(&w, 4);
        put_exit(&w, 0);
        run();
        expect_not("http.req ", NULL);
        expect_not("loss ", NULL);
        writer_free(&w);
        teardown(NULL);
        setup(NULL);
    }
}

/* One direction only: it ends, too. */
static void test_never_recognised(void **state)
{
    struct writer w = serving();
    char text[4096];

    (void)state;
    memset(text, 1, sizeof(text));
    for (int i = 0; i < 40; i++) {
        put_part(&w, 4, DATA_TX, text, sizeof(text), 0, sizeof(text));
        run();
    }
    assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
    writer_free(&w);
}

/* A child handles what its parent has accepted: one connection, counted apart. */
static void test_fork(void **state)
{
    struct writer w = serving();

    (void)state;
    put_data(&w, 4, DATA_RX, REQUEST("/1"));
    put_data(&w, 4, DATA_TX, ANSWER("1000000"));
    run();
    assert_true(skip_of(&w, 4, DATA_TX) > 0);
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    w.pid = NOBODY + 1; /* a guest in the ring; it sends the rest */
    put_part(&w, 4, DATA_TX, NULL, 0, 0, 1000000);
    w.pid = NOBODY;
    writer_put(&w, REC_CALL, OP_fork, NOBODY + 1, NULL, 0, NULL);
    put_data(&w, 4, DATA_RX, REQUEST("/2"));
    run();
    assert_int_equal(skip_of(&w, 4, DATA_TX), 0); /* two processes: nobody knows whose bytes they are */
    w.pid = NOBODY + 1;
    put_data(&w, 4, DATA_TX, ANSWER("10000"));
    run();
    w.pid = NOBODY;
    assert_int_equal(count("http.resp ", "http_server_duration"), 2);
    expect("http.req pid=4100000", "http_target=/2");
    expect("http.resp pid=4100001", "http_target=/2");
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* Descriptors that were there before: from the next message on. */
static void test_joined(void **state)
{
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w);
    struct desc *d;

    (void)state;
    d = fds_lookup(p, 7);
    d->file->kind = FDK_SOCKET; /* there is no such process that /proc could tell of */
    put_data(&w, 7, DATA_RX, "the end of a body");
    put_data(&w, 7, DATA_TX, "and of another");
    put_data(&w, 7, DATA_RX, REQUEST("/next"));
    put_data(&w, 7, DATA_TX, ANSWER("0"));
    run();
    expect("http.resp ", "http_target=/next");
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* ... also if it is encrypted: then it is nobody's payload, and nothing more of it need be captured. */
static void test_joined_encrypted(void **state)
{
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w);

    (void)state;
    fds_lookup(p, 7)->file->kind = FDK_SOCKET;
    put_part(&w, 7, DATA_RX, "middle", 6, 0, 6); /* what was read last was less than a record */
    run();
    assert_int_equal(want_of_fd(&w, 7), FDW_UNDECIDED);
    put_part(&w, 7, DATA_RX, "\x17\3\3\0\x13", 5, 0, 5);
    run();
    assert_int_equal(want_of_fd(&w, 7), FDW_NONE);
    writer_free(&w);
}

static void put_tls(struct writer *w, int64_t fd, uint64_t object, enum data_source source, const char *text)
{
    assert_true(writer_put(w, REC_DATA, OP_NONE, (int64_t)strlen(text),
                           ARGS((uint64_t)fd, 0, 0, source, object, fd >= 0 ? writer_fd(w, (unsigned)fd)->gen : 0), 0,
                           text[0] ? ITEMS({ITEM_DATA, text, strlen(text)}) : NULL));
}

/* Which connection of the object's it is: tls_want.life. */
static void put_tls_of(struct writer *w, uint64_t object, uint32_t life, enum data_source source, const char *text)
{
    assert_true(writer_put(w, REC_DATA, OP_NONE, (int64_t)strlen(text),
                           ARGS((uint64_t)-1, 0, life, source, object, 0), 0,
                           text[0] ? ITEMS({ITEM_DATA, text, strlen(text)}) : NULL));
}

static void test_plaintext(void **state)
{
    struct writer w = serving();

    (void)state;
    put_part(&w, 4, DATA_RX, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11, 0, 11);
    put_tls(&w, 4, 0x1000, DATA_TLS_RX, REQUEST("/known"));
    put_part(&w, 4, DATA_TX, "\x17\x03\x03 encrypted", 13, 0, 13);
    put_tls(&w, 4, 0x1000, DATA_TLS_TX, ANSWER("0"));
    put_part(&w, 4, DATA_RX, NULL, 0, 0, 505); /* the rest of the hello */
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
    expect("http.resp ", "http_target=/known http_scheme=https");
    expect("http.resp ", "net_peer_ip=127.0.0.1");
    /* two objects whose descriptors aren't known, and a third at the address of one that has ended */
    put_tls(&w, -1, 0x2000, DATA_TLS_RX, "GET /two HTTP/1.1\r\nHo");
    put_tls(&w, -1, 0x3000, DATA_TLS_RX, "GET /three HTTP/1.1\r\nHo");
    put_tls(&w, -1, 0x2000, DATA_TLS_RX, "st: h\r\n\r\n");
    put_tls(&w, -1, 0x3000, DATA_TLS_TX, "");
    put_tls(&w, -1, 0x3000, DATA_TLS_RX, REQUEST("/four"));
    put_tls(&w, -1, 0x2000, DATA_TLS_TX, ANSWER("0"));
    put_exit(&w, 0);
    run();
    expect("http.resp ", "http_target=/two http_scheme=https");
    expect("http.req ", "http_target=/four");
    expect_not("http.req ", "http_target=/three");
    writer_free(&w);
}

/* TLS 1.2: for h.test, h2 or http/1.1; and h2. */
static const char client_hello[] =
    "\x16\x03\x01\x00P\x01\x00\x00L\x03\x03rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\x00\x00\x02\xc0/\x01\x00"
    "\x00!\x00\x00\x00\x0b\x00\x09\x00\x00\x06h.test\x00\x10\x00\x0e\x00\x0c\x02h2\x08http/1.1";
static const char server_hello[] = "\x16\x03\x01\x00"
                                   "5\x02\x00\x00"
                                   "1\x03\x03rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\x00\xc0/\x00\x00"
                                   "\x09\x00\x10\x00\x05\x00\x03\x02h2";

/* What the hellos say is told when both are known, or nothing more of them comes. */
static void test_hellos(void **state)
{
    struct writer w = serving();
    size_t n = sizeof(client_hello) - 1;
    char host[300];

    (void)state;
    snprintf(host, sizeof(host), "fd=4 host=%s protocol=TLS tls_protocol_version=1.2 ", pi_host());
    put_part(&w, 4, DATA_RX, client_hello, 20, 0, 20);
    put_part(&w, 4, DATA_RX, client_hello + 20, n - 20, 0, n - 20);
    run();
    expect_not("net.app ", NULL);
    assert_int_equal(want_of_fd(&w, 4), FDW_CAPTURE);
    put_part(&w, 4, DATA_TX, server_hello, sizeof(server_hello) - 1, 0, sizeof(server_hello) - 1);
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_CAPTURE); /* whether data follow */
    put_part(&w, 4, DATA_RX, "\x14\3\3\0\1\1\x17\3\3\0\1x", 12, 0, 12);
    put_part(&w, 4, DATA_TX, "\x17\3\3\0\1x", 6, 0, 6);
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
    put_part(&w, 4, DATA_RX, client_hello, n, 0, n); /* a record that was on its way: encrypted */
    expect_not("proc.note ", NULL);
    put_close(&w, 4);
    run();
    assert_int_equal(count("proc.note ", "text=TLS of this program can't be read: "), 1);
    expect("net.app ", host);
    expect("net.app ",
           "protocol=TLS tls_protocol_version=1.2 tls_cipher=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 "
           "tls_client_server_name=h.test tls_client_alpn=h2,http/1.1 tls_next_protocol=h2 tls_resumed=");
    put_accept(&w, 4, 3); /* one that is refused */
    put_part(&w, 4, DATA_RX, client_hello, n, 0, n);
    put_part(&w, 4, DATA_TX, "\x15\3\3\0\2\2\x28", 7, 0, 7);
    put_close(&w, 4);
    put_accept(&w, 4, 5); /* ... that isn't answered */
    put_part(&w, 4, DATA_TX, client_hello, n, 0, n);
    put_close(&w, 4);
    put_accept(&w, 4, 7); /* ... whose client's hello can't be read */
    put_part(&w, 4, DATA_TX, client_hello, 11, 0, n);
    put_part(&w, 4, DATA_RX, server_hello, sizeof(server_hello) - 1, 0, sizeof(server_hello) - 1);
    put_data(&w, 4, DATA_TX, "encrypted");
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
    put_close(&w, 4);
    run();
    assert_int_equal(count("net.app ", "protocol=TLS"), 4);
    expect("net.app ", "tls_client_server_name=h.test tls_client_alpn=h2,http/1.1 tls_alert=handshake_failure");
    assert_int_equal(count("net.app ", "protocol=TLS tls_client_server_name=h.test"), 2);
    assert_int_equal(count("net.app ",
                           "protocol=TLS tls_protocol_version=1.2 tls_cipher=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 "
                           "tls_next_protocol=h2"),
                     1);
    expect_not("loss ", NULL);
    writer_free(&w);
}

static void put_record(struct writer *w, int fd, enum data_source dir)
{
    put_part(w, fd, dir, "\x17\3\3\0\x11xxxxxxxxxxxxxxxxx", 22, 0, 22);
}

/* A connection of TLS whose hellos and data have passed. */
static void put_tls_talk(struct writer *w, int fd)
{
    put_part(w, fd, DATA_RX, client_hello, sizeof(client_hello) - 1, 0, sizeof(client_hello) - 1);
    put_part(w, fd, DATA_TX, server_hello, sizeof(server_hello) - 1, 0, sizeof(server_hello) - 1);
    put_part(w, fd, DATA_RX, "\x14\3\3\0\1\1\x17\3\3\0\1x", 12, 0, 12);
    put_part(w, fd, DATA_TX, "\x14\3\3\0\1\1\x17\3\3\0\1x", 12, 0, 12);
}

static uint64_t unread_total(void)
{
    uint64_t n = 0;

    for (int i = 0; i < UNREAD_MAX; i++)
        n += c.model.unread_count[i];
    return n;
}

/* Each connection that can't be read counts once, when its last descriptor goes, with its reason; the program is told of
 * once. */
static void test_unread_counts(void **state)
{
    static const struct {
        struct plan_sites sites;
        bool missed, jsse;
        enum unread_reason why;
    } cases[] = {
        {.missed = true, .why = UNREAD_NOT_LOOKED},
        {.why = UNREAD_LIBRARY},
        {.sites = {.go = 3, .refused[PLAN_R_UNKNOWN_FORM] = 1}, .why = UNREAD_GO},
        {.sites = {.refused[PLAN_R_UNKNOWN_FORM] = 1}, .why = UNREAD_FORM},
        {.sites = {.refused[PLAN_R_SELF_CHECK] = 1}, .why = UNREAD_SELF_CHECK},
        {.sites = {.functions = 2}, .why = UNREAD_NOT_HOOKED},
        {.sites = {.functions = 2, .hooked = 2}, .why = UNREAD_OTHER},
        {.sites = {.keys = 1}, .why = UNREAD_NO_KEY},
        {.sites = {.functions = 2, .hooked = 2}, .jsse = true, .why = UNREAD_JSSE},
    };
    struct writer w = serving();
    struct proc *p;

    (void)state;
    run();
    p = proc_by_host_pid(&c.model, NOBODY);
    put_tls_talk(&w, 4);
    writer_fd(&w, 5)->gen = 1;
    assert_true(writer_put(&w, REC_CALL, OP_dup, 5, ARGS(4, 0, 0, 0, 0, 1), 0, NULL));
    put_close(&w, 4);
    run();
    assert_int_equal(unread_total(), 0); /* the other descriptor goes on */
    put_close(&w, 5);
    run();
    assert_int_equal(unread_total(), 1);
    memset(c.model.unread_count, 0, sizeof(c.model.unread_count));
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct rec_sites sites = {.sites = cases[i].sites};

        images_unref(p->images);
        p->images = NULL;
        images_add(&p->images, "/bin/x", 6, &sites);
        p->images_missed = cases[i].missed;
        p->jsse_refused = cases[i].jsse;
        put_accept(&w, 4, (uint32_t)(3 + 2 * i));
        put_tls_talk(&w, 4);
        put_close(&w, 4);
        run();
        assert_int_equal(c.model.unread_count[cases[i].why], 1);
        assert_int_equal(unread_total(), i + 1);
        assert_string_equal(unread_name(unread_find(unread_name(cases[i].why))), unread_name(cases[i].why));
    }
    assert_int_equal(count("proc.note ", "text=TLS of this program can't be read: "), 1);
    p->tls_read = true; /* its plaintext is seen */
    put_accept(&w, 4, 101);
    put_tls_talk(&w, 4);
    put_close(&w, 4);
    run();
    assert_int_equal(unread_total(), sizeof(cases) / sizeof(*cases));
    writer_free(&w);
}

static unsigned sweeps;

/* Takes 5 ms of CPU time. */
static void slow_sweep(void *decoder, struct stream *s, uint64_t time_ns)
{
    uint64_t from = clock_used();

    (void)decoder;
    (void)s;
    (void)time_ns;
    sweeps++;
    while (clock_used() < from + 5000000)
        ;
}

/* What connections wait for, such as keys, is paid for by whose they are; who owes too much is not looked after. */
static void test_sweeps_are_charged(void **state)
{
    static const struct protocol slow = {.sweep = slow_sweep};
    struct writer w = serving();
    struct stream s = {.speaks = &slow, .fd = -1};
    struct stream_wait wait = {0};
    struct proc *p;
    unsigned n;

    (void)state;
    run();
    p = proc_by_host_pid(&c.model, NOBODY);
    assert_int_equal(p->seg->debt_ns, 0);
    stream_waits(&wait, &s, p);
    sweeps = 0;
    run();
    assert_true(sweeps > 0);
    assert_true(p->seg->debt_ns >= 4000000); /* a tenth comes back */
    assert_false(p->seg->too_dear);
    n = sweeps;
    p->seg->too_dear = true;
    run();
    assert_int_equal(sweeps, n);
    p->seg->too_dear = false;
    run();
    assert_true(sweeps > n);
    stream_waits(&wait, &s, NULL);
    writer_free(&w);
}

static struct stream_wait *leaves;

static void ending_sweep(void *decoder, struct stream *s, uint64_t time_ns)
{
    (void)decoder;
    (void)s;
    (void)time_ns;
    sweeps++;
    if (!leaves)
        return;
    stream_waits(leaves, leaves->s, NULL);
    free(leaves);
    leaves = NULL;
}

/* A look at one stream may end the one that would be looked at next, as when records are left out. */
static void test_sweep_ends_the_next(void **state)
{
    static const struct protocol ending = {.sweep = ending_sweep};
    struct writer w = serving();
    struct stream s = {.speaks = &ending, .fd = -1};
    struct stream_wait first = {0}, last = {0};
    struct proc *p;

    (void)state;
    run();
    p = proc_by_host_pid(&c.model, NOBODY);
    stream_waits(&last, &s, p);
    leaves = calloc(1, sizeof(*leaves));
    assert_non_null(leaves);
    stream_waits(leaves, &s, p);
    stream_waits(&first, &s, p);
    sweeps = 0;
    stream_sweep(p, 1);
    assert_int_equal(sweeps, 2);
    stream_waits(&first, &s, NULL);
    stream_waits(&last, &s, NULL);
    writer_free(&w);
}

/* The probe may not know whose the first plaintext is; the handshake has told. */
static void test_object_of_a_handshake(void **state)
{
    struct writer w = serving();

    (void)state;
    put_part_inside(&w, 4, 0x4000, DATA_RX, client_hello, sizeof(client_hello) - 1, 0, sizeof(client_hello) - 1);
    put_tls(&w, -1, 0x4000, DATA_TLS_RX, REQUEST("/one"));
    put_tls(&w, -1, 0x4000, DATA_TLS_TX, ANSWER("0"));
    run();
    expect("http.req ", "http_target=/one http_scheme=https http_flavor=1.1 http_host=h net_transport=IP.TCP");
    put_close(&w, 4);
    run();
    put_accept(&w, 4, 3); /* another connection, with the same object: no end was told */
    put_part_inside(&w, 4, 0x4000, DATA_RX, client_hello, sizeof(client_hello) - 1, 0, sizeof(client_hello) - 1);
    put_tls(&w, -1, 0x4000, DATA_TLS_RX, REQUEST("/two"));
    run();
    expect("http.req ", "http_target=/two http_scheme=https http_flavor=1.1 http_host=h net_transport=IP.TCP");
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* What was there before is known by its records only; where something was lost, no more than that is said. */
static void test_unread_joined(void **state)
{
    struct writer w = serving();
    struct proc *p;

    (void)state;
    run();
    p = proc_by_host_pid(&c.model, NOBODY);
    fd_get(&p->fds, 4, false)->file->sock->flags |= SOCKF_JOINED;
    put_record(&w, 4, DATA_RX);
    put_record(&w, 4, DATA_TX);
    run();
    assert_int_equal(unread_total(), 0);
    put_close(&w, 4);
    run();
    assert_int_equal(c.model.unread_count[UNREAD_OPEN_BEFORE], 1);
    expect("proc.note ", "the connection was open before");
    put_accept(&w, 4, 3);
    put_tls_talk(&w, 4);
    put_close(&w, 4);
    run();
    assert_int_equal(unread_total(), 2);
    assert_int_equal(count("proc.note ", "text=TLS of this program can't be read: "), 2);
    w.h->loss[LOSS_DATA]++;
    put_accept(&w, 4, 5);
    put_tls_talk(&w, 4);
    put_close(&w, 4);
    run();
    assert_int_equal(c.model.unread_count[UNREAD_RECORDS_LOST], 1);
    assert_int_equal(unread_total(), 3);
    assert_int_equal(count("proc.note ", "text=TLS of this program can't be read: "), 2);
    writer_free(&w);
}

/* --- TLS whose keys are seen --- */

/* A record of TLS 1.2 with AES-128 in GCM, the first under its key, which is `fill` 16 times. */
static size_t seal(uint8_t fill, const char *text, uint8_t *to)
{
    size_t len = strlen(text), body = 8 + len + 16;
    uint8_t key[16], nonce[12] = {0}, aad[13] = {[8] = 23, 3, 3, (uint8_t)(len >> 8), (uint8_t)len};
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n;

    memset(key, fill, sizeof(key));
    memcpy(to, (uint8_t[]){23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body, 0, 0, 0, 0, 0, 0, 0, 0}, 13);
    assert_true(EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, nonce) && EVP_EncryptUpdate(ctx, NULL, &n, aad, sizeof(aad)) &&
                EVP_EncryptUpdate(ctx, to + 13, &n, (const uint8_t *)text, (int)len) && EVP_EncryptFinal_ex(ctx, to + 13 + len, &n) &&
                EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, to + 13 + len));
    EVP_CIPHER_CTX_free(ctx);
    return 5 + body;
}

/* What the probe does with a key that is `fill` 16 times. */
static void put_key(struct writer *w, uint8_t fill)
{
    struct seg_key *k = &w->h->key[w->h->key_head++ % SEG_KEYS];

    *k = (struct seg_key){.commit = w->h->key_head, .time = clock_now_mono(), .caller = 1, .len = 16};
    memset(k->key, fill, 16);
}

/* A server whose library has no names; connections whose hellos have passed. */
static struct writer serving_keys(uint32_t pid)
{
    struct rec_sites sites = {.sites.keys = 1};
    struct writer w = serving_as(pid);

    images_add(&proc_by_host_pid(&c.model, (pid_t)w.h->pid)->images, "own", 3, &sites);
    return w;
}

static void put_hellos(struct writer *w, int fd)
{
    put_part(w, fd, DATA_RX, client_hello, sizeof(client_hello) - 1, 0, sizeof(client_hello) - 1);
    put_part(w, fd, DATA_TX, server_hello, sizeof(server_hello) - 1, 0, sizeof(server_hello) - 1);
    put_part(w, fd, DATA_RX, "\x14\3\3\0\1\1", 6, 0, 6);
    put_part(w, fd, DATA_TX, "\x14\3\3\0\1\1", 6, 0, 6);
}

/* The keys come with the last look: it is told what passed, and nobody is told that it can't be read. */
static void test_keys_at_last(void **state)
{
    struct writer w = serving_keys(NOBODY);
    uint8_t request[200], answer[200];
    size_t requests = seal('r', REQUEST("/late"), request), answers = seal('a', ANSWER("0"), answer);

    (void)state;
    put_hellos(&w, 4);
    put_part(&w, 4, DATA_RX, request, requests, 0, requests);
    put_part(&w, 4, DATA_TX, answer, answers, 0, answers);
    run();
    expect_not("http.req ", NULL);
    put_key(&w, 'r');
    put_key(&w, 'a');
    put_close(&w, 4);
    segments_drain(&c, true);
    assert_true(core_process(&c, UINT64_MAX)); /* nothing looks at it before */
    run();
    expect("http.resp ", "http_target=/late");
    expect_not("proc.note ", NULL);
    writer_free(&w);
}

/* Connections whose keys don't come: what waits of all of them is bounded; the first ones are given up, and counted. */
static void test_keys_bounded(void **state)
{
    enum { PROCESSES = 2, EACH = 150, RECORDS = 15 };
    static const uint8_t record[5 + 16384] = {23, 3, 3, 0x40, 0};
    struct writer w[PROCESSES];

    (void)state;
    for (int p = 0; p < PROCESSES; p++) {
        w[p] = serving_keys(NOBODY + (uint32_t)p);
        for (int i = 0; i < EACH; i++) {
            if (i)
                put_accept(&w[p], 4 + i, 1);
            put_hellos(&w[p], 4 + i);
            for (int k = 0; k < RECORDS; k++) {
                put_part(&w[p], 4 + i, DATA_RX, record, sizeof(record), 0, sizeof(record));
                run();
            }
            assert_int_equal(want_of_fd(&w[p], (unsigned)(4 + i)), FDW_CAPTURE);
        }
        assert_int_equal(count("loss traffic ", NULL) > 0, p == PROCESSES - 1); /* 64 MiB are 273 of them */
    }
    put_part(&w[0], 4, DATA_TX, "\x17\3\3\0\1x", 6, 0, 6);
    put_part(&w[1], 4, DATA_TX, "\x17\3\3\0\1x", 6, 0, 6);
    run();
    assert_int_equal(want_of_fd(&w[0], 4), FDW_NONE);
    assert_int_equal(want_of_fd(&w[1], 4), FDW_CAPTURE);
    for (int p = 0; p < PROCESSES; p++)
        writer_free(&w[p]);
}

#define PROXY_LINE "PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"

/* A server behind a proxy that tells whose connection it passes on. */
static void test_behind_a_proxy(void **state)
{
    struct writer w = serving();

    (void)state;
    put_data(&w, 4, DATA_RX, PROXY_LINE "GET /one HTTP/1.1\r\n");
    put_data(&w, 4, DATA_RX, "Host: h\r\n\r\n");
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    put_data(&w, 4, DATA_RX, "GET /two HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n");
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    put_close(&w, 4);
    run();
    expect("net.app ", "protocol=PROXY proxy_version=1 net_client_ip=192.0.2.7 net_client_port=4711 "
                       "proxy_host_ip=192.0.2.1 proxy_host_port=80");
    assert_int_equal(count("net.app ", "protocol=HTTP"), 1);
    expect("http.req ", "http_target=/one http_scheme=http http_flavor=1.1 http_host=h http_client_ip=192.0.2.7 ");
    expect("http.req ", "net_peer_port=8080 net_host_ip=127.0.0.1 net_host_port=8080 net_client_ip=192.0.2.7 net_client_port=4711");
    expect("http.resp ", "http_client_ip=192.0.2.7 ");
    expect("http.req ", "http_target=/two http_scheme=http http_flavor=1.1 http_host=h http_client_ip=10.0.0.1 ");
    expect("net.close ", "net_client_ip=192.0.2.7 net_client_port=4711");
    /* the number is another connection's now */
    put_accept(&w, 4, 3);
    put_data(&w, 4, DATA_RX, REQUEST("/three"));
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    run();
    expect("http.req ", "http_target=/three http_scheme=http http_flavor=1.1 http_host=h net_transport");
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* Behind the header may come TLS, or clear text that goes over to it. */
static void test_tls_behind_a_proxy(void **state)
{
    struct writer w = serving();

    (void)state;
    put_data(&w, 4, DATA_RX, PROXY_LINE);
    put_part(&w, 4, DATA_RX, client_hello, sizeof(client_hello) - 1, 0, sizeof(client_hello) - 1);
    put_part(&w, 4, DATA_TX, server_hello, sizeof(server_hello) - 1, 0, sizeof(server_hello) - 1);
    put_tls(&w, 4, 0x4000, DATA_TLS_RX, REQUEST("/one"));
    put_tls(&w, 4, 0x4000, DATA_TLS_TX, ANSWER("0"));
    run();
    expect("net.app ", "protocol=TLS tls_protocol_version=1.2");
    expect("http.req ", "http_target=/one http_scheme=https http_flavor=1.1 http_host=h http_client_ip=192.0.2.7 ");
    put_part(&w, 4, DATA_RX, "\x17\3\3\0\1x", 6, 0, 6); /* the plaintext is seen: nothing is asked of the records */
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
    put_close(&w, 4);
    put_accept(&w, 4, 3);
    put_data(&w, 4, DATA_RX, PROXY_LINE);
    put_data(&w, 4, DATA_TX, "220 h ESMTP\r\n");
    put_data(&w, 4, DATA_RX, "STARTTLS\r\n");
    put_data(&w, 4, DATA_TX, "220 go on\r\n");
    put_part(&w, 4, DATA_RX, client_hello, sizeof(client_hello) - 1, 0, sizeof(client_hello) - 1);
    put_part(&w, 4, DATA_TX, server_hello, sizeof(server_hello) - 1, 0, sizeof(server_hello) - 1);
    run();
    assert_int_equal(count("net.app ", "protocol=TLS"), 2);
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* A client that asks a SOCKS proxy to connect it. */
static void test_through_socks(void **state)
{
    struct writer w = serving();
    static const char ask[] = "\5\1\0\3\6a.test\0\x50", answer[] = "\5\0\0\1\0\0\0\0\0\0";

    (void)state;
    put_part(&w, 4, DATA_TX, "\5\1\0", 3, 0, 3);
    put_part(&w, 4, DATA_RX, "\5\0", 2, 0, 2);
    put_part(&w, 4, DATA_TX, ask, sizeof(ask) - 1, 0, sizeof(ask) - 1);
    put_part(&w, 4, DATA_RX, answer, sizeof(answer) - 1, 0, sizeof(answer) - 1);
    put_data(&w, 4, DATA_TX, REQUEST("/one"));
    put_data(&w, 4, DATA_RX, ANSWER("3") "abc");
    run();
    expect("net.app ", "protocol=SOCKS socks_version=5 socks_command=connect socks_target=a.test socks_target_port=80 "
                       "socks_reply=0");
    expect("http.resp ", "http_target=/one http_scheme=http http_flavor=1.1 http_status_code=200");
    expect_not("http.resp ", "http_client_ip");
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* HTTP behind something that nobody knows begins where the direction changes. */
static void test_unknown_preamble(void **state)
{
    struct writer w;

    (void)state;
    config_add_text(options.config, "test", RULES, strlen(RULES), NULL, NULL);
    w = serving();
    put_data(&w, 4, DATA_RX, "\1\2MAGIC");
    put_data(&w, 4, DATA_TX, "\1");
    put_data(&w, 4, DATA_RX, "GET /one HT");
    put_data(&w, 4, DATA_RX, "TP/1.1\r\nHost: h\r\n\r\n");
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    run();
    expect("http.resp ", "http_target=/one");
    assert_int_equal(want_of_fd(&w, 4), FDW_CAPTURE);
    put_close(&w, 4);
    /* what might still become something else from its first bytes on */
    put_accept(&w, 4, 3);
    put_part(&w, 4, DATA_RX, "\0\x40", 2, 0, 2);
    put_data(&w, 4, DATA_TX, "+");
    put_data(&w, 4, DATA_RX, REQUEST("/two"));
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    run();
    expect("http.resp ", "http_target=/two");
    put_close(&w, 4);
    /* not in what the user has a name for, and not for ever */
    put_accept(&w, 4, 5);
    put_data(&w, 4, DATA_TX, "220 h SMTP\r\n");
    put_data(&w, 4, DATA_RX, "DATA\r\n");
    put_data(&w, 4, DATA_TX, "354\r\n");
    put_data(&w, 4, DATA_RX, REQUEST("/three"));
    put_close(&w, 4);
    put_accept(&w, 4, 7);
    for (int i = 0; i < 7; i++) {
        put_data(&w, 4, DATA_RX, "\1\2MAGIC");
        put_data(&w, 4, DATA_TX, "\1");
    }
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
    put_data(&w, 4, DATA_RX, REQUEST("/four"));
    run();
    expect_not("http.req ", "/three");
    expect_not("http.req ", "/four");
    expect_not("loss ", NULL);
    writer_free(&w);
}

static void put_passed(struct writer *w, enum op_id op, int fd, uint32_t gen)
{
    struct rec_fd passed = {fd, gen, 77};

    writer_fd(w, (unsigned)fd)->gen = gen;
    assert_true(writer_put(w, REC_CALL, op, 1, ARGS(9), 0, ITEMS({ITEM_FDS, &passed, sizeof(passed)})));
}

/* A connection goes to another process with a message: one end, with the bytes of both, whichever ring is read first. */
static void test_passed_on(void **state)
{
    (void)state;
    for (int order = 0; order < 3; order++) {
        struct writer w = serving(), t = prog(NOBODY + 1);

        assert_non_null(attach(&t));
        run();
        told_clear();
        if (order == 0) { /* as it happened */
            put_passed(&w, OP_sendmsg, 4, 1);
            put_close(&w, 4);
            run();
            expect_not("net.close ", NULL);
        }
        put_passed(&t, OP_recvmsg, 5, 1);
        put_data(&t, 5, DATA_RX, REQUEST("/on"));
        put_data(&t, 5, DATA_TX, ANSWER("0"));
        if (order == 1) { /* it was taken before we get to know that it was sent */
            run();
            put_passed(&w, OP_sendmsg, 4, 1);
            put_close(&w, 4);
            run();
            expect_not("net.close ", NULL);
        }
        put_close(&t, 5);
        run();
        if (order == 2) { /* ... and closed */
            expect_not("net.close ", NULL);
            put_passed(&w, OP_sendmsg, 4, 1);
            put_close(&w, 4);
            run();
        }
        expect("net.close ", "net_peer_port=8080 net_host_ip=127.0.0.1 net_host_port=8080 net_protocol=http duration=");
        expect("net.close ", "net_bytes_sent=38 net_bytes_recv=29");
        expect("http.resp ", "http_target=/on");
        put_exit(&w, 0);
        put_exit(&t, 0);
        run();
        assert_int_equal(count("net.close ", NULL), 1);
        expect_not("loss ", NULL);
        writer_free(&w);
        writer_free(&t);
        told_clear();
    }
}

/* The beginning of a ClientHello: headers and random, which is a byte repeated, of a record of 512 bytes. */
struct hello {
    char data[DATA_HELLO_BYTES];
};

static struct hello hello(char random)
{
    struct hello h = {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"};

    memset(h.data + sizeof(h) - 32, random, 32);
    return h;
}

static void put_hello(struct writer *w, uint64_t object, enum data_source source, const struct hello *h, size_t from,
                      size_t to)
{
    assert_true(writer_put(w, REC_DATA, OP_NONE, (int64_t)(to - from), ARGS((uint64_t)-1, from, 0, source, object, 0),
                           0, ITEMS({ITEM_DATA, h->data + from, to - from})));
}

static void pass_hello(struct writer *w, int fd, enum data_source source, const struct hello *h)
{
    put_part(w, fd, source, h->data, sizeof(h->data), 0, 5 + 512);
}

static const struct sockaddr_in *peer_at(uint16_t port)
{
    static struct sockaddr_in a;

    a = peer;
    a.sin_port = htons(port);
    return &a;
}

static void put_accept_from(struct writer *w, int fd, uint32_t gen, uint16_t port)
{
    writer_fd(w, (unsigned)fd)->gen = gen;
    assert_true(writer_put(w, REC_CALL, OP_accept4, fd, ARGS(3, 0, 0, 0, 0, gen), 0,
                           ITEMS({ITEM_ADDR, peer_at(port), sizeof(peer)}, {ITEM_LOCAL, &peer, sizeof(peer)})));
}

/* How many requests for the target were told, with the port of the peer; 0: without any. */
static unsigned asked(const char *target, unsigned port)
{
    char want[64], from[32];
    unsigned n = 0;

    snprintf(want, sizeof(want), "http_target=%s ", target);
    snprintf(from, sizeof(from), "net_peer_port=%u", port);
    for (size_t i = 0; i < told_count; i++)
        n += !strncmp(told[i], "http.req ", 9) && strstr(told[i], want) &&
             (port ? strstr(told[i], from) != NULL : !strstr(told[i], "net_peer_port"));
    return n;
}

/* Objects whose transport is memory: each gets the addresses of the socket that its ClientHello went through. */
/* The probe knows the descriptor of some pieces only. */
static void test_object_is_remembered(void **state)
{
    struct writer w = serving();

    (void)state;
    put_accept_from(&w, 5, 1, 1005);
    put_accept_from(&w, 6, 1, 1006);
    put_tls(&w, 5, 0x5000, DATA_TLS_RX, "GET /five HTTP/1.1\r\nHo");
    put_tls(&w, -1, 0x6000, DATA_TLS_RX, "GET /six HTTP/1.1\r\nHo");
    put_tls(&w, -1, 0x5000, DATA_TLS_RX, "st: h\r\n\r\n");
    put_tls(&w, 6, 0x6000, DATA_TLS_RX, "st: h\r\n\r\n");
    put_tls(&w, -1, 0x5000, DATA_TLS_TX, ANSWER("0"));
    put_tls(&w, -1, 0x6000, DATA_TLS_TX, ANSWER("0"));
    run();
    assert_int_equal(asked("/five", 1005), 1);
    assert_int_equal(asked("/six", 1006), 1);
    assert_int_equal(count("http.resp ", "http_server_duration"), 2);

    /* the object is another connection's without a word */
    put_close(&w, 5);
    put_accept_from(&w, 5, 2, 1055);
    put_tls(&w, 5, 0x5000, DATA_TLS_RX, REQUEST("/next"));
    put_tls(&w, -1, 0x5000, DATA_TLS_RX, REQUEST("/after"));
    run();
    assert_int_equal(asked("/next", 1055), 1);
    assert_int_equal(asked("/after", 1055), 1);
    expect_not("loss ", NULL);
    writer_free(&w);
}

static void test_objects_of_sockets(void **state)
{
    struct writer w = serving();
    struct hello a = hello('a'), b = hello('b'), c = hello('c');

    (void)state;
    put_accept_from(&w, 5, 1, 1005);
    put_accept_from(&w, 6, 1, 1006);
    put_accept_from(&w, 7, 1, 1007);
    /* servers: the socket's comes first, the object's in pieces; those of two connections mingle */
    pass_hello(&w, 5, DATA_RX, &a);
    pass_hello(&w, 6, DATA_RX, &b);
    put_hello(&w, 0x6000, DATA_HELLO_RX, &b, 0, 5);
    put_hello(&w, 0x5000, DATA_HELLO_RX, &a, 0, 5);
    put_hello(&w, 0x5000, DATA_HELLO_RX, &a, 5, 43);
    put_hello(&w, 0x6000, DATA_HELLO_RX, &b, 5, 43);
    /* a client of the same ClientHello (both ends are in this process), whose object comes first; with early data */
    put_hello(&w, 0x7000, DATA_HELLO_TX, &a, 0, 43);
    put_tls(&w, -1, 0x7000, DATA_TLS_TX, "GET /early HTTP/1.1\r\nHo");
    pass_hello(&w, 7, DATA_TX, &a);
    put_tls(&w, -1, 0x7000, DATA_TLS_TX, "st: h\r\n\r\n");
    put_tls(&w, -1, 0x5000, DATA_TLS_RX, REQUEST("/five"));
    put_tls(&w, -1, 0x6000, DATA_TLS_RX, REQUEST("/six"));
    run();
    assert_int_equal(asked("/five", 1005), 1);
    assert_int_equal(asked("/six", 1006), 1);
    assert_int_equal(asked("/early", 1007), 1);

    /* the descriptor is closed, its duplicate is the connection still; the number becomes another's */
    assert_true(writer_put(&w, REC_CALL, OP_dup, 8, ARGS(5, 0, 0, 0, 0, 1), 0, NULL));
    put_close(&w, 5);
    put_accept_from(&w, 5, 3, 1055);
    pass_hello(&w, 5, DATA_RX, &c);
    put_hello(&w, 0x5500, DATA_HELLO_RX, &c, 0, 43);
    put_tls(&w, -1, 0x5000, DATA_TLS_RX, REQUEST("/by-duplicate"));
    put_tls(&w, -1, 0x5500, DATA_TLS_RX, REQUEST("/by-number"));
    run();
    assert_int_equal(asked("/by-duplicate", 1005), 1);
    assert_int_equal(asked("/by-number", 1055), 1);

    /* an object ends, and another begins at its address: nothing of the old one's is left */
    put_tls(&w, -1, 0x6000, DATA_TLS_RX, "GET /cut HTTP/1.1\r\nHo");
    put_tls(&w, -1, 0x6000, DATA_TLS_RX, "");
    put_tls(&w, -1, 0x6000, DATA_TLS_RX, REQUEST("/other"));
    /* a socket ends: what comes later isn't its any more */
    put_close(&w, 8);
    put_tls(&w, -1, 0x5000, DATA_TLS_RX, REQUEST("/late"));
    run();
    expect_not("http.req ", "http_target=/cut");
    assert_int_equal(asked("/other", 0), 1);
    assert_int_equal(asked("/late", 0), 1);
    writer_free(&w);
}

/* Forks: parent and child go on with one connection; the child's end isn't that of the parent. */
static void test_object_is_inherited(void **state)
{
    struct writer w = serving();
    struct hello a = hello('a');

    (void)state;
    pass_hello(&w, 4, DATA_RX, &a);
    put_hello(&w, 0x4000, DATA_HELLO_RX, &a, 0, 43);
    put_tls(&w, -1, 0x4000, DATA_TLS_RX, REQUEST("/1"));
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    w.pid = NOBODY + 1;
    put_tls(&w, -1, 0x4000, DATA_TLS_TX, ANSWER("0"));
    put_tls(&w, -1, 0x4000, DATA_TLS_RX, "");
    w.pid = NOBODY;
    writer_put(&w, REC_CALL, OP_fork, NOBODY + 1, NULL, 0, NULL);
    put_tls(&w, -1, 0x4000, DATA_TLS_RX, REQUEST("/2"));
    run();
    expect("http.resp pid=4100001", "net_peer_ip=127.0.0.1");
    assert_int_equal(count("http.resp ", "http_target=/1"), 1);
    expect("http.req pid=4100000", "http_target=/2");
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* Who came too late for the client's hello tells nothing. */
static void test_half_a_handshake(void **state)
{
    struct writer w = prog(NOBODY);
    struct desc *d = fds_lookup(attach(&w), 7);

    (void)state;
    d->file->kind = FDK_SOCKET;
    put_part(&w, 7, DATA_RX, server_hello, sizeof(server_hello) - 1, 0, sizeof(server_hello) - 1);
    put_part(&w, 7, DATA_TX, "\x14\3\3\0\1\1\x17\3\3\0\1x", 12, 0, 12);
    run();
    assert_int_equal(want_of_fd(&w, 7), FDW_NONE);
    expect_not("net.app ", NULL);
    expect_not("loss ", NULL);
    writer_free(&w);
}

static void put_bytes(struct writer *w, enum data_source source, const char *data, size_t len)
{
    put_part(w, 4, source, data, len, 0, len);
}

/* Clear text first, as with STARTTLS: what was recognised is told, then TLS, and what is encrypted is fed to nobody. */
static void test_goes_over_to_tls(void **state)
{
    struct writer w;
    size_t n = sizeof(client_hello) - 1;

    (void)state;
    config_add_text(options.config, "test", RULES, strlen(RULES), NULL, NULL);
    w = serving();
    put_data(&w, 4, DATA_TX, "220 mail ESMTP\r\n");
    put_data(&w, 4, DATA_RX, "STARTTLS\r\n");
    put_data(&w, 4, DATA_TX, "220 go on\r\n");
    run();
    expect("net.app ", "protocol=SMTP");
    assert_int_equal(want_of_fd(&w, 4), FDW_UNDECIDED);
    put_bytes(&w, DATA_RX, client_hello, 5); /* as OpenSSL reads it */
    put_bytes(&w, DATA_RX, client_hello + 5, n - 5);
    put_bytes(&w, DATA_TX, server_hello, sizeof(server_hello) - 1);
    run();
    expect("net.app ", "protocol=TLS tls_protocol_version=1.2");
    assert_int_equal(want_of_fd(&w, 4), FDW_CAPTURE);
    put_bytes(&w, DATA_RX, "no record", 9);
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
    put_close(&w, 4);
    put_accept(&w, 4, 3); /* still undecided, by a rule that waits for more */
    put_data(&w, 4, DATA_RX, "MORE");
    put_data(&w, 4, DATA_TX, "x");
    put_bytes(&w, DATA_RX, client_hello, n);
    put_bytes(&w, DATA_TX, server_hello, sizeof(server_hello) - 1);
    put_close(&w, 4);
    put_accept(&w, 4, 5); /* a decoder knows what belongs to a body */
    put_data(&w, 4, DATA_RX, "PUT /file HTTP/1.1\r\nContent-Length: 85\r\n\r\n");
    put_bytes(&w, DATA_RX, client_hello, n);
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    put_data(&w, 4, DATA_RX, REQUEST("/next"));
    put_data(&w, 4, DATA_TX, ANSWER("0"));
    put_close(&w, 4);
    put_accept(&w, 4, 7); /* only the beginning of a call counts, and not for ever */
    put_data(&w, 4, DATA_TX, "220 mail ESMTP\r\n");
    for (int i = 0; i < 20; i++)
        put_data(&w, 4, i % 2 ? DATA_TX : DATA_RX, "\x16\3 and no more");
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
    put_bytes(&w, DATA_RX, client_hello, n);
    put_bytes(&w, DATA_TX, server_hello, sizeof(server_hello) - 1);
    put_close(&w, 4);
    run();
    assert_int_equal(count("net.app ", "protocol=TLS"), 2);
    assert_int_equal(count("net.app ", "protocol=SMTP"), 2);
    assert_int_equal(count("http.resp ", "http_server_duration"), 2);
    expect("http.resp ", "http_target=/next");
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* Bytes that are missing: where that is known, nothing is put together that doesn't belong together; where it isn't
 * (object 0), each connection is understood again from the next message on. */
static void test_plaintext_is_missing(void **state)
{
    struct writer w = serving();

    (void)state;
    put_tls(&w, -1, 0x2000, DATA_TLS_RX, "GET /two HTTP/1.1\r\nHost: ");
    assert_true(writer_put(&w, REC_DATA, OP_NONE, 100, ARGS((uint64_t)-1, 0, 0, DATA_TLS_RX, 0x2000, 0), 0, NULL));
    put_tls(&w, -1, 0x2000, DATA_TLS_RX, "the end, glued\r\n\r\n");
    put_tls(&w, -1, 0x2000, DATA_TLS_RX, REQUEST("/next"));
    put_tls(&w, -1, 0x3000, DATA_TLS_RX, "GET /three HTTP/1.1\r\nHost: ");
    put_part(&w, 4, DATA_RX, hello('a').data, 43, 0, 43);
    put_tls(&w, 4, 0x4000, DATA_TLS_RX, "GET /four HTTP/1.1\r\nHost: ");
    put_tls(&w, -1, 0, DATA_TLS_RX, "");
    put_tls(&w, -1, 0x3000, DATA_TLS_RX, "the end of a body");
    put_tls(&w, -1, 0x3000, DATA_TLS_TX, "and of another");
    put_tls(&w, 4, 0x4000, DATA_TLS_RX, "the end of a body");
    put_tls(&w, 4, 0x4000, DATA_TLS_TX, "and of another");
    put_tls(&w, -1, 0x3000, DATA_TLS_RX, REQUEST("/after-three"));
    put_tls(&w, 4, 0x4000, DATA_TLS_RX, REQUEST("/after-four"));
    run();
    expect_not("http.req ", "glued");
    assert_int_equal(asked("/next", 0), 1);
    assert_int_equal(asked("/after-three", 0), 1);
    assert_int_equal(asked("/after-four", 8080), 1);
    writer_free(&w);
}

/* With kernel TLS the library gives the socket plaintext: which is told once. */
static void test_kernel_tls(void **state)
{
    struct writer w = serving();
    struct hello a = hello('a');
    struct desc *d;

    (void)state;
    pass_hello(&w, 4, DATA_RX, &a);
    put_part(&w, 4, DATA_TX, server_hello, sizeof(server_hello) - 1, 0, sizeof(server_hello) - 1);
    put_data(&w, 4, DATA_RX, REQUEST("/known"));
    put_tls(&w, 4, 0x4000, DATA_TLS_RX, REQUEST("/known"));
    run();
    assert_int_equal(count("http.req ", "http_target=/known"), 1);
    assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
    /* the handshake was before */
    d = fds_lookup(proc_by_host_pid(&c.model, (pid_t)w.h->pid), 7);
    d->file->kind = FDK_SOCKET;
    put_part_inside(&w, 7, 0x7000, DATA_RX, REQUEST("/joined"), strlen(REQUEST("/joined")), 0,
                    strlen(REQUEST("/joined")));
    put_tls(&w, 7, 0x7000, DATA_TLS_RX, REQUEST("/joined"));
    run();
    assert_int_equal(count("http.req ", "http_target=/joined"), 1);
    assert_int_equal(count("http.req ", "http_scheme=https"), 2);
    assert_int_equal(want_of_fd(&w, 7), FDW_NONE);
    writer_free(&w);
}

/* Of plaintext that isn't recognised the probe is told that nothing is wanted; but only of the connection that it is. */
static void test_plaintext_is_not_wanted(void **state)
{
    struct writer w = serving();
    struct tls_want *want = &w.h->tls[tls_want_at(0x2000)];
    static const char text[] = "SSH-2.0-x\r\n";

    (void)state;
    *want = (struct tls_want){.object = 0x2000, .life = 5};
    for (int i = 0; i < 2; i++) {
        put_tls_of(&w, 0x2000, 5, DATA_TLS_RX, text);
        put_tls_of(&w, 0x2000, 5, DATA_TLS_TX, text);
        run();
        assert_int_equal(want->done, 5);
        want->done = 0;
        want->life = i ? 5 : 6; /* the object is another connection's by now */
        put_tls_of(&w, 0x2000, 5, DATA_TLS_RX, text);
        run();
        assert_int_equal(want->done, i ? 5 : 0);
        want->life = 5;
    }
    put_tls_of(&w, 0x2000, 0, DATA_TLS_RX, ""); /* what is recognised stays wanted */
    want->life = 7;
    put_tls_of(&w, 0x2000, 7, DATA_TLS_RX, REQUEST("/"));
    run();
    assert_int_equal(want->done, 5);
    want->object = 0x3000; /* the place is another object's */
    put_tls_of(&w, 0x2000, 7, DATA_TLS_RX, "");
    put_tls_of(&w, 0x2000, 7, DATA_TLS_RX, text);
    put_tls_of(&w, 0x2000, 7, DATA_TLS_TX, text);
    run();
    assert_int_equal(want->done, 5);
    writer_free(&w);
}

static void test_datagrams(void **state)
{
    static const uint8_t query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01h\x04test\x00\x00\x01\x00\x01",
                         answer[] = "\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01h\x04test\x00\x00\x01\x00\x01"
                                    "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01";
    struct writer w = serving();

    (void)state;
    writer_fd(&w, 5)->gen = 1;
    assert_true(writer_put(&w, REC_CALL, OP_socket, 5, ARGS(AF_INET, SOCK_DGRAM, 0, 0, 0, 1), 0, NULL));
    put_part(&w, 5, DATA_TX, query, sizeof(query) - 1, 0, sizeof(query) - 1);
    put_part(&w, 5, DATA_RX, answer, sizeof(answer) - 1, 0, sizeof(answer) - 1);
    run();
    expect("dns.req ", "domain=h.test qtype=A role=client");
    expect("dns.resp ", "domain=h.test duration=0 addrs=192.0.2.1 rcode=NOERROR ttl=60 qtype=A role=client");
    expect("metric dns.req ", "value=1");
    assert_int_equal(want_of_fd(&w, 5), FDW_CAPTURE);
    for (int i = 7; i < 9; i++) { /* a server's clients are told apart */
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons((uint16_t)i), .sin_addr = {htonl(0x0a000000u + (uint32_t)i)}};

        assert_true(writer_put(&w, REC_DATA, OP_recvfrom, sizeof(query) - 1, ARGS(5, 0, writer_fd(&w, 5)->read_bytes, DATA_RX, 0, 1),
                               0, ITEMS({ITEM_ADDR, &from, sizeof(from)}, {ITEM_DATA, query, sizeof(query) - 1})));
        writer_fd(&w, 5)->read_bytes += sizeof(query) - 1;
    }
    run();
    expect("dns.req ", "role=server net_transport=IP.UDP net_peer_ip=10.0.0.7 net_peer_port=7");
    expect("dns.req ", "role=server net_transport=IP.UDP net_peer_ip=10.0.0.8 net_peer_port=8");
    put_part(&w, 5, DATA_RX, answer, 20, 0, sizeof(answer) - 1); /* only part of it was captured */
    run();
    expect("loss message 1", NULL);
    writer_free(&w);
}

/* Queries that nobody answers are told when they have waited long enough, or their socket is closed. */
static void test_no_answer(void **state)
{
    uint8_t query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01h\x04test\x00\x00\x01\x00\x01",
            refused[] = "\x12\x35\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00\x01h\x04test\x00\x00\x01\x00\x01";
    const size_t len = sizeof(query) - 1;
    struct writer w = serving();
    struct proc *p = proc_by_host_pid(&c.model, NOBODY);
    struct sockaddr_in from = peer;
    uint64_t now;

    (void)state;
    writer_fd(&w, 5)->gen = 1;
    assert_true(writer_put(&w, REC_CALL, OP_socket, 5, ARGS(AF_INET, SOCK_DGRAM, 0, 0, 0, 1), 0, NULL));
    put_part(&w, 5, DATA_TX, query, len, 0, len);
    query[1]++;
    put_part(&w, 5, DATA_TX, query, len, 0, len);
    put_part(&w, 5, DATA_RX, refused, len, 0, len);
    run();
    now = clock_now_real();
    assert_non_null(p->asking);
    stream_sweep(p, now);
    assert_int_equal(count("dns.resp ", NULL), 1); /* of the second: it is refused, which is an answer */
    expect("dns.resp ", "rcode=NXDOMAIN");
    fake_ahead_ns = UINT64_C(20000000000);
    stream_sweep(p, now + fake_ahead_ns);
    fake_ahead_ns = 0;
    expect("dns.resp ", "domain=h.test duration=");
    expect("dns.resp ", "error=timeout qtype=A role=client");
    assert_int_equal(count("dns.resp ", NULL), 2);
    assert_null(p->asking);
    put_part(&w, 5, DATA_TX, query, len, 0, len);
    /* a client that gets no answer, of which the next client's query makes nothing else */
    for (int i = 1; i < 3; i++) {
        from.sin_port = htons((uint16_t)i);
        assert_true(writer_put(&w, REC_DATA, OP_recvfrom, (int64_t)len,
                               ARGS(5, 0, writer_fd(&w, 5)->read_bytes, DATA_RX, 0, 1), 0,
                               ITEMS({ITEM_ADDR, &from, sizeof(from)}, {ITEM_DATA, query, len})));
        writer_fd(&w, 5)->read_bytes += len;
    }
    put_close(&w, 5);
    run();
    assert_int_equal(count("dns.resp ", "error=closed qtype=A role=client"), 1);
    expect("dns.resp ", "error=closed qtype=A role=server net_transport=IP.UDP net_peer_ip=127.0.0.1 net_peer_port=1");
    expect("dns.resp ", "error=closed qtype=A role=server net_transport=IP.UDP net_peer_ip=127.0.0.1 net_peer_port=2");
    assert_int_equal(p->sums.error[ERR_DNS], 3); /* what others asked is no error of ours */
    assert_int_equal(count("dns.resp ", NULL), 5);
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* A connection that ends before it was clear what it is. */
static void test_end_decides(void **state)
{
    struct writer w = serving();

    (void)state;
    put_data(&w, 4, DATA_RX, "a.b:1|c|#k:v");
    run();
    expect_not("captured ", NULL);
    put_close(&w, 4);
    run();
    expect("net.app ", "protocol=STATSD");
    expect("captured a.b ", "value=1 type=c k=v");
    expect_not("loss ", NULL);
    writer_free(&w);
}

static void test_mode(void **state)
{
    struct writer w;

    (void)state;
    config_set(options.config, "event.enable", "false", "test", NULL, NULL);
    config_set(options.config, "metric.enable", "false", "test", NULL, NULL);
    w = prog(NOBODY);
    fake_wants_nothing = true;
    attach(&w);
    assert_false(w.h->mode & (SEG_M_TRAFFIC | SEG_M_PAYLOADS));
    put_accept(&w, 4, 1);
    run();
    assert_int_equal(want_of_fd(&w, 4), FDW_NONE);
    fake_wants_nothing = false;
    writer_free(&w);
}

static uint32_t next(uint32_t *r)
{
    *r = *r * 1664525u + 1013904223u;
    return *r >> 16;
}

/* Whatever a program writes into its segment. */
static void test_hostile(void **state)
{
    struct writer w = serving();
    static const char *const texts[] = {REQUEST("/x"), ANSWER("100000"), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "x:1|c\n", "\0\0\0\4\0"};
    uint32_t r = 1;

    (void)state;
    for (unsigned i = 0; i < 60000; i++) {
        const char *text;
        uint64_t arg[6], odd[] = {0, 1, 5, 1000, INT64_MAX, UINT64_MAX, UINT64_C(1) << 62, i};

        text = texts[next(&r) % 5];
        if (next(&r) % 50 == 0)
            put_close(&w, 4 + (int)(next(&r) % 3));
        else if (next(&r) % 50 == 0)
            put_accept(&w, 4 + (int)(next(&r) % 3), writer_fd(&w, 4)->gen + (i & 1));
        for (unsigned k = 0; k < 6; k++)
            arg[k] = odd[next(&r) % 8];
        if (next(&r) % 20)
            arg[0] = 4 + next(&r) % 3;
        arg[3] = next(&r) % 8;
        if (next(&r) % 4)
            arg[5] = writer_fd(&w, 4)->gen;
        writer_put(&w, REC_DATA, OP_sendto, (int64_t)odd[next(&r) % 8], arg, 0,
                   i % 3 ? ITEMS({ITEM_DATA, text, strlen(text) + (i & 1)}) : NULL);
        if (i % 100 == 0)
            run();
    }
    run();
    writer_free(&w);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_exchange), T(test_early), T(test_ambiguities), T(test_ambiguous_chunks),
        T(test_body_is_skipped),
        T(test_parts_of_calls),
        T(test_lost_head),
        T(test_descriptor_is_reused),
        T(test_not_wanted),
        T(test_never_recognised),
        T(test_fork),
        T(test_joined), T(test_joined_encrypted),
        T(test_plaintext),
        T(test_datagrams),
        T(test_mode),
        T(test_end_decides),
        T(test_no_answer),
        T(test_hostile),
        T(test_passed_on), T(test_behind_a_proxy), T(test_tls_behind_a_proxy), T(test_through_socks), T(test_unknown_preamble), T(test_hellos), T(test_object_of_a_handshake), T(test_sweeps_are_charged), T(test_sweep_ends_the_next), T(test_unread_counts), T(test_unread_joined),
        T(test_keys_at_last), T(test_keys_bounded),
        T(test_half_a_handshake),
        T(test_goes_over_to_tls),
        T(test_objects_of_sockets),
        T(test_object_is_inherited),
        T(test_plaintext_is_missing),
        T(test_kernel_tls),
        T(test_plaintext_is_not_wanted),
        T(test_long_first_piece),
        T(test_long_first_piece_in_a_tunnel),
        T(test_object_is_remembered),
    };

    log_setup(stderr, LOGL_NONE, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
