/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OTLP over gRPC (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md) with libnghttp2's client session: one connection, one
 * call at a time. Plain connections begin with HTTP/2 at once (RFC 9113, 3.3), TLS offers h2.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <nghttp2/nghttp2.h>

#include "base/mem.h"
#include "output/otlp_internal.h"
#include "version.h"

#define HEADER_BYTES  ((size_t)16 * 1024) /* of one answer, as HPACK counts them */
#define MESSAGE_BYTES ((size_t)64 * 1024)
#define UNASKED_BYTES ((size_t)256 * 1024) /* of all frames between the end of one call and that of the next */
#define FRAME_HEAD    9

enum grpc_code {
    GRPC_OK, GRPC_CANCELLED, GRPC_UNKNOWN, GRPC_INVALID_ARGUMENT, GRPC_DEADLINE_EXCEEDED, GRPC_NOT_FOUND,
    GRPC_ALREADY_EXISTS, GRPC_PERMISSION_DENIED, GRPC_RESOURCE_EXHAUSTED, GRPC_FAILED_PRECONDITION, GRPC_ABORTED,
    GRPC_OUT_OF_RANGE, GRPC_UNIMPLEMENTED, GRPC_INTERNAL, GRPC_UNAVAILABLE, GRPC_DATA_LOSS, GRPC_UNAUTHENTICATED,
    GRPC_CODES
};

static const char *const code_names[GRPC_CODES] = {
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
};

static const char *const paths[CFG_OTLP_MAX] = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
};

/* Of one connection. */
struct grpc {
    nghttp2_session *session;
    const struct buf *body;    /* of the request */
    const uint8_t *out;        /* what the session wants to have written, until it is asked again */
    size_t out_len, out_sent;
    unsigned char first[FRAME_HEAD]; /* what came first */
    size_t first_len;
    bool goaway;
    size_t taken;              /* bytes that came since the call before was over */
    char problem[120];         /* what the session has found fault with */

    /* The call. */
    int32_t stream;            /* -1: none */
    size_t body_sent;
    bool answered;             /* to its end */
    bool closed;
    uint32_t error;            /* RST_STREAM's, if closed without an answer */
    int http_status;           /* 0: none yet */
    int code;                  /* grpc-status, -1: none */
    bool is_grpc;              /* by its Content-Type */
    bool too_long;
    size_t header_bytes;
    size_t message_len, details_len;
    char message[256], details[4096], retry_after[48];
    struct buf answer;
};

void grpc_free(struct grpc *g)
{
    if (!g)
        return;
    nghttp2_session_del(g->session);
    buf_free(&g->answer);
    free(g);
}

/* --- the session's callbacks --- */

static bool is(const uint8_t *name, size_t n, const char *text)
{
    return n == strlen(text) && memcmp(name, text, n) == 0;
}

static size_t keep(char *to, size_t size, const uint8_t *value, size_t n)
{
    n = n < size ? n : size - 1;
    memcpy(to, value, n);
    to[n] = 0;
    return n;
}

