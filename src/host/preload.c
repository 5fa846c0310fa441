/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /etc/ld.so.preload (ld.so(8)): every dynamic program of glibc's on this host reads it when it starts, so a mistake
 * in it is a mistake in all of them. It is written anew beside itself and renamed, as what it was but for our entry:
 * mode, owner, extended attributes (those of SELinux among them) are the old file's.
 */
#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "host/internal.h"

#define FILE_MAX   65536
#define TMP        "." PRELOAD_FILE ".appscope"
#define ATTR_NAMES 8192
#define ATTR_MAX   65536
#define SHOWN_MAX  300u

static int fail(char **ret_why, int rc, const char *text)
{
    if (ret_why)
        *ret_why = xasprintf("/etc/" PRELOAD_FILE ": %s", text);
    return rc;
}

static int open_etc(const char *root, char **ret_why)
{
    char *path = xasprintf("%s/etc", root);
    int fd = safe_dir(path, SAFE_OURS, 0, ret_why);

    free(path);
    return fd;
}

/* What is there: 0, also if there is no file (*ret_fd is -1 then), or -errno with the reason. */
static int read_file(int etc, struct buf *b, int *ret_fd, char **ret_why)
{
    int fd = safe_read_at(etc, PRELOAD_FILE);
    ssize_t n;

    *ret_fd = -1;
    if (fd == -ENOENT)
        return 0;
    if (fd == -ELOOP)
        return fail(ret_why, fd, "it is a symbolic link: what manages it has to add the line, or make it a file");
    if (fd < 0)
        return fail(ret_why, fd, strerror(-fd));
    while (b->len <= FILE_MAX && (n = read(fd, buf_room(b, 4096), 4096)) > 0)
        b->len += (size_t)n;
    if (b->len > FILE_MAX) {
        close(fd);
        return fail(ret_why, -EFBIG, "it is longer than 64 KiB");
    }
    *ret_fd = fd;
    return 0;
}

static bool same_bytes(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && (!a->p || !b->p || memcmp(a->p, b->p, a->len) == 0);
}

/* Mode, owner and extended attributes. What can't be had here (a label without SELinux) is left out. */
static int copy_attributes(int from, int to)
{
    char names[ATTR_NAMES], *value;
    struct stat st;
    ssize_t len, n;

    if (from < 0)
        return 0;
    if (fstat(from, &st) < 0 || fchown(to, st.st_uid, st.st_gid) < 0 || fchmod(to, st.st_mode & 07777) < 0)
        return -errno;
    len = flistxattr(from, names, sizeof(names));
    value = xmalloc(ATTR_MAX);
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1)
        if ((n = fgetxattr(from, names + at, value, ATTR_MAX)) >= 0)
            fsetxattr(to, names + at, value, (size_t)n, 0);
    free(value);
    return 0;
}

