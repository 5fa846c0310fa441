/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of src/telemetry share. */
#ifndef SCOPE_TELEMETRY_INTERNAL_H
#define SCOPE_TELEMETRY_INTERNAL_H

#include <event2/event.h>

#include "base/buf.h"
#include "sink/sink.h"
#include "telemetry/filter.h"
#include "telemetry/limit.h"
#include "telemetry/telemetry.h"

#define LINE_MAX_BYTES 32768u /* longer lines become several events */
#define LINE_WAIT_MS   2000u  /* how long the start of a line waits for its end */
#define CLASS_MAX      24     /* different class_ strings; further ones are summed up as "other" */

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_TIMER, METRIC_HISTOGRAM };

enum metric_flag {
    METRIC_MEAN       = 1 << 0, /* summary: mean over numops instead of the sum */
    METRIC_AT_ONCE    = 1 << 1, /* never summarised: the caller gives one sample per period */
    METRIC_HUNDREDTHS = 1 << 2, /* value has two decimal places */
    METRIC_OP_CLASS   = 1 << 3, /* `class` is a tag of single operations, too */
    METRIC_CLASS_LAST = 1 << 4, /* in summaries `class` comes after `unit` */
    METRIC_NUMOPS     = 1 << 5, /* how many operations `value` stands for is a tag */
    METRIC_KEYED      = 1 << 6, /* a summary for each combination of tags, as far as they are told at all */
    METRIC_THOUSANDTH = 1 << 7, /* value is in thousandths of the unit */
};

struct metric_def {
    const char *name, *unit;
    enum metric_type type;
    enum cfg_metric_watch watch;     /* CFG_MW_MAX: always */
    uint8_t per_op;                  /* from this verbosity on each operation is reported; 10: never */
    uint8_t flags;                   /* enum metric_flag */
    enum cfg_event_watch instead_of; /* raw metric events are left out while this watch is on; CFG_EW_MAX: none */
};
extern const struct metric_def metric_defs[TM_METRIC_MAX];

struct cell { /* one metric and class of one process in this period */
    int64_t value;
    uint64_t numops;
    bool seen;
};

#define KEYED_MAX 2000  /* combinations of tags per process and period; further ones are summed up as "other" */
struct keyed { /* one metric and combination of tags of one process in this period */
    struct keyed *next;         /* as they came */
    uint32_t hash;
    enum tm_metric metric;
    struct cell sum;
    size_t field_count;
    struct tm_field fields[];   /* with copies of what they point to */
};

struct line { /* output of one descriptor that waits for its newline */
    struct line *next;
    enum cfg_event_watch watch;
    uint64_t channel;
    char *source;
    struct buf text;
    uint64_t time_ns;   /* of the first write */
    struct tm_context trace; /* ... the span that it was made in, if it was in one: */
    bool traced;
    uint64_t arrived;   /* monotonic ms */
    bool binary;        /* the last write was binary and was replaced */
    uint64_t burst;     /* bytes of binary data that weren't told yet; time_ns and arrived are those of the first */
    uint8_t missing;    /* bytes of a UTF-8 sequence that the next write has to bring */
};

/* What telemetry keeps for a process (tm_process.aggregate). */
struct process {
    struct telemetry *t;
    struct tm_process *who;
    struct process *prev, *next;
    struct {
        struct cell *cell;      /* [0] without class, [n] class n - 1 of the pipeline */
        size_t count;
    } sums[TM_METRIC_MAX];
    struct {
        struct keyed **slot;    /* KEYED_SLOTS, open addressing; NULL: none yet */
        struct keyed *first, *last;
        size_t count;
        struct keyed *recent[TM_METRIC_MAX]; /* that came last */
    } keyed;
    struct line *lines;
};

struct watch {
    bool enable, allowbinary;
    bool all;                   /* its filters let everything through */
    struct filter *name, *field, *value;
    const char *sourcetype;
};

/* What the name of a tag says. */
struct tag_name {
    const char *name;           /* known by its address */
    uint8_t level;              /* verbosity from which on it is attached, unless the field has a level of its own */
    uint8_t flags;              /* enum tag_flag */
};
#define TAG_NAMES 256           /* a power of two */

/* Which fields of a metric tell its sums apart, as they came last. */
#define SHAPE_MAX 4
struct shape {
    size_t count;               /* of fields; 0: none are known */
    size_t kept;                /* of those */
    struct {
        const char *name;
        uint8_t level;
        bool keep;
    } field[SHAPE_MAX];
};

enum { TO_EVENTS, TO_METRICS, TO_TRACES, ROUTES };
struct route { /* of events, of metrics, or of spans */
    struct sink *sink[SINKS_MAX];
    size_t count;
    const char *lost_queue, *lost_destination; /* kinds of losses */
    uint64_t *taken;            /* records that at least one of them has taken */
};

