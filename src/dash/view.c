/* SPDX-License-Identifier: Apache-2.0 */
#include "dash/view.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "dash/bounded.h"

#define NS UINT64_C(1000000000)
#define RATE_S 10 /* seconds that rates are means of */
#define ROWS_MAX 512

/* Where a panel is drawn: y and height without its title. */
struct area {
    struct grid *g;
    unsigned y, x, height, width;
};

struct drawing {
    struct view *v;
    const struct model *m;
    struct grid *g;
};

static const char *const titles[PANEL_COUNT] = {"",    "Processes", "Network", "Connections", "HTTP",
                                                "DNS", "Files",     "Console", "Events"};
static const char *const order_names[ORDER_COUNT] = {"tree", "by CPU", "by memory", "by events"};

/* --- numbers as people read them --- */

/* "999", "12.3k", "4.56M": at most 6 columns. */
static const char *short_number(double v, char to[32])
{
    static const char units[] = " kMGTPE";
    size_t u = 0;

    if (!(v >= 0)) /* NaN, too */
        v = 0;
    while (v >= 999.5 && units[u + 1]) {
        v /= 1000;
        u++;
    }
    if (u == 0)
        snprintf(to, 32, v > 0 && v < 9.95 && v != (double)(int)v ? "%.1f" : "%.0f", v);
    else
        snprintf(to, 32, v < 9.995 ? "%.2f%c" : v < 99.95 ? "%.1f%c" : "%.0f%c", v, units[u]);
    return to;
}

static const char *bytes(double v, char to[32])
{
    size_t n;

    short_number(v, to);
    n = strlen(to);
    memcpy(to + n, "B", 2);
    return to;
}

static const char *clock_text(uint64_t ns, char to[32])
{
    time_t t = (time_t)(ns / NS);
    struct tm tm;

    if (!localtime_r(&t, &tm) || strftime(to, 32, "%H:%M:%S", &tm) == 0)
        snprintf(to, 32, "--:--:--");
    return to;
}

static const char *date_text(uint64_t ns, char to[32])
{
    time_t t = (time_t)(ns / NS);
    struct tm tm;

    if (!localtime_r(&t, &tm) || strftime(to, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(to, 32, "----");
    return to;
}

/* --- pieces --- */

/* A row of an area; false: it has no such row. */
static unsigned row(const struct area *a, unsigned y, unsigned x, enum grid_style style, const char *text, size_t len)
{
    return y < a->height && x < a->width ? grid_put(a->g, a->y + y, a->x + x, a->width - x, style, text, len) - a->x
                                         : x;
}

#define ROWF(a, line, column, style, ...) \
    do { \
        if ((line) < (a)->height && (column) < (a)->width) \
            grid_putf((a)->g, (a)->y + (line), (a)->x + (column), (a)->width - (column), style, __VA_ARGS__); \
    } while (0)

/* The last seconds as a line of blocks, the newest on the right; each column the highest of its seconds. */
static void sparkline(const struct drawing *d, const struct area *a, unsigned y, unsigned x, enum dash_series s)
{
    static const wchar_t blocks[] = L" \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588", ascii[] = L" .,:-=+*#";
    unsigned width = a->width > x ? a->width - x : 0, each;
    unsigned behind = dash_behind(d->m, s);
    double max = 0;

    if (y >= a->height || width < 4)
        return;
    if (width > 60)
        width = 60;
    each = 120 / width; /* two minutes, or nearly so */
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned c = 0; c < width; c++) {
            double v = 0;
            unsigned level;

            for (unsigned i = 0; i < each; i++) {
                double at = dash_at(d->m, s, behind + (width - 1 - c) * each + i);

                if (at > v)
                    v = at;
            }
            if (pass == 0) {
                if (v > max)
                    max = v;
                continue;
            }
            level = max > 0 && v > 0 ? 1 + (unsigned)(v / max * 7) : 0;
            grid_char(a->g, a->y + y, a->x + x + c, STYLE_BAR, (a->g->utf8 ? blocks : ascii)[level > 8 ? 8 : level]);
        }
    }
}

