/* SPDX-License-Identifier: Apache-2.0 */
/* Sections of the page: a chart's place, and the tables that are there without scripts, too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "page/parts.h"
#include "session/session.h"
#include "summary/overview.h"

#define ROUTES_MAX 300
#define SLOWEST_MAX 50
#define EDGES_MAX 150
#define DNS_MAX 300
#define FILES_MAX 400
#define PROCESSES_MAX 1000
#define ERRORS_MAX 300
#define FLOWS_MAX 200
#define NOTES_MAX 200
#define BYTES_MAX 150000u      /* of one table */
#define TREE_BYTES_MAX 400000u /* of the table of processes */
#define DEPTH_MAX 12           /* that is shown by indenting */

#define COLUMNS(...) \
    (const struct html_column[]){__VA_ARGS__}, \
        sizeof((const struct html_column[]){__VA_ARGS__}) / sizeof(struct html_column)

typedef int compare_fn(const void *, const void *);

/* The rows of a table, sorted. */
static void **sorted(const struct keyed *t, compare_fn *compare)
{
    void **list = keyed_list(t);

    qsort(list, t->count, sizeof(*list), compare);
    return list;
}

static bool has_room(const struct html *h, size_t start)
{
    return h->out.len - start < BYTES_MAX && h->out.len < PAGE_TABLES_END;
}

void page_cut_note(struct html *h, size_t shown, size_t count, const char *what, const char *order, uint64_t unknown)
{
    if (shown < count || unknown) {
        html_raw(h, "<p class=\"cut\">");
        if (shown < count) {
            html_raw(h, "The first ");
            html_count(h, shown);
            html_raw(h, " of ");
            html_count(h, count);
            html_printf(h, " %s are shown, %s. ", what, order);
        }
        if (unknown) {
            html_count(h, unknown);
            html_raw(h, " times there was no room for another one: sums of the whole session hold these, this table "
                        "doesn\u2019t.");
        }
        html_raw(h, "</p>\n");
    }
}

void page_section(struct html *h, const char *id, const char *title, const char *lead)
{
    html_printf(h, "<section id=\"%s\" aria-labelledby=\"%s-h\"><h2 id=\"%s-h\">%s</h2><p class=\"lead\">%s</p>\n", id,
                id, id, title, lead);
}

static void chart(struct html *h, const char *name, const char *what)
{
    html_printf(
        h,
        "<figure class=\"chart\" id=\"chart-%s\" role=\"group\" aria-label=\"%s\"><figcaption class=\"needs-script\">"
        "%s. It is drawn by a script; the tables have the same numbers.</figcaption></figure>\n",
        name, what, what);
}

static double from_start(const struct page *p, uint64_t ns)
{
    return ((double)ns - (double)p->overview->from_ns) / 1e9;
}

void page_cell_time(struct html *h, const struct page *p, uint64_t ns)
{
    char text[40];

    if (!ns) {
        html_cell_number(h, -1, "\u2013");
        return;
    }
    snprintf(text, sizeof(text), "%.3f s", from_start(p, ns));
    html_cell_number(h, from_start(p, ns), text);
}

static const char *protocol_text(char text[80], const char *protocol, bool tls)
{
    snprintf(text, 80, "%.60s%s%s", protocol ? protocol : "", protocol && tls ? ", " : "", tls ? "TLS" : "");
    return *text ? text : NULL;
}

/* --- services --- */

static int compare_edges(const void *a, const void *b)
{
    const struct ov_edge *x = *(struct ov_edge *const *)a, *y = *(struct ov_edge *const *)b;
    uint64_t m = x->connections + x->requests, n = y->connections + y->requests;

    return m != n ? (m > n ? -1 : 1) : x->row.order < y->row.order ? -1 : 1;
}

static void edge_end(struct html *h, const char *program, const char *name, const char *ip, unsigned port, bool known)
{
    html_raw(h, "<td class=\"m\"><bdi>");
    if (known) {
        html_text(h, program);
    } else {
        html_text(h, name ? name : ip);
        if (port)
            html_printf(h, ":%u", port);
    }
    html_raw(h, "</bdi></td>");
}

