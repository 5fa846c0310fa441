/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/forks.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "collector/ends.h"
#include "collector/guests.h"
#include "collector/identify.h"
#include "collector/life.h"
#include "collector/segments.h"
#include "collector/state.h"
#include "model/images.h"
#include "model/procinfo.h"
#include "traffic/tls_objects.h"

#define MS UINT64_C(1000000)
#define REUSED_NS (100 * MS)     /* a process that began so much later than the record that names it is another */
#define AHEAD_MAX 4096           /* entries of the backlog that are looked through for a child's number */

/* When a process or, if it had ended before anybody could look, its nearest ancestor that is known began: in ticks. */
static uint64_t born(const struct proc *p)
{
    while (p && !p->start_ticks)
        p = p->parent;
    return p ? p->start_ticks : 0;
}

/* Whether what has this number now began after that time (CLOCK_REALTIME ns): it has got the number of one that is gone. */
static bool is_later(const struct pi_stat *st, uint64_t time_ns)
{
    struct timespec boot;
    uint64_t age, now = clock_now_real();

    clock_gettime(CLOCK_BOOTTIME, &boot);
    age = (uint64_t)boot.tv_sec * 1000 * MS + (uint64_t)boot.tv_nsec -
          st->start_ticks * (1000 * MS / (uint64_t)sysconf(_SC_CLK_TCK));
    return age < now && now - age > time_ns + REUSED_NS;
}

/* Whether the process that had begun before is no more. */
static bool is_gone(struct proc *p)
{
    struct pi_stat st;

    return pi_stat(p->host_pid, &st) || is_later(&st, p->birth_ns);
}

enum credit { CHILD_IS, CHILD_GONE, CHILD_ELSEWHERE };

/* Where the kernel doesn't say who its parent was: whether it is at least one of the same user's. Programs of the
 * collector's user and of root become others'. */
static bool of_same_user(const struct proc *parent, pid_t pid)
{
    struct pi_ids ids;

    return parent->tm.uid == 0 || parent->tm.uid == geteuid() || (!pi_ids(pid, &ids) && ids.uid == parent->tm.uid);
}

/* A process that the model takes for a child must be one: records can claim anything. time_ns: when it was heard of. */
static enum credit credible(const struct proc *parent, const struct fork_pending *f, pid_t pid, uint64_t time_ns,
                            struct pi_stat *st)
{
    struct pi_stat up;

    if (pi_stat(pid, st))
        return CHILD_IS; /* gone already; nothing can be mistaken for it */
    if (pid == 1 || st->start_ticks < born(parent))
        return CHILD_ELSEWHERE; /* the number is one in a pid namespace of the child's: process 1 of a container isn't ours */
    if (is_later(st, time_ns))
        return CHILD_GONE; /* its number is in use again, by a thread or a process */
    if (st->ppid == parent->host_pid)
        return CHILD_IS;
    if (parent->dead || pi_stat(parent->host_pid, &up) || up.state == 'Z') /* an orphan has got another parent */
        return of_same_user(parent, pid) ? CHILD_IS : CHILD_ELSEWHERE;
    return f && f->parent_too && st->ppid == up.ppid && of_same_user(parent, pid) ? CHILD_IS : CHILD_ELSEWHERE;
}

