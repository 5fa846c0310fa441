/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/records.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/lines.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "journal/reader.h"
#include "sink/ndjson.h"

/* What is known about a process from its start message. */
struct proc_info {
    int64_t pid;
    json_t *process;
};

struct records {
    enum records_of what;
    const struct records_want *want;
    int fd;           /* its own or the journal's */
    uint64_t damaged; /* lines */
    /* records_last(): ids, in a ring, and where the lines behind them begin. */
    uint64_t *ring;
    size_t ring_size, ring_left;
    uint64_t ring_at, ring_end;

    /* Where it is. */
    uint64_t id;
    char *line; /* NULL: not made yet, of a journal */
    size_t len;
    json_t *json; /* of the line, NULL: not made yet */

    struct journal_reader *journal; /* NULL: they are kept as lines */
    bool growing;                   /* its session was being recorded */
    bool progress;                  /* is shown */
    uint64_t total;                 /* ... bytes of the file */
    struct ev_record record;
    struct ndjson *ndjson;
    struct buf out;
    json_t *process; /* records_process() */

    struct lines lines;
    char *text; /* of a StatsD line: what it were as NDJSON */
    struct proc_info *procs;
    size_t proc_count, proc_cap;
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
    json_decref(r->process);
    free(r->text);
    r->json = r->process = NULL;
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

static int seek_line(struct records *r, uint64_t id)
{
    int rc = 1;

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

/* --- a journal --- */

static bool next_record(struct records *r)
{
    leave(r);
    while (!journal_next(r->journal, &r->record))
        if (!journal_more(r->journal))
            return false;
    r->id = journal_position(r->journal);
    return true;
}

static void make_line(struct records *r)
{
    if (r->line)
        return;
    buf_reset(&r->out);
    ndjson_record(r->ndjson, &r->out, &r->record);
    r->line = r->out.p;
    r->len = r->out.len - 1; /* the newline */
}

/* What the reader doesn't know of. */
static bool is_wanted_too(struct records *r)
{
    if (!r->want->match)
        return true;
    make_line(r);
    return memmem(r->line, r->len, r->want->match, strlen(r->want->match));
}

static int open_journal(struct records *r, const struct session *s, const char *path)
{
    const struct records_want *w = r->want;
    struct journal_want want = {
        .kinds = r->what == RECORDS_ALL       ? 0
                 : r->what == RECORDS_METRICS ? 1u << EV_METRIC
                                              : 1u << EV_EVENT | 1u << EV_NOTICE,
        .from_ns = w->from_ns,
        .to_ns = w->to_ns,
        .sourcetypes = (const char *const *)w->types,
        .sources = (const char *const *)w->sources,
        .source_beginnings = r->what == RECORDS_EVENTS,
        .pids = w->pids,
        .pid_count = w->pid_count,
    };
    unsigned version = 0;
    int fd = safe_read(path);

    if (fd < 0)
        return fd;
    if (!session_owns(s, fd)) {
        close(fd);
        return -EPERM;
    }
    for (char **p = w->types; p && *p; p++)
        want.sourcetype_count++;
    for (char **p = w->sources; p && *p; p++)
        want.source_count++;
    r->growing = session_running(s);
    r->fd = fd;
    r->journal = journal_reader_new(fd, &want, &version);
    if (!r->journal && errno == EPROTONOSUPPORT && r->what != RECORDS_ALL) {
        cli_error("the journal of session %llu is of version %u, which this scope can't read: %s", (unsigned long long)s->id,
                  version, path);
        cli_hint("the scope that recorded it, or a newer one, reads it");
        return -EPROTONOSUPPORT;
    }
    if (!r->journal)
        return -errno;
    r->ndjson = ndjson_new();
    return 0;
}

static void tell_damage(const struct records *r)
{
    struct journal_damage d;

    journal_reader_damage(r->journal, &d);
    if (d.blocks)
        cli_error("%llu blocks of the journal are damaged, %llu bytes: what they held is missing",
                  (unsigned long long)d.blocks, (unsigned long long)d.bytes);
    if (d.torn && !r->growing)
        cli_error("the journal ends within a block, which is missing: it could not be written to its end");
}

/* --- both --- */

static int go_to(struct records *r, uint64_t id)
{
    if (!r->journal)
        return seek_line(r, id);
    if (!journal_seek(r->journal, id) || !next_record(r))
        return 0;
    return r->id == id && (r->what == RECORDS_METRICS) == (r->record.kind == EV_METRIC);
}

void records_progress(struct records *r, bool prints)
{
    struct stat st;

    r->total = fstat(r->fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    r->progress = true;
    progress_begin(r->what == RECORDS_EVENTS ? "reading events" : "reading metrics", prints);
}

static int next(struct records *r)
{
    int rc;

    if (r->ring_left) {
        rc = go_to(r, r->ring[r->ring_at++ % r->ring_size]);
        if (--r->ring_left == 0 && !r->journal)
            lines_seek(&r->lines, r->ring_end);
        return rc;
    }
    if (r->journal) {
        do {
            if (!next_record(r))
                return 0;
        } while (!is_wanted_too(r));
        return 1;
    }
    while ((rc = next_line(r)) == 1 && !is_wanted(r)) {
    }
    return rc;
}

static void end_progress(struct records *r)
{
    if (r->progress)
        progress_end();
    r->progress = false;
}

int records_next(struct records *r)
{
    int rc = next(r);

    if (r->progress && rc == 1)
        progress_at(r->journal ? journal_offset(r->journal) : r->lines.offset + r->lines.pos, r->total);
    else
        end_progress(r);
    return rc;
}

int records_seek(struct records *r, uint64_t id)
{
    r->ring_left = 0;
    return id > INT64_MAX ? 0 : go_to(r, id);
}

int records_last(struct records *r, size_t count)
{
    uint64_t seen = 0;
    int rc;

    if (r->journal && !r->want->match) {
        journal_last(r->journal, count);
        end_progress(r);
        return 0;
    }
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
    if (r->journal && !r->want->match) {
        *ret = journal_count(r->journal);
        end_progress(r);
        return 0;
    }
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
    if (r->journal) {
        make_line(r);
    } else {
        bool statsd = *r->line != '{';

        if (!records_json(r))
            return NULL;
        if (statsd && !r->text)
            r->text = json_dumps(r->json, JSON_COMPACT | JSON_REAL_PRECISION(16));
    }
    *ret_len = r->text ? strlen(r->text) : r->len;
    return r->text ? r->text : r->line;
}

bool records_print(struct records *r, FILE *to)
{
    size_t len;
    const char *line = records_line(r, &len);

    if (r->journal) { /* with its newline; nothing in it acts on a terminal */
        fwrite(line, 1, len + 1, to);
    } else if (line) {
        text_json(line, len, to);
        putc('\n', to);
    }
    return line;
}

bool records_are_in(const struct records *r, int fd)
{
    struct stat st, own;

    return fstat(fd, &st) == 0 && fstat(r->fd, &own) == 0 && st.st_dev == own.st_dev && st.st_ino == own.st_ino;
}

json_t *records_json(struct records *r)
{
    if (r->json)
        return r->json;
    if (r->journal)
        make_line(r);
    r->json = *r->line == '{' ? cli_json(r->line, r->len) : cli_statsd(r->line);
    if (!json_is_object(json_object_get(r->json, "body"))) {
        json_decref(r->json);
        r->json = NULL;
        r->damaged++;
    }
    return r->json;
}

static json_t *process_of(const struct tm_process *who)
{
    json_t *o = json_object();

    json_object_set_new(o, "uid", json_integer(who->uid));
    json_object_set_new(o, "gid", json_integer(who->gid));
    if (who->username)
        json_object_set_new(o, "username", json_string(who->username)); /* NULL, not UTF-8: left out */
    if (who->groupname)
        json_object_set_new(o, "groupname", json_string(who->groupname));
    return o;
}

json_t *records_process(struct records *r)
{
    int64_t pid;

    if (r->journal) {
        if (!r->process)
            r->process = process_of(r->record.who);
        return r->process;
    }
    pid = number_of(json_object_get(records_json(r), "body"), "pid");
    for (size_t i = r->proc_count; i-- > 0;)
        if (r->procs[i].pid == pid)
            return r->procs[i].process;
    return NULL;
}

const struct ev_record *records_typed(const struct records *r)
{
    return r->journal ? &r->record : NULL;
}

void records_spoilt(struct records *r)
{
    r->damaged++;
}

static int open_lines(struct records *r, const struct session *s, const char *path)
{
    int rc = lines_open(&r->lines, path);

    r->fd = r->lines.fd;
    return rc == 0 && !session_owns(s, r->lines.fd) ? -EPERM : rc;
}

/* Where the records are: a journal if there is one. */
static char *path_of(const struct session *s, const char *dest, const char *name, bool *ret_journal)
{
    char *path = cli_path_of(dest);

    if (dest) {
        *ret_journal = path && strncmp(dest, "journal:", 8) == 0;
        return path;
    }
    path = xasprintf("%s/" SESSION_JOURNAL, s->dir);
    *ret_journal = access(path, F_OK) == 0;
    if (*ret_journal)
        return path;
    free(path);
    return xasprintf("%s/%s.json", s->dir, name);
}

int records_open(const struct session *s, enum records_of what, const struct records_want *want, struct records **ret)
{
    const char *name = what == RECORDS_EVENTS ? "events" : "metrics";
    const char *dest = what == RECORDS_EVENTS ? s->event_dest : s->metric_dest;
    bool journal;
    char *path = path_of(s, dest, name, &journal);
    struct records *r;
    int rc;

    if (!path) {
        struct buf where = BUF_INIT;

        text_clean(&where, dest, strlen(dest));
        printf("The %s of session %llu went to %s\n", name, (unsigned long long)s->id, buf_cstr(&where));
        buf_free(&where);
        return -ENOTSUP;
    }
    r = xcalloc(1, sizeof(*r));
    r->what = what;
    r->want = want ? want : &everything;
    r->lines.fd = -1;
    rc = journal ? open_journal(r, s, path) : open_lines(r, s, path);
    if (rc < 0) {
        if (rc != -EPROTONOSUPPORT) /* told already */
            cli_error("can't read the %s of session %llu: %s: %s", name, (unsigned long long)s->id, path,
                      rc == -EBADMSG ? "it is no journal, or its beginning is damaged" : strerror(-rc));
        records_close_silently(r);
    } else {
        *ret = r;
    }
    free(path);
    return rc;
}

int records_open_all(const struct session *s, const struct records_want *want, struct records **ret)
{
    bool journal = false;
    char *path = path_of(s, s->event_dest, "events", &journal);
    struct records *r;
    int rc;

    if (!journal) {
        free(path);
        path = path_of(s, s->metric_dest, "metrics", &journal);
    }
    if (!journal) {
        free(path);
        return -ENOTSUP;
    }
    r = xcalloc(1, sizeof(*r));
    r->what = RECORDS_ALL;
    r->want = want;
    r->lines.fd = -1;
    rc = open_journal(r, s, path);
    if (rc < 0)
        records_close_silently(r);
    else
        *ret = r;
    free(path);
    return rc;
}

uint64_t records_unread(const struct records *r)
{
    struct journal_damage d = {0};

    if (r->journal)
        journal_reader_damage(r->journal, &d);
    return d.blocks;
}

void records_close(struct records *r)
{
    end_progress(r);
    if (r->damaged + r->lines.too_long)
        cli_error("%llu lines are damaged and were left out", (unsigned long long)r->damaged + r->lines.too_long);
    if (r->journal)
        tell_damage(r);
    records_close_silently(r);
}

void records_close_silently(struct records *r)
{
    end_progress(r);
    leave(r);
    if (r->journal)
        journal_reader_free(r->journal);
    ndjson_free(r->ndjson);
    buf_free(&r->out);
    lines_close(&r->lines);
    for (size_t i = 0; i < r->proc_count; i++)
        json_decref(r->procs[i].process);
    free(r->procs);
    free(r->ring);
    free(r);
}
