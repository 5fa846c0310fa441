/* SPDX-License-Identifier: Apache-2.0 */
/* Records of TLS opened with candidates: what is told must be what was sealed, whatever the suite, the pieces, the order
 * in which keys come, and what is missing; and no wrong key ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "protocol/tls_open.h"

#define KEYS 4096

/* --- what is told --- */

struct told {
    struct tls_open_key keys[KEYS];
    bool used[KEYS];
    unsigned count, asked;
    struct buf text[PROTO_DIRS], both; /* in the order in which it was told */
    uint64_t gaps[PROTO_DIRS];
    unsigned missed[PROTO_DIRS], fitted;
};

static bool on_key(void *owner, uint64_t *at, struct tls_open_key *ret)
{
    struct told *t = owner;

    while (*at < t->count && t->used[*at])
        ++*at;
    if (*at >= t->count)
        return false;
    *ret = t->keys[(*at)++];
    t->asked++;
    return true;
}

static void on_fits(void *owner, uint64_t at)
{
    struct told *t = owner;

    assert_false(t->used[at - 1]);
    t->used[at - 1] = true;
    t->fitted++;
}

static void on_plain(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct told *t = owner;

    (void)time_ns;
    if (data) {
        buf_add(&t->text[dir], data, len);
        buf_add(&t->both, data, len);
    } else {
        t->gaps[dir] += len;
    }
}

static void on_missed(void *owner, enum proto_dir dir, uint64_t time_ns)
{
    (void)time_ns;
    ((struct told *)owner)->missed[dir]++;
}

static const struct tls_open_sink sink = {on_key, on_fits, on_plain, on_missed};

static struct told *told_new(void)
{
    struct told *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    return t;
}

static void told_free(struct told *t)
{
    buf_free(&t->text[0]);
    buf_free(&t->text[1]);
    buf_free(&t->both);
    free(t);
}

static void offer(struct told *t, const struct tls_open_key *k)
{
    assert_true(t->count < KEYS);
    t->keys[t->count++] = *k;
}

/* --- what is sealed --- */

static uint64_t random_state = 88172645463325252u;

static uint8_t random_byte(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint8_t)(random_state >> 24);
}

static struct tls_open_key random_key(unsigned len)
{
    struct tls_open_key k = {.len = (uint8_t)len};

    for (unsigned i = 0; i < len; i++)
        k.bytes[i] = random_byte();
    return k;
}

/* One direction under one key. */
struct sealer {
    struct tls_open_key key;
    uint8_t iv[12];
    uint64_t seq, explicit_from; /* explicit_from: 1.2, as OpenSSL has it */
    bool disguised;              /* 1.2: explicit nonces as rustls has them */
    bool tls12;
};

static struct sealer sealer(unsigned key_len, bool tls12)
{
    struct sealer s = {.key = random_key(key_len), .tls12 = tls12};

    for (unsigned i = 0; i < 12; i++)
        s.iv[i] = random_byte();
    for (unsigned i = 0; i < 8; i++)
        s.explicit_from = s.explicit_from << 8 | random_byte();
    return s;
}

static void put64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 8; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
}

static void seal(struct buf *b, struct sealer *s, uint8_t type, const void *data, size_t len, size_t padding)
{
    size_t inside = s->tls12 ? len : len + 1 + padding, body = inside + 16 + (s->tls12 ? 8 : 0);
    uint8_t head[5] = {s->tls12 ? type : 23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body}, aad[13], nonce[12];
    uint8_t *plain = calloc(1, inside + 32), *out = calloc(1, inside + 32);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n, aad_len = 5;

    memcpy(plain, data, len);
    memcpy(nonce, s->iv, 12);
    if (s->tls12) {
        put64(nonce + 4, s->disguised ? s->explicit_from ^ s->seq : s->explicit_from + s->seq);
        put64(aad, s->seq);
        memcpy(aad + 8, head, 3);
        aad[11] = (uint8_t)(len >> 8);
        aad[12] = (uint8_t)len;
        aad_len = 13;
    } else {
        uint8_t seq[8];

        plain[len] = type;
        put64(seq, s->seq);
        for (unsigned i = 0; i < 8; i++)
            nonce[4 + i] ^= seq[i];
        memcpy(aad, head, 5);
    }
    assert_true(EVP_EncryptInit_ex(c, s->key.len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm(), NULL, s->key.bytes, nonce));
    assert_true(EVP_EncryptUpdate(c, NULL, &n, aad, aad_len) && EVP_EncryptUpdate(c, out, &n, plain, (int)inside) &&
                EVP_EncryptFinal_ex(c, out + inside, &n) && EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, out + inside));
    EVP_CIPHER_CTX_free(c);
    buf_add(b, head, 5);
    if (s->tls12)
        buf_add(b, nonce + 4, 8);
    buf_add(b, out, inside + 16);
    free(plain);
    free(out);
    s->seq++;
}

