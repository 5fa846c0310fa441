/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP over HTTP/1.1, binary protobuf: one connection, one request at a time. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "output/otlp_internal.h"
#include "version.h"

static const char *configured(const struct otlp *e, const char *name)
{
    for (size_t i = 0; i < e->header_count; i++)
        if (strcmp(e->headers[i].name, name) == 0)
            return e->headers[i].value;
    return NULL;
}

static void make_head(struct output *o)
{
    struct otlp *e = o->otlp;
    const char *host = o->cfg.host ? o->cfg.host : "";
    struct buf *b = &e->head;
    bool v6 = strchr(host, ':');

    buf_reset(b);
    buf_printf(b, "POST %s%s HTTP/1.1\r\n", e->path[0] == '/' ? "" : "/", e->path);
    if (!configured(e, "host"))
        buf_printf(b, "host: %s%s%s:%s\r\n", v6 ? "[" : "", host, v6 ? "]" : "", o->cfg.port);
    if (!configured(e, "user-agent"))
        buf_str(b, "user-agent: " OTLP_USER_AGENT "\r\n");
    buf_str(b, "content-type: application/x-protobuf\r\n");
    if (e->gzip)
        buf_str(b, "content-encoding: gzip\r\n");
    for (size_t i = 0; i < e->header_count; i++)
        buf_printf(b, "%s: %s\r\n", e->headers[i].name, e->headers[i].value);
    buf_printf(b, "content-length: %zu\r\n\r\n", e->body.len);
}


/* --- answers --- */

/* The text of an answer that is no success. */
static void error_text(const struct http_answer *a, const char **ret_text, size_t *ret_len)
{
    struct otlp_status s = {0};

    *ret_text = NULL;
    *ret_len = 0;
    if (a->content == HTTP_CONTENT_PROTOBUF && otlp_read_status(a->body.p, a->body.len, &s)) {
        *ret_text = s.message;
        *ret_len = s.message_len;
    } else if (a->content == HTTP_CONTENT_TEXT) {
        *ret_text = a->body.p;
        *ret_len = a->body.len;
    }
}

static void accepted(struct output *o)
{
    const struct http_answer *a = &o->otlp->answer;
    struct otlp_partial partial = {0};

    if (a->content == HTTP_CONTENT_PROTOBUF && !otlp_read_response(a->body.p, a->body.len, &partial))
        partial = (struct otlp_partial){0};
    otlp_accepted(o, partial.rejected, partial.message, partial.message_len);
}

/* What may help where the path isn't the usual one: the endpoint of one signal is used as it is. */
static void path_hint(const struct otlp *e, char *text, size_t size)
{
    const char *name = cfg_otlp_name(e->signal), *last = strrchr(e->path, '/');

    *text = 0;
    if (!last || strcmp(last + 1, name) != 0)
        snprintf(text, size, " (the usual path for %s is /v1/%s)", name, name);
}

/* The head of the answer is there, and what there is of the body. `last`: the connection can't be used again. */
static int conclude(struct output *o, bool last)
{
    struct otlp *e = o->otlp;
    const struct http_answer *a = &e->answer;
    size_t len;
    const char *text;
    char what[128], hint[64] = "";

    last = last || !a->keep_alive || e->sent < e->head.len + e->body.len;
    if (a->status == 404 || a->status == 405)
        path_hint(e, hint, sizeof(hint));
    snprintf(what, sizeof(what), "%d%s%s%s%s", a->status, a->reason[0] ? " " : "", a->reason,
             a->status / 100 == 3 ? " (redirects aren't followed)" : "", hint);
    error_text(a, &text, &len);
    if (a->status / 100 == 2) {
        accepted(o);
    } else if (a->status == 429 || (a->status >= 502 && a->status <= 504)) {
        return otlp_again(o, http_retry_after(a->retry_after, time(NULL), OTLP_PAUSE_MS), what, text, len);
    } else if (a->status == 408 && e->proven) {
        return otlp_broken(o, what); /* meant the idle connection (RFC 9110, 15.5.9) */
    } else if (a->status != 413 || !otlp_smaller(o)) {
        otlp_refused(o, what, text, len);
    }
    return last ? -ESTALE : 0;
}

static bool like_http2(const char *p, size_t n)
{
    return n >= 9 && memcmp(p + 3, "\4\0\0\0\0\0", 6) == 0; /* SETTINGS of stream 0 (RFC 9113, 6.5) */
}

