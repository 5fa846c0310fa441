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
#include <sys/ioctl.h>
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
        assert_true(!paused || monotonic_ms() - before >= 950); /* the loop's clock is coarse */
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
    assert_true(monotonic_ms() - before >= 400); /* 40, 80, 160, 320, each a quarter less at most */
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

/* 48 MiB wait for a receiver that stands still: that is 100,000 spans. All arrive, and their memory is given back. */
static void backlog_of_a_receiver_that_stands_still(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct request r = {0};
    struct output *o;
    uint64_t got = 0;
    int fd;

    output_set_limits(OUTPUT_OWN, 0, 0);
    o = get(&cfg);
    fd = accept_one();
    for (int i = 0; i < 1024; i++)
        assert_true(put(o, 100, 48 * 1024, 'a', NULL));
    assert_int_equal(stats_of(o).queued, 102400);
    while (another(o, fd)) {
        read_request(fd, &r);
        got += r.body_len;
        say(fd, FINE);
    }
    assert_int_equal(stats_of(o).records, 102400);
    assert_int_equal(stats_of(o).lost_queue + stats_of(o).lost_destination, 0);
    assert_int_equal(got, 1024 * (4 + 48 * 1024));
    assert_true(o->queue.cap <= 16 * 1024 * 1024);
    put(o, 1, 10, 'a', NULL);
    read_request(fd, &r);
    say(fd, FINE);
    until_settled(o, 102401);
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
    assert_non_null(strstr(buf_cstr(&text), "/v1/other"));
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
    struct output *o; /* the event loop doesn't run */

    cfg.timeout_ms = 2000;
    o = get(&cfg);
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

/* --- gRPC --- */

/* A receiver in this process, over libnghttp2's server session. */
struct server {
    int fd;
    nghttp2_session *session;
    int32_t stream;          /* of the call that is complete, 0: none yet */
    int calls;
    struct buf headers;      /* "name: value\n" */
    struct buf body;         /* with its prefix */
    const char *answer;      /* what is left to be sent */
    size_t answer_len;
    const char *const *trailers; /* "name", "value", ..., NULL */
    bool stalled;            /* reads nothing */
};

static int on_request_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                             const uint8_t *value, size_t len, uint8_t flags, void *ctx)
{
    struct server *s = ctx;

    buf_printf(&s->headers, "%.*s: %.*s\n", (int)name_len, name, (int)len, value);
    return 0;
}

static int on_request_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *p, size_t n, void *ctx)
{
    buf_add(&((struct server *)ctx)->body, p, n);
    return 0;
}

static int on_request_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct server *s = ctx;

    if (frame->hd.type == NGHTTP2_HEADERS)
        s->calls++;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM && frame->hd.stream_id)
        s->stream = frame->hd.stream_id;
    return 0;
}

static struct server *serve(int fd)
{
    struct server *s = xcalloc(1, sizeof(*s));
    nghttp2_session_callbacks *c;

    s->fd = fd;
    nghttp2_session_callbacks_new(&c);
    nghttp2_session_callbacks_set_on_header_callback(c, on_request_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_request_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_request_frame);
    assert_int_equal(nghttp2_session_server_new(&s->session, c, s), 0);
    nghttp2_session_callbacks_del(c);
    nghttp2_submit_settings(s->session, 0, NULL, 0);
    return s;
}

static void hang_up(struct server *s)
{
    close(s->fd);
    nghttp2_session_del(s->session);
    buf_free(&s->headers);
    buf_free(&s->body);
    free(s);
}

/* What is to be read and written; then the loop runs for a moment. */
static void serve_some(struct server *s)
{
    uint8_t bytes[65536];
    const uint8_t *p;
    ssize_t n;

    if (!s->stalled && (n = read(s->fd, bytes, sizeof(bytes))) > 0)
        assert_int_equal(nghttp2_session_mem_recv(s->session, bytes, (size_t)n), n);
    while ((n = nghttp2_session_mem_send(s->session, &p)) > 0)
        while (n > 0) {
            ssize_t k = send(s->fd, p, (size_t)n, MSG_NOSIGNAL);

            if (k < 0 && errno != EAGAIN)
                return;
            p += k > 0 ? k : 0;
            n -= k > 0 ? k : 0;
            if (n)
                run_ms(1);
        }
    run_ms(2);
}

/* Until a call has come completely. */
static void take_call(struct server *s)
{
    s->stream = 0;
    buf_reset(&s->headers);
    buf_reset(&s->body);
    for (int i = 0; i < PATIENCE && !s->stream; i++)
        serve_some(s);
    assert_int_not_equal(s->stream, 0);
    buf_cstr(&s->headers);
}

static void serve_until_settled(struct server *s, struct output *o, uint64_t items)
{
    for (int i = 0; i < PATIENCE; i++) {
        if (stats_of(o).records + stats_of(o).lost_destination >= items)
            return;
        serve_some(s);
    }
    fail_msg("%s", stats_of(o).failure);
}

static size_t to_nv(const char *const *pairs, nghttp2_nv *nv)
{
    size_t n = 0;

    for (; pairs[2 * n]; n++)
        nv[n] = (nghttp2_nv){.name = (uint8_t *)pairs[2 * n], .namelen = strlen(pairs[2 * n]),
                             .value = (uint8_t *)pairs[2 * n + 1], .valuelen = strlen(pairs[2 * n + 1])};
    return n;
}

static ssize_t read_answer(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room, uint32_t *flags,
                           nghttp2_data_source *source, void *ctx)
{
    struct server *s = ctx;
    size_t n = s->answer_len < room ? s->answer_len : room;
    nghttp2_nv nv[8];

    memcpy(to, s->answer, n);
    s->answer += n;
    s->answer_len -= n;
    if (!s->answer_len) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_submit_trailer(session, stream, nv, to_nv(s->trailers, nv));
        }
    }
    return (ssize_t)n;
}

