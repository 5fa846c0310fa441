/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that make sockets and connections, and what is told of those that nobody saw made, into the model. */
#ifndef SCOPE_COLLECTOR_SOCKETS_H
#define SCOPE_COLLECTOR_SOCKETS_H

#include "collector/told.h"
#include "model/process.h"

/* socket(2), bind(2) and listen(2), connect(2), accept(2). */
void sockets_made(struct told *x);
void sockets_bound(struct told *x);
void sockets_connect(struct told *x);
void sockets_accepted(struct told *x);
/* connect(2) has failed with err. */
void sockets_connect_failed(struct told *x, struct sock *s, int err);
/* To whom the call connects, or sends a first datagram, where pl->notices isn't NULL. */
void sockets_notice(struct told *x, const struct desc *d);
/* The outcome of a connect(2) that did not wait (REC_CONNECT). */
void sockets_connection_told(struct told *x);
/* A socket of which no call was seen that made it (REC_SOCKET). */
void sockets_told(struct told *x);
/* Descriptors of sockets were sent, or received, with a message (SCM_RIGHTS). */
void sockets_passed(struct told *x);
void sockets_received(struct told *x);
/* The descriptor fd, which is a socket whatever was known of it before; NULL: there is no such descriptor. */
struct desc *sockets_desc(struct told *x, int64_t fd);
/* Of a socket of which that is not known. */
void sockets_guess_domain(struct sock *s, int type);
bool sockets_is_inet(const struct sock *s);
/* What the record says of local and other side. */
void sockets_take_addresses(struct told *x, struct sock *s);
/* Whether the address in the record is of no family (AF_UNSPEC). */
bool sockets_unspec(const struct told *x);

#endif
