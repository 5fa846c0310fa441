/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <jansson.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/records.h"
#include "cli/report_page.h"
#include "cli/report_touched.h"
#include "summary/record.h"
#include "summary/touched.h"

#define NAMES_MAX 4      /* host names that are kept for an address */
#define EPHEMERAL 32768u /* the lowest port that Linux gives to clients, unless told otherwise */

static const struct cli_option options[] = {
    {"last", "N", "The first N rows of each table (default 20; with --json all)", NULL, 'n', false, false},
    {"all", NULL, "All rows", NULL, 'a', false, false},
    {"touched", NULL, "What it touched outside of itself: files, secrets, programs, hosts, ports", NULL, 't', false,
     false},
    {"json", NULL, "One JSON object per line", NULL, 'j', false, false},
    {"html", "FILE", "Write a page for a browser, with charts, to FILE ('-': standard output)", NULL, 0, false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope report", "what the last session did, the biggest first"},
    {"scope report --html report.html", "the same and more, with charts, as one file that can be passed on"},
    {"scope report --touched", "what an installer, or somebody else's program, left behind and looked at"},
    {"scope report -j | jq 'select(.type == \"file\") | .file'", "every file that was opened"},
    {0},
};

/* --- rows: sums under a key --- */

enum file_sum { FILE_OPENS, FILE_READ, FILE_WRITTEN, FILE_READS, FILE_WRITES, FILE_BUSY_US, FILE_CHANGES };
enum endpoint_sum { END_CONNECTIONS, END_SENT, END_RECEIVED, END_DURATION_MS };
enum process_sum { PROC_STARTS, PROC_ENDED, PROC_DURATION_MS, PROC_CPU_US, PROC_MEM_KIB };
enum notice_sum { NOTICE_COUNT, NOTICE_HELD };
enum http_sum { HTTP_COUNT, HTTP_TIMED, HTTP_DURATION_MS, HTTP_MAX_MS, HTTP_BYTES };
#define SUMS 7

struct row {
    char *key; /* parts are separated by SEPARATOR */
    size_t order;
    uint64_t n[SUMS];
    double total;  /* counters */
    char *text[4]; /* what else is to be shown; the latest */
    char *names[NAMES_MAX];
};
#define SEPARATOR '\x1f'

struct rows {
    void *tree; /* of tsearch(3) */
    struct row **list;
    size_t count, cap;
};

struct report {
    struct rows notices, files, endpoints, processes, http, crashes, counters; /* shown */
    struct rows requests, addresses, pids;
    void *open; /* struct connection, a tree of tsearch(3) */
};

/* One that has begun and not ended, for events that don't name its ends. */
struct connection {
    uint64_t channel;
    struct row *endpoint;
};

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct row *)a)->key, ((const struct row *)b)->key);
}

static struct row *find_row(struct rows *rows, const char *key)
{
    struct row wanted = {.key = (char *)key}, **found = tfind(&wanted, &rows->tree, compare_keys);

    return found ? *found : NULL;
}

static struct row *row_of(struct rows *rows, const char *key)
{
    struct row *row = find_row(rows, key);

    if (row)
        return row;
    row = xcalloc(1, sizeof(*row));
    row->key = xstrdup(key);
    row->order = rows->count;
    if (!tsearch(row, &rows->tree, compare_keys))
        abort(); /* no memory */
    if (rows->count == rows->cap) {
        rows->cap = rows->cap ? rows->cap * 2 : 64;
        rows->list = xrealloc(rows->list, rows->cap, sizeof(struct row *));
    }
    rows->list[rows->count++] = row;
    return row;
}

static void free_row(void *node)
{
    struct row *row = node;

    for (size_t i = 0; i < sizeof(row->text) / sizeof(*row->text); i++)
        free(row->text[i]);
    for (size_t i = 0; i < NAMES_MAX; i++)
        free(row->names[i]);
    free(row->key);
    free(row);
}

static void free_rows(struct rows *rows)
{
    tdestroy(rows->tree, free_row);
    free(rows->list);
}

static void set_text(char **at, const char *text)
{
    if (!text || (*at && strcmp(*at, text) == 0))
        return;
    free(*at);
    *at = xstrdup(text);
}

static void add_name(struct row *row, const char *name)
{
    for (size_t i = 0; name && *name && i < NAMES_MAX; i++) {
        if (row->names[i] && strcmp(row->names[i], name) == 0)
            return;
        if (!row->names[i]) {
            row->names[i] = xstrdup(name);
            return;
        }
    }
}

/* Of the host in an HTTP request the port is no part of the name; and an address is none. */
static void add_host(struct row *row, const char *host)
{
    size_t len = host ? strcspn(host, ":") : 0;
    char *name = xstrndup(host ? host : "", len);

    if (*name != '[' && strspn(name, "0123456789.") < len)
        add_name(row, name);
    free(name);
}

