/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of OTLP: what is written is read back and compared with what was measured. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "otlp/exponential.h"
#include "otlp/metrics.h"
#include "otlp/metrics_table.h"
#include "pb_read.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define S UINT64_C(1000000000)

/* --- a reader of what is written --- */

/* What isn't a field ends the test. */
static bool next(struct pb_msg *m, struct pb_field *ret)
{
    if (pb_read(m, ret))
        return true;
    assert_ptr_equal(m->p, m->end);
    return false;
}

static double number(uint64_t bits)
{
    double d;

    memcpy(&d, &bits, sizeof(d));
    return d;
}

static int64_t zigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static char *text_in(struct pb_msg v)
{
    for (const uint8_t *p = v.p; p < v.end;) {
        unsigned n = utf8_sequence((const char *)p, (size_t)(v.end - p));

        assert_true(n > 0);
        p += n;
    }
    return xstrndup((const char *)v.p, (size_t)(v.end - v.p));
}

#define BUCKETS 200
struct point {
    char *resource, *name, *unit, *attributes; /* attributes: " key=value" each */
    unsigned data;                             /* field of Metric */
    unsigned temporality;
    bool monotonic, is_double, has_start;
    uint64_t start, time;
    int64_t i;                                 /* as_int */
    double d;                                  /* as_double; sum */
    uint64_t count;
    double min, max;
    uint64_t bucket[BUCKETS];
    double bound[BUCKETS];
    size_t buckets, bounds;
    int64_t scale, offset;
    uint64_t zero;
    size_t exemplars;
    double exemplar[64];
    uint64_t exemplar_time[64];
    uint8_t trace_id[64][16], span_id[64][8];
};

enum { GAUGE = 5, SUM = 7, HISTOGRAM = 9, EXPONENTIAL = 10 };

/* What has been told, one behind the other. */
struct told {
    struct point *p;
    size_t count, size, records;
    bool full;        /* there is no room */
    size_t room;      /* records that are taken until then; 0: all */
    uint64_t refused; /* points */
};

static void read_attribute(struct pb_msg v, struct buf *b)
{
    struct pb_field i, value;
    char *s;

    while (next(&v, &i)) {
        if (i.number == 1) {
            s = text_in(i.bytes);
            buf_printf(b, " %s=", s);
            free(s);
            continue;
        }
        assert_int_equal(i.number, 2);
        while (next(&i.bytes, &value))
            switch (value.number) {
            case 1:
                s = text_in(value.bytes);
                buf_str(b, s);
                free(s);
                break;
            case 2: buf_str(b, value.n ? "true" : "false"); break;
            case 3: buf_printf(b, "%" PRId64, (int64_t)value.n); break;
            case 4: buf_printf(b, "%g", number(value.n)); break;
            default: fail_msg("AnyValue %u", value.number);
            }
    }
}

static void read_exemplar(struct pb_msg v, struct point *p)
{
    size_t n = p->exemplars++;
    struct pb_field i;

    assert_true(n < 64);
    while (next(&v, &i))
        switch (i.number) {
        case 2: p->exemplar_time[n] = i.n; break;
        case 3: p->exemplar[n] = number(i.n); break;
        case 4:
            assert_int_equal(i.n, 8);
            memcpy(p->span_id[n], i.bytes.p, 8);
            break;
        case 5:
            assert_int_equal(i.n, 16);
            memcpy(p->trace_id[n], i.bytes.p, 16);
            break;
        default: fail_msg("Exemplar %u", i.number);
        }
}

static void read_fixed(struct pb_msg v, uint64_t *ret, size_t *ret_count)
{
    *ret_count = (size_t)(v.end - v.p) / 8;
    assert_true(*ret_count <= BUCKETS && (v.end - v.p) % 8 == 0);
    memcpy(ret, v.p, (size_t)(v.end - v.p));
}

static void read_buckets(struct pb_msg v, struct point *p)
{
    struct pb_field i;

    while (next(&v, &i)) {
        if (i.number == 1) {
            p->offset = zigzag(i.n);
            continue;
        }
        assert_int_equal(i.number, 2);
        while (i.bytes.p < i.bytes.end) {
            assert_true(p->buckets < BUCKETS);
            assert_true(pb_read_varint(&i.bytes, &p->bucket[p->buckets++]));
        }
    }
}

static void read_point(struct pb_msg v, struct point *p)
{
    struct buf attributes = BUF_INIT;
    struct pb_field i;
    bool number_point = p->data == GAUGE || p->data == SUM, exponential = p->data == EXPONENTIAL;
    unsigned attribute = number_point ? 7 : exponential ? 1 : 9;

    while (next(&v, &i)) {
        if (i.number == attribute) {
            read_attribute(i.bytes, &attributes);
        } else if (i.number == 2) {
            p->start = i.n;
            p->has_start = true;
        } else if (i.number == 3) {
            p->time = i.n;
        } else if (number_point) {
            p->is_double = i.number == 4;
            if (i.number == 4)
                p->d = number(i.n);
            else if (i.number == 6)
                p->i = (int64_t)i.n;
            else
                fail_msg("NumberDataPoint %u", i.number);
        } else if (i.number == 4) {
            p->count = i.n;
        } else if (i.number == 5) {
            p->d = number(i.n);
        } else if (exponential) {
            switch (i.number) {
            case 6: p->scale = zigzag(i.n); break;
            case 7: p->zero = i.n; break;
            case 8: read_buckets(i.bytes, p); break;
            case 11: read_exemplar(i.bytes, p); break;
            case 12: p->min = number(i.n); break;
            case 13: p->max = number(i.n); break;
            default: fail_msg("ExponentialHistogramDataPoint %u", i.number);
            }
        } else {
            switch (i.number) {
            case 6: read_fixed(i.bytes, p->bucket, &p->buckets); break;
            case 7: read_fixed(i.bytes, (uint64_t *)p->bound, &p->bounds); break;
            case 8: read_exemplar(i.bytes, p); break;
            case 11: p->min = number(i.n); break;
            case 12: p->max = number(i.n); break;
            default: fail_msg("HistogramDataPoint %u", i.number);
            }
        }
    }
    p->attributes = xstrdup(buf_cstr(&attributes));
    buf_free(&attributes);
}

