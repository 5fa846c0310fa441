/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <elf.h>

#include "inject/trace.h"
#include "test_regs.h"

#define STATUS 42
#define CHILD "exec'ed by test_trace"

/* What main() does when it was started by begin(). */
static int child_main(void)
{
    sigset_t blocked;

    sigprocmask(SIG_SETMASK, NULL, &blocked);
    return sigismember(&blocked, SIGUSR1) == 1 && sigismember(&blocked, SIGTERM) == 0 ? STATUS : 1;
}

/* A process that execs this program when it is let go; *ret_go is closed for that. */
static pid_t begin(int *ret_go)
{
    int fds[2];
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        sigset_t usr1;
        char byte;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* where Yama lets only ancestors */
        close(fds[1]);
        if (read(fds[0], &byte, 1) < 0)
            _exit(2);
        sigemptyset(&usr1);
        sigaddset(&usr1, SIGUSR1);
        sigprocmask(SIG_SETMASK, &usr1, NULL);
        execl("/proc/self/exe", CHILD, (char *)NULL);
        _exit(3);
    }
    close(fds[0]);
    *ret_go = fds[1];
    return pid;
}

static uint64_t vdso_of(pid_t pid)
{
    Elf64_auxv_t a;
    uint64_t found = 0;
    char path[64];
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/auxv", (int)pid);
    f = fopen(path, "re");
    while (f && fread(&a, sizeof(a), 1, f) == 1)
        if (a.a_type == AT_SYSINFO_EHDR)
            found = a.a_un.a_val;
    if (f)
        fclose(f);
    return found;
}

/* The steps of a trace in their order, up to `last` (from 0); true if there was one more. */
static bool steps(pid_t pid, int go, int last)
{
    struct trace t;
    struct trace_thread th;
    struct arch_regs before, after;
    unsigned char was[64], is[64];
    uint64_t vdso;
    int64_t got;

    trace_init(&t, pid, 10000);
    assert_int_equal(trace_seize(&th, pid), 0);
    if (last == 0)
        return true;
    close(go);
    assert_int_equal(trace_until_exec(&t, &th, -1), 0);
    if (last == 1)
        return true;
    vdso = vdso_of(pid);
    assert_int_equal(arch_get_regs(pid, &before), 0);
    assert_int_equal(trace_read(&t, vdso, was, sizeof(was)), 0);
    assert_int_equal(trace_borrow(&t, &th, vdso, 0), 0);
    if (last == 2)
        return true;
    assert_int_equal(trace_call(&t, &th, SYS_getpid, (const uint64_t[6]){0}, &got), 0);
    assert_int_equal(got, pid);
    if (last == 3)
        return true;
    assert_int_equal(trace_call(&t, &th, SYS_munmap, (const uint64_t[6]){1, 1}, &got), 0);
    assert_int_equal(got, -EINVAL);
    if (last == 4)
        return true;
    assert_int_equal(trace_return(&t, &th), 0);
    assert_int_equal(arch_get_regs(pid, &after), 0);
    forget_call(&before);
    forget_call(&after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(trace_read(&t, vdso, is, sizeof(is)), 0);
    assert_memory_equal(was, is, sizeof(was));
    if (last == 5)
        return true;
    assert_int_equal(trace_detach(&th), 0);
    return false;
}

static void assert_ends_well(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), STATUS);
}

static void test_whole(void **state)
{
    int go;
    pid_t pid = begin(&go);

    (void)state;
    assert_false(steps(pid, go, -1));
    assert_ends_well(pid);
}

/* The tracer ends after each step. */
static void test_tracer_ends(void **state)
{
    (void)state;
    for (int last = 0; last <= 5; last++) {
        int go, status;
        pid_t pid = begin(&go), tracer = fork();

        if (tracer == 0)
            _exit(steps(pid, go, last) ? 0 : 1); /* a failed assertion is another status, too */
        close(go);
        assert_int_equal(waitpid(tracer, &status, 0), tracer);
        assert_int_equal(status, 0);
        assert_ends_well(pid);
    }
}

