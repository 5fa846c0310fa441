/* SPDX-License-Identifier: Apache-2.0 */
/* TLS: what both hellos tell, in records divided anywhere; what is no hello; whether data follow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "conversation.h"
#include "protocol/tls.h"

/* Hellos ------------------------------------------------------------------ */

/* Appends a vector whose length, of so many bytes, is put in front when it is closed. */
static size_t open_vector(struct buf *b, unsigned length_bytes)
{
    buf_add(b, "\0\0\0", length_bytes);
    return b->len;
}

static void close_vector(struct buf *b, size_t begin, unsigned length_bytes)
{
    size_t n = b->len - begin;

    for (unsigned i = 1; i <= length_bytes; i++, n >>= 8)
        b->p[begin - i] = (char)n;
}

static void add16(struct buf *b, unsigned v)
{
    buf_char(b, (char)(v >> 8));
    buf_char(b, (char)v);
}

static void add_fill(struct buf *b, char c, size_t n)
{
    memset(buf_room(b, n), c, n);
    b->len += n;
}

struct client {
    unsigned legacy;
    const char *session;     /* its bytes */
    const char *name, *alpn; /* alpn: in wire format */
    const char *versions;    /* pairs of bytes, hexadecimal digits */
    bool ticket, psk, ech, no_extensions;
    size_t key_share; /* bytes */
};

static void add_extension(struct buf *b, unsigned type, const void *p, size_t n)
{
    add16(b, type);
    add16(b, (unsigned)n);
    buf_add(b, p, n);
}

static struct buf client_hello(const struct client *c)
{
    struct buf b = BUF_INIT;
    size_t whole, extensions, at;

    buf_char(&b, 1);
    whole = open_vector(&b, 3);
    add16(&b, c->legacy);
    add_fill(&b, 'r', 32);
    buf_char(&b, (char)strlen(c->session));
    buf_str(&b, c->session);
    buf_add(&b, "\0\4\x13\1\x13\2", 6);
    buf_add(&b, "\1\0", 2);
    if (!c->no_extensions) {
        extensions = open_vector(&b, 2);
        add_extension(&b, 0x1a1a, "", 0); /* GREASE */
        if (c->name) {
            add16(&b, 0);
            at = open_vector(&b, 2);
            add16(&b, (unsigned)strlen(c->name) + 3);
            buf_char(&b, 0);
            add16(&b, (unsigned)strlen(c->name));
            buf_str(&b, c->name);
            close_vector(&b, at, 2);
        }
        if (c->alpn) {
            add16(&b, 16);
            add16(&b, (unsigned)strlen(c->alpn) + 2);
            add16(&b, (unsigned)strlen(c->alpn));
            buf_str(&b, c->alpn);
        }
        if (c->key_share) {
            add16(&b, 51);
            add16(&b, (unsigned)c->key_share);
            add_fill(&b, 'k', c->key_share);
        }
        if (c->versions) {
            add16(&b, 43);
            at = open_vector(&b, 2);
            buf_char(&b, (char)(strlen(c->versions) / 2));
            for (const char *p = c->versions; *p; p += 2) {
                unsigned v;

                assert_int_equal(sscanf(p, "%2x", &v), 1);
                buf_char(&b, (char)v);
            }
            close_vector(&b, at, 2);
        }
        if (c->ticket)
            add_extension(&b, 35, "ticket", 6);
        if (c->ech)
            add_extension(&b, 0xfe0d, "grease", 6);
        if (c->psk)
            add_extension(&b, 41, "key", 3);
        close_vector(&b, extensions, 2);
    }
    close_vector(&b, whole, 3);
    return b;
}

static const char retry[] = "\xCF\x21\xAD\x74\xE5\x9A\x61\x11\xBE\x1D\x8C\x02\x1E\x65\xB8\x91"
                            "\xC2\xA2\x11\x16\x7A\xBB\x8C\x5E\x07\x9E\x09\xE2\xC8\xA8\x33\x9C";

struct server {
    unsigned legacy, version; /* version 0: no extension */
    const char *session, *alpn;
    unsigned cipher;
    bool psk, retry;
};

static struct buf server_hello(const struct server *s)
{
    struct buf b = BUF_INIT;
    size_t whole, extensions;

