/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/report_touched.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "config/config.h"
#include "session/session.h"
#include "summary/touched.h"

#define CONFIG_MAX (1u << 20)

/* --- of a session --- */

/* What the session was recorded with, as far as it can be read: else the default list is taken. */
static void add_config(struct config_sources *c, const struct session *s)
{
    char *path = xasprintf("%s/scope.yml", s->dir), *text = xmalloc(CONFIG_MAX);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    ssize_t n = -1;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && session_owns(s, fd))
        n = read(fd, text, CONFIG_MAX);
    if (n > 0)
        config_add_text(c, path, text, (size_t)n, NULL, NULL);
    if (fd >= 0)
        close(fd);
    free(path);
    free(text);
}

struct touched *report_touched_new(const struct session *s)
{
    /* Of a program that was attached to, and of a host, the metadata have the directory of the tool. */
    bool ours = s->kind && (strcmp(s->kind, "run") == 0 || strcmp(s->kind, "watch") == 0);
    struct config_sources *sources = config_sources_new();
    struct config *config;
    struct touched *t;

    add_config(sources, s);
    config = config_for(sources, NULL);
    t = touched_new(ours ? s->cwd : NULL, config->notice.file.read, getenv("HOME"));
    config_free(config);
    config_sources_free(sources);
    return t;
}

/* Losses of docs/data-model.md, 6, by which something that was done may be missing. */
static bool hides(const char *kind)
{
    static const char *const kinds[] = {"record", "call",        "slot",        "copy",
                                        "torn",   "segment",     "site",        "descriptor",
                                        "queue",  "destination", "event_queue", "event_destination"};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
        if (strcmp(kind, kinds[i]) == 0)
            return true;
    return false;
}

uint64_t report_touched_lost(const struct session *s)
{
    uint64_t n = s->held_back;

    for (size_t i = 0; i < s->lost_count; i++)
        if (s->lost[i].kind && hides(s->lost[i].kind))
            n += s->lost[i].count;
    return n;
}

/* --- tables --- */

static void cell_time(struct table *t, uint64_t ns)
{
    char text[32];

    table_cell(t, ns ? text_time(ns, text) : "?");
}

static void cell_how(struct table *t, const struct touched_item *i)
{
    struct buf b = BUF_INIT;

    touched_how(&b, i);
    table_cell(t, buf_cstr(&b));
    buf_free(&b);
}

static void cell_who(struct table *t, const struct touched_item *i)
{
    struct buf b = BUF_INIT;

    chain_text(&b, i->who);
    table_cell(t, buf_cstr(&b));
    buf_free(&b);
}

/* A name that isn't known for sure is marked. */
static void cell_file(struct table *t, const struct touched_item *i)
{
    table_cellf(t, "%s%s", i->what, i->unresolved ? " (?)" : "");
}

static void write_cells(struct table *t, const struct touched_item *i)
{
    cell_time(t, i->first_ns);
    table_uint(t, i->written);
    cell_how(t, i);
    cell_file(t, i);
    cell_who(t, i);
}

static void secret_cells(struct table *t, const struct touched_item *i)
{
    cell_time(t, i->first_ns);
    table_uint(t, i->count);
    table_uint(t, i->read);
    cell_how(t, i);
    cell_file(t, i);
    table_cell(t, i->more ? i->more : "-");
    cell_who(t, i);
}

static void program_cells(struct table *t, const struct touched_item *i)
{
    cell_time(t, i->first_ns);
    table_uint(t, i->count);
    table_cell(t, i->what);
    table_cell(t, i->more ? i->more : "-");
    cell_who(t, i);
}

static void host_cells(struct table *t, const struct touched_item *i)
{
    struct buf names = BUF_INIT;

    for (size_t k = 0; k < TOUCHED_NAMES && i->name[k]; k++)
        buf_printf(&names, "%s%s", k ? " " : "", i->name[k]);
    cell_time(t, i->first_ns);
    table_uint(t, i->written);
    table_uint(t, i->read);
    table_uint(t, i->count);
    table_cell(t, i->how & TOUCHED_INCOMING ? "in" : "out");
    table_cell(t, i->transport);
    table_cell(t, i->what);
    table_uint(t, i->port);
    table_cell(t, names.len ? buf_cstr(&names) : "-");
    cell_who(t, i);
    buf_free(&names);
}

