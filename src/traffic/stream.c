/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/fds.h"
#include "model/model.h"
#include "report/pipeline.h"
#include "report/report.h"
#include "traffic/payloads.h"
#include "traffic/tls_objects.h"
#include "protocol/detect.h"
#include "protocol/dns.h"
#include "protocol/http1.h"
#include "protocol/http2.h"
#include "protocol/preamble.h"
#include "protocol/statsd.h"

#define JOINED_TRIES 64u     /* pieces at whose beginning a connection that was joined half-way is recognised */
#define LOOK_MAX 131072u     /* bytes of a connection that is not recognised; less than FD_UNDECIDED_SOCKET */
#define SKIP_LEAST 4096u     /* bytes that are worth telling the probe */
/* Bytes that nobody understands in which a connection may go over to TLS, as STARTTLS of mail protocols and PostgreSQL's
 * SSLRequest do, or to HTTP, behind a preamble that isn't known. */
#define STARTTLS_TURNS 12u
#define STARTTLS_BYTES 16384u
/* How long an answer is waited for: longer than resolvers wait before they ask again or refuse (resolv.conf(5): 5 s;
 * BIND: 10 s). */
#define DNS_WAIT_NS UINT64_C(15000000000)

/* --- what the configuration wants --- */

static void bad_rule(void *ctx, size_t rule, const char *text)
{
    const struct config *cfg = ctx;

    log_warning("protocol '%s': %s; it is never recognised", cfg->protocols[rule].name, text);
}

void stream_prepare(struct pipeline *pl)
{
    const struct config *cfg = pl->cfg;
    struct detect_rule *rules = xcalloc(cfg->protocol_count + 1, sizeof(*rules));

    pl->http = pl->ev_http_req || pl->ev_http_resp || pl->ev_http_note;
    for (int m = TM_HTTP_REQ; m <= TM_HTTP_RESP_LENGTH; m++)
        pl->http |= pl->metric[m] || pl->per_op[m];
    pl->dns = pl->ev_dns_req || pl->ev_dns_resp || pl->metric[TM_DNS_REQ] || pl->per_op[TM_DNS_REQ] ||
              pl->metric[TM_DNS_DURATION] || pl->per_op[TM_DNS_DURATION];
    pl->statsd = cfg->metric.enable && cfg->metric.watch[CFG_MW_STATSD];
    pl->payloads = cfg->payload.enable;
    for (size_t i = 0; i < cfg->protocol_count; i++) {
        const struct cfg_protocol *p = &cfg->protocols[i];

        rules[i] = (struct detect_rule){p->name, p->regex, p->binary, p->len};
        pl->payloads |= p->payload;
    }
    pl->detect = detect_rules_new(rules, cfg->protocol_count, bad_rule, pl->cfg);
    free(rules);
    http_prepare(pl);
}

void stream_unprepare(struct pipeline *pl)
{
    detect_rules_free(pl->detect);
    http_unprepare(pl);
}

/* --- what becomes of a connection --- */

