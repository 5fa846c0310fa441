/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages for people. In a command they go to stderr as "scope: text"; the
 * collector sends them to the session's log with time and level. Never used in
 * the probe. Thread-safe as far as stdio is. A message is one line, whatever is
 * in it (buf_visible()).
 */
#ifndef SCOPE_BASE_LOG_H
#define SCOPE_BASE_LOG_H

#include <stdio.h>

enum log_level { LOGL_TRACE, LOGL_DEBUG, LOGL_INFO, LOGL_WARNING, LOGL_ERROR, LOGL_NONE };

/* Where messages at `min` and above go. With a program name (commands) lines are "NAME: text";
 * with NULL (collector) they are "2023-11-14T22:13:20.123+0000 warning text". */
void log_setup(FILE *to, enum log_level min, const char *program);
/* A log gets 2,000 lines at once and 20 a second; those beyond are counted in the next one that it gets. */
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_msg(LOGL_DEBUG, __VA_ARGS__)
#define log_info(...) log_msg(LOGL_INFO, __VA_ARGS__)
#define log_warning(...) log_msg(LOGL_WARNING, __VA_ARGS__)
#define log_error(...) log_msg(LOGL_ERROR, __VA_ARGS__)

#endif
