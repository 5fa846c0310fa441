/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is spoken on connections and datagram sockets: which protocol
 * (recognise.h), and its decoder (protocol.h), fed in order from what the probes
 * have captured.
 *
 * A stream belongs to a socket, however many descriptors and processes refer to
 * that; the plaintext of TLS is a second stream of the same socket, or one of
 * the TLS object if nobody knows its socket. Where the bytes stand is known by
 * the counters of the descriptor that they went through, so that what was not
 * captured is a gap of known place and length.
 */
#ifndef SCOPE_TRAFFIC_STREAM_H
#define SCOPE_TRAFFIC_STREAM_H

#include "traffic/protocol.h"

/* Bytes that went through a socket in one call. */
struct traffic {
    enum proto_dir dir;
    bool tls;                 /* plaintext of a TLS library */
    enum tls_way way;         /* of plaintext */
    uint64_t object;          /* TLS object, in whose library's functions they passed; 0: none */
    uint32_t life;            /* of plaintext: tls_want.life of the object; 0: not known */
    bool placed;              /* position is known */
    uint64_t position;        /* of the descriptor's counter before the call */
    uint64_t offset;          /* of the data in the call */
    uint64_t bytes;           /* of the call */
    const uint8_t *data;      /* NULL: nothing from offset on was captured */
    uint32_t len;
    const void *name;         /* struct sockaddr of the other side, NULL: not told */
    uint32_t name_len;
    uint64_t time_ns;         /* CLOCK_REALTIME */
    uint32_t tid;             /* who has made the call */
};

/* Compiles what the configuration says about protocols; sets what of them is wanted. */
void stream_prepare(struct pipeline *pl);
void stream_unprepare(struct pipeline *pl);

void stream_data(struct proc *p, int64_t fd, struct desc *d, const struct traffic *t);
/* Whether anything of the plaintext of a socket is wanted: not known before there is some. */
bool stream_plain_wanted(const struct proc *p, const struct sock *sock);
/* The plaintext of a TLS object whose socket isn't known. joined: something of it passed before. Freed by stream_over(). */
struct stream *stream_of_object(struct proc *p, bool joined);
void stream_feed(struct stream *s, struct proc *p, const struct traffic *t);
/* It is known now: s is the plaintext of the socket from here on, as whose it ends. */
void stream_adopt(struct proc *p, int64_t fd, struct file *f, struct stream *s, uint64_t time_ns);
/* Something is missing, and nobody knows how much: *at ends, and another one goes on that was joined half-way. */
void stream_missed(struct proc *p, int64_t fd, struct stream **at, uint64_t time_ns);
/* It has ended: tells what is outstanding (p NULL: to nobody), and frees. NULL is fine. */
void stream_over(struct stream *s, struct proc *p, int64_t fd, uint64_t time_ns);
/* A descriptor is about to be closed: what its counters say and nobody has captured passed before. */
void stream_close(struct proc *p, int64_t fd, struct desc *d, uint64_t time_ns);
/* Those of its streams that wait for something (proc.asking) give up what has taken too long. */
void stream_sweep(struct proc *p, uint64_t time_ns);
/* It is about to be freed: nothing is told for it any more. */
void stream_forget(struct proc *p);
/* Tells what is outstanding, if anybody is there to tell it for, and frees. NULL is fine. */
void stream_free(struct stream *s, uint64_t time_ns);

/* What the probe shall capture of the descriptor. */
enum fd_want stream_want(const struct proc *p, const struct desc *d);
#endif
