/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC: what heads, trailers and bodies say about a call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/grpc.h"

static struct slice slice(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static void test_heads(void **state)
{
    static const struct {
        const char *type;
        bool is;
    } types[] = {
        {"application/grpc", true},      {"application/grpc+proto", true},
        {"Application/GRPC+json", true}, {"application/grpc;charset=utf-8", true},
        {"application/grpc-web", false}, {"application/grpc-web+proto", false},
        {"application/grpcx", false},    {"application/json", false},
        {"application/grp", false},      {"", false},
    };
    struct slice service, method;

    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
        const struct http_field f[] = {{slice("te"), slice("trailers")}, {slice("content-type"), slice(types[i].type)}};

        assert_int_equal(grpc_is(&(struct http_head){.fields = f, .field_count = 2}), types[i].is);
        assert_false(grpc_is(&(struct http_head){.fields = f, .field_count = 1}));
    }
    assert_true(grpc_call(slice("/helloworld.Greeter/SayHello"), &service, &method));
    assert_int_equal(service.len, strlen("helloworld.Greeter"));
    assert_memory_equal(service.p, "helloworld.Greeter", service.len);
    assert_int_equal(method.len, strlen("SayHello"));
    assert_memory_equal(method.p, "SayHello", method.len);
    assert_true(grpc_call(slice("/prefix/pkg.S/M"), &service, &method));
    assert_int_equal(service.len, strlen("prefix/pkg.S"));
    assert_int_equal(method.len, 1);
    assert_false(grpc_call(slice("/"), &service, &method));
    assert_false(grpc_call(slice("/S"), &service, &method));
    assert_false(grpc_call(slice("/S/"), &service, &method));
    assert_false(grpc_call(slice("//M"), &service, &method));
    assert_false(grpc_call(slice("S/M"), &service, &method));
    assert_false(grpc_call(slice(""), &service, &method));
    assert_false(grpc_call((struct slice){0}, &service, &method));
}

static uint64_t timeout_of(const char *value)
{
    const struct http_field f = {slice("grpc-timeout"), slice(value)};

    return grpc_timeout_ns(&f, 1);
}

static void test_fields(void **state)
{
    static const struct {
        const char *sent, *meant;
    } messages[] = {
        {"", ""},
        {"plain text", "plain text"},
        {"50%25 off", "50% off"},
        {"%e2%98%83", "\xe2\x98\x83"},
        {"%", "%"},
        {"%4", "%4"},
        {"%4g", "%4g"},
        {"%%41", "%A"},
        {"a%0Ab", "a\nb"},
    };
    struct http_field f = {slice("grpc-status"), slice("14")};
    struct buf b = BUF_INIT;

    assert_int_equal(timeout_of("1S"), 1000000000);
    assert_int_equal(timeout_of("100m"), 100000000);
    assert_int_equal(timeout_of("5u"), 5000);
    assert_int_equal(timeout_of("7n"), 7);
    assert_int_equal(timeout_of("2M"), UINT64_C(120000000000));
    assert_int_equal(timeout_of("1H"), UINT64_C(3600000000000));
    assert_true(timeout_of("99999999H") == UINT64_MAX);
    assert_int_equal(timeout_of("123456789S"), 0);
    assert_int_equal(timeout_of("S"), 0);
    assert_int_equal(timeout_of("1"), 0);
    assert_int_equal(timeout_of("-1S"), 0);
    assert_int_equal(timeout_of("1X"), 0);
    assert_int_equal(grpc_timeout_ns(NULL, 0), 0);

    assert_int_equal(grpc_status(&f, 1), 14);
    assert_int_equal(grpc_status(NULL, 0), -1);
    f.value = slice("x");
    assert_int_equal(grpc_status(&f, 1), -1);
    f.value = slice("");
    assert_int_equal(grpc_status(&f, 1), -1);
    f.value = slice("99999999999999999999");
    assert_int_equal(grpc_status(&f, 1), -1);
    assert_string_equal(grpc_status_text(0), "OK");
    assert_string_equal(grpc_status_text(4), "DEADLINE_EXCEEDED");
    assert_string_equal(grpc_status_text(16), "UNAUTHENTICATED");
    assert_null(grpc_status_text(17));
    assert_null(grpc_status_text(-1));

    assert_false(grpc_message(&f, 1, &b));
    f.name = slice("grpc-message");
    for (size_t i = 0; i < sizeof(messages) / sizeof(*messages); i++) {
        f.value = slice(messages[i].sent);
        buf_reset(&b);
        assert_true(grpc_message(&f, 1, &b));
        assert_string_equal(buf_cstr(&b), messages[i].meant);
    }
    f.value = (struct slice){"%41", 2}; /* what is behind it is not its */
    buf_reset(&b);
    assert_true(grpc_message(&f, 1, &b));
    assert_string_equal(buf_cstr(&b), "%4");
    buf_free(&b);
}

static void test_messages(void **state)
{
    static const uint8_t body[] = "\0\0\0\0\3abc"
                                  "\1\0\0\0\2zz"
                                  "\0\0\0\0\0"
                                  "\1\0\0\0\0"
                                  "\0\0\0\1\0";
    uint8_t all[sizeof(body) - 1 + 256] = {0};

    memcpy(all, body, sizeof(body) - 1);
    for (size_t cut = 0; cut <= sizeof(all); cut++) {
        struct grpc_messages m = {0};

        grpc_feed(&m, all, cut);
        if (cut == 8 || cut == 15)
            assert_true(grpc_between(&m));
        if (cut == 7 || cut == 9)
            assert_false(grpc_between(&m));
        grpc_feed(&m, all + cut, sizeof(all) - cut);
        assert_int_equal(m.count, 5);
        assert_int_equal(m.compressed, 2);
        assert_int_equal(m.bytes, 3 + 2 + 256);
        assert_true(grpc_between(&m));
    }
    for (size_t gap = 0; gap <= sizeof(all); gap++) { /* one byte isn't captured */
        struct grpc_messages m = {0};
        bool content = (gap >= 5 && gap < 8) || (gap >= 13 && gap < 15) || (gap >= 30 && gap < 286);

        grpc_feed(&m, all, gap);
        grpc_feed(&m, NULL, gap < sizeof(all));
        grpc_feed(&m, all + gap + 1, gap < sizeof(all) ? sizeof(all) - gap - 1 : 0);
        assert_int_equal(m.lost, !content && gap < sizeof(all));
        assert_int_equal(m.count == 5, !m.lost);
    }
    {
        struct grpc_messages m = {0};

        grpc_feed(&m, (const uint8_t *)"\2\0\0\0\0", 5);
        assert_true(m.lost);
        assert_int_equal(m.count, 0);
        assert_false(grpc_between(&m));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
