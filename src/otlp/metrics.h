/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics of OTLP (opentelemetry/proto/metrics/v1/metrics.proto): samples are
 * summed up by process, metric and attributes, and told from time to time as
 * records for output_get_otlp(). docs/otlp-metrics.md has their names.
 *
 * Cumulative sums and histograms begin with the observation of their process;
 * those of delta temporality where the ones before ended, and when nothing has
 * come between two exports, they are forgotten. A process's numbers are told once
 * more at its end and then forgotten.
 *
 * A metric of a process has OTLP_SERIES_MAX combinations of attributes at most
 * (the default cardinality limit of the metrics SDK's specification), and all
 * series have a bound of memory: what there is no room for goes to one series of
 * its metric and process, which has the attribute otel.metric.overflow. So sums
 * stay right.
 *
 * Times are CLOCK_REALTIME nanoseconds. That clock may be set back: a process's
 * start stays what it was, and the end of an interval is at least a nanosecond
 * after that of the one before. Nothing is allocated for a sample whose series
 * exists.
 */
#ifndef SCOPE_OTLP_METRICS_H
#define SCOPE_OTLP_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "event/event.h"
#include "otlp/resource.h"

#define OTLP_SERIES_MAX    2000u       /* of a metric and process, with the one of the overflow */
#define OTLP_SERIES_BYTES  (64u << 20) /* memory of all series */
#define OTLP_NAMES_MAX     1000u       /* of metrics that one process has sent itself */
#define OTLP_RECORD_BYTES  53248u      /* of a record when it is full: with its resource and one more point 64 KiB */
#define OTLP_RECORD_POINTS 512u

struct otlp_metrics;

struct otlp_metrics_user {
    const struct otlp_common *common; /* lives as long */
    const struct tm_process *self;    /* the collector: numbers of its own are told as this process's; copied as its resource */
    bool delta, lowmemory, exponential; /* as in struct cfg_otlp */
    /* Takes a copy; false: there is no room. */
    bool (*record)(void *ctx, const char *record, size_t len);
    void *ctx;
};

/* bytes: most memory of series. */
struct otlp_metrics *otlp_metrics_new(const struct otlp_metrics_user *user, size_t bytes, uint64_t now_ns);
/* What has not been told is lost. */
void otlp_metrics_free(struct otlp_metrics *m);

/* A process appears; or goes on as another program: what the old one did is told, and its numbers start anew. */
void otlp_metrics_begin(struct otlp_metrics *m, const struct tm_process *who, uint64_t now_ns);
/* Its last numbers are told. Not an error if it hasn't begun. */
void otlp_metrics_end(struct otlp_metrics *m, const struct tm_process *who, uint64_t now_ns);
void otlp_metrics_sample(struct otlp_metrics *m, const struct tm_process *who, const struct tm_sample *sample);
/* A metric that the program has sent itself (EV_METRIC with text). False if it can't be told: it is a set, a counter that
 * falls, of another type than before, has a name of ours, or there are too many. */
bool otlp_metrics_captured(struct otlp_metrics *m, const struct ev_record *r);
/* kind: one of a few words. */
void otlp_metrics_lost(struct otlp_metrics *m, const char *kind, size_t len, uint64_t count);

/* Tells everything. False if there was no room for some of it, which is told the next time. */
bool otlp_metrics_export(struct otlp_metrics *m, uint64_t now_ns);
/* Something has come since the last export. */
bool otlp_metrics_news(const struct otlp_metrics *m);
/* Data points that had no room and can't be told any more, since the last time. */
uint64_t otlp_metrics_claim_lost(struct otlp_metrics *m);

#endif