/* "label  rate/s  sparkline"; where there is room, the sum before it. */
static void rate_row(const struct drawing *d, const struct area *a, unsigned y, const char *label, enum dash_series s,
                     bool is_bytes)
{
    const char *(*number)(double, char[32]) = is_bytes ? bytes : short_number;
    bool wide = a->width >= 70;
    char text[32];

    ROWF(a, y, 0, STYLE_PLAIN, "%-9s%8s/s", label, number(dash_rate(d->m, s, RATE_S), text));
    if (wide)
        ROWF(a, y, 21, STYLE_DIM, "%8s in 10 min", number(dash_sum(d->m, s), text));
    sparkline(d, a, y, wide ? 40 : 21, s);
}

static bool is_zoomed(const struct drawing *d, enum view_panel p)
{
    return d->v->zoom == p;
}

/* The first of `count` entries to show in `rows`: keeps the scrolling of a zoomed panel within what there is. */
static size_t scrolled(const struct drawing *d, enum view_panel p, size_t count, size_t rows)
{
    size_t most = count > rows ? count - rows : 0;

    if (!is_zoomed(d, p))
        return 0;
    if (d->v->scroll > most)
        d->v->scroll = most;
    return d->v->scroll;
}

/* --- panels --- */

static const char *or_dash(int64_t v, double divisor, char to[32])
{
    if (v < 0)
        snprintf(to, 32, "-");
    else
        short_number((double)v * divisor, to);
    return to;
}

static void draw_processes(const struct drawing *d, const struct area *a)
{
    struct dash_process **list;
    size_t count = dash_processes(d->m, d->v->order, &list), rows = a->height > 1 ? a->height - 1 : 0, from;
    bool wide = a->width >= 60;
    unsigned name;

    if (count && d->v->selected >= count)
        d->v->selected = count - 1;
    /* The selected one is always in sight. */
    from = d->v->selected >= rows && rows ? d->v->selected - rows + 1 : 0;
    ROWF(a, 0, 0, STYLE_DIM, "%7s %6s %6s", "PID", "CPU%", "MEM");
    if (wide)
        ROWF(a, 0, 21, STYLE_DIM, " %4s %5s %4s", "THR", "FD", "CHLD");
    ROWF(a, 0, wide ? 39 : 23, STYLE_DIM, "NAME");
    for (size_t i = 0; i < rows && from + i < count; i++) {
        const struct dash_process *p = list[from + i];
        unsigned y = 1 + (unsigned)i, indent = p->depth < 8 ? p->depth * 2 : 16;
        enum grid_style style = p->exit_ns ? STYLE_DIM : STYLE_PLAIN;
        char mem[32], thr[32], fd[32], child[32], cpu[32];

        if (p->cpu_hundredths < 0)
            snprintf(cpu, sizeof(cpu), "-");
        else
            snprintf(cpu, sizeof(cpu), "%.1f", (double)p->cpu_hundredths / 100);
        ROWF(a, y, 0, style, "%7u %6s %6s", p->pid, p->exit_ns ? "ended" : cpu, or_dash(p->mem_kib, 1024, mem));
        if (wide)
            ROWF(a, y, 21, style, " %4s %5s %4s", or_dash(p->threads, 1, thr), or_dash(p->fds, 1, fd),
                 or_dash(p->children, 1, child));
        name = row(a, y, (wide ? 39 : 23) + indent, style, p->name, strlen(p->name));
        if (is_zoomed(d, PANEL_PROCESSES))
            row(a, y, name + 2, STYLE_DIM, p->cmd, strlen(p->cmd));
        if (is_zoomed(d, PANEL_PROCESSES) && from + i == d->v->selected)
            grid_paint(d->g, a->y + y, a->x, a->width, STYLE_SELECTED);
    }
    free(list);
}

static void draw_network(const struct drawing *d, const struct area *a)
{
    rate_row(d, a, 0, "received", SERIES_NET_RX, true);
    rate_row(d, a, 1, "sent", SERIES_NET_TX, true);
    rate_row(d, a, 2, "opened", SERIES_NET_OPEN, false);
    rate_row(d, a, 3, "errors", SERIES_NET_ERROR, false);
}