/* Answers the call; without a body the headers end it. */
static void reply(struct server *s, const char *const *headers, const char *body, size_t len, const char *const *trailers)
{
    nghttp2_data_provider data = {.read_callback = read_answer};
    nghttp2_nv nv[8];

    s->answer = body;
    s->answer_len = len;
    s->trailers = trailers;
    assert_int_equal(nghttp2_submit_response(s->session, s->stream, nv, to_nv(headers, nv), body ? &data : NULL), 0);
}

static const char *const grpc_headers[] = {":status", "200", "content-type", "application/grpc", NULL};
static const char *const fine_trailers[] = {"grpc-status", "0", "grpc-message", "", NULL};

static void reply_fine(struct server *s)
{
    reply(s, grpc_headers, "\0\0\0\0\0", 5, fine_trailers);
}

static void calls_are_what_grpc_says(void **state)
{
    struct cfg_tag headers[] = {{(char *)"X-Tenant", (char *)"a"}, {(char *)"grpc-timeout", (char *)"1S"}};

    for (int gzip = 0; gzip < 2; gzip++) {
        struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
        struct buf expected = BUF_INIT, got = BUF_INIT;
        struct server *s;
        struct output *o;

        cfg.headers = headers;
        cfg.header_count = 2;
        cfg.gzip = gzip;
        o = output_get_otlp(base, &cfg, gzip ? CFG_OTLP_LOGS : CFG_OTLP_TRACES);
        s = serve(accept_one());
        for (uint64_t i = 1; i <= 3; i++) { /* over one connection, also what is larger than windows are */
            put(o, 7, 200000 * (size_t)i, 'a', &expected);
            output_flush(o);
            take_call(s);
            if (i == 1) {
                assert_non_null(strstr(s->headers.p, gzip ? ":path: /opentelemetry.proto.collector.logs.v1.LogsService/Export\n"
                                                  : ":path: /opentelemetry.proto.collector.trace.v1.TraceService/Export\n"));
                assert_memory_equal(s->headers.p, ":method: POST\n:scheme: http\n", 28);
                assert_non_null(strstr(s->headers.p, ":authority: 127.0.0.1:"));
                assert_non_null(strstr(s->headers.p, "\nte: trailers\n"));
                assert_non_null(strstr(s->headers.p, "\ncontent-type: application/grpc\n"));
                assert_non_null(strstr(s->headers.p, "\ngrpc-timeout: 30000m\n"));
                assert_non_null(strstr(s->headers.p, "OTel-OTLP-Exporter-C/"));
                assert_non_null(strstr(s->headers.p, "\nx-tenant: a\n"));
                assert_int_equal(strstr(s->headers.p, "\ngrpc-encoding: gzip\n") != NULL, gzip);
            }
            assert_true(s->body.len > 5);
            assert_int_equal(s->body.p[0], gzip);
            assert_int_equal((unsigned char)s->body.p[2] << 16 | (unsigned char)s->body.p[3] << 8 |
                             (unsigned char)s->body.p[4], s->body.len - 5);
            if (gzip)
                unzip(s->body.p + 5, s->body.len - 5, &got);
            else
                buf_add(&got, s->body.p + 5, s->body.len - 5);
            reply_fine(s);
            serve_until_settled(s, o, 7 * i);
        }
        assert_int_equal(s->calls, 3);
        assert_int_equal(got.len, expected.len);
        assert_memory_equal(got.p, expected.p, got.len);
        assert_int_equal(stats_of(o).records, 21);
        assert_null(stats_of(o).failure);
        assert_non_null(strstr(output_url(o), gzip ? " (logs)" : " (traces)"));
        output_put(o);
        hang_up(s);
        buf_free(&got);
        buf_free(&expected);
    }
}

#define LOST  true
#define AGAIN false

