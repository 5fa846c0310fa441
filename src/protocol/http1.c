/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each direction is a machine that takes messages one after the other; the
 * exchanges that are not over lie in a queue between the two. Requests enter at
 * its end, responses go to the first one that has none: HTTP/1 has no other way
 * to tell what belongs together (RFC 9112, section 9.3.2).
 */
#include "protocol/http1.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "protocol/http1_head.h"

enum state {
    FIND,  /* out of step: looks for the unmistakable beginning of a message */
    START, /* between messages */
    HEAD,
    BODY, /* `left` bytes of it are to come */
    BODY_TO_END,
    CHUNK_SIZE, /* `left` is the size so far */
    CHUNK_SPACE,
    CHUNK_EXTENSION,
    CHUNK_DATA, /* `left` bytes of it are to come */
    CHUNK_CR,   /* behind its data */
    CHUNK_LF,
    TRAILERS,
    HELD,  /* request direction: what follows depends on the answer to CONNECT or Upgrade; is kept in `text` */
    REST,  /* something else than HTTP */
    ENDED, /* nothing is taken any more */
};

/* Where in a head (or trailers) the next byte is. */
enum place {
    IN_START_LINE,
    LINE_BEGIN,
    LINE_BEGIN_CR, /* behind a CR with which a line began; in the line of a chunk's size: behind any CR */
    IN_LINE,
};

/* How far the order of messages tells which response belongs to which request. */
enum pairing {
    SURE,   /* all was seen: a response without a request is one whose request is told late */
    LIKELY, /* something was missed: as long as one request waits for its response before the next, they pair */
    NONE,   /* something was missed of a pipeline, so responses may belong to any request */
};

/* So many responses may wait for requests that are told late. More are a direction that nobody sees. */
#define EARLY_MAX 16u

struct exchange {
    struct exchange *next;
    void *kept;
    struct http_totals totals;
    uint32_t told_odd; /* of totals.odd, what the heads have told */
    bool has_request;
    bool alone;         /* its request began when nothing was outstanding */
    bool asked;         /* the request is over, or never comes */
    bool answering;     /* the final response has begun */
    bool answered;      /* the response is over, or never comes */
    bool broken;        /* one of them didn't end as it should */
    bool head, connect; /* its method */
    bool holds;         /* the bytes behind the request wait for its answer */
    bool expects;       /* its body may wait for one, too (RFC 9110, section 10.1.1) */
    bool handed_over;   /* to whoever decodes h2c */
};

/* Lines of a head that are beyond HTTP_HEAD_MAX: looked at one by one, for what they say about framing. */
struct excess {
    struct http1_framing framing; /* what all lines so far say */
    bool in_start_line;
    int minor; /* where the start line is cut: what its end says, else -1 */
    size_t len;
    char line[1024]; /* its beginning; of the start line its end */
};
#define START_LINE_END 32u

/* Whoever is told such a length must close the connection behind the message (RFC 9112, sections 6.1 and 6.3). */
#define ODD_FRAMING (HTTP_ODD_LENGTHS | HTTP_ODD_BOTH | HTTP_ODD_CODING | HTTP_ODD_VERSION)

struct side {
    enum state state;
    enum place place;
    bool skipping;     /* FIND: the line isn't looked at */
    bool joined;       /* FIND: since the connection was joined */
    bool faulty;       /* nobody can say where the message ends, but the direction's end */
    uint8_t digits;    /* CHUNK_SIZE: so many were there, 255 at most */
    bool closing;      /* a message said that it is the last one */
    uint64_t left;     /* of a body or chunk; FIND: bytes that were passed over */
    uint64_t first_ns; /* first byte of the message, or of what is held */
    struct buf text;   /* of a head or line that isn't complete, or what is held */
    size_t text_at;    /* HELD: so much of it is done with */
    struct excess *excess;
    struct exchange *exchange; /* whose message is being taken; NULL between messages */
};

