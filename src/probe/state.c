/* SPDX-License-Identifier: Apache-2.0 */
#include "state.h"

#include "crash.h"
#include "functions.h"
#include "go_functions.h"
#include "join.h"
#include "ring.h"
#include "stacks.h"

#define PROBES 64
#define HIDDEN __attribute__((visibility("hidden")))

struct thread threads[THREADS];
HOT_DATA struct process *process;
struct probe probe __attribute__((aligned(2048))); /* all of it that is short lies in one page */
HOT_DATA uint8_t probe_no_ticks, probe_fsgsbase;
HOT_DATA HIDDEN uint32_t dispatching;

extern char scope_entry_exit[] HIDDEN, scope_entry_enter[] HIDDEN, scope_entry_call[] HIDDEN;
extern char scope_entry_go_exit[] HIDDEN, scope_entry_go_enter[] HIDDEN, scope_entry_function[] HIDDEN;

struct probe_info scope_info = {
    .magic = PROBE_INFO_MAGIC,
    .probe_size = sizeof(struct probe),
    .process_size = sizeof(struct process),
    .entry = {[PLAN_ENTRY_EXIT] = (uint64_t)scope_entry_exit,
              [PLAN_ENTRY_ENTER] = (uint64_t)scope_entry_enter,
              [PLAN_ENTRY_CALL] = (uint64_t)scope_entry_call,
              [PLAN_ENTRY_GO_EXIT] = (uint64_t)scope_entry_go_exit,
              [PLAN_ENTRY_GO_ENTER] = (uint64_t)scope_entry_go_enter,
              [PLAN_ENTRY_FUNCTION] = (uint64_t)scope_entry_function,
              [PLAN_ENTRY_TIMED] = ARCH_ENTRY_TIMED,
              [PLAN_ENTRY_GO_FUNCTION] = ARCH_ENTRY_GO_FUNCTION},
    .probe = &probe,
    .process = &process,
    .no_ticks = &probe_no_ticks,
    .fsgsbase = &probe_fsgsbase,
    .stacks = &scope_stacks,
    .stacks_end = &scope_stacks_end,
    .stacks_size = STACK_COUNT * STACK_SIZE,
    .go_notes = &go_notes,
    .go_notes_size = GO_NOTES_SIZE,
    .function_shards = function_shards,
    .function_shards_size = sizeof(function_shards),
    .crash = &crash_info,
    .page = ARCH_PAGE_SIZE,
    .shared_pointer = ARCH_SHARED_POINTER,
};

static void thread_identify(struct process *p, struct thread *t)
{
    t->tid = probe.sandboxed ? 0 : (uint32_t)SYS1(__NR_gettid, 0);
    t->child_pid = 0;
    t->scratch = NULL;
    t->traced = 0;
    t->dispatch.on = false; /* of a thread that is no more, or of the parent: a fork ends it */
    if ((p->slow & SLOW_FOREIGN) && !probe.sandboxed) {
        uint32_t pid = (uint32_t)SYS1(__NR_getpid, 0);

        if (pid != p->pid) {
            t->child_pid = pid;
            t->child_tid = t->tid;
        }
    }
    t->owner = p->pid;
    if (unlikely(probe.mode & SEG_M_CRASH))
        crash_thread(t);
}

void thread_stale(uint64_t thread_pointer)
{
    uint64_t key = thread_pointer | 1;
    uint32_t h = thread_hash(key);

    for (uint32_t i = 0; i < PROBES; i++, h++) {
        struct thread *t = &threads[h & (THREADS - 1)];

        uint64_t k = __atomic_load_n(&t->key, __ATOMIC_RELAXED); /* others come and go in the places between */

        if (k == key) {
            t->owner = 0;
            t->fork = 0;
            t->functions = 0;
        }
        if (!k)
            return;
    }
}

struct thread *thread_left(void)
{
    uint64_t key = arch_thread_pointer() | 1;
    uint32_t h = thread_hash(key);

    for (uint32_t i = 0; i < PROBES && threads[h & (THREADS - 1)].key; i++, h++)
        if (threads[h & (THREADS - 1)].key == key)
            return &threads[h & (THREADS - 1)];
    return NULL;
}

struct thread *thread_find(struct process *p, uint64_t key)
{
    uint32_t h = thread_hash(key);
    struct thread *gone = NULL;

    for (uint32_t i = 0; i < PROBES; i++, h++) {
        struct thread *t = &threads[h & (THREADS - 1)];
        uint64_t k = __atomic_load_n(&t->key, ORDER_THREAD_KEY);

        if (likely(k == key)) {
            if (unlikely(t->owner != p->pid))
                thread_identify(p, t);
            return t;
        }
        if (k == THREAD_GONE && !gone)
            gone = t;
        if (k)
            continue;
        if (!gone)
            gone = t;
        break;
    }
    /* Only this thread ever inserts its own key, so a lost race just means another place. */
    for (uint32_t tries = 0; gone && tries < PROBES; tries++) {
        uint64_t k = __atomic_load_n(&gone->key, __ATOMIC_RELAXED);

        if ((k == 0 || k == THREAD_GONE) &&
            __atomic_compare_exchange_n(&gone->key, &k, key, false, ORDER_THREAD_TAKE, __ATOMIC_RELAXED)) {
            memset(&gone->tid, 0, sizeof(*gone) - offsetof(struct thread, tid));
            thread_identify(p, gone);
            return gone;
        }
        gone = &threads[++h & (THREADS - 1)];
    }
    if (p->segment)
        count_loss(p->segment, LOSS_SLOT, 1);
    return NULL;
}

void thread_forget(struct thread *t)
{
    t->owner = 0;
    __atomic_store_n(&t->key, THREAD_GONE, ORDER_THREAD_FREE);
}

