/* SPDX-License-Identifier: Apache-2.0 */
/* Finding blocks in a file that may be damaged. */
#ifndef SCOPE_JOURNAL_SCAN_H
#define SCOPE_JOURNAL_SCAN_H

#include "journal/format.h"

enum block_at {
    BLOCK_AT_WHOLE, /* a head that is right, and as many bytes as it says */
    BLOCK_AT_END,   /* the file ends before */
    BLOCK_AT_NONE,  /* something else */
};

/* What begins at an offset of a file of `size` bytes. */
enum block_at block_at(int fd, uint64_t offset, uint64_t size, struct block_head *ret);
/* The first BLOCK_AT_WHOLE at or behind `from`. None, if a block begins there that is not all there: what is in it is data. */
bool block_find(int fd, uint64_t from, uint64_t size, uint64_t *ret, struct block_head *head);
/* The one that ends at `end`. */
bool block_before(int fd, uint64_t end, uint64_t *ret, struct block_head *head);
/* Whether all check sums of a block are right. */
bool block_whole(int fd, uint64_t offset, const struct block_head *h);

#endif
