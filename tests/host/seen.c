/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what a program finds around itself when it begins: errno, arguments, environment, descriptors, what is mapped,
 * signal handlers, children. `seen N PROGRAM` then execs that, with N - 1. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void print_descriptors(void)
{
    for (int fd = 0; fd < 64; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("descriptor %d\n", fd);
}

/* Names and rights of what is mapped, in order. */
static void print_maps(void)
{
    char line[8192];
    FILE *f = fopen("/proc/self/maps", "r");

    while (f && fgets(line, sizeof(line), f)) {
        char rights[8] = "", *name = strpbrk(line, "/[");

        if (sscanf(line, "%*s %7s", rights) == 1)
            printf("mapped %s %s", rights, name ? name : "-\n");
    }
    if (f)
        fclose(f);
}

int main(int argc, char **argv)
{
    int err = errno, depth = argc > 1 ? atoi(argv[1]) : 0;
    struct sigaction act;
    sigset_t blocked;

    printf("errno %d\n", err);
    for (int i = 0; i < argc; i++)
        printf("argument %s\n", argv[i]);
    for (char **e = environ; *e; e++)
        printf("variable %s\n", *e);
    for (int s = 1; s < NSIG; s++)
        if (sigaction(s, NULL, &act) == 0 && act.sa_handler != SIG_DFL)
            printf("signal %d\n", s);
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    for (int s = 1; s < NSIG; s++)
        if (sigismember(&blocked, s) == 1)
            printf("blocked %d\n", s);
    printf("child %d\n", waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD ? 0 : 1);
    print_descriptors();
    print_maps();
    fflush(stdout);
    if (depth > 0 && argc > 2) {
        char next[16];

        snprintf(next, sizeof(next), "%d", depth - 1);
        execv(argv[2], (char *[]){argv[2], next, argv[2], NULL});
        return 127;
    }
    return 7;
}
