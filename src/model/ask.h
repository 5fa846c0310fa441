/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions about files of others, whose answer can be long in coming: a file
 * system may be on a server that doesn't answer, or in a process that doesn't
 * want to (FUSE). The event loop must not wait for it. So a worker, a process of
 * its own, asks the kernel; a thread would keep the collector from ending while
 * the kernel waits.
 *
 * An answer is waited for ASK_WAIT_MS, and for all of them together a quarter of
 * the time. One that comes later is dropped; until then another worker takes
 * the next questions, and the process that this one was about is asked about no
 * more for ASK_REST_MS. What stays unknown is counted as LK_ANSWER. A worker
 * that the kernel doesn't let go is killed, which may have no effect either:
 * ASK_WORKERS_MAX are left behind at most, then nothing is asked until one of
 * them has ended. Single-threaded.
 */
#ifndef SCOPE_MODEL_ASK_H
#define SCOPE_MODEL_ASK_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

struct proc;

#define ASK_WAIT_MS 20u
#define ASK_CPU_MS 200u    /* ... as long as the worker itself waits for a CPU */
#define ASK_BURST_MS 100u  /* of waiting that may come at once */
#define ASK_REST_MS 10000u
#define ASK_LATE_MS 1000u  /* then the worker is killed */
#define ASK_WORKERS_MAX 16u

/* stat(2) of a name that p knows. 0 or -errno; -ETIMEDOUT: not known, and counted. */
int ask_stat(struct proc *p, const char *path, struct stat *ret);
/* stat(2) of what p's descriptor fd refers to; asked about only where a file system could keep us waiting. Times and sizes
 * stay 0. Otherwise as ask_stat(). */
int ask_stat_fd(struct proc *p, int fd, struct stat *ret);
/* stat(2) of a name in p's root directory (PATH_MAX at most, absolute), ours if own is false. What the kernel has in
 * memory isn't asked about. Otherwise as ask_stat(). */
int ask_stat_in(struct proc *p, bool own, const char *path, struct stat *ret);
/* access(2) likewise. */
int ask_access(struct proc *p, const char *path, int mode);
/* No more questions: ends the workers as far as they can be ended. */
void ask_end(void);

#endif
