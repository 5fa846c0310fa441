/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of what a request asks for (RFC 3986; RFC 9112, section 3.2), and what
 * of it nobody must get to see: who may use it (userinfo), and values of the
 * query that are credentials.
 */
#ifndef SCOPE_PROTOCOL_URL_H
#define SCOPE_PROTOCOL_URL_H

#include <stdbool.h>

#include "base/buf.h"
#include "protocol/protocol.h"

#define URL_STRUCK "REDACTED" /* as OpenTelemetry's conventions have it */

/* Of "[USERINFO@]HOST[:PORT]": the host, an IPv6 address without brackets, and the port, 0: none. */
void url_authority(struct slice authority, struct slice *ret_host, unsigned *ret_port);

/* Slices point into the target; p is NULL for what is absent. */
struct url_target {
    struct slice scheme, authority; /* absolute form; of the authority form the latter only */
    struct slice path;              /* "*" in asterisk form */
    struct slice query;             /* without '?' */
};
/* connect: the method is CONNECT, whose target is an authority. */
void url_target(struct slice target, bool connect, struct url_target *ret);

/* The query with values struck out whose names say that they are credentials: the same slice if there are none, else
 * text in `scratch`. Names count in any case, and percent-encoded. */
struct slice url_strike(struct slice query, struct buf *scratch);

#endif
