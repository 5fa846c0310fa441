/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waits in each call that has a timeout, in a thread for each, and says what each returned and when: a call that is
 * interrupted must be as it would have been. Arguments: the timeout in ms; optionally the name of one call, which then
 * is made by the only thread. Prints "NAME RESULT ERRNO MS" for each.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static long wait_ms;
static struct timespec wait_ts;

static struct timespec later(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    now.tv_sec += wait_ts.tv_sec;
    now.tv_nsec += wait_ts.tv_nsec;
    now.tv_sec += now.tv_nsec / 1000000000;
    now.tv_nsec %= 1000000000;
    return now;
}

static int epoll(void)
{
    return epoll_create1(EPOLL_CLOEXEC);
}

/* A connected pair whose calls time out. */
static int patient(void)
{
    struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000};
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 ||
        setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0 ||
        setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0)
        abort();
    return fds[0];
}

/* ... to which nothing more can be written. */
static int full(void)
{
    static const char bytes[4096];
    int fd = patient();

    while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        ;
    return fd;
}

static int listener(struct sockaddr_un *ret, socklen_t *ret_len)
{
    struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sa_family_t family = AF_UNIX;

    *ret_len = sizeof(*ret);
    if (fd < 0 || bind(fd, (struct sockaddr *)&family, sizeof(family)) < 0 || listen(fd, 0) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0 ||
        getsockname(fd, (struct sockaddr *)ret, ret_len) < 0)
        abort();
    return fd;
}

static long do_poll(void)
{
    return poll(NULL, 0, (int)wait_ms);
}

static long do_ppoll(void)
{
    return ppoll(NULL, 0, &wait_ts, NULL);
}

static long do_select(void)
{
    struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000};

    return select(0, NULL, NULL, NULL, &tv);
}

static long do_pselect(void)
{
    return pselect(0, NULL, NULL, NULL, &wait_ts, NULL);
}

static long do_nanosleep(void)
{
    struct timespec ts = wait_ts;

    return nanosleep(&ts, NULL);
}

static long do_clock_nanosleep(void)
{
    return clock_nanosleep(CLOCK_MONOTONIC, 0, &wait_ts, NULL);
}

static long do_clock_nanosleep_abs(void)
{
    struct timespec ts = later(CLOCK_MONOTONIC);

    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static long do_futex(void)
{
    static int word;

    return syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 0, &wait_ts, NULL, 0);
}

static long do_sem_timedwait(void)
{
    struct timespec ts = later(CLOCK_REALTIME);
    sem_t sem;

    sem_init(&sem, 0, 0);
    return sem_timedwait(&sem, &ts);
}

static long do_epoll_wait(void)
{
    struct epoll_event e;

    return epoll_wait(epoll(), &e, 1, (int)wait_ms);
}

static long do_epoll_pwait(void)
{
    struct epoll_event e;
    sigset_t none;

    sigemptyset(&none);
    return epoll_pwait(epoll(), &e, 1, (int)wait_ms, &none);
}

static long do_epoll_pwait2(void)
{
    struct epoll_event e;

    return syscall(441 /* SYS_epoll_pwait2 */, epoll(), &e, 1, &wait_ts, NULL, 8);
}

static long do_sigtimedwait(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return sigtimedwait(&set, NULL, &wait_ts);
}

static long do_semtimedop(void)
{
    struct sembuf op = {0, -1, 0};
    int id = semget(IPC_PRIVATE, 1, 0600), err;
    long ret = semtimedop(id, &op, 1, &wait_ts);

    err = errno;
    semctl(id, 0, IPC_RMID);
    errno = err;
    return ret;
}

static long do_io_getevents(void)
{
    aio_context_t ctx = 0;
    struct io_event e;

    if (syscall(SYS_io_setup, 1, &ctx) < 0)
        abort();
    return syscall(SYS_io_getevents, ctx, 1L, 1L, &e, &wait_ts);
}

static long do_recv(void)
{
    char byte;

    return recv(patient(), &byte, 1, 0);
}

static long do_recvmsg(void)
{
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    return recvmsg(patient(), &m, 0);
}

static long do_read(void)
{
    char byte;

    return read(patient(), &byte, 1);
}

static long do_send(void)
{
    return send(full(), "x", 1, 0);
}

static long do_write(void)
{
    return write(full(), "x", 1);
}

static long do_accept(void)
{
    struct sockaddr_un un;
    socklen_t len;

    return accept(listener(&un, &len), NULL, NULL);
}

static long do_connect(void)
{
    struct sockaddr_un un;
    socklen_t len;

    listener(&un, &len);
    for (;;) { /* until its backlog is full */
        struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000};
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
        if (connect(fd, (struct sockaddr *)&un, len) < 0)
            return -1;
    }
}

static const struct call {
    const char *name;
    long (*fn)(void);
} calls[] = {
#define CALL(name) \
    { \
#name, do_##name \
    }
    CALL(poll),         CALL(ppoll),         CALL(select),
    CALL(pselect),      CALL(nanosleep),     CALL(clock_nanosleep),
    CALL(futex),        CALL(sem_timedwait), CALL(clock_nanosleep_abs),
    CALL(epoll_wait),   CALL(epoll_pwait),   CALL(epoll_pwait2),
    CALL(sigtimedwait), CALL(semtimedop),    CALL(io_getevents),
    CALL(recv),         CALL(recvmsg),       CALL(read),
    CALL(send),         CALL(write),         CALL(accept),
    CALL(connect),
};
#define CALLS (sizeof(calls) / sizeof(*calls))

static void *run(void *arg)
{
    const struct call *c = arg;
    struct timespec a, b;
    char line[128];
    long ret;
    int err;

    clock_gettime(CLOCK_MONOTONIC, &a);
    errno = 0;
    ret = c->fn();
    err = errno;
    clock_gettime(CLOCK_MONOTONIC, &b);
    snprintf(line, sizeof(line), "%s %ld %d %ld\n", c->name, ret, err,
             (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
    fputs(line, stdout);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[CALLS];
    sigset_t usr2;

    wait_ms = argc > 1 ? atol(argv[1]) : 0;
    wait_ts = (struct timespec){wait_ms / 1000, wait_ms % 1000 * 1000000};
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    sigprocmask(SIG_BLOCK, &usr2, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    for (size_t i = 0; i < CALLS; i++) {
        if (argc > 2 && strcmp(argv[2], calls[i].name) == 0)
            run((void *)&calls[i]);
        else if (argc <= 2 && pthread_create(&threads[i], NULL, run, (void *)&calls[i]) != 0)
            return 1;
    }
    for (size_t i = 0; argc <= 2 && i < CALLS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
