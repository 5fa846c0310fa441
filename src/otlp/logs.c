/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/logs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "event/fields.h"
#include "otlp/attribute.h"
#include "otlp/batch.h"
#include "otlp/pb.h"
#include "otlp/severity.h"
#include "protocol/url.h"

/* LogRecord */
enum {
    TIME = 1, SEVERITY_NUMBER, SEVERITY_TEXT, BODY = 5, ATTRIBUTES, DROPPED_ATTRIBUTES, FLAGS, TRACE_ID, SPAN_ID,
    OBSERVED_TIME, EVENT_NAME,
};

#define OURS    "appscope."
#define KEY_MAX 256

bool otlp_log_is_crash(const struct ev_record *r)
{
    return r->kind == EV_EVENT && strcmp(r->source, "proc.crash") == 0;
}

/* --- attributes of events --- */

enum as {
    SAME,      /* its value as it is */
    LEFT_OUT,  /* the resource says it, or another part of the record */
    OCTAL,     /* decimal digits that are those of an octal number: 644 */
    DIGITS,    /* a number as text */
    TRANSPORT, /* IP.TCP */
    SMALL,     /* in lower case */
    VERSION,   /* 2.0: "2" */
    METHOD,    /* of HTTP */
    TARGET,    /* path and query */
    RPC_METHOD,
    RPC_STATUS,
};

/* Fields of events that semantic conventions have a name for. In order: bsearch(). */
static const struct name {
    const char *field, *key;
    enum as as;
} names[] = {
    {"_metric", NULL, LEFT_OUT},
    {"_metric_type", OURS "metric.type", SAME},
    {"_value", OURS "metric.value", SAME},
    {"addrs", "dns.answers", SAME},
    {"args", "process.command_args", SAME},
    {"containerId", "container.id", SAME},
    {"cwd", "process.working_directory", SAME},
    {"domain", "dns.question.name", SAME},
    {"errno", "error.type", SAME},
    {"error", "error.type", SAME},
    {"exe", "process.executable.path", SAME},
    {"exit_code", "process.exit.code", SAME},
    {"file", "file.path", SAME},
    {"file_group", "file.group.id", DIGITS},
    {"file_mode", "file.mode", SAME},
    {"file_owner", "file.owner.id", DIGITS},
    {"file_perms", "file.mode", OCTAL},
    {"host", NULL, LEFT_OUT},
    {"http_flavor", "network.protocol.version", VERSION},
    {"http_method", "http.request.method", METHOD},
    {"http_request_content_length", "http.request.body.size", SAME},
    {"http_response_content_length", "http.response.body.size", SAME},
    {"http_scheme", "url.scheme", SAME},
    {"http_status_code", "http.response.status_code", SAME},
    {"http_target", "url.path", TARGET},
    {"http_user_agent", "user_agent.original", SAME},
    {"net_client_ip", "client.address", SAME},
    {"net_client_port", "client.port", SAME},
    {"net_host_ip", "network.local.address", SAME},
    {"net_host_port", "network.local.port", SAME},
    {"net_peer_ip", "network.peer.address", SAME},
    {"net_peer_port", "network.peer.port", SAME},
    {"net_protocol", "network.protocol.name", SAME},
    {"net_transport", "network.transport", TRANSPORT},
    {"pid", NULL, LEFT_OUT},
    {"ppid", "process.parent_pid", SAME},
    {"proc", NULL, LEFT_OUT},
    {"proc_cgroup", NULL, LEFT_OUT},
    {"proc_gid", NULL, LEFT_OUT},
    {"proc_uid", NULL, LEFT_OUT},
    {"protocol", "network.protocol.name", SMALL},
    {"rpc_grpc_status_code", "rpc.status_code", RPC_STATUS},
    {"rpc_method", "rpc.method", RPC_METHOD},
    {"rpc_service", NULL, LEFT_OUT},
    {"rpc_system", "rpc.system.name", SAME},
    {"thread", "thread.name", SAME},
    {"tid", "thread.id", SAME},
    {"title", "process.title", SAME},
    {"tls_cipher", "tls.cipher", SAME},
    {"tls_client_server_name", "server.address", SAME},
    {"tls_next_protocol", "tls.next_protocol", SAME},
    {"tls_protocol_version", "tls.protocol.version", SAME},
    {"tls_resumed", "tls.resumed", SAME},
    {"uid", "process.user.id", SAME},
    {"username", "process.user.name", SAME},
};

static int by_field(const void *key, const void *name)
{
    return strcmp(key, ((const struct name *)name)->field);
}

static const struct tm_field *field_of(const struct ev_record *r, const char *name)
{
    for (size_t i = 0; i < r->field_count; i++)
        if (r->fields[i].name && strcmp(r->fields[i].name, name) == 0)
            return &r->fields[i];
    return NULL;
}

/* What is being written. */
struct record {
    struct buf *b;
    const struct ev_record *r;
    size_t told, dropped; /* attributes */
    bool http;
};

static bool room(struct record *w)
{
    if (w->told < OTLP_ATTRIBUTES_MAX) {
        w->told++;
        return true;
    }
    w->dropped++;
    return false;
}

