/* SPDX-License-Identifier: Apache-2.0 */
/* Names in the file system: unlink, rmdir, mkdir, mknod, rename, link, symlink, truncate and fallocate forms. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "expect.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

static void make(int dir)
{
    OK(C(mkdir, X(.path = "d1", .file = expect_abs(0, "d1")), "d1", 0700));
    FAILS(EEXIST, C(mkdir, X(.path = "d1"), "d1", 0700));
    FAILS(EFAULT, C(mkdir, X(.no_path = 1), BAD, 0700));
    OK(C(mkdirat, X(.path = "d2", .file = expect_abs(0, "dir/d2")), dir, "d2", 0700));
    FAILS(ENOENT, C(mkdirat, X(.path = "no/d2"), dir, "no/d2", 0700));
    FAILS(EBADF, C(mkdirat, X(.path = "d2"), 999, "d2", 0700));
    OK(C(mknod, X(.path = "fifo"), "fifo", S_IFIFO | 0600, 0));
    FAILS(EEXIST, C(mknod, X(.path = "fifo"), "fifo", S_IFIFO | 0600, 0));
    FAILS(EFAULT, C(mknod, X(.no_path = 1), BAD, S_IFIFO | 0600, 0));
    OK(C(mknodat, X(.path = "reg"), dir, "reg", S_IFREG | 0600, 0));
    FAILS(ENOENT, C(mknodat, X(.path = "no/reg"), dir, "no/reg", S_IFREG | 0600, 0));
    OK(C(link, X(.path = "f", .path2 = "hard", .file = expect_abs(0, "f"), .file2 = expect_abs(1, "hard")), "f",
         "hard"));
    FAILS(ENOENT, C(link, X(.path = "no", .path2 = "hard2"), "no", "hard2"));
    FAILS(EFAULT, C(link, X(.path = "f"), "f", BAD));
    OK(C(linkat, X(.path = "f", .path2 = "hard"), AT_FDCWD, "f", dir, "hard", 0));
    FAILS(EEXIST, C(linkat, X(.path = "f", .path2 = "hard"), AT_FDCWD, "f", dir, "hard", 0));
    OK(C(symlink, X(.path = "any target", .path2 = "soft"), "any target", "soft"));
    FAILS(EEXIST, C(symlink, X(.path = "x", .path2 = "soft"), "x", "soft"));
    FAILS(EFAULT, C(symlink, X(.path2 = "soft2"), BAD, "soft2"));
    OK(C(symlinkat, X(.path = "t", .path2 = "soft"), "t", dir, "soft"));
    FAILS(EBADF, C(symlinkat, X(.path = "t", .path2 = "soft"), "t", 999, "soft"));
}

static void change(int fd, int dir)
{
    OK(C(truncate, X(.path = "f"), "f", 1000));
    FAILS(EINVAL, C(truncate, X(.path = "f"), "f", -1));
    FAILS(ENOENT, C(truncate, X(.path = "no"), "no", 10));
    OK(C(ftruncate, X(.fd = fd), fd, 2000));
    FAILS(EBADF, C(ftruncate, X(.fd = 999), 999, 0));
    FAILS(EINVAL, C(ftruncate, X(.fd = dir), dir, 0));
    C(fallocate, X(.fd = fd), fd, 0, 0, 4096); /* not every file system can */
    FAILS(EBADF, C(fallocate, X(.fd = 999), 999, 0, 0, 4096));
    FAILS(EINVAL, C(fallocate, X(.fd = fd), fd, 0, 0, 0));

    OK(C(rename, X(.path = "hard", .path2 = "hard2", .file = expect_abs(0, "hard"), .file2 = expect_abs(1, "hard2")),
         "hard", "hard2"));
    FAILS(ENOENT, C(rename, X(.path = "hard", .path2 = "x"), "hard", "x"));
    FAILS(EFAULT, C(rename, X(.path2 = "x"), BAD, "x"));
    FAILS(EFAULT, C(rename, X(.path = "x"), "x", BAD));
    OK(C(renameat, X(.path = "hard2", .path2 = "hard3", .file2 = expect_abs(1, "dir/hard3")), AT_FDCWD, "hard2", dir,
         "hard3"));
    FAILS(EBADF, C(renameat, X(.path = "hard3", .path2 = "hard4"), dir, "hard3", 999, "hard4"));
    OK(C(renameat2, X(.path = "hard3", .path2 = "hard4"), dir, "hard3", dir, "hard4", RENAME_NOREPLACE));
    FAILS(EEXIST, C(renameat2, X(.path = "hard4", .path2 = "hard"), dir, "hard4", dir, "hard", RENAME_NOREPLACE));
    FAILS(EINVAL, C(renameat2, X(.path = "hard4", .path2 = "hard"), dir, "hard4", dir, "hard", 0x100));
}

