/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/dying.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define PAGE 4096u
#define PIECE (256u << 10)
#define ARGUMENTS 64u
#define PATTERN_MAX 128u /* CORENAME_MAX_SIZE of Linux */
#define PIDFD_AT 3       /* where the kernel puts it for %F */

#define MS UINT64_C(1000000)
#define FILE_STALL_MS 10000u
#define PROGRAM_STALL_MS 60000u /* it is root's, and may wait for its turn */
#define TOTAL_MS 300000u
#define KILLED_MS 2000u /* for one that has been killed to be gone */

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static FILE *open_text(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

    if (!f && fd >= 0)
        close(fd);
    return f;
}

static char *read_link(int dir, const char *name)
{
    char to[PATH_MAX + 1];
    ssize_t n = readlinkat(dir, name, to, sizeof(to) - 1);

    return xstrndup(to, n > 0 ? (size_t)n : 0);
}

static pid_t last_number(const char *line)
{
    const char *last = strrchr(line, '\t');

    return last ? (pid_t)strtol(last + 1, NULL, 10) : 0;
}

static void read_groups(struct dying *d, const char *at)
{
    char *end;

    for (;; at = end) {
        unsigned long g = strtoul(at, &end, 10);

        if (end == at || d->group_count >= DYING_GROUPS)
            return;
        if (d->group_count % 64 == 0)
            d->groups = xrealloc(d->groups, d->group_count + 64, sizeof(*d->groups));
        d->groups[d->group_count++] = (gid_t)g;
    }
}

bool dying_stands(int core)
{
    struct pollfd pfd = {.fd = core};

    return poll(&pfd, 1, 0) >= 0 && !(pfd.revents & (POLLHUP | POLLERR | POLLNVAL));
}

/* Capabilities mean something in the user namespace of their process only. */
static bool is_our_user_ns(int thread)
{
    struct stat its, ours;

    return fstatat(thread, "ns/user", &its, 0) == 0 && stat("/proc/self/ns/user", &ours) == 0 &&
           its.st_dev == ours.st_dev && its.st_ino == ours.st_ino;
}

