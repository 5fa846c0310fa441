/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and directories that nobody else can put something else in the place of.
 *
 * A path is walked component by component, each opened below the descriptor of the one before with O_NOFOLLOW
 * (openat(2)), looked at (fstat(2)), and only then used: what is checked is what is used, whatever is renamed
 * meanwhile. Symbolic links are followed by the walk itself, and only if they can be trusted. Nothing relies on the
 * sysctls fs.protected_*.
 *
 * Trusted are root, the effective user, and who owns "/", as that one could change everything anyway (a root directory
 * that was entered); in a user namespace also those that it doesn't map, of whom root is one. Others can write to a
 * directory that isn't a trusted one's, or whose mode lets them: everybody, or a group but root's own and the one that
 * an ordinary user has let into its own directory.
 *
 * Two rules:
 *   SAFE_OURS   for what is ours: all directories on the way are a trusted one's, and those that others can write to
 * are sticky. Links as below. SAFE_NAMED  for what the user has named: directories may be anybody's. For root a link
 * must be a trusted one's in a directory that is ours, as above (and have no second name if that is sticky). For others
 * it must be a trusted one's, or the directory's owner's where not everybody can write.
 *
 * Directories that were opened once can be kept (safe_keep()): a path that leads there begins at the descriptor from
 * then on, whatever the names above it have come to mean, and no link at all is followed below it.
 *
 * Functions return a descriptor (close-on-exec, the caller's) or 0, or -errno: -EPERM what is not trusted, -ELOOP a
 * link that is not followed, with the reason in *ret_why (malloc'ed, NULL for all other errors) unless ret_why is NULL.
 * Thread-safe but for safe_keep().
 */
#ifndef SCOPE_BASE_SAFE_PATH_H
#define SCOPE_BASE_SAFE_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

enum safe_rule { SAFE_OURS, SAFE_NAMED };

#define SAFE_UMASK 0x10000u /* with a mode: less the umask; else it is exactly this one */

/* A directory, O_PATH. make: mode of those on the way that are missing, 0: none is made. */
int safe_dir(const char *path, enum safe_rule rule, mode_t make, char **ret_why);
/* Opens a file by the name that a user gave, for reading or writing, after SAFE_NAMED; never blocks, never takes a
 * terminal. flags: O_RDONLY, or O_WRONLY or O_RDWR with O_CREAT, O_APPEND, O_TRUNC; mode: of a new file, 0600 in a
 * directory that was kept. Where others can write to the directory, what is there already must not be a file with a
 * second name (link(2)), nor a stranger's (fs.protected_regular in proc_sys_fs(5) is the model; for root it holds in
 * all such directories). */
int safe_file(const char *path, int flags, mode_t mode, char **ret_why);
/* The same for reading, regular files only: -EINVAL for others. */
int safe_read(const char *path);
/* Whether a file is as root or we have written it: nobody else can write to it or, after SAFE_OURS, put another in its
 * place. 0, -EPERM or -ELOOP if that isn't so, or -errno. */
int safe_author(const char *path, char **ret_why);
/* What safe_file() would open: 0 with *ret, or -errno. */
int safe_stat(const char *path, struct stat *ret);

/* --- in an open directory; names are single components --- */

/* Makes a directory, or takes the one that is there if it is root's or ours and others can't write to it: O_PATH. */
int safe_make_dir(int dir, const char *name, mode_t mode);
/* A directory that is there, O_PATH; never through a link. */
int safe_sub_dir(int dir, const char *name);
/* Makes a file with exactly this mode, for writing and appending; -EEXIST if there is anything of that name. */
int safe_create(int dir, const char *name, mode_t mode);
/* A regular file, for reading: -EINVAL if it is something else, -ELOOP for a link. */
int safe_read_at(int dir, const char *name);
/* Makes or replaces a file in one step (rename(2)): readers see the old bytes or the new ones, who has the old file
 * open or mapped keeps it. On errors the old file is untouched. */
int safe_replace(int dir, const char *name, const void *bytes, size_t size, mode_t mode);
/* The same, and a power cut (fsync(2)) leaves the old file or the new one. What is to be there at the next boot needs it. */
int safe_replace_lasting(int dir, const char *name, const void *bytes, size_t size, mode_t mode);
/* Removes a directory of ours (-EPERM: it isn't) with everything in it, `last` (may be NULL) of what is directly in it
 * at the end. No link is followed, other file systems aren't entered (-EXDEV). */
int safe_remove_tree(int dir, const char *name, const char *last);
/* Whether a directory is the effective user's, and nobody else but root can write to it. */
bool safe_private(int dir);

/* --- directories that are kept --- */

/* Keeps a descriptor for a directory under the path that it was opened by; -1: no longer. The descriptor belongs to
 * this module then. Only the last few are kept. */
void safe_keep(const char *path, int fd);
/* None is any longer: their descriptors have been closed with all others (close_range(2)). */
void safe_keep_none(void);
#define SAFE_KEPT_MAX 4
/* Their descriptors, ascending; returns how many. */
size_t safe_kept(int ret[SAFE_KEPT_MAX]);

/* For tests: as on a kernel without openat2(2). */
void safe_without_openat2(bool without);

#endif