static void feed(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
static bool judge(struct stream *s, uint64_t time_ns);

static struct pool streams = POOL(struct stream);

static struct stream *stream_new(struct sock *sock, uint64_t channel, bool tls)
{
    struct stream *s = pool_get(&streams);

    s->sock = sock;
    s->channel = channel;
    s->tls = tls;
    s->datagrams = sock && (sock->type == SOCK_DGRAM || sock->type == SOCK_SEQPACKET);
    s->joined = sock && sock->flags & SOCKF_JOINED;
    s->fd = -1;
    return s;
}

static void stop_asking(struct stream *s)
{
    if (!s->asker)
        return;
    *s->asking = s->next_asking;
    if (s->next_asking)
        s->next_asking->asking = s->asking;
    s->asker = NULL;
}

/* Queries may have come, or answers. */
static void note_asking(struct stream *s)
{
    struct proc *p = dns_outstanding(s->dns) ? s->p : NULL;

    if (s->asker == p)
        return;
    stop_asking(s);
    if (!p)
        return;
    s->asker = p;
    s->asking = &p->asking;
    s->next_asking = p->asking;
    if (s->next_asking)
        s->next_asking->asking = &s->next_asking;
    p->asking = s;
}

static void free_decoder(struct stream *s, uint64_t time_ns)
{
    switch ((enum stream_kind)s->kind) {
    case STREAM_DETECT: detect_free(s->detect); break;
    case STREAM_NOTHING: break;
    case STREAM_PREAMBLE: preamble_free(s->preamble, time_ns); break;
    case STREAM_HTTP1: http1_free(s->http1, time_ns); break;
    case STREAM_HTTP2: http2_free(s->http2, time_ns); break;
    case STREAM_DNS:
        dns_free(s->dns, time_ns);
        stop_asking(s);
        break;
    case STREAM_STATSD: statsd_free(s->statsd); break;
    case STREAM_TLS: hellos_free(s->hellos); break;
    }
}

static struct pool starts = POOL(struct stream_start);

static struct stream_start *start_of(struct stream *s)
{
    if (!s->start)
        s->start = pool_get(&starts);
    return s->start;
}

static void forget_turn(struct stream *s)
{
    if (!s->start)
        return;
    detect_free(s->start->turn);
    s->start->turn = NULL;
}

static void started(struct stream *s)
{
    forget_turn(s);
    pool_put(&starts, s->start);
    s->start = NULL;
}

void stream_free(struct stream *s, uint64_t time_ns)
{
    if (!s)
        return;
    free_decoder(s, time_ns);
    payloads_end(s, time_ns);
    started(s);
    free(s->peer);
    pool_put(&streams, s);
}

static void become(struct stream *s, enum stream_kind kind, uint64_t time_ns)
{
    free_decoder(s, time_ns);
    s->kind = (uint8_t)kind;
}

static void lost(struct stream *s, enum loss_kind kind, uint64_t count)
{
    if (s->p)
        model_loss(s->p->m, s->p, kind, count);
}

static const struct http_sink stream_http;

/* What comes now is another protocol, from its beginning. */
static void recognise_anew(struct stream *s)
{
    s->next_detect = detect_new(s->p->pl->detect, false);
    start_of(s)->first = (struct tls_first){0};
    s->named = false;
}

static void http_upgraded(void *owner, struct slice to, void *kept)
{
    struct stream *s = owner;

    if (!to.p && s->p) {
        recognise_anew(s);
    } else if (to.p && to.len == 3 && !memcmp(to.p, "h2c", 3)) {
        enum proto_dir dir;
        uint64_t first_ns;

        s->next_http2 = http2_new(&stream_http, s, false);
        if (http_began(kept, &dir, &first_ns))
            http2_upgraded(s->next_http2, dir, kept, first_ns);
    } else {
        s->next_nothing = true;
    }
}

/* The beginning of a connection, or of what a tunnel carries. */
static void look_for_hello(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct stream_start *start;
    const uint8_t *random;

    if (!data || s->tls || s->datagrams || !s->sock || !s->p)
        return;
    start = start_of(s);
    if (!start->first.len)
        start->first_dir = (uint8_t)dir;
    random = dir == start->first_dir ? tls_first_add(&start->first, data, (size_t)len) : NULL;
    if (random && tls_socket_hello(s->p, s->fd, s->channel, dir, random, time_ns))
        s->relayed = true;
}

static void feed_next(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    look_for_hello(s, dir, data, len, time_ns);
    start_of(s)->missing[dir] += len - detect_feed(s->next_detect, dir, data, len, time_ns);
}

static void http_rest(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct stream *s = owner;

    if (s->next_http2)
        http2_feed(s->next_http2, dir, data, len, time_ns);
    else if (s->next_detect)
        feed_next(s, dir, data, len, time_ns);
}

static void preamble_told(void *owner, const struct preamble_told *told, uint64_t time_ns)
{
    struct stream *s = owner;

    if (!s->p) {
        s->next_nothing = true;
        return;
    }
    preamble_report(s, told, time_ns);
    if (told->goes_on) {
        recognise_anew(s);
        s->builtin = false; /* it may be anything, also something that becomes TLS later */
    } else {
        s->next_nothing = true;
    }
}

static void preamble_rest(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct stream *s = owner;

    if (s->next_detect)
        feed_next(s, dir, data, len, time_ns);
}

static const struct preamble_sink stream_preamble = {preamble_told, preamble_rest};

static void http_note(void *owner, enum http_note note, uint64_t count)
{
    struct stream *s = owner;

    switch (note) {
    case HTTP_NOTE_JOINED: break;
    case HTTP_NOTE_LOST: lost(s, LK_TRAFFIC, count); break;
    case HTTP_NOTE_UNMATCHED: lost(s, LK_MESSAGE, count); break;
    case HTTP_NOTE_NOT_HTTP: s->next_nothing = true; break;
    }
}

static const struct http_sink stream_http = {.request = http_request,
                                             .response = http_response,
                                             .trailers = http_trailers,
                                             .done = http_done,
                                             .upgraded = http_upgraded,
                                             .rest = http_rest,
                                             .note = http_note};

/* A decoder must not be freed while it calls. */
static void change(struct stream *s, uint64_t time_ns)
{
    if (s->next_http2) {
        become(s, STREAM_HTTP2, time_ns);
        s->http2 = s->next_http2;
    } else if (s->next_detect) {
        struct stream_start *start = start_of(s);
        uint64_t missing[PROTO_DIRS];

        memcpy(missing, start->missing, sizeof(missing));
        memset(start->missing, 0, sizeof(start->missing));
        start->tries = 0;
        start->looked = 0;
        become(s, STREAM_DETECT, time_ns);
        s->detect = s->next_detect;
        s->next_detect = NULL;
        s->joined = false;
        if (s->p && judge(s, time_ns)) /* else nobody is there to tell it to */
            for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++)
                feed(s, dir, NULL, missing[dir], time_ns);
    } else if (s->next_nothing) {
        become(s, STREAM_NOTHING, time_ns);
    }
    s->next_http2 = NULL;
    s->next_detect = NULL;
    s->next_nothing = false;
}

