/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept of a program that crashes, or of which somebody wants to have a
 * snapshot: a directory with
 *
 *   snapshot.json   what is known, for programs: cause, process, threads with frames and registers, mappings,
 *                   descriptors (docs/crashes.md)
 *   backtrace.txt   the same, for people
 *   core            an ELF core (elf(5), core(5)), if it is wanted
 *
 * The process is looked at from outside, by a worker process: it stops the
 * threads (ptrace(2)), reads registers and memory, lets go of them, and may take
 * its time for names and lines afterwards. Everything that it reads (memory,
 * maps, ELF, DWARF) belongs to the observed program and is hostile: the worker
 * has bounded time and memory, no rights but those that the process itself has
 * where we have more, and may die at any moment. Then the summary says so, and
 * whatever had been written stays.
 */
#ifndef SCOPE_CRASH_CRASH_H
#define SCOPE_CRASH_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CRASH_CORE_MAX (UINT64_C(2) << 30) /* of a core, unless somebody wants another bound */
#define CRASH_FRAMES   128u                /* of one thread that are kept */
#define CRASH_TOP      10u                  /* frames in a summary */

/* Why a process is looked at. */
struct crash_cause {
    pid_t pid;          /* in our pid namespace */
    pid_t tid;          /* the thread that it is about, likewise; 0: none, a snapshot */
    int signo;          /* signal(7); 0: none (a snapshot, the exit of a Go program) */
    int code, err;      /* si_code, si_errno of sigaction(2) */
    uint64_t addr;      /* si_addr, where that signal and code have one; of a Go program that exits: where its stack is, if
                         * the thread stands on another; 0: it doesn't */
    pid_t sender;       /* si_pid and si_uid, where code says that somebody has sent it; as the process sees them */
    uid_t sender_uid;
    int status;         /* of a Go program that exits (signo is 0): its exit status */
    uint64_t context;   /* ucontext_t of the thread at the signal, in its memory; 0: its registers are as it stands */
    uint64_t time_ns;   /* CLOCK_REALTIME; 0: now */
};

struct crash_wishes {
    bool backtrace, core;
    uint64_t core_max;     /* bytes of the core's file at most; 0: CRASH_CORE_MAX */
    bool environment;      /* with secrets struck out; left out otherwise */
    /* The kernel is writing a core of the process (core(5), a program that is piped to): its threads stand, and can't be
     * traced, but its memory can be read. notes: its PT_NOTE segment, which has their registers; the caller's until the
     * job has begun. NULL: the process runs. */
    const void *notes;
    size_t notes_size;
    /* With notes: where the kernel writes that core, a pipe; the caller's. While it has a writer the number of the
     * process is still that of the one that crashed; what was read when it has none any more is thrown away. */
    int kernel_core;
    bool if_panic;         /* only if the thread `tid` stands below a function by which Go ends with an error */
    /* The rights of the process instead of ours: what is called in the worker before it looks at anything; 0 or -errno. */
    int (*become)(void *ctx);
    /* Whether it is still the process that was meant, once its threads stand: called in the worker; 0 or -errno. NULL: it
     * is. */
    int (*still)(void *ctx);
    void *ctx;
    int keep_fd;           /* a descriptor that these need; 0: none */
};

/* A frame as it is told in events; the whole trace is in the files. */
struct crash_frame {
    uint64_t pc;
    char module[64];      /* base name, "" if none */
    char function[128];   /* demangled, cut at its end; "" if unknown */
    uint64_t offset;      /* from the function's start, or from the module's */
    char file[128];       /* source, "" if unknown */
    unsigned line;
    bool guessed;         /* by frame pointers or a scan */
};

struct crash_summary {
    bool hangs;            /* reading the program's files doesn't end; the worker waits for that: see crash_free() */
    bool panicked;         /* false with if_panic: nothing was written */
    unsigned threads, frames_total;
    unsigned top_count;
    struct crash_frame top[CRASH_TOP]; /* of the thread that it is about */
    char where[160];       /* what the address lies in: "NULL + 0x18", "40 bytes below the stack of thread 3" */
    char goroutine[32];    /* number of the goroutine that it is about, or "" */
    uint64_t stopped_ns;   /* for how long the threads stood */
    uint64_t core_bytes;   /* of the file, without its holes */
    int backtrace_error, core_error; /* 0 or -errno: why it is missing or cut: -EFBIG, -ENOSPC, -EPERM, -ETIMEDOUT, ... */
    char why[160];         /* ... in words, or "" */
};

enum crash_step {
    CRASH_BUSY,    /* the threads stand, or will */
    CRASH_LET_GO,  /* all that needs the process has been read: it may go on, or die */
    CRASH_OVER,    /* the files are complete, as far as they will be; the worker has ended */
};

struct crash_job;

/*
 * Begins to look at a process. dir: descriptor of the directory in which the files are made (0600, O_EXCL; owner: owner,
 * group); it stays the caller's. timeout_ms bounds everything; the process is let go after a quarter of it at the latest,
 * but for the time that the core takes. NULL and errno if no worker can be started. Not thread-safe; SIGCHLD is the
 * caller's, who must not reap this child (crash_pid()).
 */
struct crash_job *crash_begin(const struct crash_cause *cause, const struct crash_wishes *wishes, int dir, uid_t owner,
                              gid_t group, unsigned timeout_ms);
/* Readable whenever the step may have changed; the job's. */
int crash_fd(const struct crash_job *job);
pid_t crash_pid(const struct crash_job *job);
/* How far it is. Doesn't block. With CRASH_OVER *ret is filled in; before that it isn't touched. Ends the worker if its
 * time is over, so it must be called now and then, too; it is over 100 ms after that whether the worker has ended or not. */
enum crash_step crash_step(struct crash_job *job, struct crash_summary *ret);
/* Kills the worker if it still runs: the process goes on. Doesn't wait for the worker's end, which a file system that
 * doesn't answer can put off for ever: returns its number if it wasn't reaped, which is then for the caller to do; or 0. A worker whose work is complete, but which waits for the end of who
 * reads the program's files (summary.hangs), isn't killed: as long as it is there, so is that one. */
pid_t crash_free(struct crash_job *job);
/* All of the above at once, for the command line: 0 or -errno, *ret is filled in. */
int crash_take(const struct crash_cause *cause, const struct crash_wishes *wishes, int dir, unsigned timeout_ms,
               struct crash_summary *ret);

#endif
