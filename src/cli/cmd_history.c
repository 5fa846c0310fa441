/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/mem.h"
#include "traffic/unread.h"

#define REFRESH_MS 500 /* for each session that is being recorded */

static const struct cli_option options[] = {
    {"all", NULL, "All sessions", NULL, 'a', false, false},
    {"running", NULL, "Those that are still being recorded", NULL, 'r', false, false},
    {"last", "N", "The last N sessions (default 20)", NULL, 'n', false, false},
    {"id", "N", "Everything about one session", NULL, 'i', false, false},
    CLI_HOST_OPTION,
    {"dir", NULL, "Only the directory: of the last session, or those selected", NULL, 'd', false, false},
    {"json", NULL, "One JSON object per line", NULL, 'j', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope history", "the last 20 sessions"},
    {"scope history -i 12", "one of them, with what was lost and where its files are"},
    {"ls $(scope history -d)", "files of the last session"},
    {0},
};

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static char *cmdline(const struct session *s)
{
    struct buf b = BUF_INIT;
    char *text;

    for (char **a = s->argv; a && *a; a++) {
        if (a != s->argv)
            buf_char(&b, ' ');
        buf_str(&b, *a);
    }
    text = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return text;
}

static uint64_t lost_total(const struct session *s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s->lost_count; i++)
        n += s->lost[i].count;
    return n;
}

/* A collector stays for some seconds after its last process. */
static bool is_recorded(const struct session *s)
{
    return !s->end_ns && session_running(s);
}

/* When it ended; for one that is being recorded, now. 0 if nobody knows: its collector was killed. */
static uint64_t end_of(const struct session *s, uint64_t now)
{
    return s->end_ns ? s->end_ns : session_running(s) ? now : 0;
}

static const char *exit_text(const struct session *s, char buf[24])
{
    if (s->exit_signal)
        return text_signal(s->exit_signal, buf);
    if (s->exit_code >= 0)
        snprintf(buf, 24, "%d", s->exit_code);
    else
        snprintf(buf, 24, "%s", s->telemetry_stopped ? "?" : session_running(s) ? "" : "?");
    return buf;
}

static void json_counts(struct buf *b, const struct session_count *v, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_char(b, ',');
        buf_json_str(b, v[i].kind);
        buf_printf(b, ":%llu", (unsigned long long)v[i].count);
    }
}

static void print_json(const struct session *s)
{
    struct buf b = BUF_INIT;
    uint64_t end = s->end_ns;

    buf_printf(&b, "{\"id\":%llu,\"command\":", (unsigned long long)s->id);
    buf_json_str(&b, s->command);
    buf_str(&b, ",\"argv\":[");
    for (char **a = s->argv; a && *a; a++) {
        if (a != s->argv)
            buf_char(&b, ',');
        buf_json_str(&b, *a);
    }
    buf_printf(&b, "],\"pid\":%d,\"kind\":", (int)s->pid);
    buf_json_str(&b, s->kind ? s->kind : "");
    buf_str(&b, ",\"cwd\":");
    buf_json_str(&b, s->cwd ? s->cwd : "");
    buf_str(&b, ",\"start\":");
    buf_time(&b, s->start_ns);
    if (end) {
        buf_str(&b, ",\"end\":");
        buf_time(&b, end);
    }
    buf_printf(&b, ",\"running\":%s,\"telemetry_stopped\":%s", is_recorded(s) ? "true" : "false",
               s->telemetry_stopped ? "true" : "false");
    if (s->exit_code >= 0)
        buf_printf(&b, ",\"exit_code\":%d", s->exit_code);
    if (s->exit_signal)
        buf_printf(&b, ",\"exit_signal\":%d", s->exit_signal);
    buf_printf(&b, ",\"events\":%llu,\"metrics\":%llu,\"processes\":%llu,\"held_back\":%llu,\"lost\":{",
               (unsigned long long)s->events, (unsigned long long)s->metrics, (unsigned long long)s->processes,
               (unsigned long long)s->held_back);
    json_counts(&b, s->lost, s->lost_count);
    buf_str(&b, "},\"tls_unread\":{");
    json_counts(&b, s->unread, s->unread_count);
    buf_str(&b, "},\"event_dest\":");
    buf_json_str(&b, s->event_dest ? s->event_dest : "");
    buf_str(&b, ",\"metric_dest\":");
    buf_json_str(&b, s->metric_dest ? s->metric_dest : "");
    buf_str(&b, ",\"metric_format\":");
    buf_json_str(&b, s->metric_format ? s->metric_format : "");
    buf_str(&b, ",\"otlp_dest\":");
    buf_json_str(&b, s->otlp_dest ? s->otlp_dest : "");
    buf_str(&b, ",\"dir\":");
    buf_json_str(&b, s->dir);
    buf_str(&b, "}\n");
    fwrite(b.p, 1, b.len, stdout);
    buf_free(&b);
}

