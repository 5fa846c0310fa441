/* SPDX-License-Identifier: Apache-2.0 */
/* From HTTP messages to events and metrics: docs/data-model.md, "HTTP". */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "protocol/grpc.h"
#include "protocol/http1.h"
#include "protocol/http2.h"
#include "protocol/http_name.h"
#include "telemetry/filter.h"
#include "traffic/http_span.h"
#include "traffic/protocols.h"
#include "traffic/runtime_api.h"

#define ROOM (HTTP_FIELDS_MAX * 2 + 42) /* fields of an event: those of both messages, and ours */
#define TARGET_MAX 512u                 /* bytes of a target that metrics carry */

/* What nobody gets to see but who asks for it by name. */
static const char *const secret[] = {"authorization", "proxy-authorization", "cookie", "set-cookie"};
#define SECRETS (sizeof(secret) / sizeof(secret[0]))

/* A pattern of event.watch.http.headers. */
struct header_rule {
    struct header_rule *next;
    struct filter *filter;
    bool names[SECRETS];
};

/* The event of a response whose outcome stands behind its body: gRPC's is in the trailers. */
struct held {
    uint64_t time_ns;
    size_t count;
    struct tm_field fields[]; /* behind them the texts */
};

/* A response whose request is still to be told (http_head.early). */
struct early {
    struct http_head head;
    int outcome;                /* of the call, as far as the trailers have told it; -1: they haven't */
    struct http_field fields[]; /* behind them the texts */
};
#define EARLY_TEXTS 4096u /* bytes of its header that are kept */

/* The head of a response, for metrics. */
struct answer {
    uint64_t first_ns, duration_ns;
    int64_t length; /* as stated; -1: it isn't */
    unsigned status;
};

/* What the response has to know of its request. Owned by the decoder between request and done. */
struct kept {
    struct early *early; /* instead of all else: its request isn't known yet */
    bool grpc;           /* it is a call */
    bool unmeasured;     /* ... of whose response metrics are told when its outcome is known: `answer` */
    struct answer answer;
    struct held *held;   /* its response, NULL: none, or it was told */
    struct http_span *span; /* in the same memory; NULL: none */
    struct http_asked *asked; /* the same; NULL: there were neither spans nor histograms */
    bool is_asked;            /* it has been filled in */
    const char *version;
    enum proto_dir dir;  /* from client to server */
    uint64_t first_ns;
    size_t size;       /* bytes of it; 0: that isn't known, it isn't used again */
    size_t target_len; /* for metrics: without query */
    const char *target;
    int64_t length;
    size_t first, count;      /* fields that a response begins with, and all */
    struct tm_field fields[]; /* behind them the texts */
};

/* --- configuration --- */

static bool contains(const char *text, const char *word)
{
    size_t len = strlen(word);

    for (; *text; text++)
        if (!strncasecmp(text, word, len))
            return true;
    return false;
}

static void prepare(struct pipeline *pl)
{
    char **pattern = pl->cfg->event.watch[CFG_EW_HTTP].headers;
    struct header_rule **end = &pl->headers;

    for (; pattern && *pattern; pattern++) {
        struct header_rule *r = xcalloc(1, sizeof(*r));

        r->filter = filter_new(*pattern, "(?!)"); /* one that can't be compiled fits nothing */
        for (size_t i = 0; i < SECRETS; i++)
            r->names[i] = contains(*pattern, secret[i]);
        *end = r;
        end = &r->next;
    }
}

static void unprepare(struct pipeline *pl)
{
    while (pl->headers) {
        struct header_rule *r = pl->headers;

        pl->headers = r->next;
        filter_free(r->filter);
        free(r);
    }
}

/* --- fields --- */

static bool is(const struct slice *name, const char *word)
{
    size_t len = strlen(word);

    return name->len == len && (name->p[0] | 0x20) == word[0] && !strncasecmp(name->p, word, len);
}

/* Names that what is told of a header field has, where it has one of ours. No header field is told under such a name
 * (told_otherwise()), so they are known by their addresses. */
