/* SPDX-License-Identifier: Apache-2.0 */
#include "output/output.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "output/internal.h"

#define QUEUE_BYTES     ((size_t)16 * 1024 * 1024)
#define OTLP_BYTES      ((size_t)64 * 1024 * 1024) /* receivers may stand still for seconds: 130,000 spans */
#define QUEUE_RECORDS   ((size_t)256 * 1024)
#define FIRST_RETRY_MS  1000u
#define CONNECT_MS      10000u                /* for each step: name, connection, TLS handshake */
#define MAX_DOUBLINGS   8                     /* 256 times the first */
#define FULL_DISK_MS    1000u                 /* how often a file that can't grow is tried again */
#define BATCH           ((size_t)256 * 1024)  /* hand over at once when so much has gathered */
#define DELAY_SOCKET_MS 2u
#define DELAY_LINE_MS   10u
#define DELAY_FULL_MS   2000u
#define WAIT_MAX        16
#define LAST_REQUEST_MS 10000u                /* output_wait() waits so long for an answer that is under way */
#define DELAY_OTLP_MS   100u                  /* each request costs both sides much more than a line */

static struct output *outputs;
static size_t limit_bytes = OUTPUT_OWN, limit_records = QUEUE_RECORDS;
static unsigned first_retry_ms = FIRST_RETRY_MS;

void output_set_limits(size_t queue_bytes, size_t queue_records, unsigned retry_ms)
{
    if (queue_bytes)
        limit_bytes = queue_bytes;
    if (queue_records)
        limit_records = queue_records;
    if (retry_ms)
        first_retry_ms = retry_ms;
}

uint64_t monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void output_failed(struct output *o, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(o->failure, sizeof(o->failure), fmt, ap);
    va_end(ap);
}

void output_sent(struct output *o, size_t n)
{
    o->stats.bytes += n;
    o->stats.records += queue_sent(&o->queue, n);
}

void output_drop(struct output *o, size_t bytes, uint64_t records)
{
    queue_sent(&o->queue, bytes);
    o->stats.lost_destination += records;
}

static bool preamble_done(const struct output *o)
{
    return o->preamble_sent == o->preamble.len;
}

/* What a record counts for. */
static uint64_t weight(const struct output *o, const char *record, size_t len)
{
    uint32_t items;

    if (!o->otlp)
        return 1;
    if (len < sizeof(items))
        return 0;
    memcpy(&items, record, sizeof(items));
    return items;
}

static uint64_t waiting(const struct output *o)
{
    return o->otlp ? o->items : queue_waiting(&o->queue);
}

static bool idle(const struct output *o)
{
    return queue_all_sent(&o->queue) && preamble_done(o);
}

/* --- events --- */

static void set_timer(struct output *o, unsigned ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

    o->timer_at = monotonic_ms() + ms;
    event_add(o->timer, &tv);
}

static void stop_timer(struct output *o)
{
    if (o->timer_at)
        event_del(o->timer);
    o->timer_at = 0;
}

static void on_fd(evutil_socket_t fd, short events, void *ctx);

static void stop_io(struct output *o)
{
    if (o->io_events)
        event_del(o->io);
    o->io_events = 0;
}

static void update_io(struct output *o)
{
    short events = (short)((o->want & POLLIN ? EV_READ : 0) | (o->want & POLLOUT ? EV_WRITE : 0));

    if (o->fd < 0 || !o->io_pollable)
        events = 0;
    if (events == o->io_events)
        return;
    stop_io(o);
    if (!events)
        return;
    event_assign(o->io, o->base, o->fd, (short)(events | EV_PERSIST), on_fd, o);
    if (event_add(o->io, NULL) == 0)
        o->io_events = events;
    else
        o->io_pollable = false; /* send() is retried by the timer */
}

/* Exponential, with jitter so that many collectors don't come back at the same moment. */
static unsigned next_backoff(struct output *o)
{
    unsigned base = o->backoff_ms ? o->backoff_ms : first_retry_ms, most = first_retry_ms << MAX_DOUBLINGS, random = 0;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        random = (unsigned)monotonic_ms() * 2654435761u;
    o->backoff_ms = base < most / 2 ? base * 2 : most;
    return base - base / 4 + random % (base / 2 + 1);
}

