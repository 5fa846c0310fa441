/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
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
    before.user.orig_rax = after.user.orig_rax;
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_tracer_ends),
        cmocka_unit_test(test_no_exec),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_a_stop_on_a_busy_machine),
    };

    if (argc == 1 && strcmp(argv[0], CHILD) == 0)
        return child_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