static void clear(struct buf *b, uint8_t type, size_t len)
{
    uint8_t head[5] = {type, 3, 3, (uint8_t)(len >> 8), (uint8_t)len};

    buf_add(b, head, 5);
    for (size_t i = 0; i < len; i++)
        buf_char(b, (char)(i + 1));
}

static void feed(struct tls_open *o, enum proto_dir dir, const struct buf *b, size_t piece)
{
    for (size_t at = 0, n; at < b->len; at += n) {
        n = piece && piece < b->len - at ? piece : b->len - at;
        tls_open_feed(o, dir, (const uint8_t *)b->p + at, n, 1);
    }
}

static void expect_text(const struct told *t, enum proto_dir dir, const char *text)
{
    assert_int_equal(t->text[dir].len, strlen(text));
    assert_memory_equal(t->text[dir].p, text, strlen(text));
}

static const uint8_t finished[36] = {20, 0, 0, 32};

/* A server's direction: hello, flight, data; in 1.3 two keys, in 1.2 one. keys: 2 of each are used. */
static struct buf conversation(struct sealer keys[2], const char *text, size_t padding)
{
    struct buf b = BUF_INIT;

    clear(&b, 22, 90);
    clear(&b, 20, 1);
    seal(&b, &keys[0], 22, finished, sizeof(finished), padding);
    for (size_t i = 0; text[i]; i += 3)
        seal(&b, &keys[keys[0].tls12 ? 0 : 1], 23, text + i, strlen(text + i) < 3 ? strlen(text + i) : 3, padding);
    return b;
}

static const struct suite {
    uint16_t version, cipher;
    unsigned key_len;
} suites[] = {
    {0x304, 0x1301, 16}, {0x304, 0x1302, 32}, {0x303, 0xc02f, 16}, {0x303, 0xc030, 32}, {0x303, 0x9c, 16}, {0x303, 0xc02c, 32},
};

#define TEXT "GET / HTTP/1.1\r\nHost: here\r\n\r\n"

/* --- tests --- */

static void suites_and_pieces(void **state)
{
    static const size_t pieces[] = {0, 1, 7, 100}, paddings[] = {0, 1, 300};

    (void)state;
    for (size_t i = 0; i < sizeof(suites) / sizeof(*suites); i++)
        for (size_t k = 0; k < 4; k++)
            for (size_t pad = 0; pad < (suites[i].version == 0x304 ? 3 : 1); pad++) {
                bool tls12 = suites[i].version == 0x303;
                struct sealer keys[2] = {sealer(suites[i].key_len, tls12), sealer(suites[i].key_len, tls12)};
                struct buf b = conversation(keys, TEXT, paddings[pad]);
                struct told *t = told_new();
                struct tls_open *o = tls_open_new(&sink, t);

                for (unsigned n = 0; n < 20; n++) {
                    struct tls_open_key other = random_key(n % 2 ? 16 : 32);

                    offer(t, n == 7 ? &keys[1].key : n == 12 ? &keys[0].key : &other);
                }
                tls_open_agreed(o, suites[i].version, suites[i].cipher);
                feed(o, PROTO_RX, &b, pieces[k]);
                expect_text(t, PROTO_RX, TEXT);
                assert_int_equal(t->fitted, tls12 ? 1 : 2);
                assert_int_equal(tls_open_state(o), TLS_OPEN_READS);
                tls_open_free(o);
                buf_free(&b);
                told_free(t);
            }
}

