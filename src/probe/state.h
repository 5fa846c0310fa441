/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the probe remembers: about the process, about each thread, about calls
 * between their enter and exit hooks. No locks; everything is safe in signal
 * handlers, which may interrupt any line of the probe and may never return.
 */
#ifndef SCOPE_PROBE_STATE_H
#define SCOPE_PROBE_STATE_H

#include "lib.h"
#include "wire/join.h"
#include "wire/probe.h"
#include "wire/record.h"
#include "wire/segment.h"

enum slow {
    SLOW_BORROWED = 1, /* the segment is the parent's */
    SLOW_FOREIGN = 2,  /* clone(CLONE_VM) without a thread: others run in our memory */
};

extern struct process *process;

static inline bool process_slow(void)
{
    return process->slow | process->vforks;
}

/* First character of $SCOPE_MODE when the program before the exec had entered seccomp: stay away. */
#define MODE_SANDBOXED 's'

extern struct probe probe;

/* Directory of cached plans; "": there is none. */
static inline const char *probe_plans(void)
{
    return probe.paths + probe.plans_at;
}

/* The path of this library, and behind it the directory of plans. What is too long is left out. */
static inline void probe_set_paths(const char *lib, const char *plans)
{
    probe.lib[0] = 0;
    str_add(probe.lib, 0, sizeof(probe.lib), lib);
    probe.plans_at = (uint32_t)str_len(probe.lib, sizeof(probe.lib) - 1) + 1;
    probe.paths[probe.plans_at] = 0;
    str_add(probe.paths, probe.plans_at, sizeof(probe.paths), plans);
}

/* By the collector of the whole host: each program that is exec'ed is decided by its rules anew (rules.h), and gets the
 * environment that it would get bare. */
static inline bool probe_of_host(void)
{
    return probe.socket[0] == '/';
}

extern struct probe_info scope_info __attribute__((visibility("hidden")));
extern uint32_t dispatching;        /* threads whose calls may come to the program itself */
extern uint8_t probe_no_ticks;      /* reading the time stamp counter faults */

static inline void populate_as(const void *p, size_t size, int advice)
{
    uint64_t lo = (uint64_t)p & ~(PROBE_PAGE - 1), hi = ROUND_UP((uint64_t)p + size, PROBE_PAGE);

    SYS3(__NR_madvise, lo, hi - lo, advice);
}

/* Gives [p, p+size) memory of its own in one go: a fault for each page costs several times as much. Older kernels
 * (< 5.14) just don't. */
static inline void populate(const void *p, size_t size)
{
    populate_as(p, size, 23 /* MADV_POPULATE_WRITE */);
}

/* The same for what is only read. */
static inline void populate_read(const void *p, size_t size)
{
    populate_as(p, size, 22 /* MADV_POPULATE_READ */);
}

/* One thread. Found by thread pointer; made at its first hook. */
#define THREAD_CALLS 8
#define FUNCTION_NOTES 4u
struct thread {
    uint64_t key;                   /* thread pointer | 1; 0 free; THREAD_GONE free again */
    uint32_t tid;
    uint32_t owner;                 /* process.pid for which tid is valid: others' after fork */
    uint32_t child_pid, child_tid;  /* a vfork child runs on this thread's slot */
    void *scratch;                  /* environment built for an exec */
    size_t scratch_size;
    uint64_t scratch_was;           /* the program's own register */
    uint32_t fork;                  /* number of the fork that this thread has begun; 0: none */
    /* Syscall User Dispatch: calls made inside (outside, if `inclusive`) of [lo, lo + len) reach the kernel, others, while
     * *selector isn't 0, its own SIGSYS handler. */
    struct dispatch {
        bool on, inclusive;
        uint64_t lo, len;
        const volatile uint8_t *selector; /* NULL: always */
    } dispatch;
    bool rights;                    /* the vfork child has given up something: rights_back() */
    int traced;                     /* join_trace()'s descriptor + 1 while an exec is under way; 0: none */
    /* Calls between enter and exit hook. key is one store, sp << 16 | nr + 1: a handler that interrupts
     * anywhere can't tear it. time belongs to it but a wrong one does no harm. */
    struct {
        uint64_t key, time;
    } call[THREAD_CALLS];
    uint32_t next;                  /* victim when all are taken: entries left by longjmp */
    /* Functions of TLS libraries that are under way, the innermost last (functions.h). Some may have been left by
     * longjmp: they are found again by nobody. */
    uint32_t functions;
    struct function_note {
        uint64_t sp;                /* stack pointer at its entry */
        uint64_t object;            /* TLS object; 0: not known yet */
        uint16_t fn;                /* enum fn_id */
        uint8_t told;               /* 1 << enum data_source: a function inside has told the bytes */
        uint8_t hello;              /* enum hello_state (functions.c) */
    } function[FUNCTION_NOTES];
};
#define THREAD_GONE 2

#define THREADS 4096 /* a power of two */
extern struct thread threads[THREADS]; /* touched page by page as threads appear */

/* Where the search for a thread's slot begins. */
static inline uint32_t thread_hash(uint64_t key)
{
    return (uint32_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 52);
}

struct thread *thread_find(struct process *p, uint64_t key);

/* The calling thread's slot, or NULL when the table is full (counted as LOSS_SLOT). */
static inline struct thread *thread_get(struct process *p)
{
    uint64_t key = arch_thread_pointer() | 1;
    struct thread *t = &threads[thread_hash(key)];

    __asm__("" : "+r"(t)); /* the address is worked out once, not for each member */
    if (likely(__atomic_load_n(&t->key, ORDER_THREAD_KEY) == key && t->owner == p->pid))
        return t;
    return thread_find(p, key);
}

