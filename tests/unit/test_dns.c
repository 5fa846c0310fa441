/* SPDX-License-Identifier: Apache-2.0 */
/* DNS: what messages tell, hostile ones, TCP however divided, and which response belongs to which query. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>

#include "conversation.h"
#include "protocol/dns.h"

/* Messages --------------------------------------------------------------- */

enum {
    A = 1,
    NS = 2,
    CNAME = 5,
    SOA = 6,
    PTR = 12,
    MX = 15,
    TXT = 16,
    AAAA = 28,
    SRV = 33,
    OPT = 41,
    DS = 43,
    HTTPS = 65,
    ANY = 255,
    CAA = 257
};
enum { QUERY = 0x0100, RESPONSE = 0x8180, MULTICAST = 0x8400 };

struct message {
    uint8_t p[70000];
    size_t len;
};

static void put8(struct message *m, unsigned v)
{
    m->p[m->len++] = (uint8_t)v;
}

static void put16(struct message *m, unsigned v)
{
    put8(m, v >> 8);
    put8(m, v & 0xff);
}

static void put32(struct message *m, uint32_t v)
{
    put16(m, v >> 16);
    put16(m, v & 0xffff);
}

static void put_bytes(struct message *m, const void *p, size_t n)
{
    memcpy(m->p + m->len, p, n);
    m->len += n;
}

/* Labels separated by dots, no escapes. */
static void put_name(struct message *m, const char *name)
{
    while (*name) {
        size_t n = strcspn(name, ".");

        put8(m, (unsigned)n);
        put_bytes(m, name, n);
        name += n + (name[n] == '.');
    }
    put8(m, 0);
}

static void begin(struct message *m, unsigned id, unsigned flags, unsigned qd, unsigned an, unsigned ns, unsigned ar)
{
    m->len = 0;
    put16(m, id);
    put16(m, flags);
    put16(m, qd);
    put16(m, an);
    put16(m, ns);
    put16(m, ar);
}

static void question(struct message *m, const char *name, unsigned type)
{
    put_name(m, name);
    put16(m, type);
    put16(m, 1);
}

/* A record whose name is a pointer to the first question. */
static void record(struct message *m, unsigned type, uint32_t ttl, const void *data, size_t len)
{
    put16(m, 0xc00c);
    put16(m, type);
    put16(m, 1);
    put32(m, ttl);
    put16(m, (unsigned)len);
    put_bytes(m, data, len);
}

static struct message *query(unsigned id, const char *name, unsigned type)
{
    static struct message m;

    begin(&m, id, QUERY, 1, 0, 0, 0);
    question(&m, name, type);
    return &m;
}

static struct message *answer(unsigned id, const char *name, const char *address)
{
    static struct message m;

    begin(&m, id, RESPONSE, 1, 1, 0, 0);
    question(&m, name, A);
    record(&m, A, 300, address, 4);
    return &m;
}

static struct dns_message *parsed(const struct message *m)
{
    static struct dns_message d;
    uint8_t *copy = malloc(m->len);

    memcpy(copy, m->p, m->len);
    assert_int_equal(dns_parse(copy, m->len, m->len, &d), 0);
    free(copy);
    return &d;
}

static void expect_slice(struct slice s, const char *want)
{
    if (s.len != strlen(want) || memcmp(s.p, want, s.len) != 0)
        fail_msg("got '%.*s', want '%s'", (int)s.len, s.p, want);
}

static void test_query(void **state)
{
    char word[DNS_WORD];
    struct message *m = query(0x1234, "_ldap._tcp.xn--bcher-kva.example", SRV);
    struct dns_message *d;

    m->p[11] = 1; /* an OPT record follows */
    put8(m, 0);
    put16(m, OPT);
    put16(m, 1232);
    put32(m, 0x00008000);
    put16(m, 0);
    d = parsed(m);
    assert_false(d->response);
    assert_int_equal(d->id, 0x1234);
    assert_int_equal(d->question_count, 1);
    expect_slice(d->questions[0].name, "_ldap._tcp.xn--bcher-kva.example");
    assert_string_equal(dns_type_text(d->questions[0].type, word), "SRV");
    assert_string_equal(dns_class_text(d->questions[0].class_, word), "IN");
    assert_string_equal(dns_opcode_text(d->opcode, word), "QUERY");
    assert_true(d->recursion_desired);
    assert_true(d->edns);
    assert_int_equal(d->edns_size, 1232);
    assert_true(d->edns_do);
    assert_int_equal(d->edns_version, 0);
    assert_false(d->malformed || d->cut || d->truncated);
    assert_int_equal(d->size, m->len);
    assert_true(dns_detect(m->p, m->len));
}