/* --- recognising --- */

static const struct cfg_protocol *rule_of(const struct pipeline *pl, const struct detect_answer *a)
{
    return a->rule < pl->cfg->protocol_count ? &pl->cfg->protocols[a->rule] : NULL;
}

static void replayed(void *ctx, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    struct stream *s = ctx;

    if (s->everything && !s->p->pl->cfg->payload.enable) /* else it has passed already */
        payloads_pass(s, dir, data, len, time_ns);
    feed(s, dir, data, len, time_ns);
}

static void recognised(struct stream *s, const struct detect_answer *a, uint64_t time_ns)
{
    const struct pipeline *pl = s->p->pl;
    const struct cfg_protocol *rule = rule_of(pl, a);
    struct detect *d = s->detect;
    bool joined = s->joined, preamble = a->protocol == DETECT_PROXY || a->protocol == DETECT_SOCKS;

    s->detect = NULL;
    s->kind = STREAM_NOTHING;
    s->named = !preamble;
    forget_turn(s);
    s->http = a->protocol == DETECT_HTTP1 || a->protocol == DETECT_HTTP2;
    if (s->http && s->sock)
        s->sock->flags |= SOCKF_HTTP;
    s->builtin = a->protocol != DETECT_USER;
    s->everything = rule && rule->payload;
    s->ciphertext |= a->protocol == DETECT_TLS && !s->tls;
    s->protocol = a->name;
    payloads_recognised(s);
    if (a->protocol == DETECT_TLS && !s->datagrams) {
        s->kind = STREAM_TLS;
        s->hellos = hellos_new(s, pl->ev_net_app && (!rule || rule->detect), time_ns);
        start_of(s)->looked = 0;
    } else if (pl->ev_net_app && (!rule || rule->detect) && !preamble) { /* what is in a preamble is told with it */
        report_net_app(s->p, s->fd, s->channel, a->name, NULL, time_ns);
    }
    if (preamble) {
        s->kind = STREAM_PREAMBLE;
        s->preamble = preamble_new(&stream_preamble, s, a->protocol == DETECT_PROXY ? PREAMBLE_PROXY : PREAMBLE_SOCKS, a->dir);
    } else if (a->protocol == DETECT_HTTP1 && pl->http) {
        s->kind = STREAM_HTTP1;
        s->http1 = http1_new(&stream_http, s, joined);
    } else if (a->protocol == DETECT_HTTP2 && pl->http) {
        s->kind = STREAM_HTTP2;
        s->http2 = http2_new(&stream_http, s, joined);
    } else if (a->protocol == DETECT_DNS && pl->dns) {
        s->kind = STREAM_DNS;
        s->dns = dns_new(&dns_sink, s, !s->datagrams, joined);
    } else if (a->protocol == DETECT_STATSD && pl->statsd) {
        s->kind = STREAM_STATSD;
        s->statsd = statsd_new(&statsd_sink, s, joined);
    }
    if (s->kind != STREAM_NOTHING && s->kind != STREAM_TLS)
        started(s);
    if (s->kind != STREAM_NOTHING || s->everything)
        detect_replay(d, replayed, s);
    detect_free(d);
}

