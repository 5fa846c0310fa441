/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP's sending side against receivers that are slow, refuse, break off, speak something else or say too much: no item
 * may be lost without being counted. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>
#include <nghttp2/nghttp2.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "output/http_answer.h"
#include "output/internal.h"
#include "output/otlp_answer.h"
#include "output/output.h"

#define RETRY_MS 40
#define PATIENCE 6000 /* times 5 ms: nothing here depends on how quick something is */

static struct event_base *base;
static char dir[64];
static int listener;
static unsigned port;

static int listen_anywhere(unsigned *ret_port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(fd, 5), 0);
    getsockname(fd, (struct sockaddr *)&a, &len);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static int set_up(void **state)
{
    strcpy(dir, "/tmp/test_otlp.XXXXXX");
    base = event_base_new();
    output_set_limits(16 * 1024 * 1024, 64 * 1024, RETRY_MS);
    listener = listen_anywhere(&port);
    return base && mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    char *command = xasprintf("rm -r '%s'", dir);
    int rc = system(command);

    free(command);
    close(listener);
    event_base_free(base);
    return rc;
}

static void run_ms(unsigned ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (int)(ms % 1000) * 1000};

    event_base_loopexit(base, &tv);
    event_base_dispatch(base);
}

static struct output_stats stats_of(struct output *o)
{
    struct output_stats s;

    output_stats(o, &s);
    return s;
}

/* The configuration of these tests' outputs, to be changed before get(). */
static struct cfg_otlp_to plain(enum cfg_otlp_protocol protocol)
{
    static char text[16];

    snprintf(text, sizeof(text), "%u", port);
    return (struct cfg_otlp_to){
        .enable = true, .protocol = protocol, .path = (char *)"/v1/traces", .timeout_ms = 30000,
        .transport = {.type = CFG_OTLP, .host = (char *)"127.0.0.1", .port = text},
    };
}

static struct output *get(const struct cfg_otlp_to *cfg)
{
    return output_get_otlp(base, cfg, CFG_OTLP_TRACES);
}

/* Writes a record of `items` items and `size` bytes; appends these to *expected. */
static bool put(struct output *o, uint32_t items, size_t size, char fill, struct buf *expected)
{
    struct buf record = BUF_INIT;
    bool taken;

    buf_add(&record, &items, sizeof(items));
    buf_char(&record, 0x0a);
    for (size_t v = size; ; v >>= 7) {
        buf_char(&record, (char)(v > 0x7f ? v | 0x80 : v));
        if (v <= 0x7f)
            break;
    }
    memset(buf_room(&record, size), fill, size);
    record.len += size;
    taken = output_write(o, record.p, record.len);
    if (expected && taken)
        buf_add(expected, record.p + sizeof(items), record.len - sizeof(items));
    buf_free(&record);
    return taken;
}

/* Accepts a connection, running the loop meanwhile. */
static int accept_one(void)
{
    for (int i = 0; i < PATIENCE; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0)
            return fd;
        run_ms(5);
    }
    fail_msg("nobody connects");
    return -1;
}

static bool nobody_connects(void)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd < 0;
}

/* Runs the loop until the output has got rid of so many items, by either way. */
static void until_settled(struct output *o, uint64_t items)
{
    for (int i = 0; i < PATIENCE; i++) {
        struct output_stats s = stats_of(o);

        if (s.records + s.lost_destination >= items)
            return;
        run_ms(5);
    }
    fail_msg("%s", stats_of(o).failure);
}

/* Runs the loop until the next request comes: true, or nothing is queued any more. */
static bool another(struct output *o, int fd)
{
    for (int i = 0; i < PATIENCE && stats_of(o).queued; i++) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (poll(&p, 1, 0) > 0)
            return true;
        run_ms(5);
    }
    assert_int_equal(stats_of(o).queued, 0);
    return false;
}

static void until_failure(struct output *o, const char *part)
{
    for (int i = 0; i < PATIENCE; i++) {
        const char *failure = stats_of(o).failure;

        if (failure && strstr(failure, part))
            return;
        run_ms(5);
    }
    fail_msg("failure is %s, not %s", stats_of(o).failure, part);
}

static void until_closed(int fd)
{
    char junk[65536];

    for (int i = 0; i < PATIENCE; i++) {
        ssize_t n = read(fd, junk, sizeof(junk));

        if (n == 0 || (n < 0 && errno != EAGAIN))
            return;
        run_ms(n > 0 ? 0 : 5);
    }
    fail_msg("the connection stays");
}

/* --- parsers --- */

