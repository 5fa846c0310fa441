/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of the overview, what was said on them, and who is at their other ends. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "summary/overview_parts.h"

#define WAITING_MAX 8 /* requests of one connection that wait for their responses and are timed */
#define OV_MAX_WAITING 50000
#define UNIX_SOCKET "unix socket"

/* A connection that has begun and not ended. */
struct open {
    struct keyed_row row; /* the channel */
    struct ov_flow flow;
    struct ov_edge *edge; /* that it counts for; NULL: none yet, or there was no room */
    uint64_t hello_ns, unix_local, unix_peer;
    int process;
    bool tls, counted;
};

struct name {
    struct keyed_row row; /* an address, its text in the overview */
    const char *name;
};

/* A program that was called at an address and port, from an address: what the calling ends have told of it. */
struct called {
    struct keyed_row row;
    const char *proc;
    uint64_t connections, requests, sent, received, errors;
};

struct unix_end {
    struct keyed_row row; /* the inode of a socket */
    const char *proc;
};

/* Requests without a response yet, of one stream of a connection. */
struct waiting {
    struct keyed_row row; /* channel and stream */
    struct {
        uint64_t time_ns;
        const char *method, *host, *target;
    } request[WAITING_MAX];
    unsigned count;
};

void ov_net_init(struct overview *o)
{
    o->edges = (struct keyed){.row_size = sizeof(struct ov_edge), .max = OV_MAX_EDGES};
    o->routes = (struct keyed){.row_size = sizeof(struct ov_route), .max = OV_MAX_ROUTES};
    o->open = (struct keyed){.row_size = sizeof(struct open), .max = OV_MAX_OPEN};
    o->names = (struct keyed){.row_size = sizeof(struct name), .max = OV_MAX_NAMES};
    o->listening = (struct keyed){.row_size = sizeof(struct called), .max = OV_MAX_EDGES};
    o->unix_ends = (struct keyed){.row_size = sizeof(struct unix_end), .max = OV_MAX_OPEN};
    o->waiting = (struct keyed){.row_size = sizeof(struct waiting), .max = OV_MAX_WAITING};
}

void ov_net_clear(struct overview *o)
{
    keyed_clear(&o->edges);
    keyed_clear(&o->routes);
    keyed_clear(&o->open);
    keyed_clear(&o->names);
    keyed_clear(&o->listening);
    keyed_clear(&o->unix_ends);
    keyed_clear(&o->waiting);
}

void ov_name(struct overview *o, const char *address, const char *name)
{
    const char *key = ov_text(o, address);
    struct name *row = name && *name ? keyed_at(&o->names, &key, sizeof(key)) : NULL;

    if (row && !row->name)
        row->name = ov_text(o, name);
}

static const char *name_of(const struct overview *o, const char *address)
{
    const struct name *row = address ? keyed_find(&o->names, &address, sizeof(address)) : NULL;

    return row ? row->name : NULL;
}

/* Of the host in an HTTP request the port is no part of the name; and an address is none. */
static const char *host_name(struct overview *o, const char *host)
{
    size_t len = host ? strcspn(host, ":") : 0;

    return len && *host != '[' && strspn(host, "0123456789.") < len ? ov_text_part(o, host, len) : NULL;
}

/* --- edges --- */

static struct ov_edge *edge_of(struct overview *o, const struct open *c)
{
    const struct ov_flow *f = &c->flow;
    struct {
        const char *proc, *transport, *ip, *here; /* here: this end's address, or the program at the other one */
        uint32_t way, port;
    } key;
    const struct unix_end *peer;
    struct ov_edge *edge;

    memset(&key, 0, sizeof(key));
    key.proc = f->proc;
    key.transport = f->transport;
    key.way = f->way;
    if (f->way == OV_BOTH) {
        peer = c->unix_peer ? keyed_find(&o->unix_ends, &c->unix_peer, sizeof(c->unix_peer)) : NULL;
        key.ip = ov_text(o, UNIX_SOCKET);
        key.here = peer ? peer->proc : NULL;
    } else {
        key.ip = f->peer_ip;
        key.port = f->way == OV_IN ? f->host_port : f->peer_port;
        key.here = f->host_ip;
    }
    edge = keyed_at(&o->edges, &key, sizeof(key));
    if (!edge)
        return NULL;
    edge->way = f->way;
    edge->proc = f->proc;
    edge->transport = f->transport;
    edge->ip = key.ip;
    edge->port = key.port;
    edge->here_ip = f->way == OV_BOTH ? NULL : f->host_ip;
    if (f->way == OV_BOTH)
        edge->peer = key.here;
    return edge;
}

