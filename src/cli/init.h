/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCOPE_CLI_INIT_H
#define SCOPE_CLI_INIT_H

#include <stdbool.h>

/* For process 1 of a pid namespace: makes a process that will be the program, and stays. -1 in the process that goes on
 * to run the program (this one, if it isn't process 1); else the program has ended: the exit status, 128 + N for signal
 * N, once its collector has finished (at most 5 s). */
int init_stand_in(bool with_session);

#endif
