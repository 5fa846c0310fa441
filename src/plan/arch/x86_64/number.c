/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/x86_64/number.h"

#include <errno.h>
#include <string.h>

/* Bounds: of an image (libc needs some 10,000 steps) and of one search (real code needs a few dozen). */
#define MAX_IMAGE_STEPS 500000
#define MAX_STEPS 600
#define MAX_DEPTH 12
#define MAX_VISITED 64

enum value_kind {
    VALUE_NONE, /* no path seen (yet): a loop that only comes back to itself */
    VALUE_CONST,
    VALUE_UNKNOWN,
};

struct value {
    enum value_kind kind;
    uint64_t v;
};

/* As instructions number them. */
static const x86_reg numbered[16] = {
    X86_REG_RAX, X86_REG_RCX, X86_REG_RDX, X86_REG_RBX, X86_REG_RSP, X86_REG_RBP, X86_REG_RSI, X86_REG_RDI,
    X86_REG_R8,  X86_REG_R9,  X86_REG_R10, X86_REG_R11, X86_REG_R12, X86_REG_R13, X86_REG_R14, X86_REG_R15,
};

static const struct value unknown = {VALUE_UNKNOWN, 0}, zero = {VALUE_CONST, 0};

struct search {
    struct number_finder *f;
    const struct code *c;
    unsigned steps;
    unsigned visited_count;
    struct {
        uint64_t vaddr;
        x86_reg reg;
    } visited[MAX_VISITED];
};

int number_open(struct number_finder *f)
{
    memset(f, 0, sizeof(*f));
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &f->handle) != CS_ERR_OK)
        return -ENOMEM;
    cs_option(f->handle, CS_OPT_DETAIL, CS_OPT_ON);
    f->insn = cs_malloc(f->handle);
    if (!f->insn) {
        cs_close(&f->handle);
        return -ENOMEM;
    }
    return 0;
}

void number_close(struct number_finder *f)
{
    cs_free(f->insn, 1);
    cs_close(&f->handle);
}

/* The 64-bit register that a register is part of. */
static x86_reg whole(unsigned reg)
{
    switch (reg) {
#define GROUP(r64, r32, r16, r8) \
    case X86_REG_##r64: \
    case X86_REG_##r32: \
    case X86_REG_##r16: \
    case X86_REG_##r8: \
        return X86_REG_##r64;
    case X86_REG_AH:
        return X86_REG_RAX;
    case X86_REG_BH:
        return X86_REG_RBX;
    case X86_REG_CH:
        return X86_REG_RCX;
    case X86_REG_DH:
        return X86_REG_RDX;
        GROUP(RAX, EAX, AX, AL)
        GROUP(RBX, EBX, BX, BL)
        GROUP(RCX, ECX, CX, CL)
        GROUP(RDX, EDX, DX, DL)
        GROUP(RSI, ESI, SI, SIL)
        GROUP(RDI, EDI, DI, DIL)
        GROUP(RBP, EBP, BP, BPL)
        GROUP(RSP, ESP, SP, SPL)
        GROUP(R8, R8D, R8W, R8B)
        GROUP(R9, R9D, R9W, R9B)
        GROUP(R10, R10D, R10W, R10B)
        GROUP(R11, R11D, R11W, R11B)
        GROUP(R12, R12D, R12W, R12B)
        GROUP(R13, R13D, R13W, R13B)
        GROUP(R14, R14D, R14W, R14B)
        GROUP(R15, R15D, R15W, R15B)
#undef GROUP
    default:
        return X86_REG_INVALID;
    }
}

static int kept_by_calls(x86_reg reg)
{
    return reg == X86_REG_RBX || reg == X86_REG_RBP || reg == X86_REG_R12 || reg == X86_REG_R13 || reg == X86_REG_R14 ||
           reg == X86_REG_R15;
}

static int disassemble(struct search *s, uint64_t vaddr)
{
    size_t left;
    const uint8_t *p = code_bytes(s->c, vaddr, &left);
    uint64_t address = vaddr;

    if (left > X86_INSN_MAX)
        left = X86_INSN_MAX;
    return p && cs_disasm_iter(s->f->handle, &p, &left, &address, s->f->insn);
}

static int writes(struct search *s, x86_reg reg)
{
    cs_regs read, written;
    uint8_t read_count, written_count;

    if (cs_regs_access(s->f->handle, s->f->insn, read, &read_count, written, &written_count) != CS_ERR_OK)
        return 1;
    for (unsigned i = 0; i < written_count; i++)
        if (whole(written[i]) == reg)
            return 1;
    return 0;
}

