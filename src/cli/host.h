/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standing collector of a host. `scope collector --host` is a supervisor (host_supervisor.c): it has the sockets,
 * from systemd or its own, so that nobody is turned away while a collector is restarted; it starts the two processes
 * that do the work, and starts them again when they end; it compiles the rules (rules/rules.h) when their file changes;
 * and it takes our line out of ld.so.preload when programs don't start with it any more.
 */
#ifndef SCOPE_CLI_HOST_H
#define SCOPE_CLI_HOST_H

#include <stdbool.h>

struct host_args {
    int listen_fd;        /* HOST_SOCKET, bound and listening */
    int request_fd;       /* HOST_SOCKET JOIN_REQUESTS, likewise */
    int ready_fd;         /* gets one byte when processes can join */
    const char *lib, *plans;
};

/* The collector of the host, in this process: sessions in HOST_STORE with rotation and retention, configuration by
 * HOST_RULES and HOST_CONFIG_DIR "/scope.yml" (all programs). Returns its exit status after SIGTERM. JOIN_RELOAD has it
 * read the rules again. */
int host_collector(const struct host_args *);

/* The supervisor, until SIGTERM: in the foreground, as service managers want it. */
int host_supervisor(void);

#endif
