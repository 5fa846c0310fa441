/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors: dup forms, fcntl, ioctl, pipes, the calls that make special descriptors, mmap of files. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>

#include "expect.h"

#ifndef __NR_pidfd_open
#define __NR_pidfd_open 434
#endif
#ifndef __NR_pidfd_getfd
#define __NR_pidfd_getfd 438
#endif
#ifndef FIOCLEX
#define FIOCLEX 0x5451
#endif
#ifndef FIONREAD
#define FIONREAD 0x541B
#endif

static char buffer[256];

static void shut(long fd)
{
    OK(C(close, X(.fd = fd), fd));
}

static void dups(int fd)
{
    int d = (int)OK(C(dup, X(.fd = fd), fd));

    OK(C(write, X(.fd = d, .io = 1), d, "x", 1));
    FAILS(EBADF, C(dup, X(.fd = 999), 999));
    MUST(C(dup2, X(.fd = fd), fd, 50) == 50);
    if (HAS_CALL(dup2)) /* dup3 refuses it */
        MUST(C(dup2, X(.fd = fd), fd, fd) == fd);
    MUST(C(dup2, X(.fd = fd), fd, 50) == 50); /* over an open one */
    FAILS(EBADF, C(dup2, X(.fd = 999), 999, 51));
    FAILS(EBADF, C(dup2, X(.fd = fd), fd, -1));
    MUST(C(dup3, X(.fd = fd), fd, 52, O_CLOEXEC) == 52);
    FAILS(EINVAL, C(dup3, X(.fd = fd), fd, fd, 0));
    FAILS(EBADF, C(dup3, X(.fd = 999), 999, 53, 0));
    MUST(C(fcntl, X(.fd = fd), fd, F_DUPFD, 1500 % 1000) >= 500);
    MUST(C(fcntl, X(.fd = fd), fd, F_DUPFD_CLOEXEC, 60) == 60);
    FAILS(EBADF, C(fcntl, X(.fd = 999), 999, F_DUPFD, 60));
    FAILS(EINVAL, C(fcntl, X(.skip = 1), fd, 9999, 60)); /* commands that make no descriptor are not observed */
    OK(C(fcntl, X(.fd = fd), fd, F_SETFD, FD_CLOEXEC));
    OK(C(fcntl, X(.skip = 1), fd, F_GETFL));
    OK(C(ioctl, X(.fd = fd), fd, FIOCLEX));
    MUST(C(ioctl, X(.skip = 1), fd, FIONREAD, buffer) == 0);
    FAILS(EBADF, C(ioctl, X(.fd = 999), 999, FIOCLEX));
    FAILS(EFAULT, C(ioctl, X(.skip = 1), fd, FIONREAD, BAD));
    shut(d);
    shut(50);
    shut(52);
    shut(60);
    shut(500);
}

static void pipes(void)
{
    int p[2];

    OK(C(pipe, X(.fd = 0), p));
    MUST(C(write, X(.fd = p[1], .io = 1), p[1], "abc", 3) == 3);
    MUST(C(read, X(.fd = p[0], .io = 1), p[0], buffer, 9) == 3);
    shut(p[0]);
    shut(p[1]);
    FAILS(EFAULT, C(pipe, X(.fd = 0), BAD));
    OK(C(pipe2, X(.fd = 0), p, O_CLOEXEC));
    shut(p[0]);
    shut(p[1]);
    FAILS(EINVAL, C(pipe2, X(.fd = 0), p, 1));
    FAILS(EFAULT, C(pipe2, X(.fd = 0), BAD, 0));
}