void page_services(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    void **list = sorted(&o->edges, compare_edges);
    size_t shown = 0, count = 0, start;

    if (!o->edges.count) {
        free(list);
        return;
    }
    page_section(
        h, "services", "Service map",
        "Who talked to whom. Programs that were observed are filled; where both ends were, the connection is one "
        "line.");
    chart(h, "map", "Map of programs and the services they talked to");
    html_table(h, "t-services", "Connections by program and service",
               COLUMNS({"Client", 'm'}, {"Service", 'm'}, {"Port", 'n'}, {"Protocol", 't'}, {"Connections", 'n'},
                       {"Sent", 'n'}, {"Received", 'n'}, {"Requests", 'n'}, {"Errors", 'n'}, {"Median", 'n'},
                       {"99 %", 'n'}),
               true);
    start = h->out.len;
    for (size_t i = 0; i < o->edges.count; i++) {
        const struct ov_edge *e = list[i];
        char text[80], port[16];
        bool in = e->way == OV_IN;

        if (e->told)
            continue;
        count++;
        if (shown == EDGES_MAX || !has_room(h, start))
            continue;
        shown++;
        html_raw(h, "<tr>");
        edge_end(h, e->proc, NULL, e->ip, 0, !in);
        if (in)
            edge_end(h, e->proc, NULL, NULL, 0, true);
        else
            edge_end(h, e->peer, e->name, e->ip, 0, e->peer != NULL);
        snprintf(port, sizeof(port), "%u", e->port);
        html_cell_number(h, e->port, e->port ? port : "\u2013");
        html_cell(h, 't', protocol_text(text, e->protocol ? e->protocol : e->transport, e->tls));
        html_cell_count(h, e->connections);
        html_cell_bytes(h, in ? e->received : e->sent);
        html_cell_bytes(h, in ? e->sent : e->received);
        html_cell_count(h, e->requests);
        html_cell_count(h, e->errors);
        html_cell_duration(h, e->wait.count, ov_times_quantile(&e->wait, 500));
        html_cell_duration(h, e->wait.count, ov_times_quantile(&e->wait, 990));
        html_raw(h, "</tr>\n");
    }
    html_table_end(h);
    page_cut_note(h, shown, count, "edges", "the busiest first", o->edges.refused + o->open.refused);
    html_raw(h, "</section>\n");
    free(list);
}

/* --- HTTP --- */

static int compare_routes(const void *a, const void *b)
{
    const struct ov_route *x = *(struct ov_route *const *)a, *y = *(struct ov_route *const *)b;

    return x->count != y->count ? (x->count > y->count ? -1 : 1) : x->row.order < y->row.order ? -1 : 1;
}

static void cell_status(struct html *h, unsigned status)
{
    html_printf(h, "<td class=\"n %s\" data-v=\"%u\">", status >= 400 || !status ? "bad" : "", status);
    if (status)
        html_printf(h, "%u</td>", status);
    else
        html_raw(h, "none</td>");
}

/* How long each part took, as far as it is known: of later exchanges on a connection only the wait. */
static void split(struct html *h, const struct ov_exchange *x)
{
    bool tls = x->first && x->opened_ns && x->hello_ns > x->opened_ns && x->time_ns >= x->hello_ns;
    uint64_t ready = tls ? x->hello_ns : x->opened_ns;

    html_cell_duration(h, tls, tls ? x->hello_ns - x->opened_ns : 0);
    html_cell_duration(h, x->first && ready && x->time_ns >= ready, x->time_ns - ready);
    html_cell_duration(h, true, x->wait_ns);
}

static void slowest(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    size_t shown = 0, start;

    html_table(h, "t-slowest", "The slowest exchanges",
               COLUMNS({"At", 'n'}, {"Program", 'm'}, {"Role", 't'}, {"Method", 'm'}, {"Status", 'n'}, {"TLS", 'n'},
                       {"Until the request", 'n'}, {"Wait", 'n'}, {"Host", 'm'}, {"Target", 'm'}),
               true);
    start = h->out.len;
    for (; shown < o->slowest_count && shown < SLOWEST_MAX && has_room(h, start); shown++) {
        const struct ov_exchange *x = &o->slowest[shown];

        html_raw(h, "<tr>");
        page_cell_time(h, p, x->time_ns);
        html_cell(h, 'm', x->proc);
        html_cell(h, 't', x->role);
        html_cell(h, 'm', x->method);
        cell_status(h, x->status);
        split(h, x);
        html_cell(h, 'm', x->host);
        html_cell(h, 'm', x->target);
        html_raw(h, "</tr>\n");
    }
    html_table_end(h);
    html_raw(h, "<p class=\"cut\">TLS: from the connection\u2019s beginning until both sides had greeted. Until the "
                "request: from "
                "there to its first byte; both of a connection\u2019s first exchange only. Wait: from the "
                "request\u2019s first byte to "
                "the response\u2019s. How long connecting and bodies took isn\u2019t recorded.</p>\n");
}

