/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What descriptors refer to: files, and sockets, with their addresses.
 * Shared by duplicates, and by processes; counted references.
 */
#ifndef SCOPE_MODEL_FILE_H
#define SCOPE_MODEL_FILE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "wire/segment.h"

struct model;
struct stream;

/* A socket address as far as it is of interest: of other families than the two only the family. 0: unknown. Connections
 * are many, so there is no room for the path of a unix socket, which nothing tells. */
union address {
    sa_family_t family;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

enum sock_flag {
    SOCKF_LISTENING = 1 << 0,
    SOCKF_PENDING   = 1 << 1, /* connect() said EINPROGRESS */
    SOCKF_OPEN      = 1 << 2, /* net.open was reported: net.close will be */
    SOCKF_REMOTE    = 1 << 3, /* the peer ended it */
    SOCKF_JOINED    = 1 << 5, /* inherited, received or attached to: something may have passed before */
    SOCKF_ACCEPTED  = 1 << 6,
    SOCKF_CONNECTED = 1 << 7, /* connect() was called */
    SOCKF_HTTP      = 1 << 9, /* HTTP was recognised on it */
    SOCKF_PLAIN     = 1 << 10, /* the plaintext of its TLS was seen, or would be: a library that is observed uses it */
    SOCKF_RECEIVED  = 1 << 8, /* with a message, of somebody who isn't known to have sent it (passed.h) */
};

struct sock {
    unsigned refs;            /* files that are this socket: of processes that have passed it on */
    uint16_t domain, protocol;
    uint16_t flags;           /* enum sock_flag */
    uint8_t type;
    union address local, peer;
    uint64_t open_ns;         /* of the connection */
    uint64_t channel;         /* of the file as which it was opened, if it is several (passed.h); 0: that of its file */
    uint64_t close_ns;        /* when a descriptor was closed that wasn't the last one */
    uint64_t rx_bytes, rx_ops, tx_bytes, tx_ops;
    uint64_t ino, peer_ino;   /* of unix sockets; the first one also of others that were inherited or received */
    union address *client;    /* who is behind a proxy, as its PROXY header says; NULL: there was none */
    struct stream *stream;    /* others': what is spoken, NULL: nothing was captured yet */
    struct stream *plain;     /* ... inside of TLS */
};

/* What a descriptor refers to; shared by its duplicates here and in children. */
struct file {
    unsigned refs;
    uint8_t kind;             /* enum fd_kind */
    bool has_stat;
    bool read_only;           /* as it was opened: nothing can be written through it */
    bool sink;                /* a device that isn't a terminal, such as /dev/null: nobody reads what is written to it */
    uint32_t perms, uid, gid;
    bool resolved;            /* path_resolved() of its path */
    uint32_t path_len, path_cap;
    uint32_t plain, tail;     /* as in struct name (names.h) */
    uint64_t dev, ino;        /* ino 0: not known */
    char *path;               /* not terminated */
    uint64_t channel;
    struct sock *sock;        /* NULL if it is none */
    struct file *next_free;
};

/* Names longer than NAME_SHORT share LONG_NAMES_MAX bytes; what doesn't fit has no name, which is counted. */
#define NAME_SHORT 1024u
#define LONG_NAMES_MAX ((size_t)64 << 20)
struct file *file_new(struct model *m, enum fd_kind kind, const char *path, size_t len);
static inline struct file *file_ref(struct file *f)
{
    f->refs++;
    return f;
}
void file_unref(struct model *m, struct file *f);
void sock_unref(struct model *m, struct sock *s);
/* What events of the connection have as _channel. */
static inline uint64_t sock_channel(const struct file *f)
{
    return f->sock && f->sock->channel ? f->sock->channel : f->channel;
}
/* Whether what it refers to goes on when this reference is dropped. */
static inline bool file_shared(const struct file *f)
{
    return f->refs > 1 || (f->sock && f->sock->refs > 1);
}
struct sock *file_sock(struct file *f, int domain, int type, int protocol);

/* Takes an address of len bytes (hostile). */
void address_set(union address *a, const void *p, size_t len);

/* Gives back what is kept for later. */
void files_free(struct model *m);

#endif