static void specials(int fd)
{
    uint64_t mask = 1UL << (SIGUSR2 - 1);
    struct itimerspec soon = {.it_value = {0, 1000}};
    int e, f;

    e = (int)OK(C(memfd_create, X(.path = "some memory"), "some memory", MFD_CLOEXEC));
    MUST(C(write, X(.fd = e, .io = 1), e, "abc", 3) == 3);
    shut(e);
    FAILS(EINVAL, C(memfd_create, X(.path = "m"), "m", 0x40000000));
    FAILS(EFAULT, C(memfd_create, X(.no_path = 1), BAD, 0));
    shut(OK(C(eventfd, X(.fd = 0), 3)));
    e = (int)OK(C(eventfd2, X(.fd = 0), 3, EFD_CLOEXEC));
    MUST(C(read, X(.fd = e, .io = 1), e, buffer, 8) == 8);
    shut(e);
    FAILS(EINVAL, C(eventfd2, X(.fd = 0), 3, 0x100));
    e = (int)OK(C(timerfd_create, X(.fd = 0), CLOCK_MONOTONIC, 0));
    MUST(timerfd_settime(e, 0, &soon, NULL) == 0);
    MUST(C(read, X(.fd = e, .io = 1), e, buffer, 8) == 8);
    shut(e);
    FAILS(EINVAL, C(timerfd_create, X(.fd = 0), 99, 0));
    e = (int)OK(C(signalfd, X(.fd = 0), -1, &mask, 8));
    shut(e);
    FAILS(EINVAL, C(signalfd, X(.fd = 0), -1, &mask, 3));
    e = (int)OK(C(signalfd4, X(.fd = 0), -1, &mask, 8, SFD_NONBLOCK));
    FAILS(EAGAIN, C(read, X(.fd = e), e, buffer, 128));
    shut(e);
    FAILS(EINVAL, C(signalfd4, X(.fd = 0), fd, &mask, 8, 0));
    shut(OK(C(epoll_create, X(.fd = 0), 10)));
    if (HAS_CALL(epoll_create)) /* epoll_create1 asks for no size */
        FAILS(EINVAL, C(epoll_create, X(.fd = 0), 0));
    shut(OK(C(epoll_create1, X(.fd = 0), EPOLL_CLOEXEC)));
    FAILS(EINVAL, C(epoll_create1, X(.fd = 0), 1));
    shut(OK(C(inotify_init, X(.fd = 0))));
    shut(OK(C(inotify_init1, X(.fd = 0), IN_NONBLOCK)));
    FAILS(EINVAL, C(inotify_init1, X(.fd = 0), 1));
    e = (int)OK(C(pidfd_open, X(.fd = 0), getpid(), 0));
    FAILS(EINVAL, C(pidfd_open, X(.fd = 0), -5, 0));
    f = (int)C(pidfd_getfd, X(.fd = e), e, fd, 0);
    if (f >= 0)
        shut(f);
    FAILS(EBADF, C(pidfd_getfd, X(.fd = 999), 999, fd, 0));
    shut(e);
}

static void maps(int fd)
{
    long a = C(mmap, X(.fd = fd), NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);

    MUST(a > 0);
    munmap((void *)a, 4096);
    FAILS(EBADF, C(mmap, X(.fd = 999), NULL, 4096, PROT_READ, MAP_PRIVATE, 999, 0));
    FAILS(EINVAL, C(mmap, X(.fd = fd), NULL, 0, PROT_READ, MAP_PRIVATE, fd, 0));
    FAILS(EINVAL, C(mmap, X(.fd = fd), NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 1));
}

static void libc_calls(int fd)
{
    int p[2], e;
    sigset_t set;

    e = (int)OK(L("dup", X(.fd = fd), dup(fd)));
    OK(L("close", X(.fd = e), close(e)));
    MUST(L("dup2|dup3", X(.fd = fd), dup2(fd, 50)) == 50);
    OK(L("close", X(.fd = 50), close(50)));
    OK(L("fcntl", X(.fd = fd), fcntl(fd, F_SETFD, 0)));
    MUST(L("fcntl", X(.fd = fd), fcntl(fd, F_DUPFD, 70)) == 70);
    OK(L("close", X(.fd = 70), close(70)));
    OK(L("pipe|pipe2", X(.fd = 0), pipe(p)));
    shut(p[0]);
    shut(p[1]);
    shut(OK(L("eventfd2", X(.fd = 0), eventfd(1, 0))));
    shut(OK(L("timerfd_create", X(.fd = 0), timerfd_create(CLOCK_REALTIME, 0))));
    sigemptyset(&set);
    shut(OK(L("signalfd|signalfd4", X(.fd = 0), signalfd(-1, &set, 0))));
    shut(OK(L("epoll_create1|epoll_create", X(.fd = 0), epoll_create1(0))));
    shut(OK(L("inotify_init|inotify_init1", X(.fd = 0), inotify_init())));
    shut(OK(L("memfd_create", X(.path = "m"), memfd_create("m", 0))));
    FAILS(EBADF, L("dup", X(.fd = 999), dup(999)));
    FAILS(EBADF, L("fcntl", X(.fd = 999), fcntl(999, F_SETFD, 0)));
}

int main(int argc, char **argv)
{
    int fd;

    expect_begin(argc, argv);
    fd = (int)OK(C(open, X(.path = "f"), "f", O_CREAT | O_RDWR, 0644));
    dups(fd);
    pipes();
    specials(fd);
    maps(fd);
    libc_calls(fd);
    shut(fd);
    expect_end();
    return 0;
}
