/* SPDX-License-Identifier: Apache-2.0 */
#include "model/names.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "model/fds.h"
#include "model/model.h"
#include "model/path.h"
#include "model/procinfo.h"

#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20 /* Linux 5.12; before, every question is answered with EINVAL */
#endif

#define DELETED " (deleted)"

/* --- what the kernel says --- */

static int proc_link(pid_t pid, const char *what, char *buf, size_t size)
{
    char path[64];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
    n = readlink(path, buf, size - 1);
    if (n < 0)
        return -errno;
    if ((size_t)n == size - 1)
        return -ENAMETOOLONG;
    buf[n] = 0;
    return (int)n;
}

void names_look(struct proc *p)
{
    char theirs[64], ours[64];
    int n;

    if (p->view != VIEW_UNKNOWN || p->host_pid <= 0 || p->dead)
        return;
    n = proc_link(p->host_pid, "root", theirs, sizeof(theirs));
    if (n < 0 && n != -ENAMETOOLONG)
        return;
    p->view = VIEW_OTHER;
    if (n != 1)
        return;
    if (proc_link(p->host_pid, "ns/mnt", theirs, sizeof(theirs)) > 0 &&
        proc_link(getpid(), "ns/mnt", ours, sizeof(ours)) > 0 && !strcmp(theirs, ours))
        p->view = VIEW_OURS;
}

/* Makes of what /proc shows us a name as the process sees it. Returns its length, or -ENOENT: it isn't below its root.
 */
static int as_seen(const struct proc *p, char *text, int len)
{
    char root[PATH_MAX];
    int n;

    if (len < 0)
        return len;
    if (text[0] != '/' || p->view == VIEW_UNKNOWN)
        return -ENOENT;
    if (p->view == VIEW_OURS)
        return len;
    n = proc_link(p->host_pid, "root", root, sizeof(root));
    if (n <= 0)
        return -ENOENT;
    if (n == 1)
        return len;
    if (len < n || memcmp(text, root, (size_t)n) || (text[n] && text[n] != '/'))
        return -ENOENT;
    if (len == n) { /* the root directory itself */
        text[1] = 0;
        return 1;
    }
    memmove(text, text + n, (size_t)(len - n) + 1);
    return len - n;
}

static bool ends_so(const char *text, size_t len, const char *end)
{
    size_t n = strlen(end);

    return len >= n && !memcmp(text + len - n, end, n);
}

/* Whether the number still is the descriptor of that generation. */
static bool same_fd(const struct proc *p, int64_t fd, uint32_t gen)
{
    uint32_t now;

    return p->host_pid > 0 && !p->dead && fd >= 0 && gen && p->m->watch->generation(p, fd, &now) && now == gen;
}

int names_of_fd(struct proc *p, int64_t fd, uint32_t gen, bool deleted, char *buf, size_t size)
{
    char what[24];
    int n;

    if (!same_fd(p, fd, gen))
        return -ESTALE;
    names_look(p);
    snprintf(what, sizeof(what), "fd/%d", (int)fd);
    n = proc_link(p->host_pid, what, buf, size);
    if (n > 0 && !deleted && ends_so(buf, (size_t)n, DELETED))
        buf[n -= (int)strlen(DELETED)] = 0;
    n = as_seen(p, buf, n);
    return n < 0 || same_fd(p, fd, gen) ? n : -ESTALE;
}

/* The kernel's own name of the directory that a process reaches by `path` (absolute, terminated). It has been there a
 * moment ago, so that all of it is in the kernel's cache; nothing else is looked at, as that may block for ever. */
