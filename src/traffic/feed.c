/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/feed.h"

static void ignore(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len,
                   uint64_t time_ns)
{
}

static void no_decoder(void *decoder, uint64_t time_ns) {}

const struct protocol protocol_nothing = {.feed = ignore, .free = no_decoder};

void feed_become(struct stream *s, const struct protocol *what, void *decoder, uint64_t time_ns)
{
    s->speaks->free(s->decoder, time_ns);
    s->speaks = what;
    s->decoder = decoder;
}

/* A decoder must not be freed while it calls: so this is done when it has returned. */
void feed_change(struct stream *s, uint64_t time_ns)
{
    const struct protocol *next = s->next;

    if (!next)
        return;
    feed_become(s, next, s->next_decoder, time_ns);
    s->next = NULL;
    s->next_decoder = NULL;
    if (next->begun)
        next->begun(s->decoder, s, time_ns);
}

void stream_becomes(struct stream *s, const struct protocol *next, void *decoder)
{
    s->next = next;
    s->next_decoder = decoder;
}

void stream_stops(struct stream *s)
{
    if (!s->next)
        stream_becomes(s, &protocol_nothing, NULL);
}

void stream_rest(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    if (s->next)
        s->next->feed(s->next_decoder, s, dir, data, len, time_ns);
}

void stream_lost(struct stream *s, enum loss_kind kind, uint64_t count)
{
    if (s->p)
        model_loss(s->p->m, s->p, kind, count);
}

void stream_waits(struct stream_wait *w, struct stream *s, struct proc *p)
{
    w->s = s;
    if (w->p == p)
        return;
    if (w->p) {
        *w->at = w->next;
        if (w->next)
            w->next->at = w->at;
        if (w->p->asking_next == w)
            w->p->asking_next = w->next;
    }
    w->p = p;
    if (!p)
        return;
    w->at = &p->asking;
    w->next = p->asking;
    if (w->next)
        w->next->at = &w->next;
    p->asking = w;
}
