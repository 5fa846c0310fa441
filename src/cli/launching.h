/* SPDX-License-Identifier: Apache-2.0 */
/* The collector process, as launching.c starts it and as the probe does. */
#ifndef SCOPE_CLI_LAUNCHING_H
#define SCOPE_CLI_LAUNCHING_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/buf.h"
#include "collector/options.h"
#include "config/config.h"
#include "session/session.h"

/* What the collector of a session is started with. */
struct collector_ctx {
    struct collector_options options;
    const struct config *config;
    char *note;                 /* first line of the log, or NULL */
    const struct buf *problems; /* of the configuration: strings one after the other, or NULL */
    bool no_breaker;            /* --nobreaker */
};

/* The collector of a run; arg: struct collector_ctx. */
int collector_main(void *arg, int listen_fd, int ready_fd, const char *secret);
/* A collector without a session, configured by scope.yml and environment. Returns its exit status. */
int collector_standalone(int listen_fd, int ready_fd);

/* A collector without a session for whoever has made the socket himself, in the process that this is called in: it gets
 * the surroundings of a collector (inject/launch.h, launch_detach()). */
struct runtime_api;
struct buf;
struct collector_of {
    struct config_sources *config;
    const struct buf *problems;  /* of it, as launching_keep_problem() leaves them; or NULL */
    const char *lib, *plans;
    struct runtime_api *runtime; /* its descriptor is kept, too; or NULL */
    pid_t starter;               /* the collector waits for it, and for all processes */
    int listen_fd, ready_fd;
};
int collector_of(const struct collector_of *how);

/* Becomes a program that joins a collector which runs already, at this socket ($SCOPE_SOCKET). lib NULL: the program is
 * not observed. mode: enum seg_mode. Only returns if that fails, with the exit status after a message. */
struct joined {
    const char *socket, *lib, *plans;
    uint32_t mode;
    const char *shipped; /* plans that somebody has made elsewhere: used instead if the program's is there; or NULL */
    unsigned prewarm_ms; /* how long plans for it may take that aren't there yet; 0: none are made in advance */
};
int exec_joined(const struct joined *how, char **argv);

/* What these have in common with the collector of a host (host_collector.c). */

/* What a session has in place of the built-in defaults: everything goes into its own directory, and nothing needs to be
 * protected from many events. What is added later stands above it. dir may be NULL: there is none, and what is
 * observed goes elsewhere. -EILSEQ if the directory's name isn't text. */
int launching_defaults(struct config_sources *config, const char *dir);
/* Writes scope.yml and the metadata of a new session. c: of its first program. 0, or -errno with *ret_what naming what
 * failed (malloc'ed). */
int launching_save(struct session *s, struct config_sources *config, const struct config *c, char **ret_what);
/* A log that is not into somebody else's file. NULL with errno. */
FILE *launching_log_file(const char *path);
/* A cfg_problem_fn whose ctx is a struct buf: keeps texts, one after the other, each ended by a NUL, for a log that isn't
 * open yet. */
void launching_keep_problem(void *ctx, const struct cfg_problem *p);

#endif
