/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/ends.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/crash_tell.h"
#include "collector/crashes.h"
#include "collector/guests.h"
#include "collector/life.h"
#include "collector/passed.h"
#include "collector/segments.h"
#include "collector/state.h"
#include "model/ask.h"
#include "model/fds.h"
#include "model/procinfo.h"
#include "report/report.h"
#include "traffic/tls_objects.h"

#define MS UINT64_C(1000000)
#define LOAD_NS (2000 * MS) /* by then a new image has most probably loaded the library */

void proc_died(struct proc *p)
{
    struct collector *c = collector_of(p->m);

    if (p->dead)
        return;
    p->death_ns = clock_now_real();
    p->death_mono = clock_now_mono();
    if (p->host_pid > 0)
        pi_cpu_ns(p->host_pid, &p->cpu_ns);
    if (p->parent)
        p->parent->live_children--;
    p->death_seg = NULL;
    if (p->unwatched)
        c->unwatched--;
    p->unwatched = false;
    p->dead = true;
    c->dying++;
    LIST_ADD(c->dying_procs, p, dying_next, dying_prev);
}

/* It died right after it handed over a segment that hasn't come up yet. */
static bool attaching(struct collector *c, const struct proc *p)
{
    if (!c->attaching || p->host_pid <= 0)
        return false;
    for (const struct segment *seg = *segments_by_pid(c, p->host_pid); seg; seg = seg->pid_next)
        if (!seg->attached && seg->host_pid == p->host_pid)
            return true;
    return false;
}

void ends_queue(struct collector *c)
{
    uint64_t real = clock_now_real();

    for (struct proc *p = c->dying_procs; p; p = p->dying_next) {
        if (p->end_queued || attaching(c, p) || crashes_hold(c->crashes, p))
            continue;
        if (p->seg && p->seg != p->death_seg) { /* it had exec'ed or upgraded just before */
            p->death_seg = p->seg;
            p->death_head = segment_head(&p->seg->map);
        }
        if (p->seg && !segment_last_words(c, p->seg, p->death_head, p->death_mono))
            continue;
        p->end_queued = true;
        backlog_add(&c->backlog, BL_END, p, real, 0);
    }
}

/* The tracer is often done before the record of the exec, or even of the fork before it, has been read. */
static bool told_by_tracer(const struct proc *p)
{
    for (unsigned i = 0; i < UNSEEN_MAX; i++)
        if (collector_of(p->m)->unseen[i].pid == p->host_pid && collector_of(p->m)->unseen[i].time_ns + MS >= p->exec_ns)
            return true;
    return false;
}

void ends_tell_unseen(struct proc *p, bool cut, uint64_t time)
{
    const char *text = "started a program that is not observed: it has not loaded the library";

    /* The image of one whose number here isn't known may have joined under another. */
    if (!p->pending_exec || p->exec_told || !p->pl || p->host_pid <= 0 || told_by_tracer(p))
        return;
    if (collector_of(p->m)->opt->host) /* its rules may not name that one; what they name and nobody reaches, reach tells */
        return;
    p->exec_told = true;
    if (p->sandboxed)
        text = "started a program that is not observed: it had entered seccomp before";
    else if (ask_access(p, p->pending_exec, X_OK) == 0 && ask_access(p, p->pending_exec, R_OK) == -EACCES)
        text = "started a program that is not observed: its file can't be read";
    else if (cut)
        return;
    report_note(p, text, p->pending_exec, strlen(p->pending_exec), time);
}

/* Whether a signal has ended it before its new image can have loaded anything. */
static bool cut_short(const struct proc *p, bool known, int status)
{
    return known && WIFSIGNALED(status) && p->death_ns < p->exec_ns + LOAD_NS;
}

/* In the order of certainty. */
static bool status_of(struct proc *p, int *ret)
{
    bool same = p->host_pid > 0;

    if (p->waited)
        *ret = p->wait_status;
    else if (pi_exit_status(p->pidfd, same ? p->host_pid : 0, ret))
        return true;
    else if (same && collector_of(p->m)->opt->session && p->host_pid == collector_of(p->m)->opt->session->pid && collector_of(p->m)->root_pidfd >= 0 &&
             pi_exit_status(collector_of(p->m)->root_pidfd, 0, ret))
        return true;
    else if (p->exit_recorded)
        *ret = p->exit_code << 8;
    else if (p->leader_exit)
        *ret = p->leader_code << 8;
    else
        return false;
    return true;
}

bool ends_tell(struct proc *p, bool force)
{
    struct collector *c = collector_of(p->m);
    struct session *s = c->opt->session;
    int status = 0;
    bool known = status_of(p, &status);
    uint64_t time = p->exit_ns ? p->exit_ns : p->death_ns;

    if (!known && !force)
        return false;
    if (!known && p->crash_signo) { /* nobody else will tell, and only SIGKILL can have come in between */
        status = p->crash_signo;
        known = true;
    }
    if (!time)
        time = clock_now_real();
    if (p->pl) {
        ends_tell_unseen(p, cut_short(p, known, status), time);
        life_leave_segment(p);
        fds_end(p, "exit", time);
        passed_end(p, true);
        tls_objects_end(p, true, time);
        if (known)
            crash_tell_end(p, status, time);
        report_exit(p, known, status, time);
        life_finish(p, time);
    }
    if (s && p->host_pid > 0 && p->host_pid == s->pid && !c->root_ended) {
        c->root_ended = true;
        c->root_known = known;
        c->root_status = status;
    }
    proc_free(p);
    c->end_ns = clock_now_real();
    return true;
}

void ends_leave(struct collector *c, pid_t host_pid)
{
    struct proc *p = proc_by_host_pid(&c->model, host_pid);
    uint64_t time = clock_now_real();

    if (!p || p->dead) /* its end is told in due course */
        return;
    if (p->pl) {
        life_leave_segment(p);
        proc_unborrow(p);
        report_note(p, "detached: no longer observed", NULL, 0, time);
        life_finish(p, time);
    }
    proc_free(p);
    c->end_ns = time;
}
