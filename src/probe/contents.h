/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written to files and to the console, and which of it is put into the
 * ring: what somebody wants, or may want as long as nobody has decided.
 */
#ifndef SCOPE_PROBE_CONTENTS_H
#define SCOPE_PROBE_CONTENTS_H

#include "call.h"

/* Bytes that went to fd without passing through memory that we could look at: a loss if they are wanted. e may be NULL. */
void unseen(struct call *c, int fd, struct fd_entry *e, uint32_t mode, uint64_t bytes);

/* The first `bytes` bytes of the vectors were written to fd. e may be NULL. */
void capture_iov(struct call *c, int fd, struct fd_entry *e, const struct iovec *iov, size_t count, uint64_t bytes);

#endif
