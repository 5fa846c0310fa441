/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/metrics_series.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "otlp/attribute.h"
#include "otlp/pb.h"

static const struct bounds {
    size_t count;
    double at[BOUNDS_MAX];
} size_bounds = {SIZE_BOUNDS, {0x1p10, 0x1p12, 0x1p14, 0x1p16, 0x1p18, 0x1p20, 0x1p22, 0x1p24, 0x1p26, 0x1p28, 0x1p30, 0x1p32}},
  own_bounds = {OWN_BOUNDS, {0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000}}, /* the SDK's default */
  duration_bounds = {OTLP_BOUNDS, OTLP_DURATION_BOUNDS};

static const struct bounds *bounds_of(enum otlp_unit unit)
{
    return unit == OTLP_SECONDS ? &duration_bounds : unit == OTLP_SIZE ? &size_bounds : &own_bounds;
}

/* In the unit that OTLP is told. */
static double told(enum otlp_unit unit, double value)
{
    return unit == OTLP_SECONDS ? value / 1e6 : value;
}

/* --- histograms --- */

static size_t buckets_of(const struct histogram *h, enum otlp_unit unit)
{
    return h->exponential ? 0 : bounds_of(unit)->count + 1;
}

size_t histogram_bytes(const struct histogram *h, enum otlp_unit unit)
{
    return sizeof(*h) + buckets_of(h, unit) * sizeof(*h->bucket) + (h->exponential ? sizeof(*h->exponential) : 0) +
           (h->exemplars ? EXEMPLARS_MAX * sizeof(*h->exemplars) : 0);
}

struct histogram *histogram_new(enum otlp_unit unit, bool exponential, size_t *bytes)
{
    struct histogram *h =
        xcalloc(1, sizeof(*h) + (exponential ? 0 : bounds_of(unit)->count + 1) * sizeof(*h->bucket));

    if (exponential) {
        h->exponential = xmalloc(sizeof(*h->exponential));
        exponential_reset(h->exponential);
    }
    *bytes += histogram_bytes(h, unit);
    return h;
}

void histogram_free(struct histogram *h)
{
    free(h->exemplars);
    free(h->exponential);
    free(h);
}

void histogram_told(struct histogram *h)
{
    h->offered = 0;
    for (size_t i = 0; h->exemplars && i < EXEMPLARS_MAX; i++)
        h->exemplars[i].time_ns = 0;
}

void histogram_reset(struct histogram *h, enum otlp_unit unit)
{
    h->count = 0;
    h->sum = h->min = h->max = 0;
    if (h->exponential)
        exponential_reset(h->exponential);
    memset(h->bucket, 0, buckets_of(h, unit) * sizeof(*h->bucket));
}

/* Explicit buckets keep their newest. Of the others each has the same chance to be kept, as in a reservoir. */
static size_t add_exemplar(struct histogram *h, size_t bucket, double value, const struct tm_context *trace, uint64_t time_ns,
                           uint64_t random)
{
    uint64_t at = bucket;
    size_t bytes = 0;

    if (!h->exemplars) {
        h->exemplars = xcalloc(EXEMPLARS_MAX, sizeof(*h->exemplars));
        bytes = EXEMPLARS_MAX * sizeof(*h->exemplars);
    }
    h->offered++;
    if (h->exponential)
        at = h->offered <= EXEMPLARS_MAX ? h->offered - 1 : random % h->offered;
    if (at < EXEMPLARS_MAX) {
        struct exemplar *e = &h->exemplars[at];

        e->time_ns = time_ns;
        e->value = value;
        memcpy(e->trace_id, trace->trace_id, sizeof(e->trace_id));
        memcpy(e->span_id, trace->span_id, sizeof(e->span_id));
    }
    return bytes;
}