static void listen_cells(struct table *t, const struct touched_item *i)
{
    cell_time(t, i->first_ns);
    table_cell(t, i->transport);
    table_cell(t, *i->what ? i->what : "?");
    if (i->port)
        table_uint(t, i->port);
    else
        table_cell(t, "?");
    cell_who(t, i);
}

static void delete_cells(struct table *t, const struct touched_item *i)
{
    cell_time(t, i->first_ns);
    cell_how(t, i);
    cell_file(t, i);
    table_cell(t, i->more ? i->more : "-");
    cell_who(t, i);
}

static void unseen_cells(struct table *t, const struct touched_item *i)
{
    cell_time(t, i->first_ns);
    table_cell(t, i->what);
    table_cell(t, i->more ? i->more : "-");
    cell_who(t, i);
}

#define COLUMNS_MAX 10

static const struct section {
    const char *title;
    struct table_column column[COLUMNS_MAX];
    size_t columns;
    void (*cells)(struct table *, const struct touched_item *);
    const char *left_out; /* what is said of findings that are only shown with --all */
} sections[TOUCHED_KINDS] = {
    [TOUCHED_WRITE] = {"Files written",
                       {{"FIRST", 4, 9, true}, /* without its day */
                        {"BYTES", 5, 0, false},
                        {"HOW", 3, 8, false},
                        {"FILE", 1, 32, true},
                        {"BY", 2, 16, true}},
                       5,
                       write_cells,
                       "gone again"},
    [TOUCHED_SECRET] = {"Secrets read",
                        {{"FIRST", 5, 9, true},
                         {"COUNT", 2, 0, false},
                         {"BYTES", 6, 0, false},
                         {"HOW", 4, 0, false},
                         {"FILE", 2, 32, true},
                         {"ON THE LIST AS", 1, 0, false},
                         {"BY", 3, 16, true}},
                        7,
                        secret_cells,
                        NULL},
    [TOUCHED_PROGRAM] = {"Programs run",
                         {{"FIRST", 3, 9, true},
                          {"COUNT", 4, 0, false},
                          {"PROGRAM", 2, 16, true},
                          {"COMMAND", 1, 16, false},
                          {"BY", 2, 16, true}},
                         5,
                         program_cells,
                         NULL},
    [TOUCHED_HOST] = {"Hosts",
                      {{"FIRST", 5, 9, true},
                       {"SENT", 0, 0, false},
                       {"RECEIVED", 0, 0, false},
                       {"COUNT", 2, 0, false},
                       {"WAY", 6, 0, false},
                       {"TRANSPORT", 1, 0, false},
                       {"IP", 7, 15, false},
                       {"PORT", 0, 0, false},
                       {"NAMES", 4, 10, true},
                       {"BY", 3, 12, true}},
                      10,
                      host_cells,
                      NULL},
    [TOUCHED_LISTEN] = {"Listening ports",
                        {{"FIRST", 3, 9, true},
                         {"TRANSPORT", 2, 0, false},
                         {"IP", 4, 15, false},
                         {"PORT", 0, 0, false},
                         {"BY", 1, 16, true}},
                        5,
                        listen_cells,
                        NULL},
    [TOUCHED_DELETE] = {"Files deleted",
                        {{"FIRST", 5, 9, true},
                         {"HOW", 4, 8, false},
                         {"FILE", 2, 24, true},
                         {"OTHER NAME", 1, 10, true},
                         {"BY", 3, 16, true}},
                        5,
                        delete_cells,
                        "of its own making"},
    [TOUCHED_UNSEEN] = {"Not observed",
                        {{"FIRST", 3, 9, true}, {"WHAT", 4, 32, false}, {"FILE", 1, 16, true}, {"BY", 2, 12, true}},
                        4,
                        unseen_cells,
                        NULL},
};

