/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

int write_all(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;

    while (size) {
        ssize_t n = write(fd, at, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

int file_replace(const char *path, const void *bytes, size_t size, mode_t mode)
{
    char *tmp = xasprintf("%s.%ld.tmp", path, (long)getpid());
    int fd, rc;

    unlink(tmp); /* left by a process with our pid that was killed */
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        rc = -errno;
    } else {
        rc = write_all(fd, bytes, size);
        if (rc == 0 && fchmod(fd, mode) < 0)
            rc = -errno;
        if (close(fd) < 0 && rc == 0)
            rc = -errno;
        if (rc == 0 && rename(tmp, path) < 0)
            rc = -errno;
        if (rc < 0)
            unlink(tmp);
    }
    free(tmp);
    return rc;
}

int make_dirs(const char *path, mode_t mode)
{
    char *copy = xstrdup(path);
    struct stat st;
    int rc = 0;

    for (char *p = copy; rc == 0 && *p;) {
        p += strspn(p, "/");
        p += strcspn(p, "/");
        char saved = *p;

        *p = '\0';
        /* Directories above may exist and refuse for another reason (EROFS, EACCES). */
        if (mkdir(copy, mode) < 0 && errno != EEXIST) {
            rc = -errno;
            if (stat(copy, &st) == 0 && S_ISDIR(st.st_mode))
                rc = 0;
        }
        *p = saved;
    }
    free(copy);
    return rc;
}
