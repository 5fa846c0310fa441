/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a name is what the kernel would resolve it to, as far as its text tells. */
#ifndef SCOPE_MODEL_PATH_H
#define SCOPE_MODEL_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/block.h"

/* Whether a path begins with a slash, and behind no slash is another one, a dot, or nothing: nearly all do. */
static inline bool path_is_plain(const char *path, size_t len)
{
    unsigned carry = 0; /* whether the byte before was a slash */
    size_t i = 0;

    if (!len || path[0] != '/')
        return false;
    for (; i + BLOCK <= len; i += BLOCK) {
        block b = block_load(path + i);
        unsigned slash = block_mask((block)(b == '/'));

        if ((slash << 1 | carry) & (slash | block_mask((block)(b == '.'))))
            return false;
        carry = slash >> (BLOCK - 1);
    }
    if (i && i < len) { /* the rest, and once more what is before it */
        block b = block_load(path + len - BLOCK);
        unsigned seen = BLOCK - (unsigned)(len - i), slash = block_mask((block)(b == '/')) >> seen;

        if ((slash << 1 | carry) & (slash | block_mask((block)(b == '.')) >> seen))
            return false;
        return !(slash >> (len - i - 1));
    }
    for (; i < len; i++) {
        if (carry && (path[i] == '/' || path[i] == '.'))
            return false;
        carry = path[i] == '/';
    }
    return !carry;
}

/* Whether a name (len bytes, not terminated) is what names_resolve() promises: else it is relative, or goes up where it
 * isn't known what that means. */
static inline bool path_resolved(const char *path, size_t len)
{
    if (!len || path[0] != '/')
        return false;
    /* Few paths have a dot at all; memmem(3) costs ten times as much. */
    for (const char *at = path, *end = path + len; (at = memchr(at, '.', (size_t)(end - at))); at++)
        if (at[-1] == '/' && end - at > 1 && at[1] == '.' && (end - at == 2 || at[2] == '/'))
            return false;
    return true;
}

#endif
