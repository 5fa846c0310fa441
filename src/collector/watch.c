/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/watch.h"

#include <event2/event.h>
#include <unistd.h>

#include "collector/guests.h"
#include "collector/keys.h"
#include "collector/passed.h"
#include "collector/segments.h"
#include "collector/state.h"
#include "collector/transfers.h"
#include "report/notices.h"
#include "report/report.h"
#include "report/spans.h"
#include "traffic/payloads.h"
#include "traffic/runtime_api.h"
#include "traffic/stream.h"
#include "traffic/tls_objects.h"

/* --- descriptors --- */

static enum fd_want wants(const struct proc *p, const struct desc *d)
{
    enum fd_want want = report_wants(p, d);

    return want == FDW_NONE && d->file->kind == FDK_SOCKET ? stream_want(p, d) : want;
}

static void closing(struct proc *p, int64_t fd, struct desc *d, const char *op, uint64_t time_ns, bool is_explicit)
{
    const struct file *f = d->file;
    struct sock *s = f->sock;

    if (s) {
        if (s->flags & SOCKF_RECEIVED && !file_shared(f))
            passed_closing(p, fd, f);
        stream_close(p, fd, d, time_ns);
        if (file_shared(f))
            s->close_ns = time_ns;
        else
            report_net_close(p, fd, d, time_ns);
    } else if (f->kind != FDK_SOCKET && (d->flags & DF_REPORTED || d->n.ro || d->n.wo ||
                                         (is_explicit && (f->kind == FDK_FILE || f->kind == FDK_DIR)))) {
        report_close(p, fd, d, op, time_ns);
        if (p->pl && p->pl->notices && !is_explicit)
            transfers_unclosed_file(p, fd, d, time_ns);
    }
}

/* --- what the process itself knows --- */

/* Its own segment, if that makes sense; NULL: there is none. */
static struct segment *own_segment(const struct proc *p)
{
    return p->seg && !p->borrowed && !p->seg->broken ? p->seg : NULL;
}

static bool generation(const struct proc *p, int64_t fd, uint32_t *ret)
{
    const struct segment *seg = own_segment(p);
    struct fd_entry e;

    if (!seg || !segment_fd(&seg->map, (uint64_t)fd, &e))
        return false;
    *ret = e.gen;
    return true;
}

static void tell_want(struct proc *p, int64_t fd, const struct desc *d)
{
    struct segment *seg = own_segment(p);

    if (seg)
        segment_want(&seg->map, (uint64_t)fd, d->gen, d->want);
}

static bool tell_skip(struct proc *p, int64_t fd, uint32_t gen, bool tx, uint64_t to)
{
    struct segment *seg = own_segment(p);

    if (seg)
        segment_skip(&seg->map, (uint64_t)fd, gen, tx, to);
    return seg != NULL;
}

static void tell_tls_done(struct proc *p, uint64_t object, uint32_t life)
{
    struct segment *seg = own_segment(p);

    if (seg)
        segment_tls_done(&seg->map, object, life);
}

static bool lost_records(const struct proc *p)
{
    const uint64_t *lost = p->seg ? p->seg->loss_seen : NULL;

    return lost && (lost[LOSS_RECORD] || lost[LOSS_DATA] || lost[LOSS_SLOT] || lost[LOSS_COPY]);
}

/* --- ends --- */

static void sock_last(struct model *m, struct sock *s)
{
    if (s->flags & SOCKF_RECEIVED)
        passed_forget(collector_of(m), s);
}

static void sock_end(struct sock *s)
{
    stream_free(s->stream, clock_now_real());
    stream_free(s->plain, clock_now_real());
}

static void proc_end(struct proc *p)
{
    struct collector *c = collector_of(p->m);

    if (c->opt->runtime)
        runtime_api_ended(c->opt->runtime, p);
    if (p->dead) {
        LIST_DEL(c->dying_procs, p, dying_next, dying_prev);
        c->dying--;
    }
    if (p->unwatched)
        c->unwatched--;
    if (c->unwatched_next == p)
        c->unwatched_next = p->next;
    if (c->check_next == p)
        c->check_next = p->next;
    proc_unborrow(p);
    if (p->seg) {
        if (p->seg->owner == p)
            p->seg->owner = NULL;
        segment_unref(c, p->seg);
    }
    if (p->death)
        event_free(p->death);
    if (p->pidfd >= 0)
        close(p->pidfd);
    tls_objects_end(p, false, clock_now_real());
    passed_end(p, false);
    stream_forget(p);
    spans_forget(p);
}

const struct model_watch watch_model = {
    .lost = report_lost,
    .wants = wants,
    .closing = closing,
    .connected = report_net_open,
    .gauge = report_gauge,
    .generation = generation,
    .tell_want = tell_want,
    .tell_skip = tell_skip,
    .tell_tls_done = tell_tls_done,
    .lost_records = lost_records,
    .tls_keys = keys_of,
    .tls_search = keys_search,
    .sock_last = sock_last,
    .sock_end = sock_end,
    .proc_end = proc_end,
    .tls_inherit = tls_objects_inherit,
    .tls_free = tls_objects_free,
};

/* --- configurations --- */

void watch_prepare(void *collector, struct pipeline *pl)
{
    struct collector *c = collector;

    pl->runtime = c->opt->runtime;
    notices_prepare(pl); /* they decide what is decoded */
    stream_prepare(pl);
    payloads_prepare(&c->payloads, pl);
}

void watch_unprepare(void *collector, struct pipeline *pl)
{
    (void)collector;
    stream_unprepare(pl);
    notices_unprepare(pl);
}

void watch_moved(void *collector, struct pipeline *pl)
{
    struct collector *c = collector;

    payloads_moved(&c->payloads, pl);
}

void watch_retire(void *collector, struct pipeline *pl)
{
    struct collector *c = collector;

    payloads_forget(&c->payloads, pl);
}