struct http1 {
    const struct http_sink *sink;
    void *owner;
    struct side sides[PROTO_DIRS];
    bool known; /* which direction carries requests: */
    enum proto_dir requests;
    enum pairing pairing;
    bool joined; /* and that isn't told yet */
    bool upgraded;
    bool never_hold; /* more was held once than there is room for */
    unsigned count;  /* of exchanges */
    struct exchange *first, **last_next;
    struct exchange *unanswered; /* the first one whose response is to come; so are those of all behind it */
    struct exchange *unasked;    /* the first one whose request is to come; the same */
};

static void release(struct http1 *h, uint64_t now);

static struct side *request_side(struct http1 *h)
{
    return &h->sides[h->requests];
}

static struct side *response_side(struct http1 *h)
{
    return &h->sides[proto_other(h->requests)];
}

static enum proto_dir dir_of(const struct http1 *h, const struct side *s)
{
    return (enum proto_dir)(s - h->sides);
}

static bool carries_responses(const struct http1 *h, const struct side *s)
{
    return h->known && dir_of(h, s) != h->requests;
}

static void note(const struct http1 *h, enum http_note what, uint64_t count)
{
    if (h->sink->note)
        h->sink->note(h->owner, what, count);
}

static void drop_text(struct side *s)
{
    buf_free(&s->text);
    s->text = (struct buf)BUF_INIT;
    s->text_at = 0;
    free(s->excess);
    s->excess = NULL;
}

/* --- exchanges --- */

static struct exchange *add_exchange(struct http1 *h)
{
    struct exchange *x = xcalloc(1, sizeof(*x));

    x->totals.grpc_status = -1;
    x->alone = !h->first;
    *h->last_next = x;
    h->last_next = &x->next;
    h->count++;
    return x;
}

/* Tells and forgets an exchange whose both sides are over. */
static void settle(struct http1 *h, struct exchange *x, uint64_t now)
{
    struct exchange **at = &h->first;

    if (!x->asked || !x->answered)
        return;
    while (*at != x) /* it is the first one, but for some of those that don't pair */
        at = &(*at)->next;
    *at = x->next;
    if (h->last_next == &x->next)
        h->last_next = at;
    h->count--;
    if (!x->totals.end_ns)
        x->totals.end_ns = now;
    x->totals.late_odd = x->totals.odd & ~x->told_odd;
    x->totals.complete = x->has_request && x->answering && !x->broken;
    if (h->sink->done && !x->handed_over)
        h->sink->done(h->owner, x->kept, &x->totals);
    free(x);
}

/* Neither the rest of its request nor a request will be told. */
static void end_request(struct http1 *h, struct exchange *x, bool gap, uint64_t now)
{
    x->asked = true;
    x->broken = true;
    x->totals.gap |= gap;
    settle(h, x, now);
}

static void end_response(struct http1 *h, struct exchange *x, bool gap, uint64_t now)
{
    x->answered = true;
    x->broken = true;
    x->holds = false;
    x->totals.gap |= gap;
    settle(h, x, now);
}

/* No request will be told for the responses that have none. Returns how many they were. */
static unsigned give_up_unasked(struct http1 *h, bool gap, uint64_t now)
{
    struct exchange *x = h->unasked, *next;
    unsigned count = 0;

    h->unasked = NULL;
    for (; x; x = next, count++) {
        next = x->next;
        end_request(h, x, gap, now);
    }
    return count;
}

/* No response will be told for the requests that have none. Returns how many they were. */
static unsigned give_up_unanswered(struct http1 *h, bool gap, uint64_t now)
{
    struct exchange *x = h->unanswered, *next;
    unsigned count = 0;

    h->unanswered = NULL;
    for (; x; x = next, count++) {
        next = x->next;
        end_response(h, x, gap, now);
    }
    release(h, now);
    return count;
}

