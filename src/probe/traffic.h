/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes through sockets, for the collector's decoders: which bytes of a
 * call are put into the ring (wire/record.h, REC_DATA), and which aren't.
 */
#ifndef SCOPE_PROBE_TRAFFIC_H
#define SCOPE_PROBE_TRAFFIC_H

#include "ring.h"

#define ADDR_MAX 128u /* sizeof(struct sockaddr_storage) */

/* One call, or one message of a call that passes several. */
struct traffic {
    struct segment_header *s;
    enum op_id op;
    enum data_source source;    /* DATA_TX, DATA_RX */
    int fd;
    const struct regs *r;       /* of the call, NULL: not known */
    struct fd_entry *e;         /* NULL: a guest's, or a number too high to have one */
    uint64_t position;          /* of its counter, before the call */
    uint64_t bytes;             /* that went through */
    const struct iovec *iov;    /* readable; NULL: where they were isn't known (sendfile) */
    size_t count;
    const void *name;           /* address of the other side, NULL: not told */
    uint32_t name_len;
    bool name_sure;             /* the kernel has read it; else it may not even be there */
};

/* Whether fd is a socket; asks the kernel when nobody has told, and remembers the answer in e (may be NULL). Of a socket
 * that the process has been given by another (inherited, SCM_RIGHTS) it tells then what it is (REC_SOCKET). */
bool traffic_socket(struct segment_header *s, int fd, struct fd_entry *e);

/* Tells it, if fd is a socket: what the calls that made it would have told. gen: fd_entry.gen, a guest's: 0. */
void traffic_tell_socket(struct segment_header *s, int fd, uint32_t gen);

void traffic_passed(const struct traffic *t, uint32_t mode);

/* Of a connection that was begun and has no outcome yet (e, may be NULL: FDS_PENDING) it is known now: 0 or -errno, -EIO
 * if nobody knows why; writes REC_CONNECT. peer (may be NULL): another call than connect(2), `op`, has begun it with this
 * address; then also -EINPROGRESS. */
void traffic_connect(struct segment_header *s, enum op_id op, int fd, struct fd_entry *e, int64_t result, const void *peer,
                     uint32_t len);
/* Whether it is connected, as the kernel says, without asking for (and clearing) its error. Not in a sandbox. */
bool traffic_connected(int fd);
/* e is FDS_PENDING, and about to be closed: tells what has become of it, unless it is under way still. */
void traffic_connect_end(struct segment_header *s, int fd, struct fd_entry *e);

#endif
