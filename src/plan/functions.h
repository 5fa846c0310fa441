/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the functions of wire/functions.def in an image. */
#ifndef SCOPE_PLAN_FUNCTIONS_H
#define SCOPE_PLAN_FUNCTIONS_H

#include "plan/elf.h"
#include "wire/functions.h"
#include "wire/plan_format.h"

struct function {
    uint64_t vaddr;
    enum fn_id fn;
    enum plan_reason reason; /* why it must be left alone; PLAN_OK: it may be hooked */
};

/* Those of functions_find() are sorted by address; each address once, whatever names it has. */
struct functions {
    struct function *v;
    size_t count;
};

/* Looks among the dynamic symbols and, where there are any, all others: a program may contain a library. */
void functions_find(const struct elf_image *elf, struct functions *ret);
/* One more; behind the others, which is fine. What is too much is left out. */
void functions_add(struct functions *f, uint64_t vaddr, enum fn_id fn, enum plan_reason reason);
void functions_free(struct functions *f);

#endif
