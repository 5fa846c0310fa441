/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/traces.h"

#include "event/fields.h"
#include "otlp/attribute.h"
#include "otlp/batch.h"
#include "otlp/pb.h"

/* Span */
enum {
    TRACE_ID = 1, SPAN_ID, TRACE_STATE, PARENT_SPAN_ID, NAME, KIND, START, END, ATTRIBUTES, DROPPED_ATTRIBUTES,
    STATUS = 15, FLAGS,
};
/* Status */
enum { STATUS_MESSAGE = 2, STATUS_CODE = 3 };
/* SpanFlags; the lowest eight bits are those of the trace */
enum { HAS_IS_REMOTE = 0x100, IS_REMOTE = 0x200 };

static void attributes(struct buf *b, const struct tm_span *span)
{
    size_t told = 0, dropped = 0;

    for (size_t i = 0; i < span->field_count; i++) {
        if (tm_is_group(&span->fields[i])) /* in the resource */
            continue;
        if (told < OTLP_ATTRIBUTES_MAX) {
            otlp_attr_field(b, ATTRIBUTES, span->fields[i].name, &span->fields[i]);
            told++;
        } else {
            dropped++;
        }
    }
    if (dropped)
        pb_uint(b, DROPPED_ATTRIBUTES, dropped);
}

void otlp_span(struct buf *b, const struct tm_span *span)
{
    static const uint8_t none[sizeof(span->parent_id)];
    bool root = memcmp(span->parent_id, none, sizeof(none)) == 0;
    size_t at = pb_begin(b, OTLP_ITEM), status;

    pb_bytes(b, TRACE_ID, span->id.trace_id, sizeof(span->id.trace_id));
    pb_bytes(b, SPAN_ID, span->id.span_id, sizeof(span->id.span_id));
    if (span->state.len)
        pb_string(b, TRACE_STATE, span->state.p, span->state.len);
    if (!root)
        pb_bytes(b, PARENT_SPAN_ID, span->parent_id, sizeof(span->parent_id));
    pb_string(b, NAME, span->name.p, span->name.len);
    pb_uint(b, KIND, span->kind);
    pb_fixed64(b, START, span->start_ns);
    /* Never before its start, which receivers refuse: a clock may have been set. */
    pb_fixed64(b, END, span->end_ns > span->start_ns ? span->end_ns : span->start_ns);
    attributes(b, span);
    if (span->status != TM_SPAN_UNSET) {
        status = pb_begin(b, STATUS);
        if (span->status_text.len)
            pb_string(b, STATUS_MESSAGE, span->status_text.p, span->status_text.len);
        pb_uint(b, STATUS_CODE, span->status);
        pb_end(b, status);
    }
    pb_fixed32(b, FLAGS, span->id.flags | (span->has_remote ? HAS_IS_REMOTE : 0u) | (span->has_remote && span->remote ? IS_REMOTE : 0u));
    pb_end(b, at);
}
