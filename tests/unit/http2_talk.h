/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the HTTP/2 decoder: conversations made frame by frame, ways to
 * feed them, and a sink that writes down what it is told. Include once.
 *
 * The client sends in direction CLIENT; talk_run() can turn the sides round.
 */
#ifndef SCOPE_TESTS_HTTP2_TALK_H
#define SCOPE_TESTS_HTTP2_TALK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

#include "base/buf.h"
#include "base/mem.h"
#include "protocol/http2.h"

#define CLIENT PROTO_TX
#define SERVER PROTO_RX

#define TALK_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* --- what is told --- */

/* What `request` returns. It is kept until the end, so that a call after `done` is seen. */
struct exchange {
    struct exchange *next;
    uint32_t stream;
    bool done;
    uint64_t body[2];
    uint32_t hash[2];
};

/*
 * One line for each thing told; times only if asked for:
 *   1 > GET https host /path [name: value; ...] FLAGS       request
 *   1 < 200 [...] FLAGS                                     response; early: its request may come, unasked: it won't
 *   1 t> [...]                                              trailers (t< of the response)
 *   1 = 200 0+5 HASH+HASH FLAGS                             done: status, bodies, their hashes if there is a `body`
 *   ! lost                                                  note
 */
struct teller {
    struct buf log;
    bool times;
    bool no_bodies; /* the sink has no `body` */
    bool no_gaps;   /* don't tell `gap` and hashes: for runs that differ only in what was captured */
    struct exchange *all;
    struct exchange stray;   /* bodies of responses without request */
    unsigned wrong;          /* calls that must not be */
    struct http_totals last; /* of the latest done */
    uint64_t duration;       /* of the latest response */
};

static uint32_t hash_bytes(uint32_t hash, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (p ? p[i] : 0)) * 16777619u; /* FNV-1a */
    return hash;
}

static void tell_slice(struct buf *b, struct slice s)
{
    if (!s.p) {
        buf_char(b, '-');
    } else if (s.len > 60) {
        buf_printf(b, "<%zu:%08x>", s.len, hash_bytes(0, s.p, s.len));
    } else {
        for (size_t i = 0; i < s.len; i++) {
            if (s.p[i] < 0x20)
                buf_printf(b, "\\%o", (unsigned char)s.p[i]);
            else
                buf_char(b, s.p[i]);
        }
    }
}

static void tell_fields(struct buf *b, const struct http_field *fields, size_t count)
{
    buf_str(b, " [");
    for (size_t i = 0; i < count; i++) {
        buf_str(b, i ? "; " : "");
        tell_slice(b, fields[i].name);
        buf_str(b, ": ");
        tell_slice(b, fields[i].value);
    }
    buf_char(b, ']');
}

static void tell_head(struct teller *t, const struct http_head *head)
{
    tell_fields(&t->log, head->fields, head->field_count);
    if (head->content_length >= 0)
        buf_printf(&t->log, " length=%lld", (long long)head->content_length);
    if (head->odd)
        buf_printf(&t->log, " odd=%u", head->odd);
    buf_str(&t->log, head->cut ? " cut" : "");
    if (t->times)
        buf_printf(&t->log, " at=%llu..%llu", (unsigned long long)head->first_ns, (unsigned long long)head->last_ns);
}

static struct exchange *begin_exchange(struct teller *t, uint32_t stream)
{
    struct exchange *x = xcalloc(1, sizeof(*x));

    x->stream = stream;
    x->next = t->all;
    t->all = x;
    return x;
}