static const char client_ip[] = "http_client_ip", user_agent[] = "http_user_agent", x_appscope[] = "x-appscope",
                  trace_id[] = "trace_id", parent_id[] = "parent_id", http_method[] = "http_method",
                  http_target[] = "http_target", http_scheme[] = "http_scheme", http_host[] = "http_host";

static bool said(const struct fields *f, const char *name)
{
    for (const struct tm_field *field = f->f, *end = f->f + f->n; field < end; field++)
        if (field->name == name)
            return true;
    return false;
}

/* Names of header fields don't depend on case. */
static bool taken(const struct fields *f, const char *name, size_t len)
{
    for (size_t i = 0; i < f->n; i++)
        if ((f->f[i].name_len ? f->f[i].name_len : strlen(f->f[i].name)) == len && !strncasecmp(f->f[i].name, name, len))
            return true;
    return false;
}

/* There is none of that name yet. */
INLINE void add_given(struct fields *f, const char *name, struct slice value)
{
    if (value.p)
        add_mem(f, name, 0, value.p, value.len);
}

/* The first of that name, one of the above, stays. */
INLINE void add_once(struct fields *f, const char *name, struct slice value)
{
    if (value.p && !said(f, name))
        add_mem(f, name, 0, value.p, value.len);
}

static bool asked_for(const struct header_rule *rules, const struct http_field *h, struct buf *line)
{
    const size_t none = SECRETS;
    size_t which = none;

    for (size_t i = 0; i < SECRETS; i++)
        if (is(&h->name, secret[i]))
            which = i;
    buf_reset(line);
    buf_add(line, h->name.p, h->name.len);
    buf_add(line, ": ", 2);
    buf_add(line, h->value.p, h->value.len);
    for (const struct header_rule *r = rules; r; r = r->next)
        if ((which == none || r->names[which]) && filter_match(r->filter, line->p, line->len))
            return true;
    return false;
}

static bool hex(const char *p, size_t len)
{
    bool zero = true;

    for (size_t i = 0; i < len; i++) {
        if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f')))
            return false;
        zero &= p[i] == '0';
    }
    return !zero;
}

/* version-format of the W3C's Trace Context: 00-TRACE-PARENT-FLAGS; later versions begin likewise. */
static void add_trace(struct fields *f, struct slice v)
{
    if (v.len < 55 || (v.len > 55 && (!memcmp(v.p, "00", 2) || v.p[55] != '-')) || v.p[2] != '-' || v.p[35] != '-' ||
        v.p[52] != '-' || !memcmp(v.p, "ff", 2) || !hex(v.p + 3, 32) || !hex(v.p + 36, 16))
        return;
    add_once(f, trace_id, (struct slice){v.p + 3, 32});
    add_once(f, parent_id, (struct slice){v.p + 36, 16});
}

/* A header field of the request says who the client is, or the proxy in front of it, by a PROXY header. */
static void add_client(struct fields *f, const struct stream *s, char text[INET6_ADDRSTRLEN])
{
    const union address *client = s->sock ? s->sock->client : NULL;
    unsigned port;
    size_t len = client ? report_address(client, text, &port) : 0;

    if (len)
        add_once(f, client_ip, (struct slice){text, len});
}

/* What is told anyway, under a name of ours, is not told under its own as well; nor may a header field be taken for one of
 * ours, whatever its sender calls it. */
