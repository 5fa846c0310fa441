/* SPDX-License-Identifier: Apache-2.0 */
/* From DNS messages to events and metrics: docs/data-model.md, "DNS". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "protocol/dns.h"
#include "report/notices.h"
#include "report/spans.h"
#include "traffic/protocols.h"
#include "traffic/runtime_api.h"

/* How long an answer is waited for: longer than resolvers wait before they ask again or refuse (resolv.conf(5): 5 s;
 * BIND: 10 s). */
#define WAIT_NS UINT64_C(15000000000)

/* Types of the address records (IANA, "Resource Record (RR) TYPEs"). */
#define TYPE_A 1
#define TYPE_AAAA 28

/* What both messages say, but `domain`: what is asked; type NULL: there is no question. role: of this process. */
static void add_question(struct fields *f, const uint16_t *type, bool client, char word[DNS_WORD])
{
    if (type)
        add_str(f, "qtype", 0, dns_type_text(*type, word));
    add_str(f, "role", 0, client ? "client" : "server");
}

static const uint16_t *type_of(const struct dns_message *m)
{
    return m->question_count ? &m->questions[0].type : NULL;
}

/* What is remembered of a query until it is answered. */
struct asked {
    uint64_t time_ns;
    bool client; /* this process asks */
    bool typed;  /* it has a question */
    uint16_t type;
    union address from; /* as stream_peer.from */
    bool spanned;       /* it has a span */
    struct span span;
    size_t domain_len;
    char domain[];
};

static struct slice domain_of(const struct dns_message *m)
{
    if (m->question_count)
        return m->questions[0].name;
    return m->answer_count ? m->answers[0].name : (struct slice){"", 0};
}

/* Who asks while it serves a request asks for that. */
static void begin_span(struct asked *a, const struct stream *s)
{
    const struct span *inside = a->client ? span_inside(s->p, s->tid) : NULL;

    span_begin(&a->span, s->p->pl, inside ? &(struct span_parent){.id = &inside->id, .decided = true, .link = inside->link}
                                            : NULL);
    a->spanned = true;
    if (!a->client)
        span_enter(&a->span, s->p, s->tid);
}

static struct asked *keep(const struct stream *s, const struct dns_message *m, const struct dns_transit *way)
{
    struct slice domain = domain_of(m);
    const union address *from = stream_from(s);
    struct asked *a;

    /* Of multicast queries (RFC 6762, section 18.1: id 0) everybody gets all, and answers what he knows. */
    if (way->dir == PROTO_RX && m->id == 0)
        return NULL;
    a = xmalloc(sizeof(*a) + domain.len);
    *a = (struct asked){.time_ns = way->time_ns,
                        .client = way->dir == PROTO_TX,
                        .typed = m->question_count > 0,
                        .type = m->question_count ? m->questions[0].type : 0,
                        .domain_len = domain.len};
    if (from)
        a->from = *from;
    memcpy(a->domain, domain.p, domain.len);
    if (s->p->pl->spans)
        begin_span(a, s);
    return a;
}

static void drop(struct asked *a)
{
    if (a && a->spanned)
        span_leave(&a->span);
    free(a);
}

/* Room for what stream_net_fields() adds. */
#define NET_FIELDS 7

static void notice(const struct stream *s, const struct dns_message *m, const struct dns_transit *way)
{
    struct address_texts t;

    FIELDS(net, NET_FIELDS);
    stream_net_fields(&net, s, &t);
    notices_dns(s->p, m, way->dir == PROTO_TX, s->channel, &net, way->time_ns);
}

