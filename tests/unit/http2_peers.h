/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the HTTP/2 decoder: libnghttp2's sessions as client and server,
 * connected in memory. Their bytes become a conversation (http2_talk.h), and
 * their callbacks say what passed. Include once, behind http2_talk.h.
 */
#ifndef SCOPE_TESTS_HTTP2_PEERS_H
#define SCOPE_TESTS_HTTP2_PEERS_H

#include "http2_talk.h"

#define PEERS_STREAMS 256u

/* What is known of a stream: by the peers' callbacks, or by the decoder. */
struct fact {
    unsigned requests, done;
    bool pushed, complete;
    uint64_t request, response; /* sums over the fields of the heads: order doesn't count, pseudo fields do */
    uint64_t trailers[2];
    unsigned interim, status;
    uint64_t body[2];
    uint32_t hash[2];
    bool ended[2];
};

struct facts {
    struct fact of[PEERS_STREAMS];
    uint64_t notes;
};

static uint64_t field_sum(const char *name, size_t name_len, const void *value, size_t value_len)
{
    return (uint64_t)hash_bytes(2166136261u, name, name_len) << 32 | hash_bytes(40389u, value, value_len);
}

/* --- by the decoder --- */

static uint64_t head_sum(const struct http_head *head)
{
    const struct {
        const char *name;
        struct slice s;
    } pseudo[] = {
        {":method", head->method}, {":path", head->target}, {":scheme", head->scheme}, {":authority", head->host}};
    uint64_t sum = 0;

    for (size_t i = 0; i < sizeof(pseudo) / sizeof(*pseudo); i++) {
        if (pseudo[i].s.p)
            sum += field_sum(pseudo[i].name, strlen(pseudo[i].name), pseudo[i].s.p, pseudo[i].s.len);
    }
    for (size_t i = 0; i < head->field_count; i++)
        sum += field_sum(head->fields[i].name.p, head->fields[i].name.len, head->fields[i].value.p,
                         head->fields[i].value.len);
    return sum;
}

static void *facts_request(void *owner, const struct http_head *head, void *early)
{
    struct fact *f = &((struct facts *)owner)->of[head->stream % PEERS_STREAMS];

    f->requests++;
    f->pushed = head->pushed;
    f->request += head_sum(head);
    return f;
}

static void *facts_response(void *owner, const struct http_head *head, void *kept, uint64_t duration_ns)
{
    struct fact *f = kept;

    if (!f)
        abort();
    if (head->interim) {
        f->interim++;
        return kept;
    }
    f->status = head->status;
    f->response += head_sum(head);
    return kept;
}

static void facts_trailers(void *owner, void *kept, bool response, const struct http_field *fields, size_t count)
{
    struct fact *f = kept;

    for (size_t i = 0; i < count; i++)
        f->trailers[response] +=
            field_sum(fields[i].name.p, fields[i].name.len, fields[i].value.p, fields[i].value.len);
}

static void facts_body(void *owner, void *kept, enum proto_dir dir, bool response, const uint8_t *data, uint64_t len)
{
    struct fact *f = kept;

    f->body[response] += len;
    f->hash[response] = hash_bytes(f->hash[response], data, len);
}

static void facts_done(void *owner, void *kept, const struct http_totals *totals)
{
    struct fact *f = kept;

    f->done++;
    f->complete = totals->complete;
}

static void facts_note(void *owner, enum http_note what, uint64_t count)
{
    ((struct facts *)owner)->notes++;
}

static const struct http_sink facts_sink = {
    .request = facts_request,
    .response = facts_response,
    .trailers = facts_trailers,
    .body = facts_body,
    .done = facts_done,
    .note = facts_note,
};

/* --- the peers --- */

struct peers {
    struct talk talk;
    struct facts truth;
    uint64_t seed;
    nghttp2_session *client, *server;
    struct outgoing { /* bodies that are being sent: by message and stream */
        size_t left;
        bool trailers;
    } out[2][PEERS_STREAMS];
    struct incoming { /* the head that is coming in to the client [0], the server [1] */
        uint64_t sum;
        unsigned status;
    } in[2];
    nghttp2_session *resets; /* who wants to reset a stream, and which */
    int32_t reset;
};

static uint64_t dice(struct peers *p, uint64_t sides)
{
    return next_random(&p->seed) % sides;
}

static const char hexes[] = "0123456789abcdef";

/* Fields: some that repeat, some that don't, now and then a large one. text holds their values. */
static size_t random_fields(struct peers *p, nghttp2_nv *nv, size_t n, struct buf *text)
{
    static const char *const names[] = {"accept",        "cookie", "user-agent", "x-request-id",
                                        "cache-control", "via",    "etag"};
    size_t count = dice(p, 8);

    buf_room(text, 80000); /* so that it doesn't move */
    for (size_t i = 0; i < count; i++) {
        const char *name = names[dice(p, 7)];
        size_t len = dice(p, 3) ? 4 : dice(p, 40) ? dice(p, 100) : dice(p, 30) ? dice(p, 3000) : 20000 + dice(p, 20000);
        char *value = text->p + text->len;

        if (text->len + len > 60000)
            break;
        memset(value, 'v', len);
        if (len != 4 || dice(p, 2)) {
            for (size_t j = 0; j < len; j++)
                value[j] = hexes[dice(p, 16)];
        }
        text->len += len;
        nv[n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)value, strlen(name), len,
                               dice(p, 10) ? 0 : NGHTTP2_NV_FLAG_NO_INDEX};
    }
    return n;
}

