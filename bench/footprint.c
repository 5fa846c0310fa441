/* SPDX-License-Identifier: Apache-2.0 */
/*
 * footprint DIRECTORY
 *
 * Says "idle" and waits for a line; then works (four threads open, write, read,
 * and close), says "load", waits for a line and ends. While it waits, the
 * driver reads its memory, threads, descriptors and signal handlers in /proc.
 */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "timing.h"

#define THREADS 4
#define ROUNDS 20000

static const char *directory;

static void say_and_wait(const char *word)
{
    char line[16];

    must(dprintf(STDOUT_FILENO, "%s\n", word), "stdout");
    must(read(STDIN_FILENO, line, sizeof(line)), "stdin");
}

static void *work(void *arg)
{
    char path[4096], block[512];

    memset(block, 'x', sizeof(block));
    snprintf(path, sizeof(path), "%s/footprint-%d", directory, *(int *)arg);
    for (int i = 0; i < ROUNDS; i++) {
        int fd = (int)must(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), path);

        must(pwrite(fd, block, sizeof(block), 0), "pwrite");
        must(pread(fd, block, sizeof(block), 0), "pread");
        must(close(fd), "close");
    }
    must(unlink(path), path);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    int ids[THREADS];

    if (argc != 2) {
        fprintf(stderr, "usage: footprint DIRECTORY\n");
        return 2;
    }
    directory = argv[1];
    say_and_wait("idle");
    for (int i = 0; i < THREADS; i++) {
        ids[i] = i;
        errno = pthread_create(&threads[i], NULL, work, &ids[i]);
        must(errno ? -1 : 0, "pthread_create");
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    say_and_wait("load");
    return 0;
}
