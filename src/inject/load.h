/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Getting the probe into static programs, which have no dynamic loader that
 * would: a tracer maps it when the program has been exec'ed and has not run yet,
 * and has the program itself run the probe's start. Everything else (joining the
 * collector, planning, patching) is the same as in a program with a loader.
 */
#ifndef SCOPE_INJECT_LOAD_H
#define SCOPE_INJECT_LOAD_H

#include "inject/trace.h"

/* Whether static programs can be observed on this machine: 0 or -ENOTSUP. */
TRACE_CHECK int load_possible(void);

/*
 * Maps the embedded probe into a process that stands at the end of its exec (trace_until_exec()), below the image and
 * in reach of its text, so that the heap can grow as ever, and makes the thread begin with the probe's entry point
 * (src/probe/arch: scope_entry_exec). lib: path of the probe's file for the environment of children. Afterwards
 * there is nothing to do but trace_detach(). If it fails the process is as it was:
 *   -ENOEXEC   no static program for this machine, or a dynamic loader
 *   -EPERM     it has other rights than who started it
 *   -ETXTBSY   it is packed, or its code is writable: not ours to touch
 *   -ENOSPC    no room below its image; -ENOMEM: too little memory or stack
 *   -ENOENT    built without a probe; -ELIBBAD: with one that isn't simple enough
 *   or the error of a system call here or there.
 * After -ESRCH or -ETIMEDOUT the caller must end, which lets go of the process.
 */
TRACE_CHECK int load_at_exec(struct trace *t, struct trace_thread *th, const char *lib);

/* For people: why a static program could not be observed, and the remedy if there is one. err: positive, of ptrace(2),
 * load_at_exec() or a JOIN_TRACE answer. */
const char *load_reason(int err);

#endif