/* --- events --- */

static void file_event(struct report *r, const struct sum_event *e)
{
    const char *file = sum_text(e, "file"), *to = sum_text(e, "file_to");
    struct row *row = file ? row_of(&r->files, file) : NULL;

    if (!row)
        return;
    if (strcmp(e->source, "fs.open") == 0) {
        row->n[FILE_OPENS]++;
    } else if (strcmp(e->source, "fs.close") == 0) {
        uint64_t reads = sum_number(e, "file_read_ops"), writes = sum_number(e, "file_write_ops");

        row->n[FILE_READ] += sum_number(e, "file_read_bytes");
        row->n[FILE_WRITTEN] += sum_number(e, "file_write_bytes");
        row->n[FILE_READS] += reads;
        row->n[FILE_WRITES] += writes;
        row->n[FILE_BUSY_US] += sum_number(e, "duration") * (reads + writes);
    } else {
        row->n[FILE_CHANGES]++;
        if (to)
            row_of(&r->files, to)->n[FILE_CHANGES]++;
    }
}

/*
 * The other side of a connection. Who calls has a port of no meaning, often another one each time, so of connections
 * that came in the port is this side's. Which ones these are is told by the ports: the one of a service is low.
 */
static struct row *endpoint(struct report *r, const struct sum_event *e)
{
    const char *ip = sum_text(e, "net_peer_ip"), *transport = sum_text(e, "net_transport");
    uint64_t peer = sum_number(e, "net_peer_port"), host = sum_number(e, "net_host_port");
    bool in = host && host < EPHEMERAL && peer >= EPHEMERAL;
    struct row *row;
    char *key;

    if (!transport)
        return NULL;
    key = xasprintf("%llu%c%s%c%s%c%s", (unsigned long long)(in ? host : peer), SEPARATOR, in ? "in" : "out", SEPARATOR,
                    ip ? ip : "", SEPARATOR, transport);
    row = row_of(&r->endpoints, key);
    free(key);
    return row;
}

static int compare_channels(const void *a, const void *b)
{
    const struct connection *x = a, *y = b;

    return x->channel < y->channel ? -1 : x->channel > y->channel;
}

static void connection_open(struct report *r, uint64_t channel, struct row *row)
{
    struct connection *c = xcalloc(1, sizeof(*c)), **found;

    *c = (struct connection){channel, row};
    found = tsearch(c, &r->open, compare_channels);
    if (!found)
        abort(); /* no memory */
    if (*found != c)
        free(c);
}

static void connection_close(struct report *r, uint64_t channel)
{
    struct connection key = {.channel = channel}, **found = tfind(&key, &r->open, compare_channels), *c;

    if (!found)
        return;
    c = *found;
    tdelete(c, &r->open, compare_channels);
    free(c);
}

static void net_event(struct report *r, const struct sum_event *e)
{
    struct connection key = {.channel = e->channel}, **found;
    struct row *row;

    if (strcmp(e->source, "net.listen") == 0)
        return; /* has no other side */
    if (strcmp(e->source, "net.app") == 0) {
        found = tfind(&key, &r->open, compare_channels);
        if (found)
            set_text(&(*found)->endpoint->text[0], sum_text(e, "protocol"));
        return;
    }
    row = endpoint(r, e);
    if (!row)
        return;
    set_text(&row->text[0], sum_text(e, "net_protocol"));
    if (strcmp(e->source, "net.open") == 0) {
        row->n[END_CONNECTIONS]++;
        connection_open(r, key.channel, row);
    } else if (strcmp(e->source, "net.close") == 0) {
        row->n[END_SENT] += sum_number(e, "net_bytes_sent");
        row->n[END_RECEIVED] += sum_number(e, "net_bytes_recv");
        row->n[END_DURATION_MS] += sum_number(e, "duration");
        connection_close(r, key.channel);
    }
}

static void dns_event(struct report *r, const struct sum_event *e)
{
    const char *address;

    if (strcmp(e->source, "dns.resp") != 0)
        return;
    for (size_t i = 0; (address = sum_text_at(e, "addrs", i)); i++)
        add_name(row_of(&r->addresses, address), sum_text(e, "domain"));
}

