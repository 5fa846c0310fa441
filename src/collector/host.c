/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/job.h"
#include "base/log.h"
#include "base/mem.h"
#include "collector/left.h"
#include "collector/life.h"
#include "collector/segments.h"
#include "collector/state.h"
#include "collector/work.h"
#include "report/report.h"
#include "session/retention.h"

#define MS UINT64_C(1000000)
#define SWEEP_NS (10000 * MS)     /* between two looks through the store */
#define AGAIN_NS (60000 * MS)     /* until a session that could not be begun is tried again */
#define END_NS (60000 * MS)       /* what was queued for a session that has ended may take so long */
#define PART 4                    /* of all that sessions may take: then the running one has become too big */
#define DRAIN_EACH 256u           /* processes that are moved before the rings are looked at again */

/* Telemetry that has ended and isn't written out yet. */
struct old {
    struct old *next;
    struct telemetry *tm;
};

/* A session as far as it is over. */
struct chapter {
    struct chapter *next;
    struct session *session;  /* NULL: the one that is being recorded */
    int lock_fd;
    struct old *old;
    struct tm_stats past;     /* of telemetry that is written out */
    uint64_t since;           /* CLOCK_MONOTONIC ns: when it ended */
    uint64_t processes, lost[LK_MAX], unread[UNREAD_MAX]; /* that it has; of the present one: that those before it have */
};

struct host {
    struct collector *c;
    struct collector_options *opt;
    struct collector_host *of;
    struct chapter now, *ended;
    uint64_t began_mono;      /* CLOCK_MONOTONIC ns: when the session began */
    uint64_t again;           /* CLOCK_MONOTONIC ns: not before is another one begun */
    struct job *sweeper;      /* NULL: no thread can be had */
    uint64_t next_sweep;      /* CLOCK_MONOTONIC ns */
    bool sweeping, told;
    int history;              /* of the store, for the sweeper */
    struct retention keep;
    struct retained kept;
};

struct host *host_new(struct collector *c, struct collector_options *opt)
{
    struct host *h = xcalloc(1, sizeof(*h));

    *h = (struct host){.c = c, .opt = opt, .of = opt->host, .began_mono = clock_now_mono(), .history = -1};
    h->now.lock_fd = -1;
    h->sweeper = job_new();
    return h;
}

/* --- numbers --- */

static void add_stats(struct tm_stats *sum, const struct tm_stats *t)
{
    sum->events += t->events;
    sum->metrics += t->metrics;
    sum->spans += t->spans;
    sum->held_back += t->held_back;
    sum->filtered += t->filtered;
    sum->lost_queue += t->lost_queue;
    sum->lost_destination += t->lost_destination;
}

static void add_old(const struct chapter *ch, struct tm_stats *sum)
{
    struct tm_stats t;

    add_stats(sum, &ch->past);
    for (const struct old *o = ch->old; o; o = o->next) {
        telemetry_stats(o->tm, &t);
        add_stats(sum, &t);
    }
}

void host_numbers(const struct host *h, struct tm_stats *sum, uint64_t *processes, uint64_t lost[LK_MAX],
                  uint64_t unread[UNREAD_MAX])
{
    add_old(&h->now, sum);
    *processes -= h->now.processes;
    for (int i = 0; i < LK_MAX; i++)
        lost[i] -= h->now.lost[i];
    for (int i = 0; i < UNREAD_MAX; i++)
        unread[i] -= h->now.unread[i];
}

/* --- sessions that have ended --- */

static void keep_old(void *ctx, struct telemetry *tm)
{
    struct chapter *ch = ctx;
    struct old *o = xcalloc(1, sizeof(*o));

    *o = (struct old){ch->old, tm};
    ch->old = o;
}

