/* SPDX-License-Identifier: Apache-2.0 */
/* A shared library with a system call instruction of its own, and a function that hides one of libc's. */
#include <sys/syscall.h>
#include <unistd.h>

#include "raw.h"

long library_reads(int fd, char *buffer, long size, long times);

long library_reads(int fd, char *buffer, long size, long times)
{
    long sum = 0;

    for (long i = 0; i < times; i++)
        sum += raw_syscall(SYS_read, fd, (long)buffer, size, 0, 0, 0);
    return sum;
}

pid_t getpid(void)
{
    return 4711;
}
