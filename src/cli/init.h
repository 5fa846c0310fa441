/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCOPE_CLI_INIT_H
#define SCOPE_CLI_INIT_H

/* For process 1 of a pid namespace: makes a process that will be the program, and stays. -1 in the process that goes on
 * to run the program (this one, if it isn't process 1); else the program has ended: the exit status, 128 + N for signal
 * N, once its collectors have finished (at most 5 s). */
int init_stand_in(void);

/* In the process that will be the program, if there is a stand-in; else they do nothing. */
void init_collector(const char *socket); /* where its collector listens ($SCOPE_SOCKET) */
void init_become(void);                  /* exec is next: its orphans are to be its own, as those of process 1 are */

#endif