static void http_event(struct report *r, const struct sum_event *e)
{
    const char *method = sum_text(e, "http_method"), *host = sum_text(e, "http_host"), *side = "client";
    int64_t ms;
    bool timed = sum_integer(e, "http_client_duration", &ms);
    char *key = xasprintf("%s%c%s", method ? method : "-", SEPARATOR, host ? host : "-"), *whole;
    struct row *row;

    if (strcmp(e->source, "http.req") == 0) {
        struct row *peer = sum_text(e, "net_peer_ip") ? endpoint(r, e) : NULL;
        const char *way = peer ? strchr(peer->key, SEPARATOR) : NULL;

        row_of(&r->requests, key)->n[HTTP_COUNT]++;
        if (way && way[1] == 'o')
            add_host(peer, host);
    } else if (strcmp(e->source, "http.resp") == 0) {
        if (!timed) {
            timed = sum_integer(e, "http_server_duration", &ms);
            side = timed ? "server" : "-";
        }
        row_of(&r->requests, key)->n[HTTP_TIMED]++;
        whole = xasprintf("%llu%c%s%c%s", (unsigned long long)sum_number(e, "http_status_code"), SEPARATOR, side,
                          SEPARATOR, key);
        row = row_of(&r->http, whole);
        free(whole);
        row->n[HTTP_COUNT]++;
        row->n[HTTP_BYTES] += sum_number(e, "http_response_content_length");
        if (timed && ms >= 0) {
            uint64_t v = (uint64_t)ms;

            row->n[HTTP_TIMED]++;
            row->n[HTTP_DURATION_MS] += v;
            if (v > row->n[HTTP_MAX_MS])
                row->n[HTTP_MAX_MS] = v;
        }
    }
    free(key);
}

/* A pid that is used again after its process has ended is another row. */
static struct row *process_row(struct report *r, const struct sum_event *e, bool starts)
{
    struct row *uses, *row;
    char *key;

    key = xasprintf("%lld", (long long)e->pid);
    uses = row_of(&r->pids, key);
    for (;;) {
        char *whole = xasprintf("%s%c%llu", key, SEPARATOR, (unsigned long long)uses->n[0]);

        row = row_of(&r->processes, whole);
        free(whole);
        if (!starts || !row->n[PROC_ENDED])
            break;
        uses->n[0]++;
    }
    free(key);
    return row;
}

/* Each one is a row. */
static void crash_event(struct report *r, const struct sum_event *e)
{
    char *key = xasprintf("%lld%c%zu", (long long)e->pid, SEPARATOR, r->crashes.count);
    struct row *row = row_of(&r->crashes, key);
    int64_t exit_code;

    free(key);
    set_text(&row->text[0], e->proc);
    set_text(&row->text[1], sum_text(e, "signal"));
    if (!row->text[1] && sum_integer(e, "exit_code", &exit_code))
        row->text[1] = xasprintf("%lld", (long long)exit_code);
    set_text(&row->text[2], sum_text(e, "at") ? sum_text(e, "at") : sum_text(e, "missing"));
    set_text(&row->text[3], sum_text(e, "dir"));
}

static void process_event(struct report *r, const struct sum_event *e)
{
    bool starts = strcmp(e->source, "proc.start") == 0;
    int64_t exit_code;
    struct row *row;

    if (strcmp(e->source, "proc.crash") == 0)
        crash_event(r, e);
    if (!starts && strcmp(e->source, "proc.exit") != 0)
        return;
    row = process_row(r, e, starts);
    set_text(&row->text[0], e->proc);
    set_text(&row->text[1], e->cmd);
    if (starts) {
        row->n[PROC_STARTS]++;
        return;
    }
    row->n[PROC_ENDED] = 1;
    row->n[PROC_DURATION_MS] = sum_number(e, "duration");
    row->n[PROC_CPU_US] = sum_number(e, "cpu");
    row->n[PROC_MEM_KIB] = sum_number(e, "mem_peak");
    if (sum_text(e, "signal")) {
        set_text(&row->text[2], sum_text(e, "signal"));
    } else if (sum_integer(e, "exit_code", &exit_code)) {
        char *code = xasprintf("%lld", (long long)exit_code);

        set_text(&row->text[2], code);
        free(code);
    }
}

/* By rule; what was held back belongs to it, too. What it was about last is shown. */
static void notice_event(struct report *r, const struct sum_event *e)
{
    static const char *const about[] = {"file", "domain", "net_peer_ip"};
    const char *rule = sum_text(e, "rule"), *what = NULL;
    struct row *row = rule ? row_of(&r->notices, rule) : NULL;

    if (!row)
        return;
    if (strcmp(e->source, "notice.held") == 0) {
        row->n[NOTICE_HELD] += sum_number(e, "held");
        return;
    }
    row->n[NOTICE_COUNT]++;
    for (size_t i = 0; i < sizeof(about) / sizeof(*about) && !what; i++)
        what = sum_text(e, about[i]);
    set_text(&row->text[0], e->proc);
    set_text(&row->text[1], what);
    set_text(&row->text[2], sum_text(e, "why"));
    set_text(&row->text[3], e->source);
}

static void add_event(void *ctx, const struct sum_event *e)
{
    struct report *r = ctx;

    if (strcmp(e->type, "fs") == 0)
        file_event(r, e);
    else if (strcmp(e->type, "net") == 0)
        net_event(r, e);
    else if (strcmp(e->type, "dns") == 0)
        dns_event(r, e);
    else if (strcmp(e->type, "http") == 0)
        http_event(r, e);
    else if (strcmp(e->type, "process") == 0)
        process_event(r, e);
    else if (strcmp(e->type, "notice") == 0)
        notice_event(r, e);
}