static int not_http1(struct output *o, const char *p, size_t n)
{
    struct otlp *e = o->otlp;

    if (!e->proven && like_http2(p, n))
        return otlp_again(o, 0, "the receiver speaks HTTP/2 only: is that the grpc port (4317)?", NULL, 0);
    return otlp_again(o, 0, "the answer can't be read", e->answer.problem, strlen(e->answer.problem));
}

/* The receiver has closed the connection before its answer was complete. */
static int closed(struct output *o)
{
    struct otlp *e = o->otlp;
    char text[160];

    snprintf(text, sizeof(text), "%s%s", e->answer.problem,
             e->answer.begun || o->cfg.tls.enable ? "" : ": does it want TLS (https://)?");
    return otlp_broken(o, text);
}

/* Something comes though nothing was asked. */
static int unasked(struct output *o, const char *p, size_t n)
{
    struct otlp *e = o->otlp;
    size_t used;

    http_answer_init(&e->answer);
    if (!e->proven && http_answer_feed(&e->answer, p, n, &used) == -EPROTO)
        return not_http1(o, p, n);
    return -ESTALE; /* such as 408, before it closes an idle connection */
}

static int http_input(struct output *o)
{
    struct otlp *e = o->otlp;
    char bytes[OTLP_READ], err[120];
    size_t used;

    for (int i = 0; i < OTLP_READS; i++) {
        ssize_t n = socket_get(o, bytes, sizeof(bytes), err, sizeof(err));
        int rc;

        if (n == -EAGAIN)
            return 0;
        if (n <= 0 && !e->busy) {
            if (n == 0 || e->proven)
                return -ESTALE;
            output_failed(o, "connection lost: %s", err);
            return -EPIPE;
        }
        if (n < 0) {
            char text[160];

            snprintf(text, sizeof(text), "connection lost: %s", err);
            return otlp_broken(o, text);
        }
        if (n == 0)
            return http_answer_end(&e->answer) == 1 ? conclude(o, true) : closed(o);
        if (!e->busy)
            return unasked(o, bytes, (size_t)n);
        rc = http_answer_feed(&e->answer, bytes, (size_t)n, &used);
        if (rc == 1 || rc == -EFBIG) {
            rc = conclude(o, rc < 0 || used < (size_t)n);
            if (rc)
                return rc;
        } else if (rc < 0) {
            return not_http1(o, bytes, (size_t)n);
        }
    }
    return 0;
}

/* --- requests --- */

/* What is left of head and body. */
static int rest(const struct otlp *e, struct iovec part[2])
{
    int parts = 0;

    if (e->sent < e->head.len)
        part[parts++] = (struct iovec){.iov_base = e->head.p + e->sent, .iov_len = e->head.len - e->sent};
    if (e->sent < e->head.len + e->body.len) {
        size_t from = e->sent > e->head.len ? e->sent - e->head.len : 0;

        part[parts++] = (struct iovec){.iov_base = e->body.p + from, .iov_len = e->body.len - from};
    }
    return parts;
}

static int http_send(struct output *o)
{
    struct otlp *e = o->otlp;
    struct iovec part[2];
    int parts, rc;

    o->want = POLLIN;
    if (!e->busy) {
        if (!otlp_begin(o))
            return 0;
        make_head(o);
        e->sent = 0;
        http_answer_init(&e->answer);
    }
    o->retry_ms = otlp_left(o);
    if (!o->retry_ms)
        return otlp_late(o);
    while ((parts = rest(e, part)) > 0) {
        ssize_t n = socket_put(o, part, parts);

        if (n == -EAGAIN || n == -ENOBUFS || n == -ENOMEM)
            return -EAGAIN;
        if (n < 0) { /* perhaps it has said why */
            rc = http_input(o);
            return rc ? rc : otlp_broken(o, "connection lost while sending");
        }
        e->sent += (size_t)n;
    }
    return -EAGAIN; /* until the answer is there */
}

static void http_close(struct output *o)
{
    o->otlp->busy = false;
    o->otlp->proven = false;
    socket_close(o);
}

const struct transport transport_otlp_http = {
    .open = socket_open,
    .ready = socket_ready,
    .input = http_input,
    .send = http_send,
    .close = http_close,
};
