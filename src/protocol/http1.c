/* SPDX-License-Identifier: Apache-2.0 */
/* Each direction is a machine that takes messages one after the other. */
#include "protocol/http1.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "protocol/http1_parts.h"
#include "protocol/http_name.h"

static void drop_text(struct side *s)
{
    buf_free(&s->text);
    s->text = (struct buf)BUF_INIT;
    s->text_at = 0;
    free(s->excess);
    s->excess = NULL;
}

/* --- out of step, and out of HTTP --- */

/* Bytes of this direction that no message is made of. */
static void pass_over(struct http1 *h, struct side *s, uint64_t n)
{
    if (h->joined && s->joined) {
        h->joined = false;
        note(h, HTTP_NOTE_JOINED, 0);
    }
    s->left += n;
}

static void tell_lost(struct http1 *h, struct side *s)
{
    if (s->state == FIND && s->left) {
        if (!s->joined)
            note(h, HTTP_NOTE_LOST, s->left);
        s->left = 0;
    }
    s->joined = false;
}

/* A gap of which nobody can say what it was. */
static void lose_step(struct http1 *h, struct side *s, uint64_t now)
{
    drop_text(s);
    s->state = FIND;
    s->left = 0;
    if (h->known && carries_responses(h, s)) {
        http1_give_up_unasked(h, true, now);
        if (http1_give_up_responses(h, true, now) > 1)
            h->pairing = NONE;
    } else if (h->known) {
        http1_give_up_requests(h, true, now);
    }
    if (h->pairing == SURE)
        h->pairing = LIKELY;
}

void http1_end_side(struct http1 *h, struct side *s, enum state state)
{
    tell_lost(h, s);
    drop_text(s);
    s->state = state;
}

static void not_http(struct http1 *h, uint64_t now)
{
    http1_end_side(h, &h->sides[PROTO_RX], ENDED);
    http1_end_side(h, &h->sides[PROTO_TX], ENDED);
    if (h->known) {
        http1_give_up_responses(h, false, now);
        http1_give_up_requests(h, false, now);
    }
    note(h, HTTP_NOTE_NOT_HTTP, 0);
}

/* --- heads --- */

/* The head is complete: its lines were read. */
static void head_over(struct http1 *h, struct side *s, struct http_head *head, struct http1_framing *f, uint64_t now)
{
    struct slice upgrade_to = {0};

    head->dir = dir_of(h, s);
    head->content_length = -1;
    head->first_ns = s->first_ns;
    head->last_ns = now;
    http1_fields_end(f);
    if (f->has_length && f->has_coding)
        f->odd |= HTTP_ODD_BOTH;
    if (f->has_coding && !f->chunked && !head->response)
        f->odd |= HTTP_ODD_CODING;
    if (f->has_coding && !head->minor)
        f->odd |= HTTP_ODD_VERSION;
    if (f->has_length && !(f->odd & HTTP_ODD_LENGTHS))
        head->content_length = f->length;
    head->odd |= f->odd;
    head->interim = head->response && head->status / 100 == 1 && head->status != 101;
    s->faulty = false;
    s->closing |= !head->interim && (f->close || (!head->minor && !f->keep_alive) || (f->odd & ODD_FRAMING));
    if (head->response) {
        for (size_t i = 0; i < head->field_count && head->status == 101 && !upgrade_to.p; i++)
            if (http_name_is(head->fields[i].name, "upgrade"))
                upgrade_to = head->fields[i].value;
        http1_take_response(h, s, head, f, upgrade_to, now);
    } else {
        http1_take_request(h, s, head, f, now);
    }
}

static size_t start_line_length(const char *p, size_t len)
{
    const char *lf = memchr(p, '\n', len);

    return lf ? (size_t)(lf - p) + 1 : len;
}

/* The same of one that was kept, as far as there was room, and what the excess said. */
static void kept_head_over(struct http1 *h, struct side *s, const struct buf *text, const struct excess *excess,
                           uint64_t now)
{
    struct http_field fields[HTTP_FIELDS_MAX];
    struct http1_framing f = {0};
    struct http_head head = {0};
    size_t start = start_line_length(text->p, text->len);

    if (http1_start_line(text->p, start, excess ? excess->minor : -1, &head))
        http1_parse_fields(text->p + start, text->len - start, &head, fields, &f);
    if (excess) {
        f = excess->framing;
        head.cut = true;
    }
    head_over(h, s, &head, &f, now);
}

/* Adds to the line beyond the cut; of the start line its end is kept, of others their beginning. */
static void add_excess(struct excess *e, const char *p, size_t n)
{
    size_t room;

    if (e->in_start_line) {
        size_t keep = e->len < START_LINE_END ? e->len : START_LINE_END;

        if (n > START_LINE_END) {
            p += n - START_LINE_END;
            n = START_LINE_END;
        }
        memmove(e->line, e->line + e->len - keep, keep);
        e->len = keep;
    }
    room = sizeof(e->line) - e->len;
    memcpy(e->line + e->len, p, n < room ? n : room);
    e->len += n < room ? n : room;
}

