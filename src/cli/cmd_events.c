/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/eval.h"
#include "cli/records.h"
#include "event/fields.h"
#include "sink/ndjson.h"

#define KINDS "console, dns, file, fs, http, metric, net, notice, process, syscall"
#define TIME_HELP "--%s takes a time such as 5m (ago), 15:04, '2025-12-31 15:04:05' or 1767193445.5, not '%s'"
#define SORT_SLACK 4096 /* events kept beyond those wanted before the first are dropped */

static const struct cli_option options[] = {
    {"source", "LIST", "Only sources that begin with one of these, such as fs.open,net.", NULL, 's', false, false},
    {"sourcetype", "LIST", "Only these kinds: " KINDS, NULL, 't', false, false},
    {"pid", "LIST", "Only these processes, by their own numbers or those of the host", NULL, 'p', false, false},
    {"since", "TIME", "Only from this time on, such as 5m (ago), 15:04 or '2025-12-31 15:04:05'", NULL, 0, false, false},
    {"until", "TIME", "Only up to this time", NULL, 0, false, false},
    {"match", "TEXT", "Only events whose line contains this text", NULL, 'm', false, false},
    {"eval", "JS", "Only events for which this JavaScript expression is true", NULL, 'e', false, false},
    {"fields", "LIST", "Members of the event's data to show", NULL, 0, false, false},
    {"allfields", NULL, "Show the members that are left out by default as well, in [[ ]]", NULL, 0, false, false},
    {"last", "N", "The last N, after all filters (default 20; all with a filter)", NULL, 'n', false, false},
    {"all", NULL, "All events", NULL, 'a', false, false},
    {"follow", NULL, "Go on as events come, until the session ends", NULL, 'f', false, false},
    {"sort", "FIELD",
     "Those that are shown, the greatest first by a member of the event or of its data; with -a of all", NULL, 0, false,
     false},
    {"reverse", NULL, "With --sort: the smallest first", NULL, 'r', false, false},
    {"count", NULL, "Only how many there are", NULL, 'c', false, false},
    {"json", NULL, "The lines of NDJSON that a destination gets", NULL, 'j', false, false},
    {"color", "WHEN", "Colours: always (or no value), never, auto", "always|never|auto", 0, true, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope events", "the last 20 events of the last session"},
    {"scope events -t net -f", "connections as they come"},
    {"scope events -s fs.open -m /etc/", "which files below /etc were opened"},
    {"scope events -a --sort file_write_bytes | head", "the biggest writers"},
    {"scope events -j -a | jq .body.data", "everything, for another program"},
    {"scope events -t http --since 5m -c", "how many requests and responses in the last five minutes"},
    {"scope events 9Fa", "everything about one event"},
    {0},
};

/* One member of an event's data. */
struct member {
    const char *name;
    const json_t *json; /* NULL: field */
    struct tm_field field;
};

struct view {
    struct records_want want;
    char **fields; /* NULL-terminated, or NULL */
    const char *sort;
    struct eval *eval;
    bool json, reverse, allfields;
    unsigned width;
    uint64_t evaluated, threw;
    /* Of the event that is printed. */
    struct buf line, scratch;
    struct member *members;
    size_t member_room;
    const char *default_list; /* that default_fields was made of */
    char **default_fields;
};

static char **split(const char *list)
{
    char **words = NULL;
    size_t n = 0;

    if (!list)
        return NULL;
    while (*list) {
        size_t len = strcspn(list, ",");

        if (len) {
            words = xrealloc(words, n + 2, sizeof(char *));
            words[n++] = xstrndup(list, len);
            words[n] = NULL;
        }
        list += len;
        list += *list == ',';
    }
    if (!words)
        words = xcalloc(1, sizeof(char *));
    return words;
}

static void free_list(char **list)
{
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
}

/* --- selecting --- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static bool equals_one(char **list, const char *text)
{
    for (; *list; list++)
        if (strcmp(*list, text) == 0)
            return true;
    return false;
}

/* Globals of --eval: the members of the event, and what is known of its process besides. */
static bool eval_event(struct view *v, struct records *r)
{
    static const char *const names[] = {"uid", "gid", "username", "groupname"};
    json_t *globals, *process, *value, *body = json_object_get(records_json(r), "body");
    const char *key;
    int rc;

    if (!body)
        return false;
    globals = json_object();
    process = records_process(r);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        value = json_object_get(process, names[i]);
        json_object_set_new(globals, names[i], value ? json_incref(value) : json_null());
    }
    json_object_set_new(globals, "args", json_null());
    json_object_set(globals, "args", json_object_get(body, "cmd"));
    json_object_foreach(body, key, value) json_object_set(globals, key, value);
    rc = eval_match(v->eval, globals);
    json_decref(globals);
    v->evaluated++;
    if (rc < 0)
        v->threw++;
    return rc > 0;
}