/* The edge of a connection, from the moment on that somebody asks: by then it is known who has called whom. */
static struct ov_edge *count_for(struct overview *o, struct open *c)
{
    if (!c->counted) {
        c->counted = true;
        c->edge = edge_of(o, c);
        if (c->edge)
            c->edge->connections++;
    }
    return c->edge;
}

/* --- connections --- */

static bool moved_less(const struct ov_flow *a, const struct ov_flow *b)
{
    uint64_t x = a->sent + a->received, y = b->sent + b->received;

    return x != y ? x < y : a->start_ns > b->start_ns;
}

/* Keeps the ones that moved most: a heap, of which the first moved least. */
static void keep_flow(struct overview *o, const struct ov_flow *f)
{
    size_t i = 0, child;

    if (o->flow_count < OV_MAX_FLOWS) {
        for (i = o->flow_count++; i && moved_less(f, &o->flows[(i - 1) / 2]); i = (i - 1) / 2)
            o->flows[i] = o->flows[(i - 1) / 2];
        o->flows[i] = *f;
        return;
    }
    o->flows_more++;
    if (!moved_less(&o->flows[0], f))
        return;
    for (; (child = 2 * i + 1) < OV_MAX_FLOWS; i = child) {
        if (child + 1 < OV_MAX_FLOWS && moved_less(&o->flows[child + 1], &o->flows[child]))
            child++;
        if (!moved_less(&o->flows[child], f))
            break;
        o->flows[i] = o->flows[child];
    }
    o->flows[i] = *f;
}

/* The lower port is the service's, until HTTP tells who asks. */
static void take_ends(struct overview *o, struct open *c, const struct sum_event *e)
{
    struct ov_flow *f = &c->flow;
    struct unix_end *end;

    f->transport = ov_text(o, sum_text(e, "net_transport"));
    f->peer_ip = ov_text(o, sum_text(e, "net_peer_ip"));
    f->host_ip = ov_text(o, sum_text(e, "net_host_ip"));
    f->peer_port = (unsigned)sum_number(e, "net_peer_port") & 0xffff;
    f->host_port = (unsigned)sum_number(e, "net_host_port") & 0xffff;
    if (f->transport && strncmp(f->transport, "Unix", 4) == 0) {
        f->way = OV_BOTH;
        c->unix_peer = sum_number(e, "unix_peer_inode");
        c->unix_local = sum_number(e, "unix_local_inode");
        end = c->unix_local ? keyed_at(&o->unix_ends, &c->unix_local, sizeof(c->unix_local)) : NULL;
        if (end)
            end->proc = f->proc;
    } else {
        f->way = f->host_port && f->host_port < f->peer_port ? OV_IN : OV_OUT;
    }
}

/* The connection of an event, made with what the event says of its ends. NULL: it has none, or there is no room. */
static struct open *connection(struct overview *o, const struct sum_event *e)
{
    size_t before = o->open.count;
    struct open *c = e->channel ? keyed_at(&o->open, &e->channel, sizeof(e->channel)) : NULL;

    if (c && o->open.count != before) {
        c->process = ov_process_of(o, e);
        c->flow.channel = e->channel;
        c->flow.pid = e->pid;
        c->flow.proc = ov_text(o, e->proc);
        c->flow.way = OV_OUT;
    }
    if (c && !c->flow.transport && sum_text(e, "net_transport"))
        take_ends(o, c, e);
    return c;
}

static void end_connection(struct overview *o, struct open *c)
{
    struct ov_edge *edge = c->flow.transport ? count_for(o, c) : NULL;

    if (edge) {
        edge->sent += c->flow.sent;
        edge->received += c->flow.received;
        edge->tls |= c->tls;
        if (c->flow.protocol)
            edge->protocol = c->flow.protocol;
        if (c->flow.name)
            edge->name = c->flow.name;
    }
    if (c->flow.transport && c->flow.way != OV_BOTH && c->flow.peer_ip)
        keep_flow(o, &c->flow);
    keyed_remove(&o->open, c);
}

