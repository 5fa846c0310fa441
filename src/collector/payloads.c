/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/payloads.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "session/payload.h"

#define PEERS_MAX 64u /* flows of a datagram socket at a time; the one that was silent longest ends */

/* A directory that is written to. */
struct payload_dir_open {
    struct payload_dir_open *next;
    char *dir;
    struct payload_store *store; /* NULL: it can't be opened */
    bool told;                   /* the log says that something could not be written */
};

/* Of a datagram socket one for each peer; the one that was used last is first. */
struct stream_flow {
    struct stream_flow *next;
    struct payload_addr peer; /* of datagrams */
    struct payload_dir_open *to;
    struct payload_flow *flow;
};

static struct payload_dir_open *open_dir(struct collector *c, const char *dir)
{
    const struct session *session = c->opt->session;
    struct payload_options o = {.dir = dir};
    const char *headers = getenv("SCOPE_PAYLOAD_HEADER");
    struct payload_dir_open *d;
    int rc;

    for (d = c->payload_dirs; d; d = d->next)
        if (strcmp(d->dir, dir) == 0)
            return d;
    d = xcalloc(1, sizeof(*d));
    d->dir = xstrdup(dir);
    d->next = c->payload_dirs;
    c->payload_dirs = d;
    if (session) {
        o.session = session->id;
        o.start_ns = session->start_ns;
    }
    o.headers = headers && strcmp(headers, "true") == 0;
    rc = payload_open(&o, &d->store);
    if (rc < 0)
        log_error("payloads can't be written to %s: %s", dir, strerror(-rc));
    return d;
}

void payloads_prepare(struct collector *c, const struct config *cfg)
{
    if (cfg->payload.enable)
        open_dir(c, cfg->payload.dir);
}

static struct payload_addr peer_of(const struct stream *s)
{
    const union address *a = s->from.family ? &s->from : &s->sock->peer;

    return payload_addr((const struct sockaddr *)a, sizeof(*a));
}

static bool same_addr(const struct payload_addr *a, const struct payload_addr *b)
{
    return a->family == b->family && a->port == b->port && a->inode == b->inode && !memcmp(a->ip, b->ip, sizeof(a->ip));
}

/* Who is at the ends; the texts belong to the process and the stream. */
static struct payload_id identity(const struct stream *s)
{
    const struct proc *p = s->p;
    const struct sock *sock = s->sock;
    struct payload_id id = {.pid = p->pid,
                            .ppid = p->tm.ppid,
                            .fd = s->fd,
                            .channel = s->channel,
                            .proc = p->tm.proc,
                            .ident = p->tm.id,
                            .protocol = s->protocol,
                            .tls = s->tls};

    if (!sock)
        return id;
    id.transport = report_transport(sock);
    id.host = payload_addr((const struct sockaddr *)&sock->local, sizeof(sock->local));
    id.peer = peer_of(s);
    if (sock->domain == AF_UNIX) {
        id.host.family = id.peer.family = AF_UNIX;
        id.host.inode = sock->ino;
        id.peer.inode = sock->peer_ino;
    }
    id.role = sock->flags & SOCKF_ACCEPTED    ? PAYLOAD_SERVER
              : sock->flags & SOCKF_CONNECTED ? PAYLOAD_CLIENT
                                              : PAYLOAD_UNKNOWN;
    return id;
}

static void end_flow(struct stream *s, struct stream_flow *f, uint64_t time_ns)
{
    bool remote = s->sock && s->sock->flags & SOCKF_REMOTE;

    payload_end(f->flow, time_ns, s->datagrams ? NULL : remote ? "remote" : "local");
    free(f);
}

/* The flow that the bytes belong to, or NULL after counting them. */
static struct stream_flow *flow_of(struct stream *s, uint64_t len, uint64_t time_ns)
{
    struct stream_flow **at = &s->flows, *f;
    struct payload_addr peer = {.family = AF_UNSPEC};
    struct payload_dir_open *to;
    struct payload_id id;
    unsigned count = 0;

