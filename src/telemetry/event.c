/* SPDX-License-Identifier: Apache-2.0 */
/* Events as ndjson lines: docs/data-model.md, "Events". */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "telemetry/internal.h"
#include "version.h"

#define LITERAL(b, s) buf_add(b, s, sizeof(s) - 1)

static void json_or_empty(struct buf *b, const char *s)
{
    buf_json_str(b, s ? s : "");
}

#define GROUP_FIELDS 3 /* that TM_WHO and TM_OWNER stand for */

static struct tm_field text_field(const char *name, const char *text)
{
    return (struct tm_field){.name = name, .type = TM_STR, .v.str = {text, text ? strlen(text) : 0}};
}

static struct tm_field number_field(const char *name, uint64_t n)
{
    return (struct tm_field){.name = name, .type = TM_UINT, .v.u = n};
}

static void expand_group(const struct tm_process *who, enum tm_type group, struct tm_field ret[GROUP_FIELDS])
{
    if (group == TM_WHO) {
        ret[0] = text_field("proc", who->proc);
        ret[1] = number_field("pid", who->pid);
        ret[2] = text_field("host", who->host);
    } else {
        ret[0] = number_field("proc_uid", who->uid);
        ret[1] = number_field("proc_gid", who->gid);
        ret[2] = text_field("proc_cgroup", who->cgroup);
    }
}

static void encode_member(struct buf *b, const struct tm_field *f)
{
    size_t len = f->name_len ? f->name_len : strlen(f->name);
    char *p = buf_room(b, len + 3);

    *p++ = '"';
    p = mempcpy(p, f->name, len);
    *p++ = '"';
    *p = ':';
    b->len += len + 3;
    encode_value(b, f);
}

static void encode_group(struct buf *b, const struct tm_process *who, enum tm_type group)
{
    struct tm_field f[GROUP_FIELDS];

    expand_group(who, group, f);
    buf_reset(b);
    for (int i = 0; i < GROUP_FIELDS; i++) {
        if (i)
            buf_char(b, ',');
        encode_member(b, &f[i]);
    }
}

void event_prepare(struct process *p)
{
    const struct tm_process *who = p->who;

    encode_group(&p->who_json, who, TM_WHO);
    encode_group(&p->owner_json, who, TM_OWNER);

    buf_reset(&p->head);
    LITERAL(&p->head, "{\"type\":\"evt\",\"id\":");
    buf_json(&p->head, who->id, strnlen(who->id, sizeof(who->id)));
    LITERAL(&p->head, ",\"_channel\":\"");
    buf_reset(&p->body);
    LITERAL(&p->body, ",\"host\":");
    json_or_empty(&p->body, who->host);
    LITERAL(&p->body, ",\"proc\":");
    json_or_empty(&p->body, who->proc);
    LITERAL(&p->body, ",\"cmd\":");
    buf_json_str(&p->body, who->cmd && who->cmd[0] ? who->cmd : "none");
    LITERAL(&p->body, ",\"pid\":");
    buf_uint(&p->body, who->pid);
    if (tm_two_pids(who)) {
        LITERAL(&p->body, ",\"hostPid\":");
        buf_uint(&p->body, who->host_pid);
    }
}

/* Everything up to the value of `data`. */
static void open_envelope(struct telemetry *t, struct process *p, enum cfg_event_watch watch, const char *source,
                          uint64_t time_ns, uint64_t channel, bool tags)
{
    struct buf *b = &t->out;

    buf_reset(b);
    buf_add(b, p->head.p, p->head.len);
    if (channel)
        buf_uint(b, channel);
    else
        LITERAL(b, "none");
    buf_add(b, t->watch[watch].type, t->watch[watch].type_len);
    buf_time(b, time_ns);
    LITERAL(b, ",\"source\":");
    buf_json_str(b, source);
    buf_add(b, p->body.p, p->body.len);
    if (tags)
        buf_add(b, t->tags_json.p, t->tags_json.len);
    LITERAL(b, ",\"data\":");
}

static void encode_double(struct buf *b, double v)
{
    char text[40];

    if (!isfinite(v)) {
        LITERAL(b, "null");
        return;
    }
    snprintf(text, sizeof(text), "%.15g", v);
    if (strtod(text, NULL) != v)
        snprintf(text, sizeof(text), "%.17g", v);
    buf_str(b, text);
}

