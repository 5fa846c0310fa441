/* SPDX-License-Identifier: Apache-2.0 */
/* What process 1 of a container can rely on; it says what it sees. first MODE [ARGUMENT]:
 *   orphans     a grandchild becomes its child, and can be waited for; then there is none left
 *   signals N   N: how many SIGUSR1 it waits for, and tells; SIGTERM, which it doesn't catch, must not end it
 *   leave       ends at once, and leaves a process behind that would write "late"
 *   crash       ends by a fault */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t got;

static void on_usr1(int sig)
{
    (void)sig;
    got++;
}

static int orphans(void)
{
    pid_t child = fork(), pid;
    int status;

    if (child == 0) {
        if (fork() == 0) {
            while (getppid() == child) /* never: its parent is this one */
                ;
            usleep(200000);
            _exit(17);
        }
        _exit(16);
    }
    while ((pid = wait(&status)) > 0)
        printf("%s ended with %d\n", pid == child ? "child" : "orphan", WEXITSTATUS(status));
    printf("%s\n", strerror(errno));
    return 5;
}

static int signals(int count)
{
    sigset_t usr1, none;

    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    signal(SIGUSR1, on_usr1);
    puts("ready");
    fflush(stdout);
    for (int said = 0; said < count; fflush(stdout)) {
        sigsuspend(&none);
        while (said < got)
            printf("got %d\n", ++said);
    }
    return 6;
}

static int leave(void)
{
    int fd[2];
    char byte;

    if (pipe(fd))
        return 99;
    if (fork() == 0) {
        if (write(fd[1], "", 1) != 1)
            _exit(99);
        usleep(300000);
        puts("late");
        fflush(stdout);
        for (;;)
            pause();
    }
    if (read(fd[0], &byte, 1) != 1)
        return 99;
    puts("first");
    return 7;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    if (strcmp(mode, "orphans") == 0)
        return orphans();
    if (strcmp(mode, "signals") == 0 && argc > 2)
        return signals(atoi(argv[2]));
    if (strcmp(mode, "leave") == 0)
        return leave();
    if (strcmp(mode, "crash") == 0)
        *(volatile int *)8 = 1;
    return 98;
}
