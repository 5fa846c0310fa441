/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/http2.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "protocol/grpc.h"
#include "protocol/hpack.h"

static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"; /* RFC 9113, section 3.4 */

#define PREFACE_LEN (sizeof(preface) - 1)
#define HEADER_LEN 9u
#define SETTING_LEN 6u
#define GOAWAY_LEN 8u /* what is always there */

/* Payloads up to this length are always taken. A receiver has to announce what it takes beyond 16,384 bytes, but which
 * of the two directions is seen first isn't certain when several threads read and write. */
#define FRAME_MAX (1u << 20)
/* So many responses may wait for requests that are told late. */
#define EARLY_MAX 16u

enum frame_type {
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
};

enum {
    FLAG_ACK = 0x01, /* SETTINGS, PING */
    FLAG_END_STREAM = 0x01,
    FLAG_END_HEADERS = 0x04,
    FLAG_PADDED = 0x08,
    FLAG_PRIORITY = 0x20,
};

#define SETTINGS_MAX_FRAME_SIZE 5u

enum message { REQUEST, RESPONSE, MESSAGES };

/* An exchange, from its first head until both messages are over. */
struct stream {
    struct http_totals totals;
    void *kept;
    bool told[MESSAGES];  /* its head, of the response the final one */
    bool ended[MESSAGES]; /* by END_STREAM */
    bool refused;         /* by GOAWAY */
};

/* One direction. */
struct half {
    enum {
        BEGIN,   /* the preface, or the header of a server's first frame, in bytes[] */
        HEADER,  /* the header of a frame, in bytes[] */
        FIXED,   /* the `fixed` bytes that a payload begins with, or the next setting, in bytes[] */
        CONTENT, /* the rest of the payload */
        PADDING,
        CLOSED, /* it has ended, or can't be followed */
    } state;
    bool lost; /* CLOSED, although more may come */
    uint8_t have, fixed;
    uint8_t bytes[PREFACE_LEN];

    /* The frame */
    uint8_t type, flags;
    uint8_t padding;
    uint32_t stream;
    uint32_t left;     /* of the payload, with padding */
    uint64_t frame_ns; /* when its first byte passed */

    uint32_t frame_max; /* largest payload that the other side ever said it takes; 0 if it didn't */

    /* A header block, from HEADERS or PUSH_PROMISE until END_HEADERS */
    struct {
        bool open, promise, end_stream; /* end_stream: of HEADERS */
        uint32_t carrier;               /* stream of its frames */
        uint32_t stream;                /* whose head it is */
        uint64_t first_ns;
    } block;
    struct hpack hpack;
};

struct http2 {
    const struct http_sink *sink;
    void *owner;
    bool joined, joined_told;
    bool roles;              /* client is known */
    enum proto_dir client;   /* direction in which the client sends */
    uint32_t last_id[2];     /* highest stream opened by a promise [0], by a request [1] */
    struct stream **streams; /* by id, ascending: new ones mostly come last */
    uint32_t count, room;
    struct half halves[PROTO_DIRS];
};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t stream_id(const uint8_t *p)
{
    return be32(p) & 0x7fffffff; /* a reserved bit is to be ignored */
}

static void note(struct http2 *h, enum http_note what, uint64_t count)
{
    if (h->sink->note)
        h->sink->note(h->owner, what, count);
}

/* ---- streams ---- */