static void recognised(struct overview *o, const struct sum_event *e)
{
    struct open *c = e->channel ? keyed_find(&o->open, &e->channel, sizeof(e->channel)) : NULL;
    const char *protocol = sum_text(e, "protocol"), *name = sum_text(e, "tls_client_server_name");

    if (!c || !protocol)
        return;
    if (strcmp(protocol, "TLS") == 0) {
        c->tls = true;
        c->hello_ns = e->time_ns;
        c->flow.tls_version = ov_text(o, sum_text(e, "tls_protocol_version"));
        if (!c->flow.tls_version)
            c->flow.tls_version = "?";
        if (name)
            c->flow.name = ov_text(o, name);
    } else {
        c->flow.protocol = ov_text(o, protocol);
    }
}

void ov_net_event(struct overview *o, const struct sum_event *e)
{
    struct open *c;

    if (strcmp(e->source, "net.app") == 0) {
        recognised(o, e);
        return;
    }
    c = connection(o, e);
    if (strcmp(e->source, "net.open") == 0) {
        o->connections++;
        if (c)
            c->flow.start_ns = e->time_ns;
        if (c && c->process >= 0)
            o->processes[c->process].connections++;
        ov_mark(o, ov_process_of(o, e), e->time_ns, OV_NET, 0);
    } else if (strcmp(e->source, "net.close") == 0) {
        uint64_t sent = sum_number(e, "net_bytes_sent"), received = sum_number(e, "net_bytes_recv");
        int process = ov_process_of(o, e);

        o->sent += sent;
        o->received += received;
        if (process >= 0) {
            o->processes[process].sent += sent;
            o->processes[process].received += received;
        }
        ov_mark(o, process, e->time_ns, OV_NET, sent + received);
        if (!c)
            return;
        c->flow.sent = sent;
        c->flow.received = received;
        c->flow.end_ns = e->time_ns;
        c->flow.reason = ov_text(o, sum_text(e, "net_close_reason"));
        end_connection(o, c);
    }
}

/* --- HTTP --- */

static bool waited_less(const struct ov_exchange *a, const struct ov_exchange *b)
{
    return a->wait_ns != b->wait_ns ? a->wait_ns < b->wait_ns : a->time_ns > b->time_ns;
}

static void keep_exchange(struct overview *o, const struct ov_exchange *x)
{
    size_t i = 0, child;

    if (o->slowest_count < OV_MAX_SLOWEST) {
        for (i = o->slowest_count++; i && waited_less(x, &o->slowest[(i - 1) / 2]); i = (i - 1) / 2)
            o->slowest[i] = o->slowest[(i - 1) / 2];
        o->slowest[i] = *x;
        return;
    }
    if (!waited_less(&o->slowest[0], x))
        return;
    for (; (child = 2 * i + 1) < OV_MAX_SLOWEST; i = child) {
        if (child + 1 < OV_MAX_SLOWEST && waited_less(&o->slowest[child + 1], &o->slowest[child]))
            child++;
        if (!waited_less(&o->slowest[child], x))
            break;
        o->slowest[i] = o->slowest[child];
    }
    o->slowest[i] = *x;
}

/* What follows the `?` may hold secrets, and makes every target another one. */
static const char *target_of(struct overview *o, const struct sum_event *e)
{
    const char *target = sum_text(e, "http_target");

    return ov_text_part(o, target, target ? strcspn(target, "?#") : 0);
}

static struct ov_route *route_of(struct overview *o, const char *method, const char *host, const char *target,
                                 const char *role, unsigned status)
{
    struct {
        const char *method, *host, *target, *role;
        uint64_t status;
    } key;
    struct ov_route *route;

    memset(&key, 0, sizeof(key));
    key.method = method;
    key.host = host;
    key.target = target;
    key.role = role;
    key.status = status;
    route = keyed_at(&o->routes, &key, sizeof(key));
    if (!route)
        return NULL;
    route->method = method;
    route->host = host;
    route->target = target;
    route->role = role;
    route->status = status;
    return route;
}