static void *query(void *owner, const struct dns_message *m, const struct dns_transit *way)
{
    struct stream *s = owner;
    struct proc *p = s->p;
    struct slice domain = domain_of(m);
    struct address_texts t;
    char word[DNS_WORD];

    FIELDS(f, TM_MAX_FIELDS);
    if (!p)
        return NULL;
    if (p->pl->notices)
        notice(s, m, way);
    add_mem(&f, "domain", 5, domain.p, domain.len);
    report_sample(p, TM_DNS_REQ, 1, 0, NULL, &f, false, way->time_ns);
    if (p->pl->ev_dns_req) {
        add_question(&f, type_of(m), way->dir == PROTO_TX, word);
        stream_net_fields(&f, s, &t);
        report_event(p, CFG_EW_DNS, "dns.req", s->channel, way->time_ns, &f);
    }
    return keep(s, m, way);
}

/* Addresses as a list of terminated texts; they are at most so long. */
struct addrs {
    char text[DNS_ANSWERS_MAX][48];
    const char *list[DNS_ANSWERS_MAX];
    size_t count;
};

static void collect(struct addrs *a, const struct dns_message *m)
{
    a->count = 0;
    for (size_t i = 0; i < m->answer_count; i++) {
        const struct dns_record *r = &m->answers[i];

        if ((r->type != TYPE_A && r->type != TYPE_AAAA) || r->text.len >= sizeof(a->text[0]))
            continue;
        memcpy(a->text[a->count], r->text.p, r->text.len);
        a->text[a->count][r->text.len] = 0;
        a->list[a->count] = a->text[a->count];
        a->count++;
    }
}

/* Who was asked: text is that of its address. */
static struct tm_str server_of(const struct stream *s, const struct asked *a, char text[INET6_ADDRSTRLEN], unsigned *ret_port)
{
    const union address *end = !s->sock ? NULL : !a->client ? &s->sock->local : a->from.family ? &a->from : &s->sock->peer;
    size_t len = end ? report_address(end, text, ret_port) : 0;

    return (struct tm_str){len ? text : NULL, len};
}

/* There are no conventions for spans of DNS, but names of attributes. m NULL: it wasn't answered. */
static void tell_span(const struct stream *s, const struct asked *a, const struct dns_message *m, uint64_t end_ns,
                      const char *error)
{
    struct tm_span t = {.kind = a->client ? TM_SPAN_CLIENT : TM_SPAN_SERVER, .start_ns = a->time_ns, .end_ns = end_ns};
    const union address *peer = !s->sock ? NULL : a->from.family ? &a->from : &s->sock->peer;
    char name[4 + DNS_WORD], word[DNS_WORD], server[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN];
    struct tm_str address;
    struct addrs addrs;
    unsigned port = 0;
    size_t len;

    FIELDS(f, 12);
    if (!a->spanned || !span_sampled(&a->span))
        return;
    snprintf(name, sizeof(name), "DNS%s%s", a->typed ? " " : "", a->typed ? dns_type_text(a->type, word) : "");
    t.name = (struct tm_str){name, strlen(name)};
    add_mem(&f, "dns.question.name", 0, a->domain, a->domain_len);
    if (m && m->answer_count) {
        collect(&addrs, m);
        if (addrs.count)
            add_list(&f, "dns.answers", addrs.list, addrs.count);
    }
    address = server_of(s, a, server, &port);
    if (address.len) {
        add_mem(&f, "server.address", 0, address.p, address.len);
        add_uint(&f, "server.port", 0, port);
    }
    if (peer && (len = report_address(peer, text, &port))) {
        if (!a->client)
            add_mem(&f, "client.address", 0, text, len);
        add_mem(&f, "network.peer.address", 0, text, len);
        add_uint(&f, "network.peer.port", 0, port);
    }
    add_str(&f, "network.protocol.name", 0, "dns");
    if (s->sock && s->sock->domain)
        add_str(&f, "network.transport", 0, s->sock->domain == AF_UNIX ? "unix" : s->datagrams ? "udp" : "tcp");
    if (s->p->pl->runtime && s->p->pl->runtime->id[0])
        add_str(&f, "faas.invocation_id", 0, s->p->pl->runtime->id);
    if (error) {
        add_str(&f, "error.type", 0, error);
        t.status = TM_SPAN_ERROR;
    }
    t.fields = f.f;
    t.field_count = f.n;
    span_tell(s->p, &a->span, &t);
}

