/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes: KeyValue messages of opentelemetry/proto/common/v1/common.proto, each
 * as one element of the repeated field `field` of the message that is being written.
 * A key must not come twice in one message: that is up to the caller.
 */
#ifndef SCOPE_OTLP_ATTRIBUTE_H
#define SCOPE_OTLP_ATTRIBUTE_H

#include <stdbool.h>

#include "event/event.h"
#include "otlp/pb.h"

#define OTLP_ATTRIBUTES_MAX 128u  /* of one span or log record: the default of OTEL_ATTRIBUTE_COUNT_LIMIT */
#define OTLP_VALUE_MAX      8192u /* bytes of a text: longer ones are cut, in front of a character */

/* An AnyValue as field `field`: any bytes, of any length. */
void otlp_text(struct buf *b, unsigned field, const char *s, size_t len);

/* s: any bytes, cut to OTLP_VALUE_MAX. */
void otlp_attr_text(struct buf *b, unsigned field, const char *key, const char *s, size_t len);
static inline void otlp_attr_str(struct buf *b, unsigned field, const char *key, const char *s)
{
    otlp_attr_text(b, field, key, s, strlen(s));
}
void otlp_attr_int(struct buf *b, unsigned field, const char *key, int64_t v);
void otlp_attr_double(struct buf *b, unsigned field, const char *key, double v);
void otlp_attr_bool(struct buf *b, unsigned field, const char *key, bool v);
/* The same with a value of the model. TM_UINT beyond INT64_MAX is told as a text of digits, which OTLP has no integer
 * for. Not TM_WHO, TM_OWNER: the resource says these. */
void otlp_attr_field(struct buf *b, unsigned field, const char *key, const struct tm_field *f);
/* Many of these under their own names, which are valid UTF-8 where their length is known; field: 15 at most. */
void otlp_attr_fields(struct buf *b, unsigned field, const struct tm_field *f, size_t count);

#endif
