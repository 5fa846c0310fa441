/* SPDX-License-Identifier: Apache-2.0 */
#include "model/procinfo.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/nsfs.h>
#include <linux/types.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "wire/segment.h"

/* <linux/pidfd.h> of Linux 6.15; older headers lack it. */
struct pidfd_info_v1 {
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
#define PIDFD_GET_INFO_V1 _IOWR(0xFF, 11, struct pidfd_info_v1)
#define PIDFD_INFO_EXIT_BIT (1u << 3)

/* Reads a small file of /proc that the kernel writes in one piece, as far as the buffer goes: bytes read (terminated), or
 * -errno. */
static ssize_t read_file(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = read(fd, buf, size - 1);
    close(fd);
    n = n < 0 ? 0 : n;
    buf[n] = 0;
    return n;
}

int pi_stat(pid_t pid, struct pi_stat *ret)
{
    static long page_kib;
    static const int wanted[] = {4, 14, 15, 20, 22, 24, 52}; /* ascending; the others are only passed over */
    char path[40], buf[1024], *p;
    uint64_t field[53] = {0};
    ssize_t n;
    int at = 3;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    n = read_file(path, buf, sizeof(buf));
    if (n < 0)
        return n == -ENOENT ? -ESRCH : (int)n;
    p = strrchr(buf, ')'); /* the name before it may hold anything */
    if (!p || !p[1] || !p[2])
        return -ESRCH;
    if (!page_kib)
        page_kib = sysconf(_SC_PAGESIZE) / 1024;
    *ret = (struct pi_stat){.state = p[2]};
    if (ret->state == 'X' || ret->state == 'x') /* reaped while we were reading: its parent is shown as 0 */
        return -ESRCH;
    p += 3;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted) && p; i++) {
        for (; p && at < wanted[i]; at++)
            p = strchr(p + (at > 3), ' ');
        if (p)
            field[wanted[i]] = strtoull(p, NULL, 10);
    }
    ret->ppid = (pid_t)field[4];
    ret->cpu_ticks = field[14] + field[15];
    ret->threads = (int64_t)field[20];
    ret->start_ticks = field[22];
    ret->rss_kib = (int64_t)field[24] * page_kib;
    ret->exit_status = (int)field[52];
    return 0;
}

/* In a pid namespace of its own 2 is anybody's number. */
static bool is_kthreadd(pid_t pid)
{
    struct pi_stat st;
    char *name;
    bool is;

    if (pid != 2 || pi_stat(pid, &st) || st.ppid != 0)
        return false;
    name = pi_name(pid);
    is = strcmp(name, "kthreadd") == 0;
    free(name);
    return is;
}

bool pi_is_of_host(pid_t pid)
{
    struct pi_stat st, above;

    if (pid == 1)
        return true;
    return pi_stat(pid, &st) == 0 && st.ppid > 1 &&
           (is_kthreadd(st.ppid) || (pi_stat(st.ppid, &above) == 0 && is_kthreadd(above.ppid)));
}

/* proc_tid_children(5) */
static void children_of(pid_t pid, pid_t tid, void (*fn)(void *ctx, pid_t child), void *ctx)
{
    char path[64], *line = NULL, *p, *end;
    size_t size = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, tid);
    f = fopen(path, "re");
    if (f && getline(&line, &size, f) > 0)
        for (p = line; strtol(p, &end, 10) > 0 && end != p; p = end)
            fn(ctx, (pid_t)strtol(p, NULL, 10));
    free(line);
    if (f)
        fclose(f);
}

