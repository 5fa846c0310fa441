/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a name is one that we know; names of header fields, and most of what stands in these, don't depend on case. */
#ifndef SCOPE_PROTOCOL_HTTP_NAME_H
#define SCOPE_PROTOCOL_HTTP_NAME_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "protocol/protocol.h"

/* n bytes, 8 at most, are those of a constant, letters of which may be upper case, too. */
static inline __attribute__((always_inline)) bool http_word_is(const char *p, const char *lower, size_t n)
{
    uint64_t word = 0, want = 0, letters = 0;

    memcpy(&word, p, n);
    memcpy(&want, lower, n);
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)&letters)[i] = lower[i] >= 'a' && lower[i] <= 'z' ? 0x20 : 0;
    return (word | letters) == want;
}

/* lower: a constant of `len` bytes. All comes down to one or two comparisons of words. */
static inline __attribute__((always_inline)) bool http_name_equals(struct slice s, const char *lower, size_t len)
{
    size_t n = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;

    if (s.len != len)
        return false;
    for (size_t i = 0; i + n < len; i += n)
        if (!http_word_is(s.p + i, lower + i, n))
            return false;
    return http_word_is(s.p + len - n, lower + len - n, n);
}
#define http_name_is(s, literal) http_name_equals(s, literal, sizeof(literal) - 1)

#endif
