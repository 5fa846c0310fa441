/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a file of lines that somebody may still be appending to. */
#ifndef SCOPE_BASE_LINES_H
#define SCOPE_BASE_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lines {
    int fd;
    char *buf;
    size_t len, cap, pos;
    uint64_t offset;   /* in the file, of buf[0] */
    uint64_t start;    /* offset of the line returned last */
    bool skipping;     /* inside a line that is too long */
    uint64_t too_long; /* such lines so far */
};
#define LINE_MAX_BYTES (8u << 20)

/* Of a regular file: 0, -EINVAL if it is something else, or -errno. */
int lines_open(struct lines *l, const char *path);
/* The same of a name in an open directory; symbolic links are not followed. */
int lines_open_at(struct lines *l, int dir, const char *name);
void lines_seek(struct lines *l, uint64_t offset);
/* The next complete line without its newline (valid until the next call): 1, 0 if there is no complete one yet,
 * -errno. */
int lines_next(struct lines *l, char **ret, size_t *ret_len);
void lines_close(struct lines *l);

#endif