static void read_metric(struct pb_msg v, const char *resource, struct told *t)
{
    char *name = NULL, *unit = NULL;
    size_t first = t->count;
    unsigned temporality = 0;
    bool monotonic = false;
    struct pb_field i, in;

    while (next(&v, &i)) {
        if (i.number == 1) {
            name = text_in(i.bytes);
        } else if (i.number == 2) {
            free(text_in(i.bytes));
        } else if (i.number == 3) {
            unit = text_in(i.bytes);
        } else {
            assert_true(i.number == GAUGE || i.number == SUM || i.number == HISTOGRAM || i.number == EXPONENTIAL);
            while (next(&i.bytes, &in)) {
                if (in.number == 1) {
                    if (t->count == t->size) {
                        t->size = t->size ? t->size * 2 : 64;
                        t->p = xrealloc(t->p, t->size, sizeof(*t->p));
                    }
                    memset(&t->p[t->count], 0, sizeof(*t->p));
                    t->p[t->count].data = i.number;
                    read_point(in.bytes, &t->p[t->count++]);
                } else if (in.number == 2) {
                    temporality = (unsigned)in.n;
                } else {
                    assert_true(in.number == 3 && i.number == SUM);
                    monotonic = in.n;
                }
            }
        }
    }
    assert_non_null(name);
    assert_true(t->count > first); /* no metric without data points */
    for (size_t k = first; k < t->count; k++) {
        t->p[k].resource = xstrdup(resource);
        t->p[k].name = xstrdup(name);
        t->p[k].unit = xstrdup(unit ? unit : "");
        t->p[k].temporality = temporality;
        t->p[k].monotonic = monotonic;
    }
    free(name);
    free(unit);
}

static void read_resource_metrics(struct pb_msg v, struct told *t)
{
    struct buf resource = BUF_INIT;
    struct pb_field i, in;

    while (next(&v, &i)) {
        if (i.number == 1) {
            while (next(&i.bytes, &in))
                if (in.number == 1)
                    read_attribute(in.bytes, &resource);
        } else if (i.number == 2) {
            while (next(&i.bytes, &in))
                if (in.number == 2)
                    read_metric(in.bytes, buf_cstr(&resource), t);
        } else {
            assert_int_equal(i.number, 3);
        }
    }
    buf_free(&resource);
}

static bool take(void *ctx, const char *record, size_t len)
{
    struct told *t = ctx;
    size_t before = t->count;
    uint32_t items;
    struct pb_msg v = {(const uint8_t *)record + 4, (const uint8_t *)record + len};
    struct pb_field i;

    assert_true(len <= 65536);
    memcpy(&items, record, sizeof(items));
    if (t->full || (t->room && t->records == t->room)) {
        t->refused += items;
        return false;
    }
    t->records++;
    while (next(&v, &i)) {
        assert_int_equal(i.number, 1);
        read_resource_metrics(i.bytes, t);
    }
    assert_int_equal(t->count - before, items);
    return true;
}

static void forget(struct told *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free(t->p[i].resource);
        free(t->p[i].name);
        free(t->p[i].unit);
        free(t->p[i].attributes);
    }
    free(t->p);
    memset(t, 0, sizeof(*t));
}

/* --- what is measured --- */

static const struct tm_process self = {.pid = 1, .proc = "scope"};
static const struct tm_process nginx = {.pid = 7, .host_pid = 4242, .host = "h1", .proc = "nginx", .uuid = "u1"};
static struct otlp_common *common;
static struct told told;

static struct otlp_metrics *metrics_of(bool delta, bool exponential, size_t bytes)
{
    struct otlp_metrics_user user = {.common = common, .self = &self, .delta = delta, .exponential = exponential,
                                     .record = take, .ctx = &told};

    return otlp_metrics_new(&user, bytes, 1 * S);
}

static void sample(struct otlp_metrics *m, enum tm_metric metric, int64_t value, uint64_t numops, const char *class_)
{
    otlp_metrics_sample(m, &nginx, &(struct tm_sample){.metric = metric, .value = value, .numops = numops, .class_ = class_,
                                                       .time_ns = 5 * S});
}

static struct tm_str str(const char *s)
{
    return (struct tm_str){s, s ? strlen(s) : 0};
}

static void exchange(struct otlp_metrics *m, enum tm_metric metric, int64_t value, const struct tm_exchange *x)
{
    otlp_metrics_sample(m, &nginx, &(struct tm_sample){.metric = metric, .value = value, .numops = 1, .exchange = x,
                                                       .time_ns = 5 * S});
}

static struct point *find(const char *name, const char *attributes)
{
    for (size_t i = told.count; i--;) /* the newest */
        if (strcmp(told.p[i].name, name) == 0 && (!attributes || strcmp(told.p[i].attributes, attributes) == 0))
            return &told.p[i];
    return NULL;
}

static struct point *get(const char *name, const char *attributes)
{
    struct point *p = find(name, attributes);

    for (size_t i = 0; !p && i < told.count; i++)
        print_message("  %s {%s}\n", told.p[i].name, told.p[i].attributes);
    if (!p)
        fail_msg("no %s {%s}", name, attributes ? attributes : "any");
    return p;
}

static void is_sum(const char *name, const char *unit, const char *attributes, int64_t value)
{
    struct point *p = get(name, attributes);

    assert_string_equal(p->unit, unit);
    assert_int_equal(p->data, SUM);
    assert_true(p->monotonic);
    assert_int_equal(p->temporality, 2);
    assert_false(p->is_double);
    assert_int_equal(p->i, value);
    assert_int_equal(p->start, 2 * S);
    assert_int_equal(p->time, 60 * S);
}

static void is_now(const char *name, const char *unit, const char *attributes, int64_t value)
{
    struct point *p = get(name, attributes);

    assert_string_equal(p->unit, unit);
    assert_int_equal(p->data, SUM);
    assert_false(p->monotonic);
    assert_int_equal(p->temporality, 2);
    assert_int_equal(p->i, value);
    assert_int_equal(p->start, 2 * S);
}

