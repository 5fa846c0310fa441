/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/crash_places.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collector/segments.h"
#include "model/process.h"
#include "model/procinfo.h"
#include "report/pipeline.h"

#define LIVES_ON_NS UINT64_C(1000000000) /* who has been let go and is there for longer didn't die of it */

struct seg_crash *place_at(const struct segment *seg, unsigned i)
{
    return &segment_hdr(&seg->map)->crash[i];
}

void place_set(struct segment *seg, unsigned i, uint32_t state)
{
    uint32_t *at = &place_at(seg, i)->state;

    __atomic_store_n(at, state, __ATOMIC_RELEASE);
    syscall(SYS_futex, at, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

bool places_wanted(const struct segment *seg)
{
    const struct proc *p = seg->owner ? seg->owner : seg->borrowers;

    return !seg->broken && p && p->pl && (p->pl->mode & SEG_M_CRASH);
}

bool place_thread_is_there(pid_t pid, pid_t tid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)pid, (int)tid);
    return access(path, F_OK) == 0;
}

/* Whether it is more than a zombie, which is its parent's to remove. */
static bool thread_lives(pid_t tid)
{
    struct pi_stat st;

    return pi_stat(tid, &st) == 0 && st.state != 'Z' && st.state != 'X';
}

bool place_lives_on(const struct segment *seg, unsigned place, uint64_t now)
{
    for (unsigned i = 0; i < SEG_CRASHES; i++) {
        uint64_t done = seg->crashes->of[i].done_ns;

        if (seg->crashes->of[i].tid && (i == place || (done && now > done && now - done > LIVES_ON_NS)) &&
            thread_lives(seg->crashes->of[i].tid))
            return true;
    }
    return false;
}

void place_forget(struct segment *seg, unsigned i)
{
    if (!seg->crashes->of[i].tid || !thread_lives(seg->crashes->of[i].tid))
        seg->crashes->of[i].pid = seg->crashes->of[i].tid = 0;
}

void places_free(struct segment *seg)
{
    for (unsigned i = 0; i < SEG_CRASHES; i++) {
        uint32_t state = __atomic_load_n(&place_at(seg, i)->state, __ATOMIC_ACQUIRE);
        const pid_t pid = seg->crashes->of[i].pid, tid = seg->crashes->of[i].tid;

        if (state == CRASH_DONE && (!pid || !place_thread_is_there(pid, tid)) &&
            __atomic_compare_exchange_n(&place_at(seg, i)->state, &state, CRASH_FREE, false, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
            seg->crashes->of[i].pid = seg->crashes->of[i].tid = 0; /* which may soon be another's */
    }
}

void place_not_seen(struct segment *seg, unsigned i)
{
    __atomic_store_n(&place_at(seg, i)->kind, 0, __ATOMIC_RELAXED);
}
