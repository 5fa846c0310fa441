/* SPDX-License-Identifier: Apache-2.0 */
/* The collector process, as launching.c starts it and as the probe does. */
#ifndef SCOPE_CLI_LAUNCHING_H
#define SCOPE_CLI_LAUNCHING_H

/* The collector of a run; arg is private to launching.c. */
int collector_main(void *arg, int listen_fd, int ready_fd, const char *secret);
/* A collector without a session, configured by scope.yml and environment. Returns its exit status. */
int collector_standalone(int listen_fd, int ready_fd);

#endif