/* True if it is recognised now. */
static bool judge(struct stream *s, uint64_t time_ns)
{
    struct detect_answer a = detect_answer(s->detect);

    if (a.state == DETECT_FOUND) {
        recognised(s, &a, time_ns);
        return true;
    }
    if (a.state == DETECT_NOTHING) {
        detect_free(s->detect);
        s->detect = NULL;
        if (!s->joined || ++start_of(s)->tries >= JOINED_TRIES)
            s->kind = STREAM_NOTHING;
    }
    return false;
}

/* Of a connection that was joined half-way, each piece may be the first that is understood. */
static void feed_detect(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    size_t kept;

    if (!data && !s->detect) { /* nothing of it has been seen yet */
        s->joined = true;
        return;
    }
    if (!s->detect)
        s->detect = detect_new(s->p->pl->detect, s->datagrams);
    look_for_hello(s, dir, data, len, time_ns);
    kept = detect_feed(s->detect, dir, data, (size_t)len, time_ns);
    if (judge(s, time_ns) && kept < len && !s->datagrams) /* what the answer did without is the decoder's, too */
        replayed(s, dir, data ? data + kept : NULL, len - kept, time_ns);
    if (s->kind == STREAM_DETECT && (start_of(s)->looked += len) > LOOK_MAX) /* nothing comes in the other direction */
        become(s, STREAM_NOTHING, time_ns);
}

/* --- feeding --- */

/* data NULL: a gap. */
static void feed(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    if (!len)
        return;
    switch ((enum stream_kind)s->kind) {
    case STREAM_DETECT: feed_detect(s, dir, data, len, time_ns); break;
    case STREAM_NOTHING: break;
    case STREAM_PREAMBLE: preamble_feed(s->preamble, dir, data, len, time_ns); break;
    case STREAM_HTTP1: http1_feed(s->http1, dir, data, len, time_ns); break;
    case STREAM_HTTP2: http2_feed(s->http2, dir, data, len, time_ns); break;
    case STREAM_DNS:
        if (!s->datagrams)
            dns_feed(s->dns, dir, data, len, time_ns);
        else if (data)
            dns_datagram(s->dns, dir, s->peer->hash, data, (size_t)len, (size_t)len, time_ns);
        else
            lost(s, LK_TRAFFIC, len);
        note_asking(s);
        break;
    case STREAM_STATSD:
        if (!s->datagrams)
            statsd_feed(s->statsd, dir, data, len, time_ns);
        else if (data)
            statsd_datagram(s->statsd, dir, data, (size_t)len, (size_t)len, time_ns);
        else
            lost(s, LK_TRAFFIC, len);
        break;
    case STREAM_TLS:
        look_for_hello(s, dir, data, len, time_ns); /* whose beginning was enough to recognise it */
        start_of(s)->looked += len;
        s->next_nothing = hellos_feed(s->hellos, dir, data, len, time_ns) ||
                          (s->start->looked > 2 * TLS_HELLO_MAX && !hellos_done(s->hellos));
        break;
    }
    change(s, time_ns);
}

