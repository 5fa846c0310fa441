/* SPDX-License-Identifier: Apache-2.0 */
/* Text on stdout and stderr, in pieces, in bulk, in UTF-8, with control characters and without an end. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void say(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0)
        _exit(99);
}

int main(void)
{
    struct iovec v[3] = {{(void *)"vec", 3}, {(void *)"tor\n", 4}, {(void *)"second of vector\n", 17}};
    char *big = malloc(200000);
    int fd;

    say(1, "first\n");
    say(1, "in ");
    say(1, "three ");
    say(1, "pieces\n");
    say(1, "two in one\nwrite\n");
    say(2, "to stderr\n");
    say(1, "\xc3\xa4\xc3\xb6\xe2\x82\xac \xf0\x9f\x90\xa7\n");
    say(1, "\xc3"); /* a character cut in two */
    say(1, "\xbc cut\n");
    say(1, "tab\there \"quoted\" back\\slash \033[1mbold\033[0m\n");
    say(1, "\n");
    if (writev(1, v, 3) != 24)
        return 99;
    /* 100 lines of 1,999 characters in one write. */
    for (int i = 0; i < 100; i++) {
        memset(big + 2000 * i, 'a' + i % 26, 1999);
        big[2000 * i + 1999] = '\n';
    }
    for (size_t done = 0; done < 200000;) {
        ssize_t n = write(1, big + done, 200000 - done);

        if (n <= 0)
            return 99;
        done += (size_t)n;
    }
    /* A log file, known by its name; and a duplicate of stdout. */
    fd = open("some.log", O_CREAT | O_WRONLY | O_APPEND, 0600);
    say(fd, "line in a log\n");
    say(fd, "another ");
    say(fd, "one\n");
    close(fd);
    fd = open("other.txt", O_CREAT | O_WRONLY, 0600);
    say(fd, "not a log\n");
    close(fd);
    fd = dup(1);
    say(fd, "through a duplicate\n");
    close(fd);
    say(2, "no end of line");
    _exit(0);
}
