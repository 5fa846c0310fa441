/* SPDX-License-Identifier: Apache-2.0 */
#include "state.h"

#include <asm/errno.h>

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *x = a, *y = b;

    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

HIDDEN bool mem_readable(const void *p, size_t n)
{
    uintptr_t at = (uintptr_t)p, end = at + n;

    if (at < PROBE_PAGE) /* never mapped; and a NULL set isn't read at all */
        return false;
    if (end < at || end > UINT64_C(0x00007ffffffff000))
        return false;
    if (!n)
        return true;
    if (probe.sandboxed)
        return false;
    /* 8 bytes are read at a time: from the start of each page, so that they don't reach into the next. */
    for (at &= ~(PROBE_PAGE - 1); at < end; at += PROBE_PAGE)
        if (SYS4(__NR_rt_sigprocmask, -1, at, 0, 8) == -EFAULT)
            return false;
    return true;
}

HIDDEN size_t mem_string(const char *s, size_t max)
{
    size_t n = 0;

    while (n < max) {
        size_t room = PROBE_PAGE - ((uintptr_t)(s + n) & (PROBE_PAGE - 1)), got;

        if (!mem_readable(s + n, 1))
            return MEM_BAD;
        room = MIN(room, max - n);
        got = str_len(s + n, room);
        n += got;
        if (got < room)
            return n;
    }
    return max;
}
