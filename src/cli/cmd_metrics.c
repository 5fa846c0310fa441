/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/records.h"

#define GRAPH_ROWS 20
#define WIDTH_UNKNOWN 160
#define NAMES_MAX 32   /* metrics that can be asked for */
#define OTHERS_MAX 256 /* others, of which one may be meant */

static const struct cli_option options[] = {
    {"metric", "LIST", "Only these metrics, by their exact names", NULL, 'm', false, false},
    {"graph", NULL, "A graph of one metric (--metric) over time", NULL, 'g', false, false},
    {"cols", NULL, "One column for each metric of --metric, values in time order", NULL, 'c', false, false},
    {"uniq", NULL, "Only the first sample of each metric", NULL, 'u', false, false},
    {"json", NULL, "The lines of NDJSON that a destination gets", NULL, 'j', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope metrics", "every sample of the last session"},
    {"scope metrics -u", "which metrics there are"},
    {"scope metrics -m proc.cpu_perc -g", "one of them as a graph"},
    {"scope metrics -m fs.read,fs.write -c", "two side by side"},
    {0},
};

static const char *type_name(const char *type)
{
    static const char *const names[][2] = {
        {"counter", "Count"}, {"gauge", "Gauge"}, {"timer", "Timer"}, {"histogram", "Histogram"}, {"set", "Set"}};

    for (size_t i = 0; type && i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(type, names[i][0]) == 0)
            return names[i][1];
    return type ? type : "";
}

struct wanted {
    char *names[NAMES_MAX + 1]; /* NULL-terminated */
    bool found[NAMES_MAX];
    size_t count;
};

/* Which of those that are wanted a sample's name is, or -1. */
static int find_name(struct wanted *w, const char *name)
{
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->names[i], name) == 0) {
            w->found[i] = true;
            return (int)i;
        }
    return -1;
}

static bool is_among(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* Names that may be slips: looks through what there is. */
static void tell_missing(struct wanted *w, const struct session *s)
{
    const char *names[OTHERS_MAX + 1] = {NULL};
    struct records *r = NULL;
    struct sample sample;
    size_t missing = 0, count = 0;

    for (size_t i = 0; i < w->count; i++)
        missing += !w->found[i];
    if (!missing || records_open(s, RECORDS_METRICS, NULL, &r) < 0)
        return;
    while (count < OTHERS_MAX && sample_next(r, &sample) == 1) {
        if (!is_among(names, count, sample.name))
            names[count++] = xstrdup(sample.name);
        sample_clear(&sample);
    }
    records_close_silently(r); /* what is damaged has been told */
    for (size_t i = 0; i < w->count; i++) {
        const char *like = cli_closest(w->names[i], names);

        if (w->found[i])
            continue;
        cli_error("there are no samples of %s in this session", w->names[i]);
        if (like)
            cli_hint("did you mean %s?", like);
        else
            cli_hint("`scope metrics -u` lists the metrics that there are");
    }
    for (size_t i = 0; i < count; i++)
        free((char *)names[i]);
}

/* --- the graph --- */

struct series {
    double *value, *time;
    size_t count, cap;
};

static void series_add(struct series *s, double value, double time)
{
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 256;
        s->value = xrealloc(s->value, s->cap, sizeof(double));
        s->time = xrealloc(s->time, s->cap, sizeof(double));
    }
    s->value[s->count] = value;
    s->time[s->count++] = time;
}