static void what_statuses_mean(void **state)
{
    static const struct {
        const char *http, *type, *grpc, *message;
        bool details;        /* a RetryInfo of 300 ms */
        bool lost;           /* else it is sent again */
        const char *failure;
    } rows[] = {
        {"200", "application/grpc", "1", NULL, false, AGAIN, "CANCELLED"},
        {"200", "application/grpc", "2", "what%3F %", false, LOST, "refused for good: UNKNOWN: what? %"},
        {"200", "application/grpc", "3", "", false, LOST, "refused for good: INVALID_ARGUMENT"},
        {"200", "application/grpc", "4", NULL, false, AGAIN, "DEADLINE_EXCEEDED"},
        {"200", "application/grpc+proto", "5", NULL, false, LOST, "refused for good: NOT_FOUND"},
        {"200", "application/grpc", "8", "quota", false, LOST, "refused for good: RESOURCE_EXHAUSTED: quota"},
        {"200", "application/grpc", "8", "quota", true, AGAIN, "RESOURCE_EXHAUSTED: quota"},
        {"200", "application/grpc", "10", NULL, false, AGAIN, "ABORTED"},
        {"200", "application/grpc", "11", NULL, false, AGAIN, "OUT_OF_RANGE"},
        {"200", "application/grpc", "12", NULL, false, LOST, "refused for good: UNIMPLEMENTED"},
        {"200", "application/grpc", "13", NULL, false, LOST, "refused for good: INTERNAL"},
        {"200", "application/grpc", "14", NULL, true, AGAIN, "UNAVAILABLE"},
        {"200", "application/grpc", "15", NULL, false, AGAIN, "DATA_LOSS"},
        {"200", "application/grpc", "16", NULL, false, LOST, "refused for good: UNAUTHENTICATED"},
        {"200", "application/grpc", "17", NULL, false, LOST, "refused for good: UNKNOWN"},
        {"200", "application/grpc", "x", NULL, false, LOST, "refused for good: UNKNOWN"},
        {"503", "text/html", NULL, NULL, false, AGAIN, "the receiver answers with 503 and no grpc-status (UNAVAILABLE)"},
        {"429", "text/html", NULL, NULL, false, AGAIN, "the receiver answers with 429 and no grpc-status (UNAVAILABLE)"},
        {"404", "text/html", NULL, NULL, false, LOST,
         "refused for good: the receiver answers with 404 and no grpc-status (UNIMPLEMENTED)"},
        {"200", "text/html", NULL, NULL, false, LOST,
         "refused for good: the receiver answers with 200 and no grpc-status (UNKNOWN)"},
        {"200", "text/html", "0", NULL, false, LOST, "refused for good: the answer isn't gRPC"},
    };
    char details[200];
    struct buf status = BUF_INIT;

    make_status(&status, "quota", 0, 300);
    EVP_EncodeBlock((unsigned char *)details, (unsigned char *)status.p, (int)status.len);
    buf_free(&status);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        for (int trailers_only = 0; trailers_only < (rows[i].grpc ? 2 : 1); trailers_only++) {
            struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
            const char *headers[12] = {":status", rows[i].http, "content-type", rows[i].type}, *trailers[8] = {NULL};
            const char **to = trailers_only ? headers + 4 : trailers;
            struct output *o = get(&cfg);
            struct server *s = serve(accept_one());
            uint64_t before;

            if (rows[i].grpc) {
                *to++ = "grpc-status";
                *to++ = rows[i].grpc;
            }
            if (rows[i].message) {
                *to++ = "grpc-message";
                *to++ = rows[i].message;
            }
            if (rows[i].details) {
                *to++ = "grpc-status-details-bin";
                *to++ = details;
            }
            put(o, 10, 100, 'a', NULL);
            output_flush(o);
            take_call(s);
            before = monotonic_ms();
            reply(s, headers, rows[i].grpc && !trailers_only ? "" : NULL, 0, trailers[0] ? trailers : NULL);
            for (int k = 0; k < PATIENCE && !stats_of(o).failure; k++)
                serve_some(s);
            assert_non_null(stats_of(o).failure);
            if (strncmp(stats_of(o).failure, rows[i].failure, strlen(rows[i].failure)) != 0)
                fail_msg("row %zu: %s", i, stats_of(o).failure);
            assert_int_equal(stats_of(o).lost_destination, rows[i].lost ? 10 : 0);
            assert_int_equal(stats_of(o).connected, rows[i].lost);
            if (!rows[i].lost) {
                hang_up(s);
                s = serve(accept_one());
                assert_true(!rows[i].details || monotonic_ms() - before >= 250);
            } else {
                put(o, 10, 100, 'b', NULL);
                output_flush(o);
            }
            take_call(s);
            assert_int_equal(s->body.len, 5 + 102);
            reply_fine(s);
            serve_until_settled(s, o, rows[i].lost ? 20 : 10);
            assert_int_equal(stats_of(o).records, 10);
            assert_null(stats_of(o).failure);
            output_put(o);
            hang_up(s);
        }
}

static void partial_success_over_grpc(void **state)
{
    static const char compressed[] = "\1\0\0\0\5\x0a\3\x08\4\x12";
    struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
    struct output *o = get(&cfg);
    struct server *s = serve(accept_one());

    put(o, 10, 100, 'a', NULL);
    output_flush(o);
    take_call(s);
    reply(s, grpc_headers, "\0\0\0\0\7\x0a\5\x08\4\x12\1x", 12, fine_trailers);
    serve_until_settled(s, o, 10);
    assert_int_equal(stats_of(o).lost_destination, 4);
    assert_string_equal(stats_of(o).failure, "the receiver has rejected a part: x");
    put(o, 10, 100, 'a', NULL);
    output_flush(o);
    take_call(s);
    reply(s, grpc_headers, compressed, 10, fine_trailers); /* was not asked for */
    serve_until_settled(s, o, 20);
    put(o, 10, 100, 'a', NULL);
    output_flush(o);
    take_call(s);
    reply(s, grpc_headers, "\0\0\0\1\0x", 6, fine_trailers); /* its length is wrong */
    serve_until_settled(s, o, 30);
    assert_int_equal(stats_of(o).lost_destination, 4);
    assert_int_equal(stats_of(o).records, 26);
    output_put(o);
    hang_up(s);
}

/* GOAWAY: what it says was not processed is sent again, what was gets its answer; idle, it is no failure. */
static void goaway(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
    struct output *o = get(&cfg);
    struct server *s = serve(accept_one());

    put(o, 10, 100, 'a', NULL);
    output_flush(o);
    take_call(s);
    reply_fine(s);
    serve_until_settled(s, o, 10);

    put(o, 10, 100000, 'b', NULL); /* processed to its end */
    output_flush(o);
    for (int i = 0; i < PATIENCE && s->calls < 2; i++)
        serve_some(s);
    nghttp2_submit_goaway(s->session, 0, 3, NGHTTP2_NO_ERROR, NULL, 0);
    take_call(s);
    reply_fine(s);
    serve_until_settled(s, o, 20);
    until_closed(s->fd);
    hang_up(s);
    assert_true(nobody_connects());

    put(o, 10, 100, 'c', NULL);
    s = serve(accept_one());
    take_call(s);
    reply_fine(s);
    serve_until_settled(s, o, 30);

    put(o, 10, 100000, 'd', NULL); /* not processed */
    output_flush(o);
    for (int i = 0; i < PATIENCE && s->calls < 2; i++)
        serve_some(s);
    nghttp2_submit_goaway(s->session, 0, 1, NGHTTP2_NO_ERROR, NULL, 0);
    for (int i = 0; i < 10; i++)
        serve_some(s);
    hang_up(s);
    s = serve(accept_one());
    assert_null(stats_of(o).failure); /* at once */
    take_call(s);
    assert_int_equal(s->body.len, 5 + 100004);
    reply_fine(s);
    serve_until_settled(s, o, 40);

    nghttp2_submit_goaway(s->session, 0, 1, NGHTTP2_NO_ERROR, NULL, 0); /* idle */
    serve_some(s);
    until_closed(s->fd);
    hang_up(s);
    assert_true(nobody_connects());
    assert_true(stats_of(o).connected);
    assert_null(stats_of(o).failure);
    assert_int_equal(stats_of(o).records, 40);
    assert_int_equal(stats_of(o).lost_destination, 0);
    output_put(o);
}

