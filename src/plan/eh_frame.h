/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions as the unwind tables know them (LSB 5.0, "Exception Frames"; LSDA as
 * written by GCC and LLVM): present even in stripped objects, and the only place
 * that tells where the unwinder may enter a function (landing pads).
 */
#ifndef SCOPE_PLAN_EH_FRAME_H
#define SCOPE_PLAN_EH_FRAME_H

#include "plan/elf.h"

struct eh_function {
    uint64_t start, size;
};

struct eh_functions {
    struct eh_function *v; /* sorted by start */
    size_t count, cap;
    size_t call_sites; /* entries read */
    struct elf_addresses landing_pads;
};

/* Reads the table that PT_GNU_EH_FRAME names; gives nothing if there is none or its encoding is unusual. 0, or -EFBIG
 * if the functions have more landing pads than any program. Release with eh_free() in any case. */
int eh_read(const struct elf_image *elf, struct eh_functions *out);
void eh_free(struct eh_functions *f);
/* The function that holds vaddr, or NULL. */
const struct eh_function *eh_function_at(const struct eh_functions *f, uint64_t vaddr);

#endif
