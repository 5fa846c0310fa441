/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing rules to what ld.so.preload does not reach: programs that ran before, static ones, musl's, those in
 * containers and other root directories. The kernel tells of each exec (the proc connector; the kernel's
 * include/uapi/linux/cn_proc.h); where it can't, /proc is looked through every second. A program that a rule
 * names and that has not joined the host's collector by itself shortly after its exec is attached to (inject/attach.h),
 * whatever namespaces it is in. Programs that no rule names any more are detached from. What can't be reached is written
 * down with the reason, for `scope rules` and `scope doctor`.
 *
 * A process of its own, root's, in the initial pid namespace; single-threaded.
 */
#ifndef SCOPE_REACH_REACH_H
#define SCOPE_REACH_REACH_H

#define HOST_REACH "/run/appscope/reach.json" /* what it knows, 0644, replaced by rename */

struct reach_args {
    const char *socket;   /* of the collector, as in $SCOPE_SOCKET */
    const char *lib;      /* the probe's file on this host */
    const char *plans;    /* directory of plans */
    const char *proc;     /* "/proc", or "/hostfs/proc" */
};

/* Runs until SIGTERM (0; what was attached to stays observed) or until it can't go on (an exit status). SIGHUP: the
 * rules have changed (HOST_RULES_MAPPED). */
int reach_run(const struct reach_args *);

/* Detaches from every process that the host's collector observes; used by `scope stop -f`. How many could not be, each
 * told on standard error; or -errno. */
int reach_leave_all(const struct reach_args *);

#endif
