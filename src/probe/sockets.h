/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What calls on sockets tell: addresses, descriptors that go with a message, and
 * what passes, for traffic.h.
 */
#ifndef SCOPE_PROBE_SOCKETS_H
#define SCOPE_PROBE_SOCKETS_H

#include "call.h"
#include "traffic.h"

#define SENT_MAX 64u /* descriptors that are told of a message */

struct addresses {
    char peer[ADDR_MAX], local[ADDR_MAX];
};

/* What getsockname(2) or getpeername(2), `nr`, says of fd, as an item of the call in buf[ADDR_MAX]; not in a sandbox. */
void call_name(struct call *c, long nr, int fd, enum item_type type, char *buf);

/* The peer, as accept(2) has told it to the program: the kernel can't be asked. What it says is the length of the address,
 * not how much of it had room: of what lies behind the page where it begins nothing is known. */
void call_accepted(struct call *c);

/* The inode number of a socket whose address (NULL: not known) is of the family AF_UNIX, as an item in st. */
void call_inode(struct call *c, int fd, const char *address, struct rec_stat *st);

/* The address that the program has passed or been given, as an item, if it can be read. */
void call_address(struct call *c, uint64_t ptr, uint64_t len);

/* Data that go with the first packet of a connection, which this call has begun (tcp(7), MSG_FASTOPEN). */
void fast_open(struct call *c, uint64_t flags, const void *name, uint32_t len);

/* The program has asked what has become of a connection. A value of 0 may also mean that it is under way. */
void asked_error(struct call *c);

/* First time that a datagram socket tells its partner: worth a record. What the kernel says is the length of an
 * address received, not how much of it had room: that far the memory may not even be there. */
bool first_address(struct call *c, struct fd_entry *e, uint64_t ptr, uint64_t len, char *local);

/* Sockets whose descriptors went with a message (cmsg(3)): their number, at most `max`. */
unsigned sent(const struct call *c, const struct msghdr *m, struct rec_fd *fds, unsigned max);
/* Descriptors that came with one. They are entered in the table. */
unsigned received(const struct call *c, const struct msghdr *m, struct rec_fd *fds, unsigned max);

/* What went through a socket is kept if somebody wants it or may want it. iov NULL: where it was isn't known. */
void traffic(struct call *c, int fd, struct fd_entry *e, enum data_source source, const struct iovec *iov, size_t count,
             uint64_t bytes);
/* The same with the other side's address; messages of one call follow each other. */
void message(struct call *c, struct fd_entry *e, enum data_source source, const struct msghdr *m, uint64_t bytes);

/* Receiving with MSG_TRUNC, a stream throws away what it says that it has passed (tcp(7)). */
bool discards(struct call *c, uint64_t flags);

#endif
