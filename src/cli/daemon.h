/* SPDX-License-Identifier: Apache-2.0 */
/* scope daemon: what is kept of how it was installed, and the program that the kernel starts for each crash. */
#ifndef SCOPE_CLI_DAEMON_H
#define SCOPE_CLI_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#define DAEMON_HOME "/var/lib/scope"
#define DAEMON_STATE DAEMON_HOME "/daemon.json"
#define DAEMON_PATTERN "/proc/sys/kernel/core_pattern"
#define DAEMON_ARGUMENTS \
    "daemon --crash %P %I %u %g %s %t %c %d" /* all of them numbers: no name of a process's making */

struct daemon_state {
    char *previous; /* kernel.core_pattern before it was installed */
    char *pattern;  /* ours */
    char *dir;      /* where crashes are kept */
    char *filedest; /* where files are sent to, as a URL, or NULL */
    bool core, send_core;
    unsigned rate; /* crashes of a program a minute */
    uint64_t core_max, keep_ns, keep_bytes;
};

/* 0; -ENOENT if it isn't installed, or -errno. Undo: daemon_clear(). */
int daemon_load(struct daemon_state *ret);
int daemon_save(const struct daemon_state *s);
void daemon_clear(struct daemon_state *s);

/* As the kernel starts it: words are the values of DAEMON_ARGUMENTS, the core is on stdin. An exit status. */
int daemon_crash(char **words, int count);

#endif
