/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captured traffic over a connection, as it passes (docs/data-model.md, "The
 * payload connection"): a start message in a line, then for each chunk its
 * header (payload.h) in a line, and as many bytes as that says.
 *
 * A chunk that the connection's queue (output.h) has no room for is missing: the
 * next header of that flow and direction says how many bytes those are, or one
 * without bytes when the flow ends. Nothing blocks. Single-threaded.
 */
#ifndef SCOPE_SESSION_PAYLOAD_LINK_H
#define SCOPE_SESSION_PAYLOAD_LINK_H

#include "output/output.h"
#include "session/payload.h"

struct payload_link;
struct payload_way; /* a flow on it */

/* start: the line that each connection begins with, with its newline; copied. */
struct payload_link *payload_link_new(struct event_base *base, const struct cfg_transport *to, const char *start);
/* For its name and state. It is the link's. */
const struct output *payload_link_output(const struct payload_link *l);
/* Tries to write everything queued now. */
void payload_link_flush(struct payload_link *l);
/* Nothing more will be sent: waits at most so long, then gives up what is still queued. Returns how many chunks that
 * are. */
uint64_t payload_link_finish(struct payload_link *l, unsigned wait_ms);
/* When no flow is left. NULL is fine. */
void payload_link_free(struct payload_link *l);

/* The identity is copied. */
struct payload_way *payload_way_begin(struct payload_link *l, const struct payload_id *id);
/* More has become known about it. */
void payload_way_update(struct payload_way *w, const struct payload_id *id);
/* Bytes that passed; of a datagram, all of it. False: there was no room, they are missing now. */
bool payload_way_data(struct payload_way *w, enum payload_dir dir, uint64_t time_ns, const void *data, size_t len);
/* Bytes that passed and were not captured. */
void payload_way_gap(struct payload_way *w, enum payload_dir dir, uint64_t time_ns, uint64_t len);
/* Says what is missing at its end. Frees it. */
void payload_way_end(struct payload_way *w);

#endif
