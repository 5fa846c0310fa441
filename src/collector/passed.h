/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets whose descriptors go from process to process in messages (SCM_RIGHTS,
 * unix(7)): one connection, which ends with the last descriptor that anybody
 * observed has of it. The kernel's inode number says that it is the same.
 *
 * What one has sent and nobody has taken yet is kept: its descriptor lives in the
 * message, also when the sender has closed its own. When nobody observed takes it
 * in time, or the sender ends, the connection ends for us with the sender's close.
 * Rings are read one after the other, so that it may have been taken, and even
 * closed, before we get to know that it was sent: that is remembered, too.
 *
 * Memory: PASSED_MAX entries of some 100 bytes.
 */
#ifndef SCOPE_COLLECTOR_PASSED_H
#define SCOPE_COLLECTOR_PASSED_H

#include "model/process.h"

struct collector;

#define PASSED_MAX 4096u                    /* of a session; what is sent beyond isn't recognised */
#define PASSED_NS UINT64_C(10000000000)     /* how long one waits for who takes it, or for who has sent it */
#define PASSED_LATE_NS UINT64_C(1000000000) /* ... once who has taken it has closed it */

/* A process has sent its descriptor fd, which is d, of the socket with this inode. */
void passed_sent(struct proc *p, int64_t fd, struct desc *d, uint64_t ino);
/* A process has received one, as d, whose file is new and nobody else's. */
void passed_received(struct proc *p, struct desc *d, uint64_t ino);
/* The last descriptor of a socket that was received (SOCKF_RECEIVED) is about to be closed. If its sender may still be
 * heard of, a reference is kept for a while: then it isn't the end. */
void passed_closing(struct proc *p, int64_t fd, const struct file *f);
/* One that was received is about to be freed. */
void passed_forget(struct collector *c, const struct sock *s);
/* Ends what has waited for too long at this time (CLOCK_MONOTONIC ns). */
void passed_sweep(struct collector *c, uint64_t now);
/* A process ends: what it has sent and nobody has taken ends with it. tell: its telemetry isn't over yet. */
void passed_end(struct proc *p, bool tell);

#endif
