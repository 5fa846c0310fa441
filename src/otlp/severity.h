/* SPDX-License-Identifier: Apache-2.0 */
/* The severity that a line of output states. */
#ifndef SCOPE_OTLP_SEVERITY_H
#define SCOPE_OTLP_SEVERITY_H

#include <stdbool.h>
#include <stddef.h>

#include "event/event.h"

/* SeverityNumber of opentelemetry/proto/logs/v1/logs.proto */
enum {
    OTLP_TRACE = 1, OTLP_DEBUG = 5, OTLP_INFO = 9, OTLP_INFO2, OTLP_WARN = 13, OTLP_ERROR = 17, OTLP_ERROR2, OTLP_ERROR3,
    OTLP_FATAL = 21,
};

/* True if the line states a level in one of the ways of docs/otlp.md, "Severity": at its beginning, behind nothing but
 * what logs have there, or as a member of a JSON object or of a logfmt line. Anything else has none: the word "error" in a
 * sentence doesn't count. *ret_text is the level as the line has it, or the name that its number or letter stands for. */
bool otlp_severity(const char *line, size_t len, unsigned *ret_number, struct tm_str *ret_text);

#endif
