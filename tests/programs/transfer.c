/* SPDX-License-Identifier: Apache-2.0 */
/* Moving bytes: the read and write forms, sendfile, splice, tee, vmsplice, copy_file_range, getdents, fsync, lseek. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "expect.h"

#define IO(n) X(.fd = (n), .io = 1)

static char buffer[70000];

static void plain(int rw, int ro)
{
    OK(C(write, IO(rw), rw, "0123456789", 10));
    OK(C(write, IO(rw), rw, buffer, sizeof(buffer)));
    OK(C(write, IO(rw), rw, "", 0));
    MUST(C(lseek, X(.fd = rw), rw, 0, SEEK_SET) == 0);
    MUST(C(read, IO(rw), rw, buffer, 4) == 4);
    MUST(C(read, IO(rw), rw, buffer, sizeof(buffer)) == sizeof(buffer));
    MUST(C(read, IO(rw), rw, buffer, sizeof(buffer)) == 6);
    MUST(C(read, IO(rw), rw, buffer, sizeof(buffer)) == 0);
    FAILS(EFAULT, C(read, X(.fd = ro), ro, BAD, 10));
    FAILS(EFAULT, C(write, X(.fd = rw), rw, BAD, 10));
    FAILS(EBADF, C(read, X(.fd = 999), 999, buffer, 10));
    FAILS(EBADF, C(write, X(.fd = ro), ro, buffer, 10));
    FAILS(EBADF, C(write, X(.fd = -1), -1, buffer, 10));
    FAILS(EINVAL, C(lseek, X(.fd = rw), rw, 0, 99));
    FAILS(EBADF, C(lseek, X(.fd = 999), 999, 0, SEEK_CUR));
    MUST(C(lseek, X(.fd = rw), rw, 5, SEEK_END) == 70015);

    MUST(C(pwrite64, IO(rw), rw, "abc", 3, 100) == 3);
    MUST(C(pread64, IO(rw), rw, buffer, 50, 100) == 50);
    MUST(C(pread64, IO(rw), rw, buffer, 50, 1L << 40) == 0);
    FAILS(EINVAL, C(pread64, X(.fd = rw), rw, buffer, 50, -1));
    FAILS(EBADF, C(pwrite64, X(.fd = ro), ro, buffer, 50, 0));
    FAILS(EFAULT, C(pwrite64, X(.fd = rw), rw, BAD, 50, 0));
    FAILS(EFAULT, C(pread64, X(.fd = ro), ro, BAD, 50, 0));
    OK(C(fsync, X(.fd = rw), rw));
    FAILS(EBADF, C(fsync, X(.fd = 999), 999));
    OK(C(fdatasync, X(.fd = rw), rw));
    FAILS(EBADF, C(fdatasync, X(.fd = 999), 999));
}

static void vectors(int rw, int ro)
{
    struct iovec v[3] = {{buffer, 3}, {buffer + 100, 0}, {buffer + 200, 7}};
    struct iovec bad[2] = {{buffer, 3}, {BAD, 5}};

    MUST(C(writev, IO(rw), rw, v, 3) == 10);
    MUST(C(writev, IO(rw), rw, v, 0) == 0);
    FAILS(EFAULT, C(writev, X(.fd = rw), rw, BAD, 2));
    FAILS(EINVAL, C(writev, X(.fd = rw), rw, v, -1));
    FAILS(EINVAL, C(writev, X(.fd = rw), rw, v, 5000));
    FAILS(EBADF, C(writev, X(.fd = ro), ro, v, 3));
    C(writev, X(.fd = rw), rw, bad, 2); /* a short write or EFAULT, as the file system likes */
    MUST(C(lseek, X(.fd = rw), rw, 0, SEEK_SET) == 0);
    MUST(C(readv, IO(rw), rw, v, 3) == 10);
    FAILS(EFAULT, C(readv, X(.fd = rw), rw, BAD, 2));
    FAILS(EBADF, C(readv, X(.fd = 999), 999, v, 3));
    MUST(C(preadv, IO(rw), rw, v, 3, 4, 0) == 10);
    FAILS(EBADF, C(preadv, X(.fd = 999), 999, v, 3, 0, 0));
    FAILS(EFAULT, C(preadv, X(.fd = rw), rw, BAD, 3, 0, 0));
    MUST(C(pwritev, IO(rw), rw, v, 3, 4, 0) == 10);
    FAILS(EBADF, C(pwritev, X(.fd = ro), ro, v, 3, 0, 0));
    FAILS(EFAULT, C(pwritev, X(.fd = rw), rw, BAD, 3, 0, 0));
    MUST(C(preadv2, IO(rw), rw, v, 3, 4, 0, 0) == 10);
    FAILS(EOPNOTSUPP, C(preadv2, X(.fd = rw), rw, v, 3, 4, 0, 0x40000000));
    FAILS(EFAULT, C(preadv2, X(.fd = rw), rw, BAD, 3, 4, 0, 0));
    MUST(C(pwritev2, IO(rw), rw, v, 3, 4, 0, 0) == 10);
    FAILS(EBADF, C(pwritev2, X(.fd = ro), ro, v, 3, 0, 0, 0));
    FAILS(EFAULT, C(pwritev2, X(.fd = rw), rw, BAD, 3, 0, 0, 0));
}

