/* SPDX-License-Identifier: Apache-2.0 */
/* Starts children by vfork, which take a while until they exec, until SIGTERM comes. */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
    (void)sig;
    stop = 1;
}

int main(void)
{
    const struct timespec wait = {0, 20000000};

    signal(SIGTERM, on_term);
    puts("ready");
    fflush(stdout);
    while (!stop) {
        int status = 0;
        pid_t pid = vfork();

        if (pid == 0) {
            nanosleep(&wait, NULL);
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        while (waitpid(pid, &status, 0) < 0 && stop)
            ;
        if (status) {
            printf("a child ended with %#x\n", (unsigned)status);
            return 1;
        }
        usleep(1000);
    }
    puts("all children ended well");
    return 0;
}
