/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching and detaching in child processes, a few at once: what hangs there (a file system that doesn't answer, a
 * process that can't be stopped) keeps nothing else waiting, and is killed when its time is over. One that can't even be
 * killed, as it waits in the kernel, is left behind, and its process with it. Single-threaded; the caller waits for
 * SIGCHLD.
 */
#ifndef SCOPE_REACH_JOBS_H
#define SCOPE_REACH_JOBS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define JOBS_MAX 4       /* at once, but for those that take long */
#define JOBS_PLACES 16   /* those, and what was left behind, with them; then there are no more jobs until one ends */
#define JOBS_SLOW_MS 2000u /* longer than almost any takes */
#define JOBS_SLOW_MAX 2  /* that long one user's may run; while there are as many it gets no other */
#define JOBS_ROOM 3      /* places that are left to root's processes */

enum job_kind { JOB_ATTACH, JOB_DETACH };

struct job_order {
    enum job_kind kind;
    pid_t pid;
    uid_t user;            /* whose it is: memory_user() */
    uint64_t signature;    /* wanted_signature(): of the very program that is meant; 0: whatever runs there */
    uint32_t mode;         /* attach: enum seg_mode */
    bool renew;            /* attach: a probe of this collector that is there has lost it: it is taken out first */
};

struct job_result {
    int rc;                /* 0 or -errno; -ESTALE: the process runs another program by now. Attach: -EALREADY: it is
                            * observed, `again`: by this collector, or is about to be */
    bool again;            /* another try may help */
    char why[512];         /* for people, where rc isn't 0 */
};

struct jobs;
/* Of the collector at `socket`; lib, plans: as attach_run() and attach_prepare() have them. proc: a directory's descriptor.
 * All stay the caller's. */
struct jobs *jobs_new(const char *socket, const char *lib, const char *plans, int proc);
/* Kills those that run. */
void jobs_free(struct jobs *j);

/* -EAGAIN: enough are running, enough that take long with processes of this user, or one with this process. owner: comes back with the result, may be NULL. */
int jobs_start(struct jobs *j, const struct job_order *order, void *owner);
bool jobs_room(const struct jobs *j);
unsigned jobs_running(const struct jobs *j);
/* The owner has no interest any more. */
void jobs_forget(struct jobs *j, const void *owner);
/* Kills what has taken too long, and hands out one that has ended: false if there is none. *ret_owner may be NULL. To be
 * called after SIGCHLD, and each second while some run. */
bool jobs_next(struct jobs *j, struct job_order *ret_order, struct job_result *ret, void **ret_owner);

#endif
