/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Getting the probe into static programs, which have no dynamic loader that
 * would, and into those whose loader can't reach it (another root or network
 * namespace): a tracer maps it when the program has been exec'ed and has not run
 * yet, and has the program itself run the probe's start. Everything else (joining the
 * collector, planning, patching) is the same as in a program with a loader.
 */
#ifndef SCOPE_INJECT_LOAD_H
#define SCOPE_INJECT_LOAD_H

#include "inject/trace.h"

/* Whether that can be done on this machine: 0 or -ENOTSUP. */
TRACE_CHECK int load_possible(void);

/* What the new image's probe is told. */
struct load_told {
    const char *lib;      /* path of the probe's file, for the environment of children */
    const char *socket;   /* of the host's collector, whose rules name this program; NULL: the environment names a session's */
    const char *plans;    /* socket: directory of plans */
    uint32_t mode;        /* socket: initial enum seg_mode */
};

/*
 * Maps the embedded probe into a process that stands at the end of its exec (trace_until_exec()), and makes the thread
 * begin with the probe's entry point (src/probe/arch: scope_entry_exec): below a static image and in reach of its text,
 * so that the heap can grow as ever; of a program with a loader, near that, where libraries will be. *ret_mail: the
 * address of its join_load.mail. Afterwards there is nothing to do but trace_detach(). If it fails the process is as it
 * was:
 *   -ENOEXEC   no program for this machine, or with a loader where loader is false, or the reverse
 *   -EPERM     it has other rights than who started it
 *   -ETXTBSY   it is packed, or its code is writable: not ours to touch
 *   -ENOSPC    no room below its image (where jumps are short: none anywhere); -ENOMEM: too little memory or stack
 *   -ENOENT    built without a probe; -ELIBBAD: with one that isn't simple enough
 *   or the error of a system call here or there.
 * After -ESRCH or -ETIMEDOUT the caller must end, which lets go of the process.
 */
TRACE_CHECK int load_at_exec(struct trace *t, struct trace_thread *th, bool loader, const struct load_told *told,
                             uint64_t *ret_mail);

/* For people: why a program could not be observed, and the remedy if there is one. err: positive, of ptrace(2),
 * load_at_exec() or a JOIN_TRACE answer. */
const char *load_reason(int err);

#endif