static void disconnect(struct output *o)
{
    stop_io(o);
    o->transport->close(o);
    o->stats.records -= queue_rewind(&o->queue);
    o->preamble_sent = 0;
    buf_reset(&o->preamble);
    o->preamble_records = 0;
    o->fd = -1;
    o->want = 0;
    o->io_pollable = true;
    o->state = OUTPUT_DOWN;
    o->stats.connected = false;
    o->blocked = false;
}

static bool same_transport(const struct cfg_transport *a, const struct cfg_transport *b);

/* Signals of OTLP mostly have one receiver: what is wrong with it is told for the first of them. */
static bool said_already(const struct output *o)
{
    for (const struct output *other = outputs; o->otlp && other; other = other->next)
        if (other != o && other->otlp && other->said_failure && same_transport(&other->cfg, &o->cfg) &&
            strcmp(other->failure, o->failure) == 0)
            return true;
    return false;
}

static void go_down(struct output *o)
{
    unsigned wait;

    disconnect(o);
    wait = next_backoff(o);
    if (wait < o->pause_ms)
        wait = o->pause_ms;
    o->pause_ms = 0;
    if (!o->said_failure && !said_already(o)) {
        log_warning("%s: %s; trying again, first in %u ms", o->url, o->failure, wait);
        o->said_failure = true;
    }
    set_timer(o, wait);
}

static void attempt(struct output *o);

/* A connection that has done what it was for: the next one is made when it is needed. */
static bool resting(const struct output *o)
{
    return o->otlp && o->state == OUTPUT_DOWN && !o->timer_at;
}

static void rest(struct output *o)
{
    stop_timer(o);
    disconnect(o);
    o->stats.connected = true;
    if (!idle(o))
        attempt(o);
}

static void pump(struct output *o)
{
    int rc;

    stop_timer(o);
    if (idle(o) && !o->blocked && !(o->want & POLLOUT) && o->queue.first == o->queue.next)
        return;
    o->retry_ms = 0;
    rc = o->transport->send(o);
    if (rc == -EAGAIN) {
        o->blocked = true;
        if (o->retry_ms || !(o->want & POLLOUT) || !o->io_pollable)
            set_timer(o, o->retry_ms ? o->retry_ms : FULL_DISK_MS);
    } else if (rc == -ESTALE) {
        if (o->otlp) {
            rest(o);
            return;
        }
        disconnect(o);
        attempt(o);
        return;
    } else if (rc) {
        go_down(o);
        return;
    } else {
        o->blocked = false;
        if (preamble_done(o)) {
            buf_reset(&o->preamble);
            o->preamble_sent = 0;
            o->stats.records += o->preamble_records;
            o->preamble_records = 0;
        }
    }
    update_io(o);
}

/* Waits for what the transport has under way. */
static void settle(struct output *o)
{
    while (o->state == OUTPUT_UP && o->transport->settle && o->transport->settle(o))
        pump(o);
}

void output_recovered(struct output *o)
{
    if (o->said_failure)
        log_info("%s: connected after %u attempts", o->url, o->stats.attempts);
    o->said_failure = false;
    o->in_doubt = false;
    o->failure[0] = 0;
    o->backoff_ms = 0;
    o->stats.attempts = 0;
}

static void go_up(struct output *o)
{
    if (!o->in_doubt)
        output_recovered(o);
    o->state = OUTPUT_UP;
    o->blocked = false;
    o->stats.connected = true;
    stop_timer(o);
    if (o->ever_up && o->cfg.type != CFG_UDP && !o->otlp) {
        o->in_preamble = true;
        for (struct connected *c = o->connected; c; c = c->next)
            c->fn(c->ctx, o);
        o->in_preamble = false;
    }
    o->ever_up = true;
    update_io(o);
    pump(o);
}

/* begun: a step of it whose time begins now. */
static void progress(struct output *o, int rc, bool begun)
{
    if (rc == 0) {
        go_up(o);
    } else if (rc == -EINPROGRESS) {
        update_io(o);
        if (begun)
            set_timer(o, CONNECT_MS);
    } else {
        go_down(o);
    }
}

static void attempt(struct output *o)
{
    o->stats.attempts++;
    progress(o, o->transport->open(o), true);
}

