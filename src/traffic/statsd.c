/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics that the program sends or receives itself go the way of ours: docs/data-model.md, "StatsD". */
#include <stdio.h>

#include "base/buf.h"
#include "protocol/statsd.h"
#include "traffic/protocols.h"

static const char *text_in(struct buf *b, size_t at)
{
    return b->p + at;
}

static size_t put(struct buf *b, struct slice text)
{
    size_t at = b->len;

    buf_add(b, text.p ? text.p : "", text.p ? text.len : 0);
    buf_char(b, 0);
    return at;
}

static void metric(void *owner, enum proto_dir dir, const struct statsd_metric *m, uint64_t time_ns)
{
    struct stream *s = owner;
    struct tm_field field[STATSD_TAGS_MAX];
    size_t name, value, key[STATSD_TAGS_MAX];
    struct tm_captured c = {.value = m->value, .type = statsd_type_text(m->type), .time_ns = time_ns, .fields = field};
    struct buf texts = BUF_INIT;
    char scaled[40];

    if (!s->p)
        return;
    name = put(&texts, m->name);
    value = put(&texts, m->text);
    for (size_t i = 0; i < m->tag_count; i++)
        key[i] = put(&texts, m->tags[i].key);
    for (size_t i = 0; i < m->tag_count; i++) /* the buffer doesn't move any more */
        field[c.field_count++] = (struct tm_field){
            .name = text_in(&texts, key[i]),
            .type = TM_STR,
            .v.str = {m->tags[i].value.p ? m->tags[i].value.p : "", m->tags[i].value.p ? m->tags[i].value.len : 0}};
    c.name = text_in(&texts, name);
    c.text = text_in(&texts, value);
    if (m->type == STATSD_COUNTER && m->rate < 1) { /* one of several that weren't sent */
        c.value = m->value / m->rate;
        snprintf(scaled, sizeof(scaled), "%.15g", c.value);
        c.text = scaled;
    }
    telemetry_captured(s->p->pl->tm, &s->p->tm, &c);
    buf_free(&texts);
}

static void lost(void *owner, enum proto_dir dir, uint64_t count)
{
    stream_lost(owner, LK_TRAFFIC, count);
}

static const struct statsd_sink sink = {.metric = metric, .lost = lost};

static bool wanted(const struct pipeline *pl)
{
    return pl->cfg->metric.enable && pl->cfg->metric.watch[CFG_MW_STATSD];
}

static void *new(struct stream *s, const struct protocol_start *how)
{
    return statsd_new(&sink, s, s->joined);
}

static void feed(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    statsd_feed(decoder, dir, data, len, time_ns);
}

static void datagram(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len,
                     uint64_t time_ns)
{
    if (data)
        statsd_datagram(decoder, dir, data, (size_t)len, (size_t)len, time_ns);
    else
        stream_lost(s, LK_TRAFFIC, len);
}

static void end(void *decoder, struct stream *s, enum proto_dir dir, uint64_t time_ns)
{
    statsd_end(decoder, dir, time_ns);
}

static void free_decoder(void *decoder, uint64_t time_ns)
{
    statsd_free(decoder);
}

const struct protocol protocol_statsd = {
    .detect = {.name = "STATSD", .stream = statsd_detect, .datagram = statsd_detect, .replaceable = true},
    .wanted = wanted,
    .new = new,
    .feed = feed,
    .datagram = datagram,
    .end = end,
    .free = free_decoder,
};
