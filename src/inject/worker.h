/* SPDX-License-Identifier: Apache-2.0 */
/* What attaching and detaching have in common: the child process that does it, and looking into the threads' stacks. */
#ifndef SCOPE_INJECT_WORKER_H
#define SCOPE_INJECT_WORKER_H

#include "inject/process.h"
#include "inject/trace.h"

#define STOP_MS 100 /* for all threads to stop; meanwhile those that did stand */
#define LATE_MAX 5  /* that often one may not */

/* Runs fn(arg) in a child process and returns what it returned (0 or -errno; -EINTR: it was killed). *ret_shared, which
 * must be somewhere in *arg or known to it, becomes zeroed memory that both see. */
#define worker_run(fn, arg, ret_shared, size) worker_run_((fn), (arg), (void **)(void *)(ret_shared), (size))
int worker_run_(int (*fn)(void *), void *arg, void **ret_shared, size_t size);
#define worker_done(shared, size) worker_done_((void **)(void *)(shared), (size))
void worker_done_(void **shared, size_t size);

/* Passes rc on; for an error that has no reason yet, makes one (malloc'ed). */
int worker_explain(int rc, pid_t pid, char **ret_why);

uint64_t worker_now(void);      /* CLOCK_MONOTONIC ns */
int worker_open_mem(pid_t pid); /* /proc/PID/mem for writing, also where the process itself may not write */

/*
 * Borrows the thread that suits best: *ret. What is written over below its stack pointer must be nobody's, as we may be
 * killed before it is given back. Below that of a goroutine there is other data; so, if the process has Go code, the
 * thread is one that runs on a stack of the kernel's or the C library's making; without a C library it is any of Go's
 * own, with the end of the first thread's stack, which Go never uses. -EBUSY: just now there is none.
 */
TRACE_CHECK int worker_borrow(struct trace *t, struct trace_thread *threads, size_t count, const struct process_maps *m,
                              bool go, uint64_t vdso, struct trace_thread **ret);
/* Whether worker_borrow() would find one: 0 or -EBUSY. */
TRACE_CHECK int worker_can_borrow(const struct trace *t, const struct trace_thread *threads, size_t count,
                                  const struct process_maps *m, bool go);

/* Borrows this thread: 0, -EBUSY: not now, or as trace_borrow(). */
TRACE_CHECK int worker_borrow_one(struct trace *t, struct trace_thread *th, const struct process_maps *m, bool go,
                                  uint64_t vdso);

/* A program counter that a signal frame on a thread's stack holds: where it will go on when handlers return. */
struct worker_context {
    uint64_t at; /* address of the saved value */
    uint64_t pc;
};
/*
 * Moves threads, and what signal frames on their stacks lead back to, from one place to another: move() tells for a
 * program counter whether it moves, and *ret_to. There is a fault point behind each thread.
 */
TRACE_CHECK int worker_move_threads(struct trace *t, const struct process_maps *m, struct trace_thread *threads,
                                    size_t count, bool go, bool (*move)(void *ctx, uint64_t pc, uint64_t *ret_to),
                                    void *ctx);

/* Those of a standing thread, from its stack pointer to the end of that mapping, and of the stacks that those frames in
 * turn have interrupted. go: what lies above stacks in Go's heap is no matter of this thread, and Go's handlers run on
 * alternate stacks, so only these are looked at there. *ret is malloc'ed, or NULL. */
TRACE_CHECK int worker_contexts(const struct trace *t, const struct process_maps *m, const struct trace_thread *th,
                                bool go, struct worker_context **ret, size_t *ret_count);

#endif
