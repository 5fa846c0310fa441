/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of src/sink share. */
#ifndef SCOPE_SINK_INTERNAL_H
#define SCOPE_SINK_INTERNAL_H

#include "output/output.h"
#include "sink/sink.h"

/* A sink that makes a line of each record, for an output. */
struct line_sink {
    struct sink sink;
    struct output *output;
    struct buf line; /* that is being made */
};

bool line_flush(struct sink *s);
bool line_wait(struct sink *s, unsigned ms);
void line_abandon(struct sink *s);
uint64_t line_claim_lost(struct sink *s);
void line_stats(const struct sink *s, struct sink_stats *ret);
void line_describe(const struct sink *s, const char *name, struct buf *b);
/* Releases what is in it, not itself. */
void line_release(struct line_sink *l);
enum sink_result line_write(struct line_sink *l);
/* Functions of struct sink_format that are the same for all of them. */
#define LINE_FUNCTIONS                                                                                        \
    .flush = line_flush, .wait = line_wait, .abandon = line_abandon, .claim_lost = line_claim_lost,           \
    .stats = line_stats, .describe = line_describe

/* start: processes are announced (docs/data-model.md, "Start messages"). */
struct sink *ndjson_sink_new(const struct sink_user *user, const struct cfg_transport *to, const struct config *cfg,
                             bool start);
struct sink *journal_sink_new(const struct sink_user *user, const struct cfg_transport *to);
/* The signal of cfg->otlp.to[] must be enabled. */
struct sink *otlp_traces_sink_new(const struct sink_user *user, const struct config *cfg);
struct sink *otlp_metrics_sink_new(const struct sink_user *user, const struct config *cfg);
struct sink *otlp_logs_sink_new(const struct sink_user *user, const struct config *cfg);
struct sink *prometheus_sink_new(const struct sink_user *user, const struct cfg_transport *at, const struct config *cfg);
struct sink *statsd_sink_new(const struct sink_user *user, const struct cfg_transport *to, const struct config *cfg);

#endif
