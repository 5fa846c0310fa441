/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/dying.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"

#define PAGE 4096u
#define PIECE (256u << 10)
#define ARGUMENTS 64u
#define PATTERN_MAX 128u /* CORENAME_MAX_SIZE of Linux */
#define PIDFD_AT 3       /* where the kernel puts it for %F */

static FILE *open_proc(pid_t pid, const char *name)
{
    char path[96];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return fopen(path, "re");
}

static char *read_link(pid_t pid, const char *name)
{
    char path[64], to[PATH_MAX + 1];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    n = readlink(path, to, sizeof(to) - 1);
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

int dying_read(struct dying *d)
{
    char name[64], *line = NULL;
    size_t cap = 0;
    FILE *f = open_proc(d->pid, "status");

    d->exe = read_link(d->pid, "exe");
    d->own_pid = d->pid;
    d->own_tid = d->tid;
    if (!f)
        return -errno;
    while (getline(&line, &cap, f) > 0) {
        if (sscanf(line, "Uid: %*u %*u %*u %u", &d->fsuid) == 1 || // NOLINT(cert-err34-c)
                                                                   // NOLINTNEXTLINE(cert-err34-c)
            sscanf(line, "Gid: %*u %*u %*u %u", &d->fsgid) == 1 || sscanf(line, "Umask: %o", &d->mask) == 1 ||
            sscanf(line, "CapEff: %" SCNx64, &d->capabilities) == 1) // NOLINT(cert-err34-c)
            continue;
        if (strncmp(line, "NSpid:", 6) == 0)
            d->own_pid = last_number(line);
        else if (strncmp(line, "Groups:", 7) == 0)
            read_groups(d, line + 7);
    }
    fclose(f);
    snprintf(name, sizeof(name), "task/%d/status", (int)d->tid);
    f = open_proc(d->pid, name);
    while (f && getline(&line, &cap, f) > 0)
        if (strncmp(line, "NSpid:", 6) == 0)
            d->own_tid = last_number(line);
    if (f)
        fclose(f);
    free(line);
    snprintf(name, sizeof(name), "task/%d/comm", (int)d->tid);
    f = open_proc(d->pid, name);
    if (f) {
        size_t n = fread(d->comm, 1, sizeof(d->comm) - 1, f);

        if (n && d->comm[n - 1] == '\n')
            n--;
        d->comm[n] = '\0';
        fclose(f);
    }
    return 0;
}

void dying_clear(struct dying *d)
{
    free(d->exe);
    free(d->groups);
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
    char path[64], name[HOST_NAME_MAX + 1] = "";
    int ours = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC), its;

    snprintf(path, sizeof(path), "/proc/%d/ns/uts", (int)d->pid);
    its = open(path, O_RDONLY | O_CLOEXEC);
    if (ours >= 0 && its >= 0 && setns(its, CLONE_NEWUTS) == 0) {
        gethostname(name, sizeof(name) - 1);
        if (setns(ours, CLONE_NEWUTS) < 0)
            *name = '\0';
    } else {
        gethostname(name, sizeof(name) - 1);
    }
    if (ours >= 0)
        close(ours);
    if (its >= 0)
        close(its);
    add_name(b, name);
}

static void add_exe(struct buf *b, const struct dying *d, bool base)
{
    const char *slash = strrchr(d->exe, '/');
    char *unknown = NULL;

    if (!*d->exe)
        unknown = xasprintf("%s (path unknown)", d->comm);
    add_name(b, unknown ? unknown : base && slash ? slash + 1 : d->exe);
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
        int fd = (int)syscall(SYS_pidfd_open, d->pid, 0);

        if (fd >= 0 && fd != PIDFD_AT) {
            dup2(fd, PIDFD_AT);
            close(fd);
        } else if (fd == PIDFD_AT) {
            fcntl(fd, F_SETFD, 0);
        }
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

/* Takes the place of the process: its root, its working directory, its rights. */
static int become(const struct dying *d)
{
    char path[64];
    int root, cwd, rc;

    snprintf(path, sizeof(path), "/proc/%d/root", (int)d->pid);
    root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/%d/cwd", (int)d->pid);
    cwd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || cwd < 0 || fchdir(root) < 0 || chroot(".") < 0 || fchdir(cwd) < 0)
        return -errno;
    close(root);
    close(cwd);
    if (setgroups(d->group_count, d->groups) < 0 || setresgid(d->fsgid, d->fsgid, d->fsgid) < 0)
        return -errno;
    if (d->fsuid == 0) {
        rc = set_capabilities(d->capabilities);
        return rc;
    }
    return setresuid(d->fsuid, d->fsuid, d->fsuid) < 0 ? -errno : 0;
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

int heir_start(const struct dying *d, const char *pattern, struct heir *ret)
{
    int ends[2];

    *ret = (struct heir){.fd = -1};
    if (!*pattern || *pattern == '@' || strlen(pattern) >= PATTERN_MAX)
        return 0;
    if (*pattern != '|' && d->limit < PAGE)
        return 0; /* min_coredump of the kernel: too little for anything */
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    ret->pid = fork();
    if (ret->pid == 0) {
        dup2(ends[0], 0);
        signal(SIGPIPE, SIG_DFL);
        set_core_limit();
        if (*pattern == '|')
            exec_handler(d, pattern);
        else
            write_file(d, pattern);
        _exit(127);
    }
    close(ends[0]);
    if (ret->pid < 0) {
        close(ends[1]);
        ret->pid = 0;
        return -errno;
    }
    ret->fd = ends[1];
    return 0;
}

int heir_feed(struct heir *h, const void *head, size_t size, int from)
{
    int rc = write_all(h->fd, head, size);
    ssize_t n;

    while (rc == 0) {
        n = splice(from, NULL, h->fd, NULL, 1 << 20, SPLICE_F_MOVE);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            rc = -errno;
    }
    return rc;
}

void heir_end(struct heir *h)
{
    if (h->fd >= 0)
        close(h->fd);
    h->fd = -1;
    while (h->pid > 0 && waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    h->pid = 0;
}
