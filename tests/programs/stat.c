/* SPDX-License-Identifier: Apache-2.0 */
/* Asking about files: the stat, access, readlink and statfs families. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#include "expect.h"

#ifndef __NR_faccessat2
#define __NR_faccessat2 439
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

#define ALL_FIELDS 0xfffU /* STATX_BASIC_STATS | STATX_BTIME */
#define SIZE_FIELD 0x200U /* STATX_SIZE */

static char out[4096] __attribute__((aligned(16)));
static struct stat *const st = (struct stat *)out;

static void stats(int fd, int dir)
{
    OK(C(stat, X(.path = "f", .file = expect_abs(0, "f")), "f", st));
    FAILS(ENOENT, C(stat, X(.path = "nothing"), "nothing", st));
    FAILS(EFAULT, C(stat, X(.no_path = 1), BAD, st));
    FAILS(EFAULT, C(stat, X(.path = "f"), "f", BAD));
    OK(C(lstat, X(.path = "link"), "link", st));
    FAILS(ENOTDIR, C(lstat, X(.path = "f/x"), "f/x", st));
    FAILS(EFAULT, C(lstat, X(.no_path = 1), BAD, st));
    OK(C(fstat, X(.fd = fd), fd, st));
    FAILS(EBADF, C(fstat, X(.fd = 999), 999, st));
    FAILS(EFAULT, C(fstat, X(.fd = fd), fd, BAD));
    OK(C(newfstatat, X(.path = "f"), AT_FDCWD, "f", st, 0));
    OK(C(newfstatat, X(.path = "in"), dir, "in", st, AT_SYMLINK_NOFOLLOW));
    OK(C(newfstatat, X(.path = ""), fd, "", st, AT_EMPTY_PATH));
    FAILS(ENOENT, C(newfstatat, X(.path = "f"), dir, "f", st, 0));
    FAILS(EBADF, C(newfstatat, X(.path = "f"), 999, "f", st, 0));
    FAILS(EFAULT, C(newfstatat, X(.no_path = 1), AT_FDCWD, BAD, st, 0));
    OK(C(statx, X(.path = "f"), AT_FDCWD, "f", 0, ALL_FIELDS, st));
    OK(C(statx, X(.path = ""), fd, "", AT_EMPTY_PATH, SIZE_FIELD, st));
    FAILS(ENOENT, C(statx, X(.path = "nothing"), AT_FDCWD, "nothing", 0, ALL_FIELDS, st));
    FAILS(EFAULT, C(statx, X(.path = "f"), AT_FDCWD, "f", 0, ALL_FIELDS, BAD));
}

static void accesses(int dir)
{
    OK(C(access, X(.path = "f"), "f", R_OK));
    FAILS(ENOENT, C(access, X(.path = "nothing"), "nothing", F_OK));
    FAILS(EINVAL, C(access, X(.path = "f"), "f", 99));
    FAILS(EFAULT, C(access, X(.no_path = 1), BAD, F_OK));
    OK(C(faccessat, X(.path = "in"), dir, "in", R_OK));
    FAILS(ENOENT, C(faccessat, X(.path = "f"), dir, "f", R_OK));
    FAILS(EFAULT, C(faccessat, X(.no_path = 1), dir, BAD, R_OK));
    OK(C(faccessat2, X(.path = "in"), dir, "in", R_OK, AT_EACCESS));
    FAILS(EINVAL, C(faccessat2, X(.path = "in"), dir, "in", R_OK, 0x40000000));
    FAILS(ENOENT, C(faccessat2, X(.path = "x"), dir, "x", R_OK, 0));
}

static void links(int dir)
{
    MUST(C(readlink, X(.path = "link"), "link", out, sizeof(out)) == 1);
    MUST(C(readlink, X(.path = "link"), "link", out, 1) == 1);
    FAILS(EINVAL, C(readlink, X(.path = "f"), "f", out, sizeof(out)));
    FAILS(ENOENT, C(readlink, X(.path = "nothing"), "nothing", out, sizeof(out)));
    FAILS(EFAULT, C(readlink, X(.path = "link"), "link", BAD, 10));
    FAILS(EFAULT, C(readlink, X(.no_path = 1), BAD, out, 10));
    MUST(C(readlinkat, X(.path = "up"), dir, "up", out, sizeof(out)) == 4);
    FAILS(EINVAL, C(readlinkat, X(.path = "in"), dir, "in", out, sizeof(out)));
    FAILS(EBADF, C(readlinkat, X(.path = "in"), 999, "in", out, sizeof(out)));
}