static void step(struct output *o, short events)
{
    enum output_state before = o->state;
    int rc;

    stop_io(o); /* the descriptor may become another one */
    rc = o->transport->ready(o, events);
    progress(o, rc, o->state != before || before == OUTPUT_CONNECTING); /* which may be to the next address */
}

static void handle_ready(struct output *o, short events)
{
    if (o->state == OUTPUT_DOWN)
        return;
    if (o->state != OUTPUT_UP) {
        step(o, events);
        return;
    }
    if (events & (POLLIN | POLLERR | POLLHUP) && o->want & POLLIN) {
        int rc = o->transport->input(o);

        if (rc < 0) {
            if (rc == -ESTALE)
                rest(o);
            else
                go_down(o);
            return;
        }
    }
    if (events & POLLOUT || (o->blocked && !(o->want & POLLOUT))) {
        o->blocked = false;
        pump(o);
    }
    if (o->state == OUTPUT_UP)
        update_io(o);
}

static void handle_timer(struct output *o)
{
    o->timer_at = 0;
    if (o->state == OUTPUT_DOWN)
        attempt(o);
    else if (o->state == OUTPUT_UP)
        pump(o);
    else /* a connection attempt that takes too long */
        step(o, 0);
}

static void on_fd(evutil_socket_t fd, short events, void *ctx)
{
    handle_ready(ctx, (short)((events & EV_READ ? POLLIN : 0) | (events & EV_WRITE ? POLLOUT : 0)));
}

static void on_timer(evutil_socket_t fd, short events, void *ctx)
{
    handle_timer(ctx);
}

/* --- interface --- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_transport(const struct cfg_transport *a, const struct cfg_transport *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case CFG_UDP:
    case CFG_TCP:
    case CFG_OTLP:
        return same_text(a->host, b->host) && same_text(a->port, b->port) && a->tls.enable == b->tls.enable &&
               (!a->tls.enable || (a->tls.validateserver == b->tls.validateserver &&
                                   same_text(a->tls.cacertpath, b->tls.cacertpath) &&
                                   same_text(a->tls.certpath, b->tls.certpath) &&
                                   same_text(a->tls.keypath, b->tls.keypath)));
    case CFG_UNIX:
    case CFG_FILE:
        return same_text(a->path, b->path);
    case CFG_EDGE:
        return true;
    case CFG_JOURNAL:
    case CFG_PROMETHEUS:
        break; /* no output: src/sink/journal.c, prometheus.c */
    }
    return false;
}

/* url and otlp become the output's own. */
static struct output *output_new(struct event_base *base, const struct cfg_transport *cfg, size_t datagram_max,
                                 bool own, char *url, struct otlp *otlp)
{
    static bool prepared;
    struct output *o;

    if (!prepared) {
        /* A reader that went away and a file size limit are errors of one write, not of the collector. */
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN);
        prepared = true;
    }
    o = xcalloc(1, sizeof(*o));
    o->refs = o->users = 1;
    o->own = own;
    o->base = base;
    o->datagram_max = datagram_max;
    o->cfg = *cfg;
    o->cfg.host = xstrdup(cfg->host);
    o->cfg.port = xstrdup(cfg->port);
    o->cfg.path = xstrdup(cfg->path);
    o->cfg.tls.cacertpath = xstrdup(cfg->tls.cacertpath);
    o->cfg.tls.certpath = xstrdup(cfg->tls.certpath);
    o->cfg.tls.keypath = xstrdup(cfg->tls.keypath);
    o->otlp = otlp;
    o->url = url;
    o->fd = -1;
    o->io_pollable = true;
    queue_init(&o->queue, limit_bytes != OUTPUT_OWN ? limit_bytes : otlp ? OTLP_BYTES : QUEUE_BYTES, limit_records);
    o->io = event_new(base, -1, 0, on_fd, o);
    o->timer = event_new(base, -1, 0, on_timer, o);
    if (!o->io || !o->timer)
        abort(); /* out of memory */
    o->transport = otlp                    ? otlp_transport(otlp)
                   : cfg->type == CFG_FILE ? &transport_file
                   : cfg->type == CFG_UDP  ? &transport_datagram
                                           : &transport_stream;
    o->next = outputs;
    outputs = o;
    attempt(o);
    return o;
}

