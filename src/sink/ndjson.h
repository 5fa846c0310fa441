/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events and metrics as lines of JSON: docs/data-model.md, "Events" and
 * "Metrics". Used by the sink of that name, and by readers of a journal, who
 * print what a file destination would have got.
 */
#ifndef SCOPE_SINK_NDJSON_H
#define SCOPE_SINK_NDJSON_H

#include "base/buf.h"
#include "event/event.h"

/* Remembers how the processes of late look as JSON, which is nearly the same in each of their lines. */
struct ndjson;

struct ndjson *ndjson_new(void);
void ndjson_free(struct ndjson *n);
/* From now on, names of events' fields that come with their length need no escaping: they are this program's own. */
void ndjson_plain_names(struct ndjson *n);

/* Appends one line with its newline. Valid JSON whatever the record's strings hold: bytes that aren't UTF-8 become
 * U+FFFD, numbers that JSON hasn't null. */
void ndjson_record(struct ndjson *n, struct buf *to, const struct ev_record *r);
/* A process is known by its address: to be called before that is used for another one or its members change. */
void ndjson_forget(struct ndjson *n, const struct tm_process *who);

/* Appends a field's value alone. Not for TM_WHO and TM_OWNER, which are members. */
void ndjson_value(struct buf *b, const struct tm_field *f);

/* Append the line that announces a process to a destination of events (docs/data-model.md, "Start messages"), and the one
 * that a connection for payloads begins with. auth_token may be NULL. */
void ndjson_start_message(struct buf *b, const struct tm_process *who, const char *auth_token, const char *config_json);
void ndjson_payload_start(struct buf *b, const struct tm_process *who, const char *auth_token);

#endif
