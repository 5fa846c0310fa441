/* SPDX-License-Identifier: Apache-2.0 */
#include "model/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "model/model.h"
#include "model/process.h"
#include "model/procinfo.h"

#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20 /* Linux 5.12 */
#endif
#define MS UINT64_C(1000000)
#define SHARE 4 /* of the time, one part may be waited */
#define ASK_NAME (PATH_MAX + 64)

enum question { ASK_STAT, ASK_ACCESS };

/* In memory that worker and collector share; written by one of them at a time. */
struct exchange {
    enum question question;
    int mode;
    char path[ASK_NAME];
    int rc;             /* 0 or -errno */
    struct stat st;
};

struct worker {
    pid_t pid;          /* 0: none */
    int sock;
    struct exchange *x;
    uint64_t asked_ns;  /* CLOCK_MONOTONIC: the answer is late since then; 0: it is free */
    bool killed;
};

static struct worker workers[ASK_WORKERS_MAX];
static int64_t credit_ns;    /* that may be waited */
static uint64_t credit_at;   /* CLOCK_MONOTONIC ns */
static bool told;

/* --- in the worker: nothing here may take a lock that another thread of the collector held when it forked --- */

static void answer(struct exchange *x)
{
    switch (x->question) {
    case ASK_STAT:
        x->rc = stat(x->path, &x->st) ? -errno : 0;
        break;
    case ASK_ACCESS:
        x->rc = access(x->path, x->mode) ? -errno : 0;
        break;
    }
}

static _Noreturn void serve(int sock, pid_t collector, struct exchange *x)
{
    static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE}; /* it ends with the collector */
    char word;

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        signal(signals[i], SIG_IGN);
    prctl(PR_SET_NAME, "scope-ask");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(sock, 0) < 0 || getppid() != collector)
        _exit(1);
    /* Whoever never ends must not hold the session's lock, its sockets, or an output. */
    if (syscall(SYS_close_range, 1, UINT32_MAX, 0) < 0)
        for (int fd = 1; fd < 65536; fd++)
            close(fd);
    while (read(0, &word, 1) == 1) {
        answer(x);
        if (write(0, &word, 1) != 1)
            break;
    }
    _exit(0);
}

/* --- workers --- */

static void forget(struct worker *w)
{
    close(w->sock);
    munmap(w->x, sizeof(*w->x));
    *w = (struct worker){0};
}

/* Takes a late answer, or the end of one that could be killed. */
static void look_after(struct worker *w, uint64_t now)
{
    char word;

    if (w->pid && w->asked_ns && !w->killed && recv(w->sock, &word, 1, MSG_DONTWAIT) == 1)
        w->asked_ns = 0;
    if (w->pid && w->asked_ns && now - w->asked_ns > ASK_LATE_MS * MS && !w->killed) {
        kill(w->pid, SIGKILL);
        w->killed = true;
    }
    if (w->pid && waitpid(w->pid, NULL, WNOHANG) == w->pid)
        forget(w);
}

static bool start(struct worker *w)
{
    pid_t self = getpid();
    int pair[2];

    w->x = mmap(NULL, sizeof(*w->x), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (w->x == MAP_FAILED)
        return false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        munmap(w->x, sizeof(*w->x));
        return false;
    }
    w->pid = fork();
    if (w->pid == 0)
        serve(pair[1], self, w->x);
    close(pair[1]);
    w->sock = pair[0];
    if (w->pid > 0)
        return true;
    w->pid = 0;
    forget(w);
    return false;
}

/* One that has nothing to do. */
static struct worker *find(uint64_t now)
{
    struct worker *free = NULL, *none = NULL;

    for (size_t i = 0; i < ASK_WORKERS_MAX; i++) {
        struct worker *w = &workers[i];

        look_after(w, now);
        if (w->pid && !w->asked_ns && !free)
            free = w;
        else if (!w->pid && !none)
            none = w;
    }
    return free ? free : none && start(none) ? none : NULL;
}

static bool may_wait(uint64_t now)
{
    uint64_t gained = (now - credit_at) / SHARE;

    if (gained > ASK_BURST_MS * MS)
        gained = ASK_BURST_MS * MS;
    credit_ns += (int64_t)gained;
    if (credit_ns > (int64_t)(ASK_BURST_MS * MS))
        credit_ns = (int64_t)(ASK_BURST_MS * MS);
    credit_at = now;
    return credit_ns > 0;
}

