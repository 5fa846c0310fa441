/* SPDX-License-Identifier: Apache-2.0 */
/* What looking at a crashed program needs to know about arm64 Linux. Pure. */
#ifndef SCOPE_CRASH_ARCH_MACHINE_H
#define SCOPE_CRASH_ARCH_MACHINE_H

#include <linux/audit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

/* As ptrace(2) has them: NT_PRSTATUS, NT_FPREGSET. */
typedef struct user_regs_struct machine_regs;
typedef struct user_fpsimd_struct machine_fpregs;

/* Numbers of DWARF for the Arm 64-bit Architecture, 4.1: x0 to x30, sp. The program counter has none that libdw keeps
 * registers under; the last is ours. */
#define MACHINE_DWARF_REGS 33
#define MACHINE_DWARF_FP 29
#define MACHINE_DWARF_SP 31
#define MACHINE_DWARF_PC 32
#define MACHINE_DWARF_GO_G 28 /* where Go's functions keep their goroutine (src/cmd/compile/abi-internal.md) */

#define MACHINE_DWARF_LINK 30 /* where a call leaves its return address */

void machine_to_dwarf(const machine_regs *regs, uint64_t ret[MACHINE_DWARF_REGS]);

/* What else there is of a thread in register sets of its own, as machine_notes says. */
typedef struct {
    uint64_t have;         /* 1 << index in machine_notes */
    uint64_t tls;          /* NT_ARM_TLS: TPIDR_EL0 */
    uint64_t data_pac;     /* NT_ARM_PAC_MASK: bits of signed pointers that are the signature */
    uint64_t code_pac;
} machine_more;

/* An address of code as it lies in memory: a return address may have been signed (paciasp). */
static inline uint64_t machine_code(const machine_more *more, uint64_t address)
{
    return address & ~more->code_pac;
}

/* The frame of a signal: ucontext_t as the kernel makes it (asm/ucontext.h, asm/sigcontext.h), up to pstate. */
#define MACHINE_CONTEXT_SIZE 456
#define MACHINE_CONTEXT_AT 128 /* from the stack pointer when the handler has returned: behind siginfo_t */
/* at: where it lies. *ret_fp: address of the records behind it, of which the first one holds the vector registers. */
void machine_from_context(const uint8_t context[MACHINE_CONTEXT_SIZE], uint64_t at, machine_regs *ret, uint64_t *ret_fp,
                          uint64_t *ret_mask);
void machine_context_to_dwarf(const uint8_t context[MACHINE_CONTEXT_SIZE], uint64_t ret[MACHINE_DWARF_REGS]);
/* Takes that record. False: it is something else. */
#define MACHINE_FP_SIZE 528
bool machine_fp_from_frame(const uint8_t bytes[MACHINE_FP_SIZE], machine_fpregs *ret);
/* 0: of longer registers nothing is taken from the frame. */
size_t machine_xstate_size(const uint8_t first[MACHINE_FP_SIZE]);
void machine_xstate_from_frame(uint8_t *xstate, size_t size);

/* Whether that is code that ends a signal's handler: mov x8, #139; svc #0. */
#define MACHINE_SIGRETURN_SIZE 8
bool machine_is_sigreturn(const uint8_t code[MACHINE_SIGRETURN_SIZE]);
/* Whether the bytes before a return address are a call: BL, BLR or a form of it with a signed pointer. */
#define MACHINE_CALL_SIZE 4
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

/* Go: where a thread's goroutine is kept, from this distance to its thread pointer on (cgo only: runtime.tls_g). */
#define MACHINE_GO_TLS 0
#define MACHINE_GO_QUANTUM 4 /* unit of differences of addresses in its tables */
/* From a function to its caller, by the size of its frame: where the return address lies, where the frame pointer was
 * saved, and the caller's stack pointer. False: without a frame, the return address is still in its register. */
static inline bool machine_go_frame(uint64_t sp, uint64_t size, uint64_t *ret_pc_at, uint64_t *ret_fp_at,
                                    uint64_t *ret_sp)
{
    *ret_pc_at = sp;
    *ret_fp_at = sp - 8;
    *ret_sp = sp + size;
    return size != 0;
}
/* How far above its return address the caller's stack begins, of a function without variables: its frame. */
#define MACHINE_GO_CALL_SIZE 16

static inline uint64_t machine_pc(const machine_regs *regs)
{
    return regs->pc;
}
static inline uint64_t machine_sp(const machine_regs *regs)
{
    return regs->sp;
}
static inline uint64_t machine_thread_pointer(const machine_regs *regs, const machine_more *more)
{
    return more->tls;
}
#define MACHINE_ADDRESS_BITS 48 /* of a program; the others are 0, the kernel's 1 */
#define MACHINE_AUDIT AUDIT_ARCH_AARCH64 /* seccomp(2) */

#endif
