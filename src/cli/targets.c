/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/progname.h"
#include "inject/process.h"

const struct cli_option cli_target_options[] = {
    CLI_TARGET_OPTIONS,
    {0},
};

#define PASSES 3

struct found {
    pid_t *v;
    size_t count;
};

static void add(struct found *f, pid_t pid)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->v[i] == pid)
            return;
    f->v = xrealloc(f->v, f->count + 1, sizeof(pid));
    f->v[f->count++] = pid;
}

/* Calls fn for each process but this one. */
static void each_process(void (*fn)(pid_t pid, void *ctx), void *ctx)
{
    DIR *d = opendir("/proc");
    struct dirent *e;

    while (d && (e = readdir(d))) {
        char *end;
        long pid = strtol(e->d_name, &end, 10);

        if (!*end && pid > 0 && pid != getpid())
            fn((pid_t)pid, ctx);
    }
    if (d)
        closedir(d);
}

static bool is_observed(pid_t pid)
{
    struct process_probe probe;
    struct process_maps maps;
    bool found;

    if (process_maps(pid, &maps) < 0)
        return false;
    found = process_find_probe(pid, &maps, &probe, NULL);
    process_maps_free(&maps);
    return found;
}

struct search {
    const char *name; /* NULL: any */
    bool observed;
    struct found found;
};

/* The name that its events have; the kernel's short one and that of the executable do, too. */
static bool has_name(pid_t pid, const struct process_facts *f, const char *name)
{
    char *exe, *base, *proc, path[32], argv[4096];
    ssize_t n = -1;
    bool same;
    int fd;

    if (strcmp(f->name, name) == 0)
        return true;
    exe = process_link(pid, "exe");
    base = strrchr(exe, '/');
    same = base && strcmp(base + 1, name) == 0;
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    fd = same ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, argv, sizeof(argv) - 1);
        close(fd);
    }
    if (n > 0) {
        argv[n] = '\0';
        proc = program_name(exe, f->name, argv, (size_t)n);
        same = strcmp(proc, name) == 0;
        free(proc);
    }
    free(exe);
    return same;
}

static void match(pid_t pid, void *ctx)
{
    struct search *s = ctx;
    struct process_facts f;

    if (process_facts(pid, &f) < 0 || f.kernel_thread || (s->name && !has_name(pid, &f, s->name)) ||
        (s->observed && !is_observed(pid)))
        return;
    add(&s->found, pid);
}

static void match_child(pid_t pid, void *ctx)
{
    struct search *s = ctx;
    struct process_facts f;

    if (process_facts(pid, &f) < 0 || f.kernel_thread || (s->observed && !is_observed(pid)))
        return;
    for (size_t i = 0; i < s->found.count; i++)
        if ((uint32_t)s->found.v[i] == f.ppid) {
            add(&s->found, pid);
            return;
        }
}

static void print(FILE *to, const pid_t *pids, size_t count)
{
    static const struct table_column columns[] = {{"ID", 0, 0, false},
                                                  {"PID", 0, 0, false},
                                                  {"USER", 0, 0, false},
                                                  {"SCOPED", 0, 0, false},
                                                  {"COMMAND", 1, 12, true}};
    struct table *t = table_new(columns, sizeof(columns) / sizeof(*columns));

    for (size_t i = 0; i < count; i++) {
        struct process_facts facts;
        char user[64], *exe = process_link(pids[i], "exe");

        if (process_facts(pids[i], &facts) < 0)
            facts = (struct process_facts){0};
        table_cellf(t, "%zu", i + 1);
        table_cellf(t, "%d", (int)pids[i]);
        table_cell(t, text_user(facts.uid, user));
        table_cell(t, is_observed(pids[i]) ? "true" : "false");
        table_cell(t, *exe ? exe : facts.name);
        free(exe);
    }
    table_print(t, to);
}

bool cli_can_ask(void)
{
    return isatty(STDIN_FILENO) && (isatty(STDOUT_FILENO) || isatty(STDERR_FILENO));
}

int cli_choose(const pid_t *pids, size_t count, pid_t *ret)
{
    FILE *to = isatty(STDOUT_FILENO) ? stdout : stderr;
    char line[32] = "", *end = line;
    unsigned long n = 0;

    if (!cli_can_ask()) {
        print(stderr, pids, count);
        return EXIT_FAILED;
    }
    print(to, pids, count);
    fputs("Select an ID from the list: ", to);
    fflush(to);
    if (fgets(line, sizeof(line), stdin) && isdigit((unsigned char)*line))
        n = strtoul(line, &end, 10);
    if (!n || n > count || end[strspn(end, " \n")]) {
        line[strcspn(line, "\n")] = '\0';
        cli_error("invalid selection: '%s' is no ID of the list", line);
        return EXIT_FAILED;
    }
    *ret = pids[n - 1];
    return 0;
}

/* One of several, by the user. */
static int choose(struct found *f, const char *word)
{
    if (!cli_can_ask())
        cli_error("%zu processes are called %s; name one by its pid, or take --all-matches", f->count, word);
    if (cli_choose(f->v, f->count, f->v))
        return EXIT_FAILED;
    f->count = 1;
    return 0;
}

void cli_observed(const char *name, pid_t **ret, size_t *ret_count)
{
    struct search s = {.name = name, .observed = true};

    each_process(match, &s);
    *ret = s.found.v;
    *ret_count = s.found.count;
}

bool cli_is_called(pid_t pid, const char *name)
{
    struct process_facts f;

    return process_facts(pid, &f) == 0 && has_name(pid, &f, name);
}

/* Those that the ones found have started, and so on: a process is nearly always listed behind its parent, which may go
 * on starting others for ever. */
static void add_children(struct search *s)
{
    size_t before;
    int passes = 0;

    do {
        before = s->found.count;
        each_process(match_child, s);
    } while (s->found.count > before && ++passes < PASSES);
}

bool cli_targets_more(const struct args *a, bool observed, pid_t **pids, size_t *count)
{
    struct search s = {.observed = observed, .found = {*pids, *count}};
    bool more;

    if (args_has(a, "children"))
        add_children(&s);
    else if (args_has(a, "all"))
        each_process(match, &s);
    more = s.found.count > *count;
    *pids = s.found.v;
    *count = s.found.count;
    return more;
}

int cli_targets(const struct args *a, const char *word, bool observed, pid_t **ret, size_t *ret_count)
{
    struct search s = {.name = word, .observed = observed};
    char *end = NULL;
    long pid = word && isdigit((unsigned char)*word) ? strtol(word, &end, 10) : 0;
    int rc = 0;

    if (end && !*end) {
        if (pid < 1 || pid > 1 << 22)
            return cli_usage(a->command, "%s is no process id", word);
        add(&s.found, (pid_t)pid); /* whatever it is: what is wrong with it is told later */
    } else {
        each_process(match, &s);
        if (!s.found.count) {
            if (observed)
                cli_error("no process %s%sis observed", word ? word : "", word ? " " : "");
            else
                cli_error("no process is called %s", word);
            if (observed)
                cli_hint("`scope ps` lists those that are");
            return EXIT_FAILED;
        }
        if (word && s.found.count > 1 && !args_has(a, "all-matches"))
            rc = choose(&s.found, word);
    }
    if (rc == 0 && args_has(a, "children"))
        add_children(&s);
    if (rc) {
        free(s.found.v);
        return rc;
    }
    *ret = s.found.v;
    *ret_count = s.found.count;
    return 0;
}
