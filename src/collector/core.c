/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/core.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "collector/control.h"
#include "collector/counters.h"
#include "collector/ends.h"
#include "collector/keys.h"
#include "collector/left.h"
#include "collector/life.h"
#include "collector/passed.h"
#include "collector/segments.h"
#include "collector/watch.h"
#include "collector/work.h"
#include "model/procinfo.h"
#include "model/setup.h"
#include "report/notices.h"
#include "report/report.h"
#include "traffic/both_ends.h"
#include "traffic/payloads.h"
#include "traffic/stream.h"
#include "traffic/tls.h"

#define MS UINT64_C(1000000)
#define CHECK_NS (100 * MS)
#define IMAGE_WAIT_NS (10000 * MS) /* a new image that hasn't joined by then won't */
#define SHARED_LOOK_NS (1000 * MS)
#define SHARED_SHARE 20 /* looking takes that part of the time at most: it reads the maps of all processes */
#define STATUS_LOOK_NS (2 * MS)  /* between the first two questions for a wait status; then ever longer */
#define CHECK_ALL 1000u /* processes: fewer are all looked at each time */
#define CHECK_PARTS 10u
#define MANY 100u          /* processes: of more of them less is asked that can wait */
#define UNWATCHED_LOOKS 256      /* each CHECK_NS */
#define ENDS_SHARE 10 /* looking for those that have ended takes that part of the time at most */

void core_leave(struct collector *c, pid_t host_pid)
{
    pid_t *pid = backlog_add(&c->backlog, BL_LEAVE, NULL, clock_now_real(), sizeof(*pid));

    left_add(c, host_pid);
    *pid = host_pid;
}

bool core_endings(const struct collector *c)
{
    return c->dying || c->backlog.bytes;
}

void core_init(struct collector *c, const struct collector_options *opt, struct event_base *base)
{
    *c = (struct collector){.opt = opt, .base = base, .root_pidfd = -1};
    model_init(&c->model, &watch_model);
    c->pipelines = (struct pipelines){.base = base, .ctx = c, .prepare = watch_prepare, .unprepare = watch_unprepare,
                                      .moved = watch_moved, .retire = watch_retire};
    c->payloads = (struct payloads){.model = &c->model, .base = base, .session = opt->session};
    c->model.payloads = &c->payloads;
    c->guest_lines.what = "lines about segments of other users are left out";
    c->alone_since = clock_now_mono();
}

/* For processes that end before their first summary. */
static void look_at(struct proc *p, uint64_t now)
{
    struct pi_stat st;

    /* Of many that stay the first summary is waited for. */
    p->look_wait = p->look_wait && collector_of(p->m)->model.proc_count > MANY ? 2 * p->look_wait : 1000 * MS;
    p->next_look = now + p->look_wait;
    if (p->host_pid <= 0 || pi_stat(p->host_pid, &st) || st.state == 'Z')
        return;
    p->known_rss = st.rss_kib;
    p->known_threads = st.threads;
    p->known_fds = pi_fd_count(p->host_pid);
}

/* Of thousands of processes a tenth is looked at each time: each of them once a second. */
static unsigned part(const struct collector *c)
{
    return c->model.proc_count > CHECK_ALL ? c->model.proc_count / CHECK_PARTS + 1 : UINT_MAX;
}

static struct proc *first_of_part(const struct collector *c)
{
    return c->check_next ? c->check_next : c->model.procs;
}

/* Whether it is worth while to look for the command file of one of thousands, whose directory is the same. */
static bool has_commands(const struct collector *c, const char *dir, uint64_t now)
{
    static struct {
        char *dir;
        uint64_t until;
        bool any;
    } seen;
    struct dirent *e;
    DIR *d;

    if (c->model.proc_count <= MANY || !dir)
        return true;
    if (seen.dir && now < seen.until && strcmp(seen.dir, dir) == 0)
        return seen.any;
    free(seen.dir);
    seen.dir = xstrdup(dir);
    seen.until = now + 1000 * MS;
    seen.any = false;
    d = opendir(dir);
    while (d && !seen.any && (e = readdir(d)))
        seen.any = *e->d_name != '.';
    if (d)
        closedir(d);
    return seen.any;
}

/* Whether it may have counted something since its counters were read: who hasn't run has not. The clock is read first, so
 * that whatever is counted behind that moves it. */
static bool has_run(struct proc *p)
{
    uint64_t cpu;

    if (p->host_pid <= 0 || !p->seg || p->seg->borrowers || !pi_cpu_ns(p->host_pid, &cpu))
        return true;
    if (cpu == p->cpu_settled_ns)
        return false;
    p->cpu_settled_ns = cpu;
    return true;
}

static void summaries(struct collector *c, uint64_t now)
{
    uint64_t real = clock_now_real();
    unsigned n = part(c);

    for (struct proc *p = first_of_part(c); p && n--; p = p->next) {
        uint64_t period;

        if (!p->pl || p->dead)
            continue;
        if (!p->last_summary && now >= p->next_look)
            look_at(p, now);
        if (now < p->next_summary)
            continue;
        if (has_run(p)) {
            if (!counters_settle(p, false))
                p->cpu_settled_ns = 0;
            if (p->seg && !p->borrowed)
                counters_take_ops(p->seg, p);
        }
        report_period(p, real, false);
        if (p->pl && p->pl->notices)
            notices_period(p, real);
        tls_look_unread(p);
        period = (uint64_t)p->pl->cfg->libscope.summaryperiod * 1000 * MS;
        p->last_summary = now;
        p->next_summary = now + (period ? period : 10000 * MS);
        if (has_commands(c, p->pl->cfg->libscope.commanddir, now))
            control_command_file(p);
    }
    for (struct segment *seg = c->segments; seg; seg = seg->next) {
        segment_losses(c, seg);
        keys_sweep(seg);
    }
}