static void draw_connections(const struct drawing *d, const struct area *a)
{
    const struct dash_connection *list[ROWS_MAX];
    size_t count = dash_connections(d->m, list, ROWS_MAX), rows = a->height > 1 ? a->height - 1 : 0;
    size_t from = scrolled(d, PANEL_CONNECTIONS, count, rows);
    bool wide = a->width >= 78;

    ROWF(a, 0, 0, STYLE_DIM, wide ? "%-5s %-21s %-21s %-8s %s" : "%-5s %-21s%.0s%.0s %s", "", "PEER",
         wide ? "LOCAL" : "", wide ? "SPEAKS" : "", "PROCESS");
    for (size_t i = 0; i < rows && from + i < count; i++) {
        const struct dash_connection *c = list[from + i];
        unsigned y = 1 + (unsigned)i, x = wide ? 59 : 28;
        const char *transport = strncmp(c->transport, "IP.", 3) == 0 ? c->transport + 3 : c->transport;

        ROWF(a, y, 0, STYLE_PLAIN, "%-5.5s %s", transport, c->peer[0] ? c->peer : "-");
        if (wide) {
            ROWF(a, y, 27, STYLE_PLAIN, " %-21s", c->local);
            ROWF(a, y, 49, STYLE_PLAIN, " %-8.8s", c->protocol);
        }
        ROWF(a, y, x - 1, STYLE_PLAIN, " %s[%u]", c->name, c->pid);
    }
}

static void draw_http(const struct drawing *d, const struct area *a)
{
    const struct dash_top *list[ROWS_MAX];
    size_t count = dash_top(d->m, TOP_HTTP, BY_TIME, list, ROWS_MAX), head = a->height < 5 ? 3 : 4;
    size_t rows = a->height > head ? a->height - head : 0;
    size_t from = scrolled(d, PANEL_HTTP, count, rows);
    int64_t p50 = dash_percentile(d->m, 50), p95 = dash_percentile(d->m, 95), p99 = dash_percentile(d->m, 99);

    rate_row(d, a, 0, "answered", SERIES_HTTP, false);
    rate_row(d, a, 1, "4xx, 5xx", SERIES_HTTP_ERROR, false);
    if (p50 < 0)
        ROWF(a, 2, 0, STYLE_PLAIN, "p50 -  p95 -  p99 -");
    else
        ROWF(a, 2, 0, STYLE_PLAIN, "p50 %lldms  p95 %lldms  p99 %lldms", (long long)p50, (long long)p95,
             (long long)p99);
    if (head == 4)
        ROWF(a, 3, 0, STYLE_DIM, "%7s %6s %7s  REQUEST, SLOWEST FIRST", "COUNT", "ERRORS", "MEAN");
    for (size_t i = 0; i < rows && from + i < count; i++) {
        const struct dash_top *t = list[from + i];
        unsigned y = (unsigned)(head + i);
        char number[32], errors[32], mean[32];
        size_t len;
        const char *name = bounded_key(t, &len);

        ROWF(a, y, 0, STYLE_PLAIN, "%7s %6s %5sms", short_number((double)t->count, number),
             short_number((double)t->errors, errors),
             short_number(t->timed ? (double)t->ms / (double)t->timed : 0, mean));
        row(a, y, 24, STYLE_PLAIN, name, len);
    }
}