/* Keys that come one by one behind all bytes; before the ServerHello was read nothing is tried. */
static void keys_later(void **state)
{
    struct sealer keys[2] = {sealer(16, false), sealer(16, false)};
    struct buf b = conversation(keys, TEXT, 0);
    struct told *t = told_new();
    struct tls_open *o = tls_open_new(&sink, t);

    (void)state;
    feed(o, PROTO_TX, &b, 0);
    tls_open_retry(o, false, 2);
    assert_int_equal(t->asked, 0);
    tls_open_agreed(o, 0x304, 0x1301);
    tls_open_retry(o, false, 3);
    expect_text(t, PROTO_TX, "");
    offer(t, &keys[0].key);
    tls_open_retry(o, false, 4);
    assert_int_equal(t->fitted, 1);
    tls_open_retry(o, false, 5);
    assert_int_equal(t->asked, 1); /* each is tried once on a record */
    expect_text(t, PROTO_TX, "");
    offer(t, &keys[1].key);
    tls_open_retry(o, false, 6);
    expect_text(t, PROTO_TX, TEXT);
    tls_open_free(o);
    buf_free(&b);
    told_free(t);
}

/* Two updates in each direction; both directions at once. */
static void key_updates(void **state)
{
    struct told *t = told_new();
    struct tls_open *o = tls_open_new(&sink, t);
    static const uint8_t update[5] = {24, 0, 0, 1, 0};

    (void)state;
    tls_open_agreed(o, 0x304, 0x1302);
    for (unsigned epoch = 0; epoch < 3; epoch++)
        for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++) {
            struct sealer s = sealer(32, false);
            struct buf b = BUF_INIT;

            seal(&b, &s, 23, "abc", 3, 0);
            seal(&b, &s, 23, "de", 2, 5);
            seal(&b, &s, 22, update, 5, 0);
            offer(t, &s.key);
            feed(o, dir, &b, 11);
            buf_free(&b);
        }
    expect_text(t, PROTO_RX, "abcdeabcdeabcde");
    expect_text(t, PROTO_TX, "abcdeabcdeabcde");
    assert_int_equal(t->fitted, 6);
    tls_open_free(o);
    told_free(t);
}

/* Bytes are missing: inside of a record, over the beginning of one, between two. */
static void gaps(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) { /* 1.3; 1.2 with explicit nonces as OpenSSL has them, and as rustls */
        size_t ends[11], from, to;
        struct sealer s = sealer(16, kind != 0), alike;
        struct buf b = BUF_INIT;

        s.disguised = kind == 2;
        alike = s;
        if (kind)
            clear(&b, 20, 1);
        ends[0] = b.len;
        for (unsigned i = 0; i < 10; i++) {
            char text[60];

            memset(text, 'a' + (int)i, sizeof(text));
            seal(&b, &alike, 23, text, sizeof(text), 0);
            ends[i + 1] = b.len;
        }
        for (from = ends[1]; from < ends[4]; from++)
            for (to = from + 1; to < ends[5]; to += 7) {
                struct told *t = told_new();
                struct tls_open *o = tls_open_new(&sink, t);
                size_t first = 0, last = 9; /* records that are hurt */

                offer(t, &s.key);
                tls_open_agreed(o, kind ? 0x303 : 0x304, kind ? 0xc02f : 0x1301);
                tls_open_feed(o, PROTO_RX, (const uint8_t *)b.p, from, 1);
                tls_open_feed(o, PROTO_RX, NULL, to - from, 1);
                tls_open_feed(o, PROTO_RX, (const uint8_t *)b.p + to, b.len - to, 1);
                while (ends[first + 1] <= from)
                    first++;
                while (ends[last] >= to)
                    last--;
                /* With its header the length of a record is known; without, those behind it are found. */
                assert_int_equal(t->text[PROTO_RX].len, 60 * (10 - (last - first + 1)));
                for (size_t i = 0, at = 0; i < 10; i++)
                    if (i < first || i > last)
                        for (size_t k = 0; k < 60; k++)
                            assert_int_equal(t->text[PROTO_RX].p[at++], 'a' + (int)i);
                if (first == last && from >= ends[first] + 5)
                    assert_int_equal(t->gaps[PROTO_RX], 60);
                else
                    assert_int_equal(t->missed[PROTO_RX], 1);
                tls_open_free(o);
                told_free(t);
            }
        buf_free(&b);
    }
}

