/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#include "base/mem.h"
#include "journal/press.h"

#define LEVEL 1
#define BODY_MAX (512u << 10) /* beyond it is one that holds a single large record */

enum state {
    STARTING, FREE, /* whoever has work may give it when it is free */
    GIVEN,   /* the thread's */
    DONE,    /* there is a result */
    DROPPED, /* nobody wants it any more; free when the thread has ended it */
};

struct press {
    _Atomic int state, owners;
    _Atomic bool quit;
    sem_t work, done;
    size_t in_len, out_len; /* out_len 0: it failed */
    uint8_t in[BODY_MAX], out[ZSTD_COMPRESSBOUND(BODY_MAX)];
};

static void let_go(struct press *p)
{
    if (atomic_fetch_sub(&p->owners, 1) != 1)
        return;
    sem_destroy(&p->work);
    sem_destroy(&p->done);
    free(p);
}

static void *run(void *arg)
{
    const struct sched_param none = {0};
    struct press *p = arg;
    ZSTD_CCtx *context;

    if (sched_setscheduler(0, SCHED_IDLE, &none) < 0) { /* whom it would take time from isn't known: it takes none */
        p->state = DROPPED;
        let_go(p);
        return NULL;
    }
    context = ZSTD_createCCtx();
    p->state = FREE;
    while (sem_wait(&p->work) != 0 || !p->quit) {
        int given = GIVEN;

        if (p->state != GIVEN && p->state != DROPPED)
            continue;
        p->out_len = context ? ZSTD_compressCCtx(context, p->out, sizeof(p->out), p->in, p->in_len, LEVEL) : 0;
        if (ZSTD_isError(p->out_len))
            p->out_len = 0;
        if (atomic_compare_exchange_strong(&p->state, &given, DONE))
            sem_post(&p->done);
        else
            p->state = FREE;
    }
    ZSTD_freeCCtx(context);
    let_go(p);
    return NULL;
}

struct press *press_new(void)
{
    struct press *p = xmalloc(sizeof(*p)); /* its pages are touched when they are used */
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    int rc;

    p->state = STARTING;
    p->owners = 2;
    p->quit = false;
    sem_init(&p->work, 0, 0);
    sem_init(&p->done, 0, 0);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    rc = pthread_create(&thread, &attr, run, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        return p;
    p->owners = 1; /* there is no thread */
    let_go(p);
    return NULL;
}

void press_free(struct press *p)
{
    if (!p)
        return;
    p->quit = true;
    sem_post(&p->work);
    let_go(p);
}

static struct timespec deadline(unsigned ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += (long)ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

size_t press_body(struct press *p, uint8_t *body, size_t len, unsigned ms)
{
    const struct timespec until = deadline(ms);
    int given = GIVEN;
    size_t got;

    if (len > BODY_MAX || p->state != FREE)
        return 0;
    memcpy(p->in, body, len);
    p->in_len = len;
    p->state = GIVEN;
    sem_post(&p->work);
    if (sem_clockwait(&p->done, CLOCK_MONOTONIC, &until) != 0) {
        if (atomic_compare_exchange_strong(&p->state, &given, DROPPED))
            return 0;
        sem_wait(&p->done); /* it came at the last moment */
    }
    got = p->state == DONE && p->out_len < len - len / 8 ? p->out_len : 0;
    if (got)
        memcpy(body, p->out, got);
    p->state = FREE;
    return got;
}
