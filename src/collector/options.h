/* SPDX-License-Identifier: Apache-2.0 */
/* What a collector is started with. */
#ifndef SCOPE_COLLECTOR_OPTIONS_H
#define SCOPE_COLLECTOR_OPTIONS_H

#include <stdint.h>
#include <sys/types.h>

#include "config/config.h"
#include "session/session.h"

struct rules_head;

/* What the collector of a whole host has beyond that (collector/host.h). It runs until it is told to end. */
struct collector_host {
    void *ctx;
    const struct rules_head *which; /* compiled rules whose numbers the configuration has; NULL: there are none */
    const char *rules;           /* compiled rules (wire/rules.h): who may join */
    uint64_t maxsize;            /* bytes that all sessions may take together */
    unsigned days;               /* that a session is kept */
    /* Makes the next session and its configuration, as it is in force; its log is the one that is written to from then
     * on. Both are the caller's. 0 or -errno, told. */
    int (*begin)(void *ctx, struct session **ret, struct config_sources **ret_config);
    /* The configuration for the session that there is, as files say now. -EINVAL: that can't be used, and is told. Also
     * sets which, maxsize and days. */
    int (*configure)(void *ctx, const struct session *s, struct config_sources **ret_config);
    /* A session's metadata are written for the last time: its log is closed, and it is freed. */
    void (*end)(void *ctx, struct session *s);
};

struct collector_options {
    struct config_sources *config; /* of a host: is taken */
    struct session *session;     /* NULL: started by the probe alone, nothing is stored */
    const char *plan_dir;        /* cache of plans */
    const char *lib;             /* the probe's file, for what static programs start; NULL: none could be installed */
    const char *secret;          /* who of another user knows it was invited (wire/join.h); NULL: nobody is */
    int listen_fd;               /* bound and listening SOCK_SEQPACKET socket */
    int request_fd;              /* the one with JOIN_REQUESTS behind its name, likewise; 0: is made here */
    struct collector_host *host; /* NULL: of one session */
    int ready_fd;                /* one byte is written and the descriptor closed once the loop runs; -1 for none */
    unsigned linger_ms;          /* how long to wait for a first or next process before ending */
    struct runtime_api *runtime; /* traffic/runtime_api.h: whom to tell of AWS Lambda's runtime; NULL: nobody */
    pid_t starter;               /* a process that has others join and may take its time: waited for; 0: none */
};

#endif
