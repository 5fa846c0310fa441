/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fatal signals: a thread that is about to be killed by one says so in the
 * segment (wire/crash.h), waits for the collector to have looked, and dies as it
 * would have. Only with SEG_M_CRASH; otherwise nothing here ever runs.
 *
 * Our handler is there only where the kernel would have killed the process: in
 * place of SIG_DFL. The program must not notice, so the handlers are virtual:
 * rt_sigaction(2) and sigaltstack(2) have hooks. SIG_DFL for one of these
 * signals becomes our handler on the way in, in the very call, so that there is
 * no moment without a right disposition; and what is reported as the old action
 * is what the program has set. Its own handlers, and SIG_IGN, go to the kernel as
 * they are, and take the place of ours.
 *
 * A stack overflow needs an alternate stack: threads that have none get one of
 * ours, which sigaltstack(2) doesn't tell of. But a handler of the program with
 * SA_ONSTACK runs on the thread's own stack where that has no alternate stack. So
 * as long as ours are there the kernel isn't told of that flag: no handler of the
 * program ever runs on a stack of ours. This ends for good when a thread of the
 * program sets an alternate stack of its own: then the kernel is told of the flags
 * again, and no further thread gets a stack of ours. What remains: a thread that
 * already has one keeps it, and a handler with SA_ONSTACK that interrupts just
 * this thread runs there. So they are large.
 *
 * In a sandbox (seccomp(2)) we can't make the calls by which the process would
 * die. Before it enters one, our handlers get SA_RESETHAND: then a fault that
 * happens again is the end without any call. A signal that was sent is turned into
 * such a fault, or (SIGSYS) into a call that most likely is forbidden. There is
 * none for SIGABRT: that becomes SIG_DFL again.
 * The wait is a loop, and a second thread that crashes there ends it.
 *
 * A handler with SA_RESETHAND would leave SIG_DFL behind without a call that we see. So the kernel is given another
 * one in its place (entry.S), which puts ours there and goes on to it.
 *
 * Not told: signals that are blocked when they are raised by a fault (the kernel then kills without asking any
 * handler), and what happens after Syscall User Dispatch was asked for (our return from the handler would come to the
 * program).
 */
#ifndef SCOPE_PROBE_CRASH_H
#define SCOPE_PROBE_CRASH_H

#include "state.h"

/* For an injector. */
extern struct probe_crash crash_info __attribute__((visibility("hidden")));

/* Installs the handlers. Called once, when the program's images have been patched. */
void crash_start(void);

/* Before and after rt_sigaction(2) and sigaltstack(2). entered: the site has a hook before the call. */
void crash_enter(enum op_id op, struct regs *r);
void crash_exit(enum op_id op, struct regs *r, bool entered);
/* Whether crash_enter() has given this call another argument. Then crash_exit() has to follow, whatever has become of
 * the collector, of the thread's slot or of the feature. */
bool crash_lent(const struct regs *r);
/* Whether the hooks of a call are needed although nobody listens any more: our handlers stay, so it must be known who
 * runs in whose memory, and in which sandbox. */
static inline bool crash_needs(enum op_id op)
{
    return probe.mode & SEG_M_CRASH &&
           (op_table[op].shape == SHP_CLONE || op_table[op].shape == SHP_PRCTL || op == OP_exit);
}

/* Gives the calling thread, whose slot is t, an alternate stack if it has none. */
void crash_thread(const struct thread *t);
/* Takes it away again, before the thread ends and its slot becomes another's. */
void crash_thread_end(void);

/* Before the calling thread enters seccomp mode, and if that has failed. */
void crash_sandbox(void);
void crash_no_sandbox(void);
/* Takes the handlers out for good: system calls may come to the program itself from now on. */
void crash_leave(void);

/* A Go program is about to exit with the status of a panic: waits until its stack has been read, unless it is known that
 * a goroutine exits (os.Exit). g: the register that holds the current goroutine since Go 1.17; sp: its stack pointer. */
void crash_go_exit(struct segment_header *s, int status, uint64_t g, uint64_t sp);

#endif
