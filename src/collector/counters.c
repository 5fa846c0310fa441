/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/counters.h"

#include "collector/segments.h"
#include "model/account.h"
#include "model/model.h"
#include "report/report.h"

/* False: something was recorded meanwhile, stop. *left: this one is to be looked at again. */
static bool settle_one(struct proc *p, int fd, bool final, bool *left)
{
    struct segment *seg = p->seg;
    struct desc *d;
    struct fd_entry e;
    struct io_count cum;

    if (!segment_fd(&seg->map, (uint64_t)fd, &e))
        return true;
    if (!final && segment_head(&seg->map) != seg->map.ring.pos)
        return false;
    d = fd_get(&p->fds, fd, e.read_ops || e.write_ops || e.read_bytes || e.write_bytes);
    if (!d)
        return true;
    if (d->file ? d->gen != e.gen : e.gen != 0) {
        /* A thread may be between changing the generation and recording why; at the end there is none. */
        if (!final) {
            *left = true;
            return true;
        }
        if (!d->file || e.gen != d->gen + 1 || e.state & FDS_OPEN) /* else just its close was lost */
            d->flags |= DF_BLIND;
    }
    cum = (struct io_count){e.read_bytes, e.read_ops, e.read_ticks, e.write_bytes, e.write_ops, e.write_ticks};
    account_counters(p, fd, d, &cum, seg->map.info.clock, d->file || !e.gen);
    if (d->file && d->gen == e.gen && d->file->sock && d->file->sock->type == SOCK_STREAM && e.state & FDS_EOF)
        d->file->sock->flags |= SOCKF_REMOTE;
    if (d->file && d->gen == e.gen)
        d->flags &= (uint8_t)~DF_BLIND; /* whatever comes now is its own */
    if (d->unsaid_gen != e.gen) {
        d->unsaid_gen = e.gen;
        d->unsaid_seen = 0;
    }
    if (d->file && (d->want == FDW_CAPTURE || d->want == FDW_SAMPLE) && d->gen == e.gen && e.unsaid > d->unsaid_seen) {
        model_loss(p->m, p, LK_DATA, e.unsaid - d->unsaid_seen);
        d->unsaid_seen = e.unsaid;
    }
    return true;
}

bool counters_settle(struct proc *p, bool final)
{
    struct segment *seg = p->seg;
    bool left = false;
    uint32_t high;

    if (!seg || p->borrowed || seg->broken)
        return true;
    if (!final && (seg->queued || segment_head(&seg->map) != seg->map.ring.pos))
        return false;
    high = segment_fd_high(&seg->map);
    for (uint32_t fd = 0; fd < high;) {
        unsigned page = fd / FD_PAGE;

        /* entries of numbers that were never used are holes: looking at them would make pages of them */
        if (page >= 2 && !(final && page < 64) && (page >= p->fds.pages || !p->fds.page[page])) {
            fd = (page + 1) * FD_PAGE;
            continue;
        }
        if (!settle_one(p, (int)fd, final, &left))
            return false;
        fd++;
    }
    return !left;
}

/* Calls without a record of their own. */
void counters_take_ops(struct segment *seg, struct proc *p)
{
    const struct segment_header *h = segment_numbers(&seg->map);
    enum err_class k;

    if (!p || !p->pl || seg->broken)
        return;
    for (int op = 1; op < OP_MAX; op++) {
        uint64_t n = __atomic_load_n(&h->op[op].calls, __ATOMIC_RELAXED), more;
        uint64_t bad = __atomic_load_n(&h->op[op].failed, __ATOMIC_RELAXED);

        more = n > seg->op_seen[op] && n - seg->op_seen[op] < UINT64_C(1) << 48 ? n - seg->op_seen[op] : 0;
        seg->op_seen[op] = n;
        if (more && op_table[op].group == OPG_STAT)
            p->sums.value[TM_FS_STAT] += more;
        else if (more && op_table[op].group == OPG_SEEK)
            p->sums.value[TM_FS_SEEK] += more;
        else if (more && op_table[op].group == OPG_SYNC)
            p->sums.value[TM_FS_SYNC] += more;
        k = err_class_of(op_table[op].group);
        if (bad > seg->failed_seen[op] && bad - seg->failed_seen[op] < UINT64_C(1) << 48 && k < ERR_MAX)
            p->sums.error[k] += bad - seg->failed_seen[op];
        seg->failed_seen[op] = bad;
    }
}
