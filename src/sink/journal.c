/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records into a journal (docs/journal.md). Sinks of the same path share one,
 * so that events and metrics of a session are in one file, in their order.
 *
 * Nothing else happens here than opening the file as files are opened
 * (output/file.c), again where that fails, and asking the writer now and then
 * to let go of what it has gathered.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "journal/writer.h"
#include "sink/internal.h"
#include "sink/ndjson.h"

#define TICK_MS  50u   /* how long a record waits for others: readers see it within twice that */
#define IDLE_MS  1000u /* so long nothing has come: time for what need not be done at once */
#define CHECK_MS 1000u /* how often the name is compared with what is open, and a file tried again that can't be opened */
#define CLOSE_MS 1000u /* the same where nobody can ask again */
#define FLUSH_MS 100u  /* how long a disk is waited for where somebody wants to see all records, and asks again */

struct journal {
    struct journal *next; /* registry */
    unsigned refs, users; /* users: sinks that may still write */
    struct event_base *base;
    char *path, *url;
    struct event *timer;
    bool timer_set;
    bool fresh;                  /* something was written since the timer ran */
    struct journal_writer *writer; /* NULL: the file isn't open */
    dev_t dev;
    ino_t ino;
    uint64_t checked;            /* monotonic ms */
    unsigned attempts;           /* to open it, since the last success */
    bool said_failure;
    char *failure;               /* NULL: none */
    uint64_t lost_queue;         /* while it wasn't open */
    struct journal_stats past;   /* of writers that are gone */
    uint64_t claimed;            /* of lost_destination */
};

struct journal_sink {
    struct sink sink;
    struct journal *journal;
};

static struct journal *journals;

static uint64_t monotonic_ms_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void set_timer(struct journal *j, unsigned ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

    if (j->timer_set)
        return;
    event_add(j->timer, &tv);
    j->timer_set = true;
}

/* --- the file --- */

static void failed(struct journal *j, char *why)
{
    free(j->failure);
    j->failure = why;
    if (!j->said_failure)
        log_warning("%s: %s; trying again each second", j->url, why);
    j->said_failure = true;
}

/* One that nobody else writes. Its descriptor, or -errno with *ret_why (malloc'ed). */
static int open_file(struct journal *j, struct stat *st, char **ret_why)
{
    int fd = safe_file(j->path, O_RDWR | O_CREAT, 0600, ret_why), rc;

    if (fd < 0) {
        if (!*ret_why)
            *ret_why = xstrdup(strerror(-fd));
        return fd;
    }
    if (fstat(fd, st) < 0) {
        rc = -errno;
    } else if (!S_ISREG(st->st_mode)) {
        rc = -EINVAL;
        *ret_why = xstrdup("it is not a regular file");
    } else if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) { /* some file systems have no locks */
        rc = -EWOULDBLOCK;
        *ret_why = xstrdup("another collector writes to it");
    } else {
        return fd;
    }
    if (!*ret_why)
        *ret_why = xstrdup(strerror(-rc));
    close(fd);
    return rc;
}

static void open_writer(struct journal *j)
{
    struct stat st;
    char *why = NULL;
    int fd = open_file(j, &st, &why);

    j->attempts++;
    j->checked = monotonic_ms_now();
    if (fd < 0) {
        failed(j, xasprintf("can't write to %s: %s", j->path, why));
        free(why);
        return;
    }
    j->writer = journal_writer_new(fd);
    if (!j->writer) {
        failed(j, errno == EPROTONOSUPPORT ? xasprintf("%s is a journal of another version", j->path)
                  : errno == EBADMSG       ? xasprintf("%s is there and no journal", j->path)
                                           : xasprintf("can't write to %s: %s", j->path, strerror(errno)));
        return;
    }
    if (j->said_failure)
        log_info("%s: opened after %u attempts", j->url, j->attempts);
    j->said_failure = false;
    free(j->failure);
    j->failure = NULL;
    j->attempts = 0;
    j->dev = st.st_dev;
    j->ino = st.st_ino;
}