/* The text has reached HTTP_HEAD_MAX: the line that isn't complete goes on as excess. */
static void cut_text(struct side *s)
{
    struct excess *e = xcalloc(1, sizeof(*e));
    const char *lf = memrchr(s->text.p, '\n', s->text.len);
    size_t whole = lf ? (size_t)(lf + 1 - s->text.p) : s->text.len - START_LINE_END;

    e->minor = -1;
    e->in_start_line = !lf;
    if (lf) {
        struct http_field fields[HTTP_FIELDS_MAX];
        struct http_head head = {0};
        size_t start = start_line_length(s->text.p, whole);

        http1_parse_fields(s->text.p + start, whole - start, &head, fields, &e->framing);
    }
    add_excess(e, s->text.p + whole, s->text.len - whole);
    s->text.len = whole;
    s->excess = e;
}

/* Keeps n bytes of a head that isn't complete yet. */
static void keep_text(struct side *s, const uint8_t *p, size_t n)
{
    if (!s->excess) {
        size_t room = HTTP_HEAD_MAX - s->text.len, k = n < room ? n : room;

        buf_add(&s->text, p, k);
        p += k;
        n -= k;
        if (n)
            cut_text(s);
    }
    while (n) { /* line by line: the caller passes the start line on its own */
        struct excess *e = s->excess;
        const uint8_t *lf = memchr(p, '\n', n);
        size_t k = lf ? (size_t)(lf - p) + 1 : n;

        add_excess(e, (const char *)p, k);
        if (lf && !e->in_start_line) {
            struct http_field field;
            bool folded;

            if (e->len > 2 || (e->line[0] != '\n' && e->line[0] != '\r'))
                http1_field_line(e->line, e->len, &e->framing, &field, &folded);
            if (e->len == sizeof(e->line) && e->framing.last)
                e->framing.odd |= HTTP_ODD_LINE; /* what it says at its end isn't known */
            e->len = 0;
        }
        p += k;
        n -= k;
    }
}

/* Whether a message of this kind may begin in this direction. */
static bool fits(const struct http1 *h, const struct side *s, enum http1_kind kind)
{
    if (!h->known)
        return kind != HTTP1_NEITHER;
    return kind == HTTP1_EITHER || kind == (carries_responses(h, s) ? HTTP1_RESPONSE : HTTP1_REQUEST);
}

static void learn_role(struct http1 *h, const struct side *s, bool response)
{
    if (h->known)
        return;
    h->known = true;
    h->requests = response ? proto_other(dir_of(h, s)) : dir_of(h, s);
}

/* Whether what was kept so far, and a whole start line if `complete`, can begin a message here. Then head has what that
 * tells. */
static bool check_start(struct http1 *h, struct side *s, const char *p, size_t len, bool complete,
                        struct http_head *head)
{
    struct excess *e = s->excess;

    if (!complete)
        return fits(h, s, http1_begins(p, len));
    if (e && e->in_start_line) {
        e->minor = http1_request_version(e->line, e->len);
        e->in_start_line = false;
        e->len = 0;
        if (!http1_start_line(p, len, e->minor, head) || (!head->response && e->minor < 0))
            return false;
    } else if (!http1_start_line(p, len, -1, head)) {
        return false;
    }
    if (!fits(h, s, head->response ? HTTP1_RESPONSE : HTTP1_REQUEST))
        return false;
    learn_role(h, s, head->response);
    return true;
}

/* A head that lies in one piece is parsed where it is. */
static size_t take_head(struct http1 *h, struct side *s, const uint8_t *p, size_t len, uint64_t now)
{
    bool in_place = !s->text.len, end = false;
    struct http_head head;
    size_t n = 0, kept = 0;

    if (s->place == IN_START_LINE) {
        const uint8_t *lf = memchr(p, '\n', len);

        n = lf ? (size_t)(lf - p) + 1 : len;
        if (!in_place || !lf || n > HTTP_HEAD_MAX) {
            keep_text(s, p, n);
            kept = n;
            in_place = false;
        }
        head = (struct http_head){0};
        if (!check_start(h, s, in_place ? (const char *)p : s->text.p, in_place ? n : s->text.len, lf != NULL, &head)) {
            if (s->closing) /* what follows the last message is ignored (RFC 9112, section 9.6) */
                http1_end(h, dir_of(h, s), now);
            else
                not_http(h, now);
            return len;
        }
        if (!lf)
            return len;
        s->place = LINE_BEGIN;
        if (in_place) {
            struct http_field fields[HTTP_FIELDS_MAX];
            struct http1_framing f = {0};
            size_t rest = http1_parse_fields((const char *)p + n, (len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX) - n,
                                             &head, fields, &f);

            if (rest) {
                head_over(h, s, &head, &f, now);
                return n + rest;
            }
        }
    }
    n += http1_scan_lines(&s->place, p + n, len - n, &end);
    keep_text(s, p + kept, n - kept);
    if (end) {
        struct buf text = s->text;
        struct excess *excess = s->excess;

        s->text = (struct buf)BUF_INIT;
        s->excess = NULL;
        kept_head_over(h, s, &text, excess, now);
        buf_free(&text);
        free(excess);
    }
    return n;
}

