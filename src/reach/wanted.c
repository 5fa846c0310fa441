/* SPDX-License-Identifier: Apache-2.0 */
#include "reach/wanted.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "wire/syscalls.h"

#define COMM 16 /* TASK_COMM_LEN */
#define PAGE 4096u
#define DELETED " (deleted)"

/* --- rules --- */

/* Looks for a text, or for the place where it belongs. */
static uint32_t place_of(const struct name *v, uint32_t slots, const char *name, size_t len)
{
    uint32_t i = (uint32_t)hash_bytes(name, len) & (slots - 1);

    while (v[i].text && !(v[i].len == len && memcmp(v[i].text, name, len) == 0))
        i = (i + 1) & (slots - 1);
    return i;
}

static bool has_name(const struct wanted *w, const char *name)
{
    return w->slots && w->names[place_of(w->names, w->slots, name, strlen(name))].text;
}

/* Whether a name begins like this one, which the kernel has cut off (TASK_COMM_LEN). */
static bool has_short_name(const struct wanted *w, const char *comm, size_t len)
{
    return w->slots && w->short_names[place_of(w->short_names, w->slots, comm, len)].text;
}

static void add_name(struct name *v, uint32_t slots, const char *name, size_t len)
{
    v[place_of(v, slots, name, len)] = (struct name){name, len};
}

static void index_names(struct wanted *w)
{
    const struct rules_entry *e = (const void *)(w->rules + 1);
    const char *text = (const char *)w->rules;

    for (w->slots = 16; w->slots < 2 * w->rules->count; w->slots *= 2)
        ;
    w->names = xcalloc(w->slots, sizeof(*w->names));
    w->short_names = xcalloc(w->slots, sizeof(*w->short_names));
    for (uint32_t k = 0; k < w->rules->count; k++) {
        size_t len = strlen(text + e[k].name);

        w->args |= e[k].arg != 0;
        if (e[k].kind != RULES_ALLOW)
            continue;
        w->any |= e[k].name == 0;
        if (e[k].name) {
            add_name(w->names, w->slots, text + e[k].name, len);
            add_name(w->short_names, w->slots, text + e[k].name, len < COMM - 1 ? len : COMM - 1);
        }
    }
}

/* The file as probes believe it, in memory of ours; NULL with 0 if there is none. */
static int read_rules(struct rules_head **ret)
{
    int fd = open(HOST_RULES_MAPPED, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), rc = 0;
    struct rules_head *h = NULL;
    struct stat st;

    *ret = NULL;
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fstat(fd, &st) < 0)
        rc = -errno;
    else if (!S_ISREG(st.st_mode) || st.st_uid != 0 || st.st_mode & (S_IWGRP | S_IWOTH))
        rc = -EPERM;
    else if (st.st_size < (off_t)sizeof(*h) || st.st_size > RULES_SIZE_MAX)
        rc = -EINVAL;
    if (rc == 0) {
        h = xmalloc((size_t)st.st_size);
        if (pread(fd, h, (size_t)st.st_size, 0) != st.st_size || !rules_valid(h, (size_t)st.st_size))
            rc = -EINVAL;
        else if (h->table_hash != syscall_table_hash())
            rc = -ESTALE;
    }
    close(fd);
    if (rc < 0)
        free(h);
    else
        *ret = h;
    return rc;
}

int wanted_load(struct wanted *w)
{
    struct rules_head *h;
    int rc = read_rules(&h);

    if (rc < 0)
        return rc;
    wanted_free(w);
    w->rules = h;
    if (h)
        index_names(w);
    return 0;
}

void wanted_free(struct wanted *w)
{
    free(w->rules);
    free(w->names);
    free(w->short_names);
    *w = (struct wanted){0};
}

/* --- a process --- */

/* All of a small file in /proc/PID: its length, ended by a NUL; 0 if there is nothing. */
static size_t read_file(int proc, pid_t pid, const char *name, char *to, size_t room)
{
    char path[64];
    size_t len = 0;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "%d/%s", (int)pid, name);
    fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    while (len < room - 1 && (n = read(fd, to + len, room - 1 - len)) > 0) {
        len += (size_t)n;
        if (room <= PAGE) /* the kernel gives that much at once */
            break;
    }
    close(fd);
    to[len] = '\0';
    return len;
}

