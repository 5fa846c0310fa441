/* SPDX-License-Identifier: Apache-2.0 */
/* OpenTelemetry's semantic conventions for HTTP and RPC (gRPC). */
#include "traffic/http_span.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "protocol/grpc.h"
#include "protocol/url.h"
#include "traffic/both_ends.h"
#include "traffic/runtime_api.h"

/* --- ids --- */

/* A proxy that hands on a header as it came has made no span of its own: what it asks for belongs to the request that it
 * serves. */
static bool passed_on(const struct span *inside, const struct trace_parent *from)
{
    return inside && inside->has_remote && !memcmp(inside->id.trace_id, from->trace_id, sizeof(from->trace_id)) &&
           !memcmp(inside->parent_id, from->span_id, sizeof(from->span_id));
}

void http_span_begin(struct http_span *hs, char state[TRACE_STATE_MAX], struct stream *s, const struct http_head *head,
                     bool server)
{
    const struct span *inside = server || head->pushed ? NULL : span_inside(s->p, s->tid);
    struct trace_parent said;
    struct span_parent parent = {.decided = true};
    struct tm_context from = {0};
    bool named = false;

    hs->state_len = 0;
    if (!head->pushed && trace_parent(head->fields, head->field_count, &said)) {
        named = true;
        memcpy(from.trace_id, said.trace_id, sizeof(from.trace_id));
        memcpy(from.span_id, said.span_id, sizeof(from.span_id));
        from.flags = said.flags;
        parent = (struct span_parent){.id = &from, .decided = said.decided, .remote = server};
        if (passed_on(inside, &said))
            parent = (struct span_parent){.id = &inside->id, .decided = true, .link = inside->link};
        if (said.w3c)
            hs->state_len = (uint16_t)trace_state(head->fields, head->field_count, state);
    } else if (inside) {
        parent.id = &inside->id;
        parent.link = inside->link;
    }
    span_begin(&hs->span, s->p->pl, parent.id ? &parent : NULL);
    both_ends_request(named ? NULL : &hs->span, s, head, server);
}

/* --- what both tell --- */

static struct tm_str str(struct slice s)
{
    return (struct tm_str){s.p, s.len};
}

static bool is_https(struct slice scheme)
{
    return scheme.len == 5 && !memcmp(scheme.p, "https", 5);
}

static struct slice scheme_of(const struct http_asked *asked)
{
    return asked->url.scheme.len ? asked->url.scheme : asked->scheme;
}

/* The end of the connection that serves. */
static const union address *server_end(const struct stream *s, bool server)
{
    return !s->sock ? NULL : server ? &s->sock->local : &s->sock->peer;
}

/* Methods that the conventions know; others can be anything. Case counts (RFC 9110, section 9.1). */
static bool is_known(struct slice method)
{
    static const struct {
        uint8_t len;
        char text[7];
    } known[] = {{3, "GET"},     {4, "POST"},  {3, "PUT"},   {4, "HEAD"},  {6, "DELETE"},
                 {7, "OPTIONS"}, {5, "PATCH"}, {5, "TRACE"}, {5, "QUERY"}, {7, "CONNECT"}};

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (known[i].len == method.len && !memcmp(known[i].text, method.p, method.len))
            return true;
    return false;
}

static bool is_connect(struct slice method)
{
    return method.len == 7 && !memcmp(method.p, "CONNECT", 7);
}

/* "SERVICE/METHOD" of a target that grpc_call() has found good. */
static struct slice rpc_method(struct slice target)
{
    return (struct slice){target.p + 1, target.len - 1};
}

void http_asked_whom(struct http_asked *asked, const struct stream *s)
{
    const struct url_target *url = &asked->url;
    const union address *end;
    struct slice authority;

    url_target(asked->target, is_connect(asked->method), &asked->url);
    authority = url->authority.len ? url->authority : asked->host;
    asked->whom = (struct slice){0};
    asked->port = 0;
    if (authority.len)
        url_authority(authority, &asked->whom, &asked->port);
    if (asked->whom.len) {
        if (!asked->port && !(s->sock && s->sock->domain == AF_UNIX))
            asked->port = is_https(scheme_of(asked)) ? 443 : 80;
        return;
    }
    asked->port = 0;
    end = server_end(s, asked->server);
    asked->whom = (struct slice){asked->text, end ? report_address(end, asked->text, &asked->port) : 0};
}

void http_exchange(struct tm_exchange *x, const struct http_asked *asked)
{
    x->method = str(asked->method);
    x->scheme = str(asked->scheme);
    x->server = asked->whom.len ? str(asked->whom) : (struct tm_str){0};
    x->server_port = asked->port;
    x->version = (struct tm_str){asked->version, strlen(asked->version)};
    if (asked->grpc)
        x->rpc_method = str(rpc_method(asked->target));
}

