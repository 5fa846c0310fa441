/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
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

void log_msg(enum log_level level, const char *fmt, ...)
{
    static const char *const names[] = {"trace", "debug", "info", "warning", "error", "none"};
    FILE *to = log_to ? log_to : stderr;
    struct buf line = BUF_INIT;
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
    if (log_program) {
        fprintf(to, "%s: ", log_program);
    } else {
        struct timespec now;
        struct tm tm;
        char day[32], zone[8];

        clock_gettime(CLOCK_REALTIME, &now);
        localtime_r(&now.tv_sec, &tm);
        strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
        strftime(zone, sizeof(zone), "%z", &tm);
        fprintf(to, "%s.%03ld%s %s ", day, now.tv_nsec / 1000000, zone, names[level]);
    }
    fwrite(line.p, 1, line.len, to);
    fflush(to);
    funlockfile(to);
    buf_free(&line);
}
