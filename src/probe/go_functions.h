/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks of functions of Go (FNF_GO, wire/functions.def): methods of tls.Conn. They
 * run on goroutines, not on threads: a call may return on another thread than it
 * was made on, and its stack, which lies elsewhere whenever it has grown or
 * shrunk, may be another by then. So nothing of ours is put on it, no return
 * address is touched, and a call is noted by what stays: its goroutine, and how
 * far it is from the upper end of the stack. A buffer on the stack is noted as
 * such a distance, too.
 *
 * A goroutine runs on one thread at a time, and its notes are touched by nobody
 * else: no locks. Safe in signal handlers: Go's run on a goroutine of their own.
 */
#ifndef SCOPE_PROBE_GO_FUNCTIONS_H
#define SCOPE_PROBE_GO_FUNCTIONS_H

#include "state.h"

/* Where calls are noted; 0: nowhere. An injector that has made the memory sets it. */
extern uint64_t go_notes __attribute__((visibility("hidden")));
#define GO_NOTES_SIZE (UINT64_C(1) << 24)

/* Makes that memory, of which only what is used is touched. Calling again does nothing. Without it (there is none) what
 * is read is told only where calls keep their arguments, and what is written is told as missing. */
void go_functions_open(void);

/* The connection for which goroutine r->go_g makes the call of these registers, which are a Go site's; 0: none. */
uint64_t go_functions_object(const struct regs *r);

#endif
