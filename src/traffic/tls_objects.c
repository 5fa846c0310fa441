/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/tls_objects.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "traffic/tls.h"

#define BUCKETS 256u

struct object {
    struct object *next;
    uint64_t id;            /* its address */
    struct stream *stream;  /* its plaintext; NULL: there was none, or it belongs to a socket */
    uint64_t channel;       /* of the socket's file; 0: not known */
    int64_t fd;             /* a descriptor of that, as far as we know */
    bool missed;            /* a part of its plaintext belonged elsewhere */
    struct tls_first first; /* of its encrypted bytes */
    enum proto_dir first_dir;
};

/* A ClientHello that was seen on one side only. */
struct hello {
    uint8_t random[TLS_RANDOM];
    enum proto_dir dir;
    uint64_t object;  /* that has written or read it, or: */
    uint64_t channel; /* of the socket's file; both 0: none */
    int64_t fd;
};

struct tls_objects {
    struct object *bucket[BUCKETS];
    unsigned count;
    unsigned next; /* of hello: the oldest */
    struct hello hello[HELLOS_MAX];
};

static struct object **bucket_of(struct tls_objects *t, uint64_t id)
{
    return &t->bucket[id * UINT64_C(0x9e3779b97f4a7c15) >> 56];
}

static struct tls_objects *objects_of(struct proc *p)
{
    if (!p->tls)
        p->tls = xcalloc(1, sizeof(*p->tls));
    return p->tls;
}

/* Where the pointer to an object is, or would be. */
static struct object **place_of(struct tls_objects *t, uint64_t id)
{
    struct object **at = bucket_of(t, id);

    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static struct object *object_find(struct proc *p, uint64_t id)
{
    return p->tls ? *place_of(p->tls, id) : NULL;
}

/* Likewise, makes one. NULL if there are too many. */
static struct object *object_get(struct proc *p, uint64_t id)
{
    struct tls_objects *t = objects_of(p);
    struct object **at = place_of(t, id);

    if (*at || t->count == TLS_OBJECTS_MAX)
        return *at;
    t->count++;
    *at = xcalloc(1, sizeof(**at));
    (*at)->id = id;
    return *at;
}

/* --- which socket --- */

struct search {
    uint64_t channel;
    int64_t fd;
};

static void compare_channel(void *ctx, int fd, struct desc *d)
{
    struct search *s = ctx;

    if (d->file->channel == s->channel)
        s->fd = fd;
}

/* A descriptor of the object's socket, NULL if none is open any more; the one that was known may have been closed, with
 * a duplicate left. */
static struct desc *socket_of(struct proc *p, struct object *o)
{
    struct search s = {o->channel, -1};
    struct desc *d;

