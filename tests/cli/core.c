/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a program under ptrace(2), writes a core of it by src/crash/core.h when a signal is about to end it, and lets it
 * go on to die: so the kernel writes its own core of the same process at the same moment.
 *
 *     core FILE MAX PROGRAM [ARGUMENTS]     MAX: bytes that are written at most, 0: no bound
 *     core FILE MAX -k PROGRAM [ARGUMENTS]  kills it then: the kernel writes nothing
 *     core FILE MAX -p PID                  of a process that runs and goes on
 *
 * Prints what core_write() has said: "error size written unreadable cut threads milliseconds"
 */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core_arch.h"
#include "crash/core.h"

#define THREADS 1024

static pid_t threads[THREADS];
static int count;

static int known(pid_t tid)
{
    for (int i = 0; i < count; i++)
        if (threads[i] == tid)
            return 1;
    return 0;
}

static void die(const char *what)
{
    perror(what);
    exit(3);
}

static size_t registers(pid_t tid, int kind, void *to, size_t size)
{
    struct iovec v = {to, size};

    return ptrace(PTRACE_GETREGSET, tid, (void *)(long)kind, &v) < 0 ? 0 : v.iov_len;
}

static uint64_t status_mask(pid_t tid, const char *what)
{
    char path[64], line[256];
    uint64_t mask = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", tid);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, what, strlen(what)) == 0)
            mask = strtoull(line + strlen(what), NULL, 16);
    if (f)
        fclose(f);
    return mask;
}

static void look_at(struct crash_thread *th, pid_t tid)
{
    char path[64];
    FILE *f;

    th->tid = th->own_tid = tid;
    th->stands = registers(tid, NT_PRSTATUS, &th->regs, sizeof(th->regs)) == sizeof(th->regs);
    registers(tid, NT_PRFPREG, &th->fp, sizeof(th->fp));
    th->xstate = malloc(CRASH_XSTATE_MAX);
    th->xstate_size = registers(tid, CORE_XSTATE, th->xstate, CRASH_XSTATE_MAX);
    for (size_t i = 0; i < machine_note_count; i++)
        if (registers(tid, (int)machine_notes[i].type, (char *)&th->more + machine_notes[i].offset, machine_notes[i].size))
            th->more.have |= UINT64_C(1) << i;
    th->sigmask = status_mask(tid, "SigBlk:");
    th->sigpending = status_mask(tid, "SigPnd:");
    snprintf(path, sizeof(path), "/proc/%d/comm", tid);
    f = fopen(path, "r");
    if (f && fgets(th->comm, sizeof(th->comm), f))
        th->comm[strcspn(th->comm, "\n")] = 0;
    if (f)
        fclose(f);
}

static void write_it(pid_t pid, pid_t tid, const char *file, uint64_t max)
{
    static char auxv[4096];
    struct crash_cause cause = {.pid = pid, .tid = tid};
    struct crash_thread *all = calloc(THREADS, sizeof(*all));
    struct crash_view v = {.cause = &cause, .pid = pid, .own_pid = pid, .threads = all, .auxv = auxv};
    struct core_result result;
    struct timespec from, to;
    char path[64];
    FILE *f;
    int fd;

    look_at(&all[v.thread_count++], tid);
    for (int i = 0; i < count; i++)
        if (threads[i] != tid)
            look_at(&all[v.thread_count++], threads[i]);
    if (ptrace(PTRACE_GETSIGINFO, tid, 0, &all[0].siginfo) == 0) {
        all[0].has_siginfo = all[0].siginfo.si_signo != SIGTRAP && all[0].siginfo.si_signo != SIGSTOP;
        cause.signo = all[0].has_siginfo ? all[0].siginfo.si_signo : 0;
    }
    snprintf(path, sizeof(path), "/proc/%d/mem", pid);
    v.mem = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
    f = fopen(path, "r");
    v.auxv_size = f ? fread(auxv, 1, sizeof(auxv), f) : 0;
    signal(SIGXFSZ, SIG_IGN);
    fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die(file);
    clock_gettime(CLOCK_MONOTONIC, &from);
    core_write(&v, fd, max, &result);
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%d %llu %llu %llu %llu %u %ld\n", result.error, (unsigned long long)result.size,
           (unsigned long long)result.written, (unsigned long long)result.unreadable, (unsigned long long)result.cut,
           result.threads, (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000);
    fflush(stdout);
    close(fd);
}

/* Those of the process that aren't traced as yet. */
static void stop_all(pid_t pid)
{
    int before;

    do {
        char path[64];
        DIR *d;

        before = count;
        snprintf(path, sizeof(path), "/proc/%d/task", pid);
        d = opendir(path);
        for (struct dirent *e; d && (e = readdir(d));) {
            pid_t tid = atoi(e->d_name);
            int status;

            if (tid <= 0 || known(tid) || count == THREADS || ptrace(PTRACE_SEIZE, tid, 0, 0) < 0)
                continue;
            if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 || waitpid(tid, &status, __WALL) < 0)
                die("interrupt");
            threads[count++] = tid;
        }
        if (d)
            closedir(d);
    } while (count > before);
}

int main(int argc, char **argv)
{
    uint64_t max = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    char **program = argv + 3;
    int status, dies;
    pid_t pid;

    if (argc < 4)
        return 2;
    dies = strcmp(*program, "-k") == 0;
    program += dies;
    if (strcmp(argv[3], "-p") == 0) {
        pid = atoi(argv[4]);
        stop_all(pid);
        write_it(pid, pid, argv[1], max);
        return 0; /* which lets go of it */
    }
    pid = fork();
    if (pid == 0) {
        struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

        ptrace(PTRACE_TRACEME, 0, 0, 0);
        setrlimit(RLIMIT_CORE, &all);
        execv(*program, program);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
        int signal = WSTOPSIG(status);

        if (signal != SIGTRAP && signal != SIGCHLD && signal != SIGWINCH) { /* in the main thread only, and unhandled */
            threads[count++] = pid;
            stop_all(pid);
            write_it(pid, pid, argv[1], max);
            if (dies) {
                kill(pid, SIGKILL);
                return 0;
            }
            while (count-- > 0) /* the first one last: it is the end of the others */
                ptrace(PTRACE_DETACH, threads[count], 0, threads[count] == pid ? (void *)(long)signal : NULL);
            waitpid(pid, &status, 0);
            return 0;
        }
        ptrace(PTRACE_CONT, pid, 0, signal == SIGTRAP ? NULL : (void *)(long)signal);
    }
    return 1;
}