static void test_names(void **state)
{
    static const struct {
        const char *wire;
        size_t len;
        const char *text;
    } names[] = {
        {"\0", 1, "."},
        {"\1a\0", 3, "a"},
        {"\3a.b\1c\0", 7, "a\\.b.c"},
        {"\4a\\b \0", 6, "a\\\\b\\032"},
        {"\3\0\x7f\xff\0", 5, "\\000\\127\\255"},
        {"\7b\xc3\xbc"
         "cher\0",
         9,
         "b\xc3\xbc"
         "cher"},
        {"\2\xc2\x85\0", 4, "\\194\\133"},
        {"\2\xc3(\0", 4, "\\195("},
    };

    for (size_t i = 0; i < COUNT(names); i++) {
        struct message m;
        struct dns_message *d;

        begin(&m, 1, QUERY, 1, 0, 0, 0);
        put_bytes(&m, names[i].wire, names[i].len);
        put16(&m, A);
        put16(&m, 1);
        d = parsed(&m);
        expect_slice(d->questions[0].name, names[i].text);
    }
}

static void test_longest_name(void **state)
{
    struct message m;
    struct dns_message d;

    /* 3 * 64 + 62 + 1: the 255 bytes that are allowed; each byte takes four characters. */
    begin(&m, 1, QUERY, 1, 0, 0, 0);
    for (int i = 0; i < 4; i++) {
        put8(&m, i < 3 ? 63 : 61);
        memset(m.p + m.len, 1, 63);
        m.len += i < 3 ? 63 : 61;
    }
    put8(&m, 0);
    put16(&m, A);
    put16(&m, 1);
    assert_int_equal(dns_parse(m.p, m.len, m.len, &d), 0);
    assert_int_equal(d.questions[0].name.len, 250 * 4 + 3);
    /* One byte more. */
    m.p[12 + 3 * 64] = 62;
    m.len++;
    memmove(m.p + 12 + 3 * 64 + 2, m.p + 12 + 3 * 64 + 1, 66);
    assert_int_equal(dns_parse(m.p, m.len, m.len, &d), -EBADMSG);
}

static void test_answers(void **state)
{
    static const struct {
        unsigned type;
        const char *data;
        size_t len;
        const char *text;
    } rows[] = {
        {A, "\xc0\0\2\1", 4, "192.0.2.1"},
        {AAAA, "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16, "2001:db8::1"},
        {CNAME, "\3www\xc0\x0c", 6, "www.example.org"},
        {NS, "\2ns\0", 4, "ns"},
        {PTR, "\4Inst\xc0\x0c", 7, "Inst.example.org"},
        {MX, "\0\12\2mx\xc0\x0c", 7, "10 mx.example.org"},
        {TXT, "\3a\"b\0\4c\\d ", 10, "\"a\\\"b\" \"\" \"c\\\\d \""},
        {SRV, "\0\1\0\2\0\x35\1h\0", 9, "1 2 53 h"},
        {SOA, "\1m\xc0\x0c\1r\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5", 27, "m.example.org r 1 2 3 4 5"},
        {HTTPS, "\0\0\xc0\x0c", 4, "0 example.org"},
        {HTTPS, "\0\1\0\0\0\0\2\0\1\0\1\0\6\2h2\2h3\0\2\0\0\0\3\0\2\1\xbb\0\4\0\4\xc0\0\2\1\0\5\0\4test\xff\0\0\1x", 50,
         "1 . mandatory=alpn alpn=h2,h3 no-default-alpn port=443 ipv4hint=192.0.2.1 ech=dGVzdA== key65280=\"x\""},
        {CAA, "\0\5issueca.example", 17, "0 issue \"ca.example\""},
        {DS, "\0\1\10\2\xab\xcd", 6, "1 8 2 abcd"},
        {65280, "\1\2\xff", 3, "\\# 3 0102ff"},
        {65280, "", 0, "\\# 0"},
    };
    struct message m;
    struct dns_message *d;

    begin(&m, 7, RESPONSE, 1, COUNT(rows), 0, 0);
    question(&m, "example.org", ANY);
    for (size_t i = 0; i < COUNT(rows); i++)
        record(&m, rows[i].type, 100 + (uint32_t)i, rows[i].data, rows[i].len);
    d = parsed(&m);
    assert_false(d->malformed);
    assert_int_equal(d->answer_count, COUNT(rows));
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(d->answers[i].type, rows[i].type);
        assert_int_equal(d->answers[i].ttl, 100 + i);
        expect_slice(d->answers[i].name, "example.org");
        expect_slice(d->answers[i].text, rows[i].text);
    }
    assert_true(d->ttl_known);
    assert_int_equal(d->ttl, 100);
    assert_true(d->recursion_available);
    assert_true(dns_detect(m.p, m.len));
}

