/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process under ptrace(2), for as short as can be.
 *
 * The tracer may be killed at any moment, and the program must go on as if
 * nothing had been. The kernel lets the tracees of a dead tracer run on with the
 * registers that they have, hence the rules that everything here follows:
 *
 * - A thread's registers always lead back to what it was doing. System calls are
 *   made in it with a few bytes of code that go on with rt_sigreturn(2), and with
 *   a frame on its stack that holds all its registers and its signal mask. So
 *   whenever nobody is there to stop it after the call, it restores itself.
 * - That code is put where it does no harm if it stays: over e_shoff and e_flags
 *   in the ELF header of the vDSO, which nobody reads. Every process has a vDSO;
 *   a gadget that is there by chance is not needed. (Only if the kernel was
 *   started with vdso=0 there is none: -ENOTSUP.)
 * - Threads are stopped at system calls, with PTRACE_O_TRACESYSGOOD, never by
 *   single-stepping: of a stop with SIGTRAP the dead tracer's thread would get
 *   the signal, and die; the number of these stops is no signal (send_sig() in
 *   ptrace_report_syscall() of the kernel refuses it).
 *
 * Functions return 0 or -errno; -ESRCH means that the thread has ended. All of
 * them must be called by the thread that called trace_init(). Threads of one
 * process are traced by one struct; the caller owns it and its array.
 */
#ifndef SCOPE_INJECT_TRACE_H
#define SCOPE_INJECT_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "inject/regs.h"

struct trace_thread {
    pid_t tid;
    struct arch_regs regs;    /* its own, since trace_borrow() */
    uint64_t mask;            /* its own blocked signals, 1 << (N - 1) */
    uint64_t frame;           /* address of the signal frame that holds both and its vector registers */
    void *below;              /* while borrowed: what was in the place of the frame; malloc'ed */
    size_t below_size;
    struct arch_vectors vectors; /* while borrowed: what calls would destroy */
    struct arch_call seen;    /* before it was stopped */
    bool stands;              /* trace_stop_all(): else it has ended; trace_stop_those(): or could not be stopped */
};

struct trace {
    pid_t pid;                /* in our pid namespace */
    unsigned borrowed;        /* threads */
    uint64_t gadget;          /* address of arch_gadget, which is there while any is borrowed */
    uint64_t gadget_was[2];   /* what was there */
    uint64_t deadline;        /* CLOCK_MONOTONIC ns: waiting beyond it is -ETIMEDOUT */
    bool unfiltered;          /* seccomp filters shall not apply to calls made for us: needs CAP_SYS_ADMIN */
};

#define TRACE_BUSY_MS 1000u /* threads that only wait for a CPU may take so long to stop, whatever wait_ms is */

#define TRACE_CHECK __attribute__((warn_unused_result))

/* Prepares the calling process, whose only children and tracees are from now on those of t: SIGCHLD is blocked but
 * while waiting. timeout_ms bounds everything that follows. */
void trace_init(struct trace *t, pid_t pid, unsigned timeout_ms);

/* Becomes the tracer of a thread that goes on running. -EPERM: not allowed, or traced by another. Undone by
 * trace_detach(), or by the end of this process wherever the thread is. */
TRACE_CHECK int trace_seize(struct trace_thread *th, pid_t tid);

/* Lets the thread run until it has exec'ed; it stands then, with its new registers, at the end of the system call. Its
 * signals reach it as ever. th->tid is the process's pid afterwards (ptrace(2), "execve(2) under ptrace"). sock: a
 * connection whose end by shutdown(2) means that no exec will come: -ECANCELED, the thread runs. A socket that is
 * hung up ends by the exec itself. Undo: trace_detach(). */
TRACE_CHECK int trace_until_exec(struct trace *t, struct trace_thread *th, int sock);

/*
 * Stops all threads of a running process: *ret_threads (malloc'ed) are those that stand, registers included. A call that
 * the stop alone has made fail with EINTR (no signal is pending) is made again when the thread goes on; the kernel itself
 * sees to all others. A process that is stopped by job control (signal(7)) stays so. -EPERM: not allowed, or traced by
 * another; -EAGAIN: it exec'ed meanwhile; -ETIMEDOUT: a thread can't be stopped (it waits for a device, or for a vfork
 * child) within wait_ms, or hasn't got a CPU in TRACE_BUSY_MS; after any error the caller must end, which lets go of all.
 * Undo: trace_let_go().
 */
TRACE_CHECK int trace_stop_all(struct trace *t, unsigned wait_ms, struct trace_thread **ret_threads, size_t *ret_count);
/* All of them run on, untraced. Frees the array. */
void trace_let_go(struct trace_thread *threads, size_t count);
/*
 * The same for looking only: threads that can't be stopped in that time are left out, as long as there is one that
 * stands; for the first one it waits as for a CPU. They come last in the array, behind *ret_standing others, and will be stopped as soon as they can; so the
 * caller shows patience at the end. Undo: trace_let_go_those().
 */
TRACE_CHECK int trace_stop_those(struct trace *t, unsigned wait_ms, struct trace_thread **ret_threads,
                                 size_t *ret_standing, size_t *ret_count);
/* Those that stand run on, untraced. */
void trace_let_go_standing(struct trace_thread *threads, size_t standing);
/* The others: waits a second for them. Frees the array. */
void trace_let_go_those(struct trace *t, struct trace_thread *threads, size_t standing, size_t count);
/* Changes a standing thread's own registers. */
TRACE_CHECK int trace_set_regs(struct trace_thread *th, const struct arch_regs *regs);

/* Memory of the process while a thread of it stands. Exactly len bytes, -EFAULT if they aren't there or, for
 * trace_write(), not writable for the program itself. */
TRACE_CHECK int trace_read(const struct trace *t, uint64_t addr, void *to, size_t len);
TRACE_CHECK int trace_write(const struct trace *t, uint64_t addr, const void *from, size_t len);

/* Takes a standing thread's registers into our care: afterwards it can make calls for us. vdso: AT_SYSINFO_EHDR. It
 * must be without a shadow stack. Up to ARCH_FRAME_MAX bytes below sp (0: its own stack pointer) and a red zone are
 * written, and given back by trace_return(); whoever is killed before does not give them back. Its signals are blocked. -EFAULT: its stack has no such room. If it fails nothing has changed.
 * Undo: trace_return(). */
TRACE_CHECK int trace_borrow(struct trace *t, struct trace_thread *th, uint64_t vdso, uint64_t sp);
/* A system call in a borrowed thread; *ret_result is what it returned. */
TRACE_CHECK int trace_call(struct trace *t, struct trace_thread *th, long nr, const uint64_t arg[6], int64_t *ret_result);
/* It stands where and as it stood, and a call of its own that was to be restarted still will be. After an error it may run on from its frame: the same, as it sees it. */
TRACE_CHECK int trace_return(struct trace *t, struct trace_thread *th);
/* Instead of that: it will run code at pc, with its stack pointer at the frame, which that code must end with
 * (rt_sigreturn(2)). */
TRACE_CHECK int trace_enter(struct trace *t, struct trace_thread *th, uint64_t pc, const uint64_t arg[3]);

/* For tests: the tool dies at the Nth such point if $SCOPE_FAULT is N. There is one before each step that changes a
 * process. */
void trace_fault_point(void);

/* A standing thread runs on, untraced. */
TRACE_CHECK int trace_detach(struct trace_thread *th);

#endif