size_t histogram_add(struct histogram *h, enum otlp_unit unit, double value, uint64_t count, const struct tm_context *trace,
                     uint64_t time_ns, uint64_t random)
{
    const struct bounds *bounds = bounds_of(unit);
    size_t i = 0;

    if (!h->count || value < h->min)
        h->min = value;
    if (!h->count || value > h->max)
        h->max = value;
    h->count += count;
    h->sum += value * (double)count;
    if (h->exponential) {
        exponential_add(h->exponential, told(unit, value), count);
    } else {
        while (i < bounds->count && value > bounds->at[i])
            i++;
        h->bucket[i] += count;
    }
    return trace && trace->flags & 1 ? add_exemplar(h, i, value, trace, time_ns, random) : 0;
}

/* --- attributes --- */

static const char *const schemes[] = {NULL, "http", "https"};
static const char *const versions[] = {NULL, "0.9", "1.0", "1.1", "2", "3"};

static unsigned number_of(const char *const *words, size_t count, const struct tm_str *s)
{
    for (unsigned i = 1; s->p && i < count; i++)
        if (strlen(words[i]) == s->len && memcmp(words[i], s->p, s->len) == 0)
            return i;
    return 0;
}

unsigned series_scheme(const struct tm_str *s)
{
    return number_of(schemes, sizeof(schemes) / sizeof(*schemes), s);
}

unsigned series_version(const struct tm_str *s)
{
    return number_of(versions, sizeof(versions) / sizeof(*versions), s);
}

static void word(struct buf *b, unsigned field, const char *name, const char *value)
{
    if (value)
        otlp_attr_str(b, field, name, value);
}

static void text(struct buf *b, unsigned field, const char *name, const struct text *value)
{
    if (value)
        otlp_attr_text(b, field, name, value->p, value->len);
}

static void server_attributes(struct buf *b, unsigned field, const struct key *k)
{
    text(b, field, "server.address", k->server);
    if (k->port)
        otlp_attr_int(b, field, "server.port", (int64_t)k->port);
}

static void http_attributes(struct buf *b, unsigned field, const struct key *k, bool server)
{
    char code[8];

    word(b, field, "http.request.method", otlp_methods[k->word]);
    word(b, field, "url.scheme", schemes[k->scheme]);
    if (k->status)
        otlp_attr_int(b, field, "http.response.status_code", k->status);
    word(b, field, "network.protocol.version", versions[k->version]);
    if (k->error) {
        text(b, field, "error.type", k->error);
    } else if (k->status >= (server ? 500 : 400)) { /* of three digits */
        code[0] = (char)('0' + k->status / 100);
        code[1] = (char)('0' + k->status / 10 % 10);
        code[2] = (char)('0' + k->status % 10);
        code[3] = 0;
        word(b, field, "error.type", code);
    }
    if (!server)
        server_attributes(b, field, k);
}

static void rpc_attributes(struct buf *b, unsigned field, const struct key *k, bool server)
{
    const char *code = k->status ? otlp_rpc_codes[k->status - 1] : NULL;

    word(b, field, "rpc.system.name", "grpc");
    text(b, field, "rpc.method", k->name);
    word(b, field, "rpc.status_code", code);
    if (k->error)
        text(b, field, "error.type", k->error);
    else if (code && otlp_rpc_failed(k->status - 1u, server))
        word(b, field, "error.type", code);
    if (!server)
        server_attributes(b, field, k);
}