/* Data that doesn't fit its type. */
static void test_bad_data(void **state)
{
    static const struct {
        unsigned type;
        const char *data;
        size_t len;
    } rows[] = {
        {A, "\1\2\3", 3},
        {A, "\1\2\3\4\5", 5},
        {AAAA, "\1", 1},
        {CNAME, "\3www", 4},
        {CNAME, "", 0},
        {MX, "\0", 1},
        {MX, "\0\1", 2},
        {TXT, "\4abc", 4},
        {TXT, "", 0},
        {SRV, "\0\0\0\0\0\0", 6},
        {HTTPS, "\0\1\0\0\1", 5},
        {HTTPS, "\0\1\0\0\1\0\5\2h2", 9},
        {HTTPS, "\0\1\0\0\1\0\2\3h", 9},
        {HTTPS, "\0\1\0\0\3\0\1x", 8},
        {SOA, "\0\0\0\0", 4},
        {CNAME, "\0x", 2},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct message m;
        struct dns_message *d;

        begin(&m, 7, RESPONSE, 1, 2, 0, 0);
        question(&m, "example.org", ANY);
        record(&m, A, 9, "\1\2\3\4", 4);
        record(&m, rows[i].type, 5, rows[i].data, rows[i].len);
        d = parsed(&m);
        if (!d->malformed)
            print_error("row %zu\n", i);
        assert_true(d->malformed);
        assert_int_equal(d->answer_count, 1);
        expect_slice(d->answers[0].text, "1.2.3.4");
        assert_false(dns_detect(m.p, m.len));
    }
}

static void test_negative(void **state)
{
    char word[DNS_WORD];
    struct message m;
    struct dns_message *d;

    begin(&m, 7, RESPONSE | 3, 1, 0, 1, 1);
    question(&m, "nothing.example", A);
    record(&m, SOA, 3600, "\1m\0\1r\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\x3c", 26);
    put8(&m, 0);
    put16(&m, OPT);
    put16(&m, 4096);
    put32(&m, 0x01000000);
    put16(&m, 0);
    d = parsed(&m);
    assert_int_equal(d->rcode, 19);
    assert_string_equal(dns_rcode_text(d->rcode, word), "BADMODE");
    assert_string_equal(dns_rcode_text(3, word), "NXDOMAIN");
    assert_string_equal(dns_rcode_text(4000, word), "RCODE4000");
    assert_string_equal(dns_type_text(65280, word), "TYPE65280");
    assert_string_equal(dns_opcode_text(5, word), "UPDATE");
    assert_true(d->ttl_known);
    assert_int_equal(d->ttl, 60);
    begin(&m, 7, RESPONSE, 1, 1, 0, 0);
    question(&m, "x", A);
    record(&m, A, 0x80000001, "\1\2\3\4", 4);
    assert_int_equal(parsed(&m)->ttl, 0);
    begin(&m, 7, RESPONSE | 0x0200, 1, 0, 0, 0);
    question(&m, "x", A);
    d = parsed(&m);
    assert_true(d->truncated);
    assert_false(d->ttl_known);
}

static void test_multicast_bits(void **state)
{
    struct message m;
    struct dns_message *d;

    begin(&m, 0, 0, 2, 0, 0, 0);
    put_name(&m, "printer.local");
    put16(&m, A);
    put16(&m, 0x8001);
    question(&m, "printer.local", AAAA);
    d = parsed(&m);
    assert_int_equal(d->question_count, 2);
    assert_int_equal(d->questions[0].class_, 1);
    assert_true(d->questions[0].top);
    assert_false(d->questions[1].top);
    assert_true(dns_detect(m.p, m.len));
}

static void test_update(void **state)
{
    struct message m;
    struct dns_message *d;

    /* A prerequisite: the name has any address (RFC 2136, section 2.4.1): class ANY, no data. */
    begin(&m, 3, 5 << 11, 1, 1, 0, 0);
    question(&m, "example.org", SOA);
    record(&m, A, 0, "", 0);
    m.p[m.len - 7] = 255;
    d = parsed(&m);
    assert_int_equal(d->opcode, 5);
    assert_false(d->malformed);
    expect_slice(d->answers[0].text, "");
}

static void expect_name_bad(const uint8_t *p, size_t len)
{
    struct message m;
    struct dns_message d;

    begin(&m, 1, QUERY, 1, 0, 0, 0);
    put_bytes(&m, p, len);
    assert_int_equal(dns_parse(m.p, m.len, m.len, &d), -EBADMSG);
    assert_false(dns_detect(m.p, m.len));
}

