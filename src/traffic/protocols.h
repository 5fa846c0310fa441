/* SPDX-License-Identifier: Apache-2.0 */
/* The protocols that are built in. */
#ifndef SCOPE_TRAFFIC_PROTOCOLS_H
#define SCOPE_TRAFFIC_PROTOCOLS_H

#include "traffic/protocol.h"

extern const struct protocol protocol_proxy, protocol_socks; /* preamble.c */
extern const struct protocol protocol_tls;                   /* tls.c */
extern const struct protocol protocol_http2, protocol_http1; /* http.c */
extern const struct protocol protocol_dns;                   /* dns.c */
extern const struct protocol protocol_statsd;                /* statsd.c */

#define PROTOCOLS_MAX 32u /* bits of pipeline.protocols */

/* In the order in which a stream is compared with them (detect.h). */
extern const struct protocol *const protocols[];
extern const size_t protocol_count;

/* How they are recognised, for detect_rules_new(): the same order. Returns how many they are. */
size_t protocols_detect(const struct detect_builtin *ret[PROTOCOLS_MAX]);

#endif
