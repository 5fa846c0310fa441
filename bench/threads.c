/* SPDX-License-Identifier: Apache-2.0 */
/*
 * threads DIRECTORY THREADS MILLISECONDS
 *
 * Each thread writes and reads back blocks of 4 KiB in a file of its own. All
 * start together and stop at a common time. Prints calls per second, all
 * threads together.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "timing.h"

#define BLOCK 4096
#define BLOCKS 16 /* of a file */

struct worker {
    pthread_t thread;
    int fd;
    uint64_t calls;
};

static pthread_barrier_t barrier;
static atomic_bool stop;

static void *work(void *arg)
{
    struct worker *w = arg;
    char block[BLOCK];
    uint64_t calls = 0;

    memset(block, 'x', sizeof(block));
    pthread_barrier_wait(&barrier);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        off_t at = (off_t)(calls / 2 % BLOCKS) * BLOCK;

        must(pwrite(w->fd, block, BLOCK, at), "pwrite");
        must(pread(w->fd, block, BLOCK, at), "pread");
        calls += 2;
    }
    w->calls = calls;
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: threads DIRECTORY THREADS MILLISECONDS\n");
        return 2;
    }
    size_t count = (size_t)number(argv[2]);
    long ms = number(argv[3]);
    struct worker *workers = calloc(count, sizeof(*workers));
    pthread_attr_t attr;

    if (!workers || pthread_barrier_init(&barrier, NULL, (unsigned)count + 1) || pthread_attr_init(&attr) ||
        pthread_attr_setstacksize(&attr, 128 * 1024)) {
        fprintf(stderr, "threads: out of memory\n");
        exit(1);
    }
    for (size_t i = 0; i < count; i++) {
        char path[4096];

        snprintf(path, sizeof(path), "%s/thread-%zu", argv[1], i);
        workers[i].fd = (int)must(open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), path);
        must(unlink(path), path);
        errno = pthread_create(&workers[i].thread, &attr, work, &workers[i]);
        must(errno ? -1 : 0, "pthread_create");
    }
    pthread_barrier_wait(&barrier);

    uint64_t start = now_ns(), calls = 0;
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
        ;
    atomic_store(&stop, true);
    for (size_t i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        calls += workers[i].calls;
    }
    printf("%.0f\n", (double)calls * 1e9 / (double)(now_ns() - start));
    free(workers);
    return 0;
}
