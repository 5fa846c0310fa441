/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/sockets.h"

#include <errno.h>

#include "collector/passed.h"
#include "collector/segments.h"
#include "collector/state.h"
#include "model/fds.h"
#include "model/procinfo.h"
#include "report/notices.h"

#define ERRNO_MAX 4095

/* Sockets whose descriptors went with a message. */
void sockets_passed(struct told *x)
{
    for (uint32_t i = 0; i < x->in.fd_count && i < 4096; i++) {
        struct rec_fd fd;
        struct desc *d;

        memcpy(&fd, x->in.fds + i, sizeof(fd));
        d = fd.ino ? fds_lookup_gen(x->p, fd.fd, x->p->borrowed ? 0 : fd.gen) : NULL;
        if (!d || !d->file || (d->gen != fd.gen && !x->p->borrowed) ||
            (d->file->kind != FDK_SOCKET && d->file->kind != FDK_UNKNOWN))
            continue;
        if (!d->file->sock)
            file_sock(d->file, 0, 0, 0)->flags |= SOCKF_JOINED;
        passed_sent(x->p, fd.fd, d, fd.ino);
    }
}

/* Descriptors that came over a unix socket. */
void sockets_received(struct told *x)
{
    bool cloexec = x->r->arg[x->op == OP_recvmmsg ? 3 : 2] & MSG_CMSG_CLOEXEC;

    for (uint32_t i = 0; i < x->in.fd_count && i < 4096; i++) {
        struct rec_fd fd;
        struct desc *d;

        memcpy(&fd, x->in.fds + i, sizeof(fd));
        fds_close(x->p, fd.fd, "close", x->time, false);
        d = fds_lookup_gen(x->p, fd.fd, x->p->borrowed ? 0 : fd.gen);
        if (!d)
            continue;
        d->flags = (uint8_t)((cloexec ? DF_CLOEXEC : 0) | (d->gen && d->gen != (d->next_gen ? d->next_gen : 1) ? DF_BLIND : 0));
        d->open_ns = x->time;
        if (!d->file->path_len) {
            struct file *f = file_new(&x->c->model, d->file->kind, "Received_File_Descriptor", 24);

            file_unref(&x->c->model, d->file);
            d->file = f;
            d->channel = f->channel;
        }
        if (fd.ino && (d->file->kind == FDK_SOCKET || d->file->kind == FDK_UNKNOWN || d->file->kind == FDK_OTHER) &&
            d->file->refs == 1) {
            if (!d->file->sock)
                file_sock(d->file, 0, 0, 0)->flags |= SOCKF_JOINED;
            d->file->sock->ino = fd.ino;
            passed_received(x->p, d, fd.ino);
        }
        fds_decide(x->p, fd.fd, d);
        if (d->file->kind != FDK_SOCKET) {
            d->flags |= DF_REPORTED;
            report_open(x->p, fd.fd, d, x->name, NULL, 0, x->time);
        }
    }
}

/* --- sockets --- */

/* The socket behind fd; made if it was inherited or its record lost. */
struct desc *sockets_desc(struct told *x, int64_t fd)
{
    struct desc *d = fds_lookup(x->p, fd);

    if (!d || !d->file)
        return NULL;
    if (!d->file->sock)
        file_sock(d->file, 0, 0, 0);
    return d;
}

/* Fills in what an address says about a socket of which nothing else is known. */
void sockets_guess_domain(struct sock *s, int type)
{
    if (!s->domain)
        s->domain = s->local.family ? s->local.family : s->peer.family;
    if (!s->type)
        s->type = type;
}

void sockets_take_addresses(struct told *x, struct sock *s)
{
    if (x->in.addr)
        address_set(&s->peer, x->in.addr, x->in.addr_len);
    if (x->in.local)
        address_set(&s->local, x->in.local, x->in.local_len);
    if (x->in.has_stat)
        s->ino = x->in.stat.ino;
}

bool sockets_is_inet(const struct sock *s)
{
    return s->domain == AF_INET || s->domain == AF_INET6;
}

bool sockets_unspec(const struct told *x)
{
    sa_family_t family = AF_UNSPEC;

    if (x->in.addr && x->in.addr_len >= sizeof(family))
        memcpy(&family, x->in.addr, sizeof(family));
    return x->in.addr && family == AF_UNSPEC;
}

void sockets_made(struct told *x)
{
    struct file *f = file_new(&x->c->model, FDK_SOCKET, "socket", 6);

    file_sock(f, told_int(x, 0), told_int(x, 1) & 0xf, told_int(x, 2));
    fds_open(x->p, x->r->ret, f, told_made_gen(x), x->r->arg[1] & SOCK_CLOEXEC, x->time);
}

void sockets_bound(struct told *x)
{
    struct desc *d = sockets_desc(x, told_int(x, 0));
    const void *p = x->in.local ? x->in.local : x->in.addr;
    struct sock *s;

    if (!d || !p)
        return;
    s = d->file->sock;
    address_set(&s->local, p, x->in.local ? x->in.local_len : x->in.addr_len);
    sockets_guess_domain(s, 0);
    if (sockets_is_inet(s))
        fds_gauge(x->p, d, DF_PORT, told_int(x, 0), x->time);
}

void sockets_notice(struct told *x, const struct desc *d)
{
    union address peer = {0};

    if (x->in.addr)
        address_set(&peer, x->in.addr, x->in.addr_len);
    notices_connect(x->p, d, &peer, x->time);
}