/* The path of its executable file; false if it has none. Of a file that was replaced since, its name is what it was. */
static bool read_exe(int proc, pid_t pid, char to[PATH_MAX])
{
    char path[32];
    size_t end = sizeof(DELETED) - 1;
    ssize_t n;

    snprintf(path, sizeof(path), "%d/exe", (int)pid);
    n = readlinkat(proc, path, to, PATH_MAX - 1);
    if (n <= 0)
        return false;
    to[n] = '\0';
    if ((size_t)n > end && strcmp(to + n - end, DELETED) == 0)
        to[(size_t)n - end] = '\0';
    return true;
}

/* Ours: the collector, and what else this very file runs as. */
static bool is_ours(const char *exe)
{
    static char own[PATH_MAX];
    ssize_t n;

    if (!*own) {
        n = readlink("/proc/self/exe", own, sizeof(own) - 1);
        own[n > 0 ? n : 0] = '\0';
    }
    return strcmp(exe, own) == 0;
}

static pid_t parent_of(int proc, pid_t pid)
{
    char text[1024], *p = read_file(proc, pid, "stat", text, sizeof(text)) ? strrchr(text, ')') : NULL;

    return p && p[1] && p[2] ? (pid_t)strtol(p + 3, NULL, 10) : 0; /* ") S 1 ..." */
}

/* Process 1, or what the kernel has started: by kthreadd (2) or one of its children. */
static bool is_spared(int proc, pid_t pid)
{
    pid_t parent = pid == 1 ? 0 : parent_of(proc, pid);

    return parent == 0 || parent == 2 || parent_of(proc, parent) == 2;
}

uint32_t wanted_process(const struct wanted *w, int proc, struct memory *m, pid_t pid, struct subject *ret)
{
    static char exe[PATH_MAX];
    struct memory_words words = {.args = ""};
    struct rules_subject s;
    char comm[COMM + 1];
    uint32_t found;

    if (!w->rules || !w->rules->count || !read_exe(proc, pid, exe) || is_ours(exe))
        return RULES_NONE;
    if (!w->any && !has_name(w, rules_base(exe))) {
        size_t n = read_file(proc, pid, "comm", comm, sizeof(comm));

        if (!n || !has_short_name(w, comm, n - 1)) /* behind it is a newline */
            return RULES_NONE;
    }
    /* A name that can't be read is taken for what the kernel has made of it, if that is whole. */
    if (memory_words(m, pid, &words) < 0 && read_file(proc, pid, "comm", comm, sizeof(comm))) {
        comm[strcspn(comm, "\n")] = '\0';
        words.execfn = comm;
    }
    s = (struct rules_subject){exe, words.execfn, words.args, words.args_len, w->any && is_spared(proc, pid)};
    found = rules_match(w->rules, &s);
    if (found != RULES_NONE && ret) {
        *ret = (struct subject){.exe = xstrdup(exe), .execfn = xstrdup(words.execfn), .spared = s.spared};
        if (w->args) {
            ret->args = words.args_len ? xmemdup(words.args, words.args_len) : NULL;
            ret->args_len = words.args_len;
        }
    }
    return found;
}

uint32_t wanted_subject(const struct wanted *w, const struct subject *s)
{
    const struct rules_subject asked = {s->exe, s->execfn, s->args, s->args_len, s->spared};

    return w->rules ? rules_match(w->rules, &asked) : RULES_NONE;
}

void subject_clear(struct subject *s)
{
    free(s->exe);
    free(s->execfn);
    free(s->args);
    *s = (struct subject){0};
}

/* Fields of /proc/PID/stat, by their place in proc(5), that an exec or another process changes: when the process began;
 * where its code and first stack are, and the words on it. */
static bool is_signature(int field)
{
    return field == 22 || (field >= 26 && field <= 28) || (field >= 45 && field <= 51);
}

uint64_t wanted_signature(int proc, pid_t pid, char *ret_name)
{
    char text[1024], *p, *name;
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    size_t n = read_file(proc, pid, "stat", text, sizeof(text));

    p = n ? strrchr(text, ')') : NULL;
    name = p ? strchr(text, '(') : NULL;
    if (!name || p[1] != ' ' || p[2] == 'Z' || p[2] == 'X')
        return 0;
    if (ret_name)
        snprintf(ret_name, 16, "%.*s", (int)(p - name - 1), name + 1);
    p += 2;
    for (int field = 3; p; field++) {
        size_t len = strcspn(p, " \n");

        for (size_t i = 0; i < len && is_signature(field); i++)
            h = (h ^ (uint8_t)p[i]) * UINT64_C(0x100000001b3);
        p = p[len] == ' ' ? p + len + 1 : NULL;
    }
    return h ? h : 1;
}