    buf_char(&b, 2);
    whole = open_vector(&b, 3);
    add16(&b, s->legacy);
    if (s->retry)
        buf_add(&b, retry, 32);
    else
        add_fill(&b, 'r', 32);
    buf_char(&b, (char)strlen(s->session));
    buf_str(&b, s->session);
    add16(&b, s->cipher);
    buf_char(&b, 0);
    extensions = open_vector(&b, 2);
    if (s->version) {
        uint8_t v[2] = {(uint8_t)(s->version >> 8), (uint8_t)s->version};

        add_extension(&b, 43, v, 2);
    }
    if (s->alpn) {
        add16(&b, 16);
        add16(&b, (unsigned)strlen(s->alpn) + 3);
        add16(&b, (unsigned)strlen(s->alpn) + 1);
        buf_char(&b, (char)strlen(s->alpn));
        buf_str(&b, s->alpn);
    }
    if (s->psk)
        add_extension(&b, 41, "\0\0", 2);
    close_vector(&b, extensions, 2);
    close_vector(&b, whole, 3);
    return b;
}

/* In records of so many bytes. Frees the message. */
static struct buf records(struct buf message, size_t size)
{
    struct buf b = BUF_INIT;

    for (size_t at = 0; at < message.len; at += size) {
        size_t n = message.len - at < size ? message.len - at : size;

        buf_add(&b, "\x16\3\1", 3);
        add16(&b, (unsigned)n);
        buf_add(&b, message.p + at, n);
    }
    buf_free(&message);
    return b;
}

/* What is told ------------------------------------------------------------- */

struct told {
    struct buf text;
    bool done;
};

static void add_version(struct buf *b, unsigned version)
{
    const char *text = tls_version_text((uint16_t)version);

    if (text)
        buf_printf(b, " %s", text);
    else
        buf_printf(b, " %04x", version);
}

static void on_client(void *owner, const struct tls_client_hello *h, uint64_t time_ns)
{
    struct told *t = owner;

    assert_false(t->done);
    buf_printf(&t->text, "client %s %u", h->dir == PROTO_TX ? "tx" : "rx", (unsigned)(time_ns / MS));
    add_version(&t->text, h->record_version);
    add_version(&t->text, h->legacy_version);
    add_version(&t->text, h->version);
    buf_char(&t->text, ' ');
    add_slice(&t->text, h->server_name);
    for (size_t i = 0; i < h->alpn_count; i++) {
        buf_char(&t->text, ' ');
        add_slice(&t->text, h->alpn[i]);
    }
    buf_printf(&t->text, "%s%s%s%s\n", h->sslv2 ? " sslv2" : "", h->ech ? " ech" : "", h->ticket ? " ticket" : "",
               h->cut ? " cut" : "");
}

static void on_server(void *owner, const struct tls_server_hello *h, uint64_t time_ns, uint64_t duration_ns)
{
    static const char *const words[] = {"perhaps", "new", "resumed"};
    struct told *t = owner;

    assert_false(t->done);
    buf_printf(&t->text, "server %s %u %u", h->dir == PROTO_TX ? "tx" : "rx", (unsigned)(time_ns / MS),
               (unsigned)(duration_ns / MS));
    add_version(&t->text, h->legacy_version);
    add_version(&t->text, h->version);
    buf_printf(&t->text, " %s %s%s ", tls_cipher_text(h->cipher) ? tls_cipher_text(h->cipher) : "?", words[h->resumed],
               h->retried ? " retried" : "");
    add_slice(&t->text, h->alpn);
    buf_char(&t->text, '\n');
}

static void on_done(void *owner, enum tls_end why, int alert)
{
    static const char *const words[] = {"hellos", "alert", "unreadable", "closed"};
    struct told *t = owner;

    assert_false(t->done);
    t->done = true;
    buf_printf(&t->text, "%s %s\n", words[why], alert < 0 ? "-" : tls_alert_text((unsigned)alert));
}

static const struct tls_sink sink = {on_client, on_server, on_done};

static void feed(void *t, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    bool done = tls_done(t);

    tls_feed(t, dir, data, len, time_ns);
    assert_true(!done || tls_done(t));
    assert_true(!tls_done(t) || tls_skip(t, dir) == UINT64_MAX);
}

static char *run(const struct passage *p, size_t n, size_t chunk, size_t cut)
{
    struct told t = {0};
    struct tls *d = tls_new(&sink, &t);

    feed_all(p, n, chunk, cut, feed, d);
    tls_free(d);
    assert_true(t.done);
    return take_text(&t.text);
}

static void expect(const struct client *c, size_t client_record, const struct server *s, size_t server_record,
                   const char *want)
{
    struct buf out = records(client_hello(c), client_record), in = records(server_hello(s), server_record);
    struct passage p[] = {{PROTO_TX, out.p, out.len},
                          {PROTO_RX, in.p, in.len},
                          TX("\x14\3\3\0\1\1"
                             "anything"),
                          RX("else")};

    expect_told(run, p, COUNT(p), want);
    buf_free(&in);
    buf_free(&out);
}