/* The next event that passes everything: as records_next(). */
static int next_event(struct view *v, struct records *r)
{
    int rc;

    while ((rc = records_next(r)) == 1 && v->eval && !eval_event(v, r)) {
    }
    return rc;
}

/* --- printing --- */

static const char *color_of(const char *sourcetype)
{
    return strcmp(sourcetype, "console") == 0 ? "\033[32m"
           : strcmp(sourcetype, "http") == 0  ? "\033[34m"
           : strcmp(sourcetype, "fs") == 0    ? "\033[36m"
           : strcmp(sourcetype, "net") == 0   ? "\033[31m"
                                              : "\033[33m";
}

static void colored(struct buf *b, const char *color, const char *text)
{
    if (cli_colors)
        buf_str(b, color);
    text_clean(b, text, strlen(text));
    if (cli_colors)
        buf_str(b, "\033[0m");
}

static void add_value(struct buf *b, const json_t *value)
{
    char *text;

    if (json_is_string(value)) {
        text_clean(b, json_string_value(value), json_string_length(value));
        return;
    }
    text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    if (text)
        text_clean(b, text, strlen(text));
    free(text);
}

static void add_typed_value(struct view *v, struct buf *b, const struct tm_field *f)
{
    if (f->type == TM_STR) {
        text_clean(b, f->v.str.p ? f->v.str.p : "", f->v.str.p ? f->v.str.len : 0);
        return;
    }
    buf_reset(&v->scratch);
    ndjson_value(&v->scratch, f);
    text_clean(b, v->scratch.p, v->scratch.len);
}

static void add_member(struct view *v, struct buf *b, const struct member *m)
{
    if (b->len && b->p[b->len - 1] != '[')
        buf_char(b, ' ');
    colored(b, "\033[32m", m->name);
    buf_char(b, ':');
    if (m->json)
        add_value(b, m->json);
    else
        add_typed_value(v, b, &m->field);
}

