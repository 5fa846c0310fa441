/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traces and logs for a receiver of OpenTelemetry's protocol (docs/otlp.md). Items
 * of one process are collected, encoded as they come, and handed to the output
 * together: its resource is told once for all of them.
 *
 * An item that was taken is counted as lost once, by claim_lost(): here if the
 * output refuses what it was collected in, else by the output.
 */
#include <stdlib.h>
#include <time.h>

#include <event2/event.h>

#include "base/mem.h"
#include "otlp/batch.h"
#include "otlp/logs.h"
#include "otlp/traces.h"
#include "sink/internal.h"

#define BATCH_ITEMS 512u         /* of one process */
#define BATCH_BYTES (64u << 10)
#define ALL_BYTES   (4u << 20)   /* of all processes */
#define SEND_MS     500u         /* so long the first of them waits for others */
#define SPARE_MAX   16u          /* buffers that are kept for the next batches */
#define BUCKETS     512u         /* a power of two */

struct source { /* a process */
    struct source *next;         /* in its bucket */
    const struct tm_process *who;
    struct otlp_batch batch;     /* its buffer is there while there are items */
    size_t at;                   /* in `open`, while there are */
};

struct otlp_sink {
    struct line_sink lines;      /* its output; no line */
    const char *name;
    struct cfg_otlp wanted;      /* which events are logs: no pointer of it is used */
    struct otlp_common *common;
    struct source *bucket[BUCKETS], *last; /* last: that was asked for */
    struct source **open;        /* those with items */
    size_t open_count, open_room;
    uint64_t items, bytes;       /* in all of them */
    uint64_t lost;               /* not yet claimed */
    struct buf spare[SPARE_MAX];
    size_t spare_count;
    struct event *timer;
};

static struct otlp_sink *otlp_of(const struct sink *s)
{
    return (struct otlp_sink *)s;
}

/* --- processes --- */

static struct source **bucket_of(struct otlp_sink *s, const struct tm_process *who)
{
    return &s->bucket[((uintptr_t)who >> 4 ^ (uintptr_t)who >> 13) & (BUCKETS - 1)];
}

static struct source *source_of(struct otlp_sink *s, const struct tm_process *who)
{
    struct source **bucket, *p = s->last;

    if (p && p->who == who)
        return p;
    bucket = bucket_of(s, who);
    for (p = *bucket; p && p->who != who; p = p->next)
        ;
    if (!p) {
        p = xcalloc(1, sizeof(*p));
        p->who = who;
        otlp_resource(s->common, who, &p->batch.resource);
        p->next = *bucket;
        *bucket = p;
    }
    s->last = p;
    return p;
}

/* --- batches --- */

static struct buf *open_batch(struct otlp_sink *s, struct source *p)
{
    static const struct timeval delay = {.tv_usec = (suseconds_t)SEND_MS * 1000};

    if (p->batch.count)
        return &p->batch.b;
    if (s->spare_count)
        p->batch.b = s->spare[--s->spare_count];
    otlp_batch_reset(&p->batch);
    if (s->open_count == s->open_room) {
        s->open_room = s->open_room ? s->open_room * 2 : 16;
        s->open = xrealloc(s->open, s->open_room, sizeof(*s->open));
    }
    if (!s->open_count)
        event_add(s->timer, &delay);
    p->at = s->open_count;
    s->open[s->open_count++] = p;
    return &p->batch.b;
}

static void send_batch(struct otlp_sink *s, struct source *p)
{
    size_t len;
    const char *record = otlp_batch_record(&p->batch, &len);

    if (!output_write(s->lines.output, record, len))
        s->lost += p->batch.count;
    s->items -= p->batch.count;
    s->bytes -= otlp_batch_bytes(&p->batch);
    p->batch.count = 0;
    if (s->spare_count < SPARE_MAX)
        s->spare[s->spare_count++] = p->batch.b;
    else
        free(p->batch.b.p);
    p->batch.b = (struct buf)BUF_INIT;
    s->open[p->at] = s->open[--s->open_count];
    s->open[p->at]->at = p->at;
    if (!s->open_count)
        event_del(s->timer);
}

static void send_all(struct otlp_sink *s)
{
    while (s->open_count)
        send_batch(s, s->open[0]);
}

static void on_timer(evutil_socket_t fd, short events, void *ctx)
{
    send_all(ctx);
}

/* An item was appended: bytes of it. */
static void added(struct otlp_sink *s, struct source *p, size_t bytes)
{
    p->batch.count++;
    s->items++;
    s->bytes += bytes;
    if (p->batch.count >= BATCH_ITEMS || otlp_batch_bytes(&p->batch) >= BATCH_BYTES)
        send_batch(s, p);
    else if (s->bytes >= ALL_BYTES)
        send_all(s);
}

/* --- the sink --- */

