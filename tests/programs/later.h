/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that newer architectures don't have, as later ones do the same (asm-generic/unistd.h): made by the later one
 * there, so that a program's text is the same everywhere. Numbers below 0 stand for those that are lacking.
 */
#ifndef TESTS_LATER_H
#define TESTS_LATER_H

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef __NR_open
#define __NR_open -1
#define __NR_creat -2
#define __NR_getdents -3
#define __NR_stat -4
#define __NR_lstat -5
#define __NR_access -6
#define __NR_readlink -7
#define __NR_unlink -8
#define __NR_rmdir -9
#define __NR_mkdir -10
#define __NR_mknod -11
#define __NR_rename -12
#define __NR_link -13
#define __NR_symlink -14
#define __NR_chmod -15
#define __NR_chown -16
#define __NR_lchown -17
#define __NR_utime -18
#define __NR_utimes -19
#define __NR_futimesat -20
#define __NR_dup2 -21
#define __NR_pipe -22
#define __NR_eventfd -23
#define __NR_signalfd -24
#define __NR_epoll_create -25
#define __NR_inotify_init -26
#define __NR_fork -27
#define __NR_vfork -28
#endif
#ifndef __NR_newfstatat
#define __NR_newfstatat __NR_fstatat
#endif

/* Whether this architecture has the call itself. */
#define HAS_CALL(name) (__NR_##name >= 0)

struct call {
    long nr;
    const char *op;
    long arg[6];
};

/* Times as utimensat(2) takes them. Pointers that no call may follow stay what they are. */
static inline __attribute__((unused)) long later_times(long times, int seconds_only)
{
    static struct timespec as[2];
    const long *t = (const long *)times;

    if (times < 4096)
        return times;
    for (int i = 0; i < 2; i++) {
        as[i].tv_sec = seconds_only ? t[i] : t[2 * i];
        as[i].tv_nsec = seconds_only ? 0 : t[2 * i + 1] * 1000;
    }
    return (long)as;
}

/* The call itself, or the later one. Inlined and of constants: what is compiled with optimisation has the number in its
 * instruction. */
static inline __attribute__((always_inline)) struct call later(struct call c)
{
#define IS_(number, name, ...) \
    case number: \
        return (struct call) \
        { \
            __NR_##name, #name, { __VA_ARGS__ } \
        }
#define A(n) c.arg[n]
    if (c.nr >= 0)
        return c;
    switch (c.nr) {
        IS_(-1, openat, AT_FDCWD, A(0), A(1), A(2));
        IS_(-2, openat, AT_FDCWD, A(0), O_CREAT | O_WRONLY | O_TRUNC, A(1));
        IS_(-3, getdents64, A(0), A(1), A(2));
        IS_(-4, newfstatat, AT_FDCWD, A(0), A(1), 0);
        IS_(-5, newfstatat, AT_FDCWD, A(0), A(1), AT_SYMLINK_NOFOLLOW);
        IS_(-6, faccessat, AT_FDCWD, A(0), A(1));
        IS_(-7, readlinkat, AT_FDCWD, A(0), A(1), A(2));
        IS_(-8, unlinkat, AT_FDCWD, A(0), 0);
        IS_(-9, unlinkat, AT_FDCWD, A(0), AT_REMOVEDIR);
        IS_(-10, mkdirat, AT_FDCWD, A(0), A(1));
        IS_(-11, mknodat, AT_FDCWD, A(0), A(1), A(2));
        IS_(-12, renameat, AT_FDCWD, A(0), AT_FDCWD, A(1));
        IS_(-13, linkat, AT_FDCWD, A(0), AT_FDCWD, A(1), 0);
        IS_(-14, symlinkat, A(0), AT_FDCWD, A(1));
        IS_(-15, fchmodat, AT_FDCWD, A(0), A(1));
        IS_(-16, fchownat, AT_FDCWD, A(0), A(1), A(2), 0);
        IS_(-17, fchownat, AT_FDCWD, A(0), A(1), A(2), AT_SYMLINK_NOFOLLOW);
        IS_(-18, utimensat, AT_FDCWD, A(0), later_times(A(1), 1), 0);
        IS_(-19, utimensat, AT_FDCWD, A(0), later_times(A(1), 0), 0);
        IS_(-20, utimensat, A(0), A(1), later_times(A(2), 0), 0);
        IS_(-21, dup3, A(0), A(1), 0);
        IS_(-22, pipe2, A(0), 0);
        IS_(-23, eventfd2, A(0), 0);
        IS_(-24, signalfd4, A(0), A(1), A(2), 0);
        IS_(-25, epoll_create1, 0);
        IS_(-26, inotify_init1, 0);
        IS_(-27, clone, SIGCHLD);
    }
#undef A
#undef IS_
    return c;
}

/* What the call `name` is told as. */
#define OP_NAME(name) (later((struct call){__NR_##name, #name, {0}}).op)

#endif
