/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of TLS connections: where their hellos are, and whether their plaintext is seen
 * (docs/traffic.md, "What is seen of TLS").
 */
#ifndef SCOPE_TRAFFIC_TLS_H
#define SCOPE_TRAFFIC_TLS_H

#include "traffic/protocol.h"

/* Whether a ClientHello may be among these bytes of a stream's beginning. */
static inline bool tls_may_watch(const struct stream *s, const uint8_t *data)
{
    return data && !s->tls && !s->datagrams && s->sock && s->p;
}
/* The beginning of a connection, or of what a tunnel carries, if that is so: a ClientHello is told
 * (tls_socket_hello()). */
void tls_watch(struct stream *s, struct hello_watch *h, enum proto_dir dir, const uint8_t *data, uint64_t len,
               uint64_t time_ns);
/* A ClientHello passed through a socket: descriptor fd, whose file has this channel. True if it has passed through
 * another one in the other direction: the process passes on what others encrypt. Defined in tls_objects.c, which knows
 * whose it may be. */
bool tls_socket_hello(struct proc *p, int64_t fd, uint64_t channel, enum proto_dir dir, const uint8_t *random,
                      uint64_t time_ns);

/* Whether data pass of which no plaintext was seen so far. */
bool tls_is_unread(const struct proc *p, const struct sock *sock);
/* The connection ends: if its plaintext was never seen, that is told, once for each program. */
void tls_unread_over(struct proc *p, int64_t fd, struct sock *sock, uint64_t time_ns);
/* The same now and then, for connections that go on. */
void tls_look_unread(struct proc *p);

#endif
