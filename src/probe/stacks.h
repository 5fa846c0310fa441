/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks for hooks of code that has none to spare: goroutines run on a few KiB
 * that grow at the entry of functions only, and exitThread of Go's runtime has
 * given its stack away by the time it makes its call. entry.S changes to one of
 * these before it writes a single byte to the program's stack.
 *
 * They belong to no thread: a hook takes a free one and gives it back when it
 * is done, never holding it during the program's own system call. So there are
 * never more in use than hooks are running, nested ones (a signal handler that
 * makes calls) included. The thread pointer says where the search begins, so
 * that a thread finds its last one again, still in its cache. The program's
 * memory grows by a page, seldom two, for each of STACK_STARTS places that its
 * threads begin at, so by 1 MiB at most, whatever the number of threads; by more
 * only where threads that begin at the same place are in hooks at once. Where all
 * are taken, the hook is left out and counted (LOSS_SLOT).
 *
 * Who leaves a hook by siglongjmp(3) takes its stack with him. Go never does.
 */
#ifndef SCOPE_PROBE_STACKS_H
#define SCOPE_PROBE_STACKS_H

#include "lib.h"

/* 4 KiB guard (none where pages are larger) and 12 KiB of stack, of which the deepest hook needs 6:
 * tests/build/check adds up the frames. */
#define STACK_SIZE 16384ul
#define STACK_GUARD 4096ul
#define STACK_STARTS 128ul /* places where a search begins; it goes upwards from there */
#define STACK_COUNT 256ul

/* The uppermost bytes of a stack. */
struct stack_head {
    struct regs regs;
    uint32_t taken;   /* bit 0 */
    uint32_t guarded; /* its lowest page can't be touched */
    uint64_t unused[3];
};

/* Where they are, 0: nowhere yet. Read by entry.S; an injector that has made them sets both. */
extern uint64_t scope_stacks __attribute__((visibility("hidden"))), scope_stacks_end __attribute__((visibility("hidden")));

/* Makes the stacks; memory comes when they are used. Calling again does nothing. 0 or -errno. */
int stacks_open(void);

#endif