/* Members shown by default, for sources with many. */
static const char *default_fields(const char *source)
{
    static const char *const table[][2] = {
        {"http.req", "http_ambiguities,http_host,http_method,http_request_content_length,http_scheme,http_target,"
                     "rpc_service,rpc_method"},
        {"http.resp",
         "http_ambiguities,http_host,http_method,http_scheme,http_target,http_response_content_length,http_status,"
         "http_status_code,"
         "rpc_service,rpc_method,rpc_grpc_status_code"},
        {"fs.open", "file"},
        {"notice.file.write", "why,op,file,file_from,file_to,rule"},
        {"notice.file.read", "why,op,file,file_to,rule"},
        {"notice.file.send", "why,file,bytes,net_peer_ip,net_peer_port,rule"},
        {"notice.file.mode", "why,file,file_mode,rule"},
        {"notice.exec", "why,file,place,rule"},
        {"notice.net", "why,domain,net_peer_ip,net_peer_port,rule"},
        {"notice.dns", "why,domain,length,labels,record_type,rule"},
        {"notice.held", "held,held_total,rule"},
        {"fs.close", "file,file_read_bytes,file_read_ops,file_write_bytes,file_write_ops"},
        {"proc.crash", "signal,exit_code,code,where,at,missing,dir"},
        {"net.open", "net_peer_ip,net_peer_port,net_host_ip,net_host_port,net_protocol,net_transport"},
        {"net.close", "net_peer_ip,net_peer_port,net_bytes_recv,net_bytes_sent,net_close_reason,net_protocol"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
        if (strcmp(source, table[i][0]) == 0)
            return table[i][1];
    return NULL;
}

static int compare_members(const void *a, const void *b)
{
    return strcmp(((const struct member *)a)->name, ((const struct member *)b)->name);
}

static struct member *room_for(struct view *v, size_t count)
{
    if (count > v->member_room) {
        v->member_room = count;
        v->members = xrealloc(v->members, count, sizeof(*v->members));
    }
    return v->members;
}

static size_t members_of_json(struct view *v, json_t *data)
{
    struct member *m = room_for(v, json_object_size(data));
    const char *key;
    json_t *value;
    size_t n = 0;

    json_object_foreach(data, key, value) m[n++] = (struct member){.name = key, .json = value};
    return n;
}

static size_t members_of_record(struct view *v, const struct ev_record *e)
{
    struct member *m = room_for(v, e->field_count * TM_GROUP_FIELDS);
    struct tm_field group[TM_GROUP_FIELDS];
    size_t n = 0;

    for (size_t i = 0; i < e->field_count; i++) {
        const bool is_group = tm_is_group(&e->fields[i]);

        if (is_group)
            tm_expand_group(e->who, e->fields[i].type, group);
        for (size_t k = 0; k < (is_group ? TM_GROUP_FIELDS : 1); k++) {
            m[n].json = NULL;
            m[n].field = is_group ? group[k] : e->fields[i];
            m[n].name = m[n].field.name;
            n++;
        }
    }
    return n;
}

/* Those that are shown of a source: what the user says, else what there is by default; NULL: all. */
static char **fields_of(struct view *v, const char *source)
{
    const char *list = v->fields ? NULL : default_fields(source);

    if (v->fields || !list)
        return v->fields;
    if (list != v->default_list) { /* constants */
        free_list(v->default_fields);
        v->default_fields = split(list);
        v->default_list = list;
    }
    return v->default_fields;
}

static void add_data(struct view *v, struct buf *b, const char *source, size_t count)
{
    char **fields = fields_of(v, source);
    struct member *m = v->members;
    size_t n = 0;

    for (char **f = fields; f && *f; f++)
        for (size_t i = 0; i < count; i++)
            if (strcmp(m[i].name, *f) == 0)
                add_member(v, b, &m[i]);
    if (fields && !v->allfields)
        return;
    for (size_t i = 0; i < count; i++)
        if (!fields || !equals_one(fields, m[i].name))
            m[n++] = m[i];
    if (n)
        qsort(m, n, sizeof(*m), compare_members);
    if (fields && n)
        buf_str(b, " [[");
    for (size_t i = 0; i < n; i++)
        add_member(v, b, &m[i]);
    if (fields && n)
        buf_str(b, "]]");
}

/* Cuts a coloured line to the terminal: escape sequences take no columns. */
static void cut_line(struct buf *b, unsigned width)
{
    unsigned columns = 0;

    for (size_t i = 0; i < b->len; i++) {
        if (b->p[i] == '\033') {
            while (i < b->len && b->p[i] != 'm')
                i++;
            continue;
        }
        if (((unsigned char)b->p[i] & 0xc0) == 0x80)
            continue;
        if (++columns > width - 1 && text_columns(b->p + i, b->len - i) > 1) {
            b->len = i;
            buf_str(b, cli_colors ? "\033[0m\u2026" : "\u2026");
            return;
        }
    }
}

/* What stands before the data: in v->line. */
static void begin_line(struct view *v, uint64_t id, uint64_t time_ns, const char *proc, const char *type, const char *source)
{
    struct buf *b = &v->line;
    char text[32];

    buf_reset(b);
    buf_char(b, '[');
    colored(b, "\033[34m", text_base62(id, text));
    buf_str(b, "] ");
    buf_str(b, text_time(time_ns, text));
    buf_char(b, ' ');
    colored(b, "\033[95m", proc);
    buf_char(b, ' ');
    colored(b, color_of(type), type);
    buf_char(b, ' ');
    colored(b, "\033[90m", source);
}

static void end_line(struct view *v, const char *type)
{
    if (v->width > 8 && (strcmp(type, "console") == 0 || strcmp(type, "file") == 0))
        cut_line(&v->line, v->width);
    buf_char(&v->line, '\n');
    fwrite(v->line.p, 1, v->line.len, stdout);
}

static void print_json(struct view *v, uint64_t id, json_t *body)
{
    const char *source = text_of(body, "source"), *type = text_of(body, "sourcetype");
    json_t *data = json_object_get(body, "data");

    begin_line(v, id, (uint64_t)(json_number_value(json_object_get(body, "_time")) * 1e9), text_of(body, "proc"), type,
               source);
    if (json_is_object(data)) {
        add_data(v, &v->line, source, members_of_json(v, data));
    } else if (data) {
        buf_char(&v->line, ' ');
        add_value(&v->line, data);
    }
    end_line(v, type);
}

static void print_typed(struct view *v, uint64_t id, const struct ev_record *e)
{
    begin_line(v, id, e->time_ns, e->who->proc ? e->who->proc : "", e->sourcetype, e->source);
    if (e->kind == EV_EVENT) {
        add_data(v, &v->line, e->source, members_of_record(v, e));
    } else {
        buf_char(&v->line, ' ');
        text_clean(&v->line, e->text, e->text_len);
    }
    end_line(v, e->sourcetype);
}

static void print_event(struct view *v, struct records *r)
{
    const struct ev_record *typed = records_typed(r);
    json_t *event;

    if (v->json)
        records_print(r, stdout);
    else if (typed)
        print_typed(v, records_id(r), typed);
    else if ((event = records_json(r)))
        print_json(v, records_id(r), json_object_get(event, "body"));
}

static void print_members(const json_t *o, unsigned indent)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)o, key, value)
    {
        struct buf b = BUF_INIT;

        if (json_is_object(value)) {
            struct buf name = BUF_INIT;

            text_clean(&name, key, strlen(key));
            printf("%*s%s:\n", (int)indent, "", buf_cstr(&name));
            buf_free(&name);
            print_members(value, indent + 2);
            continue;
        }
        add_value(&b, value);
        table_pair(stdout, indent, key, buf_cstr(&b));
        buf_free(&b);
    }
}

