/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program started for trial. The file is tried in a mount namespace of the child's own, where /etc is a tmpfs that
 * holds nothing but it and the loader's cache: nobody else ever sees it. What is set up is set up in the child, which
 * tells of failures by a pipe that exec closes.
 */
#include "host/internal.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define TRY_MS    60000 /* what takes as long hangs, on the busiest machine */
#define ERR_MAX   4096u
#define CACHE_MAX ((size_t)16 << 20)
#define NOBODY    "scope-nobody" /* a collector's name that nobody has: a probe that is told of it does nothing */

/* Programs that do nothing, and how to have them do it. */
static const struct idle {
    const char *argv[4];
} idle[] = {
    {{"/bin/true"}},          {{"/usr/bin/true"}},       {{"/bin/cat", "/dev/null"}}, {{"/usr/bin/cat", "/dev/null"}},
    {{"/bin/sh", "-c", ":"}}, {{"/bin/bash", "-c", ":"}}};

/* Libraries of glibc that print who they are when they are executed. */
static const char *const libcs[] = {"/lib/i386-linux-gnu/libc.so.6", "/usr/lib/i386-linux-gnu/libc.so.6",
                                    "/lib32/libc.so.6", "/usr/lib32/libc.so.6", "/lib/libc.so.6", "/usr/lib/libc.so.6"};

static int open_elf(const char *path, unsigned char class, void *head, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && pread(fd, head, size, 0) == (ssize_t)size &&
        memcmp(head, ELFMAG, SELFMAG) == 0 && ((const unsigned char *)head)[EI_CLASS] == class)
        return fd;
    close(fd);
    return -1;
}

/* Whether glibc's loader, of our word size, is this program's. */
static bool has_loader(const char *path)
{
    char name[256], *base;
    Elf64_Ehdr head;
    Elf64_Phdr p;
    bool found = false;
    int fd = open_elf(path, sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32, &head, sizeof(head));

    if (fd < 0)
        return false;
    for (unsigned i = 0; !found && i < head.e_phnum; i++) {
        ssize_t n;

        if (pread(fd, &p, sizeof(p), (off_t)(head.e_phoff + i * sizeof(p))) != (ssize_t)sizeof(p))
            break;
        if (p.p_type != PT_INTERP || p.p_filesz >= sizeof(name))
            continue;
        n = pread(fd, name, p.p_filesz, (off_t)p.p_offset);
        name[n > 0 ? n : 0] = '\0';
        base = strrchr(name, '/');
        found = base && strncmp(base, "/ld", 3) == 0 && strncmp(base, "/ld-musl", 8) != 0 && access(name, X_OK) == 0;
        break;
    }
    close(fd);
    return found && access(path, X_OK) == 0;
}

/* Executes what there is; returns if there is nothing. */
static void run_own(char **env)
{
    static const char *const places[] = {"/bin", "/usr/bin", "/usr/sbin", "/usr/local/bin"};
    char *tracing[8] = {NULL};
    size_t n = 0;

    for (size_t i = 0; i < sizeof(idle) / sizeof(*idle); i++)
        if (has_loader(idle[i].argv[0]))
            execve(idle[i].argv[0], (char *const *)idle[i].argv, env);
    /* Any other: its loader lists its libraries then, those that are preloaded among them, and doesn't run it. */
    for (; env[n] && n < 6; n++)
        tracing[n] = env[n];
    tracing[n] = (char *)"LD_TRACE_LOADED_OBJECTS=1";
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        DIR *d = opendir(places[i]);
        struct dirent *e;

        while (d && (e = readdir(d))) {
            char *path = xasprintf("%s/%s", places[i], e->d_name), *argv[] = {path, NULL};

            if (has_loader(path))
                execve(path, argv, tracing);
            free(path);
        }
        if (d)
            closedir(d);
    }
}

static void run_other(char **env)
{
    for (size_t i = 0; i < sizeof(libcs) / sizeof(*libcs); i++) {
        char *argv[] = {(char *)preload_other_loader, (char *)libcs[i], NULL};
        Elf32_Ehdr head;
        int fd = open_elf(libcs[i], ELFCLASS32, &head, sizeof(head));

        if (fd < 0)
            continue;
        close(fd);
        execve(preload_other_loader, argv, env);
    }
}

