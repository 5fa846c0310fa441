/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a program under MemoryDenyWriteExecute: "prctl" (PR_SET_MDWE, Linux 6.3), or "filter", which is what systemd
 * does with older kernels. With "prctl-ro" /proc can't be written to, either. Status 77: this kernel can't do it.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SET_MDWE 65 /* PR_SET_MDWE */

/* EPERM if all bits of `bits` are in the third argument of the call. */
#define DENY(call, bits) \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)), \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 4), \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])), \
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, bits, 0, 1), \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

static int filter(void)
{
    struct sock_filter code[] = {
        DENY(SYS_mmap, PROT_EXEC | PROT_WRITE),
        DENY(SYS_mprotect, PROT_EXEC),
        DENY(SYS_pkey_mprotect, PROT_EXEC),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 99;
    if (strcmp(argv[1], "prctl-ro") == 0 &&
        (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
         mount(NULL, "/proc", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL)))
        return 99;
    if (strcmp(argv[1], "filter") == 0 ? filter() : prctl(SET_MDWE, 1, 0, 0, 0))
        return errno == EINVAL ? 77 : 99;
    execvp(argv[2], argv + 2);
    return 99;
}