static void resets(void **state)
{
    static const struct {
        uint32_t error;
        bool lost;
        const char *failure;
    } rows[] = {
        {NGHTTP2_REFUSED_STREAM, AGAIN, "the receiver resets the call (REFUSED_STREAM)"},
        {NGHTTP2_ENHANCE_YOUR_CALM, AGAIN, "the receiver resets the call (ENHANCE_YOUR_CALM)"},
        {NGHTTP2_CANCEL, AGAIN, "the receiver resets the call (CANCEL)"},
        {NGHTTP2_INTERNAL_ERROR, LOST, "refused for good: the receiver resets the call (INTERNAL_ERROR)"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
        struct output *o = get(&cfg);
        struct server *s = serve(accept_one());

        put(o, 10, 100, 'a', NULL);
        output_flush(o);
        take_call(s);
        nghttp2_submit_rst_stream(s->session, 0, s->stream, rows[i].error);
        for (int k = 0; k < PATIENCE && !stats_of(o).failure; k++)
            serve_some(s);
        assert_string_equal(stats_of(o).failure, rows[i].failure);
        assert_int_equal(stats_of(o).lost_destination, rows[i].lost ? 10 : 0);
        if (!rows[i].lost) {
            hang_up(s);
            s = serve(accept_one());
            take_call(s);
            reply_fine(s);
            serve_until_settled(s, o, 10);
            assert_int_equal(stats_of(o).records, 10);
        }
        output_put(o);
        hang_up(s);
    }
}

/* It may answer without having read all of the message. */
static void answered_before_the_message_was_sent(void **state)
{
    static const char *const denied[] = {":status", "200", "content-type", "application/grpc", "grpc-status", "7", NULL};
    struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
    struct output *o = get(&cfg);
    struct server *s = serve(accept_one());

    nghttp2_session_set_local_window_size(s->session, 0, 1, 65535);
    put(o, 10, 900000, 'a', NULL);
    output_flush(o);
    for (int i = 0; i < PATIENCE && !s->calls; i++)
        serve_some(s);
    s->stream = 1;
    reply(s, denied, NULL, 0, NULL);
    serve_until_settled(s, o, 10);
    assert_string_equal(stats_of(o).failure, "refused for good: PERMISSION_DENIED");
    put(o, 1, 10, 'b', NULL);
    output_flush(o);
    for (int i = 0; i < PATIENCE && s->stream != 3; i++)
        serve_some(s);
    reply_fine(s);
    serve_until_settled(s, o, 11);
    assert_int_equal(stats_of(o).records, 1);
    assert_int_equal(stats_of(o).lost_destination, 10);
    output_put(o);
    hang_up(s);
}

static void answer_of_100_mb_over_grpc(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
    struct output *o = get(&cfg);
    struct server *s = serve(accept_one());
    char *text = xcalloc(1, 100000000);

    put(o, 10, 100, 'a', NULL);
    output_flush(o);
    take_call(s);
    reply(s, grpc_headers, text, 100000000, fine_trailers);
    serve_until_settled(s, o, 10);
    assert_string_equal(stats_of(o).failure, "refused for good: the answer is longer than 64 KiB");
    assert_int_equal(stats_of(o).lost_destination, 10);
    until_closed(s->fd);
    hang_up(s);
    put(o, 1, 100, 'a', NULL);
    s = serve(accept_one());
    take_call(s);
    reply_fine(s);
    serve_until_settled(s, o, 11);
    assert_int_equal(stats_of(o).records, 1);
    output_put(o);
    hang_up(s);
    free(text);
}

static void http1_receiver_on_the_grpc_port(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "<!DOCTYPE HTML PUBLIC>\n<html>",
    };

    for (size_t i = 0; i < 2; i++) {
        struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
        struct output *o = get(&cfg);
        int fd = accept_one();

        put(o, 10, 100, 'a', NULL);
        output_flush(o);
        say(fd, answers[i]);
        until_failure(o, "the receiver doesn't speak HTTP/2: is that the http/protobuf port (4318)?");
        assert_false(stats_of(o).connected);
        assert_int_equal(stats_of(o).queued, 10);
        close(fd);
        fd = accept_one(); /* it may be another one one day */
        output_abandon(o);
        output_put(o);
        close(fd);
    }
}

static unsigned free_port(void)
{
    unsigned n;

    close(listen_anywhere(&n));
    return n;
}

