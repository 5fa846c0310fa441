/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What streams and protocols are to each other. A protocol is one row (struct
 * protocol) in one file, http.c or dns.c for instance, which turns what a decoder
 * of src/protocol tells into events and metrics; protocols.c lists the rows. The
 * stream (stream.c) puts bytes in order, finds out what is spoken, and feeds.
 * docs/HOWTO_ADD_PROTOCOL.md shows how one is added.
 */
#ifndef SCOPE_TRAFFIC_PROTOCOL_H
#define SCOPE_TRAFFIC_PROTOCOL_H

#include "model/file.h"
#include "model/model.h"
#include "model/process.h"
#include "protocol/detect.h"
#include "protocol/tls.h"
#include "protocol/tls_open.h"
#include "report/fields.h"
#include "report/pipeline.h"
#include "report/report.h"

/* How plaintext of TLS is had; net.app has its name. */
enum tls_way {
    TLS_WAY_LIBRARY, /* where the program calls the library */
    TLS_WAY_GO,      /* where it calls Go's crypto/tls */
    TLS_WAY_JSSE,    /* where it calls Java's JSSE */
    TLS_WAY_KEYS,    /* records are opened, with keys that are seen where they are set up */
    TLS_WAYS
};
#define TLS_WAY_NAMES {"library", "go", "jsse", "keys"}

/* How a stream was recognised, for the decoder that begins with it. */
struct protocol_start {
    enum proto_dir dir; /* whose bytes have told it */
    bool tell;          /* tells_app: net.app is wanted */
    uint64_t time_ns;
};

/*
 * A row. `decoder` is what `new` has returned. All functions but `new`, `feed` and `free` may be NULL.
 * They are called with the process and the descriptor that the bytes went through
 * in s->p and s->fd; in `end`, `sweep` and `free` p may be NULL: then nobody is
 * there any more whom something could be told for.
 */
struct protocol {
    struct detect_builtin detect; /* its name, and how its first bytes look */

    /* What it tells. It is decoded where any of that is wanted; where a row has neither, always. */
    enum cfg_event_watch watch;
    const char *const *events; /* sources; NULL at the end */
    const enum tm_metric *metrics;
    size_t metric_count;
    bool spans;                                /* it makes spans */
    bool runtime;                              /* it tells of AWS Lambda's runtime (runtime_api.h) */
    bool (*wanted)(const struct pipeline *pl); /* instead of all these */

    bool front;     /* it stands in front of what the connection is made for, and comes to an end */
    bool encrypts;  /* its payload isn't wanted: the plaintext is another stream */
    bool tells_app; /* the decoder tells net.app, with what it has read; else the stream does */
    uint16_t marks; /* enum sock_flag of sockets on which it was recognised, decoded or not */

    /* What has to be made of the configuration, once for each, if the protocol is wanted; and its end. */
    void (*prepare)(struct pipeline *pl);
    void (*unprepare)(struct pipeline *pl);

