/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event of a session, however it was kept: as typed values (a record of the journal) or as the JSON object that
 * docs/data-model.md describes. What sums up a session reads events through this alone, so it can't tell which it was.
 *
 * Nothing is owned or changed; an event is valid as long as what it was made from. Functions may run in several threads
 * on different events. Texts come from the observed program: any bytes but NUL.
 */
#ifndef SCOPE_SUMMARY_RECORD_H
#define SCOPE_SUMMARY_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ev_record;
struct json_t;
struct tm_field;

struct sum_event {
    const char *type;   /* sourcetype: "fs", "net", "process" */
    const char *source; /* "fs.open" */
    const char *proc;   /* name of the process; NULL: not known */
    const char *cmd;    /* its command line; NULL: not known */
    uint64_t channel;   /* of the connection or file that it belongs to; 0: none */
    int64_t pid;        /* of the host, if there are two; 0: not known */
    int64_t own_pid;    /* as the process itself sees it: another one in a pid namespace */
    uint64_t time_ns;   /* CLOCK_REALTIME; of JSON to the microsecond; 0: not known */
    /* Its data: one of both. */
    const struct json_t *json;
    const struct ev_record *record;
};

/* False: it is none (a metric or a notice of the telemetry's own), or lacks a type, a source or data. The strings of a
 * record have to be NUL-terminated, as records_typed() has them. */
bool sum_event_of_record(struct sum_event *ret, const struct ev_record *record);
/* The same of an object {"type":"evt","body":{...}}. */
bool sum_event_of_json(struct sum_event *ret, const struct json_t *object);

/* --- members of its data --- */

/* NULL: there is none, or it is no text. */
const char *sum_text(const struct sum_event *e, const char *name);
/* False, and *ret 0: there is none, or it is no whole number that fits. */
bool sum_integer(const struct sum_event *e, const char *name, int64_t *ret);
/* The same of what can't be negative, 0 if there is none. */
uint64_t sum_number(const struct sum_event *e, const char *name);
/* False: there is none, or it isn't true. */
bool sum_true(const struct sum_event *e, const char *name);
/* The n-th text of a list, from 0 on, or NULL. */
const char *sum_text_at(const struct sum_event *e, const char *name, size_t n);

#endif
