/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/pending.h"
#include "cli/records.h"

#define FILE_MAX_BYTES ((size_t)64 << 20)
#define READ_BYTES 65536u
#define REFRESH_MS 2000u
#define SAME_S 0.001 /* an event has its time as a number of seconds */

static const struct cli_option options[] = {
    {"list", NULL, "All crashes: of the session of --id, or of all sessions", NULL, 'l', false, false},
    {"json", NULL, "Everything that is known, as JSON (snapshot.json); with --list one object per line", NULL, 'j', false, false},
    {"dir", NULL, "Only the directory with the files", NULL, 'D', false, false},
    {"id", "N", "The session with this number (default: the latest one with a crash)", NULL, 'i', false, false},
    CLI_HOST_OPTION,
    {0},
};

static const struct cli_example examples[] = {
    {"scope crash", "the trace of the last crash"},
    {"scope crash 4711", "... of process 4711"},
    {"scope crash -i 12 --list", "all crashes of session 12"},
    {"gdb PROGRAM $(scope crash -D)/core", "the core file of the last one, if --coredump was given"},
    {0},
};

/* One of a session, as its event tells it. */
struct crash {
    json_t *body; /* of the event */
};

struct crashes {
    struct crash *list;
    size_t count;
};

static const char *text(const struct crash *c, const char *key)
{
    return json_string_value(json_object_get(json_object_get(c->body, "data"), key));
}

static long long pid_of(const struct crash *c, const char *key)
{
    return (long long)json_integer_value(json_object_get(c->body, key));
}

static void clear(struct crashes *all)
{
    for (size_t i = 0; i < all->count; i++)
        json_decref(all->list[i].body);
    free(all->list);
    *all = (struct crashes){0};
}

/* Those of a session, oldest first; pid 0: of all processes. 0 or -errno, told. */
static int load(const struct session *s, uint32_t pid, struct crashes *ret)
{
    static char *types[] = {"process", NULL}, *sources[] = {"proc.crash", NULL};
    struct records_want want = {.types = types, .sources = sources, .pids = pid ? &pid : NULL, .pid_count = pid ? 1 : 0};
    struct records *r;
    int rc;

    *ret = (struct crashes){0};
    rc = records_open(s, RECORDS_EVENTS, &want, &r);
    if (rc < 0)
        return rc;
    while ((rc = records_next(r)) == 1) {
        json_t *body = json_object_get(records_json(r), "body");

        if (!body)
            continue;
        ret->list = xrealloc(ret->list, ret->count + 1, sizeof(*ret->list));
        ret->list[ret->count++].body = json_incref(body);
    }
    if (rc < 0)
        cli_error("reading the events of session %llu: %s", (unsigned long long)s->id, strerror(-rc));
    records_close_silently(r);
    return rc;
}

/* --- files --- */

/* What events say is where the files were; they are below the session's own directory. NULL: there are none. */
static char *dir_of(const struct session *s, const struct crash *c)
{
    const char *dir = text(c, "dir"), *name = dir ? strrchr(dir, '/') : NULL;

    if (!name || !name[1] || strspn(name + 1, "0123456789-") != strlen(name + 1))
        return NULL;
    return xasprintf("%s/crash%s", s->dir, name);
}