/* Columns are means of the samples that fall into them; with fewer samples than columns each has its own. */
static void print_graph(const struct series *s, const char *name, const char *unit)
{
    unsigned width = cli_width() ? cli_width() : WIDTH_UNKNOWN, label = 12, columns;
    double *column, min, max, step;
    struct buf clean = BUF_INIT;
    char text[32];

    columns = width > label + 12 ? width - label - 1 : 10;
    if (s->count < columns)
        columns = (unsigned)s->count;
    column = xcalloc(columns, sizeof(double));
    for (unsigned c = 0; c < columns; c++) {
        size_t from = s->count * c / columns, to = s->count * (c + 1) / columns;

        for (size_t i = from; i < to; i++)
            column[c] += s->value[i] / (double)(to - from);
    }
    min = max = column[0];
    for (unsigned c = 1; c < columns; c++) {
        min = fmin(min, column[c]);
        max = fmax(max, column[c]);
    }
    step = max > min ? (max - min) / (GRAPH_ROWS - 1) : 0;
    for (int row = GRAPH_ROWS - 1; row >= 0; row--) {
        double at = min + step * row;

        if (step == 0 && row != GRAPH_ROWS / 2) { /* a flat line, in the middle */
            printf("%*s |\n", (int)label - 2, "");
            continue;
        }
        printf("%*.*g |", (int)label - 1, 6, at);
        for (unsigned c = 0; c < columns; c++) {
            int here = step > 0 ? (int)lround((column[c] - min) / step) : row;
            int before = c == 0 || step == 0 ? here : (int)lround((column[c - 1] - min) / step);
            bool between = (row > before && row < here) || (row < before && row > here);

            putchar(here == row ? '*' : between ? '|' : ' ');
        }
        putchar('\n');
    }
    printf("%*s +", (int)label - 1, "");
    for (unsigned c = 0; c < columns; c++)
        putchar('-');
    putchar('\n');
    if (unit)
        text_clean(&clean, unit, strlen(unit)); /* a program can have chosen it */
    printf("%*s%s%s%s%s, %zu samples", (int)label, "", name, clean.len ? " [" : "", buf_cstr(&clean), clean.len ? "]" : "",
           s->count);
    buf_free(&clean);
    if (s->time[0] > 0) {
        printf(", %s", text_time((uint64_t)(s->time[0] * 1e9), text));
        printf(" to %s", text_time((uint64_t)(s->time[s->count - 1] * 1e9), text));
    }
    putchar('\n');
    free(column);
}

/* --- the command --- */

static int read_columns(struct records *r, struct wanted *w, bool graph)
{
    struct series series[NAMES_MAX] = {{0}};
    char *unit = NULL;
    struct sample s;
    size_t rows = 0, total = 0;
    int rc;

    while ((rc = sample_next(r, &s)) == 1) {
        int i = find_name(w, s.name);

        if (i >= 0 && !isnan(s.value)) {
            series_add(&series[i], s.value, s.time);
            if (!unit && s.unit)
                unit = xstrdup(s.unit);
        }
        sample_clear(&s);
    }
    for (size_t i = 0; i < w->count; i++) {
        total += series[i].count;
        if (series[i].count > rows)
            rows = series[i].count;
    }
    if (total == 0) {
        puts("No metrics available");
    } else if (graph) {
        print_graph(&series[0], w->names[0], unit);
    } else {
        struct table_column columns[NAMES_MAX] = {{0}};
        struct table *t;

        for (size_t i = 0; i < w->count; i++)
            columns[i].header = w->names[i];
        t = table_new(columns, w->count);

        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < w->count; i++) {
                if (r < series[i].count)
                    table_cellf(t, "%.15g", series[i].value[r]);
                else
                    table_cell(t, "");
            }
        table_print(t, stdout);
    }
    for (size_t i = 0; i < w->count; i++) {
        free(series[i].value);
        free(series[i].time);
    }
    free(unit);
    return rc;
}