static void between(int rw, int ro)
{
    int64_t at = 0, at2 = 100;
    int a[2], b[2], dir;
    struct iovec v = {buffer, 64};

    MUST(C(sendfile, IO(rw), rw, ro, &at, 30) == 30);
    MUST(C(sendfile, IO(rw), rw, ro, NULL, 30) == 30);
    FAILS(EBADF, C(sendfile, X(.fd = 999), 999, ro, NULL, 30));
    FAILS(EBADF, C(sendfile, X(.fd = rw), rw, 999, NULL, 30));
    FAILS(EFAULT, C(sendfile, X(.fd = rw), rw, ro, BAD, 30));
    at = 0;
    MUST(C(copy_file_range, X(.bytes = 25, .has_bytes = 1), ro, &at, rw, &at2, 25, 0) == 25);
    FAILS(EBADF, C(copy_file_range, X(.fd = 0), ro, NULL, 999, NULL, 25, 0));
    FAILS(EFAULT, C(copy_file_range, X(.fd = 0), ro, BAD, rw, NULL, 25, 0));
    FAILS(EINVAL, C(copy_file_range, X(.fd = 0), ro, NULL, rw, NULL, 25, 77));

    OK(C(pipe, X(.fd = 0), a));
    OK(C(pipe, X(.fd = 0), b));
    at = 0;
    MUST(C(splice, X(.bytes = 40, .has_bytes = 1), ro, &at, a[1], NULL, 40, 0) == 40);
    MUST(C(tee, X(.bytes = 40, .has_bytes = 1), a[0], b[1], 40, 0) == 40);
    MUST(C(splice, X(.bytes = 40, .has_bytes = 1), a[0], NULL, rw, NULL, 100, 0) == 40);
    MUST(C(vmsplice, IO(b[1]), b[1], &v, 1, 0) == 64);
    MUST(C(read, IO(b[0]), b[0], buffer, 200) == 104);
    FAILS(EAGAIN, C(tee, X(.fd = 0), a[0], b[1], 40, 2 /* SPLICE_F_NONBLOCK */));
    FAILS(EBADF, C(splice, X(.fd = 0), 999, NULL, a[1], NULL, 40, 0));
    FAILS(EINVAL, C(splice, X(.fd = 0), ro, NULL, rw, NULL, 40, 0));
    FAILS(EBADF, C(tee, X(.fd = 0), 999, a[1], 40, 0));
    FAILS(EBADF, C(vmsplice, X(.fd = 999), 999, &v, 1, 0));
    FAILS(EFAULT, C(vmsplice, X(.fd = b[1]), b[1], BAD, 1, 0));
    for (int i = 0; i < 2; i++) {
        OK(C(close, X(.fd = a[i]), a[i]));
        OK(C(close, X(.fd = b[i]), b[i]));
    }

    dir = (int)OK(C(open, X(.path = "."), ".", O_RDONLY | O_DIRECTORY));
    MUST(C(getdents64, X(.fd = dir), dir, buffer, sizeof(buffer)) > 0);
    MUST(C(getdents64, X(.fd = dir), dir, buffer, sizeof(buffer)) == 0);
    MUST(C(lseek, X(.fd = dir), dir, 0, SEEK_SET) == 0);
    MUST(C(getdents, X(.fd = dir), dir, buffer, sizeof(buffer)) > 0);
    FAILS(EBADF, C(getdents, X(.fd = 999), 999, buffer, sizeof(buffer)));
    FAILS(ENOTDIR, C(getdents64, X(.fd = rw), rw, buffer, sizeof(buffer)));
    FAILS(EBADF, C(getdents64, X(.fd = 999), 999, buffer, sizeof(buffer)));
    MUST(C(read, X(.fd = dir), dir, buffer, 10) < 0); /* EISDIR or EINVAL */
    OK(C(close, X(.fd = dir), dir));
}

