/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics for a receiver of OpenTelemetry's protocol: docs/otlp-metrics.md. What they look like: src/otlp/metrics.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/mem.h"
#include "otlp/metrics.h"
#include "sink/internal.h"

#define INTERVAL_MS 60000u /* if the configuration says 0 */
#define FLUSH_MS    100u   /* flush() may be called for each event of the loop */

struct metrics_sink {
    struct line_sink lines;     /* its output; no line */
    struct otlp_metrics *metrics;
    struct otlp_common *common;
    struct event *timer;
    struct tm_process self;     /* whose numbers of its own are */
    char host[256];
    uint64_t flushed_ms;        /* monotonic; 0: not yet */
};

static struct metrics_sink *metrics_of(const struct sink *s)
{
    return (struct metrics_sink *)s;
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* A sink is an instance of its own: what several tell one receiver, each with a configuration of its own, adds up. */
static void set_self(struct metrics_sink *s)
{
    struct tm_process *who = &s->self;
    uint8_t id[16];

    gethostname(s->host, sizeof(s->host) - 1);
    who->pid = (uint32_t)getpid();
    who->ppid = (uint32_t)getppid();
    who->uid = getuid();
    who->gid = getgid();
    who->host = s->host;
    who->proc = who->cmd = "scope";
    if (getrandom(id, sizeof(id), GRND_NONBLOCK) != sizeof(id))
        return;
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* RFC 9562, version 4 */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    snprintf(who->uuid, sizeof(who->uuid), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", id[0], id[1],
             id[2], id[3], id[4], id[5], id[6], id[7], id[8], id[9], id[10], id[11], id[12], id[13], id[14], id[15]);
}

static bool on_record(void *ctx, const char *record, size_t len)
{
    struct metrics_sink *s = ctx;

    return output_write(s->lines.output, record, len);
}

static bool export(struct metrics_sink *s)
{
    return otlp_metrics_export(s->metrics, now_ns(CLOCK_REALTIME));
}

static void on_timer(evutil_socket_t fd, short events, void *ctx)
{
    export(ctx);
}

static bool sink_begin(struct sink *sink, const struct tm_process *who)
{
    otlp_metrics_begin(metrics_of(sink)->metrics, who, now_ns(CLOCK_REALTIME));
    return true;
}

static void sink_end(struct sink *sink, const struct tm_process *who)
{
    otlp_metrics_end(metrics_of(sink)->metrics, who, now_ns(CLOCK_REALTIME));
}

static void sink_sample(struct sink *sink, const struct tm_process *who, const struct tm_sample *sample)
{
    otlp_metrics_sample(metrics_of(sink)->metrics, who, sample);
}

/* What isn't a sample: losses, and what programs count themselves. What other sinks of the same metrics need has been here
 * as samples. */
static enum sink_result sink_write(struct sink *sink, const struct ev_record *r)
{
    static const char captured[] = "statsd_metric";
    struct otlp_metrics *m = metrics_of(sink)->metrics;

    if (r->text && !otlp_metrics_captured(m, r))
        otlp_metrics_lost(m, captured, sizeof(captured) - 1, 1);
    for (size_t i = 0; !r->text && strcmp(r->name, "scope.lost") == 0 && i < r->field_count; i++)
        if (strcmp(r->fields[i].name, "kind") == 0)
            otlp_metrics_lost(m, r->fields[i].v.str.p, r->fields[i].v.str.len, (uint64_t)r->value.v.i);
    return SINK_TAKEN;
}

static bool sink_flush(struct sink *sink)
{
    struct metrics_sink *s = metrics_of(sink);
    uint64_t now = now_ns(CLOCK_MONOTONIC) / 1000000;

    if (otlp_metrics_news(s->metrics) && (!s->flushed_ms || now - s->flushed_ms >= FLUSH_MS)) {
        s->flushed_ms = now;
        export(s);
    }
    return line_flush(sink);
}

static bool sink_wait(struct sink *sink, unsigned ms)
{
    struct metrics_sink *s = metrics_of(sink);

    if (otlp_metrics_news(s->metrics))
        export(s);
    s->flushed_ms = 0; /* this is the end: what is lost now is told at once */
    return line_wait(sink, ms);
}

static uint64_t sink_claim_lost(struct sink *sink)
{
    return otlp_metrics_claim_lost(metrics_of(sink)->metrics) + line_claim_lost(sink);
}

static void sink_free(struct sink *sink)
{
    struct metrics_sink *s = metrics_of(sink);

    otlp_metrics_free(s->metrics);
    otlp_common_free(s->common);
    event_free(s->timer);
    line_release(&s->lines);
    free(s);
}

static const struct sink_format metrics_format = {
    .begin = sink_begin,
    .end = sink_end,
    .sample = sink_sample,
    .write = sink_write,
    .flush = sink_flush,
    .wait = sink_wait,
    .abandon = line_abandon,
    .claim_lost = sink_claim_lost,
    .stats = line_stats,
    .describe = line_describe,
    .free = sink_free,
};

struct sink *otlp_metrics_sink_new(const struct sink_user *user, const struct config *cfg)
{
    unsigned ms = cfg->otlp.interval_ms ? cfg->otlp.interval_ms : INTERVAL_MS;
    struct timeval interval = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    struct metrics_sink *s = xcalloc(1, sizeof(*s));
    struct otlp_metrics_user told = {.self = &s->self, .delta = cfg->otlp.delta, .lowmemory = cfg->otlp.lowmemory,
                                     .exponential = cfg->otlp.exponential, .record = on_record, .ctx = s};

    set_self(s);
    told.common = s->common = otlp_common_new(cfg);
    s->metrics = otlp_metrics_new(&told, OTLP_SERIES_BYTES, now_ns(CLOCK_REALTIME));
    s->timer = event_new(user->base, -1, EV_PERSIST, on_timer, s);
    if (!s->timer)
        abort(); /* out of memory */
    event_add(s->timer, &interval);
    s->lines.output = output_get_otlp(user->base, &cfg->otlp.to[CFG_OTLP_METRICS], CFG_OTLP_METRICS);
    s->lines.sink = (struct sink){.format = &metrics_format, .place = s->lines.output};
    return &s->lines.sink;
}
