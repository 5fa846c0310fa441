/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/report_page.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/cli.h"
#include "cli/records.h"
#include "cli/report_touched.h"
#include "event/event.h"
#include "page/page.h"
#include "session/payload.h"
#include "summary/overview.h"
#include "summary/touched.h"

static bool event_at(struct records *from, struct sum_event *ret)
{
    const struct ev_record *record = records_typed(from);
    const json_t *o = record ? NULL : records_json(from);

    return record ? sum_event_of_record(ret, record) : o && sum_event_of_json(ret, o);
}

/* The time of the session as its first and last events have it: what its metadata say may be missing, or made up. */
static int read_span(const struct session *s, uint64_t *ret_from, uint64_t *ret_to)
{
    struct records *from;
    struct sum_event e;
    int rc = records_open(s, RECORDS_EVENTS, NULL, &from);

    *ret_from = *ret_to = 0;
    if (rc < 0)
        return rc;
    while ((rc = records_next(from)) == 1 && !*ret_from)
        if (event_at(from, &e))
            *ret_from = e.time_ns;
    records_close_silently(from);
    if (rc < 0 || !*ret_from)
        return rc;
    rc = records_open(s, RECORDS_EVENTS, NULL, &from);
    if (rc < 0)
        return rc;
    rc = records_last(from, 1);
    if (rc >= 0 && records_next(from) == 1 && event_at(from, &e))
        *ret_to = e.time_ns;
    records_close_silently(from);
    return rc;
}

static int read_events(const struct session *s, struct overview *o, struct touched *t)
{
    struct records *from;
    struct sum_event e;
    int rc = records_open(s, RECORDS_EVENTS, NULL, &from);

    if (rc < 0)
        return rc;
    records_progress(from, false);
    while ((rc = records_next(from)) == 1) {
        if (event_at(from, &e)) {
            overview_event(o, &e);
            touched_event(t, &e);
        }
    }
    if (rc < 0)
        cli_error("reading the events: %s", strerror(-rc));
    records_close(from);
    return rc;
}

/* Metrics that went elsewhere are only left out. */
static int read_errors(const struct session *s, struct overview *o)
{
    static char *names[] = {"fs.error", "net.error", NULL};
    static const struct records_want want = {.sources = names};
    char *path = cli_path_of(s->metric_dest);
    bool kept = !s->metric_dest || path;
    struct records *from;
    struct sample sample;
    int rc = 0;

    free(path);
    if (!kept)
        return 0;
    rc = records_open(s, RECORDS_METRICS, &want, &from);
    if (rc < 0)
        return rc;
    while ((rc = sample_next(from, &sample)) == 1) {
        overview_metric(o, sample.json);
        sample_clear(&sample);
    }
    if (rc < 0)
        cli_error("reading the metrics: %s", strerror(-rc));
    records_close_silently(from);
    return rc;
}

/* What was captured of connections; a session without any, or with none that can be read, has none to tell. */
static void read_captured(const struct session *s, struct overview *o)
{
    char *dir = s->payload_dir ? xstrdup(s->payload_dir) : xasprintf("%s/payloads", s->dir);
    struct payload_reader *reader;
    struct payload_record record;
    const struct payload_entry *e;

    if (payload_reader_new(dir, s->id, s->start_ns, &reader) == 0) {
        while (session_owns(s, payload_reader_dir(reader)) && payload_next(reader, &record) == 1) {
        }
        for (uint64_t n = 1; (e = payload_entry(reader, n)); n++)
            overview_captured(o, e->id.channel, e->bytes[PAYLOAD_IN] + e->bytes[PAYLOAD_OUT]);
        payload_reader_free(reader);
    }
    free(dir);
}

/* --- the file --- */