static struct value join(struct value a, struct value b)
{
    if (a.kind == VALUE_NONE)
        return b;
    if (b.kind == VALUE_NONE)
        return a;
    return a.kind == VALUE_CONST && b.kind == VALUE_CONST && a.v == b.v ? a : unknown;
}

static struct value value_before(struct search *s, uint64_t vaddr, x86_reg reg, unsigned depth);

/* The value that the instruction at vaddr, just disassembled, leaves in reg, which it writes. */
static struct value value_written(struct search *s, uint64_t vaddr, x86_reg reg, unsigned depth)
{
    const cs_x86 *x = &s->f->insn->detail->x86;
    const cs_x86_op *to = &x->operands[0], *from = &x->operands[1];
    unsigned id = s->f->insn->id, size;
    struct x86_instr prev;
    struct value v;

    if (x->op_count < 1 || to->type != X86_OP_REG || whole(to->reg) != reg)
        return unknown;
    size = to->size;
    if (id == X86_INS_POP && size == 8) {
        uint8_t *m = code_marks(s->c, vaddr);
        uint64_t p = code_prev(s->c, vaddr, &prev);

        if (!m || (*m & (CODE_TARGET | CODE_ENTRY)) || !p || !disassemble(s, p) || s->f->insn->id != X86_INS_PUSH ||
            s->f->insn->detail->x86.operands[0].type != X86_OP_IMM)
            return unknown;
        return (struct value){VALUE_CONST, (uint64_t)s->f->insn->detail->x86.operands[0].imm};
    }
    if (x->op_count != 2)
        return unknown;
    if (id == X86_INS_LEA && size == 8 && from->mem.base == X86_REG_RIP && from->mem.index == X86_REG_INVALID)
        return (struct value){VALUE_CONST, vaddr + s->f->insn->size + (uint64_t)from->mem.disp};
    if ((id == X86_INS_XOR || id == X86_INS_SUB) && size >= 4 && from->type == X86_OP_REG && from->reg == to->reg)
        return zero;
    if (id != X86_INS_MOV && id != X86_INS_MOVABS)
        return unknown;
    if (from->type == X86_OP_IMM) {
        uint64_t imm = (uint64_t)from->imm;

        if (size == 8)
            return (struct value){VALUE_CONST, imm};
        if (size == 4)
            return (struct value){VALUE_CONST, imm & 0xffffffff};
        if (size == 1 && to->reg != X86_REG_AH && to->reg != X86_REG_BH && to->reg != X86_REG_CH &&
            to->reg != X86_REG_DH) {
            v = value_before(s, vaddr, reg, depth + 1);
            v.v = (v.v & ~UINT64_C(0xff)) | (imm & 0xff);
            return v;
        }
        return unknown;
    }
    if (from->type == X86_OP_REG && size >= 4 && whole(from->reg) != X86_REG_INVALID) {
        v = value_before(s, vaddr, whole(from->reg), depth + 1);
        if (size == 4)
            v.v &= 0xffffffff;
        return v;
    }
    return unknown;
}

/* Whether reg is zero when control leaves the conditional jump at vaddr by `taken`: "test %reg,%reg; je". */
static int tested_zero(struct search *s, uint64_t vaddr, const struct x86_instr *jcc, int taken, x86_reg reg)
{
    const uint8_t *m = code_marks(s->c, vaddr);
    struct x86_instr test;
    unsigned a, b;

    if (jcc->kind != X86_JCC || (jcc->opcode & 15) != (taken ? 4 : 5) || !m || (*m & (CODE_TARGET | CODE_ENTRY)) ||
        !code_prev(s->c, vaddr, &test) || test.map != 0 || test.opcode != 0x85 || test.modrm < 0xc0 || test.prefix_66)
        return 0;
    a = (test.modrm >> 3 & 7) | (test.rex & 4 ? 8 : 0);
    b = (test.modrm & 7) | (test.rex & 1 ? 8 : 0);
    return a == b && numbered[a] == reg;
}

/* The value of reg just before the instruction at vaddr runs. */
static struct value value_before(struct search *s, uint64_t vaddr, x86_reg reg, unsigned depth)
{
    struct value seen = {VALUE_NONE, 0};