/* Those of other connections, and of the other direction, are never taken; nor is a record that was changed. */
static void wrong_keys(void **state)
{
    struct sealer s = sealer(16, false);
    struct buf b = BUF_INIT;
    struct told *t = told_new();
    unsigned trials = 0;

    (void)state;
    seal(&b, &s, 23, "secret", 6, 0);
    for (unsigned round = 0; round < 10; round++) {
        struct tls_open *o = tls_open_new(&sink, t);

        t->count = 0;
        for (unsigned i = 0; i < 4000; i++, trials++) {
            struct tls_open_key k = random_key(16);

            offer(t, &k);
        }
        tls_open_agreed(o, 0x304, 0x1301);
        feed(o, PROTO_RX, &b, 0);
        assert_int_equal(t->fitted, 0);
        assert_int_equal(tls_open_state(o), TLS_OPEN_WAITS);
        tls_open_retry(o, false, 2 + TLS_OPEN_WAIT_NS);
        assert_false(tls_open_wants(o, PROTO_RX));
        tls_open_free(o);
    }
    assert_int_equal(t->asked, trials);
    t->count = 0;
    offer(t, &s.key);
    for (size_t i = 5; i < b.len; i++) {
        struct tls_open *o = tls_open_new(&sink, t);

        b.p[i] ^= 0x10;
        tls_open_agreed(o, 0x304, 0x1301);
        feed(o, PROTO_RX, &b, 0);
        assert_int_equal(t->fitted, 0);
        b.p[i] ^= 0x10;
        tls_open_free(o);
    }
    expect_text(t, PROTO_RX, "");
    buf_free(&b);
    told_free(t);
}

/* The same in large: TLS_OPEN_WRONG_KEYS of them, for all suites in turn; 48,000 unless that is set. */
static void many_wrong_keys(void **state)
{
    const char *set = getenv("TLS_OPEN_WRONG_KEYS");
    unsigned long all = set ? strtoul(set, NULL, 10) : 48000, trials = 0;
    struct told *t = told_new();

    (void)state;
    for (unsigned round = 0; trials < all; round++) {
        const struct suite *suite = &suites[round % (sizeof(suites) / sizeof(*suites))];
        struct sealer s = sealer(suite->key_len, suite->version == 0x303);
        struct tls_open *o = tls_open_new(&sink, t);
        struct buf b = BUF_INIT;

        if (s.tls12)
            clear(&b, 20, 1);
        seal(&b, &s, 23, "secret", 6, 0);
        for (t->count = 0; t->count < 4000; trials++) {
            struct tls_open_key k = random_key(suite->key_len);

            offer(t, &k);
        }
        t->asked = 0;
        tls_open_agreed(o, suite->version, suite->cipher);
        feed(o, PROTO_RX, &b, 0);
        assert_int_equal(t->asked, 4000);
        assert_int_equal(t->fitted, 0);
        tls_open_free(o);
        buf_free(&b);
    }
    expect_text(t, PROTO_RX, "");
    told_free(t);
}

static struct buf unhex(const char *text)
{
    struct buf b = BUF_INIT;
    unsigned byte;

    for (; sscanf(text, "%2x", &byte) == 1; text += 2)
        buf_char(&b, (char)byte);
    return b;
}

