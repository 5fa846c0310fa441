/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes: fork, vfork, clone, clone3, execve, execveat, exit, exit_group,
 * wait4, waitid, chdir, fchdir, chroot, setns, unshare, prctl, seccomp.
 *
 * Children that exec run this program with "child", which does nothing but end.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "expect.h"

#ifndef __NR_clone3
#define __NR_clone3 435
#endif
#ifndef __WCLONE
#define __WCLONE 0x80000000
#endif

struct clone3_args { /* clone(2), struct clone_args, first version */
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

static const char *self;

static void wait_for(pid_t pid)
{
    int status;

    MUST(C(wait4, X(.fd = 0), pid, &status, 0, NULL) == pid);
}

static void forks(void)
{
    struct clone3_args c3 = {.exit_signal = SIGCHLD};
    siginfo_t info;
    long p;

    p = CALL(fork);
    if (p == 0) {
        MUST(C(access, X(.path = "/in-fork"), "/in-fork", F_OK) < 0);
        expect_exit(5);
    }
    expect_add(OP_NAME(fork), OK(p), X(.fd = 0));
    wait_for((pid_t)p);
    FAILS(ECHILD, C(wait4, X(.fd = 0), p, NULL, 0, NULL));

    p = CALL(clone, SIGCHLD);
    if (p == 0) {
        MUST(C(access, X(.path = "/in-clone"), "/in-clone", F_OK) < 0);
        expect_exit(6);
    }
    expect_add("clone", OK(p), X(.fd = 0));
    OK(C(waitid, X(.fd = 0), P_PID, p, &info, WEXITED, NULL));
    FAILS(ECHILD, C(waitid, X(.fd = 0), P_PID, p, &info, WEXITED, NULL));
    FAILS(EINVAL, C(clone, X(.fd = 0), CLONE_SIGHAND)); /* without CLONE_VM */

    p = CALL(clone3, &c3, sizeof(c3));
    if (p == 0) {
        MUST(C(access, X(.path = "/in-clone3"), "/in-clone3", F_OK) < 0);
        expect_exit(7);
    }
    expect_add("clone3", OK(p), X(.fd = 0));
    wait_for((pid_t)p);
    FAILS(EFAULT, C(clone3, X(.fd = 0), BAD, sizeof(c3)));
    FAILS(EINVAL, C(clone3, X(.fd = 0), &c3, 3));

    p = fork(); /* libc's */
    if (p == 0)
        expect_exit(8);
    expect_add("fork|clone", OK(p), X(.fd = 0));
    wait_for((pid_t)p);

    p = RAW_VFORK_EXIT(9);
    expect_add(RAW_VFORK_OP, OK(p), X(.fd = 0));
    wait_for((pid_t)p);

    p = vfork(); /* libc's */
    if (p == 0)
        _exit(4);
    expect_add("vfork|clone|fork", OK(p), X(.fd = 0));
    wait_for((pid_t)p);

    /* Killed by a signal. */
    p = CALL(fork);
    if (p == 0) {
        kill(getpid(), SIGKILL); /* raise() would name the parent's thread after a raw fork */
        pause();
    }
    expect_add(OP_NAME(fork), OK(p), X(.fd = 0));
    wait_for((pid_t)p);
}

/* In a child: exec by every way. The parent waits. */
static void execs(void)
{
    char *const args[] = {(char *)"child-name", (char *)"child", NULL};
    char *const none[] = {NULL};
    extern char **environ;
    int fd;
    long p;

    FAILS(ENOENT, C(execve, X(.path = "no-program"), "no-program", args, environ));
    FAILS(EACCES, C(execve, X(.path = "/"), "/", args, environ));
    FAILS(EFAULT, C(execve, X(.no_path = 1), BAD, args, environ));
    FAILS(EFAULT, C(execve, X(.path = self), self, BAD, environ));
    fd = (int)OK(C(open, X(.path = "not-executable"), "not-executable", O_CREAT | O_WRONLY, 0600));
    OK(C(close, X(.fd = fd), fd));
    FAILS(EACCES, C(execve, X(.path = "not-executable"), "not-executable", none, none));
    FAILS(EBADF, C(execveat, X(.path = "x"), 999, "x", args, environ, 0));
    FAILS(ENOENT, C(execveat, X(.path = "no-program"), AT_FDCWD, "no-program", args, environ, 0));

    p = fork();
    if (p == 0) {
        expect_noreturn("execve", X(.path = self));
        CALL(execve, self, args, environ);
        _exit(99);
    }
    expect_add("fork|clone", OK(p), X(.fd = 0));
    wait_for((pid_t)p);

    p = fork();
    if (p == 0) {
        expect_noreturn("execve", X(.path = self));
        execv(self, args);
        _exit(99);
    }
    expect_add("fork|clone", OK(p), X(.fd = 0));
    wait_for((pid_t)p);

    p = fork();
    if (p == 0) {
        expect_noreturn("execveat", X(.path = self));
        CALL(execveat, AT_FDCWD, self, args, environ, 0);
        _exit(99);
    }
    expect_add("fork|clone", OK(p), X(.fd = 0));
    wait_for((pid_t)p);

    fd = (int)OK(C(open, X(.path = self), self, O_RDONLY));
    p = fork();
    if (p == 0) {
        expect_noreturn("execveat", X(.path = ""));
        CALL(execveat, fd, "", args, environ, 0x1000 /* AT_EMPTY_PATH */);
        _exit(99);
    }
    expect_add("fork|clone", OK(p), X(.fd = 0));
    OK(C(close, X(.fd = fd), fd));
    wait_for((pid_t)p);
}

static void *thread(void *p)
{
    *(long *)p = syscall(SYS_gettid);
    MUST(C(access, X(.path = "/in-thread"), "/in-thread", F_OK) < 0);
    expect_noreturn("exit", X(.fd = 0));
    return NULL;
}

static void threads(void)
{
    pthread_t t;
    long tid;

    for (int i = 0; i < 3; i++) {
        MUST(pthread_create(&t, NULL, thread, &tid) == 0);
        MUST(pthread_join(t, NULL) == 0);
        expect_add("clone|clone3", tid, X(.fd = 0));
    }
}

static void places(void)
{
    int fd;
    long p;

    OK(C(mkdir, X(.path = "sub"), "sub", 0755));
    fd = (int)OK(C(open, X(.path = "."), ".", O_RDONLY | O_DIRECTORY));
    OK(C(chdir, X(.path = "sub", .file = expect_abs(0, "sub")), "sub"));
    FAILS(ENOENT, C(access, X(.path = "x", .file = expect_abs(0, "sub/x")), "x", F_OK));
    FAILS(ENOENT, C(chdir, X(.path = "no"), "no"));
    FAILS(EFAULT, C(chdir, X(.no_path = 1), BAD));
    OK(L("chdir", X(.path = ".."), chdir("..")));
    OK(C(chdir, X(.path = "sub"), "sub"));
    OK(C(fchdir, X(.fd = fd), fd));
    FAILS(ENOENT, C(access, X(.path = "x", .file = expect_abs(0, "x")), "x", F_OK));
    FAILS(EBADF, C(fchdir, X(.fd = 999), 999));
    OK(C(close, X(.fd = fd), fd));
    FAILS(EBADF, C(setns, X(.fd = 999), 999, 0));
    FAILS(EINVAL, C(unshare, X(.fd = 0), 1 /* no such flag */));
    OK(C(unshare, X(.fd = 0), 0));
    FAILS(ENOENT, C(chroot, X(.path = "no"), "no"));
    FAILS(EFAULT, C(chroot, X(.no_path = 1), BAD));

    p = fork();
    if (p == 0) {
        if (geteuid() == 0) {
            fd = (int)OK(C(open, X(.path = "/proc/self/ns/uts"), "/proc/self/ns/uts", O_RDONLY));
            OK(C(setns, X(.fd = fd), fd, 0));
            OK(C(unshare, X(.fd = 0), CLONE_FS));
            OK(C(chroot, X(.path = "sub"), "sub"));
        }
        expect_exit(0);
    }
    expect_add("fork|clone", OK(p), X(.fd = 0));
    wait_for((pid_t)p);
}

static void controls(void)
{
    char name[16] = "renamed";

    OK(C(prctl, X(.fd = 0), PR_SET_NAME, name));
    OK(C(prctl, X(.fd = 0), PR_GET_NAME, name));
    FAILS(EINVAL, C(prctl, X(.fd = 0), 123456));
    FAILS(EFAULT, C(prctl, X(.fd = 0), PR_SET_NAME, BAD));
    FAILS(EINVAL, C(seccomp, X(.fd = 0), 99, 0, NULL));
    FAILS(EFAULT, C(seccomp, X(.fd = 0), 2 /* SECCOMP_GET_ACTION_AVAIL */, 0, BAD));
    uint32_t action = 0x7fff0000U; /* SECCOMP_RET_ALLOW */
    OK(C(seccomp, X(.fd = 0), 2, 0, &action));
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "child") == 0)
        return 7;
    self = argv[0];
    expect_begin(argc, argv);
    forks();
    execs();
    threads();
    places();
    controls();
    expect_end();
    return 0;
}