static void close_writer(struct journal *j, unsigned ms)
{
    struct journal_stats s;
    bool done;

    if (!j->writer)
        return;
    done = journal_flush(j->writer, ms);
    journal_writer_stats(j->writer, &s);
    journal_writer_free(j->writer, done ? CLOSE_MS : FLUSH_MS); /* its thread has only to end, or waits for a disk */
    j->writer = NULL;
    j->past.records += s.records;
    j->past.bytes += s.bytes;
    j->past.lost_queue += s.lost_queue;
    j->past.lost_destination += s.lost_destination + s.queued;
}

/* True if the file was renamed or removed since it was opened. */
static bool moved_away(const struct journal *j)
{
    struct stat st;
    int rc = safe_stat(j->path, &st); /* a link that isn't followed leads nowhere: the file stays */

    if (rc == 0)
        return st.st_dev != j->dev || st.st_ino != j->ino;
    return rc == -ENOENT;
}

static void look_after_file(struct journal *j)
{
    uint64_t now = monotonic_ms_now();

    if (now - j->checked < CHECK_MS || !j->users)
        return;
    j->checked = now;
    if (j->writer && moved_away(j)) {
        log_warning("%s was moved away: it is made anew", j->path);
        close_writer(j, CLOSE_MS);
    }
    if (!j->writer)
        open_writer(j);
}

/* What the writer's thread has met. */
static void tell_trouble(struct journal *j)
{
    struct journal_stats s;

    journal_writer_stats(j->writer, &s);
    if (s.error && !j->said_failure) {
        failed(j, xasprintf("can't write to %s: %s", j->path, strerror(s.error)));
    } else if (!s.error && j->said_failure) {
        log_info("%s: writing again", j->path);
        j->said_failure = false;
        free(j->failure);
        j->failure = NULL;
    }
}

static void on_timer(evutil_socket_t fd, short events, void *ctx)
{
    struct journal *j = ctx;
    bool fresh = j->fresh;

    j->timer_set = j->fresh = false;
    look_after_file(j);
    if (!j->writer) {
        set_timer(j, CHECK_MS);
        return;
    }
    tell_trouble(j);
    if (fresh) {
        journal_tick(j->writer, 0);
        set_timer(j, IDLE_MS);
    } else if (journal_idle(j->writer) || j->said_failure) {
        set_timer(j, TICK_MS);
    }
}

static struct journal *journal_get(struct event_base *base, const struct cfg_transport *to)
{
    struct journal *j;

    for (j = journals; j; j = j->next)
        if (j->base == base && strcmp(j->path, to->path) == 0) {
            j->refs++;
            j->users++;
            return j;
        }
    j = xcalloc(1, sizeof(*j));
    j->refs = j->users = 1;
    j->base = base;
    j->path = xstrdup(to->path);
    j->url = cfg_transport_url(to);
    j->timer = event_new(base, -1, 0, on_timer, j);
    if (!j->timer)
        abort(); /* out of memory */
    j->next = journals;
    journals = j;
    open_writer(j);
    if (!j->writer)
        set_timer(j, CHECK_MS);
    return j;
}

static void journal_put(struct journal *j)
{
    if (--j->refs)
        return;
    close_writer(j, 0);
    for (struct journal **link = &journals; *link; link = &(*link)->next)
        if (*link == j) {
            *link = j->next;
            break;
        }
    event_free(j->timer);
    free(j->path);
    free(j->url);
    free(j->failure);
    free(j);
}

/* Of all its writers. */
static void stats_of(const struct journal *j, struct journal_stats *ret)
{
    *ret = (struct journal_stats){0};
    if (j->writer)
        journal_writer_stats(j->writer, ret);
    ret->records += j->past.records;
    ret->bytes += j->past.bytes;
    ret->lost_queue += j->past.lost_queue + j->lost_queue;
    ret->lost_destination += j->past.lost_destination;
}

