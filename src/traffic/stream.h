/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is spoken on connections and datagram sockets: which protocol, and its
 * decoder (src/protocol), fed in order from what the probes have captured. What
 * the decoders tell becomes events and metrics in http.c, dns.c and statsd.c.
 *
 * A stream belongs to a socket, however many descriptors and processes refer to
 * that; the plaintext of TLS is a second stream of the same socket, or one of
 * the TLS object if nobody knows its socket. Where the bytes stand is known by
 * the counters of the descriptor that they went through, so that what was not
 * captured is a gap of known place and length.
 */
#ifndef SCOPE_TRAFFIC_STREAM_H
#define SCOPE_TRAFFIC_STREAM_H

#include "model/process.h"
#include "protocol/http.h"
#include "protocol/tls.h"

/* Bytes that went through a socket in one call. */
struct traffic {
    enum proto_dir dir;
    bool tls;                 /* plaintext of a TLS library */
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
};

enum stream_kind { STREAM_DETECT, STREAM_NOTHING, STREAM_PREAMBLE, STREAM_HTTP1, STREAM_HTTP2, STREAM_DNS, STREAM_STATSD, STREAM_TLS };

/* What is known of a stream of which nobody knows yet what is spoken; decoders do without, as most streams do for the
 * longest time. */
struct stream_start {
    unsigned tries;           /* to recognise it */
    uint64_t looked;          /* bytes that this took so far */
    struct tls_first first;   /* bytes of the direction that begins, or that begins in a tunnel */
    uint8_t first_dir;        /* enum proto_dir */
    uint8_t turns;            /* times that bytes followed others of the other direction, and the first ones */
    uint8_t last;             /* whose the last ones were, enum proto_dir */
    uint32_t clear;           /* bytes that have passed so far, at most STARTTLS_BYTES + 1 */
    struct held_bytes {       /* that may be the beginning of TLS; they come next */
        uint8_t data[TLS_DETECT], len, dir;
        uint64_t time_ns;
    } held;
    uint64_t missing[PROTO_DIRS]; /* of a tunnel: bytes that there was no room for until it is recognised */
    struct detect *turn;      /* what began with the last turn, behind something that isn't understood; NULL: nothing */
};

/* Of datagrams. */
struct stream_peer {
    union address from;       /* other side of this one, if the call names it; family 0: it doesn't */
    uint64_t hash;            /* 0: none */
};

struct stream {
    uint8_t kind;             /* enum stream_kind */
    bool datagrams;
    bool tls;                 /* it is the plaintext of TLS */
    bool joined;              /* something passed before, or was missed before it was recognised */
    bool http;                /* HTTP was recognised, decoded or not */
    bool builtin;             /* it is a protocol that we know, not one of the user's */
    bool named;               /* what is spoken was recognised; a preamble is only what stands in front of it */
    bool everything;          /* its payload is wanted, by its protocol */
    bool ciphertext;          /* TLS: its payload isn't wanted, the plaintext is another stream */
    bool next_nothing;        /* HTTP/1 has become something that isn't decoded */
    bool unread;              /* TLS: data have passed both ways, and no plaintext of the process had been seen */
    bool relayed;             /* TLS: what one connection receives is sent on another one */
    uint64_t channel;
    struct sock *sock;        /* NULL: not known */
    uint64_t object;          /* plaintext of TLS: the object that the last of it passed through; 0: none */
    /* Whose bytes are being fed; NULL, -1 while nobody's are. */
    struct proc *p;
    int64_t fd;
    struct stream_start *start; /* NULL: nothing of it */
    struct stream_peer *peer; /* NULL: no datagrams */
    const char *protocol;     /* that was recognised, or NULL */
    struct proc *asker;       /* DNS: who used it last while queries are outstanding; NULL: none are, or it has ended */
    struct stream *next_asking, **asking; /* of asker->asking: the next one, and what leads to this one */
    /* payloads.c: */
    struct stream_flow *flows;
    union {
        struct detect *detect;
        struct preamble *preamble;
        struct http1 *http1;
        struct http2 *http2;
        struct dns *dns;
        struct statsd *statsd;
        struct hellos *hellos;
    };
    struct http2 *next_http2; /* HTTP/1 was upgraded to it */
    struct detect *next_detect; /* ... or has become a tunnel, or a preamble is over */
};