static size_t take_start(struct side *s, const uint8_t *p, size_t len, uint64_t now)
{
    size_t n = 0;

    while (n < len && (p[n] == '\r' || p[n] == '\n')) /* RFC 9112, section 2.2 */
        n++;
    if (n < len) {
        s->state = HEAD;
        s->place = IN_START_LINE;
        s->first_ns = now;
    }
    return n;
}

/* --- finding the step again --- */

static bool is_beginning(struct http1 *h, struct side *s, const char *line, size_t len)
{
    struct http_head head = {0};

    if (!http1_unmistakable(line, len, &head) || !fits(h, s, head.response ? HTTP1_RESPONSE : HTTP1_REQUEST))
        return false;
    tell_lost(h, s);
    learn_role(h, s, head.response);
    return true;
}

/* Whether is_beginning() may become true of a line that begins so. */
static bool may_begin(const struct http1 *h, const struct side *s, const char *p, size_t len)
{
    enum http1_kind kind = http1_begins(p, len);

    return fits(h, s, kind) && (kind != HTTP1_REQUEST || !memchr(p, ' ', len) || http1_known_method(p, len));
}

/* Looks at the beginnings of lines and pieces. p is one of both, or continues the text that is kept. */
static size_t find(struct http1 *h, struct side *s, const uint8_t *p, size_t len, uint64_t now)
{
    const uint8_t *lf = memchr(p, '\n', len);
    size_t n = lf ? (size_t)(lf - p) + 1 : len, before = s->text.len;

    if (s->skipping || n > HTTP_HEAD_MAX - before) {
        drop_text(s);
        pass_over(h, s, before ? before : n);
        s->skipping = !before && !lf;
        return before ? 0 : n;
    }
    if (!before && lf) {
        if (is_beginning(h, s, (const char *)p, n)) {
            s->state = START;
            return 0;
        }
        pass_over(h, s, n);
        return n;
    }
    if (!before)
        s->first_ns = now;
    buf_add(&s->text, p, n);
    if (lf && is_beginning(h, s, s->text.p, s->text.len)) {
        s->state = HEAD;
        s->place = LINE_BEGIN;
        return n;
    }
    if (!lf && may_begin(h, s, s->text.p, s->text.len))
        return n;
    drop_text(s);
    if (before) { /* but this piece may begin with it */
        pass_over(h, s, before);
        return 0;
    }
    pass_over(h, s, n);
    s->skipping = true;
    return n;
}

/* --- bytes whose meaning depends on an answer --- */

static size_t step(struct http1 *h, struct side *s, const uint8_t *p, size_t len, uint64_t now);

/* The answer is there, or none will come. */
void http1_release(struct http1 *h, uint64_t now)
{
    struct side *s = request_side(h);
    struct buf text = s->text;
    size_t at = s->text_at;

    if (!h->known || s->state != HELD)
        return;
    s->text = (struct buf)BUF_INIT;
    s->text_at = 0;
    s->state = h->upgraded ? REST : START;
    while (at < text.len) {
        at += step(h, s, (const uint8_t *)text.p + at, text.len - at, s->first_ns);
        if (s->state == HELD && at < text.len) { /* again, with the same bytes */
            s->text = text;
            s->text_at = at;
            return;
        }
    }
    buf_free(&text);
}

static size_t hold(struct http1 *h, struct side *s, const uint8_t *p, size_t len, uint64_t now)
{
    if (s->text.len + len > HTTP_HEAD_MAX) {
        h->never_hold = true;
        http1_release(h, now);
        return 0;
    }
    if (!s->text.len)
        s->first_ns = now;
    buf_add(&s->text, p, len);
    return len;
}

/* --- what is fed --- */

