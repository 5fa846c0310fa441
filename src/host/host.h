/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What AppScope changes on a host: ld.so.preload, services, and how it finds out with which tools. Every change can be
 * undone, and is written so that a crash in the middle leaves the old or the new state. Paths are below `root` ("" for
 * this host, "/hostfs" for one whose root is mounted there). 0 or -errno, with a text for people in *ret_why
 * (malloc'ed) where that says more. Not thread-safe.
 */
#ifndef SCOPE_HOST_HOST_H
#define SCOPE_HOST_HOST_H

#include <stdbool.h>
#include <stddef.h>

#define HOST_STORE   "/var/lib/appscope" /* SCOPE_HOME of the host's collector */
#define HOST_LIB_DIR "/usr/lib/appscope"

enum host_init { HOST_INIT_NONE, HOST_INIT_SYSTEMD, HOST_INIT_OPENRC, HOST_INIT_SYSV };

/* Which system starts services here: what runs (/run/systemd/system, /run/openrc) decides before what is installed. */
enum host_init host_init(const char *root);

/* --- /etc/ld.so.preload (ld.so(8)) --- */

/* Whether the file names a library of ours; *ret_lib is its path as it stands there (malloc'ed). */
bool host_preload_has(const char *root, char **ret_lib);
/* Adds this library, which is below HOST_LIB_DIR, in place of another version of ours; entries of others stay where they
 * are, before it. The name has $PLATFORM in it (ld.so(8)), so that programs of the other word size find an empty library
 * of theirs; these names are made beside the library. First a program is started that loads it, then one with the new
 * file in a mount namespace of its own: if they don't do what they do without it, or write to standard error, nothing
 * is changed (-EIO; -EBUSY: the host can't start any just now). -ENOENT: no program of glibc's is here, so none would
 * read it. -EAGAIN: somebody else has just changed the file. */
int host_preload_add(const char *root, const char *lib, char **ret_why);
/* Takes it out. A file that only ever had our line is removed. 0 also if it wasn't there. */
int host_preload_remove(const char *root, char **ret_why);
/* Whether programs start as they should with our entry in the file as it is: starts one, and where it doesn't do what it
 * should, one more without our entry, as it may be another one's fault. Waits a minute for a program that doesn't end.
 * True also where the host can't start any just now, for want of memory and the like.
 * (Statically linked programs don't look at the file, so scope itself still works when this fails.) */
bool host_preload_works(char **ret_why);

/* --- the service that runs `scope collector --host` --- */

#define HOST_SERVICE "appscope"
#define HOST_LOG     "/var/log/appscope.log" /* where there is no journal */
#define HOST_LOG_OLD HOST_LOG ".1"          /* what stood in it before it was too long */

/* Writes the service's files for this init system, which are to start this executable; nothing is started. What is there
 * already and differs is replaced. HOST_INIT_NONE has none. */
int host_service_install(enum host_init, const char *exe, char **ret_why);
/* Has the init system start it now and at each boot; one that runs already is started anew if `restart`. Returns when
 * the init system says that it runs. For HOST_INIT_NONE -ENOTSUP: the caller starts it. */
int host_service_start(enum host_init, bool restart, char **ret_why);
/* Not any more, neither now nor at a boot. Returns when it has ended. 0 if it wasn't there. */
int host_service_stop(enum host_init, char **ret_why);
/* Removes the files of all init systems. */
int host_service_remove(char **ret_why);

#endif
