/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items of one process (spans, log records, metrics) that wait to leave together: one ResourceSpans, ResourceMetrics or
 * ResourceLogs with one scope, as a record for output_get_otlp().
 */
#ifndef SCOPE_OTLP_BATCH_H
#define SCOPE_OTLP_BATCH_H

#include "base/buf.h"
#include "otlp/resource.h"

#define OTLP_ITEM 2 /* field number of each item in its scope: ScopeSpans.spans, ScopeMetrics.metrics, ScopeLogs.log_records */

struct otlp_batch {
    struct buf resource; /* of the process */
    struct buf b;        /* room for what stands before, the scope's head, items */
    size_t room, items;  /* where these begin */
    uint32_t count;      /* of what counts: spans, log records, data points */
};

/* For a process that is new or executes something else; there must be no items of the old program. Zeroed before the first
 * time. */
void otlp_batch_begin(struct otlp_batch *t, const struct otlp_common *common, const struct tm_process *who);
void otlp_batch_release(struct otlp_batch *t);
/* Empties it; t->b may be another buffer than before. */
void otlp_batch_reset(struct otlp_batch *t);
/* Items are appended to t->b as messages of field OTLP_ITEM, and counted in t->count. Bytes that they are: */
static inline size_t otlp_batch_bytes(const struct otlp_batch *t) { return t->b.len - t->items; }
/* The record: four bytes with the count in the machine's order, field 1 of the request. Valid until the next change. */
const char *otlp_batch_record(struct otlp_batch *t, size_t *ret_len);

#endif