/* It goes on as another program, or its address may be that of another process: what comes has another resource. */
static void forget(struct otlp_sink *s, const struct tm_process *who)
{
    struct source **at = bucket_of(s, who), *p;

    while (*at && (*at)->who != who)
        at = &(*at)->next;
    p = *at;
    if (!p)
        return;
    if (p->batch.count)
        send_batch(s, p);
    *at = p->next;
    if (s->last == p)
        s->last = NULL;
    otlp_batch_release(&p->batch);
    free(p);
}

static bool sink_begin(struct sink *sink, const struct tm_process *who)
{
    forget(otlp_of(sink), who);
    return true;
}

static void sink_end(struct sink *sink, const struct tm_process *who)
{
    forget(otlp_of(sink), who);
}

static enum sink_result sink_span(struct sink *sink, const struct tm_process *who, const struct tm_span *span)
{
    struct otlp_sink *s = otlp_of(sink);
    struct source *p = source_of(s, who);
    struct buf *b = open_batch(s, p);
    size_t before = b->len;

    otlp_span(b, span);
    added(s, p, b->len - before);
    return SINK_TAKEN;
}

static enum sink_result no_record(struct sink *sink, const struct ev_record *r)
{
    return SINK_OTHER;
}

static enum sink_result sink_log(struct sink *sink, const struct ev_record *r)
{
    struct otlp_sink *s = otlp_of(sink);
    struct timespec now;
    struct source *p;
    struct buf *b;
    size_t before;

    if (!otlp_log_wanted(&s->wanted, r))
        return SINK_OTHER;
    p = source_of(s, r->who);
    b = open_batch(s, p);
    before = b->len;
    clock_gettime(CLOCK_REALTIME, &now);
    otlp_log(b, r, (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
    added(s, p, b->len - before);
    return SINK_TAKEN;
}

static bool sink_flush(struct sink *sink)
{
    send_all(otlp_of(sink));
    return line_flush(sink);
}

static bool sink_wait(struct sink *sink, unsigned ms)
{
    send_all(otlp_of(sink));
    return line_wait(sink, ms);
}

static void sink_abandon(struct sink *sink)
{
    send_all(otlp_of(sink));
    line_abandon(sink);
}

static uint64_t sink_claim_lost(struct sink *sink)
{
    struct otlp_sink *s = otlp_of(sink);
    uint64_t n = s->lost;

    s->lost = 0;
    return n + line_claim_lost(sink);
}

static void sink_stats(const struct sink *sink, struct sink_stats *ret)
{
    line_stats(sink, ret);
    ret->queued += otlp_of(sink)->items;
}

static void sink_describe(const struct sink *sink, const char *name, struct buf *b)
{
    line_describe(sink, otlp_of(sink)->name, b);
}

static void sink_free(struct sink *sink)
{
    struct otlp_sink *s = otlp_of(sink);

    send_all(s);
    for (size_t i = 0; i < BUCKETS; i++)
        while (s->bucket[i])
            forget(s, s->bucket[i]->who);
    event_free(s->timer);
    line_release(&s->lines);
    otlp_common_free(s->common);
    while (s->spare_count)
        buf_free(&s->spare[--s->spare_count]);
    free(s->open);
    free(s);
}

#define FUNCTIONS                                                                                                      \
    .begin = sink_begin, .end = sink_end, .flush = sink_flush, .wait = sink_wait, .abandon = sink_abandon,             \
    .claim_lost = sink_claim_lost, .stats = sink_stats, .describe = sink_describe, .free = sink_free
static const struct sink_format traces_format = {.span = sink_span, .write = no_record, FUNCTIONS};
static const struct sink_format logs_format = {.write = sink_log, FUNCTIONS};

static struct sink *new_sink(const struct sink_user *user, const struct config *cfg, enum cfg_otlp_signal signal,
                             const struct sink_format *format, const char *name)
{
    struct otlp_sink *s = xcalloc(1, sizeof(*s));

    s->name = name;
    memcpy(s->wanted.log_events, cfg->otlp.log_events, sizeof(s->wanted.log_events));
    s->wanted.log_crashes = cfg->otlp.log_crashes;
    s->common = otlp_common_new(cfg);
    s->timer = event_new(user->base, -1, 0, on_timer, s);
    if (!s->timer)
        abort(); /* out of memory */
    s->lines.output = output_get_otlp(user->base, &cfg->otlp.to[signal], signal);
    s->lines.sink = (struct sink){.format = format, .place = s->lines.output};
    return &s->lines.sink;
}

struct sink *otlp_traces_sink_new(const struct sink_user *user, const struct config *cfg)
{
    return new_sink(user, cfg, CFG_OTLP_TRACES, &traces_format, "traces");
}

struct sink *otlp_logs_sink_new(const struct sink_user *user, const struct config *cfg)
{
    return new_sink(user, cfg, CFG_OTLP_LOGS, &logs_format, "logs");
}
