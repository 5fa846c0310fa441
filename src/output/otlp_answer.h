/* SPDX-License-Identifier: Apache-2.0 */
/* What receivers of OTLP say in bodies and trailers. All of it is hostile: any bytes may come, and none of these
 * functions fails but by finding less. */
#ifndef SCOPE_OUTPUT_OTLP_ANSWER_H
#define SCOPE_OUTPUT_OTLP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Export{Trace,Metrics,Logs}ServiceResponse: their fields have the same numbers (opentelemetry-proto, collector/). */
struct otlp_partial {
    uint64_t rejected;
    const char *message; /* in the bytes, not terminated; NULL if none */
    size_t message_len;
};
/* False if these bytes aren't such a message. */
bool otlp_read_response(const char *bytes, size_t n, struct otlp_partial *ret);

/* google.rpc.Status, with its RetryInfo. */
struct otlp_status {
    const char *message; /* in the bytes, not terminated; NULL if none */
    size_t message_len;
    bool retry;          /* has a RetryInfo */
    uint64_t retry_ms;
};
bool otlp_read_status(const char *bytes, size_t n, struct otlp_status *ret);

/* Decodes base64 with or without padding, in place. Returns the length, or -EINVAL. */
long otlp_base64(char *text, size_t n);
/* Decodes %XX in place, as grpc-message has it; what isn't that stays. Returns the length. */
size_t otlp_percent(char *text, size_t n);

#endif