void sockets_connect(struct told *x)
{
    struct desc *d = sockets_desc(x, told_int(x, 0));
    struct sock *s;

    if (!d || sockets_unspec(x))
        return;
    s = d->file->sock;
    sockets_take_addresses(x, s);
    sockets_guess_domain(s, SOCK_STREAM);
    if (s->domain == AF_NETLINK || (s->flags & SOCKF_OPEN))
        return;
    if (!(s->flags & SOCKF_PENDING)) { /* else this is the second call, which tells the outcome of the first */
        s->open_ns = x->time;
        if (x->p->pl->notices)
            sockets_notice(x, d);
    }
    s->flags |= SOCKF_CONNECTED;
    if (sockets_is_inet(s))
        fds_gauge(x->p, d, DF_PORT, told_int(x, 0), x->time);
    if (x->r->ret < 0 || (x->r->kind == REC_CALL && x->r->arg[5] == 1))
        s->flags |= SOCKF_PENDING;
    else
        report_net_open(x->p, told_int(x, 0), d, s->open_ns);
}

/* A connection that was begun hasn't come about. err 0: nobody knows why. */
void sockets_connect_failed(struct told *x, struct sock *s, int err)
{
    s->flags &= (uint16_t)~SOCKF_PENDING;
    report_error(x->p, ERR_CONNECTION, op_name(OP_connect), err, "", 0, s, x->time);
}

/* What has become of a connection, or that one was begun by sending. */
void sockets_connection_told(struct told *x)
{
    int64_t fd = (int64_t)x->r->arg[0];
    struct desc *d = fds_lookup_gen(x->p, fd, x->p->borrowed ? 0 : (uint32_t)x->r->arg[5]);
    struct sock *s;

    if (!d || !d->file || (d->gen != (uint32_t)x->r->arg[5] && !x->p->borrowed) ||
        (x->in.addr ? d->file->kind != FDK_SOCKET && d->file->kind != FDK_UNKNOWN : !d->file->sock))
        return;
    if (x->in.addr && (x->r->ret == 0 || x->r->ret == -EINPROGRESS)) {
        sockets_connect(x);
        return;
    }
    s = d->file->sock;
    if (!s || !(s->flags & SOCKF_PENDING))
        return;
    if (x->in.local)
        address_set(&s->local, x->in.local, x->in.local_len);
    if (x->r->ret == 0)
        report_net_open(x->p, fd, d, s->open_ns);
    else if (x->r->ret > -ERRNO_MAX - 1 && x->r->ret < 0)
        sockets_connect_failed(x, s, x->r->ret == -EIO ? 0 : (int)-x->r->ret);
}

#define PEER_LOOK_SHARE 20 /* part of the collector's time that may go into such looks: one in so many */

/* In a sandbox the probe can't ask who the other side of a connection is. */
static void ask_peer(struct told *x, struct sock *s)
{
    uint64_t now = clock_now_mono();
    struct sockaddr_storage peer;
    struct fd_entry e;

    if (!sockets_is_inet(s) || x->p->host_pid <= 0 || x->p->dead || x->p->borrowed || now < x->c->next_peer_look)
        return;
    if (!pi_tcp_peer(x->p->host_pid, (int)x->r->ret, s->domain, &peer) &&
        segment_fd(&x->seg->map, (uint64_t)x->r->ret, &e) && e.gen == told_made_gen(x)) /* it was that connection's till now */
        address_set(&s->peer, &peer, sizeof(peer));
    x->c->next_peer_look = now + (clock_now_mono() - now) * PEER_LOOK_SHARE;
}

void sockets_accepted(struct told *x)
{
    struct desc *listener = sockets_desc(x, told_int(x, 0)), *d;
    struct file *f = file_new(&x->c->model, FDK_SOCKET, "socket", 6);
    struct sock *s;
    const struct sock *from = listener ? listener->file->sock : NULL;

    s = file_sock(f, from ? from->domain : 0, from && from->type ? from->type : SOCK_STREAM, from ? from->protocol : 0);
    if (from)
        s->local = from->local;
    sockets_take_addresses(x, s);
    sockets_guess_domain(s, SOCK_STREAM);
    if (!x->in.addr && !x->in.local)
        ask_peer(x, s);
    s->open_ns = x->time;
    s->flags |= SOCKF_ACCEPTED;
    d = fds_open(x->p, x->r->ret, f, told_made_gen(x), x->op == OP_accept4 && (x->r->arg[3] & SOCK_CLOEXEC), x->time);
    if (!d)
        return;
    if (sockets_is_inet(s))
        fds_gauge(x->p, d, DF_PORT, x->r->ret, x->time);
    report_net_open(x->p, x->r->ret, d, x->time);
}

/* --- transfers --- */

/* A socket of which no call was seen that made it. */
void sockets_told(struct told *x)
{
    const struct record *r = x->r;
    uint32_t gen = (uint32_t)r->arg[5];
    struct desc *d = fds_lookup_gen(x->p, (int64_t)r->arg[0], x->p->borrowed ? 0 : gen);
    struct sock *s;

    if (!d || !d->file || (d->gen != gen && !x->p->borrowed) ||
        (d->file->kind != FDK_SOCKET && d->file->kind != FDK_UNKNOWN) || (d->file->sock && d->file->sock->domain))
        return;
    s = file_sock(d->file, (int)r->arg[1], (int)r->arg[2], (int)r->arg[3]);
    s->flags |= SOCKF_JOINED;
    sockets_take_addresses(x, s);
    if (s->flags & SOCKF_RECEIVED && x->in.addr && s->domain != AF_NETLINK) { /* its end will be told */
        s->flags |= SOCKF_OPEN;
        s->open_ns = x->time;
        fds_gauge(x->p, d, DF_CONN, (int64_t)r->arg[0], x->time);
    }
}
