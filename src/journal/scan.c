/* SPDX-License-Identifier: Apache-2.0 */
/* Finding blocks in a file that may be damaged. */
#include <stdlib.h>
#include <sys/types.h>

#include "base/mem.h"
#include "journal/format.h"
#include "journal/scan.h"

#define PIECE (64u << 10)

enum block_at block_at(int fd, uint64_t offset, uint64_t size, struct block_head *ret)
{
    uint8_t head[BLOCK_HEAD];

    if (offset > size || size - offset < BLOCK_HEAD || read_at(fd, head, sizeof(head), offset) != BLOCK_HEAD)
        return BLOCK_AT_END;
    if (!block_head_get(head, ret))
        return BLOCK_AT_NONE;
    return ret->len > size - offset ? BLOCK_AT_END : BLOCK_AT_WHOLE;
}

bool block_find(int fd, uint64_t from, uint64_t size, uint64_t *ret, struct block_head *head)
{
    uint8_t magic[4], *piece;
    bool found = false;

    /* What is in a block that isn't all there was written by the observed programs: blocks in it are none. */
    if (block_at(fd, from, size, head) == BLOCK_AT_END)
        return false;
    piece = xmalloc(PIECE);
    put_u32(magic, BLOCK_MAGIC);
    while (!found && from < size) {
        ssize_t n = read_at(fd, piece, PIECE, from);
        uint8_t *p = piece;

        if (n < (ssize_t)sizeof(magic))
            break;
        while (!found && (p = memmem(p, (size_t)(piece + n - p), magic, sizeof(magic)))) {
            *ret = from + (uint64_t)(p++ - piece);
            found = block_at(fd, *ret, size, head) == BLOCK_AT_WHOLE;
        }
        from += (uint64_t)n - (sizeof(magic) - 1);
    }
    free(piece);
    return found;
}

bool block_whole(int fd, uint64_t offset, const struct block_head *h)
{
    uint8_t trail[BLOCK_TRAIL], *bytes;
    bool ok;

    if (read_at(fd, trail, sizeof(trail), offset + h->len - BLOCK_TRAIL) != BLOCK_TRAIL || get_u32(trail) != h->len ||
        get_u32(trail + 4) != BLOCK_END)
        return false;
    bytes = xmalloc(h->len);
    ok = read_at(fd, bytes, h->len, offset) == (ssize_t)h->len &&
         crc32c(bytes + BLOCK_HEAD, h->body_len) == h->body_crc &&
         crc32c(bytes + BLOCK_HEAD + h->body_len, h->index_len) == h->index_crc;
    free(bytes);
    return ok;
}

bool block_before(int fd, uint64_t end, uint64_t *ret, struct block_head *head)
{
    uint8_t trail[BLOCK_TRAIL];
    uint32_t len;

    if (end < JOURNAL_HEAD + BLOCK_HEAD + BLOCK_TRAIL ||
        read_at(fd, trail, sizeof(trail), end - BLOCK_TRAIL) != BLOCK_TRAIL || get_u32(trail + 4) != BLOCK_END)
        return false;
    len = get_u32(trail);
    if (len > end - JOURNAL_HEAD)
        return false;
    *ret = end - len;
    return block_at(fd, *ret, end, head) == BLOCK_AT_WHOLE && head->len == len;
}