/* pid: its number as its parent or itself has told it; REC_PID_FORK | ..., that of its fork. host_pid: 0: not known. */
static struct proc *child_new(struct proc *parent, struct fork_pending *f, struct segment *seg, uint32_t pid,
                              pid_t host_pid, uint64_t time_ns)
{
    struct collector *c = collector_of(parent->m);
    bool same_ns = parent->host_pid == (pid_t)parent->pid;
    uint32_t number = pid;
    struct pi_stat st = {0};
    enum credit credit = CHILD_IS;
    struct proc *p, *old;
    uint32_t inner;

    if (seg->borrower_count >= BORROWERS_MAX || c->model.proc_count >= PROCS_MAX / (seg->guest ? 2 : 1)) {
        model_loss(&c->model, parent, LK_SEGMENT, 1);
        return NULL;
    }
    if (pid & REC_PID_FORK)
        pid = same_ns ? (uint32_t)host_pid : 0;
    else if (!host_pid && same_ns)
        host_pid = (pid_t)pid;
    if (host_pid && (credit = credible(parent, f, host_pid, time_ns, &st)) != CHILD_IS) {
        host_pid = 0;
        st = (struct pi_stat){0};
    }
    old = host_pid ? proc_by_host_pid(&c->model, host_pid) : NULL;
    if (old && old->dead)
        proc_set_host_pid(old, 0); /* an earlier holder of the number, about to be told as ended */
    else if (old)
        host_pid = 0; /* it has joined by itself: nobody else can speak for it */
    p = proc_new(&c->model, pid, host_pid);
    p->start_ticks = st.start_ticks;
    proc_set_parent(p, parent);
    proc_borrow(p, seg);
    p->origin = seg->id;
    proc_set_fork(p, number & REC_PID_FORK ? number & ~REC_PID_FORK : f ? f->id : 0);
    if (f && !f->child && f->cwd) { /* else another has taken what was there to inherit: who returns from its fork is lying */
        p->fds = f->fds;
        f->fds = (struct fd_table){0};
        p->tls = f->tls;
        f->tls = NULL;
        free(p->cwd);
        p->cwd = f->cwd;
        f->cwd = NULL;
        f->child = number;
        time_ns = f->time_ns < time_ns ? f->time_ns : time_ns;
    } else {
        fd_table_copy(&p->fds, &parent->fds);
        p->tls = tls_objects_inherit(parent);
        free(p->cwd);
        p->cwd = xstrdup(parent->cwd);
    }
    p->root = parent->root;
    p->view = parent->view;
    memcpy(p->std, parent->std, sizeof(p->std));
    if (p->cwd && !strcmp(p->cwd, parent->cwd)) {
        p->cwd_plain = parent->cwd_plain;
        p->cwd_tail = parent->cwd_tail;
    } else { /* it has gone elsewhere since the fork began: nothing is known of links in that name */
        p->cwd_tail = p->cwd ? (uint32_t)strlen(p->cwd) : 0;
    }
    inner = host_pid && st.start_ticks ? pi_inner_pid(host_pid) : 0;
    if (inner)
        proc_set_pid(p, inner); /* in a pid namespace of its own it has another number */
    else
        proc_set_inner(p, same_ns && (parent->new_pids || (f && f->new_pids)));
    p->images = images_ref(parent->images);
    p->go = parent->go;
    p->birth_ns = time_ns;
    p->cpu_at_ns = life_mono_of(time_ns);
    identify_child(p, parent);
    p->sandboxed = parent->sandboxed;
    p->tls_read = parent->tls_read;
    p->tls_told = parent->tls_told;
    p->jsse_refused = parent->jsse_refused;
    p->images_missed = parent->images_missed;
    p->pl = parent->pl;
    p->config = parent->config;
    c->processes++;
    life_begin(p, "fork", time_ns);
    life_watch(p);
    if (((host_pid && !st.start_ticks) || credit == CHILD_GONE) && !p->dead)
        proc_died(p); /* gone before we could watch it */
    return p;
}

/* Whether a child has this number in a pid namespace of its own; one that is gone already can't be asked. */
static bool is_inner(const struct proc *p, pid_t host_pid, uint32_t pid)
{
    uint32_t inner = pi_inner_pid(host_pid);

    return inner ? inner == pid && inner != (uint32_t)host_pid : p->inner_pid;
}

bool forks_reused(const struct proc *p, uint64_t time_ns)
{
    return p->dead && p->borrowed && p->seg->map.info.clock != SEG_CLOCK_NONE && time_ns > p->death_ns + 20 * MS;
}

/* A fork of p that an unknown child may come from, if it is a better guess than `than`; else that. */
static struct fork_pending *fork_of(const struct proc *p, bool vfork, struct fork_pending *than)
{
    for (struct fork_pending *f = p->forks; f; f = f->next)
        if (!f->child && (!than || (f->vfork == vfork && than->vfork != vfork)))
            than = f;
    return than;
}

static struct fork_pending *fork_by_id(const struct proc *p, uint32_t id)
{
    struct fork_pending *f = p ? p->forks : NULL;