/* Who takes the events of a session. */
typedef void (*event_fn)(void *ctx, const struct sum_event *e);

static int read_events(struct records *from, event_fn take, void *ctx)
{
    int rc;

    while ((rc = records_next(from)) == 1) {
        const struct ev_record *record = records_typed(from);
        const json_t *o = record ? NULL : records_json(from);
        struct sum_event e;

        if (record ? sum_event_of_record(&e, record) : o && sum_event_of_json(&e, o))
            take(ctx, &e);
    }
    return rc;
}

static int read_metrics(struct report *r, struct records *from)
{
    struct sample s;
    int rc;

    while ((rc = sample_next(from, &s)) == 1) {
        if (s.type && strcmp(s.type, "counter") == 0) {
            struct row *row = row_of(&r->counters, s.name);

            row->total += s.value;
            set_text(&row->text[0], s.unit);
        }
        sample_clear(&s);
    }
    return rc;
}

/* The parts of a key, of which the last one may hold separators: pointers into *ret_copy. Numbers come first, so that
 * texts from events can't pass for them. */
static void split_key(const struct row *row, char **ret_copy, const char *parts[4])
{
    char *p = *ret_copy = xstrdup(row->key);

    for (int i = 0; i < 4; i++) {
        parts[i] = p ? p : "";
        p = p && i < 3 ? strchr(p, SEPARATOR) : NULL;
        if (p)
            *p++ = '\0';
    }
}

/* Requests without a response are a row without a status. */
static void add_unanswered(struct report *r)
{
    for (size_t i = 0; i < r->requests.count; i++) {
        const struct row *q = r->requests.list[i];
        char *key;

        if (q->n[HTTP_COUNT] <= q->n[HTTP_TIMED])
            continue;
        key = xasprintf("0%c-%c%s", SEPARATOR, SEPARATOR, q->key);
        row_of(&r->http, key)->n[HTTP_COUNT] += q->n[HTTP_COUNT] - q->n[HTTP_TIMED];
        free(key);
    }
}

static void add_names(struct report *r)
{
    for (size_t i = 0; i < r->endpoints.count; i++) {
        struct row *e = r->endpoints.list[i];
        const char *parts[4];
        const struct row *known;
        char *copy;

        split_key(e, &copy, parts);
        known = find_row(&r->addresses, parts[2]);
        free(copy);
        for (size_t k = 0; known && k < NAMES_MAX; k++)
            add_name(e, known->names[k]);
    }
}

/* --- order --- */

/* By weight, then by the order in which they first came. */
static int by_weight(uint64_t x, uint64_t y, const struct row *a, const struct row *b)
{
    return x != y ? (x > y ? -1 : 1) : a->order < b->order ? -1 : a->order > b->order;
}

static int compare_notices(const void *a, const void *b)
{
    const struct row *x = *(struct row *const *)a, *y = *(struct row *const *)b;

    return by_weight(x->n[NOTICE_COUNT] + x->n[NOTICE_HELD], y->n[NOTICE_COUNT] + y->n[NOTICE_HELD], x, y);
}

static int compare_files(const void *a, const void *b)
{
    const struct row *x = *(struct row *const *)a, *y = *(struct row *const *)b;
    int order = by_weight(x->n[FILE_READ] + x->n[FILE_WRITTEN], y->n[FILE_READ] + y->n[FILE_WRITTEN], x, x);

    return order ? order : by_weight(x->n[FILE_OPENS], y->n[FILE_OPENS], x, y);
}

static int compare_endpoints(const void *a, const void *b)
{
    const struct row *x = *(struct row *const *)a, *y = *(struct row *const *)b;
    int order = by_weight(x->n[END_SENT] + x->n[END_RECEIVED], y->n[END_SENT] + y->n[END_RECEIVED], x, x);

    return order ? order : by_weight(x->n[END_CONNECTIONS], y->n[END_CONNECTIONS], x, y);
}

static int compare_processes(const void *a, const void *b)
{
    const struct row *x = *(struct row *const *)a, *y = *(struct row *const *)b;

    return by_weight(x->n[PROC_CPU_US], y->n[PROC_CPU_US], x, y);
}

static int compare_http(const void *a, const void *b)
{
    const struct row *x = *(struct row *const *)a, *y = *(struct row *const *)b;

    return by_weight(x->n[HTTP_COUNT], y->n[HTTP_COUNT], x, y);
}

static int compare_crashes(const void *a, const void *b)
{
    const struct row *x = *(struct row *const *)a, *y = *(struct row *const *)b;

    return x->order < y->order ? -1 : x->order > y->order;
}