/* Of a path the directory, and the name in it (a part of the path). */
static char *split_path(const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');

    *ret_name = slash ? slash + 1 : path;
    return !slash ? xstrdup(".") : slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

/* Whether it is one of the files that the session consists of. */
static bool is_sessions_own(const struct session *s, const struct stat *st)
{
    const char *dests[] = {s->event_dest, s->metric_dest};
    struct stat own;

    for (size_t i = 0; i < sizeof(dests) / sizeof(*dests); i++) {
        char *path = cli_path_of(dests[i]);
        bool same = path && stat(path, &own) == 0 && own.st_dev == st->st_dev && own.st_ino == st->st_ino;

        free(path);
        if (same)
            return true;
    }
    return false;
}

/* What is there already under that name must be a file that may be replaced. 0, or an exit status after a message. */
static int check_old(const struct session *s, int dir, const char *name, const char *file)
{
    struct stat st, there, own;

    if (fstat(dir, &there) == 0 && stat(s->dir, &own) == 0 && own.st_dev == there.st_dev && own.st_ino == there.st_ino) {
        cli_error("%s lies among the session's own files", file);
        return EXIT_FAILED;
    }
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0; /* nothing, most likely; else writing tells */
    if (S_ISREG(st.st_mode) && !is_sessions_own(s, &st))
        return 0;
    if (S_ISREG(st.st_mode)) {
        cli_error("%s is the session's own file", file);
        return EXIT_FAILED;
    }
    cli_error("%s is %s, and is not replaced", file,
              S_ISDIR(st.st_mode)   ? "a directory"
              : S_ISLNK(st.st_mode) ? "a link"
                                    : "not a regular file");
    cli_hint("name a file in a directory of yours, or '-' for standard output");
    return EXIT_FAILED;
}

static int open_place(const struct session *s, const char *file, const char **ret_name, int *ret_dir)
{
    char *why = NULL, *path = split_path(file, ret_name);
    int rc = 0;

    *ret_dir = -1;
    if (!**ret_name || strcmp(*ret_name, ".") == 0 || strcmp(*ret_name, "..") == 0) {
        cli_error("'%s' is no name of a file", file);
        rc = EXIT_USAGE;
    } else {
        *ret_dir = safe_dir(path, SAFE_NAMED, 0, &why);
        if (*ret_dir < 0) {
            cli_error("can't write %s: %s", file, why ? why : strerror(-*ret_dir));
            rc = EXIT_FAILED;
        } else {
            rc = check_old(s, *ret_dir, *ret_name, file);
        }
    }
    free(why);
    free(path);
    return rc;
}

static int write_page(const struct buf *page, int dir, const char *name, const char *file)
{
    int rc;

    if (dir < 0) {
        fwrite(page->p, 1, page->len, stdout);
        return 0;
    }
    rc = safe_replace(dir, name, page->p, page->len, 0600);
    if (rc < 0) {
        cli_error("can't write %s: %s", file, strerror(-rc));
        return EXIT_FAILED;
    }
    printf("Written to %s (%zu kB). Open it in a browser.\n", file, (page->len + 999) / 1000);
    return 0;
}

/* Whether the session's program is known to have ended. */
static bool has_gone(const struct session *s)
{
    return s->pid > 0 && kill(s->pid, 0) < 0 && errno == ESRCH;
}

/* The collector of a program that has just ended is about to end, too, most often: then it is known how. */
static void wait_end(struct session *s)
{
    static const struct timespec pause = {.tv_nsec = 20000000};
    struct session now;

    for (int i = 0; i < 50 && session_running(s) && !s->end_ns; i++) {
        nanosleep(&pause, NULL);
        if (session_load(s->id, &now) == 0) {
            session_clear(s);
            *s = now;
        } else {
            session_clear(&now);
        }
    }
}

int report_page(struct session *s, const char *file)
{
    struct page page = {.session = s};
    bool to_stdout = strcmp(file, "-") == 0;
    const char *name = NULL;
    struct overview *o;
    struct touched *touched;
    struct buf out = BUF_INIT;
    struct timespec now;
    uint64_t from, to;
    int dir = -1, rc;

    if (*file == '-' && !to_stdout) {
        cli_error("--html needs the name of a file, and %s looks like an option", file);
        cli_hint("a file of that name is ./%s", file);
        return EXIT_USAGE;
    }
    rc = to_stdout ? 0 : open_place(s, file, &name, &dir);
    if (rc) {
        if (dir >= 0)
            close(dir);
        return rc;
    }
    if (session_running(s) && has_gone(s))
        wait_end(s);
    page.open = session_running(s) && !s->end_ns; /* a collector stays a moment longer */
    page.running = page.open && !has_gone(s);
    clock_gettime(CLOCK_REALTIME, &now);
    page.now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    rc = read_span(s, &from, &to);
    if (page.running && page.now_ns > to)
        to = page.now_ns;
    o = overview_new(from, to);
    touched = report_touched_new(s);
    if (rc >= 0)
        rc = read_events(s, o, touched);
    if (rc >= 0)
        rc = read_errors(s, o);
    if (rc >= 0) {
        overview_finish(o);
        read_captured(s, o);
        touched_end(touched, report_touched_lost(s));
        page.touched = touched;
        page.overview = o;
        page_write(&out, &page);
        rc = write_page(&out, dir, name, file);
    } else {
        rc = EXIT_FAILED;
    }
    overview_free(o);
    touched_free(touched);
    buf_free(&out);
    if (dir >= 0)
        close(dir);
    return rc;
}
