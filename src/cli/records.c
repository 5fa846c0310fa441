/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/records.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/lines.h"
#include "base/mem.h"
#include "cli/cli.h"

/* What is known about a process from its start message. */
struct proc_info {
    int64_t pid;
    json_t *process;
};

struct records {
    enum records_of what;
    const struct records_want *want;
    uint64_t damaged;
    uint64_t id;

    struct lines lines;
    char *line;
    size_t len;
    json_t *json; /* of the line, NULL: not parsed yet */
    char *text;   /* of a StatsD line: what it were as NDJSON */
    struct proc_info *procs;
    size_t proc_count, proc_cap;
    /* records_last(): where lines begin, in a ring. */
    uint64_t *ring;
    size_t ring_size, ring_left;
    uint64_t ring_at, ring_end;
};

static const struct records_want everything;

/* --- lines --- */

static void remember_process(struct records *r, json_t *start)
{
    json_t *process = json_object_get(json_object_get(start, "info"), "process");
    json_int_t pid = json_integer_value(json_object_get(process, "pid"));

    if (!json_is_object(process) || pid <= 0)
        return;
    for (size_t i = r->proc_count; i-- > 0;) {
        if (r->procs[i].pid == pid) {
            json_decref(r->procs[i].process);
            r->procs[i].process = json_incref(process);
            return;
        }
    }
    if (r->proc_count == r->proc_cap) {
        r->proc_cap = r->proc_cap ? r->proc_cap * 2 : 64;
        r->procs = xrealloc(r->procs, r->proc_cap, sizeof(*r->procs));
    }
    r->procs[r->proc_count++] = (struct proc_info){pid, json_incref(process)};
}

static bool begins_with_one(char **list, const char *text)
{
    for (; text && *list; list++)
        if (strncmp(*list, text, strlen(*list)) == 0)
            return true;
    return false;
}

static bool equals_one(char **list, const char *text)
{
    for (; text && *list; list++)
        if (strcmp(*list, text) == 0)
            return true;
    return false;
}

/* True if a line can't pass a list, as its bytes show: records are written without blanks, and plain words without
 * escapes. Saves most of the parsing; who passes is parsed and compared all the same. */
static bool rules_out(char **list, const char *member, bool whole, const char *line, size_t len)
{
    char text[128];

    for (; *list; list++) {
        const char *word = *list;
        int n;

        for (const char *p = word; *p; p++)
            if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\' || *p == '/')
                return false;
        n = snprintf(text, sizeof(text), "\"%s\":\"%s%s", member, word, whole ? "\"" : "");
        if (n >= (int)sizeof(text) || memmem(line, len, text, (size_t)n))
            return false;
    }
    return true;
}

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* A tag of a metric may be text. */
static int64_t number_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    return json_is_string(v) ? strtoll(json_string_value(v), NULL, 10) : json_integer_value(v);
}

static bool has_pid(const struct records_want *w, const json_t *body)
{
    int64_t pid = number_of(body, "pid"), host_pid = number_of(body, "hostPid");

    for (size_t i = 0; i < w->pid_count; i++)
        if (w->pids[i] == pid || w->pids[i] == host_pid)
            return true;
    return false;
}

/* Times are written in microseconds. */
static bool is_within(const struct records_want *w, const json_t *body)
{
    double us = json_number_value(json_object_get(body, "_time")) * 1e6;
    uint64_t t = us > 0 && us < 1e16 ? (uint64_t)(us + 0.5) : 0;

    return t >= w->from_ns / 1000 && (!w->to_ns || t <= w->to_ns / 1000);
}

/* How lines of NDJSON begin as we write them, without blanks; others are parsed. */
static bool is_ours(const struct records *r)
{
    return r->len >= 14 && strncmp(r->line, "{\"type\":\"", 9) == 0;
}

/* Whether it is a record of what was asked for. */
static bool is_of_kind(struct records *r)
{
    const char *type = r->what == RECORDS_EVENTS ? "evt" : "metric";
    const char *at = is_ours(r) ? r->line + 9 : text_of(records_json(r), "type");

    return at && strncmp(at, type, strlen(type)) == 0 && (at[strlen(type)] == '"' || !at[strlen(type)]);
}

/* A line that doesn't begin as ours do: a start message, which is taken note of, or somebody else's JSON. */
static bool is_other(struct records *r)
{
    json_t *o = cli_json(r->line, r->len);
    const char *type = text_of(o, "type");

    if (o && !type)
        remember_process(r, o);
    else if (!o && r->what == RECORDS_EVENTS)
        r->damaged++;
    json_decref(o);
    return type && is_of_kind(r);
}

/* Whether a line passes what its bytes show. */
static bool may_be_wanted(struct records *r)
{
    const struct records_want *w = r->want;
    bool events = r->what == RECORDS_EVENTS;

    if (r->len == 0)
        return false;
    if (*r->line != '{' && !events)
        return true; /* StatsD */
    if (!is_ours(r))
        return is_other(r);
    if (!is_of_kind(r))
        return false;
    return !(w->types && rules_out(w->types, "sourcetype", true, r->line, r->len)) &&
           !(w->sources && rules_out(w->sources, events ? "source" : "_metric", !events, r->line, r->len));
}

