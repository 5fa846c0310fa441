/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program is called. Three things know a name of a process, and none of them always the one that people mean:
 * its executable (the interpreter of a script, or what a symbolic link leads to), its command line (which programs
 * write their titles over), and comm, the short name that the kernel makes of the file that was exec'ed (also of a
 * script), and that programs may change, too (proc_pid_comm(5)).
 */
#ifndef SCOPE_BASE_PROGNAME_H
#define SCOPE_BASE_PROGNAME_H

#include <stdbool.h>
#include <stddef.h>

#define PROGRAM_NAME_MAX 128

/*
 * The name of the executable; of a script's interpreter, the script's; where a program was started by a link of another
 * name (sh, python3, the applets of busybox), that one. exe: target of /proc/PID/exe, comm without newline ("" each:
 * not known); argv: the command line as in /proc/PID/cmdline, behind it a NUL. malloc'ed, at most PROGRAM_NAME_MAX
 * bytes.
 */
char *program_name(const char *exe, const char *comm, const char *argv, size_t argv_len);

/* Whether the command line is no command line, but a title that the program (or who has started it) has put there. */
bool program_has_title(const char *name, const char *exe, const char *argv, size_t argv_len);

#endif
