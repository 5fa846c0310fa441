/* SPDX-License-Identifier: Apache-2.0 */
/* A process whose core the kernel pipes to us (core(5)), and handing that core on to who would have had it without us.
 */
#ifndef SCOPE_CLI_DYING_H
#define SCOPE_CLI_DYING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DYING_GROUPS 65536u /* NGROUPS_MAX */

struct dying {
    /* as the kernel has told */
    pid_t pid, tid; /* in the initial pid namespace */
    uid_t uid;      /* real, in the initial user namespace */
    gid_t gid;
    int signo;
    int64_t time;   /* seconds since 1970 */
    uint64_t limit; /* RLIMIT_CORE; UINT64_MAX: none */
    int mode;       /* PR_GET_DUMPABLE of prctl(2): 1, or 2 of a set-uid program */
    /* out of /proc; dying_read() */
    pid_t own_pid, own_tid;
    char comm[16]; /* of the thread */
    char *exe;     /* "" if unknown */
    uid_t fsuid;
    gid_t fsgid;
    gid_t *groups;
    size_t group_count;
    unsigned mask; /* umask */
    uint64_t capabilities;
};

/* 0 or -errno. Undo: dying_clear(). */
int dying_read(struct dying *d);
void dying_clear(struct dying *d);

/* One word of a core_pattern, expanded as the kernel does it (format_corename() of Linux' fs/coredump.c). malloc'ed. */
char *dying_expand(const struct dying *d, const char *pattern, size_t len);

/* Who gets the core: a process that reads it from a pipe. */
struct heir {
    pid_t pid; /* 0: nobody */
    int fd;
};
/*
 * Starts it as a core_pattern says: the program of a pipe, with its arguments and nothing else; or a child that writes
 * the file that the kernel would have written, with the rights of the process, where and if that may. 0 and no pid if
 * nobody is to get one.
 */
int heir_start(const struct dying *d, const char *pattern, struct heir *ret);
/* The head of the core, which has been read already, then what is still in `from`. 0, or -errno of whatever ended it
 * earlier: -EPIPE if the heir wants no more. */
int heir_feed(struct heir *h, const void *head, size_t size, int from);
/* Waits until it has ended. */
void heir_end(struct heir *h);

#endif