/* --- spans --- */

INLINE void add_slice(struct fields *f, const char *name, struct slice s)
{
    if (s.len)
        add_mem(f, name, 0, s.p, s.len);
}

/* Of a list of proxies the first one's client. */
static struct slice first_of(struct slice list)
{
    const char *comma = list.len ? memchr(list.p, ',', list.len) : NULL;

    if (comma)
        list.len = (size_t)(comma - list.p);
    while (list.len && list.p[list.len - 1] == ' ')
        list.len--;
    return list;
}

/* Whom the request is for, and who asks, as the connection has it. f: room for 9. */
static void add_ends(struct fields *f, const struct stream *s, const struct http_asked *asked, struct address_texts *t)
{
    struct slice client = first_of(asked->client);
    size_t len = s->sock ? report_address(&s->sock->peer, t->peer, &t->peer_port) : 0;

    if (!asked->grpc)
        add_slice(f, "url.scheme", scheme_of(asked));
    add_slice(f, "server.address", asked->whom);
    if (asked->port)
        add_uint(f, "server.port", 0, asked->port);
    if (!client.len && asked->server)
        client = (struct slice){t->peer, len};
    if (asked->server)
        add_slice(f, "client.address", client);
    if (len) {
        add_mem(f, "network.peer.address", 0, t->peer, len);
        add_uint(f, "network.peer.port", 0, t->peer_port);
    }
    add_str(f, "network.protocol.name", 0, "http");
    add_str(f, "network.protocol.version", 0, asked->version);
    if (s->sock && s->sock->domain)
        add_str(f, "network.transport", 0, s->sock->domain == AF_UNIX ? "unix" : "tcp");
}

/* The same of a connection all of whose requests have it in common so far. */
struct http_ends {
    struct tm_shared shared;
    struct tm_field fields[10];
    bool differ;            /* they haven't */
    bool server, grpc, forwarded;
    const char *version;
    unsigned port;
    int domain;
    union address peer;
    struct slice scheme, whom;
    struct address_texts texts;
    char room[];            /* for the others */
};

static bool same(struct slice a, struct slice b)
{
    return a.len == b.len && (!a.len || !memcmp(a.p, b.p, a.len));
}

static bool same_ends(const struct http_ends *e, const struct stream *s, const struct http_asked *asked)
{
    return e->server == asked->server && e->grpc == asked->grpc && !asked->client.len && e->version == asked->version &&
           e->port == asked->port && e->domain == s->sock->domain &&
           !memcmp((const char *)&e->peer, (const char *)&s->sock->peer, sizeof(e->peer)) &&
           same(e->scheme, scheme_of(asked)) && same(e->whom, asked->whom);
}

static struct http_ends *ends_new(const struct stream *s, const struct http_asked *asked)
{
    struct slice scheme = scheme_of(asked);
    struct http_ends *e = xcalloc(1, sizeof(*e) + scheme.len + asked->whom.len);
    struct http_asked copy = *asked;
    struct fields f = {.f = e->fields, .max = sizeof(e->fields) / sizeof(*e->fields) - 1};

    e->differ = asked->client.len > 0;
    e->server = asked->server;
    e->grpc = asked->grpc;
    e->version = asked->version;
    e->port = asked->port;
    e->domain = s->sock->domain;
    e->peer = s->sock->peer;
    if (scheme.len) /* else there may be no text at all */
        memcpy(e->room, scheme.p, scheme.len);
    if (asked->whom.len)
        memcpy(e->room + scheme.len, asked->whom.p, asked->whom.len);
    e->scheme = copy.url.scheme = (struct slice){e->room, scheme.len};
    e->whom = copy.whom = (struct slice){e->room + scheme.len, asked->whom.len};
    add_ends(&f, s, &copy, &e->texts);
    e->shared = (struct tm_shared){.id = span_shared_id(), .fields = e->fields, .field_count = f.n};
    return e;
}

/* NULL: it has nothing in common with others. */
static const struct tm_shared *shared_ends(struct stream *s, const struct http_asked *asked)
{
    if (!s->sock)
        return NULL;
    if (!s->http)
        s->http = ends_new(s, asked);
    else if (!s->http->differ)
        s->http->differ = !same_ends(s->http, s, asked);
    return s->http->differ ? NULL : &s->http->shared;
}

