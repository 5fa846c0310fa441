/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/flight.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "event/fields.h"
#include "journal/reader.h"
#include "sink/ndjson.h"

#define LINE_MAX_BYTES 160u /* of a short line */
#define TEXT_BYTES 120u     /* of one value in it */

/* The reader selects by either number: a process in another namespace may have the same. */
static bool is_of(const struct flight *who, const struct ev_record *r)
{
    return !who->host_pid || !r->who->host_pid ? r->who->pid == who->pid : r->who->host_pid == who->host_pid;
}

/* Says nothing to people: a list, which is long, an empty text, a number that is 0. */
static bool is_idle(const struct tm_field *f)
{
    return tm_is_group(f) || f->type == TM_STRLIST || (f->type == TM_STR && !f->v.str.len) ||
           ((f->type == TM_INT || f->type == TM_UINT) && !f->v.u);
}

/* "15:04:05.123456 fs.open file:/etc/passwd op:openat" */
static void add_short(struct buf *b, const struct ev_record *r)
{
    time_t seconds = (time_t)(r->time_ns / 1000000000u);
    size_t start = b->len;
    struct buf value = BUF_INIT;
    struct tm tm;
    char text[16] = "";

    if (gmtime_r(&seconds, &tm))
        strftime(text, sizeof(text), "%H:%M:%S", &tm);
    buf_printf(b, "  %s.%06u ", text, (unsigned)(r->time_ns % 1000000000u / 1000u));
    buf_visible(b, r->source, strnlen(r->source, TEXT_BYTES));
    for (size_t i = 0; i < r->field_count && b->len - start < LINE_MAX_BYTES; i++) {
        const struct tm_field *f = &r->fields[i];

        if (is_idle(f))
            continue;
        buf_printf(b, " %.40s:", f->name);
        buf_reset(&value);
        if (f->type == TM_STR)
            buf_add(&value, f->v.str.p, f->v.str.len < TEXT_BYTES ? f->v.str.len : TEXT_BYTES);
        else
            ndjson_value(&value, f);
        buf_visible(b, value.p, value.len);
    }
    buf_char(b, '\n');
    buf_free(&value);
}

static int write_all(int fd, const struct buf *b)
{
    for (size_t at = 0; at < b->len;) {
        ssize_t n = write(fd, b->p + at, b->len - at);

        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static bool is_wanted(const struct flight *who, const struct ev_record *r)
{
    return is_of(who, r) && strcmp(r->source, "proc.crash") != 0; /* the crash itself may be there, or not yet */
}

/*
 * Moves to the first of the last FLIGHT_EVENTS wanted events, and returns how many there are. The reader selects by
 * number; those of another process with the same, in another namespace, may come in between: then more are looked at,
 * until they are found or there are no more within FLIGHT_LOOK.
 */
static unsigned go_to_last(struct journal_reader *r, const struct flight *who)
{
    uint64_t at[FLIGHT_EVENTS] = {0};

    for (uint64_t look = FLIGHT_EVENTS + 1;; look *= 8) {
        uint64_t seen = 0, wanted = 0;
        struct ev_record record;

        journal_last(r, look);
        for (; journal_next(r, &record); seen++)
            if (is_wanted(who, &record))
                at[wanted++ % FLIGHT_EVENTS] = journal_position(r);
        if (wanted < FLIGHT_EVENTS && seen >= look && look < FLIGHT_LOOK)
            continue;
        if (!wanted || !journal_seek(r, at[wanted > FLIGHT_EVENTS ? wanted % FLIGHT_EVENTS : 0]))
            return 0;
        return wanted < FLIGHT_EVENTS ? (unsigned)wanted : FLIGHT_EVENTS;
    }
}

/* What is written of the events of a process. */
struct writing {
    struct buf all;             /* lines of JSON */
    struct buf last;            /* short lines, of which the last FLIGHT_SHORT are wanted */
    size_t start[FLIGHT_SHORT]; /* of these, in turns */
    unsigned count, large;      /* large: that are only among the short ones */
};

static void take(struct writing *w, struct ndjson *n, const struct ev_record *r)
{
    size_t start = w->all.len;

    w->start[w->count++ % FLIGHT_SHORT] = w->last.len;
    add_short(&w->last, r);
    ndjson_record(n, &w->all, r);
    if (w->all.len - start > FLIGHT_EVENT_BYTES) {
        w->all.len = start;
        w->large++;
    }
}

static void add_last(const struct writing *w, struct buf *to)
{
    size_t from = w->count > FLIGHT_SHORT ? w->start[w->count % FLIGHT_SHORT] : 0;

    buf_printf(to, "\nLast events, UTC (events.json has %u", w->count - w->large);
    if (w->large)
        buf_printf(to, "; %u of more than %u KiB are left out there", w->large, FLIGHT_EVENT_BYTES >> 10);
    buf_str(to, "):\n");
    buf_add(to, w->last.p + from, w->last.len - from);
}

int flight_write(int journal, const struct flight *who, int lines, int text)
{
    const uint32_t pids[] = {who->host_pid ? who->host_pid : who->pid};
    const struct journal_want want = {.kinds = 1u << EV_EVENT, .from_ns = who->from_ns, .pids = pids, .pid_count = 1};
    int fd = fcntl(journal, F_DUPFD_CLOEXEC, 3), rc;
    struct writing w = {.all = BUF_INIT, .last = BUF_INIT};
    struct journal_reader *r;
    struct ndjson *n;
    struct ev_record record;
    unsigned count;

    if (fd < 0)
        return -errno;
    r = journal_reader_new(fd, &want, NULL);
    if (!r)
        return -errno;
    n = ndjson_new();
    count = go_to_last(r, who);
    while (w.count < count && journal_next(r, &record))
        if (is_wanted(who, &record))
            take(&w, n, &record);
    rc = write_all(lines, &w.all);
    if (text >= 0 && rc == 0 && w.count) {
        struct buf b = BUF_INIT;

        add_last(&w, &b);
        rc = write_all(text, &b);
        buf_free(&b);
    }
    buf_free(&w.all);
    buf_free(&w.last);
    ndjson_free(n);
    journal_reader_free(r);
    return rc < 0 ? rc : (int)w.count;
}
