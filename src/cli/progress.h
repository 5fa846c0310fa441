/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far something has come that takes long: one line on the terminal behind standard error, from the second second
 * on, which is wiped when it is over. Nothing where standard error is no terminal, or isn't ours at the moment (a job
 * in the background); nothing either where the same command writes to a terminal meanwhile.
 *
 * One at a time. A thread of its own writes the line, so that what is waited for may be a single call; it is there only
 * between begin and end, and only where there is a terminal. All functions are the main thread's.
 */
#ifndef SCOPE_CLI_PROGRESS_H
#define SCOPE_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* what: "reading events"; cleaned (text_clean()). prints: standard output is written to until the end. */
void progress_begin(const char *what, bool prints);
/* So much of so much, in any unit; total 0: not known. May be called for each record. Nothing without a begin. */
void progress_at(uint64_t done, uint64_t total);
/* Somebody is about to write to the terminal: the line makes room, and comes again later. */
void progress_hide(void);
/* Wipes the line. Nothing without a begin. */
void progress_end(void);

#endif