/* Who sets the endpoint of one signal easily forgets its path. */
static void path_that_a_receiver_does_not_know(void **state)
{
    static const struct {
        const char *path, *failure;
    } rows[] = {
        {"/", "refused for good: 404 Not Found (the usual path for traces is /v1/traces)"},
        {"/otlp/v1/traces", "refused for good: 404 Not Found"},
    };

    for (size_t i = 0; i < 2; i++) {
        struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
        struct request r = {0};
        struct output *o;
        int fd;

        cfg.path = (char *)rows[i].path;
        o = get(&cfg);
        fd = accept_one();
        put(o, 10, 100, 'a', NULL);
        output_flush(o);
        read_request(fd, &r);
        say(fd, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        until_settled(o, 10);
        assert_int_equal(stats_of(o).lost_destination, 10);
        assert_string_equal(stats_of(o).failure, rows[i].failure);
        output_put(o);
        close(fd);
        free_request(&r);
    }
}

/* As servers that want TLS do with what is none. */
static void receivers_that_close_at_once(void **state)
{
    static const char *const hints[] = {
        [CFG_OTLP_HTTP] = "the receiver closed the connection without an answer: does it want TLS (https://)?",
        [CFG_OTLP_GRPC] = "before it said anything: is that a grpc port (4317)? Does it want TLS (grpcs://)?",
    };

    for (int protocol = CFG_OTLP_HTTP; protocol <= CFG_OTLP_GRPC; protocol++) {
        struct cfg_otlp_to cfg = plain((enum cfg_otlp_protocol)protocol);
        struct output *o = get(&cfg);
        char junk[4096];
        int fd = accept_one();

        put(o, 10, 100, 'a', NULL);
        output_flush(o);
        while (read(fd, junk, sizeof(junk)) < 0) /* else it is reset */
            run_ms(5);
        shutdown(fd, SHUT_WR);
        until_failure(o, hints[protocol]);
        close(fd);
        output_abandon(o);
        output_put(o);
    }
}

/* What is wrong with a receiver is told for the first of its signals, and for the next one when that has gone. */
static void what_signals_have_in_common_is_told_once(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    struct output *o, *other;
    char *text = NULL, own[16];
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    snprintf(own, sizeof(own), "%u", free_port());
    cfg.transport.port = own;
    log_setup(f, LOGL_WARNING, "test");
    o = get(&cfg);
    other = output_get_otlp(base, &cfg, CFG_OTLP_LOGS);
    put(o, 1, 10, 'a', NULL);
    put(other, 1, 10, 'a', NULL);
    for (int i = 0; i < PATIENCE && (stats_of(o).attempts < 3 || stats_of(other).attempts < 3); i++)
        run_ms(5);
    fflush(f);
    assert_non_null(strstr(text, "Connection refused"));
    assert_null(strstr(strstr(text, "Connection refused") + 1, "Connection refused"));
    output_abandon(o);
    output_put(o); /* nobody has told it of the other one now */
    for (int i = 0; i < PATIENCE && !strstr(strstr(text, "Connection refused") + 1, "Connection refused"); i++) {
        run_ms(5);
        fflush(f);
    }
    assert_non_null(strstr(strstr(text, "Connection refused") + 1, "Connection refused"));
    output_abandon(other);
    output_put(other);
    log_setup(stderr, LOGL_NONE, "test_otlp_output");
    fclose(f);
    free(text);
}

/* Frames that nobody should send. */
static void hostile_frames(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } rows[] = {
        {"\0\0\0\4\0\0\0\0\0" "\0\0\1\0\0\0\0\0\7x", 19},                           /* DATA of a stream that isn't */
        {"\0\0\0\4\0\0\0\0\0" "\xff\xff\xff\0\0\0\0\0\1", 18},                      /* a frame of 16 MiB */
        {"\0\0\0\4\0\0\0\0\0" "\0\0\4\1\4\0\0\0\1\xff\xff\xff\xff", 22},            /* broken HPACK */
        {"\0\0\6\4\0\0\0\0\0\0\4\xff\xff\xff\xff", 15},                             /* a window that is too large */
        {"\0\0\0\4\0\0\0\0\0" "\0\0\4\5\4\0\0\0\1\0\0\0\1", 22},                    /* PUSH_PROMISE of a call */
        {"\0\0\0\4\0\0\0\0\0" "\0\0\4\x08\0\0\0\0\0\0\0\0\0", 22},                  /* WINDOW_UPDATE by nothing */
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
        struct output *o = get(&cfg);
        int fd = accept_one();
        struct server *s;

        put(o, 10, 100, 'a', NULL);
        output_flush(o);
        assert_int_equal(write(fd, rows[i].bytes, rows[i].n), rows[i].n);
        until_failure(o, "");
        assert_non_null(strstr(stats_of(o).failure, "_ERROR"));
        assert_int_equal(stats_of(o).lost_destination, 0);
        close(fd);
        s = serve(accept_one());
        take_call(s);
        reply_fine(s);
        serve_until_settled(s, o, 10);
        assert_int_equal(stats_of(o).records, 10);
        output_put(o);
        hang_up(s);
    }
}

/* Frames that may always come and mean nothing: while an answer is awaited, and when none is. */
static void frames_without_end(void **state)
{
    enum { FRAME = 16384 };
    char *frame = xcalloc(1, 9 + FRAME);

    frame[1] = FRAME >> 8;
    frame[3] = (char)0xfa; /* a type that nobody knows (RFC 9113, 4.1) */
    for (int answered = 0; answered < 2; answered++) {
        struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
        struct output *o = get(&cfg);
        struct server *s = serve(accept_one());
        ssize_t n = 0, sent = 0;

        put(o, 10, 100, 'a', NULL);
        output_flush(o);
        take_call(s);
        if (answered) {
            reply_fine(s);
            serve_until_settled(s, o, 10);
        }
        for (int i = 0; i < PATIENCE && (n >= 0 || errno == EAGAIN); i++) {
            n = send(s->fd, frame + sent % (9 + FRAME), (size_t)(9 + FRAME - sent % (9 + FRAME)), MSG_NOSIGNAL);
            sent += n > 0 ? n : 0;
            run_ms(1);
        }
        assert_true(n < 0 && errno != EAGAIN);
        if (!answered)
            until_failure(o, "the receiver sends much that nobody has asked for");
        assert_int_equal(stats_of(o).records, answered ? 10 : 0);
        assert_int_equal(stats_of(o).lost_destination, 0);
        hang_up(s);
        put(o, 1, 100, 'a', NULL);
        s = serve(accept_one());
        take_call(s);
        reply_fine(s);
        serve_until_settled(s, o, 11);
        output_put(o);
        hang_up(s);
    }
    free(frame);
}