static nghttp2_nv field_of(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value), 0};
}

static ssize_t send_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    struct peers *p = user;
    struct outgoing *out = source->ptr;
    size_t n = out->left < room ? out->left : room;

    if (n > 1 && !dice(p, 4))
        n = 1 + dice(p, n);
    for (size_t i = 0; i < n; i++)
        to[i] = (uint8_t)(id * 31 + (int)(out->left - i));
    out->left -= n;
    if (!out->left) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (out->trailers) {
            nghttp2_nv nv[] = {field_of("grpc-status", "0"), field_of("x-check", "done")};

            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (nghttp2_submit_trailer(session, id, nv, 1 + dice(p, 2)))
                abort();
        }
    }
    return (ssize_t)n;
}

static nghttp2_data_provider body_of(struct peers *p, int message, int32_t id)
{
    struct outgoing *out = &p->out[message][id];

    out->left = dice(p, 4) ? dice(p, 300) : dice(p, 40000);
    out->trailers = !dice(p, 4);
    return (nghttp2_data_provider){.source.ptr = out, .read_callback = send_body};
}

static void respond(struct peers *p, int32_t id, bool may_push)
{
    static const char *const statuses[] = {"200", "206", "404", "500", "301", "299"};
    struct buf text = BUF_INIT;
    nghttp2_nv nv[20];
    size_t n = 1;

    for (uint64_t i = dice(p, 4) ? 0 : dice(p, 3); i; i--) {
        nv[0] = field_of(":status", dice(p, 2) ? "103" : "100");
        if (nghttp2_submit_headers(p->server, NGHTTP2_FLAG_NONE, id, NULL, nv, 1, NULL))
            abort();
    }
    if (may_push && !dice(p, 5)) {
        int32_t promised;

        nv[0] = field_of(":method", "GET");
        nv[1] = field_of(":scheme", "https");
        nv[2] = field_of(":authority", "peers.test");
        nv[3] = field_of(":path", "/pushed");
        n = random_fields(p, nv, 4, &text);
        promised = nghttp2_submit_push_promise(p->server, NGHTTP2_FLAG_NONE, id, nv, n, NULL);
        if (promised > 0 && promised < (int32_t)PEERS_STREAMS)
            respond(p, promised, false);
        n = 1;
        buf_reset(&text);
    }
    nv[0] = field_of(":status", statuses[dice(p, 6)]);
    n = random_fields(p, nv, n, &text);
    if (dice(p, 3)) {
        nghttp2_data_provider body = body_of(p, 1, id);

        nghttp2_submit_response(p->server, id, nv, n, &body);
    } else {
        nghttp2_submit_response(p->server, id, nv, n, NULL);
    }
    buf_free(&text);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct peers *p = user;

    p->in[session == p->server] = (struct incoming){0};
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
    struct peers *p = user;
    struct incoming *in = &p->in[session == p->server];

    if (name_len == 7 && !memcmp(name, ":status", 7))
        in->status = (unsigned)(value[0] - '0') * 100 + (unsigned)(value[1] - '0') * 10 + (unsigned)(value[2] - '0');
    else
        in->sum += field_sum((const char *)name, name_len, value, value_len);
    return 0;
}

static void reset_soon(struct peers *p, nghttp2_session *session, int32_t id)
{
    p->resets = session;
    p->reset = id;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct peers *p = user;
    bool server = session == p->server;
    const struct incoming *in = &p->in[server];
    struct fact *f = &p->truth.of[(uint32_t)frame->hd.stream_id % PEERS_STREAMS];

    if (frame->hd.type == NGHTTP2_PUSH_PROMISE) {
        f = &p->truth.of[(uint32_t)frame->push_promise.promised_stream_id % PEERS_STREAMS];
        f->requests++;
        f->pushed = f->ended[0] = true;
        f->request += in->sum;
        if (!dice(p, 6))
            reset_soon(p, session, frame->push_promise.promised_stream_id);
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        if (server && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            f->requests++;
            f->request += in->sum;
        } else if (!server && in->status && in->status < 200) {
            f->interim++;
        } else if (!server && in->status) {
            f->status = in->status;
            f->response += in->sum;
        } else {
            f->trailers[!server] += in->sum;
        }
    }
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)) {
        bool ended = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

        f->ended[!server] |= ended;
        f->complete = f->ended[0] && f->ended[1];
        if (server && !dice(p, 12))
            reset_soon(p, session, frame->hd.stream_id);
        else if (server && ended)
            respond(p, frame->hd.stream_id, true);
        else if (!server && !dice(p, 20))
            reset_soon(p, session, frame->hd.stream_id);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *user)
{
    struct peers *p = user;
    struct fact *f = &p->truth.of[(uint32_t)id % PEERS_STREAMS];
    int message = session == p->client;

    f->body[message] += len;
    f->hash[message] = hash_bytes(f->hash[message], data, len);
    return 0;
}