static void samples_go_to_metrics(void **state)
{
    struct otlp_metrics *m = metrics_of(false, false, OTLP_SERIES_BYTES);
    struct point *p;

    otlp_metrics_begin(m, &nginx, 2 * S);
    sample(m, TM_FS_READ, 1000, 3, NULL);
    sample(m, TM_FS_READ, 24, 1, NULL);
    sample(m, TM_FS_WRITE, 5, 1, NULL);
    sample(m, TM_FS_OPEN, 2, 2, NULL);
    sample(m, TM_FS_DURATION, 1500000, 4, NULL);
    sample(m, TM_FS_ERROR, 1, 0, "stat");
    sample(m, TM_NET_RX, 10, 2, "inet_tcp");
    sample(m, TM_NET_RX, 11, 1, "inet_udp");
    sample(m, TM_NET_TX, 20, 1, "unix_tcp");
    sample(m, TM_NET_TCP, 3, 0, NULL);
    sample(m, TM_NET_TCP, 2, 0, NULL);
    sample(m, TM_NET_DURATION, 250, 1, NULL);
    sample(m, TM_NET_ERROR, 1, 0, "dns");
    sample(m, TM_PROC_CPU, 1000001, 0, NULL);
    sample(m, TM_PROC_MEM, 2, 0, NULL);
    sample(m, TM_PROC_FD, 12, 0, NULL);
    sample(m, TM_PROC_THREAD, 4, 0, NULL);
    sample(m, TM_PROC_CPU_PERC, 500, 0, NULL);
    sample(m, TM_HTTP_REQ, 1, 1, NULL);
    sample(m, TM_DNS_REQ, 1, 0, NULL);
    otlp_metrics_lost(m, "record", 6, 3);
    otlp_metrics_lost(m, "record", 6, 4);
    assert_true(otlp_metrics_news(m));
    assert_true(otlp_metrics_export(m, 60 * S));
    assert_false(otlp_metrics_news(m));

    is_sum("process.disk.io", "By", " disk.io.direction=read", 1024);
    is_sum("process.disk.io", "By", " disk.io.direction=write", 5);
    is_sum("appscope.file.operations", "{operation}", " appscope.file.operation=read", 4);
    is_sum("appscope.file.operations", "{operation}", " appscope.file.operation=open", 2);
    is_sum("appscope.file.errors", "{error}", " appscope.operation.class=stat", 1);
    is_sum("appscope.network.io", "By", " network.io.direction=receive appscope.connection.class=inet_tcp", 10);
    is_sum("appscope.network.io", "By", " network.io.direction=transmit appscope.connection.class=unix_tcp", 20);
    is_sum("appscope.network.operations", "{operation}", " network.io.direction=receive appscope.connection.class=inet_tcp", 2);
    is_sum("process.network.io", "By", " network.io.direction=receive", 21);
    assert_null(find("process.network.io", " network.io.direction=transmit")); /* not of the network */
    is_sum("appscope.network.errors", "{error}", " appscope.operation.class=dns", 1);
    is_sum("appscope.dns.queries", "{query}", "", 1);
    is_now("appscope.network.connections.open", "{connection}", " appscope.connection.kind=tcp", 2);
    is_now("process.memory.usage", "By", "", 2048);
    is_now("process.unix.file_descriptor.count", "{file_descriptor}", "", 12);
    is_now("process.thread.count", "{thread}", "", 4);
    p = get("process.cpu.time", "");
    assert_string_equal(p->unit, "s");
    assert_true(p->is_double && p->monotonic && p->d == 1.000001);
    assert_non_null(strstr(p->resource, " service.name=nginx"));
    assert_true(get("appscope.file.io.time", "")->d == 1.5);
    assert_true(get("appscope.network.connections.time", "")->d == 0.25);
    p = get("appscope.lost", " appscope.lost.kind=record");
    assert_int_equal(p->i, 7);
    assert_non_null(strstr(p->resource, " service.name=scope"));
    assert_int_equal(get("appscope.processes", "")->i, 1);
    assert_int_equal(get("appscope.processes.started", "")->i, 1);
    otlp_metrics_free(m);
    forget(&told);
}

static void exchanges_have_histograms(void **state)
{
    static const int64_t durations[] = {0, 5000, 5001, 75000, 10000000, 10000001};
    struct tm_exchange x = {.method = str("GET"), .scheme = str("https"), .version = str("1.1"), .status = 200,
                            .rpc_status = -1, .server = str("a.example"), .server_port = 443};
    struct otlp_metrics *m = metrics_of(false, false, OTLP_SERIES_BYTES);
    struct point *p;

    otlp_metrics_begin(m, &nginx, 2 * S);
    for (size_t i = 0; i < COUNT(durations); i++)
        exchange(m, TM_HTTP_DURATION_SERVER, durations[i], &x);
    exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    x.status = 404;
    exchange(m, TM_HTTP_DURATION_SERVER, 1000, &x);
    exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    x.status = 503;
    x.method = str("BREW");
    x.scheme = str("gopher");
    x.version = str("7");
    exchange(m, TM_HTTP_DURATION_SERVER, 1000, &x);
    x.status = 0;
    x.error = str("timeout");
    exchange(m, TM_HTTP_DURATION_SERVER, 1000, &x);
    x.is_server = true;
    x.error = str(NULL);
    exchange(m, TM_HTTP_REQ_LENGTH, 1 << 20, &x);
    exchange(m, TM_HTTP_DURATION_SERVER, 1000, NULL); /* nothing is known */
    assert_true(otlp_metrics_export(m, 60 * S));

#define GET " http.request.method=GET url.scheme=https"
    p = get("http.server.request.duration", GET " http.response.status_code=200 network.protocol.version=1.1");
    assert_string_equal(p->unit, "s");
    assert_int_equal(p->data, HISTOGRAM);
    assert_int_equal(p->temporality, 2);
    assert_int_equal(p->count, 6);
    assert_true(p->d == 20.085002 && p->min == 0 && p->max == 10.000001);
    assert_int_equal(p->bounds, 14);
    assert_int_equal(p->buckets, 15);
    assert_true(p->bound[0] == 0.005 && p->bound[4] == 0.075 && p->bound[13] == 10);
    assert_int_equal(p->bucket[0], 2);
    assert_int_equal(p->bucket[1], 1);
    assert_int_equal(p->bucket[4], 1);
    assert_int_equal(p->bucket[13], 1);
    assert_int_equal(p->bucket[14], 1);
    get("http.client.request.duration", GET " http.response.status_code=200 network.protocol.version=1.1"
                                            " server.address=a.example server.port=443");
    get("http.server.request.duration", GET " http.response.status_code=404 network.protocol.version=1.1");
    get("http.client.request.duration", GET " http.response.status_code=404 network.protocol.version=1.1 error.type=404"
                                            " server.address=a.example server.port=443");
    get("http.server.request.duration", " http.request.method=_OTHER http.response.status_code=503 error.type=503");
    get("http.server.request.duration", " http.request.method=_OTHER error.type=timeout");
    get("http.server.request.duration", " http.request.method=_OTHER");
    p = get("http.server.request.body.size", " http.request.method=_OTHER");
    assert_string_equal(p->unit, "By");
    assert_true(p->d == 1 << 20);
    assert_int_equal(p->bucket[5], 1);
    otlp_metrics_free(m);
    forget(&told);
}

