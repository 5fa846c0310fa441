/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the planner must know of A64 instructions (Arm Architecture Reference Manual, C4.1 "A64 instruction set
 * encoding"): where control goes, what depends on where the instruction stands, and, conservatively, which general
 * registers it reads and writes. Every instruction is an aligned word of four bytes.
 */
#ifndef SCOPE_PLAN_A64_INSN_H
#define SCOPE_PLAN_A64_INSN_H

#include <stdbool.h>
#include <stdint.h>

#define A64_SIZE 4u

#define A64_SVC     0xd4000001u /* svc #0; Linux gives no meaning to other numbers */
#define A64_B       0x14000000u
#define A64_BL      0x94000000u
#define A64_NOP     0xd503201fu
#define A64_PACIASP 0xd503233fu
#define A64_PACIBSP 0xd503237fu
#define A64_AUTIASP 0xd50323bfu
#define A64_BTI_J   0xd503249fu

enum a64_reg { A64_X0 = 0, A64_X1 = 1, A64_X2 = 2, A64_X8 = 8, A64_X16 = 16, A64_X17 = 17, A64_X18 = 18, A64_X27 = 27,
               A64_X30 = 30, A64_XZR = 31 };

enum a64_kind {
    A64_OTHER,
    A64_HINT,     /* nop and its like, bti and pac among them */
    A64_JUMP,     /* b: nothing falls through */
    A64_CALL,     /* bl */
    A64_BRANCH,   /* b.cond, cbz, cbnz, tbz, tbnz */
    A64_INDIRECT, /* br, with or without authentication */
    A64_CALLREG,  /* blr, likewise */
    A64_RET,
    A64_KERNEL,   /* svc */
    A64_TRAP,     /* brk, hlt, udf, eret, dcps: nothing falls through */
    A64_ADR,
    A64_ADRP,
    A64_LITERAL,  /* ldr, ldrsw, prfm of a pc-relative address, vector registers too */
    A64_BAD,      /* no instruction: reserved encodings */
};

enum a64_kind a64_kind(uint32_t word);
/* Of A64_JUMP, A64_CALL, A64_BRANCH, A64_ADR, A64_ADRP, A64_LITERAL: the address that is meant. */
uint64_t a64_target(uint32_t word, uint64_t pc);

/* Nothing falls through to the instruction after it. */
static inline bool a64_ends_flow(enum a64_kind k)
{
    return k == A64_JUMP || k == A64_INDIRECT || k == A64_RET || k == A64_TRAP || k == A64_BAD;
}

/* What an instruction does with a general register. READ also where that isn't certain. */
enum a64_use { A64_UNTOUCHED, A64_WRITTEN, A64_READ };
enum a64_use a64_use(uint32_t word, unsigned reg);

/* Whether it changes the stack pointer (Arm ARM, C4.1: as a result, and as a base that is written back). */
bool a64_moves_sp(uint32_t word);

/* Whether it sets reg (or its lower half) to a constant, without reading any register. */
bool a64_constant(uint32_t word, unsigned reg, uint64_t *ret);
/* Whether it copies another register to reg, all of it or its lower half: that one, else -1. */
int a64_copied(uint32_t word, unsigned reg);

#endif
