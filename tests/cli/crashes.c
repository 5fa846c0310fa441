/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has memory of all kinds and some threads, and dies of SIGSEGV at address 0x18 in function fall(). "sparse": with a
 * large memfd, too. "big N": has N MiB of random memory, says "ready", and waits until its stdin ends.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS 4
#define PAGE 4096u
#define SPARSE (UINT64_C(3) << 30)

int chosen = 4711;
const char *volatile said = "what it has said";
static pthread_barrier_t all;

static void *map(size_t size, int prot, int flags, int fd)
{
    void *p = mmap(NULL, size, prot, flags, fd, 0);

    if (p == MAP_FAILED) {
        perror("mmap");
        exit(3);
    }
    return p;
}

__attribute__((noinline)) static void wait_here(int number)
{
    volatile int mine = number * 1000;

    pthread_barrier_wait(&all);
    for (;;)
        pause();
    (void)mine;
}

static void *thread(void *number)
{
    wait_here((int)(intptr_t)number);
    return NULL;
}

__attribute__((noinline)) void fall(volatile int *to)
{
    *to = chosen;
}

int main(int argc, char **argv)
{
    char *p, *big = NULL;
    pthread_t id;
    /* The kernel, for its own core, has all of it. */
    size_t shared = argc > 1 && strcmp(argv[1], "sparse") == 0 ? SPARSE : 16 << 20;
    size_t sparse = argc > 1 && strcmp(argv[1], "small") == 0 ? 16 << 20 : SPARSE;
    int fd;

    if (argc > 2) {
        size_t size = (size_t)strtoul(argv[2], NULL, 10) << 20;
        uint64_t seed = 1;

        big = map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        for (uint64_t *w = (uint64_t *)(void *)big; w < (uint64_t *)(void *)(big + size); w++)
            *w = seed = seed * UINT64_C(6364136223846793005) + 1;
        puts("ready");
        fflush(stdout);
        while (getchar() != EOF)
            continue;
        return 0;
    }
    /* never touched but for one page in the middle, and one that is zero */
    p = map(sparse, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    p[sparse / 2] = 'm';
    p[sparse / 4] = 0;
    p = map(64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    memset(p, 'n', 64 * PAGE);
    mprotect(p + 8 * PAGE, 8 * PAGE, PROT_NONE);
    mprotect(p + 16 * PAGE, 8 * PAGE, PROT_READ);
    madvise(p + 32 * PAGE, 8 * PAGE, MADV_DONTDUMP);
    p = map(64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    memset(p + 9 * PAGE, 's', 2 * PAGE);
    fd = memfd_create("crashes", 0);
    if (ftruncate(fd, (off_t)shared) < 0 || pwrite(fd, "memfd", 5, 1 << 20) != 5)
        return 3;
    p = map(shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd); /* a page that it has, and one that only the file has */
    p[3 << 20] = 'p';
    fd = open(argv[0], O_RDONLY);
    p = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
    p[2 * PAGE] = 'w';
    map(4 * PAGE, PROT_READ, MAP_PRIVATE, fd);
    map(4 * PAGE, PROT_READ, MAP_SHARED, fd);
    p = malloc(100000);
    memset(p, 'h', 100000);

    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (int i = 1; i <= THREADS; i++)
        if (pthread_create(&id, NULL, thread, (void *)(intptr_t)i)) // NOLINT(performance-no-int-to-ptr)
            return 3;
    pthread_barrier_wait(&all);
    for (int i = 0; i < 100; i++) /* they are in their system calls by now; if not, nothing changes */
        usleep(1000);
    fall((volatile int *)0x18);
    free(p);
    return (int)id;
}
