/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics that a Prometheus fetches: docs/prometheus.md. Sinks with equal configuration share one endpoint. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "sink/internal.h"
#include "sink/scrape.h"
#include "sink/series.h"
#include "version.h"

#define TEXT_SHARE 10u    /* making texts takes that part of the time at most: who asks sooner gets the last one again */
#define LAST_MS    60000u /* how long a scraper that has come before is waited for at the end, at most */
#define LAST_TIMES 2u     /* ... and how many times its interval */

struct endpoint {
    struct endpoint *next; /* registry */
    unsigned refs;
    struct event_base *base;
    struct cfg_transport at;
    char *url;             /* as configured, or with the port that there is */
    unsigned url_port;
    struct series_set *series;
    struct scrape *scrape;
    struct {
        struct scrape_text *text;
        uint64_t until;    /* monotonic ns */
    } kept[2];             /* text format, OpenMetrics */
    uint64_t scrapes, scraped_ms, interval_ms;
};

struct prometheus_sink {
    struct sink sink;
    struct endpoint *endpoint;
};

static struct endpoint *endpoints;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t now_ms(void)
{
    return now_ns() / 1000000;
}

/* --- the endpoint --- */

static struct scrape_text *on_text(void *ctx, bool openmetrics)
{
    struct endpoint *e = ctx;
    uint64_t begin = now_ns(), end;
    struct scrape_text *t;

    if (!e->kept[openmetrics].text || begin >= e->kept[openmetrics].until) {
        scrape_text_put(e->kept[openmetrics].text);
        t = xcalloc(1, sizeof(*t));
        t->refs = 1;
        t->number = series_text(e->series, openmetrics, begin / 1000000, &t->text);
        end = now_ns();
        e->kept[openmetrics].text = t;
        e->kept[openmetrics].until = end + TEXT_SHARE * (end - begin);
    }
    t = e->kept[openmetrics].text;
    t->refs++;
    return t;
}

static void on_sent(void *ctx, const struct scrape_text *t)
{
    struct endpoint *e = ctx;
    uint64_t now = now_ms();

    if (e->scrapes++)
        e->interval_ms = now - e->scraped_ms;
    e->scraped_ms = now;
    series_seen(e->series, t->number);
}

static struct endpoint *endpoint_get(struct event_base *base, const struct cfg_transport *at, const struct config *cfg)
{
    struct scrape_user user = {.text = on_text, .sent = on_sent};
    struct endpoint *e;
    char host[256] = "";

    for (e = endpoints; e; e = e->next)
        if (e->base == base && strcmp(e->at.host, at->host) == 0 && strcmp(e->at.port, at->port) == 0) {
            e->refs++;
            return e;
        }
    e = xcalloc(1, sizeof(*e));
    e->refs = 1;
    e->base = base;
    e->at = (struct cfg_transport){.type = CFG_PROMETHEUS, .host = xstrdup(at->host), .port = xstrdup(at->port)};
    e->url = cfg_transport_url(at);
    e->series = series_new(SERIES_LINES);
    gethostname(host, sizeof(host) - 1);
    series_target(e->series, "host_name", host);
    series_target(e->series, "telemetry_distro_name", "appscope");
    series_target(e->series, "telemetry_distro_version", SCOPE_VERSION);
    for (size_t i = 0; i < cfg->tag_count; i++)
        series_target(e->series, cfg->tags[i].name, cfg->tags[i].value);
    user.ctx = e;
    e->scrape = scrape_new(base, at, &user);
    e->next = endpoints;
    endpoints = e;
    return e;
}

static void endpoint_put(struct endpoint *e)
{
    struct endpoint **at = &endpoints;

    if (--e->refs)
        return;
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    scrape_free(e->scrape);
    scrape_text_put(e->kept[0].text);
    scrape_text_put(e->kept[1].text);
    series_free(e->series);
    cfg_transport_clear(&e->at);
    free(e->url);
    free(e);
}

/* Where it is, once that is known. */
static const char *endpoint_url(struct endpoint *e)
{
    unsigned port = scrape_port(e->scrape);

    if (port && port != e->url_port) {
        char text[16];
        struct cfg_transport at = e->at;

        snprintf(text, sizeof(text), "%u", port);
        at.port = text;
        free(e->url);
        e->url = cfg_transport_url(&at);
        e->url_port = port;
    }
    return e->url;
}

