/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of every byte of an image's text: where instructions start,
 * where control may arrive, what must not be touched. One byte of marks per
 * byte of text, made by one linear sweep.
 */
#ifndef SCOPE_PLAN_X86_CODE_H
#define SCOPE_PLAN_X86_CODE_H

#include "plan/arch/x86_64/decode.h"
#include "plan/eh_frame.h"
#include "plan/elf.h"
#include "plan/go.h"

enum code_mark {
    CODE_START = 1 << 0,  /* first byte of an instruction of the sweep */
    CODE_TARGET = 1 << 1, /* of a direct jump; all its sources are in `edges` if the byte is CODE_NEAR */
    CODE_ENTRY = 1 << 2,  /* reached in ways that can't be listed: function, jump table, address taken, landing pad */
    CODE_NEAR = 1 << 3,   /* close to the byte pair of a syscall */
    CODE_TAKEN = 1 << 4,  /* belongs to a patch */
    CODE_FIXED = 1 << 5,  /* must stay as it is: restartable sequence */
    CODE_CANCEL = 1 << 6, /* must stay as it is: PC range of a cancellation point */
    CODE_BAD = 1 << 7,    /* was not decoded */
};

struct code_edge {
    uint64_t target, source;
};

struct code {
    const struct elf_image *elf;
    uint8_t *marks[ELF_MAX_TEXT]; /* of each text range */
    struct code_edge *edges;      /* sorted by target */
    size_t edge_count, edge_cap;
    struct elf_addresses functions; /* symbols, unwind tables and Go's table; sorted */
    struct eh_functions eh;
    struct go_text go;
    uint64_t bad_bytes; /* more than 0: there is data in the text */
};

/* Sweeps the text. 0, -ENOMEM, or -EFBIG if its tables are larger than any program's. The image must outlive it;
 * release with code_free(). */
int code_sweep(const struct elf_image *elf, struct code *c);
void code_free(struct code *c);

/* Marks of the byte at vaddr; NULL if it is not text. */
uint8_t *code_marks(const struct code *c, uint64_t vaddr);
/* The bytes at vaddr and how many follow in its text range; NULL if it is not text. */
const uint8_t *code_bytes(const struct code *c, uint64_t vaddr, size_t *left);
/* Decodes the instruction at vaddr, which need not be one of the sweep. Returns its length or 0. */
unsigned code_decode(const struct code *c, uint64_t vaddr, struct x86_instr *in);
/* The instruction of the sweep that ends at vaddr: its address and, in *in, itself; 0 if there is none. */
uint64_t code_prev(const struct code *c, uint64_t vaddr, struct x86_instr *in);
/* The first edge to vaddr (others follow it in the array), or NULL. */
const struct code_edge *code_edges_to(const struct code *c, uint64_t vaddr);
static inline uint64_t x86_rel_target(uint64_t vaddr, const struct x86_instr *in)
{
    return vaddr + in->len + (uint64_t)(int64_t)in->rel;
}

#endif