static void test_hostile_names(void **state)
{
    struct message m;
    struct dns_message d;

    expect_name_bad((const uint8_t *)"\xc0\x0c\0\1\0\1", 6);      /* to itself */
    expect_name_bad((const uint8_t *)"\1a\xc0\x0c\0\1\0\1", 8);   /* to what it stands in */
    expect_name_bad((const uint8_t *)"\xc0\x12\0\1\0\1\1a\0", 9); /* forward */
    expect_name_bad((const uint8_t *)"\xc0\0\0\1\0\1", 6);        /* into the header */
    expect_name_bad((const uint8_t *)"\xff\xff\0\1\0\1", 6);      /* behind the end */
    expect_name_bad((const uint8_t *)"\xc0", 1);
    for (unsigned n = 64; n < 192; n++) {
        uint8_t p[260] = {(uint8_t)n};

        expect_name_bad(p, sizeof(p));
    }
    /* The two upper bits 01 and 10, where 11 would be a good pointer. */
    for (unsigned n = 0x4000; n < 0xc000; n += 0x4000) {
        begin(&m, 1, RESPONSE, 1, 1, 0, 0);
        question(&m, "a", A);
        put16(&m, n | 12);
        put_bytes(&m, "\0\1\0\1\0\0\0\1\0\4\1\2\3\4", 14);
        m.len += 100;
        memset(m.p + m.len - 100, 0, 100);
        assert_int_equal(dns_parse(m.p, m.len, m.len, &d), 0);
        assert_true(d.malformed);
    }
    /* Two that lead to each other, from a record. */
    begin(&m, 1, RESPONSE, 1, 1, 0, 0);
    question(&m, "a", A);
    put_bytes(&m, "\xc0\x15\0\1\0\1\0\0\0\1\0\4\1\2\3\4", 16);
    assert_int_equal(dns_parse(m.p, m.len, m.len, &d), 0);
    assert_true(d.malformed);
}

/* Chains of pointers: few are followed, too many are not, and time is bounded. */
static void test_pointer_chains(void **state)
{
    static struct message m;
    static struct dns_message d;
    size_t place;

    for (unsigned n = 100; n <= 200; n += 100) {
        begin(&m, 1, RESPONSE, 1, 1, 0, 0);
        question(&m, "a", TXT);
        put16(&m, 0xc00c);
        put16(&m, 65280);
        put16(&m, 1);
        put32(&m, 0);
        put16(&m, 2 * n);
        place = m.len;
        for (unsigned i = 0; i < n; i++)
            put16(&m, 0xc000 | (i ? (unsigned)m.len - 2 : 12));
        m.p[7] = 2;
        put16(&m, 0xc000 | (unsigned)(place + 2 * (n - 1)));
        put16(&m, A);
        put16(&m, 1);
        put32(&m, 0);
        put16(&m, 4);
        put32(&m, 0x01020304);
        assert_int_equal(dns_parse(m.p, m.len, m.len, &d), 0);
        assert_int_equal(d.malformed, n == 200);
        if (n == 100)
            expect_slice(d.answers[1].name, "a");
    }
}

static void test_counts(void **state)
{
    static struct message m;
    static struct dns_message d;

    begin(&m, 1, RESPONSE, 65535, 65535, 65535, 65535);
    assert_int_equal(dns_parse(m.p, m.len, m.len, &d), -EBADMSG);
    begin(&m, 1, RESPONSE, 1, 65535, 65535, 65535);
    question(&m, "a", A);
    assert_int_equal(dns_parse(m.p, m.len, m.len, &d), 0);
    assert_true(d.malformed);
    assert_int_equal(d.answer_count, 0);
    /* As many as there can be: all are counted in the ttl, the first ones told. */
    begin(&m, 1, RESPONSE, 1, 4000, 0, 0);
    question(&m, "a", A);
    for (unsigned i = 0; i < 4000; i++)
        record(&m, A, 5000 - i, "\1\2\3\4", 4);
    assert_int_equal(dns_parse(m.p, m.len, m.len, &d), 0);
    assert_false(d.malformed);
    assert_true(d.cut);
    assert_int_equal(d.answer_count, DNS_ANSWERS_MAX);
    assert_int_equal(d.ttl, 1001);
    /* A text that is longer than what is kept. */
    begin(&m, 1, RESPONSE, 1, 2, 0, 1);
    question(&m, "a", TXT);
    put16(&m, 0xc00c);
    put16(&m, TXT);
    put16(&m, 1);
    put32(&m, 1);
    put16(&m, 256 * 200);
    for (unsigned i = 0; i < 200; i++) {
        put8(&m, 255);
        memset(m.p + m.len, 'x', 255);
        m.len += 255;
    }
    record(&m, A, 1, "\1\2\3\4", 4);
    put_bytes(&m, "\0\0\x29\4\xd0\0\0\0\0\0\0", 11);
    assert_int_equal(dns_parse(m.p, m.len, m.len, &d), 0);
    assert_false(d.malformed);
    assert_int_equal(d.answer_count, 1);
    assert_true(d.cut && d.answers[0].cut);
    assert_true(d.answers[0].text.len > 16000);
    assert_true(d.edns);
}

