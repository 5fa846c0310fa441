/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/crashes.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "collector/crash_files.h"
#include "collector/crash_places.h"
#include "collector/crash_state.h"
#include "collector/crash_tell.h"
#include "collector/guests.h"
#include "collector/segments.h"
#include "collector/state.h"
#include "collector/tracer.h"
#include "crash/crash.h"
#include "model/procinfo.h"
#include "report/pipeline.h"

#define MS UINT64_C(1000000)
#define SWEEP_NS (100 * MS)       /* places of threads that are gone are looked for */
#define HELD_NS (4000 * MS)       /* a ring that is held isn't waited for any longer */
#define FLUSH_NS (2000 * MS)      /* the journal takes nothing (a full disk): what is in it will do */
#define GUEST_THREADS_MAX 1000u   /* among whom one is looked for that calls itself by another number */
#define LOOK_SHARE 20             /* one part in so many of the time may be spent on looking for guests in /proc */

/* --- budgets --- */

/* Whether one more is allowed: `burst` at once, and one each step_ns. */
static bool passes(uint64_t *budget, uint64_t now, uint64_t step_ns, unsigned burst)
{
    uint64_t at = *budget > now ? *budget : now;

    if (at - now >= burst * step_ns)
        return false;
    *budget = at + step_ns;
    return true;
}

static bool within_budget(struct crashes *cs, const struct segment *seg, uint64_t now)
{
    return (!seg->guest || passes(&cs->budget[1], now, CRASH_GUEST_NS, CRASH_GUEST_BURST)) &&
           passes(&cs->budget[0], now, CRASH_ALL_NS, CRASH_ALL_BURST);
}

/* --- who it is --- */

/* The process in the model; NULL: it is gone, or was never known. */
static struct proc *process_of(const struct crash *crash)
{
    struct proc *p = crash->cause.pid ? proc_by_host_pid(&crash->all->c->model, crash->cause.pid) : NULL;

    return p ? p : segment_find(crash->seg, crash->pid, false);
}

/* In the worker, which has none of our descriptors. */
static int become(void *ctx)
{
    return peer_become(&((const struct crash *)ctx)->who, -1);
}

/* In the worker, while its threads stand: an exec gives it another memory, and its number may be another's. */
static int still(void *ctx)
{
    const struct crash *crash = ctx;

    return pi_maps(crash->who.pid, crash->seg->map.ino) && peer_lives(&crash->who) ? 0 : -ESRCH;
}

/* Keeps hold of that very process. NULL; or why it can't be looked at. */
static const char *take_hold(struct peer *who, const struct segment *seg, pid_t pid)
{
    struct pi_ids ids;

    *who = (struct peer){.pid = pid, .uid = seg->map.info.euid, .gid = seg->map.info.egid, .pidfd = pi_pidfd(pid)};
    if (who->pidfd < 0 && who->pidfd != -ENOSYS)
        return who->pidfd == -ESRCH ? "its thread is gone, or never was" : "there is no descriptor left to hold it";
    if (who->pidfd < 0)
        who->pidfd = -1; /* before Linux 5.3 */
    if (!seg->guest || geteuid() != 0)
        return NULL;
    if (who->pidfd < 0 || pi_ids(pid, &ids) || ids.euid != who->uid || ids.egid != who->gid)
        return "its user or group has changed";
    return NULL;
}

/* The worker must have no rights that the process hasn't. */
static void choose_rights(struct crash *crash)
{
    if (crash->guest && geteuid() == 0)
        crash->wishes.become = become;
    crash->wishes.still = still;
    crash->wishes.ctx = crash;
    crash->wishes.keep_fd = crash->who.pidfd;
}

/* --- steps --- */

static void let_go(struct crash *crash)
{
    if (crash->let_go)
        return;
    crash->let_go = true;
    crash->seg->crashes->of[crash->place].done_ns = clock_now_mono();
    place_set(crash->seg, crash->place, CRASH_DONE);
}

/* Nothing (more) of it is looked at. */
static void give_up(struct crash *crash, const char *why, int err)
{
    crash->why = why;
    crash->why_errno = err;
    if (!crash->let_go)
        place_not_seen(crash->seg, crash->place);
    let_go(crash);
    crash_dir_drop(crash);
    crash->stage = IS_OVER;
}

static void crash_end(struct crashes *cs, struct crash *crash)
{
    struct crash **at = &cs->list;

    let_go(crash);
    while (*at != crash)
        at = &(*at)->next;
    *at = crash->next;
    cs->count--;
    peer_clear(&crash->who);
    crash_files_done(crash);
    segment_unref(cs->c, crash->seg);
    free(crash->path);
    free(crash->journal);
    free(crash);
}

