/* SPDX-License-Identifier: Apache-2.0 */
/* Signals that come in the middle of calls: small stacks, restart, jumps out of handlers, cancellation, death. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "behave.h"

static atomic_int hits, cleaned;

static void every(long microseconds)
{
    struct itimerval t = {{0, microseconds}, {0, microseconds}};

    MUST(setitimer(ITIMER_REAL, &t, NULL) == 0);
}

static void some_io(int unused)
{
    int saved = errno, fd = open("/dev/zero", O_RDONLY);
    char b[8];

    (void)unused;
    if (fd >= 0) {
        MUST(read(fd, b, 8) == 8);
        MUST(close(fd) == 0);
    }
    hits++;
    errno = saved;
}

/* Handlers on an 8 KiB stack that lies between two guard pages. */
static int small_stack(int argc, char **argv)
{
    char *area = mmap(NULL, 4 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t ss = {.ss_sp = area + 4096, .ss_size = 8192};
    struct sigaction sa = {.sa_handler = some_io, .sa_flags = SA_ONSTACK | SA_RESTART};
    int p[2];
    char b[1];

    (void)argc, (void)argv;
    MUST(area != MAP_FAILED && mprotect(area + 4096, 8192, PROT_READ | PROT_WRITE) == 0);
    MUST(sigaltstack(&ss, NULL) == 0 && sigaction(SIGALRM, &sa, NULL) == 0 && pipe(p) == 0);
    every(100);
    for (int i = 0; i < 100000 || hits < 200; i++) {
        MUST(write(p[1], "x", 1) == 1);
        MUST(read(p[0], b, 1) == 1);
    }
    every(0);
    printf("done\n");
    return 0;
}

/* Blocking reads are restarted after a handler, nothing is lost or doubled. */
static int restart(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = some_io, .sa_flags = SA_RESTART};
    int p[2], v, n = 0, status;
    pid_t child;
    ssize_t r;

    (void)argc, (void)argv;
    MUST(sigaction(SIGALRM, &sa, NULL) == 0 && pipe(p) == 0);
    child = fork();
    if (child == 0) {
        for (int i = 0; i < 500; i++) {
            usleep(300);
            MUST(write(p[1], &i, sizeof(i)) == sizeof(i));
        }
        _exit(0);
    }
    close(p[1]);
    every(200);
    while ((r = read(p[0], &v, sizeof(v))) == sizeof(v))
        MUST(v == n++);
    MUST(r == 0);
    every(0);
    MUST(waitpid(child, &status, 0) == child);
    printf("%d values, child %x\n", n, status);
    return 0;
}

/* Without SA_RESTART the same call fails with EINTR. */
static int interrupted(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = some_io};
    int p[2], got = 0;
    char b;

    (void)argc, (void)argv;
    MUST(sigaction(SIGALRM, &sa, NULL) == 0 && pipe(p) == 0);
    every(500);
    for (int i = 0; i < 200; i++)
        got += read(p[0], &b, 1) == -1 && errno == EINTR;
    every(0);
    printf("%d times EINTR\n", got);
    return 0;
}

static sigjmp_buf jump_to;

static void jump(int unused)
{
    (void)unused;
    siglongjmp(jump_to, 1);
}

/* Handlers that never return, out of whatever was running; then counted reads. */
static int jumps(int argc, char **argv)
{
    struct itimerval once = {{0, 0}, {0, 40}};
    volatile int left = 2000, fd;
    char b[8];

    (void)argc, (void)argv;
    MUST(signal(SIGALRM, jump) != SIG_ERR);
    fd = open("/dev/zero", O_RDONLY);
    while (left > 0) {
        if (sigsetjmp(jump_to, 1) == 0) {
            MUST(setitimer(ITIMER_REAL, &once, NULL) == 0);
            for (;;)
                MUST(read(fd, b, 8) == 8);
        }
        left--;
    }
    close(fd);
    fd = open("/dev/urandom", O_RDONLY);
    for (int i = 0; i < 10000; i++)
        MUST(read(fd, b, 1) == 1);
    close(fd);
    printf("done\n");
    return 0;
}

/*
 * What the sender of a bombardment sees of its target. It never has more than AHEAD signals under way, nor more than
 * DEEPEST handlers inside one another: what bombards must not overflow the stack of a program that runs alone.
 */
enum { SENT = 20000, AHEAD = 64, DEEPEST = 200 };
static struct {
    atomic_int entered, depth;
} *target;

static void nested_io(int unused)
{
    target->entered++;
    target->depth++;
    some_io(unused);
    target->depth--;
}

