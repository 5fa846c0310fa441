/* SPDX-License-Identifier: Apache-2.0 */
#include "telemetry/telemetry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "sink/ndjson.h"
#include "telemetry/internal.h"

#define WAKE_MS   500u  /* how often waiting lines and notices are looked at, while there are any */
#define NOTICE_MS 1000u /* at most one notice per kind in this time */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t now_ms(void)
{
    return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

uint64_t now_realtime_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

/* --- writing, losses, notices --- */

void telemetry_wake(struct telemetry *t)
{
    struct timeval tv = {.tv_usec = (suseconds_t)WAKE_MS * 1000};

    if (t->timer_set || t->finished)
        return;
    event_add(t->timer, &tv);
    t->timer_set = true;
}

bool telemetry_write(struct telemetry *t, const struct route *to, struct tm_process *who, struct ev_record *r, bool notice)
{
    size_t full = 0;
    bool taken = false;

    r->who = who;
    for (size_t i = 0; i < to->count; i++) {
        struct sink *s = to->sink[i];
        enum sink_result result = s->format->write(s, r);

        if (result == SINK_TAKEN) {
            taken = true;
        } else if (result == SINK_FULL) {
            full++;
        } else if (result == SINK_UNFIT) { /* trying again wouldn't help */
            t->stats.lost_queue++;
            telemetry_lost(t, NULL, "metric_length", 1);
        }
    }
    *to->taken += taken;
    if (full && !notice) {
        t->stats.lost_queue += full;
        telemetry_lost(t, process_of(t, who), to->lost_queue, full);
    }
    return taken || !full;
}

/* Found or made; never moves. */
static struct loss *loss_of(struct telemetry *t, const char *kind)
{
    struct loss **link = &t->losses;

    while (*link && strcmp((*link)->kind, kind) != 0)
        link = &(*link)->next;
    if (!*link) {
        *link = xcalloc(1, sizeof(**link));
        (*link)->kind = xstrdup(kind);
    }
    return *link;
}

static bool untold(const struct loss *l)
{
    return l->total != l->told_event || l->total != l->told_metric;
}

void telemetry_lost(struct telemetry *t, struct process *p, const char *kind, uint64_t count)
{
    struct loss *l = loss_of(t, kind);

    l->by = !untold(l) || l->by == p ? p : NULL;
    l->total += count;
    telemetry_wake(t);
}

/* Tells what is new of one kind. The queue may be full: then it stays to be told. */
static void tell_loss(struct telemetry *t, struct loss *l, uint64_t time_ns)
{
    struct process *p = l->by ? l->by : t->self;
    uint64_t total = l->total;
    char text[160];

    snprintf(text, sizeof(text), "Lost telemetry: %llu more of kind %s (%llu since the start)",
             (unsigned long long)(total - l->told_event), l->kind, (unsigned long long)total);
    l->told_at = now_ms();
    if (!t->events_on || total == l->told_event || event_notice(t, p, time_ns, text))
        l->told_event = total;
    if (!t->metrics_on || total == l->told_metric || metric_lost(t, p, l->kind, total - l->told_metric, time_ns))
        l->told_metric = total;
    if (!untold(l))
        l->by = NULL;
}

void telemetry_hold_back(struct telemetry *t, struct process *p)
{
    t->stats.held_back++;
    if (!t->held_pending++)
        t->held_since = now_ms();
    t->held_by = p;
    telemetry_wake(t);
}

static void tell_held_back(struct telemetry *t)
{
    char text[160];

    snprintf(text, sizeof(text),
             "Truncated events. Your rate exceeded %u events per second; %llu were held back (%llu since the start)",
             t->limit.rate, (unsigned long long)t->held_pending, (unsigned long long)t->stats.held_back);
    t->held_since = now_ms();
    if (event_notice(t, t->held_by ? t->held_by : t->self, now_realtime_ns(), text))
        t->held_pending = 0;
}

void telemetry_hold_notice(struct telemetry *t, struct process *p, struct tm_rule *rule)
{
    t->stats.held_back++;
    rule->held_total++;
    rule->by = p;
    if (!rule->held++) {
        if (!t->notices.held)
            t->notices.since = now_ms();
        rule->next = t->notices.held;
        t->notices.held = rule;
    }
    telemetry_wake(t);
}

/* What can't be told now, because the queue is full, stays. */
static void tell_held_notices(struct telemetry *t)
{
    t->notices.since = now_ms();
    for (struct tm_rule *r, **link = &t->notices.held; (r = *link);) {
        if (event_notices_held(t, r->by ? r->by : t->self, now_realtime_ns(), r)) {
            *link = r->next;
            r->held = 0;
            r->by = NULL;
        } else {
            link = &r->next;
        }
    }
}

/* Records that went missing behind our back, at the destinations. */
static void claim_losses(struct telemetry *t)
{

    for (size_t i = 0; i < ROUTES; i++)
        for (size_t k = 0; k < t->to[i].count; k++) {
            struct sink *s = t->to[i].sink[k];
            uint64_t n = s->format->claim_lost(s);

            if (!n)
                continue;
            t->stats.lost_destination += n;
            telemetry_lost(t, NULL, t->to[i].lost_destination, n);
        }
}

/* True if something is left to be told. */
static bool tell(struct telemetry *t, bool all)
{
    uint64_t now = now_ms();
    bool left = false;

    if (t->held_pending && (all || now - t->held_since >= NOTICE_MS))
        tell_held_back(t);
    if (t->notices.held && (all || now - t->notices.since >= NOTICE_MS))
        tell_held_notices(t);
    left = t->held_pending > 0 || t->notices.held;
    for (struct loss *l = t->losses; l; l = l->next) {
        if (untold(l) && (all || !l->told_at || now - l->told_at >= NOTICE_MS))
            tell_loss(t, l, now_realtime_ns());
        left = left || untold(l);
    }
    return left;
}

static void on_timer(evutil_socket_t fd, short events, void *ctx)
{
    struct telemetry *t = ctx;
    bool again = false;

    t->timer_set = false;
    claim_losses(t);
    for (struct process *p = t->first; p; p = p->next)
        again = lines_flush(t, p, LINE_WAIT_MS, false) || again;
    again = tell(t, false) || again;
    if (again)
        telemetry_wake(t);
}

/* --- processes --- */

static struct process *process_new(struct telemetry *t, struct tm_process *who)
{
    struct process *p = xcalloc(1, sizeof(*p));

    p->t = t;
    p->who = who;
    who->aggregate = p;
    return p;
}

static void process_free(struct process *p)
{
    const struct route *to = p->t->to;

    lines_flush(p->t, p, UINT64_MAX, true);
    metric_forget(p);
    for (size_t i = 0; i < ROUTES; i++)
        for (size_t k = 0; k < to[i].count; k++)
            to[i].sink[k]->format->end(to[i].sink[k], p->who);
    p->who->aggregate = NULL;
    free(p);
}

struct process *process_of(struct telemetry *t, struct tm_process *who)
{
    struct process *p = who->aggregate;

    if (p && p->t == t)
        return p;
    p = process_new(t, who);
    p->prev = t->last;
    *(t->last ? &t->last->next : &t->first) = p;
    t->last = p;
    return p;
}

static void announce(struct telemetry *t, struct process *p, const struct route *to, struct sink *s)
{
    if (s->format->begin(s, p->who))
        return;
    t->stats.lost_queue++;
    telemetry_lost(t, p, to->lost_queue, 1);
}

static void on_anew(void *ctx, struct sink *s)
{
    struct telemetry *t = ctx;

    for (struct process *p = t->first; p; p = p->next)
        announce(t, p, &t->to[TO_EVENTS], s); /* nobody is announced to a destination of metrics */
}

void telemetry_process_start(struct telemetry *t, struct tm_process *who)
{
    struct process *p = process_of(t, who);

    for (size_t i = 0; i < ROUTES; i++)
        for (size_t k = 0; k < t->to[i].count; k++)
            announce(t, p, &t->to[i], t->to[i].sink[k]);
}

void telemetry_process_end(struct telemetry *t, struct tm_process *who, uint64_t time_ns)
{
    struct process *p = who->aggregate;

    if (!p || p->t != t)
        return;
    lines_flush(t, p, 0, true);
    metric_summarise(t, p, time_ns);
    for (struct loss *l = t->losses; l; l = l->next)
        if (l->by == p)
            l->by = NULL;
    if (t->held_by == p)
        t->held_by = NULL;
    for (struct tm_rule *r = t->notices.held; r; r = r->next)
        if (r->by == p)
            r->by = NULL;
    *(p->prev ? &p->prev->next : &t->first) = p->next;
    *(p->next ? &p->next->prev : &t->last) = p->prev;
    process_free(p);
}

/* --- life --- */

static bool reserved_tag(const char *name)
{
    static const char *const names[] = {"sourcetype", "_time",   "source",       "host",   "proc", "cmd",    "pid",  "hostPid",
                                        "data",       "_metric", "_metric_type", "_value", "unit", "summary"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void set_tags(struct telemetry *t, const struct config *cfg)
{
    t->tags = xcalloc(cfg->tag_count, sizeof(*t->tags));
    for (size_t i = 0; i < cfg->tag_count; i++) {
        bool twice = reserved_tag(cfg->tags[i].name);

        for (size_t j = 0; j < t->tag_count; j++)
            twice = twice || strcmp(t->tags[j].name, cfg->tags[i].name) == 0;
        if (twice)
            continue;
        t->tags[t->tag_count++] = (struct ev_tag){xstrdup(cfg->tags[i].name), xstrdup(cfg->tags[i].value)};
    }
}

static void set_self(struct telemetry *t)
{
    struct tm_process *who = &t->self_who;
    char host[256] = "";

    gethostname(host, sizeof(host) - 1);
    who->pid = (uint32_t)getpid();
    who->ppid = (uint32_t)getppid();
    who->uid = getuid();
    who->gid = getgid();
    who->host = xstrdup(host);
    who->proc = who->cmd = "scope";
    snprintf(who->id, sizeof(who->id), "%s-scope-scope", host);
    t->self = process_new(t, who);
}

struct telemetry *telemetry_new(struct event_base *base, const struct config *cfg)
{
    struct telemetry *t = telemetry_new_wishes(cfg);
    struct sink_user user = {.base = base, .anew = on_anew, .ctx = t};

    t->base = base;
    t->timer = event_new(base, -1, 0, on_timer, t);
    if (!t->timer)
        abort(); /* out of memory */
    t->limit.rate = cfg->event.maxeventpersec;
    t->notices.limit.rate = cfg->notice.maxpersec;
    t->notices.maxperrule = cfg->notice.maxperrule;
    set_tags(t, cfg);
    set_self(t);
    if (cfg->cribl.enable && cfg->cribl.transport.type != CFG_FILE)
        t->auth_token = xstrdup(cfg->cribl.authtoken);
    if (t->events_on)
        t->to[TO_EVENTS].count = sinks_for_events(&user, cfg, t->to[TO_EVENTS].sink);
    if (t->metrics_on)
        t->to[TO_METRICS].count = sinks_for_metrics(&user, cfg, t->to[TO_METRICS].sink);
    t->to[TO_TRACES].count = sinks_for_traces(&user, cfg, t->to[TO_TRACES].sink);
    return t;
}

void telemetry_end(struct telemetry *t)
{
    while (t->first)
        telemetry_process_end(t, t->first->who, now_realtime_ns());
    claim_losses(t);
    tell(t, true);
}

void telemetry_forget_rules(struct telemetry *t)
{
    t->notices.held = NULL;
}

bool telemetry_finish(struct telemetry *t, unsigned wait_ms)
{
    uint64_t end = now_ms() + wait_ms, now;
    bool done = true;

    if (t->finished)
        return true;
    telemetry_end(t);
    for (size_t i = 0; i < ROUTES; i++)
        for (size_t k = 0; k < t->to[i].count; k++) {
            now = now_ms();
            if (!t->to[i].sink[k]->format->wait(t->to[i].sink[k], now < end ? (unsigned)(end - now) : 0))
                done = false;
        }
    claim_losses(t);
    if (tell(t, true) || !done) /* what could only be told after the queue had emptied */
        telemetry_flush(t);
    else
        done = telemetry_flush(t);
    for (size_t i = 0; i < ROUTES; i++)
        for (size_t k = 0; k < t->to[i].count; k++)
            t->to[i].sink[k]->format->abandon(t->to[i].sink[k]);
    claim_losses(t);
    t->finished = true;
    return done;
}

static void free_sinks(struct route *r)
{
    while (r->count) {
        struct sink *s = r->sink[--r->count];

        s->format->free(s);
    }
}

void telemetry_free(struct telemetry *t, unsigned wait_ms)
{
    if (!t)
        return;
    if (t->base)
        telemetry_finish(t, wait_ms);
    if (t->self)
        process_free(t->self);
    for (size_t i = 0; i < ROUTES; i++)
        free_sinks(&t->to[i]);
    if (t->timer)
        event_free(t->timer);
    free((char *)t->self_who.host);
    for (int i = 0; i < CFG_EW_MAX; i++) {
        filter_free(t->watch[i].name);
        filter_free(t->watch[i].field);
        filter_free(t->watch[i].value);
    }
    for (size_t i = 0; i < t->tag_count; i++) {
        free((char *)t->tags[i].name);
        free((char *)t->tags[i].value);
    }
    while (t->losses) {
        struct loss *l = t->losses;

        t->losses = l->next;
        free(l->kind);
        free(l);
    }
    for (size_t i = 0; i < t->class_count; i++)
        free(t->classes[i]);
    free(t->tags);
    free(t->auth_token);
    buf_free(&t->scratch);
    free(t->each);
    free(t);
}

/* --- observations --- */

bool telemetry_wants_event(const struct telemetry *t, enum cfg_event_watch watch, const char *source, size_t len)
{
    return t->watch[watch].enable && filter_match_name(t->watch[watch].name, source, len);
}

bool telemetry_wants_metric(const struct telemetry *t, enum tm_metric m)
{
    enum cfg_metric_watch watch = metric_defs[m].watch;

    return t->metrics_on && (watch == CFG_MW_MAX || t->metric_watch[watch]);
}

bool telemetry_per_op(const struct telemetry *t, enum tm_metric m)
{
    return metric_raw_wanted(t, m) || (telemetry_wants_metric(t, m) && t->verbosity >= metric_defs[m].per_op);
}

void telemetry_event(struct telemetry *t, struct tm_process *who, const struct tm_event *e)
{
    if (t->watch[e->watch].enable)
        event_send(t, who, e);
}

void telemetry_notice(struct telemetry *t, struct tm_process *who, struct tm_rule *rule, const struct tm_event *e)
{
    if (t->watch[e->watch].enable)
        event_send_notice(t, who, rule, e);
}

enum tm_text telemetry_message(struct telemetry *t, struct tm_process *who, enum cfg_event_watch watch, const char *source,
                       uint64_t time_ns, uint64_t channel, const char *text, size_t len, uint64_t more,
                       const struct tm_context *trace)
{
    if (!len || !telemetry_wants_event(t, watch, source, strlen(source)))
        return TM_LINES;
    return lines_add(t, process_of(t, who), watch, source, time_ns, channel, text, len, more, trace);
}

void telemetry_sample(struct telemetry *t, struct tm_process *who, const struct tm_sample *s)
{
    if (s->metric < TM_METRIC_MAX && s->metric != TM_LOST)
        metric_sample(t, process_of(t, who), s);
}

bool telemetry_wants_spans(const struct telemetry *t)
{
    return t->spans_on;
}

void telemetry_span(struct telemetry *t, struct tm_process *who, const struct tm_span *span)
{
    const struct route *to = &t->to[TO_TRACES];

    for (size_t i = 0; i < to->count; i++) {
        if (to->sink[i]->format->span(to->sink[i], who, span) == SINK_TAKEN) {
            t->stats.spans++;
        } else {
            t->stats.lost_queue++;
            telemetry_lost(t, process_of(t, who), to->lost_queue, 1);
        }
    }
}

void telemetry_captured(struct telemetry *t, struct tm_process *who, const struct tm_captured *m)
{
    if (t->metrics_on && t->metric_watch[CFG_MW_STATSD])
        metric_captured(t, process_of(t, who), m);
}

void telemetry_summarise(struct telemetry *t, struct tm_process *who, uint64_t time_ns)
{
    metric_summarise(t, process_of(t, who), time_ns);
    claim_losses(t);
}

void telemetry_loss(struct telemetry *t, struct tm_process *who, const char *kind, uint64_t count, uint64_t time_ns)
{
    struct loss *l;

    if (!count)
        return;
    telemetry_lost(t, who ? process_of(t, who) : NULL, kind, count);
    l = loss_of(t, kind);
    if (!l->told_at || now_ms() - l->told_at >= NOTICE_MS)
        tell_loss(t, l, time_ns);
}

void telemetry_stats(const struct telemetry *t, struct tm_stats *ret)
{
    *ret = t->stats;
}

bool telemetry_flush(struct telemetry *t)
{
    bool done = true;

    for (size_t i = 0; i < ROUTES; i++)
        for (size_t k = 0; k < t->to[i].count; k++)
            done = t->to[i].sink[k]->format->flush(t->to[i].sink[k]) && done;
    claim_losses(t);
    return done;
}

static const struct sink *at_place(const struct route *r, const void *place)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->sink[i]->place == place)
            return r->sink[i];
    return NULL;
}

void telemetry_describe(const struct telemetry *t, struct buf *b)
{
    for (size_t i = 0; i < t->to[TO_EVENTS].count; i++) {
        const struct sink *s = t->to[TO_EVENTS].sink[i];

        s->format->describe(s, at_place(&t->to[TO_METRICS], s->place) ? "events,metrics" : "events", b);
    }
    for (size_t i = 0; i < t->to[TO_METRICS].count; i++) {
        const struct sink *s = t->to[TO_METRICS].sink[i];

        if (!at_place(&t->to[TO_EVENTS], s->place))
            s->format->describe(s, "metrics", b);
    }
    for (size_t i = 0; i < t->to[TO_TRACES].count; i++)
        t->to[TO_TRACES].sink[i]->format->describe(t->to[TO_TRACES].sink[i], "traces", b);
}

const char *telemetry_metric_url(const struct telemetry *t)
{
    for (size_t i = 0; i < t->to[TO_METRICS].count; i++)
        if (t->to[TO_METRICS].sink[i]->format->url)
            return t->to[TO_METRICS].sink[i]->format->url(t->to[TO_METRICS].sink[i]);
    return NULL;
}

bool telemetry_awaited(const struct telemetry *t, uint64_t since_ms)
{
    for (size_t i = 0; i < t->to[TO_METRICS].count; i++)
        if (t->to[TO_METRICS].sink[i]->format->awaited && t->to[TO_METRICS].sink[i]->format->awaited(t->to[TO_METRICS].sink[i], since_ms))
            return true;
    return false;
}

char *telemetry_payload_start(const struct telemetry *t)
{
    struct buf b = BUF_INIT;

    ndjson_payload_start(&b, &t->self_who, t->auth_token);
    return buf_cstr(&b);
}
