/* SPDX-License-Identifier: Apache-2.0 */
/*
 * idle COUNT
 *
 * Forks COUNT children, of which each opens a file, so that it is observed by itself from then on, and waits for ever.
 * They end with this program. The cheapest way to many observed processes: they share all memory that they can.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "timing.h"

int main(int argc, char **argv)
{
    long count = argc == 2 ? number(argv[1]) : 0;

    if (count <= 0) {
        fprintf(stderr, "usage: idle COUNT\n");
        return 2;
    }
    for (long i = 0; i < count; i++) {
        pid_t pid = fork();

        must(pid, "fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(open("/dev/null", O_RDONLY));
            for (;;)
                pause();
        }
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); /* not all at once: that is another matter */
    }
    for (;;)
        pause();
}