static bool is_wanted(struct records *r)
{
    const struct records_want *w = r->want;
    const json_t *body;

    if (!may_be_wanted(r) || (w->match && !memmem(r->line, r->len, w->match, strlen(w->match))))
        return false;
    if (!w->types && !w->sources && !w->pid_count && !w->from_ns && !w->to_ns)
        return true;
    body = json_object_get(records_json(r), "body");
    if (!body)
        return false;
    if (w->sources && (r->what == RECORDS_EVENTS ? !begins_with_one(w->sources, text_of(body, "source"))
                                                 : !equals_one(w->sources, text_of(body, "_metric"))))
        return false;
    return (!w->types || equals_one(w->types, text_of(body, "sourcetype"))) &&
           (!w->pid_count || has_pid(w, body)) && is_within(w, body);
}

static void leave(struct records *r)
{
    json_decref(r->json);
    free(r->text);
    r->json = NULL;
    r->line = r->text = NULL;
}

static int next_line(struct records *r)
{
    int rc;

    leave(r);
    rc = lines_next(&r->lines, &r->line, &r->len);
    r->id = r->lines.start;
    return rc;
}

/* --- both --- */

int records_next(struct records *r)
{
    int rc;

    if (r->ring_left) {
        lines_seek(&r->lines, r->ring[r->ring_at++ % r->ring_size]);
        rc = next_line(r);
        if (--r->ring_left == 0)
            lines_seek(&r->lines, r->ring_end);
        return rc;
    }
    while ((rc = next_line(r)) == 1 && !is_wanted(r)) {
    }
    return rc;
}

int records_seek(struct records *r, uint64_t id)
{
    int rc = 1;

    r->ring_left = 0;
    if (id > INT64_MAX)
        return 0;
    /* An id is right if the line before ends there. */
    if (id) {
        lines_seek(&r->lines, id - 1);
        rc = next_line(r);
        if (rc == 1 && r->len)
            rc = 0;
    }
    lines_seek(&r->lines, id);
    if (rc == 1)
        rc = next_line(r);
    return rc == 1 ? is_of_kind(r) : rc;
}

int records_last(struct records *r, size_t count)
{
    uint64_t seen = 0;
    int rc;

    r->ring = xrealloc(r->ring, count, sizeof(*r->ring));
    r->ring_size = count;
    r->ring_left = 0;
    while ((rc = records_next(r)) == 1)
        r->ring[seen++ % count] = r->id;
    r->ring_end = r->lines.offset + r->lines.pos;
    r->ring_left = seen > count ? count : (size_t)seen;
    r->ring_at = seen - r->ring_left;
    return rc;
}

int records_count(struct records *r, uint64_t *ret)
{
    int rc;

    *ret = 0;
    while ((rc = records_next(r)) == 1)
        ++*ret;
    return rc;
}

uint64_t records_id(const struct records *r)
{
    return r->id;
}

const char *records_line(struct records *r, size_t *ret_len)
{
    bool statsd = *r->line != '{';

    if (!records_json(r))
        return NULL;
    if (statsd && !r->text)
        r->text = json_dumps(r->json, JSON_COMPACT | JSON_REAL_PRECISION(16));
    *ret_len = r->text ? strlen(r->text) : r->len;
    return r->text ? r->text : r->line;
}

json_t *records_json(struct records *r)
{
    if (!r->json) {
        r->json = *r->line == '{' ? cli_json(r->line, r->len) : cli_statsd(r->line);
        if (!json_is_object(json_object_get(r->json, "body"))) {
            json_decref(r->json);
            r->json = NULL;
            r->damaged++;
        }
    }
    return r->json;
}

json_t *records_process(struct records *r)
{
    int64_t pid = number_of(json_object_get(records_json(r), "body"), "pid");

    for (size_t i = r->proc_count; i-- > 0;)
        if (r->procs[i].pid == pid)
            return r->procs[i].process;
    return NULL;
}

void records_spoilt(struct records *r)
{
    r->damaged++;
}

int records_open(const struct session *s, enum records_of what, const struct records_want *want, struct records **ret)
{
    const char *name = what == RECORDS_EVENTS ? "events" : "metrics";
    const char *dest = what == RECORDS_EVENTS ? s->event_dest : s->metric_dest;
    char *path = cli_path_of(dest);
    struct records *r;
    int rc;

    if (!path && dest) {
        printf("The %s of session %llu went to %s\n", name, (unsigned long long)s->id, dest);
        return -ENOTSUP;
    }
    if (!path)
        path = xasprintf("%s/%s.json", s->dir, name);
    r = xcalloc(1, sizeof(*r));
    r->what = what;
    r->want = want ? want : &everything;
    rc = lines_open(&r->lines, path);
    if (rc == 0 && !session_owns(s, r->lines.fd))
        rc = -EPERM;
    if (rc < 0) {
        cli_error("can't read the %s of session %llu: %s: %s", name, (unsigned long long)s->id, path, strerror(-rc));
        records_close_silently(r);
    } else {
        *ret = r;
    }
    free(path);
    return rc;
}

void records_close(struct records *r)
{
    if (r->damaged + r->lines.too_long)
        cli_error("%llu lines are damaged and were left out", (unsigned long long)r->damaged + r->lines.too_long);
    records_close_silently(r);
}

void records_close_silently(struct records *r)
{
    leave(r);
    lines_close(&r->lines);
    for (size_t i = 0; i < r->proc_count; i++)
        json_decref(r->procs[i].process);
    free(r->procs);
    free(r->ring);
    free(r);
}