/* On a busy machine it is the worker that has not come to ask, and not the kernel that is silent. */
static bool waits_for_cpu(const struct worker *w)
{
    struct pi_stat st;

    return pi_stat(w->pid, &st) == 0 && st.state == 'R';
}

/* True if it has answered. */
static bool wait_for(struct worker *w, uint64_t now)
{
    uint64_t until = now + ASK_WAIT_MS * MS, at = now;
    char word;
    ssize_t n = -1;

    while (at < until || (at < now + ASK_CPU_MS * MS && waits_for_cpu(w))) {
        struct pollfd p = {.fd = w->sock, .events = POLLIN};

        if (poll(&p, 1, at < until ? (int)((until - at) / MS) + 1 : 1) > 0 &&
            (n = recv(w->sock, &word, 1, MSG_DONTWAIT)) >= 0)
            break;
        at = clock_now_mono();
    }
    at = clock_now_mono();
    credit_ns -= (int64_t)((at < until ? at : until) - now);
    if (n > 0)
        w->asked_ns = 0;
    return n > 0;
}

static int unknown(struct proc *p)
{
    model_loss(p->m, p, LK_ANSWER, 1);
    return -ETIMEDOUT;
}

/* Asks; *ret_w has the answer. 0 or -ETIMEDOUT. */
static int ask(struct proc *p, enum question q, const char *path, int mode, struct worker **ret_w)
{
    uint64_t now = clock_now_mono();
    size_t len = strlen(path);
    struct worker *w;

    if (now < p->ask_again || !may_wait(now) || !(w = find(now)) || len >= sizeof(w->x->path))
        return unknown(p);
    w->x->question = q;
    w->x->mode = mode;
    memcpy(w->x->path, path, len + 1);
    w->asked_ns = now;
    if (send(w->sock, "", 1, MSG_NOSIGNAL) != 1 || !wait_for(w, now)) {
        p->ask_again = clock_now_mono() + ASK_REST_MS * MS;
        if (!told)
            log_warning("process %d: %s: no answer from the kernel within %u ms: what isn't known is counted as lost (answer)",
                        (int)p->host_pid, path, ASK_WAIT_MS);
        told = true;
        return unknown(p);
    }
    *ret_w = w;
    return 0;
}

void ask_end(void)
{
    for (size_t i = 0; i < ASK_WORKERS_MAX; i++) {
        struct worker *w = &workers[i];

        if (!w->pid)
            continue;
        kill(w->pid, SIGKILL);
        waitpid(w->pid, NULL, w->asked_ns ? WNOHANG : 0); /* one that is stuck is left to whoever inherits it */
        forget(w);
    }
}

/* --- what need not be asked --- */

/* File systems that ask their server about a file's owner even of those who don't want that (AT_STATX_DONT_SYNC). Users
 * can't mount them. */
static bool is_unruly(const char *type, size_t len)
{
    static const char *const types[] = {"9p", "coda", "orangefs", "ocfs2", "gfs2", "lustre", "gpfs", "beegfs", "panfs"};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strlen(types[i]) == len && !memcmp(types[i], type, len))
            return true;
    return false;
}

/* Which of them are mounted where we see it; looked at once a second. */
static struct {
    uint64_t until;
    bool owners;  /* all give a file's owner without asking */
    bool handles; /* ... and let a file be opened by one of its descriptors: NFS asks its server (d_weak_revalidate) */
} obey;

static void look_at_mounts(uint64_t now)
{
    char *line = NULL, *type;
    size_t size = 0;
    FILE *f;

    if (now < obey.until)
        return;
    obey.until = now + 1000 * MS;
    f = fopen("/proc/self/mountinfo", "re");
    obey.owners = obey.handles = f != NULL;
    while (f && getline(&line, &size, f) > 0) { /* proc_pid_mountinfo(5): the type comes behind the hyphen */
        type = strstr(line, " - ");
        if (type && is_unruly(type + 3, strcspn(type + 3, " ")))
            obey.owners = obey.handles = false;
        if (type && !strncmp(type + 3, "nfs", 3))
            obey.handles = false;
    }
    free(line);
    if (f)
        fclose(f);
}

static bool owners_obey(uint64_t now)
{
    look_at_mounts(now);
    return obey.owners;
}

static bool handles_obey(uint64_t now)
{
    look_at_mounts(now);
    return obey.handles;
}

