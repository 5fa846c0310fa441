/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp (with or without TLS), unix stream and udp. A name is resolved anew for
 * each attempt; all its addresses are tried in turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "output/internal.h"

#define LOOK_UP_MS     300000u         /* udp to a name: nobody tells when its address changes */
#define DATAGRAM_BYTES ((size_t)65507) /* largest payload of a UDP datagram over IPv4 (RFC 768, RFC 791) */

struct link {
    struct address addr[RESOLVE_MAX];
    int addresses, tried;
    int resolver;              /* pidfd, 0 if none runs */
    bool tcp;                  /* SIOCOUTQ tells what the peer has acknowledged */
    struct output_tls *tls;
    bool named;                /* the address was looked up */
    uint64_t since;            /* monotonic ms: connected */
    uint64_t refused;          /* udp: records of the last datagram */
};

static const char *const edge_paths[] = {"/var/run/appscope/appscope.sock", "$CRIBL_HOME/state/appscope.sock",
                                         "/opt/cribl/state/appscope.sock"};

static void drop_fd(struct output *o)
{
    struct link *l = o->priv;

    if (l && l->resolver) {
        resolve_end(o->fd, l->resolver);
        l->resolver = 0;
    } else if (o->fd >= 0) {
        close(o->fd);
    }
    o->fd = -1;
}

void socket_close(struct output *o)
{
    struct link *l = o->priv;
    int unacknowledged;

    if (l && l->tls)
        output_tls_free(l->tls);
    else if (l && l->tcp && o->state == OUTPUT_UP && ioctl(o->fd, SIOCOUTQ, &unacknowledged) == 0)
        queue_release(&o->queue, (uint64_t)(unacknowledged > 0 ? unacknowledged : 0));
    else
        queue_release(&o->queue, 0);
    drop_fd(o);
    free(l);
    o->priv = NULL;
}

/* --- connecting --- */

static int start_handshake(struct output *o)
{
    struct link *l = o->priv;
    char err[sizeof(o->failure)];

    if ((o->cfg.type != CFG_TCP && o->cfg.type != CFG_OTLP) || !o->cfg.tls.enable)
        return 0;
    l->tls = output_tls_new(o->fd, &o->cfg.tls, o->cfg.host, o->otlp ? otlp_alpn(o->otlp) : NULL, err, sizeof(err));
    if (!l->tls) {
        output_failed(o, "TLS: %s", err);
        return -EPROTO;
    }
    o->state = OUTPUT_HANDSHAKE;
    o->want = POLLIN | POLLOUT;
    return -EINPROGRESS;
}

static int handshake(struct output *o)
{
    struct link *l = o->priv;
    char err[120];
    int rc = output_tls_handshake(l->tls, &o->want, err, sizeof(err));

    if (rc == -EAGAIN)
        return -EINPROGRESS;
    if (rc < 0)
        output_failed(o, "TLS: %s", err);
    else
        o->want = POLLIN;
    return rc;
}

