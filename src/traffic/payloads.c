/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/payloads.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "session/payload.h"
#include "session/payload_link.h"
#include "session/session.h"
#include "traffic/unread.h"

#define QUEUE ((size_t)1 << 20) /* bytes that are written together, if they come within a turn of core_turn() */
#define PEERS_MAX 64u           /* flows of a datagram socket at a time; the one that was silent longest ends */

/* Where traffic goes: a directory, or a connection. */
struct payload_target {
    struct payload_target *next;
    char *dir;                   /* NULL: a connection */
    struct payload_store *store; /* NULL: it can't be opened */
    uint64_t lost;               /* of the store's, reported */
    bool told;                   /* the log says that something could not be written */
    struct payload_link *link;
    struct payloads *all;
    struct pipeline *pl; /* of whose configuration; NULL: that is no process's any more */
    unsigned flows;      /* that are open */
    bool left;           /* of a session that has ended: flows go on elsewhere */
};

/* Of a datagram socket one for each peer; the one that was used last is first. */
struct stream_flow {
    struct stream_flow *next;
    struct payload_addr peer; /* of datagrams */
    struct payload_target *to;
    struct payload_flow *flow; /* directory */
    struct payload_way *way;   /* connection */
};

static bool is_true(const char *name)
{
    const char *value = getenv(name);

    return value && strcmp(value, "true") == 0;
}

static void open_dir(struct payloads *all, struct payload_target *to, const char *dir)
{
    const struct session *session = all->session;
    struct payload_options o = {.dir = dir, .headers = is_true("SCOPE_PAYLOAD_HEADER"), .queue = QUEUE};
    int rc;

    to->dir = xstrdup(dir);
    if (session) {
        o.session = session->id;
        o.start_ns = session->start_ns;
    }
    rc = payload_open(&o, &to->store);
    if (rc < 0)
        log_error("payloads can't be written to %s: %s", dir, strerror(-rc));
}

static void open_link(struct payloads *all, struct payload_target *to, struct pipeline *pl)
{
    char *start = telemetry_payload_start(pl->tm);

    to->link = payload_link_new(all->base, &pl->cfg->cribl.transport, start);
    free(start);
}

/* A connection can be made to it. */
static bool connects(const struct config *cfg)
{
    return cfg->cribl.enable && cfg->cribl.transport.type != CFG_FILE && cfg->cribl.transport.type != CFG_UDP;
}

static struct payload_target *target_of(struct payloads *all, struct pipeline *pl)
{
    bool link = connects(pl->cfg) && !is_true("SCOPE_PAYLOAD_TO_DISK");
    struct payload_target *to = link ? NULL : all->targets;

    if (pl->payload_to)
        return pl->payload_to;
    while (to && (to->left || !(to->dir && strcmp(to->dir, pl->cfg->payload.dir) == 0)))
        to = to->next;
    if (!to) {
        to = xcalloc(1, sizeof(*to));
        to->all = all;
        to->pl = pl;
        if (link)
            open_link(all, to, pl);
        else
            open_dir(all, to, pl->cfg->payload.dir);
        to->next = all->targets;
        all->targets = to;
    }
    if (!to->pl)
        to->pl = pl;
    pl->payload_to = to;
    return to;
}

void payloads_prepare(struct payloads *all, struct pipeline *pl)
{
    if (pl->cfg->payload.enable)
        target_of(all, pl);
}

static struct payload_addr peer_of(const struct stream *s)
{
    const union address *from = stream_from(s), *a = from ? from : &s->sock->peer;

    return payload_addr((const struct sockaddr *)a, sizeof(*a));
}

static bool same_addr(const struct payload_addr *a, const struct payload_addr *b)
{
    return a->family == b->family && a->port == b->port && a->inode == b->inode && !memcmp(a->ip, b->ip, sizeof(a->ip));
}

/* Who is at the ends; the texts belong to the process and the stream. */
static struct payload_id identity(const struct stream *s)
{
    static const char *const ways[TLS_WAYS] = TLS_WAY_NAMES;
    const struct proc *p = s->p;
    const struct sock *sock = s->sock;
    struct payload_id id = {.pid = p->pid,
                            .ppid = p->tm.ppid,
                            .fd = s->fd,
                            .channel = s->channel,
                            .proc = p->tm.proc,
                            .ident = p->tm.id,
                            .protocol = s->protocol,
                            .tls = s->tls,
                            .plaintext = s->tls ? ways[s->way] : NULL,
                            .unread = unread_name(s->unread_why)};

