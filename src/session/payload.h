/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captured traffic on disk: the files of payloads/ in a session, or of
 * payload.dir (docs/data-model.md, "Payloads").
 *
 *   PID_RIP:RPORT_LIP:LPORT.in   bytes that the process received, as they were
 *   PID_RIP:RPORT_LIP:LPORT.out  ... that it sent
 *   index.ndjson                 which flows there are, and of each chunk: time, direction, place in its file; of
 *                                what is missing: time, direction, length
 *
 * A flow is what passes through one connection, or between a datagram socket
 * and one peer. Each has files of its own: where a pair of addresses is used
 * again, the name gets the number of the flow. The index is in the order in
 * which the flows were recorded, so that reading it once tells all of them.
 *
 * Neither side is thread-safe. Times are nanoseconds since 1970 (UTC), sizes bytes.
 */
#ifndef SCOPE_SESSION_PAYLOAD_H
#define SCOPE_SESSION_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/buf.h"

enum payload_dir { PAYLOAD_IN, PAYLOAD_OUT, PAYLOAD_DIRS }; /* received, sent by the process */
enum payload_role { PAYLOAD_UNKNOWN, PAYLOAD_CLIENT, PAYLOAD_SERVER };

/* One end of a flow. */
struct payload_addr {
    int family; /* AF_INET, AF_INET6, AF_UNIX; AF_UNSPEC: not known */
    uint16_t port;
    uint8_t ip[16]; /* in network order; of AF_INET the first four */
    uint64_t inode; /* AF_UNIX; 0: not known */
};

/* Who is at the ends. Texts may be any bytes, NULL: not known. */
struct payload_id {
    int64_t pid, ppid; /* 0: not known */
    int64_t fd;        /* -1: not known */
    uint64_t channel;  /* of the events about it; 0: none */
    const char *proc;
    const char *ident;     /* "id" of its events */
    const char *transport; /* as net_transport of events: "IP.TCP" */
    const char *protocol;
    bool tls; /* plaintext of TLS */
    const char *plaintext; /* of TLS: how it was had, as tls_plaintext of events */
    const char *unread;    /* TLS that could not be read: why, as unread_name() has it */
    enum payload_role role;
    struct payload_addr host, peer; /* of the process; of the other side */
};

/* Texts are copied; payload_id_free() frees them. */
void payload_id_copy(struct payload_id *to, const struct payload_id *from);
void payload_id_free(struct payload_id *id);
/* IPv4 in IPv6 becomes IPv4; families that aren't known AF_UNSPEC. addr may be NULL. */
struct payload_addr payload_addr(const struct sockaddr *addr, socklen_t len);
#define PAYLOAD_ADDR_TEXT 48
/* The address without its port, or "" if it isn't one of the internet. */
const char *payload_addr_text(const struct payload_addr *a, char text[PAYLOAD_ADDR_TEXT]);
/* Packets keep their limits: datagrams, and packets of unix sockets. */
bool payload_is_stream(const char *transport);

/*
 * The header of a record on a payload connection, and with payload_options.headers in the files: JSON without a
 * newline. len bytes of data follow it.
 */
struct payload_place {
    uint64_t offset;  /* bytes that passed in this direction before */
    uint64_t missing; /* the last of them, that the receiver doesn't get */
};
/* place NULL: the index of the files tells it. */
void payload_header(struct buf *b, const struct payload_id *id, enum payload_dir dir, uint64_t time_ns, size_t len,
                    const struct payload_place *place);
/* The name of a flow's file, malloc'ed; attempt: how often names of this flow were taken. */
char *payload_file_name(const struct payload_id *id, uint64_t number, enum payload_dir dir, unsigned attempt);

/* --- writing --- */

struct payload_store;
struct payload_flow;

struct payload_options {
    const char *dir;            /* made if it isn't there */
    uint64_t session, start_ns; /* struct session's: whose flows they are, where several share a directory */
    bool headers;               /* SCOPE_PAYLOAD_HEADER */
    unsigned max_files;         /* open at once; 0: 128 */
    size_t queue;               /* bytes that may wait for payload_flush(); 0: each chunk is written at once */
};

