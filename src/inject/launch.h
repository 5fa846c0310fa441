/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launching a program observed: the files that the probe needs, the collector
 * process, the environment, and exec.
 */
#ifndef SCOPE_INJECT_LAUNCH_H
#define SCOPE_INJECT_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "inject/exe.h"
#include "session/session.h"
#include "telemetry/telemetry.h"

/* True if a dynamic loader will not run this program, but list its libraries (ldd(1)) or the like: it is told nothing of
 * the probe then, which would be listed, too. path: of the program or, started by hand, of the loader. */
bool launch_lists(const char *path, enum exe_kind, char *const *argv, const char *const *envp);

/* The bytes of libscope.so that this executable carries; size 0 if it was built without. */
const void *launch_probe(size_t *ret_size);

/* Installs libscope.so where any process can read it and returns its path (malloc'ed): the first that works of
 *   dir if not NULL (then the only one), /usr/lib/appscope/<version>/ if it can be written or has the same file,
 *   /tmp/appscope-<uid>/<version>/, /var/tmp/appscope-<uid>/<version>/, <session base>/lib/<version>/.
 * Owner and mode of these directories and of those above them are checked (plans and library are code that others will
 * run; base/safe_path.h, SAFE_OURS); file systems mounted noexec are passed over. Also creates plans/ there (or, where
 * that is not writable, in the next place), which is kept open.
 * 0 or -errno with *ret_what naming the path that failed last, for -EPERM and -ELOOP with the reason (malloc'ed).
 * -ENOENT: built without a probe. */
int launch_install(const char *dir, char **ret_lib, char **ret_plan_dir, char **ret_what);

/* Where the library has its place already (lib), only plans/: the first of the places above where it can be made. If
 * there is none it is a directory beside the library that can't be written: plans are made each time. 0; -ENOENT: built
 * without a probe. */
int launch_install_plans(const char *lib, char **ret_plan_dir);

/* Makes plans for the image, its interpreter and its libraries that are not in the cache yet, in a child process, and
 * waits for it at most timeout_ms (it goes on after that). Failure is not reported: the probe asks the collector. */
void launch_prewarm(const char *image, const char *plan_dir, unsigned timeout_ms);

/* Whether there is a plan of an image in a directory, as launch_prewarm() would leave it; also if it can't be read. */
bool launch_planned(const char *image, const char *plan_dir);
/* Makes a plan of an image and puts it there, unless there is one. 0 or -errno; -ENOEXEC: it can't be planned, or has no
 * build-id, by which it would be known elsewhere. */
int launch_plan(const char *image, const char *plan_dir);

/* What the collector process runs, with a bound and listening SOCK_SEQPACKET socket, a descriptor that gets one byte
 * once processes can join, and the secret of those that are invited (wire/join.h). Its result is the exit status. */
typedef int (*launch_collector_fn)(void *ctx, int listen_fd, int ready_fd, const char *secret);

/* Starts a collector process: no child of the caller, in a session of its own, without terminal, working directory "/"
 * (unless `config` has a relative path), default signals, standard descriptors on /dev/null (but where `config` names
 * stdout or stderr as a destination), soft resource limits raised to the hard ones, with the nice value that
 * `config` says where that is allowed. Returns when it accepts processes. The value of $SCOPE_SOCKET (malloc'ed) is returned; session, which may be NULL, gets
 * its socket and the collector's pid and is saved. 0 or -errno. */
int launch_collector(const struct config *config, struct session *session, launch_collector_fn run, void *ctx,
                     char **ret_socket);

/* Closes all descriptors from 3 on but these (in any order; -1: none), which keep their numbers. */
void launch_close_others(const int *keep, size_t count);

/* Gives this process the surroundings described above; keep_fds stay open at the same numbers. */
void launch_detach(const struct config *config, const int *keep_fds, size_t keep_count);

/* A copy of envp with LD_PRELOAD (prepended to what was there; not if lib is NULL), SCOPE_SOCKET, SCOPE_PLANS,
 * SCOPE_MODE. One allocation per string and one for the array. */
char **launch_environ(const char *const *envp, const char *lib, const char *socket, const char *plan_dir,
                      uint32_t mode);

/* Has the collector observe a program that the calling thread execs next, as there is no loader to do it, or (loader)
 * none that is told to (wire/join.h, TRACE). path: of the program, for messages. A descriptor to be kept open,
 * close-on-exec, until then; or -errno: the collector's log tells why, and exec runs the program unobserved. */
int launch_trace(const char *socket, const char *path, bool loader);
/* That exec failed: returns when nobody traces this thread any more. Closes the descriptor. */
void launch_trace_end(int fd);

/* Whether the kernel keeps time with the CPU's counter: then it is constant, synchronous and not trapped, and each
 * observed process needn't find out by itself. */
bool launch_kernel_uses_counter(void);

/* segment_header.mode: what the probe shall record, so that everything configured can be told and nothing more. tm was
 * made from the same configuration. */
uint32_t launch_mode_for(const struct config *, const struct telemetry *tm);
/* The same for a process that begins, of which no collector knows yet; with SEG_M_TSC. */
uint32_t launch_mode(const struct config *);

#endif