static void *tell_request(void *owner, const struct http_head *head, void *early)
{
    struct teller *t = owner;
    struct exchange *x = early ? early : begin_exchange(t, head->stream);

    t->wrong += head->response || head->major != 2 || x->done || x->stream != head->stream;
    buf_printf(&t->log, "%u > ", head->stream);
    tell_slice(&t->log, head->method);
    buf_char(&t->log, ' ');
    tell_slice(&t->log, head->scheme);
    buf_char(&t->log, ' ');
    tell_slice(&t->log, head->host);
    buf_char(&t->log, ' ');
    tell_slice(&t->log, head->target);
    tell_head(t, head);
    if (head->protocol.p) {
        buf_str(&t->log, " protocol=");
        tell_slice(&t->log, head->protocol);
    }
    buf_str(&t->log, head->pushed ? " pushed\n" : "\n");
    return x;
}

static void *tell_response(void *owner, const struct http_head *head, void *kept, uint64_t duration_ns)
{
    struct teller *t = owner;
    struct exchange *x = kept;

    t->wrong += !head->response || (x && (x->done || (x->stream && x->stream != head->stream)));
    t->duration = duration_ns;
    buf_printf(&t->log, "%u < %u", head->stream, head->status);
    tell_head(t, head);
    if (t->times)
        buf_printf(&t->log, " after=%llu", (unsigned long long)duration_ns);
    buf_str(&t->log, head->interim ? " interim" : "");
    buf_str(&t->log, kept ? "\n" : head->early ? " early\n" : " unasked\n");
    return !kept && head->early ? begin_exchange(t, head->stream) : kept;
}

static void tell_trailers(void *owner, void *kept, bool response, const struct http_field *fields, size_t count)
{
    struct teller *t = owner;
    struct exchange *x = kept;

    t->wrong += x && x->done;
    buf_printf(&t->log, "%u t%c", x ? x->stream : 0, response ? '<' : '>');
    tell_fields(&t->log, fields, count);
    buf_char(&t->log, '\n');
}

static void tell_body(void *owner, void *kept, enum proto_dir dir, bool response, const uint8_t *data, uint64_t len)
{
    struct teller *t = owner;
    struct exchange *x = kept ? kept : &t->stray;

    t->wrong += x->done || !len;
    x->body[response] += len;
    x->hash[response] = hash_bytes(x->hash[response], data, len);
}

static void tell_done(void *owner, void *kept, const struct http_totals *totals)
{
    struct teller *t = owner;
    struct exchange *x = kept;

    buf_printf(&t->log, "%u = %u %llu+%llu", totals->stream, totals->status, (unsigned long long)totals->request_body,
               (unsigned long long)totals->response_body);
    if (x) {
        t->wrong += x->done;
        x->done = true;
        if (!t->no_bodies) {
            t->wrong += x->body[0] != totals->request_body || x->body[1] != totals->response_body;
            if (!t->no_gaps)
                buf_printf(&t->log, " %x+%x", x->hash[0], x->hash[1]);
        }
    }
    if (totals->grpc_status >= 0)
        buf_printf(&t->log, " grpc=%d", totals->grpc_status);
    if (t->times)
        buf_printf(&t->log, " at=%llu,%llu..%llu", (unsigned long long)totals->request_first_ns,
                   (unsigned long long)totals->response_first_ns, (unsigned long long)totals->end_ns);
    buf_str(&t->log, totals->complete ? " complete" : "");
    buf_str(&t->log, totals->gap && !t->no_gaps ? " gap\n" : "\n");
    t->last = *totals;
}

static void tell_never(void *owner, struct slice to, void *kept)
{
    ((struct teller *)owner)->wrong++;
}

static void tell_note(void *owner, enum http_note what, uint64_t count)
{
    static const char *const names[] = {"joined", "lost", "not http", "unmatched"};
    struct teller *t = owner;

    /* The count of a gap depends on the pieces it comes in. */
    buf_printf(&t->log, "! %s\n", names[what]);
}

static const struct http_sink tell_sink = {
    .request = tell_request,
    .response = tell_response,
    .done = tell_done,
    .body = tell_body,
    .trailers = tell_trailers,
    .upgraded = tell_never,
    .note = tell_note,
};
static const struct http_sink tell_sink_without_body = {
    .request = tell_request,
    .response = tell_response,
    .done = tell_done,
    .trailers = tell_trailers,
    .upgraded = tell_never,
    .note = tell_note,
};

