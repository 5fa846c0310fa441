/* SPDX-License-Identifier: Apache-2.0 */
/* Expanded keys in memory: those that FIPS 197 has worked out are found wherever they lie, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "traffic/aes_schedule.h"

/* FIPS 197, appendix A.1 and A.3 */
static const uint32_t words128[44] = {
    0x2b7e1516, 0x28aed2a6, 0xabf71588, 0x09cf4f3c, 0xa0fafe17, 0x88542cb1, 0x23a33939, 0x2a6c7605, 0xf2c295f2, 0x7a96b943, 0x5935807a,
    0x7359f67f, 0x3d80477d, 0x4716fe3e, 0x1e237e44, 0x6d7a883b, 0xef44a541, 0xa8525b7f, 0xb671253b, 0xdb0bad00, 0xd4d1c6f8, 0x7c839d87,
    0xcaf2b8bc, 0x11f915bc, 0x6d88a37a, 0x110b3efd, 0xdbf98641, 0xca0093fd, 0x4e54f70e, 0x5f5fc9f3, 0x84a64fb2, 0x4ea6dc4f, 0xead27321,
    0xb58dbad2, 0x312bf560, 0x7f8d292f, 0xac7766f3, 0x19fadc21, 0x28d12941, 0x575c006e, 0xd014f9a8, 0xc9ee2589, 0xe13f0cc8, 0xb6630ca6,
};
static const uint32_t words256[60] = {
    0x603deb10, 0x15ca71be, 0x2b73aef0, 0x857d7781, 0x1f352c07, 0x3b6108d7, 0x2d9810a3, 0x0914dff4, 0x9ba35411, 0x8e6925af,
    0xa51a8b5f, 0x2067fcde, 0xa8b09c1a, 0x93d194cd, 0xbe49846e, 0xb75d5b9a, 0xd59aecb8, 0x5bf3c917, 0xfee94248, 0xde8ebe96,
    0xb5a9328a, 0x2678a647, 0x98312229, 0x2f6c79b3, 0x812c81ad, 0xdadf48ba, 0x24360af2, 0xfab8b464, 0x98c5bfc9, 0xbebd198e,
    0x268c3ba7, 0x09e04214, 0x68007bac, 0xb2df3316, 0x96e939e4, 0x6c518d80, 0xc814e204, 0x76a9fb8a, 0x5025c02d, 0x59c58239,
    0xde136967, 0x6ccc5a71, 0xfa256395, 0x9674ee15, 0x5886ca5d, 0x2e2f31d7, 0x7e0af1fa, 0x27cf73c3, 0x749c47ab, 0x18501dda,
    0xe2757e4f, 0x7401905a, 0xcafaaae3, 0xe4d59b34, 0x9adf6ace, 0xbd10190d, 0xfe4890d1, 0xe6188d0b, 0x046df344, 0x706c631e,
};

static void put(uint8_t *to, const uint32_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (unsigned k = 0; k < 4; k++)
            to[4 * i + k] = (uint8_t)(words[i] >> (24 - 8 * k));
}

struct seen {
    unsigned count;
    size_t len;
    uint8_t key[32];
};

static void on_key(void *ctx, const uint8_t *key, size_t len)
{
    struct seen *s = ctx;

    s->count++;
    s->len = len;
    memcpy(s->key, key, len);
}

static struct seen look(const uint8_t *p, size_t size)
{
    struct seen s = {0};

    aes_schedules(p, size, on_key, &s);
    return s;
}

static void published(void **state)
{
    static const struct {
        const uint32_t *words;
        size_t count, len;
    } kinds[] = {{words128, 44, 16}, {words256, 60, 32}};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        size_t bytes = 4 * kinds[i].count;
        uint8_t key[32];

        put(key, kinds[i].words, kinds[i].len / 4);
        for (size_t at = 0; at < 64; at++) {
            uint8_t *p = malloc(at + bytes); /* not a byte more */
            struct seen s;

            assert_non_null(p);
            memset(p, 0x5c, at);
            put(p + at, kinds[i].words, kinds[i].count);
            s = look(p, at + bytes);
            assert_int_equal(s.count, at % 4 == 0);
            if (s.count) {
                assert_int_equal(s.len, kinds[i].len);
                assert_memory_equal(s.key, key, s.len);
            }
            assert_int_equal(look(p, at + bytes - 1).count, 0);
            free(p);
        }
    }
}

/* One bit that differs, wherever it is. */
static void spoilt(void **state)
{
    uint8_t p[AES_SCHEDULE_MAX];

    (void)state;
    for (size_t bit = 0; bit < 8 * sizeof(p); bit++) {
        put(p, words256, 60);
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(look(p, sizeof(p)).count, 0);
        if (bit >= 8u * 176)
            continue;
        put(p, words128, 44);
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(look(p, 176).count, 0);
    }
}

static void nothing(void **state)
{
    size_t size = 1 << 20;
    uint8_t *p = malloc(size);
    uint64_t x = 88172645463325252u;

    (void)state;
    assert_non_null(p);
    for (unsigned fill = 0; fill < 256; fill++) {
        memset(p, (int)fill, 4096);
        assert_int_equal(look(p, 4096).count, 0);
    }
    for (size_t i = 0; i < size; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (uint8_t)(x >> 24);
    }
    assert_int_equal(look(p, size).count, 0);
    assert_int_equal(look(p, 0).count, 0);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(published), cmocka_unit_test(spoilt), cmocka_unit_test(nothing)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
