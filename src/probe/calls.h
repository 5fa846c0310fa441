/* SPDX-License-Identifier: Apache-2.0 */
/* What other parts of the probe use of the hooks. */
#ifndef SCOPE_PROBE_CALLS_H
#define SCOPE_PROBE_CALLS_H

#include "state.h"

/* Tells a call that was made in another way than by a system call of its own (io_uring, AIO) as if it had returned
 * `ret` just now. Pointers among the arguments are followed. */
void call_completed(struct segment_header *s, enum op_id op, struct regs *r, int64_t ret);

/* What a descriptor is of which nobody has told (fstat); FDK_UNKNOWN in a sandbox. e (may be NULL) notes whether the
 * kernel reads what is written to it. */
enum fd_kind kind_of_fd(int fd, struct fd_entry *e);

#endif