void encode_value(struct buf *b, const struct tm_field *f)
{
    switch (f->type) {
    case TM_STR:
        buf_json(b, f->v.str.p, f->v.str.p ? f->v.str.len : 0);
        break;
    case TM_INT:
        buf_int(b, f->v.i);
        break;
    case TM_UINT:
        buf_uint(b, f->v.u);
        break;
    case TM_NUM:
        encode_double(b, f->v.num);
        break;
    case TM_HUNDREDTHS:
        buf_printf(b, "%s%" PRIu64 ".%02" PRIu64, f->v.i < 0 ? "-" : "", (f->v.i < 0 ? -(uint64_t)f->v.i : (uint64_t)f->v.i) / 100,
                   (f->v.i < 0 ? -(uint64_t)f->v.i : (uint64_t)f->v.i) % 100);
        break;
    case TM_BOOL:
        buf_str(b, f->v.b ? "true" : "false");
        break;
    case TM_STRLIST:
        buf_char(b, '[');
        for (size_t i = 0; i < f->v.list.count; i++) {
            if (i)
                buf_char(b, ',');
            json_or_empty(b, f->v.list.p[i]);
        }
        buf_char(b, ']');
        break;
    case TM_WHO: case TM_OWNER:
        break; /* members, not a value */
    }
}

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
        encode_value(scratch, f);
        return filter_match(value, scratch->p, scratch->len);
    }
}

/* One match lets the whole event through. */
static bool passes_value(struct telemetry *t, const struct watch *w, const char *number, const struct tm_field *fields,
                         size_t count)
{
    if (filter_matches_all(w->value))
        return true;
    if (number && filter_match(w->value, number, strlen(number)))
        return true;
    for (size_t i = 0; i < count; i++)
        if (value_matches(&t->scratch, w->value, &fields[i]))
            return true;
    t->stats.filtered++;
    return false;
}

static bool passes_limit(struct telemetry *t, struct process *p, uint64_t time_ns)
{
    if (limit_take(&t->limit, time_ns))
        return true;
    telemetry_hold_back(t, p);
    return false;
}

/* Members of data that the field filter lets through; `empty` tells whether any was written before. */
static void encode_fields(struct buf *b, const struct watch *w, const struct process *p, const struct tm_field *fields,
                          size_t count, bool empty)
{
    bool all = filter_matches_all(w->field);

    for (size_t i = 0; i < count; i++) {
        const struct tm_field *f = &fields[i];

        if (!all && !filter_match_name(w->field, f->name, strlen(f->name)))
            continue;
        if (!empty)
            buf_char(b, ',');
        empty = false;
        if (f->type == TM_WHO)
            buf_add(b, p->who_json.p, p->who_json.len);
        else if (f->type == TM_OWNER)
            buf_add(b, p->owner_json.p, p->owner_json.len);
        else
            encode_member(b, f);
    }
}

/* The same fields one by one, for filters that look at each: in t->each. Returns their number. */
static size_t expand(struct telemetry *t, const struct tm_process *who, const struct tm_field *fields, size_t count)
{
    size_t n = 0;

    if (count * GROUP_FIELDS > t->each_room) {
        t->each_room = count * GROUP_FIELDS;
        t->each = xrealloc(t->each, t->each_room, sizeof(*t->each));
    }
    for (size_t i = 0; i < count; i++) {
        if (fields[i].type == TM_WHO || fields[i].type == TM_OWNER) {
            expand_group(who, fields[i].type, t->each + n);
            n += GROUP_FIELDS;
        } else {
            t->each[n++] = fields[i];
        }
    }
    return n;
}

void event_send(struct telemetry *t, struct process *p, const struct tm_event *e)
{
    const struct watch *w = &t->watch[e->watch];
    const struct tm_field *fields = e->fields;
    size_t count = e->field_count;

    if (!filter_matches_all(w->value) || !filter_matches_all(w->field)) {
        count = expand(t, p->who, fields, count);
        fields = t->each;
    }
    if (!passes_value(t, w, NULL, fields, count) || !passes_limit(t, p, e->time_ns))
        return;
    open_envelope(t, p, e->watch, e->source, e->time_ns, e->channel, true);
    buf_char(&t->out, '{');
    encode_fields(&t->out, w, p, fields, count, true);
    LITERAL(&t->out, "}}}\n");
    telemetry_write_event(t, p, false);
}

void event_message(struct telemetry *t, struct process *p, enum cfg_event_watch watch, const char *source,
                   uint64_t time_ns, uint64_t channel, const char *text, size_t len)
{
    if (!filter_match(t->watch[watch].value, text, len)) {
        t->stats.filtered++;
        return;
    }
    if (!passes_limit(t, p, time_ns))
        return;
    open_envelope(t, p, watch, source, time_ns, channel, true);
    LITERAL(&t->out, "{\"message\":");
    buf_json(&t->out, text, len);
    LITERAL(&t->out, "}}}\n");
    telemetry_write_event(t, p, false);
}