/* False: not all of it could be read. */
static bool read_thread(struct dying *d, int thread, bool *ret_dumping, unsigned *ret_uid, unsigned *ret_gid)
{
    char *line = NULL;
    unsigned found = 0, dumping = 0;
    size_t cap = 0;
    FILE *f = open_text(thread, "status");

    while (f && getline(&line, &cap, f) > 0) {
        // NOLINTBEGIN(cert-err34-c): the kernel wrote it
        if (sscanf(line, "Uid: %u %*u %*u %u", ret_uid, &d->fsuid) == 2 ||
            sscanf(line, "Gid: %u %*u %*u %u", ret_gid, &d->fsgid) == 2 || sscanf(line, "Umask: %o", &d->mask) == 1 ||
            sscanf(line, "CapEff: %" SCNx64, &d->capabilities) == 1 || sscanf(line, "CoreDumping: %u", &dumping) == 1)
            found++;
        // NOLINTEND(cert-err34-c)
        else if (strncmp(line, "NSpid:", 6) == 0)
            d->own_tid = last_number(line);
        else if (strncmp(line, "Groups:", 7) == 0)
            read_groups(d, line + 7);
    }
    free(line);
    if (f)
        fclose(f);
    *ret_dumping = dumping;
    f = open_text(thread, "comm");
    if (f) {
        size_t n = fread(d->comm, 1, sizeof(d->comm) - 1, f);

        if (n && d->comm[n - 1] == '\n')
            n--;
        d->comm[n] = '\0';
        fclose(f);
    }
    if (!is_our_user_ns(thread))
        d->capabilities = 0;
    d->root = openat(thread, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    d->cwd = openat(thread, "cwd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    d->uts = openat(thread, "ns/uts", O_RDONLY | O_CLOEXEC);
    return found == 5 && d->root >= 0 && d->cwd >= 0;
}

static void read_process(struct dying *d, int process)
{
    char *line = NULL;
    size_t cap = 0;
    FILE *f = open_text(process, "status");

    while (f && getline(&line, &cap, f) > 0)
        if (strncmp(line, "NSpid:", 6) == 0)
            d->own_pid = last_number(line);
    free(line);
    if (f)
        fclose(f);
    d->exe = read_link(process, "exe");
}

static void drop(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void dying_read(struct dying *d, int core)
{
    char name[64];
    bool whole = false, dumping = false;
    unsigned uid = 0, gid = 0;
    int process, thread;

    d->own_pid = d->pid;
    d->own_tid = d->tid;
    d->root = d->cwd = d->uts = -1;
    d->pidfd = (int)syscall(SYS_pidfd_open, d->pid, 0);
    snprintf(name, sizeof(name), "/proc/%d", (int)d->pid);
    process = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(name, sizeof(name), "task/%d", (int)d->tid);
    thread = process < 0 ? -1 : openat(process, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (process >= 0)
        read_process(d, process);
    if (thread >= 0)
        whole = read_thread(d, thread, &dumping, &uid, &gid);
    drop(&process);
    drop(&thread);
    d->doubt = !dying_stands(core)              ? "it went away before it could be looked at"
               : !whole                         ? "/proc doesn't tell enough of it"
               : !dumping                       ? "it doesn't dump core: another process has its number"
               : uid != d->uid || gid != d->gid ? "its user isn't the one of the crash: another process has its number"
                                                : NULL;
    if (!d->doubt)
        return;
    drop(&d->root);
    drop(&d->cwd);
    drop(&d->uts);
    drop(&d->pidfd);
    free(d->exe);
    d->exe = NULL;
}

void dying_clear(struct dying *d)
{
    free(d->exe);
    free(d->groups);
    drop(&d->root);
    drop(&d->cwd);
    drop(&d->uts);
    drop(&d->pidfd);
    d->exe = NULL;
    d->groups = NULL;
}

/* --- the pattern --- */

/* As cn_esc_printf() does: nothing that a path would go elsewhere by. */
static void add_name(struct buf *b, const char *s)
{
    bool leads_up = strcmp(s, ".") == 0 || strcmp(s, "..") == 0;

    if (!*s)
        buf_char(b, '!');
    for (size_t i = 0; s[i]; i++)
        buf_char(b, (char)(s[i] == '/' || (i == 0 && leads_up) ? '!' : s[i]));
}

/* What the process's host is called; UTS namespaces differ in that alone. */
static void add_host(struct buf *b, const struct dying *d)
{
    char name[HOST_NAME_MAX + 1] = "";
    int ours = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);

    if (ours >= 0 && d->uts >= 0 && setns(d->uts, CLONE_NEWUTS) == 0) {
        gethostname(name, sizeof(name) - 1);
        if (setns(ours, CLONE_NEWUTS) < 0)
            *name = '\0';
    } else {
        gethostname(name, sizeof(name) - 1);
    }
    if (ours >= 0)
        close(ours);
    add_name(b, name);
}

static void add_exe(struct buf *b, const struct dying *d, bool base)
{
    const char *exe = d->exe ? d->exe : "", *slash = strrchr(exe, '/');
    char *unknown = NULL;

    if (!*exe)
        unknown = xasprintf("%s (path unknown)", d->comm);
    add_name(b, unknown ? unknown : base && slash ? slash + 1 : exe);
    free(unknown);
}

char *dying_expand(const struct dying *d, const char *pattern, size_t len)
{
    struct buf b = BUF_INIT;
    char *text;

    for (size_t i = 0; i < len; i++) {
        if (pattern[i] != '%') {
            buf_char(&b, pattern[i]);
            continue;
        }
        if (++i == len)
            break;
        switch (pattern[i]) {
        case '%':
            buf_char(&b, '%');
            break;
        case 'p':
            buf_int(&b, d->own_pid);
            break;
        case 'P':
            buf_int(&b, d->pid);
            break;
        case 'i':
            buf_int(&b, d->own_tid);
            break;
        case 'I':
            buf_int(&b, d->tid);
            break;
        case 'u':
            buf_uint(&b, d->uid);
            break;
        case 'g':
            buf_uint(&b, d->gid);
            break;
        case 'd':
            buf_int(&b, d->mode);
            break;
        case 's':
            buf_int(&b, d->signo);
            break;
        case 't':
            buf_int(&b, d->time);
            break;
        case 'c':
            buf_uint(&b, d->limit);
            break;
        case 'h':
            add_host(&b, d);
            break;
        case 'e':
            add_name(&b, d->comm);
            break;
        case 'f':
            add_exe(&b, d, true);
            break;
        case 'E':
            add_exe(&b, d, false);
            break;
        case 'F':
            buf_int(&b, PIDFD_AT);
            break;
        default:
            break; /* as the kernel does with those that it doesn't know */
        }
    }
    text = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return text;
}

/* --- who gets it --- */

static void set_core_limit(void)
{
    struct rlimit one = {1, 1}; /* as the kernel has it: no core of who handles cores */

    setrlimit(RLIMIT_CORE, &one);
}

/* In a child: becomes the program. */
static void exec_handler(const struct dying *d, const char *pattern)
{
    char *argv[ARGUMENTS + 1] = {0}, *envp[] = {NULL};
    bool wants_pidfd = strstr(pattern, "%F");
    size_t argc = 0;

    for (const char *p = pattern + 1; *p && argc < ARGUMENTS;) {
        size_t n = 0;

        while (isspace((unsigned char)*p))
            p++;
        while (p[n] && !isspace((unsigned char)p[n]))
            n++;
        if (n)
            argv[argc++] = dying_expand(d, p, n);
        p += n;
    }
    if (!argc || chdir("/") < 0)
        return;
    if (wants_pidfd) {
        if (d->pidfd == PIDFD_AT)
            fcntl(d->pidfd, F_SETFD, 0);
        else if (d->pidfd < 0 || dup2(d->pidfd, PIDFD_AT) < 0)
            wants_pidfd = false;
    }
    close_range(PIDFD_AT + (wants_pidfd ? 1 : 0), ~0u, 0);
    execve(argv[0], argv, envp);
}

static int set_capabilities(uint64_t set)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)set, .permitted = (uint32_t)set},
        {.effective = (uint32_t)(set >> 32), .permitted = (uint32_t)(set >> 32)},
    };

    return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