static void attributes(struct buf *b, unsigned field, enum otlp_labels labels, const struct key *k)
{
    if (k->overflow) {
        otlp_attr_bool(b, field, "otel.metric.overflow", true);
        return;
    }
    switch (labels) {
    case OTLP_NO_LABEL: break;
    case OTLP_OPERATION: word(b, field, "appscope.file.operation", otlp_operations[k->word]); break;
    case OTLP_DISK_WAY: word(b, field, "disk.io.direction", otlp_disk_ways[k->word]); break;
    case OTLP_NET_WAY: word(b, field, "network.io.direction", otlp_net_ways[k->word]); break;
    case OTLP_CLASS: text(b, field, "appscope.operation.class", k->name); break;
    case OTLP_NET_WAY_CLASS:
        word(b, field, "network.io.direction", otlp_net_ways[k->word]);
        text(b, field, "appscope.connection.class", k->name);
        break;
    case OTLP_SOCKET: word(b, field, "appscope.connection.kind", otlp_sockets[k->word]); break;
    case OTLP_HTTP_SERVER:
    case OTLP_HTTP_CLIENT: http_attributes(b, field, k, labels == OTLP_HTTP_SERVER); break;
    case OTLP_RPC_SERVER:
    case OTLP_RPC_CLIENT: rpc_attributes(b, field, k, labels == OTLP_RPC_SERVER); break;
    case OTLP_DNS:
        text(b, field, "dns.question.name", k->name);
        text(b, field, "error.type", k->error);
        break;
    case OTLP_LOST_KIND: text(b, field, "appscope.lost.kind", k->name); break;
    case OTLP_CAPTURED: /* as they are written */
        if (k->error)
            buf_add(b, k->error->p, k->error->len);
        break;
    }
}

/* --- data points --- */

enum { POINTS = 1 };                                                      /* of all kinds */
enum { START = 2, TIME = 3 };                                             /* of all data points */
enum { NUMBER_DOUBLE = 4, NUMBER_INT = 6, NUMBER_ATTRIBUTES = 7 };        /* NumberDataPoint */
enum { COUNT = 4, SUM = 5 };                                              /* of histograms */
enum { BUCKETS = 6, BOUNDS = 7, EXEMPLARS = 8, ATTRIBUTES = 9, MIN = 11, MAX = 12 }; /* HistogramDataPoint */
enum {                                                                    /* ExponentialHistogramDataPoint */
    EXP_ATTRIBUTES = 1, EXP_SCALE = 6, EXP_ZERO = 7, EXP_POSITIVE = 8, EXP_EXEMPLARS = 11, EXP_MIN = 12, EXP_MAX = 13,
    EXP_OFFSET = 1, EXP_COUNTS = 2, /* Buckets */
};
enum { EXEMPLAR_TIME = 2, EXEMPLAR_DOUBLE, EXEMPLAR_SPAN, EXEMPLAR_TRACE }; /* Exemplar */

/* In the interval of their data point, whatever the clock has done meanwhile. */
static void put_exemplars(struct buf *b, unsigned field, enum otlp_unit unit, const struct histogram *h, uint64_t start_ns,
                          uint64_t time_ns)
{
    for (size_t i = 0; h->exemplars && i < EXEMPLARS_MAX; i++) {
        const struct exemplar *e = &h->exemplars[i];
        uint64_t t = e->time_ns < start_ns ? start_ns : e->time_ns > time_ns ? time_ns : e->time_ns;
        size_t at;

        if (!e->time_ns)
            continue;
        at = pb_begin(b, field);
        pb_fixed64(b, EXEMPLAR_TIME, t);
        pb_double(b, EXEMPLAR_DOUBLE, told(unit, e->value));
        pb_bytes(b, EXEMPLAR_SPAN, e->span_id, sizeof(e->span_id));
        pb_bytes(b, EXEMPLAR_TRACE, e->trace_id, sizeof(e->trace_id));
        pb_end(b, at);
    }
}

static void put_explicit(struct buf *b, enum otlp_unit unit, const struct histogram *h)
{
    const struct bounds *bounds = bounds_of(unit);
    size_t at;

    pb_bytes(b, BUCKETS, h->bucket, (bounds->count + 1) * sizeof(*h->bucket));
    at = pb_begin(b, BOUNDS);
    for (size_t i = 0; i < bounds->count; i++) {
        double bound = told(unit, bounds->at[i]);

        buf_add(b, &bound, sizeof(bound));
    }
    pb_end(b, at);
}

