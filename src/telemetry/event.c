/* SPDX-License-Identifier: Apache-2.0 */
/* Events: filters and limit. docs/data-model.md, "Events". */
#include <string.h>

#include "base/mem.h"
#include "event/fields.h"
#include "sink/ndjson.h"
#include "telemetry/internal.h"

/* Values are matched as they look in JSON, strings without quotes. */
static bool value_matches(struct buf *scratch, const struct filter *value, const struct tm_field *f)
{
    switch (f->type) {
    case TM_STR:
        return filter_match(value, f->v.str.p, f->v.str.len);
    case TM_STRLIST:
        for (size_t i = 0; i < f->v.list.count; i++)
            if (f->v.list.p[i] && filter_match(value, f->v.list.p[i], strlen(f->v.list.p[i])))
                return true;
        return false;
    case TM_NUM:
        buf_reset(scratch);
        buf_printf(scratch, "%.2f", f->v.num);
        return filter_match(value, scratch->p, scratch->len);
    default:
        buf_reset(scratch);
        ndjson_value(scratch, f);
        return filter_match(value, scratch->p, scratch->len);
    }
}

/* One match lets the whole event through. */
static bool passes_value(struct telemetry *t, const struct watch *w, const struct tm_field *fields, size_t count)
{
    if (filter_matches_all(w->value))
        return true;
    for (size_t i = 0; i < count; i++)
        if (value_matches(&t->scratch, w->value, &fields[i]))
            return true;
    t->stats.filtered++;
    return false;
}

static bool passes_limit(struct telemetry *t, struct tm_process *who, uint64_t time_ns)
{
    if (limit_take(&t->limit, time_ns))
        return true;
    telemetry_hold_back(t, process_of(t, who));
    return false;
}

/* Fields one by one, for filters that look at each: in t->each, behind `at` that are there. Returns their number. */
static size_t expand(struct telemetry *t, const struct tm_process *who, const struct tm_field *fields, size_t count,
                     size_t at)
{
    size_t n = at, room = at + count * TM_GROUP_FIELDS;

    if (room > t->each_room) {
        t->each_room = room;
        t->each = xrealloc(t->each, t->each_room, sizeof(*t->each));
    }
    for (size_t i = 0; i < count; i++) {
        if (tm_is_group(&fields[i])) {
            tm_expand_group(who, fields[i].type, t->each + n);
            n += TM_GROUP_FIELDS;
        } else {
            t->each[n++] = fields[i];
        }
    }
    return n;
}

/* Keeps the members of data that the field filter lets through, and the first `fixed` ones. Returns their number. */
static size_t select_fields(const struct watch *w, struct tm_field *fields, size_t count, size_t fixed)
{
    size_t kept = fixed;

    for (size_t i = fixed; i < count; i++)
        if (filter_match_name(w->field, fields[i].name, strlen(fields[i].name)))
            fields[kept++] = fields[i];
    return kept;
}

/* Fills in what is told of an event; false: its filters don't let it through. */
static inline __attribute__((always_inline)) bool passes_filters(struct telemetry *t, struct tm_process *who,
                                                                 const struct tm_event *e, struct ev_record *r)
{
    const struct watch *w = &t->watch[e->watch];
    size_t count;

    /* What is of events only: to fill all of it with zeros takes longer than the rest of this. */
    r->kind = EV_EVENT;
    r->time_ns = e->time_ns;
    r->tags = t->tags;
    r->tag_count = t->tag_count;
    r->fields = e->fields;
    r->field_count = e->field_count;
    r->sourcetype = w->sourcetype;
    r->source = e->source;
    r->channel = e->channel;
    r->text = NULL;
    r->text_len = 0;
    r->trace = e->trace;
    if (w->all)
        return true;
    if (!filter_match_name(w->name, e->source, strlen(e->source))) {
        t->stats.filtered++;
        return false;
    }
    count = expand(t, who, e->fields, e->field_count, 0);
    if (!passes_value(t, w, t->each, count))
        return false;
    r->fields = t->each;
    r->field_count = select_fields(w, t->each, count, 0);
    return true;
}

