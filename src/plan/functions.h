/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the functions of wire/functions.def in an image. */
#ifndef SCOPE_PLAN_FUNCTIONS_H
#define SCOPE_PLAN_FUNCTIONS_H

#include "plan/elf.h"
#include "wire/functions.h"

struct function {
    uint64_t vaddr;
    enum fn_id fn;
};

/* Sorted by address; each address once, whatever names it has. */
struct functions {
    struct function *v;
    size_t count;
};

/* Looks among the dynamic symbols and, where there are any, all others: a program may contain a library. */
void functions_find(const struct elf_image *elf, struct functions *ret);
void functions_free(struct functions *f);

#endif
