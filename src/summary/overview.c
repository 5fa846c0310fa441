/* SPDX-License-Identifier: Apache-2.0 */
#include "summary/overview.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "summary/overview_parts.h"

#define MORE_TEXTS "(more)"

/* --- how long something took --- */

uint64_t ov_step_ns(size_t step)
{
    static const uint64_t part[] = {1000, 1189, 1414, 1682}; /* 1000 * 2^(n/4) */

    return part[step % 4] << (step / 4);
}

void ov_times_add(struct ov_times *t, uint64_t ns)
{
    size_t step = 0, end = OV_STEPS - 1;

    while (step < end) {
        size_t middle = (step + end) / 2;

        if (ns <= ov_step_ns(middle))
            end = middle;
        else
            step = middle + 1;
    }
    t->step[step]++;
    t->count++;
    t->sum_ns += ns;
    if (ns > t->max_ns)
        t->max_ns = ns;
}

uint64_t ov_times_quantile(const struct ov_times *t, unsigned per_mille)
{
    uint64_t wanted = (t->count * per_mille + 999) / 1000, seen = 0;

    for (size_t i = 0; i < OV_STEPS && t->count; i++) {
        seen += t->step[i];
        if (seen >= wanted && seen)
            return ov_step_ns(i) < t->max_ns && i < OV_STEPS - 1 ? ov_step_ns(i) : t->max_ns;
    }
    return 0;
}

/* --- texts --- */

const char *ov_text_part(struct overview *o, const char *text, size_t len)
{
    struct keyed_row *row;

    if (!text)
        return NULL;
    if (len > OV_TEXT_MAX)
        for (len = OV_TEXT_MAX; len > OV_TEXT_MAX - 4 && ((unsigned char)text[len] & 0xc0) == 0x80; len--) {
        }
    row = keyed_at(&o->texts, text, len);
    return row ? row->key : MORE_TEXTS;
}

const char *ov_text(struct overview *o, const char *text)
{
    return ov_text_part(o, text, text ? strlen(text) : 0);
}

/* --- what happened when --- */

void ov_mark(struct overview *o, int process, uint64_t time_ns, enum ov_doing doing, uint64_t bytes)
{
    uint64_t span = o->to_ns - o->from_ns, at = time_ns > o->from_ns ? time_ns - o->from_ns : 0;
    uint32_t key[2] = {(uint32_t)process, 0};
    struct ov_bin *bin;

    if (process < 0)
        return;
    key[1] = at >= span ? OV_BINS - 1 : (uint32_t)((double)at / (double)span * OV_BINS);
    bin = keyed_at(&o->bins, key, sizeof(key));
    if (!bin)
        return;
    bin->process = key[0];
    bin->bin = key[1];
    bin->count[doing]++;
    bin->bytes += bytes;
}

struct ov_note *ov_note(struct overview *o, const char *key, size_t key_len, const char *kind,
                        const struct sum_event *e)
{
    struct ov_note *note = keyed_at(&o->notes, key, key_len);

    if (!note)
        return NULL;
    note->kind = ov_text(o, kind);
    note->proc = ov_text(o, e->proc);
    note->pid = e->pid;
    note->time_ns = e->time_ns;
    return note;
}

/* --- files, DNS, lines, notices, failed calls --- */

static struct ov_file *file_of(struct overview *o, const char *path)
{
    return keyed_at(&o->files, path, strlen(path));
}