/* Frees what is written out, or waits for nothing that is worth waiting for. */
static void write_out(struct chapter *ch, bool force, unsigned wait_ms)
{
    for (struct old **at = &ch->old, *o; (o = *at);) {
        struct tm_stats t;

        if (!force && !telemetry_flush(o->tm) && !telemetry_stuck(o->tm)) {
            at = &o->next;
            continue;
        }
        telemetry_finish(o->tm, wait_ms);
        telemetry_stats(o->tm, &t);
        add_stats(&ch->past, &t);
        telemetry_free(o->tm, 0);
        *at = o->next;
        free(o);
    }
}

/* Its metadata, for the last time. */
static void close_chapter(struct host *h, struct chapter *ch)
{
    struct session *s = ch->session;
    int rc;

    s->events = ch->past.events;
    s->metrics = ch->past.metrics;
    s->held_back = ch->past.held_back;
    session_set_lost(s, report_loss_name(LK_QUEUE), ch->past.lost_queue);
    session_set_lost(s, report_loss_name(LK_DESTINATION), ch->past.lost_destination);
    rc = session_save(s, ch->lock_fd);
    if (rc < 0)
        log_warning("%s/session.json can't be written: %s", s->dir, strerror(-rc));
    if (ch->lock_fd >= 0)
        session_unlock(ch->lock_fd);
    h->of->end(h->of->ctx, s);
    free(ch);
}

static void end_chapters(struct host *h, bool force, unsigned wait_ms)
{
    uint64_t now = clock_now_mono();

    write_out(&h->now, force, wait_ms);
    for (struct chapter **at = &h->ended, *ch; (ch = *at);) {
        write_out(ch, force || now - ch->since > END_NS, wait_ms);
        if (ch->old) {
            at = &ch->next;
            continue;
        }
        *at = ch->next;
        close_chapter(h, ch);
    }
}

/* --- another session --- */

bool host_session_over(struct host *h)
{
    const struct session *s = h->opt->session;
    uint64_t mono = clock_now_mono();

    if (!s || mono < h->again)
        return false;
    return retention_day_over(s->start_ns, clock_now_real(), mono - h->began_mono) ||
           (h->of->maxsize && h->kept.running_bytes > h->of->maxsize / PART);
}

/* Rings fill while thousands of processes are seen to. */
static void look_between(struct collector *c, unsigned *n)
{
    if (++*n % DRAIN_EACH == 0)
        segments_drain(c, false);
}

int host_next_session(struct host *h, int *lock_fd)
{
    struct collector *c = h->c;
    struct session *was = h->opt->session, *now;
    struct config_sources *config, *old = h->opt->config;
    struct chapter *ch;
    unsigned n = 0;
    int rc = h->of->begin(h->of->ctx, &now, &config);

    if (rc < 0) {
        h->again = clock_now_mono() + AGAIN_NS;
        return rc;
    }
    log_info("session %llu ends here; it goes on in session %llu", (unsigned long long)was->id,
             (unsigned long long)now->id);
    ch = xcalloc(1, sizeof(*ch));
    *ch = h->now;
    ch->session = was;
    ch->lock_fd = *lock_fd;
    ch->since = clock_now_mono();
    ch->next = h->ended;
    h->ended = ch;
    h->now = (struct chapter){.lock_fd = -1, .processes = c->processes - c->model.proc_count};
    memcpy(h->now.lost, c->model.lost, sizeof(h->now.lost));
    memcpy(h->now.unread, c->model.unread_count, sizeof(h->now.unread));
    h->now.lost[LK_QUEUE] = h->now.lost[LK_DESTINATION] = 0; /* these are what telemetry says */
    was->end_ns = clock_now_real();
    *lock_fd = session_lock(now->dir);
    if (*lock_fd < 0)
        log_warning("%s/lock can't be taken: %s", now->dir, strerror(-*lock_fd));
    now->exit_code = -1;
    now->collector = getpid();

    for (struct proc *p = c->model.procs; p; p = p->next) {
        if (p->pl)
            life_pause(p, was->end_ns);
        look_between(c, &n);
    }
    payloads_leave(&c->payloads, was->dir, now);
    pipelines_move(&c->pipelines, was->dir, now->dir, keep_old, ch);
    pipelines_rename(&c->pipelines, old, config_is_common(config) ? config : NULL);
    h->opt->config = config;
    h->opt->session = now;
    config_sources_free(old);
    life_move_configs(c, was->dir, now->dir);
    for (struct proc *p = c->model.procs; p; p = p->next) {
        if (p->pl && !p->dead)
            life_resume(p);
        look_between(c, &n);
    }
    h->began_mono = clock_now_mono();
    h->kept.running_bytes = 0;
    h->next_sweep = 0;
    return 0;
}

