/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "collector/core.h"
#include "collector/payloads.h"
#include "protocol/detect.h"
#include "protocol/dns.h"
#include "protocol/http1.h"
#include "protocol/http2.h"
#include "protocol/statsd.h"

#define JOINED_TRIES 64u     /* pieces at whose beginning a connection that was joined half-way is recognised */
#define LOOK_MAX 131072u     /* bytes of a connection that is not recognised; less than FD_UNDECIDED_SOCKET */
#define SKIP_LEAST 4096u     /* bytes that are worth telling the probe */
#define OBJECTS_MAX 4096u    /* TLS objects without a descriptor, of a process */

struct tls_stream {
    struct tls_stream *next;
    uint64_t object;
    struct stream *stream;
};

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

    pl->http = pl->ev_http_req || pl->ev_http_resp;
    for (int m = TM_HTTP_REQ; m <= TM_HTTP_RESP_LENGTH; m++)
        pl->http |= pl->metric[m] || pl->per_op[m];
    pl->dns = pl->ev_dns_req || pl->ev_dns_resp || pl->metric[TM_DNS_REQ] || pl->per_op[TM_DNS_REQ];
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

static struct stream *stream_new(const struct sock *sock, uint64_t channel, bool tls)
{
    struct stream *s = xcalloc(1, sizeof(*s));

    s->sock = sock;
    s->channel = channel;
    s->tls = tls;
    s->datagrams = sock && sock->type == SOCK_DGRAM;
    s->joined = sock && sock->flags & SOCKF_JOINED;
    s->fd = -1;
    return s;
}

static void free_decoder(struct stream *s, uint64_t time_ns)
{
    switch ((enum stream_kind)s->kind) {
    case STREAM_DETECT: detect_free(s->detect); break;
    case STREAM_NOTHING: break;
    case STREAM_HTTP1: http1_free(s->http1, time_ns); break;
    case STREAM_HTTP2: http2_free(s->http2, time_ns); break;
    case STREAM_DNS: dns_free(s->dns, time_ns); break;
    case STREAM_STATSD: statsd_free(s->statsd); break;
    }
}

void stream_free(struct stream *s, uint64_t time_ns)
{
    if (!s)
        return;
    free_decoder(s, time_ns);
    payloads_end(s, time_ns);
    free(s);
}

static void become(struct stream *s, enum stream_kind kind, uint64_t time_ns)
{
    free_decoder(s, time_ns);
    s->kind = (uint8_t)kind;
}

static void lost(struct stream *s, enum loss_kind kind, uint64_t count)
{
    if (s->p)
        report_loss(s->p->c, s->p, kind, count);
}

static const struct http_sink stream_http;

