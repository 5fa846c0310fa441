/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/functions.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Far more than a program has copies of a library. */
#define MAX_FOUND 4096u

struct search {
    struct functions *found;
    bool witness[FNF_MAX];
};

void functions_add(struct functions *f, uint64_t vaddr, enum fn_id fn, enum plan_reason reason)
{
    if (f->count >= MAX_FOUND)
        return;
    f->v = xrealloc(f->v, f->count + 1, sizeof(*f->v));
    f->v[f->count++] = (struct function){vaddr, fn, reason};
}

static void look(void *arg, const char *name, uint64_t vaddr)
{
    static const char *const witnesses[FNF_MAX] = FN_WITNESSES;
    struct search *s = arg;

    for (unsigned i = 0; i < FNF_MAX; i++)
        s->witness[i] |= *witnesses[i] && strcmp(name, witnesses[i]) == 0;
    for (unsigned fn = 0; fn < FN_MAX; fn++)
        if (*name == *fn_name(fn) && strcmp(name, fn_name(fn)) == 0)
            functions_add(s->found, vaddr, (enum fn_id)fn, PLAN_OK);
}

static int compare(const void *a, const void *b)
{
    const struct function *x = a, *y = b;

    if (x->vaddr != y->vaddr)
        return x->vaddr < y->vaddr ? -1 : 1;
    return x->fn < y->fn ? -1 : x->fn > y->fn;
}

void functions_find(const struct elf_image *elf, struct functions *ret)
{
    struct search s = {.found = ret};
    size_t n = 0;

    *ret = (struct functions){0};
    elf_each_function(elf, look, &s);
    if (ret->count)
        qsort(ret->v, ret->count, sizeof(*ret->v), compare);
    for (size_t i = 0; i < ret->count; i++)
        if (s.witness[fn_table[ret->v[i].fn].family] && (!n || ret->v[i].vaddr != ret->v[n - 1].vaddr))
            ret->v[n++] = ret->v[i];
    ret->count = n;
}

void functions_free(struct functions *f)
{
    free(f->v);
    *f = (struct functions){0};
}
