/* SPDX-License-Identifier: Apache-2.0 */
/* Files, beyond the calls of the C library (paths: base/safe_path.h). Thread-safe. */
#ifndef SCOPE_BASE_FILE_H
#define SCOPE_BASE_FILE_H

#include <stddef.h>
#include <sys/types.h>

/* Writes all of it: goes on after signals and short writes. Returns 0 or -errno; then some may have been written. */
int write_all(int fd, const void *bytes, size_t size);

#endif