    if (!sock)
        return id;
    id.transport = report_transport(sock);
    id.host = payload_addr((const struct sockaddr *)&sock->local, sizeof(sock->local));
    id.peer = peer_of(s);
    if (sock->domain == AF_UNIX) {
        id.host.family = id.peer.family = AF_UNIX;
        id.host.inode = sock->ino;
        id.peer.inode = sock->peer_ino;
    }
    id.role = sock->flags & SOCKF_ACCEPTED    ? PAYLOAD_SERVER
              : sock->flags & SOCKF_CONNECTED ? PAYLOAD_CLIENT
                                              : PAYLOAD_UNKNOWN;
    return id;
}

/* What the store could not write; by then the flow that it was of may be over. */
static void note_lost(struct payload_target *to, int rc)
{
    uint64_t lost = to->store ? payload_lost(to->store) : to->lost;

    if (rc < 0 && !to->told) {
        log_error("payloads: %s: %s; what can't be written is counted", to->dir, strerror(-rc));
        to->told = true;
    }
    if (lost == to->lost)
        return;
    to->all->model->lost[LK_PAYLOAD] += lost - to->lost;
    if (to->pl)
        telemetry_loss(to->pl->tm, NULL, report_loss_name(LK_PAYLOAD), lost - to->lost, clock_now_real());
    to->lost = lost;
}

static void end_flow(struct stream *s, struct stream_flow *f, uint64_t time_ns)
{
    bool remote = s->sock && s->sock->flags & SOCKF_REMOTE;

    if (f->way)
        payload_way_end(f->way);
    else
        note_lost(f->to, payload_end(f->flow, time_ns, s->datagrams ? NULL : remote ? "remote" : "local"));
    f->to->flows--;
    free(f);
}

/* The flow that the bytes belong to, or NULL after counting them. */
static struct stream_flow *flow_of(struct stream *s, uint64_t len, uint64_t time_ns)
{
    struct stream_flow **at = &s->flows, *f;
    struct payload_addr peer = {.family = AF_UNSPEC};
    struct payload_target *to;
    struct payload_id id;
    unsigned count = 0;

    if (s->datagrams && s->sock) /* of a connection the address may become known later */
        peer = peer_of(s);
    while ((f = *at) && !same_addr(&f->peer, &peer)) {
        if (++count == PEERS_MAX && !f->next) {
            *at = NULL;
            end_flow(s, f, time_ns);
            break;
        }
        at = &f->next;
    }
    if (f && *at == f) {
        *at = f->next;
        if (f->to->left) {
            end_flow(s, f, time_ns);
            f = NULL;
        }
    } else {
        f = NULL;
    }
    if (!f) {
        to = target_of(s->p->m->payloads, s->p->pl);
        if (!to->link && !to->store) {
            model_loss(s->p->m, s->p, LK_PAYLOAD, len);
            return NULL;
        }
        id = identity(s);
        f = xcalloc(1, sizeof(*f));
        f->peer = peer;
        f->to = to;
        to->flows++;
        if (to->link)
            f->way = payload_way_begin(to->link, &id);
        else
            f->flow = payload_begin(to->store, &id, time_ns);
    }
    f->next = s->flows;
    s->flows = f;
    return f;
}

/* For a stream whose process is set. data NULL: a gap, which is told as a loss unless nobody wanted it. */
static void keep(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns, bool wanted)
{
    enum payload_dir to = dir == PROTO_RX ? PAYLOAD_IN : PAYLOAD_OUT;
    struct stream_flow *f = flow_of(s, len, time_ns);

    if (!f)
        return;
    if (!data && wanted)
        model_loss(s->p->m, s->p, LK_PAYLOAD, len);
    if (!f->way)
        note_lost(f->to, data ? payload_data(f->flow, to, time_ns, data, len) : payload_gap(f->flow, to, time_ns, len));
    else if (!data)
        payload_way_gap(f->way, to, time_ns, len);
    else if (!payload_way_data(f->way, to, time_ns, data, len))
        model_loss(s->p->m, s->p, LK_PAYLOAD, len);
}

void payloads_pass(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    bool wanted;

    if (!payloads_keeps(s))
        return;
    wanted = s->everything || s->p->pl->cfg->payload.enable; /* if it was before, it may be again: then this is a gap */
    keep(s, dir, wanted ? data : NULL, len, time_ns, wanted);
}