/* RFC 8448, section 3: application data of both sides, of which the server's is its second record under the key. */
static void published(void **state)
{
    static const struct {
        enum proto_dir dir;
        const char *key, *record;
    } sides[] = {
        {PROTO_TX, "17422dda596ed5d9acd890e3c63f5051",
         "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3d"
         "eae63aeebb21694915e4"},
        {PROTO_RX, "9f02283b6c9c07efc26bb9f2ac92e356",
         "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf3"
         "32540dd032e167c2955d"},
    };
    struct told *t = told_new();
    struct tls_open *o = tls_open_new(&sink, t);

    (void)state;
    tls_open_agreed(o, 0x304, 0x1301);
    for (unsigned i = 0; i < 2; i++) {
        struct buf record = unhex(sides[i].record), bytes = unhex(sides[i].key);
        struct tls_open_key key = {.len = 16};

        assert_int_equal(bytes.len, 16);
        memcpy(key.bytes, bytes.p, 16);
        offer(t, &key);
        feed(o, sides[i].dir, &record, 0);
        assert_int_equal(t->fitted, i + 1);
        assert_int_equal(t->text[sides[i].dir].len, 50);
        for (unsigned k = 0; k < 50; k++)
            assert_int_equal(t->text[sides[i].dir].p[k], k);
        buf_free(&record);
        buf_free(&bytes);
    }
    tls_open_free(o);
    told_free(t);
}

/* 1,000 candidates and one that fits; a hundred connections whose keys are all offered to all. */
static void many(void **state)
{
    enum { CONNECTIONS = 100 };
    struct told *t = told_new();
    struct tls_open *o[CONNECTIONS];
    struct sealer s[CONNECTIONS];

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        struct tls_open_key k = random_key(16);

        offer(t, &k);
    }
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        s[i] = sealer(16, false);
        offer(t, &s[i].key);
        o[i] = tls_open_new(&sink, t);
        tls_open_agreed(o[i], 0x304, 0x1301);
    }
    for (unsigned i = CONNECTIONS; i-- > 0;) {
        struct buf b = BUF_INIT;

        seal(&b, &s[i], 23, "x", 1, 0);
        feed(o[i], PROTO_TX, &b, 0);
        assert_int_equal(t->fitted, CONNECTIONS - i);
        assert_true(t->used[1000 + i]);
        tls_open_free(o[i]);
        buf_free(&b);
    }
    told_free(t);
}

static void bounds(void **state)
{
    struct sealer s = sealer(16, false);
    struct buf b = BUF_INIT;
    struct told *t = told_new();
    struct tls_open *o = tls_open_new(&sink, t);
    static char text[16384];

    (void)state;
    tls_open_agreed(o, 0x304, 0x1301);
    for (unsigned i = 0; i < 18; i++)
        seal(&b, &s, 23, text, sizeof(text), 0);
    feed(o, PROTO_RX, &b, 1000);
    assert_false(tls_open_wants(o, PROTO_RX));
    assert_true(tls_open_wants(o, PROTO_TX));
    tls_open_feed(o, PROTO_TX, (const uint8_t *)"SSH-2.0-", 8, 1); /* this is no TLS */
    assert_int_equal(tls_open_state(o), TLS_OPEN_NO_KEY);
    tls_open_free(o);
    o = tls_open_new(&sink, t);
    tls_open_agreed(o, 0x304, 0x1303);
    assert_int_equal(tls_open_state(o), TLS_OPEN_SUITE);
    tls_open_free(o);
    buf_free(&b);
    told_free(t);
}

/* --- joined half-way, and keys that come late --- */

static void search(struct tls_open *o)
{
    tls_open_mark(o);
    tls_open_leave(o, 2);
}