static void http_upgraded(void *owner, struct slice to, void *kept)
{
    struct stream *s = owner;

    if (!to.p && s->p) {
        s->next_detect = detect_new(s->p->pl->detect, false);
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

static void http_rest(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct stream *s = owner;

    if (s->next_http2)
        http2_feed(s->next_http2, dir, data, len, time_ns);
    else if (s->next_detect)
        detect_feed(s->next_detect, dir, data, len, time_ns);
}

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

static const struct http_sink stream_http = {.request = http_request, .response = http_response, .done = http_done,
                                             .upgraded = http_upgraded, .rest = http_rest, .note = http_note};

/* A decoder must not be freed while it calls. */
static void change(struct stream *s, uint64_t time_ns)
{
    if (s->next_http2) {
        become(s, STREAM_HTTP2, time_ns);
        s->http2 = s->next_http2;
    } else if (s->next_detect) {
        become(s, STREAM_DETECT, time_ns);
        s->detect = s->next_detect;
        s->next_detect = NULL;
        s->joined = false;
        s->tries = 0;
        s->looked = 0;
        judge(s, time_ns);
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
    bool joined = s->joined;

    s->detect = NULL;
    s->kind = STREAM_NOTHING;
    s->http = a->protocol == DETECT_HTTP1 || a->protocol == DETECT_HTTP2;
    s->everything = rule && rule->payload;
    s->ciphertext |= a->protocol == DETECT_TLS && !s->tls;
    s->protocol = a->name;
    payloads_recognised(s);
    if (rule ? rule->detect : a->protocol != DETECT_TLS)
        report_net_app(s->p, s->fd, s->channel, a->name, time_ns);
    if (a->protocol == DETECT_HTTP1 && pl->http) {
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
        if (!s->joined || ++s->tries >= JOINED_TRIES)
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
    kept = detect_feed(s->detect, dir, data, (size_t)len, time_ns);
    if (judge(s, time_ns) && kept < len && !s->datagrams) /* what the answer did without is the decoder's, too */
        replayed(s, dir, data ? data + kept : NULL, len - kept, time_ns);
    s->looked += len;
    if (s->kind == STREAM_DETECT && s->looked > LOOK_MAX) /* nothing comes in the other direction */
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
    case STREAM_HTTP1: http1_feed(s->http1, dir, data, len, time_ns); break;
    case STREAM_HTTP2: http2_feed(s->http2, dir, data, len, time_ns); break;
    case STREAM_DNS:
        if (!s->datagrams)
            dns_feed(s->dns, dir, data, len, time_ns);
        else if (data)
            dns_datagram(s->dns, dir, s->peer, data, (size_t)len, (size_t)len, time_ns);
        break;
    case STREAM_STATSD:
        if (!s->datagrams)
            statsd_feed(s->statsd, dir, data, len, time_ns);
        else if (data)
            statsd_datagram(s->statsd, dir, data, (size_t)len, (size_t)len, time_ns);
        break;
    }
    change(s, time_ns);
}

/* What passed, each byte once. */
static void pass(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    if (!len)
        return;
    payloads_pass(s, dir, data, len, time_ns);
    feed(s, dir, data, len, time_ns);
}

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

static uint64_t needless(const struct stream *s, enum proto_dir dir)
{
    switch ((enum stream_kind)s->kind) {
    case STREAM_HTTP1: return http1_skip(s->http1, dir);
    case STREAM_HTTP2: return http2_skip(s->http2, dir);
    default: return 0;
    }
}

/* What a decoder knows that it needs the length of only, the probe need not copy. Not where several descriptors pass
 * parts of one connection: their counters count them apart. */
static void tell_skip(struct proc *p, int64_t fd, struct desc *d, const struct stream *s)
{
    if (p->borrowed || !p->seg || p->seg->broken)
        return;
    for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++) {
        uint64_t n = needless(s, dir), to;

        if (d->pos[dir] == DESC_NO_POS)
            continue;
        if (d->file->refs > 1 || s->flows)
            n = 0;
        if (n > SKIP_MAX - 1)
            n = SKIP_MAX - 1;
        to = n >= SKIP_LEAST ? d->pos[dir] + n : 0;
        /* one that has no end is renewed now and then */
        if (to ? to > d->skip[dir] && (n < SKIP_MAX - 1 || d->skip[dir] < d->pos[dir] + SKIP_MAX / 2)
               : d->skip[dir] > d->pos[dir]) {
            segment_skip(&p->seg->map, (uint64_t)fd, d->gen, dir == PROTO_TX, to);
            d->skip[dir] = to;
        }
    }
}

static enum fd_want want_of(const struct proc *p, const struct stream *s)
{
    if (!s->ciphertext && (s->everything || p->pl->mode & SEG_M_PAYLOADS))
        return FDW_CAPTURE;
    return s->kind == STREAM_DETECT ? FDW_UNDECIDED : s->kind == STREAM_NOTHING ? FDW_NONE : FDW_CAPTURE;
}

enum fd_want stream_want(const struct proc *p, const struct desc *d)
{
    const struct sock *s = d->file->sock;

    if (!(p->pl->mode & SEG_M_TRAFFIC))
        return FDW_NONE;
    if (s && s->stream)
        return want_of(p, s->stream);
    if (s && ((s->domain && s->domain != AF_INET && s->domain != AF_INET6 && s->domain != AF_UNIX) ||
              (s->type && s->type != SOCK_STREAM && s->type != SOCK_DGRAM)))
        return FDW_NONE;
    return p->pl->mode & SEG_M_PAYLOADS ? FDW_CAPTURE : FDW_UNDECIDED;
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
    uint8_t len;

    address_set(&s->from, &len, t->name, t->name_len);
    s->peer = hash_of(t->name, t->name_len);
    if (t->data && !t->offset && t->len == t->bytes) {
        pass(s, t->dir, t->data, t->len, t->time_ns);
    } else {
        payloads_pass(s, t->dir, NULL, t->data ? t->len : t->bytes > t->offset ? t->bytes - t->offset : 0, t->time_ns);
        if (!t->offset && (s->kind == STREAM_DNS || s->kind == STREAM_STATSD))
            lost(s, LK_MESSAGE, 1);
    }
}

void stream_data(struct proc *p, int64_t fd, struct desc *d, const struct traffic *t)
{
    struct sock *sock = d->file->sock;
    struct stream **at = t->tls ? &sock->plain : &sock->stream, *s = *at;
    uint64_t start = t->position + t->offset, skip = 0;
    uint64_t len = t->data ? t->len : t->bytes > t->offset ? t->bytes - t->offset : 0;

    if (!s) {
        s = *at = stream_new(sock, d->file->channel, t->tls);
        s->datagrams |= t->name_len > 0;
    }
    with(s, p, fd);
    if (s->datagrams) {
        datagram(s, t);
        skip = len;
    } else if (t->placed && !t->tls) {
        uint64_t *pos = &d->pos[t->dir];

        if (*pos != DESC_NO_POS && start > *pos) {
            pass(s, t->dir, NULL, start - *pos, t->time_ns);
        } else if (*pos != DESC_NO_POS) {
            skip = *pos - start; /* written out of order, by threads: it was a gap already */
        }
        if (skip < len)
            *pos = start + len;
    }
    if (skip < len)
        pass(s, t->dir, t->data ? t->data + skip : NULL, len - skip, t->time_ns);
    with(s, NULL, -1);
    if (!t->tls) {
        tell_skip(p, fd, d, s);
        fds_decide(p, fd, d);
    }
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
                pass(s, dir, NULL, now[dir] - d->pos[dir], time_ns);
        with(s, NULL, -1);
    }
    if (d->file->refs > 1)
        return;
    for (int i = 0; i < 2; i++) {
        struct stream **at = i ? &sock->plain : &sock->stream;

        if (!*at)
            continue;
        with(*at, p, fd);
        end(*at, time_ns);
        stream_free(*at, time_ns);
        *at = NULL;
    }
}

/* --- plaintext of TLS objects whose descriptor isn't known --- */

void stream_object(struct proc *p, const struct traffic *t)
{
    struct tls_stream **at = &p->tls_streams, *o;
    unsigned count = 0;

    while ((o = *at) && o->object != t->object) {
        at = &o->next;
        count++;
    }
    if (!o) {
        if (count >= OBJECTS_MAX) {
            report_loss(p->c, p, LK_TRAFFIC, t->bytes);
            return;
        }
        o = xcalloc(1, sizeof(*o));
        o->object = t->object;
        o->stream = stream_new(NULL, ++p->c->last_channel, true);
    } else {
        *at = o->next; /* those in use come first */
    }
    o->next = p->tls_streams;
    p->tls_streams = o;
    with(o->stream, p, -1);
    pass(o->stream, t->dir, t->data, t->data ? t->len : t->bytes > t->offset ? t->bytes - t->offset : 0, t->time_ns);
    with(o->stream, NULL, -1);
}

static void object_free(struct proc *p, struct tls_stream *o, bool tell, uint64_t time_ns)
{
    with(o->stream, tell ? p : NULL, -1);
    end(o->stream, time_ns);
    stream_free(o->stream, time_ns);
    free(o);
}

void stream_object_end(struct proc *p, uint64_t object, uint64_t time_ns)
{
    for (struct tls_stream **at = &p->tls_streams, *o; (o = *at); at = &o->next) {
        if (o->object == object) {
            *at = o->next;
            object_free(p, o, true, time_ns);
            return;
        }
    }
}

void stream_end(struct proc *p, bool tell, uint64_t time_ns)
{
    for (struct tls_stream *o; (o = p->tls_streams);) {
        p->tls_streams = o->next;
        object_free(p, o, tell, time_ns);
    }
}

void stream_net_fields(struct fields *f, const struct stream *s, struct address_texts *t)
{
    struct sock copy;

    if (!s->sock)
        return;
    copy = *s->sock;
    if (s->from.family)
        copy.peer = s->from;
    report_net_fields(f, &copy, t);
}

bool stream_is_http(const struct sock *s)
{
    return (s->stream && s->stream->http) || (s->plain && s->plain->http);
}