/* A name that doesn't exist is no fault of who says so. */
#define SERVFAIL 2u
static const char *error_of(const struct asked *a, const struct dns_message *m, char word[DNS_WORD])
{
    return m->rcode && (a->client || m->rcode == SERVFAIL) ? dns_rcode_text(m->rcode, word) : NULL;
}

static void tell_duration(struct stream *s, const struct asked *a, const struct fields *f, uint64_t ns, const char *error,
                          uint64_t time_ns)
{
    struct tm_exchange x = {.rpc_status = -1};
    char text[INET6_ADDRSTRLEN];
    struct tm_context id;

    if (a && s->p->pl->exchanges) {
        x.server = server_of(s, a, text, &x.server_port);
        if (error)
            x.error = (struct tm_str){error, strlen(error)};
        if (a->spanned) {
            id = span_context(&a->span);
            x.trace = id.flags & 1 ? &id : NULL;
        }
    }
    report_exchange(s->p, TM_DNS_DURATION, (int64_t)(ns / 1000), &x, f, time_ns);
}

static void response(void *owner, const struct dns_message *m, const struct dns_transit *way,
                     const struct dns_exchange *exchange)
{
    struct stream *s = owner;
    struct proc *p = s->p;
    struct slice domain = domain_of(m);
    char word[DNS_WORD], code[DNS_WORD];
    struct address_texts t;
    struct addrs addrs;
    struct asked *a = exchange ? exchange->kept : NULL;
    const char *error = a ? error_of(a, m, code) : NULL;

    FIELDS(f, TM_MAX_FIELDS);
    if (!p) {
        drop(a);
        return;
    }
    if (p->pl->notices)
        notice(s, m, way);
    if (exchange && m->rcode && way->dir == PROTO_RX)
        report_dns_error(p, domain.p, domain.len, way->time_ns);
    add_mem(&f, "domain", 5, domain.p, domain.len);
    if (exchange)
        tell_duration(s, a, &f, exchange->duration_ns, error, way->time_ns);
    if (a)
        tell_span(s, a, m, way->time_ns, error);
    drop(a);
    if (!p->pl->ev_dns_resp)
        return;
    if (exchange)
        add_uint(&f, "duration", 0, exchange->duration_ns / 1000000);
    if (m->answer_count) {
        collect(&addrs, m);
        add_list(&f, "addrs", addrs.list, addrs.count);
    }
    add_str(&f, "rcode", 0, dns_rcode_text(m->rcode, code));
    if (m->ttl_known)
        add_uint(&f, "ttl", 0, m->ttl);
    add_question(&f, type_of(m), way->dir == PROTO_RX, word);
    stream_net_fields(&f, s, &t);
    report_event(p, CFG_EW_DNS, "dns.resp", s->channel, way->time_ns, &f);
}

static void unanswered(void *owner, const struct dns_exchange *exchange, enum dns_end why)
{
    struct stream *s = owner;
    struct proc *p = s->p;
    struct asked *a = exchange->kept;
    uint64_t now;
    struct address_texts t;
    char word[DNS_WORD];

    FIELDS(f, TM_MAX_FIELDS);
    if (p && why == DNS_END_FORGOTTEN)
        model_loss(p->m, p, LK_MESSAGE, 1); /* its answer may come */
    if (!p || !a || why == DNS_END_FORGOTTEN || why == DNS_END_EARLY) {
        drop(a);
        return;
    }
    now = a->time_ns + exchange->duration_ns;
    if (a->client)
        report_dns_error(p, a->domain, a->domain_len, now);
    if (p->pl->ev_dns_resp) {
        add_mem(&f, "domain", 5, a->domain, a->domain_len);
        add_uint(&f, "duration", 0, exchange->duration_ns / 1000000);
        add_str(&f, "error", 0, why == DNS_END_TIMEOUT ? "timeout" : "closed");
        add_question(&f, a->typed ? &a->type : NULL, a->client, word);
        stream_net_fields_of(&f, s, &a->from, &t);
        report_event(p, CFG_EW_DNS, "dns.resp", s->channel, now, &f);
    }
    tell_span(s, a, NULL, now, why == DNS_END_TIMEOUT ? "timeout" : "closed");
    drop(a);
}