static bool told_otherwise(const struct http_field *h)
{
    static const char *const names[] = {"host", "user-agent", "x-forwarded-for", "content-length", "x-appscope",
                                        "trace_id", "parent_id"};
    static const char *const prefixes[] = {"http_", "net_", "rpc_"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (is(&h->name, names[i]))
            return true;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
        if (h->name.len > strlen(prefixes[i]) && !strncasecmp(h->name.p, prefixes[i], strlen(prefixes[i])))
            return true;
    return false;
}

/* Header fields that are reported. Names of those that the user asked for are put into `names`, NUL-terminated. */
static void add_headers(struct fields *f, const struct pipeline *pl, const struct http_head *head, struct buf *names,
                        struct buf *line)
{
    for (size_t i = 0; i < head->field_count; i++) {
        const struct http_field *h = &head->fields[i];

        if (h->name.len < 10 || h->name.len > 15)
            continue;
        if (http_name_is(h->name, "user-agent"))
            add_once(f, user_agent, h->value);
        else if (http_name_is(h->name, "x-forwarded-for"))
            add_once(f, client_ip, h->value);
        else if (http_name_is(h->name, "x-appscope"))
            add_once(f, x_appscope, h->value);
        else if (!head->response && http_name_is(h->name, "traceparent"))
            add_trace(f, h->value);
    }
    for (size_t i = 0; pl->headers && i < head->field_count; i++) {
        const struct http_field *h = &head->fields[i];
        size_t at = names->len;

        /* the buffer has room for all names: it must not move */
        if (memchr(h->name.p, 0, h->name.len) || told_otherwise(h) || taken(f, h->name.p, h->name.len) ||
            !asked_for(pl->headers, h, line))
            continue;
        buf_add(names, h->name.p, h->name.len);
        buf_char(names, 0);
        add_mem(f, names->p + at, 0, h->value.p, h->value.len);
    }
}

static void make_room(struct buf *names, const struct pipeline *pl, const struct http_head *head)
{
    size_t need = 0;

    if (!pl->headers)
        return;
    for (size_t i = 0; i < head->field_count; i++)
        need += head->fields[i].name.len + 1;
    buf_room(names, need);
}

static const char *flavor(const struct http_head *head)
{
    static const char *const one[] = {"1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8", "1.9"};

    return head->major >= 2 ? "2.0" : one[head->minor < 10 ? head->minor : 9];
}

/* network.protocol.version */
static const char *version(const struct http_head *head)
{
    return head->major >= 2 ? "2" : flavor(head);
}

/* Stated lengths of 0 are not told with HTTP/1, as ever. */
static bool has_length(const struct http_head *head)
{
    return head->content_length > 0 || (head->content_length == 0 && head->major >= 2);
}

/* In the order of enum http_oddity. */
#define ODDITIES 8u
static const char *const oddity[ODDITIES] = {
    "content_length", "content_length_and_transfer_encoding", "transfer_encoding", "line", "folding", "chunk", "nul", "version",
};

/* What different programs may understand differently (request smuggling). list has to stay. */
static void add_ambiguities(struct fields *f, uint32_t odd, const char *list[ODDITIES])
{
    size_t count = 0;

    for (unsigned i = 0; odd && i < ODDITIES; i++)
        if (odd & 1u << i)
            list[count++] = oddity[i];
    if (count)
        add_list(f, "http_ambiguities", list, count);
}

static void add_sock(struct fields *f, const struct stream *s, struct address_texts *t)
{
    size_t first = f->n;

    stream_net_fields(f, s, t);
    if (s->sock && s->sock->domain == AF_UNIX && f->n > first) /* the inodes tell nothing here */
        f->n = first + 1;
}

static struct slice target_of_metrics(struct slice target)
{
    const char *query = target.len ? memchr(target.p, '?', target.len) : NULL;

    if (query)
        target.len = (size_t)(query - target.p);
    if (target.len > TARGET_MAX)
        target.len = TARGET_MAX;
    return target;
}

/* What a copy of the fields needs for its texts: values, and those names that are the message's, which are in `names`. */
static size_t text_size(const struct fields *f, const struct buf *names)
{
    size_t size = names->len;

    for (size_t i = 0; i < f->n; i++)
        size += f->f[i].type == TM_STR ? f->f[i].v.str.len : 0;
    return size;
}

/* A copy that outlives the message. */
static void copy_fields(struct tm_field *copy, char *texts, const struct fields *f, const struct buf *names)
{
    for (size_t i = 0; i < f->n; i++) {
        struct tm_field *c = &copy[i];

        *c = f->f[i];
        if (names->len && c->name >= names->p && c->name < names->p + names->len) {
            c->name = texts;
            texts = stpcpy(texts, f->f[i].name) + 1;
        }
        if (c->type == TM_STR) {
            c->v.str.p = texts;
            texts = mempcpy(texts, f->f[i].v.str.p, c->v.str.len);
        }
    }
}

/* One that isn't needed any more stays for the next request: mostly a response follows its request before another one
 * comes, so that none costs an allocation. */
#define SPARE_LEAST 512u
#define SPARE_MOST 4096u
static struct kept *spare;

static struct kept *get_kept(size_t size)
{
    struct kept *k = spare;

    if (!k || k->size < size) {
        size = size < SPARE_LEAST ? SPARE_LEAST : size;
        k = xmalloc(size);
        k->size = size;
    } else {
        spare = NULL;
    }
    return k;
}

static void put_kept(struct kept *k)
{
    if (k && k->span)
        span_leave(&k->span->span);
    if (!k || !k->size || k->size > SPARE_MOST || (spare && spare->size >= k->size)) {
        free(k);
        return;
    }
    free(spare);
    spare = k;
}

/* Bytes of a span, with its tracestate, that keep what follows aligned. */
static size_t span_size(const struct http_span *span)
{
    return span ? (sizeof(*span) + span->state_len + 7) & ~(size_t)7 : 0;
}

/* asked: whether it is to have a place for that. span: NULL: there is none; else its tracestate is `state`. */
static struct kept *keep(const struct http_head *head, const struct fields *f, const struct buf *names, bool asked,
                         const struct http_span *span, const char *state)
{
    struct slice target = target_of_metrics(head->target);
    struct kept *k = get_kept(sizeof(*k) + f->n * sizeof(*k->fields) + (asked ? sizeof(*k->asked) : 0) + span_size(span) +
                              target.len + text_size(f, names));
    char *to;

    /* A server pushes what its client would have asked for, and answers it. */
    *k = (struct kept){.size = k->size,
                       .dir = head->pushed ? proto_other(head->dir) : head->dir,
                       .first_ns = head->first_ns,
                       .length = head->content_length,
                       .count = f->n,
                       .target_len = target.len};
    to = (char *)(k->fields + f->n);
    if (asked) {
        k->asked = (struct http_asked *)(void *)to;
        to += sizeof(*k->asked);
    }
    if (span) {
        k->span = (struct http_span *)(void *)to;
        *k->span = *span;
        memcpy(k->span + 1, state, span->state_len);
        to += span_size(span);
    }
    k->target = to;
    if (target.len)
        to = mempcpy(to, target.p, target.len);
    copy_fields(k->fields, to, f, names);
    return k;
}

/* Names of the request's are in what was kept of it, which stays as long. */
static struct held *hold(const struct fields *f, const struct buf *names, uint64_t time_ns)
{
    struct held *held = xmalloc(sizeof(*held) + f->n * sizeof(struct tm_field) + text_size(f, names));

    held->time_ns = time_ns;
    held->count = f->n;
    copy_fields(held->fields, (char *)(held->fields + f->n), f, names);
    return held;
}

static struct slice copy_slice(struct slice from, char **to)
{
    struct slice copy = {*to, from.len};

    if (!from.p)
        return (struct slice){0};
    *to = mempcpy(*to, from.p, from.len);
    return copy;
}

/* For later, with as many of its fields as fit. */
static struct kept *keep_early(const struct http_head *head)
{
    struct slice reason = {head->reason.p, head->reason.len < EARLY_TEXTS ? head->reason.len : EARLY_TEXTS};
    size_t count = 0, size = reason.len;
    struct kept *k = xcalloc(1, sizeof(*k));
    struct early *e;
    char *to;

    for (; count < head->field_count; count++) {
        size_t more = head->fields[count].name.len + head->fields[count].value.len;

        if (more > EARLY_TEXTS - size)
            break;
        size += more;
    }
    e = xmalloc(sizeof(*e) + count * sizeof(*e->fields) + size);
    e->head = *head;
    e->outcome = -1;
    to = (char *)(e->fields + count);
    e->head.reason = copy_slice(reason, &to);
    for (size_t i = 0; i < count; i++) {
        e->fields[i].name = copy_slice(head->fields[i].name, &to);
        e->fields[i].value = copy_slice(head->fields[i].value, &to);
    }
    e->head.fields = e->fields;
    e->head.field_count = count;
    e->head.early = false;
    k->early = e;
    return k;
}

/* Names as in OpenTelemetry's conventions for RPC. True if the request is a call. */
static bool add_call(struct fields *f, const struct http_head *head)
{
    struct slice service, method;

    if (head->major < 2 || !grpc_is(head) || !grpc_call(head->target, &service, &method))
        return false;
    add_str(f, "rpc_system", 0, "grpc");
    add_mem(f, "rpc_service", 0, service.p, service.len);
    add_mem(f, "rpc_method", 0, method.p, method.len);
    return true;
}

static void add_outcome(struct fields *f, int status)
{
    if (status >= 0)
        add_int(f, "rpc_grpc_status_code", 0, status);
}

/* --- what the decoders tell --- */

/* What histograms and the span are told of the request: found once, if there is a place for it. */
static const struct http_asked *asked_of(const struct stream *s, struct kept *k, struct http_asked *room)
{
    struct http_asked *a = k->asked ? k->asked : room;

    if (k->is_asked)
        return a;
    a->server = k->dir == PROTO_RX;
    a->grpc = k->grpc;
    a->version = k->version;
    a->method = a->target = a->scheme = a->host = a->agent = a->client = (struct slice){0};
    for (const struct tm_field *f = k->fields, *end = f + k->count; f < end; f++) {
        struct slice *to = f->name == http_method ? &a->method : f->name == http_target ? &a->target :
                           f->name == http_scheme ? &a->scheme : f->name == http_host   ? &a->host :
                           f->name == user_agent  ? &a->agent  : f->name == client_ip   ? &a->client : NULL;

        if (to)
            *to = (struct slice){f->v.str.p, f->v.str.len};
    }
    http_asked_whom(a, s);
    k->is_asked = k->asked != NULL;
    return a;
}

static struct slice method_of(const struct kept *k)
{
    const struct tm_field *f = k->count ? k->fields : NULL;

    return f && f->name == http_method ? (struct slice){f->v.str.p, f->v.str.len} : (struct slice){0};
}

/* rpc_status: of a call, -1: not known. error: what became of it instead, or NULL. */
static void tell_metrics(struct stream *s, struct kept *k, const struct answer *a, int rpc_status, const char *error)
{
    struct proc *p = s->p;
    struct tm_exchange x = {.status = a->status, .rpc_status = rpc_status, .is_server = k->dir == PROTO_RX};
    uint64_t time = a->first_ns;
    struct http_asked room;
    struct tm_context id;

    FIELDS(f, 2);
    if (p->pl->exchanges) {
        http_exchange(&x, asked_of(s, k, &room));
        if (k->span) {
            id = span_context(&k->span->span);
            x.trace = id.flags & 1 ? &id : NULL;
        }
        if (error)
            x.error = (struct tm_str){error, strlen(error)};
    } else {
        struct slice method = method_of(k);

        x.method = (struct tm_str){method.p, method.len};
    }
    add_mem(&f, "http_target", 4, k->target, k->target_len);
    report_exchange(p, x.is_server ? TM_HTTP_DURATION_SERVER : TM_HTTP_DURATION_CLIENT,
                    (int64_t)(a->duration_ns / 1000), &x, &f, time);
    if (k->length > 0)
        report_exchange(p, TM_HTTP_REQ_LENGTH, k->length, &x, &f, time);
    if (a->length > 0)
        report_exchange(p, TM_HTTP_RESP_LENGTH, a->length, &x, &f, time);
    add_uint(&f, "http_status_code", 1, a->status);
    report_sample(p, TM_HTTP_REQ, 1, 1, NULL, &f, false, time);
}

/* What waits for the outcome of a call. status: -1: it isn't known, and never will be; error: why. */
static void tell_held(struct stream *s, struct kept *k, int status, const char *error)
{
    FIELDS(f, ROOM);
    if (!k)
        return;
    if (k->unmeasured && s->p)
        tell_metrics(s, k, &k->answer, status, status < 0 ? error : NULL);
    k->unmeasured = false;
    if (!k->held)
        return;
    for (size_t i = 0; i < k->held->count; i++)
        add_field(&f, &k->held->fields[i]);
    add_outcome(&f, status);
    if (s->p)
        report_event(s->p, CFG_EW_HTTP, "http.resp", s->channel, k->held->time_ns, &f);
    free(k->held);
    k->held = NULL;
}

static void *on_response(void *stream, const struct http_head *head, void *kept, uint64_t duration_ns);

/* The response to this request was told before it. */
static struct kept *answer(struct stream *s, struct kept *k, struct kept *early, uint32_t request_odd)
{
    struct early *e = early->early;

    e->head.request_odd = request_odd;
    k = on_response(s, &e->head, k, 0);
    tell_held(s, e->outcome >= 0 ? k : NULL, e->outcome, NULL);
    free(e);
    free(early);
    return k;
}

static void *on_request(void *stream, const struct http_head *head, void *early)
{
    struct stream *s = stream;
    struct proc *p = s->p;
    struct address_texts t;
    struct buf names = BUF_INIT, line = BUF_INIT;
    struct slice scheme = head->scheme;
    const char *odd[ODDITIES];
    char client[INET6_ADDRSTRLEN], state[TRACE_STATE_MAX];
    struct http_span span;
    struct kept *k;
    size_t first;
    bool grpc;

    FIELDS(f, ROOM);
    if (!p)
        return early;
    if (p->pl->runtime)
        runtime_api_request(p->pl->runtime, p, head);
    make_room(&names, p->pl, head);
    if (!scheme.p && head->major < 2)
        scheme = s->tls ? (struct slice){"https", 5} : (struct slice){"http", 4};
    add_given(&f, http_method, head->method);
    add_given(&f, http_target, head->target);
    add_given(&f, http_scheme, scheme);
    first = f.n;
    add_str(&f, "http_flavor", 0, flavor(head));
    add_given(&f, http_host, head->host);
    add_headers(&f, p->pl, head, &names, &line);
    add_client(&f, s, client);
    if (has_length(head))
        add_int(&f, "http_request_content_length", 0, head->content_length);
    grpc = add_call(&f, head);
    if (p->pl->spans)
        http_span_begin(&span, state, s, head, (head->dir == PROTO_RX) != head->pushed);
    k = keep(head, &f, &names, p->pl->spans || p->pl->exchanges, p->pl->spans ? &span : NULL, state);
    k->grpc = grpc;
    k->version = version(head);
    if (k->span && k->dir == PROTO_RX)
        span_enter(&k->span->span, p, s->tid);
    /* the response has a flavor of its own */
    memmove(k->fields + first, k->fields + first + 1, (k->count - first - 1) * sizeof(*k->fields));
    k->count--;
    k->first = first;
    if (p->pl->ev_http_req) {
        if (head->major >= 2) {
            add_uint(&f, "http_stream", 0, head->stream);
            add_str(&f, "http_frame", 0, head->pushed ? "PUSH_PROMISE" : "HEADERS");
        }
        add_ambiguities(&f, head->odd, odd);
        add_sock(&f, s, &t);
        report_event(p, CFG_EW_HTTP, "http.req", s->channel, head->first_ns, &f);
    }
    buf_free(&names);
    buf_free(&line);
    return early ? answer(s, k, early, head->odd) : k;
}

static void response_event(struct stream *s, const struct http_head *head, struct kept *k, uint64_t duration_ns)
{
    bool grpc = head->major >= 2 && grpc_is(head);
    int outcome = grpc ? grpc_status(head->fields, head->field_count) : -1;
    const char *text = head->major >= 2 ? http_status_text(head->status) : NULL;
    bool server = k ? k->dir == PROTO_RX : head->dir == PROTO_TX;
    struct buf names = BUF_INIT, line = BUF_INIT;
    const char *odd[ODDITIES];
    struct address_texts t;

    FIELDS(f, ROOM);
    make_room(&names, s->p->pl, head);
    for (size_t i = 0; k && i < k->first; i++)
        add_field(&f, &k->fields[i]);
    add_str(&f, "http_flavor", 0, flavor(head));
    add_uint(&f, "http_status_code", 0, head->status);
    if (head->major >= 2)
        add_str(&f, "http_status_text", 0, text ? text : "UNKNOWN");
    else
        add_mem(&f, "http_status_text", 0, head->reason.p, head->reason.len);
    if (k)
        add_uint(&f, server ? "http_server_duration" : "http_client_duration", 0, duration_ns / 1000000);
    for (size_t i = k ? k->first : 0; k && i < k->count; i++)
        add_field(&f, &k->fields[i]);
    add_headers(&f, s->p->pl, head, &names, &line);
    if (has_length(head))
        add_int(&f, "http_response_content_length", 0, head->content_length);
    if (head->major >= 2)
        add_uint(&f, "http_stream", 0, head->stream);
    add_sock(&f, s, &t);
    add_outcome(&f, outcome);
    if (!grpc) /* what is held has no lists, and gRPC is HTTP/2, where little is ambiguous */
        add_ambiguities(&f, head->odd | head->request_odd, odd);
    if (grpc && outcome < 0 && k && k->grpc && !k->held)
        k->held = hold(&f, &names, head->first_ns);
    else
        report_event(s->p, CFG_EW_HTTP, "http.resp", s->channel, head->first_ns, &f);
    buf_free(&names);
    buf_free(&line);
}

static void *on_response(void *stream, const struct http_head *head, void *kept, uint64_t duration_ns)
{
    struct stream *s = stream;
    struct kept *k = kept;
    int outcome;

    if (!s->p || head->interim)
        return k;
    if (head->early && !k)
        return keep_early(head);
    if (k && s->p->pl->runtime && k->dir == PROTO_TX && head->dir == PROTO_RX)
        runtime_api_response(s->p->pl->runtime, (struct slice){k->target, k->target_len}, head);
    if (s->p->pl->ev_http_resp)
        response_event(s, head, k, duration_ns);
    if (!k)
        return NULL;
    k->answer = (struct answer){head->first_ns, duration_ns, head->content_length, head->status};
    outcome = k->grpc ? grpc_status(head->fields, head->field_count) : -1;
    if (k->grpc && outcome < 0)
        k->unmeasured = true;
    else
        tell_metrics(s, k, &k->answer, outcome, NULL);
    if (k->held || k->unmeasured || k->span || head->status == 101) /* an upgrade to HTTP/2 goes on with the request */
        return k;
    put_kept(k);
    return NULL;
}

static void on_trailers(void *stream, void *kept, bool response, const struct http_field *fields, size_t count)
{
    struct kept *k = kept;

    if (response && k && k->early)
        k->early->outcome = grpc_status(fields, count);
    else if (response)
        tell_held(stream, k, grpc_status(fields, count), HTTP_NO_STATUS);
}

/* Chunks, of which only their sizes say that they are odd: their messages have been told. */
static void note_ambiguities(struct stream *s, const struct http_totals *totals)
{
    const char *odd[ODDITIES];
    struct address_texts t;

    FIELDS(f, ROOM);
    add_ambiguities(&f, totals->late_odd, odd);
    if (totals->status)
        add_uint(&f, "http_status_code", 0, totals->status);
    add_sock(&f, s, &t);
    report_event(s->p, CFG_EW_HTTP, "http.note", s->channel, totals->end_ns, &f);
}

static void on_done(void *stream, void *kept, const struct http_totals *totals)
{
    struct stream *s = stream;
    struct kept *k = kept;
    struct http_asked room;

    if (k && k->early) { /* nobody has asked for it */
        on_response(stream, &k->early->head, NULL, 0);
        free(k->early);
    } else {
        tell_held(stream, k, -1, totals->answered ? HTTP_NO_STATUS : HTTP_INCOMPLETE); /* it was given up */
        if (k && k->span && s->p)
            http_span_end(k->span, s, asked_of(s, k, &room), k->length, totals);
    }
    if (totals->late_odd && s->p && s->p->pl->ev_http_note)
        note_ambiguities(s, totals);
    put_kept(k);
}

/* --- the rows --- */

static const struct http_sink sink;

static void on_upgraded(void *stream, struct slice to, void *kept)
{
    struct stream *s = stream;
    const struct kept *k = kept;

    if (!to.p && s->p) {
        stream_anew(s);
    } else if (to.p && to.len == 3 && !memcmp(to.p, "h2c", 3)) {
        struct http2 *http2 = http2_new(&sink, s, false);

        if (k && !k->early)
            http2_upgraded(http2, k->dir, kept, k->first_ns);
        stream_becomes(s, &protocol_http2, http2);
    } else {
        stream_stops(s);
    }
}

static void on_rest(void *stream, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    stream_rest(stream, dir, data, len, time_ns);
}

static void on_note(void *stream, enum http_note note, uint64_t count)
{
    ((struct stream *)stream)->uncounted = true;
    switch (note) {
    case HTTP_NOTE_JOINED: break;
    case HTTP_NOTE_LOST: stream_lost(stream, LK_TRAFFIC, count); break;
    case HTTP_NOTE_UNMATCHED: stream_lost(stream, LK_MESSAGE, count); break;
    case HTTP_NOTE_NOT_HTTP: stream_stops(stream); break;
    }
}

static const struct http_sink sink = {.request = on_request,
                                      .response = on_response,
                                      .trailers = on_trailers,
                                      .done = on_done,
                                      .upgraded = on_upgraded,
                                      .rest = on_rest,
                                      .note = on_note};

static const char *const events[] = {"http.req", "http.resp", "http.note", NULL};
static const enum tm_metric metrics[] = {TM_HTTP_REQ, TM_HTTP_DURATION_SERVER, TM_HTTP_DURATION_CLIENT,
                                         TM_HTTP_REQ_LENGTH, TM_HTTP_RESP_LENGTH};
#define TELLS                                                                                                          \
    .watch = CFG_EW_HTTP, .spans = true, .events = events, .metrics = metrics, .metric_count = sizeof(metrics) / sizeof(*metrics),    \
    .marks = SOCKF_HTTP

static void *new1(struct stream *s, const struct protocol_start *how)
{
    return http1_new(&sink, s, s->joined);
}

static void feed1(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    http1_feed(decoder, dir, data, len, time_ns);
}

static uint64_t skip1(const void *decoder, enum proto_dir dir)
{
    return http1_skip(decoder, dir);
}

static void end1(void *decoder, struct stream *s, enum proto_dir dir, uint64_t time_ns)
{
    http1_end(decoder, dir, time_ns);
}

static void free1(void *decoder, uint64_t time_ns)
{
    http1_free(decoder, time_ns);
}

static int looks_like1(const uint8_t *data, size_t len, bool whole)
{
    return http1_detect(data, len);
}

const struct protocol protocol_http1 = {
    .detect = {.name = "HTTP", .stream = looks_like1, .replaceable = true, .unmistakable = true},
    TELLS,
    .runtime = true,
    .prepare = prepare,
    .unprepare = unprepare,
    .new = new1,
    .feed = feed1,
    .skip = skip1,
    .end = end1,
    .free = free1,
};

static void *new2(struct stream *s, const struct protocol_start *how)
{
    return http2_new(&sink, s, s->joined);
}

static void feed2(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    http2_feed(decoder, dir, data, len, time_ns);
}

static uint64_t skip2(const void *decoder, enum proto_dir dir)
{
    return http2_skip(decoder, dir);
}

static void end2(void *decoder, struct stream *s, enum proto_dir dir, uint64_t time_ns)
{
    http2_end(decoder, dir, time_ns);
}

static void free2(void *decoder, uint64_t time_ns)
{
    http2_free(decoder, time_ns);
}

static int looks_like2(const uint8_t *data, size_t len, bool whole)
{
    return http2_detect(data, len);
}

const struct protocol protocol_http2 = {
    .detect = {.name = "HTTP", .stream = looks_like2, .replaceable = true, .unmistakable = true},
    TELLS,
    .new = new2,
    .feed = feed2,
    .skip = skip2,
    .end = end2,
    .free = free2,
};
