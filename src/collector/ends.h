/* SPDX-License-Identifier: Apache-2.0 */
/* How processes end, and are told to have ended: behind everything that they have recorded, with their status. */
#ifndef SCOPE_COLLECTOR_ENDS_H
#define SCOPE_COLLECTOR_ENDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct collector;
struct proc;

/* A process was found dead: its end is queued behind everything that it recorded. */
void proc_died(struct proc *p);
/* Queues the ends of those whose last records have been read. */
void ends_queue(struct collector *c);
/* Tells the end of a process, and frees it; false if its status isn't known yet and may still come. */
bool ends_tell(struct proc *p, bool force);
/* The probe was taken out of a process: it goes on, and is forgotten. */
void ends_leave(struct collector *c, pid_t host_pid);
/* The image of its last exec has never joined, and nobody has told why. Who asked for the exec could not see what it
 * would be (a static program whose file may be run but not read), or could do nothing about it any more, or the new
 * image did not take the library. cut: there was no time for that. */
void ends_tell_unseen(struct proc *p, bool cut, uint64_t time);

#endif
