/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a directory of which only some are kept open: those that were used last. */
#ifndef SCOPE_SESSION_PAYLOAD_FILES_H
#define SCOPE_SESSION_PAYLOAD_FILES_H

#include <stddef.h>

#include "session/payload.h"

#define PAYLOAD_INDEX "index.ndjson"
#define PAYLOAD_INDEX_NEXT "index.%u.ndjson" /* from 2 on, where others write to the same directory */
#define PAYLOAD_INDEX_LAST 10000u

struct payload_file {
    char *name; /* malloc'ed; NULL: there is no such file */
    int fd;     /* valid while it is linked */
    struct payload_file *newer, *older;
};

struct payload_files {
    int dir;
    unsigned open, max;
    struct payload_file *newest, *oldest;
};

/* Its descriptor is the one that was used last; another one may be closed. */
void payload_file_opened(struct payload_files *all, struct payload_file *f, int fd);
/* The descriptor of an open file, -1 if it has to be opened. */
int payload_file_use(struct payload_files *all, struct payload_file *f);
/* Closes it if it is open, and forgets its name. */
void payload_file_clear(struct payload_files *all, struct payload_file *f);

#endif
