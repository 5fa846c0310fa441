/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cancels threads that read single bytes without a pause, so that many a cancellation comes in the middle of what is
 * around a call. Waits for SIGUSR1, and says how many were cancelled, and how many ran their clean-up handler. Built
 * with -fexceptions that runs by unwinding the stack, else from a list (pthread_cleanup_push(3)). Argument: how many.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int fd;
static atomic_int begun, cleaned;

static void clean(void *unused)
{
    (void)unused;
    cleaned++;
}

static void *reads(void *arg)
{
    char byte;

    pthread_cleanup_push(clean, NULL);
    begun = 1;
    while (read(fd, &byte, 1) >= 0)
        ;
    pthread_cleanup_pop(0);
    return arg;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 0, cancelled = 0, sig;
    sigset_t usr1;

    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    fd = open("/dev/zero", O_RDONLY);
    puts("ready");
    fflush(stdout);
    sigwait(&usr1, &sig);
    for (int i = 0; i < count; i++) {
        struct timespec pause = {0, i * 7919L % 50000};
        pthread_t thread;
        void *ret;

        begun = 0;
        if (pthread_create(&thread, NULL, reads, NULL) != 0)
            return 1;
        while (!begun)
            sched_yield();
        nanosleep(&pause, NULL);
        pthread_cancel(thread);
        pthread_join(thread, &ret);
        cancelled += ret == PTHREAD_CANCELED;
    }
    printf("%d cancelled, %d cleaned up\n", cancelled, cleaned);
    return 0;
}
