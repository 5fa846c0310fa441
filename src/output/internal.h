/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of src/output share. */
#ifndef SCOPE_OUTPUT_INTERNAL_H
#define SCOPE_OUTPUT_INTERNAL_H

#include <poll.h>

#include <event2/event.h>

#include "base/buf.h"
#include "output/output.h"
#include "output/queue.h"

enum output_state {
    OUTPUT_DOWN,       /* waits for the next attempt */
    OUTPUT_RESOLVING,  /* fd is the pipe from the name resolver */
    OUTPUT_CONNECTING, /* fd is a socket whose connect() is under way */
    OUTPUT_HANDSHAKE,  /* TLS */
    OUTPUT_UP,
};

struct output;
struct otlp;

/*
 * A transport moves bytes from the queue to the kernel. It sets o->fd and
 * o->want (poll events that it waits for) and never blocks, but for small pieces
 * that go to a disk.
 */
struct transport {
    /* Starts an attempt. 0: up; -EINPROGRESS: ready() is called when fd is; else -errno, with output_failed(). */
    int (*open)(struct output *o);
    /* fd became ready while not yet up; events is 0 when it took too long. Returns as open(). */
    int (*ready)(struct output *o, short events);
    /* fd became ready for reading while up: 0, or -errno when the connection is gone; -ESTALE: it has done what it was
     * for, and another one is made when there is something to send. */
    int (*input)(struct output *o);
    /* Sends the preamble, then the queue. 0: all sent; -EAGAIN: wait for o->want, or for a while if that is 0;
     * -ESTALE: connect anew at once; else -errno: the connection is gone. o->retry_ms, if it sets that: call it again
     * after so long in any case. */
    int (*send)(struct output *o);
    /* Waits until what send() has begun is done, for send() to be called again: true; false: nothing is under way. NULL:
     * nothing ever is. */
    bool (*settle)(struct output *o);
    /* Releases fd and private data. Also called after a failed open(). */
    void (*close)(struct output *o);
};

struct connected {
    output_connected_fn fn;
    void *ctx;
    struct connected *next;
};

struct output {
    struct output *next;             /* registry */
    unsigned refs, users;            /* users: those that haven't given up yet */
    bool own;                        /* not shared */
    struct event_base *base;
    struct cfg_transport cfg;
    size_t datagram_max;
    char *url;
    const struct transport *transport;

    struct queue queue;
    struct otlp *otlp;               /* otlp.c; NULL for other transports */
    uint64_t items;                  /* otlp: in the records that wait */
    struct buf preamble;             /* what goes before the queue on this connection */
    size_t preamble_sent;
    uint64_t preamble_records;
    bool in_preamble;                /* callbacks are writing it */

    enum output_state state;
    int fd;                          /* -1 if none */
    short want;                      /* POLLIN, POLLOUT */
    struct event *io, *timer;
    short io_events;                 /* what io is registered for, 0 if it isn't */
    bool io_pollable;                /* epoll accepts fd: not a regular file or simple device */
    uint64_t timer_at;               /* monotonic ms, 0 if not set */
    unsigned backoff_ms;
    bool blocked;                    /* send() said -EAGAIN */
    unsigned retry_ms;               /* ... and is to be called again after that, where no descriptor tells */
    bool ever_up, said_failure;
    bool in_doubt;                   /* otlp: a request has failed, so that being connected is no success yet */
    unsigned pause_ms;               /* otlp: wait at least so long before the next attempt */
    uint64_t claimed;                /* of stats.lost_destination */
    mode_t file_mode;                /* of the file that was open last, 0: none yet */
    char failure[256];
    struct output_stats stats;
    struct connected *connected;
    void *priv;                      /* of the transport */
};

extern const struct transport transport_file, transport_stream, transport_datagram, transport_otlp_http,
    transport_otlp_grpc;

