/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that were detached from and go on. Those started with the probe
 * still have it in their environment, and so have the programs that they start:
 * these load the probe and join, but nobody wants them to be observed any more.
 */
#ifndef SCOPE_COLLECTOR_LEFT_H
#define SCOPE_COLLECTOR_LEFT_H

#include <stdbool.h>
#include <sys/types.h>

struct collector;

void left_add(struct collector *c, pid_t pid);
void left_remove(struct collector *c, pid_t pid); /* it is observed again */
/* Of a process that was left: the user has wished it, and nobody else shall attach to it as long as it runs the same
 * image. */
void left_keep_away(struct collector *c, pid_t pid);
/* Whether that is so. */
bool left_by_user(struct collector *c, pid_t pid);
/* Whether a process that joins descends from one that was left, with none in between that is observed. ppid: its parent
 * as it says itself, in case that it has ended; 0: not known. One whose starter has ended before it descends from
 * nobody. */
bool left_begot(struct collector *c, pid_t pid, pid_t ppid);
void left_free(struct collector *c);

#endif
