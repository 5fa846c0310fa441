/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories, beyond the calls of the C library. Thread-safe. */
#ifndef SCOPE_BASE_FILE_H
#define SCOPE_BASE_FILE_H

#include <stddef.h>
#include <sys/types.h>

/* Writes all of it: goes on after signals and short writes. Returns 0 or -errno; then some may have been written. */
int write_all(int fd, const void *bytes, size_t size);

/* Makes or replaces a file in one step (rename(2)): readers see the old bytes or the new ones, who has the old file
 * open or mapped keeps it. The mode is exactly this one, whatever the umask. Returns 0 or -errno; then the old file
 * is untouched. */
int file_replace(const char *path, const void *bytes, size_t size, mode_t mode);

/* Makes a directory and those above it with this mode, less the umask; existing ones are left as they are. Returns 0
 * or -errno. */
int make_dirs(const char *path, mode_t mode);

#endif
