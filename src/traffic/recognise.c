/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/recognise.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "traffic/feed.h"
#include "traffic/payloads.h"
#include "traffic/protocols.h"
#include "traffic/tls.h"

#define JOINED_TRIES 64u /* pieces at whose beginning a connection that was joined half-way is recognised */
#define LOOK_MAX 131072u /* bytes of a connection that is not recognised; less than FD_UNDECIDED_SOCKET */
/* Bytes that nobody understands in which a connection may go over to TLS, as STARTTLS of mail protocols and
 * PostgreSQL's SSLRequest do, or to HTTP, behind a preamble that isn't known. */
#define STARTTLS_TURNS 12u
#define STARTTLS_BYTES 16384u

/* --- what the configuration wants --- */

static void bad_rule(void *ctx, size_t rule, const char *text)
{
    const struct config *cfg = ctx;

    log_warning("protocol '%s': %s; it is never recognised", cfg->protocols[rule].name, text);
}

static bool is_wanted(const struct pipeline *pl, const struct protocol *what)
{
    bool any = (!what->events && !what->metric_count) || (what->spans && pl->spans) ||
               (what->runtime && pl->runtime);

    if (what->wanted)
        return what->wanted(pl);
    for (const char *const *source = what->events; source && *source; source++)
        any |= pl->event[what->watch] && telemetry_wants_event(pl->tm, what->watch, *source, strlen(*source));
    for (size_t i = 0; i < what->metric_count; i++)
        any |= pl->metric[what->metrics[i]] || pl->per_op[what->metrics[i]];
    return any;
}

void recognise_prepare(struct pipeline *pl)
{
    const struct config *cfg = pl->cfg;
    struct detect_rule *rules = xcalloc(cfg->protocol_count + 1, sizeof(*rules));
    const struct detect_builtin *builtin[PROTOCOLS_MAX];

    pl->payloads = cfg->payload.enable;
    for (size_t i = 0; i < cfg->protocol_count; i++) {
        const struct cfg_protocol *p = &cfg->protocols[i];

        rules[i] = (struct detect_rule){p->name, p->regex, p->binary, p->len};
        pl->payloads |= p->payload;
    }
    pl->detect = detect_rules_new(rules, cfg->protocol_count, builtin, protocols_detect(builtin), bad_rule, pl->cfg);
    free(rules);
    for (size_t i = 0; i < protocol_count; i++) {
        if (!is_wanted(pl, protocols[i]))
            continue;
        pl->protocols |= 1u << i;
        if (protocols[i]->prepare)
            protocols[i]->prepare(pl);
    }
}

void recognise_unprepare(struct pipeline *pl)
{
    detect_rules_free(pl->detect);
    for (size_t i = 0; i < protocol_count; i++)
        if (protocols[i]->unprepare)
            protocols[i]->unprepare(pl);
}

/* Whether anything is wanted that may come behind something that nobody understands. */
static bool wants_unmistakable(const struct pipeline *pl)
{
    for (size_t i = 0; i < protocol_count; i++)
        if (protocols[i]->detect.unmistakable && pl->protocols & 1u << i)
            return true;
    return false;
}

/* --- what a stream begins with --- */

static struct pool starts = POOL(struct stream_start);

static struct stream_start *start_of(struct stream *s)
{
    if (!s->start)
        s->start = pool_get(&starts);
    return s->start;
}

static void forget_turn(struct stream *s)
{
    if (!s->start)
        return;
    detect_free(s->start->turn);
    s->start->turn = NULL;
}

void recognise_forget(struct stream *s)
{
    forget_turn(s);
    pool_put(&starts, s->start);
    s->start = NULL;
}

/* The beginning of a connection, or of what a tunnel carries. */
static void look_for_hello(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    if (tls_may_watch(s, data))
        tls_watch(s, &start_of(s)->hello, dir, data, len, time_ns);
}

/* --- recognising --- */

static const struct cfg_protocol *rule_of(const struct pipeline *pl, const struct detect_answer *a)
{
    const struct cfg_protocol *rule = a->rule < pl->cfg->protocol_count ? &pl->cfg->protocols[a->rule] : NULL;

    /* The process may have got another configuration since. */
    return rule && a->name && strcmp(rule->name, a->name) == 0 ? rule : NULL;
}

static void replayed(void *ctx, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    struct stream *s = ctx;

    if (s->everything && !s->p->pl->cfg->payload.enable) /* else it has passed already */
        payloads_pass(s, dir, data, len, time_ns);
    feed(s, dir, data, len, time_ns);
}

