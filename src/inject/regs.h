/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tracing, loading and attaching need to know about the machine: registers
 * of a stopped thread (ptrace(2), NT_PRSTATUS), what can be told of the system
 * call that it is in, the frame of rt_sigreturn(2), the few bytes of code that
 * make a system call, and what hooks expect of a thread that was not there when
 * they were made. Pure, but for those that take a thread's number.
 *
 * arch/ARCH/arch_regs.h defines the types struct arch_regs (copied by
 * assignment), struct arch_call and struct arch_vectors, and:
 *
 *   ARCH_RED_ZONE         bytes below the stack pointer that are still the thread's
 *   ARCH_RELATIVE         type of a relocation that adds the image's address
 *   ARCH_SYSCALL_SIZE     bytes of the instruction
 *   ARCH_WAITS_BEHIND     how far behind the beginning of that instruction a thread is seen that waits in a call, or
 *                         whose call the kernel will begin again: ARCH_SYSCALL_SIZE, or 0
 *   ARCH_LOSES_ARGUMENT   the first argument of a call is lost when it is over (arch_hook_register())
 *   ARCH_MARKS_CALL_STOPS a register isn't the thread's while it stands at the entry or end of a call
 *   ARCH_GADGET_SIZE, ARCH_GADGET_CALL, ARCH_GADGET_RETURN: bytes of arch_gadget; offsets of the call, and of the
 *                         return alone
 *   ARCH_FRAME_MAX        bytes of a frame at most
 *   ARCH_PAGE             bytes of a page: of all processes of this machine
 *   ARCH_JUMP             how far apart the ends of text and of what it jumps to may be
 *   ARCH_SHORT_JUMPS      there are programs with more code than that
 *   ARCH_LOW_IMAGES       programs are linked to addresses below which there is no room
 *   ARCH_HIGHEST          above it no program has memory
 *   ARCH_CLOCKS           how the names of the kernel's clocks begin that are the CPU's counter: each with a NUL behind
 * it
 */
#ifndef SCOPE_INJECT_REGS_H
#define SCOPE_INJECT_REGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "arch_regs.h"
#include "wire/plan_format.h"

/* Of a thread that is stopped by ptrace: 0 or -errno; -ENOEXEC if it runs code of another kind (32-bit). */
int arch_get_regs(pid_t tid, struct arch_regs *ret);
int arch_set_regs(pid_t tid, const struct arch_regs *regs);

uint64_t arch_pc(const struct arch_regs *regs);
uint64_t arch_sp(const struct arch_regs *regs);
uint64_t arch_thread_pointer(const struct arch_regs *regs); /* 0: none */
int64_t arch_result(const struct arch_regs *regs);

/* Whether the thread pointer is one that a C library has set. first: the word that it points to. */
bool arch_is_libcs_pointer(uint64_t pointer, uint64_t first);

/* Registers for running code at pc with up to three arguments of a function, as if no system call had been. */
void arch_regs_enter(struct arch_regs *regs, uint64_t pc, uint64_t sp, const uint64_t arg[3]);
/* Registers for the system call nr by the gadget at pc. */
void arch_regs_call(struct arch_regs *regs, uint64_t pc, uint64_t sp, long nr, const uint64_t arg[6]);

/*
 * A system call that is followed by rt_sigreturn. Whoever makes the call with the stack pointer at a frame
 * (arch_frame()) may die at any time: the thread goes on with the registers of the frame, as after a signal.
 */
extern const unsigned char arch_gadget[ARCH_GADGET_SIZE];

/*
 * Makes a frame for rt_sigreturn that gives a thread all the registers that it has now, vector registers included, and
 * this signal mask, and leaves its alternate stack as it is. A system call that the kernel was about to restart is
 * made again (one with a timeout that restart_syscall(2) would continue fails with EINTR instead: rt_sigreturn forgets
 * how). buf: ARCH_FRAME_MAX bytes. *ret_at: the frame's address, below sp and a red zone, for the *ret_size bytes of
 * buf. 0, or -errno of ptrace(2). The thread must stand.
 */
int arch_frame(pid_t tid, const struct arch_regs *regs, uint64_t sp, uint64_t mask, void *buf, uint64_t *ret_at,
               size_t *ret_size);

/* --- vector registers that a system call made for us would destroy --- */

/* Of a standing thread: 0 or -errno. Undo: arch_vectors_free(). */
int arch_vectors_get(pid_t tid, struct arch_vectors *ret);
int arch_vectors_set(pid_t tid, const struct arch_vectors *v);
void arch_vectors_free(struct arch_vectors *v);

/* --- the system call that a stop has interrupted --- */

/* What can be known only before the stop: of a thread that may run. Whether that still holds at the stop is for
 * arch_recognize() to find out. */
void arch_see(pid_t pid, pid_t tid, struct arch_call *ret);
/* At the stop: completes what arch_get_regs() has got. */
void arch_recognize(pid_t pid, pid_t tid, const struct arch_call *seen, struct arch_regs *regs);
/* The same for registers that were got again, from those that the thread had at the stop or was given since. */
void arch_recognize_again(const struct arch_regs *before, struct arch_regs *regs);

/* Whether the registers are those of a call that has just failed with EINTR and would not be restarted by the kernel,
 * but may be: it has had no effect. */
int arch_interrupted(const struct arch_regs *regs);
/* Makes it begin that call again. */
void arch_rewind(struct arch_regs *regs);
/* Whether only the kernel knows how to go on with its call (restart_syscall(2)). */
int arch_restart_hidden(const struct arch_regs *regs);
/* To be done with its own registers before it gets them back, when calls were made for us. */
void arch_regs_back(struct arch_regs *regs);
/* Moves it; a call that it is in goes on there. */
void arch_set_pc(struct arch_regs *regs, uint64_t pc);

/* --- hooks that are new to a thread --- */

/*
 * Where the kernel destroys the first argument of a call, the hook after it finds it in another register, in which the
 * hook before it has left it: the number of that register, by the code of the hook behind the call; -1: there is none.
 */
int arch_hook_register(const struct plan_slot *slot);
/* A register by that number; 0: the one with the first argument, as long as the call is not over. */
uint64_t arch_register(const struct arch_regs *regs, unsigned n);
void arch_set_register(struct arch_regs *regs, unsigned n, uint64_t value);
/* Address of where a signal frame has saved it: the frame whose program counter is saved at this one. */
uint64_t arch_context_register(uint64_t pc_at, unsigned n);
/* Where a call ends that was moved to slots: an address in a filled blob of `size` bytes at address blob_at, by the
 * offset of the slot that the patch leads to; the slot lies in it. 0: there is no call. */
uint64_t arch_moved_end(const char *blob, uint32_t size, uint64_t blob_at, uint32_t slot);

/* --- signal frames --- */

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

/* --- conditions --- */

/* Whether a line "name: value" of a /proc/PID/status says that the thread has a shadow stack. */
int arch_status_shadow_stack(const char *name, const char *value);

/* True if the probe can run before the C library has set the thread pointer: it reads it with an instruction. */
int arch_probe_runs_early(void);

/* Whether a program can read the CPU's counter. rc: what prctl(PR_GET_TSC) has returned to it, -errno on failure; on:
 * what it has told. */
bool arch_reads_counter(int64_t rc, int on);

#endif
