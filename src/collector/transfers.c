/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/transfers.h"


#include "collector/segments.h"
#include "collector/sockets.h"
#include "collector/state.h"
#include "model/account.h"
#include "model/fds.h"
#include "model/names.h"
#include "report/notices.h"
#include "report/spans.h"
#include "traffic/tls_objects.h"

#define SAMPLE_FROM (4 * (int64_t)FD_SAMPLE) /* writes of binary data from this size on need not be captured whole */
#define TRAFFIC_MAX (INT64_MAX / 4) /* no counter of bytes gets there; sums don't overflow */

/* `bytes` went through fd. counted: they are in the segment's counters. */
static void transferred(struct told *x, int64_t fd, bool out, uint64_t bytes)
{
    const struct pipeline *pl = x->p->pl;
    bool counted = x->r->flags & REC_F_COUNTED && !x->p->borrowed, sock;
    struct desc *d = fds_lookup(x->p, fd);
    struct io_count n = {0}, metric;
    size_t len;
    const char *name;

    if (!d || !d->file)
        return;
    if (out)
        n = (struct io_count){.wb = bytes, .wo = 1, .wt = x->ns};
    else
        n = (struct io_count){.rb = bytes, .ro = 1, .rt = x->ns};
    if (!counted)
        account_desc(d, &n);
    sock = d->file->kind == FDK_SOCKET;
    metric = n;
    if (sock ? pl->per_op[out ? TM_NET_TX : TM_NET_RX] : pl->per_op[out ? TM_FS_WRITE : TM_FS_READ]) {
        name = fds_name(d, &len);
        report_op(x->p, sock ? (out ? TM_NET_TX : TM_NET_RX) : out ? TM_FS_WRITE : TM_FS_READ, bytes, fd, d, x->name,
                  name, len, x->time);
        if (!sock && pl->per_op[TM_FS_DURATION] && x->ns)
            report_op(x->p, TM_FS_DURATION, x->ns / 1000 ? x->ns / 1000 : 1, fd, d, x->name, name, len, x->time);
        if (counted) { /* the counters will show it once more */
            d->said.rb += n.rb;
            d->said.ro += n.ro;
            d->said.rt += n.rt;
            d->said.wb += n.wb;
            d->said.wo += n.wo;
            d->said.wt += n.wt;
        }
    } else if (!counted) {
        account_sums(x->p, d, &metric);
    }
    if (d->file->sock && d->file->sock->flags & SOCKF_PENDING)
        report_net_open(x->p, fd, d, d->file->sock->open_ns);
    if (d->file->sock && !out && !bytes && d->file->sock->type == SOCK_STREAM)
        d->file->sock->flags |= SOCKF_REMOTE;
}

/* What was received stays, or isn't what the peer sent. */
static bool peeked(const struct told *x)
{
    switch (x->desc->shape) {
    case SHP_RECVFROM: case SHP_RECVMMSG: return x->r->arg[3] & (MSG_PEEK | MSG_ERRQUEUE);
    case SHP_RECVMSG: return x->r->arg[2] & (MSG_PEEK | MSG_ERRQUEUE);
    default: return false;
    }
}

/* A datagram socket without connection: its first partner makes a flow. */
static void flow(struct told *x, int64_t fd)
{
    struct desc *d;
    struct sock *s;

    if (!x->in.addr)
        return;
    d = sockets_desc(x, fd);
    if (!d)
        return;
    s = d->file->sock;
    if ((s->flags & SOCKF_OPEN) || (s->type && s->type != SOCK_DGRAM) || sockets_unspec(x))
        return;
    sockets_take_addresses(x, s);
    sockets_guess_domain(s, SOCK_DGRAM);
    if (s->domain == AF_NETLINK || s->type != SOCK_DGRAM)
        return;
    s->open_ns = x->time;
    report_net_open(x->p, fd, d, x->time);
    if (x->p->pl->notices && (x->desc->shape == SHP_SENDTO || x->desc->shape == SHP_SENDMSG || x->desc->shape == SHP_SENDMMSG))
        sockets_notice(x, d);
}

void transfers_sent_file(struct proc *p, const struct desc *d, uint32_t state, uint32_t undecided, uint64_t time_ns)
{
    const struct desc *to = state & FDS_WRITABLE || !undecided ? NULL : fd_get(&p->fds, (int64_t)undecided - 1, false);

    notices_sent(p, d, to && to->file && to->file->sock ? to : NULL, d->n.rb, op_name(OP_sendfile), time_ns);
}

