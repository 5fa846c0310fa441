/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text that the Go linker made. Goroutines run it on small stacks, of which its
 * functions without a stack check may use the last bytes: hooks of its system
 * calls need a stack of their own (src/probe/stacks.h).
 *
 * What must be there at run time even in stripped files is the function table
 * (pclntab; runtime/symtab.go and debug/gosym of each Go release): four formats
 * since Go 1.2.
 */
#ifndef SCOPE_PLAN_GO_H
#define SCOPE_PLAN_GO_H

#include "plan/elf.h"
#include "wire/functions.h"

/* A function of FNF_GO: [lo, hi) is all of it, and perhaps some padding. */
struct go_function {
    uint64_t lo, hi;
    enum fn_id fn;
};
#define GO_FUNCTIONS 8

struct go_text {
    uint64_t lo, hi; /* [lo, hi) may be run by goroutines; nothing if lo == hi */
    int exact;       /* there is no C code in it: one table told where it begins and ends */
    unsigned count;  /* of `function`: only where `exact` */
    struct go_function function[GO_FUNCTIONS];
};

/* Whether and where the image holds Go text: its part of the image if the function table can be read, else all of
 * it, which is slower for C code that is linked into the same file, and no less right. Adds the addresses of Go
 * functions to `functions` as far as the table tells them. */
struct go_text go_read(const struct elf_image *elf, struct elf_addresses *functions);

static inline int go_text_at(const struct go_text *go, uint64_t vaddr)
{
    return vaddr - go->lo < go->hi - go->lo;
}

#endif
