/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a name is what the kernel would resolve it to, as far as its text tells. */
#ifndef SCOPE_MODEL_PATH_H
#define SCOPE_MODEL_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

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