void pi_each_child(pid_t pid, pid_t tid, void (*fn)(void *ctx, pid_t child), void *ctx)
{
    char path[40];
    struct dirent *d;
    DIR *dir;

    if (tid) {
        children_of(pid, tid, fn, ctx);
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    dir = opendir(path);
    while (dir && (d = readdir(dir)))
        if (isdigit((unsigned char)d->d_name[0]))
            children_of(pid, (pid_t)strtol(d->d_name, NULL, 10), fn, ctx);
    if (dir)
        closedir(dir);
}

char *pi_name(pid_t pid)
{
    char path[40], buf[64];

    snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    if (read_file(path, buf, sizeof(buf)) <= 0)
        return xstrdup("");
    return xstrndup(buf, strcspn(buf, "\n"));
}

/* The last 64 hex digits in a row that stand between others: /docker/ID, docker-ID.scope, .../pod.../ID. */
static void find_container(const char *text, char id[65])
{
    id[0] = '\0';
    for (size_t n; *text; text += n ? n : 1) {
        n = strspn(text, "0123456789abcdef");
        if (n == 64) {
            memcpy(id, text, 64);
            id[64] = '\0';
        }
    }
}

char *pi_cgroup(pid_t pid, char container[65])
{
    char path[40], buf[8192], *line, *end;

    container[0] = '\0';
    snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
    if (read_file(path, buf, sizeof(buf)) <= 0)
        return xstrdup("");
    find_container(buf, container);
    for (line = buf; line; line = end) {
        end = strchr(line, '\n');
        if (end)
            *end++ = 0;
        if (!strncmp(line, "0::", 3))
            return xstrdup(line);
    }
    return xstrdup("");
}

#define ENVIRON_MAX ((size_t)2 << 20)

char **pi_environ(pid_t pid)
{
    size_t cap = 16384, len = 0, count = 0, i = 0;
    char path[40], *text, **list, *to;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/environ", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    text = xmalloc(cap);
    while ((n = read(fd, text + len, cap - len - 1)) > 0) {
        len += (size_t)n;
        if (cap - len > 1 || cap >= ENVIRON_MAX) /* less than was asked for: the end */
            break;
        cap *= 2;
        text = xrealloc(text, cap, 1);
    }
    close(fd);
    text[len] = 0;
    for (size_t k = 0; k < len; k += strlen(text + k) + 1)
        count++;
    list = xmalloc((count + 1) * sizeof(*list) + len + 1);
    to = (char *)(list + count + 1);
    memcpy(to, text, len + 1);
    for (size_t k = 0; k < len; k += strlen(to + k) + 1)
        list[i++] = to + k;
    list[i] = NULL;
    free(text);
    return list;
}

bool pi_cpu_ns(pid_t pid, uint64_t *ret)
{
    struct timespec ts;

    /* the clock of another process, see clock_getcpuclockid(3) */
    if (clock_gettime((clockid_t)((~(unsigned)pid << 3) | 2), &ts))
        return false;
    *ret = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
    return true;
}

int pi_each_fd(pid_t pid, void (*fn)(void *ctx, int fd), void *ctx)
{
    char path[40];
    struct dirent *d;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    dir = opendir(path);
    if (!dir)
        return -errno;
    while ((d = readdir(dir)))
        if (isdigit((unsigned char)d->d_name[0]))
            fn(ctx, (int)strtol(d->d_name, NULL, 10));
    closedir(dir);
    return 0;
}

static void count_one(void *ctx, int fd)
{
    (void)fd;
    ++*(int64_t *)ctx;
}

int64_t pi_fd_count(pid_t pid)
{
    char path[40];
    struct stat st;
    int64_t n = 0;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    if (!stat(path, &st) && st.st_size > 0) /* Linux 6.2 and newer: the size is the number */
        return st.st_size;
    return pi_each_fd(pid, count_one, &n) ? -1 : n;
}

static int read_link(const char *path, char *buf, size_t size)
{
    ssize_t n = readlink(path, buf, size - 1);

    if (n < 0)
        return -errno;
    buf[n] = 0;
    return (int)n;
}

int pi_fd_link(pid_t pid, int fd, char *buf, size_t size, struct stat *st)
{
    char path[48];
    int n;

    snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
    if (st)
        *st = (struct stat){0};
    n = read_link(path, buf, size);
    /* Behind these is no file system that could keep us waiting; whatever else it is, ask.h. */
    if (st && n > 0 && (!strncmp(buf, "socket:[", 8) || !strncmp(buf, "pipe:[", 6) || !strncmp(buf, "anon_inode:", 11)) &&
        stat(path, st))
        *st = (struct stat){0};
    return n;
}

/* Addresses are written as words of 32 bits in this machine's order. */
static bool parse_address(const char *hex, const char *port, sa_family_t family, struct sockaddr_storage *ret)
{
    struct sockaddr_in *in = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
    size_t words = family == AF_INET ? 1 : 4;
    uint32_t word[4];

    if (strlen(hex) != 8 * words)
        return false;
    for (size_t i = 0; i < words; i++) {
        char text[9] = {0};

        memcpy(text, hex + 8 * i, 8);
        word[i] = (uint32_t)strtoul(text, NULL, 16);
    }
    *ret = (struct sockaddr_storage){.ss_family = family};
    if (family == AF_INET) {
        memcpy(&in->sin_addr, word, sizeof(in->sin_addr));
        in->sin_port = htons((uint16_t)strtoul(port, NULL, 16));
    } else {
        memcpy(&in6->sin6_addr, word, sizeof(in6->sin6_addr));
        in6->sin6_port = htons((uint16_t)strtoul(port, NULL, 16));
    }
    return true;
}

int pi_tcp_peer(pid_t pid, int fd, sa_family_t family, struct sockaddr_storage *ret)
{
    char path[40], text[64], address[33], port[5], at[21], *line = NULL;
    uint64_t ino;
    size_t size = 0;
    bool found = false;
    FILE *f;

    if (pi_fd_link(pid, fd, text, sizeof(text), NULL) < 0 || strncmp(text, "socket:[", strlen("socket:[")) != 0)
        return -ENOENT;
    ino = strtoull(text + strlen("socket:["), NULL, 10);
    snprintf(path, sizeof(path), "/proc/%d/net/%s", pid, family == AF_INET ? "tcp" : "tcp6");
    f = fopen(path, "re");
    if (!f)
        return -errno;
    while (!found && getline(&line, &size, f) > 0)
        found = sscanf(line, " %*[0-9]: %*[0-9A-F]:%*[0-9A-F] %32[0-9A-F]:%4[0-9A-F] %*s %*s %*s %*s %*s %*s %20[0-9]",
                       address, port, at) == 3 && strtoull(at, NULL, 10) == ino && parse_address(address, port, family, ret);
    free(line);
    fclose(f);
    return found ? 0 : -ENOENT;
}

int pi_cwd(pid_t pid, char *buf, size_t size)
{
    char path[40];

    snprintf(path, sizeof(path), "/proc/%d/cwd", pid);
    return read_link(path, buf, size);
}

/* Names by number. getpwuid(3) loads name service modules, which a static program has not. */
struct name_cache {
    uint32_t id;
    char *name;
    struct name_cache *next;
};

static char *lookup_user(uint32_t id)
{
    FILE *f = fopen("/etc/passwd", "re");
    char *name = NULL;
    struct passwd *pw;

    if (!f)
        return NULL;
    while (!name && (pw = fgetpwent(f)))
        if (pw->pw_uid == id)
            name = xstrdup(pw->pw_name);
    fclose(f);
    return name;
}

static char *lookup_group(uint32_t id)
{
    FILE *f = fopen("/etc/group", "re");
    char *name = NULL;
    struct group *gr;

    if (!f)
        return NULL;
    while (!name && (gr = fgetgrent(f)))
        if (gr->gr_gid == id)
            name = xstrdup(gr->gr_name);
    fclose(f);
    return name;
}

static const char *cached_name(struct name_cache **cache, uint32_t id, char *(*lookup)(uint32_t))
{
    struct name_cache *n;
    unsigned count = 0;

    for (n = *cache; n; n = n->next, count++)
        if (n->id == id)
            return n->name;
    if (count >= 4096) /* ids are what processes claim */
        return NULL;
    n = xmalloc(sizeof(*n));
    *n = (struct name_cache){id, lookup(id), *cache};
    *cache = n;
    return n->name;
}

const char *pi_user(uint32_t uid)
{
    static struct name_cache *cache;

    return cached_name(&cache, uid, lookup_user);
}

const char *pi_group(uint32_t gid)
{
    static struct name_cache *cache;

    return cached_name(&cache, gid, lookup_group);
}

const char *pi_host(void)
{
    static char name[256];

    if (!name[0] && gethostname(name, sizeof(name) - 1))
        strcpy(name, "unknown");
    return name;
}

/* Any card with an own, permanent address. */
static bool card_id(char id[33])
{
    DIR *dir = opendir("/sys/class/net");
    char path[300], mac[64];
    struct dirent *d;
    bool found = false;

    if (!dir)
        return false;
    while (!found && (d = readdir(dir))) {
        unsigned n = 0;

        snprintf(path, sizeof(path), "/sys/class/net/%s/device", d->d_name);
        if (d->d_name[0] == '.' || access(path, F_OK))
            continue;
        snprintf(path, sizeof(path), "/sys/class/net/%s/address", d->d_name);
        if (read_file(path, mac, sizeof(mac)) < 17)
            continue;
        memset(id, '0', 32);
        for (const char *p = mac; *p && n < 12; p++)
            if (isxdigit((unsigned char)*p))
                id[20 + n++] = (char)tolower((unsigned char)*p);
        found = n == 12;
    }
    closedir(dir);
    return found;
}

const char *pi_machine_id(void)
{
    static char id[33];
    char buf[64];

    if (id[0])
        return id;
    if (read_file("/etc/machine-id", buf, sizeof(buf)) >= 32 && strspn(buf, "0123456789abcdef") == 32)
        memcpy(id, buf, 32);
    else if (!card_id(id))
        memset(id, '0', 32);
    return id;
}

int pi_fd_flags(pid_t pid, int fd)
{
    char path[48], buf[512], *p;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
    n = read_file(path, buf, sizeof(buf));
    if (n < 0)
        return (int)n;
    p = strstr(buf, "flags:");
    return p ? (int)strtol(p + strlen("flags:"), NULL, 8) : -EINVAL;
}

int pi_fd_copy(int pidfd, int fd)
{
    int copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);

    return copy < 0 ? -errno : copy;
}