/* Puts the new bytes in the place of those that were read, if they are still what is there. */
static int write_file(int etc, int old_fd, const struct buf *old, const struct buf *new, char **ret_why)
{
    struct buf now = BUF_INIT;
    int fd, again = -1, rc;

    unlinkat(etc, TMP, 0); /* of one that was killed */
    fd = safe_create(etc, TMP, 0644);
    if (fd < 0)
        return fail(ret_why, fd, strerror(-fd));
    rc = copy_attributes(old_fd, fd);
    if (rc == 0)
        rc = write_all(fd, new->p, new->len);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    close(fd);
    if (rc < 0)
        fail(ret_why, rc, strerror(-rc));
    else
        rc = read_file(etc, &now, &again, ret_why);
    if (rc == 0 && (!same_bytes(&now, old) || (old_fd < 0) != (again < 0)))
        rc = fail(ret_why, -EAGAIN, "somebody else has just changed it");
    if (rc == 0) {
        if (new->len == 0)
            rc = unlinkat(etc, PRELOAD_FILE, 0) < 0 ? -errno : 0;
        else
            rc = renameat(etc, TMP, etc, PRELOAD_FILE) < 0 ? -errno : 0;
        if (rc < 0)
            fail(ret_why, rc, rc == -EPERM ? "can't be replaced (chattr -i?)" : strerror(-rc));
    }
    if (rc < 0 || new->len == 0)
        unlinkat(etc, TMP, 0);
    if (rc == 0) {
        int dir = openat(etc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (dir >= 0) {
            fsync(dir); /* the line must not come back with a power cut, nor half of it */
            close(dir);
        }
    }
    if (again >= 0)
        close(again);
    buf_free(&now);
    return rc;
}

bool host_preload_has(const char *root, char **ret_lib)
{
    struct buf text = BUF_INIT;
    int etc = open_etc(root, NULL), fd = -1;
    size_t at = 0, n = 0;

    if (etc >= 0 && read_file(etc, &text, &fd, NULL) == 0)
        n = preload_find(text.p ? text.p : "", text.len, &at);
    if (n && ret_lib)
        *ret_lib = xstrndup(text.p + at, n);
    if (fd >= 0)
        close(fd);
    if (etc >= 0)
        close(etc);
    buf_free(&text);
    return n != 0;
}

/* --- trying --- */

struct outcome {
    int rc, status;
    struct buf err;
};

static struct outcome start(const struct preload_try *t)
{
    struct outcome o = {.err = BUF_INIT};

    o.rc = preload_try(t, &o.status, &o.err);
    return o;
}

static bool is_clean(const struct outcome *o)
{
    return o->rc == 0 && o->status == 0 && o->err.len == 0;
}

/* Nothing could be started, or it was killed: there is no verdict in that about a library. Who uses up all that the host
 * has shall not have it taken out. */
static bool is_no_verdict(const struct outcome *a, const struct outcome *without)
{
    return a->rc == -EAGAIN || a->rc == -ENOMEM || a->rc == -ENFILE || a->rc == -EMFILE ||
           (a->rc == -ETIMEDOUT && without->rc == -ETIMEDOUT) ||
           (a->rc == 0 && WIFSIGNALED(a->status) && WTERMSIG(a->status) == SIGKILL);
}

/* What went wrong, for people. */
static char *describe(const struct outcome *o, const char *what)
{
    struct buf b = BUF_INIT;
    char *text;

    if (o->rc == -ETIMEDOUT)
        buf_printf(&b, "a program that loads %s doesn't end", what);
    else if (o->rc < 0)
        buf_printf(&b, "a program that loads %s can't be started: %s", what, strerror(-o->rc));
    else if (WIFSIGNALED(o->status))
        buf_printf(&b, "a program that loads %s dies of signal %d", what, WTERMSIG(o->status));
    else
        buf_printf(&b, "a program that loads %s ends with status %d", what, WEXITSTATUS(o->status));
    if (o->err.len) {
        buf_str(&b, ": ");
        buf_visible(&b, o->err.p, o->err.len < SHOWN_MAX ? o->err.len : SHOWN_MAX);
    }
    text = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return text;
}

/* Whether a program does the same with these entries as without ours: others may have broken ones. 0, or -EIO with the
 * reason; -EBUSY with the reason: the host can't start any just now; -ENOENT and -EPERM as preload_try() has them. */
static int compare(const struct preload_try *with, const struct buf *without, const char *what, char **ret_why)
{
    struct preload_try bare = *with;
    struct outcome a = start(with), b = {.err = BUF_INIT};
    int rc = 0;

    if (a.rc == -ENOENT || a.rc == -EPERM) {
        rc = a.rc;
    } else if (!is_clean(&a)) {
        bare.env = NULL;
        bare.file = without->p ? without->p : "";
        bare.file_len = without->len;
        b = start(&bare);
        if (is_no_verdict(&a, &b))
            rc = -EBUSY;
        else if (a.rc != 0 || b.rc != 0 || a.status != b.status || !same_bytes(&a.err, &b.err))
            rc = -EIO;
    }
    if ((rc == -EIO || rc == -EBUSY) && ret_why && !*ret_why)
        *ret_why = describe(&a, what);
    buf_free(&a.err);
    buf_free(&b.err);
    return rc;
}

static int try_all(const char *root, const char *entry, const struct buf *new, const struct buf *without,
                   char **ret_why)
{
    struct preload_try env = {.root = root, .env = entry}, file = {.root = root, .file = new->p, .file_len = new->len};
    int rc = compare(&env, without, entry, ret_why);

    if (rc == -ENOENT)
        return fail(ret_why, rc, "there is no program of glibc's here that would read it");
    if (rc == 0)
        rc = compare(&file, without, entry, ret_why);
    if (rc == -EPERM) /* no mount namespaces: that it is loaded by that name has been seen */
        rc = 0;
    env.other = file.other = true;
    if (rc == 0)
        rc = compare(&env, without, entry, ret_why);
    if (rc == 0)
        rc = compare(&file, without, entry, ret_why);
    return rc == -ENOENT || rc == -EPERM ? 0 : rc; /* no program of the other word size runs here */
}

/* --- the names of the library --- */

/* The same library once more, as a link: its directory is what differs. */
static int link_library(int dir, const char *platform)
{
    int sub = safe_make_dir(dir, platform, 0755), rc = 0;

    if (sub < 0)
        return sub;
    if (symlinkat("../" PRELOAD_LIB, sub, PRELOAD_LIB) < 0 && errno != EEXIST)
        rc = -errno;
    close(sub);
    return rc;
}

static int put_other(int dir, const char *platform)
{
    const void *bytes;
    size_t size = preload_other_library(&bytes);
    int sub = safe_make_dir(dir, platform, 0755), rc;

    if (sub < 0)
        return sub;
    rc = safe_replace_lasting(sub, PRELOAD_LIB, bytes, size, 0755);
    close(sub);
    return rc;
}

/* The name that goes into the file, in *ret. */
static int make_names(const char *root, const char *lib, char **ret, char **ret_why)
{
    const char *base = strrchr(lib, '/');
    char *path;
    int dir, rc = 0;

    if (strncmp(lib, HOST_LIB_DIR "/", sizeof(HOST_LIB_DIR)) != 0 || strcmp(base + 1, PRELOAD_LIB) != 0 ||
        strpbrk(lib, " \t\n:#$"))
        return -EINVAL;
    path = xasprintf("%s%.*s", root, (int)(base - lib), lib);
    dir = safe_dir(path, SAFE_OURS, 0, ret_why);
    if (dir < 0)
        rc = dir;
    for (const char *const *p = preload_platforms; rc == 0 && *p; p++)
        rc = link_library(dir, *p);
    for (const char *const *p = preload_other_platforms; rc == 0 && *p; p++)
        rc = put_other(dir, *p);
    if (dir >= 0)
        close(dir);
    if (rc == 0)
        *ret = xasprintf("%.*s/$PLATFORM/" PRELOAD_LIB, (int)(base - lib), lib);
    else if (ret_why && !*ret_why)
        *ret_why = xasprintf("%s: %s", path, strerror(-rc));
    free(path);
    return rc;
}

/* --- adding, removing, looking --- */

int host_preload_add(const char *root, const char *lib, char **ret_why)
{
    struct buf old = BUF_INIT, new = BUF_INIT, without = BUF_INIT;
    int etc, fd = -1, rc;
    char *entry = NULL;

    *ret_why = NULL;
    rc = make_names(root, lib, &entry, ret_why);
    if (rc < 0)
        return rc;
    etc = open_etc(root, ret_why);
    rc = etc < 0 ? etc : read_file(etc, &old, &fd, ret_why);
    if (rc == 0) {
        rc = preload_edit(old.p ? old.p : "", old.len, entry, &new);
        if (rc < 0)
            fail(ret_why, rc, "there is a NUL in it, behind which nothing is read");
    }
    if (rc == 0)
        rc = preload_edit(old.p ? old.p : "", old.len, NULL, &without);
    if (rc == 0)
        rc = try_all(root, entry, &new, &without, ret_why);
    if (rc == 0 && !same_bytes(&old, &new))
        rc = write_file(etc, fd, &old, &new, ret_why);
    if (fd >= 0)
        close(fd);
    if (etc >= 0)
        close(etc);
    free(entry);
    buf_free(&old);
    buf_free(&new);
    buf_free(&without);
    return rc;
}

int host_preload_remove(const char *root, char **ret_why)
{
    struct buf old = BUF_INIT, new = BUF_INIT;
    int etc, fd = -1, rc;

    *ret_why = NULL;
    etc = open_etc(root, ret_why);
    rc = etc < 0 ? etc : read_file(etc, &old, &fd, ret_why);
    if (rc == 0)
        rc = preload_edit(old.p ? old.p : "", old.len, NULL, &new);
    if (rc == 0 && fd >= 0 && !same_bytes(&old, &new))
        rc = write_file(etc, fd, &old, &new, ret_why);
    if (fd >= 0)
        close(fd);
    if (etc >= 0)
        close(etc);
    buf_free(&old);
    buf_free(&new);
    return rc;
}

bool host_preload_works(char **ret_why)
{
    struct buf text = BUF_INIT, without = BUF_INIT;
    struct preload_try now = {.root = ""};
    int etc = open_etc("", NULL), fd = -1, rc = 0;
    char *entry = NULL;
    size_t at = 0, n = 0;

    *ret_why = NULL;
    if (etc >= 0 && read_file(etc, &text, &fd, NULL) == 0)
        n = preload_find(text.p ? text.p : "", text.len, &at);
    if (n) {
        entry = xstrndup(text.p + at, n);
        preload_edit(text.p, text.len, NULL, &without);
        rc = compare(&now, &without, entry, ret_why);
    }
    if (n && rc == 0) {
        now.other = true;
        rc = compare(&now, &without, entry, ret_why);
    }
    if (fd >= 0)
        close(fd);
    if (etc >= 0)
        close(etc);
    free(entry);
    buf_free(&text);
    buf_free(&without);
    return rc != -EIO;
}
