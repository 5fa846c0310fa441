/* SPDX-License-Identifier: Apache-2.0 */
/* What the charts show, as JSON. Times are microseconds from the session's beginning on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "page/parts.h"
#include "session/session.h"
#include "summary/overview.h"

/* Of each so many, and so many bytes of each kind; what has no room is counted. */
#define PROCESSES_MAX 2000
#define BINS_MAX 16000
#define EXCHANGES_MAX 400
#define EDGES_MAX 120
#define DIRS_MAX 400
#define BYTES_MAX 300000u
/* Bytes of a text that are given. */
#define NAME_CUT 80
#define TEXT_CUT 120
#define PATH_CUT 300

static int64_t since(const struct page *p, uint64_t ns)
{
    return (int64_t)(ns - p->overview->from_ns) / 1000;
}

/* One more row of a list: false, and counted, if there is no room. */
struct list {
    size_t start, rows, most;
    uint64_t left_out;
};

static struct list list_begin(struct html *h, const char *name, size_t most)
{
    html_printf(h, "\"%s\":{\"rows\":[", name);
    return (struct list){.start = h->out.len, .most = most};
}

static bool list_row(struct html *h, struct list *l)
{
    if (l->rows == l->most || h->out.len - l->start > BYTES_MAX || h->out.len > PAGE_DATA_END) {
        l->left_out++;
        return false;
    }
    html_raw(h, l->rows++ ? ",[" : "[");
    return true;
}

static void list_end(struct html *h, const struct list *l)
{
    html_printf(h, "],\"left_out\":%llu},\n", (unsigned long long)l->left_out);
}

static void processes(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    struct list l = list_begin(h, "processes", PROCESSES_MAX);
    char end[64];

    for (size_t i = 0; i < o->process_count; i++) {
        const struct ov_process *q = &o->processes[i];

        if (!list_row(h, &l))
            continue;
        html_printf(h, "%lld,%d,", (long long)q->pid, q->parent < (int)PROCESSES_MAX ? q->parent : -1);
        html_json(h, q->proc, NAME_CUT);
        html_raw(h, ",");
        html_json(h, q->cmd, TEXT_CUT);
        html_printf(h, ",%lld,%lld,%lld,", (long long)since(p, q->start_ns),
                    q->exec_ns ? (long long)since(p, q->exec_ns) : -1, (long long)since(p, q->end_ns));
        html_json(h, page_end_of(end, q), NAME_CUT);
        html_printf(h, ",%d,%d]",
                    q->crashed || q->signal       ? 2
                    : q->has_code && q->exit_code ? 1
                                                  : 0,
                    q->began ? *q->began : 0);
    }
    l.left_out += o->processes_more;
    list_end(h, &l);
}

static void bins(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    struct list l = list_begin(h, "bins", BINS_MAX);
    void **list = keyed_list(&o->bins);

    for (size_t i = 0; i < o->bins.count; i++) {
        const struct ov_bin *b = list[i];

        if (b->process >= PROCESSES_MAX) {
            l.left_out++;
            continue;
        }
        if (!list_row(h, &l))
            continue;
        html_printf(h, "%u,%u", b->process, b->bin);
        for (size_t k = 0; k < OV_DOINGS; k++)
            html_printf(h, ",%u", b->count[k]);
        html_printf(h, ",%llu]", (unsigned long long)b->bytes);
    }
    free(list);
    l.left_out += o->bins.refused;
    list_end(h, &l);
}

static void exchanges(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    struct list l = list_begin(h, "exchanges", EXCHANGES_MAX);

    for (size_t i = 0; i < o->slowest_count; i++) {
        const struct ov_exchange *x = &o->slowest[i];

        if (!list_row(h, &l))
            continue;
        html_printf(h, "%d,%lld,%llu,%u,", x->process < PROCESSES_MAX ? x->process : -1,
                    (long long)since(p, x->time_ns), (unsigned long long)x->wait_ns / 1000, x->status);
        html_json(h, x->method, NAME_CUT);
        html_raw(h, ",");
        html_json(h, x->host, NAME_CUT);
        html_raw(h, ",");
        html_json(h, x->target, TEXT_CUT);
        html_raw(h, ",");
        html_json(h, x->role, NAME_CUT);
        html_raw(h, "]");
    }
    l.left_out = (o->client.count + o->server.count) - l.rows;
    list_end(h, &l);
}

static void lines(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    struct list l = list_begin(h, "lines", OV_MAX_CONSOLE);

    for (size_t i = 0; i < o->console_count; i++) {
        const struct ov_line *line = &o->console[i];

        if (!list_row(h, &l))
            continue;
        html_printf(h, "%d,%lld,%d,", line->process < PROCESSES_MAX ? line->process : -1,
                    (long long)since(p, line->time_ns), line->err);
        html_json(h, line->text, TEXT_CUT);
        html_raw(h, "]");
    }
    l.left_out = o->lines - l.rows;
    list_end(h, &l);
}

