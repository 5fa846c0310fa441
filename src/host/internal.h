/* SPDX-License-Identifier: Apache-2.0 */
/* ld.so.preload: what its parts ask of each other. */
#ifndef SCOPE_HOST_INTERNAL_H
#define SCOPE_HOST_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define PRELOAD_FILE "ld.so.preload"
#define PRELOAD_LIB  "libscope.so"

/* --- preload_text.c: the file's bytes, as elf/rtld.c of glibc reads them --- */

/* The first entry that is ours: its place, and its length; 0 if there is none. */
size_t preload_find(const char *text, size_t len, size_t *ret_at);
/* The text with `entry` as its only one of ours; NULL: with none. Nothing else changes, but for the line break that an
 * added line needs; taking it out takes that back. -EINVAL: what would be added isn't read (there is a NUL). */
int preload_edit(const char *text, size_t len, const char *entry, struct buf *ret);

/* --- preload_try.c --- */

/* How a program is started for trial. */
struct preload_try {
    const char *root;      /* of the file system: "" for ours */
    const char *env;       /* value of LD_PRELOAD, or NULL */
    const char *file;      /* bytes of ld.so.preload in place of what is there, or NULL: as it is */
    size_t file_len;
    bool other;            /* a program of the machine's other word size */
};
/* Starts one: 0, with how it ended (a wait status) and what it wrote to standard error. -ENOENT: there is no program of
 * glibc's here, or for `other` none that the kernel runs. -EPERM: the file can't be tried, as there are no mount
 * namespaces for us. -ETIMEDOUT: it didn't end. */
int preload_try(const struct preload_try *, int *ret_status, struct buf *ret_err);

/* --- arch/<machine>/platforms.c --- */

/* What $PLATFORM (ld.so(8)) can be in loaders of our word size, and in those of the other one. NULL-terminated. */
extern const char *const preload_platforms[], *const preload_other_platforms[];
extern const char preload_other_loader[]; /* where the other one's program interpreter is */
/* e_machine and e_flags of these (elf(5)). */
extern const uint16_t preload_other_machine;
extern const uint32_t preload_other_flags;
/* A library of that word size without anything in it. Returns its size. */
size_t preload_other_library(const void **ret);

#endif
