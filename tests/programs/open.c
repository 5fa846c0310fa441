/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing: open, openat, openat2, creat, open_by_handle_at, close, close_range. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "expect.h"

#ifndef __NR_close_range
#define __NR_close_range 436
#endif
#ifndef __NR_openat2
#define __NR_openat2 437
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

struct open_how { /* openat2(2); musl has no header for it */
    uint64_t flags, mode, resolve;
};

struct handle {
    unsigned handle_bytes;
    int handle_type;
    unsigned char f_handle[128];
};

static void opens(void)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC};
    int fd, dir;

    fd = (int)OK(C(open, X(.path = "a", .file = expect_abs(0, "a")), "a", O_CREAT | O_RDWR, 0640));
    OK(C(close, X(.fd = fd), fd));
    FAILS(EBADF, C(close, X(.fd = fd), fd));
    FAILS(EBADF, C(close, X(.fd = -1), -1));
    FAILS(ENOENT, C(open, X(.path = "missing/b"), "missing/b", O_RDONLY));
    FAILS(EEXIST, C(open, X(.path = "a"), "a", O_CREAT | O_EXCL | O_WRONLY, 0600));
    FAILS(EFAULT, C(open, X(.no_path = 1), BAD, O_RDONLY));
    FAILS(EFAULT, C(open, X(.no_path = 1), (void *)-1L, O_RDONLY));
    FAILS(ENOENT, C(open, X(.path = ""), "", O_RDONLY));
    FAILS(ENOTDIR, C(open, X(.path = "a/b"), "a/b", O_RDONLY));
    FAILS(EISDIR, C(open, X(.path = "."), ".", O_WRONLY));

    fd = (int)OK(C(creat, X(.path = "c"), "c", 0600));
    OK(C(close, X(.fd = fd), fd));
    FAILS(ENOENT, C(creat, X(.path = "missing/c"), "missing/c", 0600));
    FAILS(EFAULT, C(creat, X(.no_path = 1), BAD, 0600));

    OK(C(mkdir, X(.path = "dir"), "dir", 0700));
    dir = (int)OK(C(openat, X(.path = "dir", .file = expect_abs(1, "dir")), AT_FDCWD, "dir", O_RDONLY | O_DIRECTORY));
    fd = (int)OK(C(openat, X(.path = "in", .file = expect_abs(2, "dir/in")), dir, "in", O_CREAT | O_RDWR, 0600));
    OK(C(close, X(.fd = fd), fd));
    fd = (int)OK(C(openat, X(.path = "./in"), dir, "./in", O_RDONLY));
    OK(C(close, X(.fd = fd), fd));
    fd =
        (int)OK(C(openat, X(.path = expect_abs(3, "a"), .file = expect_abs(3, "a")), -7, expect_abs(3, "a"), O_RDONLY));
    OK(C(close, X(.fd = fd), fd));
    FAILS(EBADF, C(openat, X(.path = "in"), -7, "in", O_RDONLY));
    FAILS(ENOENT, C(openat, X(.path = "nothing"), dir, "nothing", O_RDONLY));
    FAILS(EFAULT, C(openat, X(.no_path = 1), AT_FDCWD, BAD, O_RDONLY));

    fd = (int)OK(C(openat2, X(.path = "in"), dir, "in", &how, sizeof(how)));
    OK(C(close, X(.fd = fd), fd));
    FAILS(ENOENT, C(openat2, X(.path = "no"), dir, "no", &how, sizeof(how)));
    FAILS(EINVAL, C(openat2, X(.path = "in"), dir, "in", &how, 3));
    FAILS(EFAULT, C(openat2, X(.path = "in"), dir, "in", BAD, sizeof(how)));
    OK(C(close, X(.fd = dir), dir));
}

/* Names that are hard to write down. */
static void names(void)
{
    static const char *const hard[] = {
        "with space", "quote\"back\\slash", "tab\tnewline\nend", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa7",
        "-dash",      "a,b|c#d:e",
    };
    char *deep = malloc(4100);
    int fd;

    for (size_t i = 0; i < sizeof(hard) / sizeof(hard[0]); i++) {
        fd = (int)OK(C(open, X(.path = hard[i], .file = expect_abs(0, hard[i])), hard[i], O_CREAT | O_WRONLY, 0600));
        OK(C(close, X(.fd = fd), fd));
    }
    /* The longest path that the kernel takes: 4,095 bytes and the NUL. */
    memset(deep, '/', 4095);
    memcpy(deep + 4095 - 3, "tmp", 4);
    fd = (int)OK(C(open, X(.path = deep), deep, O_RDONLY));
    OK(C(close, X(.fd = fd), fd));
    memset(deep, '/', 4099);
    deep[4099] = 0;
    FAILS(ENAMETOOLONG, C(open, X(.fd = 0), deep, O_RDONLY));
    free(deep);
}

static void handles(void)
{
    struct handle h = {.handle_bytes = sizeof(h.f_handle)};
    int mount_id, fd;
    long r = syscall(SYS_name_to_handle_at, AT_FDCWD, "a", &h, &mount_id, 0);
    int mount = open(".", O_RDONLY | O_DIRECTORY);

    expect_add("open|openat", mount, X(.path = "."));
    FAILS(EFAULT, C(open_by_handle_at, X(.fd = 0), AT_FDCWD, BAD, O_RDONLY));
    h.handle_bytes = r == 0 ? h.handle_bytes : 8;
    fd = (int)C(open_by_handle_at, X(.fd = 0), mount, &h, O_RDONLY);
    if (fd >= 0)
        OK(C(close, X(.fd = fd), fd));
    OK(C(close, X(.fd = mount), mount));
}

static void ranges(void)
{
    int fd = (int)OK(C(open, X(.path = "a"), "a", O_RDONLY));

    OK(C(fcntl, X(.fd = fd), fd, F_DUPFD, 700));
    OK(C(fcntl, X(.fd = fd), fd, F_DUPFD, 701));
    OK(C(close_range, X(.fd = 0), 700, 701, 0));
    FAILS(EBADF, C(close, X(.fd = 700), 700));
    OK(C(close_range, X(.fd = 0), 600, ~0U, 0));
    OK(C(close_range, X(.fd = 0), fd, fd, CLOSE_RANGE_CLOEXEC));
    OK(C(close, X(.fd = fd), fd));
    FAILS(EINVAL, C(close_range, X(.fd = 0), 9, 8, 0));
    FAILS(EINVAL, C(close_range, X(.fd = 0), 700, 701, 0x4000));
}

static void libc_calls(void)
{
    int fd = (int)OK(L("open|openat", X(.path = "a"), open("a", O_RDONLY))), dir;

    OK(L("close", X(.fd = fd), close(fd)));
    FAILS(ENOENT, L("open|openat", X(.path = "nothing"), open("nothing", O_RDONLY)));
    FAILS(EBADF, L("close", X(.fd = 999), close(999)));
    fd = (int)OK(L("open|openat|creat", X(.path = "c"), creat("c", 0600)));
    OK(L("close", X(.fd = fd), close(fd)));
    dir = (int)OK(L("open|openat", X(.path = "dir"), open("dir", O_RDONLY | O_DIRECTORY)));
    fd = (int)OK(L("openat", X(.path = "in", .file = expect_abs(0, "dir/in")), openat(dir, "in", O_RDONLY)));
    OK(L("close", X(.fd = fd), close(fd)));
    OK(L("close", X(.fd = dir), close(dir)));
}

int main(int argc, char **argv)
{
    expect_begin(argc, argv);
    opens();
    names();
    handles();
    ranges();
    libc_calls();
    expect_end();
    return 0;
}
