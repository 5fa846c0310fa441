/* SPDX-License-Identifier: Apache-2.0 */
/* What is appended to buffers, against the C library's and jansson's opinion of it. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"

static void check_number(uint64_t v)
{
    struct buf b = BUF_INIT;
    char text[64];

    buf_uint(&b, v);
    snprintf(text, sizeof(text), "%" PRIu64, v);
    assert_string_equal(buf_cstr(&b), text);
    buf_reset(&b);
    buf_int(&b, (int64_t)v);
    snprintf(text, sizeof(text), "%" PRId64, (int64_t)v);
    assert_string_equal(buf_cstr(&b), text);
    buf_reset(&b);
    buf_time(&b, v);
    snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64, v / 1000000000, v / 1000 % 1000000);
    assert_string_equal(buf_cstr(&b), text);
    buf_free(&b);
}

static void test_numbers(void **state)
{
    (void)state;
    check_number(0);
    check_number(UINT64_MAX);
    for (unsigned bit = 0; bit < 64; bit++)
        for (int64_t d = -1; d <= 1; d++)
            check_number((UINT64_C(1) << bit) + (uint64_t)d);
    for (uint64_t p = 1, i = 0; i < 20; i++, p *= 10)
        for (int64_t d = -1; d <= 1; d++)
            check_number(p + (uint64_t)d);
}

/* Every byte at every place of a text of every length about the eight that are looked at together. */
static void test_json(void **state)
{
    struct buf b = BUF_INIT;
    char text[20];

    (void)state;
    for (size_t len = 1; len <= sizeof(text); len++) {
        for (size_t at = 0; at < len; at++) {
            for (int c = 0; c < 256; c++) {
                json_t *j;
                bool valid = c < 0x80;

                memset(text, 'x', sizeof(text));
                text[at] = (char)c;
                buf_reset(&b);
                buf_json(&b, text, len);
                j = json_loadb(b.p, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
                assert_non_null(j);
                if (valid) {
                    assert_int_equal(json_string_length(j), len);
                    assert_memory_equal(json_string_value(j), text, len);
                } else { /* U+FFFD in its place */
                    assert_int_equal(json_string_length(j), len + 2);
                    assert_memory_equal(json_string_value(j) + at, "\xef\xbf\xbd", 3);
                }
                json_decref(j);
            }
        }
    }
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_json)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
