/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which programs of a host its rules name (wire/rules.h), by what the kernel says of a process: the file that it runs
 * (/proc/PID/exe), its command line, its short name. Reads the compiled rules, the same file that probes map, and looks
 * at it again when it has been replaced. Single-threaded.
 *
 * The name by which a program was executed (AT_EXECFN) isn't among that: it lies in the process's own memory, whose
 * pages can be those of a file that never answers. It matters for scripts, whose executable is their interpreter, and for
 * links such as sh. The kernel gives the process the last component of that name, cut off at 15 bytes, and puts the name
 * of a script into the command line, behind the interpreters and what their first lines say (execve(2), "Interpreter
 * scripts"). A word near the beginning whose last component begins with the process's name, where that isn't the
 * executable's, is the script, or its link; without such a word the process's name itself counts, if it isn't cut off. A
 * program may have given itself another name since; but it joins before any of its own code runs.
 */
#ifndef SCOPE_COLLECTOR_ADMISSION_H
#define SCOPE_COLLECTOR_ADMISSION_H

#include <stdbool.h>
#include <sys/types.h>

struct admission;

/* path: of the compiled rules. There need not be such a file yet; then no program is named. */
struct admission *admission_new(const char *path);
void admission_free(struct admission *a);
/* Reads the file again if it is another one by now. 0; -errno if there is none that can be used: then what was read
 * last stays in force. */
int admission_reload(struct admission *a);
/* Whether they name the program that a process runs. False if it has ended. */
bool admission_names(struct admission *a, pid_t pid);
/* The same of a process by what it says itself; args: words, each ended by a NUL. */
bool admission_names_as(struct admission *a, const char *exe, const char *comm, const char *args, size_t args_len);

struct rules_subject;
/* The same as a subject of rules. `exe` and `args` must live as long as it is used; comm: at most 15 bytes count. Good
 * until the next call. */
struct rules_subject admission_subject(const char *exe, const char *comm, const char *args, size_t args_len);

#endif
