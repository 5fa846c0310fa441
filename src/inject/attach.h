/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing the probe into a running process, and taking it out again.
 *
 * Everything that takes long is prepared while the process runs: its images are
 * planned, places for the probe and the slots of hooks are chosen, their bytes are
 * put together. Then its threads are stopped for the few milliseconds that it takes
 * to have one of them map memory (inject/trace.h), write the bytes, and let the
 * collector have the segment (wire/join.h, ATTACH). No code of ours runs in the
 * process before its next observed system call, and no descriptor stays in it.
 *
 * Whoever does this may be killed at any moment: memory is complete before a patch
 * leads to it, each patch is one write, and when patches go, the memory that they
 * led to goes last. What the process runs is always either its own code or ours,
 * whole.
 *
 * The work is done by a child process, whose end lets go of the process whatever
 * happened.
 */
#ifndef SCOPE_INJECT_ATTACH_H
#define SCOPE_INJECT_ATTACH_H

#include "inject/process.h"
#include "inject/text.h"

struct attach; /* a process that is prepared */

/* Checks and prepares; makes plans that aren't in the cache, which may take seconds. mode: enum seg_mode. 0, or -errno
 * with *ret_why (malloc'ed): a sentence about the process that names cause and remedy. -EALREADY: it is observed. */
int attach_prepare(pid_t pid, const char *plan_dir, uint32_t mode, struct attach **ret, char **ret_why);
void attach_free(struct attach *a);
const char *attach_name(const struct attach *a); /* of the process, for people */

struct attach_result {
    unsigned threads;          /* that were stopped */
    uint64_t stopped_ns;       /* for so long */
    uint64_t prepared_ns;      /* attach: what the first attach_prepare() took */
    uint32_t images, patched;  /* patched sites, or bytes put back if detaching */
    uint32_t left;             /* sites that were passed over because a thread stood in them */
    uint64_t compared, differ; /* detach: bytes of code compared with files */
    bool kept;                 /* detach: the probe stays mapped, without effect: a hook did not end in time, calls are
                                * inside functions that were hooked and will return to it, or code
                                * that differs from its file in ways that we don't know may lead there */
    uint64_t inside;           /* detach: calls of functions of TLS libraries that have not returned to the probe */
    uint32_t unknown;          /* files that could not be read or planned: their code is as it was */
    uint32_t no_room;          /* attach: files without free memory within reach of their code, which is as it was */
};

/* Attaches: afterwards the collector at `socket` observes it. lib: path of libscope.so, for programs that it starts.
 * The prepared state is used up. As attach_prepare(). */
int attach_run(struct attach *a, const char *socket, const char *lib, struct attach_result *ret, char **ret_why);

/* Detaches: puts all code back as it is in its files, and unmaps what was mapped. plan_dir: where plans may be cached.
 * As attach_prepare(); -EALREADY: it isn't observed any more, -ENOENT: it never was. */
int detach_run(pid_t pid, const char *plan_dir, struct attach_result *ret, char **ret_why);

#endif
