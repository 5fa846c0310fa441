/* SPDX-License-Identifier: Apache-2.0 */
/* Bad pointers to every call that takes one, raw and through libc: the answers must be the kernel's. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "behave.h"
#include "later.h"
#include "raw.h"

struct probe {
    const char *name;
    long nr;
    int pointers; /* bit n: argument n is the pointer under test */
    long args[6];
};

#define CASE(name, pointers, ...) \
    { \
#name, __NR_##name, pointers, \
        { \
            __VA_ARGS__ \
        } \
    }

static int zero, pipe_fd[2], sock[2];

static int each(long bad, const char *kind)
{
    const struct probe probes[] = {
        CASE(open, 1, 0, O_RDONLY),
        CASE(openat, 2, AT_FDCWD, 0, O_RDONLY),
        CASE(creat, 1, 0, 0600),
        CASE(read, 2, zero, 0, 100),
        CASE(write, 2, pipe_fd[1], 0, 100),
        CASE(pread64, 2, zero, 0, 100, 0),
        CASE(readv, 2, zero, 0, 2),
        CASE(writev, 2, pipe_fd[1], 0, 2),
        CASE(preadv, 2, zero, 0, 2, 0, 0),
        CASE(preadv2, 2, zero, 0, 2, 0, 0, 0),
        CASE(vmsplice, 2, pipe_fd[1], 0, 2, 0),
        CASE(getdents64, 2, zero, 0, 100),
        CASE(stat, 3, 0, 0),
        CASE(lstat, 3, 0, 0),
        CASE(fstat, 2, zero, 0),
        CASE(newfstatat, 6, AT_FDCWD, 0, 0, 0),
        CASE(statx, 18, AT_FDCWD, 0, 0, 0xfff, 0),
        CASE(access, 1, 0, 0),
        CASE(faccessat, 2, AT_FDCWD, 0, 0),
        CASE(readlink, 1, 0, 0, 0),
        CASE(statfs, 1, 0, 0),
        CASE(fstatfs, 2, zero, 0),
        CASE(unlink, 1, 0),
        CASE(unlinkat, 2, AT_FDCWD, 0, 0),
        CASE(rmdir, 1, 0),
        CASE(mkdir, 1, 0, 0700),
        CASE(mkdirat, 2, AT_FDCWD, 0, 0700),
        CASE(mknod, 1, 0, 0100600, 0),
        CASE(rename, 3, 0, 0),
        CASE(renameat, 10, AT_FDCWD, 0, AT_FDCWD, 0),
        CASE(link, 3, 0, 0),
        CASE(symlink, 3, 0, 0),
        CASE(truncate, 1, 0, 0),
        CASE(chmod, 1, 0, 0600),
        CASE(chown, 1, 0, 0, 0),
        CASE(lchown, 1, 0, 0, 0),
        CASE(utime, 1, 0, 0),
        CASE(utimes, 1, 0, 0),
        CASE(pipe, 1, 0),
        CASE(pipe2, 1, 0, 0),
        CASE(memfd_create, 1, 0, 0),
        CASE(signalfd4, 2, -1, 0, 8, 0),
        CASE(socketpair, 8, 1, 1, 0, 0),
        CASE(bind, 2, sock[0], 0, 16),
        CASE(connect, 2, sock[0], 0, 16),
        CASE(accept, 6, sock[0], 0, 0),
        CASE(sendto, 2, sock[0], 0, 100, 0, 0, 0),
        CASE(sendto, 16, sock[0], 0, 0, 0, 0, 16),
        CASE(recvfrom, 2, sock[1], 0, 100, 0x40, 0, 0),
        CASE(sendmsg, 2, sock[0], 0, 0),
        CASE(recvmsg, 2, sock[1], 0, 0x40),
        CASE(sendmmsg, 2, sock[0], 0, 2, 0),
        CASE(recvmmsg, 2, sock[1], 0, 2, 0x40, 0),
        CASE(execve, 1, 0, 0, 0),
        CASE(execve, 7, 0, 0, 0),
        CASE(execveat, 2, AT_FDCWD, 0, 0, 0, 0),
        CASE(clone3, 1, 0, 64),
        CASE(wait4, 2, -1, 0, 1, 0),
        CASE(waitid, 4, 0, 0, 0, 4, 0),
        CASE(chdir, 1, 0),
        CASE(chroot, 1, 0),
        CASE(prctl, 2, 15, 0),
        CASE(seccomp, 4, 2, 0, 0),
        CASE(copy_file_range, 2, zero, 0, pipe_fd[1], 0, 1, 0),
        CASE(sendfile, 4, pipe_fd[1], zero, 0, 4),
        CASE(splice, 2, zero, 0, pipe_fd[1], 0, 4, 0),
        CASE(fcntl, 4, zero, F_SETLK, 0),
        CASE(ioctl, 4, zero, 0x541B, 0),
        CASE(io_uring_setup, 2, 4, 0),
        CASE(open_by_handle_at, 2, AT_FDCWD, 0, 0),
    };

    for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
        long a[6], r, s;

        if (probes[i].nr < 0) /* not of this architecture */
            continue;
        memcpy(a, probes[i].args, sizeof(a));
        for (int n = 0; n < 6; n++)
            if (probes[i].pointers & 1 << n)
                a[n] = bad;
        r = raw_syscall(probes[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        errno = 0;
        s = syscall(probes[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        printf("%s %s: %ld %ld %d\n", kind, probes[i].name, r < 0 ? r : 0, s < 0 ? -1L : 0, s < 0 ? errno : 0);
        for (int fd = 10; fd < 20; fd++) /* whatever a call opened after all */
            close(fd);
    }
    return 0;
}

static int all(int argc, char **argv)
{
    char *page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)argc, (void)argv;
    MUST(page != MAP_FAILED);
    zero = open("/dev/zero", O_RDONLY);
    MUST(zero >= 0 && pipe(pipe_fd) == 0 && syscall(SYS_socketpair, 1, 2 | 04000, 0, sock) == 0);
    fcntl(pipe_fd[1], F_SETFL, O_NONBLOCK);
    each(0, "null");
    each(8, "small");
    each(-1, "all-ones");
    each((long)0xffff800000000000UL, "kernel");
    each(0x0000800000000000L, "non-canonical");
    mprotect(page + 4096, 4096, PROT_NONE);
    each((long)page + 4096, "no-access");
    munmap(page + 4096, 4096);
    each((long)page + 4096, "unmapped");
    memset(page, '/', 4096); /* text, and structures, that run into the hole */
    each((long)page + 4096 - 3, "page-end");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {{"all", all}, {NULL, NULL}};

    return behave_main(cases, argc, argv);
}
