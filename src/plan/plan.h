/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The planner: an ELF image in, a patch plan (wire/plan_format.h) out. Pure: it
 * touches no process. design: docs/INTERNALS.md, "Planning".
 */
#ifndef SCOPE_PLAN_PLAN_H
#define SCOPE_PLAN_PLAN_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "wire/plan_format.h"

/* Identity of an image: lower-case hex of its GNU build-id (of at most 31 bytes); else
 * "f-<dev>-<ino>-<mtime ns>-<size>" (hex), which needs the stat of its file (NULL: not known).
 * The probe computes the same string. Returns 0 or -ENOEXEC. Pure. */
int plan_key(const void *image, size_t size, const void *stat_of_file /* struct stat */, char key[PLAN_KEY_MAX]);

/* Plans an image. Returns 0 and a malloc'ed plan (possibly without patches), -ENOEXEC if it isn't a 64-bit ELF
 * image of a known architecture, -EFBIG if it has more text (ELF_MAX_TEXT_SPAN) or more syscalls than a program can
 * have, -ENOMEM. An image without any syscall or function to observe costs two searches. Thread-safe: there is no state. The
 * bytes may be hostile; they must not change meanwhile. */
int plan_image(const void *image, size_t size, const char *key, void **ret_plan, size_t *ret_size);

/* The same for a descriptor of a regular file, whose offset isn't used or moved. -ENOEXEC for other files and for
 * one that gets shorter while it is read; or the error of fstat(2) or pread(2). */
int plan_file(int fd, const char *key, void **ret_plan, size_t *ret_size);

/* Prints sites, methods and reasons; for `dev/` tools. Calls are named as on the architecture of the plan, and by their
 * numbers if this planner doesn't know it. */
void plan_explain(const void *plan, size_t size, FILE *out);
/* For people: what the enums say. "?" if they say nothing. */
const char *plan_method_name(unsigned method);
const char *plan_reason_name(unsigned reason);

/* --- cache: one file per key in a directory, written atomically (0644) ---
 * A cached plan is used only if plan_check(), plan_sum(), key and table hash agree; otherwise it is removed and made
 * anew. */

/* Opens the cached plan read-only: a descriptor (close-on-exec, the caller's), or -ENOENT. A file that isn't a regular
 * one, isn't owned by root or the effective user, or may be written by others is not used. */
int plan_cache_open(const char *dir, const char *key);
/* Stores a plan by writing a temporary file in the same directory and renaming it. Returns 0 or -errno; -EINVAL for a
 * key that plan_key() doesn't make. */
int plan_cache_store(const char *dir, const char *key, const void *plan, size_t size);
/* Cached or freshly planned and stored (storing may fail silently: the plan is still returned). dir may be NULL: no
 * cache. Returns a sealed memfd or the cache's file, offset unspecified, close-on-exec; or -errno as plan_file(). */
int plan_cache_get(const char *dir, int image_fd, const char *key);

#endif
