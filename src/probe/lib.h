/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The little that the probe needs of a C library. Freestanding: no libc, no
 * allocation, no thread-local variables, no vector registers. All functions are
 * safe in signal handlers and in vfork children.
 */
#ifndef SCOPE_PROBE_LIB_H
#define SCOPE_PROBE_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/unistd.h>

#include "arch.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* For the few variables that every process touches: they lie together, in the page that the loader writes to anyway. */
#define HOT_DATA __attribute__((section(".data")))
#define ROUND_UP(x, n) (((x) + ((n) - 1)) & ~(__typeof__(x))((n) - 1))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define SYS1(nr, a) sys6(nr, (long)(a), 0, 0, 0, 0, 0)
#define SYS2(nr, a, b) sys6(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS3(nr, a, b, c) sys6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS4(nr, a, b, c, d) sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS6(nr, a, b, c, d, e, f) sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline bool sys_failed(long ret)
{
    return (unsigned long)ret >= -4095ul;
}

void *memcpy(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);

/* Copies n bytes and zeroes up to the next multiple of 8; dst is 8-aligned and has that room. */
static inline void copy_padded(void *dst, const void *src, size_t n)
{
    uint64_t *d = dst, w = 0;
    const char *s = src, *end = s + n;

    if (unlikely(n < 8)) {
        for (size_t i = 0; i < n; i++)
            w |= (uint64_t)(unsigned char)s[i] << (8 * i);
        if (n)
            *d = w;
        return;
    }
    if (unlikely(n >= 256)) { /* worth the start-up cost of a string instruction */
        memcpy(dst, src, n & ~(size_t)7);
        d += n / 8;
        s += n & ~(size_t)7;
    }
    for (; s + 8 <= end; s += 8) {
        __builtin_memcpy(&w, s, 8);
        *d++ = w;
    }
    if (s < end) { /* the last 8 bytes, without those that are there already */
        __builtin_memcpy(&w, end - 8, 8);
        *d = w >> (8 * (8 - (unsigned)(end - s)));
    }
}

/* Like memcpy(), for the few words that most pieces of data have, too. */
static inline void copy_bytes(char *d, const char *s, size_t n)
{
    if (n >= 256) {
        memcpy(d, s, n);
        return;
    }
    for (; n >= 8; n -= 8, s += 8, d += 8)
        __builtin_memcpy(d, s, 8);
    while (n--)
        *d++ = *s++;
}

/* Length of a string, at most max. Never touches a page that the string isn't on. */
size_t str_len(const char *s, size_t max);

static inline bool str_eq(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* What follows the prefix in s, or NULL. */
static inline const char *str_after(const char *s, const char *prefix)
{
    while (*prefix)
        if (*s++ != *prefix++)
            return NULL;
    return s;
}

static inline bool str_contains(const char *s, const char *part)
{
    for (; *s; s++)
        if (str_after(s, part))
            return true;
    return false;
}

/* Appends to a buffer of `size` bytes and keeps it terminated; returns the new length. A text that doesn't
 * fit is left out entirely and `size` returned, which all later appends keep. */
static inline size_t str_add(char *buf, size_t len, size_t size, const char *s)
{
    size_t n = str_len(s, size);

    if (len >= size || n >= size - len)
        return size;
    memcpy(buf + len, s, n);
    buf[len + n] = 0;
    return len + n;
}

static inline size_t str_add_hex(char *buf, size_t len, size_t size, uint64_t v)
{
    char t[17], *p = t + 16;

    *p = 0;
    do
        *--p = "0123456789abcdef"[v & 15];
    while (v >>= 4);
    return str_add(buf, len, size, p);
}

/*
 * Whether [p, p+n) can be read, without risking a fault: rt_sigprocmask(2) reads
 * its set before it looks at `how`, so an impossible `how` gives EFAULT or
 * EINVAL and changes nothing. One call a page.
 */
/* False also when seccomp forbids the question. */
bool mem_readable(const void *p, size_t n);

/* Whether p may be an address of the program at all: what is left to go by in a sandbox. */
static inline bool mem_plausible(const void *p)
{
    return arch_untagged((uintptr_t)p) >= PROBE_PAGE && arch_untagged((uintptr_t)p) < ARCH_USER_END;
}

/* Keeps handlers of the program from interrupting, perhaps for ever, what they would leave a descriptor of. */
static inline uint64_t signals_block(void)
{
    uint64_t all = ~UINT64_C(0), was = 0;

    SYS4(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &was, 8);
    return was;
}

static inline void signals_restore(uint64_t was)
{
    SYS4(__NR_rt_sigprocmask, 2, &was, 0, 8);
}

/* Length of a string of the program at most max, or MEM_BAD if it can't be read up to there. */
#define MEM_BAD ((size_t)-1)
size_t mem_string(const char *s, size_t max);

#endif