static void note(void *owner, enum dns_note what, uint64_t count)
{
    const struct stream *s = owner;

    if (what == DNS_NOTE_UNREADABLE && s->p && s->p->pl->notices) {
        struct address_texts t;

        FIELDS(net, NET_FIELDS);
        stream_net_fields(&net, s, &t);
        notices_dns_unreadable(s->p, s->channel, &net, clock_now_real());
    }
    stream_lost(owner, what == DNS_NOTE_LOST ? LK_TRAFFIC : LK_MESSAGE, count);
}

static const struct dns_sink sink = {.query = query, .response = response, .unanswered = unanswered, .note = note};

/* --- the row --- */

struct talk {
    struct dns *decoder;
    struct stream_wait wait; /* for answers */
};

static void *new(struct stream *s, const struct protocol_start *how)
{
    struct talk *t = xcalloc(1, sizeof(*t));

    t->decoder = dns_new(&sink, s, !s->datagrams, s->joined);
    return t;
}

/* Queries may have come, or answers: they are those of who has used the socket last. */
static void note_asking(struct talk *t, struct stream *s)
{
    stream_waits(&t->wait, s, dns_outstanding(t->decoder) ? s->p : NULL);
}

static void feed(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct talk *t = decoder;

    dns_feed(t->decoder, dir, data, len, time_ns);
    note_asking(t, s);
}

static void datagram(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len,
                     uint64_t time_ns)
{
    struct talk *t = decoder;

    if (data)
        dns_datagram(t->decoder, dir, s->peer->hash, data, (size_t)len, (size_t)len, time_ns);
    else
        stream_lost(s, LK_TRAFFIC, len);
    note_asking(t, s);
}

static void sweep(void *decoder, struct stream *s, uint64_t time_ns)
{
    struct talk *t = decoder;

    dns_sweep(t->decoder, time_ns, WAIT_NS);
    note_asking(t, s);
}

static void free_decoder(void *decoder, uint64_t time_ns)
{
    struct talk *t = decoder;

    dns_free(t->decoder, time_ns);
    stream_waits(&t->wait, t->wait.s, NULL);
    free(t);
}

static int in_stream(const uint8_t *data, size_t len, bool whole)
{
    return dns_detect_stream(data, len);
}

static int in_datagram(const uint8_t *data, size_t len, bool whole)
{
    return dns_detect(data, len);
}

static const char *const events[] = {"dns.req", "dns.resp", NULL};
static const enum tm_metric metrics[] = {TM_DNS_REQ, TM_DNS_DURATION};

static bool wanted(const struct pipeline *pl)
{
    return pl->spans || notices_want_dns(pl) || pl->metric[TM_DNS_REQ] || pl->per_op[TM_DNS_REQ] || pl->metric[TM_DNS_DURATION] ||
           pl->per_op[TM_DNS_DURATION] || pl->ev_dns_req || pl->ev_dns_resp;
}

const struct protocol protocol_dns = {
    .detect = {.name = "DNS", .stream = in_stream, .datagram = in_datagram, .replaceable = true},
    .watch = CFG_EW_DNS,
    .events = events,
    .metrics = metrics,
    .metric_count = sizeof(metrics) / sizeof(*metrics),
    .wanted = wanted,
    .new = new,
    .feed = feed,
    .datagram = datagram,
    .sweep = sweep,
    .free = free_decoder,
};
