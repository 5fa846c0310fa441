/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/stream.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "base/pool.h"
#include "model/fds.h"
#include "traffic/feed.h"
#include "traffic/payloads.h"
#include "traffic/recognise.h"
#include "traffic/tls.h"

#define SKIP_LEAST 4096u     /* bytes that are worth telling the probe */

void stream_prepare(struct pipeline *pl)
{
    recognise_prepare(pl);
}

void stream_unprepare(struct pipeline *pl)
{
    recognise_unprepare(pl);
}

/* --- what becomes of a connection --- */

static struct pool streams = POOL(struct stream);

static struct stream *stream_new(struct sock *sock, uint64_t channel, bool tls)
{
    struct stream *s = pool_get(&streams);

    s->speaks = &protocol_undecided;
    s->sock = sock;
    s->channel = channel;
    s->tls = tls;
    s->datagrams = sock && (sock->type == SOCK_DGRAM || sock->type == SOCK_SEQPACKET);
    s->joined = sock && sock->flags & SOCKF_JOINED;
    s->fd = -1;
    return s;
}

void stream_free(struct stream *s, uint64_t time_ns)
{
    if (!s)
        return;
    s->speaks->free(s->decoder, time_ns);
    payloads_end(s, time_ns);
    recognise_forget(s);
    free(s->peer);
    free(s->http);
    pool_put(&streams, s);
}

/* --- what the probe is told --- */

/* What a decoder knows that it needs the length of only, the probe need not copy. Not where several descriptors pass
 * parts of one connection: their counters count them apart. */
static void tell_skip(struct proc *p, int64_t fd, struct desc *d, const struct stream *s)
{
    if (p->borrowed || !p->seg)
        return;
    for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++) {
        uint64_t n = s->speaks->skip ? s->speaks->skip(s->decoder, dir) : 0, to;

        if (d->pos[dir] == DESC_NO_POS)
            continue;
        if (file_shared(d->file) || s->flows || (dir == PROTO_TX && report_is_console(p, d)))
            n = 0;
        if (n && n != UINT64_MAX && p->pl->spans)
            n--; /* the last byte tells when its message ends */
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
    if (recognise_is_done(s))
        return FDW_CAPTURE;
    if (recognise_needs_more(s, p->pl))
        return FDW_UNDECIDED;
    return s->speaks == &protocol_nothing ? FDW_NONE : FDW_CAPTURE;
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

bool stream_plain_wanted(const struct proc *p, const struct sock *sock)
{
    return !sock->plain || sock->plain->flows || want_of(p, sock->plain) != FDW_NONE;
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
        recognise_pass(s, t->dir, t->data, t->len, t->time_ns, false);
    } else {
        payloads_pass(s, t->dir, NULL, t->data ? t->len : t->bytes > t->offset ? t->bytes - t->offset : 0, t->time_ns);
        if (!t->offset && s->speaks->datagram)
            stream_lost(s, LK_MESSAGE, 1);
    }
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
    feed_become(s, &protocol_nothing, NULL, time_ns);
    s->ciphertext = true;
}

/* A connection that was there before us: what a library moves through memory, or one whose functions aren't known. */
static bool joined_tls(const struct stream *s, const struct traffic *t)
{
    return s->joined && s->speaks == &protocol_undecided && !s->ciphertext && !s->tls && !s->datagrams && t->data && !t->offset &&
           tls_encrypted(t->data, t->len);
}

