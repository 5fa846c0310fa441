/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rights that a program gives up, and that our own system calls would need:
 * seccomp, Syscall User Dispatch, the time stamp counter.
 */
#ifndef SCOPE_PROBE_RIGHTS_H
#define SCOPE_PROBE_RIGHTS_H

#include "call.h"

#define PR_SET_SYSCALL_USER_DISPATCH_ 59 /* prctl(2) */

/* Whether the call at this place did not, or will not, reach the kernel: it comes to the program, as SIGSYS, whose handler
 * makes the calls that it means. */
bool dispatched(const struct plan_slot *slot);

/* Before prctl(2) or seccomp(2): the program is about to give up rights that our own system calls need, or the time
 * stamp counter. */
void enter_prctl(struct segment_header *s, enum op_id op, struct regs *r);
/* The result of asking for Syscall User Dispatch, or of giving it up. t may be NULL. */
void leave_dispatch(struct segment_header *s, struct thread *t, const struct regs *r);
/* The result of giving the rights up. Many ask only what the kernel knows, by calls that must fail (libseccomp). */
void leave_prctl(struct segment_header *s, int64_t ret);
/* A vfork child on the slot t is gone or has exec'ed: what it has given up its parent still has. */
void rights_back(struct segment_header *s, struct thread *t);

#endif
