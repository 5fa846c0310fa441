/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of a process that crashes (docs/data-model.md, proc.crash). */
#ifndef SCOPE_REPORT_CRASH_H
#define SCOPE_REPORT_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proc;

/* Strings may be NULL: not known. */
struct report_crash {
    int signo;                  /* 0: it exits with an error */
    int status;                 /* exit status, signo is 0 */
    const char *code;           /* why it came */
    bool has_addr, sent;        /* addr is known; sender and sender_uid are */
    uint64_t addr;              /* si_addr */
    pid_t sender;               /* si_pid, si_uid */
    uid_t sender_uid;
    uint32_t tid;               /* as the process sees it; 0: not known */
    const char *thread;         /* its name */
    const char *where;          /* what the address lies in */
    const char *goroutine;
    const char *const *frames;  /* the innermost first */
    size_t frame_count, at;     /* at: the one that says most */
    unsigned threads;           /* 0: not known */
    uint64_t stopped_ns;        /* 0: it wasn't */
    const char *dir;            /* absolute path of the directory with the files */
    const char *const *files;   /* their names */
    size_t file_count;
    uint64_t core_bytes;        /* 0: there is none */
    const char *missing;        /* what is missing, and why */
};
void report_crash(struct proc *p, const struct report_crash *c, uint64_t time_ns);

/* Whether a signal is one of those that tell of a fault in the program: SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS,
 * SIGTRAP. */
bool report_is_crash(int signo);

#endif