/* --- the sink --- */

static struct journal *journal_of(const struct sink *s)
{
    return ((const struct journal_sink *)s)->journal;
}

static void sink_end(struct sink *s, const struct tm_process *who)
{
    struct journal *j = journal_of(s);

    if (j->writer)
        journal_forget(j->writer, who);
}

static bool sink_begin(struct sink *s, const struct tm_process *who)
{
    sink_end(s, who);
    return true;
}

static enum sink_result sink_write(struct sink *s, const struct ev_record *r)
{
    struct journal *j = journal_of(s);

    if (!j->fresh)
        look_after_file(j);
    if (!j->writer) {
        j->lost_queue++;
        return SINK_FULL;
    }
    if (!journal_write(j->writer, r))
        return SINK_FULL;
    if (!j->fresh) {
        j->fresh = true;
        /* A timer that is set may be for something that has more time. */
        if (j->timer_set)
            event_del(j->timer);
        j->timer_set = false;
        set_timer(j, TICK_MS);
    }
    return SINK_TAKEN;
}

static bool sink_wait(struct sink *s, unsigned ms)
{
    struct journal *j = journal_of(s);

    return !j->writer || journal_flush(j->writer, ms);
}

static bool sink_flush(struct sink *s)
{
    return sink_wait(s, FLUSH_MS);
}

static void sink_abandon(struct sink *s)
{
    struct journal *j = journal_of(s);

    if (--j->users == 0)
        close_writer(j, 0);
}

static uint64_t sink_claim_lost(struct sink *s)
{
    struct journal *j = journal_of(s);
    struct journal_stats stats;
    uint64_t n;

    stats_of(j, &stats);
    n = stats.lost_destination - j->claimed;
    j->claimed = stats.lost_destination;
    return n;
}

static void sink_stats(const struct sink *s, struct sink_stats *ret)
{
    struct journal_stats stats;

    stats_of(journal_of(s), &stats);
    *ret = (struct sink_stats){.queued = stats.queued, .connected = journal_of(s)->writer != NULL};
}

static void sink_describe(const struct sink *s, const char *name, struct buf *b)
{
    const struct journal *j = journal_of(s);
    struct journal_stats stats;

    stats_of(j, &stats);
    if (b->len && b->p[b->len - 1] != '[')
        buf_char(b, ',');
    buf_printf(b, "{\"name\":\"%s\",\"config\":", name);
    buf_json_str(b, j->url);
    buf_printf(b, ",\"connected\":%s", j->writer ? "true" : "false");
    if (!j->writer)
        buf_printf(b, ",\"attempts\":%u", j->attempts);
    if (j->failure) {
        buf_str(b, ",\"failure_details\":");
        buf_json_str(b, j->failure);
    }
    buf_printf(b, ",\"delivered\":%" PRIu64 ",\"queued\":%" PRIu64 ",\"lost_queue\":%" PRIu64 ",\"lost_destination\":%" PRIu64 "}",
               stats.records, stats.queued, stats.lost_queue, stats.lost_destination);
}

static void sink_free(struct sink *s)
{
    journal_put(journal_of(s));
    free(s);
}

static const struct sink_format journal_format = {
    .begin = sink_begin,
    .end = sink_end,
    .write = sink_write,
    .flush = sink_flush,
    .wait = sink_wait,
    .abandon = sink_abandon,
    .claim_lost = sink_claim_lost,
    .stats = sink_stats,
    .describe = sink_describe,
    .free = sink_free,
};

struct sink *journal_sink_new(const struct sink_user *user, const struct cfg_transport *to)
{
    struct journal_sink *s = xcalloc(1, sizeof(*s));

    s->journal = journal_get(user->base, to);
    s->sink = (struct sink){.format = &journal_format, .place = s->journal};
    return &s->sink;
}
