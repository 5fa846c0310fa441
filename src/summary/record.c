/* SPDX-License-Identifier: Apache-2.0 */
#include "summary/record.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "event/event.h"

#define NS 1000000000.0
#define US_NS 1000u

bool sum_event_of_record(struct sum_event *ret, const struct ev_record *record)
{
    const struct tm_process *who = record->who;

    if (record->kind != EV_EVENT || !record->sourcetype || !record->source || !who)
        return false;
    *ret = (struct sum_event){.type = record->sourcetype,
                              .source = record->source,
                              .proc = who->proc,
                              .cmd = who->cmd && *who->cmd ? who->cmd : "none",
                              .channel = record->channel,
                              .pid = tm_two_pids(who) ? who->host_pid : who->pid,
                              .own_pid = who->pid,
                              .time_ns = record->time_ns,
                              .record = record};
    return true;
}

/* Seconds with six decimals, of which a double holds the last one. */
static uint64_t time_of(const json_t *value)
{
    double seconds = json_number_value(value);

    return seconds > 0 && seconds < (double)INT64_MAX / NS ? (uint64_t)(seconds * 1e6 + 0.5) * US_NS : 0;
}

bool sum_event_of_json(struct sum_event *ret, const struct json_t *object)
{
    const json_t *body = json_object_get(object, "body"), *data = json_object_get(body, "data");
    const char *channel = json_string_value(json_object_get(object, "_channel"));
    json_int_t pid = json_integer_value(json_object_get(body, "pid"));
    json_int_t of_host = json_integer_value(json_object_get(body, "hostPid"));

    *ret = (struct sum_event){.type = json_string_value(json_object_get(body, "sourcetype")),
                              .source = json_string_value(json_object_get(body, "source")),
                              .proc = json_string_value(json_object_get(body, "proc")),
                              .cmd = json_string_value(json_object_get(body, "cmd")),
                              .channel = channel ? strtoull(channel, NULL, 10) : 0,
                              .pid = of_host ? of_host : pid,
                              .own_pid = pid,
                              .time_ns = time_of(json_object_get(body, "_time")),
                              .json = data};
    return ret->type && ret->source && json_is_object(data);
}

static const struct tm_field *member(const struct sum_event *e, const char *name)
{
    for (size_t i = 0; i < e->record->field_count; i++)
        if (strcmp(e->record->fields[i].name, name) == 0)
            return &e->record->fields[i];
    return NULL;
}

const char *sum_text(const struct sum_event *e, const char *name)
{
    const struct tm_field *f;

    if (!e->record)
        return json_string_value(json_object_get(e->json, name));
    f = member(e, name);
    return f && f->type == TM_STR ? f->v.str.p : NULL;
}

bool sum_integer(const struct sum_event *e, const char *name, int64_t *ret)
{
    const json_t *value = e->record ? NULL : json_object_get(e->json, name);
    const struct tm_field *f = e->record ? member(e, name) : NULL;

    *ret = 0;
    if (json_is_integer(value))
        *ret = json_integer_value(value);
    else if (f && (f->type == TM_INT || (f->type == TM_UINT && f->v.u <= INT64_MAX)))
        *ret = f->v.i;
    else
        return false;
    return true;
}

uint64_t sum_number(const struct sum_event *e, const char *name)
{
    int64_t v;

    return sum_integer(e, name, &v) && v > 0 ? (uint64_t)v : 0;
}

bool sum_true(const struct sum_event *e, const char *name)
{
    const struct tm_field *f = e->record ? member(e, name) : NULL;

    return e->record ? f && f->type == TM_BOOL && f->v.b : json_is_true(json_object_get(e->json, name));
}

const char *sum_text_at(const struct sum_event *e, const char *name, size_t n)
{
    const struct tm_field *f;

    if (!e->record)
        return json_string_value(json_array_get(json_object_get(e->json, name), n));
    f = member(e, name);
    return f && f->type == TM_STRLIST && n < f->v.list.count ? f->v.list.p[n] : NULL;
}
