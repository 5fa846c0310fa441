/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector: one process per session. Accepts processes on the session's
 * socket, drains their rings, keeps the model of processes, descriptors and
 * connections, and feeds telemetry. Ends when every observed process has ended.
 */
#ifndef SCOPE_COLLECTOR_COLLECTOR_H
#define SCOPE_COLLECTOR_COLLECTOR_H

#include "config/config.h"
#include "session/session.h"

struct collector_options {
    struct config_sources *config;
    struct session *session;     /* NULL: started by the probe alone, nothing is stored */
    const char *plan_dir;        /* cache of plans */
    const char *lib;             /* the probe's file, for what static programs start; NULL: none could be installed */
    const char *secret;          /* who of another user knows it was invited (wire/join.h); NULL: nobody is */
    int listen_fd;               /* bound and listening SOCK_SEQPACKET socket */
    int ready_fd;                /* one byte is written and the descriptor closed once the loop runs; -1 for none */
    unsigned linger_ms;          /* how long to wait for a first or next process before ending */
    pid_t starter;               /* a process that has others join and may take its time: waited for; 0: none */
};

/* Runs until done. Returns the exit status of the collector process. */
int collector_run(const struct collector_options *);

#endif
