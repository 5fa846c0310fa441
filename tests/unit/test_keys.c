/* SPDX-License-Identifier: Apache-2.0 */
/* Keys on their way from a segment to the connections that they may belong to: each is given out until it is used, too
 * old or overwritten, and then it is nowhere any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/segment.h"
#include "traffic/tls_keys.h"

#define S UINT64_C(1000000000)

/* --- the table of a segment --- */

static struct segment_map map_new(void)
{
    struct segment_header *h = aligned_alloc(_Alignof(struct segment_header), sizeof(*h));

    assert_non_null(h);
    memset(h, 0, sizeof(*h));
    return (struct segment_map){.base = (uint8_t *)h, .fd = -1, .size = sizeof(*h)};
}

static struct segment_header *header(const struct segment_map *m)
{
    return (struct segment_header *)(void *)m->base;
}

/* What the probe does. */
static void put(const struct segment_map *m, uint8_t fill, bool complete)
{
    struct segment_header *h = header(m);
    uint64_t n = h->key_head++;
    struct seg_key *k = &h->key[n % SEG_KEYS];

    *k = (struct seg_key){.time = n, .caller = fill, .len = 32};
    memset(k->key, fill, sizeof(k->key));
    k->commit = complete ? n + 1 : 0;
}

struct taken {
    unsigned count;
    uint64_t first, last; /* numbers */
};

static void take(void *ctx, const struct seg_key *key)
{
    struct taken *t = ctx;

    assert_int_equal(key->key[0], key->caller);
    assert_int_equal(key->key[31], key->caller);
    if (!t->count++)
        t->first = key->time;
    t->last = key->time;
}

static void taken_out(void **state)
{
    struct segment_map m = map_new();
    struct taken t = {0};
    uint64_t next = 0;

    (void)state;
    assert_int_equal(segment_keys(&m, &next, take, &t), 0);
    put(&m, 7, true);
    put(&m, 8, true);
    put(&m, 9, false); /* it is being written */
    put(&m, 10, true);
    assert_int_equal(segment_keys(&m, &next, take, &t), 0);
    assert_int_equal(t.count, 2);
    assert_int_equal(next, 2);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < 32; k++)
            assert_int_equal(header(&m)->key[i].key[k], 0);
    header(&m)->key[2].commit = 3;
    assert_int_equal(segment_keys(&m, &next, take, &t), 0);
    assert_int_equal(t.count, 4);
    assert_int_equal(segment_keys(&m, &next, take, &t), 0);
    assert_int_equal(t.count, 4);
    free(m.base);
}

static void overwritten(void **state)
{
    struct segment_map m = map_new();
    struct taken t = {0};
    uint64_t next = 0;

    (void)state;
    for (unsigned i = 0; i < SEG_KEYS + 100; i++)
        put(&m, (uint8_t)i, i != SEG_KEYS / 4); /* one writer was interrupted for ever */
    assert_int_equal(segment_keys(&m, &next, take, &t), 100);
    assert_int_equal(t.count, SEG_KEYS - 1);
    assert_int_equal(t.first, 100);
    assert_int_equal(t.last, SEG_KEYS + 99);
    free(m.base);
}

/* Whoever can write to it says what he likes. */
static void lies(void **state)
{
    static const uint64_t heads[] = {UINT64_MAX, 0, UINT64_MAX - 1, 1, SEG_KEYS + 1, 5};
    struct segment_map m = map_new();
    struct taken t = {0};
    uint64_t next = 0;

    (void)state;
    for (unsigned i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        header(&m)->key_head = heads[i];
        segment_keys(&m, &next, take, &t);
        assert_true(next <= heads[i]);
    }
    assert_int_equal(t.count, 0);
    free(m.base);
}

/* --- candidates --- */

static void add(struct tls_keys *k, uint8_t fill, uint64_t caller, uint64_t time_ns)
{
    uint8_t bytes[32];

    memset(bytes, fill, sizeof(bytes));
    tls_keys_add(k, bytes, fill % 2 ? 16 : 32, caller, time_ns);
}