/* Every beginning of a message, as if it were all, and as if the rest wasn't captured. */
static void test_truncated(void **state)
{
    struct message m;
    struct dns_message *d = malloc(sizeof(*d));

    begin(&m, 7, RESPONSE, 1, 3, 0, 0);
    question(&m, "example.org", ANY);
    record(&m, MX, 9, "\0\12\2mx\xc0\x0c", 7);
    record(&m, TXT, 9, "\3abc\2de", 7);
    record(&m, HTTPS, 9, "\0\1\0\0\1\0\3\2h2", 10);
    for (size_t len = 0; len < m.len; len++) {
        uint8_t *copy = malloc(len ? len : 1);

        memcpy(copy, m.p, len);
        if (dns_parse(copy, len, len, d) == 0)
            assert_true(d->malformed);
        assert_false(dns_detect(copy, len));
        if (dns_parse(copy, len, m.len, d) == 0) {
            assert_false(d->malformed);
            assert_true(d->cut);
        } else {
            assert_true(len < 12 + 17);
        }
        free(copy);
    }
    free(d);
}

/* Exchanges -------------------------------------------------------------- */

struct told {
    struct buf text;
    uint64_t lost, malformed;
    uintptr_t queries;
};

static void tell_message(struct told *t, const char *what, const struct dns_message *m, const struct dns_transit *way)
{
    char word[DNS_WORD];

    buf_printf(&t->text, "%s %s %u", what, way->dir == PROTO_TX ? "tx" : "rx", m->id);
    for (size_t i = 0; i < m->question_count; i++) {
        buf_char(&t->text, ' ');
        add_slice(&t->text, m->questions[i].name);
        buf_printf(&t->text, " %s", dns_type_text(m->questions[i].type, word));
    }
    for (size_t i = 0; i < m->answer_count; i++) {
        buf_char(&t->text, ' ');
        add_slice(&t->text, m->answers[i].text);
    }
}

static void *on_query(void *owner, const struct dns_message *m, const struct dns_transit *way)
{
    struct told *t = owner;

    tell_message(t, "query", m, way);
    buf_printf(&t->text, " = %u\n", (unsigned)++t->queries);
    return (void *)t->queries;
}

static void on_response(void *owner, const struct dns_message *m, const struct dns_transit *way,
                        const struct dns_exchange *e)
{
    struct told *t = owner;

    tell_message(t, "response", m, way);
    if (e)
        buf_printf(&t->text, " = %u %ums %u\n", (unsigned)(uintptr_t)e->kept, (unsigned)(e->duration_ns / MS),
                   e->transmissions);
    else
        buf_str(&t->text, " to nobody\n");
}

static void on_unanswered(void *owner, const struct dns_exchange *e, enum dns_end why)
{
    static const char *const words[] = {"timeout", "forgotten", "closed", "early"};

    buf_printf(&((struct told *)owner)->text, "%s = %u %ums %u\n", words[why], (unsigned)(uintptr_t)e->kept,
               (unsigned)(e->duration_ns / MS), e->transmissions);
}

static void on_note(void *owner, enum dns_note what, uint64_t count)
{
    struct told *t = owner;

    *(what == DNS_NOTE_LOST ? &t->lost : &t->malformed) += count;
}

static const struct dns_sink sink = {on_query, on_response, on_unanswered, on_note};

static char *finish(struct told *t)
{
    if (t->malformed)
        buf_printf(&t->text, "malformed %u\n", (unsigned)t->malformed);
    if (t->lost)
        buf_printf(&t->text, "lost %u\n", (unsigned)t->lost);
    return take_text(&t->text);
}

static void datagram(struct dns *d, enum proto_dir dir, uint64_t peer, const struct message *m, unsigned ms)
{
    dns_datagram(d, dir, peer, m->p, m->len, m->len, ms * MS);
}

static void expect_text(struct told *t, const char *want)
{
    char *got = finish(t);

    assert_string_equal(got, want);
    free(got);
}