static void draw_dns(const struct drawing *d, const struct area *a)
{
    const struct dash_top *list[ROWS_MAX];
    size_t count = dash_top(d->m, TOP_DNS, BY_COUNT, list, ROWS_MAX), head = a->height < 4 ? 2 : 3;
    size_t rows = a->height > head ? a->height - head : 0;
    size_t from = scrolled(d, PANEL_DNS, count, rows);

    rate_row(d, a, 0, "queries", SERIES_DNS, false);
    rate_row(d, a, 1, "failed", SERIES_DNS_ERROR, false);
    if (head == 3)
        ROWF(a, 2, 0, STYLE_DIM, "%7s %6s %7s  NAME", "COUNT", "FAILED", "MEAN");
    for (size_t i = 0; i < rows && from + i < count; i++) {
        const struct dash_top *t = list[from + i];
        char number[32], errors[32], mean[32];
        size_t len;
        const char *name = bounded_key(t, &len);

        ROWF(a, (unsigned)(head + i), 0, STYLE_PLAIN, "%7s %6s %5sms", short_number((double)t->count, number),
             short_number((double)t->errors, errors),
             short_number(t->timed ? (double)t->ms / (double)t->timed : 0, mean));
        row(a, (unsigned)(head + i), 24, STYLE_PLAIN, name, len);
    }
}

static void draw_files(const struct drawing *d, const struct area *a)
{
    const struct dash_top *list[ROWS_MAX];
    size_t count = dash_top(d->m, TOP_FILES, BY_BYTES, list, ROWS_MAX), head = a->height < 6 ? 4 : 5;
    size_t rows = a->height > head ? a->height - head : 0;
    size_t from = scrolled(d, PANEL_FILES, count, rows);

    rate_row(d, a, 0, "read", SERIES_FS_READ, true);
    rate_row(d, a, 1, "written", SERIES_FS_WRITE, true);
    rate_row(d, a, 2, "opened", SERIES_FS_OPEN, false);
    rate_row(d, a, 3, "errors", SERIES_FS_ERROR, false);
    if (head == 5)
        ROWF(a, 4, 0, STYLE_DIM, "%7s %8s  FILE, MOST BYTES FIRST", "OPENS", "BYTES");
    for (size_t i = 0; i < rows && from + i < count; i++) {
        const struct dash_top *t = list[from + i];
        char number[32], size[32];
        size_t len;
        const char *name = bounded_key(t, &len);

        ROWF(a, (unsigned)(head + i), 0, STYLE_PLAIN, "%7s %8s", short_number((double)t->count, number),
             bytes((double)t->bytes, size));
        row(a, (unsigned)(head + i), 18, STYLE_PLAIN, name, len);
    }
}

/* The last ones at the bottom, as in a log; scrolling goes up from there. */
static void draw_lines(const struct drawing *d, const struct area *a, enum view_panel panel, enum dash_lines what)
{
    size_t count = dash_line_count(d->m, what), back = scrolled(d, panel, count, a->height);
    size_t rows = count < a->height ? count : a->height;

    for (size_t i = 0; i < rows; i++) {
        const struct dash_line *l = dash_line(d->m, what, back + rows - 1 - i);
        bool bad = l && (strcmp(l->source, "stderr") == 0 || strcmp(l->source, "notice") == 0 ||
                         strcmp(l->source, "proc.crash") == 0 || strcmp(l->type, "notice") == 0);
        char at[32];
        unsigned x;

        if (!l)
            break;
        ROWF(a, (unsigned)i, 0, STYLE_DIM, "%s", clock_text(l->time_ns, at));
        x = row(a, (unsigned)i, 9, STYLE_PLAIN, l->proc, strlen(l->proc));
        ROWF(a, (unsigned)i, x, STYLE_PLAIN, "[%u]", l->pid);
        x += 3;
        for (uint32_t n = l->pid; n >= 10; n /= 10)
            x++;
        x = row(a, (unsigned)i, x + 1, bad ? STYLE_BAD : STYLE_GOOD, l->source, strlen(l->source));
        row(a, (unsigned)i, x + 1, STYLE_PLAIN, l->text, l->text_len);
    }
}

static void draw_console(const struct drawing *d, const struct area *a)
{
    draw_lines(d, a, PANEL_CONSOLE, LINES_CONSOLE);
}

static void draw_events(const struct drawing *d, const struct area *a)
{
    draw_lines(d, a, PANEL_EVENTS, LINES_EVENTS);
}