void transfers_unclosed_file(struct proc *p, int64_t fd, const struct desc *d, uint64_t time_ns)
{
    struct fd_entry e;

    if (p->seg && !p->borrowed && !p->seg->broken && segment_fd(&p->seg->map, (uint64_t)fd, &e) && e.gen == d->gen &&
        e.state & FDS_SENT && d->file->kind != FDK_SOCKET)
        transfers_sent_file(p, d, e.state, e.undecided, time_ns);
}

/* The kernel has moved a file to a socket: a call that has a record of its own. */
static void notice_sent(struct told *x)
{
    const struct desc *from = fds_lookup(x->p, told_int(x, 1)), *to = fds_lookup(x->p, told_int(x, 0));

    if (from && from->file && to && to->file && to->file->sock && x->r->ret > 0)
        notices_sent(x->p, from, to, (uint64_t)x->r->ret, x->name, x->time);
}

void transfers_call(struct told *x)
{
    uint64_t bytes = (uint64_t)x->r->ret;

    switch (x->desc->shape) {
    case SHP_READ: case SHP_READV:
        transferred(x, told_int(x, 0), false, bytes);
        break;
    case SHP_WRITE: case SHP_WRITEV: case SHP_VMSPLICE:
        transferred(x, told_int(x, 0), true, bytes);
        break;
    case SHP_SENDFILE:
        if (x->p->pl->notices)
            notice_sent(x);
        transferred(x, told_int(x, 1), false, bytes);
        transferred(x, told_int(x, 0), true, bytes);
        break;
    case SHP_SPLICE: case SHP_COPY:
        transferred(x, told_int(x, 0), false, bytes);
        transferred(x, told_int(x, 2), true, bytes);
        break;
    case SHP_TEE:
        transferred(x, told_int(x, 1), true, bytes);
        break;
    case SHP_SENDMMSG: case SHP_RECVMMSG:
        bytes = x->r->arg[5];
        /* fall through */
    case SHP_SENDTO: case SHP_SENDMSG: case SHP_RECVFROM: case SHP_RECVMSG:
        flow(x, told_int(x, 0));
        if (!peeked(x)) {
            bool out = x->desc->shape == SHP_SENDTO || x->desc->shape == SHP_SENDMSG || x->desc->shape == SHP_SENDMMSG;

            if (x->desc->shape == SHP_RECVFROM && x->r->arg[3] & MSG_TRUNC && bytes > x->r->arg[2])
                bytes = x->r->arg[2];
            transferred(x, told_int(x, 0), out, bytes);
        }
        if (x->in.fds && (x->desc->shape == SHP_SENDMSG || x->desc->shape == SHP_SENDMMSG))
            sockets_passed(x);
        else if (x->in.fds)
            sockets_received(x);
        break;
    default:
        break;
    }
}