static bool passes_by(const struct touched_item *i)
{
    return i->gone || i->own;
}

static void print_section(const struct touched *t, enum touched_kind kind, bool all, size_t limit, bool *first)
{
    const struct section *s = &sections[kind];
    size_t n = touched_count(t, kind), shown = 0, printed = 0;
    uint64_t cut = touched_cut(t, kind);
    struct table *table;

    for (size_t i = 0; i < n; i++)
        shown += all || !passes_by(touched_at(t, kind, i));
    if (!n && !cut && kind != TOUCHED_WRITE && kind != TOUCHED_SECRET && kind != TOUCHED_DELETE)
        return; /* of these, "none" is an answer, too */
    printf("%s%s", *first ? "" : "\n", s->title);
    *first = false;
    if (kind == TOUCHED_WRITE && touched_dir(t)) {
        struct buf b = BUF_INIT;

        text_clean(&b, touched_dir(t), strlen(touched_dir(t)));
        printf(" outside of %s", buf_cstr(&b));
        buf_free(&b);
    }
    if (shown)
        printf(": %zu", shown);
    else
        printf(": none");
    if (shown > limit)
        printf(", the first %zu", limit);
    if (shown < n)
        printf("; %zu %s%s (--all)", n - shown, shown ? "more " : "", s->left_out);
    if (cut)
        printf("; there was no room for %llu more", (unsigned long long)cut);
    putchar('\n');
    if (!shown)
        return;
    table = table_new(s->column, s->columns);
    for (size_t i = 0; i < n && printed < limit; i++) {
        const struct touched_item *item = touched_at(t, kind, i);

        if (!all && passes_by(item))
            continue;
        s->cells(table, item);
        printed++;
    }
    table_print(table, stdout);
}

/* What the list can't have, last, as that is what stays on the screen. */
static void print_missing(const struct touched *t, const struct session *s)
{
    const char *comma = "";

    if (touched_inside(t))
        printf("\nFiles written inside of the working directory: %zu\n", touched_inside(t));
    if (touched_cut_processes(t))
        printf("\n%llu processes were too many: what they did is listed as that of ?\n",
               (unsigned long long)touched_cut_processes(t));
    if (!touched_lost(t))
        return;
    fputs("\nThis list may be incomplete: ", stdout);
    if (s->held_back) {
        printf("%llu events were held back", (unsigned long long)s->held_back);
        comma = "; ";
    }
    for (size_t i = 0; i < s->lost_count; i++)
        if (s->lost[i].kind && hides(s->lost[i].kind) && s->lost[i].count) {
            printf("%s%llu of kind %s were lost", comma, (unsigned long long)s->lost[i].count, s->lost[i].kind);
            comma = "; ";
        }
    putchar('\n');
}

static void print_json(const struct touched *t, size_t limit)
{
    struct buf b = BUF_INIT;

    for (int k = 0; k < TOUCHED_KINDS; k++)
        for (size_t i = 0; i < touched_count(t, (enum touched_kind)k) && i < limit; i++) {
            buf_reset(&b);
            touched_json(&b, touched_at(t, (enum touched_kind)k, i));
            buf_char(&b, '\n');
            fwrite(b.p, 1, b.len, stdout);
        }
    buf_reset(&b);
    touched_end_json(&b, t);
    buf_char(&b, '\n');
    fwrite(b.p, 1, b.len, stdout);
    buf_free(&b);
}

void report_touched_print(const struct touched *t, const struct session *s, bool json, bool all, size_t limit)
{
    bool first = true, any = false;

    if (json) {
        print_json(t, limit);
        return;
    }
    for (int k = 0; k < TOUCHED_KINDS; k++)
        any |= touched_count(t, (enum touched_kind)k) || touched_cut(t, (enum touched_kind)k);
    for (int k = 0; any && k < TOUCHED_KINDS; k++)
        print_section(t, (enum touched_kind)k, all, limit, &first);
    if (first)
        puts("Nothing was recorded");
    print_missing(t, s);
}
