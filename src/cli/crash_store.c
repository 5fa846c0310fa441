/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/crash_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define LOCK "lock"
#define COUNTS "counts.json"
#define COUNTS_MAX 4096
#define LIST_MAX 100000u

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("._-", c);
}

static bool parse_name(const char *name, struct crash_stored *ret)
{
    struct tm tm = {0};
    unsigned us, pid, uid;
    int used = 0;

    *ret = (struct crash_stored){0};
    if (strlen(name) >= sizeof(ret->name) ||
        // NOLINTNEXTLINE(cert-err34-c)
        sscanf(name, "%4d%2d%2dT%2d%2d%2d.%6uZ-%u-%u-%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
               &tm.tm_sec, &us, &pid, &uid, &used) != 9 ||
        !used || strlen(name + used) >= sizeof(ret->comm))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    ret->time_ns = (uint64_t)timegm(&tm) * SECOND + us * UINT64_C(1000);
    ret->pid = (pid_t)pid;
    ret->uid = uid;
    memcpy(ret->name, name, strlen(name) + 1);
    memcpy(ret->comm, name + used, strlen(name + used) + 1);
    return true;
}

static int by_time(const void *a, const void *b)
{
    const struct crash_stored *x = a, *y = b;

    return x->time_ns < y->time_ns ? -1 : x->time_ns > y->time_ns ? 1 : strcmp(x->name, y->name);
}

int crash_store_list(int dir, struct crash_stored **ret, size_t *ret_count)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct crash_stored *list = NULL, one;
    size_t count = 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    *ret = NULL;
    *ret_count = 0;
    if (!d) {
        int rc = -errno;

        if (fd >= 0)
            close(fd);
        return rc;
    }
    for (struct dirent *e; count < LIST_MAX && (e = readdir(d));) {
        if (!parse_name(e->d_name, &one))
            continue;
        if (count % 64 == 0)
            list = xrealloc(list, count + 64, sizeof(*list));
        list[count++] = one;
    }
    closedir(d);
    if (count)
        qsort(list, count, sizeof(*list), by_time);
    *ret = list;
    *ret_count = count;
    return 0;
}

void crash_store_sizes(int dir, struct crash_stored *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int fd = openat(dir, list[i].name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *d = fd < 0 ? NULL : fdopendir(fd);
        struct stat st;

        for (struct dirent *e; d && (e = readdir(d));)
            if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
                list[i].bytes += (uint64_t)st.st_blocks * 512;
        if (d)
            closedir(d);
        else if (fd >= 0)
            close(fd);
    }
}