/* --- TLS, and servers that others wrote --- */

static EVP_PKEY *make_key(const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    char *path = xasprintf("%s/%s.key", dir, name);
    FILE *f = fopen(path, "w");

    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    free(path);
    return key;
}

/* Writes NAME.key and a certificate that it signs itself, NAME.pem. */
static void make_identity(const char *name, const char *alt_name)
{
    EVP_PKEY *key = make_key(name);
    X509 *x = X509_new();
    X509_NAME *subject = X509_get_subject_name(x);
    X509_EXTENSION *alt = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alt_name);
    char *path = xasprintf("%s/%s.pem", dir, name);
    FILE *f = fopen(path, "w");

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, subject);
    X509_add_ext(x, alt, -1);
    X509_EXTENSION_free(alt);
    X509_sign(x, key, EVP_sha256());
    PEM_write_X509(f, x);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
    free(path);
}

struct program {
    pid_t pid;
    int out;         /* its stdout and stderr */
    struct buf said;
};

/* Starts a program in the directory of the test. */
static struct program start(const char *const *argv)
{
    struct program p = {0};
    int fd[2];

    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    p.pid = fork();
    if (p.pid == 0) {
        if (chdir(dir) < 0)
            _exit(126);
        dup2(fd[1], 1);
        dup2(fd[1], 2);
        alarm(300); /* whatever becomes of the test */
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(fd[1]);
    p.out = fd[0];
    fcntl(p.out, F_SETFL, O_NONBLOCK);
    return p;
}

/* Runs the loop until the program has said this; returns what follows. */
static const char *until_said(struct program *p, const char *text)
{
    const char *at;

    for (int i = 0; i < PATIENCE; i++) {
        ssize_t n = read(p->out, buf_room(&p->said, 4096), 4096);

        if (n > 0)
            p->said.len += (size_t)n;
        at = strstr(buf_cstr(&p->said), text);
        if (at && strchr(at, '\n'))
            return at + strlen(text);
        assert_int_not_equal(n, 0);
        run_ms(5);
    }
    fail_msg("it says: %s", p->said.p);
    return NULL;
}

static void stop(struct program *p)
{
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
    close(p->out);
    buf_free(&p->said);
}

/* Says the protocol, the client's name and the length of each request. */
static const char node_server[] =
    "const fs = require('fs'), ask = process.argv[2] === 'ask';\n"
    "const o = {key: fs.readFileSync('server.key'), cert: fs.readFileSync('server.pem'),\n"
    "           ca: fs.readFileSync('client.pem'), requestCert: ask, rejectUnauthorized: ask};\n"
    "const peer = s => (s.getPeerCertificate().subject || {}).CN;\n"
    "const h2 = process.argv[1] === 'h2';\n"
    "const server = h2 ? require('http2').createSecureServer(o) : require('https').createServer(o, (q, r) => {\n"
    "    let n = 0;\n"
    "    q.on('data', d => n += d.length);\n"
    "    q.on('end', () => {\n"
    "        console.log('took', q.socket.alpnProtocol, peer(q.socket), q.url, n);\n"
    "        r.end();\n"
    "    });\n"
    "});\n"
    "if (h2) server.on('stream', (s, h) => {\n"
    "    let n = 0;\n"
    "    s.on('data', d => n += d.length);\n"
    "    s.on('end', () => {\n"
    "        console.log('took', s.session.socket.alpnProtocol, peer(s.session.socket), h[':path'], n);\n"
    "        s.respond({':status': 200, 'content-type': 'application/grpc'}, {waitForTrailers: true});\n"
    "        s.on('wantTrailers', () => s.sendTrailers({'grpc-status': '0'}));\n"
    "        s.end(Buffer.alloc(5));\n"
    "    });\n"
    "});\n"
    "server.on('tlsClientError', () => 0);\n"
    "server.listen(0, '127.0.0.1', () => console.log('port', server.address().port, ''));\n";

/* A handshake has a time in which it must be done, however often something comes. */
static void handshake_in_drops(void **state)
{
    static const char hello[] = {0x16, 3, 3, 0x40, 0, 2}; /* of a record of 16 KiB: it is never complete */
    struct cfg_otlp_to cfg = plain(CFG_OTLP_GRPC);
    struct output *o;
    uint64_t until;
    int fd;

    cfg.transport.tls = (struct cfg_tls){.enable = true};
    o = get(&cfg);
    fd = accept_one();
    for (int i = 0; i < PATIENCE && o->state != OUTPUT_HANDSHAKE; i++)
        run_ms(5);
    assert_int_equal(o->state, OUTPUT_HANDSHAKE);
    until = o->timer_at;
    assert_int_not_equal(until, 0);
    for (size_t i = 0; i < sizeof(hello); i++) {
        int waiting = 1;

        assert_int_equal(write(fd, hello + i, 1), 1);
        run_ms(5);
        for (int k = 0; k < PATIENCE && waiting; k++) {
            run_ms(5);
            assert_int_equal(ioctl(o->fd, FIONREAD, &waiting), 0);
        }
        assert_int_equal(waiting, 0);
    }
    assert_int_equal(o->state, OUTPUT_HANDSHAKE);
    assert_int_equal(o->timer_at, until);
    output_put(o);
    close(fd);
}

static void tls_with_identities(void **state)
{
    static const struct {
        enum cfg_otlp_protocol protocol;
        bool asks;               /* for a certificate of the client */
        const char *ca, *cert, *key, *failure;
    } rows[] = {
        {CFG_OTLP_HTTP, true, "server.pem", "client.pem", "client.key", NULL},
        {CFG_OTLP_GRPC, true, "server.pem", "client.pem", "client.key", NULL},
        {CFG_OTLP_GRPC, false, "server.pem", NULL, NULL, NULL},
        {CFG_OTLP_HTTP, false, "client.pem", NULL, NULL,
         "TLS: server validation failed: self-signed certificate; tls.cacertpath names the file of those to trust"},
        {CFG_OTLP_GRPC, false, "client.pem", NULL, NULL,
         "TLS: server validation failed: self-signed certificate; tls.cacertpath names the file of those to trust"},
        {CFG_OTLP_HTTP, true, "server.pem", NULL, NULL, "certificate required"},
        {CFG_OTLP_GRPC, true, "server.pem", NULL, NULL, "certificate required"},
        {CFG_OTLP_HTTP, true, "server.pem", "server.pem", "server.key", /* not one that it knows */
         "the receiver closed the connection without an answer"},
        {CFG_OTLP_HTTP, true, "server.pem", "missing.pem", "client.key",
         "TLS: can't load the client certificate from missing.pem (tls.certpath): "},
        {CFG_OTLP_HTTP, true, "server.pem", "client.pem", "missing.key",
         "TLS: can't load the client key from missing.key (tls.keypath): "},
        {CFG_OTLP_HTTP, true, "server.pem", "client.pem", "client.pem",
         "TLS: can't load the client key from client.pem (tls.keypath): "},
        {CFG_OTLP_HTTP, true, "server.pem", "client.pem", "server.key",
         "TLS: can't load the client key from server.key (tls.keypath): key values mismatch"},
        {CFG_OTLP_HTTP, true, "server.pem", NULL, "client.key",
         "TLS: client.key (tls.keypath) is of no use without a client certificate (tls.certpath)"},
        {CFG_OTLP_HTTP, false, "missing.pem", NULL, NULL, "TLS: can't load CA certificates from missing.pem (tls.cacertpath)"},
    };
    struct program servers[2][2];
    unsigned ports[2][2];
    char *here = xasprintf("%s/", dir);

    make_identity("server", "IP:127.0.0.1");
    make_identity("client", "DNS:client");
    for (int h2 = 0; h2 < 2; h2++)
        for (int ask = 0; ask < 2; ask++) {
            const char *argv[] = {"node", "-e", node_server, h2 ? "h2" : "http", ask ? "ask" : "no", NULL};

            servers[h2][ask] = start(argv);
        }
    for (int h2 = 0; h2 < 2; h2++)
        for (int ask = 0; ask < 2; ask++)
            ports[h2][ask] = (unsigned)atoi(until_said(&servers[h2][ask], "port "));
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct cfg_otlp_to cfg = plain(rows[i].protocol);
        struct cfg_tls *tls = &cfg.transport.tls;
        bool h2 = rows[i].protocol == CFG_OTLP_GRPC;
        struct program *server = &servers[h2][rows[i].asks];
        struct output *o;
        char text[16];

        snprintf(text, sizeof(text), "%u", ports[h2][rows[i].asks]);
        cfg.transport.port = text;
        *tls = (struct cfg_tls){true, true, xasprintf("%s%s", here, rows[i].ca),
                                rows[i].cert ? xasprintf("%s%s", here, rows[i].cert) : NULL,
                                rows[i].key ? xasprintf("%s%s", here, rows[i].key) : NULL};
        o = get(&cfg);
        put(o, 10, 200000, 'a', NULL);
        if (rows[i].failure) {
            char failure[512] = "", *at;

            for (int k = 0; k < PATIENCE && !stats_of(o).failure; k++)
                run_ms(5);
            assert_non_null(stats_of(o).failure);
            snprintf(failure, sizeof(failure), "%s", stats_of(o).failure);
            while ((at = strstr(failure, here))) /* it names files by their paths */
                memmove(at, at + strlen(here), strlen(at + strlen(here)) + 1);
            if (!strstr(failure, rows[i].failure))
                fail_msg("row %zu: %s", i, failure);
            assert_false(stats_of(o).connected);
            assert_int_equal(stats_of(o).lost_destination, 0);
            output_abandon(o);
        } else {
            until_settled(o, 10);
            assert_int_equal(stats_of(o).records, 10);
            if (h2 && rows[i].asks)
                until_said(server, "took h2 client /opentelemetry.proto.collector.trace.v1.TraceService/Export 200009");
            else if (h2)
                until_said(server, "took h2 undefined /opentelemetry.proto.collector.trace.v1.TraceService/Export 200009");
            else
                until_said(server, "took http/1.1 client /v1/traces 200004");
            put(o, 1, 10, 'b', NULL);
            until_settled(o, 11);
            assert_null(stats_of(o).failure);
        }
        output_put(o);
        free(tls->cacertpath);
        free(tls->certpath);
        free(tls->keypath);
    }
    for (int h2 = 0; h2 < 2; h2++)
        for (int ask = 0; ask < 2; ask++)
            stop(&servers[h2][ask]);
    free(here);
}

