/* SPDX-License-Identifier: Apache-2.0 */
#include "session/payload_link.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct payload_link {
    struct output *output;
    char *start;
    struct buf chunk; /* being put together */
};

struct direction {
    struct payload_place place; /* of the next chunk */
    uint64_t missed_ns;         /* when the last byte passed that is missing */
};

struct payload_way {
    struct payload_link *link;
    struct payload_id id; /* texts are malloc'ed */
    struct direction dirs[PAYLOAD_DIRS];
};

static void begin(void *ctx, struct output *o)
{
    const struct payload_link *l = ctx;

    output_write(o, l->start, strlen(l->start));
}

struct payload_link *payload_link_new(struct event_base *base, const struct cfg_transport *to, const char *start)
{
    struct payload_link *l = xcalloc(1, sizeof(*l));

    l->start = xstrdup(start);
    l->output = output_get_own(base, to);
    output_on_connect(l->output, begin, l);
    begin(l, l->output);
    return l;
}

const struct output *payload_link_output(const struct payload_link *l)
{
    return l->output;
}

void payload_link_flush(struct payload_link *l)
{
    output_flush(l->output);
}

uint64_t payload_link_finish(struct payload_link *l, unsigned wait_ms)
{
    output_wait(l->output, wait_ms);
    return output_abandon(l->output);
}

void payload_link_free(struct payload_link *l)
{
    if (!l)
        return;
    output_forget(l->output, l);
    output_put(l->output);
    buf_free(&l->chunk);
    free(l->start);
    free(l);
}

struct payload_way *payload_way_begin(struct payload_link *l, const struct payload_id *id)
{
    struct payload_way *w = xcalloc(1, sizeof(*w));

    w->link = l;
    payload_id_copy(&w->id, id);
    return w;
}

void payload_way_update(struct payload_way *w, const struct payload_id *id)
{
    struct payload_id old = w->id;

    payload_id_copy(&w->id, id); /* what it points to may be in the old one */
    payload_id_free(&old);
}

static bool write_chunk(struct payload_way *w, enum payload_dir dir, uint64_t time_ns, const void *data, size_t len)
{
    struct direction *d = &w->dirs[dir];
    struct buf *b = &w->link->chunk;

    buf_reset(b);
    payload_header(b, &w->id, dir, time_ns, len, &d->place);
    buf_char(b, '\n');
    buf_add(b, data, len);
    if (!output_write(w->link->output, b->p, b->len))
        return false;
    d->place.missing = 0;
    return true;
}

bool payload_way_data(struct payload_way *w, enum payload_dir dir, uint64_t time_ns, const void *data, size_t len)
{
    bool sent = write_chunk(w, dir, time_ns, data, len);

    if (sent)
        w->dirs[dir].place.offset += len;
    else
        payload_way_gap(w, dir, time_ns, len);
    return sent;
}

void payload_way_gap(struct payload_way *w, enum payload_dir dir, uint64_t time_ns, uint64_t len)
{
    struct direction *d = &w->dirs[dir];

    d->place.offset += len;
    d->place.missing += len;
    d->missed_ns = time_ns;
}

void payload_way_end(struct payload_way *w)
{
    for (enum payload_dir dir = 0; dir < PAYLOAD_DIRS; dir++)
        if (w->dirs[dir].place.missing)
            write_chunk(w, dir, w->dirs[dir].missed_ns, "", 0);
    payload_id_free(&w->id);
    free(w);
}
