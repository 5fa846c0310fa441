/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking into and changing what runs: INSPECT, CRASHES and UPDATE requests (wire/join.h)
 * and command files. Single-threaded, called from the event loop.
 */
#ifndef SCOPE_COLLECTOR_CONTROL_H
#define SCOPE_COLLECTOR_CONTROL_H

#include <sys/types.h>

struct collector;
struct proc;

/* A JSON array with an object for each process that is observed: the one with this pid in our namespace, or all (0).
 * Returns a memfd, offset 0, the caller's; -ESRCH if there is none, or -errno. */
int control_inspect(struct collector *c, pid_t pid);

/* Likewise of the crashes that aren't told yet (crashes.h), however few. */
int control_crashes(struct collector *c);

/* Lays a scope.yml, read from fd (at most 1 MiB), over the configuration of a process and of the children that it will
 * have. Relative paths in it start at cwd, or where ours do if that isn't absolute. 0; -ESRCH; -EINVAL if it isn't YAML
 * or has a value that can't be: nothing was changed; or an error of reading. */
int control_update(struct collector *c, pid_t pid, int fd, const char *cwd);

/*
 * Looks for the command file of a process, <libscope.commanddir>/scope.<pid> (as we see the pid), once a summary period:
 * lines NAME=value with variables of the configuration, laid over what is in effect; SCOPE_CONF_RELOAD=FILE reads a
 * scope.yml first. The file is removed. One that somebody else could have written (not of root or our user; writable by
 * others; a link) is left alone, with a line in the log.
 */
void control_command_file(struct proc *p);

#endif
