/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/guests.h"

#include <limits.h>

#include "collector/segments.h"
#include "collector/state.h"
#include "model/procinfo.h"
#include "wire/record.h"

#define FAMILY_MAX 256u        /* processes among whom a child is looked for */
#define GUEST_FAMILY_MAX 16u   /* ... of guests, who can make that long */
#define GUEST_LINES_MAX 20000u /* of a guest's maps that are read */

static struct guest_key **guest_bucket(struct collector *c, const struct segment *seg, uint32_t number)
{
    return &c->by_guest[model_hash(&c->model, number + model_hash(&c->model, (uint32_t)seg->id)) & (PROC_BUCKETS - 1)];
}

static void guest_add(struct proc *p, struct guest_key *key, uint32_t number)
{
    struct guest_key **at = guest_bucket(collector_of(p->m), p->seg, number);

    *key = (struct guest_key){p, *at, number};
    if (number)
        *at = key;
}

static void guest_del(struct proc *p, struct guest_key *key)
{
    struct guest_key **at = guest_bucket(collector_of(p->m), p->seg, key->number);

    if (!key->number)
        return;
    while (*at != key)
        at = &(*at)->next;
    *at = key->next;
    key->number = 0;
    if (p->seg->last_found == p)
        p->seg->last_found = NULL;
}

void proc_set_pid(struct proc *p, uint32_t pid)
{
    if (p->borrowed)
        guest_del(p, &p->guest[0]);
    p->pid = p->tm.pid = pid;
    if (p->borrowed)
        guest_add(p, &p->guest[0], pid);
}

void proc_set_fork(struct proc *p, uint32_t id)
{
    if (p->borrowed)
        guest_del(p, &p->guest[1]);
    p->fork_id = id;
    if (p->borrowed && id)
        guest_add(p, &p->guest[1], REC_PID_FORK | id);
}

void proc_set_inner(struct proc *p, bool inner)
{
    if (p->borrowed && inner != p->inner_pid)
        p->seg->inner_guests += inner ? 1 : -1u;
    p->inner_pid = inner;
}

void proc_borrow(struct proc *p, struct segment *seg)
{
    p->seg = seg;
    p->borrowed = true;
    seg->refs++;
    LIST_ADD(seg->borrowers, p, borrow_next, borrow_prev);
    seg->borrower_count++;
    seg->inner_guests += p->inner_pid;
    guest_add(p, &p->guest[0], p->pid);
    if (p->fork_id)
        guest_add(p, &p->guest[1], REC_PID_FORK | p->fork_id);
    seg->left_ns = 0;
}

void proc_unborrow(struct proc *p)
{
    if (!p->borrowed)
        return;
    LIST_DEL(p->seg->borrowers, p, borrow_next, borrow_prev);
    p->seg->borrower_count--;
    p->seg->inner_guests -= p->inner_pid;
    guest_del(p, &p->guest[0]);
    guest_del(p, &p->guest[1]);
    p->borrowed = false;
    segment_unref(collector_of(p->m), p->seg);
    p->seg = NULL;
}

struct proc *segment_find(struct segment *seg, uint32_t pid, bool guest)
{
    struct guest_key *key;

    if (!seg) /* who has left one ring for another may still speak in the first */
        return NULL;
    if (!guest && seg->owner && seg->owner->pid == pid)
        return seg->owner;
    if (seg->last_found && (seg->last_found->guest[0].number == pid || seg->last_found->guest[1].number == pid) && pid)
        return seg->last_found;
    if (!seg->borrowers)
        return NULL;
    key = *guest_bucket(seg->c, seg, pid);
    while (key && (key->p->seg != seg || key->number != pid))
        key = key->next;
    seg->last_found = key ? key->p : NULL;
    return seg->last_found;
}

struct family {
    const struct segment *seg;
    uint32_t pid;             /* who is looked for, as it sees itself */
    pid_t list[FAMILY_MAX];
    unsigned count, max;
    unsigned long lines;      /* of maps */
};

/* By the kernel's word: it has that number, and the segment is part of its memory. */
static bool is_it(const struct family *f, pid_t pid)
{
    return pid > 0 && pi_inner_pid(pid) == f->pid && pi_maps_within(pid, f->seg->map.ino, f->lines);
}

static void add_child(void *ctx, pid_t child)
{
    struct family *f = ctx;

    if (f->count < f->max)
        f->list[f->count++] = child;
}

pid_t segment_find_process(struct segment *seg, uint32_t pid)
{
    struct family f = {.seg = seg,
                       .pid = pid,
                       .max = seg->guest ? GUEST_FAMILY_MAX : FAMILY_MAX,
                       .lines = seg->guest ? GUEST_LINES_MAX : ULONG_MAX};
    const struct proc *p;

    if (pid & REC_PID_FORK) { /* it doesn't know its number, in a sandbox */
        p = segment_find(seg, pid, true);
        return p && p->host_pid > 0 && pi_maps_within(p->host_pid, seg->map.ino, f.lines) ? p->host_pid : 0;
    }
    if (!pid || pid > INT_MAX)
        return 0;
    if (is_it(&f, seg->host_pid))
        return seg->host_pid;
    p = segment_find(seg, pid, true);
    if (p && is_it(&f, p->host_pid))
        return p->host_pid;
    if (seg->map.info.pid == (uint32_t)seg->host_pid && is_it(&f, (pid_t)pid))
        return (pid_t)pid;
    add_child(&f, seg->host_pid);
    for (unsigned i = 0; i < f.count; i++) {
        if (i && is_it(&f, f.list[i]))
            return f.list[i];
        pi_each_child(f.list[i], 0, add_child, &f);
    }
    return 0;
}
