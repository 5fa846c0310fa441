/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The code of a running process that can be patched: each executable mapping of a
 * file, with its plan, and where threads may stand in it.
 *
 * When patches are made or undone, nobody may find himself in the middle of the
 * replaced bytes afterwards. Standing at their first byte is fine, and that is
 * where a thread stands that waits in a system call (ARCH_WAITS_BEHIND): before
 * the bytes behind the call, which are replaced, or at the call. Where the call
 * itself moves into the slot of its hook, a thread that stands behind it moves
 * along: to behind the moved call, which begins two bytes before, as ever, if
 * the kernel restarts it. One that stands at it need not: the jump that is there
 * from now on leads to the moved call, whoever waits for what.
 */
#ifndef SCOPE_INJECT_TEXT_H
#define SCOPE_INJECT_TEXT_H

#include "inject/process.h"
#include "inject/trace.h"

struct text {
    char *name;
    int fd;                    /* its file */
    uint64_t lo, hi, offset;   /* the mapping */
    uint64_t text_lo, text_hi; /* what of it is the image's text */
    uint64_t bias;
    struct plan_header *plan; /* a copy of our own, checked */
    uint64_t blob;            /* where its slots are, or will be; 0: nowhere */
    char *filled;             /* the blob as it is, or will be, there */
    uint8_t *applied;         /* for each patch: it is to be made, or was found */
};
struct texts {
    struct text *v;
    size_t count;
    bool go;        /* some of it is Go's: threads run on small stacks that lie among other data (probe/stacks.h) */
    size_t unknown; /* files whose contents or plan could not be got: what is in their code can't be told */
};

/*
 * Those of a process, without the probe's own. Plans that aren't in the cache are made, and stored there if the process
 * is trusted: a file may claim to be another by its build id, and the cache serves all. when: TEXTS_WHEN() of the
 * conditions, beside PLAN_ALWAYS, whose patches are wanted.
 */
#define TEXTS_WHEN(plan_when) (1u << (plan_when))
void texts_read(pid_t pid, const struct process_maps *m, const char *plan_dir, bool trusted, unsigned when,
                struct texts *ret);
void texts_free(struct texts *t);

/* Drops the patches whose bytes in memory aren't those that the plan was made from. The process may run. */
TRACE_CHECK int texts_check(pid_t pid, struct texts *t);
/* Finds out which patches are in place, and the blobs that they lead to. The process may run. */
TRACE_CHECK int texts_find_applied(pid_t pid, struct texts *t);

enum text_place {
    TEXT_ELSEWHERE, /* no matter of ours */
    TEXT_MOVES,     /* goes to *ret_to */
    TEXT_INSIDE,    /* in the middle of what *ret_text and *ret_patch replace */
};
/* A program counter, before the patches that are marked as applied are made. */
enum text_place texts_before(const struct texts *t, uint64_t pc, uint64_t *ret_to, struct text **ret_text,
                             uint32_t *ret_patch);
/* ... and while they are in place. TEXT_INSIDE: in a slot (other results are not told). */
enum text_place texts_after(const struct texts *t, uint64_t pc, uint64_t *ret_to);
/* Whether a thread that stands there will come to a hook behind a call, or is at that call, and the hook expects the
 * call's first argument in a register (arch_hook_register()) because the call destroys it. *ret_over: it stands behind
 * the call. */
bool texts_argument(const struct texts *t, uint64_t pc, unsigned *ret_register, bool *ret_over);
/* Where the slots have to begin so that all patches of PLAN_REL_32_POP that are marked can be made; false if there is no
 * such place, or none is needed. */
bool text_blob_range(const struct text *t, uint64_t *ret_lo, uint64_t *ret_hi);
/* Gives up, as PLAN_R_RUNNING, what can't be made safely in a program that runs, t->blob being chosen: patches for
 * programs that start, if wanted, and those that text_blob_range() is for, if it lies elsewhere. */
void text_skip_unsafe(struct text *t);
/* Gives up all patches of the site that a patch belongs to. why: enum plan_reason from PLAN_R_CHANGED on, which becomes the
 * reason of that site in t->plan. */
void text_skip_site(struct text *t, uint32_t patch, enum plan_reason why);
/* ... of all its sites. why: PLAN_R_PROTECTED. */
void text_skip_all(struct text *t, enum plan_reason why);

/* Makes or undoes all patches that are marked as applied, through a descriptor of /proc/PID/mem: each in one write,
 * and those that others lead to first (last). 0 or -errno: then none was lost, but some may not be made. All threads
 * stand: coming back from the kernel each begins with what is there by then, whatever instruction was replaced by
 * which (Arm ARM, B2.2.5, allows few to change while they are executed; an exception return is a context
 * synchronization event). Caches of instructions are the kernel's business, as for a debugger: what is written to
 * memory that is executable goes through flush_ptrace_access() (arch/arm64/mm/flush.c; /proc/PID/mem and
 * PTRACE_POKEDATA alike). process_vm_writev(2) doesn't: it serves for memory that becomes executable by mprotect(2)
 * later, where __sync_icache_dcache() does the same. */
TRACE_CHECK int texts_write(const struct texts *t, int mem, bool undo);

/* Compares all code with its files, or (patched) what it would be without the patches that are marked as applied:
 * *ret_bytes that were compared, *ret_differ of them that differ. */
TRACE_CHECK int texts_compare(pid_t pid, const struct texts *t, bool patched, uint64_t *ret_bytes,
                              uint64_t *ret_differ);

#endif
