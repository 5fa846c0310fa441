/* SPDX-License-Identifier: Apache-2.0 */
/* Spans: opentelemetry/proto/trace/v1/trace.proto. */
#ifndef SCOPE_OTLP_TRACES_H
#define SCOPE_OTLP_TRACES_H

#include "base/buf.h"
#include "event/event.h"

/* Appends a Span as an item of a batch. Allocates nothing but room in b. */
void otlp_span(struct buf *b, const struct tm_span *span);

#endif
