/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/confine.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine.h"

#define NOBODY 65534u /* who owns nothing, by convention */

int confine_to_parent(int parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -errno;
    return getppid() == parent ? 0 : -ESRCH;
}

/* Address space in use. */
static uint64_t used_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f) {
        if (fscanf(f, "%lu", &pages) != 1) // NOLINT(cert-err34-c): the kernel wrote it
            pages = 0;
        fclose(f);
    }
    return pages * (uint64_t)getpagesize();
}

/* At most so much; a bound that is lower already stays. */
static void bound(int what, rlim_t value)
{
    struct rlimit r;

    if (getrlimit((__rlimit_resource_t)what, &r) < 0)
        return;
    if (what == RLIMIT_AS)
        r.rlim_cur = value < r.rlim_max ? value : r.rlim_max;
    else if (value < r.rlim_cur)
        r.rlim_cur = value;
    if (value < r.rlim_max && what != RLIMIT_AS) /* a child of it may need more */
        r.rlim_max = value;
    if (setrlimit((__rlimit_resource_t)what, &r) < 0) {
        /* It stays as it is. */
    }
}

/* With a bound of 0 a program that kernel.core_pattern names would be started all the same, with 1 it isn't: core(5). Where
 * the bound can't be raised it matters that we can't be dumped, nor traced by who has our user. */
static void no_core(void)
{
    struct rlimit r;

    if (setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1}) < 0 && getrlimit(RLIMIT_CORE, &r) == 0 && r.rlim_cur > 1)
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, r.rlim_max});
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

int confine_child(int parent, int *keep, size_t keep_count, uint64_t more_bytes, unsigned cpu_seconds)
{
    unsigned from = 3;
    sigset_t none;
    int rc = confine_to_parent(parent);

    if (rc < 0)
        return rc;
    for (int sig = 1; sig < _NSIG; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            signal(sig, sig == SIGPIPE || sig == SIGXFSZ ? SIG_IGN : SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (keep_count)
        qsort(keep, keep_count, sizeof(*keep), ascending);
    for (size_t i = 0; i < keep_count; i++) {
        if (keep[i] < (int)from)
            continue;
        if ((unsigned)keep[i] > from)
            close_range(from, (unsigned)keep[i] - 1, 0);
        from = (unsigned)keep[i] + 1;
    }
    close_range(from, ~0u, 0);
    no_core();
    bound(RLIMIT_CPU, cpu_seconds);
    bound(RLIMIT_AS, used_bytes() + more_bytes);
    return 0;
}

int confine_user(uid_t uid, gid_t gid)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    if (uid == 0)
        uid = gid = NOBODY;
    /* EINVAL: a user namespace that has no such user. EPERM: one in which groups can't be set; the worker has none. */
    if (geteuid() == 0 && ((setgroups(0, NULL) < 0 && errno != EPERM) ||
                           ((setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0) && errno != EINVAL)))
        return -errno;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &head, none) < 0 || setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, 0}) < 0)
        return -errno;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return 0;
}

int confine_calls(void)
{
    static const unsigned short allowed[] = {
        SYS_read,         SYS_pread64,        SYS_readv,         SYS_lseek,    SYS_fstat,
        SYS_newfstatat,   SYS_close,          SYS_fcntl,         SYS_dup,      SYS_openat2,
        SYS_mmap,         SYS_munmap,         SYS_mremap,        SYS_mprotect, SYS_madvise,
        SYS_brk,          SYS_futex,          SYS_clock_gettime, SYS_getpid,   SYS_gettid,
        SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_sched_yield,   SYS_exit,     SYS_exit_group,
    };
    enum { COUNT = sizeof(allowed) / sizeof(*allowed) };
    struct sock_filter code[COUNT + 6];
    struct sock_fprog program = {.filter = code};
    unsigned short n = 0;

    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE_AUDIT, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < COUNT; i++)
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], (unsigned char)(COUNT - i), 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    program.len = n;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        return -errno;
    return 0;
}