static void test_no_exec(void **state)
{
    struct trace t;
    struct trace_thread th;
    int go, pair[2], status;
    pid_t pid = begin(&go);

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    trace_init(&t, pid, 10000);
    assert_int_equal(trace_seize(&th, pid), 0);
    shutdown(pair[0], SHUT_WR);
    assert_int_equal(trace_until_exec(&t, &th, pair[1]), -ECANCELED);
    close(pair[0]); /* as an exec closes it */
    t.deadline = 0;
    assert_int_equal(trace_until_exec(&t, &th, pair[1]), -ETIMEDOUT);
    kill(pid, SIGKILL);
    t.deadline = UINT64_MAX;
    assert_int_equal(trace_until_exec(&t, &th, -1), -ESRCH);
    assert_int_equal(waitpid(pid, &status, 0), -1); /* it was our child: its end was reported above */
    close(pair[1]);
    close(go);
}

static void test_refused(void **state)
{
    struct trace_thread th;

    (void)state;
    assert_int_equal(trace_seize(&th, getpid()), -EPERM);
    assert_int_equal(trace_seize(&th, 0x7fffffff), -ESRCH);
}

#define HELD_MS 400 /* longer than the stop may take of a thread that has a CPU, or can't be stopped */
#define WAIT_MS 50

/* A process on that CPU that leaves it to nobody else for HELD_MS. Returns once it has begun; 0: not allowed. */
static pid_t hold(int cpu)
{
    struct sched_param first = {.sched_priority = 1};
    struct timespec now, until;
    cpu_set_t one;
    int fds[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (sched_setaffinity(0, sizeof(one), &one) || sched_setscheduler(0, SCHED_FIFO, &first) || write(fds[1], "", 1) != 1)
            _exit(1);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += HELD_MS * 1000000L;
        do
            clock_gettime(CLOCK_MONOTONIC, &now);
        while ((now.tv_sec - until.tv_sec) * 1000000000L + now.tv_nsec < until.tv_nsec);
        _exit(0);
    }
    close(fds[1]);
    if (read(fds[0], &byte, 1) != 1) {
        waitpid(pid, NULL, 0);
        pid = 0;
    }
    close(fds[0]);
    return pid;
}

/* Whoever only waits for a CPU will stop, so it is no reason to give up. */
static void test_a_stop_on_a_busy_machine(void **state)
{
    struct trace_thread *threads;
    cpu_set_t all, one, others;
    size_t standing, count;
    struct trace t;
    pid_t held, pid;
    int cpu = 0, go;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CPU_XOR(&others, &all, &one);
    pid = begin(&go);
    assert_int_equal(sched_setaffinity(pid, sizeof(one), &one), 0);
    if (CPU_COUNT(&others))
        assert_int_equal(sched_setaffinity(0, sizeof(others), &others), 0);
    held = hold(cpu);
    if (held) {
        pid_t tracer = fork();

        if (tracer == 0) {
            trace_init(&t, pid, 10000);
            if (trace_stop_those(&t, WAIT_MS, &threads, &standing, &count) || standing != 1 || count != 1)
                _exit(1);
            trace_let_go(threads, count);
            trace_init(&t, pid, 10000);
            if (trace_stop_all(&t, WAIT_MS, &threads, &count) || count != 1)
                _exit(2);
            trace_let_go(threads, count);
            _exit(STATUS);
        }
        assert_ends_well(tracer);
        waitpid(held, NULL, 0);
    }
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
    close(go);
    assert_ends_well(pid);
    if (!held)
        skip();
}

/* --- calls that are under way --- */