/* What stands behind the title: how much there is, and what isn't shown. */
static void title_more(const struct drawing *d, enum view_panel p, char to[128])
{
    static const signed char tops[PANEL_COUNT] = {
        [PANEL_HTTP] = TOP_HTTP + 1, [PANEL_DNS] = TOP_DNS + 1, [PANEL_FILES] = TOP_FILES + 1};
    uint64_t dropped = tops[p] ? dash_top_dropped(d->m, tops[p] - 1) : 0;
    int n = 0;

    to[0] = '\0';
    if (p == PANEL_PROCESSES) {
        n = snprintf(to, 128, " (%s)", order_names[d->v->order]);
        dropped = dash_processes_dropped(d->m);
    } else if (p == PANEL_CONNECTIONS) {
        n = snprintf(to, 128, ": %zu open", dash_connection_count(d->m));
        dropped = dash_connections_dropped(d->m);
    } else if (p == PANEL_EVENTS || p == PANEL_CONSOLE) {
        char rate[32];
        double r = dash_rate(d->m, p == PANEL_EVENTS ? SERIES_EVENTS : SERIES_CONSOLE, RATE_S);

        n = snprintf(to, 128, ": %s/s%s%.80s", short_number(r, rate), d->v->filter[0] ? ", filter: " : "",
                     d->v->filter);
    }
    if (dropped)
        snprintf(to + n, 128 - (size_t)n, ", %llu not kept", (unsigned long long)dropped);
}

static void draw_panel(const struct drawing *d, enum view_panel p, unsigned y, unsigned x, unsigned height,
                       unsigned width)
{
    static void (*const draw[PANEL_COUNT])(const struct drawing *, const struct area *) = {
        [PANEL_PROCESSES] = draw_processes, [PANEL_NETWORK] = draw_network, [PANEL_CONNECTIONS] = draw_connections,
        [PANEL_HTTP] = draw_http,           [PANEL_DNS] = draw_dns,         [PANEL_FILES] = draw_files,
        [PANEL_CONSOLE] = draw_console,     [PANEL_EVENTS] = draw_events};
    struct area a = {d->g, y + 1, x, height - 1, width};
    unsigned at;
    char more[128];

    if (height < 1)
        return;
    title_more(d, p, more);
    at = grid_putf(d->g, y, x, width, STYLE_TITLE, "%d %s%s ", (int)p, titles[p], more);
    for (; at < x + width; at++)
        grid_char(d->g, y, at, STYLE_TITLE, d->g->utf8 ? L'\u2500' : L'-');
    draw[p](d, &a);
}

/* Panels of a column one below the other, sharing its height. */
static void draw_column(const struct drawing *d, const enum view_panel *panels, const unsigned *shares, size_t count,
                        unsigned y, unsigned x, unsigned height, unsigned width)
{
    unsigned total = 0, left = height;

    for (size_t i = 0; i < count; i++)
        total += shares[i];
    for (size_t i = 0; i < count; i++) {
        unsigned h = i + 1 == count ? left : height * shares[i] / total;

        draw_panel(d, panels[i], y, x, h, width);
        y += h;
        left -= h;
    }
}

static void draw_overview(const struct drawing *d, unsigned y, unsigned height)
{
    static const enum view_panel left[] = {PANEL_PROCESSES, PANEL_FILES, PANEL_CONSOLE};
    static const enum view_panel right[] = {PANEL_NETWORK, PANEL_CONNECTIONS, PANEL_HTTP, PANEL_DNS};
    static const unsigned left_shares[] = {7, 5, 4}, right_shares[] = {4, 4, 5, 3};
    unsigned events = height / 4 < 4 ? 4 : height / 4, top = height - events, half = d->g->width / 2;

    draw_column(d, left, left_shares, 3, y, 0, top, half);
    draw_column(d, right, right_shares, 4, y, half + 1, top, d->g->width - half - 1);
    draw_panel(d, PANEL_EVENTS, y + top, 0, events, d->g->width);
}

