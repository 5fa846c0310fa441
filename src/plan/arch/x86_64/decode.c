/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/x86_64/decode.h"

#include <string.h>

enum {
    M = 1 << 0,    /* ModRM byte */
    IB = 1 << 1,   /* 8-bit immediate */
    IZ = 1 << 2,   /* 16 or 32 bits by operand size */
    IW = 1 << 3,   /* 16 bits */
    IV = 1 << 4,   /* 16, 32 or 64 bits by operand size */
    R1 = 1 << 5,   /* 8-bit branch displacement */
    R4 = 1 << 6,   /* 32-bit branch displacement */
    BAD = 1 << 7,  /* not an instruction in 64-bit mode */
    PFX = 1 << 8,  /* legacy prefix */
    REX = 1 << 9,  /* REX prefix */
    ESC = 1 << 10, /* 0f: another opcode map, or VEX, EVEX, XOP */
    G = 1 << 11,   /* not every value of ModRM is an instruction, or it changes what follows */
    K = 1 << 12,   /* may be of another kind than X86_OTHER */
    MO = 1 << 13,  /* address of 8 bytes (4 with an address size prefix) */
};

/* Reading ahead is safe for so many bytes: no instruction looks further, valid or not. */
#define READ_AHEAD 48

/* Opcode tables: SDM volume 2D, appendix A.3 (one and two bytes). */
/* clang-format off */
static const uint16_t one_byte[256] = {
    [0x00 ... 0x03] = M, [0x04] = IB, [0x05] = IZ, [0x06 ... 0x07] = BAD,
    [0x08 ... 0x0b] = M, [0x0c] = IB, [0x0d] = IZ, [0x0e] = BAD, [0x0f] = ESC,
    [0x10 ... 0x13] = M, [0x14] = IB, [0x15] = IZ, [0x16 ... 0x17] = BAD,
    [0x18 ... 0x1b] = M, [0x1c] = IB, [0x1d] = IZ, [0x1e ... 0x1f] = BAD,
    [0x20 ... 0x23] = M, [0x24] = IB, [0x25] = IZ, [0x26] = PFX, [0x27] = BAD,
    [0x28 ... 0x2b] = M, [0x2c] = IB, [0x2d] = IZ, [0x2e] = PFX, [0x2f] = BAD,
    [0x30 ... 0x33] = M, [0x34] = IB, [0x35] = IZ, [0x36] = PFX, [0x37] = BAD,
    [0x38 ... 0x3b] = M, [0x3c] = IB, [0x3d] = IZ, [0x3e] = PFX, [0x3f] = BAD,
    [0x40 ... 0x4f] = REX, [0x60 ... 0x61] = BAD, [0x62] = ESC, [0x63] = M, [0x64 ... 0x67] = PFX,
    [0x68] = IZ, [0x69] = M | IZ, [0x6a] = IB, [0x6b] = M | IB, [0x70 ... 0x7f] = R1 | K,
    [0x80] = M | IB, [0x81] = M | IZ, [0x82] = BAD, [0x83] = M | IB, [0x84 ... 0x8c] = M, [0x8d] = M | G,
    [0x8e] = M, [0x8f] = M | G | ESC, [0x90] = K, [0x9a] = BAD, [0xa0 ... 0xa3] = MO, [0xa8] = IB, [0xa9] = IZ,
    [0xb0 ... 0xb7] = IB, [0xb8 ... 0xbf] = IV, [0xc0 ... 0xc1] = M | IB, [0xc2] = IW | K, [0xc3] = K,
    [0xc4 ... 0xc5] = ESC, [0xc6] = M | IB | G, [0xc7] = M | IZ | G | K, [0xc8] = IW | IB, [0xca] = IW | K,
    [0xcb ... 0xcc] = K, [0xcd] = IB | K, [0xce] = BAD, [0xcf] = K,
    [0xd0 ... 0xd3] = M, [0xd4 ... 0xd6] = BAD, [0xd8 ... 0xdf] = M,
    [0xe0 ... 0xe3] = R1 | K, [0xe4 ... 0xe7] = IB, [0xe8 ... 0xe9] = R4 | K, [0xea] = BAD, [0xeb] = R1 | K,
    [0xf0] = PFX, [0xf1] = K, [0xf2 ... 0xf3] = PFX, [0xf4] = K, [0xf6 ... 0xf7] = M | G, [0xfe] = M | G,
    [0xff] = M | G | K,
};

