/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash HOW [FILE]: opens FILE, says hello, and dies.
 *
 *   segv     of an access near NULL          abort   of abort(3)
 *   blocked  of the same, SIGSEGV blocked: nobody can be told, the kernel ends it
 *   exit     not at all: exit status 3       wait    sleeps until a signal ends it
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile int *place = (int *)24;

__attribute__((noinline)) static void write_there(volatile int *at)
{
    *at = 1; /* LINE */
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "segv";
    sigset_t set;

    if (argc > 2) {
        int fd = open(argv[2], O_RDONLY);

        if (fd < 0)
            return 9;
        close(fd);
    }
    puts("hello");
    fflush(stdout);
    if (!strcmp(how, "exit"))
        return 3;
    if (!strcmp(how, "abort"))
        abort();
    while (!strcmp(how, "wait"))
        pause();
    if (!strcmp(how, "blocked")) {
        sigemptyset(&set);
        sigaddset(&set, SIGSEGV);
        sigprocmask(SIG_BLOCK, &set, NULL);
    }
    write_there(place);
    return 0;
}