static void calls_and_lookups_have_names(void **state)
{
    struct tm_exchange x = {.method = str("POST"), .status = 200, .rpc_method = str("pkg.Service/Call"), .rpc_status = 0,
                            .server = str("10.0.0.1"), .server_port = 50051};
    struct tm_field domain = {.name = "domain", .type = TM_STR, .v.str = {"a.example", 9}};
    struct otlp_metrics *m = metrics_of(false, false, OTLP_SERIES_BYTES);
    struct tm_exchange failed = {.error = str("NXDOMAIN")};
    struct tm_sample lookup = {.metric = TM_DNS_DURATION, .value = 1234, .numops = 1, .time_ns = 5 * S, .fields = &domain,
                               .field_count = 1};

    otlp_metrics_begin(m, &nginx, 2 * S);
    exchange(m, TM_HTTP_DURATION_SERVER, 1000, &x);
    x.rpc_status = 5;
    exchange(m, TM_HTTP_DURATION_SERVER, 1000, &x);
    exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    x.rpc_status = 14;
    exchange(m, TM_HTTP_DURATION_SERVER, 1000, &x);
    x.rpc_status = 4711; /* of a peer's own: one that isn't known */
    exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    x.rpc_status = -1;
    exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    otlp_metrics_sample(m, &nginx, &lookup);
    lookup.exchange = &failed;
    otlp_metrics_sample(m, &nginx, &lookup);
    assert_true(otlp_metrics_export(m, 60 * S));

#define CALL " rpc.system.name=grpc rpc.method=pkg.Service/Call"
#define PEER " server.address=10.0.0.1 server.port=50051"
    assert_string_equal(get("rpc.server.call.duration", CALL " rpc.status_code=OK")->unit, "s");
    get("rpc.server.call.duration", CALL " rpc.status_code=NOT_FOUND");
    get("rpc.client.call.duration", CALL " rpc.status_code=NOT_FOUND error.type=NOT_FOUND" PEER);
    get("rpc.server.call.duration", CALL " rpc.status_code=UNAVAILABLE error.type=UNAVAILABLE");
    get("rpc.client.call.duration", CALL " rpc.status_code=UNKNOWN error.type=UNKNOWN" PEER);
    get("rpc.client.call.duration", CALL PEER);
    assert_null(find("http.server.request.duration", NULL));
    assert_true(get("dns.lookup.duration", " dns.question.name=a.example")->d == 0.001234);
    get("dns.lookup.duration", " dns.question.name=a.example error.type=NXDOMAIN");
    otlp_metrics_free(m);
    forget(&told);
}

/* --- temporality --- */

static uint64_t seed;

static uint64_t random_number(uint64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 33) % below;
}

/* Random samples of three metrics, told again and again; what comes out must be what went in. */
static void totals_are_those_of_the_samples(void **state)
{
    static const char *const methods[] = {"GET", "POST", "PUT"};
    static const enum tm_metric metrics[] = {TM_FS_READ, TM_NET_TX, TM_HTTP_DURATION_SERVER};

    for (int mode = 0; mode < 4; mode++) {
        bool delta = mode & 1, exponential = mode & 2;
        struct otlp_metrics *m = metrics_of(delta, exponential, OTLP_SERIES_BYTES);
        uint64_t sum[3] = {0}, ops = 0, requests = 0, now = 60 * S, told_sum[3] = {0}, told_ops = 0, told_requests = 0;
        double seconds = 0;

        seed = 4711;
        otlp_metrics_begin(m, &nginx, 2 * S);
        for (int i = 0; i < 3000; i++) {
            size_t which = random_number(3);
            uint64_t value = random_number(1000000);
            struct tm_exchange x = {.method = str(methods[random_number(3)]), .status = 200 + (unsigned)random_number(10),
                                    .rpc_status = -1};

            sum[which] += value;
            ops += which == 0;
            requests += which == 2;
            otlp_metrics_sample(m, &nginx, &(struct tm_sample){.metric = metrics[which], .value = (int64_t)value, .numops = 1,
                                                               .exchange = which == 2 ? &x : NULL, .time_ns = now});
            if (random_number(100))
                continue;
            now += S;
            assert_true(otlp_metrics_export(m, now));
            if (!delta)
                forget(&told);
        }
        if (!delta)
            forget(&told);
        otlp_metrics_end(m, &nginx, now + S);
        for (size_t i = 0; i < told.count; i++) {
            const struct point *p = &told.p[i];
            uint64_t in_buckets = p->zero;

            if (!strstr(p->resource, "nginx"))
                continue;
            assert_int_equal(p->temporality, delta ? 1 : 2);
            if (strcmp(p->name, "process.disk.io") == 0)
                told_sum[0] += (uint64_t)p->i;
            else if (strcmp(p->name, "process.network.io") == 0)
                told_sum[1] += (uint64_t)p->i;
            else if (strcmp(p->name, "appscope.file.operations") == 0)
                told_ops += (uint64_t)p->i;
            if (p->data != HISTOGRAM && p->data != EXPONENTIAL)
                continue;
            assert_int_equal(p->data, exponential ? EXPONENTIAL : HISTOGRAM);
            told_requests += p->count;
            seconds += p->d;
            for (size_t k = 0; k < p->buckets; k++)
                in_buckets += p->bucket[k];
            assert_int_equal(in_buckets, p->count);
            assert_true(p->buckets <= (exponential ? 160 : 15));
        }
        assert_int_equal(told_sum[0], sum[0]);
        assert_int_equal(told_sum[1], sum[1]);
        assert_int_equal(told_ops, ops);
        assert_int_equal(told_requests, requests);
        assert_int_equal(llround(seconds * 1e6), sum[2]);
        otlp_metrics_free(m);
        forget(&told);
    }
}

static void low_memory_keeps_what_is_read_cumulative(void **state)
{
    struct otlp_metrics_user user = {.common = common, .self = &self, .delta = true, .lowmemory = true, .record = take,
                                     .ctx = &told};
    struct otlp_metrics *m = otlp_metrics_new(&user, OTLP_SERIES_BYTES, 1 * S);

    otlp_metrics_begin(m, &nginx, 2 * S);
    for (int i = 1; i <= 2; i++) {
        sample(m, TM_PROC_CPU, 1000000, 0, NULL);
        sample(m, TM_FS_OPEN, 1, 1, NULL);
        assert_true(otlp_metrics_export(m, (uint64_t)i * 10 * S));
    }
    assert_true(get("process.cpu.time", "")->d == 2 && get("process.cpu.time", "")->temporality == 2);
    assert_true(get("appscope.file.operations", NULL)->i == 1 && get("appscope.file.operations", NULL)->temporality == 1);
    otlp_metrics_free(m);
    forget(&told);
}