/* Takes some of the bytes; returns how many. If it takes none, the state has changed. */
static size_t step(struct http1 *h, struct side *s, const uint8_t *p, size_t len, uint64_t now)
{
    size_t n;

    switch (s->state) {
    case FIND:
        return find(h, s, p, len, now);
    case START:
        n = take_start(s, p, len, now);
        return s->state == HEAD ? n + take_head(h, s, p + n, len - n, now) : n;
    case HEAD:
        return take_head(h, s, p, len, now);
    case BODY:
    case BODY_TO_END:
    case CHUNK_DATA:
        return (size_t)http1_take_body(h, s, p, len, now);
    case CHUNK_SIZE:
    case CHUNK_SPACE:
    case CHUNK_EXTENSION:
        return http1_take_chunk_line(s, p, len);
    case CHUNK_CR:
    case CHUNK_LF:
        return http1_take_chunk_end(s, *p);
    case TRAILERS:
        return http1_take_trailers(h, s, p, len, now);
    case HELD:
        return hold(h, s, p, len, now);
    case REST:
        if (h->sink->rest)
            h->sink->rest(h->owner, dir_of(h, s), p, len, now);
        return len;
    case ENDED:
        break;
    }
    return len;
}

static void gap(struct http1 *h, struct side *s, uint64_t len, uint64_t now)
{
    while (len) {
        switch (s->state) {
        case BODY:
        case BODY_TO_END:
        case CHUNK_DATA:
            len -= http1_take_body(h, s, NULL, len, now);
            break;
        case HELD: /* what is held isn't whole any more */
            h->never_hold = true;
            http1_release(h, now);
            break;
        case FIND:
            pass_over(h, s, s->text.len + len);
            drop_text(s);
            s->skipping = false; /* what follows is the beginning of a piece */
            return;
        case REST:
            if (h->sink->rest)
                h->sink->rest(h->owner, dir_of(h, s), NULL, len, now);
            return;
        case ENDED:
            return;
        default:
            lose_step(h, s, now);
        }
    }
}

void http1_feed(struct http1 *h, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct side *s = &h->sides[dir];

    if (!data) {
        gap(h, s, len, time_ns);
        return;
    }
    s->skipping = false;
    while (len) {
        size_t n = step(h, s, data, (size_t)len, time_ns);

        data += n;
        len -= n;
    }
}

void http1_end(struct http1 *h, enum proto_dir dir, uint64_t time_ns)
{
    struct side *s = &h->sides[dir];

    if (s->state == REST || s->state == ENDED)
        return;
    if (s->exchange && s->state == BODY_TO_END)
        http1_message_over(h, s, time_ns);
    if (s->state == HELD) {
        h->never_hold = true;
        http1_release(h, time_ns);
    }
    http1_end_side(h, s, ENDED);
    if (!h->known)
        return;
    if (carries_responses(h, s))
        http1_give_up_responses(h, false, time_ns);
    else
        http1_give_up_requests(h, false, time_ns);
}

uint64_t http1_skip(const struct http1 *h, enum proto_dir dir)
{
    const struct side *s = &h->sides[dir];

    switch (s->state) {
    case BODY:
        return !carries_responses(h, s) && http1_body_waits(s) ? 0 : s->left;
    case CHUNK_DATA:
        return s->left;
    case BODY_TO_END:
    case ENDED:
        return UINT64_MAX;
    default:
        return 0;
    }
}

struct http1 *http1_new(const struct http_sink *sink, void *owner, bool joined)
{
    struct http1 *h = xcalloc(1, sizeof(*h));

    h->sink = sink;
    h->owner = owner;
    h->last_next = &h->first;
    h->joined = joined;
    h->pairing = joined ? LIKELY : SURE;
    for (int dir = 0; dir < PROTO_DIRS; dir++) {
        h->sides[dir].state = joined ? FIND : START;
        h->sides[dir].joined = joined;
    }
    return h;
}

void http1_free(struct http1 *h, uint64_t time_ns)
{
    if (!h)
        return;
    for (int dir = 0; dir < PROTO_DIRS; dir++) {
        if (h->sides[dir].exchange) /* its end was not seen */
            h->sides[dir].faulty = true;
        http1_end(h, (enum proto_dir)dir, time_ns);
        drop_text(&h->sides[dir]);
    }
    while (h->first) {
        h->first->asked = h->first->answered = true;
        http1_settle(h, h->first, time_ns);
    }
    free(h);
}

int http1_detect(const uint8_t *data, size_t len)
{
    struct http_head head = {0};
    const char *p = (const char *)data, *lf;

    while (len && (*p == '\r' || *p == '\n')) {
        p++;
        len--;
    }
    lf = memchr(p, '\n', len);
    if (lf)
        return http1_start_line(p, (size_t)(lf - p) + 1, -1, &head);
    switch (http1_begins(p, len)) {
    case HTTP1_NEITHER:
        return 0;
    case HTTP1_RESPONSE:
        return len < 12 ? -1 : http1_start_line(p, 12, -1, &head);
    default:
        return len < HTTP1_DETECT_MAX ? -1 : http1_known_method(p, len);
    }
}
