/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/eval.h"

#define KINDS "console, dns, file, fs, http, metric, net, process, syscall"
#define SORT_SLACK 4096 /* events kept beyond those wanted before the first are dropped */

static const struct cli_option options[] = {
    {"source", "LIST", "Only sources that begin with one of these, such as fs.open,net.", NULL, 's', false, false},
    {"sourcetype", "LIST", "Only these kinds: " KINDS, NULL, 't', false, false},
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
    {"json", NULL, "One JSON object per line", NULL, 'j', false, false},
    {"color", "WHEN", "Colours: always (or no value), never, auto", "always|never|auto", 0, true, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope events", "the last 20 events of the last session"},
    {"scope events -t net -f", "connections as they come"},
    {"scope events -s fs.open -m /etc/", "which files below /etc were opened"},
    {"scope events -a --sort file_write_bytes | head", "the biggest writers"},
    {"scope events -j -a | jq .data", "everything, for another program"},
    {"scope events 9Fa", "everything about one event"},
    {0},
};

/* --- what is known about a process from its start message --- */

struct proc_info {
    int64_t pid;
    json_t *process;
};

struct view {
    char **sources, **types, **fields; /* NULL-terminated, or NULL */
    const char *match, *sort;
    struct eval *eval;
    bool json, reverse, allfields;
    unsigned width;
    struct proc_info *procs;
    size_t proc_count, proc_cap;
    uint64_t evaluated, threw, damaged;
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

static void remember_process(struct view *v, json_t *start)
{
    json_t *process = json_object_get(json_object_get(start, "info"), "process");
    json_int_t pid = json_integer_value(json_object_get(process, "pid"));

    if (!json_is_object(process) || pid <= 0)
        return;
    for (size_t i = v->proc_count; i-- > 0;) {
        if (v->procs[i].pid == pid) {
            json_decref(v->procs[i].process);
            v->procs[i].process = json_incref(process);
            return;
        }
    }
    if (v->proc_count == v->proc_cap) {
        v->proc_cap = v->proc_cap ? v->proc_cap * 2 : 64;
        v->procs = xrealloc(v->procs, v->proc_cap, sizeof(*v->procs));
    }
    v->procs[v->proc_count++] = (struct proc_info){pid, json_incref(process)};
}

static json_t *find_process(const struct view *v, json_int_t pid)
{
    for (size_t i = v->proc_count; i-- > 0;)
        if (v->procs[i].pid == pid)
            return v->procs[i].process;
    return NULL;
}

/* --- selecting --- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static bool begins_with_one(char **list, const char *text)
{
    for (; *list; list++)
        if (strncmp(*list, text, strlen(*list)) == 0)
            return true;
    return false;
}

static bool equals_one(char **list, const char *text)
{
    for (; *list; list++)
        if (strcmp(*list, text) == 0)
            return true;
    return false;
}

/* Globals of --eval: the members of the event, and what the process's start message adds. */
static bool eval_event(struct view *v, json_t *body)
{
    static const char *const names[] = {"uid", "gid", "username", "groupname"};
    json_t *globals = json_object(), *process, *value;
    const char *key;
    int rc;

    process = find_process(v, json_integer_value(json_object_get(body, "pid")));
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

static bool needs_parsing(const struct view *v)
{
    return v->sources || v->types || v->eval || v->sort;
}

/* True if a line can't pass a list, as its bytes show: events are written without blanks, and plain words without
 * escapes. Saves most of the parsing; who passes is parsed and compared all the same. */
static bool rules_out(char **list, const char *member, bool whole, const char *line, size_t len)
{
    char text[128];

    for (; list && *list; list++) {
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

/* Decides on a line; *ret is the parsed event if it had to be parsed. Lines of other kinds (start messages, metrics on
 * the same destination) are no events. */
static bool wanted(struct view *v, const char *line, size_t len, json_t **ret)
{
    json_t *o, *body;
    bool yes;

    *ret = NULL;
    if (len < 14 || strncmp(line, "{\"type\":\"", 9) != 0) {
        o = len ? cli_json(line, len) : NULL;
        if (o)
            remember_process(v, o);
        else if (len)
            v->damaged++;
        json_decref(o);
        return false;
    }
    if (strncmp(line + 9, "evt\"", 4) != 0)
        return false;
    if (v->match && !memmem(line, len, v->match, strlen(v->match)))
        return false;
    if ((v->types && rules_out(v->types, "sourcetype", true, line, len)) ||
        (v->sources && rules_out(v->sources, "source", false, line, len)))
        return false;
    if (!needs_parsing(v))
        return true;
    o = cli_json(line, len);
    body = json_object_get(o, "body");
    if (!json_is_object(body)) {
        v->damaged++;
        json_decref(o);
        return false;
    }
    yes = (!v->sources || begins_with_one(v->sources, text_of(body, "source"))) &&
          (!v->types || equals_one(v->types, text_of(body, "sourcetype"))) && (!v->eval || eval_event(v, body));
    if (yes)
        *ret = o;
    else
        json_decref(o);
    return yes;
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

static void add_field(struct buf *b, const char *key, const json_t *value)
{
    if (b->len && b->p[b->len - 1] != '[')
        buf_char(b, ' ');
    colored(b, "\033[32m", key);
    buf_char(b, ':');
    add_value(b, value);
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
        {"fs.close", "file,file_read_bytes,file_read_ops,file_write_bytes,file_write_ops"},
        {"net.open", "net_peer_ip,net_peer_port,net_host_ip,net_host_port,net_protocol,net_transport"},
        {"net.close", "net_peer_ip,net_peer_port,net_bytes_recv,net_bytes_sent,net_close_reason,net_protocol"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
        if (strcmp(source, table[i][0]) == 0)
            return table[i][1];
    return NULL;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_data(struct view *v, struct buf *b, const char *source, json_t *data)
{
    char **own = v->fields ? NULL : split(default_fields(source)), **fields = v->fields ? v->fields : own;
    const char *key, **names;
    size_t n = 0;
    json_t *value;

    if (!json_is_object(data)) {
        if (data) {
            buf_char(b, ' ');
            add_value(b, data);
        }
        free_list(own);
        return;
    }
    names = xcalloc(json_object_size(data), sizeof(*names));
    for (char **f = fields; f && *f; f++)
        if ((value = json_object_get(data, *f)))
            add_field(b, *f, value);
    if (!fields || v->allfields) {
        json_object_foreach(data, key, value)
        {
            if (!fields || !equals_one(fields, key))
                names[n++] = key;
        }
        qsort(names, n, sizeof(*names), compare_names);
        if (fields && n)
            buf_str(b, " [[");
        for (size_t i = 0; i < n; i++)
            add_field(b, names[i], json_object_get(data, names[i]));
        if (fields && n)
            buf_str(b, "]]");
    }
    free(names);
    free_list(own);
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

static void print_text(struct view *v, uint64_t id, json_t *body)
{
    const char *source = text_of(body, "source"), *type = text_of(body, "sourcetype");
    char text[32];
    struct buf b = BUF_INIT;

    buf_char(&b, '[');
    colored(&b, "\033[34m", text_base62(id, text));
    buf_str(&b, "] ");
    buf_str(&b, text_time((uint64_t)(json_number_value(json_object_get(body, "_time")) * 1e9), text));
    buf_char(&b, ' ');
    colored(&b, "\033[95m", text_of(body, "proc"));
    buf_char(&b, ' ');
    colored(&b, color_of(type), type);
    buf_char(&b, ' ');
    colored(&b, "\033[90m", source);
    add_data(v, &b, source, json_object_get(body, "data"));
    if (v->width > 8 && (strcmp(type, "console") == 0 || strcmp(type, "file") == 0))
        cut_line(&b, v->width);
    buf_char(&b, '\n');
    fwrite(b.p, 1, b.len, stdout);
    buf_free(&b);
}

static void print_json(struct view *v, uint64_t id, json_t *event, json_t *body)
{
    static const char *const names[] = {"uid", "gid", "username", "groupname"};
    json_t *o = json_object(), *value, *process, *data = json_object_get(body, "data");
    const char *key;
    char text[16], *out;

    json_object_set_new(o, "id", json_string(text_base62(id, text)));
    json_object_foreach(body, key, value)
    {
        if (value != data)
            json_object_set(o, key, value);
    }
    process = find_process(v, json_integer_value(json_object_get(body, "pid")));
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if ((value = json_object_get(process, names[i])))
            json_object_set(o, names[i], value);
    if ((value = json_object_get(event, "_channel")))
        json_object_set(o, "_channel", value);
    if (data)
        json_object_set(o, "data", data);
    out = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(16));
    if (out) {
        text_json(out, stdout);
        putchar('\n');
    }
    free(out);
    json_decref(o);
}

static void print_event(struct view *v, uint64_t id, json_t *event)
{
    json_t *body = json_object_get(event, "body");

    if (!json_is_object(body)) {
        v->damaged++;
        return;
    }
    if (v->json)
        print_json(v, id, event, body);
    else
        print_text(v, id, body);
}

/* `parsed` may be NULL: then the line is parsed now. Consumes it. */
static void print_line(struct view *v, uint64_t id, const char *line, size_t len, json_t *parsed)
{
    if (!parsed)
        parsed = cli_json(line, len);
    if (parsed)
        print_event(v, id, parsed);
    else
        v->damaged++;
    json_decref(parsed);
}

static void print_at(struct view *v, struct lines *l, uint64_t offset)
{
    char *line;
    size_t len;

    lines_seek(l, offset);
    if (lines_next(l, &line, &len) == 1)
        print_line(v, offset, line, len, NULL);
}

static void print_members(const json_t *o, unsigned indent)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)o, key, value)
    {
        struct buf b = BUF_INIT;

        if (json_is_object(value)) {
            printf("%*s%s:\n", (int)indent, "", key);
            print_members(value, indent + 2);
            continue;
        }
        add_value(&b, value);
        table_pair(stdout, indent, key, buf_cstr(&b));
        buf_free(&b);
    }
}

static int print_single(struct view *v, struct lines *l, const char *id)
{
    static const struct {
        const char *label, *key;
    } rows[] = {{"Proc", "proc"},   {"Pid", "pid"},       {"Time", "_time"},
                {"Command", "cmd"}, {"Source", "source"}, {"Sourcetype", "sourcetype"},
                {"Host", "host"}};
    uint64_t offset, at = 0;
    json_t *event = NULL, *body, *data;
    char *line;
    size_t len;

    if (text_parse_base62(id, &offset) == 0 && offset <= INT64_MAX) {
        /* An id is right if the line before ends there. */
        if (offset) {
            lines_seek(l, offset - 1);
            at = lines_next(l, &line, &len) == 1 && len == 0 ? offset : UINT64_MAX;
        }
        lines_seek(l, offset);
        if (at == offset && lines_next(l, &line, &len) == 1 && strncmp(line, "{\"type\":\"evt\"", 13) == 0)
            event = cli_json(line, len);
    }
    body = json_object_get(event, "body");
    if (!json_is_object(body)) {
        cli_error("there is no event %s in this session", id);
        cli_hint("ids stand in brackets at the beginning of the lines of `scope events`");
        json_decref(event);
        return EXIT_FAILED;
    }
    if (v->json) {
        lines_seek(l, 0); /* for what start messages tell */
        while (lines_next(l, &line, &len) == 1 && l->start < offset)
            if (len >= 9 && strncmp(line, "{\"type\":\"", 9) != 0) {
                json_t *start = cli_json(line, len);

                remember_process(v, start);
                json_decref(start);
            }
        print_json(v, offset, event, body);
        json_decref(event);
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
    json_decref(event);
    return 0;
}

/* --- sorting --- */

struct sort_entry {
    uint64_t offset;
    double number;
    char *text; /* of strings; NULL: a number, or missing if number is NaN */
};

static bool sort_reverse;

static bool has_key(const struct sort_entry *e)
{
    return e->text || e->number == e->number;
}

static int compare_entries(const void *a, const void *b)
{
    const struct sort_entry *x = a, *y = b;
    bool no_x = !has_key(x), no_y = !has_key(y);
    int order;

    if (no_x || no_y) { /* events without the member come last, whatever the direction */
        if (no_x != no_y)
            return no_x ? 1 : -1;
        return x->offset < y->offset ? -1 : 1;
    }
    if (x->text && y->text)
        order = strcmp(x->text, y->text);
    else if (x->text || y->text)
        order = x->text ? 1 : -1;
    else
        order = x->number < y->number ? -1 : x->number > y->number;
    if (order)
        return sort_reverse ? order : -order;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static struct sort_entry sort_key(const struct view *v, uint64_t offset, json_t *event)
{
    json_t *body = json_object_get(event, "body"), *value = json_object_get(body, v->sort);
    struct sort_entry e = {.offset = offset, .number = __builtin_nan("")};

    if (!value)
        value = json_object_get(json_object_get(body, "data"), v->sort);
    if (strcmp(v->sort, "id") == 0)
        e.number = (double)offset;
    else if (json_is_number(value))
        e.number = json_number_value(value);
    else if (json_is_boolean(value))
        e.number = json_is_true(value);
    else if (json_is_string(value))
        e.text = xstrdup(json_string_value(value));
    return e;
}

/* Forgets all but the last ones. */
static size_t keep_last(struct sort_entry *list, size_t count, size_t limit)
{
    size_t over = count > limit ? count - limit : 0;

    for (size_t i = 0; i < over; i++)
        free(list[i].text);
    memmove(list, list + over, (count - over) * sizeof(*list));
    return count - over;
}

static int show_sorted(struct view *v, struct lines *l, size_t limit)
{
    struct sort_entry *list = NULL;
    size_t count = 0, cap = 0, len;
    json_t *event;
    char *line;
    int rc;

    sort_reverse = v->reverse;
    while ((rc = lines_next(l, &line, &len)) == 1) {
        if (!wanted(v, line, len, &event))
            continue;
        if (count == cap) {
            if (limit != SIZE_MAX && cap > limit + SORT_SLACK) {
                count = keep_last(list, count, limit);
            } else {
                cap = cap ? cap * 2 : 1024;
                list = xrealloc(list, cap, sizeof(*list));
            }
        }
        list[count++] = sort_key(v, l->start, event);
        json_decref(event);
    }
    if (count) {
        count = keep_last(list, count, limit);
        qsort(list, count, sizeof(*list), compare_entries);
    }
    if (count && !has_key(&list[0])) /* those without come last */
        cli_error("--sort: none of these events has a member %s with a number or a text", v->sort);
    for (size_t i = 0; i < count; i++) {
        print_at(v, l, list[i].offset);
        free(list[i].text);
    }
    free(list);
    return rc;
}

/* --- in order --- */

static int show_last(struct view *v, struct lines *l, size_t limit, uint64_t *ret_end)
{
    uint64_t *ring = xcalloc(limit, sizeof(*ring)), count = 0;
    json_t *event;
    char *line;
    size_t len;
    int rc;

    while ((rc = lines_next(l, &line, &len)) == 1) {
        if (!wanted(v, line, len, &event))
            continue;
        json_decref(event);
        ring[count++ % limit] = l->start;
    }
    *ret_end = l->offset + l->pos;
    for (uint64_t i = count > limit ? count - limit : 0; i < count; i++)
        print_at(v, l, ring[i % limit]);
    free(ring);
    return rc;
}

static int show_all(struct view *v, struct lines *l)
{
    json_t *event;
    char *line;
    size_t len;
    int rc;

    while ((rc = lines_next(l, &line, &len)) == 1) {
        if (wanted(v, line, len, &event))
            print_line(v, l->start, line, len, event);
        if (ferror(stdout))
            return 0;
    }
    return rc;
}

static int follow(struct view *v, struct lines *l, const struct session *s)
{
    int rc = 0;

    for (;;) {
        bool running = session_running(s); /* before reading: what is written until its end is seen */

        rc = show_all(v, l);
        if (rc < 0 || !running || fflush(stdout) || ferror(stdout) || !cli_pause())
            return rc;
    }
}

static int show(struct view *v, const struct args *a, const struct session *s, struct lines *l, int64_t last)
{
    bool filtered = v->sources || v->types || v->match || v->eval;
    bool all = args_has(a, "all") || (filtered && !args_has(a, "last"));
    uint64_t end = 0;
    int rc;

    if (a->word_count)
        return print_single(v, l, a->words[0]);
    if (v->sort) {
        rc = show_sorted(v, l, all ? SIZE_MAX : (size_t)last);
    } else if (all) {
        rc = args_has(a, "follow") ? follow(v, l, s) : show_all(v, l);
    } else {
        rc = show_last(v, l, (size_t)last, &end);
        if (rc == 0 && args_has(a, "follow")) {
            lines_seek(l, end);
            rc = follow(v, l, s);
        }
    }
    if (rc < 0) {
        cli_error("reading the events: %s", strerror(-rc));
        return EXIT_FAILED;
    }
    if (v->damaged || l->too_long)
        cli_error("%llu lines are damaged and were left out", (unsigned long long)v->damaged + l->too_long);
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

static int run(struct args *a)
{
    static const char *const conflicts[][2] = {
        {"fields", "allfields"}, {"last", "all"}, {"json", "color"}, {"follow", "sort"}, {"follow", "reverse"}};
    struct view v = {.match = args_get(a, "match"),
                     .sort = args_get(a, "sort"),
                     .json = args_has(a, "json"),
                     .reverse = args_has(a, "reverse"),
                     .allfields = args_has(a, "allfields")};
    int64_t last = 20;
    struct session s;
    struct lines l;
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
    rc = cli_session(a, &s);
    if (rc) {
        eval_free(v.eval);
        return rc;
    }
    if (v.sort && strncmp(v.sort, "data.", 5) == 0) /* as --eval has it */
        v.sort += 5;
    cli_color(a);
    v.width = cli_width();
    v.sources = split(args_get(a, "source"));
    v.types = split(args_get(a, "sourcetype"));
    v.fields = split(args_get(a, "fields"));
    rc = cli_open(&s, "events", s.event_dest, &l);
    if (rc == 0) {
        rc = show(&v, a, &s, &l, last);
        lines_close(&l);
    } else {
        rc = rc == -ENOTSUP ? 0 : EXIT_FAILED;
    }
    free_list(v.sources);
    free_list(v.types);
    free_list(v.fields);
    for (size_t i = 0; i < v.proc_count; i++)
        json_decref(v.procs[i].process);
    free(v.procs);
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
