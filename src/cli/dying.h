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
    /* out of /proc; dying_read(): the thread's, which may have rights and a root of its own */
    pid_t own_pid, own_tid;
    char comm[16]; /* of the thread */
    char *exe;     /* "" if unknown */
    uid_t fsuid;
    gid_t fsgid;
    gid_t *groups;
    size_t group_count;
    unsigned mask;         /* umask */
    uint64_t capabilities; /* none if it is in another user namespace than we */
    int root, cwd;         /* O_PATH, or -1 */
    int uts, pidfd;        /* its UTS namespace, the process: or -1 */
    const char *doubt;     /* why all of this may be another process's, whose number is the same; NULL: it isn't */
};

/*
 * Reads it, and proves that it is the one that crashed: the kernel, which writes its core to the pipe `core`, still has
 * that open afterwards, so the number can't have become another's; and what /proc says agrees with what the kernel has
 * told. Otherwise d->doubt tells, and the descriptors are -1. Undo: dying_clear().
 */
void dying_read(struct dying *d, int core);
/* Whether the pipe of a core has a writer: the process that crashed is still there. */
bool dying_stands(int core);
void dying_clear(struct dying *d);

/* One word of a core_pattern, expanded as the kernel does it (format_corename() of Linux' fs/coredump.c). malloc'ed. */
char *dying_expand(const struct dying *d, const char *pattern, size_t len);

/* Who gets the core: a process that reads it from a pipe. */
struct heir {
    pid_t pid; /* 0: nobody */
    int fd;
    bool file;                   /* it is ours, and writes a file */
    unsigned stall_ms, total_ms; /* how long it may take without any progress, and in all */
    uint64_t until;              /* CLOCK_MONOTONIC ns: the end of the latter */
};
/*
 * Starts it as a core_pattern says: the program of a pipe, with its arguments and nothing else; or a child that writes
 * the file that the kernel would have written, with the rights of the process, where and if that may. 0 and no pid if
 * nobody is to get one. -ESRCH: there is doubt whose file that would be; -EPERM: it would be root's, and the user
 * isn't.
 */
int heir_start(const struct dying *d, const char *pattern, struct heir *ret);
/* The head of the core, which has been read already, then what is still in `from`, which becomes non-blocking. 0, or
 * -errno of whatever ended it earlier: -EPIPE if the heir wants no more, -ETIMEDOUT if it or the kernel took too long,
 * which is the end of it. */
int heir_feed(struct heir *h, const void *head, size_t size, int from);
/* Waits until it has ended, within its time. A child of ours that hasn't is killed: its user may have stopped it. */
void heir_end(struct heir *h);

#endif