static void text(struct record *w, const char *key, const char *s, size_t len)
{
    if (room(w))
        otlp_attr_text(w->b, ATTRIBUTES, key, s, len);
}

static void small(struct record *w, const char *key, const char *s, size_t len)
{
    char out[64];

    if (len > sizeof(out))
        len = sizeof(out);
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] | 32 : s[i]);
    text(w, key, out, len);
}

static void transport(struct record *w, const char *key, const char *s, size_t len)
{
    if (len > 5 && memcmp(s, "Unix.", 5) == 0)
        text(w, key, "unix", 4);
    else if (len > 3 && memcmp(s, "IP.", 3) == 0)
        small(w, key, s + 3, len - 3);
    else
        small(w, key, s, len);
}

/* Those of RFC 9110 and RFC 5789; others may be anything, and must not be values of the attribute. */
static void method(struct record *w, const char *key, const char *s, size_t len)
{
    static const char *const known[] = {"GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"};

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (strlen(known[i]) == len && memcmp(known[i], s, len) == 0) {
            text(w, key, s, len);
            return;
        }
    text(w, key, "_OTHER", 6);
    text(w, "http.request.method_original", s, len);
}

/* Without what nobody must get to see. */
static void target(struct record *w, const char *key, const char *s, size_t len)
{
    const struct tm_field *asked = field_of(w->r, "http_method");
    struct buf struck = BUF_INIT;
    struct url_target url;
    struct slice query;

    url_target((struct slice){s, len}, asked && asked->type == TM_STR && asked->v.str.len == 7 && memcmp(asked->v.str.p, "CONNECT", 7) == 0,
               &url);
    if (url.path.p)
        text(w, key, url.path.p, url.path.len);
    if (url.query.p) {
        query = url_strike(url.query, &struck);
        text(w, "url.query", query.p, query.len);
    }
    buf_free(&struck);
}

static void rpc_method(struct record *w, const char *key, const char *s, size_t len)
{
    const struct tm_field *service = field_of(w->r, "rpc_service");
    char full[OTLP_VALUE_MAX];

    if (!service || service->type != TM_STR || service->v.str.len + 1 + len > sizeof(full)) {
        text(w, key, s, len);
        return;
    }
    memcpy(full, service->v.str.p, service->v.str.len);
    full[service->v.str.len] = '/';
    memcpy(full + service->v.str.len + 1, s, len);
    text(w, key, full, service->v.str.len + 1 + len);
}

static void rpc_status(struct record *w, const char *key, uint64_t n)
{
    static const char *const known[] = {
        "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
        "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
        "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
    };
    char digits[24];

    if (n < sizeof(known) / sizeof(*known))
        text(w, key, known[n], strlen(known[n]));
    else
        text(w, key, digits, (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, n));
}

static void same(struct record *w, const char *key, const struct tm_field *f)
{
    if (room(w))
        otlp_attr_field(w->b, ATTRIBUTES, key, f);
}

/* No convention has a name for it: ours. */
static void own(struct record *w, const struct tm_field *f)
{
    char key[sizeof(OURS) + KEY_MAX];

    snprintf(key, sizeof(key), OURS "%.*s", KEY_MAX, f->name);
    same(w, key, f);
}

static bool is_number(const struct tm_field *f) { return f->type == TM_INT || f->type == TM_UINT; }

static void attribute(struct record *w, const struct tm_field *f)
{
    const struct name *n = bsearch(f->name, names, sizeof(names) / sizeof(*names), sizeof(*names), by_field);
    char digits[24];

    /* Fields of a head that the user wants to see have the names that they have there. */
    if (w->http && strncmp(f->name, "http_", 5) != 0 && strncmp(f->name, "net_", 4) != 0 && strncmp(f->name, "rpc_", 4) != 0 &&
        !(n && n->as == LEFT_OUT))
        n = NULL;
    if (!n) {
        own(w, f);
        return;
    }
    if (f->type == TM_STR && f->v.str.p) {
        const char *s = f->v.str.p;
        size_t len = f->v.str.len;

        switch (n->as) {
        case TRANSPORT:
            transport(w, n->key, s, len);
            return;
        case SMALL:
            small(w, n->key, s, len);
            return;
        case VERSION:
            text(w, n->key, s, len == 3 && s[0] >= '2' && s[1] == '.' && s[2] == '0' ? 1 : len);
            return;
        case METHOD:
            method(w, n->key, s, len);
            return;
        case TARGET:
            target(w, n->key, s, len);
            return;
        case RPC_METHOD:
            rpc_method(w, n->key, s, len);
            return;
        default:
            break;
        }
    } else if (is_number(f)) {
        if (n->as == RPC_STATUS) {
            rpc_status(w, n->key, f->v.u);
            return;
        }
        if (n->as == OCTAL || n->as == DIGITS) {
            text(w, n->key, digits, (size_t)snprintf(digits, sizeof(digits), n->as == OCTAL ? "%04" PRIu64 : "%" PRIu64, f->v.u));
            return;
        }
    }
    if (n->as != LEFT_OUT)
        same(w, n->key, f);
}

