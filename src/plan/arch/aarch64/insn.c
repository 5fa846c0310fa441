/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/aarch64/insn.h"

static int64_t sign(uint64_t v, unsigned bits)
{
    return (int64_t)(v << (64 - bits)) >> (64 - bits);
}

enum a64_kind a64_kind(uint32_t w)
{
    unsigned op0 = w >> 25 & 15;

    if ((w & 0x7c000000) == 0x14000000)
        return w >> 31 ? A64_CALL : A64_JUMP;
    if ((w & 0xff000000) == 0x54000000 || (w & 0x7c000000) == 0x34000000) /* b.cond, bc.cond; cbz to tbnz */
        return A64_BRANCH;
    if ((w & 0x1f000000) == 0x10000000)
        return w >> 31 ? A64_ADRP : A64_ADR;
    if ((w & 0x3b000000) == 0x18000000)
        return A64_LITERAL;
    if ((w & 0xfe000000) == 0xd6000000) { /* unconditional branch (register) */
        switch (w >> 21 & 15) {
        case 0: case 8: return A64_INDIRECT;  /* br, braaz; braa */
        case 1: case 9: return A64_CALLREG;
        case 2: return A64_RET;
        case 4: case 5: return A64_TRAP;      /* eret, drps */
        default: return A64_BAD;
        }
    }
    if ((w & 0xff000000) == 0xd4000000) /* exception generation */
        return (w & 0xffe0001f) == 0xd4000001 ? A64_KERNEL : A64_TRAP;
    if ((w & 0xfffff01f) == 0xd503201f)
        return A64_HINT;
    if (op0 == 0)
        return w >> 31 ? A64_OTHER : w >> 16 ? A64_BAD : A64_TRAP; /* SME; reserved; udf */
    return op0 == 1 || op0 == 3 ? A64_BAD : A64_OTHER;
}

bool a64_moves_sp(uint32_t w)
{
    bool result = (w & 31) == 31, base = (w >> 5 & 31) == 31, flags = w & 1u << 29;

    if ((w & 0x1f800000) == 0x11000000 || (w & 0x1fe00000) == 0x0b200000) /* add, sub: of a constant, of a longer register */
        return result && !flags;
    if ((w & 0x1f800000) == 0x11800000) /* addg, subg */
        return result && !flags;
    if ((w & 0x1f800000) == 0x12000000) /* and, orr, eor of a constant; not ands */
        return result && (w >> 29 & 3) != 3;
    if ((w & 0x3a000000) == 0x28000000) /* pairs: behind it, before it */
        return base && w & 1u << 23;
    if ((w & 0x3b200000) == 0x38000000) /* one register: likewise; not unscaled, not unprivileged */
        return base && w & 1u << 10;
    if ((w & 0x3b200400) == 0x38200400) /* ldraa, ldrab */
        return base && w & 1u << 11;
    if ((w & 0xbfa00000) == 0x0c800000 || (w & 0xbf800000) == 0x0d800000) /* structures of vectors, written back */
        return base;
    return (w & 0xff200000) == 0xd9200000 && base && w & 1u << 10; /* tags of memory */
}

uint64_t a64_target(uint32_t w, uint64_t pc)
{
    uint64_t imm21 = (uint64_t)(w >> 5 & 0x7ffff) << 2 | (w >> 29 & 3);

    switch (a64_kind(w)) {
    case A64_JUMP: case A64_CALL: return pc + (uint64_t)(sign(w & 0x03ffffff, 26) * 4);
    case A64_ADR: return pc + (uint64_t)sign(imm21, 21);
    case A64_ADRP: return (pc & ~UINT64_C(4095)) + (uint64_t)(sign(imm21, 21) * 4096);
    case A64_BRANCH:
        if ((w & 0x7e000000) == 0x36000000) /* tbz, tbnz */
            return pc + (uint64_t)(sign(w >> 5 & 0x3fff, 14) * 4);
        return pc + (uint64_t)(sign(w >> 5 & 0x7ffff, 19) * 4);
    case A64_LITERAL: return pc + (uint64_t)(sign(w >> 5 & 0x7ffff, 19) * 4);
    default: return pc;
    }
}

/* Instructions that write the register in bits 0 to 4 and read, at most, those in bits 5 to 9 and 16 to 20 (and 10 to 14):
 * data processing, and loads of one register whose address isn't written back. */