static void put_exponential(struct buf *b, const struct exponential *e)
{
    size_t at, counts;

    pb_sint(b, EXP_SCALE, e->scale);
    pb_fixed64(b, EXP_ZERO, e->zero);
    if (!e->used)
        return;
    at = pb_begin(b, EXP_POSITIVE);
    pb_sint(b, EXP_OFFSET, e->low);
    counts = pb_begin(b, EXP_COUNTS);
    for (size_t i = 0; i < e->used; i++)
        pb_varint(b, e->bucket[i]);
    pb_end(b, counts);
    pb_end(b, at);
}

static void put_histogram(struct buf *b, enum otlp_unit unit, const struct histogram *h, uint64_t start_ns, uint64_t time_ns)
{
    bool exponential = h->exponential != NULL;

    pb_fixed64(b, COUNT, h->count);
    pb_double(b, SUM, told(unit, h->sum));
    if (exponential)
        put_exponential(b, h->exponential);
    else
        put_explicit(b, unit, h);
    put_exemplars(b, exponential ? EXP_EXEMPLARS : EXEMPLARS, unit, h, start_ns, time_ns);
    pb_double(b, exponential ? EXP_MIN : MIN, told(unit, h->min));
    pb_double(b, exponential ? EXP_MAX : MAX, told(unit, h->max));
}

unsigned series_attributes_field(const struct otlp_metric *metric, bool exponential)
{
    return metric->kind != OTLP_HISTOGRAM ? NUMBER_ATTRIBUTES : exponential ? EXP_ATTRIBUTES : ATTRIBUTES;
}

void series_write(struct buf *b, const struct series *s, uint64_t start_ns, uint64_t time_ns)
{
    const struct otlp_metric *metric = s->metric;
    bool exponential = metric->kind == OTLP_HISTOGRAM && s->histogram->exponential;
    size_t at = pb_begin(b, POINTS);

    attributes(b, series_attributes_field(metric, exponential), metric->labels, &s->key);
    if (start_ns)
        pb_fixed64(b, START, start_ns);
    pb_fixed64(b, TIME, time_ns);
    if (metric->kind == OTLP_HISTOGRAM)
        put_histogram(b, metric->counts, s->histogram, start_ns, time_ns);
    else if (metric->counts == OTLP_SECONDS)
        pb_double(b, NUMBER_DOUBLE, told(OTLP_SECONDS, (double)s->value));
    else if (metric->counts == OTLP_OWN)
        pb_double(b, NUMBER_DOUBLE, s->number);
    else
        pb_fixed64(b, NUMBER_INT, s->value);
    pb_end(b, at);
}

/* --- metrics --- */

enum { METRICS = 2 };                                                     /* ScopeMetrics */
enum { NAME = 1, HELP, UNIT };                                            /* Metric */
enum { TEMPORALITY = 2, MONOTONIC };
enum { DELTA = 1, CUMULATIVE };
enum { DATA_GAUGE = 5, DATA_SUM = 7, DATA_HISTOGRAM = 9, DATA_EXPONENTIAL = 10 };

size_t metric_begin(struct buf *b, const struct otlp_metric *metric, bool exponential, size_t *ret_data)
{
    size_t at = pb_begin(b, METRICS);

    pb_str(b, NAME, metric->name);
    if (*metric->help)
        pb_str(b, HELP, metric->help);
    if (*metric->unit)
        pb_str(b, UNIT, metric->unit);
    *ret_data = pb_begin(b, metric->kind == OTLP_GAUGE        ? DATA_GAUGE
                            : metric->kind != OTLP_HISTOGRAM  ? DATA_SUM
                            : exponential                     ? DATA_EXPONENTIAL
                                                              : DATA_HISTOGRAM);
    return at;
}

void metric_end(struct buf *b, const struct otlp_metric *metric, bool delta, size_t begin, size_t data)
{
    if (metric->kind != OTLP_GAUGE)
        pb_uint(b, TEMPORALITY, delta ? DELTA : CUMULATIVE);
    if (metric->kind == OTLP_SUM)
        pb_uint(b, MONOTONIC, 1);
    pb_end(b, data);
    pb_end(b, begin);
}