uint32_t pi_inner_pid(pid_t pid)
{
    char path[40], buf[2048], *p, *end;
    uint32_t inner = 0;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    if (read_file(path, buf, sizeof(buf)) <= 0 || !(p = strstr(buf, "\nNSpid:")))
        return 0;
    for (p += strlen("\nNSpid:"); *p == '\t'; p = end) /* from ours to its own */
        inner = (uint32_t)strtoul(p, &end, 10);
    return inner;
}

/* The first two numbers of a line of a status file, real and effective, if it is that one. */
static bool two_ids(const char *line, const char *name, uint32_t *real, uint32_t *effective)
{
    size_t len = strlen(name);
    char *end;

    if (strncmp(line, name, len) != 0)
        return false;
    *real = (uint32_t)strtoul(line + len, &end, 10);
    *effective = (uint32_t)strtoul(end, NULL, 10);
    return true;
}

int pi_ids(pid_t pid, struct pi_ids *ret)
{
    size_t size = 512;
    char path[40], *line;
    bool any = false;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    f = fopen(path, "re");
    if (!f)
        return -errno;
    *ret = (struct pi_ids){.euid = UINT32_MAX};
    line = xmalloc(size);
    while (getline(&line, &size, f) > 0) { /* lines of any length: groups may be many */
        if (two_ids(line, "Uid:", &ret->uid, &ret->euid))
            any = true;
        else if (!two_ids(line, "Gid:", &ret->gid, &ret->egid) && !strncmp(line, "NSpid:", 6))
            ret->inner_pid = (uint32_t)strtoul(strrchr(line, '\t') ? strrchr(line, '\t') : "", NULL, 10);
        else if (!strncmp(line, "CapPrm:", 7))
            ret->permitted = strtoull(line + 7, NULL, 16);
        else if (!strncmp(line, "CapEff:", 7))
            ret->effective = strtoull(line + 7, NULL, 16);
    }
    free(line);
    fclose(f);
    return any ? 0 : -ESRCH;
}

