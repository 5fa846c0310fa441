/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process whose threads stand, as the worker sees it: what was read of it, and where the rest of it can be read.
 * Everything in it is the observed program's and may lie, but for the numbers of pid and threads, and the registers.
 */
#ifndef SCOPE_CRASH_VIEW_H
#define SCOPE_CRASH_VIEW_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "crash/crash.h"
#include "inject/process.h"
#include "machine.h"

#define CRASH_XSTATE_MAX 16384u /* with AMX: 11,008 */

struct crash_thread {
    pid_t tid;         /* in our pid namespace */
    pid_t own_tid;     /* as the process sees it */
    char comm[16];     /* NUL-terminated */
    bool stands;       /* false: it could not be stopped, and none of the following is known */
    bool from_context; /* regs are those of cause.context, not those with which it stands in the handler */
    machine_regs regs; /* NT_PRSTATUS has them */
    machine_fpregs fp; /* NT_FPREGSET */
    machine_more more; /* other sets: machine_notes */
    void *xstate;      /* CORE_XSTATE, malloc'ed; NULL: none */
    size_t xstate_size;
    bool has_siginfo; /* of the thread that it is about, made up from the cause */
    siginfo_t siginfo;
    uint64_t sigmask, sigpending; /* 1 << (N - 1) */
    char state;                   /* of /proc/PID/task/TID/stat before it was stopped, 0 if unknown */
};

struct crash_view {
    const struct crash_cause *cause;
    pid_t pid;                    /* in our pid namespace */
    pid_t own_pid;                /* as it sees itself */
    struct crash_thread *threads; /* that of the cause first, or the main thread */
    size_t thread_count;
    struct process_maps maps; /* as of while the threads stand */
    int mem;                  /* /proc/PID/mem, for reading (pread(2) at the address); -1: not allowed */
    void *auxv;               /* /proc/PID/auxv, malloc'ed */
    size_t auxv_size;
    uint64_t deadline; /* CLOCK_MONOTONIC ns: beyond it writing is to end with -ETIMEDOUT */
};

#endif
