/* SPDX-License-Identifier: Apache-2.0 */
#include "base/closing.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static int pending[CLOSING_PENDING];
static unsigned first, count, threads, idle;
static pid_t owner; /* threads don't survive a fork */

static void *close_them(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    for (;;) {
        int fd;

        idle++;
        while (!count)
            pthread_cond_wait(&more, &lock);
        idle--;
        fd = pending[first];
        first = (first + 1) % CLOSING_PENDING;
        count--;
        pthread_mutex_unlock(&lock);
        close(fd);
        pthread_mutex_lock(&lock);
    }
    return NULL;
}

/* One more, without signals. */
static bool start_thread(void)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_t thread;
    bool ok;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 64 << 10);
    ok = pthread_create(&thread, &attr, close_them, NULL) == 0;
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ok;
}

void close_later(int fd)
{
    bool here = false;

    if (fd < 0)
        return;
    pthread_mutex_lock(&lock);
    if (owner != getpid()) {
        owner = getpid();
        first = count = threads = idle = 0;
    }
    if (count < CLOSING_PENDING) {
        pending[(first + count++) % CLOSING_PENDING] = fd;
        if (count > idle && threads < CLOSING_THREADS && start_thread())
            threads++;
        here = !threads; /* no thread can be had */
        if (here)
            count--;
        else
            pthread_cond_signal(&more);
    }
    pthread_mutex_unlock(&lock);
    if (here)
        close(fd);
}

#define SPARE_FDS 64

bool fd_is_spare(int fd)
{
    struct rlimit r;
    rlim_t keep;

    if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == RLIM_INFINITY)
        return false;
    keep = r.rlim_cur / 2 < SPARE_FDS ? r.rlim_cur / 2 : SPARE_FDS;
    return (rlim_t)fd >= r.rlim_cur - keep;
}