static int number(const uint8_t *value, size_t n)
{
    int v = 0;

    if (!n || n > 3)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9')
            return -1;
        v = v * 10 + value[i] - '0';
    }
    return v;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t len, uint8_t flags, void *ctx)
{
    struct grpc *g = ctx;

    if (frame->hd.stream_id != g->stream)
        return 0;
    g->header_bytes += name_len + len + 32; /* RFC 9113, 6.5.2 */
    if (g->header_bytes > HEADER_BYTES)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (is(name, name_len, ":status")) {
        g->http_status = number(value, len);
    } else if (is(name, name_len, "grpc-status")) {
        g->code = number(value, len);
        if (g->code < 0 || g->code >= GRPC_CODES)
            g->code = GRPC_UNKNOWN;
    } else if (is(name, name_len, "grpc-message")) {
        g->message_len = keep(g->message, sizeof(g->message), value, len);
    } else if (is(name, name_len, "grpc-status-details-bin")) {
        g->details_len = len < sizeof(g->details) ? keep(g->details, sizeof(g->details), value, len) : 0;
    } else if (is(name, name_len, "content-type")) {
        g->is_grpc = len >= 16 && memcmp(value, "application/grpc", 16) == 0;
    } else if (is(name, name_len, "retry-after")) {
        keep(g->retry_after, sizeof(g->retry_after), value, len);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t n, void *ctx)
{
    struct grpc *g = ctx;

    if (stream != g->stream || g->too_long)
        return 0;
    if (g->answer.len + n > MESSAGE_BYTES)
        g->too_long = true;
    else
        buf_add(&g->answer, bytes, n);
    return 0;
}

static void note_goaway(struct grpc *g, const char *who, const nghttp2_goaway *frame)
{
    size_t len = frame->opaque_data_len < 60 ? frame->opaque_data_len : 60;

    if (frame->error_code != NGHTTP2_NO_ERROR)
        snprintf(g->problem, sizeof(g->problem), "%s %s%s%.*s", who, nghttp2_http2_strerror(frame->error_code),
                 len ? ": " : "", (int)len, len ? (const char *)frame->opaque_data : "");
}

/* The session ends the connection because of what it got. */
static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    if (frame->hd.type == NGHTTP2_GOAWAY)
        note_goaway(ctx, "HTTP/2:", &frame->goaway);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct grpc *g = ctx;

    if (frame->hd.type == NGHTTP2_GOAWAY) {
        g->goaway = true;
        note_goaway(g, "it says GOAWAY", &frame->goaway);
    }
    if (frame->hd.stream_id == g->stream && frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
        (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA))
        g->answered = true;
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t error, void *ctx)
{
    struct grpc *g = ctx;

    if (stream != g->stream)
        return 0;
    g->closed = true;
    g->error = error;
    return 0;
}

static int on_error(nghttp2_session *session, int code, const char *text, size_t n, void *ctx)
{
    struct grpc *g = ctx;

    keep(g->problem, sizeof(g->problem), (const uint8_t *)text, n);
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *to, size_t n, uint32_t *flags,
                         nghttp2_data_source *source, void *ctx)
{
    struct grpc *g = ctx;
    size_t left = g->body->len - g->body_sent;

    if (stream != g->stream) /* one that was given up */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    n = n < left ? n : left;
    memcpy(to, g->body->p + g->body_sent, n);
    g->body_sent += n;
    if (n == left)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

/* The session of this connection. */
static struct grpc *get_session(struct output *o)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_BYTES},
    };
    struct grpc *g = o->otlp->grpc;
    nghttp2_session_callbacks *c;

    if (g)
        return g;
    g = xcalloc(1, sizeof(*g));
    g->body = &o->otlp->body;
    g->stream = -1;
    if (nghttp2_session_callbacks_new(&c) != 0)
        abort(); /* out of memory */
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_close);
    nghttp2_session_callbacks_set_error_callback2(c, on_error);
    if (nghttp2_session_client_new(&g->session, c, g) != 0 ||
        nghttp2_submit_settings(g->session, NGHTTP2_FLAG_NONE, settings, sizeof(settings) / sizeof(*settings)) != 0)
        abort(); /* out of memory */
    nghttp2_session_callbacks_del(c);
    o->otlp->grpc = g;
    return g;
}

/* --- sending --- */

static void add(nghttp2_nv *list, size_t *count, const char *name, const char *value)
{
    list[(*count)++] = (nghttp2_nv){.name = (uint8_t *)name, .namelen = strlen(name), .value = (uint8_t *)value,
                                    .valuelen = strlen(value)};
}