/* All but stdin, stdout, stderr and these. */
static void close_others(int a, int b)
{
    unsigned lo = (unsigned)(a < b ? a : b), hi = (unsigned)(a < b ? b : a);

    if (lo > 3)
        close_range(3, lo - 1, 0);
    if (hi > lo + 1)
        close_range(lo + 1, hi - 1, 0);
    close_range(hi + 1, ~0u, 0);
}

/* Takes the place of the process: its root, its working directory, its rights. From then on its user can stop us. */
static int become(const struct dying *d)
{
    int rc;

    if (fchdir(d->root) < 0 || chroot(".") < 0 || fchdir(d->cwd) < 0)
        return -errno;
    close(d->root);
    close(d->cwd);
    if (setgroups(d->group_count, d->groups) < 0 || setresgid(d->fsgid, d->fsgid, d->fsgid) < 0)
        return -errno;
    rc = d->fsuid == 0 ? set_capabilities(d->capabilities) : setresuid(d->fsuid, d->fsuid, d->fsuid) < 0 ? -errno : 0;
    prctl(PR_SET_DUMPABLE, 0); /* nobody traces us */
    return rc;
}

/* The rules are those of do_coredump() in Linux' fs/coredump.c. */
static int open_file(const struct dying *d, const char *path)
{
    bool safe = d->mode == 2; /* of a program whose user may not read what it knows: root's, by an absolute path */
    int flags = O_CREAT | O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (safe ? O_EXCL : 0), fd, rc;
    struct stat st;

    if (safe && *path != '/')
        return -EPERM;
    if (!safe && (rc = become(d)) < 0)
        return rc;
    umask(d->mask);
    if (safe)
        unlink(path);
    fd = open(path, flags, 0600);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != (safe ? 0 : d->fsuid) ||
        (safe && (st.st_mode & 0677) != 0600) || ftruncate(fd, 0) < 0) {
        close(fd);
        return -EPERM;
    }
    return fd;
}

static bool is_zero(const char *p, size_t n)
{
    return !*p && memcmp(p, p + 1, n - 1) == 0;
}

static bool put_sparse(int fd, const char *piece, size_t size, uint64_t at)
{
    for (size_t from = 0; from < size;) {
        size_t n = size - from < PAGE ? size - from : PAGE, to = from + n;

        if (!is_zero(piece + from, n)) {
            while (to < size && !is_zero(piece + to, n = size - to < PAGE ? size - to : PAGE))
                to += n;
            if (pwrite(fd, piece + from, to - from, (off_t)(at + from)) != (ssize_t)(to - from))
                return false;
        }
        from = to;
    }
    return true;
}

/* In a child: writes what comes from its stdin to a file, sparsely, up to the limit. */
static void write_file(const struct dying *d, const char *pattern)
{
    char *path = dying_expand(d, pattern, strlen(pattern)), *piece;
    uint64_t at = 0, limit = d->limit > INT64_MAX ? INT64_MAX : d->limit;
    int fd, uses_pid = 0;
    ssize_t n = 0;
    FILE *f;

    f = fopen("/proc/sys/kernel/core_uses_pid", "re");
    if (f && fscanf(f, "%d", &uses_pid) == 1 && uses_pid && !strstr(pattern, "%p")) { // NOLINT(cert-err34-c)
        char *longer = xasprintf("%s.%d", path, (int)d->own_pid);

        free(path);
        path = longer;
    }
    if (f)
        fclose(f);
    signal(SIGXFSZ, SIG_IGN);
    close_others(d->root, d->cwd); /* opening it may take for ever */
    fd = open_file(d, path);
    if (fd < 0)
        _exit(1);
    close_range(3, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0u, 0);
    piece = xmalloc(PIECE);
    while (n >= 0 && at < limit) { /* whole pages, however they come */
        size_t have = 0, want = limit - at < PIECE ? (size_t)(limit - at) : PIECE;

        while (have < want && ((n = read(0, piece + have, want - have)) > 0 || (n < 0 && errno == EINTR)))
            have += n > 0 ? (size_t)n : 0;
        if (!have || !put_sparse(fd, piece, have, at))
            break;
        at += have;
    }
    if (ftruncate(fd, (off_t)at) < 0)
        _exit(1);
    _exit(0);
}

