/* SPDX-License-Identifier: Apache-2.0 */
/* The notes of a core that the kernel writes (elf(5), core(5)): registers of threads that can't be traced any more. */
#ifndef SCOPE_CRASH_NOTES_H
#define SCOPE_CRASH_NOTES_H

#include "crash/view.h"

/* The bytes of the PT_NOTE segment. Calls fn for each thread, that of the signal first: own_tid, regs, fp, xstate (the
 * callback's, malloc'ed or NULL), siginfo, sigmask and sigpending are filled in. Returns how many. */
size_t notes_threads(const void *notes, size_t size, void (*fn)(void *ctx, struct crash_thread *th), void *ctx);
/* False: there is none. */
bool notes_siginfo(const void *notes, size_t size, siginfo_t *ret);

#endif
