/* SPDX-License-Identifier: Apache-2.0 */
/* What a collector is started with. */
#ifndef SCOPE_COLLECTOR_OPTIONS_H
#define SCOPE_COLLECTOR_OPTIONS_H

#include <sys/types.h>

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

#endif