/* --- a crash: exception.* --- */

static void add_part(struct buf *b, const char *before, const struct tm_field *f)
{
    if (!f || f->type != TM_STR || !f->v.str.len)
        return;
    if (b->len)
        buf_str(b, before);
    buf_add(b, f->v.str.p, f->v.str.len);
}

static void crash(struct record *w)
{
    const struct tm_field *signal = field_of(w->r, "signal"), *status = field_of(w->r, "exit_code"), *frames = field_of(w->r, "frames");
    struct buf b = BUF_INIT;

    if (signal) {
        same(w, "exception.type", signal);
        add_part(&b, "", field_of(w->r, "code"));
    } else if (status && is_number(status)) {
        buf_printf(&b, "exit status %" PRId64, status->v.i);
    }
    add_part(&b, ": ", field_of(w->r, "where"));
    add_part(&b, "; ", field_of(w->r, "at"));
    text(w, "exception.message", b.p, b.len);
    if (frames && frames->type == TM_STRLIST) {
        buf_reset(&b);
        for (size_t i = 0; i < frames->v.list.count; i++) {
            if (i)
                buf_char(&b, '\n');
            buf_str(&b, frames->v.list.p[i]);
        }
        text(w, "exception.stacktrace", b.p, b.len);
    }
    for (size_t i = 0; i < w->r->field_count; i++) {
        const struct tm_field *f = &w->r->fields[i];

        if (!tm_is_group(f) && f != signal && f != frames)
            attribute(w, f);
    }
    buf_free(&b);
}

/* --- the record --- */

static void severity(struct buf *b, unsigned number, const char *name, size_t len)
{
    pb_uint(b, SEVERITY_NUMBER, number);
    pb_string(b, SEVERITY_TEXT, name, len);
}

/* A line of output: its text is all that there is. */
static void line(struct record *w)
{
    const struct ev_record *r = w->r;
    const struct tm_field *f = r->field_count ? &r->fields[0] : NULL;
    struct tm_str level;
    unsigned number;

    if (f && f->type == TM_STR) {
        size_t len = f->v.str.p ? f->v.str.len : 0;

        if (otlp_severity(f->v.str.p, len, &number, &level))
            severity(w->b, number, level.p, level.len);
        otlp_text(w->b, BODY, f->v.str.p, len);
    }
    if (otlp_log_watch(r) == CFG_EW_CONSOLE) {
        text(w, "log.iostream", r->source, strlen(r->source));
    } else {
        const char *slash = strrchr(r->source, '/');

        text(w, "log.file.path", r->source, strlen(r->source));
        text(w, "log.file.name", slash ? slash + 1 : r->source, strlen(slash ? slash + 1 : r->source));
    }
}

static void event(struct record *w)
{
    const struct ev_record *r = w->r;
    bool notice = otlp_log_watch(r) == CFG_EW_NOTICE;
    const struct tm_field *said = field_of(r, notice ? "why" : "text");

    if (otlp_log_is_crash(r)) {
        severity(w->b, OTLP_FATAL, "FATAL", 5);
        crash(w);
        return;
    }
    if (notice)
        severity(w->b, OTLP_WARN, "WARN", 4);
    if (said && said->type == TM_STR)
        otlp_text(w->b, BODY, said->v.str.p, said->v.str.p ? said->v.str.len : 0);
    for (size_t i = 0; i < r->field_count; i++)
        if (!tm_is_group(&r->fields[i]) && !(said && said->type == TM_STR && &r->fields[i] == said))
            attribute(w, &r->fields[i]);
}

void otlp_log(struct buf *b, const struct ev_record *r, uint64_t observed_ns)
{
    struct record w = {.b = b, .r = r};
    enum cfg_event_watch watch = otlp_log_watch(r);
    size_t at = pb_begin(b, OTLP_ITEM);

    w.http = watch == CFG_EW_HTTP;
    pb_fixed64(b, TIME, r->time_ns);
    if (r->kind == EV_NOTICE) {
        severity(b, OTLP_WARN, "WARN", 4);
        otlp_text(b, BODY, r->text, r->text_len);
        pb_str(b, EVENT_NAME, r->source);
    } else if (watch == CFG_EW_CONSOLE || watch == CFG_EW_FILE) {
        line(&w);
    } else {
        event(&w);
        pb_str(b, EVENT_NAME, r->source);
    }
    if (r->channel && room(&w))
        otlp_attr_int(b, ATTRIBUTES, OURS "channel", (int64_t)r->channel);
    if (w.dropped)
        pb_uint(b, DROPPED_ATTRIBUTES, w.dropped);
    if (r->trace) {
        pb_fixed32(b, FLAGS, r->trace->flags);
        pb_bytes(b, TRACE_ID, r->trace->trace_id, sizeof(r->trace->trace_id));
        pb_bytes(b, SPAN_ID, r->trace->span_id, sizeof(r->trace->span_id));
    }
    pb_fixed64(b, OBSERVED_TIME, observed_ns > r->time_ns ? observed_ns : r->time_ns);
    pb_end(b, at);
}