uint32_t pi_euid(pid_t pid)
{
    struct pi_ids ids = {.euid = UINT32_MAX};

    pi_ids(pid, &ids);
    return ids.euid;
}

bool pi_in_our_userns(pid_t pid)
{
    struct stat ours, its;
    char path[40];

    snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
    return !stat("/proc/self/ns/user", &ours) && !stat(path, &its) && ours.st_dev == its.st_dev && ours.st_ino == its.st_ino;
}

bool pi_in_own_userns(pid_t pid)
{
    char path[40];
    bool own = false;
    int ns;

    snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
    ns = open(path, O_RDONLY | O_CLOEXEC);
    while (ns >= 0 && !own) {
        uid_t owner;
        int parent;

        if (ioctl(ns, NS_GET_OWNER_UID, &owner) < 0)
            break;
        own = owner == geteuid();
        parent = ioctl(ns, NS_GET_PARENT); /* not beyond our own */
        close(ns);
        ns = parent;
    }
    if (ns >= 0)
        close(ns);
    return own;
}

char *pi_exe(pid_t pid)
{
    char path[40], buf[4096];

    snprintf(path, sizeof(path), "/proc/%d/exe", pid);
    return xstrdup(read_link(path, buf, sizeof(buf)) < 0 ? "" : buf);
}