static void intervals_of_deltas_follow_each_other(void **state)
{
    struct otlp_metrics *m = metrics_of(true, false, OTLP_SERIES_BYTES);
    struct point *p;

    otlp_metrics_begin(m, &nginx, 2 * S);
    sample(m, TM_FS_OPEN, 2, 2, NULL);
    sample(m, TM_PROC_MEM, 4, 0, NULL);
    assert_true(otlp_metrics_export(m, 10 * S));
    p = get("appscope.file.operations", NULL);
    assert_true(p->temporality == 1 && p->start == 2 * S && p->time == 10 * S && p->i == 2);
    forget(&told);

    sample(m, TM_FS_OPEN, 3, 3, NULL);
    assert_true(otlp_metrics_export(m, 20 * S));
    p = get("appscope.file.operations", NULL);
    assert_true(p->start == 10 * S && p->time == 20 * S && p->i == 3);
    p = get("process.memory.usage", NULL); /* what it is, from its beginning on */
    assert_true(p->temporality == 2 && p->start == 2 * S && p->time == 20 * S && p->i == 4096);
    forget(&told);

    assert_true(otlp_metrics_export(m, 30 * S)); /* nothing new: nothing is told */
    assert_null(find("appscope.file.operations", NULL));
    sample(m, TM_FS_OPEN, 4, 4, NULL);
    assert_true(otlp_metrics_export(m, 40 * S));
    p = get("appscope.file.operations", NULL);
    assert_true(p->start == 30 * S && p->time == 40 * S && p->i == 4);
    otlp_metrics_free(m);
    forget(&told);
}

/* What finds no room is not lost: the next interval has it. At the end it is, and counted. */
static void full_queues_lose_nothing_before_the_end(void **state)
{
    for (int delta = 0; delta < 2; delta++) {
        struct otlp_metrics *m = metrics_of(delta, false, OTLP_SERIES_BYTES);
        struct point *p;

        otlp_metrics_begin(m, &nginx, 2 * S);
        sample(m, TM_FS_OPEN, 2, 2, NULL);
        told.full = true;
        assert_false(otlp_metrics_export(m, 10 * S));
        assert_true(otlp_metrics_news(m));
        told.full = false;
        sample(m, TM_FS_OPEN, 3, 3, NULL);
        assert_true(otlp_metrics_export(m, 20 * S));
        p = get("appscope.file.operations", NULL);
        assert_true(p->start == 2 * S && p->time == 20 * S && p->i == 5);
        assert_int_equal(otlp_metrics_claim_lost(m), 0);
        sample(m, TM_FS_OPEN, 1, 1, NULL);
        told.full = true;
        told.refused = 0;
        otlp_metrics_end(m, &nginx, 30 * S);
        assert_true(told.refused > 0);
        assert_int_equal(otlp_metrics_claim_lost(m), told.refused);
        assert_int_equal(otlp_metrics_claim_lost(m), 0);
        otlp_metrics_free(m);
        forget(&told);
    }
}

static void clocks_that_are_set_back_make_no_negative_intervals(void **state)
{
    static const uint64_t times[] = {10 * S, 1 * S, 0, 11 * S, 3 * S, 3 * S};

    for (int delta = 0; delta < 2; delta++) {
        struct otlp_metrics *m = metrics_of(delta, false, OTLP_SERIES_BYTES);
        uint64_t before = 0;

        otlp_metrics_begin(m, &nginx, 2 * S);
        for (size_t i = 0; i < COUNT(times); i++) {
            const struct point *p;

            sample(m, TM_FS_OPEN, 1, 1, NULL);
            assert_true(otlp_metrics_export(m, times[i]));
            p = get("appscope.file.operations", NULL);
            assert_true(p->time > p->start && p->time > before);
            assert_int_equal(p->start, delta && i ? before : 2 * S);
            before = p->time;
            forget(&told);
        }
        otlp_metrics_free(m);
    }
}

static void other_programs_begin_anew(void **state)
{
    struct tm_process who = nginx;
    struct otlp_metrics *m = metrics_of(false, false, OTLP_SERIES_BYTES);
    struct tm_sample opened = {.metric = TM_FS_OPEN, .value = 2, .numops = 2, .time_ns = 5 * S};
    struct point *p;

    otlp_metrics_begin(m, &who, 2 * S);
    otlp_metrics_sample(m, &who, &opened);
    otlp_metrics_begin(m, &who, 3 * S); /* the same */
    assert_null(find("appscope.file.operations", NULL));
    who.proc = "sh";
    otlp_metrics_begin(m, &who, 10 * S);
    p = get("appscope.file.operations", NULL); /* what nginx did */
    assert_non_null(strstr(p->resource, " service.name=nginx"));
    assert_true(p->i == 2 && p->start == 2 * S && p->time == 10 * S);
    otlp_metrics_sample(m, &who, &opened);
    otlp_metrics_end(m, &who, 20 * S);
    p = get("appscope.file.operations", NULL);
    assert_non_null(strstr(p->resource, " service.name=sh"));
    assert_true(p->i == 2 && p->start == 10 * S && p->time == 20 * S);
    otlp_metrics_end(m, &who, 20 * S); /* it isn't there any more */
    assert_true(otlp_metrics_export(m, 30 * S));
    assert_int_equal(get("appscope.processes", "")->i, 0);
    assert_int_equal(get("appscope.processes.started", "")->i, 3);
    otlp_metrics_free(m);
    forget(&told);
}

/* --- bounds --- */

static void series_are_bounded_and_sums_right(void **state)
{
    for (int delta = 0; delta < 2; delta++) {
        struct otlp_metrics *m = metrics_of(delta, false, OTLP_SERIES_BYTES);
        struct tm_exchange x = {.method = str("GET"), .status = 200, .rpc_status = -1, .server_port = 80};
        uint64_t count = 0, series = 0;
        char name[64];

        otlp_metrics_begin(m, &nginx, 2 * S);
        for (int i = 0; i < 10000; i++) {
            snprintf(name, sizeof(name), "host-%d.example", i % 5000);
            x.server = str(name);
            exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
        }
        x.server = str("one");
        exchange(m, TM_HTTP_DURATION_SERVER, 1000, &x); /* another metric has its own room */
        assert_true(otlp_metrics_export(m, 60 * S));
        for (size_t i = 0; i < told.count; i++)
            if (strcmp(told.p[i].name, "http.client.request.duration") == 0) {
                series++;
                count += told.p[i].count;
            }
        assert_int_equal(series, OTLP_SERIES_MAX);
        assert_int_equal(count, 10000);
        assert_int_equal(get("http.client.request.duration", " otel.metric.overflow=true")->count, 2 * (5000 - 1999));
        get("http.server.request.duration", " http.request.method=GET http.response.status_code=200");
        assert_int_equal(get("appscope.series.overflow", "")->i, 2 * (5000 - 1999));
        otlp_metrics_free(m);
        forget(&told);
    }
}

