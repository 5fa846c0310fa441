/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/facts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "inject/process.h"

#define TEXT_MAX (64u << 10)
#define ENVIRONMENT_MAX (1u << 20)
#define PASSWD_MAX (4u << 20)
#define TASKS_MAX 65536u

static void slurp(int fd, struct buf *to, size_t max)
{
    while (fd >= 0 && to->len < max) {
        size_t room = max - to->len < 16384 ? max - to->len : 16384;
        ssize_t n = read(fd, buf_room(to, room), room);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        to->len += (size_t)n;
    }
    if (fd >= 0)
        close(fd);
}

static void slurp_proc(pid_t pid, const char *name, struct buf *to, size_t max)
{
    char path[96];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    slurp(open(path, O_RDONLY | O_CLOEXEC), to, max);
}

int facts_open_below(int root, const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    struct stat st;
    int fd;

    if (root < 0)
        return -EBADF;
    fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return -EINVAL;
    }
    return fd;
}

char *facts_user(const char *passwd, size_t size, unsigned uid)
{
    const char *end = passwd + size;

    for (const char *line = passwd; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const char *field[3];
        const char *p = line;
        unsigned n = 0;

        stop = stop ? stop : end;
        for (; n < 3 && p && p < stop; n++) {
            field[n] = p;
            p = memchr(p, ':', (size_t)(stop - p));
            p = p ? p + 1 : NULL;
        }
        if (n == 3 && p) {
            unsigned long v = 0;
            const char *q = field[2];

            while (q < stop && *q >= '0' && *q <= '9' && v <= UINT32_MAX)
                v = 10 * v + (unsigned long)(*q++ - '0');
            if (q > field[2] && *q == ':' && v == uid && field[1] - 1 > field[0])
                return xstrndup(field[0],
                                (size_t)(field[1] - 1 - field[0]) < 64 ? (size_t)(field[1] - 1 - field[0]) : 64);
        }
        line = stop + 1;
    }
    return xstrdup("");
}

static void take_status(struct facts *f, pid_t pid)
{
    char path[64], line[512];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    f->own_pid = pid;
    while (file && fgets(line, sizeof(line), file)) {
        // NOLINTBEGIN(cert-err34-c): the kernel wrote it
        if (sscanf(line, "Uid: %u %u %u %u", &f->uid[0], &f->uid[1], &f->uid[2], &f->uid[3]) == 4 ||
            sscanf(line, "Gid: %u %u %u %u", &f->gid[0], &f->gid[1], &f->gid[2], &f->gid[3]) == 4 ||
            sscanf(line, "PPid: %d", &f->parent) == 1)
            continue;
        // NOLINTEND(cert-err34-c)
        if (strncmp(line, "NSpid:", 6) == 0)
            f->own_pid = (pid_t)strtol(strrchr(line, '\t') ? strrchr(line, '\t') : "0", NULL, 10);
    }
    if (file)
        fclose(file);
}

static void take_tasks(struct facts *f, pid_t pid)
{
    char path[64];
    struct dirent *e;
    size_t room = 0;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    d = opendir(path);
    while (d && f->task_count < TASKS_MAX && (e = readdir(d))) {
        struct fact_task t = {.tid = (pid_t)strtol(e->d_name, NULL, 10)};
        struct buf text = BUF_INIT;
        char *from, *to;

        if (t.tid <= 0)
            continue;
        snprintf(path, sizeof(path), "task/%d/stat", (int)t.tid);
        slurp_proc(pid, path, &text, 512);
        from = strchr(buf_cstr(&text), '(');
        to = from ? strrchr(from, ')') : NULL;
        if (to) {
            snprintf(t.comm, sizeof(t.comm), "%.*s", (int)(to - from - 1), from + 1);
            t.state = to[1] ? to[2] : 0;
        }
        buf_free(&text);
        if (f->task_count == room) {
            room = room ? 2 * room : 64;
            f->tasks = xrealloc(f->tasks, room, sizeof(t));
        }
        f->tasks[f->task_count++] = t;
    }
    if (d)
        closedir(d);
}

const struct fact_task *facts_task(const struct facts *f, pid_t tid)
{
    for (size_t i = 0; i < f->task_count; i++)
        if (f->tasks[i].tid == tid)
            return &f->tasks[i];
    return NULL;
}

static int by_number(const void *a, const void *b)
{
    const struct fact_descriptor *x = a, *y = b;

    return (x->fd > y->fd) - (x->fd < y->fd);
}

static void take_descriptors(struct facts *f, pid_t pid)
{
    char path[64];
    struct dirent *e;
    size_t room = 0;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    d = opendir(path);
    while (d && (e = readdir(d))) {
        if (*e->d_name < '0' || *e->d_name > '9' || f->descriptor_all++ >= FACTS_DESCRIPTORS)
            continue;
        if (f->descriptor_count == room) {
            room = room ? 2 * room : 64;
            f->descriptors = xrealloc(f->descriptors, room, sizeof(*f->descriptors));
        }
        snprintf(path, sizeof(path), "fd/%.20s", e->d_name);
        f->descriptors[f->descriptor_count++] =
            (struct fact_descriptor){(int)strtol(e->d_name, NULL, 10), process_link(pid, path)};
    }
    if (d)
        closedir(d);
    if (f->descriptor_count)
        qsort(f->descriptors, f->descriptor_count, sizeof(*f->descriptors), by_number);
}

void facts_take(struct facts *f, pid_t pid, int root, int with_environment)
{
    struct buf passwd = BUF_INIT, comm = BUF_INIT;

    *f = (struct facts){0};
    slurp_proc(pid, "comm", &comm, sizeof(f->name));
    buf_cstr(&comm)[strcspn(buf_cstr(&comm), "\n")] = '\0';
    snprintf(f->name, sizeof(f->name), "%s", comm.p);
    buf_free(&comm);
    f->exe = process_link(pid, "exe");
    f->cwd = process_link(pid, "cwd");
    f->root = process_link(pid, "root");
    slurp_proc(pid, "cmdline", &f->arguments, TEXT_MAX);
    if (with_environment)
        slurp_proc(pid, "environ", &f->environment, ENVIRONMENT_MAX);
    slurp_proc(pid, "limits", &f->limits, TEXT_MAX);
    take_status(f, pid);
    take_descriptors(f, pid);
    take_tasks(f, pid);
    uname(&f->system);
    slurp(facts_open_below(root, "/etc/passwd"), &passwd, PASSWD_MAX);
    f->user = facts_user(passwd.p ? passwd.p : "", passwd.len, f->uid[0]);
    buf_free(&passwd);
}

void facts_free(struct facts *f)
{
    for (size_t i = 0; i < f->descriptor_count; i++)
        free(f->descriptors[i].target);
    free(f->descriptors);
    free(f->tasks);
    free(f->exe);
    free(f->cwd);
    free(f->root);
    free(f->user);
    buf_free(&f->arguments);
    buf_free(&f->environment);
    buf_free(&f->limits);
    *f = (struct facts){0};
}
