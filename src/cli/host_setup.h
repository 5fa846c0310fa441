/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Observing a whole host, switched on and off: `scope start`, `scope stop`, and what else needs it (`scope rules --add`,
 * the supervisor, `scope doctor`). About this host: where another root was meant, cli_enter_root() has been there first.
 * Root only. Everything that changes the host is done under one lock, so that a `start` and a `stop` at the same time
 * come one after the other, and in such an order that a failure or a signal in the middle leaves a host whose programs
 * start as they did: our line comes into ld.so.preload last, and is the first to go.
 */
#ifndef SCOPE_CLI_HOST_SETUP_H
#define SCOPE_CLI_HOST_SETUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "rules/rules.h"

#define HOST_STATUS     HOST_DIR "/status.json" /* what the supervisor knows (struct host_status), 0644 */
#define HOST_SUPERVISOR HOST_DIR "/supervisor"  /* locked by it (F_SETLK of fcntl(2)) while it lives, 0600 */

/* Installs and starts what observes this host, and returns when processes can join: 0, or an exit status after messages;
 * then what it had done is undone. Done already: nothing happens but for an upgrade, and what is missing is put right.
 * quiet: nothing on standard output. */
int host_start(bool quiet);

struct host_stop_options {
    bool uninstall; /* files of ours go, too, but for recordings */
    bool purge;     /* with uninstall: recordings and rules as well */
};
/* Undoes it: our line out of ld.so.preload first, then every program is left, then the service ends. What can't be done
 * is told, and the rest done all the same. 0, or an exit status after messages. */
int host_stop(const struct host_stop_options *);

/* Ends a supervisor: 0, also if there was none; -ETIMEDOUT. */
int host_stop_supervisor(void);
/* Goes on in the background, without a terminal, with HOST_LOG as its standard error: returns there only, or -errno. */
int host_daemonize(void);

/* Whether the host's supervisor runs. For everybody. */
bool host_is_started(void);

/* What the supervisor says of itself; texts are malloc'ed. */
struct host_status {
    pid_t pid;                /* 0: none runs */
    bool ready;               /* programs can join */
    pid_t collector, reach;   /* 0: being restarted */
    uint64_t restarts;        /* of both, since the supervisor began */
    unsigned rules;           /* in force */
    char *rules_error;        /* why the file as it is isn't in force, or NULL */
    char *preload_error;      /* why our line was taken out of ld.so.preload, or NULL */
};
/* 0, also if none runs; -EINVAL if what there is can't be read. Undo: host_status_clear(). */
int host_status_read(struct host_status *ret);
void host_status_clear(struct host_status *);
/* The supervisor's side: replaces the file. 0 or -errno. */
int host_status_write(const struct host_status *);

/* HOST_DIR, made if need be, root's and nobody else's to write in: an O_PATH descriptor or -errno. */
int host_dir(char **ret_why);
/* The supervisor's lock: a descriptor that is kept as long as it lives, -EWOULDBLOCK if there is another one, or
 * -errno. */
int host_lock_supervisor(void);
/* Whose it is, by the kernel's word; 0: nobody's. Root only. */
pid_t host_supervisor_pid(void);
/* Puts the library (and this executable, *ret_exe, if that isn't NULL) below HOST_LIB_DIR, all malloc'ed. 0, or -errno
 * with *ret_why. */
int host_install(char **ret_lib, char **ret_plans, char **ret_exe, char **ret_why);

/* Compiles HOST_RULES to HOST_RULES_MAPPED. 0; or -errno, and what was in force stays, with *ret_why (malloc'ed, one
 * line) for people, which names file and line where that is the reason. No file: no rules. *ret_count (may be NULL):
 * how many there are. */
int host_compile_rules(const char *plans, unsigned *ret_count, char **ret_why);
/* The rules that were compiled last, as rules_read() has them, whatever has become of the file since: a collector that is
 * started anew must not be without rules because somebody is editing them. */
int host_rules_in_force(struct rules *ret, cfg_problem_fn fn, void *ctx);

#endif
