/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner and mode of files that were opened for reading, by name: asking with
 * fstat(2) in the observed program would cost it a system call for each open.
 * Answers are remembered for OWNER_SECONDS, so they may be that old. (Files that
 * a program makes or writes to are asked about by the probe, at once.) One that
 * the kernel doesn't have in memory may not come in time (ask.h).
 * Single-threaded.
 */
#ifndef SCOPE_MODEL_OWNER_H
#define SCOPE_MODEL_OWNER_H

#include <stdbool.h>
#include <stddef.h>

#include "wire/record.h"

struct proc;

#define OWNER_SECONDS 1

/* path: absolute, as p sees it. False if there is no such file (any more) or it can't be looked at. */
bool owner_lookup(struct proc *p, const char *path, size_t len, struct rec_stat *ret);

#endif