/* The direction of requests has ended, or is out of step. */
static void give_up_requests(struct http1 *h, bool gap, uint64_t now)
{
    struct exchange *asking = request_side(h)->exchange;

    request_side(h)->exchange = NULL;
    if (asking)
        end_request(h, asking, gap, now);
    give_up_unasked(h, gap, now);
}

/* The same of responses. Returns how many exchanges lose theirs, or its end. */
static unsigned give_up_responses(struct http1 *h, bool gap, uint64_t now)
{
    struct exchange *answering = response_side(h)->exchange;

    response_side(h)->exchange = NULL;
    if (answering)
        end_response(h, answering, gap, now);
    return give_up_unanswered(h, gap, now) + (answering != NULL);
}

/* From here on requests and responses are told without each other. Returns how many were outstanding. */
static unsigned stop_pairing(struct http1 *h, bool gap, uint64_t now)
{
    h->pairing = NONE;
    return give_up_unasked(h, false, now) + give_up_unanswered(h, gap, now);
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
        give_up_unasked(h, true, now);
        if (give_up_responses(h, true, now) > 1)
            h->pairing = NONE;
    } else if (h->known) {
        give_up_requests(h, true, now);
    }
    if (h->pairing == SURE)
        h->pairing = LIKELY;
}

static void end_side(struct http1 *h, struct side *s, enum state state)
{
    tell_lost(h, s);
    drop_text(s);
    s->state = state;
}

static void not_http(struct http1 *h, uint64_t now)
{
    end_side(h, &h->sides[PROTO_RX], ENDED);
    end_side(h, &h->sides[PROTO_TX], ENDED);
    if (h->known) {
        give_up_responses(h, false, now);
        give_up_requests(h, false, now);
    }
    note(h, HTTP_NOTE_NOT_HTTP, 0);
}

/* --- bodies and ends of messages --- */

/* The body of a request waits for an answer, as far as we know. */
static bool body_waits(const struct side *s)
{
    return s->exchange && s->exchange->expects && !s->exchange->totals.request_body &&
           (s->state == BODY || (s->state == CHUNK_SIZE && !s->digits));
}

/* Whoever is told 417 before the body was begun repeats the request without it (RFC 9110, section 15.5.18). */
static void refused(struct http1 *h, struct exchange *x)
{
    struct side *s = request_side(h);

    if (x->totals.status != 417 || s->exchange != x || !body_waits(s))
        return;
    s->exchange = NULL;
    s->state = START;
    x->asked = true;
}

static void message_over(struct http1 *h, struct side *s, uint64_t now)
{
    struct exchange *x = s->exchange;

    s->exchange = NULL;
    x->broken |= s->faulty;
    if (carries_responses(h, s)) {
        s->state = START;
        x->answered = true;
        x->totals.end_ns = now;
        refused(h, x);
        /* One request, its response, and nothing else on the way: from here on the order counts again. */
        if (h->pairing == LIKELY && x->has_request && x->alone && x->asked && !x->next)
            h->pairing = SURE;
    } else {
        s->state = h->upgraded ? REST : x->holds ? HELD : START;
        x->asked = true;
    }
    settle(h, x, now);
}

/* n bytes of a body; p NULL: they weren't captured. */
static void body(struct http1 *h, struct side *s, const uint8_t *p, uint64_t n)
{
    struct exchange *x = s->exchange;
    bool response = carries_responses(h, s);

    *(response ? &x->totals.response_body : &x->totals.request_body) += n;
    if (h->sink->body && n)
        h->sink->body(h->owner, x->kept, dir_of(h, s), response, p, n);
}

/* Of len bytes those that belong to the body that is being taken; returns how many they are. */
static uint64_t take_body(struct http1 *h, struct side *s, const uint8_t *p, uint64_t len, uint64_t now)
{
    uint64_t n = s->state == BODY_TO_END || len < s->left ? len : s->left;

    body(h, s, p, n);
    if (s->state != BODY_TO_END && !(s->left -= n)) {
        if (s->state == CHUNK_DATA)
            s->state = CHUNK_CR;
        else
            message_over(h, s, now);
    }
    return n;
}