/* Where it is, or would be. */
static uint32_t stream_place(const struct http2 *h, uint32_t id)
{
    uint32_t from = 0, to = h->count;

    if (to && h->streams[to - 1]->totals.stream < id)
        return to;
    while (from < to) {
        uint32_t middle = (from + to) / 2;

        if (h->streams[middle]->totals.stream < id)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static struct stream *stream_find(const struct http2 *h, uint32_t id)
{
    uint32_t at = stream_place(h, id);

    return at < h->count && h->streams[at]->totals.stream == id ? h->streams[at] : NULL;
}

static struct stream *stream_new(uint32_t id)
{
    struct stream *s = xcalloc(1, sizeof(*s));

    s->totals.stream = id;
    s->totals.grpc_status = -1;
    return s;
}

/* Tells the owner, and frees. It must be in the list no more. */
static void stream_done(struct http2 *h, struct stream *s, uint64_t now)
{
    if (!s->ended[RESPONSE])
        s->totals.end_ns = now;
    s->totals.answered = s->ended[RESPONSE] && s->told[RESPONSE];
    s->totals.complete = s->ended[REQUEST] && s->ended[RESPONSE] && s->told[REQUEST] && s->told[RESPONSE];
    if (h->sink->done)
        h->sink->done(h->owner, s->kept, &s->totals);
    free(s);
}

/* False if there are too many. */
static bool stream_keep(struct http2 *h, struct stream *s)
{
    uint32_t at = stream_place(h, s->totals.stream);

    if (h->count == HTTP2_STREAMS_MAX)
        return false;
    if (h->count == h->room) {
        h->room = h->room ? h->room * 2 : 4;
        h->streams = xrealloc(h->streams, h->room, sizeof(*h->streams));
    }
    memmove(h->streams + at + 1, h->streams + at, (h->count - at) * sizeof(*h->streams));
    h->streams[at] = s;
    h->count++;
    return true;
}

/* What an idle connection takes stays small, however busy it was. */
static void streams_shrink(struct http2 *h)
{
    if (!h->count && h->room > 16) {
        free(h->streams);
        h->streams = NULL;
        h->room = 0;
    }
}

static void stream_close(struct http2 *h, struct stream *s, uint64_t now)
{
    uint32_t at = stream_place(h, s->totals.stream);

    h->count--;
    memmove(h->streams + at, h->streams + at + 1, (h->count - at) * sizeof(*h->streams));
    streams_shrink(h);
    stream_done(h, s, now);
}

static enum proto_dir dir_of(const struct http2 *h, enum message m)
{
    return m == REQUEST ? h->client : proto_other(h->client);
}

static enum message message_of(const struct http2 *h, enum proto_dir dir)
{
    return dir == h->client ? REQUEST : RESPONSE;
}

/* Nothing more will come of this message. */
static bool message_over(const struct http2 *h, const struct stream *s, enum message m)
{
    return s->ended[m] || h->halves[dir_of(h, m)].state == CLOSED;
}

static bool stream_over(const struct http2 *h, const struct stream *s)
{
    return s->refused || (message_over(h, s, REQUEST) && message_over(h, s, RESPONSE));
}

/* Closes all that are over, in the order of their ids. */
static void streams_sweep(struct http2 *h, uint64_t now)
{
    uint32_t n = h->count;

    h->count = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct stream *s = h->streams[i];

        if (stream_over(h, s))
            stream_done(h, s, now);
        else
            h->streams[h->count++] = s;
    }
    streams_shrink(h);
}

static void message_end(struct http2 *h, struct stream *s, enum message m, uint64_t now)
{
    s->ended[m] = true;
    if (m == RESPONSE)
        s->totals.end_ns = now;
    if (stream_over(h, s))
        stream_close(h, s, now);
}

/* ---- what goes wrong ---- */

static void half_close(struct half *half)
{
    half->state = CLOSED;
    half->block.open = false;
    hpack_free(&half->hpack);
}

/* The direction can't be followed any more. */
static void lose(struct http2 *h, enum proto_dir dir, uint64_t count, uint64_t now)
{
    struct half *half = &h->halves[dir];
    bool begun = half->state != BEGIN;

    half_close(half);
    half->lost = true;
    if (h->joined && !begun) {
        if (!h->joined_told)
            note(h, HTTP_NOTE_JOINED, 0);
        h->joined_told = true;
    } else {
        note(h, HTTP_NOTE_LOST, count);
    }
    for (uint32_t i = 0; h->roles && i < h->count; i++) {
        if (!h->streams[i]->ended[message_of(h, dir)])
            h->streams[i]->totals.gap = true;
    }
    streams_sweep(h, now);
}

/* A connection error: nothing that follows means anything. */
static void violation(struct http2 *h, uint64_t now)
{
    for (int dir = 0; dir < PROTO_DIRS; dir++)
        half_close(&h->halves[dir]);
    note(h, HTTP_NOTE_NOT_HTTP, 0);
    streams_sweep(h, now);
}

/* ---- heads ---- */

/* A request, or the promise of one, that nobody has told of. s: its stream, if the response was first; else NULL. */
static void request_head(struct http2 *h, struct stream *s, struct http_head *head, bool end_stream, uint64_t now)
{
    bool kept = true;

    if (!s) {
        s = stream_new(head->stream);
        kept = stream_keep(h, s);
    }
    s->totals.request_first_ns = head->first_ns;
    s->totals.gap |= h->halves[proto_other(h->client)].lost;
    s->told[REQUEST] = true;
    s->totals.odd |= head->odd;
    if (h->sink->request)
        s->kept = h->sink->request(h->owner, head, s->kept);
    if (!kept) {
        note(h, HTTP_NOTE_UNMATCHED, 1);
        stream_done(h, s, now);
    } else if (end_stream) {
        message_end(h, s, REQUEST, now);
    }
}

/* Whether another response may wait for its request to be told. More are a direction that nobody sees. */
static bool may_be_early(const struct http2 *h)
{
    unsigned count = 0;

    for (uint32_t i = 0; i < h->count; i++)
        count += !h->streams[i]->told[REQUEST] && h->streams[i]->told[RESPONSE];
    return count < EARLY_MAX && h->halves[h->client].state != CLOSED;
}

/* A head from the server before the final response's has passed. */
static void response_head(struct http2 *h, struct stream *s, struct http_head *head)
{
    uint64_t begun = s->totals.request_first_ns;

    if (!head->status) /* malformed (RFC 9113, section 8.3.2) */
        return;
    head->response = true;
    head->interim = head->status < 200;
    head->early = !head->interim && !s->told[REQUEST] && may_be_early(h);
    if (!head->interim) {
        s->told[RESPONSE] = true;
        s->totals.status = head->status;
        s->totals.response_first_ns = head->first_ns;
        s->totals.grpc_status = grpc_status(head->fields, head->field_count);
    }
    head->request_odd = s->totals.odd;
    s->totals.odd |= head->odd;
    if (h->sink->response)
        s->kept = h->sink->response(h->owner, head, s->kept,
                                    s->told[REQUEST] && head->first_ns > begun ? head->first_ns - begun : 0);
}

static void trailers(struct http2 *h, struct stream *s, enum message m, const struct http_head *head)
{
    int status = m == RESPONSE ? grpc_status(head->fields, head->field_count) : -1;

    if (status >= 0)
        s->totals.grpc_status = status;
    if (h->sink->trailers)
        h->sink->trailers(h->owner, s->kept, m == RESPONSE, head->fields, head->field_count);
}

/* A head from the server on a stream that isn't kept: NULL if its exchange is over, or never was. */
static struct stream *unrequested(struct http2 *h, const struct http_head *head)
{
    struct stream *s;

    if (!(head->stream & 1) || head->stream <= h->last_id[1] || !head->status)
        return NULL;
    s = stream_new(head->stream);
    s->totals.gap = h->halves[h->client].lost;
    if (stream_keep(h, s))
        return s;
    note(h, HTTP_NOTE_UNMATCHED, 1);
    free(s);
    return NULL;
}

static void headers_end(struct http2 *h, enum proto_dir dir, struct http_head *head, bool end_stream, uint64_t now)
{
    enum message m = message_of(h, dir);
    struct stream *s = stream_find(h, head->stream);

    if (m == REQUEST && head->stream & 1 && head->stream > h->last_id[1]) {
        h->last_id[1] = head->stream;
        request_head(h, s, head, end_stream, now);
        return;
    }
    if (m == RESPONSE && !s)
        s = unrequested(h, head);
    if (!s || s->ended[m])
        return;
    if (s->told[m])
        trailers(h, s, m, head);
    else if (m == RESPONSE)
        response_head(h, s, head);
    if (end_stream)
        message_end(h, s, m, now);
}

static void promise_end(struct http2 *h, enum proto_dir dir, struct http_head *head, uint64_t now)
{
    if (message_of(h, dir) == REQUEST || head->stream & 1 || head->stream <= h->last_id[0])
        return;
    h->last_id[0] = head->stream;
    head->pushed = true;
    request_head(h, NULL, head, true, now);
}

static void block_end(struct http2 *h, enum proto_dir dir, uint64_t now)
{
    struct half *half = &h->halves[dir];
    struct http_head head = {
        .dir = dir, .major = 2, .stream = half->block.stream, .first_ns = half->block.first_ns, .last_ns = now};

    half->block.open = false;
    if (!hpack_end(&half->hpack, &head)) {
        lose(h, dir, 0, now);
        return;
    }
    if (half->block.promise)
        promise_end(h, dir, &head, now);
    else
        headers_end(h, dir, &head, half->block.end_stream, now);
    hpack_clear(&half->hpack);
}

/* ---- frames ---- */

static void data_content(struct http2 *h, enum proto_dir dir, const uint8_t *data, uint32_t len)
{
    enum message m = message_of(h, dir);
    struct stream *s = stream_find(h, h->halves[dir].stream);

    if (!s || !s->told[m] || s->ended[m])
        return;
    *(m == REQUEST ? &s->totals.request_body : &s->totals.response_body) += len;
    if (!data)
        s->totals.gap = true;
    if (h->sink->body)
        h->sink->body(h->owner, s->kept, dir, m == RESPONSE, data, len);
}

static void data_end(struct http2 *h, enum proto_dir dir, uint64_t now)
{
    enum message m = message_of(h, dir);
    struct stream *s = stream_find(h, h->halves[dir].stream);

    if (s && !s->ended[m] && h->halves[dir].flags & FLAG_END_STREAM)
        message_end(h, s, m, now);
}

/* RFC 9113, section 6.8: nothing will come on streams above `last` that the other side opened. */
static void goaway(struct http2 *h, enum proto_dir dir, uint32_t last, uint64_t now)
{
    uint32_t opened = message_of(h, dir) == RESPONSE; /* by a request: odd */
    bool any = false;

    for (uint32_t i = stream_place(h, last + 1); i < h->count; i++) {
        h->streams[i]->refused = (h->streams[i]->totals.stream & 1) == opened;
        any |= h->streams[i]->refused;
    }
    if (any)
        streams_sweep(h, now);
}

static void frame_end(struct http2 *h, enum proto_dir dir, uint64_t now)
{
    struct half *half = &h->halves[dir];
    struct stream *s;

    half->state = HEADER;
    half->have = 0;
    switch (half->type) {
    case DATA:
        data_end(h, dir, now);
        break;
    case HEADERS:
    case PUSH_PROMISE:
    case CONTINUATION:
        if (half->flags & FLAG_END_HEADERS)
            block_end(h, dir, now);
        break;
    case RST_STREAM:
        s = stream_find(h, half->stream);
        if (s)
            stream_close(h, s, now);
        break;
    default:
        break;
    }
}

static bool has_block(uint8_t type)
{
    return type == HEADERS || type == PUSH_PROMISE || type == CONTINUATION;
}

/* Leaves a state in which nothing remains to be taken. */
static void settle(struct http2 *h, enum proto_dir dir, uint64_t now)
{
    struct half *half = &h->halves[dir];

    if (half->state == CONTENT && half->left == half->padding)
        half->state = PADDING;
    if (half->state == PADDING && !half->left)
        frame_end(h, dir, now);
}

/* How many bytes of the payload have a meaning of their own, -1 if such a frame may not be (RFC 9113, section 6). */
static int frame_fixed(const struct half *half)
{
    int padded = half->flags & FLAG_PADDED ? 1 : 0;

    switch (half->type) {
    case DATA:
        return half->stream ? padded : -1;
    case HEADERS:
        return half->stream ? padded + (half->flags & FLAG_PRIORITY ? 5 : 0) : -1;
    case PUSH_PROMISE:
        return half->stream ? padded + 4 : -1;
    case RST_STREAM:
        return half->stream && half->left == 4 ? 0 : -1;
    case SETTINGS:
        if (half->stream || half->left % SETTING_LEN || (half->flags & FLAG_ACK && half->left))
            return -1;
        return half->left ? (int)SETTING_LEN : 0;
    case PING:
        return !half->stream && half->left == 8 ? 0 : -1;
    case GOAWAY:
        return half->stream ? -1 : (int)GOAWAY_LEN;
    case WINDOW_UPDATE:
        return half->left == 4 ? 0 : -1;
    default:
        return 0;
    }
}

/* A header block goes on in the frames that follow at once (RFC 9113, section 6.10). */
static bool in_order(const struct half *half)
{
    return half->block.open ? half->type == CONTINUATION && half->stream == half->block.carrier
                            : half->type != CONTINUATION;
}

static void frame_begin(struct http2 *h, enum proto_dir dir, uint64_t now)
{
    struct half *half = &h->halves[dir];
    int fixed;

    half->left = be32(half->bytes) >> 8;
    half->type = half->bytes[3];
    half->flags = half->bytes[4];
    half->stream = stream_id(half->bytes + 5);
    half->padding = 0;
    half->have = 0;
    fixed = frame_fixed(half);
    if (fixed < 0 || half->left < (uint32_t)fixed || !in_order(half) ||
        half->left > (half->frame_max > FRAME_MAX ? half->frame_max : FRAME_MAX)) {
        violation(h, now);
        return;
    }
    if (half->type == HEADERS || half->type == PUSH_PROMISE) {
        half->block.open = true;
        half->block.promise = half->type == PUSH_PROMISE;
        half->block.end_stream = half->flags & FLAG_END_STREAM;
        half->block.carrier = half->block.stream = half->stream;
        half->block.first_ns = half->frame_ns;
    }
    half->fixed = (uint8_t)fixed;
    half->state = fixed ? FIXED : CONTENT;
}

static void fixed_end(struct http2 *h, enum proto_dir dir, uint64_t now)
{
    struct half *half = &h->halves[dir];
    const uint8_t *p = half->bytes;

    half->state = CONTENT;
    half->have = 0;
    switch (half->type) {
    case SETTINGS:
        if (p[0] == 0 && p[1] == SETTINGS_MAX_FRAME_SIZE && be32(p + 2) > h->halves[proto_other(dir)].frame_max)
            h->halves[proto_other(dir)].frame_max = be32(p + 2);
        if (half->left)
            half->state = FIXED;
        return;
    case GOAWAY:
        goaway(h, dir, stream_id(p), now);
        return;
    default:
        break;
    }
    if (half->flags & FLAG_PADDED) {
        half->padding = *p++;
        if (half->padding > half->left) {
            violation(h, now);
            return;
        }
    }
    if (half->type == PUSH_PROMISE)
        half->block.stream = stream_id(p);
}

static void begin(struct http2 *h, enum proto_dir dir, uint64_t now)
{
    struct half *half = &h->halves[dir];
    int found = http2_detect(half->bytes, half->have);
    enum proto_dir client;

    if (found < 0)
        return;
    client = half->bytes[0] == preface[0] ? dir : proto_other(dir);
    /* Whether a server's first frame is its first can't be seen from itself. */
    if (h->joined && (!found || (!h->roles && client != dir))) {
        lose(h, dir, 0, now);
    } else if (!found || (h->roles && client != h->client)) {
        violation(h, now);
    } else {
        h->roles = true;
        h->client = client;
        half->state = HEADER;
        if (client == dir)
            half->have = 0;
        else
            frame_begin(h, dir, now);
    }
}

/* ---- feeding ---- */

static uint32_t at_most(uint32_t limit, uint64_t len)
{
    return len < limit ? (uint32_t)len : limit;
}

/* Takes bytes into half->bytes until there are `want`. */
static uint32_t gather(struct half *half, uint32_t want, const uint8_t *data, uint64_t len)
{
    uint32_t n = at_most(want - half->have, len);

    memcpy(half->bytes + half->have, data, n);
    half->have += (uint8_t)n;
    return n;
}

static uint32_t content(struct http2 *h, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t now)
{
    struct half *half = &h->halves[dir];
    uint32_t n = at_most(half->left - half->padding, len);

    half->left -= n;
    if (half->type == DATA)
        data_content(h, dir, data, n);
    else if (has_block(half->type) && !hpack_feed(&half->hpack, data, n))
        lose(h, dir, 0, now);
    return n;
}

/* Takes some of len bytes, at least one; returns how many. */
static uint32_t take(struct http2 *h, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t now)
{
    struct half *half = &h->halves[dir];
    uint32_t n;

    switch (half->state) {
    case BEGIN:
        if (!half->have)
            half->frame_ns = now;
        n = gather(half, half->have + 1u, data, len);
        begin(h, dir, now);
        break;
    case HEADER:
        if (!half->have)
            half->frame_ns = now;
        n = gather(half, HEADER_LEN, data, len);
        if (half->have == HEADER_LEN)
            frame_begin(h, dir, now);
        break;
    case FIXED:
        n = gather(half, half->fixed, data, len);
        half->left -= n;
        if (half->have == half->fixed)
            fixed_end(h, dir, now);
        break;
    case CONTENT:
        n = content(h, dir, data, len, now);
        break;
    default:
        n = at_most(half->left, len);
        half->left -= n;
        break;
    }
    settle(h, dir, now);
    return n;
}

/* Whether the bytes that come next may be missing. */
static bool may_miss(const struct half *half)
{
    return half->state == PADDING || (half->state == CONTENT && !has_block(half->type));
}

struct http2 *http2_new(const struct http_sink *sink, void *owner, bool joined)
{
    struct http2 *h = xcalloc(1, sizeof(*h));

    h->sink = sink;
    h->owner = owner;
    h->joined = joined;
    return h;
}

void http2_free(struct http2 *h, uint64_t time_ns)
{
    if (!h)
        return;
    for (int dir = 0; dir < PROTO_DIRS; dir++)
        half_close(&h->halves[dir]);
    streams_sweep(h, time_ns);
    free(h->streams);
    free(h);
}

void http2_feed(struct http2 *h, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct half *half = &h->halves[dir];

    while (len && half->state != CLOSED) {
        uint32_t n;

        if (!data && !may_miss(half)) {
            lose(h, dir, len, time_ns);
            return;
        }
        n = take(h, dir, data, len, time_ns);
        data = data ? data + n : NULL;
        len -= n;
    }
}

void http2_end(struct http2 *h, enum proto_dir dir, uint64_t time_ns)
{
    if (h->halves[dir].state == CLOSED)
        return;
    half_close(&h->halves[dir]);
    streams_sweep(h, time_ns);
}

uint64_t http2_skip(const struct http2 *h, enum proto_dir dir)
{
    const struct half *half = &h->halves[dir];

    if (half->state == CLOSED)
        return UINT64_MAX;
    if (!may_miss(half))
        return 0;
    return half->state == CONTENT && half->type == DATA && h->sink->body ? 0 : half->left;
}

void http2_upgraded(struct http2 *h, enum proto_dir request_dir, void *kept, uint64_t request_first_ns)
{
    struct stream *s = stream_new(1);

    h->roles = true;
    h->client = request_dir;
    h->last_id[1] = 1;
    s->kept = kept;
    s->totals.request_first_ns = request_first_ns;
    s->told[REQUEST] = s->ended[REQUEST] = true;
    stream_keep(h, s);
}

int http2_detect(const uint8_t *data, size_t len)
{
    size_t n = len < PREFACE_LEN ? len : PREFACE_LEN;

    if (n && data[0] == preface[0]) {
        if (memcmp(data, preface, n))
            return 0;
        return n == PREFACE_LEN ? 1 : -1;
    }
    /* A SETTINGS frame of stream 0 that isn't an acknowledgement. */
    for (size_t i = 0; i < n && i < HEADER_LEN; i++) {
        if (data[i] != (i == 3 ? SETTINGS : 0) && i != 1 && i != 2)
            return 0;
    }
    if (n < HEADER_LEN)
        return -1;
    return (data[1] << 8 | data[2]) % SETTING_LEN == 0;
}
