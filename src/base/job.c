/* SPDX-License-Identifier: Apache-2.0 */
#include "base/job.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/mem.h"

struct job {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*fn)(void *arg); /* NULL: none */
    void *arg;
    bool busy; /* also read without the lock */
    bool end;
};

static void *work(void *arg)
{
    struct job *j = arg;

    pthread_mutex_lock(&j->lock);
    while (!j->end || j->fn) {
        void (*fn)(void *) = j->fn;

        if (!fn) {
            pthread_cond_wait(&j->changed, &j->lock);
            continue;
        }
        j->fn = NULL;
        pthread_mutex_unlock(&j->lock);
        fn(j->arg);
        pthread_mutex_lock(&j->lock);
        __atomic_store_n(&j->busy, false, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&j->changed);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

struct job *job_new(void)
{
    struct job *j = xcalloc(1, sizeof(*j));
    sigset_t all, was;
    int err;

    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->changed, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    err = pthread_create(&j->thread, NULL, work, j);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (!err)
        return j;
    free(j);
    return NULL;
}

void job_free(struct job *j)
{
    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    j->end = true;
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    pthread_cond_destroy(&j->changed);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

void job_run(struct job *j, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&j->lock);
    j->fn = fn;
    j->arg = arg;
    __atomic_store_n(&j->busy, true, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

bool job_busy(const struct job *j)
{
    return __atomic_load_n(&j->busy, __ATOMIC_ACQUIRE);
}

void job_wait(struct job *j)
{
    pthread_mutex_lock(&j->lock);
    while (j->busy)
        pthread_cond_wait(&j->changed, &j->lock);
    pthread_mutex_unlock(&j->lock);
}
