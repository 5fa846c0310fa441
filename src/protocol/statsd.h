/* SPDX-License-Identifier: Apache-2.0 */
/*
 * StatsD metrics, with the extensions of DogStatsD, in datagrams or streams:
 *
 *   NAME ":" VALUE *( ":" VALUE ) "|" TYPE [ "|@" RATE ] [ "|#" TAG *( "," TAG ) ] *( "|" other ) LF
 *
 * TYPE is c, g, ms, s, h or d; TAG is KEY or KEY:VALUE. Several values (DogStatsD
 * 1.1) are told as several metrics. What else a client of DogStatsD sends (_e
 * events, _sc checks) and whatever is no metric is counted, not told.
 * (github.com/statsd/statsd, docs/metric_types.md; docs.datadoghq.com, "Datagram
 * format".)
 *
 * Memory: a line that is under way, at most STATSD_LINE_MAX bytes, for each
 * direction of a stream; otherwise at most 512 bytes.
 */
#ifndef SCOPE_PROTOCOL_STATSD_H
#define SCOPE_PROTOCOL_STATSD_H

#include <stdbool.h>

#include "protocol/protocol.h"

#define STATSD_LINE_MAX 8192u /* bytes; a longer line is no metric */
#define STATSD_TAGS_MAX 128u  /* of a metric that are told */

enum statsd_type {
    STATSD_COUNTER,      /* c */
    STATSD_GAUGE,        /* g */
    STATSD_TIMER,        /* ms: milliseconds */
    STATSD_SET,          /* s: the value is any text */
    STATSD_HISTOGRAM,    /* h */
    STATSD_DISTRIBUTION, /* d */
};

struct statsd_tag {
    struct slice key, value; /* value.p NULL: none */
};

struct statsd_metric {
    struct slice name; /* as sent */
    struct slice text; /* the value, as sent */
    double value;      /* the same as a number; 0 with sets */
    bool relative;     /* a gauge whose value has a sign: to be added to what it was */
    enum statsd_type type;
    double rate;                   /* share of the events that was sent, more than 0, at most 1 */
    const struct statsd_tag *tags; /* in order */
    size_t tag_count;
    bool cut; /* there were more tags */
};

/* Any member may be NULL. Slices are valid during the call only. */
struct statsd_sink {
    void (*metric)(void *owner, enum proto_dir dir, const struct statsd_metric *, uint64_t time_ns);
    /* `lines` that are no metrics. Empty ones don't count. */
    void (*other)(void *owner, enum proto_dir dir, uint64_t lines);
    /* `count` bytes that weren't captured, or belong to a line that wasn't captured as a whole. */
    void (*lost)(void *owner, enum proto_dir dir, uint64_t count);
};

struct statsd;

/* joined: of a stream that may begin within a line. sink is kept by reference. Never fails. */
struct statsd *statsd_new(const struct statsd_sink *sink, void *owner, bool joined);
/* A line that hasn't ended is lost. NULL is fine. */
void statsd_free(struct statsd *s);

/* A datagram of `size` bytes, the first `captured` of which are there. Its last line needs no newline. */
void statsd_datagram(struct statsd *s, enum proto_dir dir, const uint8_t *data, size_t captured, size_t size,
                     uint64_t time_ns);
/* As http1_feed(), http1_end(). The end of the direction ends its last line, too. */
void statsd_feed(struct statsd *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
void statsd_end(struct statsd *s, enum proto_dir dir, uint64_t time_ns);

/* Whether these first bytes of a direction are StatsD: their first line is a metric. whole: nothing follows (a
 * datagram, the end of a stream). 1 yes, 0 no, -1 more bytes are needed (never with `whole`, or with STATSD_DETECT
 * bytes or more). */
int statsd_detect(const uint8_t *data, size_t len, bool whole);
#define STATSD_DETECT (STATSD_LINE_MAX + 2)

/* "c", "ms" ... */
const char *statsd_type_text(enum statsd_type type);

#endif
