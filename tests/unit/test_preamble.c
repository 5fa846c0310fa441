/* SPDX-License-Identifier: Apache-2.0 */
/* PROXY headers and SOCKS: what is told of them, divided anywhere, and that all behind them is handed on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "conversation.h"
#include "protocol/preamble.h"

struct told {
    struct buf text, rest[PROTO_DIRS];
    bool done;
};

static enum preamble_kind kind;
static enum proto_dir client;

static void add_addr(struct buf *b, const struct preamble_addr *a)
{
    if (!a->len)
        buf_char(b, '-');
    for (unsigned i = 0; i < a->len; i++)
        buf_printf(b, "%02x", a->ip[i]);
    buf_printf(b, ":%u ", a->port);
}

static void on_told(void *owner, const struct preamble_told *p, uint64_t time_ns)
{
    struct told *t = owner;

    assert_false(t->done);
    t->done = true;
    buf_printf(&t->text, "%u %s at %u ", p->version, p->goes_on ? "goes on" : "ends", (unsigned)(time_ns / MS));
    if (p->kind == PREAMBLE_PROXY) {
        add_addr(&t->text, &p->client);
        add_addr(&t->text, &p->target);
    } else {
        buf_printf(&t->text, "command %u reply %d ", p->command, p->reply);
        add_slice(&t->text, p->host);
        buf_char(&t->text, ' ');
        add_addr(&t->text, &p->target);
    }
}

static void on_rest(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct told *t = owner;

    assert_true(t->done);
    for (uint64_t i = 0; i < len; i++)
        buf_char(&t->rest[dir], data ? (char)data[i] : '?');
}

static const struct preamble_sink sink = {on_told, on_rest};

static void feed(void *decoder, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    preamble_feed(decoder, dir, data, len, time_ns);
}

static char *run(const struct passage *p, size_t n, size_t chunk, size_t cut)
{
    struct told t = {0};
    struct preamble *d = preamble_new(&sink, &t, kind, client);

    feed_all(p, n, chunk, cut, feed, d);
    preamble_free(d, (n + 1) * MS);
    assert_true(t.done);
    for (int i = 0; i < PROTO_DIRS; i++) {
        buf_printf(&t.text, "| %.*s", (int)t.rest[i].len, t.rest[i].len ? t.rest[i].p : "");
        buf_free(&t.rest[i]);
    }
    return take_text(&t.text);
}

#define EXPECT(want, ...)                                  \
    do {                                                   \
        const struct passage list[] = {__VA_ARGS__};       \
        expect_told(run, list, COUNT(list), want);         \
    } while (0)

static int as_proxy(void **state)
{
    (void)state;
    kind = PREAMBLE_PROXY;
    client = PROTO_RX;
    return 0;
}

static int as_socks(void **state)
{
    (void)state;
    kind = PREAMBLE_SOCKS;
    client = PROTO_TX;
    return 0;
}

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static void test_proxy1(void **state)
{
    (void)state;
    EXPECT("1 goes on at 1 c0000201:56324 c0000202:443 | GET| yes", RX("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGE"),
           RX("T"), TX("yes"));
    EXPECT("1 goes on at 1 20010db8000000000000000000000001:1 00000000000000000000000000000001:65535 | | ",
           RX("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"));
    /* the proxy's own connection, and what it can't say: nobody's address */
    EXPECT("1 goes on at 1 -:0 -:0 | GET| ", RX("PROXY UNKNOWN\r\nGET"));
    EXPECT("1 goes on at 1 -:0 -:0 | GET| ", RX("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nGET"));
    /* addresses that are none: the header ends all the same */
    EXPECT("1 goes on at 1 -:0 -:0 | GET| ", RX("PROXY TCP4 192.0.2.1 192.0.2.2 56324 65536\r\nGET"));
    EXPECT("1 goes on at 1 -:0 -:0 | GET| ", RX("PROXY TCP4 192.0.2.1 192.0.2 56324 443\r\nGET"));
    EXPECT("1 goes on at 1 -:0 -:0 | GET| ", RX("PROXY TCP4 ::1 ::1 56324 443\r\nGET"));
    EXPECT("1 goes on at 1 -:0 -:0 | GET| ", RX("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 5\r\nGET"));
    EXPECT("1 goes on at 1 -:0 -:0 | GET| ", RX("PROXY TCP4 192.0.2.1 192.0.2.2 56324 \r\nGET"));
    /* too long, without its end, or cut off */
    EXPECT("0 ends at 1 -:0 -:0 | | ", RX("PROXY UNKNOWN 0000000000000000000000000000000000000000000000000000000000000000"
                                          "00000000000000000000000000000000000000000000000000000000\r\nGET"));
    EXPECT("0 ends at 1 -:0 -:0 | | ", RX("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\nGET"));
    EXPECT("0 ends at 3 -:0 -:0 | | ", RX("PROXY TCP4 192.0.2.1"), TX("?"));
    EXPECT("0 ends at 2 -:0 -:0 | | ", RX("PROXY TCP4 "), {PROTO_RX, NULL, 40}, RX("GET"));
}