static void file_event(struct overview *o, const struct sum_event *e)
{
    const char *path = sum_text(e, "file"), *to;
    int process = ov_process_of(o, e);
    struct ov_process *p = process < 0 ? NULL : &o->processes[process];
    struct ov_file *file = path ? file_of(o, path) : NULL, *other;
    uint64_t read, written;

    if (!path)
        return;
    if (strcmp(e->source, "fs.open") == 0) {
        o->file_opens++;
        if (file)
            file->opens++;
        if (p)
            p->files++;
        ov_mark(o, process, e->time_ns, OV_FILES, 0);
        return;
    }
    if (strcmp(e->source, "fs.close") != 0) {
        o->file_changes++;
        if (file)
            file->changes++;
        to = sum_text(e, "file_to");
        other = to ? file_of(o, to) : NULL;
        if (other)
            other->changes++;
        ov_mark(o, process, e->time_ns, OV_FILES, 0);
        return;
    }
    read = sum_number(e, "file_read_bytes");
    written = sum_number(e, "file_write_bytes");
    o->file_read += read;
    o->file_written += written;
    if (file) {
        uint64_t reads = sum_number(e, "file_read_ops"), writes = sum_number(e, "file_write_ops");

        file->read += read;
        file->written += written;
        file->reads += reads;
        file->writes += writes;
        file->busy_us += sum_number(e, "duration") * (reads + writes);
    }
    if (p) {
        p->read += read;
        p->written += written;
    }
    ov_mark(o, process, e->time_ns, OV_FILES, read + written);
}

static void dns_event(struct overview *o, const struct sum_event *e)
{
    struct {
        const char *domain, *qtype, *outcome, *role;
    } key;
    const char *address;
    struct ov_dns *dns;
    int64_t ms;

    if (strcmp(e->source, "dns.resp") != 0) {
        o->dns_queries++;
        ov_mark(o, ov_process_of(o, e), e->time_ns, OV_DNS, 0);
        return;
    }
    for (size_t i = 0; (address = sum_text_at(e, "addrs", i)); i++)
        ov_name(o, address, sum_text(e, "domain"));
    memset(&key, 0, sizeof(key));
    key.domain = ov_text(o, sum_text(e, "domain"));
    key.qtype = ov_text(o, sum_text(e, "qtype"));
    key.role = ov_text(o, sum_text(e, "role"));
    key.outcome = ov_text(o, sum_text(e, "rcode") ? sum_text(e, "rcode") : sum_text(e, "error"));
    dns = keyed_at(&o->dns, &key, sizeof(key));
    if (!dns)
        return;
    dns->domain = key.domain;
    dns->qtype = key.qtype;
    dns->role = key.role;
    dns->outcome = key.outcome;
    dns->count++;
    if (sum_text_at(e, "addrs", 0))
        dns->address = ov_text(o, sum_text_at(e, "addrs", 0));
    if (sum_integer(e, "duration", &ms) && ms >= 0) {
        dns->timed++;
        dns->duration_ms += (uint64_t)ms;
        if ((uint64_t)ms > dns->max_ms)
            dns->max_ms = (uint64_t)ms;
    }
}

static void console_event(struct overview *o, const struct sum_event *e)
{
    int process = ov_process_of(o, e);

    o->lines++;
    if (process >= 0)
        o->processes[process].lines++;
    ov_mark(o, process, e->time_ns, OV_CONSOLE, 0);
    if (o->console_count == OV_MAX_CONSOLE)
        return;
    o->console[o->console_count++] = (struct ov_line){.time_ns = e->time_ns,
                                                      .process = process,
                                                      .err = strcmp(e->source, "stderr") == 0,
                                                      .text = ov_text(o, sum_text(e, "message"))};
}

/* By rule; what was held back belongs to it, too. What it was about last is kept. */
static void notice_event(struct overview *o, const struct sum_event *e)
{
    static const char *const about[] = {"file", "domain", "net_peer_ip"};
    const char *rule = sum_text(e, "rule"), *what = NULL;
    struct ov_note *note = rule ? ov_note(o, rule, strlen(rule), rule, e) : NULL;

    if (!note)
        return;
    if (strcmp(e->source, "notice.held") == 0) {
        note->count += sum_number(e, "held");
        return;
    }
    note->count++;
    for (size_t i = 0; i < sizeof(about) / sizeof(*about) && !what; i++)
        what = sum_text(e, about[i]);
    note->text = ov_text(o, sum_text(e, "why"));
    note->about = ov_text(o, what);
}