/* A port that nobody uses, for programs that can't choose one. */
static void nginx_with_limits(void **state)
{
    static const char conf[] = "daemon off; master_process off; pid nginx.pid; error_log stderr;\n"
                               "events {}\n"
                               "http { access_log off; client_body_temp_path body; proxy_temp_path p; fastcgi_temp_path f;\n"
                               "uwsgi_temp_path u; scgi_temp_path s; keepalive_timeout 1s; client_max_body_size 100k;\n"
                               "server { listen 127.0.0.1:%u; location / { return 200; } } }\n";
    const char *argv[] = {"nginx", "-p", dir, "-c", "nginx.conf", NULL};
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    unsigned n = free_port();
    struct program nginx;
    struct output *o;
    char text[16], *path = xasprintf("%s/nginx.conf", dir);
    FILE *f = fopen(path, "w");

    fprintf(f, conf, n);
    fclose(f);
    free(path);
    snprintf(text, sizeof(text), "%u", n);
    cfg.transport.port = text;
    nginx = start(argv);
    o = get(&cfg); /* tries until it is there */
    for (int i = 0; i < 100; i++)
        put(o, 1, 10000, 'a', NULL);
    put(o, 1, 200000, 'b', NULL);
    until_settled(o, 101);
    assert_int_equal(stats_of(o).records, 100); /* in smaller requests */
    assert_int_equal(stats_of(o).lost_destination, 1);
    assert_string_equal(stats_of(o).failure, "refused for good: 413 Request Entity Too Large");
    put(o, 1, 10, 'c', NULL);
    until_settled(o, 102);
    run_ms(1500); /* nginx closes the connection now, or will later */
    put(o, 1, 10, 'd', NULL);
    until_settled(o, 103);
    assert_int_equal(stats_of(o).records, 102);
    assert_null(stats_of(o).failure);
    assert_true(stats_of(o).connected);
    output_put(o);
    stop(&nginx);
}

