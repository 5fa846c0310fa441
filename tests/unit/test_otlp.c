/* SPDX-License-Identifier: Apache-2.0 */
/* What OTLP looks like: written here, read by pb_read.h, which knows the published numbers of fields only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "otlp/attribute.h"
#include "otlp/batch.h"
#include "otlp/pb.h"
#include "otlp/resource.h"
#include "pb_read.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static struct pb_msg all(const struct buf *b)
{
    return (struct pb_msg){(const uint8_t *)b->p, (const uint8_t *)b->p + b->len};
}

/* Every field of it can be read. */
static bool whole(struct pb_msg m)
{
    struct pb_field f;

    while (pb_read(&m, &f))
        ;
    return m.p == m.end;
}

static void numbers(void **state)
{
    static const uint64_t n[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, (uint64_t)INT64_MAX, UINT64_MAX};
    struct buf b = BUF_INIT;
    double d;

    for (size_t i = 0; i < COUNT(n); i++) {
        struct pb_msg m;
        struct pb_field f;

        buf_reset(&b);
        pb_uint(&b, 15, n[i]);
        assert_int_equal(b.len, 1 + pb_varint_len(n[i]));
        pb_uint(&b, 16, n[i]);
        pb_fixed64(&b, 1, n[i]);
        pb_fixed32(&b, 2, (uint32_t)n[i]);
        pb_sint(&b, 3, -(int64_t)(n[i] >> 1));
        m = all(&b);
        assert_true(pb_read(&m, &f) && f.number == 15 && f.type == 0 && f.n == n[i]);
        assert_true(pb_read(&m, &f) && f.number == 16 && f.type == 0 && f.n == n[i]);
        assert_true(pb_read(&m, &f) && f.number == 1 && f.type == 1 && f.n == n[i]);
        assert_true(pb_read(&m, &f) && f.number == 2 && f.type == 5 && f.n == (uint32_t)n[i]);
        assert_true(pb_read(&m, &f) && f.number == 3 && (int64_t)(f.n >> 1 ^ -(f.n & 1)) == -(int64_t)(n[i] >> 1));
        assert_true(m.p == m.end);
    }
    buf_reset(&b);
    pb_double(&b, 4, -0.1);
    d = 0;
    memcpy(&d, b.p + 1, sizeof(d));
    assert_true(b.len == 9 && d == -0.1);
    buf_free(&b);
}

static void messages_of_any_length(void **state)
{
    static const size_t len[] = {0, 1, 120, 123, 124, 125, 126, 127, 128, 129, 16376, 16384, 70000, 2097152};
    struct buf b = BUF_INIT, x = BUF_INIT;

    for (size_t i = 0; i < COUNT(len); i++) {
        size_t outer, inner;
        struct pb_msg m;

        buf_reset(&b);
        buf_reset(&x);
        memset(buf_room(&x, len[i] + 1), 'x', len[i] + 1);
        outer = pb_begin(&b, 1);
        inner = pb_begin(&b, 99);
        pb_bytes(&b, 1, x.p, len[i]);
        pb_end(&b, inner);
        pb_uint(&b, 2, 7);
        pb_end(&b, outer);
        pb_uint(&b, 3, 9);
        m = pb_sub(pb_sub(pb_sub(all(&b), 1, 0), 99, 0), 1, 0);
        assert_int_equal(m.end - m.p, len[i]);
        assert_memory_equal(m.p, x.p, len[i]);
        assert_int_equal(pb_number(pb_sub(all(&b), 1, 0), 2), 7);
        assert_int_equal(pb_number(all(&b), 3), 9);
        assert_true(whole(all(&b)));
    }
    buf_free(&b);
    buf_free(&x);
}