static int compare_counters(const void *a, const void *b)
{
    return strcmp((*(struct row *const *)a)->key, (*(struct row *const *)b)->key);
}

/* --- printing --- */

static void add_text(struct buf *b, const char *key, const char *value)
{
    if (!value || !*value)
        return;
    buf_printf(b, ",\"%s\":", key);
    buf_json_str(b, value);
}

static void add_uint(struct buf *b, const char *key, uint64_t value)
{
    buf_printf(b, ",\"%s\":%llu", key, (unsigned long long)value);
}

static void cell_ms(struct table *t, uint64_t ms)
{
    char text[32];

    table_cell(t, text_duration(ms * 1000000u, text));
}

/* 0 is no status: the response is missing. */
static const char *status_text(const char *status)
{
    return strcmp(status, "0") == 0 ? "-" : status;
}

static void notice_json(struct buf *b, const struct row *row)
{
    add_text(b, "rule", row->key);
    add_uint(b, "count", row->n[NOTICE_COUNT]);
    add_uint(b, "held", row->n[NOTICE_HELD]);
    add_text(b, "source", row->text[3]);
    add_text(b, "proc", row->text[0]);
    add_text(b, "why", row->text[2]);
    add_text(b, "about", row->text[1]);
}

static void notice_cells(struct table *t, const struct row *row)
{
    table_uint(t, row->n[NOTICE_COUNT]);
    table_uint(t, row->n[NOTICE_HELD]);
    table_cell(t, row->key);
    table_cell(t, row->text[0] ? row->text[0] : "-");
    table_cell(t, row->text[2] ? row->text[2] : "-");
    table_cell(t, row->text[1] ? row->text[1] : "-");
}

static void file_json(struct buf *b, const struct row *row)
{
    add_text(b, "file", row->key);
    add_uint(b, "opens", row->n[FILE_OPENS]);
    add_uint(b, "bytes_read", row->n[FILE_READ]);
    add_uint(b, "bytes_written", row->n[FILE_WRITTEN]);
    add_uint(b, "reads", row->n[FILE_READS]);
    add_uint(b, "writes", row->n[FILE_WRITES]);
    add_uint(b, "changes", row->n[FILE_CHANGES]);
    add_uint(b, "duration_us", row->n[FILE_BUSY_US]);
}

static void file_cells(struct table *t, const struct row *row)
{
    char when[32];

    table_uint(t, row->n[FILE_READ]);
    table_uint(t, row->n[FILE_WRITTEN]);
    table_uint(t, row->n[FILE_OPENS]);
    table_uint(t, row->n[FILE_CHANGES]);
    table_cell(t, text_duration(row->n[FILE_BUSY_US] * 1000, when));
    table_cell(t, row->key);
}

static void endpoint_json(struct buf *b, const struct row *row)
{
    const char *parts[4], *comma = "";
    char *copy;

    split_key(row, &copy, parts);
    add_text(b, "ip", parts[2]);
    add_text(b, "net_transport", parts[3]);
    if (*parts[2])
        buf_printf(b, ",\"port\":%s", parts[0]);
    add_text(b, "direction", parts[1]);
    add_text(b, "net_protocol", row->text[0]);
    buf_str(b, ",\"names\":[");
    for (size_t i = 0; i < NAMES_MAX && row->names[i]; i++, comma = ",") {
        buf_str(b, comma);
        buf_json_str(b, row->names[i]);
    }
    buf_char(b, ']');
    add_uint(b, "connections", row->n[END_CONNECTIONS]);
    add_uint(b, "duration", row->n[END_DURATION_MS]);
    add_uint(b, "bytes_sent", row->n[END_SENT]);
    add_uint(b, "bytes_received", row->n[END_RECEIVED]);
    free(copy);
}

static void endpoint_cells(struct table *t, const struct row *row)
{
    struct buf names = BUF_INIT;
    const char *parts[4];
    char *copy;

    split_key(row, &copy, parts);
    for (size_t i = 0; i < NAMES_MAX && row->names[i]; i++)
        buf_printf(&names, "%s%s", i ? " " : "", row->names[i]);
    table_uint(t, row->n[END_SENT]);
    table_uint(t, row->n[END_RECEIVED]);
    table_uint(t, row->n[END_CONNECTIONS]);
    cell_ms(t, row->n[END_DURATION_MS]);
    table_cell(t, parts[3]);
    table_cell(t, *parts[2] ? parts[2] : "-");
    table_cell(t, *parts[2] ? parts[0] : "-");
    table_cell(t, parts[1]);
    table_cell(t, row->text[0] ? row->text[0] : "-");
    table_cell(t, buf_cstr(&names));
    buf_free(&names);
    free(copy);
}