static void libc_calls(int rw, int ro)
{
    struct iovec v[2] = {{buffer, 3}, {buffer + 200, 7}};

    MUST(L("lseek", X(.fd = rw), lseek(rw, 0, SEEK_SET)) == 0);
    MUST(L("write", IO(rw), write(rw, "0123456789", 10)) == 10);
    MUST(L("pwrite64", IO(rw), pwrite(rw, "0123456789", 10, 3)) == 10);
    MUST(L("pread64", IO(rw), pread(rw, buffer, 10, 3)) == 10);
    MUST(L("read", IO(rw), read(rw, buffer, 10)) == 10);
    MUST(L("writev", IO(rw), writev(rw, v, 2)) == 10);
    MUST(L("readv", IO(rw), readv(rw, v, 2)) == 10);
    MUST(L("preadv", IO(rw), preadv(rw, v, 2, 0)) == 10);
    MUST(L("pwritev", IO(rw), pwritev(rw, v, 2, 0)) == 10);
    FAILS(EBADF, L("read", X(.fd = 999), read(999, buffer, 10)));
    FAILS(EBADF, L("write", X(.fd = ro), write(ro, buffer, 10)));
    FAILS(EBADF, L("pread64", X(.fd = 999), pread(999, buffer, 10, 0)));
    FAILS(EBADF, L("lseek", X(.fd = 999), lseek(999, 0, SEEK_SET)));
    MUST(L("sendfile", IO(rw), sendfile(rw, ro, NULL, 5)) == 5);
    OK(L("fsync", X(.fd = rw), fsync(rw)));
    OK(L("fdatasync", X(.fd = rw), fdatasync(rw)));
}

/* A read-write call on a pipe that would block, and a broken pipe. */
static void pipes(void)
{
    int p[2];

    OK(C(pipe2, X(.fd = 0), p, O_NONBLOCK));
    MUST(fcntl(p[1], F_SETPIPE_SZ, 65536) >= 65536); /* less than the buffer, whatever a page is */
    FAILS(EAGAIN, C(read, X(.fd = p[0]), p[0], buffer, 10));
    MUST(C(write, IO(p[1]), p[1], buffer, sizeof(buffer)) > 0);
    FAILS(EAGAIN, C(write, X(.fd = p[1]), p[1], buffer, sizeof(buffer)));
    MUST(C(read, IO(p[0]), p[0], buffer, 4096) == 4096);
    OK(C(close, X(.fd = p[1]), p[1]));
    OK(C(close, X(.fd = p[0]), p[0]));
}

int main(int argc, char **argv)
{
    int rw, ro;

    expect_begin(argc, argv);
    rw = (int)OK(C(open, X(.path = "rw"), "rw", O_CREAT | O_RDWR | O_TRUNC, 0600));
    ro = (int)OK(C(open, X(.path = "rw"), "rw", O_RDONLY));
    plain(rw, ro);
    vectors(rw, ro);
    between(rw, ro);
    libc_calls(rw, ro);
    pipes();
    OK(C(close, X(.fd = ro), ro));
    OK(C(close, X(.fd = rw), rw));
    expect_end();
    return 0;
}
