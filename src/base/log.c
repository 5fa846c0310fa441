/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"

static FILE *log_to;
static enum log_level log_min = LOGL_INFO;
static const char *log_program = "scope";

void log_setup(FILE *to, enum log_level min, const char *program)
{
    log_to = to;
    log_min = min;
    log_program = program;
}

/* What others do makes lines, too; they shall not fill the disk. */
#define LINES_AT_ONCE 2000
#define LINES_A_SECOND 20

static unsigned long unsaid; /* lines that were left out */

/* Whether one more line of a log may be written now. Under the file's lock. */
static bool may_write(time_t now)
{
    static time_t since;
    static unsigned left;

    if (!since || now < since) {
        since = now;
        left = LINES_AT_ONCE;
    }
    if (now > since) {
        unsigned long more = left + (unsigned long)(now - since) * LINES_A_SECOND;

        left = more < LINES_AT_ONCE ? (unsigned)more : LINES_AT_ONCE;
        since = now;
    }
    if (!left) {
        unsaid++;
        return false;
    }
    left--;
    return true;
}

/* When, and how grave. */
static void write_head(FILE *to, const struct timespec *now, const char *level)
{
    struct tm tm;
    char day[32], zone[8];

    localtime_r(&now->tv_sec, &tm);
    strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
    strftime(zone, sizeof(zone), "%z", &tm);
    fprintf(to, "%s.%03ld%s %s ", day, now->tv_nsec / 1000000, zone, level);
}

void log_msg(enum log_level level, const char *fmt, ...)
{
    static const char *const names[] = {"trace", "debug", "info", "warning", "error", "none"};
    FILE *to = log_to ? log_to : stderr;
    struct buf line = BUF_INIT;
    struct timespec now;
    char *text = NULL;
    va_list ap;

    if (level < log_min)
        return;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) >= 0) {
        buf_visible(&line, text, strlen(text)); /* a name with a newline in it must not become a line */
        free(text);
    }
    va_end(ap);
    buf_char(&line, '\n');
    flockfile(to);
    clock_gettime(CLOCK_REALTIME, &now);
    if (log_program) {
        fprintf(to, "%s: ", log_program);
    } else if (may_write(now.tv_sec)) {
        if (unsaid) {
            write_head(to, &now, names[LOGL_WARNING]);
            fprintf(to, "%lu lines were left out here: there were too many at once\n", unsaid);
            unsaid = 0;
        }
        write_head(to, &now, names[level]);
    } else {
        line.len = 0;
    }
    fwrite(line.p, 1, line.len, to);
    fflush(to);
    funlockfile(to);
    buf_free(&line);
}
