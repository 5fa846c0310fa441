/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands in a process's own memory: its command line, the name that it was executed by, the probe. Pages of it can
 * be those of a file that never answers (FUSE, userfaultfd(2)), and then whoever reads them waits: so it is a child
 * process that reads, which is killed when it takes too long. Who makes it wait is not asked about for a while, and
 * altogether no more than a small part of the time is spent so; root's processes are always asked.
 * Single-threaded.
 */
#ifndef SCOPE_REACH_MEMORY_H
#define SCOPE_REACH_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/rules.h"

struct memory;
/* proc: a directory's descriptor, which stays the caller's. */
struct memory *memory_new(int proc);
void memory_free(struct memory *m);

struct memory_words {
    const char *execfn;   /* AT_EXECFN; NULL: not known */
    const char *args;     /* /proc/PID/cmdline, at most RULES_ARGS_MAX */
    size_t args_len;
};
/* Valid until the next call. 0; -ETIMEDOUT, or -EBUSY: not asked, as it, or others, made us wait before. */
int memory_words(struct memory *m, pid_t pid, struct memory_words *ret);
enum memory_probe {
    MEMORY_NO_PROBE,      /* none that observes */
    MEMORY_ATTACHED,      /* an injector has brought it */
    MEMORY_LOADED,        /* the dynamic loader has */
};
/* Likewise. *ret_socket, which may be NULL: of the collector that observes it, as in $SCOPE_SOCKET. */
int memory_probe(struct memory *m, pid_t pid, enum memory_probe *ret, const char **ret_socket);
/* How often there was no answer in time. */
uint64_t memory_timeouts(const struct memory *m);

/* The effective user of a process of `proc`, (uid_t)-1 if it isn't there. (That is whose its directory is, also where its files are root's:
 * prctl(2), PR_SET_DUMPABLE.) */
uid_t memory_user(int proc, pid_t pid);

#endif