/* The chunks can't be followed any more (RFC 9112, section 7.1): what comes is of this message, if of any. */
static void bad_chunk(struct side *s)
{
    s->exchange->totals.odd |= HTTP_ODD_CHUNK;
    s->faulty = true;
    s->state = BODY_TO_END;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Chunk size, then what may be between it and the end of its line. */
static size_t take_chunk_line(struct side *s, const uint8_t *p, size_t len)
{
    uint32_t *odd = &s->exchange->totals.odd;
    const uint8_t *lf, *end;
    size_t n = 0;

    for (; s->state == CHUNK_SIZE && n < len; n++) {
        int digit = hex_digit(p[n]);

        if (digit < 0) {
            if (!s->digits) {
                bad_chunk(s);
                return n;
            }
            s->state = CHUNK_SPACE;
            break;
        }
        if (s->left >> 59) { /* 2^63 and more is no length of anything */
            bad_chunk(s);
            return n;
        }
        s->left = s->left << 4 | (uint64_t)digit;
        s->digits += s->digits < UINT8_MAX;
        if (s->digits > 16)
            *odd |= HTTP_ODD_CHUNK;
    }
    for (; s->state == CHUNK_SPACE && n < len; n++) {
        if (p[n] == ';' || p[n] == '\r' || p[n] == '\n') {
            s->state = CHUNK_EXTENSION;
            break;
        }
        if (p[n] != ' ' && p[n] != '\t') {
            bad_chunk(s);
            return n;
        }
        *odd |= HTTP_ODD_CHUNK; /* allowed before extensions only, and even there called bad */
    }
    if (s->state != CHUNK_EXTENSION || n == len)
        return n;
    /* Up to CRLF. Some take any LF, or any CR, for the end of the line. */
    lf = memchr(p + n, '\n', len - n);
    end = lf ? lf : p + len;
    if (end > p + n) {
        bool cr = end[-1] == '\r';

        if (s->place == LINE_BEGIN_CR || memchr(p + n, '\r', (size_t)(end - (p + n)) - cr))
            *odd |= HTTP_ODD_CHUNK;
        s->place = cr ? LINE_BEGIN_CR : IN_LINE;
    }
    if (!lf)
        return len;
    if (s->place != LINE_BEGIN_CR)
        *odd |= HTTP_ODD_CHUNK;
    s->place = LINE_BEGIN;
    s->state = s->left ? CHUNK_DATA : TRAILERS;
    return (size_t)(lf - p) + 1;
}

static size_t take_chunk_end(struct side *s, uint8_t c)
{
    if (c == '\r' && s->state == CHUNK_CR) {
        s->state = CHUNK_LF;
        return 1;
    }
    if (c != '\n') {
        bad_chunk(s);
        return 0;
    }
    if (s->state == CHUNK_CR)
        s->exchange->totals.odd |= HTTP_ODD_CHUNK;
    s->state = CHUNK_SIZE;
    s->place = IN_LINE;
    s->digits = 0;
    return 1;
}

/* Bytes up to the end of the empty line that ends a head or trailers; *end tells whether it is there. */
static size_t scan_lines(enum place *place, const uint8_t *p, size_t len, bool *end)
{
    size_t n = 0;

    *end = false;
    while (n < len) {
        const uint8_t *lf;

        switch (*place) {
        case LINE_BEGIN:
            if (p[n] == '\r') {
                *place = LINE_BEGIN_CR;
                n++;
                break;
            }
            /* fall through */
        case LINE_BEGIN_CR:
            if (p[n] == '\n') {
                *end = true;
                return n + 1;
            }
            *place = IN_LINE;
            /* fall through */
        default:
            lf = memchr(p + n, '\n', len - n);
            if (!lf)
                return len;
            n = (size_t)(lf - p) + 1;
            *place = LINE_BEGIN;
        }
    }
    return n;
}

static size_t take_trailers(struct http1 *h, struct side *s, const uint8_t *p, size_t len, uint64_t now)
{
    bool end;
    size_t n = scan_lines(&s->place, p, len, &end);

    if (end)
        message_over(h, s, now);
    return n;
}

/* --- heads --- */

static void begin_body(struct http1 *h, struct side *s, const struct http1_framing *f, uint64_t now)
{
    s->left = 0;
    s->digits = 0;
    s->place = IN_LINE;
    if (f->has_coding && f->chunked) {
        s->state = CHUNK_SIZE;
    } else if (f->has_coding) {
        s->state = BODY_TO_END;
        s->faulty = !carries_responses(h, s);
    } else if (f->odd & HTTP_ODD_LENGTHS) {
        s->state = BODY_TO_END;
        s->faulty = true;
    } else if (f->has_length && f->length) {
        s->state = BODY;
        s->left = (uint64_t)f->length;
    } else if (f->has_length || !carries_responses(h, s)) {
        message_over(h, s, now);
    } else {
        s->state = BODY_TO_END;
    }
}

/* Both directions are something else from here on. */
static void upgrade(struct http1 *h, struct exchange *x, struct slice to, uint64_t now)
{
    struct side *asking = request_side(h), *answering = response_side(h);
    bool own = asking->exchange && asking->exchange == x;

    h->upgraded = true;
    if (h->sink->upgraded)
        h->sink->upgraded(h->owner, to, x->kept);
    x->handed_over = x->has_request && to.p && to.len == 3 && !memcmp(to.p, "h2c", 3);
    answering->exchange = x;
    message_over(h, answering, now);
    answering->state = REST;
    give_up_responses(h, false, now);
    if (own) /* goes over to the rest at its end */
        return;
    give_up_requests(h, false, now);
    if (asking->state != HELD && asking->state != ENDED) {
        struct buf text = asking->text;

        asking->text = (struct buf)BUF_INIT;
        end_side(h, asking, REST);
        if (text.len && h->sink->rest)
            h->sink->rest(h->owner, h->requests, (const uint8_t *)text.p, text.len, asking->first_ns);
        buf_free(&text);
    }
    release(h, now);
}

static bool is_tunnel(const struct exchange *x)
{
    return x->connect && x->totals.status / 100 == 2;
}

/* A request whose response has begun before it was told: its method may say that there is no body. */
static void reconsider_answer(struct http1 *h, struct exchange *x, uint64_t now)
{
    struct side *s = response_side(h);

    if (s->exchange != x || x->totals.response_body)
        return;
    if (is_tunnel(x))
        upgrade(h, x, (struct slice){0}, now);
    else if (x->head && (s->state == BODY || s->state == BODY_TO_END || s->state == CHUNK_SIZE))
        message_over(h, s, now);
}

static void take_request(struct http1 *h, struct side *s, const struct http_head *head, const struct http1_framing *f,
                         uint64_t now)
{
    struct exchange *x;
    bool late;

    if (h->unanswered && h->pairing == LIKELY)
        stop_pairing(h, true, now);
    x = h->unasked;
    if (x) {
        h->unasked = x->next;
    } else {
        if (h->count >= HTTP1_OUTSTANDING_MAX)
            note(h, HTTP_NOTE_UNMATCHED, stop_pairing(h, false, now));
        x = add_exchange(h);
        if (h->pairing == NONE || response_side(h)->state == ENDED)
            x->answered = true;
        else if (!h->unanswered)
            h->unanswered = x;
    }
    s->exchange = x;
    x->has_request = true;
    x->totals.request_first_ns = s->first_ns;
    x->totals.odd |= head->odd;
    x->told_odd |= head->odd;
    x->totals.gap |= h->pairing == NONE;
    x->head = head->method.len == 4 && !memcmp(head->method.p, "HEAD", 4);
    x->expects = f->expect;
    x->connect = head->method.len == 7 && !memcmp(head->method.p, "CONNECT", 7);
    x->holds = (x->connect || f->upgrade) && !x->answering && !x->answered && !h->never_hold;
    if (h->sink->request)
        x->kept = h->sink->request(h->owner, head, x->kept);
    late = x->answering && !x->answered;
    begin_body(h, s, f, now);
    if (late)
        reconsider_answer(h, x, now);
}

static void take_response(struct http1 *h, struct side *s, struct http_head *head, const struct http1_framing *f,
                          struct slice upgrade_to, uint64_t now)
{
    struct exchange *x = h->unanswered;
    uint64_t begun = x ? x->totals.request_first_ns : 0;

    if (!x && !head->interim) {
        if (h->unasked && h->count >= EARLY_MAX)
            stop_pairing(h, false, now);
        x = add_exchange(h);
        if (h->pairing != SURE || request_side(h)->state == ENDED)
            x->asked = true;
        else if (!h->unasked)
            h->unasked = x;
        head->early = !x->asked;
    } else if (x && !head->interim) {
        h->unanswered = x->next;
    }
    if (x) {
        head->request_odd = x->totals.odd;
        x->totals.odd |= head->odd;
        x->told_odd = x->totals.odd;
        if (!head->interim) {
            x->answering = true;
            x->totals.status = head->status;
            x->totals.response_first_ns = s->first_ns;
        }
    }
    if (h->sink->response) {
        void *kept = h->sink->response(h->owner, head, x ? x->kept : NULL,
                                       begun && s->first_ns > begun ? s->first_ns - begun : 0);

        if (x)
            x->kept = kept;
    }
    if (head->interim) {
        s->state = START;
        return;
    }
    s->exchange = x;
    if (head->status == 101) {
        upgrade(h, x, upgrade_to.p ? upgrade_to : (struct slice){"", 0}, now);
    } else if (is_tunnel(x)) {
        upgrade(h, x, (struct slice){0}, now);
    } else {
        bool held = x->holds;

        x->holds = false;
        if (x->head || head->status == 204 || head->status == 304)
            message_over(h, s, now);
        else
            begin_body(h, s, f, now);
        if (held)
            release(h, now);
    }
}

/* The head is complete: p is its text, or what was kept of it, and what the excess said. */
static void head_over(struct http1 *h, struct side *s, const char *p, size_t len, const struct excess *excess,
                      uint64_t now)
{
    struct http_field fields[HTTP_FIELDS_MAX];
    struct http1_framing f = {0};
    struct http_head head = {.dir = dir_of(h, s), .content_length = -1, .first_ns = s->first_ns, .last_ns = now};
    struct slice upgrade_to = {0};

    http1_parse_head(p, len, excess ? excess->minor : -1, &head, fields, &f);
    if (excess) {
        f = excess->framing;
        head.cut = true;
    }
    http1_fields_end(&f);
    if (f.has_length && f.has_coding)
        f.odd |= HTTP_ODD_BOTH;
    if (f.has_coding && !f.chunked && !head.response)
        f.odd |= HTTP_ODD_CODING;
    if (f.has_coding && !head.minor)
        f.odd |= HTTP_ODD_VERSION;
    if (f.has_length && !(f.odd & HTTP_ODD_LENGTHS))
        head.content_length = f.length;
    head.odd |= f.odd;
    head.interim = head.response && head.status / 100 == 1 && head.status != 101;
    s->faulty = false;
    s->closing |= !head.interim && (f.close || (!head.minor && !f.keep_alive) || (f.odd & ODD_FRAMING));
    if (head.response) {
        for (size_t i = 0; i < head.field_count && head.status == 101 && !upgrade_to.p; i++)
            if (fields[i].name.len == 7 && !strncasecmp(fields[i].name.p, "upgrade", 7))
                upgrade_to = fields[i].value;
        take_response(h, s, &head, &f, upgrade_to, now);
    } else {
        take_request(h, s, &head, &f, now);
    }
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

        http1_parse_head(s->text.p, whole, -1, &head, fields, &e->framing);
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

/* Whether what was kept so far, and a whole start line if `complete`, can begin a message here. */
static bool check_start(struct http1 *h, struct side *s, const char *p, size_t len, bool complete)
{
    struct http_head head = {0};
    struct excess *e = s->excess;

    if (!fits(h, s, http1_begins(p, len)))
        return false;
    if (!complete)
        return true;
    if (e && e->in_start_line) {
        e->minor = http1_request_version(e->line, e->len);
        e->in_start_line = false;
        e->len = 0;
        if (!http1_start_line(p, len, e->minor, &head) || (!head.response && e->minor < 0))
            return false;
    } else if (!http1_start_line(p, len, -1, &head)) {
        return false;
    }
    learn_role(h, s, head.response);
    return true;
}

/* A head that lies in one piece is parsed where it is. */
static size_t take_head(struct http1 *h, struct side *s, const uint8_t *p, size_t len, uint64_t now)
{
    bool in_place = !s->text.len, end = false;
    size_t n = 0, kept = 0;

    if (s->place == IN_START_LINE) {
        const uint8_t *lf = memchr(p, '\n', len);

        n = lf ? (size_t)(lf - p) + 1 : len;
        if (!in_place || !lf || n > HTTP_HEAD_MAX) {
            keep_text(s, p, n);
            kept = n;
            in_place = false;
        }
        if (!check_start(h, s, in_place ? (const char *)p : s->text.p, in_place ? n : s->text.len, lf != NULL)) {
            if (s->closing) /* what follows the last message is ignored (RFC 9112, section 9.6) */
                http1_end(h, dir_of(h, s), now);
            else
                not_http(h, now);
            return len;
        }
        if (!lf)
            return len;
        s->place = LINE_BEGIN;
    }
    n += scan_lines(&s->place, p + n, len - n, &end);
    if (in_place && end && n <= HTTP_HEAD_MAX) {
        head_over(h, s, (const char *)p, n, NULL, now);
        return n;
    }
    keep_text(s, p + kept, n - kept);
    if (end) {
        struct buf text = s->text;
        struct excess *excess = s->excess;

        s->text = (struct buf)BUF_INIT;
        s->excess = NULL;
        head_over(h, s, text.p, text.len, excess, now);
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
static void release(struct http1 *h, uint64_t now)
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
        release(h, now);
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
    switch (s->state) {
    case FIND:
        return find(h, s, p, len, now);
    case START:
        return take_start(s, p, len, now);
    case HEAD:
        return take_head(h, s, p, len, now);
    case BODY:
    case BODY_TO_END:
    case CHUNK_DATA:
        return (size_t)take_body(h, s, p, len, now);
    case CHUNK_SIZE:
    case CHUNK_SPACE:
    case CHUNK_EXTENSION:
        return take_chunk_line(s, p, len);
    case CHUNK_CR:
    case CHUNK_LF:
        return take_chunk_end(s, *p);
    case TRAILERS:
        return take_trailers(h, s, p, len, now);
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
            len -= take_body(h, s, NULL, len, now);
            break;
        case HELD: /* what is held isn't whole any more */
            h->never_hold = true;
            release(h, now);
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
        message_over(h, s, time_ns);
    if (s->state == HELD) {
        h->never_hold = true;
        release(h, time_ns);
    }
    end_side(h, s, ENDED);
    if (!h->known)
        return;
    if (carries_responses(h, s))
        give_up_responses(h, false, time_ns);
    else
        give_up_requests(h, false, time_ns);
}

uint64_t http1_skip(const struct http1 *h, enum proto_dir dir)
{
    const struct side *s = &h->sides[dir];

    switch (s->state) {
    case BODY:
        return !carries_responses(h, s) && body_waits(s) ? 0 : s->left;
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
        settle(h, h->first, time_ns);
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