static void stop_job(struct crash *crash)
{
    struct crashes *cs = crash->all;
    pid_t left;

    if (crash->event)
        event_free(crash->event);
    crash->event = NULL;
    left = crash_free(crash->job);
    if (left > 0)
        (crash->sum.hangs ? worker_keep : worker_end)(&cs->kept[crash->guest], left);
    crash->job = NULL;
    crash_files_count(crash);
    cs->running--;
    cs->guests_running -= crash->guest;
}

static void advance(struct crash *crash)
{
    enum crash_step step = crash_step(crash->job, &crash->sum);

    if (step == CRASH_BUSY)
        return;
    if (step == CRASH_OVER && !crash->let_go && crash->sum.backtrace_error)
        place_not_seen(crash->seg, crash->place);
    let_go(crash);
    if (step != CRASH_OVER)
        return;
    stop_job(crash);
    crash->stage = IS_OVER;
    if (crash->wishes.if_panic && !crash->sum.panicked) {
        crash_dir_drop(crash);
        crash_end(crash->all, crash);
    }
}

static void on_step(evutil_socket_t fd, short what, void *arg)
{
    struct crash *crash = arg;
    struct crashes *cs = crash->all;

    (void)fd;
    (void)what;
    advance(crash);
    cs->wake(cs->ctx);
}

/* NULL: all of the segment's processes are gone, or none is known yet. */
static const struct config *config_of(const struct crash *crash)
{
    const struct proc *p = process_of(crash), *other = crash->seg->owner ? crash->seg->owner : crash->seg->borrowers;

    if (!p || !p->pl)
        p = other;
    return p && p->pl ? p->pl->cfg : NULL;
}

static void start_job(struct crash *crash)
{
    struct crashes *cs = crash->all;
    const struct config *cfg = config_of(crash);
    int rc;

    if (!cfg || !place_thread_is_there(crash->cause.pid, crash->cause.tid)) {
        give_up(crash, "it had died before it could be looked at", 0);
        return;
    }
    rc = crash_dir_make(crash);
    if (rc == -EDQUOT) {
        give_up(crash, "this session keeps as many crashes as it may", 0);
        return;
    }
    if (rc < 0) {
        give_up(crash, rc == -ENODEV ? "there is no session to keep it in" : "its directory can't be made", rc == -ENODEV ? 0 : -rc);
        return;
    }
    choose_rights(crash);
    crash->wishes.backtrace = true;
    crash->wishes.core = cfg->libscope.snapshot.coredump;
    crash->wishes.core_max = cfg->libscope.snapshot.coremax;
    if (crash->wishes.core && crash_cores_full(cs, crash->guest, crash->wishes.core_max)) {
        crash->wishes.core = false;
        crash->why = "no core: those of this session take enough room";
    }
    crash->wishes.if_panic = crash->kind == CRASH_EXIT;
    crash->job = crash_begin(&crash->cause, &crash->wishes, crash->dir, geteuid(), getegid(), CRASH_TIMEOUT_MS);
    if (!crash->job) {
        rc = errno;
        give_up(crash, "no process can be started to look at it", rc);
        return;
    }
    peer_clear(&crash->who); /* the worker has it */
    crash->stage = RUNS;
    cs->running++;
    cs->guests_running += crash->guest;
    crash->event = event_new(cs->c->base, crash_fd(crash->job), EV_READ | EV_PERSIST, on_step, crash);
    if (crash->event && event_add(crash->event, NULL)) { /* then turns look */
        event_free(crash->event);
        crash->event = NULL;
    }
}

static void read_name(struct crash *crash)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)crash->cause.pid, (int)crash->cause.tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    n = read(fd, crash->thread, sizeof(crash->thread) - 1);
    close(fd);
    crash->thread[n > 0 ? n - (crash->thread[n - 1] == '\n') : 0] = '\0';
}

/* A process that says so, but isn't looked at: what is told of it at its end. */
static void remember(struct segment *seg, uint32_t pid, const char *why)
{
    struct proc *p = segment_find(seg, pid, false);

    if (p)
        p->crash_missed = why;
}

static void refuse(struct crashes *cs, struct segment *seg, unsigned i, uint32_t pid, const char *why)
{
    place_forget(seg, i);
    place_not_seen(seg, i);
    place_set(seg, i, CRASH_DONE);
    remember(seg, pid, why);
    if (door_says(&cs->lines))
        log_warning("process %d says that a thread is about to die: %s", (int)seg->host_pid, why);
}