static const uint16_t two_byte[256] = {
    [0x00 ... 0x03] = M, [0x04] = BAD, [0x05] = K, [0x07] = K, [0x0a] = BAD, [0x0b] = K, [0x0c] = BAD, [0x0d] = M,
    [0x0f] = M | IB, [0x10 ... 0x1d] = M, [0x1e ... 0x1f] = M | K, [0x20 ... 0x23] = M | G, [0x24 ... 0x27] = BAD,
    [0x28 ... 0x2f] = M, [0x34 ... 0x35] = K, [0x36] = BAD, [0x39] = BAD, [0x3b ... 0x3f] = BAD,
    [0x40 ... 0x6f] = M, [0x70 ... 0x73] = M | IB, [0x74 ... 0x76] = M,
    [0x78] = M | G, [0x79] = M, [0x7a ... 0x7b] = BAD, [0x7c ... 0x7f] = M,
    [0x80 ... 0x8f] = R4 | K, [0x90 ... 0x9f] = M,
    [0xa3] = M, [0xa4] = M | IB, [0xa5 ... 0xa7] = M, [0xab] = M, [0xac] = M | IB, [0xad ... 0xaf] = M,
    [0xb0 ... 0xb8] = M, [0xb9] = M | K, [0xba] = M | IB, [0xbb ... 0xbf] = M,
    [0xc0 ... 0xc1] = M, [0xc2] = M | IB, [0xc3] = M, [0xc4 ... 0xc6] = M | IB, [0xc7] = M,
    [0xd0 ... 0xfe] = M, [0xff] = M | K,
};
/* clang-format on */