static void request(struct overview *o, const struct sum_event *e)
{
    uint64_t key[2] = {e->channel, sum_number(e, "http_stream")};
    struct waiting *w = keyed_at(&o->waiting, key, sizeof(key));
    struct open *c = connection(o, e);

    o->requests++;
    if (c)
        c->flow.requests++;
    if (c && !c->flow.name)
        c->flow.name = host_name(o, sum_text(e, "http_host"));
    if (!w || w->count == WAITING_MAX)
        return;
    w->request[w->count].time_ns = e->time_ns;
    w->request[w->count].method = ov_text(o, sum_text(e, "http_method"));
    w->request[w->count].host = ov_text(o, sum_text(e, "http_host"));
    w->request[w->count++].target = target_of(o, e);
}

/* When the request of a response was sent; 0: that isn't known. */
static uint64_t requested(struct overview *o, const struct sum_event *e)
{
    uint64_t key[2] = {e->channel, sum_number(e, "http_stream")}, at;
    struct waiting *w = keyed_find(&o->waiting, key, sizeof(key));

    if (!w)
        return 0;
    at = w->request[0].time_ns;
    memmove(&w->request[0], &w->request[1], (WAITING_MAX - 1) * sizeof(w->request[0]));
    if (--w->count == 0)
        keyed_remove(&o->waiting, w);
    return at;
}

/* Who asks is the one that called. */
static void take_role(struct overview *o, struct open *c, enum ov_way way)
{
    if (c->flow.way == way || c->flow.way == OV_BOTH)
        return;
    if (c->counted && c->edge)
        c->edge->connections--;
    c->counted = false;
    c->flow.way = way;
    count_for(o, c);
}

static void response(struct overview *o, const struct sum_event *e)
{
    struct open *c = connection(o, e);
    struct ov_exchange x = {.time_ns = requested(o, e), .process = ov_process_of(o, e), .pid = e->pid};
    struct ov_process *p = x.process < 0 ? NULL : &o->processes[x.process];
    struct ov_edge *edge = NULL;
    struct ov_route *route;
    int64_t ms;
    bool client = sum_integer(e, "http_client_duration", &ms),
         server = !client && sum_integer(e, "http_server_duration", &ms);
    bool timed = (client || server) && ms >= 0, failed;

    o->responses++;
    o->client_responses += client;
    o->server_responses += server;
    x.status = (unsigned)sum_number(e, "http_status_code") % 1000;
    failed = x.status >= 400;
    o->failed += failed;
    x.role = client ? "client" : server ? "server" : NULL;
    x.method = ov_text(o, sum_text(e, "http_method"));
    x.host = ov_text(o, sum_text(e, "http_host"));
    x.target = target_of(o, e);
    x.proc = ov_text(o, e->proc);
    ov_mark(o, x.process, e->time_ns, failed ? OV_HTTP_ERROR : OV_HTTP, 0);
    if (p) {
        p->http++;
        p->http_errors += failed;
    }
    if (timed) {
        /* The event tells whole milliseconds. The times of both are finer, where they are about the same thing. */
        uint64_t told = (uint64_t)ms * 1000000,
                 between = x.time_ns && e->time_ns > x.time_ns ? e->time_ns - x.time_ns : 0;

        x.wait_ns = between >= told && between < told + 1000000 ? between : told;
        if (!x.time_ns)
            x.time_ns = e->time_ns > x.wait_ns ? e->time_ns - x.wait_ns : 0;
        ov_times_add(client ? &o->client : &o->server, x.wait_ns);
    }
    if (c && c->flow.transport) {
        if (client || server)
            take_role(o, c, client ? OV_OUT : OV_IN);
        edge = count_for(o, c);
        x.opened_ns = c->flow.start_ns;
        x.hello_ns = c->hello_ns;
        x.first = c->flow.requests <= 1;
        c->flow.protocol = ov_text(o, "HTTP");
    }
    if (edge) {
        edge->requests++;
        edge->errors += failed;
        if (timed)
            ov_times_add(&edge->wait, x.wait_ns);
    }
    route = route_of(o, x.method, x.host, x.target, x.role, x.status);
    if (route) {
        route->count++;
        route->bytes += sum_number(e, "http_response_content_length");
        if (timed)
            ov_times_add(&route->wait, x.wait_ns);
    }
    if (timed)
        keep_exchange(o, &x);
}