static void test_proxy2(void **state)
{
    (void)state;
    EXPECT("2 goes on at 1 c0000201:56324 c0000202:443 | GET| yes",
           RX(SIGNATURE "\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\xdc\4\1\xbbGET"), TX("yes"));
    /* extensions behind the addresses, which nobody needs */
    EXPECT("2 goes on at 2 c0000201:56324 c0000202:443 | GET??| ",
           RX(SIGNATURE "\x21\x11\0\x3a\xc0\0\2\1\xc0\0\2\2\xdc\4\1\xbb\x04\0\x2b"),
           RX("0123456789012345678901234567890123456789012GET"), {PROTO_RX, NULL, 2});
    EXPECT("2 goes on at 3 c0000201:56324 c0000202:443 | GET| ",
           RX(SIGNATURE "\x21\x11\0\x3a\xc0\0\2\1\xc0\0\2\2\xdc\4\1\xbb\x04\0\x2b" "012345678901234567890"),
           {PROTO_RX, NULL, 10}, RX("123456789012GET"));
    EXPECT("2 goes on at 1 20010db8000000000000000000000001:1 00000000000000000000000000000001:65535 | GET| ",
           RX(SIGNATURE "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1\xff\xffGET"));
    /* LOCAL, with and without addresses; a unix socket's path; too short for what it says */
    EXPECT("2 goes on at 1 -:0 -:0 | GET| ", RX(SIGNATURE "\x20\0\0\0GET"));
    EXPECT("2 goes on at 1 -:0 -:0 | GET| ", RX(SIGNATURE "\x20\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\xdc\4\1\xbbGET"));
    EXPECT("2 goes on at 1 -:0 -:0 | GET| ", RX(SIGNATURE "\x21\x31\0\5/a\0/bGET"));
    EXPECT("2 goes on at 1 -:0 -:0 | GET| ", RX(SIGNATURE "\x21\x11\0\x0b\xc0\0\2\1\xc0\0\2\2\xdc\4\1GET"));
}