static void answers_in_pieces_of_any_size(void **state)
{
    static const struct {
        const char *text;
        int rc; /* of feed, or of end if that said 0 */
        int status;
        const char *body;
        bool keep_alive;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", 1, 200, "abc", true},
        {"HTTP/1.1 200\r\nContent-Length:0\r\n\r\n", 1, 200, "", true},
        {"HTTP/1.1 200 OK\nContent-Length: 1\n\nx", 1, 200, "x", true},
        {"HTTP/1.1 204 No Content\r\n\r\n", 1, 204, "", true},
        {"HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 1\r\n\r\nx", 1, 200, "x", false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 1, 200, "x", false},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", 1, 200, "x", true},
        {"HTTP/1.0 200 OK\r\n\r\nuntil the end", 1, 200, "until the end", false},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n"
         "content-length: 1\r\n\r\nx", 1, 200, "x", true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA ; x=y\r\n0123456789\r\n0\r\ntrailer: 1\r\n\r\n",
         1, 200, "abc0123456789", true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 1, 200, "", false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", -EPROTO, 200, "ab", true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", -EPROTO, 200, "", true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 1, 200, "abc", true},
        {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", -EPROTO, 200, "", true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", -EPROTO, 200, "", true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\nabc", -EFBIG, 200, "", true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", -EPROTO, 200, "", true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", -EPROTO, 200, "", true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", -EPROTO, 200, "a", true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000000000000000\r\n", -EPROTO, 200, "", true},
        {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", -EPROTO, 200, "", true},
        {"HTTP/1.1 200 OK\r\na: b\r\n continued\r\n\r\n", -EPROTO, 200, "", true},
        {"HTTP/1.1 200 OK\r\na: b\1\r\n\r\n", -EPROTO, 200, "", true},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", -EPROTO, 101, "", true},
        {"HTTP/1.1 99 What\r\n\r\n", -EPROTO, 0, "", true},
        {"HTTP/1.1 600 What\r\n\r\n", -EPROTO, 0, "", true},
        {"HTTP/2.0 200 OK\r\n\r\n", -EPROTO, 0, "", true},
        {"SSH-2.0-OpenSSH_9.2p1\r\n", -EPROTO, 0, "", true},
        {"\r\nHTTP/1.1 200 OK\r\n\r\n", -EPROTO, 0, "", true},
        {"HTTP/1.1 200 OK\r\nserver: x", -EPROTO, 200, "", true},
        {"", -EPROTO, 0, "", true},
    };
    struct http_answer a = {0};

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        size_t len = strlen(rows[i].text);

        for (size_t piece = 1; piece <= len + 1; piece = piece < 8 ? piece + 1 : piece * 3) {
            size_t at = 0, used = 0;
            int rc = 0;

            http_answer_init(&a);
            while (at < len && rc == 0) {
                size_t n = len - at < piece ? len - at : piece;

                rc = http_answer_feed(&a, rows[i].text + at, n, &used);
                assert_true(used <= n && (rc || used == n));
                at += used;
            }
            if (rc == 0)
                rc = http_answer_end(&a);
            if (rc != rows[i].rc || a.status != rows[i].status)
                fail_msg("row %zu in pieces of %zu: %d, status %d", i, piece, rc, a.status);
            assert_true(rc != -EPROTO || a.problem);
            assert_string_equal(buf_cstr(&a.body), rows[i].body);
            if (rc == 1)
                assert_int_equal(a.keep_alive, rows[i].keep_alive);
        }
    }
    http_answer_free(&a);
}

static void answers_are_bounded(void **state)
{
    struct http_answer a = {0};
    char text[4096];
    size_t used, total = 0;
    int rc = 0;

    memset(text, 'x', sizeof(text));
    http_answer_init(&a);
    assert_int_equal(http_answer_feed(&a, "HTTP/1.1 200 OK\r\na: ", 20, &used), 0);
    for (; rc == 0; total += used)
        rc = http_answer_feed(&a, text, sizeof(text), &used);
    assert_int_equal(rc, -EPROTO);
    assert_true(total <= HTTP_ANSWER_HEAD);

    http_answer_init(&a);
    for (rc = 0, total = 0; rc == 0; total += used)
        rc = http_answer_feed(&a, "HTTP/1.1 100 Continue\r\n\r\n", 25, &used);
    assert_int_equal(rc, -EPROTO);
    assert_true(total <= HTTP_ANSWER_HEAD);

    http_answer_init(&a);
    assert_int_equal(http_answer_feed(&a, "HTTP/1.0 200 OK\r\n\r\n", 19, &used), 0);
    for (rc = 0; rc == 0;)
        rc = http_answer_feed(&a, text, sizeof(text), &used);
    assert_int_equal(rc, -EFBIG);
    assert_true(a.body.len <= HTTP_ANSWER_BODY);
    assert_int_equal(a.status, 200);

    http_answer_init(&a);
    assert_int_equal(http_answer_feed(&a, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 47, &used), 0);
    for (rc = 0; rc == 0;)
        rc = http_answer_feed(&a, "5\r\nabcde\r\n", 10, &used);
    assert_int_equal(rc, -EFBIG);
    assert_true(a.body.len <= HTTP_ANSWER_BODY);
    http_answer_free(&a);
}

