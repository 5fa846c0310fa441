/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include <asm/sigcontext.h>
#include <elf.h>
#include <string.h>

#define CONTEXT_MASK 40 /* in ucontext_t: behind flags, link and stack */
#define CONTEXT_REGS 184 /* struct sigcontext begins at 176, with the address of the fault */
#define CONTEXT_RECORDS (176 + 288)

void machine_to_dwarf(const machine_regs *r, uint64_t ret[MACHINE_DWARF_REGS])
{
    memcpy(ret, r->regs, sizeof(r->regs));
    ret[MACHINE_DWARF_SP] = r->sp;
    ret[MACHINE_DWARF_PC] = r->pc;
}

void machine_from_context(const uint8_t context[MACHINE_CONTEXT_SIZE], uint64_t at, machine_regs *ret, uint64_t *ret_fp,
                          uint64_t *ret_mask)
{
    memcpy(ret, context + CONTEXT_REGS, sizeof(*ret)); /* in the same order */
    memcpy(ret_mask, context + CONTEXT_MASK, sizeof(*ret_mask));
    *ret_fp = at + CONTEXT_RECORDS;
}

void machine_context_to_dwarf(const uint8_t context[MACHINE_CONTEXT_SIZE], uint64_t ret[MACHINE_DWARF_REGS])
{
    machine_regs regs;
    uint64_t fp, mask;

    machine_from_context(context, 0, &regs, &fp, &mask);
    machine_to_dwarf(&regs, ret);
}

bool machine_fp_from_frame(const uint8_t bytes[MACHINE_FP_SIZE], machine_fpregs *ret)
{
    struct fpsimd_context fp;

    memcpy(&fp, bytes, sizeof(fp));
    if (fp.head.magic != FPSIMD_MAGIC || fp.head.size < sizeof(fp))
        return false;
    memcpy(ret->vregs, fp.vregs, sizeof(ret->vregs));
    ret->fpsr = fp.fpsr;
    ret->fpcr = fp.fpcr;
    return true;
}

size_t machine_xstate_size(const uint8_t first[MACHINE_FP_SIZE])
{
    return 0;
}

void machine_xstate_from_frame(uint8_t *xstate, size_t size)
{
}

static uint32_t word_at(const uint8_t *p)
{
    uint32_t w;

    memcpy(&w, p, sizeof(w));
    return w;
}

bool machine_is_sigreturn(const uint8_t code[MACHINE_SIGRETURN_SIZE])
{
    return word_at(code) == 0xd2801168 && word_at(code + 4) == 0xd4000001;
}

bool machine_ends_with_call(const uint8_t *code, size_t size)
{
    uint32_t w = size >= 4 ? word_at(code + size - 4) : 0;

    /* BL; BLR; BLRAA, BLRAB, BLRAAZ, BLRABZ (Arm ARM, C4.1.66) */
    return (w & 0xfc000000) == 0x94000000 || (w & 0xfffffc1f) == 0xd63f0000 || (w & 0xfefff800) == 0xd63f0800;
}

#define R(name) \
    { \
#name, offsetof(machine_regs, name) \
    }
#define X(n) \
    { \
        "x" #n, offsetof(machine_regs, regs) + 8 * n \
    }
const struct machine_register machine_registers[] = {
    R(pc),  R(sp),  X(0),  X(1),  X(2),  X(3),  X(4),  X(5),  X(6),  X(7),  X(8),  X(9),
    X(10), X(11), X(12), X(13), X(14), X(15), X(16), X(17), X(18), X(19), X(20), X(21),
    X(22), X(23), X(24), X(25), X(26), X(27), X(28), X(29), X(30), R(pstate),
};
const struct machine_note machine_notes[] = {
    {NT_ARM_TLS, offsetof(machine_more, tls), 8},
    {NT_ARM_PAC_MASK, offsetof(machine_more, data_pac), 16},
};
const size_t machine_note_count = sizeof(machine_notes) / sizeof(*machine_notes);
const size_t machine_register_count = sizeof(machine_registers) / sizeof(*machine_registers);
const struct machine_register machine_arguments[6] = {X(0), X(1), X(2), X(3), X(4), X(5)};