/* Compiles what the configuration says about protocols; sets pl->http and so on. */
void stream_prepare(struct pipeline *pl);
void stream_unprepare(struct pipeline *pl);

void stream_data(struct proc *p, int64_t fd, struct desc *d, const struct traffic *t);
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
/* Gives up DNS queries of its streams (proc.asking) that nobody has answered for long. */
void stream_sweep(struct proc *p, uint64_t time_ns);
/* It is about to be freed: nothing is told for it any more. */
void stream_forget(struct proc *p);
/* Tells what is outstanding, if anybody is there to tell it for, and frees. NULL is fine. */
void stream_free(struct stream *s, uint64_t time_ns);

/* What the probe shall capture of the descriptor. */
enum fd_want stream_want(const struct proc *p, const struct desc *d);
/* net_transport and addresses as they are just now. f may get 7 fields; their texts belong to t. */
struct fields;
struct address_texts;
void stream_net_fields(struct fields *f, const struct stream *s, struct address_texts *t);
/* The other side of the datagram that is being fed; NULL: that of the socket. */
static inline const union address *stream_from(const struct stream *s)
{
    return s->peer && s->peer->from.family ? &s->peer->from : NULL;
}
/* The same when `from` was the other side; family 0: the socket's peer. */
void stream_net_fields_of(struct fields *f, const struct stream *s, const union address *from, struct address_texts *t);

/* dns.c, statsd.c; the owner is a stream */
extern const struct dns_sink dns_sink;
extern const struct statsd_sink statsd_sink;

/* preamble.c */
struct preamble_told;
/* Tells net.app of what stood in front; the socket has the client of a PROXY header from now on. */
void preamble_report(struct stream *s, const struct preamble_told *told, uint64_t time_ns);

/* tls.c */
/* Tells (`tell`) net.app of a connection that begins as TLS, once: when the hellos of both sides were read, or will not be.
 * What comes behind them is encrypted: of it only the headers of records are looked at, to know whether data pass (unread).
 * The stream outlives it. */
struct hellos *hellos_new(struct stream *s, bool tell, uint64_t time_ns);
/* Tells what is known, if it wasn't told. */
void hellos_free(struct hellos *h);
/* As tls_feed(); true: nothing more is needed. */
bool hellos_feed(struct hellos *h, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
/* As tls_skip(). */
uint64_t hellos_skip(const struct hellos *h, enum proto_dir dir);
/* Whether net.app was told, if it is to be. */
bool hellos_done(const struct hellos *h);
/* Data pass, and no plaintext of the process was seen so far. */
void tls_unread_found(struct stream *s, uint64_t time_ns);
/* Whether that is still so. */
bool tls_is_unread(const struct proc *p, const struct sock *sock);
/* The connection ends: if its plaintext was never seen, that is told, once for each program. */
void tls_unread_over(struct proc *p, int64_t fd, struct sock *sock, uint64_t time_ns);
/* The same now and then, for connections that go on. */
void tls_look_unread(struct proc *p);

/* http.c */
void http_prepare(struct pipeline *pl);
void http_unprepare(struct pipeline *pl);
void *http_request(void *stream, const struct http_head *head, void *early);
void *http_response(void *stream, const struct http_head *head, void *kept, uint64_t duration_ns);
/* Of the request that `kept` belongs to: in which direction it went, when it began; false if it is NULL. */
bool http_began(const void *kept, enum proto_dir *ret_dir, uint64_t *ret_first_ns);
void http_trailers(void *stream, void *kept, bool response, const struct http_field *fields, size_t count);
void http_done(void *stream, void *kept, const struct http_totals *totals);

#endif
