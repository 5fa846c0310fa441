/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of which both ends are observed: the request that one process
 * sends is the one that another receives, so the span of the former is the
 * parent of the latter's. They are known by the addresses of the connection, the
 * number of the request on it, and what it asks for. Whichever is read first
 * waits for the other (report/spans.h). Only within this host, where a
 * connection is between an address and itself, or within 127.0.0.0/8.
 *
 * A fixed table, which forgets: nothing is said then. Single-threaded.
 */
#ifndef SCOPE_TRAFFIC_BOTH_ENDS_H
#define SCOPE_TRAFFIC_BOTH_ENDS_H

#include "protocol/http.h"
#include "report/spans.h"
#include "traffic/protocol.h"

/* A request that names no span, whose own has begun: as a child of what its thread is inside of, or as a root. To be
 * called for each request of a stream, in order, named or not (span NULL). */
void both_ends_request(struct span *span, struct stream *s, const struct http_head *head, bool server);
/* Now and then. */
void both_ends_sweep(uint64_t now_mono);

#endif