/* d: what has told it (taken). */
static void recognised(struct stream *s, struct detect *d, const struct detect_answer *a, uint64_t time_ns)
{
    static const char *const ways[TLS_WAYS] = TLS_WAY_NAMES;
    const struct pipeline *pl = s->p->pl;
    const struct cfg_protocol *rule = rule_of(pl, a);
    const struct protocol *what = a->builtin < protocol_count ? protocols[a->builtin] : NULL;
    bool tell = pl->ev_net_app && (!rule || rule->detect);

    s->decoder = NULL;
    s->speaks = &protocol_nothing;
    s->named = !what || !what->front;
    forget_turn(s);
    s->known = what;
    if (what && s->sock)
        s->sock->flags |= what->marks;
    s->everything = rule && rule->payload;
    s->ciphertext |= what && what->encrypts && !s->tls;
    s->protocol = a->name;
    payloads_recognised(s);
    if (what && pl->protocols & 1u << a->builtin &&
        (s->decoder = what->new(s, &(struct protocol_start){a->dir, tell, time_ns}))) {
        s->speaks = what;
        recognise_forget(s);
    }
    if (tell && !s->speaks->tells_app) {
        FIELDS(more, 1);
        if (s->tls)
            add_str(&more, "tls_plaintext", 0, ways[s->way]);
        report_net_app(s->p, s->fd, s->channel, a->name, &more, time_ns);
    }
    if (s->decoder || s->everything)
        detect_replay(d, replayed, s);
    detect_free(d);
}

/* True if it is recognised now. */
static bool judge(struct stream *s, uint64_t time_ns)
{
    struct detect_answer a = detect_answer(s->decoder);

    if (a.state == DETECT_FOUND) {
        recognised(s, s->decoder, &a, time_ns);
        return true;
    }
    if (a.state == DETECT_NOTHING) {
        detect_free(s->decoder);
        s->decoder = NULL;
        if (!s->joined || ++start_of(s)->tries >= JOINED_TRIES)
            s->speaks = &protocol_nothing;
    }
    return false;
}

/* Of a connection that was joined half-way, each piece may be the first that is understood. */
static void feed_undecided(void *detect, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len,
                           uint64_t time_ns)
{
    size_t kept;

    if (!data && !detect) { /* nothing of it has been seen yet */
        s->joined = true;
        return;
    }
    if (!detect)
        detect = s->decoder = detect_new(s->p->pl->detect, s->datagrams);
    look_for_hello(s, dir, data, len, time_ns);
    kept = detect_feed(detect, dir, data, (size_t)len, time_ns);
    if (judge(s, time_ns) && kept < len && !s->datagrams) /* what the answer did without is the decoder's, too */
        replayed(s, dir, data ? data + kept : NULL, len - kept, time_ns);
    if (s->speaks == &protocol_undecided && (start_of(s)->looked += len) > LOOK_MAX) /* nothing comes in the other
                                                                                      * direction */
        feed_become(s, &protocol_nothing, NULL, time_ns);
}

static void end_undecided(struct stream *s, enum proto_dir dir, uint64_t time_ns)
{
    if (!s->decoder || !s->p)
        return;
    detect_end(s->decoder, dir); /* this was all of it */
    judge(s, time_ns);
}

static void free_undecided(void *detect, uint64_t time_ns)
{
    detect_free(detect);
}

const struct protocol protocol_undecided = {.feed = feed_undecided, .free = free_undecided};

/* --- anew: behind a preamble, in a tunnel --- */

/* While the decoder of what is in front still has the stream. */
static void feed_anew(void *detect, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len,
                      uint64_t time_ns)
{
    look_for_hello(s, dir, data, len, time_ns);
    start_of(s)->missing[dir] += len - detect_feed(detect, dir, data, len, time_ns);
}

static void begin_anew(void *detect, struct stream *s, uint64_t time_ns)
{
    struct stream_start *start = start_of(s);
    uint64_t missing[PROTO_DIRS];

    memcpy(missing, start->missing, sizeof(missing));
    memset(start->missing, 0, sizeof(start->missing));
    start->tries = 0;
    start->looked = 0;
    s->speaks = &protocol_undecided;
    s->joined = false;
    if (s->p && judge(s, time_ns)) /* else nobody is there to tell it to */
        for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++)
            feed(s, dir, NULL, missing[dir], time_ns);
}

static const struct protocol anew = {.feed = feed_anew, .begun = begin_anew, .free = free_undecided};

void stream_anew(struct stream *s)
{
    stream_becomes(s, &anew, detect_new(s->p->pl->detect, false));
    start_of(s)->hello = (struct hello_watch){0};
    s->named = false;
}

/* --- what nobody understands --- */

/* Decoders know better what they read. */
static bool is_unknown(const struct stream *s)
{
    return !s->tls && !s->datagrams && (s->speaks == &protocol_undecided || s->speaks == &protocol_nothing);
}

static bool in_budget(const struct stream *s)
{
    return !s->start || (s->start->turns <= STARTTLS_TURNS && s->start->clear <= STARTTLS_BYTES);
}

/* HTTP may come behind something that nobody understands. Of what was joined half-way any piece is looked at as it is.
 */
static bool may_become_http(const struct stream *s)
{
    return is_unknown(s) && !s->named && !s->joined && !s->ciphertext && in_budget(s);
}

/* A connection is TLS from its beginning, or becomes it after some clear text. */
bool recognise_may_become_tls(const struct stream *s)
{
    return is_unknown(s) && !s->ciphertext && in_budget(s);
}