void ov_http_event(struct overview *o, const struct sum_event *e)
{
    if (strcmp(e->source, "http.req") == 0)
        request(o, e);
    else if (strcmp(e->source, "http.resp") == 0)
        response(o, e);
}

/* --- the end --- */

static void add_unanswered(struct overview *o)
{
    void **list = keyed_list(&o->waiting);

    for (size_t i = 0; i < o->waiting.count; i++) {
        const struct waiting *w = list[i];

        for (unsigned k = 0; k < w->count; k++) {
            struct ov_route *route =
                route_of(o, w->request[k].method, w->request[k].host, w->request[k].target, NULL, 0);

            o->failed++;
            if (route)
                route->count++;
        }
    }
    free(list);
}

static uint64_t less(uint64_t from, uint64_t what)
{
    return from > what ? from - what : 0;
}

/* Connections from one address to a service at another one: what both ends of them agree on. */
static struct called *called_at(struct overview *o, const char *service, unsigned port, const char *client, bool make)
{
    struct {
        const char *service, *client;
        uint64_t port;
    } key = {service, client, port};

    return make ? keyed_at(&o->listening, &key, sizeof(key)) : keyed_find(&o->listening, &key, sizeof(key));
}

/*
 * Where both ends of a connection were observed, the one that has called tells of it, and the other end no more than
 * what comes from others.
 */
static void join(struct overview *o, struct ov_edge **edges, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct ov_edge *in = edges[i];
        struct called *called = in->way == OV_IN ? called_at(o, in->here_ip, in->port, in->ip, true) : NULL;

        if (called)
            called->proc = in->proc;
    }
    for (size_t i = 0; i < count; i++) {
        struct ov_edge *out = edges[i];
        struct called *called = out->way == OV_OUT ? called_at(o, out->ip, out->port, out->here_ip, false) : NULL;

        if (!called)
            continue;
        out->peer = called->proc;
        called->connections += out->connections;
        called->requests += out->requests;
        called->errors += out->errors;
        called->sent += out->sent;
        called->received += out->received;
    }
    for (size_t i = 0; i < count; i++) {
        struct ov_edge *in = edges[i];
        struct called *called = in->way == OV_IN ? called_at(o, in->here_ip, in->port, in->ip, false) : NULL;
        uint64_t mine = in->connections;

        if (!called || !called->connections)
            continue;
        in->told = called->connections >= mine;
        in->connections = less(mine, called->connections);
        in->requests = less(in->requests, called->requests);
        in->errors = less(in->errors, called->errors);
        in->sent = less(in->sent, called->received);
        in->received = less(in->received, called->sent);
        called->connections = less(called->connections, mine);
    }
    /* Of two programs on a unix socket each has told the same. */
    for (size_t i = 0; i < count; i++)
        for (size_t k = i + 1; edges[i]->way == OV_BOTH && edges[i]->peer && !edges[i]->told && k < count; k++)
            if (edges[k]->way == OV_BOTH && edges[k]->proc == edges[i]->peer && edges[k]->peer == edges[i]->proc)
                edges[k]->told = true;
}

static int compare_flows(const void *a, const void *b)
{
    const struct ov_flow *x = a, *y = b;

    return moved_less(x, y) - moved_less(y, x);
}

static int compare_exchanges(const void *a, const void *b)
{
    const struct ov_exchange *x = a, *y = b;

    return waited_less(x, y) - waited_less(y, x);
}

void ov_net_finish(struct overview *o)
{
    void **list = keyed_list(&o->open);

    for (size_t i = 0, n = o->open.count; i < n; i++)
        end_connection(o, list[i]);
    free(list);
    add_unanswered(o);
    list = keyed_list(&o->edges);
    join(o, (struct ov_edge **)list, o->edges.count);
    for (size_t i = 0; i < o->edges.count; i++) {
        struct ov_edge *edge = list[i];

        if (!edge->name)
            edge->name = name_of(o, edge->ip);
    }
    free(list);
    for (size_t i = 0; i < o->flow_count; i++)
        if (!o->flows[i].name)
            o->flows[i].name = name_of(o, o->flows[i].peer_ip);
    qsort(o->flows, o->flow_count, sizeof(o->flows[0]), compare_flows);
    qsort(o->slowest, o->slowest_count, sizeof(o->slowest[0]), compare_exchanges);
}
