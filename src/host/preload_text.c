/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of /etc/ld.so.preload. glibc (elf/rtld.c) takes names separated by blanks, tabs, newlines and colons; '#'
 * begins a comment wherever it stands, up to the end of the line; what comes behind a NUL isn't read.
 */
#include "host/internal.h"

#include <errno.h>
#include <string.h>

#include "host/host.h"

static bool separates(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == ':';
}

static bool is_ours(const char *name, size_t len)
{
    static const char begin[] = HOST_LIB_DIR "/", end[] = "/" PRELOAD_LIB;
    size_t b = sizeof(begin) - 1, e = sizeof(end) - 1;

    return len >= b + e - 1 && memcmp(name, begin, b) == 0 && memcmp(name + len - e, end, e) == 0;
}

size_t preload_find(const char *text, size_t len, size_t *ret_at)
{
    size_t at = 0, n;

    len = len ? strnlen(text, len) : 0; /* an empty file has no bytes, nor an address of them */
    while (at < len) {
        if (text[at] == '#') {
            while (at < len && text[at] != '\n')
                at++;
        } else if (separates(text[at])) {
            at++;
        } else {
            for (n = 0; at + n < len && !separates(text[at + n]) && text[at + n] != '#';)
                n++;
            if (is_ours(text + at, n)) {
                *ret_at = at;
                return n;
            }
            at += n;
        }
    }
    return 0;
}

/* Takes out an entry with what separates it from others: its line where it stands alone. */
static void cut(struct buf *b, size_t at, size_t n)
{
    bool first = at == 0 || b->p[at - 1] == '\n', last = at + n == b->len || b->p[at + n] == '\n';

    if (first && last && at + n < b->len) { /* a line of its own */
        n++;
    } else if (at > 0 && separates(b->p[at - 1]) && (!first || at + n == b->len)) {
        at--;
        n++;
    } else if (at + n < b->len && separates(b->p[at + n])) {
        n++;
    }
    memmove(b->p + at, b->p + at + n, b->len - at - n);
    b->len -= n;
}

int preload_edit(const char *text, size_t len, const char *entry, struct buf *ret)
{
    bool ended = len == 0 || text[len - 1] == '\n';
    size_t at = 0, n, behind;

    buf_reset(ret);
    buf_add(ret, text, len);
    n = preload_find(ret->p, ret->len, &at);
    if (n && entry) {
        buf_reset(ret);
        buf_add(ret, text, at);
        buf_str(ret, entry);
        behind = ret->len;
        buf_add(ret, text + at + n, len - at - n);
        while ((n = preload_find(ret->p + behind, ret->len - behind, &at)))
            cut(ret, behind + at, n);
        return 0;
    }
    for (; n; n = preload_find(ret->p, ret->len, &at))
        cut(ret, at, n);
    if (!entry)
        return 0;
    if (len && memchr(text, '\0', len))
        return -EINVAL;
    /* As the file ended before, so that taking the line out gives its bytes back. */
    if (!ended)
        buf_char(ret, '\n');
    buf_str(ret, entry);
    if (ended)
        buf_char(ret, '\n');
    return 0;
}
