/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics that the program sends or receives itself go the way of ours: docs/data-model.md, "StatsD". */
#include <stdio.h>

#include "base/buf.h"
#include "model/model.h"
#include "report/pipeline.h"
#include "report/report.h"
#include "traffic/stream.h"
#include "protocol/statsd.h"

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

    (void)dir;
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
    struct stream *s = owner;

    (void)dir;
    if (s->p)
        model_loss(s->p->m, s->p, LK_TRAFFIC, count);
}

const struct statsd_sink statsd_sink = {.metric = metric, .lost = lost};
