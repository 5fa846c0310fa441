/* SPDX-License-Identifier: Apache-2.0 */
/* From registers and copied stacks to frames, and from these to names. Only in the process that may die of it. */
#ifndef SCOPE_CRASH_UNWIND_H
#define SCOPE_CRASH_UNWIND_H

#include "crash/look.h"
#include "crash/results.h"

/* Fills in *r for all threads of l->view: first all frames, then all names. r->panicked is
 * known when those of the first thread are. */
void unwind_all(const struct look *l, struct results *r);

#endif
