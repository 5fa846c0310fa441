/* SPDX-License-Identifier: Apache-2.0 */
#include "base/safe_path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define LINKS_MAX 40  /* as the kernel's, path_resolution(7) */
#define DEPTH_MAX 16  /* of a tree that is removed */
#define ATTEMPTS 8    /* to open or make what somebody is removing and making */
#define NOBODY 65534u /* what the kernel shows for users that a namespace doesn't map (user_namespaces(7)) */

static struct kept {
    char *path;
    int fd;
} kept[SAFE_KEPT_MAX];
static bool no_openat2;

/* --- whom to trust --- */

/* Whether this namespace has a user 65534 of its own. */
static bool nobody_is_mapped(void)
{
    FILE *f = fopen("/proc/self/uid_map", "re");
    unsigned long long first, outside, count;
    bool mapped = !f;

    while (f && fscanf(f, "%llu %llu %llu", &first, &outside, &count) == 3) // NOLINT(cert-err34-c): the kernel wrote it
        mapped |= first <= NOBODY && NOBODY - first < count;
    if (f)
        fclose(f);
    return mapped;
}

static bool trusted(uid_t uid)
{
    struct stat root;

    if (uid == 0 || uid == geteuid() || (stat("/", &root) == 0 && uid == root.st_uid))
        return true;
    return uid == NOBODY && !nobody_is_mapped();
}

/* An access control list lets others in than the group that the mode speaks of (acl(5)). */
static bool has_acl(int fd)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return getxattr(path, "system.posix_acl_access", NULL, 0) > 0;
}

static bool others_write(int fd, const struct stat *st)
{
    if (!trusted(st->st_uid) || (st->st_mode & S_IWOTH))
        return true;
    if (!(st->st_mode & S_IWGRP))
        return false;
    if (st->st_uid && st->st_uid == geteuid())
        return false;
    return st->st_gid != 0 || has_acl(fd);
}

static bool sticky(const struct stat *st)
{
    return trusted(st->st_uid) && (st->st_mode & S_ISVTX);
}

static int __attribute__((format(printf, 3, 4))) refuse(int rc, char **ret_why, const char *fmt, ...)
{
    va_list ap;

    if (!ret_why)
        return rc;
    va_start(ap, fmt);
    if (vasprintf(ret_why, fmt, ap) < 0)
        *ret_why = NULL;
    va_end(ap);
    return rc;
}

/* --- the walk --- */

struct walk {
    enum safe_rule rule;
    mode_t make;
    int dir;          /* O_PATH, where we are */
    struct stat st;   /* of it */
    char *done;       /* what it is called, for messages */
    char *rest;       /* what is to be walked */
    const char *next; /* in rest */
    unsigned links;
    bool below_kept;
    char **ret_why;
};

static void walk_end(struct walk *w)
{
    if (w->dir >= 0)
        close(w->dir);
    free(w->done);
    free(w->rest);
    w->dir = -1;
    w->done = w->rest = NULL;
}

static int check_dir(struct walk *w)
{
    if (w->rule != SAFE_OURS)
        return 0;
    if (!trusted(w->st.st_uid))
        return refuse(-EPERM, w->ret_why, "%s belongs to user %u, who could replace what lies in it", w->done,
                      (unsigned)w->st.st_uid);
    if (others_write(w->dir, &w->st) && !sticky(&w->st))
        return refuse(-EPERM, w->ret_why, "%s has mode %04o: others could replace what lies in it", w->done,
                      (unsigned)(w->st.st_mode & 07777));
    return 0;
}

/* Goes on in an open directory, which is the walk's then. */
static int enter(struct walk *w, int fd, char *name)
{
    if (w->dir >= 0)
        close(w->dir);
    free(w->done);
    w->dir = fd;
    w->done = name;
    if (fstat(fd, &w->st) < 0)
        return -errno;
    return check_dir(w);
}

