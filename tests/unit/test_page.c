/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of others in a page, whatever they are. tests/report looks at pages as a browser does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "page/html.h"

static const char *text_of(struct html *h, const char *text)
{
    buf_reset(&h->out);
    html_text(h, text);
    return buf_cstr(&h->out);
}

static void test_texts(void **state)
{
    struct html h = {.out = BUF_INIT};
    char longest[5000];

    assert_string_equal(text_of(&h, "a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
    assert_string_equal(text_of(&h, NULL), "\u2013");
    assert_string_equal(text_of(&h, ""), "");
    assert_string_equal(text_of(&h, "\x1b\u202e\u2028\xff"), "\\x1b\\u202e\\u2028\uFFFD");
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    longest[sizeof(longest) - 2] = 'y';
    assert_in_range(strlen(text_of(&h, longest)), HTML_CUT, HTML_CUT + 3);
    assert_non_null(strstr(text_of(&h, longest), "\u2026"));
    assert_int_equal(h.out.p[h.out.len - 1], 'y'); /* of paths the end matters most */
    html_free(&h);
}

/* At whatever byte a text is cut, what is left is valid UTF-8, and no escape is cut. */
static void test_cuts(void **state)
{
    struct html h = {.out = BUF_INIT};
    struct buf text = BUF_INIT;

    for (int i = 0; i < 300; i++)
        buf_str(&text, "a\u00e4\u20ac\U0001f600<");
    for (size_t from = 0; from < 12; from++) {
        for (size_t most = 1; most < 40; most++) {
            json_t *string;

            buf_reset(&h.out);
            html_text_cut(&h, buf_cstr(&text) + from, most);
            for (size_t i = 0; i < h.out.len;) {
                unsigned n = utf8_sequence(h.out.p + i, h.out.len - i);

                assert_int_not_equal(n, 0);
                i += n;
            }
            assert_null(memchr(h.out.p, '<', h.out.len));
            buf_reset(&h.out);
            html_json(&h, buf_cstr(&text) + from, most);
            string = json_loadb(h.out.p, h.out.len, JSON_DECODE_ANY, NULL);
            assert_true(json_is_string(string));
            json_decref(string);
        }
    }
    buf_free(&text);
    html_free(&h);
}

static void test_json(void **state)
{
    static const char *const texts[] = {"</script><script>x", "<!--", "a&b", "\"\\\n\t\x01", "\u2028", "",
                                        "\U0001f600"};
    struct html h = {.out = BUF_INIT};

    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        json_t *string;

        buf_reset(&h.out);
        html_json(&h, texts[i], 100);
        assert_null(memchr(h.out.p, '<', h.out.len));
        assert_null(memchr(h.out.p, '&', h.out.len));
        string = json_loadb(h.out.p, h.out.len, JSON_DECODE_ANY, NULL);
        assert_string_equal(json_string_value(string), texts[i]);
        json_decref(string);
    }
    buf_reset(&h.out);
    html_json(&h, NULL, 100);
    assert_string_equal(buf_cstr(&h.out), "null");
    html_free(&h);
}

static void test_numbers(void **state)
{
    struct html h = {.out = BUF_INIT};
    char text[32];

    assert_string_equal(html_bytes(text, 0), "0 B");
    assert_string_equal(html_bytes(text, 999), "999 B");
    assert_string_equal(html_bytes(text, 1000), "1.00 kB");
    assert_string_equal(html_bytes(text, 99950), "100 kB");
    assert_string_equal(html_bytes(text, 999499), "999 kB");
    assert_string_equal(html_bytes(text, 999500), "1.00 MB");
    assert_string_equal(html_bytes(text, UINT64_MAX), "18.4 EB");
    assert_string_equal(html_duration(text, 999), "0 \u00b5s");
    assert_string_equal(html_duration(text, 12345678), "12.3 ms");
    assert_string_equal(html_duration(text, 61000000000u), "1 min 1 s");
    assert_string_equal(html_duration(text, UINT64_C(90000) * 1000000000u), "1 d 1 h");
    html_count(&h, 1234567);
    assert_string_equal(buf_cstr(&h.out), "1,234,567");
    html_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
