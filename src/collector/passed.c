/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/passed.h"

#include <stdlib.h>

#include "base/mem.h"
#include "collector/state.h"
#include "model/process.h"
#include "report/report.h"
#include "traffic/stream.h"

#define BUCKETS 256u

struct entry {
    struct entry *next;
    uint64_t ino;
    struct sock *sock; /* a reference, but for one that was taken and isn't closed */
    struct proc
        *by;     /* who has sent it, or (closed) taken and closed it; NULL: it was taken, and nobody has sent it yet */
    bool closed; /* it was taken and closed, and nobody has sent it yet */
    int64_t fd;  /* ... as which descriptor */
    uint64_t channel;
    unsigned under_way; /* messages */
    uint64_t until;     /* CLOCK_MONOTONIC ns */
};

struct passed {
    struct entry *bucket[BUCKETS];
    unsigned count;
};

static struct entry **place(struct passed *t, uint64_t ino)
{
    struct entry **at = &t->bucket[ino % BUCKETS];

    while (*at && (*at)->ino != ino)
        at = &(*at)->next;
    return at;
}

static struct entry *make(struct collector *c, struct entry **at, uint64_t ino, struct sock *s)
{
    struct entry *e;

    if (c->passed->count == PASSED_MAX)
        return NULL;
    e = *at = xcalloc(1, sizeof(*e));
    e->ino = ino;
    e->sock = s;
    c->passed->count++;
    return e;
}

static void drop(struct collector *c, struct entry **at)
{
    struct entry *e = *at;

    *at = e->next;
    c->passed->count--;
    free(e);
}

/* Nobody has taken it, or sent it. tell: if nobody has it open any more, that was its end. */
static void give_up(struct collector *c, struct entry **at, bool tell)
{
    struct entry *e = *at;

    if (e->by && tell && e->sock->refs == 1) {
        struct file f = {.refs = 1, .kind = FDK_SOCKET, .sock = e->sock, .channel = e->channel};
        struct desc d = {.file = &f, .channel = e->channel};

        stream_over(f.sock->stream, e->by, e->fd, f.sock->close_ns);
        stream_over(f.sock->plain, e->by, e->fd, f.sock->close_ns);
        f.sock->stream = f.sock->plain = NULL;
        report_net_close(e->by, e->fd, &d, f.sock->close_ns);
    }
    if (e->by)
        sock_unref(&c->model, e->sock);
    drop(c, at);
}

/* f, of the sender, and t, of who has taken it, are one socket; f becomes it. */
static void unite(struct collector *c, struct file *f, struct sock *t)
{
    struct sock *s = f->sock;

    t->domain = s->domain;
    t->type = s->type;
    t->protocol = s->protocol;
    t->local = s->local;
    t->peer = s->peer;
    t->open_ns = s->open_ns;
    t->channel = sock_channel(f);
    t->flags = (uint16_t)((t->flags & (SOCKF_REMOTE | SOCKF_HTTP)) | s->flags);
    if (s->refs == 1) {
        t->rx_bytes += s->rx_bytes;
        t->rx_ops += s->rx_ops;
        t->tx_bytes += s->tx_bytes;
        t->tx_ops += s->tx_ops;
        if (!t->stream && s->stream) {
            t->stream = s->stream;
            t->stream->sock = t;
            s->stream = NULL;
        }
        if (!t->client) {
            t->client = s->client;
            s->client = NULL;
        }
    }
    if (t->stream)
        t->stream->channel = t->channel;
    if (t->plain)
        t->plain->channel = t->channel;
    f->sock = t;
    t->refs++;
    sock_unref(&c->model, s);
}

void passed_sent(struct proc *p, int64_t fd, struct desc *d, uint64_t ino)
{
    struct collector *c = collector_of(p->m);
    struct file *f = d->file;
    struct entry **at, *e;

    if (!c->passed)
        c->passed = xcalloc(1, sizeof(*c->passed));
    at = place(c->passed, ino);
    e = *at;
    if (e && !e->by && e->sock == f->sock) { /* who has received it passes it on */
        f->sock->refs++;
    } else if (e && (!e->by || e->closed)) { /* it was taken before */
        if (e->sock != f->sock)
            unite(c, f, e->sock);
        if (e->closed)
            sock_unref(&c->model, e->sock);
        drop(c, at);
        return;
    }
    if (e && e->sock != f->sock) { /* the number is another socket's */
        give_up(c, at, true);
        at = place(c->passed, ino);
        e = NULL;
    }
    if (!e) {
        e = make(c, at, ino, f->sock);
        if (!e)
            return;
        f->sock->refs++;
    }
    e->by = p;
    e->fd = fd;
    e->channel = sock_channel(f);
    e->under_way++;
    e->until = c->model.now_mono + PASSED_NS;
}

void passed_received(struct proc *p, struct desc *d, uint64_t ino)
{
    struct collector *c = collector_of(p->m);
    struct file *f = d->file;
    struct entry **at, *e;

    if (!c->passed)
        c->passed = xcalloc(1, sizeof(*c->passed));
    at = place(c->passed, ino);
    if (*at && (*at)->closed) { /* the number is another socket's */
        give_up(c, at, true);
        at = place(c->passed, ino);
    }
    e = *at;
    if (e && e->by) {
        sock_unref(&c->model, f->sock);
        f->sock = e->sock;
        f->sock->refs++;
        f->channel = d->channel = e->channel;
        if (!--e->under_way) {
            sock_unref(&c->model, e->sock);
            drop(c, at);
        }
        return;
    }
    f->sock->flags |= SOCKF_RECEIVED;
    if (e && e->sock != f->sock) { /* taken once more */
        sock_unref(&c->model, f->sock);
        f->sock = e->sock;
        f->sock->refs++;
    } else if (!e) {
        e = make(c, at, ino, f->sock);
    }
    if (e)
        e->until = c->model.now_mono + PASSED_NS;
}

void passed_closing(struct proc *p, int64_t fd, const struct file *f)
{
    struct collector *c = collector_of(p->m);
    struct entry *e = c->passed ? *place(c->passed, f->sock->ino) : NULL;

    if (!e || e->by || e->sock != f->sock)
        return;
    e->by = p;
    e->closed = true;
    e->sock->refs++;
    e->fd = fd;
    e->channel = sock_channel(f);
    e->until = c->model.now_mono + PASSED_LATE_NS;
}

void passed_forget(struct collector *c, const struct sock *s)
{
    struct entry **at = c->passed ? place(c->passed, s->ino) : NULL;

    if (at && *at && !(*at)->by && (*at)->sock == s)
        drop(c, at);
}

void passed_sweep(struct collector *c, uint64_t now)
{
    for (unsigned i = 0; c->passed && c->passed->count && i < BUCKETS; i++)
        for (struct entry **at = &c->passed->bucket[i]; *at;) {
            if ((*at)->until <= now || now == UINT64_MAX)
                give_up(c, at, true);
            else
                at = &(*at)->next;
        }
}

void passed_end(struct proc *p, bool tell)
{
    struct collector *c = collector_of(p->m);

    for (unsigned i = 0; c->passed && c->passed->count && i < BUCKETS; i++)
        for (struct entry **at = &c->passed->bucket[i]; *at;) {
            if ((*at)->by == p)
                give_up(c, at, tell);
            else
                at = &(*at)->next;
        }
}