/* From each record on, whatever its number is, and before it the rest of another one: everything behind is told. */
static void joined(void **state)
{
    static const uint64_t numbers[] = {0, 1, 2, 5, 7, 127, 250, 4000, 65535, 16777210, UINT64_C(0xfffffff0)};

    (void)state;
    for (size_t i = 0; i < sizeof(suites) / sizeof(*suites); i++)
        for (size_t n = 0; n < sizeof(numbers) / sizeof(*numbers); n++)
            for (unsigned kind = 0; kind < 3; kind++) { /* of explicit nonces: the number, from anywhere on, disguised */
                bool tls12 = suites[i].version == 0x303, guessed = tls12 && kind, hopeless = guessed && numbers[n] > 4096 - 40;
                struct sealer s = sealer(suites[i].key_len, tls12);
                struct told *t = told_new();
                struct tls_open *o = tls_open_new(&sink, t);
                struct buf b = BUF_INIT;
                char text[41] = "";

                if (!tls12 && kind)
                    kind = 2; /* it has none */
                s.seq = numbers[n];
                s.disguised = kind == 2;
                if (!kind)
                    s.explicit_from = 0;
                for (unsigned k = 0; k < 20; k++) {
                    struct tls_open_key other = random_key(k % 2 ? 16 : 32);

                    offer(t, k == 13 ? &s.key : &other);
                }
                seal(&b, &s, 23, "before", 6, 0);
                if (n % 2) /* it began before */
                    memmove(b.p, b.p + 3, b.len -= 3);
                else
                    b.len = 0;
                for (unsigned k = 0; k < 40; k++) {
                    text[k] = (char)('a' + k % 26);
                    seal(&b, &s, 23, text + k, 1, k % 5);
                }
                tls_open_join(o);
                feed(o, PROTO_TX, &b, n % 3 ? 0 : 9);
                search(o);
                expect_text(t, PROTO_TX, hopeless ? "" : text);
                assert_int_equal(t->fitted, !hopeless);
                tls_open_free(o);
                buf_free(&b);
                told_free(t);
            }
}

/* Of one that was joined, too: a new key, and bytes that are missing. */
static void joined_goes_on(void **state)
{
    struct sealer s = sealer(32, false), next = sealer(32, false);
    struct told *t = told_new();
    struct tls_open *o = tls_open_new(&sink, t);
    struct buf b = BUF_INIT;
    size_t lost;

    (void)state;
    s.seq = 11;
    tls_open_join(o);
    offer(t, &s.key);
    for (unsigned i = 0; i < 5; i++)
        seal(&b, &s, 23, "abcde" + i, 1, 0);
    feed(o, PROTO_RX, &b, 0);
    lost = b.len / 5 + 2;
    tls_open_feed(o, PROTO_RX, NULL, lost, 1); /* one, and the beginning of another one */
    seal(&b, &s, 23, "-", 1, 0);
    seal(&b, &s, 23, "-", 1, 0);
    tls_open_feed(o, PROTO_RX, (uint8_t *)b.p + b.len / 7 * 6 + 2, b.len / 7 - 2, 1);
    b.len = 0;
    seal(&b, &s, 23, "fg", 2, 0);
    seal(&b, &s, 23, "hi", 2, 0);
    seal(&b, &next, 23, "jk", 2, 0);
    seal(&b, &next, 23, "lm", 2, 0);
    offer(t, &next.key);
    feed(o, PROTO_RX, &b, 0);
    expect_text(t, PROTO_RX, "abcdefghijklm");
    assert_int_equal(t->missed[PROTO_RX], 1);
    assert_int_equal(t->fitted, 2);
    tls_open_free(o);
    buf_free(&b);
    told_free(t);
}

/* Keys of the handshake are gone when keys are looked for: its records are left out, those that come meanwhile are not. */
static void late(void **state)
{
    for (unsigned version = 0; version < 2; version++) {
        bool tls12 = version == 1;
        struct sealer keys[2] = {sealer(16, tls12), sealer(16, tls12)};
        struct buf b = conversation(keys, TEXT, 0), more = BUF_INIT;
        struct told *t = told_new();
        struct tls_open *o = tls_open_new(&sink, t);

        (void)state;
        seal(&more, &keys[!tls12], 23, "more", 4, 0);
        tls_open_late(o);
        tls_open_agreed(o, tls12 ? 0x303 : 0x304, tls12 ? 0xc02f : 0x1301);
        assert_false(tls_open_mark(o));
        feed(o, PROTO_RX, &b, 0);
        expect_text(t, PROTO_RX, "");
        assert_true(tls_open_mark(o));
        feed(o, PROTO_RX, &more, 0);
        offer(t, &keys[!tls12].key);
        tls_open_leave(o, 2);
        expect_text(t, PROTO_RX, TEXT "more");
        if (!tls12) { /* what waits behind a search isn't touched by it */
            b.len = 0;
            seal(&b, &keys[0], 23, "again", 5, 0);
            feed(o, PROTO_RX, &b, 0);
            tls_open_leave(o, 2);
            offer(t, &keys[0].key);
            tls_open_retry(o, false, 3);
            expect_text(t, PROTO_RX, TEXT "moreagain");
        }
        tls_open_free(o);
        buf_free(&b);
        buf_free(&more);
        told_free(t);
    }
}

