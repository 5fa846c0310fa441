/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where records go, and in which format: one file for each format behind one
 * struct of functions. What a sink gets has passed filters and limits and has
 * the tags that it is to have; a sink only decides how it looks and hands it to
 * a destination. All calls come from the collector's event loop; none blocks
 * but flush() and wait().
 *
 * What formats need that don't just write down each record:
 * - Values are typed (struct tm_field). A counter's value is what it has grown
 *   by since the last record with the same name and tags, a gauge's is what it
 *   is; timers and histograms give the mean, or the sum, over `numops`. A sink
 *   that tells totals (Prometheus) adds counters up by name and tags.
 * - Start times (OTLP): a series starts with begin() of its process and each of
 *   its periods where the one before ended, at time_ns of the last record.
 * - Histograms can't be made from sums, and totals need none: a sink that has
 *   `sample` gets each sample in place of what it would be summed up to.
 */
#ifndef SCOPE_SINK_SINK_H
#define SCOPE_SINK_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "config/config.h"
#include "event/event.h"

struct event_base;
struct sink;

struct sink_stats {
    uint64_t queued; /* records that wait */
    bool connected;
};

enum sink_result {
    SINK_TAKEN,
    SINK_FULL,  /* no room in its queue: the record is lost */
    SINK_UNFIT, /* can't be told in this format, however often it is tried */
    SINK_OTHER, /* not what this destination gets: another one may */
};

struct sink_format {
    /* A process appears, or goes on as another program. False: it should have been announced, and there was no room. */
    bool (*begin)(struct sink *s, const struct tm_process *who);
    /* Its address may be that of another one from now on. */
    void (*end)(struct sink *s, const struct tm_process *who);
    /* NULL: it gets records of metrics. Else samples, and of metrics only those records that no sample stands for:
     * losses, and metrics that the program itself has sent. */
    void (*sample)(struct sink *s, const struct tm_process *who, const struct tm_sample *sample);
    /* A span that has ended; takes a copy. NULL: for a sink of other things. */
    enum sink_result (*span)(struct sink *s, const struct tm_process *who, const struct tm_span *span);
    /* Takes a copy. */
    enum sink_result (*write)(struct sink *s, const struct ev_record *r);
    /* Hands everything to the destination now; true if nothing is left. */
    bool (*flush)(struct sink *s);
    /* The same, waiting at most ms milliseconds. Does not run the event loop. */
    bool (*wait)(struct sink *s, unsigned ms);
    /* There will be no more records: what is left is lost. */
    void (*abandon)(struct sink *s);
    /* Number of records that were taken and then lost, since the last time; of a destination that several sinks share
     * each is counted once. */
    uint64_t (*claim_lost)(struct sink *s);
    void (*stats)(const struct sink *s, struct sink_stats *ret);
    /* Appends name and state of its destination as a JSON object; behind a comma unless it is the first in an array. */
    void (*describe)(const struct sink *s, const char *name, struct buf *b);
    /* Where it is, if only the sink knows; valid until the next call. NULL: as configured. */
    const char *(*url)(const struct sink *s);
    /* Somebody is expected to fetch what there is, who has not been here since; since_ms: monotonic, when all processes
     * had ended. NULL: nobody. */
    bool (*awaited)(const struct sink *s, uint64_t since_ms);
    void (*free)(struct sink *s);
};

struct sink {
    const struct sink_format *format;
    const void *place; /* the destination: equal for sinks that share one */
};

/* Who uses a sink. */
struct sink_user {
    struct event_base *base;
    /* The destination has been made anew and knows nobody: begin() shall be called for each process. */
    void (*anew)(void *ctx, struct sink *s);
    void *ctx;
};

/* As the configuration says (copied where needed). Never fails: destinations that can't be reached are tried again.
 * Freed by format->free(). */
#define SINKS_MAX 4
/* ... to ret; returns how many. */
size_t sinks_for_events(const struct sink_user *user, const struct config *cfg, struct sink *ret[SINKS_MAX]);
size_t sinks_for_metrics(const struct sink_user *user, const struct config *cfg, struct sink *ret[SINKS_MAX]);
/* May be none. All of them have `span`. */
size_t sinks_for_traces(const struct sink_user *user, const struct config *cfg, struct sink *ret[SINKS_MAX]);

#endif
