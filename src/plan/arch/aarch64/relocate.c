/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/aarch64/relocate.h"

bool a64_movable(const struct text *c, uint64_t vaddr)
{
    uint32_t w;

    if (!text_word(c, vaddr, &w))
        return false;
    switch (a64_kind(w)) {
    case A64_CALL: case A64_CALLREG: /* blr x30 needs what it writes */
        return !c->gcs && (a64_kind(w) == A64_CALL || (w >> 5 & 31) != A64_X30);
    case A64_KERNEL: case A64_BAD: case A64_TRAP:
        return false;
    case A64_LITERAL:
        /* Of general registers: as an address and a load. Vector registers have none to hold the address; prefetching
         * what is elsewhere is harmless, but useless. */
        return !(w >> 26 & 1) && (w & 31) != A64_XZR;
    default:
        return true;
    }
}

/* Loads a vaddr of the image into a register: ldr reg, 1f; b 2f; 1: the address; 2: */
static void load_address(struct emit *e, unsigned reg, uint64_t vaddr)
{
    emit_word(e, 0x58000000u | 2u << 5 | reg);
    emit_word(e, A64_B | 3u);
    emit_abs_vaddr(e, vaddr);
}

void a64_relocate(struct emit *e, const struct text *c, uint64_t vaddr, bool back)
{
    uint32_t w = 0;
    uint64_t target;

    text_word(c, vaddr, &w);
    target = a64_target(w, vaddr);
    switch (a64_kind(w)) {
    case A64_JUMP:
        emit_branch_vaddr(e, A64_B, target);
        return;
    case A64_CALL: case A64_CALLREG: /* a jump with the return address that it would have there */
        load_address(e, A64_X30, vaddr + A64_SIZE);
        if (a64_kind(w) == A64_CALL)
            emit_branch_vaddr(e, A64_B, target);
        else
            emit_word(e, w & ~(1u << 21)); /* blr, blraa and so on: br, braa */
        return;
    case A64_BRANCH:
        /* The same condition, over a jump that reaches further: b.cond #8; b next; b target; next. */
        if ((w & 0x7e000000) == 0x36000000) /* tbz, tbnz: 14 bits */
            emit_word(e, (w & ~(0x3fffu << 5)) | 2u << 5);
        else
            emit_word(e, (w & ~(0x7ffffu << 5)) | 2u << 5);
        if (back)
            emit_branch_vaddr(e, A64_B, vaddr + A64_SIZE);
        else
            emit_word(e, A64_B | 2u);
        emit_branch_vaddr(e, A64_B, target);
        return;
    case A64_ADR: case A64_ADRP:
        load_address(e, w & 31, target);
        break;
    case A64_LITERAL: {
        /* ldr wN, ldr xN, ldrsw xN (opc 0, 1, 2); prfm (3) prefetches nothing */
        static const uint32_t loads[3] = {0xb9400000u, 0xf9400000u, 0xb9800000u};
        unsigned reg = w & 31, opc = w >> 30;

        if (opc < 3) {
            load_address(e, reg, target);
            emit_word(e, loads[opc] | reg << 5 | reg);
        }
        break;
    }
    case A64_RET: case A64_INDIRECT:
        emit_word(e, w);
        return;
    default:
        emit_word(e, w);
    }
    if (back)
        emit_branch_vaddr(e, A64_B, vaddr + A64_SIZE);
}
