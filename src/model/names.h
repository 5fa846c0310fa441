/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of files as the kernel resolved them (path_resolution(7)): absolute,
 * without `.`, `..`, and empty components, as the process sees them (below its
 * own root directory). Symbolic links are not followed, with one exception:
 * where a name goes up again behind a component that may be one, only the
 * kernel knows where that leads. It is asked by ways that can't block: what
 * /proc shows, and lookups in its cache of names (RESOLVE_CACHED, openat2(2)).
 * If it can't tell, the `..` stays where it is: such a name isn't resolved.
 * Single-threaded.
 */
#ifndef SCOPE_MODEL_NAMES_H
#define SCOPE_MODEL_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct proc;

#define NAME_BYTES 16384u /* a longer one is not put together: trees may be deeper than PATH_MAX */

/* A name, and which of its components are known to be no symbolic links: those that end at or before `plain`, and those
 * that begin at or behind `tail`. */
struct name {
    const char *p; /* not terminated */
    size_t len;
    uint32_t plain, tail;
};

/* A name that a process has used. */
struct name_use {
    int64_t dirfd;    /* where a relative one begins: a descriptor or AT_FDCWD */
    const char *path; /* len bytes; may be hostile */
    size_t len;
    bool real;     /* the last component is no symbolic link: O_NOFOLLOW would have failed */
    bool all_real; /* no component is */
    bool in_root;  /* RESOLVE_IN_ROOT: dirfd is the root directory of this name */
    int64_t fd;    /* what was opened, -1: nothing */
    uint32_t gen;  /* ... its generation (fd_entry.gen); 0: not known */
};

/* ret->p is `path` itself or lies in p->m->scratch[which] until its next use. */
void names_resolve(struct proc *p, const struct name_use *use, int which, struct name *ret);
/* The name of an open descriptor as the kernel has it, into buf (terminated): length, or -errno. gen as above: the
 * answer is of that descriptor, or -ESTALE. deleted: the kernel's remark " (deleted)" may be part of the name. */
int names_of_fd(struct proc *p, int64_t fd, uint32_t gen, bool deleted, char *buf, size_t size);

/* The working directory becomes that name; one that isn't resolved is asked for when it is needed. */
void names_set_cwd(struct proc *p, const struct name *to);
/* The process has another root directory now: `to` by chroot(2); NULL: it, and with it the working directory, can be
 * anything. */
void names_set_root(struct proc *p, const struct name *to);
/* Finds out, while it can be, whether a process that has just begun sees the same files as we do. */
void names_look(struct proc *p);

#endif