/* Those for whom there was no pidfd, some each time; whoever can be watched by now is. */
static void look_for_deaths(struct collector *c)
{
    struct proc *p = c->unwatched_next ? c->unwatched_next : c->model.procs, *next;
    struct pi_stat st;

    for (unsigned n = 0; c->unwatched && n < UNWATCHED_LOOKS && p; p = next) {
        int ret;

        next = p->next;
        if (!p->unwatched)
            continue;
        n++;
        ret = pi_stat(p->host_pid, &st);
        if (!ret && !p->start_ticks)
            p->start_ticks = st.start_ticks;
        if (ret == -ESRCH || (!ret && ((st.state == 'Z' && st.threads <= 1) || st.start_ticks != p->start_ticks)))
            proc_died(p);
        else if (!ret)
            c->watch_death(p);
    }
    c->unwatched_next = p;
}

/* Whether a segment without owner is mapped by no process any more. */
static bool nobody_shares(struct segment *seg, uint64_t now)
{
    struct collector *c = seg->c;
    bool shared;

    if (seg->owner || now - seg->shared_look < SHARED_LOOK_NS || now < c->shared_look)
        return false;
    seg->shared_look = now;
    shared = pi_any_maps(seg->map.ino);
    c->shared_look = now + SHARED_SHARE * (clock_now_mono() - now);
    return !shared;
}

/* What its connections wait for. Whose work it is pays for it, as for records: it may try many keys. */
static void sweep_streams(struct proc *p)
{
    uint64_t before;

    if (!p->asking || (p->seg && p->seg->too_dear))
        return;
    before = clock_used();
    stream_sweep(p, clock_now_real());
    if (p->seg)
        segment_charge(p->seg, 0, clock_used() - before, clock_used());
}

void core_turn(struct collector *c)
{
    uint64_t now = clock_now_mono(), took;
    struct proc *p;
    unsigned n;

    c->model.now_mono = now;
    clock_sample(&c->model.clock);
    if (c->dying && (now >= c->ends_look || c->stopping)) {
        if (c->passed) /* what it has sent to others ends with it, unless that they have taken it stands in their rings */
            segments_drain(c, true);
        ends_queue(c);
        for (struct proc *p = c->dying_procs, *next; p; p = next) {
            next = p->dying_next;
            if (!p->end_reached || (now < p->status_look && !p->waited && !c->stopping))
                continue;
            p->status_wait = p->status_wait ? 2 * p->status_wait : STATUS_LOOK_NS;
            p->status_look = now + p->status_wait;
            ends_tell(p, now - p->death_mono > STATUS_WAIT_NS || c->stopping);
        }
        took = clock_now_mono() - now;
        c->ends_look = took > MS ? now + ENDS_SHARE * took : 0; /* there are thousands */
    }
    for (struct segment *seg = c->segments; seg; seg = seg->next) {
        if (seg->attach_again) {
            seg->attach_again = false;
            backlog_add(&c->backlog, BL_ATTACH, seg, clock_now_real(), 0);
        }
    }
    if (now < c->next_check && !c->stopping)
        return;
    c->next_check = now + CHECK_NS;
    summaries(c, now);
    look_for_deaths(c);
    passed_sweep(c, now);
    payloads_flush(&c->payloads);
    for (struct segment *seg = c->segments, *next; seg; seg = next) {
        next = seg->next;
        segment_leave(c, seg);
    }
    /* A process whose pid in our namespace isn't known can't be watched: it is over when it has said so, or when
     * nobody shares its ring any more. If it has exec'ed, and what was waited for was the new image, that has joined by
     * the next time we look. */
    n = part(c);
    for (p = first_of_part(c); p && n--; p = p->next) {
        if (p->pending_exec && !p->dead && clock_now_real() > p->exec_ns + IMAGE_WAIT_NS)
            ends_tell_unseen(p, false, clock_now_real());
        if (p->host_pid > 0 || p->dead || !(p->exit_recorded || p->waited || !p->seg || nobody_shares(p->seg, now)))
            continue;
        if (p->exec_op && !p->over && !c->stopping)
            p->over = true;
        else
            proc_died(p);
    }
    both_ends_sweep(now);
    n = part(c);
    for (p = first_of_part(c); p && n--; p = p->next)
        sweep_streams(p);
    c->check_next = p;
    if (c->model.procs || c->backlog.bytes)
        c->alone_since = 0;
    else if (!c->alone_since)
        c->alone_since = now;
}

void core_end(struct collector *c)
{
    c->stopping = true;
    segments_drain(c, true);
    core_process(c, UINT64_MAX);
    for (struct proc *p = c->model.procs; p; p = p->next)
        if (p->exit_recorded) /* it waits for us, or is on its way out */
            proc_died(p);
    core_turn(c);
    core_process(c, UINT64_MAX);
    while (c->model.procs) { /* still running: they go on unobserved */
        struct proc *p = c->model.procs;

        if (p->seg && !p->borrowed && !p->seg->broken)
            segment_set_mode(&p->seg->map, 0);
        if (p->pl) {
            life_leave_segment(p);
            life_finish(p, clock_now_real());
        }
        p->tm.aggregate = NULL;
        proc_free(p);
    }
    while (c->segments) {
        struct segment *seg = c->segments;

        seg->attached = seg->broken = true;
        seg->queued = 0;
        segment_leave(c, seg);
    }
}

void core_free(struct collector *c)
{
    passed_sweep(c, UINT64_MAX);
    free(c->passed);
    backlog_free(&c->backlog);
    left_free(c);
    pipelines_free(&c->pipelines);
    life_free_configs(c);
    payloads_close(&c->payloads);
    model_free(&c->model);
}