/* The number of the call in which a process waits, once it does, and its first argument. */
static long waits_in(pid_t pid, unsigned long long *ret_arg)
{
    char path[64], line[256];
    long nr = -1;

    snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
    for (int i = 0; i < 10000 && nr < 0; i++) {
        FILE *f = fopen(path, "re");

        if (!f || !fgets(line, sizeof(line), f) || sscanf(line, "%ld %llx", &nr, ret_arg) != 2)
            nr = -1;
        if (f)
            fclose(f);
        if (nr < 0)
            usleep(1000);
    }
    return nr;
}

/* What a child waits in: its exit status is 0 if the call has ended as if nothing had been. fds: a pipe. */
static int wait_in(long nr, const int fds[2])
{
    struct timespec long_time = {1000, 0};
    struct epoll_event ev = {.events = EPOLLIN}, got = {0};
    int word = 7, ep;
    char byte = 0;

    switch (nr) {
    case SYS_read:
        return syscall(SYS_read, fds[0], &byte, 1) == 1 && byte == 'x' ? 0 : 1;
    case SYS_ppoll: {
        struct pollfd p = {.fd = fds[0], .events = POLLIN};

        return syscall(SYS_ppoll, &p, 1, &long_time, NULL, 0) == 1 ? 0 : 1;
    }
    case SYS_epoll_pwait:
        ep = epoll_create1(0);
        epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &ev);
        return syscall(SYS_epoll_pwait, ep, &got, 1, -1, NULL, 8) == 1 ? 0 : 1;
    case SYS_nanosleep:
        return (int)syscall(SYS_nanosleep, &long_time, NULL);
    default:
        return (int)syscall(SYS_futex, &word, FUTEX_WAIT, 7, &long_time, NULL, 0);
    }
}

/* Stops, and with `borrow` makes a call, in a process of its own. */
static void disturb(pid_t pid, bool borrow)
{
    pid_t tracer = fork();

    if (tracer == 0) {
        struct trace_thread *threads;
        struct trace t;
        size_t count;
        int64_t got = pid;

        trace_init(&t, pid, 10000);
        if (trace_stop_all(&t, 1000, &threads, &count) < 0)
            _exit(1);
        if (borrow && (trace_borrow(&t, threads, vdso_of(pid), 0) < 0 ||
                       trace_call(&t, threads, SYS_getpid, (const uint64_t[6]){0}, &got) < 0 ||
                       trace_return(&t, threads) < 0))
            _exit(2);
        trace_let_go(threads, count);
        _exit(got == pid ? STATUS : 3);
    }
    assert_ends_well(tracer);
}

static void test_waiting(void **state)
{
    static const struct {
        long nr;
        bool hidden;
    } calls[] = {
        {SYS_read, false}, {SYS_ppoll, false}, {SYS_epoll_pwait, false}, {SYS_nanosleep, true}, {SYS_futex, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
        for (int borrow = 0; borrow < 2; borrow++) {
            unsigned long long arg = 0, again = 0;
            int fds[2], status;
            pid_t pid;

            assert_int_equal(pipe(fds), 0);
            pid = fork();
            if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
                _exit(wait_in(calls[i].nr, fds));
            }
            while (waits_in(pid, &arg) != calls[i].nr)
                usleep(1000);
            disturb(pid, borrow);
            assert_int_equal(waits_in(pid, &again), calls[i].hidden ? SYS_restart_syscall : calls[i].nr);
            if (calls[i].hidden) {
                disturb(pid, borrow); /* once more: it is in that call now */
                assert_int_equal(waits_in(pid, &again), SYS_restart_syscall);
                kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFSIGNALED(status));
            } else {
                assert_int_equal(again, arg);
                assert_int_equal(write(fds[1], "x", 1), 1);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_int_equal(status, 0);
            }
            close(fds[0]);
            close(fds[1]);
        }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_tracer_ends),
        cmocka_unit_test(test_no_exec),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_a_stop_on_a_busy_machine),
    };

    if (argc == 1 && strcmp(argv[0], CHILD) == 0)
        return child_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