static int ask(struct proc *p, const char *path, char *buf, size_t size)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_CACHED | RESOLVE_NO_MAGICLINKS};
    char text[48];
    int root = AT_FDCWD, n, fd = -1;

    names_look(p);
    if (p->view == VIEW_UNKNOWN)
        return -ENOENT;
    if (p->view == VIEW_OTHER) {
        if (p->host_pid <= 0 || p->dead)
            return -ESRCH;
        snprintf(text, sizeof(text), "/proc/%d/root", (int)p->host_pid);
        root = open(text, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
            return -errno;
        how.resolve |= RESOLVE_IN_ROOT;
    }
    for (int i = 0; fd < 0 && i < 2; i++) { /* EAGAIN, too, when somebody renames something just then */
        fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (fd < 0 && errno != EAGAIN)
            break;
    }
    n = fd < 0 ? -errno : 0;
    if (fd >= 0) {
        snprintf(text, sizeof(text), "fd/%d", fd);
        n = proc_link(getpid(), text, buf, size);
        close(fd);
    }
    if (root >= 0)
        close(root);
    /* Gone meanwhile; or /proc/self, which is another one's for us. */
    if (n > 0 && (ends_so(buf, (size_t)n, DELETED) || !strncmp(buf, "/proc/", 6)))
        return -ENOENT;
    return as_seen(p, buf, n);
}

/* --- putting names together --- */

/* A name under construction: "" is the root directory, if it isn't relative. */
struct walk {
    struct proc *p;
    const struct name_use *use;
    char *out;
    size_t len, floor; /* floor: going up ends there */
    size_t plain, tail;
    bool relative; /* where it begins isn't known */
    bool unknown;  /* the kernel has been asked in vain */
    bool done;     /* the kernel has told all of it */
};

static void set(struct walk *w, const char *text, size_t len)
{
    memcpy(w->out, text, len);
    w->len = len == 1 && text[0] == '/' ? 0 : len;
    w->plain = w->tail = w->len;
}

static void push(struct walk *w, const char *name, size_t len, bool real)
{
    if (w->len || !w->relative)
        w->out[w->len++] = '/';
    memcpy(w->out + w->len, name, len);
    w->len += len;
    if (!real)
        w->tail = w->len;
    if (w->tail <= w->plain)
        w->plain = w->tail = w->len;
}

static void up(struct walk *w)
{
    char text[PATH_MAX];
    const char *last;
    size_t start;
    int n = -ENOENT;

    if (!w->relative && w->len <= w->floor)
        return;
    last = memrchr(w->out, '/', w->len);
    start = last ? (size_t)(last - w->out) : 0;
    if (!w->relative && !(w->len <= w->plain || start >= w->tail) && !w->unknown) {
        if (w->use->fd >= 0) {
            n = names_of_fd(w->p, w->use->fd, w->use->gen, ends_so(w->use->path, w->use->len, DELETED), text,
                            sizeof(text));
            if (n > 0) {
                set(w, text, (size_t)n);
                w->done = true;
                return;
            }
        }
        w->out[w->len] = 0;
        if (!w->use->in_root)
            n = ask(w->p, w->out, text, sizeof(text));
        w->unknown = n <= 0;
        if (!w->unknown) {
            set(w, text, (size_t)n);
            last = w->len ? memrchr(w->out, '/', w->len) : NULL;
            start = last ? (size_t)(last - w->out) : 0;
        }
    }
    if (w->relative || !(w->len <= w->plain || start >= w->tail)) {
        push(w, "..", 2, false);
        return;
    }
    w->len = start;
    if (w->plain > w->len)
        w->plain = w->len;
    if (w->tail > w->len)
        w->tail = w->len;
}

/* No component of it is empty, `.` or `..`. */
static bool tidy(const char *path, size_t len)
{
    if (path_is_plain(path, len))
        return true;
    for (size_t i = 0; i <= len;) {
        const char *slash = memchr(path + i, '/', len - i);
        size_t n = slash ? (size_t)(slash - path) - i : len - i;

        if (!n && i)
            return false;
        if (n && path[i] == '.' && (n == 1 || (n == 2 && path[i + 1] == '.')))
            return false;
        i += n + 1;
    }
    return true;
}

