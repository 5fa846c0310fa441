/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/protocols.h"

/* What can hardly be anything else comes first. */
const struct protocol *const protocols[] = {
    &protocol_proxy, &protocol_socks, &protocol_tls, &protocol_http2, &protocol_http1, &protocol_dns, &protocol_statsd,
};
const size_t protocol_count = sizeof(protocols) / sizeof(*protocols);
_Static_assert(sizeof(protocols) / sizeof(*protocols) <= PROTOCOLS_MAX, "pipeline.protocols has too few bits");

size_t protocols_detect(const struct detect_builtin *ret[PROTOCOLS_MAX])
{
    for (size_t i = 0; i < protocol_count; i++)
        ret[i] = &protocols[i]->detect;
    return protocol_count;
}