/* A thread says that it is about to die. `told` is a copy of what it has written. */
static void take(struct crashes *cs, struct segment *seg, unsigned i, const struct seg_crash *told, uint64_t now)
{
    struct crash *crash, **at = &cs->list;
    struct peer who = {.pidfd = -1};
    const char *why;
    pid_t pid, tid;

    if (!passes(&seg->crashes->budget, now, CRASH_EACH_NS, CRASH_EACH_BURST)) {
        refuse(cs, seg, i, told->pid, "there were too many crashes in a short time");
        return;
    }
    if (seg->guest && place_lives_on(seg, i, now)) {
        refuse(cs, seg, i, told->pid, "a thread that said so before goes on");
        return;
    }
    if (!within_budget(cs, seg, now)) {
        refuse(cs, seg, i, told->pid, "there were too many crashes in a short time");
        return;
    }
    if ((told->kind != CRASH_SIGNAL && told->kind != CRASH_EXIT) ||
        (told->kind == CRASH_SIGNAL && (told->signo <= 0 || told->signo >= _NSIG))) {
        refuse(cs, seg, i, told->pid, "what it has written makes no sense");
        return;
    }
    pid = segment_find_process(seg, told->pid);
    tid = pid <= 0 ? -ESRCH : told->tid ? tracer_thread(pid, told->tid, seg->guest ? GUEST_THREADS_MAX : UINT_MAX) : pid; /* in a sandbox it may not know */
    if (pid <= 0 || tid <= 0) {
        refuse(cs, seg, i, told->pid, "its thread is gone, or never was");
        return;
    }
    why = take_hold(&who, seg, pid);
    if (why) {
        peer_clear(&who);
        refuse(cs, seg, i, told->pid, why);
        return;
    }
    seg->crashes->of[i].pid = pid;
    seg->crashes->of[i].tid = tid;
    seg->crashes->of[i].done_ns = 0;
    crash = xcalloc(1, sizeof(*crash));
    *crash = (struct crash){.all = cs, .sequence = ++cs->sequence, .stage = WAITS, .seg = seg, .place = i, .since = now, .kind = told->kind,
                            .pid = told->pid, .tid = told->tid, .guest = seg->guest, .who = who, .dir = -1};
    crash->cause = (struct crash_cause){.pid = pid, .tid = tid, .code = told->code, .err = told->err, .addr = told->addr,
                                        .sender = told->sender, .sender_uid = told->sender_uid, .context = told->context,
                                        .time_ns = clock_to_real(&cs->c->model.clock, seg->map.info.clock, told->ticks,
                                                                 clock_now_real())};
    if (told->kind == CRASH_SIGNAL)
        crash->cause.signo = told->signo;
    else
        crash->cause.status = told->status & 0xff;
    read_name(crash);
    seg->refs++;
    while (*at)
        at = &(*at)->next;
    *at = crash;
    cs->count++;
}

