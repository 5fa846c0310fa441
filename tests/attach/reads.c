/* SPDX-License-Identifier: Apache-2.0 */
/* Waits in read(2) of a named pipe until something comes, then closes it. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char text[64];
    int fd = open(argv[argc - 1], O_RDWR);

    puts("ready");
    fflush(stdout);
    return read(fd, text, sizeof(text)) == 5 && close(fd) == 0 ? 0 : 1;
}
