/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When scope is process 1 of a container. Everything in a pid namespace is
 * killed as soon as its process 1 ends (pid_namespaces(7)): if the program were
 * it, the collector could never deliver the last telemetry, and would moreover
 * be the program's child, as every orphan is. So here, and only here, the
 * program runs as a child: process 1 passes signals on, reaps, and lets the
 * collector finish.
 */
#include "cli/init.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "session/session.h"

#define FINISH_MS 5000

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* Reaps what has ended. True if `pid` was among it. */
static bool reap(pid_t pid, int *ret_status)
{
    bool found = false;
    pid_t got;
    int status;

    while ((got = waitpid(-1, &status, WNOHANG)) > 0 || (got < 0 && errno == EINTR)) {
        if (got == pid) {
            *ret_status = status;
            found = true;
        }
    }
    return found;
}

static void finish_collector(pid_t program, bool with_session)
{
    uint64_t deadline = now_ms() + FINISH_MS;
    struct session s = {0};
    bool ours = with_session && session_load(0, &s) == 0 && s.pid == program;
    int status;

    if (ours) {
        session_sync(&s, FINISH_MS);
        if (s.collector > 0 && session_running(&s))
            kill(s.collector, SIGTERM); /* writes what is left and ends */
    }
    while (now_ms() < deadline && (ours ? session_running(&s) : !with_session)) {
        reap(0, &status);
        if (!ours && waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD)
            break; /* without a session: until no process is left */
        usleep(2000);
    }
    session_clear(&s);
}

int init_stand_in(bool with_session)
{
    sigset_t all, old;
    siginfo_t info;
    int status = 0;
    pid_t pid;

    if (getpid() != 1)
        return -1;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    pid = fork();
    if (pid <= 0) { /* in the program-to-be, or no process could be made: then it is process 1 */
        sigprocmask(SIG_SETMASK, &old, NULL);
        return -1;
    }
    for (;;) {
        if (sigwaitinfo(&all, &info) < 0)
            continue;
        if (info.si_signo == SIGCHLD) {
            if (reap(pid, &status))
                break;
        } else if (info.si_code != SI_KERNEL) { /* the terminal's signals reach the program by themselves */
            kill(pid, info.si_signo);
        }
    }
    finish_collector(pid, with_session);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