/* Nothing more of it comes. */
static void end(struct stream *s, uint64_t time_ns)
{
    for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++) {
        if (s->kind == STREAM_DETECT && s->detect && s->p) { /* this was all of it */
            detect_end(s->detect, dir);
            judge(s, time_ns);
        }
        if (s->kind == STREAM_HTTP1)
            http1_end(s->http1, dir, time_ns);
        else if (s->kind == STREAM_HTTP2)
            http2_end(s->http2, dir, time_ns);
        else if (s->kind == STREAM_STATSD)
            statsd_end(s->statsd, dir, time_ns);
        change(s, time_ns);
    }
}

/* Decoders know better what they read. */
static bool is_unknown(const struct stream *s)
{
    return !s->tls && !s->datagrams && (s->kind == STREAM_DETECT || s->kind == STREAM_NOTHING);
}

static bool in_budget(const struct stream *s)
{
    return !s->start || (s->start->turns <= STARTTLS_TURNS && s->start->clear <= STARTTLS_BYTES);
}

/* HTTP may come behind something that nobody understands. Of what was joined half-way any piece is looked at as it is. */
static bool may_become_http(const struct stream *s)
{
    return is_unknown(s) && !s->named && !s->joined && !s->ciphertext && in_budget(s);
}

/* Something goes in the other direction than what came before: it may be the beginning of HTTP. True if it is, and was
 * taken. */
static bool feed_turn(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns, bool turns)
{
    struct stream_start *t = s->start;
    struct detect_answer a;
    size_t kept;

    if (turns)
        forget_turn(s);
    if (!data || !may_become_http(s) || (!turns && !t->turn))
        return false;
    if (!t->turn)
        t->turn = detect_new_turn(s->p->pl->detect);
    kept = detect_feed(t->turn, dir, data, (size_t)len, time_ns);
    a = detect_answer(t->turn);
    if (a.state == DETECT_NOTHING)
        forget_turn(s);
    if (a.state != DETECT_FOUND)
        return false;
    if (s->kind == STREAM_DETECT)
        detect_free(s->detect);
    s->detect = t->turn;
    t->turn = NULL;
    recognised(s, &a, time_ns);
    replayed(s, dir, data + kept, len - kept, time_ns);
    return true;
}

static void pass_on(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    bool turns = false;

    if (is_unknown(s)) {
        struct stream_start *t = start_of(s);

        turns = t->turns && t->last != dir;
        if ((!t->turns || t->last != dir) && t->turns <= STARTTLS_TURNS)
            t->turns++;
        t->last = (uint8_t)dir;
        t->clear = len > STARTTLS_BYTES || t->clear + len > STARTTLS_BYTES ? STARTTLS_BYTES + 1 : t->clear + (uint32_t)len;
    }
    payloads_pass(s, dir, data, len, time_ns);
    /* Whether it is what it seems from its beginning comes first. */
    if (s->kind == STREAM_DETECT)
        feed(s, dir, data, len, time_ns);
    else if (s->kind != STREAM_NOTHING) {
        feed(s, dir, data, len, time_ns);
        return;
    }
    if (is_unknown(s) && s->start)
        feed_turn(s, dir, data, len, time_ns, turns);
}

/* A connection is TLS from its beginning, or becomes it after some clear text. */
static bool may_become_tls(const struct stream *s)
{
    return is_unknown(s) && !s->ciphertext && in_budget(s);
}

/* What comes is a hello. The plaintext is another stream; here everything is recognised anew. */
static void become_tls(struct stream *s, uint64_t time_ns)
{
    if (s->kind == STREAM_NOTHING || s->start->clear) {
        struct held_bytes held = s->start->held;

        end(s, time_ns); /* of what was in clear text */
        become(s, STREAM_DETECT, time_ns);
        s->detect = NULL;
        s->joined = false;
        started(s);
        start_of(s)->held = held;
    }
    s->ciphertext = true;
}

static size_t held(const struct stream *s)
{
    return s->start ? s->start->held.len : 0;
}

/* What was held back is no TLS. */
static void release(struct stream *s)
{
    struct held_bytes h;

    if (!held(s))
        return;
    h = s->start->held;
    s->start->held.len = 0;
    pass_on(s, (enum proto_dir)h.dir, h.data, h.len, h.time_ns);
}

