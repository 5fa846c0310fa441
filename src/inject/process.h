/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts about a running process that attaching and detaching need, from /proc
 * (proc(5)): who it is, what it has mapped, and whether the probe is in it.
 * Nothing here stops it.
 */
#ifndef SCOPE_INJECT_PROCESS_H
#define SCOPE_INJECT_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "wire/probe.h"

struct process_facts {
    char name[32]; /* comm */
    char state;    /* R S D T t Z ... */
    bool kernel_thread;
    pid_t tracer;       /* 0: none */
    uint32_t pid, ppid; /* as it sees itself; ppid as we see it */
    uint32_t uid, euid, gid, egid;
    unsigned threads;
    int seccomp;       /* 0 none, 1 strict, 2 filter: the most of any thread */
    bool shadow_stack; /* a thread has one */
};
/* Takes over the lines of a /proc/PID/status. all: of the process; else of another thread of it, of which only the
 * last two members matter. */
void process_read_status(FILE *f, struct process_facts *ret, bool all);
/* 0, or -ESRCH, or another error of reading /proc. */
int process_facts(pid_t pid, struct process_facts *ret);

bool process_is_trusted(const struct process_facts *f); /* root's or our own: what it runs may go into our cache */
bool process_has_ended(pid_t pid);                      /* or is about to, or only waits for its parent to notice */

/* Why a process can't be attached to or detached from: NULL, or a sentence (malloc'ed) that names cause and remedy. */
char *process_objection(pid_t pid, const struct process_facts *f);
/* The same if it is traced just now. */
char *process_tracer(pid_t pid);

struct process_map {
    uint64_t lo, hi, offset, inode;
    dev_t dev;
    bool read, write, execute, shared;
    char *name; /* path, "[stack]", "/memfd:scope (deleted)", "" */
};
struct process_maps {
    struct process_map *v; /* by address */
    size_t count;
};
/* 0 or -errno. Undo: process_maps_free(). */
int process_maps(pid_t pid, struct process_maps *ret);
void process_maps_free(struct process_maps *m);
const struct process_map *process_map_at(const struct process_maps *m, uint64_t address);
/* Whether both have the same code of the same files at the same addresses. */
bool process_maps_same_code(const struct process_maps *a, const struct process_maps *b);
bool process_map_is_segment(const struct process_map *m);
/*
 * Room for `size` bytes of new memory, of which everything is near [lo, hi) (all zero: anywhere), away from where stack
 * and heap grow. The place is entered into the maps, so that it is not given twice. 0: none.
 */
uint64_t process_maps_reserve(struct process_maps *m, uint64_t lo, uint64_t hi, uint64_t size);
/* The same inside of [lo, hi), where nothing is yet; it may be just what a heap would grow into. */
uint64_t process_maps_reserve_in(struct process_maps *m, uint64_t lo, uint64_t hi, uint64_t size);

/* The hard limit of open files, UINT64_MAX if there is none or it can't be known. (prlimit(2) of another user's process
 * takes CAP_SYS_RESOURCE, which root has not got in containers.) */
uint64_t process_max_files(pid_t pid);
/* The stack pointer that its program began with; 0 if it isn't shown. */
uint64_t process_start_stack(pid_t pid);
/* Where its heap begins (brk(2)), or will; 0 if it isn't shown. */
uint64_t process_heap(pid_t pid);
/* A value of the auxiliary vector; 0 if it isn't there. */
uint64_t process_auxv(pid_t pid, uint64_t type);
/* Target of a link in /proc/PID; malloc'ed, "" if unknown. */
char *process_link(pid_t pid, const char *name);

/* The file of a mapping, for reading: a descriptor, or -errno; -ESTALE: the file of that name is another one now. */
int process_open_map(pid_t pid, const struct process_map *m);

/* Memory of any process that we may trace. 0, or -errno; -EFAULT: it isn't there. */
int process_read(pid_t pid, uint64_t addr, void *to, size_t len);

/* The probe that is in a process. */
struct process_probe {
    uint64_t base, span; /* of its image; other mappings may lie inside */
    bool file;           /* the dynamic loader mapped it */
    struct probe_info info;
    struct probe probe;
    uint64_t process; /* address of its struct process; 0: it never started */
};
/* True if there is one that observes. *ret_passive, which may be NULL, tells that there is one that does not (any
 * more). */
bool process_find_probe(pid_t pid, const struct process_maps *m, struct process_probe *ret, bool *ret_passive);
/* Whether an instruction lies in a probe of the loader's that isn't active yet: of a thread that stands there, it is its
 * start. */
bool process_starts_probe(pid_t pid, const struct process_maps *m, uint64_t pc);

#endif
