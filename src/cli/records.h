/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of a session, selected and in order, however they are kept: events or metrics. No command but through
 * this opens what a session keeps them in.
 */
#ifndef SCOPE_CLI_RECORDS_H
#define SCOPE_CLI_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "session/session.h"

struct ev_record;
struct json_t;
struct records;

enum records_of { RECORDS_EVENTS, RECORDS_METRICS, RECORDS_ALL };

/* What is wanted; all of it has to fit. Lists end with NULL, and a list that is NULL says nothing. */
struct records_want {
    char **types;            /* kinds of events (sourcetype), exact */
    char **sources;          /* events: the source begins with one of these; metrics: names, exact */
    const char *match;       /* the line contains this text */
    uint32_t *pids;          /* the process's own number, or the host's */
    size_t pid_count;
    uint64_t from_ns, to_ns; /* CLOCK_REALTIME, both included; to_ns 0: no end */
};

/* Events or metrics. want is the caller's and has to stay; NULL: everything. 0, -ENOTSUP after telling on stdout that they went elsewhere,
 * or -errno after a message. */
int records_open(const struct session *s, enum records_of what, const struct records_want *want, struct records **ret);
/* Events and metrics both, in the order in which they were recorded, as values: records_next() and records_typed() only.
 * Says nothing. want is the caller's and has to stay; its match isn't asked. 0, -ENOTSUP if they aren't kept in a journal,
 * or -errno. */
int records_open_all(const struct session *s, const struct records_want *want, struct records **ret);
/* Blocks of the journal that couldn't be read. */
uint64_t records_unread(const struct records *r);
/* Frees; the first one tells what could not be read. */
void records_close(struct records *r);
void records_close_silently(struct records *r);

/* Goes to the next one: 1; 0: the end, for now (more may come while the session is being recorded); -errno. */
int records_next(struct records *r);
/* The same for the one that has this id, which must be one of what was opened: 1, 0 if there is none, -errno. Whether it
 * is wanted isn't asked. records_next() goes on behind it. */
int records_seek(struct records *r, uint64_t id);
/* From here on, only the last ones; those that come later follow. 0 or -errno. */
int records_last(struct records *r, size_t count);
/* How many there are from here on. 0 or -errno. */
int records_count(struct records *r, uint64_t *ret);

/* All that is read from here on to the end, or to records_close(), shows how far it is where that takes long
 * (cli/progress.h). prints: standard output is written to meanwhile. */
void records_progress(struct records *r, bool prints);

/* Whether this file is what they are read from. */
bool records_are_in(const struct records *r, int fd);

/* --- the one that it is at; what these return is valid until it goes on --- */

uint64_t records_id(const struct records *r); /* the same whenever the session is read */
/* The NDJSON line without its newline; NULL: it is damaged, which is counted. */
const char *records_line(struct records *r, size_t *ret_len);
/* The same as an object, of which body is one, too. */
struct json_t *records_json(struct records *r);
/* uid, gid, username and groupname of its process as an object, or NULL if they aren't known. */
struct json_t *records_process(struct records *r);
/* The same with its values, NULL if it is kept as a line. Its strings are NUL-terminated. */
const struct ev_record *records_typed(const struct records *r);
/* Counts it as damaged. */
void records_spoilt(struct records *r);
/* Prints the line, for terminals as well (text_json()). False: it is damaged. */
bool records_print(struct records *r, FILE *to);

#endif
