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

/* The part of a signal frame that rt_sigreturn reads: the first members of the kernel's struct ucontext, which are
 * those of ucontext_t up to the first 64 signals of the mask. */
struct arch_frame {
    _Alignas(16) char ucontext[offsetof(ucontext_t, uc_sigmask) + 8];
};
/* A frame that gives a thread these registers and this signal mask, leaves its alternate stack as it is, and resets
 * its vector registers, as exec(2) has just done. */
void arch_frame(struct arch_frame *ret, const struct arch_regs *regs, uint64_t mask);

/* True if the probe can run before the C library has set the thread pointer: it reads it with rdfsbase. */
int arch_probe_runs_early(void);

#endif