static void memory_is_bounded(void **state)
{
    struct otlp_metrics *m = metrics_of(false, false, 20000);
    struct tm_exchange x = {.method = str("GET"), .status = 200, .rpc_status = -1, .server_port = 80};
    uint64_t count = 0, series = 0;
    char name[64];

    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "host-%d.example", i);
        x.server = str(name);
        exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    }
    sample(m, TM_NET_TCP, 3, 0, NULL); /* what it is can't be told with others */
    sample(m, TM_FS_READ, 3, 1, NULL);
    assert_true(otlp_metrics_export(m, 60 * S));
    for (size_t i = 0; i < told.count; i++)
        if (strcmp(told.p[i].name, "http.client.request.duration") == 0) {
            series++;
            count += told.p[i].count;
        }
    assert_true(series > 10 && series < 100);
    assert_int_equal(count, 1000);
    get("process.disk.io", " otel.metric.overflow=true");
    assert_null(find("appscope.network.connections.open", NULL));
    otlp_metrics_free(m);
    forget(&told);
}

/* What makes the memory full may be the texts of a key themselves; one text may stand in it twice. */
static void keys_made_in_vain_leave_nothing(void **state)
{
    for (size_t bytes = 12000; bytes < 13200; bytes += 8) {
        struct otlp_metrics *m = metrics_of(false, false, bytes);
        struct tm_exchange x = {.rpc_status = 0, .server_port = 80};
        char name[200];

        for (int i = 0; i < 40; i++) {
            snprintf(name, sizeof(name), "service/%0150d", i);
            x.rpc_method = x.server = x.error = str(name);
            exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
        }
        assert_true(otlp_metrics_export(m, 60 * S));
        assert_true(get("rpc.client.call.duration", " otel.metric.overflow=true")->count > 0);
        otlp_metrics_free(m);
        forget(&told);
    }
}

static void idle_deltas_make_room(void **state)
{
    struct otlp_metrics *m = metrics_of(true, false, OTLP_SERIES_BYTES);
    struct tm_exchange x = {.method = str("GET"), .status = 200, .rpc_status = -1, .server_port = 80};
    char name[64];

    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 1500; k++) {
            snprintf(name, sizeof(name), "host-%d-%d.example", i, k);
            x.server = str(name);
            exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
        }
        assert_true(otlp_metrics_export(m, (uint64_t)(60 + 2 * i) * S));
        assert_true(otlp_metrics_export(m, (uint64_t)(61 + 2 * i) * S));
    }
    assert_null(find("http.client.request.duration", " otel.metric.overflow=true"));
    otlp_metrics_free(m);
    forget(&told);
}

/* Names that look the same where they are told are the same series, and any bytes may come. */
static void hostile_texts_are_cleaned(void **state)
{
    struct otlp_metrics *m = metrics_of(false, false, OTLP_SERIES_BYTES);
    struct tm_exchange x = {.method = str("GET"), .status = 200, .rpc_status = -1};
    char longer[2][400];

#define TO " http.request.method=GET http.response.status_code=200 server.address="
    x.server = str("a\xff" "b");
    exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    x.server = str("a\xfe" "b");
    exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    x.server = (struct tm_str){"c\0d", 3};
    exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    x.server = (struct tm_str){"", 0};
    exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    for (int i = 0; i < 2; i++) {
        memset(longer[i], 'x', sizeof(longer[i]));
        longer[i][350] = (char)('0' + i);
        x.server = (struct tm_str){longer[i], sizeof(longer[i])};
        exchange(m, TM_HTTP_DURATION_CLIENT, 1000, &x);
    }
    assert_true(otlp_metrics_export(m, 60 * S));
    assert_int_equal(get("http.client.request.duration", TO "a\xef\xbf\xbd" "b")->count, 2);
    get("http.client.request.duration", TO);
    for (size_t i = 0, cut = 0; i < told.count; i++)
        if (strstr(told.p[i].attributes, "xxx")) {
            assert_int_equal(++cut, 1);
            assert_int_equal(told.p[i].count, 2);
            assert_int_equal(strlen(told.p[i].attributes), strlen(TO) + 255);
        }
    otlp_metrics_free(m);
    forget(&told);
}

/* --- exemplars --- */

static void exemplars_are_of_sampled_spans(void **state)
{
    for (int exponential = 0; exponential < 2; exponential++) {
        struct otlp_metrics *m = metrics_of(false, exponential, OTLP_SERIES_BYTES);
        struct tm_context trace = {.trace_id = {1, 2, 3}, .span_id = {9}, .flags = 1};
        struct tm_exchange x = {.method = str("GET"), .status = 200, .rpc_status = -1, .trace = &trace};
        struct point *p;

        otlp_metrics_begin(m, &nginx, 2 * S);
        exchange(m, TM_HTTP_DURATION_SERVER, 3000, &x);
        trace.span_id[0] = 10;
        exchange(m, TM_HTTP_DURATION_SERVER, 4000, &x);
        exchange(m, TM_HTTP_DURATION_SERVER, 60000, &x);
        trace.flags = 0;
        exchange(m, TM_HTTP_DURATION_SERVER, 9000000, &x);
        x.trace = NULL;
        exchange(m, TM_HTTP_DURATION_SERVER, 700000, &x);
        assert_true(otlp_metrics_export(m, 60 * S));
        p = get("http.server.request.duration", NULL);
        assert_int_equal(p->count, 5);
        assert_int_equal(p->exemplars, exponential ? 3 : 2); /* the newest of each bucket */
        assert_true(p->exemplar[exponential ? 1 : 0] == 0.004 && p->exemplar[exponential ? 2 : 1] == 0.06);
        assert_int_equal(p->span_id[exponential ? 1 : 0][0], 10);
        assert_int_equal(p->trace_id[0][2], 3);
        assert_int_equal(p->exemplar_time[0], 5 * S);
        forget(&told);
        assert_true(otlp_metrics_export(m, 70 * S)); /* once is enough */
        assert_int_equal(get("http.server.request.duration", NULL)->exemplars, 0);
        forget(&told);
        x.trace = &trace;
        trace.flags = 1;
        for (int i = 0; i < 1000; i++)
            exchange(m, TM_HTTP_DURATION_SERVER, 1000 + i, &x);
        assert_true(otlp_metrics_export(m, 80 * S));
        p = get("http.server.request.duration", NULL);
        assert_int_equal(p->exemplars, exponential ? 16 : 1);
        for (size_t i = 0; i < p->exemplars; i++) /* in their interval, though they say 5 s */
            assert_true(p->exemplar_time[i] >= p->start && p->exemplar_time[i] <= p->time);
        otlp_metrics_free(m);
        forget(&told);
    }
}

/* --- metrics of the program --- */