void page_http(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    void **list = sorted(&o->routes, compare_routes);
    size_t shown = 0, start;

    if (!o->routes.count) {
        free(list);
        return;
    }
    page_section(
        h, "http", "HTTP",
        "Requests that are alike, and how long their responses took. What follows a \u201c?\u201d is left out.");
    chart(h, "latency", "Histogram of the time from request to response");
    html_table(h, "t-routes", "Requests by target",
               COLUMNS({"Count", 'n'}, {"Role", 't'}, {"Method", 'm'}, {"Status", 'n'}, {"Median", 'n'}, {"99 %", 'n'},
                       {"Most", 'n'}, {"Bytes", 'n'}, {"Host", 'm'}, {"Target", 'm'}),
               true);
    start = h->out.len;
    for (; shown < o->routes.count && shown < ROUTES_MAX && has_room(h, start); shown++) {
        const struct ov_route *r = list[shown];

        html_raw(h, "<tr>");
        html_cell_count(h, r->count);
        html_cell(h, 't', r->role);
        html_cell(h, 'm', r->method);
        cell_status(h, r->status);
        html_cell_duration(h, r->wait.count, ov_times_quantile(&r->wait, 500));
        html_cell_duration(h, r->wait.count, ov_times_quantile(&r->wait, 990));
        html_cell_duration(h, r->wait.count, r->wait.max_ns);
        html_cell_bytes(h, r->bytes);
        html_cell(h, 'm', r->host);
        html_cell(h, 'm', r->target);
        html_raw(h, "</tr>\n");
    }
    html_table_end(h);
    page_cut_note(h, shown, o->routes.count, "kinds of requests", "the most frequent first", o->routes.refused);
    if (o->slowest_count)
        slowest(h, p);
    html_raw(h, "</section>\n");
    free(list);
}

/* --- DNS --- */

static int compare_dns(const void *a, const void *b)
{
    const struct ov_dns *x = *(struct ov_dns *const *)a, *y = *(struct ov_dns *const *)b;

    return x->count != y->count ? (x->count > y->count ? -1 : 1) : x->row.order < y->row.order ? -1 : 1;
}

/* What is known to the millisecond. */
static void cell_ms(struct html *h, bool known, uint64_t ns)
{
    if (known && ns < 1000000)
        html_cell_number(h, 0, "&lt; 1 ms");
    else
        html_cell_duration(h, known, ns);
}

void page_dns(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    void **list = sorted(&o->dns, compare_dns);
    size_t shown = 0, start;

    if (!o->dns.count) {
        free(list);
        return;
    }
    page_section(h, "dns", "DNS", "Names that were asked for, and what became of it.");
    html_table(h, "t-dns", "Queries by name and outcome",
               COLUMNS({"Count", 'n'}, {"Name", 'm'}, {"Type", 't'}, {"Outcome", 't'}, {"Mean", 'n'}, {"Most", 'n'},
                       {"Role", 't'}, {"An address", 'm'}),
               true);
    start = h->out.len;
    for (; shown < o->dns.count && shown < DNS_MAX && has_room(h, start); shown++) {
        const struct ov_dns *d = list[shown];
        bool bad = !d->outcome || strcmp(d->outcome, "NOERROR") != 0;

        html_raw(h, "<tr>");
        html_cell_count(h, d->count);
        html_cell(h, 'm', d->domain);
        html_cell(h, 't', d->qtype);
        html_printf(h, "<td class=\"t %s\"><bdi>", bad ? "bad" : "");
        html_text(h, d->outcome);
        html_raw(h, "</bdi></td>");
        cell_ms(h, d->timed, d->timed ? d->duration_ms * 1000000 / d->timed : 0);
        cell_ms(h, d->timed, d->max_ms * 1000000);
        html_cell(h, 't', d->role);
        html_cell(h, 'm', d->address);
        html_raw(h, "</tr>\n");
    }
    html_table_end(h);
    page_cut_note(h, shown, o->dns.count, "names", "the most frequent first", o->dns.refused);
    html_raw(h, "</section>\n");
    free(list);
}