/* --- the sink --- */

static struct endpoint *endpoint_of(const struct sink *s)
{
    return ((const struct prometheus_sink *)s)->endpoint;
}

static bool sink_begin(struct sink *s, const struct tm_process *who)
{
    series_begin(endpoint_of(s)->series, who, now_ms());
    return true;
}

static void sink_end(struct sink *s, const struct tm_process *who)
{
    series_end(endpoint_of(s)->series, who, now_ms());
}

static void sink_sample(struct sink *s, const struct tm_process *who, const struct tm_sample *sample)
{
    series_sample(endpoint_of(s)->series, who, sample);
}

/* What isn't a sample: losses. A program's own metrics have names and types that may contradict each other. What other
 * sinks of the same metrics need has been here as samples. */
static enum sink_result sink_write(struct sink *s, const struct ev_record *r)
{
    static const char captured[] = "statsd_metric";

    if (r->text)
        series_lost(endpoint_of(s)->series, captured, sizeof(captured) - 1, 1);
    for (size_t i = 0; !r->text && strcmp(r->name, "scope.lost") == 0 && i < r->field_count; i++)
        if (strcmp(r->fields[i].name, "kind") == 0)
            series_lost(endpoint_of(s)->series, r->fields[i].v.str.p, r->fields[i].v.str.len, (uint64_t)r->value.v.i);
    return SINK_TAKEN;
}

static bool sink_flush(struct sink *s)
{
    return true; /* nothing is under way: who wants it comes */
}

static bool sink_wait(struct sink *s, unsigned ms)
{
    return true;
}

static void sink_abandon(struct sink *s)
{
}

static uint64_t sink_claim_lost(struct sink *s)
{
    return 0;
}

static void sink_stats(const struct sink *s, struct sink_stats *ret)
{
    *ret = (struct sink_stats){.connected = scrape_port(endpoint_of(s)->scrape) != 0};
}

static const char *sink_url(const struct sink *s)
{
    return endpoint_url(endpoint_of(s));
}

static void sink_describe(const struct sink *s, const char *name, struct buf *b)
{
    struct endpoint *e = endpoint_of(s);
    unsigned attempts;
    const char *failure = scrape_failure(e->scrape, &attempts);
    bool up = scrape_port(e->scrape) != 0;

    if (b->len && b->p[b->len - 1] != '[')
        buf_char(b, ',');
    buf_printf(b, "{\"name\":\"%s\",\"config\":", name);
    buf_json_str(b, endpoint_url(e));
    buf_printf(b, ",\"connected\":%s", up ? "true" : "false");
    if (!up)
        buf_printf(b, ",\"attempts\":%u", attempts);
    if (failure) {
        buf_str(b, ",\"failure_details\":");
        buf_json_str(b, failure);
    }
    buf_printf(b, ",\"delivered\":%" PRIu64 ",\"queued\":0,\"lost_queue\":0,\"lost_destination\":0}", e->scrapes);
}

static bool sink_awaited(const struct sink *s, uint64_t since_ms)
{
    const struct endpoint *e = endpoint_of(s);
    uint64_t most = LAST_TIMES * e->interval_ms;

    if (most < 1000)
        most = 1000;
    if (most > LAST_MS)
        most = LAST_MS;
    return e->scrapes && series_news(e->series) && now_ms() - since_ms < most;
}

static void sink_free(struct sink *s)
{
    endpoint_put(endpoint_of(s));
    free(s);
}

static const struct sink_format prometheus_format = {
    .begin = sink_begin,
    .end = sink_end,
    .sample = sink_sample,
    .write = sink_write,
    .flush = sink_flush,
    .wait = sink_wait,
    .abandon = sink_abandon,
    .claim_lost = sink_claim_lost,
    .stats = sink_stats,
    .describe = sink_describe,
    .url = sink_url,
    .awaited = sink_awaited,
    .free = sink_free,
};

struct sink *prometheus_sink_new(const struct sink_user *user, const struct cfg_transport *at, const struct config *cfg)
{
    struct prometheus_sink *s = xcalloc(1, sizeof(*s));

    s->endpoint = endpoint_get(user->base, at, cfg);
    s->sink = (struct sink){.format = &prometheus_format, .place = s->endpoint};
    return &s->sink;
}