static ssize_t pad(nghttp2_session *session, const nghttp2_frame *frame, size_t max, void *user)
{
    struct peers *p = user;
    size_t most = max - frame->hd.length < 256 ? max - frame->hd.length : 256;

    return (ssize_t)(frame->hd.length + (dice(p, 3) ? 0 : dice(p, most + 1)));
}

static void submit_request(struct peers *p)
{
    struct buf text = BUF_INIT;
    nghttp2_nv nv[20];
    nghttp2_priority_spec priority;
    nghttp2_data_provider body;
    bool has_body = !dice(p, 3);
    int32_t id = (int32_t)nghttp2_session_get_next_stream_id(p->client);
    size_t n;

    if (id >= (int32_t)PEERS_STREAMS)
        return;
    nv[0] = field_of(":method", has_body ? "POST" : "GET");
    nv[1] = field_of(":scheme", "https");
    nv[2] = field_of(":authority", "peers.test");
    nv[3] = field_of(":path", dice(p, 2) ? "/" : "/pkg.Service/Method");
    n = random_fields(p, nv, 4, &text);
    nghttp2_priority_spec_init(&priority, 0, 1 + (int32_t)dice(p, 256), (int)dice(p, 2));
    if (has_body)
        body = body_of(p, 0, id);
    if (nghttp2_submit_request(p->client, dice(p, 3) ? NULL : &priority, nv, n, has_body ? &body : NULL, NULL) != id)
        abort();
    buf_free(&text);
}

static void submit_settings(struct peers *p, nghttp2_session *session, bool more_streams)
{
    static const uint32_t tables[] = {0, 64, 4096, 65536, 300}, frames[] = {16384, 20000, 100000};
    nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1000},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, tables[dice(p, 5)]},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, frames[dice(p, 3)]},
    };

    if (nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, entries, more_streams ? 3 : 1 + dice(p, 3)))
        abort();
}

/* One frame from one side to the other. False if there is none. */
static bool pass_frame(struct peers *p, bool to_server)
{
    const uint8_t *data;
    ssize_t len = nghttp2_session_mem_send(to_server ? p->client : p->server, &data);

    if (len < 0)
        abort();
    if (!len)
        return false;
    talk_bytes(&p->talk, to_server ? CLIENT : SERVER, data, (size_t)len);
    if (nghttp2_session_mem_recv(to_server ? p->server : p->client, data, (size_t)len) != len)
        abort();
    return true;
}

static bool pass(struct peers *p, bool to_server)
{
    if (!pass_frame(p, to_server))
        return false;
    if (p->resets) {
        bool client = p->resets == p->client;

        /* As soon as it is asked for, a session is deaf to the stream: so it must be sent before more is received. */
        if (nghttp2_submit_rst_stream(p->resets, NGHTTP2_FLAG_NONE, p->reset, NGHTTP2_CANCEL))
            abort();
        while (pass_frame(p, client))
            ;
        p->resets = NULL; /* other wishes must wait for another occasion */
    }
    return true;
}

/* A conversation of so many requests; all of it follows from the seed. */
static void peers_talk(struct peers *p, uint64_t seed, uint64_t requests)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    bool more = true;

    memset(p, 0, sizeof(*p));
    p->seed = seed * 0x9e3779b97f4a7c15u;
    if (nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&option))
        abort();
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_select_padding_callback(callbacks, pad);
    nghttp2_option_set_max_deflate_dynamic_table_size(option, 65536);
    nghttp2_option_set_max_send_header_block_length(option, 200000);
    nghttp2_option_set_peer_max_concurrent_streams(option, 1000);
    if (nghttp2_session_client_new2(&p->client, callbacks, p, option) ||
        nghttp2_session_server_new2(&p->server, callbacks, p, option))
        abort();
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    submit_settings(p, p->client, true);
    submit_settings(p, p->server, true);
    while (more || requests) {
        more = false;
        if (requests && !dice(p, 2)) {
            submit_request(p);
            requests--;
        }
        if (!dice(p, 40))
            submit_settings(p, dice(p, 2) ? p->client : p->server, false);
        if (!dice(p, 40))
            nghttp2_submit_ping(dice(p, 2) ? p->client : p->server, NGHTTP2_FLAG_NONE, NULL);
        for (uint64_t i = dice(p, 4); i; i--)
            more |= pass(p, dice(p, 2));
        if (!more)
            more = pass(p, true) || pass(p, false);
    }
    nghttp2_session_terminate_session(p->client, NGHTTP2_NO_ERROR);
    while (pass(p, true) || pass(p, false))
        ;
}

static void peers_free(struct peers *p)
{
    nghttp2_session_del(p->client);
    nghttp2_session_del(p->server);
    talk_free(&p->talk);
}

#endif