/* Keeps the reason for `scope ps` and logs. */
void output_failed(struct output *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* There is a connection, or an answer that says that all is well: the next failure is a new one. */
void output_recovered(struct output *o);
/* n bytes of the queue were taken by the kernel. */
void output_sent(struct output *o, size_t n);
/* Records that the kernel refused for good: dropped from the head of the queue and counted. */
void output_drop(struct output *o, size_t bytes, uint64_t records);
uint64_t monotonic_ms(void);

/* Limits of outputs made from now on; 0 keeps a value. Bytes: OUTPUT_OWN is what each kind has by itself. For tests. */
#define OUTPUT_OWN ((size_t)-1)
void output_set_limits(size_t queue_bytes, size_t queue_records, unsigned first_retry_ms);

/* file.c: each disk counts as a busy one. For tests. */
void output_disks_are_busy(bool always);

/* resolve.c: addresses of a name, looked up in a child process, because libc's resolver blocks and may not be
 * used in a static program, and DNS answers are hostile input. */
struct address {
    uint32_t len;
    char sa[124]; /* struct sockaddr_in or _in6 */
};
#define RESOLVE_MAX 16
/* Numeric host (or localhost) and port: fills out[] and returns the count, 0 if host is another name, -EINVAL if port
 * isn't 1..65535. */
int resolve_numeric(const char *host, const char *port, struct address *out);
/* Starts the child. Returns the descriptor from which resolve_read() reads; *ret_pidfd is the child's. */
int resolve_start(const char *host, const char *port, int *ret_pidfd);
/* Number of addresses (>= 1), -EAGAIN, or another -errno with its meaning in *ret_text. */
int resolve_read(int fd, struct address *out, const char **ret_text);
/* Ends the child and closes both descriptors. */
void resolve_end(int fd, int pidfd);

/* socket.c: for transports that are a protocol over a stream. */
int socket_open(struct output *o);
int socket_ready(struct output *o, short events);
void socket_close(struct output *o);
/* Sends what the kernel takes (with TLS of part[0] only): bytes, or -EAGAIN with o->want set, or -errno. */
ssize_t socket_put(struct output *o, struct iovec *part, int parts);
/* Bytes, 0: closed; -EAGAIN; else -errno with a text for people in err. */
ssize_t socket_get(struct output *o, char *p, size_t len, char *err, size_t err_size);
/* True if TLS is used and both sides have agreed on this protocol. */
bool socket_speaks(struct output *o, const char *alpn);

/* tls.c */
struct output_tls;
/* alpn: the protocol to be offered (RFC 7301), NULL for none. */
struct output_tls *output_tls_new(int fd, const struct cfg_tls *cfg, const char *host, const char *alpn, char *err,
                                  size_t err_size);
/* 0: done; -EAGAIN with *ret_want; else -errno with text in err. */
int output_tls_handshake(struct output_tls *t, short *ret_want, char *err, size_t err_size);
/* Bytes taken, or -EAGAIN with *ret_want, or -errno. */
long output_tls_write(struct output_tls *t, const char *p, size_t len, short *ret_want);
/* Bytes read, 0: closed by the peer; -EAGAIN with *ret_want; else -errno with text in err. */
long output_tls_read(struct output_tls *t, char *p, size_t len, short *ret_want, char *err, size_t err_size);
bool output_tls_speaks(struct output_tls *t, const char *alpn);
/* Throws away what arrives. 0 or -errno when the connection is gone. */
int output_tls_discard(struct output_tls *t);
void output_tls_free(struct output_tls *t);

/* otlp.c: what both transports of OTLP share: requests made of records of the queue, one at a time, and what becomes of
 * their items. A request's records stay in the queue until there is an answer, so that they needn't be put back.
 * (opentelemetry-proto, docs/specification.md) */
struct otlp;
struct otlp *otlp_new(const struct cfg_otlp_to *cfg, enum cfg_otlp_signal signal);
void otlp_free(struct otlp *); /* or NULL */
/* Everything but cfg->transport is compared. */
bool otlp_same(const struct otlp *, const struct cfg_otlp_to *cfg, enum cfg_otlp_signal signal);
/* malloc'ed, for people: without what may be secret. cfg is that of otlp_new(). */
char *otlp_url(const struct otlp *, const struct cfg_otlp_to *cfg);
const char *otlp_items(const struct otlp *); /* "spans" */
/* An answer is awaited. */
bool otlp_is_busy(const struct otlp *);
const char *otlp_alpn(const struct otlp *);
const struct transport *otlp_transport(const struct otlp *);

#endif
