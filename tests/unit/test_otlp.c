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
#include "otlp/logs.h"
#include "otlp/pb.h"
#include "otlp/resource.h"
#include "otlp/severity.h"
#include "otlp/traces.h"
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

static void values_of_any_length(void **state)
{
    struct buf text = BUF_INIT, b = BUF_INIT;

    for (size_t len = 0; len < 300; len++) { /* any length is what it was */
        struct pb_msg v;

        buf_reset(&text);
        buf_reset(&b);
        for (size_t i = 0; i < len; i++)
            buf_char(&text, (char)('a' + i % 26));
        otlp_attr_text(&b, 17, "key", text.p, len);
        assert_true(whole(all(&b)) && whole(pb_sub(all(&b), 17, 0)));
        v = pb_sub(pb_attribute(all(&b), 17, "key", NULL), 1, 0);
        assert_true((size_t)(v.end - v.p) == len && (!len || memcmp(v.p, text.p, len) == 0));
    }
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

    who.resource_attributes = "a=env, service.name = inside ,b=2,b=1%2C2%3d%e2%82%ac,service.version=,";
    m = resource(&cfg, &who, &b);
    assert_text(m, "service.name", "inside");
    assert_text(m, "a", "tag");
    assert_text(m, "b", "1,2=\xe2\x82\xac"); /* the last one */
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

/* --- spans --- */

/* Short values of short names are written in another way than the others: both give the same bytes. */
static void short_attributes_are_like_others(void **state)
{
    static const size_t name_lens[] = {1, 7, 8, 15, 16, 31, 32, 33, 60, 109, 110, 200}, lens[] = {0, 1, 3, 4, 7, 8, 9, 16, 17, 49, 50, 200};
    static const uint64_t numbers[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX};
    char name[256], text[256];
    struct buf quick = BUF_INIT, slow = BUF_INIT;

    memset(name, 'n', sizeof(name));
    for (size_t i = 0; i < COUNT(name_lens); i++) {
        struct tm_field f[2 + COUNT(numbers) * 2 + COUNT(lens) * 2];
        size_t n = 0;

        name[name_lens[i]] = 0;
        memset(text, 't', sizeof(text));
        for (size_t k = 0; k < COUNT(numbers); k++) {
            f[n++] = (struct tm_field){.name = name, .type = TM_UINT, .v.u = numbers[k]};
            f[n++] = (struct tm_field){.name = name, .type = TM_INT, .v.u = numbers[k]};
        }
        for (size_t k = 0; k < COUNT(lens); k++) {
            f[n++] = (struct tm_field){.name = name, .type = TM_STR, .v.str = {text, lens[k]}};
            f[n++] = (struct tm_field){.name = name, .type = TM_STR, .v.str = {"\xc3\xa4\xff", lens[k] < 3 ? lens[k] : 3}};
        }
        f[n++] = (struct tm_field){.name = name, .type = TM_STR};
        f[n++] = (struct tm_field){.name = name, .type = TM_BOOL, .v.b = true};
        buf_reset(&quick);
        buf_reset(&slow);
        otlp_attr_fields(&slow, 9, f, n);
        for (size_t k = 0; k < n; k++)
            f[k].name_len = (uint8_t)name_lens[i];
        otlp_attr_fields(&quick, 9, f, n);
        assert_true(whole(all(&slow)));
        assert_int_equal(quick.len, slow.len);
        assert_memory_equal(quick.p, slow.p, slow.len);
        name[name_lens[i]] = 'n';
    }
    buf_free(&quick);
    buf_free(&slow);
}

/* What spans share is told of each of them, also if it is known already, or too long for that. */
static void shared_attributes_are_told(void **state)
{
    char longer[2000];
    const struct tm_field own[] = {{.name = "own", .type = TM_INT, .v.i = 7}};
    struct tm_field common[] = {{.name = "a", .name_len = 1, .type = TM_STR, .v.str = {"x", 1}},
                                {.name = "b", .name_len = 1, .type = TM_INT, .v.i = 80}};
    struct tm_shared shared = {.id = 5, .fields = common, .field_count = COUNT(common)};
    struct tm_span span = {.kind = TM_SPAN_SERVER, .fields = own, .field_count = COUNT(own), .shared = &shared};
    struct buf b = BUF_INIT;
    struct pb_msg m;

    memset(longer, 'l', sizeof(longer));
    for (unsigned i = 0; i < 6; i++) {
        shared.id = i < 2 ? 5 : i < 4 ? 5 + 512 : 6; /* the second one takes the first one's place */
        common[0].v.str.len = i < 2 ? 1 : i < 4 ? 2 : sizeof(longer);
        common[0].v.str.p = i < 2 ? "x" : i < 4 ? "yz" : longer;
        buf_reset(&b);
        otlp_span(&b, &span);
        assert_true(whole(all(&b)));
        m = pb_sub(all(&b), 2, 0);
        assert_int_equal(pb_count(m, 9), 3);
        assert_int_equal(pb_number(pb_attribute(m, 9, "own", NULL), 3), 7);
        assert_int_equal(pb_number(pb_attribute(m, 9, "b", NULL), 3), 80);
        m = pb_sub(pb_attribute(m, 9, "a", NULL), 1, 0);
        assert_int_equal(m.end - m.p, common[0].v.str.len);
        assert_memory_equal(m.p, common[0].v.str.p, common[0].v.str.len);
    }
    buf_free(&b);
}

static void span_has_all_that_is_known(void **state)
{
    static const struct tm_field f[] = {{.name = "http.request.method", .type = TM_STR, .v.str = {"GET", 3}},
                                        {.name = NULL, .type = TM_WHO},
                                        {.name = "http.response.status_code", .type = TM_INT, .v.i = 503}};
    struct tm_span span = {.kind = TM_SPAN_SERVER, .name = {"GET /a", 6}, .start_ns = 5, .end_ns = 9, .fields = f,
                           .field_count = COUNT(f), .status = TM_SPAN_ERROR, .status_text = {"why\xff", 4},
                           .state = {"a=b", 3}, .has_remote = true, .remote = true};
    struct buf b = BUF_INIT;
    struct pb_msg m;
    struct pb_field read;

    memset(span.id.trace_id, 1, 16);
    memset(span.id.span_id, 2, 8);
    memset(span.parent_id, 3, 8);
    span.id.flags = 1;
    otlp_span(&b, &span);
    assert_true(whole(all(&b)));
    m = pb_sub(all(&b), 2, 0);
    assert_true(whole(m));
    assert_true(m.end - m.p && pb_is(pb_sub(m, 1, 0), "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"));
    assert_true(pb_is(pb_sub(m, 2, 0), "\2\2\2\2\2\2\2\2"));
    assert_true(pb_is(pb_sub(m, 3, 0), "a=b"));
    assert_true(pb_is(pb_sub(m, 4, 0), "\3\3\3\3\3\3\3\3"));
    assert_true(pb_is(pb_sub(m, 5, 0), "GET /a"));
    assert_int_equal(pb_number(m, 6), 2);
    assert_true(pb_find(m, 7, 0, &read) && read.type == 1 && read.n == 5);
    assert_true(pb_find(m, 8, 0, &read) && read.type == 1 && read.n == 9);
    assert_int_equal(pb_count(m, 9), 2);
    assert_true(pb_is(pb_sub(pb_attribute(m, 9, "http.request.method", NULL), 1, 0), "GET"));
    assert_int_equal(pb_number(pb_attribute(m, 9, "http.response.status_code", NULL), 3), 503);
    assert_int_equal(pb_count(m, 10), 0);
    assert_true(pb_is(pb_sub(pb_sub(m, 15, 0), 2, 0), "why\xef\xbf\xbd"));
    assert_int_equal(pb_number(pb_sub(m, 15, 0), 3), 2);
    assert_true(pb_find(m, 16, 0, &read) && read.type == 5 && read.n == 0x301);

    memset(span.parent_id, 0, 8);
    span.has_remote = false;
    span.state.len = 0;
    span.status = TM_SPAN_UNSET;
    span.end_ns = 4; /* the clock was set */
    buf_reset(&b);
    otlp_span(&b, &span);
    m = pb_sub(all(&b), 2, 0);
    assert_int_equal(pb_count(m, 3) + pb_count(m, 4) + pb_count(m, 15), 0);
    assert_int_equal(pb_number(m, 8), 5);
    assert_int_equal(pb_number(m, 16), 1);
    span.has_remote = true;
    span.remote = false;
    buf_reset(&b);
    otlp_span(&b, &span);
    assert_int_equal(pb_number(pb_sub(all(&b), 2, 0), 16), 0x101);
    buf_free(&b);
}

static void attributes_are_bounded(void **state)
{
    struct tm_field f[OTLP_ATTRIBUTES_MAX + 5];
    char names[COUNT(f)][8];
    struct tm_span span = {.kind = TM_SPAN_CLIENT, .fields = f, .field_count = COUNT(f)};
    struct ev_record r = {.kind = EV_EVENT, .sourcetype = "net", .source = "net.open", .channel = 1, .fields = f,
                          .field_count = COUNT(f)};
    struct buf b = BUF_INIT;

    for (size_t i = 0; i < COUNT(f); i++) {
        snprintf(names[i], sizeof(names[i]), "a%zu", i);
        f[i] = (struct tm_field){.name = names[i], .type = TM_INT, .v.i = 1};
    }
    otlp_span(&b, &span);
    assert_int_equal(pb_count(pb_sub(all(&b), 2, 0), 9), OTLP_ATTRIBUTES_MAX);
    assert_int_equal(pb_number(pb_sub(all(&b), 2, 0), 10), 5);
    buf_reset(&b);
    otlp_log(&b, &r, 0);
    assert_int_equal(pb_count(pb_sub(all(&b), 2, 0), 6), OTLP_ATTRIBUTES_MAX);
    assert_int_equal(pb_number(pb_sub(all(&b), 2, 0), 7), 6);
    buf_free(&b);
}

/* --- severity --- */

static void severity_of_lines(void **state)
{
    static const struct {
        const char *line;
        unsigned number; /* 0: it states none */
        const char *text;
    } t[] = {
        /* log4j, logback, Spring, Python, Go, Rust, .NET, Ruby, Node */
        {"2026-11-30 07:00:00,123 ERROR [main] com.foo.Bar - it broke", 17, "ERROR"},
        {"07:00:00.123 [main] INFO  c.e.App - started", 9, "INFO"},
        {"2026-11-30T07:00:00.123Z  WARN 1234 --- [  restartedMain] o.s.b.App : hm", 13, "WARN"},
        {"2026-11-30 07:00:00,123 - my.module - CRITICAL - it broke", 18, "CRITICAL"},
        {"WARNING:root:disk is full", 13, "WARNING"},
        {"INFO:     Uvicorn running on http://127.0.0.1:8000", 9, "INFO"},
        {"2026-11-30 07:00:00.123 | DEBUG    | app:main:5 - x", 5, "DEBUG"},
        {"2026-11-30T07:00:00.123Z\tinfo\tcaller/file.go:12\tstarted", 9, "info"},
        {"[2026-11-30T07:00:00Z ERROR my_app] it broke", 17, "ERROR"},
        {"2026-11-30T07:00:00.123456Z TRACE my_app::part: x", 1, "TRACE"},
        {"7:00AM INF started", 9, "INF"},
        {"[07:00:00 WRN] slow", 13, "WRN"},
        {"fail: Microsoft.AspNetCore[13]", 17, "fail"},
        {"dbug: Program[0]", 5, "dbug"},
        {"I, [2026-11-30T07:00:00.123456 #42]  INFO -- : ready", 9, "INFO"},
        {"\x1b[32minfo\x1b[39m: listening", 9, "info"},
        {"\x1b[31mERROR\x1b[0m it broke", 17, "ERROR"},
        {"  error: unused variable", 17, "error"},
        {"fatal: not a git repository", 21, "fatal"},
        {"panic: runtime error: index out of range", 21, "panic"},
        {"ERROR", 17, "ERROR"},
        {"FATAL it broke", 21, "FATAL"},
        {"Error: Cannot find module 'x'", 17, "Error"},
        /* servers */
        {"2026/11/30 07:00:00 [error] 1234#1234: *1 open() failed", 17, "error"},
        {"[Fri Sep 09 10:42:29.902022 2026] [core:error] [pid 35708:tid 4328636416] x", 17, "error"},
        {"[Fri Sep 09 10:42:29.902022 2026] [mpm_event:notice] [pid 1] x", 10, "notice"},
        {"2026-11-30 07:00:00.123 UTC [123] FATAL:  no such role", 21, "FATAL"},
        {"2026-11-30T07:00:00.123456Z 0 [Warning] [MY-010068] [Server] CA is self signed", 13, "Warning"},
        {"[ERROR] it broke", 17, "ERROR"},
        {"[ warn ] hm", 13, "warn"},
        /* JSON */
        {"{\"level\":\"info\",\"msg\":\"x\"}", 9, "info"},
        {" { \"time\" : 1.5, \"a\":{\"level\":\"error\",\"b\":[1,{}]}, \"msg\":\"\\\"level\\\":\", \"severity\" : \"WARNING\" } ", 13, "WARNING"},
        {"{\"level\":30,\"time\":1700000000000}", 9, "info"},
        {"{\"name\":\"x\",\"level\":60}", 21, "fatal"},
        {"{\"log.level\":\"error\"}", 17, "error"},
        {"{\"level\":\"verbose\"}", 1, "verbose"},
        {"{\"level\":7}", 0, NULL},
        {"{\"level\":300}", 0, NULL},
        {"{\"level\":\"high\"}", 0, NULL},
        {"{\"level\":\"high\",\"severity\":\"ERROR\"}", 17, "ERROR"},
        {"{\"msg\":\"level\",\"x\":\"error\"}", 0, NULL},
        {"{\"a\":{\"level\":\"error\"}}", 0, NULL},
        {"{\"level\":\"error", 0, NULL},
        {"{\"level\"", 0, NULL},
        {"{\"a\":]]]],\"level\":\"error\"}", 0, NULL},
        {"{level: error}", 0, NULL},
        {"{", 0, NULL},
        /* logfmt */
        {"level=warn msg=hm", 13, "warn"},
        {"time=\"2026-11-30T07:00:00Z\" level=\"error\" msg=\"a level=info\"", 17, "error"},
        {"ts=2026-11-30T07:00:00Z caller=main.go:1 lvl=dbg", 0, NULL},
        {"ts=2026-11-30T07:00:00Z caller=main.go:1 lvl=debug", 5, "debug"},
        {"level=", 0, NULL},
        {"we run with level=error today", 0, NULL},
        {"msg=\"unfinished level=error", 0, NULL},
        /* syslog, sd-daemon */
        {"<11>Nov 30 07:00:00 host prog: it broke", 17, "err"},
        {"<34>1 2026-11-30T07:00:00Z host su - ID47 - x", 18, "crit"},
        {"<191>x", 5, "debug"},
        {"<0>x", 21, "emerg"},
        {"<192>x", 0, NULL},
        {"<011>x", 0, NULL},
        {"<1", 0, NULL},
        {"<b>error</b>", 0, NULL},
        /* glog, klog */
        {"E0102 15:04:05.678901    1234 file.go:12] it broke", 17, "ERROR"},
        {"W1231 23:59:59.000000 1 x.cc:1] hm", 13, "WARNING"},
        {"E1302 15:04:05.678901 1 x.go:1] no such month", 0, NULL},
        {"E0102 is not a time", 0, NULL},
        {"E01", 0, NULL},
        /* none of these states a level */
        {"", 0, NULL},
        {"   ", 0, NULL},
        {"an error occurred", 0, NULL},
        {"Error in line 5: x", 0, NULL},
        {"error", 0, NULL},
        {"error rates are up", 0, NULL},
        {"2026-11-30 error rates are up", 0, NULL},
        {"2026-11-30 07:00:00 the ERROR is gone", 0, NULL},
        {"errors: 0", 0, NULL},
        {"ERRORS found: 5", 0, NULL},
        {"ERROR_COUNT 5", 0, NULL},
        {"no warnings", 0, NULL},
        {"DEBUG=true node app.js", 0, NULL},
        {"FAIL: test_x", 0, NULL},
        {"inf: 5", 0, NULL},
        {"GET /error HTTP/1.1", 0, NULL},
        {"127.0.0.1 - - [30/Nov/2026:07:00:00 +0000] \"GET /error HTTP/1.1\" 200 5", 0, NULL},
        {"5 errors, 3 warnings", 0, NULL},
        {"[see error] x", 0, NULL},
        {"[unfinished error", 0, NULL},
        {"| error | 5 |", 0, NULL},
        {"foo.c:12:5: something", 0, NULL},
        {"information wants to be free", 0, NULL},
        {"- - - - - - - - - - - - - - - - ERROR", 0, NULL},
    };

    for (size_t i = 0; i < COUNT(t); i++) {
        size_t len = strlen(t[i].line);
        char *copy = malloc(len); /* as long as it is, for a sanitizer */
        unsigned number = 0;
        struct tm_str text = {0};
        bool is = len && (memcpy(copy, t[i].line, len), otlp_severity(copy, len, &number, &text));

        if (is != (t[i].number > 0) || (is && (number != t[i].number || text.len != strlen(t[i].text) || memcmp(text.p, t[i].text, text.len) != 0)))
            fail_msg("%s: %u %.*s", t[i].line, number, (int)text.len, text.p ? text.p : "");
        free(copy);
    }
}

/* Pieces of what is looked for, in any order: nothing is read that isn't there. */
static void severity_of_anything(void **state)
{
    static const char *const pieces[] = {"{", "}", "\"", "level", ":", "\"level\":", "error", "ERROR", "[", "]", "<", "3", ">", "=",
                                         " ", "\t", "|", "\x1b[3", "1m", "\x1b", "E0102 15:04", ":05", ",", "\\", "2026", "-", "(", ")",
                                         "WARN", "30", "Mon", "AM"};
    unsigned seed = 7;

    for (size_t round = 0; round < 50000; round++) {
        char text[256], *copy;
        size_t len = 0;
        unsigned number;
        struct tm_str level;

        for (size_t n = (size_t)rand_r(&seed) % 12; n; n--) {
            const char *p = pieces[(size_t)rand_r(&seed) % COUNT(pieces)];

            memcpy(text + len, p, strlen(p));
            len += strlen(p);
        }
        copy = malloc(len + 1);
        memcpy(copy, text, len);
        copy[len] = 'E'; /* not part of it */
        if (otlp_severity(copy, len, &number, &level)) {
            assert_in_range(number, 1, 24);
            assert_true(level.len > 0 && (level.p < copy || level.p > copy + len || level.p + level.len <= copy + len));
        }
        free(copy);
    }
}

/* --- log records --- */

static struct pb_msg log_of(struct buf *b, const struct ev_record *r)
{
    struct pb_msg m;

    buf_reset(b);
    otlp_log(b, r, 100);
    assert_true(whole(all(b)));
    m = pb_sub(all(b), 2, 0);
    assert_true(whole(m));
    return m;
}

static void assert_attribute(struct pb_msg m, const char *key, const char *value)
{
    size_t n;
    struct pb_msg v = pb_sub(pb_attribute(m, 6, key, &n), 1, 0);

    if (n != 1 || !pb_is(v, value))
        fail_msg("%s is %.*s (%zu times), not %s", key, (int)(v.end - v.p), (const char *)v.p, n, value);
}

static void lines_are_bodies(void **state)
{
    static const struct tm_field f = {.name = "message", .type = TM_STR, .v.str = {"[error] a\0b\xff", 12}};
    static const struct tm_context trace = {{1, 2}, {3}, 1};
    struct ev_record r = {.kind = EV_EVENT, .who = &prog, .time_ns = 50, .sourcetype = "console", .source = "stderr",
                          .channel = 5, .fields = &f, .field_count = 1, .trace = &trace};
    struct buf b = BUF_INIT;
    struct pb_msg m = log_of(&b, &r), body;

    assert_int_equal(pb_number(m, 1), 50);
    assert_int_equal(pb_number(m, 11), 100);
    assert_int_equal(pb_number(m, 2), 17);
    assert_true(pb_is(pb_sub(m, 3, 0), "error"));
    body = pb_sub(pb_sub(m, 5, 0), 1, 0);
    assert_true(body.end - body.p == 14 && memcmp(body.p, "[error] a\0b\xef\xbf\xbd", 14) == 0);
    assert_attribute(m, "log.iostream", "stderr");
    assert_int_equal(pb_number(pb_attribute(m, 6, "appscope.channel", NULL), 3), 5);
    assert_int_equal(pb_number(m, 8), 1);
    assert_true(pb_sub(m, 9, 0).end - pb_sub(m, 9, 0).p == 16 && memcmp(pb_sub(m, 9, 0).p, trace.trace_id, 16) == 0);
    assert_true(pb_sub(m, 10, 0).end - pb_sub(m, 10, 0).p == 8 && memcmp(pb_sub(m, 10, 0).p, trace.span_id, 8) == 0);
    assert_int_equal(pb_count(m, 12), 0);
    r.sourcetype = "file";
    r.source = "/var/log/x.log";
    r.trace = NULL;
    r.time_ns = 200;
    m = log_of(&b, &r);
    assert_attribute(m, "log.file.path", "/var/log/x.log");
    assert_attribute(m, "log.file.name", "x.log");
    assert_int_equal(pb_count(m, 8) + pb_count(m, 9) + pb_count(m, 10), 0);
    assert_int_equal(pb_number(m, 11), 200); /* never before it happened */
    buf_free(&b);
}

static void events_have_names_of_the_conventions(void **state)
{
#define TEXT(field, text) {.name = field, .type = TM_STR, .v.str = {text, sizeof(text) - 1}}
#define UINT(field, n)    {.name = field, .type = TM_UINT, .v.u = n}
    static const struct tm_field fs[] = {{.name = "proc", .type = TM_WHO}, TEXT("file", "/a"), UINT("file_perms", 644), UINT("file_owner", 0),
                                         TEXT("op", "openat"), {.name = "proc_uid", .type = TM_OWNER}, UINT("pid", 42)},
        http[] = {TEXT("http_method", "BREW"), TEXT("http_target", "http://u:p@h/a?b=c&token=x"), TEXT("http_flavor", "2.0"), TEXT("file", "x"),
                  TEXT("net_transport", "IP.TCP"), TEXT("rpc_service", "a.B"), TEXT("rpc_method", "C"),
                  UINT("rpc_grpc_status_code", 14), UINT("http_status_code", 200)},
        notice[] = {TEXT("rule", "notice.exec.writable"), TEXT("why", "odd"), TEXT("file", "/b")};
    static const char *const frames[] = {"main+0x5", "_start"};
    static const struct tm_field crash[] = {TEXT("signal", "SIGSEGV"), UINT("signo", 11), TEXT("code", "SEGV_MAPERR: not mapped"),
                                            TEXT("where", "NULL + 0x18"), TEXT("at", "main+0x5 in prog"),
                                            {.name = "frames", .type = TM_STRLIST, .v.list = {frames, 2}}};
    struct ev_record r = {.kind = EV_EVENT, .who = &prog, .time_ns = 1, .sourcetype = "fs", .source = "fs.open", .fields = fs,
                          .field_count = COUNT(fs)};
    struct buf b = BUF_INIT;
    struct pb_msg m = log_of(&b, &r);

    assert_true(pb_is(pb_sub(m, 12, 0), "fs.open"));
    assert_int_equal(pb_count(m, 2) + pb_count(m, 5), 0);
    assert_attribute(m, "file.path", "/a");
    assert_attribute(m, "file.mode", "0644");
    assert_attribute(m, "file.owner.id", "0");
    assert_attribute(m, "appscope.op", "openat");
    assert_int_equal(pb_count(m, 6), 4);

    r.sourcetype = "http";
    r.source = "http.resp";
    r.fields = http;
    r.field_count = COUNT(http);
    m = log_of(&b, &r);
    assert_attribute(m, "http.request.method", "_OTHER");
    assert_attribute(m, "http.request.method_original", "BREW");
    assert_attribute(m, "url.path", "/a");
    assert_attribute(m, "url.query", "b=c&token=REDACTED");
    assert_attribute(m, "network.protocol.version", "2");
    assert_attribute(m, "network.transport", "tcp");
    assert_attribute(m, "rpc.method", "a.B/C");
    assert_attribute(m, "rpc.status_code", "UNAVAILABLE");
    assert_attribute(m, "appscope.file", "x"); /* a field of the head */
    assert_int_equal(pb_number(pb_attribute(m, 6, "http.response.status_code", NULL), 3), 200);
    assert_int_equal(pb_count(m, 6), 10);

    r.sourcetype = "notice";
    r.source = "notice.exec";
    r.fields = notice;
    r.field_count = COUNT(notice);
    m = log_of(&b, &r);
    assert_int_equal(pb_number(m, 2), 13);
    assert_true(pb_is(pb_sub(pb_sub(m, 5, 0), 1, 0), "odd"));
    assert_attribute(m, "appscope.rule", "notice.exec.writable");
    assert_int_equal(pb_count(m, 6), 2);

    r.sourcetype = "process";
    r.source = "proc.crash";
    r.fields = crash;
    r.field_count = COUNT(crash);
    m = log_of(&b, &r);
    assert_int_equal(pb_number(m, 2), 21);
    assert_attribute(m, "exception.type", "SIGSEGV");
    assert_attribute(m, "exception.message", "SEGV_MAPERR: not mapped: NULL + 0x18; main+0x5 in prog");
    assert_attribute(m, "exception.stacktrace", "main+0x5\n_start");
    assert_int_equal(pb_number(pb_attribute(m, 6, "appscope.signo", NULL), 3), 11);

    r = (struct ev_record){.kind = EV_NOTICE, .who = &prog, .sourcetype = "metric", .source = "notice", .text = "lost", .text_len = 4};
    m = log_of(&b, &r);
    assert_int_equal(pb_number(m, 2), 13);
    assert_true(pb_is(pb_sub(pb_sub(m, 5, 0), 1, 0), "lost"));
    assert_true(pb_is(pb_sub(m, 12, 0), "notice"));
    buf_free(&b);
}

static void each_source_is_told_when_it_is_asked_for(void **state)
{
    static const char *const sourcetypes[CFG_EW_MAX] = {
        [CFG_EW_FILE] = "file", [CFG_EW_CONSOLE] = "console", [CFG_EW_METRIC] = "metric", [CFG_EW_HTTP] = "http", [CFG_EW_NET] = "net",
        [CFG_EW_FS] = "fs", [CFG_EW_DNS] = "dns", [CFG_EW_PROCESS] = "process", [CFG_EW_SYSCALL] = "syscall", [CFG_EW_NOTICE] = "notice"};

    for (size_t i = 0; i < CFG_EW_MAX; i++) {
        struct ev_record r = {.kind = EV_EVENT, .sourcetype = sourcetypes[i], .source = "x"};
        struct cfg_otlp cfg = {.interval_ms = 1};

        if (!sourcetypes[i])
            continue;
        assert_false(otlp_log_wanted(&cfg, &r));
        cfg.log_events[i] = true;
        assert_true(otlp_log_wanted(&cfg, &r));
        memset(cfg.log_events, 1, sizeof(cfg.log_events));
        cfg.log_events[i] = false;
        assert_false(otlp_log_wanted(&cfg, &r));
        r.source = "proc.crash";
        cfg.log_crashes = true;
        assert_int_equal(otlp_log_wanted(&cfg, &r), i == CFG_EW_PROCESS);
        r = (struct ev_record){.kind = EV_NOTICE, .sourcetype = "metric", .source = "notice"};
        assert_int_equal(otlp_log_wanted(&cfg, &r), i != CFG_EW_NOTICE);
        r.kind = EV_METRIC;
        assert_false(otlp_log_wanted(&cfg, &r));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(messages_of_any_length),
        cmocka_unit_test(strings_are_always_utf8),
        cmocka_unit_test(values_have_their_types),
        cmocka_unit_test(values_of_any_length),
        cmocka_unit_test(resource_says_what_is_observed),
        cmocka_unit_test(resource_has_each_key_once),
        cmocka_unit_test(wrong_environment_is_left_out),
        cmocka_unit_test(batch_is_a_field_of_a_request),
        cmocka_unit_test(short_attributes_are_like_others),
        cmocka_unit_test(shared_attributes_are_told),
        cmocka_unit_test(span_has_all_that_is_known),
        cmocka_unit_test(attributes_are_bounded),
        cmocka_unit_test(severity_of_lines),
        cmocka_unit_test(severity_of_anything),
        cmocka_unit_test(lines_are_bodies),
        cmocka_unit_test(events_have_names_of_the_conventions),
        cmocka_unit_test(each_source_is_told_when_it_is_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