    if (s->datagrams && s->sock) /* of a connection the address may become known later */
        peer = peer_of(s);
    while ((f = *at) && !same_addr(&f->peer, &peer)) {
        if (++count == PEERS_MAX && !f->next) {
            *at = NULL;
            end_flow(s, f, time_ns);
            break;
        }
        at = &f->next;
    }
    if (f && *at == f) {
        *at = f->next;
    } else {
        to = open_dir(s->p->c, s->p->pl->cfg->payload.dir);
        if (!to->store) {
            report_loss(s->p->c, s->p, LK_PAYLOAD, len);
            return NULL;
        }
        id = identity(s);
        f = xcalloc(1, sizeof(*f));
        f->peer = peer;
        f->to = to;
        f->flow = payload_begin(to->store, &id, time_ns);
    }
    f->next = s->flows;
    s->flows = f;
    return f;
}

/* Into the file of a stream whose process is set. data NULL: a gap, which is told as a loss unless nobody wanted it. */
static void keep(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns, bool wanted)
{
    enum payload_dir to = dir == PROTO_RX ? PAYLOAD_IN : PAYLOAD_OUT;
    struct stream_flow *f = flow_of(s, len, time_ns);
    uint64_t before;
    int rc;

    if (!f)
        return;
    if (!data && wanted)
        report_loss(s->p->c, s->p, LK_PAYLOAD, len);
    before = payload_lost(f->to->store);
    rc = data ? payload_data(f->flow, to, time_ns, data, len) : payload_gap(f->flow, to, time_ns, len);
    if (rc == 0)
        return;
    report_loss(s->p->c, s->p, LK_PAYLOAD, payload_lost(f->to->store) - before);
    if (!f->to->told)
        log_error("payloads: %s: %s; what can't be written is counted", f->to->dir, strerror(-rc));
    f->to->told = true;
}

/* It is no TLS: what was held back goes first. */
static void release(struct stream *s)
{
    s->cleartext = true;
    for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++) {
        struct held_bytes *h = &s->held[dir];

        if (h->len)
            keep(s, dir, h->data, h->len, h->time_ns, true);
        h->len = 0;
    }
}

/* The first bytes of a connection tell whether it is TLS, of which the plaintext is another stream; until then they are
 * held back. True if these are kept for later, or not wanted. */
static bool hold(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct held_bytes *h = &s->held[dir];
    uint8_t first[TLS_DETECT];
    size_t had = h->len, more = len < sizeof(first) - had ? (size_t)len : sizeof(first) - had;
    int is_tls;

    memcpy(first, h->data, had);
    memcpy(first + had, data, more);
    is_tls = tls_detect(first, had + more);
    if (is_tls > 0) {
        s->ciphertext = true;
        return true;
    }
    if (is_tls == 0 || had + len >= sizeof(first))
        return false;
    if (!had)
        h->time_ns = time_ns;
    memcpy(h->data, first, had + more);
    h->len = (uint8_t)(had + more);
    return true;
}

void payloads_pass(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    bool wanted;

    if (!s->p || s->ciphertext)
        return;
    wanted = s->everything || s->p->pl->cfg->payload.enable;
    if (!wanted && !s->flows) /* if it was wanted before, it may be again: then this is a gap */
        return;
    if (!s->cleartext) {
        if (data && !s->tls && !s->datagrams && hold(s, dir, data, len, time_ns))
            return;
        release(s);
    }
    keep(s, dir, wanted ? data : NULL, len, time_ns, wanted);
}

void payloads_recognised(struct stream *s)
{
    struct payload_id id;

    if (!s->p || s->datagrams) /* of a datagram socket each peer may speak another */
        return;
    id = identity(s);
    for (struct stream_flow *f = s->flows; f; f = f->next)
        payload_update(f->flow, &id);
}

void payloads_end(struct stream *s, uint64_t time_ns)
{
    if (s->p && !s->ciphertext)
        release(s);
    for (struct stream_flow *f; (f = s->flows);) {
        s->flows = f->next;
        end_flow(s, f, time_ns);
    }
}

void payloads_flush(struct collector *c)
{
    for (struct payload_dir_open *d = c->payload_dirs; d; d = d->next)
        if (d->store)
            payload_flush(d->store);
}

void payloads_close(struct collector *c)
{
    for (struct payload_dir_open *d; (d = c->payload_dirs);) {
        int rc = d->store ? payload_close(d->store) : 0;

        if (rc < 0)
            log_error("payloads: %s: %s", d->dir, strerror(-rc));
        c->payload_dirs = d->next;
        free(d->dir);
        free(d);
    }
}