/* Holds the store; its descriptor, or -errno. */
static int hold(int dir)
{
    int fd = openat(dir, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

    while (fd >= 0 && flock(fd, LOCK_EX) < 0)
        if (errno != EINTR) {
            close(fd);
            return -errno;
        }
    return fd < 0 ? -errno : fd;
}

static enum crash_store_why within_rate(const struct crash_stored *list, size_t count, uint64_t now, uid_t uid,
                                        const char *comm, unsigned rate)
{
    unsigned program = 0, user = 0, all = 0;

    for (size_t i = count; i-- > 0 && list[i].time_ns + MINUTE > now;) {
        all++;
        user += list[i].uid == uid;
        program += list[i].uid == uid && strcmp(list[i].comm, comm) == 0;
    }
    return program >= rate                   ? STORE_PROGRAM
           : user >= rate * CRASH_STORE_USER ? STORE_USER
           : all >= rate * CRASH_STORE_ALL   ? STORE_ALL
                                             : STORE_KEPT;
}

int crash_store_make(int dir, pid_t pid, uid_t uid, const char *comm, unsigned rate, char *name,
                     enum crash_store_why *ret_why)
{
    char plain[16] = "", date[32];
    uint64_t now = now_ns(CLOCK_REALTIME);
    time_t seconds = (time_t)(now / SECOND);
    struct crash_stored *list;
    size_t count;
    struct tm tm;
    int lock = hold(dir), rc;

    *ret_why = STORE_FAILED;
    if (lock < 0)
        return lock;
    for (size_t i = 0; i + 1 < sizeof(plain) && comm[i]; i++)
        plain[i] = (char)(is_plain(comm[i]) ? comm[i] : '_');
    rc = crash_store_list(dir, &list, &count);
    if (rc == 0) {
        *ret_why = within_rate(list, count, now, uid, plain, rate);
        free(list);
        rc = *ret_why == STORE_KEPT ? 0 : -EAGAIN;
    }
    if (rc == 0) {
        gmtime_r(&seconds, &tm);
        strftime(date, sizeof(date), "%Y%m%dT%H%M%S", &tm);
        snprintf(name, 128, "%s.%06uZ-%d-%u-%s", date, (unsigned)(now % SECOND / 1000), (int)pid, (unsigned)uid, plain);
        rc = safe_make_dir(dir, name, 0700);
        if (rc < 0)
            *ret_why = STORE_FAILED;
    }
    close(lock);
    return rc;
}

/* The oldest of the user whose crashes take most; count: none that may go. */
static size_t to_go(const struct crash_stored *list, size_t count, uint64_t before)
{
    uint64_t most = 0;
    size_t found = count;

    for (size_t i = 0; i < count; i++) {
        uint64_t sum = 0;
        bool first = true;

        if (!list[i].bytes || list[i].time_ns > before)
            continue;
        for (size_t k = 0; k < i; k++)
            first &= list[k].uid != list[i].uid || !list[k].bytes;
        if (!first)
            continue;
        for (size_t k = i; k < count; k++)
            sum += list[k].uid == list[i].uid ? list[k].bytes : 0;
        if (sum > most) {
            most = sum;
            found = i;
        }
    }
    return found;
}

int crash_store_trim(int dir, uint64_t max_ns, uint64_t max_bytes, unsigned *ret_removed)
{
    uint64_t now = now_ns(CLOCK_REALTIME), sum = 0;
    struct crash_stored *list;
    size_t count, i;
    int lock = hold(dir), rc;

    *ret_removed = 0;
    if (lock < 0)
        return lock;
    rc = crash_store_list(dir, &list, &count);
    if (rc == 0)
        crash_store_sizes(dir, list, count);
    for (i = 0; rc == 0 && i < count; i++) {
        if (list[i].time_ns + max_ns < now && safe_remove_tree(dir, list[i].name, NULL) == 0) {
            list[i].bytes = 0;
            ++*ret_removed;
        }
        sum += list[i].bytes;
    }
    while (rc == 0 && sum > max_bytes && (i = to_go(list, count, now - 2 * MINUTE)) < count) {
        if (safe_remove_tree(dir, list[i].name, NULL) == 0)
            ++*ret_removed;
        sum -= list[i].bytes;
        list[i].bytes = 0;
    }
    free(list);
    close(lock);
    return rc;
}

static uint64_t member(const json_t *o, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

int crash_store_counts(int dir, struct crash_counts *ret)
{
    char text[COUNTS_MAX];
    int fd = safe_read_at(dir, COUNTS);
    ssize_t n;
    json_t *o;

    *ret = (struct crash_counts){0};
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    n = read(fd, text, sizeof(text));
    close(fd);
    o = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
    if (!o)
        return -EINVAL;
    *ret = (struct crash_counts){.kept = member(o, "kept"),
                                 .told = member(o, "told"),
                                 .limited = member(o, "limited"),
                                 .busy = member(o, "busy"),
                                 .failed = member(o, "failed"),
                                 .removed = member(o, "removed")};
    snprintf(ret->last_error, sizeof(ret->last_error), "%s",
             json_is_string(json_object_get(o, "error")) ? json_string_value(json_object_get(o, "error")) : "");
    json_decref(o);
    return 0;
}

int crash_store_count(int dir, const struct crash_counts *add)
{
    struct crash_counts c;
    struct buf b = BUF_INIT;
    int lock = hold(dir), rc;

    if (lock < 0)
        return lock;
    crash_store_counts(dir, &c); /* one that can't be read begins anew */
    buf_printf(&b,
               "{\"kept\":%" PRIu64 ",\"told\":%" PRIu64 ",\"limited\":%" PRIu64 ",\"busy\":%" PRIu64
               ",\"failed\":%" PRIu64 ",\"removed\":%" PRIu64 ",\"error\":",
               c.kept + add->kept, c.told + add->told, c.limited + add->limited, c.busy + add->busy,
               c.failed + add->failed, c.removed + add->removed);
    buf_json_str(&b, *add->last_error ? add->last_error : c.last_error);
    buf_str(&b, "}\n");
    rc = safe_replace(dir, COUNTS, b.p, b.len, 0600);
    buf_free(&b);
    close(lock);
    return rc;
}

int crash_store_slot(int dir, unsigned slots, unsigned wait_ms)
{
    uint64_t until = now_ns(CLOCK_MONOTONIC) + wait_ms * UINT64_C(1000000);

    for (;;) {
        for (unsigned i = 0; i < slots; i++) {
            char name[32];
            int fd;

            snprintf(name, sizeof(name), "slot%u", i);
            fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
            if (fd < 0)
                return -errno;
            if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                return fd;
            close(fd);
        }
        if (now_ns(CLOCK_MONOTONIC) > until)
            return -EAGAIN;
        poll(NULL, 0, 10);
    }
}
