/* SPDX-License-Identifier: Apache-2.0 */
/* Waits until a file is there, and then executes a program in a seccomp filter, which allows everything: filters FILE
 * PROGRAM... */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const struct timespec moment = {.tv_nsec = 20000000};
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {1, allow};

    if (argc < 3 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) {
        perror("seccomp");
        return 1;
    }
    while (access(argv[1], F_OK) != 0)
        nanosleep(&moment, NULL);
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 1;
}