struct output *output_get(struct event_base *base, const struct cfg_transport *cfg, size_t datagram_max)
{
    if (cfg->type != CFG_UDP)
        datagram_max = 0;
    for (struct output *o = outputs; o; o = o->next)
        if (!o->own && !o->otlp && o->base == base && o->datagram_max == datagram_max && same_transport(&o->cfg, cfg)) {
            o->refs++;
            o->users++;
            return o;
        }
    return output_new(base, cfg, datagram_max, false, cfg_transport_url(cfg), NULL);
}

struct output *output_get_own(struct event_base *base, const struct cfg_transport *cfg)
{
    return output_new(base, cfg, 0, true, cfg_transport_url(cfg), NULL);
}

struct output *output_get_otlp(struct event_base *base, const struct cfg_otlp_to *cfg, enum cfg_otlp_signal signal)
{
    struct otlp *otlp;

    for (struct output *o = outputs; o; o = o->next)
        if (o->otlp && o->base == base && same_transport(&o->cfg, &cfg->transport) &&
            otlp_same(o->otlp, cfg, signal)) {
            o->refs++;
            o->users++;
            return o;
        }
    otlp = otlp_new(cfg, signal);
    return output_new(base, &cfg->transport, 0, false, otlp_url(otlp, cfg), otlp);
}

void output_put(struct output *o)
{
    uint64_t left;

    if (!o || --o->refs)
        return;
    output_flush(o);
    o->users = 1;
    left = output_abandon(o);
    if (left)
        log_warning("%s: %llu %s could not be delivered", o->url, (unsigned long long)left,
                    o->otlp ? otlp_items(o->otlp) : "records");
    for (struct output **link = &outputs; *link; link = &(*link)->next)
        if (*link == o) {
            *link = o->next;
            break;
        }
    stop_io(o);
    o->transport->close(o);
    event_free(o->io);
    event_free(o->timer);
    while (o->connected) {
        struct connected *c = o->connected;

        o->connected = c->next;
        free(c);
    }
    queue_free(&o->queue);
    buf_free(&o->preamble);
    otlp_free(o->otlp);
    free(o->cfg.host);
    free(o->cfg.port);
    free(o->cfg.path);
    free(o->cfg.tls.cacertpath);
    free(o->cfg.tls.certpath);
    free(o->cfg.tls.keypath);
    free(o->url);
    free(o);
}

uint64_t output_abandon(struct output *o)
{
    uint64_t left;

    if (o->users && --o->users)
        return 0;
    settle(o);
    left = waiting(o);
    if (left && o->cfg.type == CFG_FILE && queue_inside(&o->queue))
        disconnect(o); /* takes the part of a line away from the end of the file */
    if (o->otlp && !idle(o)) {
        stop_timer(o);
        disconnect(o); /* the answer to the request that is under way is not waited for */
    }
    if (!idle(o))
        output_drop(o, (size_t)(o->queue.end - o->queue.next), left);
    o->items = 0;
    queue_release(&o->queue, 0);
    o->blocked = false;
    return left;
}

void output_on_connect(struct output *o, output_connected_fn fn, void *ctx)
{
    struct connected *c = xmalloc(sizeof(*c)), **link = &o->connected;

    *c = (struct connected){.fn = fn, .ctx = ctx};
    while (*link)
        link = &(*link)->next;
    *link = c;
}

void output_forget(struct output *o, void *ctx)
{
    for (struct connected **link = &o->connected; *link;) {
        struct connected *c = *link;

        if (c->ctx != ctx) {
            link = &c->next;
            continue;
        }
        *link = c->next;
        free(c);
    }
}