static void process_json(struct buf *b, const struct row *row)
{
    const char *end = row->text[2];

    buf_printf(b, ",\"pid\":%lld", strtoll(row->key, NULL, 10));
    add_text(b, "proc", row->text[0]);
    add_text(b, "cmd", row->text[1]);
    add_uint(b, "starts", row->n[PROC_STARTS]);
    if (!row->n[PROC_ENDED])
        return;
    add_uint(b, "duration", row->n[PROC_DURATION_MS]);
    add_uint(b, "cpu", row->n[PROC_CPU_US]);
    add_uint(b, "mem_peak", row->n[PROC_MEM_KIB]);
    if (end && *end == 'S')
        add_text(b, "signal", end);
    else if (end)
        buf_printf(b, ",\"exit_code\":%s", end);
}

static void process_cells(struct table *t, const struct row *row)
{
    char when[32];

    table_cellf(t, "%lld", strtoll(row->key, NULL, 10));
    if (row->n[PROC_ENDED]) {
        table_cell(t, text_duration(row->n[PROC_CPU_US] * 1000, when));
        cell_ms(t, row->n[PROC_DURATION_MS]);
        table_uint(t, row->n[PROC_MEM_KIB]);
        table_cell(t, row->text[2] ? row->text[2] : "?");
    } else {
        for (int i = 0; i < 4; i++)
            table_cell(t, "-");
    }
    table_cell(t, row->text[1] ? row->text[1] : row->text[0] ? row->text[0] : "?");
}

static void crash_json(struct buf *b, const struct row *row)
{
    const char *end = row->text[1];

    buf_printf(b, ",\"pid\":%lld", strtoll(row->key, NULL, 10));
    add_text(b, "proc", row->text[0]);
    if (end && *end == 'S')
        add_text(b, "signal", end);
    else if (end)
        buf_printf(b, ",\"exit_code\":%s", end);
    add_text(b, "at", row->text[2]);
    add_text(b, "dir", row->text[3]);
}

static void crash_cells(struct table *t, const struct row *row)
{
    table_cellf(t, "%lld", strtoll(row->key, NULL, 10));
    table_cell(t, row->text[1] ? row->text[1] : "?");
    table_cell(t, row->text[0] ? row->text[0] : "?");
    table_cell(t, row->text[2] ? row->text[2] : "?");
}

static void http_json(struct buf *b, const struct row *row)
{
    const char *parts[4];
    char *copy;

    split_key(row, &copy, parts);
    add_text(b, "http_method", parts[2]);
    add_text(b, "http_host", parts[3]);
    if (strcmp(parts[0], "0") != 0)
        buf_printf(b, ",\"http_status_code\":%s,\"role\":\"%s\"", parts[0], parts[1]);
    add_uint(b, "count", row->n[HTTP_COUNT]);
    if (row->n[HTTP_TIMED]) {
        add_uint(b, "duration_mean", row->n[HTTP_DURATION_MS] / row->n[HTTP_TIMED]);
        add_uint(b, "duration_max", row->n[HTTP_MAX_MS]);
    }
    add_uint(b, "response_content_length", row->n[HTTP_BYTES]);
    free(copy);
}

static void http_cells(struct table *t, const struct row *row)
{
    const char *parts[4];
    char *copy;

    split_key(row, &copy, parts);
    table_uint(t, row->n[HTTP_COUNT]);
    table_cell(t, parts[2]);
    table_cell(t, status_text(parts[0]));
    if (row->n[HTTP_TIMED]) {
        cell_ms(t, row->n[HTTP_DURATION_MS] / row->n[HTTP_TIMED]);
        cell_ms(t, row->n[HTTP_MAX_MS]);
    } else {
        table_cell(t, "-");
        table_cell(t, "-");
    }
    table_uint(t, row->n[HTTP_BYTES]);
    table_cell(t, parts[1]);
    table_cell(t, parts[3]);
    free(copy);
}

static void counter_json(struct buf *b, const struct row *row)
{
    add_text(b, "metric", row->key);
    buf_printf(b, ",\"total\":%.15g", row->total);
    add_text(b, "unit", row->text[0]);
}

static void counter_cells(struct table *t, const struct row *row)
{
    table_cell(t, row->key);
    table_cellf(t, "%.15g", row->total);
    table_cell(t, row->text[0] ? row->text[0] : "");
}

#define COLUMNS_MAX 10