/* fd: of a name only (O_PATH); is closed, of which no file system hears. 0 or -EAGAIN. */
static int stat_path_fd(int fd, struct stat *ret)
{
    struct statx stx;
    int rc = statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS & ~(unsigned)STATX_BLOCKS, &stx) ? -EAGAIN : 0;

    close(fd);
    if (!rc)
        *ret = (struct stat){.st_mode = stx.stx_mode, .st_uid = stx.stx_uid, .st_gid = stx.stx_gid, .st_ino = stx.stx_ino,
                             .st_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor),
                             .st_rdev = makedev(stx.stx_rdev_major, stx.stx_rdev_minor)};
    return rc;
}

/* The answer if the kernel has it in memory, and gives it without asking anybody: 0, -errno; -EAGAIN: it would have to
 * ask. */
static int stat_cached(int root, const char *path, struct stat *ret)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_CACHED | (root >= 0 ? RESOLVE_IN_ROOT : 0)};
    int fd = (int)syscall(SYS_openat2, root >= 0 ? root : AT_FDCWD, path, &how, sizeof(how));

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == ENAMETOOLONG ? -errno : -EAGAIN;
    return stat_path_fd(fd, ret);
}

/* File systems of the kernel's own are never in its cache for good, and always answer. The links in them lead elsewhere:
 * none is followed, but the one to the process itself. 0, -errno; -EAGAIN: it is somewhere else. */
static int stat_kernel(const struct proc *p, const char *path, struct stat *ret)
{
    static const struct {
        const char *at;
        long magic;
    } kinds[] = {{"/proc/", PROC_SUPER_MAGIC}, {"/sys/", SYSFS_MAGIC}};
    static int roots[2] = {-1, -1};
    static const char self[] = "self/";
    struct open_how how = {.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    char name[ASK_NAME];
    struct statfs fs;
    int fd, rc;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const char *rest = path + strlen(kinds[i].at);

        if (strncmp(path, kinds[i].at, strlen(kinds[i].at)) != 0)
            continue;
        if (roots[i] < 0)
            roots[i] = open(kinds[i].at, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (roots[i] < 0 || fstatfs(roots[i], &fs) || fs.f_type != kinds[i].magic)
            return -EAGAIN;
        if (i == 0 && strncmp(rest, self, strlen(self)) == 0)
            snprintf(name, sizeof(name), "%d/%s", (int)p->host_pid, rest + strlen(self));
        else
            snprintf(name, sizeof(name), "%s", rest);
        fd = (int)syscall(SYS_openat2, roots[i], name, &how, sizeof(how));
        if (fd < 0)
            return errno == ENOENT ? -ENOENT : -EAGAIN;
        rc = fstat(fd, ret) ? -errno : S_ISLNK(ret->st_mode) ? -EAGAIN : 0;
        close(fd);
        return rc;
    }
    return -EAGAIN;
}

int ask_stat(struct proc *p, const char *path, struct stat *ret)
{
    struct worker *w;
    int rc = ask(p, ASK_STAT, path, 0, &w);

    if (rc)
        return rc;
    *ret = w->x->st;
    return w->x->rc;
}

int ask_stat_fd(struct proc *p, int fd, struct stat *ret)
{
    char link[48];
    int named = -1;

    snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)p->host_pid, fd);
    if (handles_obey(clock_now_mono()))
        named = open(link, O_PATH | O_CLOEXEC); /* no name is walked: the link is the file */
    if (named >= 0 && !stat_path_fd(named, ret))
        return 0;
    return ask_stat(p, link, ret);
}

int ask_stat_in(struct proc *p, bool own, const char *path, struct stat *ret)
{
    char text[ASK_NAME];
    int root = -1, rc;

    if (own) {
        snprintf(text, sizeof(text), "/proc/%d/root", (int)p->host_pid);
        root = open(text, O_PATH | O_CLOEXEC | O_DIRECTORY);
        if (root < 0)
            return -errno;
    }
    rc = own ? -EAGAIN : stat_kernel(p, path, ret);
    if (rc == -EAGAIN && owners_obey(clock_now_mono()))
        rc = stat_cached(root, path, ret);
    if (root >= 0)
        close(root);
    if (rc != -EAGAIN)
        return rc;
    if (own)
        snprintf(text, sizeof(text), "/proc/%d/root%s", (int)p->host_pid, path);
    return ask_stat(p, own ? text : path, ret);
}

int ask_access(struct proc *p, const char *path, int mode)
{
    struct worker *w;
    int rc = ask(p, ASK_ACCESS, path, mode, &w);

    return rc ? rc : w->x->rc;
}
