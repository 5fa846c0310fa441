/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a thread that is about to die of a signal says so (segment_header.crash),
 * and is let go by the collector. Only with SEG_M_CRASH.
 *
 *   thread      takes a place: compare-and-swap CRASH_FREE -> CRASH_FILLING; fills it in; stores CRASH_TOLD (release);
 *               wakes the collector as a writer of the ring does; waits on `state` (futex(2), shared)
 *   collector   CRASH_TOLD -> CRASH_SEEN when it has read the place, stores CRASH_DONE (release) when it has read the
 *               process, wakes the futex both times; before that it stores 0 as the kind if nobody has looked, so that
 *               others who could (scope daemon) know. A place that was CRASH_DONE becomes CRASH_FREE when its owner,
 *               which is about to die, is gone
 *
 * The thread waits CRASH_SEEN_MS for CRASH_SEEN, and then CRASH_WAIT_MS for CRASH_DONE; then it dies, whatever the
 * collector does. If no place is free it counts itself (crashes_refused) and dies at once. Both sides check what they
 * read: the program can write here.
 * Other threads, which nobody has stopped yet, may crash, too, and take a place each; the first to be let go ends the
 * process. In a sandbox (seccomp(2)) no call can be made: nobody is woken (the collector stays awake there:
 * segment_header.wakes), the times may be rough, and pid and tid missing.
 */
#ifndef SCOPE_WIRE_CRASH_H
#define SCOPE_WIRE_CRASH_H

#include <stdint.h>

#define SEG_CRASHES    8u     /* threads of a process, and of children that borrow its segment, at a time */
#define CRASH_SEEN_MS  1000u
#define CRASH_WAIT_MS  20000u /* a core of 2 GiB is written in that time; else it is cut */

enum crash_state { CRASH_FREE, CRASH_FILLING, CRASH_TOLD, CRASH_SEEN, CRASH_DONE };

enum crash_kind {
    CRASH_SIGNAL = 1,     /* a signal whose default action ends the program, and that nobody handles */
    CRASH_EXIT = 2,       /* a Go program exits with an error: whether it panics shows its stack */
};

struct seg_crash {
    uint32_t state;       /* enum crash_state */
    uint32_t kind;        /* enum crash_kind */
    uint32_t pid, tid;    /* as the process sees them; 0: it could not ask, in a sandbox */
    int32_t signo, code, err; /* siginfo_t */
    int32_t status;       /* CRASH_EXIT: exit status */
    int32_t sender;       /* si_pid, si_uid where code says that somebody has sent it */
    uint32_t sender_uid;
    uint64_t addr;        /* si_addr; CRASH_EXIT: the stack pointer: the thread waits on a stack of the probe */
    uint64_t context;     /* address of the ucontext_t in the process; 0: the thread's registers as it waits (CRASH_EXIT) */
    uint64_t ticks;       /* the segment's clock, 0 if it has none */
};

#endif
