/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/doze.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#ifndef SYS_futex_waitv /* headers before Linux 5.16; the number is that of all architectures */
#define SYS_futex_waitv 449
#endif
#define SIZE_U32 2u /* FUTEX_32, or FUTEX2_SIZE_U32 */

/* struct futex_waitv */
struct waitv {
    uint64_t val, uaddr;
    uint32_t flags, reserved;
};

struct doze {
    pthread_t thread;
    int fd;
    pthread_mutex_t lock; /* of what follows */
    uint32_t round;       /* of doze_wait(); the thread waits for it, too */
    bool end;
    size_t count;
    uint32_t value;       /* that they have */
    uint32_t *words[DOZE_MAX];
};

static bool is_available(void)
{
    return syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) < 0 && errno == EINVAL;
}

/* What to wait for now; false: nothing ever again. */
static bool next_wait(struct doze *d, struct waitv v[DOZE_MAX + 1], size_t *ret_count)
{
    bool end;

    pthread_mutex_lock(&d->lock);
    end = d->end;
    v[0] = (struct waitv){d->round, (uintptr_t)&d->round, SIZE_U32 | FUTEX_PRIVATE_FLAG, 0};
    for (size_t i = 0; i < d->count; i++)
        v[1 + i] = (struct waitv){d->value, (uintptr_t)d->words[i], SIZE_U32, 0};
    *ret_count = d->count;
    d->count = 0; /* each is waited for once */
    pthread_mutex_unlock(&d->lock);
    return !end;
}

static void *wait_for_words(void *arg)
{
    struct doze *d = arg;
    struct waitv v[DOZE_MAX + 1];
    const uint64_t one = 1;
    size_t count;

    while (next_wait(d, v, &count)) {
        long rc;

        do
            rc = syscall(SYS_futex_waitv, v, 1 + count, 0, NULL, 0);
        while (rc < 0 && errno == EINTR);
        if (count && __atomic_load_n(&d->round, __ATOMIC_RELAXED) == v[0].val && write(d->fd, &one, sizeof(one)) < 0)
            break; /* can't be */
    }
    return NULL;
}

/* There is something else to wait for. */
static void tell(struct doze *d, uint32_t value, uint32_t *const words[], size_t count, bool end)
{
    pthread_mutex_lock(&d->lock);
    d->end = end;
    d->value = value;
    d->count = count < DOZE_MAX ? count : DOZE_MAX;
    if (d->count)
        memcpy(d->words, words, d->count * sizeof(*words));
    __atomic_fetch_add(&d->round, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&d->lock);
    syscall(SYS_futex, &d->round, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

struct doze *doze_new(void)
{
    struct doze *d;
    sigset_t all, was;
    int err;

    if (!is_available())
        return NULL;
    d = xcalloc(1, sizeof(*d));
    pthread_mutex_init(&d->lock, NULL);
    d->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sigfillset(&all); /* they are the event loop's */
    pthread_sigmask(SIG_SETMASK, &all, &was);
    err = d->fd < 0 ? EMFILE : pthread_create(&d->thread, NULL, wait_for_words, d);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (!err)
        return d;
    if (d->fd >= 0)
        close(d->fd);
    free(d);
    return NULL;
}

void doze_free(struct doze *d)
{
    if (!d)
        return;
    tell(d, 0, NULL, 0, true);
    pthread_join(d->thread, NULL);
    pthread_mutex_destroy(&d->lock);
    close(d->fd);
    free(d);
}

int doze_fd(const struct doze *d)
{
    return d->fd;
}

void doze_wait(struct doze *d, uint32_t value, uint32_t *const words[], size_t count)
{
    tell(d, value, words, count, false);
}
