/* SPDX-License-Identifier: Apache-2.0 */
/* Values that OpenTelemetry's semantic conventions prescribe, for whatever format they are told in. */
#ifndef SCOPE_OTLP_CONVENTIONS_H
#define SCOPE_OTLP_CONVENTIONS_H

#include <stdbool.h>
#include <stddef.h>

/* Upper bounds of the buckets for durations of HTTP, RPC and DNS; microseconds. */
#define OTLP_BOUNDS 14
#define OTLP_DURATION_BOUNDS                                                                                           \
    {                                                                                                                  \
        5000, 10000, 25000, 50000, 75000, 100000, 250000, 500000, 750000, 1000000, 2500000, 5000000, 7500000, 10000000 \
    }

/* Methods of RFC 9110 and RFC 5789; the first is for all others, of which a peer could make up any number. */
#define OTLP_METHODS 10
extern const char *const otlp_methods[OTLP_METHODS];
/* Number of a method, 0 if it isn't known. */
unsigned otlp_method(const char *method, size_t len);

/* gRPC's codes (https://grpc.io/docs/guides/status-codes/). */
#define OTLP_RPC_CODES 17
extern const char *const otlp_rpc_codes[OTLP_RPC_CODES];
/* Whether a call with that code failed: to a client each but 0 did, to a server those for which it is to blame. */
bool otlp_rpc_failed(unsigned code, bool server);

#endif