static bool has_socket(pid_t pid, int fd, uint64_t ino)
{
    char text[64];
    char want[64];

    snprintf(want, sizeof(want), "socket:[%llu]", (unsigned long long)ino);
    return pi_fd_link(pid, fd, text, sizeof(text), NULL) > 0 && !strcmp(text, want);
}

/* proc_pid_maps(5). Whether it is a memfd's inode: nothing else has that name and a number between blanks. */
bool pi_maps(pid_t pid, uint64_t ino)
{
    return pi_maps_within(pid, ino, ULONG_MAX);
}

bool pi_maps_within(pid_t pid, uint64_t ino, unsigned long lines)
{
    char path[40], want[40], *line = NULL;
    bool yes = false;
    size_t size = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    snprintf(want, sizeof(want), " %llu ", (unsigned long long)ino);
    f = fopen(path, "re");
    while (f && !yes && lines-- && getline(&line, &size, f) > 0)
        yes = strstr(line, "/memfd:" SEG_NAME) && strstr(line, want);
    free(line);
    if (f)
        fclose(f);
    return yes;
}

pid_t pi_find_socket(pid_t first, int fd, uint64_t ino, uint64_t mapped)
{
    pid_t found = 0;
    struct dirent *d;
    DIR *dir;

    if (has_socket(first, fd, ino))
        return first;
    dir = opendir("/proc");
    while (dir && !found && (d = readdir(dir))) {
        pid_t pid = isdigit((unsigned char)d->d_name[0]) ? (pid_t)strtol(d->d_name, NULL, 10) : 0;

        if (pid > 0 && has_socket(pid, fd, ino) && pi_maps(pid, mapped))
            found = pid;
    }
    if (dir)
        closedir(dir);
    return found;
}

bool pi_any_maps(uint64_t ino)
{
    struct dirent *d;
    DIR *dir = opendir("/proc");
    bool any = false;

    while (dir && !any && (d = readdir(dir))) {
        pid_t pid = isdigit((unsigned char)d->d_name[0]) ? (pid_t)strtol(d->d_name, NULL, 10) : 0;

        any = pid > 0 && pid != getpid() && pi_maps(pid, ino);
    }
    if (dir)
        closedir(dir);
    return any;
}

int pi_get_socket(pid_t pid, int fd, uint64_t ino)
{
    int pidfd = pi_pidfd(pid), got, type;
    socklen_t len = sizeof(type);
    struct stat st;

    if (pidfd < 0)
        return pidfd;
    got = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    if (got < 0)
        got = -errno;
    close(pidfd);
    /* that it is a socket first: the file system of something else could keep fstat(2) waiting */
    if (got >= 0 && (getsockopt(got, SOL_SOCKET, SO_TYPE, &type, &len) || fstat(got, &st) || st.st_ino != ino)) {
        close(got);
        return -ESTALE;
    }
    return got;
}

int pi_pidfd(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    return fd < 0 ? -errno : fd;
}

bool pi_exit_status(int pidfd, pid_t pid, int *ret)
{
    struct pidfd_info_v1 info = {.mask = PIDFD_INFO_EXIT_BIT};
    struct pi_stat st;

    if (pidfd >= 0 && !ioctl(pidfd, PIDFD_GET_INFO_V1, &info) && info.mask & PIDFD_INFO_EXIT_BIT) {
        *ret = info.exit_code;
        return true;
    }
    /* 0 may also mean that we are not allowed to know */
    if (pid > 0 && !pi_stat(pid, &st) && st.state == 'Z' && st.exit_status) {
        *ret = st.exit_status;
        return true;
    }
    return false;
}
