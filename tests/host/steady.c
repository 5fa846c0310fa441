/* SPDX-License-Identifier: Apache-2.0 */
/* A service that makes few system calls, so that a narrow SystemCallFilter= lets it: says that it is up, and reads a file
 * again and again. steady FILE */
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char bytes[64];

    if (argc != 2 || write(STDOUT_FILENO, "up\n", 3) != 3)
        return 2;
    for (;;) {
        int fd = open(argv[1], O_RDONLY);

        if (fd < 0 || read(fd, bytes, sizeof(bytes)) < 0)
            return 3;
        close(fd);
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
}