static void file_systems(int fd)
{
    OK(C(statfs, X(.path = "/"), "/", out));
    FAILS(ENOENT, C(statfs, X(.path = "nothing"), "nothing", out));
    FAILS(EFAULT, C(statfs, X(.no_path = 1), BAD, out));
    OK(C(fstatfs, X(.fd = fd), fd, out));
    FAILS(EBADF, C(fstatfs, X(.fd = 999), 999, out));
    FAILS(EFAULT, C(fstatfs, X(.fd = fd), fd, BAD));
}

/* A path that ends with its page; the next one is not mapped. */
static void page_end(void)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *path = page + 4096 - 2;

    MUST(page != MAP_FAILED && munmap(page + 4096, 4096) == 0);
    memcpy(path, "f", 2);
    OK(C(stat, X(.path = "f"), path, st));
    path[1] = 'f'; /* runs into the hole */
    FAILS(EFAULT, C(stat, X(.no_path = 1), path, st));
    munmap(page, 4096);
}

static void libc_calls(int fd, int dir)
{
    OK(L("stat|newfstatat", X(.path = "f"), stat("f", st)));
    OK(L("lstat|newfstatat", X(.path = "link"), lstat("link", st)));
    OK(L("fstat|newfstatat", X(.fd = fd), fstat(fd, st)));
    OK(L("newfstatat", X(.path = "in"), fstatat(dir, "in", st, 0)));
    FAILS(ENOENT, L("stat|newfstatat", X(.path = "nothing"), stat("nothing", st)));
    FAILS(EBADF, L("fstat|newfstatat|fcntl", X(.fd = 999), fstat(999, st)));
    OK(L("access|faccessat", X(.path = "f"), access("f", R_OK)));
    FAILS(ENOENT, L("access|faccessat", X(.path = "nothing"), access("nothing", R_OK)));
    OK(L("faccessat|faccessat2", X(.path = "in"), faccessat(dir, "in", R_OK, 0)));
    MUST(L("readlink|readlinkat", X(.path = "link"), readlink("link", out, sizeof(out))) == 1);
    MUST(L("readlinkat", X(.path = "up"), readlinkat(dir, "up", out, sizeof(out))) == 4);
    OK(L("statfs", X(.path = "/"), statfs("/", (struct statfs *)out)));
    OK(L("fstatfs", X(.fd = fd), fstatfs(fd, (struct statfs *)out)));
}

/* Permission refused: as nobody, in a child. */
static void refused(void)
{
    pid_t child;

    if (geteuid() != 0)
        return;
    OK(C(mkdir, X(.path = "closed"), "closed", 0700));
    child = fork();
    expect_add(child ? "fork|clone" : "none", child, X(.skip = child == 0));
    if (child == 0) {
        MUST(syscall(SYS_setuid, 65534) == 0);
        FAILS(EACCES, C(stat, X(.path = "closed/x"), "closed/x", st));
        FAILS(EACCES, C(open, X(.path = "closed/x"), "closed/x", O_RDONLY));
        FAILS(EACCES, C(access, X(.path = "closed"), "closed", R_OK));
        expect_exit(0);
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
    OK(C(symlink, X(.path = "../f", .path2 = "dir/up"), "../f", "dir/up"));
    OK(C(link, X(.path = "f", .path2 = "dir/in"), "f", "dir/in"));
    stats(fd, dir);
    accesses(dir);
    links(dir);
    file_systems(fd);
    page_end();
    libc_calls(fd, dir);
    refused();
    OK(C(close, X(.fd = dir), dir));
    OK(C(close, X(.fd = fd), fd));
    expect_end();
    return 0;
}
