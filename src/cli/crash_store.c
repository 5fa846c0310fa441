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
#define LIST_MAX (2 * CRASH_STORE_MAX) /* that are looked at */
#define TRIM_LOCK "trim"
#define SLOTS "slots"
#define SLOT_USERS 64 /* in SLOTS: where the places of users begin */

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

/* 1: there are more than were looked at. */
static int list_some(int dir, struct crash_stored **ret, size_t *ret_count)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct crash_stored *list = NULL, one;
    size_t count = 0;
    int cut = 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    *ret = NULL;
    *ret_count = 0;
    if (!d) {
        int rc = -errno;

        if (fd >= 0)
            close(fd);
        return rc;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (!parse_name(e->d_name, &one))
            continue;
        if (count == LIST_MAX) {
            cut = 1;
            break;
        }
        if (count % 64 == 0)
            list = xrealloc(list, count + 64, sizeof(*list));
        list[count++] = one;
    }
    closedir(d);
    if (count)
        qsort(list, count, sizeof(*list), by_time);
    *ret = list;
    *ret_count = count;
    return cut;
}

int crash_store_list(int dir, struct crash_stored **ret, size_t *ret_count)
{
    int rc = list_some(dir, ret, ret_count);

    return rc < 0 ? rc : 0;
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

/* Holds a lock of the store; its descriptor, or -errno. */
static int hold(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

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
    size_t his = 0;

    for (size_t i = 0; i < count; i++)
        his += list[i].uid == uid;
    if (count >= CRASH_STORE_MAX || his >= CRASH_STORE_MAX / CRASH_STORE_SHARE)
        return STORE_FULL;
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
    int lock = hold(dir, LOCK), rc;

    *ret_why = STORE_FAILED;
    if (lock < 0)
        return lock;
    for (size_t i = 0; i + 1 < sizeof(plain) && comm[i]; i++)
        plain[i] = (char)(is_plain(comm[i]) ? comm[i] : '_');
    rc = list_some(dir, &list, &count);
    if (rc >= 0) {
        *ret_why = rc ? STORE_FULL : within_rate(list, count, now, uid, plain, rate);
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

/* What one user has: list[first..end) of a list by user and time. */
struct owner {
    size_t first, end, count; /* count: without those that are gone */
    uint64_t bytes;
};

static int by_user(const void *a, const void *b)
{
    const struct crash_stored *x = a, *y = b;

    return x->uid != y->uid ? (x->uid < y->uid ? -1 : 1) : by_time(a, b);
}

struct trim {
    int dir;
    struct crash_stored *list;
    struct owner *owners;
    size_t owner_count, count; /* count: of all crashes that are there */
    uint64_t bytes, before;    /* before: none that is younger goes */
    unsigned removed;
};

/* The oldest of an owner. False: none may go. */
static bool remove_oldest(struct trim *t, struct owner *o)
{
    const struct crash_stored *one = &t->list[o->first];

    if (o->first == o->end || one->time_ns > t->before)
        return false;
    t->removed += safe_remove_tree(t->dir, one->name, NULL) == 0;
    /* One that can't be removed doesn't hold up the others. */
    o->first++;
    o->count--;
    o->bytes -= one->bytes;
    t->count--;
    t->bytes -= one->bytes;
    return true;
}

/* Of the owner who has most, by bytes or by number. */
static bool remove_of_most(struct trim *t, bool by_bytes)
{
    struct owner *most = NULL;

    for (size_t i = 0; i < t->owner_count; i++) {
        struct owner *o = &t->owners[i];

        if (o->first < o->end && t->list[o->first].time_ns <= t->before &&
            (!most || (by_bytes ? o->bytes > most->bytes : o->count > most->count)))
            most = o;
    }
    return most && remove_oldest(t, most);
}

int crash_store_trim(int dir, uint64_t max_ns, uint64_t max_bytes, unsigned *ret_removed)
{
    const size_t most =
        CRASH_STORE_MAX - CRASH_STORE_MAX / 20; /* so that there is room for others before the next one */
    uint64_t now = now_ns(CLOCK_REALTIME);
    struct trim t = {.dir = dir, .before = now - 2 * MINUTE};
    int lock = hold(dir, TRIM_LOCK), rc; /* who makes one needn't wait for us */

    *ret_removed = 0;
    if (lock < 0)
        return lock;
    rc = list_some(dir, &t.list, &t.count);
    if (rc < 0) {
        close(lock);
        return rc;
    }
    crash_store_sizes(dir, t.list, t.count);
    if (t.count)
        qsort(t.list, t.count, sizeof(*t.list), by_user);
    t.owners = xcalloc(t.count + 1, sizeof(*t.owners));
    for (size_t i = 0; i < t.count; i++) {
        struct owner *o;

        if (i == 0 || t.list[i].uid != t.list[i - 1].uid)
            t.owners[t.owner_count++].first = i;
        o = &t.owners[t.owner_count - 1];
        o->end = i + 1;
        o->count++;
        o->bytes += t.list[i].bytes;
        t.bytes += t.list[i].bytes;
    }
    for (size_t i = 0; i < t.owner_count; i++) {
        struct owner *o = &t.owners[i];

        while (o->first < o->end && (t.list[o->first].time_ns + max_ns < now || o->count > most / CRASH_STORE_SHARE))
            if (!remove_oldest(&t, o))
                break;
    }
    while (t.count > most && remove_of_most(&t, false))
        ;
    while (t.bytes > max_bytes && remove_of_most(&t, true))
        ;
    *ret_removed = t.removed;
    free(t.owners);
    free(t.list);
    close(lock);
    return 0;
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
    int lock = hold(dir, LOCK), rc;

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

/* A lock on a byte of SLOTS, which needn't be there. */
static bool lock_byte(int fd, int64_t at, short type)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &l) == 0;
}

static bool lock_one(int fd, int64_t at, unsigned places)
{
    for (unsigned i = 0; i < places; i++)
        if (lock_byte(fd, at + i, F_WRLCK))
            return true;
    return false;
}

int crash_store_slot(int dir, uid_t uid, unsigned wait_ms)
{
    uint64_t until = now_ns(CLOCK_MONOTONIC) + wait_ms * UINT64_C(1000000);
    const int64_t his = SLOT_USERS + (int64_t)uid * CRASH_STORE_USER_SLOTS;
    int fd = openat(dir, SLOTS, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return -errno;
    for (;;) {
        if (lock_one(fd, his, CRASH_STORE_USER_SLOTS)) {
            if (lock_one(fd, 0, CRASH_STORE_SLOTS))
                return fd;
            for (unsigned i = 0; i < CRASH_STORE_USER_SLOTS; i++)
                lock_byte(fd, his + i, F_UNLCK); /* only ours */
        }
        if (now_ns(CLOCK_MONOTONIC) > until)
            break;
        poll(NULL, 0, 10);
    }
    close(fd);
    return -EAGAIN;
}

void crash_store_free_slot(int fd)
{
    struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    fcntl(fd, F_OFD_SETLK, &all); /* a child may still have the descriptor */
    close(fd);
}
