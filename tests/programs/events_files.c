/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files opened, used in every way and closed. Prints, per open file, what its
 * fs.close event must hold, and each name that is made, changed or removed.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MUST(c) ((c) ? (void)0 : (perror(#c), _exit(99)))

static FILE *expect;
static char dir[PATH_MAX];

struct sums {
    long rb, ro, wb, wo;
};

static void closes(const char *name, struct sums s)
{
    fprintf(expect, "{\"event\":\"fs.close\",\"file\":\"%s/%s\",\"read\":[%ld,%ld],\"write\":[%ld,%ld]}\n", dir, name,
            s.rb, s.ro, s.wb, s.wo);
}

static void tells(const char *event, const char *op, const char *file, const char *to)
{
    fprintf(expect, "{\"event\":\"%s\",\"op\":\"%s\",\"file\":\"%s/%s\"", event, op, dir, file);
    if (to)
        fprintf(expect, ",\"file_to\":\"%s/%s\"", dir, to);
    fputs("}\n", expect);
}

int main(void)
{
    char b[1000] = "text";
    struct iovec v[2] = {{b, 10}, {b + 20, 30}};
    struct sums s = {0, 0, 0, 0}, d = {0, 0, 0, 0};
    int fd, copy, other, sub;
    off_t at = 0;

    MUST(getcwd(dir, sizeof(dir)) && (expect = fopen(getenv("EXPECT"), "w")));

    /* All forms of reading and writing on one descriptor; its duplicate counts by itself. */
    MUST((fd = open("one", O_CREAT | O_RDWR | O_TRUNC, 0600)) >= 0);
#define W(call) (s.wb += (call), s.wo++)
#define R(call) (s.rb += (call), s.ro++)
    W(write(fd, b, 1000));
    W(write(fd, b, 1));
    W(pwrite(fd, b, 500, 100));
    W(writev(fd, v, 2));
    W(pwritev(fd, v, 2, 0));
    R(pread(fd, b, 700, 0));
    R(preadv(fd, v, 2, 0));
    MUST(lseek(fd, 0, SEEK_SET) == 0);
    R(read(fd, b, 100));
    R(readv(fd, v, 2));
    while (read(fd, b, 1000) > 0) /* 1,041 bytes in the file, 140 read: 901 and the end */
        ;
    s.rb += 901;
    s.ro += 2;
    MUST((copy = dup(fd)) >= 0);
    MUST(write(copy, b, 77) == 77);
    d.wb = 77, d.wo = 1;
    MUST(write(999, b, 10) < 0);
    MUST(close(fd) == 0);
    closes("one", s);
    MUST(close(copy) == 0);
    closes("one", d);

    /* Between files: one reads, the other writes. */
    memset(&s, 0, sizeof(s));
    memset(&d, 0, sizeof(d));
    MUST((fd = open("one", O_RDONLY)) >= 0 && (other = open("two", O_CREAT | O_WRONLY, 0600)) >= 0);
    MUST(sendfile(other, fd, &at, 300) == 300);
    s.rb += 300, s.ro++, d.wb += 300, d.wo++;
    MUST(close(fd) == 0 && close(other) == 0);
    closes("one", s);
    closes("two", d);

    /* Replaced by dup2, closed by close_range, left open at the end. */
    MUST((fd = open("three", O_CREAT | O_WRONLY, 0600)) >= 0 && (other = open("four", O_CREAT | O_WRONLY, 0600)) >= 0);
    MUST(write(fd, b, 3) == 3 && write(other, b, 4) == 4);
    MUST(dup2(other, fd) == fd);
    closes("three", (struct sums){0, 0, 3, 1});
    MUST(close(other) == 0);
    closes("four", (struct sums){0, 0, 4, 1});
    MUST(write(fd, b, 44) == 44);
    MUST(close(fd) == 0);
    closes("four", (struct sums){0, 0, 44, 1});

    /* Names. */
    MUST(mkdir("sub", 0700) == 0 && (sub = open("sub", O_RDONLY | O_DIRECTORY)) >= 0);
    tells("fs.create", "mkdir", "sub", NULL);
    MUST(rename("two", "renamed") == 0);
    tells("fs.rename", "rename", "two", "renamed");
    MUST(renameat(AT_FDCWD, "renamed", sub, "moved") == 0);
    tells("fs.rename", "renameat", "renamed", "sub/moved");
    MUST(chdir("sub") == 0);
    MUST(chmod("moved", 0644) == 0);
    tells("fs.change", "chmod", "sub/moved", NULL);
    MUST(truncate("moved", 5) == 0);
    tells("fs.change", "truncate", "sub/moved", NULL);
    MUST(unlink("./moved") == 0);
    tells("fs.delete", "unlink", "sub/moved", NULL);
    MUST(chdir("..") == 0);
    MUST(unlink("three") == 0);
    fprintf(expect, "{\"event\":\"fs.delete\",\"op\":\"unlink\",\"ends\":\"/three\"}\n");
    MUST(unlinkat(sub, ".", AT_REMOVEDIR) < 0 && close(sub) == 0);
    MUST(unlink("not-there") < 0 && open("not-there", O_RDONLY) < 0);
    fclose(expect);
    _exit(0);
}
