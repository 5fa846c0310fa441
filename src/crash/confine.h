/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds for processes that read what the observed program has made. Functions return 0 or -errno. */
#ifndef SCOPE_CRASH_CONFINE_H
#define SCOPE_CRASH_CONFINE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* In the child: ends with its parent, leaves no core and can't be traced, has no handlers, no descriptors but these (sorted; -1 is none)
 * and no more than so much memory beyond what it has and CPU time. parent: its pid, seen before fork(2). */
int confine_child(int parent, int *keep, size_t keep_count, uint64_t more_bytes, unsigned cpu_seconds);
/* Ends with its parent: again, after a change of the user, which undoes it (prctl(2)). */
int confine_to_parent(int parent);
/* For who only reads: from root to this user (nobody instead of root), without any other right: no group, no capability,
 * no byte written to a file. root that isn't mapped to others (user_namespaces(7)) only loses its capabilities. */
int confine_user(uid_t uid, gid_t gid);
/* No system calls but those that reading files and using memory takes; open(2) is none of them, openat2(2) is, which
 * only facts_open_below() uses. All others fail with EPERM (seccomp(2)). */
int confine_calls(void);

#endif
