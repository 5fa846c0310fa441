/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS objects (SSL * of OpenSSL and its like) whose descriptor the probe doesn't
 * know, because the library was given memory for its transport and the program
 * carries the bytes to a socket itself: the plaintext of each is a stream. Those
 * that it knows now are remembered, for when it doesn't.
 *
 * Which socket is it? A connection begins with a ClientHello, whose 32 random
 * bytes (RFC 8446, section 4.1.2) are its own. They are seen where the library
 * writes or reads them, told by the probe, and where they pass on a socket of the
 * process, in the same direction. Once both were seen the plaintext is that of
 * the socket (sock.plain), and ends with the object or the socket. A second
 * ClientHello, after a HelloRetryRequest, has the same random.
 *
 * Objects and sockets that wait for each other are remembered, the latest
 * HELLOS_MAX of a process; one that is found too late stays without addresses.
 */
#ifndef SCOPE_TRAFFIC_TLS_OBJECTS_H
#define SCOPE_TRAFFIC_TLS_OBJECTS_H

#include "traffic/stream.h"

#define HELLOS_MAX 256u
#define TLS_OBJECTS_MAX 4096u /* of a process; what passes through others is a loss */

/* Plaintext of an object. */
void tls_object_data(struct proc *p, const struct traffic *t);
/* Bytes of an object, plaintext or encrypted, have passed through descriptor fd, whose file has this channel. The probe's own table is small:
 * it may not know that of a later piece. */
void tls_object_at(struct proc *p, const struct traffic *t, int64_t fd, uint64_t channel);
/* The first encrypted bytes that its library writes or reads: t->offset says where they stand. */
void tls_object_hello(struct proc *p, const struct traffic *t);
/* An object begins, or has ended: what follows belongs to another connection. */
void tls_object_end(struct proc *p, uint64_t object, uint64_t time_ns);
/* Some plaintext of the process is missing, and nobody knows where: each goes on as one that was joined half-way. */
void tls_objects_missed(struct proc *p, uint64_t time_ns);

/* What a child of fork(2) inherits: objects whose socket is known. NULL if there are none. */
struct tls_objects *tls_objects_inherit(const struct proc *p);
/* All of a process, when it ends or becomes another program. tell: its telemetry isn't over yet. */
void tls_objects_end(struct proc *p, bool tell, uint64_t time_ns);
/* Of what tls_objects_inherit() has returned. NULL is fine. */
void tls_objects_free(struct tls_objects *t);

#endif