static const struct client modern = {.legacy = 0x0303,
                                     .session = "12345678901234567890123456789012",
                                     .name = "www.example.com",
                                     .alpn = "\2\x1a\x1a\2h2\10http/1.1",
                                     .versions = "5a5a7f1c03040303",
                                     .ech = true};
static const struct server tls13 = {
    .legacy = 0x0303, .version = 0x0304, .session = "12345678901234567890123456789012", .cipher = 0x1301};

static void test_tls13(void **state)
{
    static const char *const want = "client tx 1 TLS 1.0 TLS 1.2 TLS 1.3 www.example.com h2 http/1.1 ech\n"
                                    "server rx 2 1 TLS 1.2 TLS 1.3 TLS_AES_128_GCM_SHA256 new -\nhellos -\n";
    struct server s = tls13;
    struct client c = modern;

    expect(&c, 16384, &s, 16384, want);
    expect(&c, 1, &s, 1, want);
    expect(&c, 100, &s, 7, want);
    s.psk = c.psk = true;
    s.session = "123456789012345678901234567890123"; /* longer than it may be */
    expect(&c, 16384, &s, 16384,
           "client tx 1 TLS 1.0 TLS 1.2 TLS 1.3 www.example.com h2 http/1.1 ech ticket\nunreadable -\n");
    s.session = tls13.session;
    c.session = "123456789012345678901234567890123";
    c.psk = s.psk = false;
    expect(&c, 16384, &s, 16384, "server rx 2 0 TLS 1.2 TLS 1.3 TLS_AES_128_GCM_SHA256 new -\nunreadable -\n");
    c.session = modern.session;
    c.psk = s.psk = true;
    expect(&c, 16384, &s, 16384,
           "client tx 1 TLS 1.0 TLS 1.2 TLS 1.3 www.example.com h2 http/1.1 ech ticket\n"
           "server rx 2 1 TLS 1.2 TLS 1.3 TLS_AES_128_GCM_SHA256 resumed -\nhellos -\n");
}

static void test_tls12(void **state)
{
    struct client c = {.legacy = 0x0303, .session = "", .alpn = "\10http/1.1\6mqtt/x"};
    struct server s = {.legacy = 0x0303, .session = "abcd", .alpn = "http/1.1", .cipher = 0xc02f};

    expect(&c, 16384, &s, 16384,
           "client tx 1 TLS 1.0 TLS 1.2 TLS 1.2 - http/1.1 mqtt/x\n"
           "server rx 2 1 TLS 1.2 TLS 1.2 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 new http/1.1\nhellos -\n");
    c.session = "abcd";
    expect(&c, 16384, &s, 16384,
           "client tx 1 TLS 1.0 TLS 1.2 TLS 1.2 - http/1.1 mqtt/x\n"
           "server rx 2 1 TLS 1.2 TLS 1.2 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 resumed http/1.1\nhellos -\n");
    c.session = "";
    c.ticket = true;
    s.cipher = 0x7777;
    expect(&c, 16384, &s, 16384,
           "client tx 1 TLS 1.0 TLS 1.2 TLS 1.2 - http/1.1 mqtt/x ticket\n"
           "server rx 2 1 TLS 1.2 TLS 1.2 ? perhaps http/1.1\nhellos -\n");
    c = (struct client){.legacy = 0x0301, .session = "", .no_extensions = true};
    s = (struct server){.legacy = 0x0301, .session = "", .cipher = 0x002f};
    expect(&c, 16384, &s, 16384,
           "client tx 1 TLS 1.0 TLS 1.0 TLS 1.0 -\n"
           "server rx 2 1 TLS 1.0 TLS 1.0 TLS_RSA_WITH_AES_128_CBC_SHA new -\nhellos -\n");
}

static void test_sizes(void **state)
{
    /* Post-quantum key shares (some 1,200 bytes each), and what can be at most. */
    static const size_t sizes[] = {1216, 15000, 17000, 65000};
    struct client c = modern;

    for (size_t i = 0; i < COUNT(sizes); i++) {
        c.key_share = sizes[i];
        expect(&c, 16384, &tls13, 16384,
               "client tx 1 TLS 1.0 TLS 1.2 TLS 1.3 www.example.com h2 http/1.1 ech\n"
               "server rx 2 1 TLS 1.2 TLS 1.3 TLS_AES_128_GCM_SHA256 new -\nhellos -\n");
    }
}

/* Later records may state another version. */
static void test_record_versions(void **state)
{
    struct buf out = records(client_hello(&modern), 100);
    const struct passage p = {PROTO_TX, out.p, out.len};

    for (size_t at = 105; at < out.len; at += 105)
        out.p[at + 2] = 3;
    expect_told(run, &p, 1, "client tx 1 TLS 1.0 TLS 1.2 TLS 1.3 www.example.com h2 http/1.1 ech\nclosed -\n");
    buf_free(&out);
}