static void test_pairs(void **state)
{
    struct told t = {0};
    struct dns *d = dns_new(&sink, &t, false, false);

    datagram(d, PROTO_TX, 0, query(1, "a.example", A), 1);
    datagram(d, PROTO_TX, 0, query(2, "a.example", AAAA), 2);
    datagram(d, PROTO_TX, 0, query(3, "b.example", A), 3);
    datagram(d, PROTO_TX, 0, query(1, "a.example", A), 6);           /* again */
    datagram(d, PROTO_TX, 0, answer(3, "b.example", "\1\1\1\1"), 9); /* the wrong way */
    datagram(d, PROTO_RX, 0, answer(3, "B.EXAMPLE", "\1\1\1\1"), 10);
    datagram(d, PROTO_RX, 0, answer(1, "a.example", "\2\2\2\2"), 11);
    datagram(d, PROTO_RX, 0, answer(1, "a.example", "\2\2\2\2"), 12); /* the answer to the other transmission */
    datagram(d, PROTO_RX, 0, answer(2, "a.example", "\2\2\2\2"), 13); /* asked for AAAA */
    datagram(d, PROTO_RX, 0, answer(9, "a.example", "\2\2\2\2"), 14);
    assert_int_equal(dns_sweep(d, 100 * MS, 1000 * MS), 1);
    assert_int_equal(dns_sweep(d, 1002 * MS, 1000 * MS), 0);
    datagram(d, PROTO_TX, 0, query(1, "a.example", A), 2000);
    dns_free(d, 2005 * MS);
    expect_text(&t, "query tx 1 a.example A = 1\n"
                    "query tx 2 a.example AAAA = 2\n"
                    "query tx 3 b.example A = 3\n"
                    "response tx 3 b.example A 1.1.1.1 to nobody\n"
                    "response rx 3 B.EXAMPLE A 1.1.1.1 = 3 7ms 1\n"
                    "response rx 1 a.example A 2.2.2.2 = 1 10ms 2\n"
                    "response rx 1 a.example A 2.2.2.2 to nobody\n"
                    "response rx 2 a.example A 2.2.2.2 to nobody\n"
                    "response rx 9 a.example A 2.2.2.2 to nobody\n"
                    "timeout = 2 1000ms 1\n"
                    "query tx 1 a.example A = 4\n"
                    "closed = 4 5ms 1\n");
}

/* Of two threads that send and receive, the one that receives may be the first to tell. */
static void test_early(void **state)
{
    struct told t = {0};
    struct dns *d = dns_new(&sink, &t, false, false);

    datagram(d, PROTO_RX, 0, answer(1, "a.example", "\1\1\1\1"), 10);
    datagram(d, PROTO_TX, 0, query(2, "a.example", A), 11); /* another one */
    datagram(d, PROTO_TX, 0, query(1, "A.example", A), 12);
    datagram(d, PROTO_TX, 0, query(1, "a.example", A), 13); /* that answer was for the one before */
    datagram(d, PROTO_RX, 0, answer(3, "c.example", "\1\1\1\1"), 14);
    datagram(d, PROTO_TX, 0, query(3, "c.example", A), 200); /* too late to be meant */
    assert_int_equal(dns_outstanding(d), 3);
    dns_free(d, 300 * MS);
    expect_text(&t, "response rx 1 a.example A 1.1.1.1 to nobody\n"
                    "query tx 2 a.example A = 1\n"
                    "query tx 1 A.example A = 2\n"
                    "early = 2 0ms 1\n"
                    "query tx 1 a.example A = 3\n"
                    "response rx 3 c.example A 1.1.1.1 to nobody\n"
                    "query tx 3 c.example A = 4\n"
                    "closed = 1 289ms 1\n"
                    "closed = 3 287ms 1\n"
                    "closed = 4 100ms 1\n");
}

/* A server's socket: the same number and question from several clients. */
static void test_server(void **state)
{
    struct told t = {0};
    struct dns *d = dns_new(&sink, &t, false, false);

    datagram(d, PROTO_RX, 11, query(1, "a", A), 1);
    datagram(d, PROTO_RX, 22, query(1, "a", A), 2);
    datagram(d, PROTO_TX, 22, answer(1, "a", "\1\1\1\1"), 3);
    datagram(d, PROTO_TX, 11, answer(1, "a", "\1\1\1\1"), 5);
    dns_free(d, 6 * MS);
    expect_text(&t, "query rx 1 a A = 1\nquery rx 1 a A = 2\n"
                    "response tx 1 a A 1.1.1.1 = 2 1ms 1\nresponse tx 1 a A 1.1.1.1 = 1 4ms 1\n");
}

static void test_multicast(void **state)
{
    struct told t = {0};
    struct dns *d = dns_new(&sink, &t, false, false);
    struct message m;

    datagram(d, PROTO_TX, 1, query(0, "h.local", A), 1);
    begin(&m, 0, MULTICAST, 0, 2, 0, 0);
    put_name(&m, "other.local");
    put16(&m, A);
    put16(&m, 0x8001);
    put32(&m, 120);
    put16(&m, 4);
    put_bytes(&m, "\1\1\1\1", 4);
    put_name(&m, "H.local");
    put16(&m, A);
    put16(&m, 0x8001);
    put32(&m, 120);
    put16(&m, 4);
    put_bytes(&m, "\2\2\2\2", 4);
    assert_true(dns_detect(m.p, m.len));
    datagram(d, PROTO_RX, 2, &m, 3);
    datagram(d, PROTO_RX, 2, &m, 4);
    dns_free(d, 5 * MS);
    expect_text(&t, "query tx 0 h.local A = 1\nresponse rx 0 1.1.1.1 2.2.2.2 = 1 2ms 1\n"
                    "response rx 0 1.1.1.1 2.2.2.2 to nobody\n");
}

