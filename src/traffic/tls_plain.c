/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/tls.h"

#include <stdlib.h>

#include "base/mem.h"
#include "model/fds.h"
#include "model/images.h"
#include "traffic/stream.h"
#include "traffic/tls_keys.h"

/* Keys of a connection are made behind its ClientHello; those for early data a moment before. */
#define BEFORE_NS UINT64_C(1000000000)

#define ALL_NS UINT64_C(1000000000)

/* All connections together have so many bytes that wait for keys: then the one that began first is given up. */
#define WAITING_MAX ((size_t)64 << 20)

struct tls_plain {
    struct tls_plain *next, *prev; /* in `waiting`, if bytes isn't 0 */
    size_t bytes;          /* that wait */
    struct tls_open *open;
    struct stream *stream;
    struct stream_wait wait;
    struct tls_keys *keys; /* of whom the stream is being fed by; NULL: of nobody */
    const struct segment *from; /* whose they are */
    uint64_t next_ns;      /* not before are all tried */
    bool all;              /* of callers whose keys have opened nothing so far, too */
    bool guesses;          /* numbers of records are guessed: a trial costs more */
    uint64_t since_ns;     /* keys that are older are others' */
    uint64_t ticket;       /* of a search of the process's memory for keys; 0: none is asked for */
    bool searches;         /* keys are also looked for there */
    bool hopeless;         /* ... no more, and nothing was opened */
    int64_t fd;            /* a descriptor of the socket, as far as we know */
};

/* Of the whole process; oldest first. */
static struct {
    struct tls_plain *first, *last;
    size_t bytes;
} waiting;

static void unlist(struct tls_plain *t)
{
    if (!t->bytes)
        return;
    *(t->prev ? &t->prev->next : &waiting.first) = t->next;
    *(t->next ? &t->next->prev : &waiting.last) = t->prev;
    waiting.bytes -= t->bytes;
    t->bytes = 0;
}

static void list(struct tls_plain *t, size_t bytes)
{
    if (!bytes) {
        unlist(t);
        return;
    }
    if (!t->bytes) {
        t->next = NULL;
        t->prev = waiting.last;
        *(t->prev ? &t->prev->next : &waiting.first) = t;
        waiting.last = t;
    }
    waiting.bytes += bytes - t->bytes;
    t->bytes = bytes;
}

/* More or less of it waits than before. */
static void account(struct tls_plain *t)
{
    list(t, tls_open_waiting(t->open));
    while (waiting.bytes > WAITING_MAX) {
        struct tls_plain *old = waiting.first;

        if (old->wait.p)
            model_loss(old->wait.p->m, old->wait.p, LK_TRAFFIC, old->bytes);
        unlist(old);
        tls_open_give_up(old->open);
        old->stream->opened = (uint8_t)tls_open_state(old->open);
    }
}

static bool key(void *owner, uint64_t *at, struct tls_open_key *ret)
{
    const struct tls_plain *t = owner;

    if (!t->keys || !tls_keys_next(t->keys, t->since_ns, t->all, at, ret))
        return false;
    if (t->guesses)
        tls_keys_charge(t->keys, TLS_OPEN_GUESSING - 1);
    return true;
}

static void fits(void *owner, uint64_t at)
{
    const struct tls_plain *t = owner;

    tls_keys_take(t->keys, at);
}

/* The descriptor of the socket, NULL if it is closed. */
static struct desc *desc_of(const struct tls_plain *t)
{
    struct proc *p = t->stream->p;
    struct desc *d = p ? fd_get(&p->fds, t->fd, false) : NULL;

    return d && d->file && d->file->sock == t->stream->sock ? d : NULL;
}

static void plain(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct tls_plain *t = owner;
    struct desc *d = desc_of(t);
    struct traffic what = {.dir = dir, .tls = true, .way = TLS_WAY_KEYS, .bytes = len, .data = data, .len = data ? (uint32_t)len : 0,
                           .time_ns = time_ns, .tid = t->stream->tid};

    if (d)
        stream_data(t->stream->p, t->fd, d, &what);
    else
        stream_lost(t->stream, LK_TRAFFIC, len);
}

static void missed(void *owner, enum proto_dir dir, uint64_t time_ns)
{
    struct tls_plain *t = owner;

    (void)dir;
    if (t->stream->sock->plain)
        stream_missed(t->stream->p, t->fd, &t->stream->sock->plain, time_ns);
}

static const struct tls_open_sink sink = {.key = key, .fits = fits, .plain = plain, .missed = missed};

/* Whether keys are to be looked for in the memory of the process: nothing else shows plaintext of it. Functions of a library
 * do that in their own way. */
static bool is_dark(struct proc *p)
{
    unsigned hooked, found;

    images_functions(p->images, &hooked, &found);
    return !hooked && !p->tls_read && p->m->watch->tls_search(p, NULL) != TLS_SEARCH_NEVER;
}