bool output_write(struct output *o, const char *record, size_t len)
{
    struct queue *q = &o->queue;

    if (!len)
        return true;
    if (o->in_preamble) {
        buf_add(&o->preamble, record, len);
        o->preamble_records++;
        return true;
    }
    if (!queue_put(q, record, len)) {
        if (o->state == OUTPUT_UP && !o->blocked)
            pump(o); /* what has arrived by now makes room */
        else if (o->state == OUTPUT_UP && o->transport->settle && o->transport->settle(o))
            pump(o); /* a disk is waited for, as by any writer */
        if (!queue_put(q, record, len)) {
            o->stats.lost_queue += weight(o, record, len);
            return false;
        }
    }
    o->items += weight(o, record, len);
    if (resting(o))
        set_timer(o, DELAY_OTLP_MS);
    if (o->state != OUTPUT_UP || o->blocked)
        return true;
    if (q->end - q->next >= BATCH)
        pump(o);
    else if (!o->timer_at)
        set_timer(o, o->otlp                               ? DELAY_OTLP_MS
                     : o->cfg.type != CFG_FILE             ? DELAY_SOCKET_MS
                     : o->cfg.buffering == CFG_BUFFER_LINE ? DELAY_LINE_MS
                                                           : DELAY_FULL_MS);
    return true;
}

bool output_flush(struct output *o)
{
    if (o->state == OUTPUT_UP)
        pump(o);
    else if (resting(o) && !idle(o))
        attempt(o);
    settle(o);
    return idle(o);
}

/* The output itself, and for one of OTLP the others of its kind: they are waited for one after the other, but receivers
 * are slow enough to be asked at the same time. */
static size_t those_that_go_on(struct output *o, struct output *list[WAIT_MAX])
{
    size_t n = 1;

    list[0] = o;
    for (struct output *other = outputs; o->otlp && other && n < WAIT_MAX; other = other->next)
        if (other != o && other->otlp && other->base == o->base)
            list[n++] = other;
    return n;
}

bool output_wait(struct output *o, unsigned ms)
{
    uint64_t now = monotonic_ms(), end = now + ms, late = now + (ms > LAST_REQUEST_MS ? ms : LAST_REQUEST_MS), last;
    struct output *list[WAIT_MAX];
    size_t n = those_that_go_on(o, list);

    for (size_t i = 1; i < n; i++)
        output_flush(list[i]);
    while (!output_flush(o) && now < (last = o->otlp && otlp_is_busy(o->otlp) ? late : end)) {
        struct pollfd p[WAIT_MAX];
        uint64_t until = last;

        for (size_t i = 0; i < n; i++) {
            p[i] = (struct pollfd){.fd = list[i]->io_pollable ? list[i]->fd : -1, .events = list[i]->want};
            if (list[i]->timer_at && list[i]->timer_at < until)
                until = list[i]->timer_at;
        }
        if (p[0].fd < 0 && (!o->timer_at || o->timer_at >= last))
            break; /* nothing can happen until then */
        if (poll(p, n, until > now ? (int)(until - now) : 0) > 0)
            for (size_t i = 0; i < n; i++)
                if (p[i].revents)
                    handle_ready(list[i], p[i].revents);
        now = monotonic_ms();
        for (size_t i = 0; i < n; i++)
            if (list[i]->timer_at && list[i]->timer_at <= now) {
                stop_timer(list[i]);
                handle_timer(list[i]);
            }
    }
    return idle(o);
}

void output_stats(const struct output *o, struct output_stats *ret)
{
    *ret = o->stats;
    ret->queued = waiting(o) + o->preamble_records;
    ret->failure = o->failure[0] ? o->failure : NULL;
}

uint64_t output_claim_lost(struct output *o)
{
    uint64_t n = o->stats.lost_destination - o->claimed;

    o->claimed = o->stats.lost_destination;
    return n;
}

const char *output_url(const struct output *o)
{
    return o->url;
}

void output_describe(const struct output *o, const char *name, struct buf *b)
{
    struct output_stats s;

    output_stats(o, &s);
    if (b->len && b->p[b->len - 1] != '[')
        buf_char(b, ',');
    buf_printf(b, "{\"name\":\"%s\",\"config\":", name);
    buf_json_str(b, output_url(o));
    buf_printf(b, ",\"connected\":%s", s.connected ? "true" : "false");
    if (!s.connected)
        buf_printf(b, ",\"attempts\":%u", s.attempts);
    if (s.failure) {
        buf_str(b, ",\"failure_details\":");
        buf_json_str(b, s.failure);
    }
    buf_printf(b, ",\"delivered\":%llu,\"queued\":%llu,\"lost_queue\":%llu,\"lost_destination\":%llu}",
               (unsigned long long)s.records, (unsigned long long)s.queued, (unsigned long long)s.lost_queue,
               (unsigned long long)s.lost_destination);
}
