/* SPDX-License-Identifier: Apache-2.0 */
/* What is in C of this architecture: the size of pages, and what the compiler calls for copies and clears of unknown
 * size. General registers only, a word at a time. */
#include "lib.h"

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN uint64_t probe_shared_pointer;
HIDDEN uint64_t probe_page = 65536; /* until the kernel's is known: a multiple of it */

typedef uint64_t __attribute__((may_alias, aligned(1))) word;

HIDDEN void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    char *d = to;
    const char *s = from;

    for (; n >= 8; n -= 8, d += 8, s += 8)
        *(word *)(void *)d = *(const word *)(const void *)s;
    for (; n; n--)
        *d++ = *s++;
    return to;
}

HIDDEN void *memset(void *to, int c, size_t n)
{
    uint64_t v = (uint8_t)c * UINT64_C(0x0101010101010101);
    char *d = to;

    for (; n >= 8; n -= 8, d += 8)
        *(word *)(void *)d = v;
    for (; n; n--)
        *d++ = (char)c;
    return to;
}
