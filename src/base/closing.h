/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closing descriptors that others have made. close(2) may wait as long as they
 * like: for a socket to send what it still has (SO_LINGER, socket(7)), for a file
 * system in a process of theirs (FUSE's FLUSH), and closing a unix socket closes
 * what lies in it unread. So threads do it, and nobody waits for them; they don't
 * keep the process from ending, as far as the kernel lets it go.
 * Thread-safe.
 */
#ifndef SCOPE_BASE_CLOSING_H
#define SCOPE_BASE_CLOSING_H

#include <stdbool.h>

#define CLOSING_THREADS 8u    /* that may wait at the same time */
#define CLOSING_PENDING 4096u /* descriptors; beyond that they stay open until the process ends */

/* Closes fd some time; nothing if it is negative. */
void close_later(int fd);

/* Whether a descriptor is one of the last that this process may have (RLIMIT_NOFILE): those that all else needs, such as
 * connections, files, /proc. Whoever wants one for each of many things does without it then. */
bool fd_is_spare(int fd);

#endif
