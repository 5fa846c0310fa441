/* SPDX-License-Identifier: Apache-2.0 */
/*
 * standing THREADS [alternate]: stands at places that are known, in so many threads besides the first one. Those wait in
 * pause(2), the last one in epoll_wait(2), which a stop must not make fail; the first reads from its standard input,
 * below a signal's handler, on an alternate stack if wished. When it can read something it ends: with 0 if nothing has
 * been seen of having been stopped.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static volatile int kept, ready, disturbed;

static __attribute__((noinline, noclone)) void hold(int n)
{
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    pause(); /* hold */
    kept = n;
}

static inline __attribute__((always_inline)) void inlined(int n)
{
    hold(n + 1); /* inlined */
    kept++;
}

static __attribute__((noinline, noclone)) void outer(int n)
{
    inlined(2 * n); /* outer */
    kept++;
}

static void *waits(void *arg)
{
    outer((int)(intptr_t)arg); /* waits */
    kept++;
    return arg;
}

static __attribute__((noinline, noclone)) int polls(int fd)
{
    struct epoll_event e;
    int n;

    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    n = epoll_wait(fd, &e, 1, -1); /* polls */
    disturbed = 1;
    return n;
}

static void *poller(void *arg)
{
    polls(epoll_create1(0)); /* poller */
    kept++;
    return arg;
}

static __attribute__((noinline, noclone)) void reads(int fd)
{
    char c;

    if (read(fd, &c, 1) != 1) /* reads */
        disturbed = 1;
    kept++;
}

static void handler(int sig)
{
    printf("ready\n");
    fflush(stdout);
    reads(0); /* handler */
    kept = sig;
}

static __attribute__((noinline, noclone)) void raises(void)
{
    raise(SIGUSR1); /* raises */
    kept++;
}

int main(int argc, char **argv)
{
    static char room[65536];
    struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK};
    stack_t stack = {.ss_sp = room, .ss_size = sizeof(room)};
    int count = argc > 1 ? atoi(argv[1]) : 0;
    pthread_t t;

    if (argc > 2 && strcmp(argv[2], "alternate") == 0)
        sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &act, NULL);
    for (int i = 0; i < count; i++)
        pthread_create(&t, NULL, i == count - 1 ? poller : waits, NULL);
    while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < count)
        usleep(1000);
    raises(); /* main */
    return disturbed ? 3 : 0;
}