/* A file of it for reading, or -errno. */
static int open_file(const struct session *s, const struct crash *c, const char *name)
{
    char *path = dir_of(s, c), *top_path, *slash;
    int top, dir, fd;

    if (!path)
        return -ENOENT;
    slash = strrchr(path, '/');
    top_path = xstrndup(path, (size_t)(slash - path));
    top = open(top_path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    dir = top < 0 ? -errno : safe_sub_dir(top, slash + 1);
    fd = dir < 0 ? dir : safe_read_at(dir, name);
    if (top >= 0)
        close(top);
    if (dir >= 0)
        close(dir);
    if (fd >= 0 && !session_owns(s, fd)) {
        close(fd);
        fd = -EPERM;
    }
    free(top_path);
    free(path);
    return fd;
}

/* fd is taken. JSON stays such; text is printed line by line. */
static int print_file(int fd, bool json)
{
    struct buf b = BUF_INIT, line = BUF_INIT;
    ssize_t n;
    int rc;

    do {
        n = read(fd, buf_room(&b, READ_BYTES), READ_BYTES);
        b.len += n > 0 ? (size_t)n : 0;
    } while (n > 0 && b.len < FILE_MAX_BYTES);
    rc = n < 0 ? -errno : n > 0 ? -EFBIG : 0;
    close(fd);
    if (rc == 0 && json)
        text_json(b.p, b.len, stdout);
    for (size_t at = 0; rc == 0 && !json && at < b.len;) {
        const char *end = memchr(b.p + at, '\n', b.len - at);
        size_t len = end ? (size_t)(end - b.p) - at : b.len - at;

        buf_reset(&line);
        text_clean(&line, b.p + at, len);
        buf_char(&line, '\n');
        fwrite(line.p, 1, line.len, stdout);
        at += len + 1;
    }
    if (rc == 0 && json && b.len && b.p[b.len - 1] != '\n')
        putchar('\n');
    buf_free(&line);
    buf_free(&b);
    return rc;
}

/* --- printing --- */

static double time_of(const struct crash *c)
{
    return json_number_value(json_object_get(c->body, "_time"));
}

/* "SIGSEGV", or the status of a program that has given up by itself. */
static const char *end_of(const struct crash *c, char buf[24])
{
    json_t *code = json_object_get(json_object_get(c->body, "data"), "exit_code");
    const char *signal = text(c, "signal");

    if (signal)
        return signal;
    snprintf(buf, 24, "exit %lld", (long long)json_integer_value(code));
    return code ? buf : "?";
}

/* What the event says, where there are no files. */
static void print_event(const struct crash *c)
{
    static const char *const rows[][2] = {{"Code", "code"}, {"Address", "address"}, {"Where", "where"}, {"Missing", "missing"}};
    char buf[64];
    size_t i;
    json_t *frame;

    table_pair(stdout, 0, "Program", json_string_value(json_object_get(c->body, "proc")));
    snprintf(buf, sizeof(buf), "%lld", pid_of(c, "pid"));
    table_pair(stdout, 0, "PID", buf);
    table_pair(stdout, 0, "Time", text_time((uint64_t)(time_of(c) * 1e9), buf));
    table_pair(stdout, 0, "Signal", end_of(c, buf));
    for (i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (text(c, rows[i][1]))
            table_pair(stdout, 0, rows[i][0], text(c, rows[i][1]));
    json_array_foreach(json_object_get(json_object_get(c->body, "data"), "frames"), i, frame) {
        snprintf(buf, sizeof(buf), "#%zu", i);
        table_pair(stdout, 2, buf, json_is_string(frame) ? json_string_value(frame) : "");
    }
}

static int print_crash(const struct args *a, const struct session *s, const struct crash *c)
{
    bool json = args_has(a, "json");
    const char *name = json ? "snapshot.json" : "backtrace.txt";
    char *dir = dir_of(s, c);
    int rc = 0, fd;

    if (args_has(a, "dir")) {
        if (dir && access(dir, F_OK) == 0) {
            puts(dir);
        } else {
            cli_error("there are no files of this crash: %s", text(c, "missing") ? text(c, "missing") : "they were removed");
            rc = EXIT_FAILED;
        }
        free(dir);
        return rc;
    }
    fd = open_file(s, c, name);
    if (fd < 0 && fd != -ENOENT) {
        cli_error("%s/%s: %s", dir, name, strerror(-fd));
        rc = EXIT_FAILED;
    } else if (fd < 0 && json) {
        json_dumpf(c->body, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (fd < 0) {
        print_event(c);
    } else if ((rc = print_file(fd, json)) < 0) {
        cli_error("%s/%s: %s", dir, name, strerror(-rc));
        rc = EXIT_FAILED;
    }
    free(dir);
    return rc;
}

static void list_one(struct table *t, const struct session *s, const struct crash *c)
{
    const char *proc = json_string_value(json_object_get(c->body, "proc"));
    char buf[64];

    table_uint(t, s->id);
    table_cell(t, text_time((uint64_t)(time_of(c) * 1e9), buf));
    table_cellf(t, "%lld", pid_of(c, "pid"));
    table_cell(t, proc ? proc : "?");
    table_cell(t, end_of(c, buf));
    table_cell(t, text(c, "at") ? text(c, "at") : text(c, "missing") ? text(c, "missing") : "?");
}

static void list_json(const struct session *s, const struct crash *c)
{
    json_t *o = json_copy(c->body);
    char *line;

    json_object_set_new(o, "session", json_integer((json_int_t)s->id));
    line = json_dumps(o, JSON_COMPACT);
    if (line) {
        text_json(line, strlen(line), stdout);
        putchar('\n');
    }
    free(line);
    json_decref(o);
}

/* Whether it is among those that were told, which it may have been since we asked. */
static bool is_told(const json_t *pending, const struct crashes *told)
{
    double at = json_number_value(json_object_get(pending, "time"));

    for (size_t i = 0; i < told->count; i++)
        if (pid_of(&told->list[i], "pid") == (long long)json_integer_value(json_object_get(pending, "pid")) &&
            fabs(time_of(&told->list[i]) - at) < SAME_S)
            return true;
    return false;
}

/* One of which not everything is known yet. */
static void list_pending(struct table *t, const struct session *s, const json_t *pending)
{
    const char *proc = json_string_value(json_object_get(pending, "proc"));
    const char *signal = json_string_value(json_object_get(pending, "signal"));
    char buf[64], *line;
    json_t *o;

    if (t) {
        table_uint(t, s->id);
        table_cell(t, text_time((uint64_t)(json_number_value(json_object_get(pending, "time")) * 1e9), buf));
        table_cellf(t, "%lld", (long long)json_integer_value(json_object_get(pending, "pid")));
        table_cell(t, proc ? proc : "?");
        table_cell(t, signal ? signal : "?");
        table_cell(t, "(is being looked at)");
        return;
    }
    o = json_pack("{s:O, s:O, s:O, s:I, s:O}", "_time", json_object_get(pending, "time"), "pid", json_object_get(pending, "pid"),
                  "proc", json_object_get(pending, "proc"), "session", (json_int_t)s->id, "pending",
                  json_object_get(pending, "state"));
    if (o && signal)
        json_object_set_new(o, "data", json_pack("{s:s}", "signal", signal));
    line = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (line) {
        text_json(line, strlen(line), stdout);
        putchar('\n');
    }
    free(line);
    json_decref(o);
}

/* --- the command --- */

/* Those of one session: told ones, and then those that aren't yet. Whether there are any; *ret_rc. */
static bool list_session(struct table *t, struct session *s, uint32_t pid, int *ret_rc)
{
    struct crashes found;
    json_t *pending = pending_crashes(s), *one; /* before the session is read: none is in neither */
    char *path;
    size_t i;
    bool any = false;

    cli_refresh(s, REFRESH_MS);
    path = cli_path_of(s->event_dest); /* others went elsewhere */
    if (s->event_dest && !path) {
        json_decref(pending);
        return false;
    }
    free(path);
    if (load(s, pid, &found) < 0)
        *ret_rc = EXIT_FAILED;
    for (i = 0; i < found.count; i++) {
        any = true;
        if (t)
            list_one(t, s, &found.list[i]);
        else
            list_json(s, &found.list[i]);
    }
    json_array_foreach(pending, i, one)
    {
        if (is_told(one, &found) || (pid && json_integer_value(json_object_get(one, "pid")) != (json_int_t)pid &&
                                     json_integer_value(json_object_get(one, "hostPid")) != (json_int_t)pid))
            continue;
        any = true;
        list_pending(t, s, one);
    }
    json_decref(pending);
    clear(&found);
    return any;
}

static int list_all(const struct args *a, struct session *sessions, size_t count, uint32_t pid)
{
    static const struct table_column columns[] = {{"SESSION", 0, 0, false}, {"TIME", 2, 0, false}, {"PID", 0, 0, false},
                                                  {"PROGRAM", 0, 0, false}, {"SIGNAL", 0, 0, false}, {"AT", 1, 24, false}};
    bool json = args_has(a, "json"), any = false;
    struct table *t = json ? NULL : table_new(columns, sizeof(columns) / sizeof(*columns));
    int rc = 0;

    for (size_t i = 0; i < count; i++)
        any |= list_session(t, &sessions[i], pid, &rc);
    if (t && any)
        table_print(t, stdout);
    else if (t)
        table_free(t);
    if (!any && !json && !rc)
        puts("Nothing has crashed");
    return rc;
}

/* The last one, of the latest session that has any. number: of a session, if there is one like that with a crash, else of a
 * process; 0: none was given. */
static int print_last(const struct args *a, struct session *sessions, size_t count, uint64_t number)
{
    for (int pass = number ? 0 : 1; pass < 2; pass++) {
        for (size_t i = count; i-- > 0;) {
            struct crashes found;
            uint32_t pid = pass == 0 ? (uint32_t)number : 0;
            char *path;
            int rc;

            if (pass == 1 && number && sessions[i].id != number)
                continue;
            if (pending_wait(&sessions[i], pid) < 0)
                return EXIT_FAILED;
            path = cli_path_of(sessions[i].event_dest);
            if (sessions[i].event_dest && !path)
                continue;
            free(path);
            if (load(&sessions[i], pid, &found) < 0)
                continue; /* which was told */
            rc = found.count ? print_crash(a, &sessions[i], &found.list[found.count - 1]) : 0;
            if (found.count) {
                clear(&found);
                return rc;
            }
            clear(&found);
        }
    }
    if (number)
        cli_error("there is no crash of a process %llu, nor in a session of that number", (unsigned long long)number);
    else
        cli_error("nothing has crashed in %s", args_has(a, "id") ? "this session" : "any session");
    cli_hint("`scope run --backtrace PROGRAM` keeps what is known of crashes, `scope crash --list` lists them");
    return EXIT_FAILED;
}

static int run(struct args *a)
{
    struct session *sessions = NULL;
    uint64_t number = 0;
    size_t count = 0;
    char *end;
    int rc;

    if ((rc = args_conflict(a, "list", "dir")) || (rc = args_conflict(a, "json", "dir")))
        return rc;
    if (a->word_count) {
        errno = 0;
        number = strtoull(a->words[0], &end, 10);
        if (errno || *end || !number || number > UINT32_MAX)
            return cli_usage(a->command, "'%s' is no number of a session or process", a->words[0]);
    }
    if (args_has(a, "id")) {
        sessions = xcalloc(1, sizeof(*sessions));
        rc = cli_session(a, sessions);
        count = rc == 0;
    } else if ((rc = cli_use_host(a))) {
        return rc;
    } else {
        rc = session_list(&sessions, &count);
        if (rc < 0) {
            char *base = session_base();

            cli_error("can't read the sessions in %s: %s", base, session_error(rc));
            free(base);
            rc = EXIT_FAILED;
        }
    }
    cli_color(a);
    if (rc == 0 && args_has(a, "list"))
        rc = list_all(a, sessions, count, (uint32_t)number);
    else if (rc == 0)
        rc = print_last(a, sessions, count, number);
    for (size_t i = 0; i < count; i++)
        session_clear(&sessions[i]);
    free(sessions);
    return rc;
}

const struct cli_command command_crash = {
    .name = "crash",
    .summary = "Show what is known of a crash",
    .usage = "[OPTIONS] [PID|SESSION]",
    .description =
        "Prints the trace of the last crash: of all sessions, or that of --id. With a number: the last crash of the process "
        "with that pid; if there is none, of the session with that number. What there is to see is kept if the program was "
        "started with --backtrace or --coredump (libscope.snapshot in scope.yml): the stacks of all threads, registers, "
        "open files, and what the process did last. One that is still being looked at is waited for; --list only names it.",
    .options = options,
    .examples = examples,
    .min_args = 0,
    .max_args = 1,
    .run = run,
};
