/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/work.h"

#include <time.h>

#include "collector/crashes.h"
#include "collector/decode.h"
#include "collector/ends.h"
#include "collector/life.h"
#include "collector/segments.h"
#include "collector/state.h"

static void process_one(struct collector *c, const struct backlog_entry *e, const void *data)
{
    struct segment *seg;
    struct proc *p;

    switch (e->kind) {
    case BL_RECORD:
        seg = e->owner;
        segment_unqueue(seg, e->size);
        if (seg->too_dear && segment_delays(seg)) // NOLINT(clang-analyzer-core.NullDereference): it has a ring
            model_loss(&c->model, seg->owner ? seg->owner : seg->borrowers, LK_RECORD, 1);
        else
            decode_record(c, seg, data, e->size, e->arrival);
        segment_unref(c, seg);
        break;
    case BL_ATTACH:
        seg = e->owner;
        life_attach(c, seg, e->arrival);
        if (!seg->attach_again)
            segment_unref(c, seg);
        break;
    case BL_END:
        p = e->owner;
        if (!ends_tell(p, clock_now_mono() - p->death_mono > STATUS_WAIT_NS || c->stopping))
            p->end_reached = true;
        break;
    case BL_LEAVE:
        ends_leave(c, *(const pid_t *)data);
        break;
    case BL_CRASH:
        crashes_reached(c->crashes, e->owner);
        break;
    case BL_SYNC:
        c->sync_done(e->owner);
        break;
    }
}

/* Records of one ring in a row: what they take is measured together. */
struct run {
    struct segment *seg; /* NULL: none; referenced */
    unsigned records, most;
    uint64_t since;      /* CPU time of this thread, ns: others may have had the CPU meanwhile */
};
#define RUN_MAX 16u

/* A run isn't meant to take longer than one of usual records: measuring takes as long as a small record does. */
static unsigned longest_run(const struct segment *seg)
{
    uint64_t n = seg && seg->record_ns > RECORD_NS ? RUN_MAX * RECORD_NS / seg->record_ns : RUN_MAX;

    return n ? (unsigned)n : 1;
}

/* Another one begins, with the records of seg (NULL: something else). Returns CLOCK_MONOTONIC ns. */
static uint64_t next_run(struct collector *c, struct run *r, struct segment *seg)
{
    uint64_t now = clock_now_mono(), used = r->seg || seg ? clock_used() : 0;

    if (r->seg)
        segment_charge(r->seg, r->records, used - r->since, used);
    if (seg)
        seg->refs++;
    if (r->seg)
        segment_unref(c, r->seg);
    *r = (struct run){.seg = seg, .most = longest_run(seg), .since = used};
    return now;
}

bool core_process(struct collector *c, uint64_t deadline)
{
    struct backlog_entry *e;
    struct run r = {0};
    void *data;

    while ((e = backlog_peek(&c->backlog, &data))) {
        struct segment *seg = e->kind == BL_RECORD ? e->owner : NULL;

        if ((r.seg != seg || r.records >= r.most) && next_run(c, &r, seg) >= deadline)
            break;
        r.records++;
        process_one(c, e, data);
        backlog_pop(&c->backlog);
    }
    next_run(c, &r, NULL);
    return !c->backlog.bytes;
}