static int put(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), rc;

    if (fd < 0)
        return -errno;
    rc = fchmod(fd, 0644) < 0 ? -errno : write_all(fd, bytes, len);
    close(fd);
    return rc;
}

/* /etc of this process's own. */
static int put_file(const char *bytes, size_t len)
{
    struct buf cache = BUF_INIT;
    int fd = open("/etc/ld.so.cache", O_RDONLY | O_CLOEXEC), rc = 0;
    ssize_t n = 0;

    while (fd >= 0 && cache.len < CACHE_MAX && (n = read(fd, buf_room(&cache, 65536), 65536)) > 0)
        cache.len += (size_t)n;
    if (fd >= 0)
        close(fd);
    if (n < 0 || mount("tmpfs", "/etc", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") < 0)
        rc = -errno;
    if (rc == 0 && fd >= 0)
        rc = put("/etc/ld.so.cache", cache.p, cache.len);
    if (rc == 0 && len)
        rc = put("/etc/" PRELOAD_FILE, bytes, len);
    buf_free(&cache);
    return rc;
}

static int set_up(const struct preload_try *t)
{
    if (t->file && (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0))
        return errno == ENOSYS ? -EPERM : -errno;
    if (*t->root && (chroot(t->root) < 0 || chdir("/") < 0))
        return -errno;
    return t->file ? put_file(t->file, t->file_len) : 0;
}

static _Noreturn void child(const struct preload_try *t, int err_fd, int tell_fd)
{
    char *preload = t->env ? xasprintf("LD_PRELOAD=%s", t->env) : NULL;
    char *env[] = {preload, preload ? (char *)"SCOPE_SOCKET=" NOBODY : NULL, NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), rc;
    sigset_t none;

    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid(); /* what interrupts us from the terminal isn't the program's failure */
    rc = null < 0 ? -errno : set_up(t);
    if (rc == 0) {
        dup2(null, 0);
        dup2(null, 1);
        dup2(err_fd, 2);
        if (t->other)
            run_other(env);
        else
            run_own(env);
        rc = -ENOENT;
    }
    if (write(tell_fd, &rc, sizeof(rc)) < 0)
        _exit(2);
    _exit(1);
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* Reads until its writers have ended: false if they haven't in time. What is more than a little is dropped. */
static bool read_all(int fd, struct buf *b, uint64_t deadline)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t now = now_ms();
        char chunk[1024];
        ssize_t n;

        if (now >= deadline)
            return false;
        if (poll(&p, 1, (int)(deadline - now)) <= 0)
            continue;
        n = read(fd, chunk, sizeof(chunk));
        if (n == 0)
            return true;
        if (n > 0 && b->len < ERR_MAX)
            buf_add(b, chunk, (size_t)n);
    }
}

int preload_try(const struct preload_try *t, int *ret_status, struct buf *ret_err)
{
    uint64_t deadline = now_ms() + TRY_MS;
    struct buf told = BUF_INIT;
    int err[2], tell[2], rc = 0;
    pid_t pid;

    buf_reset(ret_err);
    if (pipe2(err, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(tell, O_CLOEXEC) < 0) {
        rc = -errno;
        close(err[0]);
        close(err[1]);
        return rc;
    }
    pid = fork();
    if (pid == 0)
        child(t, err[1], tell[1]);
    if (pid < 0)
        rc = -errno;
    close(err[1]);
    close(tell[1]);
    if (rc == 0 && (!read_all(tell[0], &told, deadline) || !read_all(err[0], ret_err, deadline))) {
        kill(pid, SIGKILL);
        rc = -ETIMEDOUT;
    }
    while (pid > 0 && waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    if (rc == 0 && told.len >= sizeof(int))
        memcpy(&rc, told.p, sizeof(int));
    close(err[0]);
    close(tell[0]);
    buf_free(&told);
    return rc;
}
