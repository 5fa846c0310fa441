/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts about processes from /proc (proc(5)), the user database and pidfds.
 * Read at most a few times in a process's life, never per event. Pids are those
 * of the collector's own pid namespace. Single-threaded.
 */
#ifndef SCOPE_MODEL_PROCINFO_H
#define SCOPE_MODEL_PROCINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
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

/* Process 1, or what the kernel has started: by kthreadd (2) or one of its children. False if that can't be known. */
bool pi_is_of_host(pid_t pid);

/* Calls fn for each child that a thread (tid 0: any) of a process has; nothing if the kernel doesn't tell. */
void pi_each_child(pid_t pid, pid_t tid, void (*fn)(void *ctx, pid_t child), void *ctx);

/* The short name (comm); malloc'ed, "" if unknown. */
char *pi_name(pid_t pid);

/* The line of the unified hierarchy ("0::/..."), without newline; malloc'ed, "" if unknown. container: the id that
 * Docker, Podman, containerd and Kubernetes name a container's control group after, in any hierarchy: 64 hex digits,
 * or "". */
char *pi_cgroup(pid_t pid, char container[65]);

/* A process's number in the innermost pid namespace that it is in: as it sees itself. 0 if unknown. */
uint32_t pi_inner_pid(pid_t pid);

/* The environment that the program was started with: NULL-terminated array in one malloc'ed block; NULL if unreadable.
 * (It can't lie in a file that never answers: the kernel reads anonymous memory only, Linux 4.17.) */
char **pi_environ(pid_t pid);

/* CPU time used by all threads so far, ns; false when the process is gone. */
bool pi_cpu_ns(pid_t pid, uint64_t *ret);

/* Number of open descriptors, -1 if it can't be known. */
int64_t pi_fd_count(pid_t pid);

/* Calls fn for each open descriptor. 0 or -errno. */
int pi_each_fd(pid_t pid, void (*fn)(void *ctx, int fd), void *ctx);
/* Target of /proc/PID/fd/N as text into buf (terminated), and its stat if it is a socket, a pipe or anonymous (else, or if it isn't
 * known: st_mode 0). Length or -errno. */
int pi_fd_link(pid_t pid, int fd, char *buf, size_t size, struct stat *st);
/* Whom a TCP socket of AF_INET or AF_INET6 is connected to, from the kernel's list of those (proc_pid_net(5)); what it
 * costs grows with their number. 0, -ENOENT or another -errno. */
int pi_tcp_peer(pid_t pid, int fd, sa_family_t family, struct sockaddr_storage *ret);
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

/* Users, groups and capabilities of a process as we see them (proc(5), status). */
struct pi_ids {
    uint32_t uid, euid, gid, egid;
    uint64_t permitted, effective; /* capabilities, in its own user namespace */
    uint32_t inner_pid;            /* as pi_inner_pid(); 0: the kernel doesn't tell */
};
/* 0 or -errno. */
int pi_ids(pid_t pid, struct pi_ids *ret);
/* Effective user; UINT32_MAX if unknown. */
uint32_t pi_euid(pid_t pid);
/* Whether it is in our user namespace. */
bool pi_in_our_userns(pid_t pid);
/* Whether it is in a user namespace, or one inside another, that this user has made (ioctl_ns(2)). */
bool pi_in_own_userns(pid_t pid);
/* The target of /proc/PID/exe; malloc'ed, "" if unknown. */
char *pi_exe(pid_t pid);
/* The process that shares the memory with inode `mapped` (a memfd) and has the socket `ino` open as descriptor fd:
 * `first`, or any other that we can see. 0 if there is none. */
pid_t pi_find_socket(pid_t first, int fd, uint64_t ino, uint64_t mapped);
/* Whether a process has the memory with this inode (a memfd) mapped. Takes as long as its /proc/PID/maps is. */
bool pi_maps(pid_t pid, uint64_t ino);
/* ... among the first lines of that. */
bool pi_maps_within(pid_t pid, uint64_t ino, unsigned long lines);
/* Whether any process that we can see has the memory with this inode (a memfd) mapped, other than ourselves. */
bool pi_any_maps(uint64_t ino);
/* A copy of a process's descriptor (pidfd_getfd(2)), if that is the socket `ino`: or -errno. */
int pi_get_socket(pid_t pid, int fd, uint64_t ino);

/* pidfd_open(2): a descriptor or -errno. */
int pi_pidfd(pid_t pid);
/* The wait status of an ended process, once it was reaped (Linux 6.15, PIDFD_GET_INFO) or while it is a zombie
 * (/proc/PID/stat). pid 0: don't look there. False if it isn't known (yet). */
bool pi_exit_status(int pidfd, pid_t pid, int *ret);

#endif
