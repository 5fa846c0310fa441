/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A crash in words: its event (report/crash.h), and its line in the log.
 * Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_CRASH_TELL_H
#define SCOPE_COLLECTOR_CRASH_TELL_H

#include <stdint.h>

struct crash;
struct proc;

/* "SIGSEGV", "signal 35", "exit status 2": buf, or static. */
const char *crash_cause_name(const struct crash *crash, char buf[24]);
/* Tells a crash that is known as far as it will be. p: its process, which has a pipeline. */
void crash_tell(struct crash *crash, struct proc *p);
/* A process has ended with this wait status: tells a crash that nothing was told of. time_ns: CLOCK_REALTIME. */
void crash_tell_end(struct proc *p, int wait_status, uint64_t time_ns);

#endif