/* --- files --- */

static int compare_files(const void *a, const void *b)
{
    const struct ov_file *x = *(struct ov_file *const *)a, *y = *(struct ov_file *const *)b;
    uint64_t m = x->read + x->written, n = y->read + y->written;

    if (m != n)
        return m > n ? -1 : 1;
    return x->opens != y->opens ? (x->opens > y->opens ? -1 : 1) : x->row.order < y->row.order ? -1 : 1;
}

void page_files(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    void **list = sorted(&o->files, compare_files);
    size_t shown = 0, start;

    if (!o->files.count) {
        free(list);
        return;
    }
    page_section(h, "files", "Files",
                 "Bytes by directory, and the files that moved most. A file\u2019s bytes count when it was closed.");
    chart(h, "tree", "Directories by bytes read and written");
    html_table(h, "t-files", "Files",
               COLUMNS({"Read", 'n'}, {"Written", 'n'}, {"Opens", 'n'}, {"Changes", 'n'}, {"Busy", 'n'}, {"File", 'm'}),
               true);
    start = h->out.len;
    for (; shown < o->files.count && shown < FILES_MAX && has_room(h, start); shown++) {
        const struct ov_file *f = list[shown];

        html_raw(h, "<tr>");
        html_cell_bytes(h, f->read);
        html_cell_bytes(h, f->written);
        html_cell_count(h, f->opens);
        html_cell_count(h, f->changes);
        html_cell_duration(h, f->reads + f->writes, f->busy_us * 1000);
        html_cell(h, 'm', f->row.key);
        html_raw(h, "</tr>\n");
    }
    html_table_end(h);
    page_cut_note(h, shown, o->files.count, "files", "the biggest first", o->files.refused);
    html_raw(h, "</section>\n");
    free(list);
}

/* --- processes --- */

const char *page_end_of(char text[64], const struct ov_process *p)
{
    if (p->signal)
        snprintf(text, 64, "%.60s", p->signal);
    else if (p->has_code)
        snprintf(text, 64, "exit %lld", (long long)p->exit_code);
    else if (p->ended)
        snprintf(text, 64, "ended");
    else
        return NULL;
    return text;
}

static void process_row(struct html *h, const struct page *p, const struct ov_process *q, int depth)
{
    char text[64];
    const char *end = page_end_of(text, q);

    html_printf(h, "<tr><td class=\"m d%d\"><bdi>", depth < DEPTH_MAX ? depth : DEPTH_MAX);
    html_text_cut(h, q->proc, 80);
    html_printf(h, "</bdi></td><td class=\"n\" data-v=\"%lld\">%lld</td>", (long long)q->pid, (long long)q->pid);
    page_cell_time(h, p, q->start_ns);
    html_cell_duration(h, q->ended, q->duration_ms ? q->duration_ms * 1000000 : q->end_ns - q->start_ns);
    html_cell_duration(h, q->cpu_us, q->cpu_us * 1000);
    html_cell_bytes(h, q->mem_kib * 1024);
    html_cell_bytes(h, q->read);
    html_cell_bytes(h, q->written);
    html_cell_bytes(h, q->sent);
    html_cell_bytes(h, q->received);
    html_printf(h, "<td class=\"t %s\">", q->signal || q->crashed || (q->has_code && q->exit_code) ? "bad" : "");
    if (end)
        html_text(h, end);
    else
        html_raw(h, p->running ? "runs" : "\u2013");
    html_raw(h, "</td><td class=\"m\"><bdi>");
    html_text_cut(h, q->cmd, HTML_CUT);
    html_raw(h, "</bdi></td></tr>\n");
}

struct family {
    int child, next; /* the first one, the next one of the same parent; -1: none */
};