static const struct section {
    const char *title, *type;
    struct table_column column[COLUMNS_MAX];
    size_t columns;
    size_t rows; /* offset in struct report */
    int (*compare)(const void *, const void *);
    void (*json)(struct buf *, const struct row *);
    void (*cells)(struct table *, const struct row *);
} sections[] = {
    {"Notices",
     "notice",
     {{"COUNT", 0, 0, false},
      {"HELD BACK", 3, 0, false},
      {"RULE", 0, 20, true},
      {"LAST BY", 0, 0, false},
      {"WHY", 0, 12, true},
      {"ABOUT", 1, 12, true}},
     6,
     offsetof(struct report, notices),
     compare_notices,
     notice_json,
     notice_cells},
    {"Files",
     "file",
     {{"READ", 0, 0, false},
      {"WRITTEN", 0, 0, false},
      {"OPENS", 0, 0, false},
      {"CHANGES", 0, 0, false},
      {"BUSY", 2, 0, false},
      {"FILE", 1, 24, true}},
     6,
     offsetof(struct report, files),
     compare_files,
     file_json,
     file_cells},
    {"Network",
     "endpoint",
     {{"SENT", 0, 0, false},
      {"RECEIVED", 0, 0, false},
      {"CONNECTIONS", 4, 0, false},
      {"DURATION", 3, 0, false},
      {"TRANSPORT", 1, 0, false},
      {"PEER IP", 5, 15, false},
      {"PORT", 0, 0, false},
      {"WAY", 0, 0, false},
      {"PROTOCOL", 0, 0, false},
      {"NAMES", 2, 12, true}},
     10,
     offsetof(struct report, endpoints),
     compare_endpoints,
     endpoint_json,
     endpoint_cells},
    {"HTTP",
     "http",
     {{"COUNT", 0, 0, false},
      {"METHOD", 0, 0, false},
      {"STATUS", 0, 0, false},
      {"MEAN", 0, 0, false},
      {"MAX", 0, 0, false},
      {"BYTES", 0, 0, false},
      {"ROLE", 0, 0, false},
      {"HOST", 1, 12, true}},
     8,
     offsetof(struct report, http),
     compare_http,
     http_json,
     http_cells},
    {"Processes",
     "process",
     {{"PID", 0, 0, false},
      {"CPU", 0, 0, false},
      {"DURATION", 0, 0, false},
      {"MEMORY KIB", 0, 0, false},
      {"EXIT", 0, 0, false},
      {"COMMAND", 1, 12, false}},
     6,
     offsetof(struct report, processes),
     compare_processes,
     process_json,
     process_cells},
    {"Crashes",
     "crash",
     {{"PID", 0, 0, false}, {"SIGNAL", 0, 0, false}, {"PROGRAM", 0, 0, false}, {"AT", 1, 24, false}},
     4,
     offsetof(struct report, crashes),
     compare_crashes,
     crash_json,
     crash_cells},
    {"Counters",
     "counter",
     {{"METRIC", 1, 12, false}, {"TOTAL", 0, 0, false}, {"UNIT", 0, 0, false}},
     3,
     offsetof(struct report, counters),
     compare_counters,
     counter_json,
     counter_cells},
};

static void print_section(const struct section *s, struct report *r, bool json, size_t limit, bool *first)
{
    struct rows *rows = (struct rows *)((char *)r + s->rows);
    struct table *t;

    if (!rows->count)
        return;
    qsort(rows->list, rows->count, sizeof(*rows->list), s->compare);
    if (json) {
        for (size_t i = 0; i < rows->count && i < limit; i++) {
            struct buf b = BUF_INIT;

            buf_printf(&b, "{\"type\":\"%s\"", s->type);
            s->json(&b, rows->list[i]);
            buf_str(&b, "}\n");
            fwrite(b.p, 1, b.len, stdout);
            buf_free(&b);
        }
        return;
    }
    printf("%s%s: %zu", *first ? "" : "\n", s->title, rows->count);
    printf(rows->count > limit ? ", the first %zu\n" : "\n", limit);
    *first = false;
    t = table_new(s->column, s->columns);
    for (size_t i = 0; i < rows->count && i < limit; i++)
        s->cells(t, rows->list[i]);
    table_print(t, stdout);
}

/* --- the command --- */

/* Metrics that went elsewhere are only left out: the rest of the report needs none. */
static int load_metrics(struct report *r, const struct session *s)
{
    char *path = cli_path_of(s->metric_dest);
    struct records *from;
    int rc = 0;

    if (!s->metric_dest || path) {
        rc = records_open(s, RECORDS_METRICS, NULL, &from);
        if (rc == 0) {
            records_progress(from, false);
            rc = read_metrics(r, from);
            if (rc < 0)
                cli_error("reading the metrics: %s", strerror(-rc));
            records_close(from);
        }
    }
    free(path);
    return rc;
}

static int load_events(const struct session *s, const struct records_want *want, event_fn take, void *ctx)
{
    struct records *from;
    int rc = records_open(s, RECORDS_EVENTS, want, &from);

    if (rc < 0)
        return rc;
    records_progress(from, false);
    rc = read_events(from, take, ctx);
    if (rc < 0)
        cli_error("reading the events: %s", strerror(-rc));
    records_close(from);
    return rc;
}