static void remove_all(int dir)
{
    OK(C(unlink, X(.path = "soft", .file = expect_abs(0, "soft")), "soft"));
    FAILS(ENOENT, C(unlink, X(.path = "soft"), "soft"));
    FAILS(EISDIR, C(unlink, X(.path = "dir"), "dir"));
    FAILS(EFAULT, C(unlink, X(.no_path = 1), BAD));
    OK(C(unlinkat, X(.path = "hard", .file = expect_abs(0, "dir/hard")), dir, "hard", 0));
    OK(C(unlinkat, X(.path = "hard4"), dir, "hard4", 0));
    OK(C(unlinkat, X(.path = "soft"), dir, "soft", 0));
    OK(C(unlinkat, X(.path = "reg"), dir, "reg", 0));
    OK(C(unlinkat, X(.path = "d2"), dir, "d2", AT_REMOVEDIR));
    FAILS(ENOENT, C(unlinkat, X(.path = "d2"), dir, "d2", AT_REMOVEDIR));
    FAILS(EBADF, C(unlinkat, X(.path = "d2"), 999, "d2", 0));
    OK(C(unlink, X(.path = "fifo"), "fifo"));
    OK(C(rmdir, X(.path = "d1", .file = expect_abs(0, "d1")), "d1"));
    FAILS(ENOENT, C(rmdir, X(.path = "d1"), "d1"));
    FAILS(ENOTDIR, C(rmdir, X(.path = "f"), "f"));
    FAILS(EFAULT, C(rmdir, X(.no_path = 1), BAD));
}

static void libc_calls(int fd, int dir)
{
    OK(L("mkdir|mkdirat", X(.path = "d1"), mkdir("d1", 0700)));
    OK(L("mkdirat", X(.path = "d2"), mkdirat(dir, "d2", 0700)));
    OK(L("mknod|mknodat", X(.path = "fifo"), mkfifo("fifo", 0600)));
    OK(L("link|linkat", X(.path = "f", .path2 = "hard"), link("f", "hard")));
    OK(L("symlink|symlinkat", X(.path = "f", .path2 = "soft"), symlink("f", "soft")));
    OK(L("rename|renameat|renameat2", X(.path = "hard", .path2 = "hard2"), rename("hard", "hard2")));
    OK(L("renameat|renameat2", X(.path = "hard2", .path2 = "hard3"), renameat(AT_FDCWD, "hard2", dir, "hard3")));
    OK(L("truncate", X(.path = "f"), truncate("f", 5)));
    OK(L("ftruncate", X(.fd = fd), ftruncate(fd, 6)));
    OK(L("unlink|unlinkat", X(.path = "soft"), unlink("soft")));
    OK(L("unlink|unlinkat", X(.path = "fifo"), unlink("fifo")));
    OK(L("unlinkat", X(.path = "hard3"), unlinkat(dir, "hard3", 0)));
    OK(L("unlinkat", X(.path = "d2"), unlinkat(dir, "d2", AT_REMOVEDIR)));
    OK(L("rmdir|unlinkat", X(.path = "d1"), rmdir("d1")));
    FAILS(ENOENT, L("unlink|unlinkat", X(.path = "no"), unlink("no")));
    FAILS(ENOENT, L("rmdir|unlinkat", X(.path = "no"), rmdir("no")));
    FAILS(ENOENT, L("rename|renameat|renameat2", X(.path = "no", .path2 = "x"), rename("no", "x")));
}

int main(int argc, char **argv)
{
    int fd, dir;

    expect_begin(argc, argv);
    fd = (int)OK(C(open, X(.path = "f"), "f", O_CREAT | O_RDWR, 0644));
    OK(C(mkdir, X(.path = "dir"), "dir", 0755));
    dir = (int)OK(C(open, X(.path = "dir"), "dir", O_RDONLY | O_DIRECTORY));
    make(dir);
    change(fd, dir);
    remove_all(dir);
    libc_calls(fd, dir);
    OK(C(close, X(.fd = dir), dir));
    OK(C(close, X(.fd = fd), fd));
    expect_end();
    return 0;
}
