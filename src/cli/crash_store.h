/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory in which crashes of programs are kept that no session observes: one directory for each, named
 *
 *     TIME-PID-UID-NAME      20261130T042300.123456Z-4711-1000-nginx
 *
 * UTC; the pid as the host sees it, the real user, the program's own name (letters, digits, "._-"; all else is "_").
 * What decides whether another crash is kept, and which are removed, follows from these names alone. All of it is
 * root's, 0700 and 0600. Functions return 0 or -errno.
 */
#ifndef SCOPE_CLI_CRASH_STORE_H
#define SCOPE_CLI_CRASH_STORE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CRASH_STORE "/var/lib/scope/crash"
#define CRASH_STORE_USER 4u       /* times as many a minute of one user as of one program of his, */
#define CRASH_STORE_ALL 12u       /* and of all users */
#define CRASH_STORE_MAX 10000u    /* that are there at a time */
#define CRASH_STORE_SHARE 4u      /* one part in so many is the most that one user may have */
#define CRASH_STORE_SLOTS 4u      /* that are looked at at a time */
#define CRASH_STORE_USER_SLOTS 2u /* of one user */

struct crash_stored {
    char name[128];   /* of its directory */
    uint64_t time_ns; /* CLOCK_REALTIME */
    pid_t pid;
    uid_t uid;
    char comm[16];
    uint64_t bytes; /* on the disk; only after crash_store_sizes() */
};

/* Those in a directory (O_PATH will do), oldest first; *ret is malloc'ed. Other things in it are passed over. */
int crash_store_list(int dir, struct crash_stored **ret, size_t *ret_count);
void crash_store_sizes(int dir, struct crash_stored *list, size_t count);

/* Why a crash is left out. */
enum crash_store_why { STORE_KEPT, STORE_PROGRAM, STORE_USER, STORE_ALL, STORE_FULL, STORE_FAILED };
/*
 * Makes a directory for a crash, if the rate allows for it: `rate` a minute of one program of one user; and if there
 * aren't CRASH_STORE_MAX already, or the user's part of them (STORE_FULL: crash_store_trim() helps). The descriptor
 * (O_PATH), or -EAGAIN with *ret_why, or -errno. name: at least 128 bytes.
 */
int crash_store_make(int dir, pid_t pid, uid_t uid, const char *comm, unsigned rate, char *name,
                     enum crash_store_why *ret_why);
/* Removes those older than max_ns, and more until the rest takes no more than max_bytes, and is somewhat less than
 * CRASH_STORE_MAX, all users' and each one's part: the oldest ones of the user whose crashes take most, or are most.
 * None of the last two minutes. *ret_removed: how many. */
int crash_store_trim(int dir, uint64_t max_ns, uint64_t max_bytes, unsigned *ret_removed);

/* What has become of crashes, since it was installed. */
struct crash_counts {
    uint64_t kept, told, limited, busy, failed, removed;
    char last_error[256];
};
int crash_store_counts(int dir, struct crash_counts *ret);
/* Adds to them. */
int crash_store_count(int dir, const struct crash_counts *add);

/* One of the places for looking at crashes at the same time; waits. The descriptor of its lock, or -EAGAIN, or another
 * -errno. */
int crash_store_slot(int dir, uid_t uid, unsigned wait_ms);
/* Gives it back, whoever has inherited the descriptor. */
void crash_store_free_slot(int fd);

#endif