bool recognise_needs_more(const struct stream *s, const struct pipeline *pl)
{
    return s->speaks == &protocol_undecided ||
           (s->speaks == &protocol_nothing && pl->ev_net_app && !s->known && recognise_may_become_tls(s)) ||
           (s->speaks == &protocol_nothing && (pl->ev_net_app || wants_unmistakable(pl)) && may_become_http(s));
}

/* Something goes in the other direction than what came before: it may be the beginning of HTTP. */
static void feed_turn(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns,
                      bool turns)
{
    struct stream_start *t = s->start;
    struct detect *d;
    struct detect_answer a;
    size_t kept;

    if (turns)
        forget_turn(s);
    if (!data || !may_become_http(s) || (!turns && !t->turn))
        return;
    if (!t->turn)
        t->turn = detect_new_turn(s->p->pl->detect);
    d = t->turn;
    kept = detect_feed(d, dir, data, (size_t)len, time_ns);
    a = detect_answer(d);
    if (a.state == DETECT_NOTHING)
        forget_turn(s);
    if (a.state != DETECT_FOUND)
        return;
    s->speaks->free(s->decoder, time_ns);
    t->turn = NULL;
    recognised(s, d, &a, time_ns);
    replayed(s, dir, data + kept, len - kept, time_ns);
}

static void pass_on(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct stream_start *t = is_unknown(s) ? start_of(s) : NULL;
    bool turns = t && t->turns && t->last != dir;

    if (t) {
        if ((!t->turns || t->last != dir) && t->turns <= STARTTLS_TURNS)
            t->turns++;
        t->last = (uint8_t)dir;
        t->clear =
            len > STARTTLS_BYTES || t->clear + len > STARTTLS_BYTES ? STARTTLS_BYTES + 1 : t->clear + (uint32_t)len;
    }
    payloads_pass(s, dir, data, len, time_ns);
    feed(s, dir, data, len, time_ns); /* whether it is what it seems from its beginning comes first */
    if (t && is_unknown(s) && s->start)
        feed_turn(s, dir, data, len, time_ns, turns);
}

/* What comes is a hello. The plaintext is another stream; here everything is recognised anew. */
static void become_tls(struct stream *s, uint64_t time_ns)
{
    if (s->speaks == &protocol_nothing || s->start->clear) {
        struct held_bytes held = s->start->held;

        recognise_end(s, time_ns); /* of what was in clear text */
        feed_become(s, &protocol_undecided, NULL, time_ns);
        s->joined = false;
        recognise_forget(s);
        start_of(s)->held = held;
    }
    s->ciphertext = true;
}

static size_t held(const struct stream *s)
{
    return s->start ? s->start->held.len : 0;
}

void recognise_release(struct stream *s)
{
    struct held_bytes h;

    if (!held(s))
        return;
    h = s->start->held;
    s->start->held.len = 0;
    pass_on(s, (enum proto_dir)h.dir, h.data, h.len, h.time_ns);
}

/* True if these bytes are kept for later: they may be the beginning of TLS. */
static bool hold(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct held_bytes *h = &start_of(s)->held;
    size_t more = len < TLS_DETECT - (size_t)h->len ? (size_t)len : TLS_DETECT - (size_t)h->len;
    uint8_t first[TLS_DETECT];
    int is_tls;

    memcpy(first, h->data, h->len);
    memcpy(first + h->len, data, more);
    is_tls = tls_detect(first, h->len + more);
    if (is_tls > 0)
        become_tls(s, time_ns);
    if (is_tls >= 0 || h->len + len >= TLS_DETECT)
        return false;
    if (!h->len)
        h->time_ns = time_ns;
    memcpy(h->data, first, h->len + more);
    h->len = (uint8_t)(h->len + more);
    h->dir = (uint8_t)dir;
    return true;
}

bool recognise_hello(const struct stream *s, const uint8_t *data, size_t len)
{
    return recognise_may_become_tls(s) && (held(s) || (data && tls_detect(data, len < TLS_DETECT ? len : TLS_DETECT)));
}

void recognise_pass(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns,
                    bool begins)
{
    if (!len)
        return;
    if (recognise_is_done(s) && !held(s)) {
        if (payloads_keeps(s))
            payloads_pass(s, dir, data, len, time_ns);
        feed(s, dir, data, len, time_ns);
        return;
    }
    if (held(s) && (!data || dir != s->start->held.dir))
        recognise_release(s);
    if (data && (begins || held(s)) && recognise_may_become_tls(s) && hold(s, dir, data, len, time_ns))
        return;
    recognise_release(s);
    pass_on(s, dir, data, len, time_ns);
}

void recognise_end(struct stream *s, uint64_t time_ns)
{
    for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++) {
        if (s->speaks == &protocol_undecided)
            end_undecided(s, dir, time_ns);
        if (s->speaks->end) /* that of what this has told, too */
            s->speaks->end(s->decoder, s, dir, time_ns);
        feed_change(s, time_ns);
    }
}