    while (f && f->id != id)
        f = f->next;
    return f;
}

/* Children of a process that the model doesn't have. */
struct strangers {
    struct collector *c;
    pid_t pid;       /* the last one */
    unsigned count;
};

static void stranger(void *ctx, pid_t child)
{
    struct strangers *s = ctx;
    const struct proc *known = proc_by_host_pid(&s->c->model, child);

    if (known && !known->dead)
        return;
    s->pid = child;
    s->count++;
}

/* What the parent has recorded of its fork, if that has been read and not yet looked at: the child's number, else 0. */
static uint32_t told_ahead(const struct collector *c, const struct segment *seg, uint32_t id)
{
    struct backlog_place at = {0};
    const struct backlog_entry *e;
    const void *data;

    for (unsigned i = 0; i < AHEAD_MAX && (e = backlog_ahead(&c->backlog, &at, &data)); i++) {
        const struct record *r = data;

        if (e->kind == BL_RECORD && e->owner == seg && r->kind == REC_CALL && r->op < OP_MAX &&
            op_table[r->op].shape == SHP_CLONE && r->arg[5] == id && r->ret > 0 && r->ret <= INT32_MAX)
            return (uint32_t)r->ret;
    }
    return 0;
}

/* The first sign of a guest that can't know its own number, but whose parent's fork it is. Which process that is the
 * parent tells, in any case later; till then the kernel does, unless others are about to appear, too, or it is gone. */
static struct proc *unnumbered(struct collector *c, struct segment *seg, uint32_t pid, uint64_t time_ns)
{
    uint32_t id = pid & ~REC_PID_FORK, number;
    struct strangers s = {.c = c};
    struct proc *parent = seg->owner;
    bool same_ns;
    struct fork_pending *f = fork_by_id(parent, id);

    for (struct proc *p = c->model.forkers; p && !f; p = p->forker_next) {
        f = p->seg == seg ? fork_by_id(p, id) : NULL;
        if (f)
            parent = p;
    }
    if (!parent || !parent->pl)
        return NULL;
    same_ns = parent->host_pid == (pid_t)parent->pid;
    number = f ? told_ahead(c, seg, id) : 0;
    if (f && !number) {
        if (parent->host_pid > 0)
            pi_each_child(parent->host_pid, same_ns ? (pid_t)f->tid : 0, stranger, &s);
        if (s.count != 1) {
            segments_drain(c, true);
            number = told_ahead(c, seg, id);
        }
    }
    return child_new(parent, f, seg, number ? number : pid, !number && s.count == 1 ? s.pid : 0, time_ns);
}

struct proc *forks_borrower(struct collector *c, struct segment *seg, uint32_t pid, bool vfork, uint64_t time_ns)
{
    struct fork_pending *f, *best_f;
    struct proc *known, *best, *p;
    struct pi_stat st;
    pid_t ppid = 0;
    bool sure;

    if (pid & REC_PID_FORK)
        return unnumbered(c, seg, pid, time_ns);
    /* One that was known by its parent's number of it, and was gone before it could be asked for its own. */
    for (known = seg->inner_guests ? seg->borrowers : NULL; known; known = known->borrow_next)
        if (known->pl && known->inner_pid && known->pid == (uint32_t)known->host_pid) {
            proc_set_inner(known, false);
            proc_set_pid(known, pid);
            telemetry_process_start(known->pl->tm, &known->tm);
            return known;
        }
    /* one that has moved to a segment of its own meanwhile */
    known = seg->host_pid == (pid_t)seg->map.info.pid ? proc_by_host_pid(&c->model, (pid_t)pid) : NULL;
    if (known && known->origin == seg->id && !known->dead && known->pid == pid && !known->borrowed)
        return known;
    if (seg->host_pid == (pid_t)seg->map.info.pid && !pi_stat((pid_t)pid, &st))
        ppid = st.ppid;
    known = ppid > 0 ? proc_by_host_pid(&c->model, ppid) : NULL;
    sure = known && known->seg == seg; /* the kernel says so */
    best = sure ? known : seg->owner;
    best_f = best ? fork_of(best, vfork, NULL) : NULL;
    for (p = sure ? NULL : c->model.forkers; p; p = p->forker_next) {
        f = p->seg == seg ? fork_of(p, vfork, best_f) : best_f;
        if (f != best_f) {
            best_f = f;
            best = p;
        }
    }
    if (!best || !best->pl)
        return NULL;
    return child_new(best, best_f, seg, pid, 0, time_ns);
}