static void add_error(struct overview *o, const char *what, const char *errno_name, const char *op, const char *proc,
                      const char *place, uint64_t count)
{
    struct {
        const char *what, *errno_name, *op, *proc, *place;
    } key;
    struct ov_error *error;

    memset(&key, 0, sizeof(key));
    key.what = ov_text(o, what);
    key.errno_name = ov_text(o, errno_name);
    key.op = ov_text(o, op);
    key.proc = ov_text(o, proc);
    key.place = ov_text(o, place);
    error = keyed_at(&o->errors, &key, sizeof(key));
    if (!error)
        return;
    error->what = key.what;
    error->errno_name = key.errno_name;
    error->op = key.op;
    error->proc = key.proc;
    error->place = key.place;
    error->count += count;
}

static void syscall_event(struct overview *o, const struct sum_event *e)
{
    const char *errno_name = sum_text(e, "errno"), *place = sum_text(e, "file");

    if (!errno_name)
        return;
    if (!place)
        place = sum_text(e, "path");
    add_error(o, "syscall", errno_name, e->source, e->proc, place ? place : sum_text(e, "addr"), 1);
}

void overview_metric(struct overview *o, const struct json_t *object)
{
    const json_t *body = json_object_get(object, "body"), *value = json_object_get(body, "_value");
    const char *name = json_string_value(json_object_get(body, "_metric"));
    const char *kind = json_string_value(json_object_get(body, "class"));
    const char *proc = json_string_value(json_object_get(body, "proc"));
    const char *place = json_string_value(json_object_get(body, "file"));
    struct buf what = BUF_INIT;

    if (!name || !json_is_integer(value) || json_integer_value(value) <= 0 ||
        (strcmp(name, "fs.error") != 0 && strcmp(name, "net.error") != 0))
        return;
    buf_printf(&what, "%.3s %s", strcmp(name, "fs.error") == 0 ? "fs" : "net", kind ? kind : "");
    add_error(o, buf_cstr(&what), json_string_value(json_object_get(body, "errno")),
              json_string_value(json_object_get(body, "op")), proc,
              place ? place : json_string_value(json_object_get(body, "domain")), (uint64_t)json_integer_value(value));
    buf_free(&what);
}

/* --- the whole --- */

#define TABLE(type, most) ((struct keyed){.row_size = sizeof(type), .max = (most)})

struct overview *overview_new(uint64_t from_ns, uint64_t to_ns)
{
    struct overview *o = xcalloc(1, sizeof(*o));

    o->from_ns = from_ns;
    o->to_ns = to_ns > from_ns ? to_ns : from_ns + 1;
    o->texts = TABLE(struct keyed_row, OV_MAX_TEXTS);
    o->files = TABLE(struct ov_file, OV_MAX_FILES);
    o->files.max_key_bytes = OV_MAX_PATHS;
    o->dns = TABLE(struct ov_dns, OV_MAX_DNS);
    o->errors = TABLE(struct ov_error, OV_MAX_ERRORS);
    o->bins = TABLE(struct ov_bin, OV_MAX_BINS);
    o->notes = TABLE(struct ov_note, OV_MAX_NOTES);
    ov_process_init(o);
    o->last_process = -1;
    ov_net_init(o);
    return o;
}

void overview_free(struct overview *o)
{
    if (!o)
        return;
    ov_net_clear(o);
    keyed_clear(&o->pids);
    keyed_clear(&o->notes);
    keyed_clear(&o->bins);
    keyed_clear(&o->errors);
    keyed_clear(&o->dns);
    keyed_clear(&o->files);
    keyed_clear(&o->texts);
    free(o->processes);
    free(o);
}

void overview_event(struct overview *o, const struct sum_event *e)
{
    static const struct {
        const char *type;
        void (*add)(struct overview *, const struct sum_event *);
    } kinds[] = {{"fs", file_event},         {"http", ov_http_event},       {"net", ov_net_event},
                 {"dns", dns_event},         {"process", ov_process_event}, {"console", console_event},
                 {"syscall", syscall_event}, {"notice", notice_event}};

    o->events++;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (strcmp(e->type, kinds[i].type) == 0) {
            kinds[i].add(o, e);
            return;
        }
    }
}

void overview_finish(struct overview *o)
{
    ov_net_finish(o);
    for (size_t i = 0; i < o->process_count; i++)
        if (!o->processes[i].ended && o->processes[i].end_ns < o->to_ns)
            o->processes[i].end_ns = o->to_ns;
}
