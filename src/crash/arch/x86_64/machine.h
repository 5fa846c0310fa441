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

void machine_to_dwarf(const struct user_regs_struct *regs, uint64_t ret[MACHINE_DWARF_REGS]);

/* The frame of a signal: ucontext_t as the kernel makes it. */
#define MACHINE_CONTEXT_SIZE 304 /* up to and with the signal mask */
/* Registers of it; those that it doesn't hold stay. *ret_fp: address of the saved vector registers, 0 if none. */
void machine_from_context(const uint8_t context[MACHINE_CONTEXT_SIZE], struct user_regs_struct *ret, uint64_t *ret_fp,
                          uint64_t *ret_mask);
void machine_context_to_dwarf(const uint8_t context[MACHINE_CONTEXT_SIZE], uint64_t ret[MACHINE_DWARF_REGS]);
/* How much there is behind the address of the saved vector registers, by the first 512 bytes there (fp_sw_bytes in
 * asm/sigcontext.h). */
size_t machine_xstate_size(const uint8_t legacy[512]);
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

static inline uint64_t machine_pc(const struct user_regs_struct *regs)
{
    return regs->rip;
}
static inline uint64_t machine_sp(const struct user_regs_struct *regs)
{
    return regs->rsp;
}
static inline uint64_t machine_thread_pointer(const struct user_regs_struct *regs)
{
    return regs->fs_base;
}
#define MACHINE_AUDIT AUDIT_ARCH_X86_64 /* seccomp(2) */

#endif
