/* SPDX-License-Identifier: Apache-2.0 */
/* What looking at a crashed program needs to know about x86_64 Linux. Pure. */
#ifndef SCOPE_CRASH_ARCH_MACHINE_H
#define SCOPE_CRASH_ARCH_MACHINE_H

#include <linux/audit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

/* As ptrace(2) has them: NT_PRSTATUS, NT_FPREGSET. */
typedef struct user_regs_struct machine_regs;
typedef struct user_fpregs_struct machine_fpregs;

/* Numbers of DWARF: System V ABI, figure 3.36. The last is the return address, here the program counter. */
#define MACHINE_DWARF_REGS 17
#define MACHINE_DWARF_FP 6 /* rbp */
#define MACHINE_DWARF_SP 7
#define MACHINE_DWARF_PC 16
#define MACHINE_DWARF_GO_G 14 /* where Go's functions keep their goroutine (src/cmd/compile/abi-internal.md) */

#define MACHINE_DWARF_LINK (-1) /* a call leaves its return address on the stack */

void machine_to_dwarf(const struct user_regs_struct *regs, uint64_t ret[MACHINE_DWARF_REGS]);

/* What else there is of a thread in register sets of its own, as machine_notes says. */
typedef struct {
    uint64_t have; /* 1 << index in machine_notes */
} machine_more;

/* An address of code as it lies in memory: nothing is hidden in it. */
static inline uint64_t machine_code(const machine_more *more, uint64_t address)
{
    return address;
}

/* The frame of a signal: ucontext_t as the kernel makes it. */
#define MACHINE_CONTEXT_SIZE 304 /* up to and with the signal mask */
#define MACHINE_CONTEXT_AT 0     /* from the stack pointer when the handler has returned */
/* Registers of it; those that it doesn't hold stay. at: where it lies. *ret_fp: address of the saved vector registers, 0
 * if none. */
void machine_from_context(const uint8_t context[MACHINE_CONTEXT_SIZE], uint64_t at, struct user_regs_struct *ret,
                          uint64_t *ret_fp, uint64_t *ret_mask);
/* Takes the first bytes there. False: that is something else. */
#define MACHINE_FP_SIZE 512
bool machine_fp_from_frame(const uint8_t bytes[MACHINE_FP_SIZE], machine_fpregs *ret);
void machine_context_to_dwarf(const uint8_t context[MACHINE_CONTEXT_SIZE], uint64_t ret[MACHINE_DWARF_REGS]);
/* How much there is behind the address of the saved vector registers, by those bytes (fp_sw_bytes in asm/sigcontext.h). */
size_t machine_xstate_size(const uint8_t legacy[MACHINE_FP_SIZE]);
/* Makes those bytes what ptrace(2) would have given for NT_X86_XSTATE: where the frame has its own marks, readers
 * expect which parts there are (XCR0). */
void machine_xstate_from_frame(uint8_t *xstate, size_t size);

/* Whether that is code that ends a signal's handler: with the stack pointer at the ucontext_t. */
#define MACHINE_SIGRETURN_SIZE 9
bool machine_is_sigreturn(const uint8_t code[MACHINE_SIGRETURN_SIZE]);
/* Whether the bytes before a return address are a call: the last is code[size - 1]. */
#define MACHINE_CALL_SIZE 7
bool machine_ends_with_call(const uint8_t *code, size_t size);

struct machine_register {
    const char *name;
    size_t offset; /* in struct user_regs_struct; 8 bytes */
};
extern const struct machine_register machine_registers[];
extern const size_t machine_register_count;
/* Those that carry the first arguments of a function. */
extern const struct machine_register machine_arguments[6];

/* Register sets, which are notes of cores, too ("LINUX"). */
struct machine_note {
    uint32_t type;
    size_t offset, size; /* in machine_more */
};
extern const struct machine_note machine_notes[];
extern const size_t machine_note_count;

/* Go: where a thread's goroutine is kept, from this distance to its thread pointer on. */
#define MACHINE_GO_TLS (-256)
#define MACHINE_GO_QUANTUM 1 /* unit of differences of addresses in its tables */
/* From a function to its caller, by the size of its frame, without the return address: where that address lies, where the
 * frame pointer was saved, and the caller's stack pointer. False: the return address is in a register. */
static inline bool machine_go_frame(uint64_t sp, uint64_t size, uint64_t *ret_pc_at, uint64_t *ret_fp_at,
                                    uint64_t *ret_sp)
{
    *ret_pc_at = sp + size;
    *ret_fp_at = size >= 8 ? sp + size - 8 : 0;
    *ret_sp = sp + size + 8;
    return true;
}
/* How far above its return address the caller's stack begins. */
#define MACHINE_GO_CALL_SIZE 8

static inline uint64_t machine_pc(const struct user_regs_struct *regs)
{
    return regs->rip;
}
static inline uint64_t machine_sp(const struct user_regs_struct *regs)
{
    return regs->rsp;
}
static inline uint64_t machine_thread_pointer(const struct user_regs_struct *regs, const machine_more *more)
{
    return regs->fs_base;
}
#define MACHINE_ADDRESS_BITS 47 /* of a program; the others are 0, the kernel's 1 */
#define MACHINE_AUDIT AUDIT_ARCH_X86_64 /* seccomp(2) */

#endif