/* What went through a socket: d, NULL if that isn't known. */
static void do_traffic(struct told *x, struct desc *d)
{
    static const enum tls_way ways[DATA_WAYS] = {
        [DATA_WAY_LIBRARY] = TLS_WAY_LIBRARY, [DATA_WAY_GO] = TLS_WAY_GO, [DATA_WAY_JSSE] = TLS_WAY_JSSE};
    const struct record *r = x->r;
    int64_t fd = (int64_t)r->arg[0];
    uint32_t gen = (uint32_t)r->arg[5];
    uint64_t way = r->arg[2] >> DATA_WAY_SHIFT;
    struct traffic t = {
        .dir = r->arg[3] == DATA_TX || r->arg[3] == DATA_TLS_TX || r->arg[3] == DATA_HELLO_TX ? PROTO_TX : PROTO_RX,
        .tls = r->arg[3] == DATA_TLS_TX || r->arg[3] == DATA_TLS_RX, .object = r->arg[4],
        .placed = r->arg[2] < TRAFFIC_MAX && r->arg[1] < TRAFFIC_MAX && r->ret >= 0 && r->ret < TRAFFIC_MAX,
        .position = r->arg[2], .offset = r->arg[1], .bytes = r->ret > 0 ? (uint64_t)r->ret : 0,
        .data = x->in.data, .len = x->in.data_len, .name = x->in.addr, .name_len = x->in.addr_len, .time_ns = x->time, .tid = r->tid,
    };

    if (t.tls) {
        t.life = (uint32_t)r->arg[2];
        t.position = t.life;
        t.way = way < DATA_WAYS ? ways[way] : TLS_WAY_LIBRARY;
    }
    x->p->tls_read |= t.tls && (r->ret || t.data || !t.object); /* not: an object begins, or ends */
    if (r->arg[3] == DATA_HELLO_TX || r->arg[3] == DATA_HELLO_RX) {
        tls_object_hello(x->p, &t);
        return;
    }
    if (t.tls && !r->ret && !t.data) {
        if (t.object)
            tls_object_end(x->p, t.object, x->time);
        else
            tls_objects_missed(x->p, x->time);
        return;
    }
    if (d && d->file && d->gen != gen && !t.tls && !x->p->borrowed) { /* its close, and an open, were lost */
        fds_forget(x->p, fd);
        d = fds_lookup_gen(x->p, fd, gen);
    }
    if (!d || !d->file) {
        if (t.tls)
            tls_object_data(x->p, &t);
        return;
    }
    if (d->file->kind != FDK_SOCKET && d->file->kind != FDK_UNKNOWN) /* if we know nothing, the probe knew better */
        return;
    if (!d->file->sock)
        file_sock(d->file, 0, 0, 0)->flags |= SOCKF_JOINED;
    if (d->file->sock->flags & SOCKF_PENDING) /* a process that shares it has begun it */
        report_net_open(x->p, fd, d, d->file->sock->open_ns);
    /* Its handshake says so, too: the first plaintext may come without a descriptor. */
    if (t.tls ? !d->file->sock->plain || d->file->sock->plain->object != t.object
              : t.object && !(d->file->sock->flags & SOCKF_PLAIN))
        tls_object_at(x->p, &t, fd, d->file->channel);
    stream_data(x->p, fd, d, &t);
}

void transfers_data(struct told *x)
{
    int64_t fd = (int64_t)x->r->arg[0];
    struct desc *d = fd >= 0 ? fds_lookup(x->p, fd) : NULL;
    const char *name;
    char source[NAME_BYTES + 1];
    uint64_t more;
    const struct span *inside = x->p->pl->spans ? span_inside(x->p, x->r->tid) : NULL;
    struct tm_context id;
    enum tm_text kind;
    size_t len;

    if (x->r->arg[3] != DATA_FILE)
        do_traffic(x, d);
    if (x->r->arg[3] > DATA_TX)
        return;
    if (!d || !d->file || (x->r->arg[3] == DATA_TX && !report_is_console(x->p, d)))
        return;
    if (d->want == FDW_UNDECIDED)
        fds_decide(x->p, fd, d);
    if (d->want != FDW_CAPTURE && d->want != FDW_SAMPLE)
        return;
    if (!x->in.data) { /* nobody could see it, or a guest in a full ring could only say that there was something */
        bool moved = x->r->arg[3] == DATA_FILE ? x->r->arg[4] == 1
                                               : x->desc->shape == SHP_SENDFILE || x->desc->shape == SHP_SPLICE;

        if (x->r->ret > 0 && (x->r->arg[3] == DATA_FILE || x->r->arg[1] < (uint64_t)x->r->ret))
            model_loss(&x->c->model, x->p, moved ? LK_MOVED : LK_DATA,
                        (uint64_t)x->r->ret - (x->r->arg[3] == DATA_FILE ? 0 : x->r->arg[1]));
        return;
    }
    name = d->flags & DF_STREAM ? fds_stream(d, &len) : fds_name(d, &len);
    if (len > NAME_BYTES)
        len = NAME_BYTES;
    if (len)
        memcpy(source, name, len);
    source[len] = 0;
    more = x->r->flags & REC_F_CUT && x->r->ret > 0 ? (uint64_t)x->r->ret : 0;
    more = more > x->r->arg[1] + x->in.data_len ? more - x->r->arg[1] - x->in.data_len : 0;
    if (inside)
        id = span_context(inside);
    kind = telemetry_message(x->p->pl->tm, &x->p->tm, d->flags & DF_STREAM ? CFG_EW_CONSOLE : CFG_EW_FILE, source, x->time,
                               d->channel, x->in.data, x->in.data_len, more, inside ? &id : NULL);
    if (kind == TM_LINES && more)
        model_loss(&x->c->model, x->p, LK_DATA, more);
    if (x->r->arg[3] == DATA_FILE)
        fds_sample(x->p, fd, d, kind == TM_DATA && x->r->ret >= SAMPLE_FROM);
}

/* --- single operations on files --- */