static void print_one(const struct session *s)
{
    uint64_t now = now_ns(), end = end_of(s, now);
    char text[64], *line = cmdline(s), *path;

    snprintf(text, sizeof(text), "%llu", (unsigned long long)s->id);
    table_pair(stdout, 0, "ID", text);
    table_pair(stdout, 0, "Command", s->command);
    table_pair(stdout, 0, "Command Line", line);
    table_pair(stdout, 0, "Kind", s->kind ? s->kind : "?");
    snprintf(text, sizeof(text), "%d", (int)s->pid);
    table_pair(stdout, 0, "PID", text);
    table_pair(stdout, 0, "Timestamp", s->start_ns ? text_time(s->start_ns, text) : "?");
    table_pair(stdout, 0, "End Timestamp",
               s->end_ns            ? text_time(s->end_ns, text)
               : session_running(s) ? "running"
                                    : "?");
    table_pair(stdout, 0, "Age", s->start_ns && now > s->start_ns ? text_duration(now - s->start_ns, text) : "?");
    table_pair(stdout, 0, "Duration", s->start_ns && end >= s->start_ns ? text_duration(end - s->start_ns, text) : "?");
    table_pair(stdout, 0, "Exit", exit_text(s, text));
    snprintf(text, sizeof(text), "%llu", (unsigned long long)s->processes);
    table_pair(stdout, 0, "Processes", text);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)s->events);
    table_pair(stdout, 0, "Total Events", text);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)s->metrics);
    table_pair(stdout, 0, "Total Metrics", text);
    if (s->held_back) {
        snprintf(text, sizeof(text), "%llu", (unsigned long long)s->held_back);
        table_pair(stdout, 0, "Held Back", text);
    }
    if (s->lost_count)
        printf("Lost:\n");
    for (size_t i = 0; i < s->lost_count; i++) {
        snprintf(text, sizeof(text), "%llu", (unsigned long long)s->lost[i].count);
        table_pair(stdout, 2, s->lost[i].kind, text);
    }
    if (s->unread_count)
        printf("TLS Not Read:\n");
    for (size_t i = 0; i < s->unread_count; i++) {
        const char *why = unread_text(unread_find(s->unread[i].kind));
        char *said = xasprintf("%llu%s%s", (unsigned long long)s->unread[i].count, why ? ": " : "", why ? why : "");

        table_pair(stdout, 2, s->unread[i].kind, said);
        free(said);
    }
    if (s->telemetry_stopped)
        table_pair(stdout, 0, "Telemetry", "stopped before the program ended: the collector was killed");
    table_pair(stdout, 0, "WorkDir", s->cwd ? s->cwd : "?");
    table_pair(stdout, 0, "SessionDir", s->dir);
    path = xasprintf("%s/cmd", s->dir);
    table_pair(stdout, 0, "CmdDirPath", path);
    free(path);
    table_pair(stdout, 0, "Events", s->event_dest ? s->event_dest : "-");
    table_pair(stdout, 0, "Metrics", s->metric_dest ? s->metric_dest : "-");
    if (s->otlp_dest)
        table_pair(stdout, 0, "OTLP", s->otlp_dest);
    path = xasprintf("%s/scope.log", s->dir);
    table_pair(stdout, 0, "LogPath", path);
    free(path);
    free(line);
}