    /* s->joined, s->datagrams and s->tls say of what kind the stream is. Returns NULL where one of this kind isn't
     * decoded. */
    void *(*new)(struct stream *s, const struct protocol_start *how);
    /* Bytes that passed, each once and in order; data NULL: a gap, they weren't captured. It may end with
     * stream_becomes(), stream_anew() or stream_stops(); the decoder is freed when it has returned. */
    void (*feed)(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
    /* A whole datagram, or data NULL. If this is NULL datagrams are fed. */
    void (*datagram)(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len,
                     uint64_t time_ns);
    /* How many of the next bytes it needs the number of only: http1_skip(). */
    uint64_t (*skip)(const void *decoder, enum proto_dir dir);
    /* Nothing more comes in this direction. */
    void (*end)(void *decoder, struct stream *s, enum proto_dir dir, uint64_t time_ns);
    /* Of one that waits (stream_waits()): now and then. */
    void (*sweep)(void *decoder, struct stream *s, uint64_t time_ns);
    /* It has taken over from another one (stream_becomes()), and is fed what comes next. */
    void (*begun)(void *decoder, struct stream *s, uint64_t time_ns);
    /* Tells what is outstanding. */
    void (*free)(void *decoder, uint64_t time_ns);
};

/* First bytes of the direction that begins, in search of a ClientHello. */
struct hello_watch {
    struct tls_first first;
    uint8_t dir; /* enum proto_dir, if there are any */
};

/* What is known of a stream of which nobody knows yet what is spoken; decoders do without, as most streams do for the
 * longest time. */
struct stream_start {
    unsigned tries;           /* to recognise it */
    uint64_t looked;          /* bytes that this took so far */
    struct hello_watch hello; /* of the stream, or of what a tunnel carries */
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
    const struct protocol *speaks; /* whose decoder is fed: a row, or one of stream.c's own: nobody knows yet, or nobody's */
    void *decoder;
    const struct protocol *next; /* takes over when the decoder has returned; NULL: none */
    void *next_decoder;
    const struct protocol *known; /* what was recognised, decoded or not; NULL: nothing, or what a user has defined */
    const char *protocol;     /* the name of what was recognised, or NULL */
    bool datagrams;
    bool tls;                 /* it is the plaintext of TLS */
    bool joined;              /* something passed before, or was missed before it was recognised */
    bool named;               /* what is spoken was recognised, not only what stands in front of it */
    bool everything;          /* its payload is wanted, by its protocol */
    bool ciphertext;          /* TLS: its payload isn't wanted, the plaintext is another stream */
    bool unread;              /* TLS: data have passed both ways, and no plaintext of the process had been seen */
    uint8_t way;              /* plaintext of TLS: enum tls_way */
    uint8_t opened;           /* TLS: enum tls_open_state, where keys are seen */
    uint8_t unread_why;       /* enum unread_reason; of the stream that a flow is told by only */
    bool relayed;             /* TLS: what one connection receives is sent on another one */
    bool uncounted;           /* requests may have been missed */
    bool ends_server;         /* of `ends`: which end this is */
    uint32_t requests;        /* so many were told; only if spans are wanted */
    uint64_t ends;            /* which connection it is (both_ends.c); 0: not known yet, or its other end is elsewhere */
    uint64_t channel;
    struct sock *sock;        /* NULL: not known */
    uint64_t object;          /* plaintext of TLS: the object that the last of it passed through; 0: none */
    /* Whose bytes are being fed; NULL, -1 while nobody's are. */
    struct proc *p;
    int64_t fd;
    uint32_t tid;             /* thread that has moved the last of it; 0: not known, or nobody has */
    struct stream_start *start; /* NULL: nothing of it */
    struct stream_peer *peer; /* NULL: no datagrams */
    struct stream_flow *flows; /* payloads.c */
    struct http_ends *http;   /* http_span.c; one block of memory, NULL: none */
};

/* --- what a protocol may call (feed.c, recognise.c, stream.c) --- */

/* Something was not seen, or not understood. */
void stream_lost(struct stream *s, enum loss_kind kind, uint64_t count);
/* The connection speaks something else from here on, of which this is the decoder (taken). */
void stream_becomes(struct stream *s, const struct protocol *next, void *decoder);
/* ... something that is to be recognised from its first bytes, as at the beginning of a connection. */
void stream_anew(struct stream *s);
/* ... nothing that can be understood. */
void stream_stops(struct stream *s);
/* Bytes that belong to what comes next, while the decoder goes on until it returns. data NULL: a gap. */
void stream_rest(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);

/* A stream that waits for something that may never come: part of its decoder's state, zeroed at first. */
struct stream_wait {
    struct stream *s;
    struct proc *p; /* on whose list it is; NULL: on none */
    struct stream_wait *next, **at;
};
/* It does, as far as p is concerned: `sweep` is called until p is NULL, or has ended. Must be so before w is freed. */
void stream_waits(struct stream_wait *w, struct stream *s, struct proc *p);

/* net_transport and addresses as they are just now. f may get 7 fields; their texts belong to t. */
void stream_net_fields(struct fields *f, const struct stream *s, struct address_texts *t);
/* The same when `from` was the other side; family 0: the socket's peer. */
void stream_net_fields_of(struct fields *f, const struct stream *s, const union address *from, struct address_texts *t);
/* The other side of the datagram that is being fed; NULL: that of the socket. */
static inline const union address *stream_from(const struct stream *s)
{
    return s->peer && s->peer->from.family ? &s->peer->from : NULL;
}

#endif
