/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Length and branch decoder for x86-64 machine code (Intel SDM, volume 2,
 * chapter 2 and appendix A): the part of disassembly that a sweep over a whole
 * text section needs, some fifty times faster than a full disassembler. What an
 * instruction does to registers is asked of capstone, near sites only.
 * tests/unit/test_plan.c proves it equal to capstone on real libraries.
 */
#ifndef SCOPE_PLAN_X86_DECODE_H
#define SCOPE_PLAN_X86_DECODE_H

#include <stddef.h>
#include <stdint.h>

#define X86_INSN_MAX 15

enum x86_kind {
    X86_OTHER,
    X86_NOP, /* nop in any length, not endbr64 */
    X86_ENDBR,
    X86_INT3,
    X86_SYSCALL,
    X86_CALL, /* direct or indirect */
    X86_JMP,  /* direct or indirect */
    X86_JCC,  /* conditional, direct */
    X86_LOOP, /* loop, loope, loopne, jrcxz: 8-bit displacement only */
    X86_XBEGIN,
    X86_RET,
    X86_HALT, /* hlt, ud2 and other instructions after which nothing runs */
    X86_INT,  /* other ways into the kernel: int, sysenter */
};

struct x86_instr {
    uint8_t len;
    uint8_t kind; /* enum x86_kind */
    uint8_t map;  /* 0: one-byte opcodes, 1: 0f, 2: 0f38, 3: 0f3a, 4: VEX, EVEX or XOP */
    uint8_t opcode;
    uint8_t opcode_at; /* offset of the opcode byte */
    uint8_t has_modrm;
    uint8_t modrm;
    uint8_t rex;
    uint8_t prefix_66, prefix_rep; /* 0x66 seen; 0xf2 or 0xf3 seen (the last one) */
    uint8_t rip_at;                /* offset of a rip-relative disp32, 0 if there is none */
    uint8_t rel_size;              /* 1 or 4 for direct branches, else 0; the displacement ends the instruction */
    uint8_t imm_at, imm_size;      /* immediate, 0 if there is none */
    int32_t rel;                   /* displacement of a direct branch or of the rip-relative operand */
};

/* Decodes one instruction of at most `left` bytes. Returns its length, 0 if the bytes are no instruction. */
unsigned x86_decode(const uint8_t *p, size_t left, struct x86_instr *in);

/* Nothing falls through to the instruction after it. */
static inline int x86_ends_flow(const struct x86_instr *in)
{
    return in->kind == X86_JMP || in->kind == X86_RET || in->kind == X86_HALT || in->kind == X86_INT3;
}

enum x86_flags_use { X86_FLAGS_UNTOUCHED, X86_FLAGS_WRITTEN, X86_FLAGS_READ, X86_FLAGS_UNSURE };

/* What an instruction does with the arithmetic flags first. Only common integer
 * instructions are known; the rest is X86_FLAGS_UNSURE. */
enum x86_flags_use x86_flags_use(const struct x86_instr *in);

#endif
