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

/* Why data pass of which no plaintext was seen so far; UNREAD_NONE: that isn't so, or not known. */
enum unread_reason tls_unread(struct proc *p, const struct sock *sock);
/* The connection ends: if its plaintext was never seen, that is counted by its reason (model.unread_count), and told, once
 * for each program, and once more for connections that were open before it was attached to. */
void tls_unread_over(struct proc *p, int64_t fd, struct sock *sock, uint64_t time_ns);
/* JSON about a process for `scope inspect`: ways of its images, those by which plaintext was seen, and if none can be, why. */
void tls_describe(struct proc *p, struct buf *b);
/* The same now and then, for connections that go on. */
void tls_look_unread(struct proc *p);

/*
 * Plaintext of a connection whose TLS library has no names, but whose keys are
 * seen (tls_keys.h): its records are opened, and what is in them is the second
 * stream of the socket, as that of a library's objects is. Where a library claims
 * the connection, or nothing of it is wanted, that ends. Defined in tls_plain.c,
 * which knows streams.
 */
struct tls_plain;

/* For the ciphertext s, whose first bytes passed at time_ns; s->joined: first of those that we see. NULL: plaintext of the
 * process is seen otherwise, or the socket isn't known. */
struct tls_plain *tls_plain_new(struct stream *s, uint64_t time_ns);
/* NULL is fine. */
void tls_plain_free(struct tls_plain *t);
/* What the ServerHello says. */
void tls_plain_agreed(struct tls_plain *t, uint16_t version, uint16_t cipher);
/* As protocol.feed. False: it is over. */
bool tls_plain_feed(struct tls_plain *t, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
/* There may be more keys. last: nothing more comes, also those that are less likely are tried now; else now and then. */
void tls_plain_retry(struct tls_plain *t, bool last, uint64_t time_ns);
/* As protocol.skip. */
uint64_t tls_plain_skip(const struct tls_plain *t, enum proto_dir dir);
/* A connection that was TLS before anybody looked, and nothing but records: its decoder is the struct tls_plain. */
extern const struct protocol protocol_tls_joined;
/* Why nothing of s, of this process, could be opened. */
enum unread_reason tls_plain_reason(struct proc *p, const struct stream *s);

#endif