static void test_too_long(void **state)
{
    struct buf out = BUF_INIT;
    struct passage p = {PROTO_TX, NULL, 0};

    buf_add(&out, "\x16\3\1\x40\0\1\1\0\0\3\3", 11);
    assert_int_equal(tls_detect((uint8_t *)out.p, out.len), 0);
    p.data = out.p;
    p.len = out.len;
    expect_told(run, &p, 1, "closed -\n");
    buf_free(&out);
}

static void test_retry(void **state)
{
    struct server hrr = tls13, sh = tls13;
    struct buf out = records(client_hello(&modern), 16384), first = BUF_INIT, second;

    hrr.retry = true;
    first = records(server_hello(&hrr), 16384);
    buf_add(&first, "\x14\3\3\0\1\1", 6);
    second = records(server_hello(&sh), 16384);
    const struct passage p[] = {{PROTO_TX, out.p, out.len},
                                {PROTO_RX, first.p, first.len},
                                {PROTO_TX, out.p, out.len},
                                {PROTO_RX, second.p, second.len}};

    expect_told(run, p, COUNT(p),
                "client tx 1 TLS 1.0 TLS 1.2 TLS 1.3 www.example.com h2 http/1.1 ech\n"
                "server rx 4 3 TLS 1.2 TLS 1.3 TLS_AES_128_GCM_SHA256 new retried -\nhellos -\n");
    buf_free(&out);
    buf_free(&first);
    buf_free(&second);
    /* Both in one record. */
    out = records(client_hello(&modern), 16384);
    first = server_hello(&hrr);
    second = server_hello(&sh);
    buf_add(&first, second.p, second.len);
    buf_free(&second);
    second = records(first, 16384);
    const struct passage q[] = {{PROTO_TX, out.p, out.len}, {PROTO_RX, second.p, second.len}};

    expect_told(run, q, COUNT(q),
                "client tx 1 TLS 1.0 TLS 1.2 TLS 1.3 www.example.com h2 http/1.1 ech\n"
                "server rx 2 1 TLS 1.2 TLS 1.3 TLS_AES_128_GCM_SHA256 new retried -\nhellos -\n");
    buf_free(&out);
    buf_free(&second);
}

static void test_alerts(void **state)
{
    struct buf out = records(client_hello(&modern), 16384), in = records(server_hello(&tls13), 16384);
    static const char client[] = "client tx 1 TLS 1.0 TLS 1.2 TLS 1.3 www.example.com h2 http/1.1 ech\n";
    const struct passage refused[] = {{PROTO_TX, out.p, out.len},
                                      RX("\x15\3\1\0\2\2\x28"
                                         "more")};
    const struct passage warned[] = {{PROTO_TX, out.p, out.len}, RX("\x15\3\1\0\2\1\x70"), {PROTO_RX, in.p, in.len}};
    const struct passage both[] = {{PROTO_TX, out.p, out.len}, RX("\x15\3\1\0\2\1\x70\x15\3\1\0\2\2\x28")};
    const struct passage closed[] = {{PROTO_TX, out.p, out.len}, RX("\x15\3\1\0\1\1\x15\3\1\0\1\0")};
    char want[300];

    (void)snprintf(want, sizeof(want), "%salert handshake_failure\n", client);
    expect_told(run, refused, COUNT(refused), want);
    expect_told(run, both, COUNT(both), want);
    (void)snprintf(want, sizeof(want), "%sserver rx 3 2 TLS 1.2 TLS 1.3 TLS_AES_128_GCM_SHA256 new -\nhellos -\n",
                   client);
    expect_told(run, warned, COUNT(warned), want);
    (void)snprintf(want, sizeof(want), "%salert close_notify\n", client);
    expect_told(run, closed, COUNT(closed), want);
    buf_free(&out);
    buf_free(&in);
}

static void test_ssl2(void **state)
{
    struct buf in =
        records(server_hello(&(struct server){.legacy = 0x0301, .session = "abc", .cipher = 0x000a}), 16384);
    struct passage p[] = {TX("\x80\x2e\1\3\1\0\x15\0\0\0\x10"
                             "ccccccccccccccccccccc"
                             "0123456789abcdef"),
                          {PROTO_RX, in.p, in.len}};

    expect_told(run, p, COUNT(p),
                "client tx 1 SSL 2.0 TLS 1.0 TLS 1.0 - sslv2\n"
                "server rx 2 1 TLS 1.0 TLS 1.0 TLS_RSA_WITH_3DES_EDE_CBC_SHA perhaps -\nhellos -\n");
    for (size_t i = 0; i < p[0].len; i++)
        assert_int_equal(tls_detect(p[0].data, i), i < 11 ? -1 : 1);
    p[1] = (struct passage)RX("\x80\4\4\0\1\0");
    expect_told(run, p, COUNT(p), "client tx 1 SSL 2.0 TLS 1.0 TLS 1.0 - sslv2\nunreadable -\n");
    buf_free(&in);
}