static bool captured(struct otlp_metrics *m, const char *name, const char *type, double value, const char *text,
                     const struct tm_field *fields, size_t count)
{
    struct ev_record r = {.kind = EV_METRIC, .who = &nginx, .time_ns = 5 * S, .name = name, .type = type, .text = text,
                          .text_len = strlen(text), .fields = fields, .field_count = count,
                          .value = {.type = TM_NUM, .v.num = value}};

    if (strcmp(type, "set") == 0)
        r.value = (struct tm_field){.type = TM_STR, .v.str = {text, strlen(text)}};
    return otlp_metrics_captured(m, &r);
}

#define TAG(NAME, VALUE) {.name = NAME, .type = TM_STR, .v.str = {VALUE, strlen(VALUE)}}

static void own_metrics_keep_their_names(void **state)
{
    struct otlp_metrics *m = metrics_of(false, false, OTLP_SERIES_BYTES);
    struct tm_field ab[] = {TAG("a", "1"), TAG("b", "2")}, ba[] = {TAG("b", "2"), TAG("a", "1")};
    struct tm_field who[] = {{.name = "proc", .type = TM_STR, .v.str = {nginx.proc, 5}},
                             {.name = "pid", .type = TM_UINT, .v.u = 7},
                             {.name = "host", .type = TM_STR, .v.str = {nginx.host, 2}}};
    struct point *p;

    otlp_metrics_begin(m, &nginx, 2 * S);
    assert_true(captured(m, "jobs", "counter", 2, "2", ab, 2));
    assert_true(captured(m, "jobs", "counter", 0.5, "0.5", ba, 2));
    assert_true(captured(m, "jobs", "counter", 1, "1", who, 3)); /* the resource says these */
    assert_true(captured(m, "depth", "gauge", 10, "10", NULL, 0));
    assert_true(captured(m, "depth", "gauge", -3, "-3", NULL, 0));
    assert_true(captured(m, "latency", "timer", 12, "12", NULL, 0));
    assert_true(captured(m, "size", "histogram", 300, "300", NULL, 0));
    assert_true(captured(m, "spread", "distribution", 1, "1", NULL, 0));
    assert_false(captured(m, "users", "set", 0, "joe", NULL, 0));
    assert_false(captured(m, "jobs", "gauge", 1, "1", NULL, 0));        /* another type than before */
    assert_false(captured(m, "latency", "histogram", 1, "1", NULL, 0)); /* another unit */
    assert_false(captured(m, "jobs", "counter", -1, "-1", NULL, 0));
    assert_false(captured(m, "depth", "gauge", NAN, "nan", NULL, 0));
    assert_false(captured(m, "process.cpu.time", "counter", 1, "1", NULL, 0)); /* ours */
    assert_true(otlp_metrics_export(m, 60 * S));
    p = get("jobs", " a=1 b=2");
    assert_true(p->data == SUM && p->monotonic && p->is_double && p->d == 2.5 && p->temporality == 2);
    assert_true(get("jobs", "")->d == 1);
    p = get("depth", "");
    assert_true(p->data == GAUGE && p->d == 7 && !p->has_start);
    p = get("latency", "");
    assert_string_equal(p->unit, "ms");
    assert_true(p->data == HISTOGRAM && p->count == 1 && p->d == 12 && p->bounds == 15 && p->bound[14] == 10000);
    assert_int_equal(p->bucket[3], 1);
    assert_string_equal(get("size", "")->unit, "");
    get("spread", "");
    assert_null(find("users", NULL));
    otlp_metrics_free(m);
    forget(&told);
}

static void own_metrics_are_bounded(void **state)
{
    struct otlp_metrics *m = metrics_of(true, true, OTLP_SERIES_BYTES);
    size_t taken = 0;
    double sum = 0;
    char text[32];

    for (int i = 0; i < 3000; i++) {
        struct tm_field user = TAG("user", text);

        snprintf(text, sizeof(text), "u%d", i);
        user.v.str.len = strlen(text);
        assert_true(captured(m, "logins", "counter", 1, "1", &user, 1));
    }
    for (int i = 0; i < 2000; i++) {
        snprintf(text, sizeof(text), "name%d", i);
        taken += captured(m, text, "counter", 1, "1", NULL, 0);
    }
    assert_int_equal(taken, OTLP_NAMES_MAX - 1);
    assert_true(otlp_metrics_export(m, 60 * S));
    assert_true(get("logins", " otel.metric.overflow=true")->d == 3000 - 1999);
    for (size_t i = 0; i < told.count; i++)
        if (strcmp(told.p[i].name, "logins") == 0)
            sum += told.p[i].d;
    assert_true(sum == 3000);
    otlp_metrics_free(m);
    forget(&told);
}

/* --- exponential buckets --- */

/* Of the data model's section about scale, and values at both sides of bounds. */
static void exponential_indices_are_those_of_the_specification(void **state)
{
    static const struct {
        int scale;
        double value;
        int32_t index;
    } known[] = {
        /* scale 0: base 2 */
        {0, 0.25, -3}, {0, 0.26, -2}, {0, 0.5, -2}, {0, 0.75, -1}, {0, 1, -1}, {0, 1.5, 0}, {0, 2, 0}, {0, 2.1, 1}, {0, 4, 1},
        {0, 5, 2},     {0, 8, 2},
        /* scale -1: base 4 */
        {-1, 0.2, -2}, {-1, 0.25, -2}, {-1, 1, -1}, {-1, 1.1, 0}, {-1, 4, 0}, {-1, 4.1, 1}, {-1, 16, 1}, {-1, 17, 2},
        /* scale -10, -11: base 2^1024 */
        {-10, 1e300, 0}, {-10, 1e-300, -1}, {-10, 1, -1},
        /* scale 1: base sqrt(2) */
        {1, 1, -1}, {1, 1.41, 0}, {1, 1.42, 1}, {1, 2, 1}, {1, 2.82, 2}, {1, 2.83, 3}, {1, 4, 3}, {1, 0.5, -3}, {1, 0.6, -2},
        {1, 0.71, -1},
        /* scale 3: base 1.0905 */
        {3, 1.0905, 0}, {3, 1.091, 1}, {3, 1.1892, 1}, {3, 1.19, 2}, {3, 1.8340, 6}, {3, 1.8341, 7}, {3, 2, 7}, {3, 1, -1},
        {20, 1, -1}, {20, 2, (1 << 20) - 1}, {20, 0.5, -(1 << 20) - 1}, {20, 1 + 0x1p-52, 0},
        {20, DBL_TRUE_MIN, -1074 * (1 << 20) - 1}, {20, DBL_MAX, 1024 * (1 << 20) - 1},
    };

    for (size_t i = 0; i < COUNT(known); i++)
        if (exponential_index(known[i].value, known[i].scale) != known[i].index)
            fail_msg("%g at scale %d: %d, not %d", known[i].value, known[i].scale,
                     exponential_index(known[i].value, known[i].scale), known[i].index);
}

