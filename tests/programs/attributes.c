/* SPDX-License-Identifier: Apache-2.0 */
/* Mode, owner and times of files: the chmod, chown and utime families. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <utime.h>

#include "expect.h"

#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif

static void modes(int fd, int dir)
{
    OK(C(chmod, X(.path = "f", .file = expect_abs(0, "f")), "f", 0600));
    FAILS(ENOENT, C(chmod, X(.path = "no"), "no", 0600));
    FAILS(EFAULT, C(chmod, X(.no_path = 1), BAD, 0600));
    OK(C(fchmod, X(.fd = fd), fd, 0644));
    FAILS(EBADF, C(fchmod, X(.fd = 999), 999, 0644));
    OK(C(fchmodat, X(.path = "in", .file = expect_abs(0, "dir/in")), dir, "in", 0640));
    FAILS(ENOENT, C(fchmodat, X(.path = "no"), dir, "no", 0640));
    FAILS(EBADF, C(fchmodat, X(.path = "in"), 999, "in", 0640));
    C(fchmodat2, X(.path = "in"), dir, "in", 0640, 0); /* Linux 6.6 */
    MUST(C(fchmodat2, X(.path = "no"), dir, "no", 0640, 0) < 0);
    MUST(C(fchmodat2, X(.path = "in"), dir, "in", 0640, 0x40000000) < 0);
}

static void owners(int fd, int dir)
{
    uid_t u = getuid();
    gid_t g = getgid();

    OK(C(chown, X(.path = "f"), "f", u, g));
    FAILS(ENOENT, C(chown, X(.path = "no"), "no", u, g));
    FAILS(EFAULT, C(chown, X(.no_path = 1), BAD, u, g));
    OK(C(fchown, X(.fd = fd), fd, u, g));
    FAILS(EBADF, C(fchown, X(.fd = 999), 999, u, g));
    OK(C(lchown, X(.path = "link"), "link", u, g));
    FAILS(ENOENT, C(lchown, X(.path = "no"), "no", u, g));
    OK(C(fchownat, X(.path = "in"), dir, "in", u, g, AT_SYMLINK_NOFOLLOW));
    FAILS(ENOENT, C(fchownat, X(.path = "no"), dir, "no", u, g, 0));
    FAILS(EINVAL, C(fchownat, X(.path = "in"), dir, "in", u, g, 0x40000000));
}

static void times(int dir)
{
    struct utimbuf t = {1000000000, 1100000000};
    struct timeval tv[2] = {{1000000000, 5}, {1100000000, 6}};
    struct timespec ts[2] = {{1000000000, 7}, {0, UTIME_OMIT}};

    OK(C(utime, X(.path = "f"), "f", &t));
    FAILS(ENOENT, C(utime, X(.path = "no"), "no", &t));
    FAILS(EFAULT, C(utime, X(.path = "f"), "f", BAD));
    OK(C(utimes, X(.path = "f"), "f", tv));
    FAILS(ENOENT, C(utimes, X(.path = "no"), "no", tv));
    FAILS(EFAULT, C(utimes, X(.no_path = 1), BAD, NULL));
    OK(C(futimesat, X(.path = "in"), dir, "in", tv));
    FAILS(ENOENT, C(futimesat, X(.path = "no"), dir, "no", tv));
    FAILS(EBADF, C(futimesat, X(.path = "in"), 999, "in", tv));
    OK(C(utimensat, X(.path = "in"), dir, "in", ts, 0));
    OK(C(utimensat, X(.fd = dir), dir, NULL, ts, 0)); /* futimens(3) */
    FAILS(ENOENT, C(utimensat, X(.path = "no"), dir, "no", ts, 0));
    FAILS(EFAULT, C(utimensat, X(.path = "in"), dir, "in", BAD, 0));
}

static void libc_calls(int fd, int dir)
{
    struct timeval tv[2] = {{1000000000, 5}, {1100000000, 6}};
    struct timespec ts[2] = {{1000000000, 7}, {0, UTIME_OMIT}};

    OK(L("chmod|fchmodat", X(.path = "f"), chmod("f", 0600)));
    OK(L("fchmod", X(.fd = fd), fchmod(fd, 0600)));
    OK(L("fchmodat|fchmodat2", X(.path = "in"), fchmodat(dir, "in", 0600, 0)));
    OK(L("chown|fchownat", X(.path = "f"), chown("f", -1, -1)));
    OK(L("fchown", X(.fd = fd), fchown(fd, -1, -1)));
    OK(L("lchown|fchownat", X(.path = "link"), lchown("link", -1, -1)));
    OK(L("fchownat", X(.path = "in"), fchownat(dir, "in", -1, -1, 0)));
    OK(L("utimes|utimensat", X(.path = "f"), utimes("f", tv)));
    OK(L("utimensat", X(.path = "in"), utimensat(dir, "in", ts, 0)));
    OK(L("utimensat", X(.fd = fd), futimens(fd, ts)));
    FAILS(ENOENT, L("chmod|fchmodat", X(.path = "no"), chmod("no", 0600)));
}

/* Permission refused: as nobody, in a child. */
static void refused(void)
{
    pid_t child;

    if (geteuid() != 0)
        return;
    child = fork();
    expect_add("fork|clone", child, X(.skip = child == 0));
    if (child == 0) {
        MUST(syscall(SYS_setuid, 65534) == 0);
        FAILS(EPERM, C(chmod, X(.path = "f"), "f", 0777));
        FAILS(EPERM, C(chown, X(.path = "f"), "f", 65534, 65534));
        expect_exit(3);
    }
    MUST(C(wait4, X(.fd = 0), child, NULL, 0, NULL) == child);
}

int main(int argc, char **argv)
{
    int fd, dir;

    expect_begin(argc, argv);
    fd = (int)OK(C(open, X(.path = "f"), "f", O_CREAT | O_RDWR, 0644));
    OK(C(mkdir, X(.path = "dir"), "dir", 0755));
    dir = (int)OK(C(open, X(.path = "dir"), "dir", O_RDONLY | O_DIRECTORY));
    OK(C(symlink, X(.path = "f", .path2 = "link"), "f", "link"));
    OK(C(link, X(.path = "f", .path2 = "dir/in"), "f", "dir/in"));
    modes(fd, dir);
    owners(fd, dir);
    times(dir);
    libc_calls(fd, dir);
    refused();
    OK(C(close, X(.fd = dir), dir));
    OK(C(close, X(.fd = fd), fd));
    expect_end();
    return 0;
}