static void test_socks5(void **state)
{
    (void)state;
    EXPECT("5 goes on at 4 command 1 reply 0 a.test -:80 | yes| GET", TX("\5\2\0\2"), RX("\5\0"), TX("\5\1\0\3\6a.test\0\x50"),
           RX("\5\0\0\1\0\0\0\0\0\0"), TX("GET"), RX("yes"));
    EXPECT("5 goes on at 6 command 1 reply 0 - 7f000001:8080 | | GET", TX("\5\1\2"), RX("\5\2"), TX("\1\4user\2pw"),
           RX("\1\0"), TX("\5\1\0\1\x7f\0\0\1\x1f\x90"), RX("\5\0\0\3\4host\0\1"), TX("GET"));
    EXPECT("5 goes on at 4 command 1 reply 0 - 20010db8000000000000000000000001:443 | | ", TX("\5\1\0"), RX("\5\0"),
           TX("\5\1\0\4\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\1\xbb"),
           RX("\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
    /* who doesn't wait for the answers */
    EXPECT("5 goes on at 2 command 1 reply 0 a.test -:80 | yes| GET", TX("\5\1\0\5\1\0\3\6a.test\0\x50GET"),
           RX("\5\0\5\0\0\1\0\0\0\0\0\0yes"));
    /* BIND has two answers */
    EXPECT("5 goes on at 5 command 2 reply 0 - 7f000001:0 | 220 | ", TX("\5\1\0"), RX("\5\0"), TX("\5\2\0\1\x7f\0\0\1\0\0"),
           RX("\5\0\0\1\x7f\0\0\1\x10\0"), RX("\5\0\0\1\x7f\0\0\1\x10\1" "220 "));
    /* refused; nothing acceptable; a method that changes the bytes; datagrams */
    EXPECT("5 ends at 4 command 1 reply 5 a.test -:80 | | ", TX("\5\1\0"), RX("\5\0"), TX("\5\1\0\3\6a.test\0\x50"),
           RX("\5\5\0\1\0\0\0\0\0\0"), TX("?"));
    EXPECT("5 ends at 2 command 0 reply -1 - -:0 | | ", TX("\5\1\2"), RX("\5\xff"));
    EXPECT("5 ends at 2 command 0 reply -1 - -:0 | | ", TX("\5\1\1"), RX("\5\1"), TX("GET"));
    EXPECT("5 ends at 4 command 0 reply -1 - -:0 | | ", TX("\5\1\2"), RX("\5\2"), TX("\1\1u\1p"), RX("\1\1"));
    EXPECT("5 ends at 4 command 3 reply 0 - 00000000:0 | | ", TX("\5\1\0"), RX("\5\0"), TX("\5\3\0\1\0\0\0\0\0\0"),
           RX("\5\0\0\1\0\0\0\0\0\1"));
    /* nonsense, and the end */
    EXPECT("5 ends at 3 command 0 reply -1 - -:0 | | ", TX("\5\1\0"), RX("\5\0"), TX("\5\1\0\2\0\0\0\0\0\0"));
    EXPECT("5 ends at 4 command 0 reply -1 - -:0 | | ", TX("\5\1\0"), RX("\5\0"), TX("\5\1\0"));
}

static void test_socks4(void **state)
{
    (void)state;
    EXPECT("4 goes on at 2 command 1 reply 90 - 7f000001:80 | yes| GET", TX("\4\1\0\x50\x7f\0\0\1me\0"),
           RX("\0\x5a\0\0\0\0\0\0"), TX("GET"), RX("yes"));
    EXPECT("4 goes on at 2 command 1 reply 90 a.test -:80 | yes| GET", TX("\4\1\0\x50\0\0\0\1\0a.test\0GET"),
           RX("\0\x5a\0\0\0\0\0\0yes"));
    EXPECT("4 ends at 2 command 1 reply 91 - 7f000001:80 | | ", TX("\4\1\0\x50\x7f\0\0\1\0"), RX("\0\x5b\0\0\0\0\0\0"));
}

/* A client that goes on for ever doesn't take more memory than that. */
static void test_bounds(void **state)
{
    static char many[PREAMBLE_HELD + 1];

    (void)state;
    EXPECT("5 ends at 2 command 0 reply -1 - -:0 | | ", TX("\5\1\0"), {PROTO_TX, many, sizeof(many)}, RX("\5\0"));
    EXPECT("4 ends at 1 command 0 reply -1 - -:0 | | ",
           {PROTO_TX, "\4\1\0\x50\x7f\0\0\1" /* and a name that has no end */
                      "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
                      "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
                      "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789", 278});
}

#define PROXY(text) preamble_proxy_detect((const uint8_t *)(text), sizeof(text) - 1)
#define SOCKS(one, two) \
    preamble_socks_detect((const uint8_t *)(one), sizeof(one) - 1, (const uint8_t *)(two), sizeof(two) - 1)

static void test_detect(void **state)
{
    (void)state;
    assert_int_equal(PROXY(""), -1);
    assert_int_equal(PROXY("P"), -1);
    assert_int_equal(PROXY("PROXY TCP4 "), 1);
    assert_int_equal(PROXY("PROXY TCP6 "), 1);
    assert_int_equal(PROXY("PROXY UNKNOWN"), 1);
    assert_int_equal(PROXY("PROXY /x HTTP"), 0);
    assert_int_equal(PROXY("POST / HTTP/1.1"), 0);
    assert_int_equal(PROXY("\r\n\r\n"), -1);
    assert_int_equal(PROXY(SIGNATURE), -1);
    assert_int_equal(PROXY(SIGNATURE "\x21"), 1);
    assert_int_equal(PROXY(SIGNATURE "\x20"), 1);
    assert_int_equal(PROXY(SIGNATURE "\x31"), 0);
    assert_int_equal(PROXY("\r\n\r\nGET"), 0);

    assert_int_equal(SOCKS("", ""), -1);
    assert_int_equal(SOCKS("\5", ""), -1);
    assert_int_equal(SOCKS("\5\0", ""), 0);
    assert_int_equal(SOCKS("\5\1\0", ""), -1);
    assert_int_equal(SOCKS("\5\1\0", "\5"), -1);
    assert_int_equal(SOCKS("\5\1\0", "\5\0"), 1);
    assert_int_equal(SOCKS("\5\1\0", "\5\xff"), 1);
    assert_int_equal(SOCKS("\5\1\0", "\5\2"), 0);
    assert_int_equal(SOCKS("\5\2\0", "\5\0"), 0);
    assert_int_equal(SOCKS("\5\1\0", "H"), 0);
    assert_int_equal(SOCKS("\4\1\0\x50\x7f\0\0\1\0", ""), -1);
    assert_int_equal(SOCKS("\4\1\0\x50\x7f\0\0\1\0", "\0\x5a"), 1);
    assert_int_equal(SOCKS("\4\1\0\x50\x7f\0\0\1\0", "\0\x5e"), 0);
    assert_int_equal(SOCKS("\4\3", ""), 0);
    assert_int_equal(SOCKS("GET", ""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_proxy1, as_proxy), cmocka_unit_test_setup(test_proxy2, as_proxy),
        cmocka_unit_test_setup(test_socks5, as_socks), cmocka_unit_test_setup(test_socks4, as_socks),
        cmocka_unit_test_setup(test_bounds, as_socks), cmocka_unit_test(test_detect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