static void retry_after_in_seconds_and_as_a_date(void **state)
{
    static const struct {
        const char *text;
        unsigned ms;
    } rows[] = {
        {"2", 2000}, {"0", 0}, {"", 0}, {"-1", 0}, {"1.5", 0}, {"soon", 0}, {"300", 300000}, {"301", 300000},
        {"99999999999999999999", 300000}, {"Sun, 06 Nov 1994 08:49:37 GMT", 7000}, {"Sun, 06 Nov 1994 08:49:29 GMT", 0},
        {"Sun, 06 Nov 1994 09:49:37 GMT", 300000}, {"Sun, 06 Nov 1994 08:49:37 CET", 0},
        {"Sun, 06 Nox 1994 08:49:37 GMT", 0}, {"Sun, 06 ovD 1994 08:49:37 GMT", 0}, {"Sunday, 06-Nov-94 08:49:37 GMT", 0},
        {"Sun, 06 Nov 1994 08:49:37 GMT, or so", 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_int_equal(http_retry_after(rows[i].text, 784111770, 300000), rows[i].ms);
}

static void answers_in_protobuf(void **state)
{
    struct otlp_partial partial;
    char text[64];

    assert_true(otlp_read_response("", 0, &partial));
    assert_int_equal(partial.rejected, 0);
    assert_true(otlp_read_response("\x0a\x07\x08\x05\x12\x03" "why", 9, &partial));
    assert_int_equal(partial.rejected, 5);
    assert_int_equal(partial.message_len, 3);
    assert_memory_equal(partial.message, "why", 3);
    assert_true(otlp_read_response("\x12\x01x\x0a\x00\x1d\1\2\3\4", 10, &partial)); /* fields of the future */
    assert_null(partial.message);
    assert_true(otlp_read_response("\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13, &partial));
    assert_int_equal(partial.rejected, 0); /* -1 */
    assert_false(otlp_read_response("\x0a\x08\x08\x05", 4, &partial));
    assert_false(otlp_read_response("\x0b", 1, &partial));
    assert_false(otlp_read_response("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13, &partial));
    assert_false(otlp_read_response("<html>", 6, &partial));

    strcpy(text, "Cgh0aGlzIGlzIGFsbA==");
    assert_int_equal(otlp_base64(text, strlen(text)), 13);
    assert_memory_equal(text, "\x0a\x08" "this is all", 13);
    strcpy(text, "_-9");
    assert_int_equal(otlp_base64(text, 3), 2);
    strcpy(text, "a b");
    assert_int_equal(otlp_base64(text, 3), -EINVAL);
    strcpy(text, "100%25 %zz %4");
    assert_int_equal(otlp_percent(text, strlen(text)), 11);
    assert_memory_equal(text, "100% %zz %4", 11);
}

/* A field of type 2. */
static void add_field(struct buf *b, unsigned number, const void *bytes, size_t n)
{
    assert_true(n < 128);
    buf_char(b, (char)(number << 3 | 2));
    buf_char(b, (char)n);
    buf_add(b, bytes, n);
}

/* google.rpc.Status with a RetryInfo of seconds and nanoseconds. */
static void make_status(struct buf *b, const char *message, unsigned seconds, unsigned ms)
{
    static const char type[] = "type.googleapis.com/google.rpc.RetryInfo";
    struct buf delay = BUF_INIT, info = BUF_INIT, any = BUF_INIT;

    buf_char(&delay, 0x08);
    buf_char(&delay, (char)seconds);
    buf_char(&delay, 0x10);
    for (uint32_t v = ms * 1000000;; v >>= 7) {
        buf_char(&delay, (char)(v > 0x7f ? v | 0x80 : v));
        if (v <= 0x7f)
            break;
    }
    add_field(&info, 1, delay.p, delay.len);
    add_field(&any, 1, type, strlen(type));
    add_field(&any, 2, info.p, info.len);
    buf_add(b, "\x08\x08", 2);
    add_field(b, 2, message, strlen(message));
    add_field(b, 3, any.p, any.len);
    buf_free(&delay);
    buf_free(&info);
    buf_free(&any);
}

static void retry_info_is_found(void **state)
{
    struct otlp_status status;
    struct buf b = BUF_INIT;

    make_status(&b, "full", 2, 500);
    assert_true(otlp_read_status(b.p, b.len, &status));
    assert_true(status.retry);
    assert_int_equal(status.retry_ms, 2500);
    assert_int_equal(status.message_len, 4);
    for (size_t n = 0; n < b.len; n++)
        otlp_read_status(b.p, n, &status); /* nothing is read behind the end (valgrind, sanitizers) */
    buf_free(&b);
}

/* --- HTTP/1.1 --- */

struct request {
    struct buf bytes;  /* all that came */
    size_t head;       /* length with the empty line */
    const char *body;
    size_t body_len;
};

static void free_request(struct request *r)
{
    buf_free(&r->bytes);
    *r = (struct request){0};
}

static bool complete(struct request *r)
{
    const char *end, *length;

    buf_cstr(&r->bytes);
    end = strstr(r->bytes.p, "\r\n\r\n");
    if (!end)
        return false;
    r->head = (size_t)(end + 4 - r->bytes.p);
    length = strstr(r->bytes.p, "content-length: ");
    assert_true(length && length < end);
    r->body_len = strtoul(length + 16, NULL, 10);
    r->body = r->bytes.p + r->head;
    return r->bytes.len >= r->head + r->body_len;
}

/* Reads one request, running the loop meanwhile. */
static void read_request(int fd, struct request *r)
{
    free_request(r);
    for (int i = 0; i < PATIENCE; i++) {
        ssize_t n = read(fd, buf_room(&r->bytes, 65536), 65536);

        if (n > 0) {
            r->bytes.len += (size_t)n;
            if (complete(r)) {
                assert_int_equal(r->bytes.len, r->head + r->body_len);
                return;
            }
            i = 0;
        } else {
            assert_true(n < 0 && errno == EAGAIN);
            run_ms(5);
        }
    }
    fail_msg("no request");
}

static void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

#define FINE "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"

static void requests_are_what_otlp_says(void **state)
{
    struct cfg_tag headers[] = {
        {(char *)"X-Tenant", (char *)"a b"}, {(char *)"Bad Name", (char *)"x"}, {(char *)"evil", (char *)"a\r\nb: c"},
        {(char *)"Content-Length", (char *)"3"}, {(char *)"authorization", (char *)"Basic eA=="},
    };
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct buf expected = BUF_INIT;
    struct request r = {0};
    struct output *o;
    int fd;

    cfg.headers = headers;
    cfg.header_count = 5;
    o = get(&cfg);
    fd = accept_one();
    put(o, 3, 100, 'a', &expected);
    put(o, 4, 200, 'b', &expected);
    assert_int_equal(stats_of(o).queued, 7);
    read_request(fd, &r);
    assert_memory_equal(r.bytes.p, "POST /v1/traces HTTP/1.1\r\n", 26);
    assert_non_null(strstr(r.bytes.p, "\r\nhost: 127.0.0.1:"));
    assert_non_null(strstr(r.bytes.p, "\r\ncontent-type: application/x-protobuf\r\n"));
    assert_non_null(strstr(r.bytes.p, " OTel-OTLP-Exporter-C/"));
    assert_non_null(strstr(r.bytes.p, "\r\nx-tenant: a b\r\n"));
    assert_non_null(strstr(r.bytes.p, "\r\nauthorization: Basic eA==\r\n"));
    assert_null(strstr(r.bytes.p, "evil"));
    assert_null(strstr(r.bytes.p, "Bad"));
    assert_null(strstr(r.bytes.p, "content-encoding"));
    assert_int_equal(r.body_len, expected.len);
    assert_memory_equal(r.body, expected.p, expected.len);
    assert_int_equal(stats_of(o).records, 0); /* not before the answer */
    say(fd, FINE);
    until_settled(o, 7);
    assert_int_equal(stats_of(o).records, 7);
    assert_int_equal(stats_of(o).bytes, expected.len);
    assert_int_equal(stats_of(o).queued, 0);
    buf_reset(&expected);
    put(o, 1, 10, 'c', &expected);
    read_request(fd, &r); /* on the same connection */
    assert_int_equal(r.body_len, expected.len);
    say(fd, FINE);
    until_settled(o, 8);
    assert_null(stats_of(o).failure);
    output_put(o);
    close(fd);
    free_request(&r);
    buf_free(&expected);
}

static void unzip(const char *p, size_t n, struct buf *ret)
{
    z_stream z = {.next_in = (Bytef *)p, .avail_in = (uInt)n};
    int rc;

    assert_int_equal(inflateInit2(&z, MAX_WBITS + 16), Z_OK);
    do {
        z.next_out = (Bytef *)buf_room(ret, 65536);
        z.avail_out = 65536;
        rc = inflate(&z, Z_NO_FLUSH);
        ret->len += 65536 - z.avail_out;
    } while (rc == Z_OK);
    assert_int_equal(rc, Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    inflateEnd(&z);
}

static void bodies_are_compressed(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct output *o;
    int fd;

    cfg.gzip = true;
    o = get(&cfg);
    fd = accept_one();
    for (int i = 0; i < 3; i++) {
        struct buf expected = BUF_INIT, got = BUF_INIT;
        struct request r = {0};

        put(o, 5, 100000, 'a', &expected);
        put(o, 5, (size_t)i * 50000, 'b', &expected);
        read_request(fd, &r);
        assert_non_null(strstr(r.bytes.p, "\r\ncontent-encoding: gzip\r\n"));
        unzip(r.body, r.body_len, &got);
        assert_int_equal(got.len, expected.len);
        assert_memory_equal(got.p, expected.p, got.len);
        assert_true(r.body_len < got.len / 50);
        say(fd, FINE);
        until_settled(o, 10 * ((uint64_t)i + 1));
        free_request(&r);
        buf_free(&expected);
        buf_free(&got);
    }
    output_put(o);
    close(fd);
}

/* Requests are as large as is sensible, and records whole, also where the queue's memory ends. */
static void requests_have_a_size(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct output *o = get(&cfg);
    struct buf expected = BUF_INIT, got = BUF_INIT;
    int fd = accept_one(), requests = 0;
    struct request r = {0};
    uint64_t items = 0;

    srandom(1);
    for (int i = 0; i < 200; i++, items += 2) {
        size_t size = i == 50 ? 3000000 : 1 + (size_t)random() % 60000;

        assert_true(put(o, 2, size, (char)i, &expected));
    }
    while (got.len < expected.len) {
        read_request(fd, &r);
        assert_true(r.body_len <= 1024 * 1024 || r.body_len == 3000000 + 5);
        buf_add(&got, r.body, r.body_len);
        requests++;
        say(fd, FINE);
        if (requests == 3)
            for (int i = 0; i < 100; i++, items += 2)
                assert_true(put(o, 2, 1 + (size_t)random() % 60000, (char)i, &expected));
    }
    until_settled(o, items);
    assert_int_equal(got.len, expected.len);
    assert_memory_equal(got.p, expected.p, got.len);
    assert_in_range(requests, 9, 20);
    assert_int_equal(stats_of(o).records, items);
    assert_int_equal(stats_of(o).lost_queue + stats_of(o).lost_destination, 0);
    output_put(o);
    close(fd);
    free_request(&r);
    buf_free(&expected);
    buf_free(&got);
}

static void what_answers_mean(void **state)
{
    static const struct {
        const char *answer;
        unsigned lost;         /* of 10 */
        bool stays;            /* the connection */
        const char *failure;
    } rows[] = {
        {FINE, 0, true, NULL},
        {"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}", 0, true, NULL},
        {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", 0, false, NULL},
        {"HTTP/1.1 100 Continue\r\n\r\n" FINE, 0, true, NULL},
        {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nand something more", 0, false, NULL},
        {"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 11\r\n\r\n\x0a\x09\x08\x04\x12\x05"
         "bad x", 4, true, "the receiver has rejected a part: bad x"},
        {"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ntransfer-encoding: chunked\r\n\r\n4\r\n\x0a\x02\x08"
         "\x7f\r\n0\r\n\r\n", 10, true, "the receiver has rejected a part"}, /* 127 of 10 */
        {"HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-protobuf\r\ncontent-length: 8\r\n\r\n\x08\x03\x12\x04"
         "oops", 10, true, "refused for good: 400 Bad Request: oops"},
        {"HTTP/1.1 401 Unauthorized\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nno token\n", 10, true,
         "refused for good: 401 Unauthorized: no token"},
        {"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>", 10, true,
         "refused for good: 404 Not Found"},
        {"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n", 10, true, "refused for good: 413 Too Large"},
        {"HTTP/1.1 500 \r\ncontent-length: 0\r\n\r\n", 10, true, "refused for good: 500"},
        {"HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 10, true,
         "refused for good: 301 Moved (redirects aren't followed)"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
        struct output *o = get(&cfg);
        struct request r = {0};
        int fd = accept_one();

        put(o, 10, 100, 'a', NULL);
        read_request(fd, &r);
        say(fd, rows[i].answer);
        until_settled(o, 10);
        assert_int_equal(stats_of(o).lost_destination, rows[i].lost);
        assert_int_equal(stats_of(o).records, 10 - rows[i].lost);
        assert_int_equal(output_claim_lost(o), rows[i].lost);
        if (rows[i].failure)
            assert_string_equal(stats_of(o).failure, rows[i].failure);
        else
            assert_null(stats_of(o).failure);
        assert_true(stats_of(o).connected);
        if (!rows[i].stays) {
            until_closed(fd);
            close(fd);
            assert_true(nobody_connects());
        }
        put(o, 1, 100, 'b', NULL);
        if (!rows[i].stays)
            fd = accept_one();
        read_request(fd, &r);
        say(fd, FINE);
        until_settled(o, 11);
        assert_null(stats_of(o).failure);
        output_put(o);
        close(fd);
        free_request(&r);
    }
}

static void what_passes_is_sent_again(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.0 504 Gateway Timeout\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nin the middle",
        "HTTP/1.1 200 OK\r\ncontent-le", "", "nonsense\r\n",
    };

    for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
        struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
        struct output *o = get(&cfg);
        struct request r = {0};
        struct buf expected = BUF_INIT;
        bool paused = strstr(answers[i], "retry-after");
        uint64_t before;
        int fd = accept_one();

        put(o, 10, 100, 'a', &expected);
        read_request(fd, &r);
        before = monotonic_ms();
        say(fd, answers[i]);
        close(fd);
        until_failure(o, "");
        assert_false(stats_of(o).connected);
        put(o, 1, 100, 'b', &expected);
        fd = accept_one();
        assert_true(!paused || monotonic_ms() - before >= 1000);
        assert_non_null(stats_of(o).failure); /* being connected is no success */
        assert_true(stats_of(o).attempts >= 1);
        read_request(fd, &r);
        assert_int_equal(r.body_len, expected.len);
        assert_memory_equal(r.body, expected.p, expected.len);
        say(fd, FINE);
        until_settled(o, 11);
        assert_int_equal(stats_of(o).records, 11);
        assert_int_equal(stats_of(o).lost_destination, 0);
        assert_int_equal(stats_of(o).attempts, 0);
        assert_null(stats_of(o).failure);
        output_put(o);
        close(fd);
        free_request(&r);
        buf_free(&expected);
    }
}

static void backoff_grows_while_requests_fail(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct output *o = get(&cfg);
    uint64_t before = monotonic_ms();
    struct request r = {0};
    int fd;

    put(o, 10, 100, 'a', NULL);
    for (int i = 0; i < 4; i++) {
        fd = accept_one();
        read_request(fd, &r);
        say(fd, "HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n");
        until_closed(fd);
        close(fd);
    }
    fd = accept_one();
    assert_true(monotonic_ms() - before >= (40 + 80 + 160 + 320) * 3 / 4);
    assert_int_equal(stats_of(o).attempts, 4); /* the first one's connection was a success */
    output_put(o);
    close(fd);
    free_request(&r);
}

static void closed_in_the_middle_of_a_body(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct output *o = get(&cfg);
    struct buf expected = BUF_INIT;
    struct linger hard = {.l_onoff = 1};
    struct request r = {0};
    char some[1000];
    int fd = accept_one();
    ssize_t n = -1;

    put(o, 10, 900000, 'a', &expected);
    for (int i = 0; i < PATIENCE && n <= 0; i++) {
        n = read(fd, some, sizeof(some));
        run_ms(5);
    }
    assert_true(n > 0);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    fd = accept_one();
    read_request(fd, &r);
    assert_int_equal(r.body_len, expected.len);
    assert_memory_equal(r.body, expected.p, expected.len);
    say(fd, FINE);
    until_settled(o, 10);
    assert_int_equal(stats_of(o).lost_destination, 0);
    output_put(o);
    close(fd);
    free_request(&r);
    buf_free(&expected);
}

static void refused_before_the_body_was_sent(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    unsigned small = 4096;
    struct request r = {0};
    struct output *o;
    char some[100];
    ssize_t n = -1;
    int fd;

    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    o = get(&cfg);
    fd = accept_one();
    put(o, 10, 12000000, 'a', NULL);
    for (int i = 0; i < PATIENCE && n <= 0; i++) {
        n = read(fd, some, sizeof(some));
        run_ms(5);
    }
    say(fd, "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    until_settled(o, 10);
    assert_int_equal(stats_of(o).lost_destination, 10);
    assert_string_equal(stats_of(o).failure, "refused for good: 401 Unauthorized");
    until_closed(fd); /* where the next request begins can't be told */
    close(fd);
    put(o, 1, 10, 'b', NULL);
    fd = accept_one();
    read_request(fd, &r);
    assert_int_equal(r.body_len, 12);
    output_put(o);
    close(fd);
    free_request(&r);
}

/* A server may close a connection that isn't used. */
static void idle_connection_that_is_closed(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct output *o = get(&cfg);
    struct request r = {0};
    int fd = accept_one();

    put(o, 10, 100, 'a', NULL);
    read_request(fd, &r);
    say(fd, FINE);
    until_settled(o, 10);
    say(fd, "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    shutdown(fd, SHUT_WR);
    until_closed(fd);
    close(fd);
    run_ms(4 * RETRY_MS);
    assert_true(nobody_connects()); /* before it is needed */
    assert_true(stats_of(o).connected);
    assert_null(stats_of(o).failure);
    put(o, 1, 100, 'b', NULL);
    fd = accept_one();
    read_request(fd, &r);
    say(fd, FINE);
    until_settled(o, 11);

    /* Closed just when the next request comes: at once on another one. */
    put(o, 1, 100, 'c', NULL);
    read_request(fd, &r);
    close(fd);
    fd = accept_one();
    assert_null(stats_of(o).failure);
    read_request(fd, &r);
    say(fd, FINE);
    until_settled(o, 12);
    assert_int_equal(stats_of(o).lost_destination, 0);
    output_put(o);
    close(fd);
    free_request(&r);
}

/* Writes the text again and again until the connection is cut; returns the bytes that went. */
static size_t flood(int fd, const char *text, size_t n)
{
    size_t total = 0;

    for (int i = 0; i < PATIENCE && total < 100000000;) {
        ssize_t k = send(fd, text, n, MSG_NOSIGNAL);

        if (k > 0) {
            total += (size_t)k;
            run_ms(1);
        } else if (errno != EAGAIN) {
            return total;
        } else {
            i++;
            run_ms(5);
        }
    }
    return total;
}

static void answer_of_100_mb(void **state)
{
    static const char *const heads[] = {
        "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 503 Later\r\ncontent-length: 104857600\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: ",
    };
    char *text = xmalloc(65536);

    memset(text, 'x', 65536);
    memcpy(text, "fff8\r\n", 6); /* a chunk, should it be one */
    memcpy(text + 65536 - 2, "\r\n", 2);
    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
        struct output *o = get(&cfg);
        struct request r = {0};
        int fd = accept_one();

        put(o, 10, 100, 'a', NULL);
        read_request(fd, &r);
        say(fd, heads[i]);
        assert_true(flood(fd, text, 65536) < 20000000); /* the kernel's buffers */
        close(fd);
        put(o, 1, 10, 'b', NULL);
        fd = accept_one();
        read_request(fd, &r);
        assert_int_equal(r.body_len, i < 3 ? 12 : 102 + 12); /* it was accepted, or comes again */
        say(fd, FINE);
        until_settled(o, 11);
        assert_int_equal(stats_of(o).records, 11);
        output_put(o);
        close(fd);
        free_request(&r);
    }
    free(text);
}

static void grpc_receiver_on_the_http_port(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct output *o = get(&cfg);
    int fd = accept_one();

    assert_int_equal(write(fd, "\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x64", 15), 15); /* SETTINGS */
    until_failure(o, "the receiver speaks HTTP/2 only: is that the grpc port (4317)?");
    assert_false(stats_of(o).connected);
    output_put(o);
    close(fd);
}

static void receiver_that_says_nothing(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct request r = {0};
    struct output *o;
    int fd;

    cfg.timeout_ms = 300;
    o = get(&cfg);
    fd = accept_one();
    put(o, 10, 100, 'a', NULL);
    until_failure(o, "no answer within 300 ms");
    until_closed(fd);
    close(fd);
    fd = accept_one();
    read_request(fd, &r);
    say(fd, FINE);
    output_flush(o);
    for (int i = 0; i < PATIENCE && !stats_of(o).records; i++) { /* it may be late again, where the machine is slow */
        int again = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (again >= 0) {
            close(fd);
            fd = again;
            read_request(fd, &r);
            say(fd, FINE);
        }
        run_ms(5);
    }
    assert_int_equal(stats_of(o).records, 10);
    assert_int_equal(stats_of(o).lost_destination, 0);
    output_put(o);
    close(fd);
    free_request(&r);
}

static void slow_receiver_bounded_queue_exact_count(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    uint64_t taken = 0, refused = 0;
    struct request r = {0};
    struct output *o;
    int fd;

    output_set_limits(1024 * 1024, 0, 0);
    o = get(&cfg);
    fd = accept_one();
    for (uint32_t i = 1; i <= 1000; i++) /* 5 MB; the first request goes while they come */
        *(put(o, i, 5000, 'a', NULL) ? &taken : &refused) += i;
    assert_true(refused > 0);
    assert_int_equal(stats_of(o).lost_queue, refused);
    assert_int_equal(stats_of(o).queued, taken);
    run_ms(300); /* it takes its time */
    while (another(o, fd)) {
        read_request(fd, &r);
        run_ms(20);
        say(fd, FINE);
    }
    assert_int_equal(stats_of(o).records, taken);
    assert_int_equal(stats_of(o).lost_queue, refused);
    assert_int_equal(stats_of(o).lost_destination, 0);

    put(o, 7, 10, 'a', NULL);
    read_request(fd, &r);
    put(o, 8, 10, 'a', NULL);
    assert_int_equal(output_abandon(o), 15); /* also what is under way: nobody says that it has arrived */
    assert_int_equal(stats_of(o).lost_destination, 15);
    assert_int_equal(stats_of(o).queued, 0);
    output_put(o);
    close(fd);
    free_request(&r);
}

static void too_large_requests_become_smaller(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct output *o = get(&cfg);
    struct buf expected = BUF_INIT, got = BUF_INIT;
    int fd = accept_one();
    struct request r = {0};

    for (int i = 0; i < 64; i++)
        put(o, 1, 10000, (char)i, &expected);
    while (another(o, fd)) {
        read_request(fd, &r);
        if (r.body_len > 50000) {
            say(fd, "HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n");
        } else {
            buf_add(&got, r.body, r.body_len);
            say(fd, FINE);
        }
    }
    assert_int_equal(stats_of(o).records, 64);
    assert_int_equal(stats_of(o).lost_destination, 0);
    assert_int_equal(got.len, expected.len);
    assert_memory_equal(got.p, expected.p, got.len);
    output_put(o);
    close(fd);
    free_request(&r);
    buf_free(&expected);
    buf_free(&got);
}

static void outputs_are_shared(void **state)
{
    struct cfg_otlp_to a = plain(CFG_OTLP_HTTP), b = plain(CFG_OTLP_HTTP);
    struct cfg_tag header = {(char *)"k", (char *)"v"};
    struct output *one = get(&a), *two = get(&b), *three;
    struct buf text = BUF_INIT;

    assert_ptr_equal(one, two);
    three = output_get_otlp(base, &a, CFG_OTLP_LOGS);
    assert_ptr_not_equal(one, three);
    output_put(three);
    b.headers = &header;
    b.header_count = 1;
    three = get(&b);
    assert_ptr_not_equal(one, three);
    output_put(three);
    b.header_count = 0;
    b.path = (char *)"/v1/other?token=secret";
    three = get(&b);
    assert_ptr_not_equal(one, three);
    output_describe(three, "otlp", &text);
    assert_non_null(strstr(buf_cstr(&text), "/v1/other\""));
    assert_null(strstr(text.p, "secret"));
    output_put(three);
    output_put(one);
    output_put(two);
    buf_free(&text);
}

/* A receiver in a child that answers every request after some milliseconds, until it is killed. */
static pid_t receiver(unsigned delay_ms)
{
    pid_t pid = fork();

    if (pid)
        return pid;
    alarm(60);
    fcntl(listener, F_SETFL, 0);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        struct request r = {0};

        for (;;) {
            ssize_t n = read(fd, buf_room(&r.bytes, 65536), 65536);

            if (n <= 0)
                break;
            r.bytes.len += (size_t)n;
            if (!complete(&r))
                continue;
            usleep(delay_ms * 1000);
            say(fd, FINE);
            buf_reset(&r.bytes);
        }
        close(fd);
        free_request(&r);
    }
}

static void output_wait_sends_several_requests(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    pid_t pid = receiver(5);
    struct output *o = get(&cfg); /* the event loop doesn't run */

    for (int i = 0; i < 100; i++)
        put(o, 3, 60000, 'a', NULL);
    assert_true(output_wait(o, 30000));
    assert_int_equal(stats_of(o).records, 300);
    assert_true(output_wait(o, 1000));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    put(o, 3, 10, 'a', NULL);
    assert_false(output_wait(o, 50));
    assert_int_equal(output_abandon(o), 3);
    output_put(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_pieces_of_any_size),
        cmocka_unit_test(answers_are_bounded),
        cmocka_unit_test(retry_after_in_seconds_and_as_a_date),
        cmocka_unit_test(answers_in_protobuf),
        cmocka_unit_test(retry_info_is_found),
        cmocka_unit_test_setup_teardown(requests_are_what_otlp_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bodies_are_compressed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_have_a_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_answers_mean, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_passes_is_sent_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(backoff_grows_while_requests_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closed_in_the_middle_of_a_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_before_the_body_was_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(idle_connection_that_is_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answer_of_100_mb, set_up, tear_down),
        cmocka_unit_test_setup_teardown(grpc_receiver_on_the_http_port, set_up, tear_down),
        cmocka_unit_test_setup_teardown(receiver_that_says_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slow_receiver_bounded_queue_exact_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_large_requests_become_smaller, set_up, tear_down),
        cmocka_unit_test_setup_teardown(outputs_are_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(output_wait_sends_several_requests, set_up, tear_down),
    };

    log_setup(stderr, LOGL_NONE, "test_otlp_output");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
