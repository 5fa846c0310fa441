/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When scope is process 1 of a container. Everything in a pid namespace is
 * killed as soon as its process 1 ends (pid_namespaces(7)): if the program were
 * it, the collector could never deliver the last telemetry, and would moreover
 * be the program's child, as every orphan is. So here, and only here, the
 * program runs as a child, and process 1 does for it what the kernel would do:
 *
 * - The program gets those signals that process 1 would have got: what it neither
 *   catches nor blocks doesn't end it.
 * - Orphans become the program's children (PR_SET_CHILD_SUBREAPER of prctl(2)),
 *   as it may wait for them.
 * - Whatever else runs is killed when it ends, but for collectors. These are told
 *   to finish, and waited for.
 */
#include "cli/init.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "session/session.h"
#include "wire/join.h"

#define FINISH_MS 5000u
#define SYNC_MS 3000u
#define LOOK_US 2000

static struct shared {
    char socket[256];
} * shared; /* in process 1 and in the process that will be the program; NULL elsewhere */

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* A line of /proc/PID/status, behind its name: false if there is none. */
static bool status_line(pid_t pid, const char *name, char *to, size_t size)
{
    char path[64], line[256];
    bool found = false;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof(line), f)) {
        found = strncmp(line, name, strlen(name)) == 0;
        if (found)
            snprintf(to, size, "%s", line + strlen(name) + strspn(line + strlen(name), " \t"));
    }
    if (f)
        fclose(f);
    return found;
}

/* A set of signals there. */
static bool has_signal(pid_t pid, const char *name, int sig, bool otherwise)
{
    char text[64];

    return status_line(pid, name, text, sizeof(text)) ? strtoull(text, NULL, 16) >> (sig - 1) & 1 : otherwise;
}

/* Process 1 only gets what it has a handler for, and later what it has blocked and will have a handler for. */
static void pass_on(pid_t pid, int sig)
{
    if (has_signal(pid, "SigCgt:", sig, true) || has_signal(pid, "SigBlk:", sig, true))
        kill(pid, sig);
}

/* Whether the process belongs to a collector: it or its helpers, which are in its session. */
static bool of_collector(pid_t pid)
{
    pid_t leader = getsid(pid);
    char name[64];

    return leader > 1 && status_line(leader, "Name:", name, sizeof(name)) && strcmp(name, "scope-collector\n") == 0;
}

/* Does so with all other processes that haven't ended: collectors and their helpers, or everything else. The number. */
static int signal_all(bool collectors, int sig)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    char state[64];
    int count = 0;

    while (d && (e = readdir(d))) {
        pid_t pid = isdigit((unsigned char)*e->d_name) ? (pid_t)strtol(e->d_name, NULL, 10) : 0;

        if (pid <= 1 || !status_line(pid, "State:", state, sizeof(state)) || *state == 'Z' || *state == 'X' ||
            of_collector(pid) != collectors)
            continue;
        count++;
        if (!collectors || getsid(pid) == pid) /* a collector ends its helpers itself */
            kill(pid, sig);
    }
    if (d)
        closedir(d);
    return count;
}

/* The program has ended, and is still a zombie, so that its status can be seen. */
static void finish(pid_t program)
{
    struct join_request sync = {.type = JOIN_SYNC};
    uint64_t deadline = now_ms() + FINISH_MS;
    pid_t got = 0;
    int fd;

    while (signal_all(false, SIGKILL) && now_ms() < deadline)
        usleep(LOOK_US);
    fd = *shared->socket ? session_request(shared->socket, &sync, SYNC_MS) : -1;
    if (fd >= 0)
        close(fd);
    waitpid(program, NULL, 0);
    signal_all(true, SIGTERM); /* write what is left and end */
    while (now_ms() < deadline && got >= 0) {
        got = waitpid(-1, NULL, WNOHANG);
        if (got == 0)
            usleep(LOOK_US);
    }
}

int init_stand_in(void)
{
    sigset_t all, old;
    siginfo_t info;
    void *map;
    pid_t pid;

    if (getpid() != 1)
        return -1;
    map = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return -1;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    shared = map;
    pid = fork();
    if (pid <= 0) { /* in the program-to-be, or no process could be made: then it is process 1 */
        sigprocmask(SIG_SETMASK, &old, NULL);
        return -1;
    }
    for (;;) {
        /* No more than one of each kind waits, so before each signal it is looked who has ended. */
        while (info.si_pid = 0, waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid > 0) {
            if (info.si_pid == pid) {
                int status = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;

                finish(pid);
                return status;
            }
            waitpid(info.si_pid, NULL, WNOHANG);
        }
        if (sigwaitinfo(&all, &info) < 0 || info.si_signo == SIGCHLD)
            continue;
        /* The terminal's reach the program by themselves, but for that of its end: that is for the session's leader. */
        if (info.si_code != SI_KERNEL || info.si_signo == SIGHUP)
            pass_on(pid, info.si_signo);
    }
}

void init_collector(const char *socket)
{
    if (shared)
        snprintf(shared->socket, sizeof(shared->socket), "%s", socket);
}

void init_become(void)
{
    if (shared && getpid() != 1)
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}