static const struct http_sink *teller_sink(const struct teller *t)
{
    return t->no_bodies ? &tell_sink_without_body : &tell_sink;
}

/* To be called when the decoder is gone: each exchange must be done. */
static inline void teller_free(struct teller *t)
{
    while (t->all) {
        struct exchange *x = t->all;

        t->all = x->next;
        t->wrong += !x->done;
        free(x);
    }
    buf_free(&t->log);
}

/* --- conversations --- */

struct piece {
    enum proto_dir dir;
    bool gap, end; /* instead of bytes: not captured; the direction ends */
    size_t at, len;
    uint64_t ns;
};

struct talk {
    struct buf bytes;
    struct piece *pieces;
    size_t count;
    uint64_t ns; /* of the pieces that are added */
    nghttp2_hd_deflater *deflater[PROTO_DIRS];
    bool joined, upgraded;
};

static struct piece *talk_piece(struct talk *t, enum proto_dir dir, size_t len)
{
    t->pieces = xrealloc(t->pieces, t->count + 1, sizeof(*t->pieces));
    t->pieces[t->count] = (struct piece){.dir = dir, .at = t->bytes.len, .len = len, .ns = t->ns};
    return &t->pieces[t->count++];
}

static void talk_bytes(struct talk *t, enum proto_dir dir, const void *data, size_t len)
{
    struct piece *last = t->count ? &t->pieces[t->count - 1] : NULL;

    if (last && last->dir == dir && !last->gap && !last->end && last->ns == t->ns)
        last->len += len;
    else
        talk_piece(t, dir, len);
    buf_add(&t->bytes, data, len);
}

static inline void talk_gap(struct talk *t, enum proto_dir dir, size_t len)
{
    talk_piece(t, dir, len)->gap = true;
}

static inline void talk_end(struct talk *t, enum proto_dir dir)
{
    talk_piece(t, dir, 0)->end = true;
}

