/* SPDX-License-Identifier: Apache-2.0 */
/* What a process can see of itself: descriptors, threads, signals, environment. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "behave.h"

extern char **environ;

/* Entries of /proc/self/fd with what they point to, but for the one that lists them. */
static int show_fds(int argc, char **argv)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *e;
    int count = 0;

    (void)argc, (void)argv;
    MUST(d);
    while ((e = readdir(d))) {
        char link[300], target[300];
        ssize_t n;

        if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(d))
            continue;
        snprintf(link, sizeof(link), "/proc/self/fd/%s", e->d_name);
        n = readlink(link, target, sizeof(target) - 1);
        MUST(n > 0);
        target[n] = 0;
        for (char *p = target; *p; p++) /* inode numbers of pipes differ from run to run */
            if (*p >= '0' && *p <= '9')
                *p = '#';
        printf("%s -> %s\n", e->d_name, target);
        count++;
    }
    printf("%d descriptors, the list itself is %d\n", count, dirfd(d));
    closedir(d);
    printf("next free: %d\n", open("/dev/null", O_RDONLY));
    return 0;
}

static int show_status(int argc, char **argv)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[300];

    (void)argc, (void)argv;
    MUST(f);
    while (fgets(line, sizeof(line), f))
        if (strncmp(line, "Sig", 3) == 0 || strncmp(line, "Shd", 3) == 0 || strncmp(line, "Threads", 7) == 0 ||
            strncmp(line, "TracerPid", 9) == 0 || strncmp(line, "Seccomp:", 8) == 0 ||
            strncmp(line, "NoNewPrivs", 10) == 0)
            if (strncmp(line, "SigQ", 4) != 0)
                fputs(line, stdout);
    fclose(f);
    for (int s = 1; s < 65; s++) {
        struct sigaction sa;

        if (sigaction(s, NULL, &sa) == 0 && sa.sa_handler != SIG_DFL)
            printf("signal %d: %s\n", s, sa.sa_handler == SIG_IGN ? "ignored" : "handled");
    }
    return 0;
}

static int count_threads(void)
{
    DIR *d = opendir("/proc/self/task");
    int n = 0;

    MUST(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

/* Alone, and a while later, since a helper thread might come late. */
static int show_threads(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("%d threads\n", count_threads());
    for (int i = 0; i < 1000; i++)
        close(open("/dev/null", O_RDONLY));
    usleep(300000);
    printf("%d threads\n", count_threads());
    return 0;
}

static int show_environ(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (char **e = environ; *e; e++)
        printf("%s\n", *e);
    return 0;
}

/* Children and zombies: a program must not find children that it did not start. */
static int show_children(int argc, char **argv)
{
    pid_t own = fork();
    int status;

    (void)argc, (void)argv;
    if (own == 0)
        _exit(3);
    MUST(waitpid(-1, &status, 0) == own);
    printf("status %d\n", WEXITSTATUS(status));
    own = wait(NULL);
    printf("wait: %d, errno %d\n", (int)own, errno);
    printf("in own group: %d, session leader: %d, parent alive: %d\n", getpgrp() == getpid(), getsid(0) == getpid(),
           getppid() > 1);
    printf("nice %d, umask %o\n", getpriority(PRIO_PROCESS, 0), umask(0));
    return 0;
}

/* Limits and timers that exec keeps. */
static int show_limits(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int i = 0; i < 16; i++) {
        struct rlimit r;

        if (getrlimit(i, &r) == 0)
            printf("%d: %ld %ld\n", i, (long)r.rlim_cur, (long)r.rlim_max);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {{"fds", show_fds},
                                               {"status", show_status},
                                               {"threads", show_threads},
                                               {"environ", show_environ},
                                               {"children", show_children},
                                               {"limits", show_limits},
                                               {NULL, NULL}};

    return behave_main(cases, argc, argv);
}
