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

/* Shared attributes as they were written last time. */
#define KNOWN     512u  /* a power of two */
#define KNOWN_MAX 1024u /* bytes of each */
static struct {
    uint64_t id;
    struct buf b;
} known[KNOWN];

static void shared_attributes(struct buf *b, const struct tm_shared *shared)
{
    size_t at = shared->id & (KNOWN - 1), begin = b->len;

    if (known[at].id == shared->id) {
        buf_add(b, known[at].b.p, known[at].b.len);
        return;
    }
    otlp_attr_fields(b, ATTRIBUTES, shared->fields, shared->field_count);
    if (b->len - begin > KNOWN_MAX)
        return;
    known[at].id = shared->id;
    buf_reset(&known[at].b);
    buf_add(&known[at].b, b->p + begin, b->len - begin);
}

/* Groups are in the resource. */
static void attributes(struct buf *b, const struct tm_span *span)
{
    size_t most = OTLP_ATTRIBUTES_MAX - (span->shared ? span->shared->field_count : 0);
    size_t told = span->field_count < most ? span->field_count : most;

    if (span->shared)
        shared_attributes(b, span->shared);

    otlp_attr_fields(b, ATTRIBUTES, span->fields, told);
    if (told < span->field_count)
        pb_uint(b, DROPPED_ATTRIBUTES, span->field_count - told);
}

/* An id, of 16 bytes or of 8. */
static char *put_id(char *p, unsigned field, const uint8_t *id, size_t len)
{
    p[0] = (char)(field << 3 | PB_LEN);
    p[1] = (char)len;
    memcpy(p + 2, id, len);
    return p + 2 + len;
}

/* Mostly a method. */
static void add_name(struct buf *b, const struct tm_str *name)
{
    char *p = buf_room(b, 2 + 16);

    if (!name->len || name->len > 16 || !pb_copy_ascii(p + 2, name->p, name->len)) {
        pb_string(b, NAME, name->p, name->len);
        return;
    }
    p[0] = NAME << 3 | PB_LEN;
    p[1] = (char)name->len;
    b->len += 2 + name->len;
}

static char *put_time(char *p, unsigned field, uint64_t ns)
{
    p[0] = (char)(field << 3 | PB_64);
    memcpy(p + 1, &ns, sizeof(ns));
    return p + 1 + sizeof(ns);
}

void otlp_span(struct buf *b, const struct tm_span *span)
{
    static const uint8_t none[sizeof(span->parent_id)];
    bool root = memcmp(span->parent_id, none, sizeof(none)) == 0;
    size_t at = pb_begin_long(b, OTLP_ITEM), status;
    char *p = buf_room(b, 3 * (2 + sizeof(span->id.trace_id)));

    p = put_id(p, TRACE_ID, span->id.trace_id, sizeof(span->id.trace_id));
    p = put_id(p, SPAN_ID, span->id.span_id, sizeof(span->id.span_id));
    if (!root)
        p = put_id(p, PARENT_SPAN_ID, span->parent_id, sizeof(span->parent_id));
    b->len = (size_t)(p - b->p);
    if (span->state.len)
        pb_string(b, TRACE_STATE, span->state.p, span->state.len);
    add_name(b, &span->name);
    pb_uint(b, KIND, span->kind);
    p = put_time(buf_room(b, 2 * (1 + sizeof(span->start_ns))), START, span->start_ns);
    /* Never before its start, which receivers refuse: a clock may have been set. */
    p = put_time(p, END, span->end_ns > span->start_ns ? span->end_ns : span->start_ns);
    b->len = (size_t)(p - b->p);
    attributes(b, span);
    if (span->status != TM_SPAN_UNSET) {
        status = pb_begin(b, STATUS);
        if (span->status_text.len)
            pb_string(b, STATUS_MESSAGE, span->status_text.p, span->status_text.len);
        pb_uint(b, STATUS_CODE, span->status);
        pb_end(b, status);
    }
    pb_fixed32(b, FLAGS, span->id.flags | (span->has_remote ? HAS_IS_REMOTE : 0u) | (span->has_remote && span->remote ? IS_REMOTE : 0u));
    pb_end_long(b, at);
}