/* A handler interrupts the program, and itself, at any instruction, from another process. */
static int bombarded(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = nested_io, .sa_flags = SA_RESTART | SA_NODEFER};
    pid_t parent = getpid(), child;
    int fd = open("/dev/zero", O_RDONLY), status;
    char b[8];

    (void)argc, (void)argv;
    target = mmap(NULL, sizeof(*target), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    /* A real-time signal: each one that is sent arrives. */
    MUST(target != MAP_FAILED && sigaction(SIGRTMIN, &sa, NULL) == 0);
    child = fork();
    if (child == 0) {
        for (int i = 0; i < SENT; i++) {
            while (i - target->entered >= AHEAD || target->depth >= DEEPEST)
                sched_yield();
            kill(parent, SIGRTMIN);
        }
        _exit(0);
    }
    while (waitpid(child, &status, WNOHANG) == 0)
        for (int i = 0; i < 100; i++)
            MUST(read(fd, b, 8) == 8);
    while (target->entered < SENT)
        sched_yield();
    printf("child %x, %d handled\n", status, hits);
    return 0;
}

static void clean(void *unused)
{
    (void)unused;
    cleaned++;
}

/* A thread that is cancelled before it has installed its handler has none to run, observed or not: wait for that. */
static atomic_int begun;

static void *deferred(void *arg)
{
    int fd = *(int *)arg;
    char b;

    pthread_cleanup_push(clean, NULL);
    begun = 1;
    while (read(fd, &b, 1) >= 0)
        ;
    pthread_cleanup_pop(1);
    return NULL;
}

static void *asynchronous(void *arg)
{
    int fd = *(int *)arg, old;
    char b;

    pthread_cleanup_push(clean, NULL);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    begun = 1;
    while (read(fd, &b, 1) >= 0)
        ;
    pthread_cleanup_pop(1);
    return NULL;
}

/* Cancels n threads that read fd; each must run its clean-up handler exactly once. */
static void cancel(int n, int fd, void *(*how)(void *))
{
    cleaned = 0;
    for (int i = 0; i < n; i++) {
        pthread_t t;
        void *r;

        begun = 0;
        MUST(pthread_create(&t, NULL, how, &fd) == 0);
        while (!begun)
            sched_yield();
        if (i & 1)
            usleep(i % 50);
        MUST(pthread_cancel(t) == 0);
        MUST(pthread_join(t, &r) == 0 && r == PTHREAD_CANCELED);
    }
    printf("%d of %d cleaned up\n", cleaned, n);
}

static int cancel_deferred(int argc, char **argv)
{
    int fd = open("/dev/zero", O_RDONLY);

    (void)argc, (void)argv;
    cancel(2000, fd, deferred);
    return 0;
}

static int cancel_async(int argc, char **argv)
{
    int fd = open("/dev/zero", O_RDONLY);

    (void)argc, (void)argv;
    cancel(2000, fd, asynchronous);
    return 0;
}

static int cancel_blocked(int argc, char **argv)
{
    int p[2];

    (void)argc, (void)argv;
    MUST(pipe(p) == 0);
    cancel(500, p[0], deferred);
    cancel(500, p[0], asynchronous);
    return 0;
}

static int die(int argc, char **argv)
{
    int s = atoi(argv[2]);
    struct rlimit none = {0, 0};

    (void)argc;
    setrlimit(RLIMIT_CORE, &none);
    MUST(write(1, "before\n", 7) == 7);
    if (s == SIGSEGV) {
        volatile int *volatile nowhere = (volatile int *)8;

        *nowhere = 1;
    }
    signal(s, SIG_DFL); /* who started the tests may have it ignored */
    kill(getpid(), s);
    pause();
    return 0;
}

/* Another signal's handler still works when the signal comes for a fault inside a system call's arguments. */
static int fault_handler(int argc, char **argv)
{
    (void)argc, (void)argv;
    MUST(signal(SIGSEGV, jump) != SIG_ERR);
    for (volatile int i = 0; i < 1000; i++) {
        if (sigsetjmp(jump_to, 1) == 0) {
            MUST(read(0, (void *)8, 0) == 0 || errno);
            *(volatile char *)(long)(8 + i) = 1;
            MUST(0);
        }
    }
    printf("done\n");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {
        {"small-stack", small_stack},
        {"restart", restart},
        {"interrupted", interrupted},
        {"jumps", jumps},
        {"bombarded", bombarded},
        {"cancel-deferred", cancel_deferred},
        {"cancel-async", cancel_async},
        {"cancel-blocked", cancel_blocked},
        {"die", die},
        {"fault-handler", fault_handler},
        {NULL, NULL},
    };

    return behave_main(cases, argc, argv);
}
