/* SPDX-License-Identifier: Apache-2.0 */
/* What has passed through descriptors: numbers, text of consoles and files, traffic of sockets. */
#ifndef SCOPE_COLLECTOR_TRANSFERS_H
#define SCOPE_COLLECTOR_TRANSFERS_H

#include "collector/told.h"

struct desc;

/* A call that transfers bytes. */
void transfers_call(struct told *x);
/* Content of one (REC_DATA). */
void transfers_data(struct told *x);
/* A file that the kernel has sent through a socket is closed: state and undecided of its fd_entry. Where pl->notices isn't
 * NULL. */
void transfers_sent_file(struct proc *p, const struct desc *d, uint32_t state, uint32_t undecided, uint64_t time_ns);
/* ... one that no call has closed, and whose process leaves its segment. */
void transfers_unclosed_file(struct proc *p, int64_t fd, const struct desc *d, uint64_t time_ns);

#endif