static void look(struct crashes *cs, struct segment *seg, uint64_t now)
{
    bool on = places_wanted(seg);

    for (unsigned i = 0; i < SEG_CRASHES; i++) {
        uint32_t state = __atomic_load_n(&place_at(seg, i)->state, __ATOMIC_ACQUIRE);
        struct seg_crash told;

        if (state != CRASH_TOLD || (!on && !seg->crashes))
            continue;
        if (on && seg->guest && now < cs->look) { /* which they can make long: it waits for an answer meanwhile */
            cs->looks_wait = true;
            continue;
        }
        memcpy(&told, place_at(seg, i), sizeof(told));
        if (!__atomic_compare_exchange_n(&place_at(seg, i)->state, &state, CRASH_SEEN, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            continue;
        place_set(seg, i, CRASH_SEEN);
        if (!seg->crashes)
            seg->crashes = xcalloc(1, sizeof(*seg->crashes));
        if (on) {
            uint64_t before = clock_now_mono(), after;

            take(cs, seg, i, &told, now);
            after = clock_now_mono();
            if (seg->guest)
                cs->look = after + (after - before) * LOOK_SHARE;
        } else {
            place_set(seg, i, CRASH_DONE);
        }
    }
}

/* A guest that has one, while another user waits. */
static bool another_is_first(const struct crashes *cs, const struct crash *crash)
{
    bool has = false, waits = false;

    for (const struct crash *other = cs->list; other; other = other->next) {
        has |= other->guest && other->stage == RUNS && other->who.uid == crash->who.uid;
        waits |= other->guest && other->stage == WAITS && other->who.uid != crash->who.uid;
    }
    return has && waits;
}

static bool worker_is_free(struct crashes *cs, const struct crash *crash)
{
    return cs->running < CRASH_WORKERS && !worker_kept_max(&cs->kept[crash->guest]) &&
           (!crash->guest || (cs->guests_running < CRASH_GUEST_WORKERS && !another_is_first(cs, crash)));
}

/* All that it has recorded will come up before this entry of the backlog. */
static void queue(struct crash *crash, uint64_t now)
{
    struct collector *c = crash->all->c;

    if (crash->seg->held && now - crash->since < HELD_NS && !c->stopping)
        return;
    segments_drain(c, true);
    crash->stage = COMES_UP;
    backlog_add(&c->backlog, BL_CRASH, crash, clock_now_real(), 0);
}

void crashes_reached(struct crashes *cs, struct crash *crash)
{
    struct proc *p = process_of(crash);

    (void)cs;
    crash->since = clock_now_mono();
    crash->stage = FLUSHES;
    if (!p || !p->pl)
        return;
    if (crash->dir >= 0 && p->pl->cfg->event.enable && p->pl->cfg->event.transport.type == CFG_JOURNAL &&
        !p->pl->cfg->cribl.enable)
        crash->journal = xstrdup(p->pl->cfg->event.transport.path);
    crash->tm = p->pl->tm;
    crash->flight = (struct flight){.pid = p->pid, .host_pid = p->tm.host_pid, .from_ns = p->birth_ns};
    p->crash_told = true;
    p->crash_signo = crash->cause.signo;
    crash_tell(crash, p);
}

/* --- a turn --- */

static bool somebody_wants(const struct collector *c)
{
    for (const struct pipeline *pl = c->pipelines.first; pl; pl = pl->next)
        if (pl->mode & SEG_M_CRASH)
            return true;
    return false;
}

static void go_to_flight(struct crash *crash, uint64_t now)
{
    if (crash_flight_may_start(crash)) {
        crash_flight_start(crash);
    } else if (now - crash->since > CRASH_QUEUE_MS * MS) {
        crash_flight_skip(crash);
        crash_end(crash->all, crash);
    }
}

static void go_on(struct crash *crash, uint64_t now)
{
    struct crashes *cs = crash->all;

    switch (crash->stage) {
    case WAITS:
        if (worker_is_free(cs, crash))
            start_job(crash);
        else if (now - crash->since > CRASH_QUEUE_MS * MS)
            give_up(crash,
                    worker_kept_max(&cs->kept[crash->guest])
                        ? "the files of too many others can't be read: a file system does not answer"
                        : "too many others have crashed at the same time",
                    0);
        if (crash->stage == IS_OVER)
            queue(crash, now);
        return;
    case RUNS:
        advance(crash); /* may end it */
        return;
    case IS_OVER:
        queue(crash, now);
        return;
    case COMES_UP:
        return;
    case FLUSHES:
        if (!crash->journal)
            crash_end(crash->all, crash);
        else if (telemetry_flush(crash->tm) || telemetry_stuck(crash->tm) || now - crash->since > FLUSH_NS)
            go_to_flight(crash, now);
        return;
    case FLIGHT:
        if (crash_flight_is_over(crash, now - crash->since < CRASH_FLIGHT_MS * MS))
            crash_end(cs, crash);
        return;
    }
}

void crashes_turn(struct crashes *cs)
{
    uint64_t now;
    bool sweep;

    if (!cs || (!cs->list && !somebody_wants(cs->c)))
        return;
    now = clock_now_mono();
    sweep = now >= cs->sweep;
    if (sweep) {
        cs->sweep = now + SWEEP_NS;
        worker_kept_max(&cs->kept[0]);
        worker_kept_max(&cs->kept[1]);
    }
    cs->looks_wait = false;
    for (struct segment *seg = cs->c->segments; seg; seg = seg->next) {
        if ((!seg->crashes && !places_wanted(seg)) || !segment_crashes(&seg->map))
            continue;
        look(cs, seg, now);
        if (sweep && seg->crashes)
            places_free(seg);
    }
    for (struct crash *crash = cs->list, *next; crash; crash = next) {
        next = crash->next;
        go_on(crash, now);
    }
    door_sum(&cs->lines, false);
}

bool crashes_busy(const struct crashes *cs)
{
    return cs && cs->list;
}

bool crashes_wait(const struct crashes *cs)
{
    for (const struct crash *crash = cs ? cs->list : NULL; crash; crash = crash->next)
        if (crash->stage != RUNS)
            return true;
    return cs && cs->looks_wait;
}

bool crashes_hold(const struct crashes *cs, const struct proc *p)
{
    for (const struct crash *crash = cs ? cs->list : NULL; crash; crash = crash->next)
        if (crash->stage < FLUSHES && p->host_pid > 0 && crash->cause.pid == p->host_pid)
            return true;
    return false;
}

static const char *state_name(const struct crash *crash)
{
    return crash->stage == WAITS ? "waits" : crash->stage > RUNS ? "ends" : crash->let_go ? "names" : "stands";
}

void crashes_describe(const struct crashes *cs, struct buf *to)
{
    const char *separator = "";

    buf_char(to, '[');
    for (const struct crash *crash = cs ? cs->list : NULL; crash; crash = crash->next, separator = ",") {
        const struct proc *p = process_of(crash);
        char signal[24];

        buf_printf(to, "%s{\"number\":%llu,\"pid\":%u,", separator, (unsigned long long)crash->sequence, crash->pid);
        if ((uint32_t)crash->cause.pid != crash->pid)
            buf_printf(to, "\"hostPid\":%d,", (int)crash->cause.pid);
        buf_str(to, "\"proc\":");
        buf_json_str(to, p && p->tm.proc ? p->tm.proc : crash->thread);
        if (crash->cause.signo)
            buf_printf(to, ",\"signal\":\"%s\"", crash_cause_name(crash, signal));
        buf_printf(to, ",\"time\":%.6f,\"state\":\"%s\"}", (double)crash->cause.time_ns / 1e9, state_name(crash));
    }
    buf_char(to, ']');
}

/* --- the end --- */

void crashes_finish(struct crashes *cs)
{
    uint64_t until = clock_now_mono() + CRASH_END_MS * MS, now;

    crashes_turn(cs);
    for (;;) {
        struct pollfd fds[CRASH_WORKERS];
        nfds_t n = 0;

        now = clock_now_mono();
        for (struct crash *crash = cs->list, *next; crash; crash = next) {
            next = crash->next;
            if (crash->stage == WAITS)
                give_up(crash, "the session was ended", 0);
            if (crash->stage == RUNS && now >= until) {
                stop_job(crash);
                crash->why = "the session was ended";
                let_go(crash);
                crash->stage = IS_OVER;
            } else if (crash->stage == RUNS && n < CRASH_WORKERS) {
                fds[n++] = (struct pollfd){.fd = crash_fd(crash->job), .events = POLLIN};
            }
        }
        if (!n)
            break;
        poll(fds, n, (int)((until - now) / MS) < 100 ? (int)((until - now) / MS) + 1 : 100);
        for (struct crash *crash = cs->list, *next; crash; crash = next) {
            next = crash->next;
            if (crash->stage == RUNS)
                advance(crash);
        }
    }
    cs->c->stopping = true;
    for (struct crash *crash = cs->list; crash; crash = crash->next)
        if (crash->stage == IS_OVER)
            queue(crash, now);
}

void crashes_last(struct crashes *cs)
{
    uint64_t until = clock_now_mono() + CRASH_FLIGHT_MS * MS;

    while (cs->list) {
        bool in_time = clock_now_mono() < until;

        for (struct crash *crash = cs->list, *next; crash; crash = next) {
            bool wants = crash->stage == FLUSHES && crash->journal;

            next = crash->next;
            if (wants && in_time) {
                if (crash_flight_may_start(crash))
                    crash_flight_start(crash);
                continue;
            }
            if (wants)
                crash_flight_skip(crash);
            if (crash->stage != FLIGHT || crash_flight_is_over(crash, in_time))
                crash_end(cs, crash);
        }
        if (cs->list)
            usleep(1000);
    }
}

struct crashes *crashes_new(struct collector *c, void (*wake)(void *ctx), void *ctx)
{
    struct crashes *cs = xcalloc(1, sizeof(*cs));

    *cs = (struct crashes){.c = c, .wake = wake, .ctx = ctx, .dir = -1,
                           .lines.what = "crashes were said that could not be looked at"};
    return cs;
}

void crashes_free(struct crashes *cs)
{
    if (!cs)
        return;
    door_sum(&cs->lines, true);
    while (cs->list) {
        if (cs->list->job)
            stop_job(cs->list);
        crash_end(cs, cs->list);
    }
    if (cs->dir >= 0)
        close(cs->dir);
    free(cs);
}
