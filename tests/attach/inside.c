/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes one system call again and again, from an instruction of its own whose surroundings are known to the test
 * (arch/MACHINE/inside.h). Ends when SIGTERM comes. SIGUSR1 has a handler that waits for the file named by the argument
 * to be gone.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "inside.h"

static volatile sig_atomic_t stop;
static const char *file;

static void on_term(int sig)
{
    (void)sig;
    stop = 1;
}

static void on_usr1(int sig)
{
    (void)sig;
    while (access(file, F_OK) == 0)
        usleep(1000);
}

int main(int argc, char **argv)
{
    unsigned long rounds = 0;
    long calls = 0;

    file = argc > 1 ? argv[1] : "";
    signal(SIGTERM, on_term);
    signal(SIGUSR1, on_usr1);
    puts("ready");
    fflush(stdout);
    while (!stop) {
        long ret = call(&calls);

        rounds++;
        if (ret == -9 || calls != (long)rounds) {
            printf("call %ld, round %lu, result %ld\n", calls, rounds, ret);
            return 1;
        }
        usleep(200);
    }
    printf("went on %s\n", rounds ? "well" : "never");
    return 0;
}