    if (depth > MAX_DEPTH)
        return unknown;
    for (;;) {
        struct x86_instr in;
        uint8_t *m = code_marks(s->c, vaddr);
        uint64_t prev;

        if (!m || (*m & CODE_ENTRY) || ++s->steps > MAX_STEPS)
            return unknown;
        if (*m & CODE_TARGET) {
            const struct code_edge *e, *end = s->c->edges + s->c->edge_count;

            if (!(*m & CODE_NEAR))
                return unknown;
            for (unsigned i = 0; i < s->visited_count; i++)
                if (s->visited[i].vaddr == vaddr && s->visited[i].reg == reg)
                    return seen;
            if (s->visited_count == MAX_VISITED)
                return unknown;
            s->visited[s->visited_count].vaddr = vaddr;
            s->visited[s->visited_count++].reg = reg;
            for (e = code_edges_to(s->c, vaddr); e && e < end && e->target == vaddr; e++) {
                code_decode(s->c, e->source, &in);
                seen = join(seen,
                            tested_zero(s, e->source, &in, 1, reg) ? zero : value_before(s, e->source, reg, depth + 1));
                if (seen.kind == VALUE_UNKNOWN)
                    return unknown;
            }
        }
        prev = code_prev(s->c, vaddr, &in);
        if (!prev || x86_ends_flow(&in)) {
            /* Nothing falls in here. Padding is dead; other code without a known arrival has an unknown one. */
            if (!(*m & CODE_TARGET) && (!code_decode(s->c, vaddr, &in) || in.kind != X86_NOP))
                return unknown;
            return seen;
        }
        if (tested_zero(s, prev, &in, 0, reg))
            return join(seen, zero);
        if (in.kind == X86_SYSCALL || in.kind == X86_INT) {
            if (reg == X86_REG_RAX || reg == X86_REG_RCX || reg == X86_REG_R11)
                return unknown;
        } else if (in.kind == X86_CALL) {
            if (!kept_by_calls(reg))
                return unknown;
        } else if (in.kind == X86_OTHER) {
            if (!disassemble(s, prev))
                return unknown;
            if (writes(s, reg))
                return join(seen, value_written(s, prev, reg, depth));
        }
        vaddr = prev;
    }
}

int32_t number_find(struct number_finder *f, const struct code *c, uint64_t vaddr)
{
    struct search s = {.f = f, .c = c};
    struct value v = f->steps < MAX_IMAGE_STEPS ? value_before(&s, vaddr, X86_REG_RAX, 0) : unknown;

    f->steps += s.steps;
    /* The kernel looks at eax only (do_syscall_64 takes an int); x32 numbers are none of ours. */
    return v.kind == VALUE_CONST && (uint32_t)v.v <= INT32_MAX ? (int32_t)v.v : -1;
}

int number_register(struct number_finder *f, const struct code *c, uint64_t vaddr, unsigned reg, uint64_t *ret)
{
    struct search s = {.f = f, .c = c};
    struct value v = f->more_steps < MAX_IMAGE_STEPS ? value_before(&s, vaddr, numbered[reg], 0) : unknown;

    f->more_steps += s.steps;
    *ret = v.v;
    return v.kind == VALUE_CONST;
}

#define KEEP_MAX_SIZE \
    512 /* of a function that makes a call whose number it is given: all known ones have less than 200 */

int number_keepable(struct number_finder *f, const struct code *c, uint64_t vaddr)
{
    struct search s = {.f = f, .c = c};
    size_t lo = 0, hi = c->functions.count;
    uint64_t v, end;

    while (lo < hi) { /* the first function behind it */
        size_t mid = lo + (hi - lo) / 2;

        if (c->functions.v[mid] <= vaddr)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return 0;
    v = c->functions.v[lo - 1];
    end = lo < c->functions.count && c->functions.v[lo] < c->go.hi ? c->functions.v[lo] : c->go.hi;
    if (!c->go.exact || end - v > KEEP_MAX_SIZE) /* also if vaddr isn't in Go's text */
        return 0;
    while (v < end) {
        cs_regs read, written;
        uint8_t reads, writes;

        if (!disassemble(&s, v) || cs_regs_access(f->handle, f->insn, read, &reads, written, &writes) != CS_ERR_OK)
            return 0;
        for (unsigned i = 0; i < (unsigned)reads + writes; i++) {
            x86_reg reg = whole(i < reads ? read[i] : written[i - reads]);

            if (reg == X86_REG_R12 || reg == X86_REG_R13)
                return 0;
        }
        v += f->insn->size;
    }
    return 1;
}
