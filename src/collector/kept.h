/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ending workers of the collector that somebody else may have stopped, or that
 * wait for a file system that doesn't answer: not even SIGKILL ends those at
 * once. Nobody waits for them, but there may be only so many. Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_KEPT_H
#define SCOPE_COLLECTOR_KEPT_H

#include <stdbool.h>
#include <sys/types.h>

#define KEPT_MAX 16u

struct kept {
    pid_t pid[KEPT_MAX]; /* not ended yet; 0: free */
};

/* Kills a child process and waits some milliseconds for its end. */
void worker_end(struct kept *k, pid_t pid);
/* Remembers one that ends by itself, as soon as somebody does who can't be ended. */
void worker_keep(struct kept *k, pid_t pid);
/* Whether as many are left as there may be. Looks whether some have ended. */
bool worker_kept_max(struct kept *k);

#endif