/* url.full: nobody gets to see who may use it. */
static void add_full_url(struct fields *f, const struct http_asked *asked, struct slice query)
{
    static struct buf text; /* grows to the longest target that there was */
    const struct url_target *url = &asked->url;
    struct slice scheme = scheme_of(asked), authority = url->authority.len ? url->authority : asked->host;
    const char *at = authority.len ? memrchr(authority.p, '@', authority.len) : NULL;

    if (!scheme.len || !authority.len)
        return;
    buf_reset(&text);
    buf_add(&text, scheme.p, scheme.len);
    buf_str(&text, "://");
    if (at) {
        buf_str(&text, URL_STRUCK ":" URL_STRUCK "@");
        authority.len -= (size_t)(at + 1 - authority.p);
        authority.p = at + 1;
    }
    buf_add(&text, authority.p, authority.len);
    if (url->path.len && url->path.p[0] == '/')
        buf_add(&text, url->path.p, url->path.len);
    if (query.p) {
        buf_char(&text, '?');
        buf_add(&text, query.p, query.len);
    }
    add_mem(f, "url.full", 0, text.p, text.len);
}

static void add_url(struct fields *f, const struct http_asked *asked)
{
    static struct buf struck;
    const struct url_target *url = &asked->url;
    struct slice query = url->query.p ? url_strike(url->query, &struck) : url->query;

    add_slice(f, "url.path", url->path);
    add_slice(f, "url.query", query);
    if (!asked->server && !is_connect(asked->method))
        add_full_url(f, asked, query);
}

/* As far as HTTP can tell; word: room for a number. NULL: all went well, or nobody knows. */
static const char *error_of(const struct http_totals *t, bool server, char word[12])
{
    if (!t->status)
        return t->gap ? NULL : HTTP_NO_RESPONSE;
    if (t->status >= (server ? 500u : 400u)) {
        snprintf(word, 12, "%u", t->status);
        return word;
    }
    return t->answered || t->gap ? NULL : HTTP_INCOMPLETE;
}

/* Codes that are the server's fault, as the conventions for gRPC have them. */
#define SERVER_FAULTS (1u << 2 | 1u << 4 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 15)

static const char *add_rpc(struct fields *f, const struct http_asked *asked, const struct http_totals *t, char word[12])
{
    const char *text = grpc_status_text(t->grpc_status), *error;

    add_str(f, "rpc.system.name", 0, "grpc");
    add_slice(f, "rpc.method", rpc_method(asked->target));
    if (t->grpc_status < 0) {
        error = error_of(t, asked->server, word);
        return error || t->gap ? error : HTTP_NO_STATUS;
    }
    if (!text) {
        snprintf(word, 12, "%d", t->grpc_status);
        text = word;
    }
    add_str(f, "rpc.status_code", 0, text);
    if (!t->grpc_status || (asked->server && (t->grpc_status > 15 || !(SERVER_FAULTS & 1u << t->grpc_status))))
        return NULL;
    return text;
}

static const char *add_http(struct fields *f, const struct http_asked *asked, bool known, int64_t length,
                            const struct http_totals *t, char word[12])
{
    if (known) {
        add_slice(f, "http.request.method", asked->method);
    } else {
        add_str(f, "http.request.method", 0, "_OTHER");
        add_slice(f, "http.request.method_original", asked->method);
    }
    add_url(f, asked);
    if (t->status)
        add_uint(f, "http.response.status_code", 0, t->status);
    if (t->request_body || length >= 0)
        add_uint(f, "http.request.body.size", 0, t->request_body ? t->request_body : (uint64_t)length);
    if (t->status && t->answered)
        add_uint(f, "http.response.body.size", 0, t->response_body);
    return error_of(t, asked->server, word);
}

void http_span_end(const struct http_span *hs, struct stream *s, const struct http_asked *asked, int64_t length,
                   const struct http_totals *totals)
{
    struct tm_span t = {.kind = asked->server ? TM_SPAN_SERVER : TM_SPAN_CLIENT,
                        .state = {(const char *)(hs + 1), hs->state_len},
                        .start_ns = totals->request_first_ns, .end_ns = totals->end_ns};
    struct address_texts texts;
    const char *error;
    char word[12];

    FIELDS(f, 25);
    if (!span_sampled(&hs->span))
        return;
    if (asked->grpc) {
        t.name = str(rpc_method(asked->target));
        error = add_rpc(&f, asked, totals, word);
    } else {
        bool known = is_known(asked->method);

        t.name = known ? str(asked->method) : (struct tm_str){"HTTP", 4};
        error = add_http(&f, asked, known, length, totals, word);
    }
    add_slice(&f, "user_agent.original", asked->agent);
    if (error) {
        add_str(&f, "error.type", 0, error);
        t.status = TM_SPAN_ERROR;
    }
    if (s->p->pl->runtime && s->p->pl->runtime->id[0])
        add_str(&f, "faas.invocation_id", 0, s->p->pl->runtime->id);
    t.shared = shared_ends(s, asked);
    if (!t.shared)
        add_ends(&f, s, asked, &texts);
    t.fields = f.f;
    t.field_count = f.n;
    span_tell(s->p, &hs->span, &t);
}
