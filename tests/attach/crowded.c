/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves no room near the C library: everything free is taken, without memory, as far as code can jump on any
 * architecture, so that nothing can be placed from which its code could be reached. SIGUSR1: reads the file that the
 * first argument names through the C library, and the one that the second names with system calls of its own; then says
 * so. SIGTERM ends it.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "raw.h"

#define REACH (UINT64_C(3) << 30)
#define ROUNDS 8 /* what is mapped may move the ends of what is free */
#define MAPS 256

static uint64_t page;

/* Takes [lo, hi) as far as it is free. */
static void fill(uint64_t lo, uint64_t hi)
{
    lo = (lo + page - 1) & ~(page - 1);
    if (hi > lo)
        mmap((void *)(uintptr_t)lo, (size_t)(hi - lo), PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
}

static void fill_around(uint64_t middle)
{
    static uint64_t lo[MAPS], hi[MAPS];
    uint64_t at = middle - REACH;
    size_t n = 0;
    char line[512];
    FILE *f = fopen("/proc/self/maps", "re");

    while (f && n < MAPS && fgets(line, sizeof(line), f))
        if (sscanf(line, "%" SCNx64 "-%" SCNx64, &lo[n], &hi[n]) == 2)
            n++;
    if (f)
        fclose(f);
    for (size_t i = 0; i < n && at < middle + REACH; i++) {
        if (hi[i] <= at)
            continue;
        fill(at, lo[i] < middle + REACH ? lo[i] : middle + REACH);
        at = hi[i];
    }
    if (at < middle + REACH)
        fill(at, middle + REACH);
}

static void read_all(const char *path)
{
    char buf[64];
    FILE *f = fopen(path, "re");

    while (f && fread(buf, 1, sizeof(buf), f) > 0)
        ;
    if (f)
        fclose(f);
}

static void read_all_alone(const char *path)
{
    char buf[64];
    long fd = raw_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);

    while (fd >= 0 && raw_syscall(SYS_read, fd, (long)buf, sizeof(buf), 0, 0, 0) > 0)
        ;
    if (fd >= 0)
        raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

int main(int argc, char **argv)
{
    sigset_t set;
    int sig;

    if (argc < 3)
        return 2;
    page = (uint64_t)sysconf(_SC_PAGESIZE);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < ROUNDS; i++)
        fill_around((uint64_t)(uintptr_t)&puts);
    puts("ready");
    fflush(stdout);
    while (!sigwait(&set, &sig) && sig == SIGUSR1) {
        read_all(argv[1]);
        read_all_alone(argv[2]);
        puts("done");
        fflush(stdout);
    }
    return 0;
}
