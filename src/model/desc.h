/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptors of a process, by number.
 */
#ifndef SCOPE_MODEL_DESC_H
#define SCOPE_MODEL_DESC_H

#include <stdbool.h>
#include <stdint.h>

#include "model/file.h"

#define FD_LIMIT (1 << 20)  /* descriptors from here on are not modelled (fs.nr_open of a usual kernel) */

enum desc_flag {
    DF_CLOEXEC  = 1 << 0,
    DF_REPORTED = 1 << 1, /* fs.open was reported by this process */
    DF_PORT     = 1 << 2, /* counts in net.port of this process */
    DF_CONN     = 1 << 3, /* counts in net.tcp, net.udp or net.other of this process */
    DF_BLIND    = 1 << 5, /* records before it were lost: the next difference of counters isn't only its own */
    DF_LABEL    = 1 << 4, /* one of the three standard streams, or a duplicate: known by the stream's name */
    DF_STREAM   = 1 << 6, /* ... or the same file, opened once more, which has its own name */
};

/* Counters of one descriptor: bytes, operations and nanoseconds, each way. */
struct io_count {
    uint64_t rb, ro, rt, wb, wo, wt;
};

/* A descriptor number of a process. */
struct desc {
    struct file *file;        /* NULL: not open as far as we know */
    uint32_t gen;             /* fd_entry.gen that began with it */
    uint8_t flags;            /* enum desc_flag */
    uint8_t want;             /* enum fd_want */
    uint8_t label;            /* DF_STREAM: 0, 1, 2 */
    uint64_t channel, open_ns;
    struct io_count n;        /* since it was opened (by this process, since it was inherited) */
    /* These belong to the number, not to what it refers to: */
    struct io_count seen;     /* fd_entry values accounted for, ticks as such; of the process's own segment */
    uint32_t next_gen;        /* generation that the next open of this number begins, if none is missed */
    struct io_count said;     /* part of what seen doesn't contain yet that records have reported one by one */
    uint32_t unsaid_seen, unsaid_gen;
    /* A socket's, by enum proto_dir: */
    uint64_t pos[2];          /* value of the counter up to which its stream knows what passed, or, of datagrams, that it
                               * would have if only those had passed that the stream knows; DESC_NO_POS: not known */
    uint64_t skip[2];         /* ... up to which the probe was told not to capture */
};
#define DESC_NO_POS UINT64_MAX

#define FD_PAGE 64
/* Of all descriptors of a process, of its forks that are under way and of the children that share its ring: what records
 * claim costs a process nothing. */
#define FD_PAGES_MAX 4096u
struct fd_budget {
    unsigned refs, pages;
};

struct fd_table {
    struct desc **page;       /* FD_PAGE descriptors each, NULL where none is open */
    unsigned pages;
    struct fd_budget *budget; /* NULL as long as there are no pages */
};

/* A slot for fd, made if there is none; NULL: fd is impossible, or there are too many. */
struct desc *fd_make(struct fd_table *t, int64_t fd);
/* The slot of fd, or NULL if there is none (create: only as with fd_make()). */
static inline struct desc *fd_get(struct fd_table *t, int64_t fd, bool create)
{
    uint64_t page = (uint64_t)fd / FD_PAGE; /* of a negative number beyond all that there are */

    if (page < t->pages && t->page[page])
        return &t->page[page][(uint64_t)fd % FD_PAGE];
    return create ? fd_make(t, fd) : NULL;
}
/* What there is no room for is left out. */
void fd_table_copy(struct fd_table *to, const struct fd_table *from);
void fd_table_free(struct model *m, struct fd_table *t);
/* It counts for nobody else any more. */
void fd_table_part(struct fd_table *t);
/* Calls fn for each open descriptor. */
void fd_table_each(struct fd_table *t, void (*fn)(void *ctx, int fd, struct desc *d), void *ctx);

#endif
