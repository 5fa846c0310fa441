/* SPDX-License-Identifier: Apache-2.0 */
/* Talking to the collectors of running sessions about single processes; for inspect and update. */
#ifndef SCOPE_CLI_CONTROL_H
#define SCOPE_CLI_CONTROL_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

struct args;

/* The observed process that the first word of a command line names, by number or exactly by the name of the process or
 * of its file; those of our sessions first. Of several, and without a word, the one that the user chooses on a
 * terminal. 0, or an exit status after a message. */
int cli_observed_pid(const struct args *a, pid_t *ret_pid);

/* What collectors say of a process (0: of all that we may ask about, whose sessions may be stored elsewhere): a JSON
 * array, the caller's (json_decref). 0, or an exit status after a message. */
int control_inspect_all(pid_t pid, json_t **ret);
/* The same of some processes that have just been attached to, of which their collector may not know yet. */
int control_inspect_some(const pid_t *pids, size_t count, json_t **ret);
/* Prints such an array: one object for each line, or for people; as one object (only one is in it) or as a list. */
void control_print(const json_t *array, bool json, bool list);
/* The directory of the session, of ours, in which a process is observed: malloc'ed, NULL if it isn't, without a message. */
char *control_session_dir(pid_t pid);
/* Hands a scope.yml, open for reading, to the collector that observes the process: likewise. */
int control_update_one(pid_t pid, int fd);

#endif