/* True if these bytes are kept for later: they may be the beginning of TLS. */
static bool hold(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct held_bytes *h = &start_of(s)->held;
    size_t more = len < TLS_DETECT - (size_t)h->len ? (size_t)len : TLS_DETECT - (size_t)h->len;
    uint8_t first[TLS_DETECT];
    int is_tls;

    memcpy(first, h->data, h->len);
    memcpy(first + h->len, data, more);
    is_tls = tls_detect(first, h->len + more);
    if (is_tls > 0)
        become_tls(s, time_ns);
    if (is_tls >= 0 || h->len + len >= TLS_DETECT)
        return false;
    if (!h->len)
        h->time_ns = time_ns;
    memcpy(h->data, first, h->len + more);
    h->len = (uint8_t)(h->len + more);
    h->dir = (uint8_t)dir;
    return true;
}

/* What passed, each byte once. begins: it is the beginning of a call; a hello is. */
static void pass(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns, bool begins)
{
    if (!len)
        return;
    if (held(s) && (!data || dir != s->start->held.dir))
        release(s);
    if (data && (begins || held(s)) && may_become_tls(s) && hold(s, dir, data, len, time_ns))
        return;
    release(s);
    pass_on(s, dir, data, len, time_ns);
}

static uint64_t needless(const struct stream *s, enum proto_dir dir)
{
    switch ((enum stream_kind)s->kind) {
    case STREAM_HTTP1: return http1_skip(s->http1, dir);
    case STREAM_HTTP2: return http2_skip(s->http2, dir);
    case STREAM_TLS: return hellos_skip(s->hellos, dir);
    default: return 0;
    }
}

/* What a decoder knows that it needs the length of only, the probe need not copy. Not where several descriptors pass
 * parts of one connection: their counters count them apart. */
static void tell_skip(struct proc *p, int64_t fd, struct desc *d, const struct stream *s)
{
    if (p->borrowed || !p->seg)
        return;
    for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++) {
        uint64_t n = needless(s, dir), to;

        if (d->pos[dir] == DESC_NO_POS)
            continue;
        if (file_shared(d->file) || s->flows || (dir == PROTO_TX && report_is_console(p, d)))
            n = 0;
        if (n > SKIP_MAX - 1)
            n = SKIP_MAX - 1;
        to = n >= SKIP_LEAST ? d->pos[dir] + n : 0;
        /* one that has no end is renewed now and then */
        if (to ? to > d->skip[dir] && (n < SKIP_MAX - 1 || d->skip[dir] < d->pos[dir] + SKIP_MAX / 2)
               : d->skip[dir] > d->pos[dir]) {
            if (p->m->watch->tell_skip(p, fd, d->gen, dir == PROTO_TX, to))
                d->skip[dir] = to;
        }
    }
}

static enum fd_want want_of(const struct proc *p, const struct stream *s)
{
    if (!s->ciphertext && (s->everything || p->pl->mode & SEG_M_PAYLOADS))
        return FDW_CAPTURE;
    if (s->kind == STREAM_DETECT ||
        (s->kind == STREAM_NOTHING && p->pl->ev_net_app && !s->builtin && may_become_tls(s)) ||
        (s->kind == STREAM_NOTHING && (p->pl->ev_net_app || p->pl->http) && may_become_http(s)))
        return FDW_UNDECIDED;
    return s->kind == STREAM_NOTHING ? FDW_NONE : FDW_CAPTURE;
}

/* Neither of the internet nor between processes, or raw: nothing of it is wanted. What the probe had captured before it
 * was told so isn't, either. */
static bool is_foreign(const struct sock *s)
{
    return (s->domain && s->domain != AF_INET && s->domain != AF_INET6 && s->domain != AF_UNIX) ||
           (s->type && s->type != SOCK_STREAM && s->type != SOCK_DGRAM && s->type != SOCK_SEQPACKET);
}

enum fd_want stream_want(const struct proc *p, const struct desc *d)
{
    const struct sock *s = d->file->sock;

    if (!(p->pl->mode & SEG_M_TRAFFIC))
        return FDW_NONE;
    if (s && s->stream)
        return want_of(p, s->stream);
    if (s && is_foreign(s))
        return FDW_NONE;
    return p->pl->mode & SEG_M_PAYLOADS ? FDW_CAPTURE : FDW_UNDECIDED;
}