static void draw_help(const struct drawing *d, unsigned y)
{
    static const char *const text[] = {
        "1-8        one panel on the whole screen; Tab: the next one; 0: all of them",
        "up down    scroll, or select a process; PgUp PgDn: by ten",
        "s          order of processes: tree, CPU, memory, events",
        "Enter      only the selected process (in panel 1); a: all processes again",
        "/          only events with a text in them (none: all); Enter: apply, Esc: leave it",
        "",
        "Space      stop the time, or let it go on",
        "left right ten seconds back, forward; [ ] a minute",
        "Home End   to the beginning; to the end: live while it is being recorded",
        "+ -        faster, slower, up to 64 times; not live",
        "",
        "q          quit; Esc: back to all panels, then quit; ?: this page",
        "",
        "Bars: two minutes, each to its own highest. Ended processes stay ten seconds.",
        "Rates: means of ten seconds. p50 p95 p99: of a minute, at most a quarter high.",
        "Tables and sums: of the ten minutes before the time that is shown. Bytes, CPU,",
        "memory and errors come once a period: every ten seconds, if nothing else is",
        "configured. Losses: of whole sessions, so far.",
    };

    grid_put(d->g, y, 0, d->g->width, STYLE_TITLE, "Keys", 4);
    for (size_t i = 0; i < sizeof(text) / sizeof(*text); i++)
        grid_put(d->g, y + 1 + (unsigned)i, 1, d->g->width - 2, STYLE_PLAIN, text[i], strlen(text[i]));
}

static void draw_head(const struct drawing *d)
{
    const struct view *v = d->v;
    char at[32], rate[32], right[96], only[32] = "";
    unsigned n;

    if (dash_only_pid(d->m))
        snprintf(only, sizeof(only), "process %u, ", dash_only_pid(d->m));
    n = (unsigned)snprintf(right, sizeof(right), " %s events/s  %s  %.16s ",
                           short_number(dash_rate(d->m, SERIES_EVENTS, RATE_S), rate), date_text(dash_now(d->m), at),
                           v->state);
    grid_putf(d->g, 0, 0, d->g->width - n, STYLE_TITLE, "scope dash  %s%s", only, v->what);
    grid_put(d->g, 0, d->g->width - n, n, v->live ? STYLE_GOOD : STYLE_BAD, right, n);
    if (v->losses[0])
        n = grid_putf(d->g, 1, 0, d->g->width, STYLE_BAD, "LOST: %s", v->losses);
    else
        n = grid_putf(d->g, 1, 0, d->g->width, STYLE_DIM, "Lost: nothing");
    grid_put(d->g, 1, n + 2, d->g->width, STYLE_BAD, v->note, strlen(v->note));
}

static void draw_foot(const struct drawing *d)
{
    unsigned y = d->g->height - 1;

    if (d->v->typing)
        grid_putf(d->g, y, 0, d->g->width, STYLE_PLAIN, "/%s_", d->v->typing);
    else
        grid_putf(d->g, y, 0, d->g->width, STYLE_DIM, "%s",
                  "q quit ? help 1-8 panel / filter s sort Space stop <- -> time Home End +- speed");
}

void view_draw(struct view *v, const struct model *m, struct grid *g)
{
    struct drawing d = {v, m, g};

    grid_resize(g, g->width, g->height);
    if (g->width < VIEW_MIN_WIDTH || g->height < VIEW_MIN_HEIGHT) {
        grid_putf(g, 0, 0, g->width, STYLE_PLAIN, "needs 80x24,");
        grid_putf(g, 1, 0, g->width, STYLE_PLAIN, "this is %ux%u", g->width, g->height);
        grid_putf(g, 2, 0, g->width, STYLE_PLAIN, "q: quit");
        return;
    }
    draw_head(&d);
    if (v->help)
        draw_help(&d, 2);
    else if (v->zoom)
        draw_panel(&d, v->zoom, 2, 0, g->height - 3, g->width);
    else
        draw_overview(&d, 2, g->height - 3);
    draw_foot(&d);
}

uint32_t view_selected_pid(const struct view *v, const struct model *m)
{
    struct dash_process **list;
    size_t count = dash_processes(m, v->order, &list);
    uint32_t pid = v->selected < count ? list[v->selected]->pid : 0;

    free(list);
    return pid;
}
