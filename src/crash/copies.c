/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/copies.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/mem.h"

const struct copy *copies_at(const struct copies *c, uint64_t address)
{
    for (size_t i = 0; i < c->count; i++)
        if (address - c->v[i].lo < c->v[i].hi - c->v[i].lo)
            return &c->v[i];
    return NULL;
}

uint64_t copies_take(struct copies *c, pid_t pid, uint64_t lo, uint64_t hi)
{
    const struct copy *have;
    uint64_t from = lo, got = 0;
    uint8_t *bytes;

    while (from < hi && (have = copies_at(c, from)))
        from = have->hi;
    if (from >= hi)
        return hi - lo;
    if (hi - from > COPIES_MAX - c->total)
        hi = from + (COPIES_MAX - c->total);
    if (from >= hi)
        return from - lo;
    bytes = xmalloc(hi - from);
    while (from + got < hi) {
        struct iovec local = {bytes + got, hi - from - got};
        struct iovec remote = {(void *)(uintptr_t)(from + got), hi - from - got}; // NOLINT(performance-no-int-to-ptr)
        ssize_t n = process_vm_readv(pid, &local, 1, &remote, 1, 0);

        if (n <= 0)
            break;
        got += (uint64_t)n;
    }
    if (!got) {
        free(bytes);
        return from - lo;
    }
    if (c->count == c->room) {
        c->room = c->room ? 2 * c->room : 64;
        c->v = xrealloc(c->v, c->room, sizeof(*c->v));
    }
    c->v[c->count++] = (struct copy){from, from + got, bytes};
    c->total += got;
    return from - lo + got;
}

bool copies_read(const struct copies *c, uint64_t address, void *to, size_t size)
{
    uint8_t *p = to;

    while (size) {
        const struct copy *v = copies_at(c, address);
        size_t n = v ? (size_t)(v->hi - address) : 0;

        if (!n)
            return false;
        n = n < size ? n : size;
        memcpy(p, v->bytes + (address - v->lo), n);
        p += n;
        address += n;
        size -= n;
    }
    return true;
}

void copies_free(struct copies *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->v[i].bytes);
    free(c->v);
    *c = (struct copies){0};
}