/* A gap, damage, nothing that was ever TLS. */
static void test_unreadable(void **state)
{
    struct buf out = records(client_hello(&modern), 16384), in = records(server_hello(&tls13), 16384);
    static const char server[] = "server rx 3 0 TLS 1.2 TLS 1.3 TLS_AES_128_GCM_SHA256 new -\nunreadable -\n";
    const struct passage gap[] = {{PROTO_TX, out.p, 50}, {PROTO_TX, NULL, out.len - 50}, {PROTO_RX, in.p, in.len}};
    const struct passage both[] = {TX("GET / HTTP/1.1\r\n"), RX("HTTP/1.1 200\r\n")};
    const struct passage twice[] = {{PROTO_TX, out.p, out.len}, {PROTO_RX, out.p, out.len}};
    const struct passage later[] = {TX("\x17\3\3\0\5hello"), RX("\x16\3\3\0\4\x0b\0\0\0")};
    const struct passage old[] = {TX("\x16\2\0\0\5hello"), RX("\x16\3\3\xff\xffxxx")};

    expect_told(run, gap, COUNT(gap), server);
    expect_told(run, both, COUNT(both), "unreadable -\n");
    expect_told(run, twice, COUNT(twice),
                "client tx 1 TLS 1.0 TLS 1.2 TLS 1.3 www.example.com h2 http/1.1 ech\nunreadable -\n");
    expect_told(run, later, COUNT(later), "unreadable -\n");
    expect_told(run, old, COUNT(old), "unreadable -\n");
    expect_told(run, NULL, 0, "closed -\n");
    buf_free(&out);
    buf_free(&in);
}

/* Each length in a hello one larger, and each beginning of a hello with its own length put right. */
static void test_hostile(void **state)
{
    struct buf whole[2] = {client_hello(&modern), server_hello(&tls13)};

    for (int kind = 0; kind < 2; kind++)
        for (size_t i = 4; i < whole[kind].len; i++) {
            struct buf b = BUF_INIT;
            struct passage p = {PROTO_TX, NULL, 0};
            char *told;

            buf_add(&b, whole[kind].p, whole[kind].len);
            b.p[i]++;
            b = records(b, 16384);
            p = (struct passage){PROTO_TX, b.p, b.len};
            free(run(&p, 1, 0, 0));
            buf_free(&b);
            buf_add(&b, whole[kind].p, i);
            close_vector(&b, 4, 3);
            b = records(b, 16384);
            p = (struct passage){PROTO_TX, b.p, b.len};
            told = run(&p, 1, 0, 0);
            /* Without extensions it is a hello of its own. */
            if (i != (kind ? 4u + 2 + 32 + 33 + 3 : 4u + 2 + 32 + 33 + 6 + 2))
                assert_string_equal(told, "closed -\n");
            free(told);
            buf_free(&b);
        }
    buf_free(&whole[0]);
    buf_free(&whole[1]);
}

static void test_many_protocols(void **state)
{
    char alpn[2 * TLS_ALPN_MAX + 3] = "";
    struct client c = modern;
    struct buf out;
    struct passage p;
    char *told;

    for (unsigned i = 0; i <= TLS_ALPN_MAX; i++)
        memcpy(alpn + 2 * i, (char[]){1, (char)('a' + i)}, 2);
    c.alpn = alpn;
    out = records(client_hello(&c), 16384);
    p = (struct passage){PROTO_RX, out.p, out.len};
    told = run(&p, 1, 0, 0);
    assert_non_null(strstr(told, "client rx 1 "));
    assert_non_null(strstr(told, " n o p ech cut\n"));
    free(told);
    buf_free(&out);
}

