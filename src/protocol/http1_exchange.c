/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exchanges that are not over lie in a queue between the two directions. Requests
 * enter at its end, responses go to the first one that has none: HTTP/1 has no
 * other way to tell what belongs together (RFC 9112, section 9.3.2).
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "protocol/http1_parts.h"

/* --- exchanges --- */

/* Mostly an exchange is over before the next one begins, on whatever connection: that takes the same memory, and none
 * is allocated. */
static struct exchange only;
static bool only_taken;

static struct exchange *get_exchange(void)
{
    if (only_taken)
        return xcalloc(1, sizeof(struct exchange));
    only_taken = true;
    only = (struct exchange){0};
    return &only;
}

static void put_exchange(struct exchange *x)
{
    if (x == &only)
        only_taken = false;
    else
        free(x);
}

static struct exchange *add_exchange(struct http1 *h)
{
    struct exchange *x = get_exchange();

    x->totals.grpc_status = -1;
    x->alone = !h->first;
    *h->last_next = x;
    h->last_next = &x->next;
    h->count++;
    return x;
}

/* Tells and forgets an exchange whose both sides are over. */
void http1_settle(struct http1 *h, struct exchange *x, uint64_t now)
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
    put_exchange(x);
}

/* Neither the rest of its request nor a request will be told. */
static void end_request(struct http1 *h, struct exchange *x, bool gap, uint64_t now)
{
    x->asked = true;
    x->broken = true;
    x->totals.gap |= gap;
    http1_settle(h, x, now);
}

static void end_response(struct http1 *h, struct exchange *x, bool gap, uint64_t now)
{
    x->answered = true;
    x->broken = true;
    x->holds = false;
    x->totals.gap |= gap;
    http1_settle(h, x, now);
}

/* No request will be told for the responses that have none. Returns how many they were. */
unsigned http1_give_up_unasked(struct http1 *h, bool gap, uint64_t now)
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
    http1_release(h, now);
    return count;
}

/* The direction of requests has ended, or is out of step. */
void http1_give_up_requests(struct http1 *h, bool gap, uint64_t now)
{
    struct exchange *asking = request_side(h)->exchange;

    request_side(h)->exchange = NULL;
    if (asking)
        end_request(h, asking, gap, now);
    http1_give_up_unasked(h, gap, now);
}

/* The same of responses. Returns how many exchanges lose theirs, or its end. */
unsigned http1_give_up_responses(struct http1 *h, bool gap, uint64_t now)
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
    return http1_give_up_unasked(h, false, now) + give_up_unanswered(h, gap, now);
}

/* --- ends of messages --- */

/* The body of a request waits for an answer, as far as we know. */
bool http1_body_waits(const struct side *s)
{
    return s->exchange && s->exchange->expects && !s->exchange->totals.request_body &&
           (s->state == BODY || (s->state == CHUNK_SIZE && !s->digits));
}

/* Whoever is told 417 before the body was begun repeats the request without it (RFC 9110, section 15.5.18). */
static void refused(struct http1 *h, struct exchange *x)
{
    struct side *s = request_side(h);

    if (x->totals.status != 417 || s->exchange != x || !http1_body_waits(s))
        return;
    s->exchange = NULL;
    s->state = START;
    x->asked = true;
}

void http1_message_over(struct http1 *h, struct side *s, uint64_t now)
{
    struct exchange *x = s->exchange;

    s->exchange = NULL;
    x->broken |= s->faulty;
    if (carries_responses(h, s)) {
        s->state = START;
        x->answered = true;
        x->totals.answered = !s->faulty;
        x->totals.end_ns = now;
        refused(h, x);
        /* One request, its response, and nothing else on the way: from here on the order counts again. */
        if (h->pairing == LIKELY && x->has_request && x->alone && x->asked && !x->next)
            h->pairing = SURE;
    } else {
        s->state = h->upgraded ? REST : x->holds ? HELD : START;
        x->asked = true;
    }
    http1_settle(h, x, now);
}

/* --- heads --- */

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
    http1_message_over(h, answering, now);
    answering->state = REST;
    http1_give_up_responses(h, false, now);
    if (own) /* goes over to the rest at its end */
        return;
    http1_give_up_requests(h, false, now);
    if (asking->state != HELD && asking->state != ENDED) {
        struct buf text = asking->text;

        asking->text = (struct buf)BUF_INIT;
        http1_end_side(h, asking, REST);
        if (text.len && h->sink->rest)
            h->sink->rest(h->owner, h->requests, (const uint8_t *)text.p, text.len, asking->first_ns);
        buf_free(&text);
    }
    http1_release(h, now);
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
        http1_message_over(h, s, now);
}

void http1_take_request(struct http1 *h, struct side *s, const struct http_head *head, const struct http1_framing *f,
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
    http1_begin_body(h, s, f, now);
    if (late)
        reconsider_answer(h, x, now);
}

void http1_take_response(struct http1 *h, struct side *s, struct http_head *head, const struct http1_framing *f,
                         struct slice upgrade_to, uint64_t now)
{
    struct exchange *x = h->unanswered;
    const bool interim = head->interim;
    uint64_t begun = x ? x->totals.request_first_ns : 0;

    if (!x && !interim) {
        if (h->unasked && h->count >= EARLY_MAX)
            stop_pairing(h, false, now);
        x = add_exchange(h);
        if (h->pairing != SURE || request_side(h)->state == ENDED)
            x->asked = true;
        else if (!h->unasked)
            h->unasked = x;
        head->early = !x->asked;
    } else if (x && !interim) {
        h->unanswered = x->next;
    }
    if (x) {
        head->request_odd = x->totals.odd;
        x->totals.odd |= head->odd;
        x->told_odd = x->totals.odd;
        if (!interim) {
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
    if (interim) {
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
            http1_message_over(h, s, now);
        else
            http1_begin_body(h, s, f, now);
        if (held)
            http1_release(h, now);
    }
}