/* Begins the call whose message is in body. 0 or -errno. */
static int call(struct output *o)
{
    struct otlp *e = o->otlp;
    struct grpc *g = e->grpc;
    nghttp2_nv *list = xcalloc(10 + e->header_count, sizeof(*list));
    nghttp2_data_provider data = {.read_callback = read_body};
    const char *host = o->cfg.host ? o->cfg.host : "", *agent = OTLP_USER_AGENT;
    bool v6 = strchr(host, ':');
    char *own = xasprintf("%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", o->cfg.port), *authority = own;
    char timeout[16];
    size_t n = 0;

    for (size_t i = 0; i < e->header_count; i++) {
        if (strcmp(e->headers[i].name, "host") == 0)
            authority = e->headers[i].value;
        else if (strcmp(e->headers[i].name, "user-agent") == 0)
            agent = e->headers[i].value;
    }
    snprintf(timeout, sizeof(timeout), "%u%c", e->timeout_ms < 100000000 ? e->timeout_ms : e->timeout_ms / 1000,
             e->timeout_ms < 100000000 ? 'm' : 'S'); /* eight digits are allowed */
    add(list, &n, ":method", "POST");
    add(list, &n, ":scheme", o->cfg.tls.enable ? "https" : "http");
    add(list, &n, ":path", paths[e->signal]);
    add(list, &n, ":authority", authority);
    add(list, &n, "te", "trailers");
    add(list, &n, "grpc-timeout", timeout);
    add(list, &n, "content-type", "application/grpc");
    if (e->gzip)
        add(list, &n, "grpc-encoding", "gzip");
    add(list, &n, "user-agent", agent);
    for (size_t i = 0; i < e->header_count; i++)
        if (strcmp(e->headers[i].name, "host") != 0 && strcmp(e->headers[i].name, "user-agent") != 0)
            add(list, &n, e->headers[i].name, e->headers[i].value);

    g->body_sent = 0;
    g->answered = g->closed = g->is_grpc = g->too_long = false;
    g->error = 0;
    g->http_status = 0;
    g->code = -1;
    g->header_bytes = g->message_len = g->details_len = 0;
    g->retry_after[0] = 0;
    buf_reset(&g->answer);
    g->stream = nghttp2_submit_request(g->session, NULL, list, n, &data, NULL);
    free(list);
    free(own);
    return g->stream < 0 ? -EPIPE : 0;
}

/* Writes what the session has to say. 0, -EAGAIN with o->want, or another -errno. */
static int flush(struct output *o)
{
    struct grpc *g = o->otlp->grpc;

    for (;;) {
        struct iovec part;
        ssize_t n;

        if (g->out_sent == g->out_len) {
            n = nghttp2_session_mem_send(g->session, &g->out);
            if (n <= 0)
                return n < 0 ? -EPIPE : 0;
            g->out_len = (size_t)n;
            g->out_sent = 0;
        }
        part = (struct iovec){.iov_base = (void *)(g->out + g->out_sent), .iov_len = g->out_len - g->out_sent};
        n = socket_put(o, &part, 1);
        if (n == -ENOBUFS || n == -ENOMEM)
            return -EAGAIN;
        if (n < 0)
            return (int)n;
        g->out_sent += (size_t)n;
    }
}

/* --- answers --- */