static void test_detect(void **state)
{
    struct buf b = records(client_hello(&modern), 16384);

    for (size_t i = 0; i < 40; i++)
        assert_int_equal(tls_detect((uint8_t *)b.p, i), i < TLS_DETECT ? -1 : 1);
    buf_free(&b);
    b = records(server_hello(&tls13), 3);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(tls_detect((uint8_t *)b.p, i), i < 8 ? -1 : 1);
    buf_free(&b);
    assert_int_equal(tls_detect((const uint8_t *)"\x16\3\1\0\0", 5), 0);
    assert_int_equal(tls_detect((const uint8_t *)"\x17\3\3\0\5hello", 10), 0);
    assert_int_equal(tls_detect((const uint8_t *)"\x16\3\1\2\0\3", 6), 0);
    assert_int_equal(tls_detect((const uint8_t *)"GET /", 5), 0);
    assert_int_equal(tls_detect((const uint8_t *)"\x80\x2e\1\0\3", 5), 0);
    assert_int_equal(tls_detect((const uint8_t *)"\x80\x2e\2", 3), 0);
}

static void test_encrypted(void **state)
{
#define IS(text) tls_encrypted((const uint8_t *)(text), sizeof(text) - 1)
    (void)state;
    assert_true(IS("\x17\3\3\x40\x11")); /* the header alone: many libraries read it so */
    assert_true(IS("\x17\3\3\0\x20" "0123456789"));
    assert_true(IS("\x17\3\1\0\x0a" "0123456789" "\x15\3\1\0\x02" "ab"));
    assert_true(IS("\x17\3\3\0\x0a" "0123456789" "\x17\3"));
    assert_false(IS("\x17\3\3\0\x0a" "0123456789" "HTTP/1.1"));
    assert_false(IS("\x17\3\3\0"));
    assert_false(IS("\x17\3\4\0\x20"));
    assert_false(IS("\x17\3\3\x48\x01"));
    assert_false(IS("\x17\3\3\0\x08" "01234567"));
    assert_false(IS("\x16\3\3\0\x20" "0123456789"));
    assert_false(IS("HTTP/1.1 200 OK"));
    assert_false(IS(""));
#undef IS
}

/* What a record of data is found again by, as far as it is there. */
static void test_record_mark(void **state)
{
#define HEAD "\x17\3\3\0\x40"
#define BODY "0123456789abcdef0123456789ABCDEF"
#define MARK(text) tls_record_mark((const uint8_t *)(text), sizeof(text) - 1)
    static const char record[] = HEAD BODY "more";

    (void)state;
    assert_ptr_equal(MARK(record), record + 5);
    assert_non_null(MARK(HEAD BODY));
    assert_null(tls_record_mark((const uint8_t *)record, 5 + 31));
    assert_null(MARK("\x17\3\3\0\x1f" BODY)); /* a shorter record */
    assert_null(MARK("\x16\3\3\0\x40" BODY));
    assert_null(MARK("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"));
#undef HEAD
#undef BODY
#undef MARK
}

/* Divided anywhere, the random is told once, with the piece that completes it. */
static void test_random(void **state)
{
    struct buf b = records(client_hello(&modern), 16384), shorter = records(client_hello(&modern), 37),
               other = records(server_hello(&tls13), 16384);
    const uint8_t *p = (const uint8_t *)b.p, *found;

    for (size_t cut = 1; cut < 50; cut++) {
        struct tls_first f = {0};

        found = tls_first_add(&f, p, cut);
        assert_int_equal(found != NULL, cut >= TLS_DETECT + TLS_RANDOM);
        if (!found)
            found = tls_first_add(&f, p + cut, b.len - cut);
        assert_memory_equal(found, p + TLS_DETECT, TLS_RANDOM);
        assert_null(tls_first_add(&f, p, b.len));
    }
    /* the random isn't all in one record; no ClientHello */
    assert_null(tls_first_add(&(struct tls_first){0}, (const uint8_t *)shorter.p, shorter.len));
    assert_null(tls_first_add(&(struct tls_first){0}, (const uint8_t *)other.p, other.len));
    buf_free(&b);
    buf_free(&shorter);
    buf_free(&other);
}

/* What follows the hellos --------------------------------------------------- */

enum { CCS = 20, ALERT = 21, HANDSHAKE = 22, DATA = 23 };

/* Records, up to one of type 0: who sends it, its type, and how long what is in it is. */
struct step {
    char who; /* 'c', 's' */
    uint8_t type;
    unsigned len;
};

/* Each record in pieces of `piece` bytes, but the first `first`. gaps: what need not be captured isn't. */
static enum tls_talk talk_of(unsigned version, unsigned cipher, const struct step *steps, size_t first, size_t piece, bool gaps)
{
    struct tls_records r = {0};
    enum tls_talk talk = TLS_TALK_UNDECIDED;