bool event_notice(struct telemetry *t, struct process *p, uint64_t time_ns, const char *text)
{
    open_envelope(t, p, CFG_EW_METRIC, "notice", time_ns, 0, false);
    buf_json_str(&t->out, text);
    LITERAL(&t->out, "}}\n");
    return telemetry_write_event(t, p, true);
}

void event_metric(struct telemetry *t, struct process *p, const char *metric, const char *type, const char *value,
                  uint64_t time_ns, const struct tm_field *fields, size_t count)
{
    const struct watch *w = &t->watch[CFG_EW_METRIC];

    if (!passes_value(t, w, value, fields, count) || !passes_limit(t, p, time_ns))
        return;
    open_envelope(t, p, CFG_EW_METRIC, metric, time_ns, 0, true);
    LITERAL(&t->out, "{\"_metric\":");
    buf_json_str(&t->out, metric);
    LITERAL(&t->out, ",\"_metric_type\":");
    buf_json_str(&t->out, type);
    LITERAL(&t->out, ",\"_value\":");
    buf_str(&t->out, value);
    encode_fields(&t->out, w, p, fields, count, false);
    LITERAL(&t->out, "}}}\n");
    telemetry_write_event(t, p, false);
}

static void member(struct buf *b, const char *name, const char *value)
{
    buf_char(b, ',');
    buf_json_str(b, name);
    buf_char(b, ':');
    json_or_empty(b, value);
}

void event_start_message(struct telemetry *t, struct process *p, struct buf *b)
{
    const struct tm_process *who = p->who;
    const char *no_breaker = getenv("SCOPE_CRIBL_NO_BREAKER");

    buf_reset(b);
    buf_char(b, '{');
    if (t->auth_token) {
        LITERAL(b, "\"authToken\":");
        buf_json_str(b, t->auth_token);
        buf_char(b, ',');
    }
    LITERAL(b, "\"format\":\"ndjson\"");
    if (no_breaker && strcmp(no_breaker, "true") == 0)
        LITERAL(b, ",\"breaker\":\"Cribl - Do Not Break Ruleset\"");
    LITERAL(b, ",\"info\":{\"process\":{\"libscopever\":\"" SCOPE_VERSION "\"");
    buf_printf(b, ",\"pid\":%" PRIu32 ",\"ppid\":%" PRIu32 ",\"gid\":%" PRIu32, who->pid, who->ppid, who->gid);
    if (tm_two_pids(who))
        buf_printf(b, ",\"hostPid\":%" PRIu32, who->host_pid);
    if (who->groupname)
        member(b, "groupname", who->groupname);
    buf_printf(b, ",\"uid\":%" PRIu32, who->uid);
    if (who->username)
        member(b, "username", who->username);
    member(b, "hostname", who->host);
    member(b, "procname", who->proc);
    if (who->cmd && who->cmd[0])
        member(b, "cmd", who->cmd);
    member(b, "id", who->id);
    member(b, "cgroup", who->cgroup);
    if (who->container[0])
        member(b, "containerId", who->container);
    member(b, "machine_id", who->machine_id);
    member(b, "uuid", who->uuid);
    LITERAL(b, "},\"configuration\":{\"current\":");
    buf_str(b, t->config_json);
    LITERAL(b, "},\"environment\":{");
    if (who->k8s_pod) {
        LITERAL(b, "\"CRIBL_K8S_POD\":");
        buf_json_str(b, who->k8s_pod);
    }
    LITERAL(b, "}}}\n");
}

char *telemetry_payload_start(const struct telemetry *t)
{
    const struct tm_process *who = &t->self_who;
    struct buf b = BUF_INIT;

    buf_char(&b, '{');
    if (t->auth_token) {
        LITERAL(&b, "\"authToken\":");
        buf_json_str(&b, t->auth_token);
        buf_char(&b, ',');
    }
    LITERAL(&b, "\"format\":\"scope\",\"info\":{\"process\":{\"libscopever\":\"" SCOPE_VERSION "\"");
    buf_printf(&b, ",\"pid\":%" PRIu32 ",\"ppid\":%" PRIu32 ",\"gid\":%" PRIu32 ",\"uid\":%" PRIu32, who->pid,
               who->ppid, who->gid, who->uid);
    member(&b, "hostname", who->host);
    member(&b, "procname", who->proc);
    member(&b, "id", who->id);
    LITERAL(&b, "}}}\n");
    return buf_cstr(&b);
}
