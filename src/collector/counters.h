/* SPDX-License-Identifier: Apache-2.0 */
/* The counters that probes keep in their segments, into the model. */
#ifndef SCOPE_COLLECTOR_COUNTERS_H
#define SCOPE_COLLECTOR_COUNTERS_H

#include <stdbool.h>

struct proc;
struct segment;

/* Takes over all counters of a process's own segment, if nothing unread would be attributed wrongly (final: anyhow).
 * False: something is left for when more has been read. */
bool counters_settle(struct proc *p, bool final);
/* Takes over what it says of calls without a record of their own, as p's (NULL: nobody's). */
void counters_take_ops(struct segment *seg, struct proc *p);

#endif