static bool writes_first(uint32_t w, bool *ret_n, bool *ret_m, bool *ret_a)
{
    *ret_n = *ret_m = *ret_a = false;
    if ((w & 0x1f000000) == 0x10000000) /* adr, adrp */
        return true;
    if ((w & 0x1f800000) == 0x12800000) /* move wide: movk reads what it writes */
        return (w >> 29 & 3) != 3;
    if ((w & 0x3b000000) == 0x18000000 && !(w >> 26 & 1)) /* literal, general registers; prfm writes none */
        return w >> 30 != 3;
    *ret_n = true;
    if ((w & 0x1f800000) == 0x11000000) /* add, sub (immediate) */
        return true;
    if ((w & 0x1f800000) == 0x12000000) /* logical (immediate) */
        return true;
    if ((w & 0x1f800000) == 0x13000000) /* bitfield: bfm reads what it writes */
        return (w >> 29 & 3) != 1;
    *ret_m = true;
    if ((w & 0x1f800000) == 0x13800000) /* extract */
        return true;
    if ((w & 0x1f000000) == 0x0a000000 || (w & 0x1f000000) == 0x0b000000) /* logical, add and sub (register) */
        return true;
    if ((w & 0x1fe00000) == 0x1a800000) /* conditional select */
        return true;
    if ((w & 0x5fe00000) == 0x1ac00000) /* two sources */
        return true;
    if ((w & 0x1f000000) == 0x1b000000) {
        *ret_a = true;
        return true;
    }
    *ret_m = false;
    if ((w & 0x5fe00000) == 0x5ac00000) /* one source */
        return !(w >> 16 & 31);
    if ((w & 0x3f400000) == 0x39400000) /* ldr (unsigned offset), general registers; not stores */
        return true;
    if ((w & 0x3fc00000) == 0x39800000 || (w & 0x3fc00000) == 0x39c00000) /* ldrs */
        return w >> 30 != 3; /* prfm */
    return false;
}

enum a64_use a64_use(uint32_t w, unsigned reg)
{
    bool n, m, a, named = (w & 31) == reg || (w >> 5 & 31) == reg || (w >> 10 & 31) == reg || (w >> 16 & 31) == reg;

    if (a64_kind(w) == A64_JUMP || a64_kind(w) == A64_HINT || a64_kind(w) == A64_TRAP)
        return A64_UNTOUCHED;
    if ((w & 0xff000000) == 0x54000000)
        return A64_UNTOUCHED;
    if (a64_kind(w) == A64_BRANCH)
        return (w & 31) == reg ? A64_READ : A64_UNTOUCHED;
    if (writes_first(w, &n, &m, &a)) {
        if ((n && (w >> 5 & 31) == reg) || (m && (w >> 16 & 31) == reg) || (a && (w >> 10 & 31) == reg))
            return A64_READ;
        return (w & 31) == reg ? A64_WRITTEN : A64_UNTOUCHED;
    }
    if ((w & 0x1f800000) == 0x12800000) /* movk */
        return (w & 31) == reg ? A64_READ : A64_UNTOUCHED;
    if ((w & 0xff000000) == 0xd5000000) /* system registers */
        return (w & 31) == reg ? A64_READ : A64_UNTOUCHED;
    if ((w & 0x3a000000) == 0x28000000) /* pairs; of vector registers only the address is general */
        return (w >> 5 & 31) == reg || (!(w >> 26 & 1) && ((w & 31) == reg || (w >> 10 & 31) == reg)) ? A64_READ
                                                                                                      : A64_UNTOUCHED;
    if ((w & 0x3b000000) == 0x39000000 || (w & 0x3b200000) == 0x38000000) /* load, store: an immediate offset */
        return (w >> 5 & 31) == reg || (!(w >> 26 & 1) && (w & 31) == reg) ? A64_READ : A64_UNTOUCHED;
    return named ? A64_READ : A64_UNTOUCHED;
}

/* A bitmask immediate (Arm ARM, J1.1, DecodeBitMasks()): a run of ones, rotated, in an element that repeats. */
static bool bitmask(uint32_t w, uint64_t *ret)
{
    unsigned n = w >> 22 & 1, immr = w >> 16 & 63, imms = w >> 10 & 63, len, size, s, r;
    uint64_t element;

    for (len = 6; len > 0 && !((n << 6 | (~imms & 63)) >> len & 1); len--)
        ;
    if (len == 0 || (n && !(w >> 31)))
        return false;
    size = 1u << len;
    s = imms & (size - 1);
    r = immr & (size - 1);
    if (s == size - 1)
        return false;
    element = (UINT64_C(1) << (s + 1)) - 1;
    if (r) {
        element = element >> r | element << (size - r);
        if (size < 64)
            element &= (UINT64_C(1) << size) - 1;
    }
    for (unsigned at = size; at < 64; at *= 2)
        element |= element << at;
    *ret = w >> 31 ? element : (uint32_t)element;
    return true;
}

bool a64_constant(uint32_t w, unsigned reg, uint64_t *ret)
{
    unsigned shift = (w >> 21 & 3) * 16;
    uint64_t imm = w >> 5 & 0xffff;

    if ((w & 31) != reg)
        return false;
    if ((w & 0x7f800000) == 0x52800000) { /* movz */
        *ret = imm << shift;
        return true;
    }
    if ((w & 0x7f800000) == 0x12800000) { /* movn */
        *ret = w >> 31 ? ~(imm << shift) : (uint32_t)~(imm << shift);
        return true;
    }
    if ((w & 0x7f8003e0) == 0x320003e0) /* orr reg, xzr, #bits */
        return bitmask(w, ret);
    if ((w & 0x7fe0ffe0) == 0x2a0003e0 && (w >> 16 & 31) == A64_XZR) { /* mov reg, xzr */
        *ret = 0;
        return true;
    }
    return false;
}

int a64_copied(uint32_t w, unsigned reg)
{
    if ((w & 31) != reg || (w & 0x7fe0ffe0) != 0x2a0003e0 || (w >> 16 & 31) == A64_XZR)
        return -1;
    return (int)(w >> 16 & 31);
}