static void times(struct html *h, const char *name, const struct ov_times *t)
{
    html_printf(h, "\"%s\":[", name);
    for (size_t i = 0, n = 0; i < OV_STEPS; i++)
        if (t->step[i])
            html_printf(h, "%s[%zu,%u]", n++ ? "," : "", i, t->step[i]);
    html_raw(h, "],\n");
}

static int compare_edges(const void *a, const void *b)
{
    const struct ov_edge *x = *(struct ov_edge *const *)a, *y = *(struct ov_edge *const *)b;
    uint64_t m = x->connections + x->requests, n = y->connections + y->requests;

    return m != n ? (m > n ? -1 : 1) : x->row.order < y->row.order ? -1 : 1;
}

static void edges(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    struct list l = list_begin(h, "edges", EDGES_MAX);
    void **list = keyed_list(&o->edges);

    qsort(list, o->edges.count, sizeof(*list), compare_edges);
    for (size_t i = 0; i < o->edges.count; i++) {
        const struct ov_edge *e = list[i];

        if (e->told || !list_row(h, &l))
            continue;
        html_json(h, e->proc, NAME_CUT);
        html_printf(h, ",%d,", e->way);
        html_json(h, e->peer, NAME_CUT);
        html_raw(h, ",");
        html_json(h, e->ip, NAME_CUT);
        html_printf(h, ",%u,", e->port);
        html_json(h, e->name, NAME_CUT);
        html_raw(h, ",");
        html_json(h, e->transport, NAME_CUT);
        html_raw(h, ",");
        html_json(h, e->protocol, NAME_CUT);
        html_printf(h, ",%d,%llu,%llu,%llu,%llu,%llu,%llu,%llu]", e->tls, (unsigned long long)e->connections,
                    (unsigned long long)e->sent, (unsigned long long)e->received, (unsigned long long)e->requests,
                    (unsigned long long)e->errors, (unsigned long long)ov_times_quantile(&e->wait, 500) / 1000,
                    (unsigned long long)ov_times_quantile(&e->wait, 990) / 1000);
    }
    free(list);
    l.left_out += o->edges.refused;
    list_end(h, &l);
}

/* --- directories --- */

struct dir {
    struct keyed_row row; /* the path */
    uint64_t files, read, written, opens;
};

static int compare_dirs(const void *a, const void *b)
{
    const struct dir *x = *(struct dir *const *)a, *y = *(struct dir *const *)b;
    uint64_t m = x->read + x->written, n = y->read + y->written;

    if (m != n)
        return m > n ? -1 : 1;
    return x->opens != y->opens ? (x->opens > y->opens ? -1 : 1) : x->row.order < y->row.order ? -1 : 1;
}

/* Each with what lies directly in it. Of those that have no room the sum is given. */
static void dirs(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    struct keyed found = {.row_size = sizeof(struct dir), .max = OV_MAX_FILES};
    struct list l;
    void **list = keyed_list(&o->files);
    uint64_t rest[3] = {0};

    for (size_t i = 0; i < o->files.count; i++) {
        const struct ov_file *f = list[i];
        const char *slash = *f->row.key == '/' ? strrchr(f->row.key, '/') : NULL;
        size_t len = slash ? (size_t)(slash - f->row.key) : 0;
        struct dir *d = slash ? keyed_at(&found, len ? f->row.key : "/", len ? len : 1) : keyed_at(&found, "-", 1);

        if (!d)
            continue;
        d->files++;
        d->read += f->read;
        d->written += f->written;
        d->opens += f->opens;
    }
    free(list);
    list = keyed_list(&found);
    qsort(list, found.count, sizeof(*list), compare_dirs);
    l = list_begin(h, "dirs", DIRS_MAX);
    for (size_t i = 0; i < found.count; i++) {
        const struct dir *d = list[i];

        if (!list_row(h, &l)) {
            rest[0] += d->files;
            rest[1] += d->read;
            rest[2] += d->written;
            continue;
        }
        html_json(h, d->row.key, PATH_CUT);
        html_printf(h, ",%llu,%llu,%llu,%llu]", (unsigned long long)d->files, (unsigned long long)d->read,
                    (unsigned long long)d->written, (unsigned long long)d->opens);
    }
    list_end(h, &l);
    html_printf(h, "\"dirs_rest\":[%llu,%llu,%llu],\n", (unsigned long long)rest[0], (unsigned long long)rest[1],
                (unsigned long long)rest[2]);
    free(list);
    keyed_clear(&found);
}

void page_data(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;

    html_printf(h, "{\"start\":%llu,\"span\":%llu,\"bin_count\":%d,\"running\":%s,\n",
                (unsigned long long)(o->from_ns / 1000000), (unsigned long long)((o->to_ns - o->from_ns) / 1000),
                OV_BINS, p->running ? "true" : "false");
    processes(h, p);
    bins(h, p);
    exchanges(h, p);
    lines(h, p);
    edges(h, p);
    dirs(h, p);
    times(h, "client", &o->client);
    times(h, "server", &o->server);
    html_raw(h, "\"version\":1}");
}
