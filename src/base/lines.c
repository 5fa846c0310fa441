/* SPDX-License-Identifier: Apache-2.0 */
#include "base/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/safe_path.h"

#define CHUNK ((size_t)256 << 10)

static int take(struct lines *l, int fd)
{
    *l = (struct lines){.fd = fd < 0 ? -1 : fd};
    return fd < 0 ? fd : 0;
}

int lines_open(struct lines *l, const char *path)
{
    return take(l, safe_read(path));
}

int lines_open_at(struct lines *l, int dir, const char *name)
{
    return take(l, safe_read_at(dir, name));
}

void lines_seek(struct lines *l, uint64_t offset)
{
    l->offset = offset;
    l->len = l->pos = 0;
    l->skipping = false;
}

int lines_next(struct lines *l, char **ret, size_t *ret_len)
{
    size_t looked = l->pos;

    for (;;) {
        char *end = l->len > looked ? memchr(l->buf + looked, '\n', l->len - looked) : NULL;
        ssize_t n;

        if (end) {
            char *line = l->buf + l->pos;

            l->start = l->offset + l->pos;
            l->pos = (size_t)(end - l->buf) + 1;
            if (l->skipping) {
                l->skipping = false;
                looked = l->pos;
                continue;
            }
            *end = '\0';
            *ret = line;
            *ret_len = (size_t)(end - line);
            return 1;
        }
        looked = l->len;
        if (l->pos) { /* what was returned goes, the partial line moves to the front */
            memmove(l->buf, l->buf + l->pos, l->len - l->pos);
            l->len -= l->pos;
            looked -= l->pos;
            l->offset += l->pos;
            l->pos = 0;
        }
        if (l->len >= LINE_MAX_BYTES || (l->skipping && l->len)) {
            if (!l->skipping)
                l->too_long++;
            l->skipping = true;
            l->offset += l->len;
            l->len = looked = 0;
        }
        if (l->cap - l->len < CHUNK) {
            l->cap = l->cap ? l->cap * 2 : CHUNK * 2;
            l->buf = xrealloc(l->buf, l->cap, 1);
        }
        n = pread(l->fd, l->buf + l->len, l->cap - l->len, (off_t)(l->offset + l->len));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        l->len += (size_t)n;
    }
}

void lines_close(struct lines *l)
{
    if (l->fd >= 0)
        close(l->fd);
    free(l->buf);
    *l = (struct lines){.fd = -1};
}
