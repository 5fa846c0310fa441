/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a process: what can be read while it runs, then a stop as short as can be, in which registers are read and
 * stacks are copied. Unwinding and naming (names.h) need nothing of the process any more. In the worker only, which is
 * the tracer; see inject/trace.h for what holds when it is killed.
 */
#ifndef SCOPE_CRASH_LOOK_H
#define SCOPE_CRASH_LOOK_H

#include "crash/copies.h"
#include "crash/facts.h"
#include "crash/modules.h"
#include "crash/view.h"
#include "inject/trace.h"

#define LOOK_STACK_MAX (UINT64_C(256) << 10) /* bytes of a thread's stack, from its stack pointer */
#define LOOK_STACKS_MAX 4u /* of one thread: its own, those that its signal handlers have interrupted */
#define PERF_MAP_MAX (64 << 20) /* bytes of a file of a JIT compiler */
#define LOOK_STOP_MS 100u  /* for all threads to stop; who doesn't is left out */

/* How Go's runtime describes threads and goroutines: src/runtime/runtime2.go. The first members have been the same in
 * all releases that have a gobuf (1.5 and later). */
#define GO_G_M 48
#define GO_G_SCHED_SP 56
#define GO_G_SCHED_PC 64
#define GO_G_SIZE 512
#define GO_M_SIZE 1024

struct look {
    struct crash_view view;
    struct copies copies;
    struct modules modules;
    struct facts facts;
    int root;                   /* of its file system, O_PATH, or -1 */
    int perf;                   /* what its JIT compiler says that it has made (perf map), or -1 */
    uint64_t since, stopped_ns; /* CLOCK_MONOTONIC when the stop began; how long it was */
    const void *notes;          /* crash_wishes.notes */
    size_t notes_size;
    bool core;                  /* what only a core needs is taken, too: vector registers, signal masks */
    int error;                  /* why threads weren't stopped, or not all; 0 or -errno */
    struct trace trace;
    struct trace_thread *threads;
    size_t standing, count;
};

/* While it runs. 0, or -errno: nothing of it can be read. */
int look_prepare(struct look *l, const struct crash_cause *cause, int with_environment, unsigned timeout_ms);
/* Stops the threads, and copies. Where that is not allowed, l->error tells, and what the cause tells of its thread is
 * taken all the same. */
void look_stop(struct look *l);
/* The threads run on. Twice is as good as once. */
void look_let_go(struct look *l);
/* Those that could not be stopped in time, too; may wait a second for them. */
void look_finish(struct look *l);

/* An address at which a thread keeps the g of Go's runtime; 0: none that is one beyond doubt (it and its m must know
 * each other). */
uint64_t look_go_g(const struct look *l, const struct crash_thread *th);

#endif