static int list_samples(struct records *r, struct wanted *w, bool uniq, bool json)
{
    static const struct table_column columns[] = {
        {"TIME", 2, 0, false}, {"NAME", 0, 0, false}, {"VALUE", 0, 0, false}, {"TYPE", 0, 0, false},
        {"UNIT", 0, 0, false}, {"PID", 0, 0, false},  {"TAGS", 1, 12, false},
    };
    struct table *t = json ? NULL : table_new(columns, sizeof(columns) / sizeof(*columns));
    char **seen = NULL;
    size_t seen_count = 0, shown = 0;
    struct sample s;
    char text[32];
    int rc;

    while ((rc = sample_next(r, &s)) == 1) {
        bool show = w->count == 0 || find_name(w, s.name) >= 0;

        for (size_t i = 0; uniq && show && i < seen_count; i++)
            show = strcmp(seen[i], s.name) != 0;
        if (!show) {
            sample_clear(&s);
            continue;
        }
        if (uniq) {
            seen = xrealloc(seen, seen_count + 1, sizeof(char *));
            seen[seen_count++] = xstrdup(s.name);
        }
        shown++;
        if (json) {
            records_print(r, stdout);
        } else {
            table_cell(t, s.time > 0 ? text_time((uint64_t)(s.time * 1e9), text) : "-");
            table_cell(t, s.name);
            table_cell(t, s.text);
            table_cell(t, type_name(s.type));
            table_cell(t, s.unit ? s.unit : "");
            if (s.pid)
                table_cellf(t, "%lld", (long long)s.pid);
            else
                table_cell(t, "");
            table_cell(t, s.tags.p ? s.tags.p : "");
        }
        sample_clear(&s);
    }
    for (size_t i = 0; i < seen_count; i++)
        free(seen[i]);
    free(seen);
    if (t && shown)
        table_print(t, stdout);
    else if (t)
        puts("No metrics available");
    if (t && !shown)
        table_free(t);
    return rc;
}

static int print_all(struct records *r)
{
    int rc;

    while ((rc = records_next(r)) == 1 && !ferror(stdout))
        records_print(r, stdout);
    return rc < 0 ? rc : 0;
}

static int show(const struct args *a, struct wanted *w, const struct session *s)
{
    const struct records_want want = {.sources = w->count ? w->names : NULL};
    struct records *r;
    int rc = records_open(s, RECORDS_METRICS, &want, &r);

    if (rc < 0)
        return rc == -ENOTSUP ? 0 : EXIT_FAILED;
    if (args_has(a, "graph") || args_has(a, "cols"))
        rc = read_columns(r, w, args_has(a, "graph"));
    else if (args_has(a, "json") && !args_has(a, "uniq") && !w->count)
        rc = print_all(r);
    else
        rc = list_samples(r, w, args_has(a, "uniq"), args_has(a, "json"));
    if (rc < 0)
        cli_error("reading the metrics: %s", strerror(-rc));
    records_close(r);
    if (rc == 0)
        tell_missing(w, s);
    return rc < 0 ? EXIT_FAILED : 0;
}

static int run(struct args *a)
{
    static const char *const conflicts[][2] = {
        {"graph", "cols"}, {"graph", "uniq"}, {"graph", "json"}, {"cols", "json"}, {"cols", "uniq"}};
    struct wanted w = {.count = 0};
    const char *list = args_get(a, "metric");
    struct session s;
    int rc;

    for (size_t i = 0; i < sizeof(conflicts) / sizeof(*conflicts); i++)
        if ((rc = args_conflict(a, conflicts[i][0], conflicts[i][1])))
            return rc;
    if ((args_has(a, "graph") || args_has(a, "cols")) && (!list || !*list))
        return cli_usage(a->command, "--%s needs --metric", args_has(a, "graph") ? "graph" : "cols");
    if (args_has(a, "graph") && strchr(list, ','))
        return cli_usage(a->command, "--graph shows one metric");
    while (list && *list) {
        size_t n = strcspn(list, ",");

        if (n && w.count == NAMES_MAX)
            return cli_usage(a->command, "--metric takes at most %d names", NAMES_MAX);
        if (n)
            w.names[w.count++] = xstrndup(list, n);
        list += n;
        list += *list == ',';
    }
    rc = cli_session(a, &s);
    if (rc == 0) {
        if (args_has(a, "json"))
            cli_buffer();
        cli_color(a);
        rc = show(a, &w, &s);
        session_clear(&s);
    }
    for (size_t i = 0; i < w.count; i++)
        free(w.names[i]);
    return rc;
}

const struct cli_command command_metrics = {
    .name = "metrics",
    .summary = "Show the metrics of a session",
    .usage = "[OPTIONS]",
    .description =
        "Prints one line per sample in the order in which they were sent. Counters are the difference since the sample "
        "before. Files in StatsD format can be read as well; that format has no times. --graph and --cols need "
        "--metric.",
    .options = options,
    .more_options = cli_session_options,
    .examples = examples,
    .run = run,
};