/* Children in their order below their parents, without recursion: a chain may be as long as there are processes. */
static size_t process_tree(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    struct family *of = xcalloc(o->process_count + 1, sizeof(*of));
    int *stack = xcalloc(o->process_count + 1, sizeof(int)), *depth = xcalloc(o->process_count + 1, sizeof(int)),
        top = 0;
    size_t shown = 0, start = h->out.len;

    for (size_t i = 0; i < o->process_count; i++)
        of[i] = (struct family){-1, -1};
    for (size_t i = o->process_count; i-- > 0;) {
        int parent = o->processes[i].parent;

        if (parent >= 0 && (size_t)parent < i) { /* or they were told in no order: no circles */
            of[i].next = of[parent].child;
            of[parent].child = (int)i;
        }
    }
    for (size_t root = 0; root < o->process_count; root++) {
        int parent = o->processes[root].parent;

        if (parent >= 0 && (size_t)parent < root)
            continue;
        stack[top++] = (int)root;
        depth[root] = 0;
        while (top) {
            int at = stack[--top];

            if (shown < PROCESSES_MAX && h->out.len - start < TREE_BYTES_MAX && h->out.len < PAGE_TABLES_END) {
                process_row(h, p, &o->processes[at], depth[at]);
                shown++;
            }
            if (of[at].next >= 0 && at != (int)root) {
                depth[of[at].next] = depth[at];
                stack[top++] = of[at].next;
            }
            if (of[at].child >= 0) {
                depth[of[at].child] = depth[at] + 1;
                stack[top++] = of[at].child;
            }
        }
    }
    free(of);
    free(stack);
    free(depth);
    return shown;
}

void page_processes(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    size_t shown;

    if (!o->process_count)
        return;
    page_section(h, "processes", "Processes", "Children stand below their parents, in the order in which they began.");
    html_table(h, "t-processes", "Processes",
               COLUMNS({"Program", 'm'}, {"Pid", 'n'}, {"Began", 'n'}, {"Ran", 'n'}, {"CPU", 'n'}, {"Memory", 'n'},
                       {"Read", 'n'}, {"Written", 'n'}, {"Sent", 'n'}, {"Received", 'n'}, {"End", 't'},
                       {"Command", 'm'}),
               true);
    shown = process_tree(h, p);
    html_table_end(h);
    page_cut_note(h, shown, o->process_count + (size_t)o->processes_more, "processes", "in the order of the tree", 0);
    html_raw(h, "</section>\n");
}

/* --- errors --- */

static int compare_errors(const void *a, const void *b)
{
    const struct ov_error *x = *(struct ov_error *const *)a, *y = *(struct ov_error *const *)b;

    return x->count != y->count ? (x->count > y->count ? -1 : 1) : x->row.order < y->row.order ? -1 : 1;
}

void page_errors(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    void **list = sorted(&o->errors, compare_errors);
    size_t shown = 0, start;

    if (!o->errors.count) {
        free(list);
        return;
    }
    page_section(
        h, "errors", "Errors",
        "System calls that failed. Which error, call and file it was is recorded by <code>scope run --verbosity "
        "5</code> or "
        "<code>--syscalls</code>; without these there are kinds of calls only. A program that looks for a file in "
        "several "
        "places fails often, and rightly.");
    html_table(h, "t-errors", "Failed calls",
               COLUMNS({"Count", 'n'}, {"Error", 'm'}, {"Kind", 't'}, {"Call", 'm'}, {"Program", 'm'}, {"Place", 'm'}),
               true);
    start = h->out.len;
    for (; shown < o->errors.count && shown < ERRORS_MAX && has_room(h, start); shown++) {
        const struct ov_error *e = list[shown];

        html_raw(h, "<tr>");
        html_cell_count(h, e->count);
        html_cell(h, 'm', e->errno_name);
        html_cell(h, 't', e->what);
        html_cell(h, 'm', e->op);
        html_cell(h, 'm', e->proc);
        html_cell(h, 'm', e->place);
        html_raw(h, "</tr>\n");
    }
    html_table_end(h);
    page_cut_note(h, shown, o->errors.count, "kinds of failures", "the most frequent first", o->errors.refused);
    html_raw(h, "</section>\n");
    free(list);
}

/* --- flows --- */

static void cell_end(struct html *h, const char *ip, unsigned port)
{
    html_raw(h, "<td class=\"m\"><bdi>");
    html_text(h, ip);
    if (port)
        html_printf(h, ":%u", port);
    html_raw(h, "</bdi></td>");
}