    for (const struct step *s = steps; s->type; s++) {
        enum proto_dir dir = s->who == 'c' ? PROTO_TX : PROTO_RX;
        struct buf b = BUF_INIT;
        size_t n;

        if (s->who == 's' && s->type == HANDSHAKE && !r.version) /* its first one has the hello */
            tls_records_agreed(&r, PROTO_TX, (uint16_t)version, (uint16_t)cipher);
        buf_char(&b, (char)s->type);
        add16(&b, 0x303);
        add16(&b, s->len);
        add_fill(&b, 'x', s->len);
        for (size_t at = 0; at < b.len; at += n) {
            n = at || !first ? piece : first;
            if (n > b.len - at)
                n = b.len - at;
            if (gaps && at >= 6 && tls_records_skip(&r, dir) >= n)
                talk = tls_records_feed(&r, dir, NULL, n);
            else
                talk = tls_records_feed(&r, dir, (const uint8_t *)b.p + at, n);
        }
        buf_free(&b);
    }
    return talk;
}

/* However it is divided. */
static void talks(unsigned version, unsigned cipher, const struct step *steps, enum tls_talk want)
{
    for (size_t piece = 1; piece < 100; piece += piece < 12 ? 1 : 17)
        assert_int_equal(talk_of(version, cipher, steps, 0, piece, piece & 1), want);
    for (size_t first = 1; first < 120; first++)
        assert_int_equal(talk_of(version, cipher, steps, first, 100000, false), want);
}

#define STEPS(...) ((const struct step[]){__VA_ARGS__, {0, 0, 0}})
#define HELLOS {'c', HANDSHAKE, 300}, {'s', HANDSHAKE, 122}

static void test_talk12(void **state)
{
#define FINISHED {'c', HANDSHAKE, 37}, {'c', CCS, 1}, {'c', HANDSHAKE, 40}, {'s', CCS, 1}, {'s', HANDSHAKE, 40}
    (void)state;
    talks(0x303, 0xc02f, STEPS(HELLOS, FINISHED, {'c', DATA, 100}, {'s', DATA, 200}), TLS_TALK_YES);
    talks(0x301, 0x2f, STEPS(HELLOS, FINISHED, {'c', DATA, 32}, {'c', DATA, 64}, {'s', DATA, 32}), TLS_TALK_YES);
    talks(0x303, 0xc02f, STEPS(HELLOS, FINISHED, {'s', DATA, 200}, {'c', DATA, 50}), TLS_TALK_YES);
    /* nobody answers, nobody asks, both end it; a renegotiation */
    talks(0x303, 0xc02f, STEPS(HELLOS, FINISHED), TLS_TALK_UNDECIDED);
    talks(0x303, 0xc02f, STEPS(HELLOS, FINISHED, {'c', DATA, 100}), TLS_TALK_UNDECIDED);
    talks(0x303, 0xc02f, STEPS(HELLOS, FINISHED, {'c', DATA, 100}, {'s', ALERT, 26}), TLS_TALK_UNDECIDED);
    talks(0x303, 0xc02f, STEPS(HELLOS, FINISHED, {'s', DATA, 200}), TLS_TALK_UNDECIDED);
    talks(0x303, 0xc02f, STEPS(HELLOS, FINISHED, {'c', ALERT, 26}, {'s', ALERT, 26}), TLS_TALK_UNDECIDED);
    talks(0x303, 0xc02f, STEPS(HELLOS, FINISHED, {'c', HANDSHAKE, 300}, {'s', HANDSHAKE, 3000}), TLS_TALK_UNDECIDED);
    /* refused */
    talks(0x303, 0xc02f, STEPS(HELLOS, {'s', HANDSHAKE, 3000}, {'c', ALERT, 2}), TLS_TALK_UNDECIDED);
#undef FINISHED
}

