/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From observations to what leaves the house: filters, rate limit, tags,
 * aggregation, verbosity. One `telemetry` per distinct effective configuration;
 * it owns the outputs that the configuration names. Knows nothing about
 * descriptors, system calls or rings; the collector (src/collector) calls it.
 *
 * Single-threaded: all calls come from the collector's event loop. Nothing here
 * blocks. Lengths are bytes; strings need not be NUL-terminated where a length
 * is given; times are CLOCK_REALTIME nanoseconds.
 */
#ifndef SCOPE_TELEMETRY_TELEMETRY_H
#define SCOPE_TELEMETRY_TELEMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "config/config.h"
#include "event/event.h"
#include "telemetry/limit.h"

struct event_base;
struct telemetry;

/* Creates the pipeline for a configuration (copied where needed). base: where transports register.
 * Never fails: destinations that can't be reached are retried and counted. */
struct telemetry *telemetry_new(struct event_base *base, const struct config *cfg);
/* One that has no destinations: good for telemetry_wants_*() and telemetry_per_op(), where the others are not yet. */
struct telemetry *telemetry_new_wishes(const struct config *cfg);
/* Ends all processes, and tells what was held back or lost and not yet told: nothing more comes. Waits for nobody; what
 * is queued goes on to its destinations until telemetry_finish(). */
void telemetry_end(struct telemetry *);
/* After telemetry_end(): rules of telemetry_notice() that still have something to tell may be freed. It is in the sums. */
void telemetry_forget_rules(struct telemetry *);
/* Ends all processes, tells what was held back or lost and not yet told, and waits for the destinations at most
 * `wait_ms`. Afterwards telemetry_stats() is final: what could not be delivered counts as lost_destination. True if
 * everything was delivered. */
bool telemetry_finish(struct telemetry *, unsigned wait_ms);
/* telemetry_finish() if that wasn't called, then frees. */
void telemetry_free(struct telemetry *, unsigned wait_ms);

/* A process appears: start message (if configured) to the event destination. Called again for a process that goes on
 * as another program (exec) when members of tm_process have changed. */
void telemetry_process_start(struct telemetry *, struct tm_process *);
/* Its last summaries are sent and its aggregates freed. */
void telemetry_process_end(struct telemetry *, struct tm_process *, uint64_t time_ns);

/* Cheap question before an event is built: does anything want this source? Name filter included. */
bool telemetry_wants_event(const struct telemetry *, enum cfg_event_watch watch, const char *source, size_t len);
bool telemetry_wants_metric(const struct telemetry *, enum tm_metric);
/* True if this metric is reported for each operation at the configured verbosity (or as raw metric event). */
bool telemetry_per_op(const struct telemetry *, enum tm_metric);

void telemetry_event(struct telemetry *, struct tm_process *, const struct tm_event *);
/* A rule of notices: has a limit of its own (notice.maxperrule). Zeroed at first but for its name; must live as long as the
 * telemetry. */
struct tm_rule {
    const char *name;
    struct limit limit;
    uint64_t held, held_total;      /* held back: not yet told, and ever */
    struct tm_rule *next;           /* with something to tell; private */
    struct process *by;
};
/* An event of CFG_EW_NOTICE. Its filters apply, and the limits of notices, not that of other events: a flood of these hides
 * no notice. What is held back is told by rule as an event of source notice.held, at most once a second. */
void telemetry_notice(struct telemetry *, struct tm_process *, struct tm_rule *, const struct tm_event *);
/* Text written to a console or log file; `data` of the event is {"message": ...}. more: bytes that were written behind it
 * and that nobody has seen: of binary data, of which only the length is told, they are counted, too. trace: the span that it was written in, NULL: none;
 * of a line that is written in pieces that of the first one counts. */
enum tm_text {
    TM_LINES,
    TM_DATA,
    TM_UNSURE, /* data before, and what was seen of this looks like text: it was counted as data, the next shall be seen whole */
};
enum tm_text telemetry_message(struct telemetry *, struct tm_process *, enum cfg_event_watch watch, const char *source,
                       uint64_t time_ns, uint64_t channel, const char *text, size_t len, uint64_t more,
                       const struct tm_context *trace);
void telemetry_sample(struct telemetry *, struct tm_process *, const struct tm_sample *);
/* Whether anybody takes spans; and one that has ended. Neither filters nor the limit of events apply. */
bool telemetry_wants_spans(const struct telemetry *);
void telemetry_span(struct telemetry *, struct tm_process *, const struct tm_span *);
void telemetry_captured(struct telemetry *, struct tm_process *, const struct tm_captured *);

/* End of a summary period for one process: emits its aggregates. */
void telemetry_summarise(struct telemetry *, struct tm_process *, uint64_t time_ns);

/* Something was lost or could not be observed: counted per kind, told as a notice event (at most one per
 * second and kind, with the number) and as metric scope.lost. */
void telemetry_loss(struct telemetry *, struct tm_process *, const char *kind, uint64_t count, uint64_t time_ns);

struct tm_stats {
    uint64_t events, metrics, spans; /* delivered to the outputs' queues */
    uint64_t held_back;             /* by the rate limiter */
    uint64_t filtered;
    uint64_t lost_queue, lost_destination; /* records dropped behind the filters */
};
void telemetry_stats(const struct telemetry *, struct tm_stats *ret);
/* Hands everything buffered to the destinations now (files: write(2)); true when nothing is pending. */
bool telemetry_flush(struct telemetry *);
/* What is queued waits for destinations that aren't connected; the others have all of theirs. */
bool telemetry_stuck(const struct telemetry *);
/* Writes one line per destination for `scope ps`/logs: name, URL, connected, attempts, failure, queue, lost. */
/* Appends its destinations, with their state: members of a JSON array that may have others in front. */
void telemetry_describe(const struct telemetry *, struct buf *);
/* Where metrics are, if that is only known by now (a port that was free); NULL: as configured. Valid until the next call. */
const char *telemetry_metric_url(const struct telemetry *);
/* Somebody is expected to fetch the last metrics. since_ms: monotonic, when all processes had ended. */
bool telemetry_awaited(const struct telemetry *, uint64_t since_ms);
/* The line that a payload connection begins with, from whom it comes (this collector): malloc'ed. */
char *telemetry_payload_start(const struct telemetry *);

#endif
