/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Totals as Prometheus wants them: series by name and labels, which only ever
 * grow (counters, histograms) or are what they are (gauges), and the text of a
 * scrape. docs/prometheus.md has their names.
 *
 * Counters of a process that has ended stay until a scrape has told them, and
 * then for SERIES_KEEP_MS, for a second scraper. Lines of a scrape are bounded,
 * and those of one process among them: what there is no room for goes into one
 * series of its metric, which has the label otel_metric_overflow. What that has
 * grown by is never taken back.
 *
 * Nothing is allocated for a sample whose series exists. Times are milliseconds
 * of CLOCK_MONOTONIC.
 */
#ifndef SCOPE_SINK_SERIES_H
#define SCOPE_SINK_SERIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "event/event.h"

#define SERIES_LINES   20000u  /* of all processes */
#define SERIES_KEEP_MS 120000u
#define SERIES_SHARE       16u  /* of them one process, by name and pid, may have this part, */
#define SERIES_SHARE_LEAST 100u /* or as many lines where that is more */

struct series_set;

/* lines: most lines of a scrape that belong to processes. */
struct series_set *series_new(size_t lines);
void series_free(struct series_set *s);
/* A label of target_info, which says whose metrics these are. Any bytes; the name is made one, and the first of two
 * equal ones counts. */
void series_target(struct series_set *s, const char *name, const char *value);
/* What it does from now on is told by the name and pid that it has now. */
void series_begin(struct series_set *s, const struct tm_process *who, uint64_t now_ms);
/* Not an error if it hasn't begun. */
void series_end(struct series_set *s, const struct tm_process *who, uint64_t now_ms);
void series_sample(struct series_set *s, const struct tm_process *who, const struct tm_sample *sample);
/* kind: one of a few words. */
void series_lost(struct series_set *s, const char *kind, size_t len, uint64_t count);
/* Appends a scrape: OpenMetrics 1.0, or the text format 0.0.4. Returns its number. */
uint64_t series_text(struct series_set *s, bool openmetrics, uint64_t now_ms, struct buf *b);
/* A scraper has all of the text with that number. */
void series_seen(struct series_set *s, uint64_t number);
/* Something has been counted that no scraper knows. */
bool series_news(const struct series_set *s);

/* What docs/prometheus.md must list: name, type and help of the metric i; false: there is none. */
bool series_metric(size_t i, const char **ret_name, const char **ret_type, const char **ret_help);

#endif