/* Those that are given out, as decimal numbers. */
static const char *given(struct tls_keys *k, uint64_t since_ns, bool all)
{
    static char text[256];
    struct tls_open_key key;
    size_t len = 0;

    *text = 0;
    for (uint64_t at = 0; tls_keys_next(k, since_ns, all, &at, &key) && len < sizeof(text) - 8;) {
        assert_int_equal(key.len, key.bytes[0] % 2 ? 16 : 32);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%d@%d ", key.bytes[0], (int)at);
    }
    return text;
}

static void candidates(void **state)
{
    struct tls_keys *k = tls_keys_new();

    (void)state;
    assert_non_null(k);
    add(k, 1, 100, 1 * S);
    add(k, 2, 200, 2 * S);
    add(k, 3, 100, 3 * S);
    tls_keys_add(k, (const uint8_t *)"123456789012345678901234", 24, 1, 3 * S); /* no key of these suites */
    assert_string_equal(given(k, 0, false), "1@1 2@2 3@3 ");
    assert_string_equal(given(k, 2 * S, false), "2@2 3@3 ");
    tls_keys_take(k, 2);
    assert_string_equal(given(k, 0, true), "1@1 3@3 ");
    assert_string_equal(given(k, 0, false), ""); /* others of this caller come first */
    add(k, 4, 200, 4 * S);
    assert_string_equal(given(k, 0, false), "4@4 ");
    assert_string_equal(given(k, 0, true), "1@1 3@3 4@4 ");
    tls_keys_take(k, 1);
    assert_string_equal(given(k, 0, false), "3@3 4@4 ");
    tls_keys_take(k, 99); /* there is none */
    assert_true(tls_keys_sweep(k, 3 * S + TLS_KEYS_NS));
    assert_string_equal(given(k, 0, true), "3@3 4@4 ");
    assert_true(tls_keys_sweep(k, 4 * S + TLS_KEYS_NS));
    assert_string_equal(given(k, 0, true), "4@4 ");
    assert_false(tls_keys_sweep(k, 5 * S + TLS_KEYS_NS));
    assert_string_equal(given(k, 0, true), "");
    tls_keys_free(k);
}

/* What was kept is nowhere in its memory any more. */
static void wiped(void **state)
{
    struct tls_keys *k = tls_keys_new();
    struct tls_open_key key;
    uint64_t at = 0;
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < TLS_KEYS_MAX + 10; i++)
        add(k, (uint8_t)(i < 10 ? 0xee : 0x11), 1, i < 10 ? 0 : S);
    while (tls_keys_next(k, 0, true, &at, &key))
        n += key.bytes[0] == 0x11;
    assert_int_equal(n, TLS_KEYS_MAX);
    tls_keys_take(k, 20);
    tls_keys_sweep(k, 2 * S + TLS_KEYS_NS);
    for (size_t i = 0; i < TLS_KEYS_MAX * (sizeof(key) + 16); i++) /* it has at least so many bytes */
        assert_true(((const uint8_t *)k)[i] != 0xee && ((const uint8_t *)k)[i] != 0x11);
    tls_keys_free(k);
}

/* However many connections ask: so many looks from one sweep to the next. */
static void bounded(void **state)
{
    struct tls_keys *k = tls_keys_new();
    struct tls_open_key key;
    unsigned looks = 0;

    (void)state;
    assert_non_null(k);
    for (uint8_t fill = 1; fill < 101; fill++)
        add(k, fill, 1, 2 * S);
    for (unsigned asks = 0; asks < 2 * TLS_KEYS_LOOKS / 100; asks++)
        for (uint64_t at = 0; tls_keys_next(k, 0, true, &at, &key);)
            looks++;
    assert_int_equal(looks, TLS_KEYS_LOOKS);
    tls_keys_sweep(k, 3 * S);
    assert_string_not_equal(given(k, 0, true), "");
    tls_keys_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taken_out),  cmocka_unit_test(overwritten), cmocka_unit_test(lies),
        cmocka_unit_test(candidates), cmocka_unit_test(bounded), cmocka_unit_test(wiped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
