/* SPDX-License-Identifier: Apache-2.0 */
/* scope report --touched: what summary/touched.h has found in a session, for people and for programs. */
#ifndef SCOPE_CLI_REPORT_TOUCHED_H
#define SCOPE_CLI_REPORT_TOUCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session;
struct touched;

/* For this session: its working directory, and the list of secrets of the configuration that it was recorded with.
 * Never NULL; its owner feeds it events, and frees it. */
struct touched *report_touched_new(const struct session *s);
/* Records, events and places in code that the session is known to lack: what touched_end() is to be told. */
uint64_t report_touched_lost(const struct session *s);
/* Prints what was found, at most `limit` rows of each kind: tables, or one JSON object a line. all: also files that the
 * session has made and removed again. */
void report_touched_print(const struct touched *t, const struct session *s, bool json, bool all, size_t limit);

#endif