void event_send(struct telemetry *t, struct tm_process *who, const struct tm_event *e)
{
    struct ev_record r;

    if (passes_filters(t, who, e, &r) && passes_limit(t, who, e->time_ns))
        telemetry_write(t, &t->to[TO_EVENTS], who, &r, false);
}

void event_send_notice(struct telemetry *t, struct tm_process *who, struct tm_rule *rule, const struct tm_event *e)
{
    struct ev_record r;

    if (!passes_filters(t, who, e, &r))
        return;
    rule->limit.rate = t->notices.maxperrule;
    if (limit_take(&rule->limit, e->time_ns) && limit_take(&t->notices.limit, e->time_ns))
        telemetry_write(t, &t->to[TO_EVENTS], who, &r, false);
    else
        telemetry_hold_notice(t, process_of(t, who), rule);
}

bool event_notices_held(struct telemetry *t, struct process *p, uint64_t time_ns, const struct tm_rule *rule)
{
    struct tm_field f[] = {
        {.name = "proc", .type = TM_WHO}, tm_text_field("rule", rule->name), tm_number_field("held", rule->held),
        tm_number_field("held_total", rule->held_total),
    };
    struct ev_record r = {.kind = EV_EVENT, .time_ns = time_ns, .tags = t->tags, .tag_count = t->tag_count, .fields = f,
                          .field_count = sizeof(f) / sizeof(*f), .sourcetype = t->watch[CFG_EW_NOTICE].sourcetype,
                          .source = "notice.held"};

    return telemetry_write(t, &t->to[TO_EVENTS], p->who, &r, true);
}

void event_message(struct telemetry *t, struct process *p, enum cfg_event_watch watch, const char *source,
                   uint64_t time_ns, uint64_t channel, const char *text, size_t len, const struct tm_context *trace)
{
    struct tm_field message = {.name = "message", .name_len = 7, .type = TM_STR, .v.str = {text, len}};
    struct ev_record r = {.kind = EV_EVENT, .time_ns = time_ns, .tags = t->tags, .tag_count = t->tag_count,
                          .fields = &message, .field_count = 1, .sourcetype = t->watch[watch].sourcetype,
                          .source = source, .channel = channel, .trace = trace};

    if (!filter_match(t->watch[watch].value, text, len)) {
        t->stats.filtered++;
        return;
    }
    if (passes_limit(t, p->who, time_ns))
        telemetry_write(t, &t->to[TO_EVENTS], p->who, &r, false);
}

bool event_notice(struct telemetry *t, struct process *p, uint64_t time_ns, const char *text)
{
    struct ev_record r = {.kind = EV_NOTICE, .time_ns = time_ns,
                          .sourcetype = t->watch[CFG_EW_METRIC].sourcetype, .source = "notice", .text = text,
                          .text_len = strlen(text)};

    return telemetry_write(t, &t->to[TO_EVENTS], p->who, &r, true);
}

void event_metric(struct telemetry *t, struct process *p, const char *metric, const char *type,
                  const struct tm_field *value, uint64_t time_ns, const struct tm_field *fields, size_t count)
{
    enum { FIXED = 3 };
    const struct watch *w = &t->watch[CFG_EW_METRIC];
    struct ev_record r = {.kind = EV_EVENT, .time_ns = time_ns, .tags = t->tags, .tag_count = t->tag_count,
                          .sourcetype = w->sourcetype, .source = metric};

    count = expand(t, p->who, fields, count, FIXED);
    t->each[0] = tm_text_field("_metric", metric);
    t->each[1] = tm_text_field("_metric_type", type);
    t->each[2] = *value;
    t->each[2].name = "_value";
    t->each[2].name_len = 6;
    if (!passes_value(t, w, t->each + 2, count - 2) || !passes_limit(t, p->who, time_ns))
        return;
    r.fields = t->each;
    r.field_count = filter_matches_all(w->field) ? count : select_fields(w, t->each, count, FIXED);
    telemetry_write(t, &t->to[TO_EVENTS], p->who, &r, false);
}