/* --- the store --- */

static void sweep(void *arg)
{
    struct host *h = arg;

    retention_apply(h->history, &h->keep, &h->kept);
}

static void end_sweep(struct host *h)
{
    if (!h->sweeping)
        return;
    job_wait(h->sweeper);
    h->sweeping = false;
    close(h->history);
    h->history = -1;
    if (h->kept.removed)
        log_info("%u old sessions were removed; those that are left take %llu bytes", h->kept.removed,
                 (unsigned long long)h->kept.bytes);
    if (h->kept.rc && !h->told)
        log_warning("an old session can't be removed: %s", strerror(-h->kept.rc));
    h->told = h->kept.rc != 0;
    if (h->opt->session && h->keep.running != h->opt->session->id)
        h->kept.running_bytes = 0; /* it was about the one before */
}

static void begin_sweep(struct host *h)
{
    h->history = retention_open();
    if (h->history < 0)
        return;
    h->keep = (struct retention){.maxsize = h->of->maxsize, .days = h->of->days, .now_ns = clock_now_real(),
                                 .running = h->opt->session ? h->opt->session->id : 0};
    h->sweeping = true;
    if (h->sweeper) {
        job_run(h->sweeper, sweep, h);
        return;
    }
    sweep(h);
    end_sweep(h);
}

void host_look(struct host *h)
{
    uint64_t now = clock_now_mono();

    end_chapters(h, false, 0);
    if (h->sweeping && !job_busy(h->sweeper))
        end_sweep(h);
    if (h->sweeping || now < h->next_sweep)
        return;
    h->next_sweep = now + SWEEP_NS;
    begin_sweep(h);
}

void host_free(struct host *h)
{
    if (!h)
        return;
    if (h->sweeper)
        end_sweep(h);
    end_chapters(h, true, 1000);
    job_free(h->sweeper);
    free(h);
}

/* --- requests --- */

int host_reload(struct host *h)
{
    struct collector *c = h->c;
    struct config_sources *config, *old = h->opt->config;
    unsigned n = 0;
    int rc = h->of->configure(h->of->ctx, h->opt->session, &config);

    if (rc < 0)
        return rc;
    segments_drain(c, true); /* what was done before was meant for the old configuration */
    core_process(c, UINT64_MAX);
    h->opt->config = config;
    pipelines_rename(&c->pipelines, old, NULL);
    for (struct proc *p = c->model.procs; p; p = p->next) {
        if (p->pl && !p->dead)
            life_configure_again(p);
        look_between(c, &n);
    }
    for (struct pipeline *pl = c->pipelines.first, *next; pl; pl = next) {
        bool used = false;

        next = pl->next;
        for (struct proc *p = c->model.procs; p && !used; p = p->next)
            used = p->pl == pl;
        if (!used)
            pipeline_retire(&c->pipelines, pl, keep_old, &h->now);
    }
    config_sources_free(old);
    return 0;
}

int host_known(struct collector *c, pid_t pid)
{
    const struct proc *p = pid > 0 ? proc_by_host_pid(&c->model, pid) : NULL;

    if (p && !p->dead && p->pl)
        return 0;
    for (const struct segment *seg = pid > 0 ? *segments_by_pid(c, pid) : NULL; seg; seg = seg->pid_next)
        if (seg->host_pid == pid && !seg->attached && !seg->broken) /* has just joined */
            return 0;
    return left_by_user(c, pid) ? -ECANCELED : -ESRCH;
}