    if (!o->channel)
        return NULL;
    d = fd_get(&p->fds, o->fd, false);
    if (d && d->file && d->file->channel == o->channel)
        return d->file->sock ? d : NULL;
    fd_table_each(&p->fds, compare_channel, &s);
    o->fd = s.fd;
    d = s.fd >= 0 ? fd_get(&p->fds, s.fd, false) : NULL;
    return d && d->file->sock ? d : NULL;
}

static void join(struct proc *p, struct object *o, int64_t fd, uint64_t channel, uint64_t time_ns)
{
    struct desc *d;

    o->fd = fd;
    o->channel = channel;
    d = socket_of(p, o);
    if (d)
        d->file->sock->flags |= SOCKF_PLAIN;
    if (!d) {
        o->channel = 0;
    } else if (o->stream) { /* early data */
        stream_adopt(p, o->fd, d->file, o->stream, time_ns);
        o->stream = NULL;
    }
}

void tls_object_at(struct proc *p, const struct traffic *t, int64_t fd, uint64_t channel)
{
    struct object *o = object_get(p, t->object);

    if (!o) /* too many */
        return;
    if (o->channel != channel)
        join(p, o, fd, channel, t->time_ns);
    o->fd = fd;
}

/* Takes the one that was seen on the other side out; false, and `mine` is remembered, if there is none. */
static bool meet(struct tls_objects *t, const struct hello *mine, struct hello *ret)
{
    for (size_t i = 0; i < HELLOS_MAX; i++) {
        struct hello *h = &t->hello[i];

        if ((mine->object ? h->channel : h->object) && h->dir == mine->dir &&
            !memcmp(h->random, mine->random, sizeof(h->random))) {
            *ret = *h;
            *h = (struct hello){0};
            return true;
        }
    }
    t->hello[t->next] = *mine;
    t->next = (t->next + 1) % HELLOS_MAX;
    return false;
}

void tls_object_hello(struct proc *p, const struct traffic *t)
{
    struct object *o = t->object && t->data ? object_get(p, t->object) : NULL;
    struct hello mine = {.dir = t->dir, .object = t->object}, other;
    const uint8_t *random;

    if (!o)
        return;
    if (!t->offset)
        o->first = (struct tls_first){0};
    if (t->offset && (t->offset != o->first.len || t->dir != o->first_dir)) /* a piece was lost */
        return;
    o->first_dir = t->dir;
    random = tls_first_add(&o->first, t->data, t->len);
    if (!random && !t->offset && !o->channel) /* the connection was there before us */
        random = tls_record_mark(t->data, t->len);
    if (!random)
        return;
    memcpy(mine.random, random, sizeof(mine.random));
    if (meet(p->tls, &mine, &other))
        join(p, o, other.fd, other.channel, t->time_ns);
}

/* Whether another socket of the process has passed this one in the other direction; that is marked, too. */
static bool is_relayed(struct proc *p, const struct hello *mine)
{
    const struct tls_objects *t = objects_of(p);
    bool found = false;

    for (size_t i = 0; i < HELLOS_MAX; i++) {
        const struct hello *h = &t->hello[i];
        struct desc *d;

        if (!h->channel || h->channel == mine->channel || h->dir == mine->dir ||
            memcmp(h->random, mine->random, sizeof(h->random)) != 0)
            continue;
        d = fd_get(&p->fds, h->fd, false);
        if (d && d->file && d->file->channel == h->channel && d->file->sock && d->file->sock->stream)
            d->file->sock->stream->relayed = true;
        found = true;
    }
    return found;
}

bool tls_socket_hello(struct proc *p, int64_t fd, uint64_t channel, enum proto_dir dir, const uint8_t *random,
                      uint64_t time_ns)
{
    struct hello mine = {.dir = dir, .channel = channel, .fd = fd}, other;
    struct object *o;
    bool relayed;

    memcpy(mine.random, random, sizeof(mine.random));
    relayed = is_relayed(p, &mine);
    if (meet(objects_of(p), &mine, &other) && (o = object_find(p, other.object)))
        join(p, o, fd, channel, time_ns);
    return relayed;
}

/* --- plaintext --- */

void tls_object_data(struct proc *p, const struct traffic *t)
{
    struct object *o = object_get(p, t->object);
    struct desc *d;

    if (!o) {
        model_loss(p->m, p, LK_TRAFFIC, t->data ? t->len : t->bytes > t->offset ? t->bytes - t->offset : 0);
        return;
    }
    d = socket_of(p, o);
    if (d) {
        stream_data(p, o->fd, d, t);
        return;
    }
    if (o->channel) { /* the socket's end was that of its plaintext, too */
        o->channel = 0;
        o->missed = true;
    }
    if (!o->stream)
        o->stream = stream_of_object(p, o->missed);
    stream_feed(o->stream, p, t);
}

/* Frees an object that was taken out. */
static void object_free(struct proc *p, struct object *o, bool tell, uint64_t time_ns)
{
    struct desc *d = tell ? socket_of(p, o) : NULL;

    stream_over(o->stream, tell ? p : NULL, -1, time_ns);
    if (d && !file_shared(d->file)) { /* other holders of the socket may have the object, too: a child of fork(2) */
        stream_over(d->file->sock->plain, p, o->fd, time_ns);
        d->file->sock->plain = NULL;
    }
    free(o);
}

void tls_object_end(struct proc *p, uint64_t object, uint64_t time_ns)
{
    struct object **at = p->tls ? place_of(p->tls, object) : NULL, *o = at ? *at : NULL;

    for (size_t i = 0; p->tls && i < HELLOS_MAX; i++)
        if (p->tls->hello[i].object == object)
            p->tls->hello[i] = (struct hello){0};
    if (!o)
        return;
    *at = o->next;
    p->tls->count--;
    object_free(p, o, true, time_ns);
}

struct missed {
    struct proc *p;
    uint64_t time_ns;
};

static void miss(void *ctx, int fd, struct desc *d)
{
    const struct missed *m = ctx;

    if (d->file->sock && d->file->sock->plain)
        stream_missed(m->p, fd, &d->file->sock->plain, m->time_ns);
}

void tls_objects_missed(struct proc *p, uint64_t time_ns)
{
    struct missed m = {p, time_ns};

    fd_table_each(&p->fds, miss, &m);
    for (size_t i = 0; p->tls && i < BUCKETS; i++) {
        for (struct object *o = p->tls->bucket[i]; o; o = o->next) {
            o->missed = true;
            if (o->stream)
                stream_missed(p, -1, &o->stream, time_ns);
        }
    }
}

/* --- lives --- */

struct tls_objects *tls_objects_inherit(const struct proc *p)
{
    struct tls_objects *t = NULL;

    for (size_t i = 0; p->tls && i < BUCKETS; i++) {
        for (const struct object *o = p->tls->bucket[i]; o; o = o->next) {
            struct object *copy;

            if (!o->channel)
                continue;
            if (!t)
                t = xcalloc(1, sizeof(*t));
            copy = xcalloc(1, sizeof(*copy));
            *copy = (struct object){
                .next = t->bucket[i], .id = o->id, .channel = o->channel, .fd = o->fd, .missed = o->missed};
            t->bucket[i] = copy;
            t->count++;
        }
    }
    return t;
}

void tls_objects_end(struct proc *p, bool tell, uint64_t time_ns)
{
    for (size_t i = 0; p->tls && i < BUCKETS; i++) {
        for (struct object *o; (o = p->tls->bucket[i]);) {
            p->tls->bucket[i] = o->next;
            object_free(p, o, tell, time_ns);
        }
    }
    free(p->tls);
    p->tls = NULL;
}

void tls_objects_free(struct tls_objects *t)
{
    for (size_t i = 0; t && i < BUCKETS; i++) {
        for (struct object *o; (o = t->bucket[i]);) {
            t->bucket[i] = o->next;
            free(o);
        }
    }
    free(t);
}
