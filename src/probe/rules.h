/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rules of a whole host (wire/rules.h) say of this program, or of one that it is about to exec.
 * /etc/ld.so.preload brings the probe into every program of the host, so this is what all of them pay, and what must go
 * wrong in none:
 *
 * Until a rule has named the program nothing is asked of the kernel but to open, read and close files, and for rules
 * that are longer than RULES_NEAR to map and unmap memory. The dynamic loader has just done all of these itself, so a
 * seccomp filter that lets a program start lets this happen, too. Files are read, not mapped: one that is cut short
 * meanwhile would be the program's end.
 *
 * What can't be known means that the program isn't named: no rules, rules of another build, no /proc.
 */
#ifndef SCOPE_PROBE_RULES_H
#define SCOPE_PROBE_RULES_H

#include "state.h"

#define RULES_NEAR 4096u /* bytes of rules that are read without memory of their own: on the stack */

/* What the kernel and the loader have told this program of itself. */
struct rules_self {
    const char *const *argv; /* on the initial stack; argc of them */
    int argc;
    uint64_t headers; /* an address in the image of its executable file */
    const char *execfn;
};

/* Whether a rule names this program, and it may start by itself: not under a seccomp filter, which might end it, nor
 * where a probe observes it already. (What doesn't start by itself is attached to from outside: reach/reach.h.) Then
 * probe.socket, probe.mode and the paths are set, lib as that of the probe's file. Else nothing has changed. */
bool rules_name_self(const struct rules_self *self, const char *lib);

/* Whether a rule seems to name a program that is about to be exec'ed: image, the file that the kernel will run; path,
 * as it was said; script: that is an interpreter's; argv as execve(2) has it, not known to be readable. It only decides
 * whether a tracer is asked for, which looks again. Takes no more than some hundred bytes of stack. */
bool rules_name_exec(int image, const char *path, bool script, char *const *argv);

/* Whether /etc/ld.so.preload, as this process sees it, names a file that is called as this one, the probe's. */
bool rules_preloaded(const char *lib);

#endif
