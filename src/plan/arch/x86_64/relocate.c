/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/x86_64/relocate.h"

#include <stdbool.h>
#include <string.h>

#define JUMP_SIZE 5
#define SHORT_REACH 127

static bool is_arrival(unsigned marks)
{
    return (marks & (CODE_TARGET | CODE_ENTRY)) != 0;
}

static int is_padding(const struct x86_instr *in)
{
    return in->kind == X86_NOP || in->kind == X86_INT3;
}

/* Why the bytes [lo, hi) may not be replaced; arrivals at lo itself don't matter. */
static enum plan_reason bytes_free(const struct code *c, uint64_t lo, uint64_t hi)
{
    for (uint64_t v = lo; v < hi; v++) {
        const uint8_t *m = code_marks(c, v);

        if (!m || (*m & CODE_BAD))
            return PLAN_R_NO_ROOM;
        if (*m & CODE_TAKEN)
            return PLAN_R_OVERLAP;
        if (*m & CODE_FIXED)
            return PLAN_R_RSEQ;
        if (*m & CODE_CANCEL)
            return PLAN_R_CANCEL_RANGE;
        if (v != lo && is_arrival(*m))
            return PLAN_R_BRANCH_TARGET;
    }
    return PLAN_OK;
}

/* Can this instruction be moved? A call only if its return address is outside of the region: the last one. */
static int movable(const struct x86_instr *in)
{
    switch (in->kind) {
    case X86_OTHER:
    case X86_NOP:
    case X86_JMP:
    case X86_JCC:
    case X86_RET:
    case X86_HALT:
        return 1;
    case X86_CALL:
        /* Direct, or through a register or a rip-relative word: the stack pointer moves before the operand is read. */
        if (in->rel_size)
            return 1;
        return in->opcode_at == (in->rex != 0) && (in->modrm >> 3 & 7) == 2 && (in->modrm & 0xc7) != 0xc4 &&
               (in->modrm >= 0xc0 || in->rip_at);
    default: /* endbr64 marks a place where indirect branches arrive; loops have no long form */
        return 0;
    }
}

enum plan_reason region_after(const struct code *c, uint64_t vaddr, unsigned need, struct region *r)
{
    uint64_t v = vaddr;

    memset(r, 0, sizeof(*r));
    r->lo = r->hi = vaddr;
    while (v - vaddr < need) {
        struct x86_instr in;
        const uint8_t *m = code_marks(c, v);
        enum plan_reason why;

        if (!m || !code_decode(c, v, &in) || !(*m & CODE_START))
            return PLAN_R_NO_ROOM;
        if (r->ends && !is_padding(&in))
            return PLAN_R_NO_ROOM;
        if (v != vaddr && is_arrival(*m))
            return r->ends ? PLAN_R_NO_ROOM : PLAN_R_BRANCH_TARGET;
        why = bytes_free(c, v, v + in.len);
        if (why)
            return why;
        if (!r->ends) {
            if (r->has_call || !movable(&in) || r->count == REGION_MAX_INSNS)
                return PLAN_R_RELOCATE;
            r->insn[r->count++] = v;
            r->ends = x86_ends_flow(&in);
            r->has_call = in.kind == X86_CALL;
        }
        v += in.len;
    }
    r->hi = v;
    return PLAN_OK;
}

enum plan_reason region_before(const struct code *c, uint64_t vaddr, unsigned need, struct region *r)
{
    uint64_t v = vaddr, list[REGION_MAX_INSNS];
    unsigned n = 0;

    memset(r, 0, sizeof(*r));
    r->lo = r->hi = vaddr;
    while (vaddr - v < need) {
        struct x86_instr in;
        const uint8_t *m = code_marks(c, v);
        uint64_t prev = code_prev(c, v, &in);
        enum plan_reason why;

        if (v != vaddr && m && is_arrival(*m))
            return PLAN_R_BRANCH_TARGET;
        if (!prev || x86_ends_flow(&in))
            return PLAN_R_NO_ROOM;
        if (!movable(&in) || in.kind == X86_CALL || n == REGION_MAX_INSNS)
            return PLAN_R_RELOCATE;
        why = bytes_free(c, prev, v);
        if (why)
            return why;
        list[n++] = prev;
        v = prev;
    }
    r->lo = v;
    while (n)
        r->insn[r->count++] = list[--n];
    return PLAN_OK;
}

enum plan_reason region_around(const struct code *c, uint64_t vaddr, unsigned need, struct region *before,
                               struct region *after)
{
    const uint8_t *at = code_marks(c, vaddr), *behind = code_marks(c, vaddr + 2);
    enum plan_reason why = at && code_marks(c, vaddr + 1) ? bytes_free(c, vaddr, vaddr + 2) : PLAN_R_NO_ROOM;