static void add_row(struct table *t, const struct session *s, uint64_t now)
{
    uint64_t end = end_of(s, now);
    char text[64], *line = cmdline(s), *file = cli_path_of(s->event_dest);

    table_cellf(t, "%llu", (unsigned long long)s->id);
    table_cell(t, s->command);
    table_cell(t, line);
    table_cellf(t, "%d", (int)s->pid);
    table_cell(t, s->start_ns && now > s->start_ns ? text_duration(now - s->start_ns, text) : "?");
    table_cell(t, s->start_ns && end >= s->start_ns ? text_duration(end - s->start_ns, text) : "?");
    if (s->event_dest && file)
        table_cellf(t, "%llu", (unsigned long long)s->events);
    else
        table_cell(t, "NA");
    table_cell(t, exit_text(s, text));
    table_cellf(t, "%llu", (unsigned long long)lost_total(s));
    free(line);
    free(file);
}

static int run(struct args *a)
{
    static const struct table_column columns[] = {
        {"ID", 0, 0, false},           {"COMMAND", 2, 8, false}, {"CMDLINE", 1, 8, false},
        {"PID", 0, 0, false},          {"AGE", 3, 0, false},     {"DURATION", 0, 0, false},
        {"TOTAL EVENTS", 0, 0, false}, {"EXIT", 0, 0, false},    {"LOST", 0, 0, false},
    };
    static const char *const conflicts[][2] = {
        {"all", "running"}, {"all", "last"}, {"all", "id"}, {"running", "id"}, {"last", "id"}};
    struct session *list;
    size_t count, from = 0;
    int64_t last = 20, id = 0;
    bool json = args_has(a, "json"), dirs = args_has(a, "dir");
    uint64_t now = now_ns();
    struct table *t = NULL;
    int rc;

    for (size_t i = 0; i < sizeof(conflicts) / sizeof(*conflicts); i++)
        if ((rc = args_conflict(a, conflicts[i][0], conflicts[i][1])))
            return rc;
    if ((rc = args_number(a, "last", 1, INT32_MAX, &last)) || (rc = args_number(a, "id", 1, INT64_MAX, &id)))
        return rc;
    cli_color(a);
    if (id) {
        struct session s;

        rc = cli_session(a, &s);
        if (rc)
            return rc;
        if (json)
            print_json(&s);
        else if (dirs)
            puts(s.dir);
        else
            print_one(&s);
        session_clear(&s);
        return 0;
    }
    rc = cli_use_host(a);
    if (rc)
        return rc;
    rc = session_list(&list, &count);
    if (rc < 0) {
        char *base = session_base();

        cli_error("%s/history: %s", base, session_error(rc));
        free(base);
        return EXIT_FAILED;
    }
    if (args_has(a, "running")) { /* the last N of those that run */
        size_t n = 0;

        for (size_t i = 0; i < count; i++) {
            cli_refresh(&list[i], REFRESH_MS);
            if (is_recorded(&list[i]))
                list[n++] = list[i];
            else
                session_clear(&list[i]);
        }
        count = n;
    }
    if (dirs && !args_has(a, "last") && !args_has(a, "running"))
        last = 1;
    if (!args_has(a, "all") && count > (size_t)last)
        from = count - (size_t)last;
    if (!json && !dirs) {
        if (!args_has(a, "all") && !args_has(a, "running"))
            printf("Displaying last %lld sessions\n", (long long)last);
        t = table_new(columns, sizeof(columns) / sizeof(*columns));
    }
    for (size_t i = from; i < count; i++) {
        if (!args_has(a, "running"))
            cli_refresh(&list[i], REFRESH_MS);
        if (json)
            print_json(&list[i]);
        else if (dirs)
            puts(list[i].dir);
        else
            add_row(t, &list[i], now);
    }
    if (t)
        table_print(t, stdout);
    for (size_t i = 0; i < count; i++)
        session_clear(&list[i]);
    free(list);
    return 0;
}

const struct cli_command command_history = {
    .name = "history",
    .aliases = "hist",
    .summary = "List recorded sessions",
    .usage = "[OPTIONS]",
    .description =
        "On a narrow terminal texts are cut, and columns that matter less left out; -i and -j show everything. "
        "TOTAL EVENTS is NA when events went elsewhere than to a file or journal. LOST counts records that could not be kept or "
        "delivered, and places in code whose calls can't be seen (site, see `scope logs`); `-i N` shows them by kind, and "
        "how many connections of TLS have ended that could not be read, by the reason. "
        "EXIT is the program's status or the signal that ended it, ? if the collector could not learn it.",
    .options = options,
    .examples = examples,
    .run = run,
};
