// SPDX-License-Identifier: Apache-2.0
/* A library that leaves word of who has loaded it: a file named after the user in the directory $MARK_DIRECTORY. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((constructor)) static void mark(void)
{
    char name[512];
    int fd;

    snprintf(name, sizeof(name), MARK_DIRECTORY "/%d", (int)geteuid());
    fd = open(name, O_WRONLY | O_CREAT, 0644);
    if (fd >= 0)
        close(fd);
}
