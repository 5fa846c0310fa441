/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/admission.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "collector/segment.h"
#include "model/procinfo.h"
#include "wire/rules.h"

#define ARGS_MAX ((size_t)16 << 10) /* of a command line; what stands behind that names no program */
#define COMM_MAX 15u                /* bytes of a short name */
#define SCRIPT_WORDS 12u            /* interpreters of interpreters, four deep, each with an argument: execve(2) */

struct admission {
    char *path;
    struct rules_head *rules; /* NULL: none yet */
    dev_t dev;                /* of the file that they are from */
    ino_t ino;
    struct timespec changed;
};

struct admission *admission_new(const char *path)
{
    struct admission *a = xcalloc(1, sizeof(*a));

    a->path = xstrdup(path);
    return a;
}

void admission_free(struct admission *a)
{
    if (!a)
        return;
    free(a->path);
    free(a->rules);
    free(a);
}

static bool is_same(const struct admission *a, const struct stat *st)
{
    return a->rules && a->dev == st->st_dev && a->ino == st->st_ino && a->changed.tv_sec == st->st_ctim.tv_sec &&
           a->changed.tv_nsec == st->st_ctim.tv_nsec;
}

/* As probes believe it: root's (or ours, where we are somebody else), and nobody else can write to it. */
static int read_rules(int fd, const struct stat *st, struct rules_head **ret)
{
    const size_t size = (size_t)st->st_size;
    struct rules_head *h;
    ssize_t n;

    if (!S_ISREG(st->st_mode) || (st->st_uid != 0 && st->st_uid != geteuid()) || st->st_mode & 0022)
        return -EPERM;
    if (st->st_size <= 0 || st->st_size > RULES_SIZE_MAX)
        return -EINVAL;
    h = xmalloc(size);
    n = pread(fd, h, size, 0);
    if (n == (ssize_t)size && rules_valid(h, size) && h->table_hash == segment_table_hash()) {
        *ret = h;
        return 0;
    }
    free(h);
    return n < 0 ? -errno : -EINVAL;
}

int admission_reload(struct admission *a)
{
    struct rules_head *rules = NULL;
    struct stat st;
    int fd, rc;

    if (stat(a->path, &st) == 0 && is_same(a, &st))
        return 0;
    fd = open(a->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    rc = fstat(fd, &st) ? -errno : read_rules(fd, &st, &rules);
    close(fd);
    if (rc < 0)
        return rc;
    free(a->rules);
    a->rules = rules;
    a->dev = st.st_dev;
    a->ino = st.st_ino;
    a->changed = st.st_ctim;
    return 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* Whether a process whose file is called so would have this short name. */
static bool is_called(const char *path, const char *comm)
{
    const char *base = base_name(path);

    return strncmp(base, comm, COMM_MAX) == 0 && strnlen(base, COMM_MAX) == strlen(comm);
}

/* The name by which it was executed, if that isn't its file's (a script, or a link): points into args or is comm. */
static const char *script_of(const char *exe, const char *comm, const char *args, size_t len)
{
    const char *word = args, *end = args + len;

    if (!*comm || is_called(exe, comm))
        return NULL;
    for (unsigned i = 0; i < SCRIPT_WORDS && word < end; i++, word += strlen(word) + 1)
        if (is_called(word, comm))
            return word;
    return strlen(comm) < COMM_MAX ? comm : NULL; /* else it is cut off */
}

struct rules_subject admission_subject(const char *exe, const char *comm, const char *args, size_t args_len)
{
    static char name[COMM_MAX + 1];

    snprintf(name, sizeof(name), "%s", comm);
    return (struct rules_subject){.exe = exe, .execfn = script_of(exe, name, args, args_len), .args = args,
                                  .args_len = args_len};
}

/* pid: whose program it is; 0: it is not known, or something else by now. */
static bool is_named(const struct admission *a, const char *exe, const char *comm, const char *args, size_t len, pid_t pid)
{
    struct rules_subject s = admission_subject(exe, comm, args, len);

    if (!a->rules || rules_match(a->rules, &s) == RULES_NONE)
        return false;
    s.spared = pid && pi_is_of_host(pid);
    return !s.spared || rules_match(a->rules, &s) != RULES_NONE;
}

static bool names(struct admission *a, const char *exe, const char *comm, const char *args, size_t args_len, pid_t pid)
{
    char text[ARGS_MAX + 1];
    size_t len = args_len < ARGS_MAX ? args_len : ARGS_MAX;

    memcpy(text, args, len);
    text[len] = '\0';
    if (is_named(a, exe, comm, text, len, pid))
        return true;
    /* It may be just these programs that were named a moment ago. */
    admission_reload(a);
    return is_named(a, exe, comm, text, len, pid);
}

bool admission_names_as(struct admission *a, const char *exe, const char *comm, const char *args, size_t args_len)
{
    return names(a, exe, comm, args, args_len, 0);
}

/* Its command line: length. It can't keep us waiting: the kernel reads anonymous memory only (Linux 4.17). */
static size_t read_args(pid_t pid, char *to, size_t size)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, to, size);
    if (fd >= 0)
        close(fd);
    return n > 0 ? (size_t)n : 0;
}

bool admission_names(struct admission *a, pid_t pid)
{
    char args[ARGS_MAX], *exe = pi_exe(pid), *comm = pi_name(pid);
    size_t len = read_args(pid, args, sizeof(args));
    static const char gone[] = " (deleted)";
    size_t exe_len = strlen(exe);
    bool named;

    /* An upgrade has removed or replaced the file of a program that still runs. */
    if (exe_len > sizeof(gone) - 1 && strcmp(exe + exe_len - (sizeof(gone) - 1), gone) == 0)
        exe[exe_len - (sizeof(gone) - 1)] = '\0';
    named = *exe && names(a, exe, comm, args, len, pid);
    free(exe);
    free(comm);
    return named;
}