void page_flows(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    size_t shown = 0, start;

    if (!o->flow_count)
        return;
    page_section(
        h, "flows", "Flows",
        "Single connections over IP, those that moved most. What passed on them is not in this file; if it was "
        "captured, "
        "<code>scope flows</code> shows it.");
    html_table(h, "t-flows", "Connections",
               COLUMNS({"Began", 'n'}, {"Lasted", 'n'}, {"Sent", 'n'}, {"Received", 'n'}, {"Requests", 'n'},
                       {"Protocol", 't'}, {"Program", 'm'}, {"Pid", 'n'}, {"This end", 'm'}, {"Other end", 'm'},
                       {"Name", 'm'}, {"Closed by", 't'}),
               true);
    start = h->out.len;
    for (; shown < o->flow_count && shown < FLOWS_MAX && has_room(h, start); shown++) {
        const struct ov_flow *f = &o->flows[shown];
        char text[80], pid[24];

        html_raw(h, "<tr>");
        page_cell_time(h, p, f->start_ns);
        html_cell_duration(h, f->start_ns && f->end_ns >= f->start_ns, f->end_ns - f->start_ns);
        html_cell_bytes(h, f->sent);
        html_cell_bytes(h, f->received);
        html_cell_count(h, f->requests);
        html_cell(h, 't', protocol_text(text, f->protocol ? f->protocol : f->transport, f->tls_version != NULL));
        html_cell(h, 'm', f->proc);
        snprintf(pid, sizeof(pid), "%lld", (long long)f->pid);
        html_cell_number(h, (double)f->pid, pid);
        cell_end(h, f->host_ip, f->host_port);
        cell_end(h, f->peer_ip, f->peer_port);
        html_cell(h, 'm', f->name);
        html_cell(h, 't', f->reason ? f->reason : f->end_ns ? NULL : "open");
        html_raw(h, "</tr>\n");
    }
    html_table_end(h);
    page_cut_note(h, shown, o->flow_count + (size_t)o->flows_more, "connections", "those that moved most first",
                  o->open.refused);
    html_raw(h, "</section>\n");
}

/* --- notices, crashes, what isn't observed --- */

static size_t count_notes(const struct overview *o, void **list, bool notices)
{
    size_t n = 0;

    for (size_t i = 0; i < o->notes.count; i++)
        n += ((const struct ov_note *)list[i])->kind ? notices : !notices;
    return n;
}

static void notes(struct html *h, const struct page *p, void **list, bool notices)
{
    const struct overview *o = p->overview;
    size_t shown = 0, count = 0, start = h->out.len;

    for (size_t i = 0; i < o->notes.count; i++) {
        const struct ov_note *n = list[i];

        if ((n->kind != NULL) != notices)
            continue;
        count++;
        if (shown == NOTES_MAX || !has_room(h, start))
            continue;
        shown++;
        html_raw(h, "<tr>");
        page_cell_time(h, p, n->time_ns);
        html_cell_count(h, n->count);
        if (notices)
            html_cell(h, 't', n->kind);
        html_cell(h, 'm', n->proc);
        html_cell(h, 't', n->text);
        html_cell(h, 'm', n->about);
        html_raw(h, "</tr>\n");
    }
    html_table_end(h);
    page_cut_note(h, shown, count, "rows", "the first first", notices ? 0 : o->notes.refused);
}

bool page_has_notes(const struct page *p)
{
    void **list = keyed_list(&p->overview->notes);
    bool any = count_notes(p->overview, list, true);

    free(list);
    return any;
}

void page_notes(struct html *h, const struct page *p)
{
    void **list = keyed_list(&p->overview->notes);

    if (count_notes(p->overview, list, true)) {
        page_section(h, "notices", "Notices and crashes", "What somebody should look at.");
        html_table(
            h, "t-notices", "Notices and crashes",
            COLUMNS({"Last at", 'n'}, {"Count", 'n'}, {"Rule", 't'}, {"Program", 'm'}, {"Why", 't'}, {"About", 'm'}),
            false);
        notes(h, p, list, true);
        html_raw(h, "</section>\n");
    }
    if (count_notes(p->overview, list, false)) {
        page_section(h, "unseen", "What was not observed",
                     "Programs, or parts of them, of which this page knows less, and why.");
        html_table(h, "t-unseen", "What was not observed",
                   COLUMNS({"Last at", 'n'}, {"Count", 'n'}, {"Program", 'm'}, {"Why", 't'}, {"File", 'm'}), false);
        notes(h, p, list, false);
        html_raw(h, "</section>\n");
    }
    free(list);
}
