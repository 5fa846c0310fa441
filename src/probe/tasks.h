/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forks and new threads: what is noted before the call, and what is done after
 * it by the one that has made it and by the one that it has made.
 */
#ifndef SCOPE_PROBE_TASKS_H
#define SCOPE_PROBE_TASKS_H

#include "call.h"

/* Flags (clone(2)) of a call of the fork family. */
uint64_t clone_flags(const struct regs *r, enum op_id op);

/* Before such a call. t may be NULL; constant: the site's number is. */
void enter_clone(struct segment_header *s, enum op_id op, struct thread *t, struct regs *r, bool constant);
/* After it, in the one that has made it. */
void after_clone(struct call *c, struct thread *t, bool constant);
/* After it, in the new task: its first instruction of ours. */
void born(const struct regs *r, enum op_id op);

#endif