/* Plaintext of which nothing is wanted, nor its length, need not be copied. */
static void tell_done(struct proc *p, const struct stream *s, const struct traffic *t)
{
    if (t->life && want_of(p, s) == FDW_NONE && !s->flows)
        p->m->watch->tell_tls_done(p, t->object, t->life);
}

static void with(struct stream *s, struct proc *p, int64_t fd)
{
    s->p = p;
    s->fd = fd;
}

static uint64_t hash_of(const void *p, size_t len)
{
    const uint8_t *b = p;
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

    for (size_t i = 0; i < len; i++)
        h = (h ^ b[i]) * UINT64_C(0x100000001b3);
    return len ? h | 1 : 0;
}

/* Each is a message of its own. One that isn't captured as a whole isn't fed. */
static void datagram(struct stream *s, const struct traffic *t)
{
    if (!s->peer)
        s->peer = xcalloc(1, sizeof(*s->peer));
    address_set(&s->peer->from, t->name, t->name_len);
    s->peer->hash = hash_of(t->name, t->name_len);
    if (t->data && !t->offset && t->len == t->bytes) {
        pass(s, t->dir, t->data, t->len, t->time_ns, false);
    } else {
        payloads_pass(s, t->dir, NULL, t->data ? t->len : t->bytes > t->offset ? t->bytes - t->offset : 0, t->time_ns);
        if (!t->offset && (s->kind == STREAM_DNS || s->kind == STREAM_STATSD))
            lost(s, LK_MESSAGE, 1);
    }
}

/* Whether these bytes may be those of a hello. */
static bool may_begin_tls(const struct stream *s, const struct traffic *t)
{
    return may_become_tls(s) &&
           (held(s) || (t->data && !t->offset && tls_detect(t->data, t->len < TLS_DETECT ? t->len : TLS_DETECT)));
}

/*
 * A TLS library moves these bytes. They are ciphertext, or (kernel TLS, Documentation/networking/tls.rst) plaintext that
 * the library's functions tell, too. The handshake, which says so itself, passed before anybody looked, or behind
 * something else (STARTTLS).
 */
static void enciphered(struct stream *s, uint64_t time_ns)
{
    if (s->ciphertext)
        return;
    payloads_end(s, time_ns);
    become(s, STREAM_NOTHING, time_ns);
    s->ciphertext = true;
}

/* A connection that was there before us: what a library moves through memory, or one whose functions aren't known. */
static bool joined_tls(const struct stream *s, const struct traffic *t)
{
    return s->joined && s->kind == STREAM_DETECT && !s->ciphertext && !s->tls && !s->datagrams && t->data && !t->offset &&
           tls_encrypted(t->data, t->len);
}

void stream_data(struct proc *p, int64_t fd, struct desc *d, const struct traffic *t)
{
    struct sock *sock = d->file->sock;
    struct stream **at = t->tls ? &sock->plain : &sock->stream, *s = *at;
    uint64_t start = t->position + t->offset, skip = 0;
    uint64_t len = t->data ? t->len : t->bytes > t->offset ? t->bytes - t->offset : 0;

    if (is_foreign(sock))
        return;
    if (!s) {
        s = *at = stream_new(sock, d->file->channel, t->tls);
        s->datagrams |= t->name_len > 0 && sock->type != SOCK_STREAM; /* else sent with MSG_FASTOPEN */
    }
    if (t->tls)
        s->object = t->object;
    if (t->tls || t->object)
        sock->flags |= SOCKF_PLAIN;
    with(s, p, fd);
    if (t->object && !t->tls && (s->kind == STREAM_NOTHING || (s->kind == STREAM_DETECT && s->joined)) &&
        !may_begin_tls(s, t))
        enciphered(s, t->time_ns);
    if (joined_tls(s, t))
        enciphered(s, t->time_ns);
    if (s->datagrams) {
        datagram(s, t);
        if (d->pos[t->dir] != DESC_NO_POS) /* how much was seen: threads that share a socket tell in any order */
            d->pos[t->dir] += len;
        skip = len;
    } else if (t->placed && !t->tls) {
        uint64_t *pos = &d->pos[t->dir];

        if (*pos != DESC_NO_POS && start > *pos) {
            pass(s, t->dir, NULL, start - *pos, t->time_ns, false);
        } else if (*pos != DESC_NO_POS) {
            skip = *pos - start; /* written out of order, by threads: it was a gap already */
        }
        if (skip < len)
            *pos = start + len;
    }
    if (skip < len)
        pass(s, t->dir, t->data ? t->data + skip : NULL, len - skip, t->time_ns, !t->offset && !skip);
    with(s, NULL, -1);
    if (t->tls) {
        tell_done(p, s, t);
    } else {
        tell_skip(p, fd, d, s);
        fds_decide(p, fd, d);
    }
}