/* A server that understands nothing answers with the header alone. */
static void test_header_only(void **state)
{
    struct told t = {0};
    struct dns *d = dns_new(&sink, &t, false, false);
    struct message m;

    datagram(d, PROTO_TX, 0, query(5, "a", A), 1);
    begin(&m, 5, RESPONSE | 1, 0, 0, 0, 0);
    datagram(d, PROTO_RX, 0, &m, 2);
    m.len = 11;
    datagram(d, PROTO_RX, 0, &m, 3);
    begin(&m, 6, QUERY, 0, 0, 0, 0);
    datagram(d, PROTO_TX, 0, &m, 4);
    dns_free(d, 5 * MS);
    expect_text(&t, "query tx 5 a A = 1\nresponse rx 5 = 1 1ms 1\nquery tx 6 = 2\nclosed = 2 1ms 1\nmalformed 1\n");
}

static void test_too_many(void **state)
{
    struct told t = {0};
    struct dns *d = dns_new(&sink, &t, false, false);

    for (unsigned i = 0; i < DNS_OUTSTANDING_MAX; i++)
        datagram(d, PROTO_TX, 0, query(i, "a", A), 1);
    buf_reset(&t.text);
    datagram(d, PROTO_TX, 0, query(60000, "a", A), 2);
    buf_cstr(&t.text);
    assert_string_equal(t.text.p, "query tx 60000 a A = 1025\nforgotten = 1 1ms 1\n");
    assert_int_equal(dns_sweep(d, 3 * MS, 0), 0);
    dns_free(d, 3 * MS);
    buf_free(&t.text);
}

/* A decoder without anything to call. */
static void test_no_sink(void **state)
{
    static const struct dns_sink none;
    struct dns *d = dns_new(&none, NULL, false, false);

    datagram(d, PROTO_TX, 0, query(1, "a", A), 1);
    datagram(d, PROTO_RX, 0, answer(1, "a", "\1\1\1\1"), 2);
    datagram(d, PROTO_TX, 0, query(1, "a", A), 3);
    dns_free(d, 5 * MS);
}

/* TCP --------------------------------------------------------------------- */

static bool joined;

static void feed_stream(void *d, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    dns_feed(d, dir, data, len, time_ns);
}

static char *run_stream(const struct passage *p, size_t n, size_t chunk, size_t cut)
{
    struct told t = {0};
    struct dns *d = dns_new(&sink, &t, true, joined);

    feed_all(p, n, chunk, cut, feed_stream, d);
    dns_free(d, (n + 1) * MS);
    return finish(&t);
}

static void add_framed(struct buf *b, const struct message *m)
{
    buf_char(b, (char)(m->len >> 8));
    buf_char(b, (char)m->len);
    buf_add(b, m->p, m->len);
}

static void test_stream(void **state)
{
    struct buf out = BUF_INIT, in = BUF_INIT;
    struct passage p[2];

    add_framed(&out, query(1, "a.example", A));
    add_framed(&out, query(2, "b.example", A));
    add_framed(&out, query(3, "c.example", TXT));
    add_framed(&in, answer(2, "b.example", "\2\2\2\2"));
    add_framed(&in, answer(1, "a.example", "\1\1\1\1"));
    buf_add(&in, "\0\x20xyz", 5);
    p[0] = (struct passage){PROTO_TX, out.p, out.len};
    p[1] = (struct passage){PROTO_RX, in.p, in.len};
    joined = false;
    expect_told(run_stream, p, 2,
                "query tx 1 a.example A = 1\nquery tx 2 b.example A = 2\nquery tx 3 c.example TXT = 3\n"
                "response rx 2 b.example A 2.2.2.2 = 2 1ms 1\nresponse rx 1 a.example A 1.1.1.1 = 1 1ms 1\n"
                "closed = 3 2ms 1\nlost 5\n");
    buf_free(&in);
    buf_free(&out);
}

static void test_stream_large(void **state)
{
    static struct message m;
    struct buf in = BUF_INIT;
    struct passage p;
    char *got;

    begin(&m, 1, RESPONSE, 1, 4000, 0, 0);
    question(&m, "a", A);
    for (unsigned i = 0; i < 4000; i++)
        record(&m, A, 5000 - i, "\1\2\3\4", 4);
    add_framed(&in, &m);
    add_framed(&in, answer(1, "z", "\1\1\1\1"));
    p = (struct passage){PROTO_RX, in.p, in.len};
    got = run_divided(run_stream, &p, 1);
    assert_non_null(strstr(got, "response rx 1 z A 1.1.1.1 to nobody\n"));
    free(got);
    buf_free(&in);
}