void call_push_slow(struct thread *t, uint64_t sp, int64_t nr, uint64_t time)
{
    uint32_t mark = t->child_pid ? CALL_CHILD : 0; /* the parent is suspended meanwhile */
    int at = -1;

    for (int i = 0; i < THREAD_CALLS; i++) {
        uint64_t k = *(volatile uint64_t *)&t->call[i].key;

        if (CALL_MATCHES(k, sp, mark)) { /* left by a longjmp */
            at = i;
            break;
        }
        if (!k && at < 0)
            at = i;
    }
    if (at < 0)
        at = (int)(t->next++ % THREAD_CALLS);
    if (process->slow & SLOW_FOREIGN) { /* a task that shares our thread pointer may be choosing a place too */
        for (int i = 0; i < THREAD_CALLS; i++, at = (at + 1) % THREAD_CALLS) {
            uint64_t k = t->call[at].key;

            if ((!k || CALL_MATCHES(k, sp, mark)) &&
                __atomic_compare_exchange_n(&t->call[at].key, &k, CALL_KEY(sp, nr, mark), false, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED)) {
                t->call[at].time = time;
                return;
            }
        }
    }
    t->call[at].time = time;
    *(volatile uint64_t *)&t->call[at].key = CALL_KEY(sp, nr, mark);
}

int64_t call_pop_slow(struct thread *t, uint64_t sp, uint64_t *ret_time)
{
    uint32_t mark = 0;

    /* Child, or its parent that has just been resumed? In a sandbox it can't be asked: then most likely the child. */
    if (unlikely(t->child_pid) && (probe.sandboxed || (uint32_t)SYS1(__NR_gettid, 0) == t->child_tid))
        mark = CALL_CHILD;
    for (;;) {
        for (int i = 0; i < THREAD_CALLS; i++) {
            uint64_t k = *(volatile uint64_t *)&t->call[i].key;

            if (CALL_MATCHES(k, sp, mark)) {
                *ret_time = t->call[i].time;
                *(volatile uint64_t *)&t->call[i].key = 0;
                return (int64_t)(k & (CALL_CHILD - 1)) - 1;
            }
        }
        if (!mark || !probe.sandboxed)
            return -1;
        mark = 0;
    }
}

void call_drop_child(struct thread *t)
{
    for (int i = 0; i < THREAD_CALLS; i++)
        if (t->call[i].key & CALL_CHILD)
            t->call[i].key = 0;
}

#define OWN_FDS 32
HOT_DATA static int own_fds[OWN_FDS]; /* descriptor + 1; 0: free */

int own_fd(long fd)
{
    if (fd < 0)
        return (int)fd;
    if (process && process->vforks) {
        struct thread *t = thread_get(process);

        if (!t || t->child_pid)
            return (int)fd;
    }
    for (int i = 0; i < OWN_FDS; i++) {
        int none = 0;

        if (__atomic_compare_exchange_n(&own_fds[i], &none, (int)fd + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            break;
    }
    return (int)fd;
}

void own_close(int fd)
{
    /* Off the list first: the number may be another thread's as soon as it is closed. */
    for (int i = 0; i < OWN_FDS; i++) {
        int listed = fd + 1;

        if (__atomic_compare_exchange_n(&own_fds[i], &listed, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            break;
    }
    SYS1(__NR_close, fd);
}

/* A call of ours could be the end of a process in a sandbox. Its parent has numbered the fork, and will tell its pid. */
static uint32_t forked_in_sandbox(uint32_t pid_hint)
{
    struct thread *t = thread_left();

    if (!t)
        return pid_hint;
    t->tid = pid_hint;
    t->child_pid = 0;
    t->scratch = NULL;
    t->traced = 0;
    t->dispatch.on = false;
    t->owner = pid_hint ? pid_hint : t->fork ? REC_PID_FORK | t->fork : 0;
    t->fork = 0;
    return t->owner;
}

struct segment_header *process_forked(uint32_t pid_hint)
{
    struct process *p = process;

    if (probe.off || !probe.segment)
        return NULL;
    if (probe.sandboxed == SANDBOX_DISPATCH) { /* only a thread that has asked for it, not its children */
        probe.sandboxed = 0;
        dispatching = 0;
    }
    p->pid = probe.sandboxed ? forked_in_sandbox(pid_hint) : (uint32_t)SYS1(__NR_getpid, 0);
    for (int i = 0; i < OWN_FDS && !probe.sandboxed; i++)
        if (own_fds[i])
            own_close(own_fds[i] - 1);
    p->slow = SLOW_BORROWED;
    p->segment = probe.segment;
    functions_forked();
    return p->segment;
}

struct segment_header *process_borrow(struct segment_header *s)
{
    struct process *p = process;
    struct segment_header *own;
    uint32_t idle = 0;
    uint64_t signals;

    if (++p->borrowed < BORROW_MAX || probe.sandboxed || p->vforks)
        return s;
    if (!__atomic_compare_exchange_n(&p->upgrading, &idle, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return s;
    signals = signals_block();
    own = join_segment(SEG_START_FORK);
    signals_restore(signals);
    if (!own) /* stays a guest; asking again and again would only cost */
        return s;
    /* The old mapping stays: a hook of ours that this thread interrupted, or another thread's, may be writing to it. */
    ring_simple(s, REC_UPGRADE, OP_NONE, 0, 0, 0);
    functions_upgraded(own);
    probe.segment = own;
    /* Other threads come to it by this pointer: what describe() has written is there for them. */
    __atomic_store_n(&p->segment, own, ORDER_SEGMENT_SWITCH);
    p->slow &= ~(uint32_t)SLOW_BORROWED;
    return own;
}
