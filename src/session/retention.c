/* SPDX-License-Identifier: Apache-2.0 */
#include "session/retention.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/safe_path.h"
#include "session/session.h"

#define SPARE_MAX ((uint64_t)64 << 20) /* bytes of the file system that are kept free, or a sixteenth of it */
#define SPARE_PART 16
#define DEPTH_MAX 8                    /* of a session's directories */

struct one {
    uint64_t id, bytes, written_ns; /* written_ns: when something was last written to it */
    bool running;
};

static uint64_t time_of(const struct stat *st)
{
    return (uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec;
}

/* What a directory and all below it take; no link is followed. dir is closed. */
static void measure(int dir, struct one *s, unsigned depth)
{
    DIR *d = fdopendir(dir);
    struct dirent *e;

    if (!d) {
        close(dir);
        return;
    }
    while ((e = readdir(d))) {
        struct stat st;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        s->bytes += (uint64_t)st.st_blocks * 512;
        if (S_ISREG(st.st_mode) && time_of(&st) > s->written_ns)
            s->written_ns = time_of(&st);
        if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

            if (sub >= 0)
                measure(sub, s, depth + 1);
        }
    }
    closedir(d);
}

/* As session_running(). */
static bool is_running(int dir)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = openat(dir, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool held = fd >= 0 && fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;

    if (fd >= 0)
        close(fd);
    return held;
}

static int compare(const void *a, const void *b)
{
    const struct one *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* All, oldest first. */
static struct one *look(int history, const struct retention *want, size_t *ret_count)
{
    int fd = openat(history, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct one *list = NULL;
    struct dirent *e;
    size_t count = 0;

    if (!d && fd >= 0)
        close(fd);
    while (d && (e = readdir(d))) {
        uint64_t id = session_id_of(e->d_name);
        int dir = id ? openat(history, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;

        if (dir < 0)
            continue;
        list = xrealloc(list, count + 1, sizeof(*list));
        list[count] = (struct one){.id = id, .running = (want->running && id >= want->running) || is_running(dir)};
        measure(dir, &list[count++], 0);
    }
    if (d)
        closedir(d);
    if (count)
        qsort(list, count, sizeof(*list), compare);
    *ret_count = count;
    return list;
}

static bool is_full(int history)
{
    struct statvfs fs;
    uint64_t spare;

    if (fstatvfs(history, &fs) < 0 || !fs.f_blocks)
        return false;
    spare = (uint64_t)fs.f_blocks * fs.f_frsize / SPARE_PART;
    return (uint64_t)fs.f_bavail * fs.f_frsize < (spare < SPARE_MAX ? spare : SPARE_MAX);
}

static bool is_too_old(const struct one *s, const struct retention *want)
{
    return want->days && want->now_ns > s->written_ns && (want->now_ns - s->written_ns) / RETENTION_DAY_NS >= want->days;
}

int retention_open(void)
{
    char *base = session_base(), *path = xasprintf("%s/history", base);
    int at = safe_dir(path, SAFE_OURS, 0, NULL), fd = at < 0 ? at : openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (at >= 0) {
        fd = fd < 0 ? -errno : fd;
        close(at);
    }
    if (fd >= 0 && !safe_private(fd)) {
        close(fd);
        fd = -EPERM;
    }
    free(path);
    free(base);
    return fd;
}

void retention_apply(int history, const struct retention *want, struct retained *ret)
{
    size_t count;
    struct one *list = look(history, want, &count);

    *ret = (struct retained){0};
    for (size_t i = 0; i < count; i++) {
        ret->bytes += list[i].bytes;
        if (list[i].id == want->running)
            ret->running_bytes = list[i].bytes;
    }
    for (size_t i = 0; i < count; i++) {
        char name[32];
        int rc;

        if (list[i].running ||
            (!is_too_old(&list[i], want) && !(want->maxsize && ret->bytes > want->maxsize) && !is_full(history)))
            continue;
        snprintf(name, sizeof(name), "%llu", (unsigned long long)list[i].id);
        rc = safe_remove_tree(history, name, "session.json");
        if (rc < 0) {
            ret->rc = rc;
            continue;
        }
        ret->removed++;
        ret->bytes -= list[i].bytes;
    }
    free(list);
}

bool retention_day_over(uint64_t start_ns, uint64_t now_ns, uint64_t mono_ns)
{
    return mono_ns >= RETENTION_DAY_NS || now_ns / RETENTION_DAY_NS > start_ns / RETENTION_DAY_NS;
}
