/* SPDX-License-Identifier: Apache-2.0 */
#include "model/desc.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct desc *fd_make(struct fd_table *t, int64_t fd)
{
    unsigned page;

    if (fd < 0 || fd >= FD_LIMIT)
        return NULL;
    page = (unsigned)fd / FD_PAGE;
    if (page >= t->pages) {
        unsigned pages = page + 1 + (page >= 8 ? page / 2 : 0);

        if (t->budget && t->budget->pages >= FD_PAGES_MAX)
            return NULL;
        t->page = xrealloc(t->page, pages, sizeof(*t->page));
        memset(t->page + t->pages, 0, (pages - t->pages) * sizeof(*t->page));
        t->pages = pages;
    }
    if (!t->page[page]) {
        if (!t->budget) {
            t->budget = xcalloc(1, sizeof(*t->budget));
            t->budget->refs = 1;
        }
        if (t->budget->pages >= FD_PAGES_MAX)
            return NULL;
        t->budget->pages++;
        t->page[page] = xcalloc(FD_PAGE, sizeof(struct desc));
    }
    return &t->page[page][fd % FD_PAGE];
}

static void leave_budget(struct fd_table *t, unsigned pages)
{
    if (!t->budget)
        return;
    t->budget->pages -= pages;
    if (!--t->budget->refs)
        free(t->budget);
    t->budget = NULL;
}

void fd_table_part(struct fd_table *t)
{
    unsigned pages = 0;

    if (!t->budget || t->budget->refs == 1)
        return;
    for (unsigned i = 0; i < t->pages; i++)
        pages += t->page[i] != NULL;
    leave_budget(t, pages);
    t->budget = xcalloc(1, sizeof(*t->budget));
    *t->budget = (struct fd_budget){1, pages};
}

void fd_table_each(struct fd_table *t, void (*fn)(void *ctx, int fd, struct desc *d), void *ctx)
{
    for (unsigned i = 0; i < t->pages; i++)
        for (unsigned k = 0; t->page[i] && k < FD_PAGE; k++)
            if (t->page[i][k].file)
                fn(ctx, (int)(i * FD_PAGE + k), &t->page[i][k]);
}

/* The copy of a descriptor in a child: the same file, nothing done with it yet. */
void fd_table_copy(struct fd_table *to, const struct fd_table *from)
{
    *to = (struct fd_table){.budget = from->budget};
    if (to->budget)
        to->budget->refs++;
    for (unsigned i = from->pages; i-- > 0;) {
        if (!from->page[i])
            continue;
        for (unsigned k = 0; k < FD_PAGE; k++) {
            const struct desc *d = &from->page[i][k];
            struct desc *copy;

            if (!d->file)
                continue;
            copy = fd_get(to, (int64_t)i * FD_PAGE + k, true);
            if (!copy)
                break;
            *copy = (struct desc){.file = file_ref(d->file), .gen = d->gen, .want = d->want, .label = d->label,
                                  .channel = d->channel, .open_ns = d->open_ns,
                                  .flags = (uint8_t)(d->flags & ~DF_REPORTED)};
        }
    }
}

void fd_table_free(struct model *m, struct fd_table *t)
{
    unsigned pages = 0;

    for (unsigned i = 0; i < t->pages; i++) {
        if (!t->page[i])
            continue;
        pages++;
        for (unsigned k = 0; k < FD_PAGE; k++)
            if (t->page[i][k].file)
                file_unref(m, t->page[i][k].file);
        free(t->page[i]);
    }
    leave_budget(t, pages);
    free(t->page);
    *t = (struct fd_table){0};
}
