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
#define TEXT_BYTES     120u /* of one value in it */

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

int flight_write(int journal, const struct flight *who, int lines, int text)
{
    const uint32_t pids[] = {who->host_pid ? who->host_pid : who->pid};
    const struct journal_want want = {.kinds = 1u << EV_EVENT, .from_ns = who->from_ns, .pids = pids, .pid_count = 1};
    int fd = fcntl(journal, F_DUPFD_CLOEXEC, 3), rc, count = 0;
    struct buf all = BUF_INIT, last = BUF_INIT;
    size_t start[FLIGHT_SHORT] = {0};
    struct journal_reader *r;
    struct ndjson *n;
    struct ev_record record;

    if (fd < 0)
        return -errno;
    r = journal_reader_new(fd, &want, NULL);
    if (!r)
        return -errno;
    n = ndjson_new();
    journal_last(r, FLIGHT_EVENTS + 1); /* one of them may be the crash itself */
    while (journal_next(r, &record)) {
        if (!is_of(who, &record) || strcmp(record.source, "proc.crash") == 0)
            continue;
        start[(unsigned)count++ % FLIGHT_SHORT] = last.len;
        ndjson_record(n, &all, &record);
        add_short(&last, &record);
    }
    rc = write_all(lines, &all);
    if (text >= 0 && rc == 0 && count) {
        size_t from = (unsigned)count > FLIGHT_SHORT ? start[(unsigned)count % FLIGHT_SHORT] : 0;
        struct buf b = BUF_INIT;

        buf_printf(&b, "\nLast events, UTC (events.json has %d):\n", count);
        buf_add(&b, last.p + from, last.len - from);
        rc = write_all(text, &b);
        buf_free(&b);
    }
    buf_free(&all);
    buf_free(&last);
    ndjson_free(n);
    journal_reader_free(r);
    return rc < 0 ? rc : count;
}