struct loss {
    struct loss *next;
    char *kind;
    uint64_t total, told_event, told_metric;
    uint64_t told_at;           /* monotonic ms, 0: never */
    struct process *by;         /* the process concerned, NULL: several or none */
};

struct telemetry {
    struct event_base *base;
    struct event *timer;        /* partial lines and notices */
    bool timer_set, finished;
    bool events_on, metrics_on, spans_on;
    struct watch watch[CFG_EW_MAX];
    unsigned verbosity;
    bool metric_watch[CFG_MW_MAX];
    struct ev_tag *tags;
    size_t tag_count;
    struct tag_name names[TAG_NAMES]; /* met of late */
    struct shape shapes[TM_METRIC_MAX];
    char *auth_token;           /* only for the destination that asks for it */
    struct route to[ROUTES];
    struct limit limit;
    uint64_t held_pending, held_since; /* not yet told; monotonic ms */
    struct process *held_by;
    struct {
        struct limit limit;     /* of all */
        uint32_t maxperrule;
        struct tm_rule *held;   /* a list of those that have something to tell */
        uint64_t since;         /* when its first came, or this was told; monotonic ms */
    } notices;
    struct loss *losses;
    char *classes[CLASS_MAX];
    size_t class_count;
    struct process *first, *last;
    struct tm_process self_who;
    struct process *self;       /* this collector, for notices that concern no process */
    struct buf scratch;         /* of one value */
    struct tm_field *each;      /* the fields of one record one by one */
    size_t each_room;
    struct tm_stats stats;
};

/* The process's private part, made if it is missing. */
struct process *process_of(struct telemetry *t, struct tm_process *who);
uint64_t now_ms(void);
uint64_t now_realtime_ns(void);

/* event.c */
/* Filters, rate limit, output. */
void event_send(struct telemetry *t, struct tm_process *who, const struct tm_event *e);
/* Filters, limits of notices, output. */
void event_send_notice(struct telemetry *t, struct tm_process *who, struct tm_rule *rule, const struct tm_event *e);
/* Source notice.held: as event_notice(). */
bool event_notices_held(struct telemetry *t, struct process *p, uint64_t time_ns, const struct tm_rule *rule);
/* data is {"message": text}. */
void event_message(struct telemetry *t, struct process *p, enum cfg_event_watch watch, const char *source,
                   uint64_t time_ns, uint64_t channel, const char *text, size_t len, const struct tm_context *trace);
/* source `notice`, data is text; not limited, not filtered. False if the queue was full. */
bool event_notice(struct telemetry *t, struct process *p, uint64_t time_ns, const char *text);
/* A raw metric event. */
void event_metric(struct telemetry *t, struct process *p, const char *metric, const char *type,
                  const struct tm_field *value, uint64_t time_ns, const struct tm_field *fields, size_t count);

/* metric.c */
void metric_sample(struct telemetry *t, struct process *p, const struct tm_sample *s);
void metric_summarise(struct telemetry *t, struct process *p, uint64_t time_ns);
void metric_captured(struct telemetry *t, struct process *p, const struct tm_captured *m);
/* Frees what was summed up and not told. */
void metric_forget(struct process *p);
bool metric_raw_wanted(const struct telemetry *t, enum tm_metric m);
/* scope.lost; false if the queue was full. */
bool metric_lost(struct telemetry *t, struct process *p, const char *kind, uint64_t count, uint64_t time_ns);

/* lines.c */
enum tm_text lines_add(struct telemetry *t, struct process *p, enum cfg_event_watch watch, const char *source,
               uint64_t time_ns, uint64_t channel, const char *text, size_t len, uint64_t more,
               const struct tm_context *trace);
/* Sends the unfinished lines that have waited for `ms` or longer, frees them if `done`. True if some still wait. */
bool lines_flush(struct telemetry *t, struct process *p, uint64_t ms, bool done);

/* telemetry.c */
void telemetry_wake(struct telemetry *t);
/* The rate limit holds an event of p back. */
void telemetry_hold_back(struct telemetry *t, struct process *p);
void telemetry_hold_notice(struct telemetry *t, struct process *p, struct tm_rule *rule);
/* A record of ours didn't fit into the queue, or couldn't be sent at all. */
void telemetry_lost(struct telemetry *t, struct process *p, const char *kind, uint64_t count);
/* To each sink of a route; what has no room for it is counted, unless it is a notice, which is told again. False: none has
 * taken it. Sets r->who. */
bool telemetry_write(struct telemetry *t, const struct route *to, struct tm_process *who, struct ev_record *r, bool notice);

#endif