/* A child that couldn't tell its number has got one by its parent's word. */
static void numbered(struct proc *p, struct proc *parent, const struct fork_pending *f, uint32_t pid)
{
    bool same_ns = parent->host_pid == (pid_t)parent->pid;
    struct proc *old = same_ns ? proc_by_host_pid(&collector_of(p->m)->model, (pid_t)pid) : NULL;
    enum credit credit = CHILD_IS;
    struct pi_stat st;

    if (p->host_pid > 0 || !p->pl)
        return;
    if (same_ns)
        credit = old && !old->dead ? CHILD_ELSEWHERE : credible(parent, f, (pid_t)pid, clock_now_real(), &st);
    if (credit == CHILD_ELSEWHERE) /* that one speaks for itself, or isn't a child of this parent's */
        return;
    proc_set_pid(p, pid);
    if (same_ns) {
        if (old)
            proc_set_host_pid(old, 0);
        proc_set_host_pid(p, (pid_t)pid);
    }
    telemetry_process_start(p->pl->tm, &p->tm);
    if (p->host_pid <= 0)
        return;
    if (is_gone(p))
        proc_died(p);
    else
        life_watch(p);
}

void forks_told(struct collector *c, struct proc *parent, uint32_t tid, uint32_t id, int64_t child, uint64_t time_ns)
{
    struct fork_pending *f = id ? fork_by_id(parent, id) : parent->forks, *taken = parent->forks;
    struct pi_stat st;
    struct proc *p;

    while (f && !id && f->tid != tid)
        f = f->next;
    if (!f) /* a thread, or its beginning was lost */
        return;
    if (f->child & REC_PID_FORK) {
        p = parent->seg ? segment_find(parent->seg, f->child, true) : NULL;
        if (p && child > 0 && child <= INT32_MAX)
            numbered(p, parent, f, (uint32_t)child);
        fork_drop(parent, f);
        return;
    }
    if (child > 0 && f->child && f->child != (uint32_t)child && parent->host_pid == (pid_t)parent->pid && parent->seg) {
        p = segment_find(parent->seg, f->child, true);
        if (p && p->pl && p->host_pid <= 0 && is_inner(p, (pid_t)child, p->pid) &&
            credible(parent, f, (pid_t)child, time_ns, &st) == CHILD_IS) { /* in a pid namespace of its own */
            proc_set_host_pid(p, (pid_t)child);
            proc_set_inner(p, false);
            telemetry_process_start(p->pl->tm, &p->tm);
            life_watch(p);
            fork_drop(parent, f);
            return;
        }
    }
    while (taken && (child <= 0 || taken->child != (uint32_t)child))
        taken = taken->next;
    if (taken) { /* known by its own records; it may even be over */
        taken->child = f->child; /* another thread's fork was taken for it */
        p = segment_find(parent->seg, (uint32_t)child, true);
        if (p && p != parent)
            proc_set_parent(p, parent);
        fork_drop(parent, f);
        return;
    }
    if (child > 0 && child <= INT32_MAX && parent->seg) {
        p = segment_find(parent->seg, (uint32_t)child, true);
        if (p && forks_reused(p, f->time_ns))
            p = NULL;
        if (!p && parent->host_pid == (pid_t)parent->pid) {
            p = proc_by_host_pid(&c->model, (pid_t)child);
            if (p && (p->dead || p == parent))
                p = NULL;
        }
        if (!p)
            child_new(parent, f, parent->seg, (uint32_t)child, 0, time_ns);
        else if (p != parent && p->parent != parent && (p->origin == parent->seg->id || (!p->parent && p->tm.ppid == parent->pid)))
            proc_set_parent(p, parent);
    }
    fork_drop(parent, f);
}
