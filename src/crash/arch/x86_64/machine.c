/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include <string.h>

#define CONTEXT_REGS 40 /* in ucontext_t: behind flags, link and stack; struct sigcontext in asm/sigcontext.h */
#define CONTEXT_FP (CONTEXT_REGS + 23 * 8)
#define CONTEXT_MASK (CONTEXT_REGS + 256)
#define FP_MAGIC1 0x46505853u
#define FP_SW 464 /* struct _fpx_sw_bytes: magic, extended size, features, xstate size */

enum context_reg {
    C_R8,
    C_R9,
    C_R10,
    C_R11,
    C_R12,
    C_R13,
    C_R14,
    C_R15,
    C_RDI,
    C_RSI,
    C_RBP,
    C_RBX,
    C_RDX,
    C_RAX,
    C_RCX,
    C_RSP,
    C_RIP,
    C_FLAGS,
    C_COUNT,
};

void machine_to_dwarf(const struct user_regs_struct *r, uint64_t ret[MACHINE_DWARF_REGS])
{
    const uint64_t v[MACHINE_DWARF_REGS] = {r->rax, r->rdx, r->rcx, r->rbx, r->rsi, r->rdi, r->rbp, r->rsp, r->r8,
                                            r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15, r->rip};

    memcpy(ret, v, sizeof(v));
}

static void context_regs(const uint8_t *context, uint64_t ret[C_COUNT])
{
    memcpy(ret, context + CONTEXT_REGS, C_COUNT * sizeof(*ret));
}

void machine_from_context(const uint8_t context[MACHINE_CONTEXT_SIZE], uint64_t at, struct user_regs_struct *ret,
                          uint64_t *ret_fp, uint64_t *ret_mask)
{
    uint64_t c[C_COUNT];

    context_regs(context, c);
    ret->r8 = c[C_R8];
    ret->r9 = c[C_R9];
    ret->r10 = c[C_R10];
    ret->r11 = c[C_R11];
    ret->r12 = c[C_R12];
    ret->r13 = c[C_R13];
    ret->r14 = c[C_R14];
    ret->r15 = c[C_R15];
    ret->rdi = c[C_RDI];
    ret->rsi = c[C_RSI];
    ret->rbp = c[C_RBP];
    ret->rbx = c[C_RBX];
    ret->rdx = c[C_RDX];
    ret->rax = c[C_RAX];
    ret->rcx = c[C_RCX];
    ret->rsp = c[C_RSP];
    ret->rip = c[C_RIP];
    ret->eflags = c[C_FLAGS];
    ret->orig_rax = ~0ull; /* in no system call */
    memcpy(ret_fp, context + CONTEXT_FP, sizeof(*ret_fp));
    memcpy(ret_mask, context + CONTEXT_MASK, sizeof(*ret_mask));
}

void machine_context_to_dwarf(const uint8_t context[MACHINE_CONTEXT_SIZE], uint64_t ret[MACHINE_DWARF_REGS])
{
    struct user_regs_struct regs = {0};
    uint64_t fp, mask;

    machine_from_context(context, 0, &regs, &fp, &mask);
    machine_to_dwarf(&regs, ret);
}

bool machine_fp_from_frame(const uint8_t bytes[MACHINE_FP_SIZE], machine_fpregs *ret)
{
    memcpy(ret, bytes, sizeof(*ret));
    return true;
}

size_t machine_xstate_size(const uint8_t legacy[MACHINE_FP_SIZE])
{
    uint32_t magic, size;

    memcpy(&magic, legacy + FP_SW, sizeof(magic));
    memcpy(&size, legacy + FP_SW + 16, sizeof(size));
    return magic == FP_MAGIC1 && size >= 576 ? size : 512;
}

void machine_xstate_from_frame(uint8_t *xstate, size_t size)
{
    if (size > 512) { /* else there were no marks */
        memcpy(xstate + FP_SW, xstate + FP_SW + 8, 8);
        memset(xstate + FP_SW + 8, 0, 512 - FP_SW - 8);
    }
}

bool machine_is_sigreturn(const uint8_t code[MACHINE_SIGRETURN_SIZE])
{
    static const uint8_t wide[MACHINE_SIGRETURN_SIZE] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
    static const uint8_t narrow[] = {0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05};

    return memcmp(code, wide, sizeof(wide)) == 0 || memcmp(code, narrow, sizeof(narrow)) == 0;
}

/* Length of an indirect call (ff /2) with this ModRM byte and what follows it. */
static size_t indirect_call_length(uint8_t modrm, uint8_t sib)
{
    uint8_t mod = modrm >> 6, rm = modrm & 7;

    if ((modrm >> 3 & 7) != 2)
        return 0;
    if (mod == 3)
        return 2;
    return 2 + (size_t)(rm == 4) +
           (mod == 1                                                             ? 1
            : mod == 2 || (mod == 0 && (rm == 5 || (rm == 4 && (sib & 7) == 5))) ? 4
                                                                                 : 0);
}

bool machine_ends_with_call(const uint8_t *code, size_t size)
{
    const uint8_t *end = code + size;

    if (size >= 5 && end[-5] == 0xe8)
        return true;
    for (size_t n = 2; n <= 7 && n <= size; n++)
        if (end[-(long)n] == 0xff && indirect_call_length(end[1 - (long)n], n > 2 ? end[2 - (long)n] : 0) == n)
            return true;
    return false;
}

#define R(name) \
    { \
#name, offsetof(struct user_regs_struct, name) \
    }
const struct machine_register machine_registers[] = {
    R(rip), R(rsp), R(rbp), R(rax), R(rbx), R(rcx),    R(rdx),      R(rsi), R(rdi), R(r8),      R(r9),      R(r10),
    R(r11), R(r12), R(r13), R(r14), R(r15), R(eflags), R(orig_rax), R(cs),  R(ss),  R(fs_base), R(gs_base),
};
const struct machine_note machine_notes[1];
const size_t machine_note_count = 0;
const size_t machine_register_count = sizeof(machine_registers) / sizeof(*machine_registers);
const struct machine_register machine_arguments[6] = {R(rdi), R(rsi), R(rdx), R(rcx), R(r8), R(r9)};