/* What a missing grpc-status means (gRPC, doc/http-grpc-status-mapping.md). */
static int code_of_status(int status)
{
    switch (status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

static bool is_passing(int code)
{
    return code == GRPC_CANCELLED || code == GRPC_DEADLINE_EXCEEDED || code == GRPC_ABORTED ||
           code == GRPC_OUT_OF_RANGE || code == GRPC_UNAVAILABLE || code == GRPC_DATA_LOSS;
}

static void accepted(struct output *o)
{
    struct grpc *g = o->otlp->grpc;
    const unsigned char *p = (const unsigned char *)g->answer.p;
    struct otlp_partial partial = {0};
    size_t len;

    if (g->answer.len >= GRPC_PREFIX && !p[0] && !g->too_long) { /* a compressed one wasn't asked for */
        len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
        if (len > g->answer.len - GRPC_PREFIX || !otlp_read_response(g->answer.p + GRPC_PREFIX, len, &partial))
            partial = (struct otlp_partial){0};
    }
    otlp_accepted(o, partial.rejected, partial.message, partial.message_len);
}

/* The answer is complete. */
static int judge(struct output *o)
{
    struct grpc *g = o->otlp->grpc;
    int code = g->code;
    struct otlp_status status = {0};
    char what[128];
    long n;

    if (code < 0) { /* not from gRPC */
        code = g->http_status == 200 ? GRPC_UNKNOWN : code_of_status(g->http_status);
        snprintf(what, sizeof(what), "the receiver answers with %d and no grpc-status (%s): is that a grpc port (4317)?",
                 g->http_status, code_names[code]);
        status.retry_ms = http_retry_after(g->retry_after, time(NULL), OTLP_PAUSE_MS);
    } else if (code == GRPC_OK && g->is_grpc) {
        accepted(o);
        return 0;
    } else if (code == GRPC_OK) {
        code = GRPC_UNKNOWN;
        snprintf(what, sizeof(what), "the answer isn't gRPC");
    } else {
        snprintf(what, sizeof(what), "%s", code_names[code]);
        n = otlp_base64(g->details, g->details_len);
        if (n <= 0 || !otlp_read_status(g->details, (size_t)n, &status))
            status = (struct otlp_status){0};
    }
    g->message_len = otlp_percent(g->message, g->message_len);
    if (is_passing(code) || (code == GRPC_RESOURCE_EXHAUSTED && status.retry))
        return otlp_again(o, status.retry_ms < OTLP_PAUSE_MS ? (unsigned)status.retry_ms : OTLP_PAUSE_MS, what,
                          g->message, g->message_len);
    otlp_refused(o, what, g->message, g->message_len);
    return 0;
}

/* The stream was reset before there was an answer. */
static int judge_reset(struct output *o)
{
    struct grpc *g = o->otlp->grpc;
    char what[256];

    snprintf(what, sizeof(what), "the receiver resets the call (%s)%s%s", nghttp2_http2_strerror(g->error),
             g->problem[0] ? ": " : "", g->problem);
    if (g->error == NGHTTP2_REFUSED_STREAM)
        return otlp_broken(o, what); /* nothing was done with it (RFC 9113, 8.7) */
    if (g->error == NGHTTP2_CANCEL || g->error == NGHTTP2_ENHANCE_YOUR_CALM)
        return otlp_again(o, 0, what, NULL, 0);
    otlp_refused(o, what, NULL, 0);
    return 0;
}

/* What has become of the call, if it is over. */
static int conclude(struct output *o)
{
    struct otlp *e = o->otlp;
    struct grpc *g = e->grpc;
    int rc;

    if (!e->busy)
        return 0;
    if (g->too_long && !g->answered) {
        otlp_refused(o, "the answer is longer than 64 KiB", NULL, 0);
        return -ESTALE;
    }
    if (!g->answered && !g->closed)
        return 0;
    rc = g->answered ? judge(o) : judge_reset(o);
    if (!g->closed) /* it didn't want to have all of the message */
        nghttp2_submit_rst_stream(g->session, NGHTTP2_FLAG_NONE, g->stream, NGHTTP2_CANCEL);
    g->stream = -1;
    g->taken = 0;
    return rc;
}

/* False once it is clear that the other side doesn't speak HTTP/2: it must begin with SETTINGS (RFC 9113, 3.4). */
static bool begins_well(struct grpc *g, const char *p, size_t n)
{
    size_t take = FRAME_HEAD - g->first_len < n ? FRAME_HEAD - g->first_len : n;

    memcpy(g->first + g->first_len, p, take);
    g->first_len += take;
    return g->first_len < FRAME_HEAD || memcmp(g->first + 3, "\4\0\0\0\0\0", 6) == 0;
}

static int lost(struct output *o, const char *why)
{
    struct grpc *g = o->otlp->grpc;
    char text[512];

    if (o->otlp->busy) {
        snprintf(text, sizeof(text), "%.*s%s%s%s%s", (int)sizeof(o->failure), why, g->problem[0] ? ": " : "", g->problem,
                 g->first_len ? "" : " before it said anything: is that a grpc port (4317)?",
                 g->first_len || o->cfg.tls.enable ? "" : " Does it want TLS (grpcs://)?");
        return otlp_broken(o, text);
    }
    if (o->otlp->proven || g->goaway || g->first_len)
        return -ESTALE;
    output_failed(o, "%s", why);
    return -EPIPE;
}

static int grpc_input(struct output *o)
{
    struct otlp *e = o->otlp;
    struct grpc *g = get_session(o);
    char bytes[OTLP_READ], err[120];
    int rc = 0;

    o->want = POLLIN;
    for (int i = 0; i < OTLP_READS; i++) {
        ssize_t n = socket_get(o, bytes, sizeof(bytes), err, sizeof(err)), used;

        if (n == -EAGAIN)
            break;
        if (n < 0) {
            char text[140];

            snprintf(text, sizeof(text), "connection lost: %s", err);
            return lost(o, text);
        }
        if (n == 0)
            return lost(o, "the receiver closed the connection");
        if (!begins_well(g, bytes, (size_t)n))
            return otlp_again(o, 0, "the receiver doesn't speak HTTP/2: is that the http/protobuf port (4318)?", NULL, 0);
        used = nghttp2_session_mem_recv(g->session, (const uint8_t *)bytes, (size_t)n);
        if (used < 0)
            return otlp_again(o, 0, "HTTP/2", nghttp2_strerror((int)used), strlen(nghttp2_strerror((int)used)));
        g->taken += (size_t)n;
        rc = conclude(o);
        if (rc)
            return rc;
        if (g->taken > UNASKED_BYTES) /* there is no end to frames that mean nothing */
            return e->busy ? otlp_again(o, 0, "the receiver sends much that nobody has asked for", NULL, 0) : -ESTALE;
    }
    rc = flush(o);
    if (rc < 0 && rc != -EAGAIN)
        return lost(o, "connection lost");
    if (!nghttp2_session_want_read(g->session) && !nghttp2_session_want_write(g->session))
        return lost(o, "the session ended");
    return g->goaway && !e->busy ? -ESTALE : 0;
}

static int grpc_send(struct output *o)
{
    struct otlp *e = o->otlp;
    struct grpc *g = get_session(o);
    int rc;

    o->want = POLLIN;
    if (!e->busy && !queue_all_sent(&o->queue)) {
        if (!nghttp2_session_check_request_allowed(g->session))
            return lost(o, "the receiver takes no more calls");
        otlp_begin(o);
        if (call(o) < 0)
            return otlp_broken(o, "HTTP/2: no call can be made");
    }
    if (e->busy) {
        o->retry_ms = otlp_left(o);
        if (!o->retry_ms)
            return otlp_late(o);
    }
    rc = flush(o);
    if (rc < 0 && rc != -EAGAIN) { /* perhaps it has said why */
        rc = grpc_input(o);
        return rc ? rc : lost(o, "connection lost while sending");
    }
    return e->busy ? -EAGAIN : rc; /* until the answer is there */
}

static void grpc_close(struct output *o)
{
    struct otlp *e = o->otlp;

    e->busy = false;
    e->proven = false;
    grpc_free(e->grpc);
    e->grpc = NULL;
    socket_close(o);
}

const struct transport transport_otlp_grpc = {
    .open = socket_open,
    .ready = socket_ready,
    .input = grpc_input,
    .send = grpc_send,
    .close = grpc_close,
};