/* Where a name begins: a directory, or what a descriptor refers to if the name is empty. False: not known. */
static bool base_of(struct proc *p, const struct name_use *use, struct name *ret)
{
    char text[PATH_MAX];
    const struct desc *d;

    if (use->dirfd != AT_FDCWD) {
        d = fds_lookup(p, use->dirfd);
        if (!d || !d->file)
            return false;
        *ret = (struct name){d->file->path, d->file->path_len, d->file->plain, d->file->tail};
        if (!use->len)
            ret->p = fds_name(d, &ret->len);
    } else {
        if (!*p->cwd && p->host_pid > 0 && !p->dead && !p->borrowed) {
            int n;

            names_look(p);
            n = as_seen(p, text, proc_link(p->host_pid, "cwd", text, sizeof(text)));
            if (n > 0)
                names_set_cwd(p, &(struct name){text, (size_t)n, (uint32_t)n, (uint32_t)n});
        }
        *ret = (struct name){p->cwd, strlen(p->cwd), p->cwd_plain, p->cwd_tail};
    }
    return ret->len && (!use->len || ret->p[0] == '/');
}

void names_resolve(struct proc *p, const struct name_use *use, int which, struct name *ret)
{
    struct walk w = {.p = p, .use = use, .out = p->m->scratch[which]};
    const char *path = use->path;
    size_t len = use->len < SEG_PATH_MAX ? use->len : SEG_PATH_MAX;
    struct name base = {0};
    bool known = true;

    *ret = (struct name){path, len, 0, (uint32_t)len};
    if (len && path[0] == '/' && !use->in_root && !use->all_real && tidy(path, len)) {
        if (use->real)
            ret->tail = (uint32_t)((const char *)memrchr(path, '/', len) - path);
        if (!ret->tail) /* in the root directory itself */
            ret->plain = ret->tail = (uint32_t)len;
        return;
    }
    if (!len || path[0] != '/' || use->in_root) {
        known = base_of(p, use, &base);
        if (!len) {
            if (known)
                *ret = base;
            return;
        }
    }
    if (!known && tidy(path, len))
        return;
    if (base.len + len + 4 > NAME_BYTES)
        return;
    w.relative = !known;
    if (known && base.len) {
        set(&w, base.p, base.len);
        w.plain = w.len ? base.plain : 0;
        w.tail = w.len ? base.tail : 0;
        if (use->in_root)
            w.floor = w.len;
    }
    for (size_t i = 0; i < len && !w.done;) {
        const char *slash = memchr(path + i, '/', len - i);
        size_t n = slash ? (size_t)(slash - path) - i : len - i;
        bool last = i + n >= len;

        if (n == 2 && path[i] == '.' && path[i + 1] == '.')
            up(&w);
        else if (n && !(n == 1 && path[i] == '.'))
            push(&w, path + i, n, use->all_real || (last && use->real));
        i += n + 1;
    }
    if (!w.len)
        w.out[w.len++] = w.relative ? '.' : '/';
    if (w.plain + 1 == w.len && w.len == 1)
        w.plain = w.tail = 1; /* the root directory */
    *ret = (struct name){w.out, w.len, (uint32_t)w.plain, (uint32_t)w.tail};
}

/* --- where a process is --- */

void names_set_cwd(struct proc *p, const struct name *to)
{
    char *cwd = to->len && to->p[0] == '/' && !p->own_cwds ? xstrndup(to->p, to->len) : xstrdup("");

    free(p->cwd); /* `to` may lie there */
    p->cwd = cwd;
    p->cwd_plain = to->plain;
    p->cwd_tail = to->tail;
}

void names_set_root(struct proc *p, const struct name *to)
{
    size_t n = to ? to->len : 0;

    p->view = VIEW_UNKNOWN;
    if (!to) {
        names_set_cwd(p, &(struct name){"", 0, 0, 0});
        return;
    }
    if (n <= 1 || strncmp(p->cwd, to->p, n) != 0 || (p->cwd[n] && p->cwd[n] != '/'))
        return;
    /* the working directory is below it */
    names_set_cwd(p, &(struct name){p->cwd[n] ? p->cwd + n : "/", p->cwd[n] ? strlen(p->cwd + n) : 1,
                                    p->cwd_plain > n ? p->cwd_plain - (uint32_t)n : 0,
                                    p->cwd_tail > n ? p->cwd_tail - (uint32_t)n : 0});
}
