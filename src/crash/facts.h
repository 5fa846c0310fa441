/* SPDX-License-Identifier: Apache-2.0 */
/* What /proc tells about a process (proc(5)), read while it is there. Bounded; texts are the program's and may be
 * anything. */
#ifndef SCOPE_CRASH_FACTS_H
#define SCOPE_CRASH_FACTS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/utsname.h>

#include "base/buf.h"

#define FACTS_DESCRIPTORS 4096u

struct fact_descriptor {
    int fd;
    char *target; /* of the link */
};
struct fact_task {
    pid_t tid;
    char comm[16], state;
};

struct facts {
    char name[16];           /* comm */
    char *exe, *cwd, *root;  /* "" if unknown */
    struct buf arguments;    /* each ends with NUL; first 64 KiB */
    struct buf environment;  /* likewise, only if it was wished */
    struct buf limits;       /* /proc/PID/limits */
    unsigned uid[4], gid[4]; /* real, effective, saved, of file system; as we see them */
    pid_t own_pid, parent;
    struct fact_descriptor *descriptors;
    size_t descriptor_count, descriptor_all;
    struct fact_task *tasks; /* those that there were before any was stopped */
    size_t task_count;
    struct utsname system;
    char *user; /* name of uid[0] in its own /etc/passwd, "" if none */
};

void facts_take(struct facts *f, pid_t pid, int root, int with_environment);
const struct fact_task *facts_task(const struct facts *f, pid_t tid);
/* The name of a user in the text of a passwd(5): malloc'ed, "" if it isn't there. */
char *facts_user(const char *passwd, size_t size, unsigned uid);
void facts_free(struct facts *f);

/* A file below a directory as its root, whatever links lead to (openat2(2)), for reading; regular files only. A
 * descriptor or -errno. */
int facts_open_below(int root, const char *path);

#endif