static void talk_header(struct talk *t, enum proto_dir dir, uint8_t type, uint8_t flags, uint32_t id, size_t len)
{
    const uint8_t h[9] = {(uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len,       type,       flags,
                          (uint8_t)(id >> 24),  (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};

    talk_bytes(t, dir, h, sizeof(h));
}

static void talk_frame(struct talk *t, enum proto_dir dir, uint8_t type, uint8_t flags, uint32_t id, const void *data,
                       size_t len)
{
    talk_header(t, dir, type, flags, id, len);
    if (len)
        talk_bytes(t, dir, data, len);
}

/* A header block: "name: value\nname: value\n", a name that begins with '!' is never indexed. The result is freed by
 * the caller. */
static struct buf talk_block(struct talk *t, enum proto_dir dir, const char *text)
{
    struct buf b = BUF_INIT;
    nghttp2_nv nv[300];
    size_t n = 0;
    ssize_t len;

    if (!t->deflater[dir] && nghttp2_hd_deflate_new(&t->deflater[dir], 65536))
        abort();
    while (*text) {
        const char *colon = strchr(text + 1, ':'), *end = strchr(text, '\n');
        bool secret = *text == '!';

        if (!colon || !end || n == sizeof(nv) / sizeof(*nv))
            abort();
        text += secret;
        nv[n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)text, (uint8_t *)(uintptr_t)(colon + 2), (size_t)(colon - text),
                               (size_t)(end - colon - 2), secret ? NGHTTP2_NV_FLAG_NO_INDEX : 0};
        text = end + 1;
    }
    len = nghttp2_hd_deflate_bound(t->deflater[dir], nv, n);
    len = nghttp2_hd_deflate_hd(t->deflater[dir], (uint8_t *)buf_room(&b, (size_t)len), (size_t)len, nv, n);
    if (!b.p || len < 0)
        abort();
    b.len = (size_t)len;
    return b;
}

/* HEADERS with END_HEADERS and these flags. */
static inline void talk_head(struct talk *t, enum proto_dir dir, uint8_t flags, uint32_t id, const char *text)
{
    struct buf b = talk_block(t, dir, text);

    talk_frame(t, dir, NGHTTP2_HEADERS, flags | NGHTTP2_FLAG_END_HEADERS, id, b.p, b.len);
    buf_free(&b);
}

/* Preface, SETTINGS of both sides, and their acknowledgements. */
static inline void talk_begin(struct talk *t)
{
    static const uint8_t settings[] = {0, 3, 0, 0, 0, 100, 0, 4, 0, 1, 0, 0};

    talk_bytes(t, CLIENT, TALK_PREFACE, strlen(TALK_PREFACE));
    talk_frame(t, CLIENT, NGHTTP2_SETTINGS, 0, 0, settings, sizeof(settings));
    talk_frame(t, SERVER, NGHTTP2_SETTINGS, 0, 0, settings, 6);
    talk_frame(t, SERVER, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
    talk_frame(t, CLIENT, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
}

static void talk_free(struct talk *t)
{
    for (int dir = 0; dir < PROTO_DIRS; dir++) {
        if (t->deflater[dir])
            nghttp2_hd_deflate_del(t->deflater[dir]);
    }
    buf_free(&t->bytes);
    free(t->pieces);
    *t = (struct talk){0};
}

/* How the pieces are fed. */
struct feeding {
    bool mirrored; /* the observed process is the server */
    bool by_byte;
    bool random; /* cut into pieces of random length, from this seed */
    uint64_t seed;
    size_t cut;    /* the piece that has the byte at this offset is cut before it; 0: none is */
    bool skipping; /* what http2_skip() says isn't captured */
};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13; /* xorshift64, Marsaglia 2003 */
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void feed_part(struct http2 *h, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t ns, bool skipping)
{
    while (len) {
        uint64_t skip = skipping && data ? http2_skip(h, dir) : 0;
        size_t n = skip && skip < len ? (size_t)skip : len;

        if (skipping && !skip && data) {
            /* What may be skipped begins anywhere: byte by byte up to there. */
            n = 1;
        }
        http2_feed(h, dir, skip ? NULL : data, n, ns);
        data = data ? data + n : NULL;
        len -= n;
    }
}

/* Feeds the conversation to a new decoder, and frees that; what was told is in t->log. */
static inline void talk_run(const struct talk *talk, struct feeding how, struct teller *t)
{
    enum proto_dir client = how.mirrored ? proto_other(CLIENT) : CLIENT;
    struct http2 *h = http2_new(teller_sink(t), t, talk->joined);
    uint64_t seed = how.seed | 1;

    if (talk->upgraded) {
        struct exchange *x = xcalloc(1, sizeof(*x));

        x->stream = 1;
        t->all = x;
        http2_upgraded(h, client, x, 1);
    }
    for (size_t i = 0; i < talk->count; i++) {
        const struct piece *p = &talk->pieces[i];
        enum proto_dir dir = how.mirrored ? proto_other(p->dir) : p->dir;

        if (p->end)
            http2_end(h, dir, p->ns);
        for (size_t done = 0, n; done < p->len; done += n) {
            const uint8_t *data = p->gap ? NULL : (const uint8_t *)talk->bytes.p + p->at + done;

            n = p->len - done;
            if (how.by_byte)
                n = p->gap && n > 256 ? 61 : 1; /* long gaps: enough to cross boundaries */
            else if (how.random)
                n = 1 + next_random(&seed) % n;
            else if (!p->gap && how.cut > p->at + done && how.cut < p->at + p->len)
                n = how.cut - p->at - done;
            feed_part(h, dir, data, n, p->ns, how.skipping);
        }
    }
    http2_free(h, talk->ns);
}

#endif
