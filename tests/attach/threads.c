/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 64 threads that wait in all ways there are, or spin, until SIGTERM comes; then says what went wrong. No call may fail
 * with EINTR (no signal has a handler but the queued one, which one thread waits for), no message and no queued signal
 * may be lost or doubled, no timeout may be short, and no register may change.
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "vectors.h"

#define THREADS 64
#define TIMEOUT_MS 30

struct worker {
    pthread_t thread;
    pid_t tid;
    void (*run)(struct worker *);
    const char *name;
    int in, out; /* of a socket pair: messages come in */
    uint64_t sent, got;
    uint64_t last; /* number of the message behind which none comes; 0: not known yet */
    uint32_t word; /* of a futex */
};

static volatile int stop;
static int failures;

static void wrong(const struct worker *w, const char *what, long value)
{
    __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
    printf("%s: %s (%ld, errno %d)\n", w->name, what, value, errno);
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* Whether there is another message to wait for. `stop` doesn't tell: it may be set before the last one is sent. */
static int more(const struct worker *w)
{
    uint64_t last = __atomic_load_n(&w->last, __ATOMIC_ACQUIRE);

    return !last || w->got < last;
}

static void message(struct worker *w)
{
    uint64_t n = 0;
    ssize_t got = read(w->in, &n, sizeof(n));

    if (got != sizeof(n))
        wrong(w, "read", got);
    else if (n != w->got + 1)
        wrong(w, "message out of order", (long)n);
    w->got = n;
}

static void run_read(struct worker *w)
{
    while (more(w))
        message(w);
}

static void run_poll(struct worker *w)
{
    struct pollfd p = {.fd = w->in, .events = POLLIN};

    while (more(w)) {
        int n = poll(&p, 1, -1);

        if (n != 1)
            wrong(w, "poll", n);
        else
            message(w);
    }
}

static void run_select(struct worker *w)
{
    while (more(w)) {
        fd_set set;
        int n;

        FD_ZERO(&set);
        FD_SET(w->in, &set);
        n = select(w->in + 1, &set, NULL, NULL, NULL);
        if (n != 1)
            wrong(w, "select", n);
        else
            message(w);
    }
}

static void run_epoll(struct worker *w)
{
    struct epoll_event e = {.events = EPOLLIN};
    int ep = epoll_create1(0);

    epoll_ctl(ep, EPOLL_CTL_ADD, w->in, &e);
    while (more(w)) {
        int n = epoll_wait(ep, &e, 1, -1);

        if (n != 1)
            wrong(w, "epoll_wait", n);
        else
            message(w);
    }
    close(ep);
}

static void run_epoll_timeout(struct worker *w)
{
    struct epoll_event e;
    int ep = epoll_create1(0);

    while (!stop) {
        uint64_t began = now_ms();
        int n = epoll_wait(ep, &e, 1, TIMEOUT_MS);

        if (n)
            wrong(w, "epoll_wait with a timeout", n);
        if (now_ms() - began < TIMEOUT_MS - 1)
            wrong(w, "short", (long)(now_ms() - began));
    }
    close(ep);
}

static void run_poll_timeout(struct worker *w)
{
    while (!stop) {
        uint64_t began = now_ms();
        int n = poll(NULL, 0, TIMEOUT_MS);

        if (n)
            wrong(w, "poll with a timeout", n);
        if (now_ms() - began < TIMEOUT_MS - 1)
            wrong(w, "short", (long)(now_ms() - began));
    }
}

static void run_sleep(struct worker *w)
{
    while (!stop) {
        struct timespec t = {0, TIMEOUT_MS * 1000000l};
        uint64_t began = now_ms();

        if (nanosleep(&t, NULL))
            wrong(w, "nanosleep", -1);
        if (now_ms() - began < TIMEOUT_MS - 1)
            wrong(w, "short", (long)(now_ms() - began));
    }
}

static void run_receive_timeout(struct worker *w)
{
    struct timeval t = {0, TIMEOUT_MS * 1000};
    int pair[2];
    char c;

    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    while (!stop)
        if (recv(pair[0], &c, 1, 0) != -1 || errno != EAGAIN)
            wrong(w, "recv with a timeout", -1);
}

static void run_signal_timeout(struct worker *w)
{
    struct timespec t = {0, TIMEOUT_MS * 1000000l};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    while (!stop)
        if (sigtimedwait(&set, NULL, &t) != -1 || errno != EAGAIN)
            wrong(w, "sigtimedwait", -1);
}

/* A futex without a timeout, which somebody wakes for each message. */
static void run_futex(struct worker *w)
{
    while (more(w)) {
        uint32_t seen = __atomic_load_n(&w->word, __ATOMIC_ACQUIRE);
        long n;

        if (seen > w->got) {
            w->got = seen;
            continue;
        }
        n = syscall(SYS_futex, &w->word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        if (n && errno != EAGAIN)
            wrong(w, "futex", n);
    }
}

static void run_spin(struct worker *w)
{
    unsigned char in[512], out[512];

    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (unsigned char)(i * 7 + (uintptr_t)w);
    while (!stop) {
        if (vectors_change(in, out))
            wrong(w, "vector registers changed", 0);
        if (getppid() <= 0)
            wrong(w, "getppid", 0);
        usleep(1000); /* two CPUs are shared with others */
    }
}

static volatile uint64_t queued;

static void on_queued(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    if ((uint64_t)info->si_value.sival_int != queued + 1)
        __atomic_fetch_add(&failures, 1000, __ATOMIC_RELAXED);
    queued = (uint64_t)info->si_value.sival_int;
}

/* Takes the queued signals: the only one whose calls end with EINTR. They come while it waits, and at no other time: the
 * last one would come between the look at `stop` and the waiting. */
static void run_queued(struct worker *w)
{
    sigset_t set;

    (void)w;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    sigdelset(&set, SIGRTMIN);
    while (!stop)
        sigsuspend(&set);
}

static const struct {
    void (*run)(struct worker *);
    const char *name;
    int fed;
} kinds[] = {
    {run_read, "read", 1},
    {run_poll, "poll", 1},
    {run_select, "select", 1},
    {run_epoll, "epoll", 1},
    {run_futex, "futex", 1},
    {run_epoll_timeout, "epoll-timeout", 0},
    {run_poll_timeout, "poll-timeout", 0},
    {run_sleep, "sleep", 0},
    {run_receive_timeout, "receive-timeout", 0},
    {run_signal_timeout, "signal-timeout", 0},
    {run_spin, "spin", 0},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void *start(void *arg)
{
    struct worker *w = arg;

    __atomic_store_n(&w->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    w->run(w);
    return NULL;
}

/* Queues a signal with a number for a thread: sigqueue(3), which musl has for processes only. */
static int queue(const struct worker *w, uint64_t n)
{
    siginfo_t info = {.si_signo = SIGRTMIN, .si_code = SI_QUEUE};

    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_int = (int)n;
    return (int)syscall(SYS_rt_tgsigqueueinfo, getpid(), w->tid, SIGRTMIN, &info);
}

static void feed(struct worker *w, size_t kind)
{
    w->sent++;
    if (kinds[kind].run == run_futex) {
        __atomic_store_n(&w->word, (uint32_t)w->sent, __ATOMIC_RELEASE);
        syscall(SYS_futex, &w->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    } else if (write(w->out, &w->sent, sizeof(w->sent)) != sizeof(w->sent)) {
        wrong(w, "write", -1);
    }
}

int main(void)
{
    static struct worker workers[THREADS];
    struct sigaction act = {.sa_sigaction = on_queued, .sa_flags = SA_SIGINFO};
    struct timespec tick = {0, 10000000};
    uint64_t sent = 0, until;
    sigset_t set;
    int sig;

    setvbuf(stdout, NULL, _IOLBF, 0);
    sigaction(SIGRTMIN, &act, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigdelset(&set, SIGUSR2);
    sigdelset(&set, SIGRTMIN);
    for (size_t i = 0; i < THREADS - 1; i++) {
        struct worker *w = &workers[i];
        int pair[2] = {-1, -1};

        w->run = i ? kinds[i % KINDS].run : run_queued;
        w->name = i ? kinds[i % KINDS].name : "queued";
        if (i && kinds[i % KINDS].fed && socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
            return 98;
        w->in = pair[0];
        w->out = pair[1];
        if (pthread_create(&w->thread, NULL, start, w))
            return 98;
    }
    while (!__atomic_load_n(&workers[0].tid, __ATOMIC_ACQUIRE))
        usleep(1000);
    puts("ready");
    while ((sig = sigtimedwait(&set, NULL, &tick)) != SIGTERM) {
        if (sig < 0 && errno != EAGAIN)
            wrong(&workers[0], "sigtimedwait of main", -1);
        if (queue(&workers[0], ++sent))
            wrong(&workers[0], "sigqueue", -1);
        for (size_t i = 1; i < THREADS - 1; i++)
            if (kinds[i % KINDS].fed && (sent + i) % 7 == 0)
                feed(&workers[i], i % KINDS);
    }
    until = now_ms() + 5000;
    while (queued != sent && now_ms() < until)
        usleep(1000);
    if (queued != sent)
        wrong(&workers[0], "queued signals are missing", (long)(sent - queued));
    stop = 1;
    for (size_t i = 1; i < THREADS - 1; i++)
        if (kinds[i % KINDS].fed) {
            __atomic_store_n(&workers[i].last, workers[i].sent + 1, __ATOMIC_RELEASE);
            feed(&workers[i], i % KINDS);
        }
    queue(&workers[0], sent + 1);
    for (size_t i = 0; i < THREADS - 1; i++)
        pthread_join(workers[i].thread, NULL);
    for (size_t i = 1; i < THREADS - 1; i++)
        if (kinds[i % KINDS].fed && workers[i].got != workers[i].sent)
            wrong(&workers[i], "messages are missing", (long)(workers[i].sent - workers[i].got));
    printf("%d failures, %s\n", failures, sent ? "signals sent" : "none sent");
    return failures != 0;
}
