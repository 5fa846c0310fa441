/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/named.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "inject/process.h"
#include "model/procinfo.h"
#include "wire/rules.h"
#include "wire/syscalls.h"

static int read_all(int fd, char *to, size_t size)
{
    size_t at = 0;
    ssize_t n;

    while (at < size && (n = read(fd, to + at, size - at)) != 0) {
        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? (size_t)n : 0;
    }
    return (int)at;
}

/* As probes believe them. */
static struct rules_head *read_rules(void)
{
    int fd = open(HOST_RULES_MAPPED, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct rules_head *h = NULL;
    struct stat st;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0 && !(st.st_mode & (S_IWGRP | S_IWOTH)) &&
        st.st_size >= (off_t)sizeof(*h) && st.st_size <= RULES_SIZE_MAX) {
        h = xmalloc((size_t)st.st_size);
        if (read_all(fd, (char *)h, (size_t)st.st_size) != st.st_size || !rules_valid(h, (size_t)st.st_size) ||
            h->table_hash != syscall_table_hash()) {
            free(h);
            h = NULL;
        }
    }
    close(fd);
    return h;
}

static size_t read_args(pid_t pid, char *to, size_t size)
{
    char path[64];
    int fd, n;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read_all(fd, to, size);
    if (fd >= 0)
        close(fd);
    return n > 0 ? (size_t)n : 0;
}

/* The name that it was executed by; "" if it can't be read whole. */
static void read_execfn(const struct trace *t, char *to, size_t size)
{
    uint64_t at = process_auxv(t->pid, AT_EXECFN);
    size_t n = 0;

    for (*to = '\0'; at && n < size; n++) {
        if (trace_read(t, at + n, to + n, 1) < 0)
            break;
        if (!to[n])
            return;
    }
    *to = '\0';
}

int named_by_rules(const struct trace *t, struct load_told *ret)
{
    struct rules_head *h = read_rules();
    char *args = xmalloc(RULES_ARGS_MAX), *exe = process_link(t->pid, "exe"), execfn[4096];
    struct rules_subject subject = {.exe = exe, .execfn = execfn, .args = args, .spared = pi_is_of_host(t->pid)};
    const struct rules_entry *e;
    uint32_t found = RULES_NONE;
    const char *socket;

    read_execfn(t, execfn, sizeof(execfn));
    subject.args_len = read_args(t->pid, args, RULES_ARGS_MAX);
    if (h)
        found = rules_match(h, &subject);
    free(args);
    free(exe);
    socket = h ? (const char *)h + h->socket : "";
    if (found == RULES_NONE || *socket != '/') {
        free(h);
        return -ENOENT;
    }
    e = (const struct rules_entry *)(const void *)(h + 1) + found;
    ret->socket = socket;
    ret->plans = h->plans ? (const char *)h + h->plans : "";
    ret->mode = e->mode;
    return 0;
}