/* The kernel would do it: but who isn't root and has root's rights for files may be about to give them up. */
static int check_file(const struct dying *d)
{
    if (d->doubt)
        return -ESRCH;
    return d->mode == 1 && d->fsuid == 0 && d->uid != 0 ? -EPERM : 0;
}

int heir_start(const struct dying *d, const char *pattern, struct heir *ret)
{
    bool file = *pattern != '|';
    int ends[2], rc;

    *ret = (struct heir){
        .fd = -1, .file = file, .stall_ms = file ? FILE_STALL_MS : PROGRAM_STALL_MS, .total_ms = TOTAL_MS};
    if (!*pattern || *pattern == '@' || strlen(pattern) >= PATTERN_MAX)
        return 0;
    if (file && d->limit < PAGE)
        return 0; /* min_coredump of the kernel: too little for anything */
    if (file && (rc = check_file(d)) < 0)
        return rc;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    ret->pid = fork();
    if (ret->pid == 0) {
        dup2(ends[0], 0);
        signal(SIGPIPE, SIG_DFL);
        set_core_limit();
        if (file)
            write_file(d, pattern);
        else
            exec_handler(d, pattern);
        _exit(127);
    }
    close(ends[0]);
    if (ret->pid < 0) {
        rc = -errno;
        close(ends[1]);
        ret->pid = 0;
        return rc;
    }
    ret->fd = ends[1];
    return 0;
}

static void set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0)
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* Until one of them isn't what holds it up any more; from: -1 if there is enough to write. False: the time is over. */
static bool await_progress(const struct heir *h, int from, uint64_t since)
{
    uint64_t until = since + h->stall_ms * MS, now = now_ns();
    struct pollfd pfd[] = {{.fd = h->fd, .events = POLLOUT}, {.fd = from, .events = POLLIN}};

    until = until < h->until ? until : h->until;
    if (now >= until)
        return false;
    if (poll(pfd, 2, 0) > 0) { /* the other one is what it waits for */
        if (pfd[0].revents && pfd[1].revents)
            return true;
        if (pfd[0].revents && from < 0)
            return true;
        pfd[pfd[0].revents ? 0 : 1].fd = -1;
    }
    poll(pfd, 2, (int)((until - now) / MS) + 1);
    return true;
}

int heir_feed(struct heir *h, const void *head, size_t size, int from)
{
    uint64_t since = now_ns();
    ssize_t n;

    h->until = since + h->total_ms * MS;
    set_nonblocking(h->fd);
    set_nonblocking(from);
    for (const char *p = head;;) {
        n = size ? write(h->fd, p, size) : splice(from, NULL, h->fd, NULL, 1 << 20, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n > 0) {
            since = now_ns();
            if (size) {
                p += n;
                size -= (size_t)n;
            }
            if (since < h->until)
                continue;
        } else if (n == 0) {
            return 0;
        } else if (errno != EAGAIN && errno != EINTR) {
            return -errno;
        } else if (await_progress(h, size ? -1 : from, since)) {
            continue;
        }
        kill(h->pid, SIGKILL);
        return -ETIMEDOUT;
    }
}

/* Whether it is gone by then. */
static bool await_end(const struct heir *h, uint64_t until)
{
    for (;;) {
        pid_t pid = waitpid(h->pid, NULL, WNOHANG);

        if (pid == h->pid || (pid < 0 && errno != EINTR))
            return true;
        if (now_ns() >= until)
            return false;
        poll(NULL, 0, 10);
    }
}

void heir_end(struct heir *h)
{
    uint64_t until = h->file ? now_ns() + h->stall_ms * MS : h->until;

    if (h->fd >= 0)
        close(h->fd);
    h->fd = -1;
    if (h->pid > 0 && !await_end(h, until) && h->file) {
        kill(h->pid, SIGKILL);
        await_end(h, now_ns() + KILLED_MS * MS); /* a file system that doesn't answer may hold it longer */
    }
    h->pid = 0;
}