/* Makes an index of its own in the directory. 0 or -errno. */
int payload_open(const struct payload_options *o, struct payload_store **ret);
/* Begins a flow; the identity is copied. Files are made when there are data. Never fails. */
struct payload_flow *payload_begin(struct payload_store *s, const struct payload_id *id, uint64_t time_ns);
/* More has become known about it: the protocol, an address. Names of files stay. */
void payload_update(struct payload_flow *f, const struct payload_id *id);
/*
 * What is told of flows waits in a queue, in its order, and is written
 * together: a write(2) for each file. When the queue is full, that is done
 * first. These return 0, or -errno if something in it could not be written:
 * that becomes a gap and is counted; the flows can go on.
 */
/* Bytes that passed. Of a datagram, all of it, also if that is nothing. */
int payload_data(struct payload_flow *f, enum payload_dir dir, uint64_t time_ns, const void *data, size_t len);
/* Bytes that passed and were not captured. */
int payload_gap(struct payload_flow *f, enum payload_dir dir, uint64_t time_ns, uint64_t len);
/* It has ended; reason as net_close_reason (a constant), or NULL. It must not be used any more. */
int payload_end(struct payload_flow *f, uint64_t time_ns, const char *reason);
/* Writes everything that waits, and the index: all so far can be read. 0 or -errno. */
int payload_flush(struct payload_store *s);
/* Bytes, and lines of the index, that could not be written so far. */
uint64_t payload_lost(const struct payload_store *s);
/* Flows that are still there stay without an end. All of them are freed. 0 or -errno. */
int payload_close(struct payload_store *s);

/* --- reading --- */

/* A flow as far as the index has been read. It and its texts belong to the reader. */
struct payload_entry {
    uint64_t number; /* 1, 2, ... in the order of the index */
    struct payload_id id;
    uint64_t begin_ns, end_ns;      /* 0: not known; not ended */
    const char *reason;             /* NULL: not known */
    uint64_t bytes[PAYLOAD_DIRS];   /* that are in the files */
    uint64_t missing[PAYLOAD_DIRS]; /* ... that are not */
    uint64_t last_ns[PAYLOAD_DIRS]; /* of data or a gap */
    const char *file[PAYLOAD_DIRS]; /* names in the directory, NULL: none */
    void *user;                     /* the reader's caller's */
};

enum payload_kind { PAYLOAD_FLOW, PAYLOAD_DATA, PAYLOAD_GAP, PAYLOAD_END };

struct payload_record {
    enum payload_kind kind;
    struct payload_entry *flow;
    uint64_t time_ns;
    /* PAYLOAD_DATA, PAYLOAD_GAP: */
    enum payload_dir dir;
    uint64_t at, len; /* place in the file; bytes */
};

struct payload_reader;

/* Flows of one session in a directory; start_ns 0: whenever it began. -ENOENT: there are none, or -errno. */
int payload_reader_new(const char *dir, uint64_t session, uint64_t start_ns, struct payload_reader **ret);
/* The directory, O_PATH. */
int payload_reader_dir(const struct payload_reader *);
/* The next record: 1, 0 at the end of what has been written, -errno. Lines that make no sense are counted and left out.
 */
int payload_next(struct payload_reader *r, struct payload_record *ret);
/* Bytes of a flow's file: as many as there are (0: the file ends), or -errno. -EINVAL: it is no regular file. */
ssize_t payload_read(struct payload_reader *r, struct payload_entry *e, enum payload_dir dir, uint64_t at, void *buf,
                     size_t size);
/* Lines that were left out so far. */
uint64_t payload_damaged(const struct payload_reader *r);
/* The flow of this number if it has been read, or NULL. */
struct payload_entry *payload_entry(const struct payload_reader *r, uint64_t number);
void payload_reader_free(struct payload_reader *r);

#endif