static void strings_are_always_utf8(void **state)
{
    static const struct {
        const char *in, *out;
    } t[] = {
        {"", ""},
        {"plain, and longer than eight", "plain, and longer than eight"},
        {"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"12345678\xff", "12345678\xef\xbf\xbd"},
        {"\xff""12345678", "\xef\xbf\xbd""12345678"},
        {"a\xe2\x82", "a\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
    };
    struct buf b = BUF_INIT;
    unsigned seed = 1;

    for (size_t i = 0; i < COUNT(t); i++) {
        buf_reset(&b);
        pb_str(&b, 1, t[i].in);
        assert_true(pb_is(pb_sub(all(&b), 1, 0), t[i].out));
    }
    for (size_t round = 0; round < 20000; round++) { /* any bytes, as many of them part of sequences */
        char text[48];
        size_t len = (size_t)rand_r(&seed) % sizeof(text), valid = 0;
        struct pb_msg m;
        bool same = true;

        for (size_t i = 0; i < len; i++)
            text[i] = (char)(rand_r(&seed) % 3 ? rand_r(&seed) % 256 : rand_r(&seed) % 2 ? 0x80 + rand_r(&seed) % 64 : 'a');
        buf_reset(&b);
        otlp_attr_text(&b, 1, "k", text, len);
        m = pb_sub(pb_sub(pb_sub(all(&b), 1, 0), 2, 0), 1, 0);
        assert_true(whole(all(&b)));
        for (const uint8_t *p = m.p; p < m.end;) {
            unsigned n = utf8_sequence((const char *)p, (size_t)(m.end - p));

            assert_true(n > 0);
            p += n;
        }
        while (valid < len && same) {
            unsigned n = utf8_sequence(text + valid, len - valid);

            same = n > 0;
            valid += n;
        }
        if (same) {
            assert_int_equal(m.end - m.p, len);
            assert_memory_equal(m.p, text, len);
        }
    }
    buf_free(&b);
}

static void values_have_their_types(void **state)
{
    static const char *const list[] = {"a", NULL, "\xff"};
    static const struct tm_field f[] = {
        {.type = TM_STR, .v.str = {"x\0y", 3}}, {.type = TM_INT, .v.i = -5}, {.type = TM_UINT, .v.u = UINT64_MAX},
        {.type = TM_NUM, .v.num = 1.5}, {.type = TM_BOOL, .v.b = false}, {.type = TM_STRLIST, .v.list = {list, 3}},
        {.type = TM_HUNDREDTHS, .v.i = -105}, {.type = TM_STR}, {.type = TM_WHO}, {.type = TM_UINT, .v.u = INT64_MAX},
    };
    static const double tenths = -1.05;
    struct buf b = BUF_INIT;
    struct pb_msg m, v;
    struct pb_field read;

    for (size_t i = 0; i < COUNT(f); i++) {
        char key[] = {(char)('0' + i), 0};

        otlp_attr_field(&b, 9, key, &f[i]);
    }
    m = all(&b);
    assert_true(whole(m));
    assert_int_equal(pb_count(m, 9), COUNT(f) - 1);
    v = pb_sub(pb_attribute(m, 9, "0", NULL), 1, 0);
    assert_true(v.end - v.p == 3 && memcmp(v.p, "x\0y", 3) == 0);
    assert_int_equal((int64_t)pb_number(pb_attribute(m, 9, "1", NULL), 3), -5);
    assert_true(pb_is(pb_sub(pb_attribute(m, 9, "2", NULL), 1, 0), "18446744073709551615"));
    assert_true(pb_find(pb_attribute(m, 9, "3", NULL), 4, 0, &read) && read.type == 1);
    assert_true(pb_find(pb_attribute(m, 9, "4", NULL), 2, 0, &read) && read.type == 0 && read.n == 0);
    v = pb_sub(pb_attribute(m, 9, "5", NULL), 5, 0);
    assert_int_equal(pb_count(v, 1), 2);
    assert_true(pb_is(pb_sub(pb_sub(v, 1, 1), 1, 0), "\xef\xbf\xbd"));
    assert_true(pb_find(pb_attribute(m, 9, "6", NULL), 4, 0, &read) && memcmp(&read.n, &tenths, 8) == 0);
    assert_true(pb_find(pb_attribute(m, 9, "7", NULL), 1, 0, &read) && read.type == 2 && read.n == 0);
    assert_true(pb_number(pb_attribute(m, 9, "9", NULL), 3) == INT64_MAX);
    buf_free(&b);
}

static void long_values_are_cut_between_characters(void **state)
{
    struct buf text = BUF_INIT, b = BUF_INIT;

    for (size_t shift = 0; shift < 3; shift++) {
        struct pb_msg v;

        buf_reset(&text);
        buf_reset(&b);
        for (size_t i = 0; i < shift; i++)
            buf_char(&text, 'x');
        while (text.len < OTLP_VALUE_MAX + 100)
            buf_str(&text, "\xe2\x82\xac");
        otlp_attr_text(&b, 1, "k", text.p, text.len);
        v = pb_sub(pb_sub(pb_sub(all(&b), 1, 0), 2, 0), 1, 0);
        assert_in_range(v.end - v.p, OTLP_VALUE_MAX - 2, OTLP_VALUE_MAX);
        assert_memory_equal(v.p, text.p, (size_t)(v.end - v.p));
    }
    buf_free(&text);
    buf_free(&b);
}

/* --- resources --- */

static const struct tm_process prog = {.pid = 42, .ppid = 7, .uid = 1000, .gid = 100, .username = "joe", .host = "h1",
                                       .proc = "prog", .cmd = "prog --password secret", .exe = "/usr/bin/prog-1.2",
                                       .cgroup = "0::/u", .machine_id = "0123456789abcdef0123456789abcdef",
                                       .uuid = "11111111-2222-4333-8444-555555555555"};

static struct pb_msg resource(const struct config *cfg, const struct tm_process *who, struct buf *b)
{
    struct otlp_common *c = otlp_common_new(cfg);

    buf_reset(b);
    otlp_resource(c, who, b);
    otlp_common_free(c);
    assert_true(whole(all(b)));
    assert_true(pb_is(pb_sub(all(b), 3, 0), OTLP_SCHEMA_URL));
    return pb_sub(all(b), 1, 0);
}

static void assert_text(struct pb_msg m, const char *key, const char *value)
{
    size_t n;
    struct pb_msg v = pb_sub(pb_attribute(m, 1, key, &n), 1, 0);

    if (n != (value ? 1 : 0) || (value && !pb_is(v, value)))
        fail_msg("%s is %.*s (%zu times), not %s", key, (int)(v.end - v.p), (const char *)v.p, n, value ? value : "missing");
}

static void resource_says_what_is_observed(void **state)
{
    static const struct config none;
    struct tm_process other = prog;
    struct buf b = BUF_INIT;
    struct pb_msg m = resource(&none, &prog, &b);

    assert_text(m, "service.name", "prog");
    assert_text(m, "service.instance.id", prog.uuid);
    assert_text(m, "host.name", "h1");
    assert_text(m, "host.id", prog.machine_id);
    assert_text(m, "os.type", "linux");
    assert_int_equal(pb_number(pb_attribute(m, 1, "process.pid", NULL), 3), 42);
    assert_int_equal(pb_number(pb_attribute(m, 1, "process.parent_pid", NULL), 3), 7);
    assert_text(m, "process.executable.name", "prog-1.2");
    assert_text(m, "process.executable.path", "/usr/bin/prog-1.2");
    assert_text(m, "process.owner", "joe");
    assert_text(m, "process.vpid", NULL);
    assert_text(m, "process.command_line", NULL); /* has secrets */
    assert_text(m, "process.command_args", NULL);
    assert_text(m, "telemetry.sdk.name", NULL);
    assert_text(m, "telemetry.distro.name", "appscope");
    assert_text(m, "container.id", NULL);
    assert_text(m, "k8s.pod.uid", NULL);

    other.host_pid = 4711;
    other.k8s_pod = "web-1";
    other.exe = "";
    strcpy(other.container, "deadbeef");
    other.cgroup = "0::/kubepods.slice/kubepods-burstable.slice/"
                   "kubepods-burstable-pod0f8a1b2c_1111_2222_3333_444455556666.slice/cri-containerd-deadbeef.scope";
    m = resource(&none, &other, &b);
    assert_int_equal(pb_number(pb_attribute(m, 1, "process.pid", NULL), 3), 4711);
    assert_int_equal(pb_number(pb_attribute(m, 1, "process.vpid", NULL), 3), 42);
    assert_text(m, "process.parent_pid", NULL);
    assert_text(m, "process.executable.name", "prog");
    assert_text(m, "process.executable.path", NULL);
    assert_text(m, "container.id", "deadbeef");
    assert_text(m, "k8s.pod.name", "web-1");
    assert_text(m, "k8s.pod.uid", "0f8a1b2c-1111-2222-3333-444455556666");
    other.cgroup = "0::/kubepods/besteffort/pod0f8a1b2c-1111-2222-3333-444455556667/deadbeef";
    assert_text(resource(&none, &other, &b), "k8s.pod.uid", "0f8a1b2c-1111-2222-3333-444455556667");
    other.cgroup = "0::/kubepods/besteffort/pod0f8a1b2c";
    assert_text(resource(&none, &other, &b), "k8s.pod.uid", NULL);
    buf_free(&b);
}

static void resource_has_each_key_once(void **state)
{
    static struct cfg_tag tags[] = {{"team", "blue"}, {"a", "tag"}, {"host.name", "h2"}};
    static struct cfg_tag attributes[] = {{"a", "attribute"}, {"service.name", "of the list"}};
    struct config cfg = {.tags = tags, .tag_count = COUNT(tags)};
    struct tm_process who = prog;
    struct buf b = BUF_INIT;
    struct pb_msg m;

    who.resource_attributes = "a=env, service.name = inside ,b=1%2C2%3d%e2%82%ac,service.version=,b=2,";
    m = resource(&cfg, &who, &b);
    assert_text(m, "service.name", "inside");
    assert_text(m, "a", "tag");
    assert_text(m, "b", "1,2=\xe2\x82\xac");
    assert_text(m, "service.version", "");
    assert_text(m, "team", "blue");
    assert_text(m, "host.name", "h2");
    who.service_name = "of the program";
    assert_text(resource(&cfg, &who, &b), "service.name", "of the program");
    cfg.otlp.resource = attributes;
    cfg.otlp.resource_count = COUNT(attributes);
    m = resource(&cfg, &who, &b);
    assert_text(m, "service.name", "of the list");
    assert_text(m, "a", "attribute");
    cfg.otlp.service_name = "of all";
    assert_text(resource(&cfg, &who, &b), "service.name", "of all");
    buf_free(&b);
}

static void wrong_environment_is_left_out(void **state)
{
    static const char *const wrong[] = {"good=1,bad", "good=1,=x", "good=1,x=%4", "good=1,x=%zz", "good=1,x=%00", "good=1, =y"};
    static const struct config none;
    struct tm_process who = prog;
    struct buf b = BUF_INIT, many = BUF_INIT;
    struct pb_msg m;

    for (size_t i = 0; i < COUNT(wrong); i++) {
        who.resource_attributes = wrong[i];
        assert_text(resource(&none, &who, &b), "good", NULL);
    }
    who.resource_attributes = "good=1,x=\xff,\xfe=y";
    m = resource(&none, &who, &b);
    assert_text(m, "x", "\xef\xbf\xbd");
    assert_text(m, "\xef\xbf\xbd", "y");
    for (size_t i = 0; i < 200; i++)
        buf_printf(&many, "k%zu=v,", i);
    who.resource_attributes = buf_cstr(&many);
    m = resource(&none, &who, &b);
    assert_int_equal(pb_count(m, 1), OTLP_ATTRIBUTES_MAX);
    assert_true(pb_number(m, 2) > 72);
    buf_free(&many);
    buf_free(&b);
}

/* --- batches --- */

static void batch_is_a_field_of_a_request(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 20000, 3000000};
    static const struct config none;
    struct otlp_common *c = otlp_common_new(&none);
    struct otlp_batch t = {.count = 0};

    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct pb_msg m, scope;
        const char *record;
        uint32_t count;
        size_t len;

        otlp_batch_begin(&t, c, &prog);
        for (size_t round = 0; round < 2; round++) {
            for (size_t k = 0; k < 3; k++) {
                size_t item = pb_begin(&t.b, OTLP_ITEM);

                pb_uint(&t.b, 1, k);
                for (size_t n = 0; n < sizes[i]; n += 4)
                    pb_uint(&t.b, 3, 16384);
                pb_end(&t.b, item);
                t.count++;
            }
            record = otlp_batch_record(&t, &len);
            memcpy(&count, record, sizeof(count));
            assert_int_equal(count, 3);
            m = (struct pb_msg){(const uint8_t *)record + 4, (const uint8_t *)record + len};
            assert_true(whole(m));
            assert_int_equal(pb_count(m, 1), 1);
            m = pb_sub(m, 1, 0);
            assert_true(whole(m));
            assert_text(pb_sub(m, 1, 0), "service.name", "prog");
            assert_true(pb_is(pb_sub(m, 3, 0), OTLP_SCHEMA_URL));
            scope = pb_sub(m, 2, 0);
            assert_true(whole(scope));
            assert_true(pb_is(pb_sub(pb_sub(scope, 1, 0), 1, 0), "appscope"));
            assert_true(pb_is(pb_sub(scope, 3, 0), OTLP_SCHEMA_URL));
            assert_int_equal(pb_count(scope, 2), 3);
            assert_int_equal(pb_number(pb_sub(scope, 2, 2), 1), 2);
            otlp_batch_reset(&t);
        }
    }
    otlp_batch_release(&t);
    otlp_common_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(messages_of_any_length),
        cmocka_unit_test(strings_are_always_utf8),
        cmocka_unit_test(values_have_their_types),
        cmocka_unit_test(long_values_are_cut_between_characters),
        cmocka_unit_test(resource_says_what_is_observed),
        cmocka_unit_test(resource_has_each_key_once),
        cmocka_unit_test(wrong_environment_is_left_out),
        cmocka_unit_test(batch_is_a_field_of_a_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
