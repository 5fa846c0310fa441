/* SPDX-License-Identifier: Apache-2.0 */
#include "stacks.h"

#include <linux/mman.h>

#include "state.h"

#define HIDDEN __attribute__((visibility("hidden")))

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

_Static_assert(sizeof(struct stack_head) == 128 && offsetof(struct stack_head, regs) == 0 &&
                   offsetof(struct stack_head, taken) == 96 && offsetof(struct stack_head, guarded) == 100,
               "entry.S knows struct stack_head");
_Static_assert(offsetof(struct segment_header, loss) + LOSS_SLOT * sizeof(uint64_t) == 344 &&
                   offsetof(struct process, segment) == 0,
               "entry.S counts losses");
_Static_assert(STACK_SIZE == 1 << 14 && STACK_STARTS == 1 << 7, "entry.S knows the sizes");

uint64_t scope_stacks, scope_stacks_end;

void scope_stack_guard(struct stack_head *head);

HIDDEN int stacks_open(void)
{
    size_t size = STACK_COUNT * STACK_SIZE;
    uint64_t none = 0;
    long at;

    if (__atomic_load_n(&scope_stacks, __ATOMIC_ACQUIRE))
        return 0;
    at = SYS6(__NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (sys_failed(at))
        return (int)at;
    /* A stack that another thread holds during a fork would never become free in the child. */
    SYS3(__NR_madvise, at, size, MADV_WIPEONFORK);
    SYS3(__NR_madvise, at, size, MADV_NOHUGEPAGE); /* a page of each is all that is needed */
    arch_go_begins();
    if (__atomic_compare_exchange_n(&scope_stacks_end, &none, (uint64_t)at + size, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
        __atomic_store_n(&scope_stacks, (uint64_t)at, __ATOMIC_RELEASE);
        return 0;
    }
    SYS2(__NR_munmap, at, size); /* another thread, which loads Go code too, is about to store its own */
    while (!__atomic_load_n(&scope_stacks, __ATOMIC_ACQUIRE))
        ;
    return 0;
}

/* Runs on a stack that is used for the first time. Where a page is larger than the guard it would take the stack itself
 * away, and its neighbours. */
HIDDEN __attribute__((used)) void scope_stack_guard(struct stack_head *head)
{
    if (!probe.sandboxed && PROBE_PAGE <= STACK_GUARD)
        SYS3(__NR_mprotect, (uint64_t)(head + 1) - STACK_SIZE, STACK_GUARD, PROT_NONE);
    head->guarded = 1;
}
