/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tracing and loading need to know about x86_64 Linux: registers of a
 * stopped thread (ptrace(2), NT_PRSTATUS), the frame of rt_sigreturn(2), and the
 * few bytes of code that make a system call. Pure, but for arch_get_regs() and
 * arch_set_regs().
 */
#ifndef SCOPE_INJECT_ARCH_REGS_H
#define SCOPE_INJECT_ARCH_REGS_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>
#include <ucontext.h>

#define ARCH_RED_ZONE 128u             /* System V ABI, 3.2.2: below the stack pointer, and still the thread's */
#define ARCH_RELATIVE R_X86_64_RELATIVE

struct arch_regs {
    struct user_regs_struct user;
};

/* Of a thread that is stopped by ptrace: 0 or -errno; -ENOEXEC if it runs code of another kind (32-bit). */
int arch_get_regs(pid_t tid, struct arch_regs *ret);
int arch_set_regs(pid_t tid, const struct arch_regs *regs);

uint64_t arch_pc(const struct arch_regs *regs);
uint64_t arch_sp(const struct arch_regs *regs);
uint64_t arch_thread_pointer(const struct arch_regs *regs); /* where C libraries keep its own address; 0: none */
int64_t arch_result(const struct arch_regs *regs);

/* Registers for running code at pc with up to three arguments of a function, as if no system call had been. */
void arch_regs_enter(struct arch_regs *regs, uint64_t pc, uint64_t sp, const uint64_t arg[3]);
/* Registers for the system call nr by the gadget at pc. */
void arch_regs_call(struct arch_regs *regs, uint64_t pc, uint64_t sp, long nr, const uint64_t arg[6]);

/*
 * A system call that is followed by rt_sigreturn. Whoever makes the call with the stack pointer at a struct
 * arch_frame may die at any time: the thread goes on with the registers of the frame, as after a signal.
 */
#define ARCH_GADGET_CALL 0   /* offsets: the call */
#define ARCH_GADGET_RETURN 2 /* ... and the return alone */
extern const unsigned char arch_gadget[9];

#define ARCH_XSTATE_MAX 16384u /* of the largest set of vector registers there is (with AMX: 11,008) */
#define ARCH_FRAME_MAX (1024u + ARCH_XSTATE_MAX)

/*
 * Makes a frame for rt_sigreturn that gives a thread all the registers that it has now, vector registers included, and
 * this signal mask, and leaves its alternate stack as it is. A system call that the kernel was about to restart is
 * made again (one with a timeout that restart_syscall(2) would continue fails with EINTR instead: rt_sigreturn forgets
 * how). buf: ARCH_FRAME_MAX bytes. *ret_at: the frame's address, below sp and a red zone, for the *ret_size bytes of
 * buf. 0, or -errno of ptrace(2). The thread must stand.
 */
int arch_frame(pid_t tid, const struct arch_regs *regs, uint64_t sp, uint64_t mask, void *buf, uint64_t *ret_at,
               size_t *ret_size);

/* Whether the registers are those of a call that has just failed with EINTR and would not be restarted by the kernel,
 * but may be: it has had no effect. */
int arch_interrupted(const struct arch_regs *regs);
/* Whether only the kernel knows how to go on with its call (restart_syscall(2)). */
int arch_restart_hidden(const struct arch_regs *regs);
/* Whether it stands at the end of a system call. */
int arch_in_call(const struct arch_regs *regs);
/* Makes it begin its system call again. */
void arch_rewind(struct arch_regs *regs);
void arch_set_pc(struct arch_regs *regs, uint64_t pc);
#define ARCH_SYSCALL_SIZE 2u

/*
 * Looks for signal frames in a piece of stack: the index of the word in words[from..count) that holds a saved program
 * counter, or count if there is none. *ret_sp: the stack pointer saved with it.
 */
size_t arch_find_context(const uint64_t *words, size_t from, size_t count, uint64_t *ret_sp);
/* Whether that frame, whose words[at] lies at this address, says that it is on an alternate stack which sp points into,
 * too: it keeps what sigaltstack(2) was then. */
int arch_context_alternate(const uint64_t *words, size_t at, uint64_t address, uint64_t sp);

/* Address of what sigaltstack(2) was then (a stack_t), and will be again when the handler returns: of the frame whose
 * program counter is saved at this one. */
uint64_t arch_context_stack(uint64_t pc_at);

/* Whether a line "name: value" of a /proc/PID/status says that the thread has a shadow stack
 * (Documentation/arch/x86/shstk.rst). */
int arch_status_shadow_stack(const char *name, const char *value);

/* True if the probe can run before the C library has set the thread pointer: it reads it with rdfsbase. */
int arch_probe_runs_early(void);

#endif