/* The same as it was left, also by the thread that this one is a forked copy of; NULL if there is none. */
struct thread *thread_left(void);

/* The slot of this thread pointer, if any, belongs to a thread that is about to be made. */
void thread_stale(uint64_t thread_pointer);
/* Frees the slot of a thread that is about to exit. */
void thread_forget(struct thread *t);
/* What the enter hook leaves for the exit hook of the same call: number (below 0x7fff) and time. */
void call_push_slow(struct thread *t, uint64_t sp, int64_t nr, uint64_t time);
int64_t call_pop_slow(struct thread *t, uint64_t sp, uint64_t *ret_time);

/* A vfork child runs on its parent's slot and may call at the very stack pointer of the parent's vfork: its
 * entries are marked. */
#define CALL_CHILD 0x8000u
#define CALL_KEY(sp, nr, mark) ((sp) << 16 | (uint16_t)(((nr) + 1) | (mark)))
#define CALL_MATCHES(k, sp, mark) \
    ((k) && (k) >> 16 == ((sp) & UINT64_C(0xffffffffffff)) && ((k) & CALL_CHILD) == (mark))

/* Nearly always no other call is under way: the first place is free. */
static inline void call_push(struct thread *t, uint64_t sp, int64_t nr, uint64_t time)
{
    uint64_t k = *(volatile uint64_t *)&t->call[0].key;

    if (likely((!k || CALL_MATCHES(k, sp, 0u)) && !t->child_pid && !(process->slow & SLOW_FOREIGN))) {
        t->call[0].time = time;
        *(volatile uint64_t *)&t->call[0].key = CALL_KEY(sp, nr, 0u);
        return;
    }
    call_push_slow(t, sp, nr, time);
}

/* The number pushed for sp, or -1. */
static inline int64_t call_pop(struct thread *t, uint64_t sp, uint64_t *ret_time)
{
    uint64_t k = *(volatile uint64_t *)&t->call[0].key;

    if (likely(CALL_MATCHES(k, sp, 0u) && !t->child_pid)) {
        *ret_time = t->call[0].time;
        *(volatile uint64_t *)&t->call[0].key = 0;
        return (int64_t)(k & (CALL_CHILD - 1)) - 1;
    }
    return call_pop_slow(t, sp, ret_time);
}
/* Drops what a vfork child has left: the exec that it never returned from. */
void call_drop_child(struct thread *t);

/* The segment to write to, or NULL when nothing shall be recorded. Detects a
 * fork: the child then borrows the parent's segment. pid_hint: its number if
 * that is known without a call, else 0. */
struct segment_header *process_forked(uint32_t pid_hint);
static inline struct segment_header *process_segment(void)
{
    struct segment_header *s = process->segment;

    return likely(s != NULL) ? s : process_forked(0);
}

/* Counts one more operation in a borrowed ring and, after BORROW_MAX, makes a
 * segment of our own. Returns the segment to use; the old one stays mapped. */
#define BORROW_MAX 256
struct segment_header *process_borrow(struct segment_header *s);

/*
 * Descriptors that the probe holds for some system calls. Another thread may
 * fork meanwhile: its child would keep them, so they are listed, and the child
 * closes what it finds. own_fd() lists a fresh descriptor (or passes an error on),
 * own_close() closes it. A vfork child's aren't listed: they have numbers of its
 * own, and no other thread can copy them. Fork copies the descriptors some time
 * before it copies the list, so a descriptor that is held for less than that
 * (when a thread execs in vain) may still slip through.
 */
int own_fd(long fd);
void own_close(int fd);

static inline struct fd_entry *fd_entry(struct segment_header *s, int64_t fd)
{
    return (uint64_t)fd < probe.fd_cap ? (struct fd_entry *)(void *)((char *)s + SEG_FDS) + fd : NULL;
}

/* The part that belongs to an entry. */
static inline const struct fd_skip *fd_skip(const struct segment_header *s, int64_t fd)
{
    return (const struct fd_skip *)(const void *)((const char *)s + segment_skips(probe.fd_cap)) + fd;
}

static inline void add64(uint64_t *p, uint64_t n)
{
    if (process->multi)
        __atomic_fetch_add(p, n, __ATOMIC_RELAXED);
    else
        arch_add64(p, n);
}

/* The same, returns what was there before. */
static inline uint64_t fetch_add64(uint64_t *p, uint64_t n)
{
    return process->multi ? __atomic_fetch_add(p, n, __ATOMIC_RELAXED) : arch_fetch_add64(p, n);
}

/* The same with the result of the addition; for generations: who reads the sum in another process finds what was written
 * before. The fence costs nothing: it is for the compiler. */
static inline uint32_t add32(uint32_t *p, uint32_t n)
{
    __atomic_signal_fence(__ATOMIC_RELEASE);
    return process->multi ? __atomic_add_fetch(p, n, ORDER_GEN_RAISE) : arch_add32(p, n);
}
_Static_assert(ORDER_GEN_RAISE == __ATOMIC_RELEASE && ORDER_TLS_LIFE == __ATOMIC_RELEASE, "add32() does both");

static inline void count_loss(struct segment_header *s, enum seg_loss kind, uint64_t n)
{
    __atomic_fetch_add(&s->loss[kind], n, __ATOMIC_RELAXED);
}

/* Time in ticks of probe.clock. */
static inline uint64_t now(void)
{
    return likely(!probe_no_ticks) ? arch_ticks() : 0;
}

#endif
