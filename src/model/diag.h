/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end of a unix socket: asked of the kernel, sock_diag(7). */
#ifndef SCOPE_MODEL_DIAG_H
#define SCOPE_MODEL_DIAG_H

#include <stdint.h>

struct model;

/* The inode of the peer of the unix(7) socket with this one; 0 if unknown. */
uint64_t diag_unix_peer(struct model *m, uint64_t ino);

#endif