static int load(struct report *r, const struct session *s)
{
    /* Kinds that something is taken from. */
    static char *types[] = {"fs", "net", "dns", "http", "process", "notice", NULL};
    static const struct records_want want = {.types = types};
    int rc = load_events(s, &want, add_event, r);

    return rc < 0 ? rc : load_metrics(r, s);
}

static void add_touched(void *ctx, const struct sum_event *e)
{
    touched_event(ctx, e);
}

static int run_touched(const struct args *a, const struct session *s, size_t limit)
{
    static char *types[] = {"fs", "net", "dns", "http", "process", NULL};
    static const struct records_want want = {.types = types};
    struct touched *t = report_touched_new(s);
    int rc = load_events(s, &want, add_touched, t);

    touched_end(t, report_touched_lost(s));
    if (rc != -ENOTSUP)
        report_touched_print(t, s, args_has(a, "json"), args_has(a, "all"), limit);
    touched_free(t);
    return rc;
}

static int run(struct args *a)
{
    struct report r = {.open = NULL};
    bool json = args_has(a, "json"), first = true;
    int64_t limit = json ? INT64_MAX : 20;
    struct session s;
    int rc;

    if ((rc = args_conflict(a, "last", "all")) || (rc = args_number(a, "last", 1, INT32_MAX, &limit)))
        return rc;
    if ((rc = args_conflict(a, "html", "json")) || (rc = args_conflict(a, "html", "all")) || (rc = args_conflict(a, "html", "last")) ||
        (rc = args_conflict(a, "html", "touched")))
        return rc;
    if (args_has(a, "all"))
        limit = INT64_MAX;
    rc = cli_session(a, &s);
    if (rc)
        return rc;
    if (args_has(a, "html")) {
        rc = report_page(&s, args_get(a, "html"));
        session_clear(&s);
        return rc;
    }
    if (args_has(a, "touched")) {
        rc = run_touched(a, &s, (size_t)limit);
        session_clear(&s);
        return rc == 0 || rc == -ENOTSUP ? 0 : EXIT_FAILED;
    }
    rc = load(&r, &s);
    add_unanswered(&r);
    add_names(&r);
    for (size_t i = 0; rc != -ENOTSUP && i < sizeof(sections) / sizeof(*sections); i++)
        print_section(&sections[i], &r, json, (size_t)limit, &first);
    if (rc == 0 && first && !json)
        puts("Nothing was recorded");
    for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++)
        free_rows((struct rows *)((char *)&r + sections[i].rows));
    free_rows(&r.requests);
    free_rows(&r.addresses);
    free_rows(&r.pids);
    tdestroy(r.open, free);
    session_clear(&s);
    return rc == 0 || rc == -ENOTSUP ? 0 : EXIT_FAILED;
}

const struct cli_command command_report = {
    .name = "report",
    .summary = "Sum up a session: notices, files, network, HTTP, processes, crashes",
    .usage = "[OPTIONS]",
    .description =
        "Sums up the events of a session: files and the other ends of connections by bytes, HTTP requests by number, "
        "processes by CPU time; crashes (`scope crash` shows more); notices by rule, with the last one of each; and the "
        "counters among its metrics. Bytes of a file or connection count when it has been closed. Names are those that "
        "DNS answers and HTTP requests gave to an address. Connections that came in are summed up by address and this "
        "side's port; they are told from others by their ports, of which the lower one is the service's.\n"
        "--touched shows what a program did outside of itself, in the order of time: files written outside of the "
        "working directory that it was started in, secrets read (places on the list notice.file.read), programs run, "
        "hosts, listening ports, files deleted, and what wasn't observed; each with the processes, from the first one "
        "on, that did it. What it made and removed again is left out unless --all is given. Names are those that were "
        "used: symbolic links are not followed, and a name that isn't known for sure has a (?). What is written to "
        "terminals and /dev/null isn't listed. A file counts as written if it was made, emptied, appended to, written "
        "to, renamed, linked, or changed in mode, owner or times; not what is only written through mmap. If anything "
        "may be missing that is said last.\n"
        "With -j, each of these is an object with type touched and a kind: write, delete (file, file_other, how, bytes, "
        "gone, own), secret (file, entry, how, bytes), program (exe, cmd), host (ip, port, net_transport, direction, "
        "names, bytes_sent, bytes_received), listen, unseen (text, file); with count, first and last (seconds since "
        "1970), and who: proc and pid of each process, the outermost first, whose ppid is there, too. The last one is "
        "of kind end: dir, files_inside, lost, and what there was no room for.\n"
        "With --html it is a page instead: one file of HTML with all that it needs inside, which asks for nothing from "
        "anywhere: timeline, map of services, HTTP, DNS, files, what it touched, processes, errors and flows. It has names "
        "of files and hosts, command lines and lines of output in it. FILE is replaced only when all is there, and has "
        "mode 0600.",
    .options = options,
    .more_options = cli_session_options,
    .examples = examples,
    .run = run,
};
