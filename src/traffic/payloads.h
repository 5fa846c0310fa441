/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What passes through streams, into payload files (session/payload.h) or over a
 * payload connection (session/payload_link.h), if the configuration wants it.
 * Bytes that can't be written are counted (LK_PAYLOAD).
 */
#ifndef SCOPE_TRAFFIC_PAYLOADS_H
#define SCOPE_TRAFFIC_PAYLOADS_H

#include "traffic/protocol.h"

struct buf;
struct event_base;
struct session;

/* All of a session. */
struct payloads {
    struct model *model;
    struct event_base *base;
    const struct session *session;  /* NULL: none */
    struct payload_target *targets; /* directories and connections */
};

/* Traffic of this configuration will be kept: there is an index, or a connection, from now on. */
void payloads_prepare(struct payloads *all, struct pipeline *pl);
/* That pipeline is no process's any more. */
void payloads_forget(struct payloads *all, struct pipeline *pl);
/* Another session takes the place of the one in `dir`: what is kept below that is closed when whatever passes has gone on
 * in the other one. Before pipelines_move(). */
void payloads_leave(struct payloads *all, const char *dir, const struct session *next);
/* ... and then for each of them. */
void payloads_moved(struct payloads *all, struct pipeline *pl);
/* Whether what passes on a stream is kept, or was. */
static inline bool payloads_keeps(const struct stream *s)
{
    return s->p && !s->ciphertext && (s->flows || s->everything || s->p->pl->cfg->payload.enable);
}
/* Bytes of a stream whose process is set, in order and once each; data NULL: they were not captured. */
void payloads_pass(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
/* Its protocol was recognised: s->protocol. */
void payloads_recognised(struct stream *s);
/* It has ended. */
void payloads_end(struct stream *s, uint64_t time_ns);
/* A connection ends whose TLS could not be read: a flow with the reason, and the encrypted bytes as gaps, if payloads are
 * kept. */
void payloads_unread(struct proc *p, int64_t fd, struct sock *sock, enum unread_reason why, uint64_t time_ns);
/* Everything so far can be read. */
void payloads_flush(struct payloads *all);
/* When no stream is left: waits for slow connections, at most so long in all, and counts what they don't take
 * (LK_PAYLOAD_DESTINATION), while that can still be told. */
void payloads_finish(struct payloads *all, unsigned wait_ms);
void payloads_close(struct payloads *all);
/* Appends where payloads of the process go, if they do, as telemetry_describe() does. */
void payloads_describe(const struct proc *p, struct buf *b);

#endif
