/* SPDX-License-Identifier: Apache-2.0 */
/* What is summed up for one metric of a process and one combination of attributes, and how it is written. */
#ifndef SCOPE_OTLP_METRICS_SERIES_H
#define SCOPE_OTLP_METRICS_SERIES_H

#include "base/buf.h"
#include "otlp/conventions.h"
#include "otlp/exponential.h"
#include "otlp/metrics_table.h"
#include "otlp/texts.h"

#define SIZE_BOUNDS   12
#define OWN_BOUNDS    15
#define BOUNDS_MAX    OWN_BOUNDS
#define EXEMPLARS_MAX (BOUNDS_MAX + 1) /* one for each bucket; of exponential histograms a sample of that many */

/* Which series it is. No padding: compared as bytes. */
struct key {
    uint8_t family;          /* enum otlp_family; OTLP_FAMILIES: captured */
    bool overflow;
    uint8_t word;            /* of an attribute that is one of a few words, or a method */
    uint8_t scheme, version; /* 0: not known */
    uint8_t unused;
    uint16_t status;         /* of HTTP, 0: none; of gRPC and one more, 0: not known */
    uint64_t port;           /* of the server, 0: not known */
    const struct text *name; /* RPC method, DNS name, class, kind; of what is captured the metric's */
    const struct text *server;
    const struct text *error; /* of what is captured its attributes, as they are written */
};
_Static_assert(sizeof(struct key) == 40, "padding");

struct exemplar {
    uint64_t time_ns;        /* 0: none */
    double value;
    uint8_t trace_id[16], span_id[8];
};

struct histogram {
    uint64_t count;
    double sum, min, max;    /* in the unit of samples: whole numbers but for a program's own */
    struct exemplar *exemplars; /* EXEMPLARS_MAX, or NULL */
    uint64_t offered;        /* exemplars, since the last export */
    struct exponential *exponential; /* or the buckets: each by itself, the last one without bound */
    uint64_t bucket[];
};

struct series {
    struct series *same_slot;
    struct series *next;     /* of its metric */
    const void *group;       /* whose it is */
    const struct otlp_metric *metric;
    struct key key;
    uint64_t hash;
    uint64_t start_ns;
    bool touched;            /* since the last export */
    union {
        uint64_t value;
        double number;       /* of a program's own */
        struct histogram *histogram;
    };
};

/* bytes: what it took, added. */
struct histogram *histogram_new(enum otlp_unit unit, bool exponential, size_t *bytes);
void histogram_free(struct histogram *h);
size_t histogram_bytes(const struct histogram *h, enum otlp_unit unit);
/* Its exemplars have been told. */
void histogram_told(struct histogram *h);
/* Nothing has come. */
void histogram_reset(struct histogram *h, enum otlp_unit unit);
/* count: so many times. trace: of a span that is told, or NULL. random: any number. Returns bytes allocated. */
size_t histogram_add(struct histogram *h, enum otlp_unit unit, double value, uint64_t count, const struct tm_context *trace,
                     uint64_t time_ns, uint64_t random);

/* Numbers of words of attributes; 0: none that is known. */
unsigned series_scheme(const struct tm_str *s);
unsigned series_version(const struct tm_str *s);

/* Appends a data point as field 1 of Sum, Gauge, Histogram or ExponentialHistogram. start_ns: 0 for none. */
void series_write(struct buf *b, const struct series *s, uint64_t start_ns, uint64_t time_ns);
/* The number of the field that attributes of a metric's data points are. */
unsigned series_attributes_field(const struct otlp_metric *metric, bool exponential);
/* Appends what a Metric has beside its data points: begin before them, end behind. */
size_t metric_begin(struct buf *b, const struct otlp_metric *metric, bool exponential, size_t *ret_data);
void metric_end(struct buf *b, const struct otlp_metric *metric, bool delta, size_t begin, size_t data);

#endif
