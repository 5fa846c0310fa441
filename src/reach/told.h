/* SPDX-License-Identifier: Apache-2.0 */
/* What is reached and what is not, as HOST_REACH tells it (docs/host.md, "What is reached"). */
#ifndef SCOPE_REACH_TOLD_H
#define SCOPE_REACH_TOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "reach/processes.h"

struct told {
    const char *by;        /* how programs that begin are noticed: "events" or "scans" */
    const char *why;       /* why not by events, or NULL */
    bool answers;          /* the collector does */
    uint64_t overflows;    /* so often were events lost, and /proc looked through instead */
    uint64_t unanswered;   /* so often did a process's memory not answer */
    uint64_t beyond;       /* processes for which there was no room in the table */
};

/* Replaces the file of that path in HOST_DIR. 0 or -errno. */
int told_write(const char *path, const struct told *f, const struct wanted *w, const struct processes *t);

#endif
