/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/conventions.h"

#include <string.h>

const char *const otlp_methods[OTLP_METHODS] = {"_OTHER", "GET",     "HEAD",    "POST",  "PUT",
                                                "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};

const char *const otlp_rpc_codes[OTLP_RPC_CODES] = {
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
};

unsigned otlp_method(const char *method, size_t len)
{
    for (unsigned i = 1; i < OTLP_METHODS; i++)
        if (strlen(otlp_methods[i]) == len && memcmp(otlp_methods[i], method, len) == 0)
            return i;
    return 0;
}

bool otlp_rpc_failed(unsigned code, bool server)
{
    enum { UNKNOWN = 2, DEADLINE_EXCEEDED = 4, UNIMPLEMENTED = 12, INTERNAL, UNAVAILABLE, DATA_LOSS };
    const unsigned blamed = 1u << UNKNOWN | 1u << DEADLINE_EXCEEDED | 1u << UNIMPLEMENTED | 1u << INTERNAL |
                            1u << UNAVAILABLE | 1u << DATA_LOSS;

    return server ? code < OTLP_RPC_CODES && blamed >> code & 1 : code != 0;
}
