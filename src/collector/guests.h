/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who writes to a ring: its owner, and guests that have borrowed it, forked
 * children that have none of their own yet. Numbers in records are what
 * processes claim.
 */
#ifndef SCOPE_COLLECTOR_GUESTS_H
#define SCOPE_COLLECTOR_GUESTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proc;
struct segment;

void proc_borrow(struct proc *p, struct segment *seg);
void proc_unborrow(struct proc *p);
/* The number that a process sees itself under, and that its records have from now on. */
void proc_set_pid(struct proc *p, uint32_t pid);
/* Its own number is one that its parent doesn't know, or (false) is known. */
void proc_set_inner(struct proc *p, bool inner);
/* The number of the fork that it comes from, by which its records may call it. */
void proc_set_fork(struct proc *p, uint32_t id);
/* Who writes under this number there: a guest, or the owner. Both may have the same one, in pid namespaces of their
 * own. */
struct proc *segment_find(struct segment *seg, uint32_t pid, bool guest);
/* Our number of the process that calls itself pid and shares this segment, by the kernel's word: its memory has it. Also
 * of children of which nothing has been read yet. 0: there is none. Reads maps of processes, which takes as long as they
 * are: of a guest's segment, of few processes and of so many lines only. */
pid_t segment_find_process(struct segment *seg, uint32_t pid);

#endif