void payloads_recognised(struct stream *s)
{
    struct payload_id id;

    if (!s->p || s->ciphertext) /* what is encrypted isn't in the flow */
        return;
    id = identity(s);
    /* Each peer of a datagram socket may speak another: it is that of the last datagram. */
    for (struct stream_flow *f = s->flows; f; f = s->datagrams ? NULL : f->next) {
        if (f->way)
            payload_way_update(f->way, &id);
        else
            payload_update(f->flow, &id);
    }
}

void payloads_end(struct stream *s, uint64_t time_ns)
{
    for (struct stream_flow *f; (f = s->flows);) {
        s->flows = f->next;
        end_flow(s, f, time_ns);
    }
}

void payloads_unread(struct proc *p, int64_t fd, struct sock *sock, enum unread_reason why, uint64_t time_ns)
{
    struct stream *s = sock->stream;
    struct stream told = {.sock = sock, .channel = s->channel, .protocol = s->protocol ? s->protocol : "TLS", .p = p, .fd = fd, .unread_why = (uint8_t)why};

    if (!p->pl->cfg->payload.enable || !(sock->rx_bytes + sock->tx_bytes))
        return;
    flow_of(&told, 0, sock->open_ns ? sock->open_ns : time_ns);
    if (told.flows && sock->rx_bytes)
        keep(&told, PROTO_RX, NULL, sock->rx_bytes, time_ns, false);
    if (told.flows && sock->tx_bytes)
        keep(&told, PROTO_TX, NULL, sock->tx_bytes, time_ns, false);
    payloads_end(&told, time_ns);
}

static void close_target(struct payload_target *to)
{
    int rc = to->store ? payload_close(to->store) : 0;

    if (rc < 0)
        log_error("payloads: %s: %s", to->dir, strerror(-rc));
    payload_link_free(to->link);
    free(to->dir);
    free(to);
}

void payloads_forget(struct payloads *all, struct pipeline *pl)
{
    for (struct payload_target *to = all->targets; to; to = to->next)
        if (to->pl == pl)
            to->pl = NULL;
}

void payloads_leave(struct payloads *all, const char *dir, const struct session *next)
{
    const size_t len = strlen(dir);

    for (struct payload_target *to = all->targets; to; to = to->next)
        to->left |= to->dir && strncmp(to->dir, dir, len) == 0 && to->dir[len] == '/';
    all->session = next;
}

void payloads_moved(struct payloads *all, struct pipeline *pl)
{
    if (pl->payload_to && pl->payload_to->left)
        pl->payload_to = NULL;
    payloads_prepare(all, pl);
}

void payloads_flush(struct payloads *all)
{
    for (struct payload_target **at = &all->targets, *to; (to = *at);) {
        if (!to->left || to->flows) {
            at = &to->next;
            continue;
        }
        if (to->store)
            note_lost(to, payload_flush(to->store));
        *at = to->next;
        close_target(to);
    }
    for (struct payload_target *to = all->targets; to; to = to->next) {
        if (to->link)
            payload_link_flush(to->link);
        else if (to->store)
            note_lost(to, payload_flush(to->store));
    }
}

void payloads_finish(struct payloads *all, unsigned wait_ms)
{
    uint64_t now = clock_now_mono(), until = now + wait_ms * UINT64_C(1000000);

    for (struct payload_target *to = all->targets; to; to = to->next) {
        uint64_t lost;

        if (to->store)
            note_lost(to, payload_flush(to->store));
        if (!to->link)
            continue;
        now = clock_now_mono();
        lost = payload_link_finish(to->link, now < until ? (unsigned)((until - now) / 1000000) : 0);
        all->model->lost[LK_PAYLOAD_DESTINATION] += lost;
        if (to->pl)
            telemetry_loss(to->pl->tm, NULL, report_loss_name(LK_PAYLOAD_DESTINATION), lost, clock_now_real());
    }
}

void payloads_close(struct payloads *all)
{
    for (struct payload_target *to; (to = all->targets);) {
        all->targets = to->next;
        close_target(to);
    }
}

void payloads_describe(const struct proc *p, struct buf *b)
{
    const struct payload_target *to = p->pl->payload_to;
    struct buf url = BUF_INIT;

    if (!to)
        return;
    if (to->link) {
        output_describe(payload_link_output(to->link), "payload", b);
        return;
    }
    buf_printf(&url, "dir://%s", to->dir);
    buf_str(b, "{\"name\":\"payload\",\"config\":");
    buf_json(b, url.p, url.len);
    buf_printf(b, ",\"connected\":%s}", to->store ? "true" : "false");
    buf_free(&url);
}
