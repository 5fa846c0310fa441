/* SPDX-License-Identifier: Apache-2.0 */
#include "model/account.h"

#include <sys/socket.h>

#include "model/fds.h"
#include "model/model.h"

enum net_class net_class_of(const struct sock *s)
{
    bool stream;

    if (!s)
        return NETC_OTHER;
    stream = s->type == SOCK_STREAM;
    if (!stream && s->type != SOCK_DGRAM)
        return NETC_OTHER;
    if (s->domain == AF_INET || s->domain == AF_INET6)
        return stream ? NETC_INET_TCP : NETC_INET_UDP;
    if (s->domain == AF_UNIX)
        return stream ? NETC_UNIX_TCP : NETC_UNIX_UDP;
    return NETC_OTHER;
}

void account_desc(struct desc *d, const struct io_count *n)
{
    struct sock *s = d->file ? d->file->sock : NULL;

    d->n.rb += n->rb;
    d->n.ro += n->ro;
    d->n.rt += n->rt;
    d->n.wb += n->wb;
    d->n.wo += n->wo;
    d->n.wt += n->wt;
    if (s) {
        s->rx_bytes += n->rb;
        s->rx_ops += n->ro;
        s->tx_bytes += n->wb;
        s->tx_ops += n->wo;
    }
}

void account_sums(struct proc *p, const struct desc *d, const struct io_count *n)
{
    struct sums *s = &p->sums;

    if (d->file && d->file->kind == FDK_SOCKET) {
        enum net_class k = net_class_of(d->file->sock);

        s->net[0][k] += n->rb;
        s->net_ops[0][k] += n->ro;
        s->net[1][k] += n->wb;
        s->net_ops[1][k] += n->wo;
        return;
    }
    s->value[TM_FS_READ] += n->rb;
    s->ops[TM_FS_READ] += n->ro;
    s->value[TM_FS_WRITE] += n->wb;
    s->ops[TM_FS_WRITE] += n->wo;
    if (n->rt | n->wt) {
        s->value[TM_FS_DURATION] += n->rt + n->wt;
        s->ops[TM_FS_DURATION] += n->ro + n->wo;
    }
}

/* How far a counter went on; one that goes back is nonsense and starts anew. */
static uint64_t advance(uint64_t *seen, uint64_t now)
{
    uint64_t n = now >= *seen && now - *seen < UINT64_C(1) << 62 ? now - *seen : 0;

    *seen = now;
    return n;
}

static uint64_t unsaid_part(uint64_t *said, uint64_t n)
{
    uint64_t part = *said < n ? *said : n;

    *said -= part;
    return n - part;
}

void account_counters(struct proc *p, int fd, struct desc *d, const struct io_count *cum, uint32_t kind, bool known)
{
    struct io_count n;
    const struct sock *s;

    n.rb = advance(&d->seen.rb, cum->rb);
    n.ro = advance(&d->seen.ro, cum->ro);
    n.rt = clock_ticks_ns(&p->m->clock, kind, advance(&d->seen.rt, cum->rt));
    n.wb = advance(&d->seen.wb, cum->wb);
    n.wo = advance(&d->seen.wo, cum->wo);
    n.wt = clock_ticks_ns(&p->m->clock, kind, advance(&d->seen.wt, cum->wt));
    if (!(n.rb | n.ro | n.wb | n.wo))
        return;
    if (known && !d->file)
        fds_lookup(p, fd);
    if (d->flags & DF_BLIND || !d->file)
        d->flags &= (uint8_t)~DF_BLIND; /* of the process, but not to be told as this file's */
    else
        account_desc(d, &n);
    n.rb = unsaid_part(&d->said.rb, n.rb);
    n.ro = unsaid_part(&d->said.ro, n.ro);
    n.rt = unsaid_part(&d->said.rt, n.rt);
    n.wb = unsaid_part(&d->said.wb, n.wb);
    n.wo = unsaid_part(&d->said.wo, n.wo);
    n.wt = unsaid_part(&d->said.wt, n.wt);
    account_sums(p, d, &n);
    s = d->file ? d->file->sock : NULL;
    if (s && s->flags & SOCKF_PENDING && s->rx_ops + s->tx_ops)
        p->m->watch->connected(p, fd, d, s->open_ns);
}
