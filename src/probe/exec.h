/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following a program into the next: what exec(2) is given and what it runs.
 */
#ifndef SCOPE_PROBE_EXEC_H
#define SCOPE_PROBE_EXEC_H

#include "state.h"

/* Before execve (envp in argument 2) or execveat (argument 3): writes the
 * REC_ENTER, notes programs that can't be observed, and completes the
 * environment that the new image gets. */
void exec_enter(struct segment_header *s, struct thread *t, enum op_id op, struct regs *r);
/* It failed: the program's registers and memory are as if nothing had been. Where our addition to the environment was
 * too much, the call is made again without. Returns the result that the program gets. */
int64_t exec_failed(struct thread *t, enum op_id op, struct regs *r);
/* The parent of a vfork child that exec'ed goes on. */
void exec_release(struct thread *t);

#endif