/* What waits in both directions is told in the order in which it came, however late the keys are, and which comes first. */
static void in_order(void **state)
{
    for (unsigned first = 0; first < 2; first++) {
        struct sealer s[PROTO_DIRS] = {sealer(16, false), sealer(16, false)};
        struct told *t = told_new();
        struct tls_open *o = tls_open_new(&sink, t);
        char text[2] = "a";

        (void)state;
        tls_open_agreed(o, 0x304, 0x1301);
        for (; *text <= 'z'; ++*text) {
            enum proto_dir dir = (*text / 3 + *text / 7) % 2;
            struct buf b = BUF_INIT;

            seal(&b, &s[dir], 23, text, 1, 0);
            feed(o, dir, &b, *text % 2 ? 0 : 8);
            buf_free(&b);
        }
        offer(t, &s[first].key);
        tls_open_retry(o, false, 2);
        offer(t, &s[!first].key);
        tls_open_retry(o, false, 3);
        assert_int_equal(t->both.len, 26);
        assert_memory_equal(t->both.p, "abcdefghijklmnopqrstuvwxyz", 26);
        tls_open_free(o);
        told_free(t);
    }
}

/* A direction whose key never comes keeps the other one waiting for seconds only. */
static void out_of_patience(void **state)
{
    struct sealer s[PROTO_DIRS] = {sealer(16, false), sealer(16, false)};
    struct told *t = told_new();
    struct tls_open *o = tls_open_new(&sink, t);

    (void)state;
    tls_open_agreed(o, 0x304, 0x1301);
    for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++) {
        struct buf b = BUF_INIT;

        seal(&b, &s[dir], 23, "x", 1, 0);
        feed(o, dir, &b, 0);
        buf_free(&b);
    }
    offer(t, &s[1].key);
    tls_open_retry(o, false, UINT64_C(1000000000));
    assert_int_equal(t->both.len, 0);
    tls_open_retry(o, false, UINT64_C(6000000000));
    assert_int_equal(t->both.len, 1);
    tls_open_free(o);
    told_free(t);
}

/* What waits is counted, and can be given up. */
static void given_up(void **state)
{
    struct sealer s = sealer(16, false);
    struct told *t = told_new();
    struct tls_open *o = tls_open_new(&sink, t);
    struct buf b = BUF_INIT;

    (void)state;
    seal(&b, &s, 23, "x", 1, 0);
    tls_open_agreed(o, 0x304, 0x1301);
    assert_int_equal(tls_open_waiting(o), 0);
    tls_open_feed(o, PROTO_RX, (const uint8_t *)b.p, 7, 1); /* a part of a record */
    assert_int_equal(tls_open_waiting(o), 0);
    tls_open_feed(o, PROTO_RX, (const uint8_t *)b.p + 7, b.len - 7, 1);
    assert_int_equal(tls_open_waiting(o), b.len);
    feed(o, PROTO_TX, &b, 0);
    assert_int_equal(tls_open_waiting(o), 2 * b.len);
    tls_open_give_up(o);
    assert_int_equal(tls_open_waiting(o), 0);
    assert_int_equal(tls_open_state(o), TLS_OPEN_NO_KEY);
    offer(t, &s.key);
    feed(o, PROTO_RX, &b, 0);
    tls_open_retry(o, true, 2);
    assert_int_equal(t->asked, 0);
    tls_open_free(o);
    buf_free(&b);
    told_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suites_and_pieces), cmocka_unit_test(keys_later), cmocka_unit_test(key_updates),
        cmocka_unit_test(gaps),              cmocka_unit_test(wrong_keys), cmocka_unit_test(many),
        cmocka_unit_test(bounds),            cmocka_unit_test(joined),     cmocka_unit_test(joined_goes_on),
        cmocka_unit_test(late),              cmocka_unit_test(in_order),   cmocka_unit_test(out_of_patience),
        cmocka_unit_test(many_wrong_keys),   cmocka_unit_test(published),  cmocka_unit_test(given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