/* Bounds as they are computed directly: base^i is in the bucket before, what follows it in the next. */
static void exponential_bounds_are_exact(void **state)
{
    for (int scale = -3; scale <= 12; scale++)
        for (int32_t i = -400; i <= 400; i += 7) {
            long double bound = exp2l((long double)i * exp2l(-(long double)scale));
            double below = (double)bound, above;

            if (!isfinite(below) || below < DBL_MIN)
                continue;
            if ((long double)below > bound)
                below = nextafter(below, 0);
            above = nextafter(below, INFINITY);
            assert_int_equal(exponential_index(below, scale), i - 1);
            assert_int_equal(exponential_index(above, scale), i);
        }
}

static void exponential_scale_adapts(void **state)
{
    for (int round = 0; round < 20; round++) {
        struct exponential e;
        double values[500];
        size_t count = 1 + (size_t)random_number(500), zero = 0;
        int decades = (int)random_number(round < 15 ? 12 : 600) + 1;

        seed = (uint64_t)round;
        exponential_reset(&e);
        for (size_t i = 0; i < count; i++) {
            values[i] = random_number(20) ? pow(10, (double)random_number(1000000) / 1e6 * decades - decades / 2.0) : 0;
            zero += values[i] == 0;
            exponential_add(&e, values[i], 1);
        }
        assert_int_equal(e.zero, zero);
        assert_true(e.used <= EXPONENTIAL_BUCKETS);
        assert_true(e.scale <= EXPONENTIAL_SCALE_MAX);
        for (uint32_t b = 0; b < e.used; b++) { /* as if it had had that scale from the beginning */
            uint64_t expected = 0;

            for (size_t i = 0; i < count; i++)
                expected += values[i] > 0 && exponential_index(values[i], e.scale) == e.low + (int32_t)b;
            assert_int_equal(e.bucket[b], expected);
        }
        if (e.used && e.scale < EXPONENTIAL_SCALE_MAX) { /* the finest that there is room for */
            int32_t low = INT32_MAX, high = INT32_MIN;

            for (size_t i = 0; i < count; i++) {
                int32_t at = values[i] > 0 ? exponential_index(values[i], e.scale + 1) : 0;

                if (values[i] > 0 && at < low)
                    low = at;
                if (values[i] > 0 && at > high)
                    high = at;
            }
            assert_true(high - low >= EXPONENTIAL_BUCKETS);
        }
    }
}

static void exponential_takes_the_widest_range(void **state)
{
    struct exponential e;

    exponential_reset(&e);
    exponential_add(&e, DBL_TRUE_MIN, 1);
    exponential_add(&e, DBL_MAX, 2);
    exponential_add(&e, 1, 4);
    exponential_add(&e, -1, 8);
    assert_int_equal(e.zero, 8);
    assert_true(e.scale >= EXPONENTIAL_SCALE_MIN && e.used <= EXPONENTIAL_BUCKETS);
    assert_int_equal(e.bucket[0], 1);
    assert_int_equal(e.bucket[e.used - 1], 2);
    assert_int_equal(e.bucket[exponential_index(1, e.scale) - e.low], 4);
}

/* --- documentation --- */

static char *read_file(const char *path)
{
    struct buf b = BUF_INIT;
    FILE *f = fopen(path, "r");
    size_t n;

    assert_non_null(f);
    do {
        n = fread(buf_room(&b, 65536), 1, 65536, f);
        b.len += n;
    } while (n);
    fclose(f);
    return buf_cstr(&b);
}

static void documentation_lists_all_metrics(void **state)
{
    static const char *const instruments[] = {[OTLP_SUM] = "counter", [OTLP_UPDOWN] = "updowncounter",
                                              [OTLP_GAUGE] = "gauge", [OTLP_HISTOGRAM] = "histogram"};
    char *text = read_file(SOURCE_ROOT "/docs/otlp-metrics.md"), *registry = read_file(SOURCE_ROOT "/docs/otlp-registry.yaml");

    for (int f = 0; f < OTLP_FAMILIES; f++) {
        const struct otlp_metric *m = &otlp_metrics_table[f];
        char *row = xasprintf("| `%s` | %s | `%s` | ", m->name, instruments[m->kind], m->unit);
        char *end = xasprintf(" | %s |\n", m->help), *at = strstr(text, row);
        char *entry = xasprintf("    metric_name: %s\n    stability: development\n    brief: %s\n    instrument: %s\n"
                                "    unit: \"%s\"\n",
                                m->name, m->help, instruments[m->kind], m->unit);
        bool own = strncmp(m->name, "appscope.", 9) == 0;

        if (!at || !strstr(at, end) || strstr(at, end) > strchr(at, '\n'))
            fail_msg("docs/otlp-metrics.md has no row \"%s...%s\"", row, end);
        if (!strstr(registry, entry) != !own)
            fail_msg("docs/otlp-registry.yaml %s\n%s", own ? "hasn't" : "shouldn't have", entry);
        free(row);
        free(end);
        free(entry);
    }
    free(text);
    free(registry);
}

static int set_up(void **state)
{
    struct config cfg;

    memset(&cfg, 0, sizeof(cfg));
    common = otlp_common_new(&cfg);
    return 0;
}

static int tear_down(void **state)
{
    otlp_common_free(common);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_go_to_metrics),
        cmocka_unit_test(exchanges_have_histograms),
        cmocka_unit_test(calls_and_lookups_have_names),
        cmocka_unit_test(totals_are_those_of_the_samples),
        cmocka_unit_test(low_memory_keeps_what_is_read_cumulative),
        cmocka_unit_test(intervals_of_deltas_follow_each_other),
        cmocka_unit_test(full_queues_lose_nothing_before_the_end),
        cmocka_unit_test(clocks_that_are_set_back_make_no_negative_intervals),
        cmocka_unit_test(other_programs_begin_anew),
        cmocka_unit_test(series_are_bounded_and_sums_right),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(keys_made_in_vain_leave_nothing),
        cmocka_unit_test(idle_deltas_make_room),
        cmocka_unit_test(hostile_texts_are_cleaned),
        cmocka_unit_test(exemplars_are_of_sampled_spans),
        cmocka_unit_test(own_metrics_keep_their_names),
        cmocka_unit_test(own_metrics_are_bounded),
        cmocka_unit_test(exponential_indices_are_those_of_the_specification),
        cmocka_unit_test(exponential_bounds_are_exact),
        cmocka_unit_test(exponential_scale_adapts),
        cmocka_unit_test(exponential_takes_the_widest_range),
        cmocka_unit_test(documentation_lists_all_metrics),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