static void test_stream_gaps(void **state)
{
    struct buf a = BUF_INIT, b = BUF_INIT, c = BUF_INIT;
    struct passage p[5];

    add_framed(&a, query(1, "a.example", A));
    add_framed(&b, query(2, "b.example", A));
    add_framed(&c, query(3, "c.example", A));
    /* Inside a message: the next one is found by length. */
    p[0] = (struct passage){PROTO_TX, a.p, 10};
    p[1] = (struct passage){PROTO_TX, NULL, 5};
    p[2] = (struct passage){PROTO_TX, a.p + 15, a.len - 15};
    p[3] = (struct passage){PROTO_TX, b.p, b.len};
    expect_told(run_stream, p, 4, "query tx 2 b.example A = 1\nclosed = 1 1ms 1\nlost 29\n");
    /* Beyond it: by what looks like a message. */
    p[1].len = a.len - 10 + 7;
    p[2] = (struct passage){PROTO_TX, b.p + 7, b.len - 7};
    p[3] = (struct passage){PROTO_TX, c.p, c.len};
    expect_told(run_stream, p, 4, "query tx 3 c.example A = 1\nclosed = 1 1ms 1\nlost 58\n");
    /* Between two. */
    p[0].len = a.len;
    p[1].len = b.len;
    p[2] = (struct passage){PROTO_TX, c.p, c.len};
    expect_told(
        run_stream, p, 3,
        "query tx 1 a.example A = 1\nquery tx 3 c.example A = 2\nclosed = 1 3ms 1\nclosed = 2 1ms 1\nlost 29\n");
    /* Joined within a message, and one that is none at all. */
    joined = true;
    p[0] = (struct passage){PROTO_TX, a.p + 9, a.len - 9};
    p[1] = (struct passage){PROTO_TX, b.p, b.len};
    p[2] = (struct passage)TX("\0\3abc");
    p[3] = (struct passage){PROTO_TX, c.p, c.len};
    p[4] = (struct passage){PROTO_TX, c.p, 20};
    expect_told(run_stream, p, 5,
                "query tx 2 b.example A = 1\nquery tx 3 c.example A = 2\nclosed = 1 4ms 1\nclosed = 2 2ms 1\n"
                "malformed 1\nlost 40\n");
    joined = false;
    buf_free(&a);
    buf_free(&b);
    buf_free(&c);
}

static void test_detect(void **state)
{
    struct message m = *query(1, "www.example.com", A);
    struct buf framed = BUF_INIT;
    uint8_t zeros[64] = {0};

    assert_true(dns_detect(m.p, m.len));
    for (size_t i = 0; i < m.len; i++)
        assert_false(dns_detect(m.p, i));
    put8(&m, 0);
    assert_false(dns_detect(m.p, m.len)); /* something behind it */
    m.len--;
    m.p[2] |= 0x28; /* NOTIFY and others */
    assert_false(dns_detect(m.p, m.len));
    m = *query(1, "www.example.com", 60000);
    assert_true(dns_detect(m.p, m.len));
    m = *query(1, "www.example.com", 0);
    assert_false(dns_detect(m.p, m.len));
    m = *query(1, "www.example.com", OPT);
    assert_false(dns_detect(m.p, m.len));
    m = *query(1, "www.example.com", A);
    m.p[m.len - 1] = 7; /* a class that isn't used */
    assert_false(dns_detect(m.p, m.len));
    /* NBSTAT of NetBIOS has the number of SRV. */
    m = *query(1, "CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", SRV);
    assert_false(dns_detect(m.p, m.len));
    for (size_t i = 0; i <= sizeof(zeros); i++)
        assert_false(dns_detect(zeros, i));
    add_framed(&framed, query(0x4745, "www.example.com", A));
    for (size_t i = 0; i <= framed.len; i++)
        assert_int_equal(dns_detect_stream((uint8_t *)framed.p, i), i < framed.len ? -1 : 1);
    assert_int_equal(dns_detect_stream((const uint8_t *)"GET / HTTP/1.1\r\n", 16), 0);
    assert_int_equal(dns_detect_stream((const uint8_t *)"\0\xff"
                                                        "aaaaaaaaaaaaaaaa",
                                       18),
                     0);
    framed.p[1] = 20; /* the question would end behind the message */
    assert_int_equal(dns_detect_stream((uint8_t *)framed.p, framed.len), 0);
    buf_free(&framed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query),          cmocka_unit_test(test_names),
        cmocka_unit_test(test_longest_name),   cmocka_unit_test(test_answers),
        cmocka_unit_test(test_bad_data),       cmocka_unit_test(test_negative),
        cmocka_unit_test(test_multicast_bits), cmocka_unit_test(test_update),
        cmocka_unit_test(test_hostile_names),  cmocka_unit_test(test_pointer_chains),
        cmocka_unit_test(test_counts),         cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_pairs), cmocka_unit_test(test_early),          cmocka_unit_test(test_server),
        cmocka_unit_test(test_multicast),      cmocka_unit_test(test_header_only),
        cmocka_unit_test(test_too_many),       cmocka_unit_test(test_no_sink),
        cmocka_unit_test(test_stream),         cmocka_unit_test(test_stream_large),
        cmocka_unit_test(test_stream_gaps),    cmocka_unit_test(test_detect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
