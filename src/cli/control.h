/* SPDX-License-Identifier: Apache-2.0 */
/* Talking to the collectors of running sessions about single processes; for inspect and update. */
#ifndef SCOPE_CLI_CONTROL_H
#define SCOPE_CLI_CONTROL_H

#include <jansson.h>
#include <sys/types.h>

struct args;

/* The process that the first word of a command line names, by number or exactly by name (proc(5), comm): one that is
 * observed. 0, or an exit status after a message. */
int cli_observed_pid(const struct args *a, pid_t *ret_pid);

/* What the collectors of all running sessions say of a process (0: of all): a JSON array, the caller's (json_decref).
 * 0, or an exit status after a message. */
int control_inspect_all(pid_t pid, json_t **ret);
/* Hands a scope.yml, open for reading, to the collector that observes the process: likewise. */
int control_update_one(pid_t pid, int fd);

#endif