static void test_talk13(void **state)
{
    /* EncryptedExtensions, Certificate, CertificateVerify, Finished */
#define SERVER {'s', CCS, 1}, {'s', DATA, 27}, {'s', DATA, 1000}, {'s', DATA, 281}, {'s', DATA, 53}
#define FINISHED {'c', CCS, 1}, {'c', DATA, 53}
#define TICKETS {'s', DATA, 250}, {'s', DATA, 250}
    (void)state;
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, FINISHED, {'c', DATA, 100}, {'s', DATA, 200}), TLS_TALK_YES);
    talks(0x304, 0x1302, STEPS(HELLOS, SERVER, {'c', DATA, 69}, {'c', DATA, 100}, {'s', DATA, 200}), TLS_TALK_YES);
    talks(0x304, 0x1305, STEPS(HELLOS, SERVER, {'c', DATA, 45}, {'c', DATA, 19}, {'s', DATA, 200}), TLS_TALK_YES);
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, {'c', DATA, 1100}, {'c', DATA, 97}, FINISHED, TICKETS, {'c', DATA, 30}, {'s', DATA, 30}),
          TLS_TALK_YES); /* with a certificate of the client's */
    /* the answer is told before the question, by another thread */
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, FINISHED, TICKETS, {'s', DATA, 200}, {'c', DATA, 100}), TLS_TALK_YES);
    /* nobody asks, nobody answers, an alert, new keys */
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, FINISHED), TLS_TALK_UNDECIDED);
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, FINISHED, TICKETS), TLS_TALK_UNDECIDED);
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, FINISHED, {'c', DATA, 100}), TLS_TALK_UNDECIDED);
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, FINISHED, {'c', DATA, 19}, TICKETS, {'s', DATA, 19}), TLS_TALK_UNDECIDED);
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, FINISHED, {'c', DATA, 22}, TICKETS, {'c', DATA, 19}, {'s', DATA, 19}),
          TLS_TALK_UNDECIDED);
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, FINISHED, {'c', DATA, 100}, {'s', DATA, 19}), TLS_TALK_UNDECIDED);
    /* certificates of the server and of the client refused; a Finished that shares its record */
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, {'c', CCS, 1}, {'c', DATA, 19}), TLS_TALK_UNDECIDED);
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, {'c', ALERT, 2}), TLS_TALK_UNDECIDED);
    talks(0x304, 0x1301, STEPS(HELLOS, SERVER, {'c', DATA, 25}, FINISHED, {'s', DATA, 19}), TLS_TALK_UNDECIDED);
    talks(0x304, 0x1302, STEPS(HELLOS, SERVER, {'c', DATA, 1500}, {'c', DATA, 100}, {'s', DATA, 100}), TLS_TALK_UNDECIDED);
    /* early data alone */
    talks(0x304, 0x1301, STEPS({'c', HANDSHAKE, 500}, {'c', DATA, 53}, {'c', DATA, 100}, {'s', HANDSHAKE, 128}, {'s', DATA, 27}, {'s', DATA, 53},
                               {'c', DATA, 21}, FINISHED), TLS_TALK_UNDECIDED);
#undef SERVER
#undef FINISHED
#undef TICKETS
}

/* What isn't understood, or too much. */
static void test_talk_unknown(void **state)
{
    static const uint8_t header[] = {DATA, 3, 3, 1, 0};
    struct tls_records r = {0};
    uint8_t zeros[200] = {0};

    (void)state;
    talks(0x303, 0xc02f, STEPS(HELLOS, {'c', 24, 40}, {'c', DATA, 100}, {'s', DATA, 100}), TLS_TALK_NO);
    talks(0x303, 0xc02f, STEPS(HELLOS, {'s', DATA, 18433}, {'c', DATA, 100}, {'s', DATA, 100}), TLS_TALK_NO);
    talks(0x304, 0x1301, STEPS(HELLOS, {'s', DATA, 16000}, {'s', DATA, 16000}, {'s', DATA, 16000}, {'s', DATA, 16000}, {'s', DATA, 16000},
                               {'c', DATA, 53}, {'c', DATA, 100}, {'s', DATA, 100}), TLS_TALK_NO);
    assert_int_equal(tls_records_skip(&r, PROTO_TX), 0);
    assert_int_equal(tls_records_feed(&r, PROTO_TX, header, 5), TLS_TALK_UNDECIDED);
    assert_int_equal(tls_records_skip(&r, PROTO_TX), 256);
    assert_int_equal(tls_records_feed(&r, PROTO_TX, NULL, 56), TLS_TALK_UNDECIDED);
    assert_int_equal(tls_records_feed(&r, PROTO_TX, zeros, 200), TLS_TALK_UNDECIDED);
    assert_int_equal(tls_records_skip(&r, PROTO_TX), 0);
    assert_int_equal(tls_records_feed(&r, PROTO_TX, NULL, 1), TLS_TALK_NO); /* a header is missing */
    assert_true(tls_records_skip(&r, PROTO_TX) == UINT64_MAX && tls_records_skip(&r, PROTO_RX) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls13),          cmocka_unit_test(test_tls12),
        cmocka_unit_test(test_sizes),          cmocka_unit_test(test_record_versions),
        cmocka_unit_test(test_too_long),       cmocka_unit_test(test_retry),
        cmocka_unit_test(test_alerts),         cmocka_unit_test(test_ssl2),
        cmocka_unit_test(test_unreadable),     cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_many_protocols), cmocka_unit_test(test_detect),
        cmocka_unit_test(test_random),         cmocka_unit_test(test_encrypted),
        cmocka_unit_test(test_record_mark),
        cmocka_unit_test(test_talk12),         cmocka_unit_test(test_talk13),
        cmocka_unit_test(test_talk_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