static int print_single(struct view *v, struct records *r, const char *id)
{
    static const struct {
        const char *label, *key;
    } rows[] = {{"Proc", "proc"},   {"Pid", "pid"},       {"Time", "_time"},
                {"Command", "cmd"}, {"Source", "source"}, {"Sourcetype", "sourcetype"},
                {"Host", "host"}};
    uint64_t number;
    json_t *event = NULL, *body, *data;

    if (text_parse_base62(id, &number) == 0 && records_seek(r, number) == 1)
        event = records_json(r);
    body = json_object_get(event, "body");
    if (!body) {
        cli_error("there is no event %s in this session", id);
        cli_hint("ids stand in brackets at the beginning of the lines of `scope events`");
        return EXIT_FAILED;
    }
    if (v->json) {
        records_print(r, stdout);
        return 0;
    }
    table_pair(stdout, 0, "ID", id);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        json_t *value = json_object_get(body, rows[i].key);
        struct buf b = BUF_INIT;
        char text[32];

        if (!value)
            continue;
        if (strcmp(rows[i].key, "_time") == 0) {
            double t = json_number_value(value);

            buf_printf(&b, "%s.%06u", text_time((uint64_t)(t * 1e9), text), (unsigned)((uint64_t)(t * 1e6) % 1000000));
        } else {
            if (json_is_string(value))
                buf_str(&b, json_string_value(value));
            else
                add_value(&b, value);
        }
        table_pair(stdout, 0, rows[i].label, buf_cstr(&b));
        buf_free(&b);
    }
    table_pair(stdout, 0, "Channel", text_of(event, "_channel"));
    data = json_object_get(body, "data");
    if (json_is_object(data)) {
        puts("Data:");
        print_members(data, 2);
    } else {
        struct buf b = BUF_INIT;

        add_value(&b, data);
        table_pair(stdout, 0, "Data", buf_cstr(&b));
        buf_free(&b);
    }
    return 0;
}

/* --- events that are printed later than they are met --- */

/* Their lines are kept, as going back to each would mean reading much of the session again: in memory as many as were
 * asked for, all of them in a file that has no name. */
struct kept {
    uint64_t id;
    char *line; /* NULL: in the file */
    uint64_t at;
    size_t len;
    double number; /* the key of --sort ... */
    char *text;    /* ... of strings; NULL: a number, or missing if that is NaN */
};

