/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lives behind a seccomp filter that kills it at the first system call that it does not need itself, among them all
 * that mapping memory takes. Opens a file again and again until SIGTERM.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "later.h"

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
    (void)sig;
    stop = 1;
}

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

int main(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(__NR_open),
        ALLOW(SYS_openat),
        ALLOW(SYS_close),
        ALLOW(SYS_fcntl),
        ALLOW(SYS_nanosleep),
        ALLOW(SYS_clock_nanosleep),
        ALLOW(SYS_restart_syscall),
        ALLOW(SYS_rt_sigreturn),
        ALLOW(SYS_exit_group),
        ALLOW(SYS_write),
        ALLOW(SYS_writev),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGTERM, on_term);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return 2;
    write(1, "ready\n", 6);
    while (!stop) {
        struct timespec t = {0, 5000000};

        close(open("/etc/hostname", O_RDONLY));
        nanosleep(&t, NULL);
    }
    return write(1, "went on well\n", 13) != 13;
}