/* Tries the remaining addresses until one connects or is on its way. */
static int connect_next(struct output *o)
{
    bool udp = o->cfg.type == CFG_UDP;
    struct link *l = o->priv;
    int rc = -ECONNREFUSED;

    while (l->tried < l->addresses) {
        const struct address *a = &l->addr[l->tried++];
        struct sockaddr_storage sa;

        memcpy(&sa, a->sa, a->len);
        drop_fd(o);
        o->fd = socket(sa.ss_family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (o->fd >= 0 && connect(o->fd, (struct sockaddr *)&sa, a->len) == 0) {
            o->want = udp ? 0 : POLLIN;
            return udp ? 0 : start_handshake(o);
        }
        if (o->fd >= 0 && errno == EINPROGRESS) {
            o->state = OUTPUT_CONNECTING;
            o->want = POLLOUT;
            return -EINPROGRESS;
        }
        rc = -errno;
        output_failed(o, "can't connect: %s", strerror(-rc));
    }
    return rc;
}

static int open_inet(struct output *o, struct link *l)
{
    l->tcp = o->cfg.type == CFG_TCP;
    l->addresses = resolve_numeric(o->cfg.host, o->cfg.port, l->addr);
    if (l->addresses < 0) {
        output_failed(o, "'%s' is not a port number (1 to 65535)", o->cfg.port ? o->cfg.port : "");
        return l->addresses;
    }
    if (l->addresses)
        return connect_next(o);
    o->fd = resolve_start(o->cfg.host, o->cfg.port, &l->resolver);
    if (o->fd < 0) {
        int rc = o->fd;

        o->fd = -1;
        output_failed(o, "DNS lookup failed: %s", strerror(-rc));
        return rc;
    }
    o->state = OUTPUT_RESOLVING;
    o->want = POLLIN;
    return -EINPROGRESS;
}

static int connect_unix(struct output *o, const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    bool abstract = path[0] == '@';
    size_t len = strlen(path);
    int rc;

    if (!len || len >= sizeof(sa.sun_path)) {
        output_failed(o, "'%s' is not a socket name of 1 to %zu bytes", path, sizeof(sa.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    memcpy(sa.sun_path, path, len);
    if (abstract)
        sa.sun_path[0] = 0;
    drop_fd(o);
    o->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (o->fd >= 0 && connect(o->fd, (struct sockaddr *)&sa,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + !abstract)) == 0) {
        o->want = POLLIN;
        return 0;
    }
    rc = -errno; /* EAGAIN: the listener's backlog is full; that is a failure to be tried again, too */
    output_failed(o, "can't connect: %s", strerror(-rc));
    return rc == -EINPROGRESS || rc == -ESTALE ? -EIO : rc;
}

static int open_edge(struct output *o)
{
    int rc = -ENOENT;

    for (size_t i = 0; i < sizeof(edge_paths) / sizeof(*edge_paths); i++) {
        const char *path = edge_paths[i], *home = getenv("CRIBL_HOME");
        char *full = NULL;

        if (path[0] == '$') {
            if (!home)
                continue;
            full = xasprintf("%s%s", home, strchr(path, '/'));
        }
        rc = connect_unix(o, full ? full : path);
        free(full);
        if (rc == 0)
            return 0;
    }
    output_failed(o, "no Edge socket can be connected to (%s and others): %s", edge_paths[0], strerror(-rc));
    return rc;
}

int socket_open(struct output *o)
{
    struct link *l = xcalloc(1, sizeof(*l));

    o->priv = l;
    switch (o->cfg.type) {
    case CFG_UNIX:
        return connect_unix(o, o->cfg.path ? o->cfg.path : "");
    case CFG_EDGE:
        return open_edge(o);
    default:
        return open_inet(o, l);
    }
}

int socket_ready(struct output *o, short events)
{
    struct link *l = o->priv;
    const char *text;
    socklen_t len = sizeof(int);
    int n, err = 0;

    switch (o->state) {
    case OUTPUT_RESOLVING:
        n = events ? resolve_read(o->fd, l->addr, &text) : -ETIMEDOUT;
        if (n == -EAGAIN)
            return -EINPROGRESS;
        if (n < 0) {
            output_failed(o, "DNS lookup of '%s' failed: %s", o->cfg.host, events ? text : "no answer");
            return n;
        }
        l->addresses = n;
        l->named = true;
        l->since = monotonic_ms();
        drop_fd(o);
        return connect_next(o);
    case OUTPUT_CONNECTING:
        if (!events)
            err = ETIMEDOUT;
        else if (getsockopt(o->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
            err = errno;
        if (!err) {
            o->want = POLLIN;
            return start_handshake(o);
        }
        output_failed(o, "can't connect: %s", strerror(err));
        if (l->tried < l->addresses)
            return connect_next(o);
        return err == EINPROGRESS ? -ECONNREFUSED : -err;
    case OUTPUT_HANDSHAKE:
        if (!events) {
            output_failed(o, "TLS: no answer to the handshake");
            return -ETIMEDOUT;
        }
        return handshake(o);
    default:
        return -EBADF;
    }
}

/* --- streams --- */

static int stream_input(struct output *o)
{
    struct link *l = o->priv;
    char junk[4096];
    ssize_t n;

    if (l->tls) {
        int rc = output_tls_discard(l->tls);

        if (rc < 0)
            output_failed(o, "the receiver closed the connection");
        return rc;
    }
    do
        n = recv(o->fd, junk, sizeof(junk), MSG_DONTWAIT);
    while (n > 0 || (n < 0 && errno == EINTR));
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n < 0) {
        output_failed(o, "connection lost: %s", strerror(errno));
        return -EPIPE;
    }
    output_failed(o, "the receiver closed the connection");
    return -EPIPE;
}

ssize_t socket_get(struct output *o, char *p, size_t len, char *err, size_t err_size)
{
    struct link *l = o->priv;
    short want = 0;
    ssize_t n;

    if (l->tls) {
        n = output_tls_read(l->tls, p, len, &want, err, err_size);
        if (want & POLLOUT)
            o->want |= POLLOUT;
        return n;
    }
    do
        n = recv(o->fd, p, len, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    snprintf(err, err_size, "%s", strerror(errno));
    return -errno;
}

bool socket_speaks(struct output *o, const char *alpn)
{
    struct link *l = o->priv;

    return l->tls && output_tls_speaks(l->tls, alpn);
}

ssize_t socket_put(struct output *o, struct iovec *part, int parts)
{
    struct link *l = o->priv;
    struct msghdr m = {.msg_iov = part, .msg_iovlen = (size_t)parts};
    short want = 0;
    ssize_t n;

    if (l->tls) {
        n = output_tls_write(l->tls, part[0].iov_base, part[0].iov_len, &want);
        o->want = (short)(POLLIN | want);
        return n;
    }
    do
        n = sendmsg(o->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    if (errno == EAGAIN)
        o->want = POLLIN | POLLOUT;
    return -errno;
}

static int stream_send(struct output *o)
{
    struct link *l = o->priv;
    struct iovec part[2];
    int parts, unacknowledged;

    o->want = POLLIN;
    for (;;) {
        bool preamble = o->preamble_sent < o->preamble.len;
        ssize_t n;

        if (preamble) {
            part[0] = (struct iovec){.iov_base = o->preamble.p + o->preamble_sent,
                                     .iov_len = o->preamble.len - o->preamble_sent};
            parts = 1;
        } else {
            parts = queue_peek(&o->queue, SIZE_MAX, part);
        }
        if (!parts)
            break;
        n = socket_put(o, part, parts);
        if (n == -EAGAIN || n == -ENOBUFS || n == -ENOMEM)
            return -EAGAIN;
        if (n < 0) {
            output_failed(o, "connection lost: %s", strerror((int)-n));
            return -EPIPE;
        }
        if (preamble) {
            o->preamble_sent += (size_t)n;
            o->stats.bytes += (uint64_t)n;
            continue;
        }
        output_sent(o, (size_t)n);
    }
    /* What the receiver's kernel has acknowledged need not be kept. TLS can't repeat what it has encrypted. */
    if (!l->tcp || l->tls || ioctl(o->fd, SIOCOUTQ, &unacknowledged) < 0 || unacknowledged < 0)
        unacknowledged = 0;
    queue_release(&o->queue, (uint64_t)unacknowledged);
    return 0;
}

/* --- datagrams --- */

static int datagram_send(struct output *o)
{
    struct link *l = o->priv;
    size_t limit = o->datagram_max < DATAGRAM_BYTES ? o->datagram_max : DATAGRAM_BYTES, records;
    struct iovec part[2];

    if (l->named && monotonic_ms() - l->since > LOOK_UP_MS)
        return -ESTALE;
    o->want = 0;
    while (!queue_all_sent(&o->queue)) {
        size_t len = queue_peek_records(&o->queue, limit, &records);
        struct msghdr m = {.msg_iov = part};
        ssize_t n;

        m.msg_iovlen = (size_t)queue_peek(&o->queue, len, part);
        do
            n = sendmsg(o->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == ECONNREFUSED) {
            /* About the datagram before: nobody listens (ICMP, see ip(7)). Only one is known to be lost. */
            output_failed(o, "nobody receives: %s", strerror(ECONNREFUSED));
            o->stats.records -= l->refused;
            o->stats.lost_destination += l->refused;
            l->refused = 0;
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            o->want = POLLOUT;
            return -EAGAIN;
        }
        if (n < 0 && (errno == ENOBUFS || errno == ENOMEM || errno == ENETDOWN || errno == ENETUNREACH ||
                      errno == EHOSTUNREACH)) {
            output_failed(o, "can't send: %s", strerror(errno));
            return -EAGAIN;
        }
        if (n < 0) {
            output_failed(o, "can't send a datagram of %zu bytes: %s", len, strerror(errno));
            output_drop(o, len, records);
        } else {
            output_sent(o, len);
            l->refused = records;
        }
        queue_release(&o->queue, 0);
    }
    return 0;
}

static int datagram_input(struct output *o)
{
    return 0;
}

const struct transport transport_stream = {
    .open = socket_open,
    .ready = socket_ready,
    .input = stream_input,
    .send = stream_send,
    .close = socket_close,
};

const struct transport transport_datagram = {
    .open = socket_open,
    .ready = socket_ready,
    .input = datagram_input,
    .send = datagram_send,
    .close = socket_close,
};