static int32_t get32(const uint8_t *p)
{
    int32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* VEX, EVEX and XOP: the prefix ends with the opcode; returns the attributes, BAD if it is none. */
static unsigned decode_vex(const uint8_t *p, unsigned *at, struct x86_instr *in)
{
    unsigned map, opcode, i = *at;

    switch (p[i]) {
    case 0xc5:
        map = 1;
        i += 2;
        break;
    case 0x62:
        if ((p[i + 1] & 0x08) || !(p[i + 2] & 0x04))
            return BAD;
        map = p[i + 1] & 7;
        i += 4;
        break;
    default: /* c4, or XOP: 8f with a map of 8 and more */
        map = p[i + 1] & 0x1f;
        i += 3;
        break;
    }
    opcode = p[i];
    in->map = 4;
    in->opcode = (uint8_t)opcode;
    in->opcode_at = (uint8_t)i;
    *at = i + 1;
    switch (map) {
    case 1:
        if (opcode == 0x77)
            return 0;
        if ((opcode >= 0x70 && opcode <= 0x73) || opcode == 0xc2 || (opcode >= 0xc4 && opcode <= 0xc6))
            return M | IB;
        return M;
    case 2:
    case 5:
    case 6:
    case 9:
        return M;
    case 3:
    case 8:
        return M | IB;
    case 10:
        return M | IZ;
    default:
        return BAD;
    }
}

static enum x86_kind classify(const struct x86_instr *in)
{
    unsigned op = in->opcode, reg = (in->modrm >> 3) & 7;

    if (in->map == 1) {
        if (op == 0x05)
            return X86_SYSCALL;
        if (op >= 0x80 && op <= 0x8f)
            return X86_JCC;
        if (op == 0x1e && in->prefix_rep == 0xf3 && in->modrm == 0xfa)
            return X86_ENDBR;
        if (op == 0x1f)
            return X86_NOP;
        if (op == 0x0b || op == 0xb9 || op == 0xff || op == 0x07 || op == 0x35)
            return X86_HALT;
        if (op == 0x34)
            return X86_INT;
        return X86_OTHER;
    }
    if (in->map)
        return X86_OTHER;
    switch (op) {
    case 0x70 ... 0x7f:
        return X86_JCC;
    case 0x90: /* f3 90 is pause, which may be displaced but is no padding; 41 90 is xchg */
        return in->prefix_rep || (in->rex & 1) ? X86_OTHER : X86_NOP;
    case 0xc2:
    case 0xc3:
    case 0xca:
    case 0xcb:
    case 0xcf:
        return X86_RET;
    case 0xc7:
        return in->modrm == 0xf8 ? X86_XBEGIN : X86_OTHER;
    case 0xcc:
        return X86_INT3;
    case 0xcd:
    case 0xf1:
        return X86_INT;
    case 0xe0 ... 0xe3:
        return X86_LOOP;
    case 0xe8:
        return X86_CALL;
    case 0xe9:
    case 0xeb:
        return X86_JMP;
    case 0xf4:
        return X86_HALT;
    case 0xff:
        return reg == 2 || reg == 3 ? X86_CALL : reg == 4 || reg == 5 ? X86_JMP : X86_OTHER;
    default:
        return X86_OTHER;
    }
}

/* ModRM values that are no instruction, and what the others add to the attributes. */
static unsigned decode_group(const struct x86_instr *in, unsigned attr)
{
    unsigned reg = (in->modrm >> 3) & 7, is_reg = in->modrm >= 0xc0;

    if (in->map == 1) /* extrq and insertq have two bytes; moves to control and debug registers are none of these */
        return in->opcode == 0x78 && (in->prefix_66 || in->prefix_rep == 0xf2) ? attr | IW : attr;
    switch (in->opcode) {
    case 0x8d:
        return is_reg ? BAD : attr;
    case 0x8f:
        return reg ? BAD : attr;
    case 0xc6:
    case 0xc7:
        return reg && in->modrm != 0xf8 ? BAD : attr; /* f8: xabort, xbegin */
    case 0xf6:
        return reg < 2 ? attr | IB : attr;
    case 0xf7:
        return reg < 2 ? attr | IZ : attr;
    case 0xfe:
        return reg > 1 ? BAD : attr;
    default: /* 0xff */
        return reg == 7 || (is_reg && (reg == 3 || reg == 5)) ? BAD : attr;
    }
}

unsigned x86_decode(const uint8_t *p, size_t left, struct x86_instr *in)
{
    uint8_t copy[READ_AHEAD];
    unsigned attr, i = 0, imm = 0, address_prefix = 0;

    if (left < READ_AHEAD) {
        if (!left)
            return 0;
        memset(copy, 0, sizeof(copy));
        memcpy(copy, p, left);
        p = copy;
    }
    memset(in, 0, sizeof(*in));
    for (attr = one_byte[p[0]]; attr & PFX; attr = one_byte[p[i]]) {
        if (p[i] == 0x66)
            in->prefix_66 = 1;
        else if (p[i] >= 0xf2)
            in->prefix_rep = p[i];
        else if (p[i] == 0x67)
            address_prefix = 1;
        if (++i == X86_INSN_MAX)
            return 0;
    }
    if (attr & REX) {
        in->rex = p[i++];
        attr = one_byte[p[i]];
        if (attr & (REX | PFX)) /* the first would be ignored; nobody writes that */
            return 0;
    }
    if (attr & ESC && (p[i] != 0x8f || (p[i + 1] & 0x1f) >= 8)) {
        if (p[i] == 0x0f) {
            in->map = 1;
            i++;
            attr = two_byte[p[i]];
            if (p[i] == 0x38 || p[i] == 0x3a) {
                in->map = p[i++] == 0x38 ? 2 : 3;
                attr = in->map == 2 ? M : M | IB;
            }
            in->opcode = p[i];
            in->opcode_at = (uint8_t)i++;
        } else {
            /* An operand size, repeat or REX prefix before VEX or EVEX is an invalid opcode (SDM 2.3.2 to 2.3.4). */
            if (in->rex || in->prefix_66 || in->prefix_rep)
                return 0;
            attr = decode_vex(p, &i, in);
        }
    } else {
        in->opcode = p[i];
        in->opcode_at = (uint8_t)i++;
    }
    if (attr & M) {
        unsigned mod, rm;

        in->has_modrm = 1;
        in->modrm = p[i++];
        mod = in->modrm >> 6;
        rm = in->modrm & 7;
        if (in->map == 1 && in->opcode >= 0x20 && in->opcode <= 0x23)
            mod = 3; /* moves to control and debug registers ignore it */
        if (mod != 3) {
            if (rm == 4) {
                if ((p[i++] & 7) == 5 && mod == 0)
                    mod = 2;
            } else if (rm == 5 && mod == 0) {
                in->rip_at = (uint8_t)i;
                in->rel = get32(p + i);
                mod = 2;
            }
            i += mod == 1 ? 1 : mod == 2 ? 4 : 0;
        }
        if (attr & G)
            attr = decode_group(in, attr);
    }
    if (attr & BAD)
        return 0;
    if (attr & (IB | IW | IZ | IV | MO)) {
        if (attr & IB)
            imm += 1;
        if (attr & IW)
            imm += 2;
        if (attr & IZ)
            imm += in->prefix_66 && !(in->rex & 8) ? 2 : 4;
        if (attr & IV)
            imm += in->rex & 8 ? 8 : in->prefix_66 ? 2 : 4;
        if (attr & MO)
            imm = address_prefix ? 4 : 8;
        in->imm_at = (uint8_t)i;
        in->imm_size = (uint8_t)imm;
        i += imm;
    } else if (attr & R1) {
        in->rel_size = 1;
        in->rel = (int8_t)p[i++]; /* NOLINT(bugprone-signed-char-misuse): a signed number */
    } else if (attr & R4) {
        in->rel_size = 4;
        in->rel = get32(p + i);
        i += 4;
    }
    if (i > left || i > X86_INSN_MAX)
        return 0;
    in->len = (uint8_t)i;
    if (attr & K) {
        in->kind = (uint8_t)classify(in);
        if (in->kind == X86_XBEGIN) {
            in->rel_size = in->imm_size;
            in->rel = in->imm_size == 4 ? get32(p + i - 4) : 0;
        }
    }
    return i;
}

enum x86_flags_use x86_flags_use(const struct x86_instr *in)
{
    unsigned op = in->opcode;

    switch (in->kind) {
    case X86_NOP:
    case X86_ENDBR:
        return X86_FLAGS_UNTOUCHED;
    case X86_JCC:
        return X86_FLAGS_READ;
    case X86_CALL:
    case X86_RET:
    case X86_HALT:
    case X86_SYSCALL:
        return X86_FLAGS_WRITTEN; /* the psABI keeps nothing but DF across calls */
    case X86_OTHER:
        break;
    default:
        return X86_FLAGS_UNSURE;
    }
    if (in->map == 1) {
        if ((op >= 0x40 && op <= 0x4f) || (op >= 0x90 && op <= 0x9f))
            return X86_FLAGS_READ; /* cmovcc, setcc */
        if (op == 0xb6 || op == 0xb7 || op == 0xbe || op == 0xbf || op == 0x10 || op == 0x11 || op == 0x28 ||
            op == 0x29 || op == 0x6e || op == 0x6f || op == 0x7e || op == 0x7f || op == 0xd6 || op == 0xef)
            return X86_FLAGS_UNTOUCHED; /* movzx, movsx, vector moves */
        return X86_FLAGS_UNSURE;
    }
    if (in->map)
        return X86_FLAGS_UNSURE;
    switch (op) {
    case 0x10 ... 0x15:
    case 0x18 ... 0x1d:
    case 0x9c: /* adc, sbb, pushf */
    case 0x9f: /* lahf */
    case 0xf5: /* cmc */
        return X86_FLAGS_READ;
    case 0x00 ... 0x05:
    case 0x08 ... 0x0d:
    case 0x20 ... 0x25:
    case 0x28 ... 0x2d:
    case 0x30 ... 0x35:
    case 0x38 ... 0x3d:
    case 0x84 ... 0x85:
    case 0xa8 ... 0xa9:
    case 0x69:
    case 0x6b:
        return X86_FLAGS_WRITTEN;
    case 0x80:
    case 0x81:
    case 0x83: {
        unsigned reg = (in->modrm >> 3) & 7;

        return reg == 2 || reg == 3 ? X86_FLAGS_READ : X86_FLAGS_WRITTEN;
    }
    case 0xf6:
    case 0xf7: {
        unsigned reg = (in->modrm >> 3) & 7;

        return reg == 2 ? X86_FLAGS_UNTOUCHED : reg == 0 || reg == 1 || reg == 3 ? X86_FLAGS_WRITTEN : X86_FLAGS_UNSURE;
    }
    case 0x50 ... 0x5f: /* push, pop */
    case 0x63:          /* movslq */
    case 0x68:
    case 0x6a:
    case 0x86 ... 0x8b: /* xchg, mov */
    case 0x8d:          /* lea */
    case 0x91 ... 0x99:
    case 0xb0 ... 0xbf:
    case 0xc6 ... 0xc7:
    case 0xc9: /* leave */
        return X86_FLAGS_UNTOUCHED;
    default:
        return X86_FLAGS_UNSURE;
    }
}
