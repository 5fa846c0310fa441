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
#include "base/progname.h"

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

static void test_program_names(void **state)
{
    static const struct {
        const char *name, *exe, *comm, *argv;
        size_t len;
        bool title;
    } cases[] = {
#define ARGV(words) words, sizeof(words)
        {"curl", "/usr/bin/curl", "curl", ARGV("curl\0http://there/"), false},
        {"nginx", "/usr/sbin/nginx", "nginx", ARGV("nginx: master process nginx -c /etc/n.conf"), true},
        {"nginx", "/usr/sbin/nginx (deleted)", "nginx", ARGV("nginx: worker process"), true},
        {"php-fpm8.2", "/usr/sbin/php-fpm8.2", "php-fpm8.2", ARGV("php-fpm: master process (/etc/php/8.2/fpm.conf)"), true},
        {"sshd", "/usr/sbin/sshd", "sshd", ARGV("sshd: root@pts/0"), true},
        {"chromium", "/usr/lib/chromium/chromium", "exe", ARGV("/proc/self/exe\0--type=zygote"), false},
        {"chromium", "/usr/lib/chromium/chromium", "exe", ARGV("/usr/lib/chromium/chromium --type=renderer"), true},
        {"chromium", "/usr/lib/chromium/chromium", "Chrome_IOThread", ARGV("/usr/lib/chromium/chromium\0-x"), false},
        {"script.py", "/usr/bin/python3.11", "script.py", ARGV("/usr/bin/python3\0./script.py\0-v"), false},
        {"a-long-name-of-a-script", "/usr/bin/dash", "a-long-name-of-", ARGV("/bin/sh\0-e\0/x/a-long-name-of-a-script"), false},
        {"a-program-with-a-long-name", "/opt/a-program-with-a-long-name", "a-program-with-", ARGV("a-program-with-a-long-name"), false},
        {"python3", "/usr/bin/python3.11", "python3", ARGV("python3\0script.py"), false},
        {"sh", "/usr/bin/dash", "sh", ARGV("sh\0-c\0exit"), false},
        {"ls", "/bin/busybox", "ls", ARGV("/bin/ls\0-l"), false},
        {"ls", "/bin/busybox", "ls", ARGV("something else"), true},
        {"bash", "/usr/bin/bash", "bash", ARGV("-bash"), false},
        {"sh", "/usr/bin/dash", "sh", ARGV("-sh"), false},
        {"gunicorn", "/usr/bin/python3.11", "gunicorn: maste", ARGV("gunicorn: master [app]"), true},
        {"git-remote-https", "/usr/lib/git-core/git-remote-http", "git-remote-http", ARGV("/usr/lib/git-core/git-remote-https\0origin"), false},
        {"perl", "/usr/bin/perl", "my worker title", ARGV("my worker title"), true},
        {"node", "/usr/bin/node", "node-MainThread", ARGV("node\0/srv/app.js"), false},
        {"tool", "/memfd:tool (deleted)", "3", ARGV("tool\0x"), false},
        {"runc_cloned", "/memfd:runc_cloned:/proc/self/exe (deleted)", "exe", ARGV("runc\0init"), true},
        {"sleep", "/usr/bin/sleep", "sleep", ARGV("another-name\0" "9"), true},
        {"gone", "/usr/bin/gone", "", ARGV("gone\0x"), false},
        {"unknown", "", "unknown", ARGV(""), false},
        {"gone", "", "", ARGV("/x/gone"), false},
        {"", "", "", "", 0, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *name = program_name(cases[i].exe, cases[i].comm, cases[i].argv, cases[i].len);

        assert_string_equal(name, cases[i].name);
        if (program_has_title(name, cases[i].exe, cases[i].argv, cases[i].len) != cases[i].title)
            fail_msg("%s: %s", name, cases[i].title ? "its title isn't known as such" : "its command line is taken for a title");
        free(name);
    }
}

static void check_visible(const char *text, const char *want)
{
    struct buf b = BUF_INIT, json = BUF_INIT;
    json_t *j;

    buf_visible(&b, text, strlen(text));
    assert_string_equal(buf_cstr(&b), want);
    buf_reset(&b);
    buf_char(&json, '[');
    buf_json_str(&json, text);
    buf_char(&json, ']');
    buf_visible_json(&b, json.p, json.len); /* nothing is left for it */
    assert_int_equal(b.len, json.len);
    assert_memory_equal(b.p, json.p, b.len);
    j = json_loadb(b.p, b.len, 0, NULL);
    assert_string_equal(json_string_value(json_array_get(j, 0)), text);
    json_decref(j);
    buf_free(&b);
    buf_free(&json);
}

/* What a terminal acts on is shown, its neighbours stay. */
static void test_visible(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    check_visible("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    check_visible("a\nb\tc\rd\x1b[m\x7f\x01", "a\\nb\\tc\\x0dd\\x1b[m\\x7f\\x01");
    check_visible("\xc2\x80\xc2\x9f\xc2\xa0", "\\x80\\x9f\xc2\xa0");
    check_visible("\xd8\x9b\xd8\x9c\xd8\x9d", "\xd8\x9b\\u061c\xd8\x9d");
    check_visible("\xe2\x80\x8d\xe2\x80\x8e\xe2\x80\x8f\xe2\x80\x90", "\xe2\x80\x8d\\u200e\\u200f\xe2\x80\x90");
    check_visible("\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xae\xe2\x80\xaf", "\xe2\x80\xa7\\u2028\\u202e\xe2\x80\xaf");
    check_visible("\xe2\x81\xa5\xe2\x81\xa6\xe2\x81\xa9\xe2\x81\xaa", "\xe2\x81\xa5\\u2066\\u2069\xe2\x81\xaa");
    buf_visible(&b, "\x9b\xe2\x80", 3); /* no UTF-8, and a piece of some */
    assert_string_equal(buf_cstr(&b), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    buf_reset(&b);
    buf_visible_json(&b, "{\n\"a\":\"\xe2\x80\xae\"}", 12);
    assert_string_equal(buf_cstr(&b), "{\n\"a\":\"\\u202e\"}");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_json),
                                       cmocka_unit_test(test_program_names), cmocka_unit_test(test_visible)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
