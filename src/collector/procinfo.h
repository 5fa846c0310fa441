/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts about processes from /proc (proc(5)), the user database and pidfds.
 * Read at most a few times in a process's life, never per event. Pids are those
 * of the collector's own pid namespace. Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_PROCINFO_H
#define SCOPE_COLLECTOR_PROCINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct pi_stat {
    char state;
    pid_t ppid;
    uint64_t start_ticks;      /* clock ticks since boot: with the pid, the identity of the process */
    uint64_t cpu_ticks;        /* user and system */
    int64_t threads, rss_kib;
    int exit_status;           /* wait status of a zombie, if we may know; else 0 */
};
/* 0 or -errno (-ESRCH when there is no such process). */
int pi_stat(pid_t pid, struct pi_stat *ret);

/* The short name (comm); malloc'ed, "" if unknown. */
char *pi_name(pid_t pid);

/* The line of the unified hierarchy ("0::/..."), without newline; malloc'ed, "" if unknown. */
char *pi_cgroup(pid_t pid);

/* The environment that the program was started with: NULL-terminated array in one malloc'ed block; NULL if unreadable. */
char **pi_environ(pid_t pid);

/* CPU time used by all threads so far, ns; false when the process is gone. */
bool pi_cpu_ns(pid_t pid, uint64_t *ret);

/* Number of open descriptors, -1 if it can't be known. */
int64_t pi_fd_count(pid_t pid);

/* Calls fn for each open descriptor. 0 or -errno. */
int pi_each_fd(pid_t pid, void (*fn)(void *ctx, int fd), void *ctx);
/* Target of /proc/PID/fd/N as text into buf (terminated), and the file's stat (st_mode 0 if not known). Length or -errno. */
int pi_fd_link(pid_t pid, int fd, char *buf, size_t size, struct stat *st);
/* Its open(2) flags, O_CLOEXEC included; or -errno. */
int pi_fd_flags(pid_t pid, int fd);
/* A descriptor of ours for the same open file (pidfd_getfd(2)), or -errno. */
int pi_fd_copy(int pidfd, int fd);
/* The same for cwd. */
int pi_cwd(pid_t pid, char *buf, size_t size);

/* Name of a user or group from /etc/passwd and /etc/group; NULL if there is none. Valid for ever. */
const char *pi_user(uint32_t uid);
const char *pi_group(uint32_t gid);

const char *pi_host(void);       /* gethostname(2), at most 255 bytes */
const char *pi_machine_id(void); /* 32 hex digits: /etc/machine-id, else derived from a network card, else zeros */

/* pidfd_open(2): a descriptor or -errno. */
int pi_pidfd(pid_t pid);
/* The wait status of an ended process, once it was reaped (Linux 6.15, PIDFD_GET_INFO) or while it is a zombie
 * (/proc/PID/stat). pid 0: don't look there. False if it isn't known (yet). */
bool pi_exit_status(int pidfd, pid_t pid, int *ret);

#endif