    if (why)
        return why;
    /* As much as possible in front of the syscall; nothing if control may arrive at it. */
    for (int in_front = (int)need - 2; in_front >= 0; in_front--) {
        unsigned rest;

        why = in_front && is_arrival(*at) ? PLAN_R_BRANCH_TARGET : region_before(c, vaddr, (unsigned)in_front, before);
        if (why)
            continue;
        rest = vaddr - before->lo + 2 < need ? need - 2 - (unsigned)(vaddr - before->lo) : 0;
        why = rest && behind && is_arrival(*behind) ? PLAN_R_BRANCH_TARGET : region_after(c, vaddr + 2, rest, after);
        if (!why)
            return PLAN_OK;
    }
    return why;
}

void region_take(const struct code *c, uint64_t lo, uint64_t hi)
{
    for (uint64_t v = lo; v < hi; v++) {
        uint8_t *m = code_marks(c, v);

        if (m)
            *m |= CODE_TAKEN;
    }
}

uint64_t find_padding(const struct code *c, const struct region *r)
{
    /* The 2-byte jump counts from its end. Close by first: likelier to be in the same cache line. */
    for (uint64_t distance = 0; distance <= SHORT_REACH; distance++)
        for (int backward = 0; backward < 2; backward++) {
            uint64_t v = backward ? r->lo + 2 - distance : r->lo + 2 + distance, end = v;
            const uint8_t *m = code_marks(c, v);
            struct x86_instr in;

            if (!m || !(*m & CODE_START) || is_arrival(*m) || !code_prev(c, v, &in) || !x86_ends_flow(&in))
                continue;
            while (end - v < JUMP_SIZE) {
                m = code_marks(c, end);
                if (!m || !(*m & CODE_START) || is_arrival(*m) || !code_decode(c, end, &in) || !is_padding(&in))
                    break;
                end += in.len;
            }
            if (end - v >= JUMP_SIZE && bytes_free(c, v, end) == PLAN_OK && (v >= r->hi || end <= r->lo))
                return v;
        }
    return 0;
}

static void relocate_call(struct emit *e, uint64_t v, const struct x86_instr *in)
{
    static const uint8_t push_literal[] = {0xff, 0x35}, jmp[] = {0xe9};
    unsigned tail = in->rel_size ? 5 : in->rip_at ? 6 : 2 + (in->rex != 0); /* bytes of the jump */
    uint8_t indirect[3];
    unsigned n = 0;

    /* push $return_address (a literal behind the jump); jmp function: no register or flag is touched */
    emit_code(e, push_literal, sizeof(push_literal));
    emit_rel_blob(e, e->at + 4 + tail, 0);
    if (in->rel_size) {
        emit_code(e, jmp, sizeof(jmp));
        emit_rel_vaddr(e, x86_rel_target(v, in), 0);
    } else {
        if (in->rex && !in->rip_at)
            indirect[n++] = in->rex;
        indirect[n++] = 0xff;
        indirect[n++] = (uint8_t)((in->modrm & 0xc7) | 4 << 3);
        emit_code(e, indirect, n);
        if (in->rip_at)
            emit_rel_vaddr(e, x86_rel_target(v, in), 0);
    }
    emit_abs_vaddr(e, v + in->len);
}

void relocate(struct emit *e, const struct code *c, const struct region *r, int jump_back)
{
    static const uint8_t jmp = 0xe9;

    for (unsigned i = 0; i < r->count; i++) {
        struct x86_instr in;
        uint64_t v = r->insn[i];
        size_t left;
        const uint8_t *p = code_bytes(c, v, &left);

        code_decode(c, v, &in);
        if (in.kind == X86_CALL) {
            relocate_call(e, v, &in);
        } else if (in.kind == X86_JMP && in.rel_size) {
            emit_code(e, &jmp, 1);
            emit_rel_vaddr(e, x86_rel_target(v, &in), 0);
        } else if (in.kind == X86_JCC) {
            uint8_t jcc[2] = {0x0f, (uint8_t)(0x80 | (in.opcode & 0x0f))};

            emit_code(e, jcc, sizeof(jcc));
            emit_rel_vaddr(e, x86_rel_target(v, &in), 0);
        } else if (in.rip_at) {
            emit_code(e, p, in.rip_at);
            emit_rel_vaddr(e, x86_rel_target(v, &in), in.len - in.rip_at - 4u);
            emit_code(e, p + in.rip_at + 4, in.len - in.rip_at - 4u);
        } else {
            emit_code(e, p, in.len);
        }
    }
    if (jump_back && !r->ends && !r->has_call) {
        emit_code(e, &jmp, 1);
        emit_rel_vaddr(e, r->hi, 0);
    }
}

int flags_dead(const struct code *c, uint64_t vaddr)
{
    for (unsigned n = 0; n < 16; n++) {
        struct x86_instr in;

        if (!code_decode(c, vaddr, &in))
            return -1;
        if (in.kind == X86_JMP && in.rel_size) {
            vaddr = x86_rel_target(vaddr, &in);
            continue;
        }
        switch (x86_flags_use(&in)) {
        case X86_FLAGS_UNTOUCHED:
            vaddr += in.len;
            continue;
        case X86_FLAGS_WRITTEN:
            return 1;
        case X86_FLAGS_READ:
            return 0;
        default:
            return -1;
        }
    }
    return -1;
}