static void servers_that_are_no_receivers(void **state)
{
    char text[16];
    const char *nghttpd[] = {"nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", dir, text, NULL};
    const char *python[] = {"/usr/bin/python3", "-m", "http.server", "-b", "127.0.0.1", text, NULL};
    const struct {
        const char *const *argv;
        enum cfg_otlp_protocol protocol;
        const char *failure;
        unsigned lost;
    } rows[] = {
        {nghttpd, CFG_OTLP_GRPC, "refused for good: the receiver answers with 404 and no grpc-status (UNIMPLEMENTED)", 10},
        {nghttpd, CFG_OTLP_HTTP, "the receiver speaks HTTP/2 only: is that the grpc port (4317)?", 0},
        {python, CFG_OTLP_GRPC, "the receiver doesn't speak HTTP/2: is that the http/protobuf port (4318)?", 0},
        {python, CFG_OTLP_HTTP, "refused for good: 501 Unsupported method ('POST')", 10},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct cfg_otlp_to cfg = plain(rows[i].protocol);
        struct program program;
        struct output *o;

        snprintf(text, sizeof(text), "%u", free_port());
        cfg.transport.port = text;
        program = start(rows[i].argv);
        o = get(&cfg);
        put(o, 10, 100, 'a', NULL);
        until_failure(o, rows[i].failure);
        assert_int_equal(stats_of(o).lost_destination, rows[i].lost);
        output_abandon(o);
        output_put(o);
        stop(&program);
    }
}

/* At the end requests that are under way are waited for, also those of other outputs. */
static void output_wait_waits_for_answers(void **state)
{
    struct cfg_otlp_to cfg = plain(CFG_OTLP_HTTP);
    pid_t pid = receiver(300), second = receiver(300);
    struct output *o = get(&cfg), *other = output_get_otlp(base, &cfg, CFG_OTLP_LOGS);

    for (int i = 0; i < 30; i++) { /* two requests each */
        put(o, 1, 60000, 'a', NULL);
        put(other, 1, 60000, 'b', NULL);
    }
    output_wait(o, 30000); /* connects */
    assert_int_equal(stats_of(o).records, 30);
    put(o, 1, 10, 'a', NULL);
    put(other, 1, 10, 'b', NULL);
    assert_true(output_wait(o, 1));
    assert_true(output_wait(other, 1));
    assert_int_equal(stats_of(o).records + stats_of(other).records, 62);
    kill(pid, SIGKILL);
    kill(second, SIGKILL);
    waitpid(pid, NULL, 0);
    waitpid(second, NULL, 0);
    output_put(o);
    output_put(other);
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
        cmocka_unit_test_setup_teardown(backlog_of_a_receiver_that_stands_still, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_large_requests_become_smaller, set_up, tear_down),
        cmocka_unit_test_setup_teardown(outputs_are_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(output_wait_sends_several_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(output_wait_waits_for_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(calls_are_what_grpc_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_statuses_mean, set_up, tear_down),
        cmocka_unit_test_setup_teardown(partial_success_over_grpc, set_up, tear_down),
        cmocka_unit_test_setup_teardown(goaway, set_up, tear_down),
        cmocka_unit_test_setup_teardown(resets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answered_before_the_message_was_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answer_of_100_mb_over_grpc, set_up, tear_down),
        cmocka_unit_test_setup_teardown(http1_receiver_on_the_grpc_port, set_up, tear_down),
        cmocka_unit_test_setup_teardown(path_that_a_receiver_does_not_know, set_up, tear_down),
        cmocka_unit_test_setup_teardown(receivers_that_close_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_signals_have_in_common_is_told_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hostile_frames, set_up, tear_down),
        cmocka_unit_test_setup_teardown(frames_without_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(handshake_in_drops, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tls_with_identities, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nginx_with_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(servers_that_are_no_receivers, set_up, tear_down),
    };

    log_setup(stderr, LOGL_NONE, "test_otlp_output");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