void stream_over(struct stream *s, struct proc *p, int64_t fd, uint64_t time_ns)
{
    if (!s)
        return;
    with(s, p, fd);
    release(s);
    end(s, time_ns);
    stream_free(s, time_ns);
}

void stream_close(struct proc *p, int64_t fd, struct desc *d, uint64_t time_ns)
{
    struct sock *sock = d->file->sock;
    struct stream *s = sock->stream;

    if (s) {
        uint64_t now[PROTO_DIRS] = {[PROTO_RX] = d->seen.rb, [PROTO_TX] = d->seen.wb};

        with(s, p, fd);
        for (enum proto_dir dir = 0; dir < PROTO_DIRS && !p->borrowed && !(d->flags & DF_BLIND); dir++)
            if (d->pos[dir] != DESC_NO_POS && now[dir] > d->pos[dir])
                pass(s, dir, NULL, now[dir] - d->pos[dir], time_ns, false);
        with(s, NULL, -1);
    }
    if (file_shared(d->file))
        return;
    tls_unread_over(p, fd, sock, time_ns);
    for (int i = 0; i < 2; i++) {
        struct stream **at = i ? &sock->plain : &sock->stream;

        stream_over(*at, p, fd, time_ns);
        *at = NULL;
    }
}

/* --- plaintext of TLS objects --- */

struct stream *stream_of_object(struct proc *p, bool joined)
{
    struct stream *s = stream_new(NULL, ++p->m->last_channel, true);

    s->joined = joined;
    return s;
}

void stream_feed(struct stream *s, struct proc *p, const struct traffic *t)
{
    with(s, p, -1);
    pass(s, t->dir, t->data, t->data ? t->len : t->bytes > t->offset ? t->bytes - t->offset : 0, t->time_ns, false);
    with(s, NULL, -1);
    tell_done(p, s, t);
}

void stream_adopt(struct proc *p, int64_t fd, struct file *f, struct stream *s, uint64_t time_ns)
{
    stream_over(f->sock->plain, p, fd, time_ns);
    f->sock->plain = s;
    s->sock = f->sock;
    if (s->http)
        s->sock->flags |= SOCKF_HTTP;
    s->channel = f->channel;
    with(s, p, fd);
    payloads_recognised(s);
    with(s, NULL, -1);
}

void stream_missed(struct proc *p, int64_t fd, struct stream **at, uint64_t time_ns)
{
    struct stream *s = stream_new((*at)->sock, (*at)->channel, true);

    s->joined = true;
    stream_over(*at, p, fd, time_ns);
    *at = s;
}

void stream_sweep(struct proc *p, uint64_t time_ns)
{
    for (struct stream *s = p->asking, *next; s; s = next) {
        next = s->next_asking;
        with(s, p, -1);
        dns_sweep(s->dns, time_ns, DNS_WAIT_NS);
        note_asking(s);
        with(s, NULL, -1);
    }
}

void stream_forget(struct proc *p)
{
    while (p->asking)
        stop_asking(p->asking);
}

void stream_net_fields_of(struct fields *f, const struct stream *s, const union address *from, struct address_texts *t)
{
    if (s->sock)
        report_net_fields(f, s->sock, from && from->family ? from : &s->sock->peer, t);
}

void stream_net_fields(struct fields *f, const struct stream *s, struct address_texts *t)
{
    stream_net_fields_of(f, s, stream_from(s), t);
}