void stream_data(struct proc *p, int64_t fd, struct desc *d, const struct traffic *t)
{
    struct sock *sock = d->file->sock;
    struct stream **at = t->tls ? &sock->plain : &sock->stream, *s = *at;
    uint64_t start = t->position + t->offset, skip = 0;
    const uint8_t *mark;
    uint64_t len = t->data ? t->len : t->bytes > t->offset ? t->bytes - t->offset : 0;

    if (is_foreign(sock))
        return;
    if (!s) {
        s = *at = stream_new(sock, d->file->channel, t->tls);
        s->datagrams |= t->name_len > 0 && sock->type != SOCK_STREAM; /* else sent with MSG_FASTOPEN */
    }
    if (t->tls) {
        s->object = t->object;
        if (t->data) { /* who tells of a gap may not know */
            s->way = (uint8_t)t->way;
            p->tls_ways |= (uint8_t)(1u << t->way);
        }
    }
    if (t->tls || t->object)
        sock->flags |= SOCKF_PLAIN;
    with(s, p, fd);
    s->tid = t->tid;
    if (t->object && !t->tls &&
        (s->speaks == &protocol_nothing || (s->speaks == &protocol_undecided && s->joined)) &&
        !recognise_hello(s, t->offset ? NULL : t->data, t->len))
        enciphered(s, t->time_ns);
    if (joined_tls(s, t)) {
        struct tls_plain *plain;

        enciphered(s, t->time_ns);
        plain = tls_plain_new(s, t->time_ns);
        if (plain)
            feed_become(s, &protocol_tls_joined, plain, t->time_ns);
    }
    if (s->joined && s->ciphertext && !(sock->flags & SOCKF_PLAIN) && t->data && !t->offset &&
        (mark = tls_record_mark(t->data, t->len)))
        tls_socket_hello(p, fd, d->file->channel, t->dir, mark, t->time_ns);
    if (s->datagrams) {
        datagram(s, t);
        if (d->pos[t->dir] != DESC_NO_POS) /* how much was seen: threads that share a socket tell in any order */
            d->pos[t->dir] += len;
        skip = len;
    } else if (t->placed && !t->tls) {
        uint64_t *pos = &d->pos[t->dir];

        if (*pos != DESC_NO_POS && start > *pos) {
            recognise_pass(s, t->dir, NULL, start - *pos, t->time_ns, false);
        } else if (*pos != DESC_NO_POS) {
            skip = *pos - start; /* written out of order, by threads: it was a gap already */
        }
        if (skip < len)
            *pos = start + len;
    }
    if (skip < len)
        recognise_pass(s, t->dir, t->data ? t->data + skip : NULL, len - skip, t->time_ns, !t->offset && !skip);
    with(s, NULL, -1);
    if (t->tls) {
        tell_done(p, s, t);
    } else {
        tell_skip(p, fd, d, s);
        /* Of a socket that isn't a standard stream nobody else wants anything: mostly it is as it was. */
        if (d->flags & DF_STREAM || d->file->kind != FDK_SOCKET || stream_want(p, d) != d->want)
            fds_decide(p, fd, d);
    }
}

static void end(struct stream *s, struct proc *p, int64_t fd, uint64_t time_ns)
{
    with(s, p, fd);
    recognise_release(s);
    recognise_end(s, time_ns);
}

void stream_over(struct stream *s, struct proc *p, int64_t fd, uint64_t time_ns)
{
    if (!s)
        return;
    end(s, p, fd, time_ns);
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
                recognise_pass(s, dir, NULL, now[dir] - d->pos[dir], time_ns, false);
        with(s, NULL, -1);
    }
    if (file_shared(d->file))
        return;
    if (s) /* its last look may open what it waits with */
        end(s, p, fd, time_ns);
    tls_unread_over(p, fd, sock, time_ns);
    stream_free(s, time_ns);
    sock->stream = NULL;
    stream_over(sock->plain, p, fd, time_ns);
    sock->plain = NULL;
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
    s->tid = t->tid;
    if (t->data) {
        s->way = (uint8_t)t->way;
        p->tls_ways |= (uint8_t)(1u << t->way);
    }
    recognise_pass(s, t->dir, t->data, t->data ? t->len : t->bytes > t->offset ? t->bytes - t->offset : 0, t->time_ns, false);
    with(s, NULL, -1);
    tell_done(p, s, t);
}

void stream_adopt(struct proc *p, int64_t fd, struct file *f, struct stream *s, uint64_t time_ns)
{
    stream_over(f->sock->plain, p, fd, time_ns);
    f->sock->plain = s;
    s->sock = f->sock;
    if (s->known)
        s->sock->flags |= s->known->marks;
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

/* --- for processes and protocols --- */

void stream_sweep(struct proc *p, uint64_t time_ns)
{
    for (struct stream_wait *w = p->asking; w; w = p->asking_next) {
        struct stream *s = w->s;

        p->asking_next = w->next; /* stream_waits() goes on if this one leaves: a look may end other streams, too */
        with(s, p, -1);
        s->speaks->sweep(s->decoder, s, time_ns);
        with(s, NULL, -1);
    }
}

void stream_forget(struct proc *p)
{
    while (p->asking)
        stream_waits(p->asking, p->asking->s, NULL);
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
