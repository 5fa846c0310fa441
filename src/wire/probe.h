/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe's own state as far as an injector sets it up from outside, when it
 * brings the probe into a program that runs already, or looks at it, to take the
 * probe out again (inject/attach.h). In a program that is started observed the
 * probe fills all of it by itself.
 *
 * Addresses are those of the observed program.
 */
#ifndef SCOPE_WIRE_PROBE_H
#define SCOPE_WIRE_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/plan_format.h"
#include "wire/segment.h"

/* Process state that must not survive a fork. Lives on a page of its own with
 * MADV_WIPEONFORK (Linux 4.14): a child that finds `segment` NULL knows that it
 * is one, whatever instruction it was born at. */
struct process {
    struct segment_header *segment; /* NULL: just forked, or not observed */
    /* Either not 0: ask whose call this is before counting. */
    uint32_t slow __attribute__((aligned(8))); /* enum slow */
    uint32_t vforks;                /* threads suspended in vfork: their children run in our memory */
    uint32_t pid;
    uint32_t multi;                 /* there is, or was, more than one thread */
    uint32_t clones;                /* tasks cloned from a site whose number isn't constant, with a stack of their own,
                                     * that haven't returned yet: nothing was pushed under their stack pointer */
    uint32_t borrowed;              /* operations recorded in the parent's ring */
    uint32_t upgrading;             /* a thread is making our own segment */
    uint32_t begun;                 /* attached: calls that were under way, whose enter hooks did not run */
    uint32_t gave_up;               /* lossless: waited in vain; don't again before the reader moves */
    uint64_t gave_up_tail;
};

enum sandbox {
    SANDBOX_SECCOMP = 1,
    SANDBOX_ASKED = 2,              /* the call that enters one is under way */
    SANDBOX_DISPATCH = 3,           /* Syscall User Dispatch: a call of ours may come to the program as SIGSYS */
};

/* Constant after start, and what a fork child needs. */
struct probe {
    struct segment_header *segment; /* of this process, or of the parent it was forked from */
    uint64_t table_hash;
    uint32_t euid;                  /* at start */
    uint32_t fd_cap;
    const char *const *argv;        /* at start, on the initial stack; NULL: not known */
    uint32_t mode;                  /* initial enum seg_mode */
    uint32_t clock;                 /* enum seg_clock */
    bool off;                       /* not observed: hooks return at once */
    bool timing;
    bool leaving;                   /* about to be taken out: calls of functions are left alone from now on */
    uint8_t sandboxed;              /* no system calls of our own: enum sandbox; 0: we may make them */
    uint32_t ring_off;              /* segment_ring(fd_cap) */
    uint32_t plans_at;              /* in `paths`: directory of plans, SCOPE_PLANS */
    char socket[128];               /* SCOPE_SOCKET: the collector's name and the session's secret; or the path where the
                                     * collector of the whole host is: each exec is decided by its rules anew */
    uint64_t netns;                 /* cookie of the network namespace where the name was reached; 0: none so far */
    uint64_t *mail;                 /* join_load.mail; NULL: the loader has brought us, or an injector */
    /* One behind the other, so that a process that starts has one page of it all. */
    union {
        char lib[4096];             /* path of this library, as LD_PRELOAD shall name it */
        char paths[2 * 4096];       /* that, and behind its end the other */
    };
};
/* struct sigaction, as the kernel has it. */
struct probe_action {
    uint64_t handler, flags, restorer, mask;
};

/* Fatal signals, with SEG_M_CRASH (probe/crash.h): where what an injector sets, or puts back, is. */
struct probe_crash {
    bool *on;                       /* our handlers are, or may be, there */
    bool *own_stack;                /* threads get no alternate stacks of ours */
    uint64_t *onstack;              /* 1 << (signal - 1): the handler has SA_ONSTACK, of which the kernel isn't told */
    struct probe_action *ours;
    struct probe_action *dfl, *once;/* by signal up to 31: what the program has set, where `ours` or once_handler is */
    uint64_t once_handler;
    uint64_t *stacks;               /* alternate stacks that threads were given: where each was mapped, 0: not yet */
    uint32_t stack_count;
    uint32_t stack_size;            /* of each, as mapped; the lowest page can't be touched */
};

/*
 * Where in the probe's image these are, once it is relocated. The 4 bytes before the image's entry point (e_entry) are
 * the distance from the entry point to this struct: the probe has no symbols.
 */
#define PROBE_INFO_MAGIC UINT64_C(0x416f666e49706353) /* "ScpInfoA" */
struct probe_info {
    uint64_t magic;
    uint32_t probe_size, process_size; /* of the structs: a probe of another build may have others */
    uint64_t entry[PLAN_ENTRIES];              /* for the entry table of a blob: enum plan_entry */
    struct probe *probe;
    struct process **process;
    uint8_t *no_ticks, *fsgsbase;   /* reading the counter faults; the thread pointer can be read with an instruction */
    uint64_t *stacks, *stacks_end;  /* hold where the stacks for hooks of Go code are (0: there are none yet) */
    uint64_t stacks_size;           /* of all of them: fresh memory that a fork wipes */
    uint64_t *go_notes;             /* holds where calls of functions of Go are noted (0: nowhere); likewise */
    uint64_t go_notes_size;
    void *function_shards;          /* calls of hooked functions that are under way: the sum of every 8th uint64_t */
    uint64_t function_shards_size;
    struct probe_crash *crash;
    uint64_t *page;                 /* bytes of a page; NULL: it knows */
    uint64_t mapped;                /* bytes mapped for the image by who brought it in from outside; 0: a loader did */
    uint64_t *shared_pointer;       /* Go: the thread pointer that all threads may have, the first one's; NULL: none */
};

#endif
