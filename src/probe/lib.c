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

HIDDEN size_t str_len(const char *s, size_t max)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    unsigned before = (uintptr_t)s & 7; /* bytes of the first word that aren't the string's */
    const char *w = s - before;
    uint64_t v = *(const volatile uint64_t *)(const void *)w | ((UINT64_C(1) << 8 * before) - 1);

    for (;;) {
        uint64_t z = (v - ones) & ~v & (ones << 7); /* its lowest bit is that of the first zero byte */

        if (z)
            return MIN((size_t)(w - s) + (unsigned)__builtin_ctzll(z) / 8, max);
        w += 8;
        if ((size_t)(w - s) >= max)
            return max;
        v = *(const volatile uint64_t *)(const void *)w;
    }
}

HIDDEN bool mem_readable(const void *p, size_t n)
{
    uintptr_t at = (uintptr_t)p, end = at + n, plain = arch_untagged(at);

    if (plain < PROBE_PAGE) /* never mapped; and a NULL set isn't read at all */
        return false;
    if (end < at || plain + n > ARCH_USER_END)
        return false;
    if (!n)
        return true;
    if (probe.sandboxed)
        return false;
    /* 8 bytes are read at a time: aligned, so that they don't reach into the next page; and of the first page those that
     * are asked for, as others of it may have another tag. */
    for (at &= ~UINT64_C(7); at < end; at = (at & ~(PROBE_PAGE - 1)) + PROBE_PAGE)
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