static void forget(struct kept *k)
{
    free(k->line);
    free(k->text);
}

static void set_key(const struct view *v, struct kept *k, json_t *event)
{
    json_t *body = json_object_get(event, "body"), *value = json_object_get(body, v->sort);

    k->number = __builtin_nan("");
    if (!value)
        value = json_object_get(json_object_get(body, "data"), v->sort);
    if (strcmp(v->sort, "id") == 0)
        k->number = (double)k->id;
    else if (json_is_number(value))
        k->number = json_number_value(value);
    else if (json_is_boolean(value))
        k->number = json_is_true(value);
    else if (json_is_string(value))
        k->text = xstrdup(json_string_value(value));
}

static bool has_key(const struct kept *k)
{
    return k->text || k->number == k->number;
}

static bool sort_reverse;

static int compare_kept(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    bool no_x = !has_key(x), no_y = !has_key(y);
    int order;

    if (no_x || no_y) { /* events without the member come last, whatever the direction */
        if (no_x != no_y)
            return no_x ? 1 : -1;
        return x->id < y->id ? -1 : 1;
    }
    if (x->text && y->text)
        order = strcmp(x->text, y->text);
    else if (x->text || y->text)
        order = x->text ? 1 : -1;
    else
        order = x->number < y->number ? -1 : x->number > y->number;
    if (order)
        return sort_reverse ? order : -order;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Forgets all but the last ones. */
static size_t keep_last(struct kept *list, size_t count, size_t limit)
{
    size_t over = count > limit ? count - limit : 0;

    for (size_t i = 0; i < over; i++)
        forget(&list[i]);
    memmove(list, list + over, (count - over) * sizeof(*list));
    return count - over;
}

/* The line of an event that is not damaged, and its key. file: NULL: into memory. */
static int keep(struct view *v, struct records *r, FILE *file, struct kept *k)
{
    size_t len;
    const char *line = records_line(r, &len);

    *k = (struct kept){.id = records_id(r), .len = len};
    if (file) {
        k->at = (uint64_t)ftello(file);
        if (fwrite(line, 1, len, file) != len)
            return errno ? -errno : -EIO;
    } else {
        k->line = xmemdup(line, len);
    }
    if (v->sort)
        set_key(v, k, records_json(r));
    return 0;
}

/* All that pass, or the last ones of them, in *ret. */
static int gather(struct view *v, struct records *r, size_t limit, FILE *file, struct kept **ret, size_t *ret_count)
{
    struct kept *list = NULL;
    size_t count = 0, cap = 0;
    int rc = 0;

    if (limit != SIZE_MAX && !v->eval)
        rc = records_last(r, limit);
    while (rc >= 0 && (rc = next_event(v, r)) == 1) {
        if (!records_json(r))
            continue;
        if (count == cap) {
            if (limit != SIZE_MAX && cap > limit + SORT_SLACK) {
                count = keep_last(list, count, limit);
            } else {
                cap = cap ? cap * 2 : 1024;
                list = xrealloc(list, cap, sizeof(*list));
            }
        }
        rc = keep(v, r, file, &list[count++]);
    }
    *ret_count = count ? keep_last(list, count, limit) : 0;
    *ret = list;
    return rc;
}

static int print_kept(struct view *v, const struct kept *k, FILE *file)
{
    char *line = k->line ? k->line : xmalloc(k->len + 1);
    json_t *event;
    int rc = 0;

    if (!k->line && pread(fileno(file), line, k->len, (off_t)k->at) != (ssize_t)k->len)
        rc = -EIO;
    if (rc == 0 && v->json) {
        text_json(line, k->len, stdout);
        putchar('\n');
    } else if (rc == 0 && (event = cli_json(line, k->len))) {
        print_json(v, k->id, json_object_get(event, "body"));
        json_decref(event);
    }
    if (!k->line)
        free(line);
    return rc;
}

static int show_kept(struct view *v, struct records *r, size_t limit)
{
    FILE *file = limit == SIZE_MAX ? tmpfile() : NULL;
    struct kept *list = NULL;
    size_t count = 0;
    int rc;

    if (limit == SIZE_MAX && !file)
        return -errno;
    rc = gather(v, r, limit, file, &list, &count);
    if (file && fflush(file) != 0 && rc == 0)
        rc = -errno;
    sort_reverse = v->reverse;
    if (v->sort && count) {
        qsort(list, count, sizeof(*list), compare_kept);
        if (!has_key(&list[0])) /* those without come last */
            cli_error("--sort: none of these events has a member %s with a number or a text", v->sort);
    }
    for (size_t i = 0; i < count; i++) {
        if (rc == 0 && !ferror(stdout))
            rc = print_kept(v, &list[i], file);
        forget(&list[i]);
    }
    free(list);
    if (file)
        fclose(file);
    return rc;
}

/* --- in order --- */

static int show_all(struct view *v, struct records *r)
{
    int rc;

    while ((rc = next_event(v, r)) == 1) {
        print_event(v, r);
        if (ferror(stdout))
            return 0;
    }
    return rc;
}

/* What --eval decides on has to be looked at, all of it. */
static int show_last(struct view *v, struct records *r, size_t limit)
{
    int rc;

    if (v->eval)
        return show_kept(v, r, limit);
    rc = records_last(r, limit);
    return rc < 0 ? rc : show_all(v, r);
}

static int follow(struct view *v, struct records *r, const struct session *s)
{
    int rc = 0;

    for (;;) {
        bool running = session_running(s); /* before reading: what is written until its end is seen */

        rc = show_all(v, r);
        if (rc < 0 || !running || fflush(stdout) || ferror(stdout) || !cli_pause())
            return rc;
    }
}

static int show_count(struct view *v, struct records *r)
{
    uint64_t n = 0;
    int rc = 0;

    if (!v->eval)
        rc = records_count(r, &n);
    else
        while ((rc = next_event(v, r)) == 1)
            n++;
    if (rc == 0 && v->json)
        printf("{\"events\":%llu}\n", (unsigned long long)n);
    else if (rc == 0)
        printf("%llu\n", (unsigned long long)n);
    return rc;
}

static int show(struct view *v, const struct args *a, const struct session *s, struct records *r, int64_t last)
{
    const struct records_want *w = &v->want;
    bool filtered = w->sources || w->types || w->match || w->pid_count || w->from_ns || w->to_ns || v->eval;
    bool all = args_has(a, "all") || (filtered && !args_has(a, "last"));
    int rc;

    if (a->word_count)
        return print_single(v, r, a->words[0]);
    records_progress(r, all && !v->sort && !args_has(a, "count"));
    if (args_has(a, "count"))
        rc = show_count(v, r);
    else if (v->sort)
        rc = show_kept(v, r, all ? SIZE_MAX : (size_t)last);
    else
        rc = all ? show_all(v, r) : show_last(v, r, (size_t)last);
    if (rc == 0 && args_has(a, "follow") && !ferror(stdout))
        rc = follow(v, r, s);
    if (rc < 0) {
        cli_error("reading the events: %s", strerror(-rc));
        return EXIT_FAILED;
    }
    if (v->threw && v->threw == v->evaluated) {
        cli_error("--eval: %s, for every event", eval_error(v->eval));
        return EXIT_USAGE;
    }
    if (v->threw)
        cli_error("--eval: %s; for %llu of %llu events, which count as not matching", eval_error(v->eval),
                  (unsigned long long)v->threw, (unsigned long long)v->evaluated);
    return 0;
}

/* A kind that there is none of would silently show nothing: 0, or EXIT_USAGE after a message. */
static int check_kinds(const struct args *a)
{
    char **wanted = split(args_get(a, "sourcetype")), **kinds = split(KINDS), **known;
    int rc = 0;

    for (char **w = wanted; w && *w && rc == 0; w++) {
        for (known = kinds; *known && strcmp(*known + strspn(*known, " "), *w) != 0; known++) {
        }
        if (!*known)
            rc = cli_usage(a->command, "--sourcetype: there is no kind '%s'; there are " KINDS, *w);
    }
    free_list(wanted);
    free_list(kinds);
    return rc;
}

/* Numbers of processes and times of the command line: 0, or EXIT_USAGE after a message. */
static int parse_selection(const struct args *a, struct records_want *w)
{
    const char *since = args_get(a, "since"), *until = args_get(a, "until");
    char **pids = split(args_get(a, "pid")), *end;
    int rc = 0;

    for (char **p = pids; p && *p && rc == 0; p++) {
        unsigned long n = strtoul(*p, &end, 10);

        if (**p < '0' || **p > '9' || *end || n == 0 || n > INT32_MAX) {
            rc = cli_usage(a->command, "--pid: '%s' is not the number of a process", *p);
        } else {
            w->pids = xrealloc(w->pids, w->pid_count + 1, sizeof(*w->pids));
            w->pids[w->pid_count++] = (uint32_t)n;
        }
    }
    free_list(pids);
    if (rc == 0 && since && text_parse_time(since, &w->from_ns) < 0)
        rc = cli_usage(a->command, TIME_HELP, "since", since);
    if (rc == 0 && until && text_parse_time(until, &w->to_ns) < 0)
        rc = cli_usage(a->command, TIME_HELP, "until", until);
    w->to_ns += w->to_ns ? 999 : 0; /* all of a microsecond, which times are shown in */
    return rc;
}

static int run(struct args *a)
{
    static const char *const conflicts[][2] = {
        {"fields", "allfields"}, {"last", "all"},   {"json", "color"},   {"follow", "sort"},   {"follow", "reverse"},
        {"count", "follow"},     {"count", "sort"}, {"count", "last"}};
    struct view v = {.want.match = args_get(a, "match"),
                     .sort = args_get(a, "sort"),
                     .json = args_has(a, "json"),
                     .reverse = args_has(a, "reverse"),
                     .allfields = args_has(a, "allfields")};
    struct session s = {0};
    struct records *r;
    int64_t last = 20;
    char *error;
    int rc;

    for (size_t i = 0; i < sizeof(conflicts) / sizeof(*conflicts); i++)
        if ((rc = args_conflict(a, conflicts[i][0], conflicts[i][1])))
            return rc;
    if (v.reverse && !v.sort)
        return cli_usage(a->command, "--reverse goes with --sort");
    if ((rc = args_number(a, "last", 1, 1 << 24, &last)) || (rc = check_kinds(a)))
        return rc;
    if (args_get(a, "eval") && !(v.eval = eval_new(args_get(a, "eval"), &error))) {
        rc = cli_usage(a->command, "--eval: %s", error);
        free(error);
        return rc;
    }
    rc = parse_selection(a, &v.want);
    if (rc == 0)
        rc = cli_session(a, &s);
    if (rc)
        goto out;
    if (v.sort && strncmp(v.sort, "data.", 5) == 0) /* as --eval has it */
        v.sort += 5;
    if (v.json)
        cli_buffer();
    cli_color(a);
    v.width = cli_width();
    v.want.sources = split(args_get(a, "source"));
    v.want.types = split(args_get(a, "sourcetype"));
    v.fields = split(args_get(a, "fields"));
    rc = records_open(&s, RECORDS_EVENTS, &v.want, &r);
    if (rc == 0) {
        rc = show(&v, a, &s, r, last);
        records_close(r);
    } else {
        rc = rc == -ENOTSUP ? 0 : EXIT_FAILED;
    }
out:
    free_list(v.want.sources);
    free_list(v.want.types);
    free_list(v.fields);
    free_list(v.default_fields);
    free(v.members);
    buf_free(&v.line);
    buf_free(&v.scratch);
    free(v.want.pids);
    eval_free(v.eval);
    session_clear(&s);
    return rc;
}

const struct cli_command command_events = {
    .name = "events",
    .summary = "Show the events of a session",
    .usage = "[OPTIONS] [EVENT_ID]",
    .description = "Prints one line per event: its id, time, program, kind, source and the most telling members of its "
                   "data. With an "
                   "id: everything about that event. Filters are combined: an event has to pass all of them, and one "
                   "of the values of "
                   "a list. Lists are separated by commas.\n"
                   "In --eval expressions the event's members are variables: _time, source, sourcetype, host, proc, "
                   "cmd, args, pid, "
                   "uid, gid, username, groupname and data, an object (text for notices). An event for which the "
                   "expression throws, for "
                   "instance because data has no such member, does not match. One that takes more than 2 s for an event, or "
                   "256 MiB, ends the command.",
    .options = options,
    .more_options = cli_session_options,
    .examples = examples,
    .max_args = 1,
    .run = run,
};