/* Begins at the root directory, or at the current one. */
static int enter_start(struct walk *w, bool root)
{
    int fd = open(root ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -errno : enter(w, fd, xstrdup(root ? "/" : "."));
}

/* The kept directory with the longest name that the path begins with; NULL: none. */
static const struct kept *kept_above(const char *path)
{
    const struct kept *found = NULL;
    size_t longest = 0;

    for (size_t i = 0; i < SAFE_KEPT_MAX; i++) {
        size_t len = kept[i].path ? strlen(kept[i].path) : 0;

        if (len > longest && strncmp(path, kept[i].path, len) == 0 && (path[len] == '/' || path[len] == '\0')) {
            found = &kept[i];
            longest = len;
        }
    }
    return found;
}

static int walk_begin(struct walk *w, const char *path, enum safe_rule rule, mode_t make, char **ret_why)
{
    const struct kept *k = kept_above(path);
    char *cwd = NULL;
    int rc;

    *w = (struct walk){.rule = rule, .make = make, .dir = -1, .next = "", .ret_why = ret_why};
    if (ret_why)
        *ret_why = NULL;
    if (!*path)
        return -ENOENT;
    if (k) {
        int fd = fcntl(k->fd, F_DUPFD_CLOEXEC, 3);

        w->below_kept = true;
        w->next = w->rest = xstrdup(path + strlen(k->path));
        return fd < 0 ? -errno : enter(w, fd, xstrdup(k->path));
    }
    if (*path != '/' && rule == SAFE_OURS) { /* the directories above count, too */
        cwd = getcwd(NULL, 0);
        if (!cwd)
            return -errno;
    }
    w->next = w->rest = cwd ? xasprintf("%s/%s", cwd, path) : xstrdup(path);
    free(cwd);
    rc = enter_start(w, *w->rest == '/');
    return rc;
}

/* The next component, malloc'ed; NULL: that was all. */
static char *component(struct walk *w)
{
    size_t len;
    char *name;

    for (;;) {
        w->next += strspn(w->next, "/");
        len = strcspn(w->next, "/");
        if (!(len == 1 && *w->next == '.'))
            break;
        w->next++;
    }
    if (!len)
        return NULL;
    name = xstrndup(w->next, len);
    w->next += len;
    return name;
}

static char *join(const char *dir, const char *name)
{
    return xasprintf("%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name);
}

static bool may_follow(const struct walk *w, const struct stat *link)
{
    if (w->below_kept)
        return false;
    if (w->rule == SAFE_NAMED && geteuid() != 0)
        return trusted(link->st_uid) || (link->st_uid == w->st.st_uid && !(w->st.st_mode & S_IWOTH));
    if (!trusted(link->st_uid))
        return false;
    return !others_write(w->dir, &w->st) || (sticky(&w->st) && link->st_nlink <= 1);
}

/* What the kernel itself leads to (/proc/self/fd/1) has no path that could be walked. */
static bool is_magic(int link)
{
    struct statfs fs;

    return fstatfs(link, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

/* Puts what a link (O_PATH) leads to before what is still to be walked: 0, 1 if that is the kernel's to follow, or
 * -errno.
 */
static int follow(struct walk *w, int link, const char *name)
{
    char target[PATH_MAX], *rest;
    struct stat st;
    ssize_t n;

    if (fstat(link, &st) < 0)
        return -errno;
    if (!may_follow(w, &st))
        return refuse(-ELOOP, w->ret_why, "%s/%s is a symbolic link of user %u, which is not followed here",
                      strcmp(w->done, "/") == 0 ? "" : w->done, name, (unsigned)st.st_uid);
    if (++w->links > LINKS_MAX)
        return -ELOOP;
    if (is_magic(link))
        return 1;
    n = readlinkat(link, "", target, sizeof(target));
    if (n < 0)
        return -errno;
    if (n == 0 || n == (ssize_t)sizeof(target))
        return n ? -ENAMETOOLONG : -ENOENT;
    rest = xasprintf("%.*s/%s", (int)n, target, w->next);
    if (!*(w->next + strspn(w->next, "/"))) /* it was the last: no slash behind it */
        rest[n] = '\0';
    free(w->rest);
    w->next = w->rest = rest;
    return *rest == '/' ? enter_start(w, true) : 0;
}

static int make_missing(const struct walk *w, const char *name)
{
    if (mkdirat(w->dir, name, w->make) < 0)
        return errno == EEXIST ? 0 : -errno;
    /* Where others can't interfere the mode is the right one, whatever the umask. */
    if ((w->rule == SAFE_OURS || w->below_kept) && fchmodat(w->dir, name, w->make, 0) < 0)
        return -errno;
    return 0;
}

/* One directory further. */
static int step(struct walk *w, const char *name)
{
    bool up = strcmp(name, "..") == 0;
    int fd, rc;

    if (up && w->below_kept)
        return -EPERM;
    /* O_DIRECTORY also has automounters mount what belongs there. */
    fd = openat(w->dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && w->make) {
        rc = make_missing(w, name);
        if (rc < 0)
            return rc;
        fd = openat(w->dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd >= 0)
        return enter(w, fd, join(w->done, name));
    if (errno != ENOTDIR && errno != ELOOP)
        return -errno;
    fd = openat(w->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = -ENOTDIR;
    if (readlinkat(fd, "", (char[1]){0}, 1) >= 0)
        rc = follow(w, fd, name);
    close(fd);
    if (rc != 1)
        return rc;
    fd = openat(w->dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : enter(w, fd, join(w->done, name));
}

/* Walks up to the last component, which is returned in *ret_name (malloc'ed): -EISDIR if it can't be a file's name. */
static int walk_to_parent(struct walk *w, char **ret_name)
{
    char *name = component(w), *following;
    int rc;

    *ret_name = NULL;
    for (;;) {
        const char *after = w->next;

        if (!name)
            return -EISDIR;
        following = component(w);
        if (!following)
            break;
        w->next = after; /* step() may put another rest here */
        free(following);
        rc = step(w, name);
        free(name);
        if (rc < 0)
            return rc;
        name = component(w);
    }
    if (strcmp(name, "..") == 0 || w->next[-1] == '/') {
        free(name);
        return -EISDIR;
    }
    *ret_name = name;
    return 0;
}

int safe_dir(const char *path, enum safe_rule rule, mode_t make, char **ret_why)
{
    struct walk w;
    int rc = walk_begin(&w, path, rule, make, ret_why), fd = -1;
    char *name;

    while (rc == 0 && (name = component(&w))) {
        rc = step(&w, name);
        free(name);
    }
    if (rc == 0) {
        fd = w.dir;
        w.dir = -1;
    }
    walk_end(&w);
    return rc < 0 ? rc : fd;
}

/* --- files by their names --- */

/* Whether a file that was there before may be written to. */
static int check_existing(const struct walk *w, int fd, const char *name)
{
    struct stat st;
    bool root = geteuid() == 0;

    if (!others_write(w->dir, &w->st) || (!root && !(w->st.st_mode & S_ISVTX)))
        return 0;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!trusted(st.st_uid) && st.st_uid != w->st.st_uid)
        return refuse(-EPERM, w->ret_why, "%s/%s belongs to user %u, in a directory that others can write to", w->done,
                      name, (unsigned)st.st_uid);
    if (S_ISREG(st.st_mode) && st.st_nlink > 1)
        return refuse(-EPERM, w->ret_why, "%s/%s has %lu names, in a directory that others can write to", w->done, name,
                      (unsigned long)st.st_nlink);
    return 0;
}

#define HOW (O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

static int make_file(const struct walk *w, const char *name, int flags, mode_t mode)
{
    mode_t bits = w->below_kept ? 0600 : mode & 07777;
    int fd = openat(w->dir, name, flags | O_CREAT | O_EXCL | HOW, bits);

    if (fd < 0)
        return -errno;
    if ((w->below_kept || !(mode & SAFE_UMASK)) && fchmod(fd, bits) < 0) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

/* Opens what the walk has come to. *ret_link: it is a link, open with O_PATH. */
static int open_last(const struct walk *w, const char *name, int flags, mode_t mode, int *ret_link)
{
    bool writes = (flags & O_ACCMODE) != O_RDONLY;

    for (int i = 0; i < ATTEMPTS; i++) {
        int fd = openat(w->dir, name, (flags & ~(O_CREAT | O_EXCL | O_TRUNC)) | HOW), rc;

        if (fd >= 0) {
            rc = writes ? check_existing(w, fd, name) : 0;
            if (rc == 0 && (flags & O_TRUNC) && ftruncate(fd, 0) < 0 && errno != EINVAL) /* EINVAL: no regular file */
                rc = -errno;
            if (rc == 0)
                return fd;
            close(fd);
            return rc;
        }
        if (errno == ENOENT && (flags & O_CREAT)) {
            fd = make_file(w, name, flags & ~(O_CREAT | O_EXCL | O_TRUNC), mode);
            if (fd != -EEXIST)
                return fd;
            continue; /* since a moment ago */
        }
        if (errno != ELOOP)
            return -errno;
        fd = openat(w->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && readlinkat(fd, "", (char[1]){0}, 1) >= 0) {
            *ret_link = fd;
            return -ELOOP;
        }
        if (fd >= 0)
            close(fd);
    }
    return -EAGAIN;
}

/* flags may be O_PATH: then it is only found. */
static int open_path(const char *path, enum safe_rule rule, int flags, mode_t mode, char **ret_why)
{
    struct walk w;
    char *name = NULL;
    int rc = walk_begin(&w, path, rule, 0, ret_why), link;

    while (rc == 0) {
        rc = walk_to_parent(&w, &name);
        if (rc < 0)
            break;
        link = -1;
        if (flags & O_PATH) {
            rc = openat(w.dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
            rc = rc < 0 ? -errno : rc;
            if (rc >= 0 && readlinkat(rc, "", (char[1]){0}, 1) >= 0) {
                link = rc;
                rc = -ELOOP;
            }
        } else {
            rc = open_last(&w, name, flags, mode, &link);
        }
        if (link < 0)
            break;
        rc = follow(&w, link, name);
        close(link);
        if (rc == 1) {
            int how = flags & O_PATH ? O_PATH | O_CLOEXEC : (flags & ~(O_CREAT | O_EXCL)) | (HOW & ~O_NOFOLLOW);

            rc = openat(w.dir, name, how);
            rc = rc < 0 ? -errno : rc;
            break;
        }
        free(name);
        name = NULL;
    }
    free(name);
    walk_end(&w);
    return rc;
}

int safe_file(const char *path, int flags, mode_t mode, char **ret_why)
{
    return open_path(path, SAFE_NAMED, flags, mode, ret_why);
}

int safe_stat(const char *path, struct stat *ret)
{
    int fd = open_path(path, SAFE_NAMED, O_PATH, 0, NULL), rc;

    if (fd < 0)
        return fd;
    rc = fstat(fd, ret) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int regular(int fd)
{
    struct stat st;

    if (fd < 0 || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)))
        return fd;
    close(fd);
    return -EINVAL;
}

int safe_read(const char *path)
{
    return regular(open_path(path, SAFE_NAMED, O_RDONLY, 0, NULL));
}

int safe_author(const char *path, char **ret_why)
{
    int fd = open_path(path, SAFE_OURS, O_PATH, 0, ret_why), rc = 0;
    struct stat st;

    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        rc = -errno;
    else if (others_write(fd, &st))
        rc = refuse(-EPERM, ret_why, "%s belongs to user %u, and has mode %04o: others can write to it", path,
                    (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777));
    close(fd);
    return rc;
}

/* --- in an open directory --- */

int safe_sub_dir(int dir, const char *name)
{
    int fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int safe_make_dir(int dir, const char *name, mode_t mode)
{
    struct stat st;
    int rc = 0, fd;

    if (mkdirat(dir, name, mode) == 0)
        rc = fchmodat(dir, name, mode, 0) < 0 ? -errno : 0;
    else if (errno != EEXIST)
        rc = -errno; /* a read-only file system says so even for what exists */
    fd = safe_sub_dir(dir, name);
    if (fd < 0)
        return rc < 0 ? rc : fd;
    if (fstat(fd, &st) < 0 || (st.st_uid != 0 && st.st_uid != geteuid()) || others_write(fd, &st)) {
        close(fd);
        return -EPERM;
    }
    return fd;
}

int safe_create(int dir, const char *name, mode_t mode)
{
    int fd = openat(dir, name, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | HOW, mode);

    if (fd >= 0 && fchmod(fd, mode) < 0) {
        int rc = -errno;

        close(fd);
        unlinkat(dir, name, 0);
        return rc;
    }
    return fd < 0 ? -errno : fd;
}

int safe_read_at(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | HOW);

    return fd < 0 ? -errno : regular(fd);
}

static int replace_by(int dir, const char *name, const void *bytes, size_t size, mode_t mode, bool lasting)
{
    char *tmp = xasprintf("%s.%ld.tmp", name, (long)getpid());
    int fd, rc;

    unlinkat(dir, tmp, 0); /* left by a process with our pid that was killed */
    fd = safe_create(dir, tmp, mode);
    if (fd < 0) {
        rc = fd;
    } else {
        rc = write_all(fd, bytes, size);
        if (rc == 0 && lasting && fsync(fd) < 0)
            rc = -errno;
        if (close(fd) < 0 && rc == 0)
            rc = -errno;
        if (rc == 0 && renameat(dir, tmp, dir, name) < 0)
            rc = -errno;
        if (rc < 0)
            unlinkat(dir, tmp, 0);
    }
    free(tmp);
    return rc;
}

int safe_replace(int dir, const char *name, const void *bytes, size_t size, mode_t mode)
{
    return replace_by(dir, name, bytes, size, mode, false);
}

int safe_replace_lasting(int dir, const char *name, const void *bytes, size_t size, mode_t mode)
{
    int rc = replace_by(dir, name, bytes, size, mode, true);
    int again = rc < 0 ? -1 : openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* dir may be no more than a path */

    if (again >= 0) {
        fsync(again); /* the name: until then it may be that of the old file, which is whole, too */
        close(again);
    }
    return rc;
}

bool safe_private(int dir)
{
    struct stat st;

    return fstat(dir, &st) == 0 && st.st_uid == geteuid() && !others_write(dir, &st);
}

/* A directory to read in, on the same file system. */
static int open_same(int dir, const char *name)
{
    const int how = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    struct open_how h = {.flags = (uint64_t)how, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    struct stat above, st;
    int fd = no_openat2 ? -1 : (int)syscall(SYS_openat2, dir, name, &h, sizeof(h)), rc = 0;

    if (fd >= 0)
        return fd;
    if (!no_openat2 && errno != ENOSYS && errno != EPERM) /* EPERM: from a seccomp filter that doesn't know the call */
        return -errno;
    fd = openat(dir, name, how);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || fstat(dir, &above) < 0)
        rc = -errno;
    else if (st.st_dev != above.st_dev)
        rc = -EXDEV;
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

/* Removes what is in a directory, which is closed. */
static int remove_inside(int fd, const char *last, unsigned depth)
{
    DIR *d = fdopendir(fd);
    struct dirent *e;
    int rc = 0;

    if (!d) {
        close(fd);
        return -ENOMEM;
    }
    while ((e = readdir(d))) {
        int sub, err;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || (last && strcmp(e->d_name, last) == 0))
            continue;
        if (unlinkat(fd, e->d_name, 0) == 0 || errno == ENOENT)
            continue;
        err = -errno;
        if (err == -EISDIR || err == -EPERM) {
            sub = depth < DEPTH_MAX ? open_same(fd, e->d_name) : -ELOOP;
            err = sub < 0 ? sub : remove_inside(sub, NULL, depth + 1);
            if (err == 0 && unlinkat(fd, e->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                err = -errno;
        }
        rc = rc ? rc : err;
    }
    if (last && rc == 0 && unlinkat(fd, last, 0) < 0 && errno != ENOENT)
        rc = -errno;
    closedir(d);
    return rc;
}

int safe_remove_tree(int dir, const char *name, const char *last)
{
    int fd = open_same(dir, name), rc;
    struct stat st;

    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0 || st.st_uid != geteuid()) {
        close(fd);
        return -EPERM;
    }
    rc = remove_inside(fd, last, 0);
    if (rc == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0)
        rc = -errno;
    return rc;
}

/* --- directories that are kept --- */

static void forget(struct kept *k)
{
    if (!k->path)
        return;
    close(k->fd);
    free(k->path);
    *k = (struct kept){0};
}

void safe_keep(const char *path, int fd)
{
    struct kept *k = NULL;

    for (size_t i = 0; i < SAFE_KEPT_MAX; i++)
        if (kept[i].path && strcmp(kept[i].path, path) == 0)
            forget(&kept[i]);
    if (fd < 0)
        return;
    for (size_t i = 0; i < SAFE_KEPT_MAX && !k; i++)
        if (!kept[i].path)
            k = &kept[i];
    if (!k) { /* the oldest one goes */
        forget(&kept[0]);
        memmove(&kept[0], &kept[1], sizeof(kept) - sizeof(kept[0]));
        k = &kept[SAFE_KEPT_MAX - 1];
    }
    *k = (struct kept){xstrdup(path), fd};
}

void safe_keep_none(void)
{
    for (size_t i = 0; i < SAFE_KEPT_MAX; i++)
        free(kept[i].path);
    memset(kept, 0, sizeof(kept));
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

size_t safe_kept(int ret[SAFE_KEPT_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < SAFE_KEPT_MAX; i++)
        if (kept[i].path)
            ret[n++] = kept[i].fd;
    qsort(ret, n, sizeof(*ret), ascending);
    return n;
}

void safe_without_openat2(bool without)
{
    no_openat2 = without;
}