struct tls_plain *tls_plain_new(struct stream *s, uint64_t time_ns)
{
    bool known = s->p && images_keys(s->p->images);
    struct tls_plain *t;

    if (s->tls || !s->sock || s->sock->flags & SOCKF_PLAIN || !s->p || !(s->joined || !known ? is_dark(s->p) : known))
        return NULL;
    t = xcalloc(1, sizeof(*t));
    t->open = tls_open_new(&sink, t);
    t->stream = s;
    t->searches = s->joined || !known;
    if (s->joined)
        tls_open_join(t->open);
    else if (!known)
        tls_open_late(t->open);
    t->since_ns = s->joined || time_ns < BEFORE_NS ? 0 : time_ns - BEFORE_NS;
    t->fd = s->fd;
    stream_waits(&t->wait, s, s->p);
    return t;
}

void tls_plain_free(struct tls_plain *t)
{
    if (!t)
        return;
    t->stream->opened = (uint8_t)tls_open_state(t->open);
    stream_waits(&t->wait, t->stream, NULL);
    unlist(t);
    tls_open_free(t->open);
    free(t);
}

void tls_plain_agreed(struct tls_plain *t, uint16_t version, uint16_t cipher)
{
    tls_open_agreed(t->open, version, cipher);
}

/* Whose keys may open it now, and whether they are others than before: their numbers are, too. */
static bool refresh(struct tls_plain *t)
{
    struct proc *p = t->stream->p;
    const struct segment *was = t->from;

    t->keys = p ? p->m->watch->tls_keys(p) : NULL;
    t->from = p ? p->seg : NULL;
    return was && was != t->from;
}

/* Where keys aren't seen when they are set up, they are in memory as long as the connection is used. */
static void look_for_keys(struct tls_plain *t, uint64_t time_ns)
{
    struct proc *p = t->stream->p;

    if (!t->searches || !p)
        return;
    if (!t->ticket) {
        if (tls_open_mark(t->open))
            p->m->watch->tls_search(p, &t->ticket);
        return;
    }
    switch (p->m->watch->tls_search(p, &t->ticket)) {
    case TLS_SEARCH_WAIT:
        break;
    case TLS_SEARCH_DONE:
        t->all = t->guesses = true;
        tls_open_leave(t->open, time_ns);
        t->all = t->guesses = false;
        t->ticket = 0;
        break;
    case TLS_SEARCH_NEVER:
        t->searches = false;
        t->hopeless = tls_open_state(t->open) == TLS_OPEN_WAITS;
        break;
    }
}

bool tls_plain_feed(struct tls_plain *t, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    const struct stream *s = t->stream;

    if (s->relayed || (s->sock->flags & SOCKF_PLAIN && tls_open_state(t->open) != TLS_OPEN_READS))
        return false; /* others' keys, or a library that is hooked */
    if (refresh(t)) {
        t->ticket = 0;
        tls_open_retry(t->open, true, time_ns);
    }
    t->fd = s->fd;
    t->all = false;
    stream_waits(&t->wait, t->stream, s->p);
    tls_open_feed(t->open, dir, data, len, time_ns);
    tls_open_retry(t->open, false, time_ns); /* the other direction waits, too */
    if (!t->ticket)
        look_for_keys(t, time_ns);
    account(t);
    t->stream->opened = (uint8_t)tls_open_state(t->open);
    return t->stream->opened <= TLS_OPEN_READS && !t->hopeless && (!s->p || stream_plain_wanted(s->p, s->sock));
}

void tls_plain_retry(struct tls_plain *t, bool last, uint64_t time_ns)
{
    bool others = refresh(t);

    if (t->stream->fd >= 0)
        t->fd = t->stream->fd;
    if (others) {
        t->ticket = 0;
        tls_open_retry(t->open, true, time_ns);
    }
    t->all = last || time_ns >= t->next_ns;
    if (t->all)
        t->next_ns = time_ns + ALL_NS;
    tls_open_retry(t->open, t->all, time_ns);
    t->all = false;
    if (last)
        tls_open_end(t->open, time_ns);
    else
        look_for_keys(t, time_ns);
    account(t);
    t->stream->opened = (uint8_t)tls_open_state(t->open);
}

uint64_t tls_plain_skip(const struct tls_plain *t, enum proto_dir dir)
{
    return tls_open_wants(t->open, dir) ? 0 : UINT64_MAX;
}

enum unread_reason tls_plain_reason(struct proc *p, const struct stream *s)
{
    const struct tls_keys *keys = p->m->watch->tls_keys(p);

    switch ((enum tls_open_state)s->opened) {
    case TLS_OPEN_SUITE: return UNREAD_SUITE;
    case TLS_OPEN_LOST: return UNREAD_CAPTURE;
    default: return keys && tls_keys_lost(keys) ? UNREAD_OVERWRITTEN : UNREAD_NO_KEY;
    }
}
