/* SPDX-License-Identifier: Apache-2.0 */
#include "contents.h"

#include "descriptors.h"

#define HIDDEN __attribute__((visibility("hidden")))

/* Not captured while nobody had decided: a loss if it turns out to be wanted. */
static void fd_unsaid(struct fd_entry *e, uint64_t n)
{
    n += e->unsaid;
    e->unsaid = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* The same for a guest, whose descriptors have no entry: the reader knows whether they were wanted. */
static void guest_unsaid(struct call *c, int fd, uint64_t at, size_t len)
{
    struct record r = {.kind = REC_DATA, .op = (uint16_t)c->op, .time = now(), .ret = (int64_t)len,
                       .arg = {(uint64_t)fd, at}};

    ring_write(c->s, &r, NULL, 0);
}

/* Written bytes [data, +len) at offset `at` of the call: kept if somebody wants them or may want them. */
static void capture(struct call *c, int fd, struct fd_entry *e, uint64_t at, const char *data, size_t len)
{
    uint32_t want = e ? __atomic_load_n(&e->want, __ATOMIC_RELAXED) : 0, decision = FDW_UNDECIDED;
    bool standard;

    if (e && want >> 2 == (e->gen & 0x3fffffff))
        decision = want & 3;
    if (decision == FDW_NONE || (decision == FDW_SAMPLE && at >= FD_SAMPLE))
        return;
    standard = fd == 1 || fd == 2 || (e && (e->state & FDS_STD));
    if (decision == FDW_UNDECIDED && !standard) { /* only standard output and regular files can be wanted */
        enum fd_kind kind = e ? e->kind : FDK_UNKNOWN;

        if (kind == FDK_UNKNOWN) {
            kind = kind_of_fd(fd, e);
            if (e)
                e->kind = (uint8_t)kind;
        }
        /* or what was inherited: it may be a duplicate of the former */
        if (kind != FDK_UNKNOWN && kind != FDK_FILE && !((kind == FDK_PIPE || kind == FDK_OTHER) && e && !e->gen))
            return;
    }
    if (!e && !standard && ring_half_full(c->s)) {
        guest_unsaid(c, fd, at, len);
        return;
    }
    if (decision == FDW_UNDECIDED && e && !standard) {
        size_t used = (size_t)e->undecided * FD_UNDECIDED_UNIT, room = used < FD_UNDECIDED_MAX ? FD_UNDECIDED_MAX - used : 0;

        if (ring_half_full(c->s)) /* what is certainly wanted goes first */
            room = 0;
        if (len > room) {
            fd_unsaid(e, len - room);
            len = room;
        }
        e->undecided = (uint16_t)(e->undecided + (len + FD_UNDECIDED_UNIT - 1) / FD_UNDECIDED_UNIT);
    }
    if (len && (!e || !(e->state & FDS_READS))) {
        if (e)
            kind_of_fd(fd, e);
        if ((e ? !(e->state & FDS_READS) : !guest_reads(fd)) && !mem_readable(data, len)) {
            if (probe.sandboxed && (standard || decision == FDW_CAPTURE))
                count_loss(c->s, LOSS_DATA, len);
            else if (probe.sandboxed && e)
                fd_unsaid(e, len);
            else if (probe.sandboxed)
                guest_unsaid(c, fd, at, len);
            return;
        }
    }
    if (decision == FDW_SAMPLE) {
        bool cut = (uint64_t)c->ret > FD_SAMPLE && at + len >= FD_SAMPLE;

        len = MIN(len, (size_t)(FD_SAMPLE - at));
        if (ring_data(c->s, c->op, fd, at, c->ret, data, len, cut ? REC_F_CUT : 0) && cut)
            count_loss(c->s, LOSS_DATA, (uint64_t)c->ret - FD_SAMPLE);
        return;
    }
    if (decision == FDW_CAPTURE || standard) {
        ring_data(c->s, c->op, fd, at, c->ret, data, len, 0);
        return;
    }
    len = ring_data(c->s, c->op, fd, at, c->ret, data, len, REC_F_UNASKED);
    if (len && e)
        fd_unsaid(e, len);
    else if (len)
        guest_unsaid(c, fd, at, len);
}

HIDDEN void unseen(struct call *c, int fd, struct fd_entry *e, uint32_t mode, uint64_t bytes)
{
    uint32_t want = e ? __atomic_load_n(&e->want, __ATOMIC_RELAXED) : 0;
    struct record r = {.kind = REC_DATA, .op = (uint16_t)c->op, .time = now(), .ret = (int64_t)bytes,
                       .arg = {(uint64_t)fd, 0, 0, DATA_FILE, 1}};

    if (!(mode & SEG_M_CAPTURE) || !bytes)
        return;
    if (e && want == (e->gen << 2 | FDW_NONE))
        return;
    if (e && (want >> 2 != (e->gen & 0x3fffffff) || !(want & 3)) && fd != 1 && fd != 2 && !(e->state & FDS_STD) && e->kind > FDK_FILE && e->gen)
        return; /* as in capture() */
    ring_write(c->s, &r, NULL, 0);
}

HIDDEN void capture_iov(struct call *c, int fd, struct fd_entry *e, const struct iovec *iov, size_t count, uint64_t bytes)
{
    uint64_t at = 0;

    for (size_t i = 0; i < count && at < bytes; i++) {
        size_t n = MIN(iov[i].len, (size_t)(bytes - at));

        if (n)
            capture(c, fd, e, at, iov[i].base, n);
        at += n;
    }
}
