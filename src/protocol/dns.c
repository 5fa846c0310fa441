/* SPDX-License-Identifier: Apache-2.0 */
/* DNS over sockets: messages out of streams, and which response belongs to which query. */
#include "protocol/dns.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

#define TYPE_ANY 255

/* What is asked. The name is kept as its hash only: who makes two names collide deceives himself about his own
 * queries. */
struct subject {
    uint64_t hash; /* of name (case doesn't count: RFC 4343) and class */
    uint16_t type;
};

/* A query without an answer. */
struct outstanding {
    struct subject about;
    uint64_t peer;
    uint64_t time_ns; /* of the first transmission */
    void *kept;
    unsigned transmissions;
    uint16_t id;
    uint8_t dir;
};

/* Responses to nobody whose queries may be told late: that many, for that long. A query of this time that has their id
 * and question isn't outstanding. */
#define EARLY_MAX 4u
#define EARLY_NS  UINT64_C(100000000)

struct stream {
    struct buf bytes; /* the message under way, its length in front; while searching, what was looked at */
    uint64_t skip;    /* bytes of a message that is given up, which will come */
    bool searching;   /* out of step */
};

struct dns {
    const struct dns_sink *sink;
    void *owner;
    bool stream;
    struct stream streams[PROTO_DIRS];
    struct outstanding *table; /* in order of time */
    size_t count, room;
    struct {
        struct subject about;
        uint64_t time_ns; /* 0: none */
        uint16_t id;
    } early[EARLY_MAX];
    unsigned early_next;
};

struct dns *dns_new(const struct dns_sink *sink, void *owner, bool stream, bool joined)
{
    struct dns *d = xcalloc(1, sizeof(*d));

    d->sink = sink;
    d->owner = owner;
    d->stream = stream;
    for (int dir = 0; dir < PROTO_DIRS; dir++)
        d->streams[dir].searching = joined;
    return d;
}

static void note(struct dns *d, enum dns_note what, uint64_t count)
{
    if (count && d->sink->note)
        d->sink->note(d->owner, what, count);
}

/* Queries and responses -------------------------------------------------- */

static uint64_t hash_name(struct slice name, uint16_t class_)
{
    uint64_t hash = UINT64_C(14695981039346656037) ^ class_; /* FNV-1a */

    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = (uint8_t)name.p[i];

        hash = (hash ^ (c >= 'A' && c <= 'Z' ? c + 32u : c)) * UINT64_C(1099511628211);
    }
    return hash;
}

static struct dns_exchange exchange_of(const struct outstanding *o, uint64_t time_ns)
{
    return (struct dns_exchange){o->kept, time_ns > o->time_ns ? time_ns - o->time_ns : 0, o->transmissions};
}

static void take_out(struct dns *d, size_t first, size_t n)
{
    d->count -= n;
    memmove(d->table + first, d->table + first + n, (d->count - first) * sizeof(*d->table));
    if (d->count == 0) {
        free(d->table);
        d->table = NULL;
        d->room = 0;
    }
}

/* Gives up the oldest n. */
static void give_up(struct dns *d, size_t n, uint64_t time_ns, enum dns_end why)
{
    if (n == 0)
        return;
    for (size_t i = 0; i < n && d->sink->unanswered; i++) {
        struct dns_exchange e = exchange_of(&d->table[i], time_ns);

        d->sink->unanswered(d->owner, &e, why);
    }
    take_out(d, 0, n);
}

static void remember_early(struct dns *d, const struct dns_message *m, const struct subject *about,
                           const struct dns_transit *t)
{
    unsigned at = d->early_next++ % EARLY_MAX;

    d->early[at].about = *about;
    d->early[at].id = m->id;
    d->early[at].time_ns = t->time_ns;
}

/* Whether the response to a query was told before it. */
static bool is_answered(struct dns *d, const struct outstanding *o)
{
    for (unsigned i = 0; o->dir == PROTO_TX && i < EARLY_MAX; i++) {
        uint64_t then = d->early[i].time_ns;

        if (then && d->early[i].id == o->id && d->early[i].about.hash == o->about.hash &&
            d->early[i].about.type == o->about.type && o->time_ns < then + EARLY_NS) {
            d->early[i].time_ns = 0;
            return true;
        }
    }
    return false;
}

static void take_query(struct dns *d, const struct dns_message *m, const struct dns_transit *t)
{
    struct outstanding o = {.peer = t->peer, .time_ns = t->time_ns, .transmissions = 1, .id = m->id, .dir = t->dir};

    if (m->question_count) {
        o.about.hash = hash_name(m->questions[0].name, m->questions[0].class_);
        o.about.type = m->questions[0].type;
    }
    for (size_t i = 0; i < d->count; i++) {
        struct outstanding *p = &d->table[i];

        if (p->id == o.id && p->dir == o.dir && p->peer == o.peer && p->about.hash == o.about.hash &&
            p->about.type == o.about.type) {
            p->transmissions++;
            return;
        }
    }
    if (d->sink->query)
        o.kept = d->sink->query(d->owner, m, t);
    if (is_answered(d, &o)) {
        struct dns_exchange e = exchange_of(&o, t->time_ns);

        if (d->sink->unanswered)
            d->sink->unanswered(d->owner, &e, DNS_END_EARLY);
        return;
    }
    if (d->count == DNS_OUTSTANDING_MAX)
        give_up(d, 1, t->time_ns, DNS_END_FORGOTTEN);
    if (d->count == d->room) {
        d->room = d->room ? 2 * d->room : 4;
        d->table = xrealloc(d->table, d->room, sizeof(*d->table));
    }
    d->table[d->count++] = o;
}

/* What a response answers: its question, or what it tells; multicast responses don't repeat the question (RFC 6762,
 * section 6). */
static size_t subjects_of(const struct dns_message *m, struct subject subjects[DNS_ANSWERS_MAX])
{
    if (m->question_count) {
        subjects[0].hash = hash_name(m->questions[0].name, m->questions[0].class_);
        subjects[0].type = m->questions[0].type;
        return 1;
    }
    for (size_t i = 0; i < m->answer_count; i++) {
        subjects[i].hash = hash_name(m->answers[i].name, m->answers[i].class_);
        subjects[i].type = m->answers[i].type;
    }
    return m->answer_count;
}

static void take_response(struct dns *d, const struct dns_message *m, const struct dns_transit *t)
{
    enum proto_dir dir = proto_other(t->dir);
    struct subject subjects[DNS_ANSWERS_MAX];
    size_t n = subjects_of(m, subjects);
    struct dns_exchange e;
    bool found = false;

    for (size_t i = 0; i < d->count && !found; i++) {
        const struct outstanding *o = &d->table[i];

        /* Where we are the client whoever answers has answered. */
        if (o->id != m->id || o->dir != dir || (o->peer != t->peer && dir == PROTO_RX))
            continue;
        found = n == 0 && m->rcode; /* a server that understood nothing but the header */
        for (size_t s = 0; s < n && !found; s++)
            found =
                o->about.hash == subjects[s].hash && (o->about.type == subjects[s].type || o->about.type == TYPE_ANY);
        if (found) {
            e = exchange_of(o, t->time_ns);
            take_out(d, i, 1);
        }
    }
    if (!found && t->dir == PROTO_RX && m->question_count)
        remember_early(d, m, &subjects[0], t);
    if (d->sink->response)
        d->sink->response(d->owner, m, t, found ? &e : NULL);
}

/* False if it can't be read. */
static bool take_message(struct dns *d, const uint8_t *data, size_t captured, size_t size, const struct dns_transit *t)
{
    struct dns_message m;
    bool good = dns_parse(data, captured, size, &m) == 0;

    if (!good || m.malformed)
        note(d, good ? DNS_NOTE_MALFORMED : DNS_NOTE_UNREADABLE, 1);
    if (good && m.response)
        take_response(d, &m, t);
    else if (good)
        take_query(d, &m, t);
    return good;
}

void dns_datagram(struct dns *d, enum proto_dir dir, uint64_t peer, const uint8_t *data, size_t captured, size_t size,
                  uint64_t time_ns)
{
    struct dns_transit t = {dir, peer, time_ns};

    take_message(d, data, captured < size ? captured : size, size, &t);
}

size_t dns_sweep(struct dns *d, uint64_t time_ns, uint64_t timeout_ns)
{
    size_t n = 0;

    while (n < d->count && time_ns >= d->table[n].time_ns && time_ns - d->table[n].time_ns >= timeout_ns)
        n++;
    if (n)
        give_up(d, n, time_ns, DNS_END_TIMEOUT);
    return d->count;
}

size_t dns_outstanding(const struct dns *d)
{
    return d->count;
}

/* Streams ---------------------------------------------------------------- */

/* Bytes of the message that begins at p, its length included; 0 while that isn't known. */
static size_t framed(const uint8_t *p, size_t len)
{
    return len < 2 ? 0 : 2 + ((size_t)p[0] << 8 | p[1]);
}

/* Takes what can be taken from p. Returns how many bytes that is; the rest is the beginning of a message. */
static size_t take_stream(struct dns *d, struct stream *s, const uint8_t *p, size_t len, const struct dns_transit *t)
{
    size_t at = 0, lost = 0;

    while (at < len) {
        size_t size = framed(p + at, len - at);

        if (s->searching) {
            int begins = dns_detect_stream(p + at, len - at);

            if (begins < 0)
                break;
            if (begins == 0) {
                at++;
                lost++;
                continue;
            }
            s->searching = false;
        }
        if (size == 0 || size > len - at)
            break;
        note(d, DNS_NOTE_LOST, lost);
        lost = 0;
        s->searching = !take_message(d, p + at + 2, size - 2, size - 2, t);
        at += size;
    }
    note(d, DNS_NOTE_LOST, lost);
    return at;
}

static void take_gap(struct dns *d, struct stream *s, uint64_t len)
{
    size_t size = framed((const uint8_t *)s->bytes.p, s->bytes.len),
           rest = size > s->bytes.len ? size - s->bytes.len : 0;

    note(d, DNS_NOTE_LOST, s->bytes.len + len);
    buf_free(&s->bytes);
    s->skip = 0;
    if (s->searching || rest < len)
        s->searching = true;
    else
        s->skip = rest - len;
}

void dns_feed(struct dns *d, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct stream *s = &d->streams[dir];
    struct dns_transit t = {dir, 0, time_ns};

    if (s->skip) {
        uint64_t n = len < s->skip ? len : s->skip;

        note(d, DNS_NOTE_LOST, n);
        s->skip -= n;
        len -= n;
        data = data ? data + n : NULL;
    }
    if (len == 0)
        return;
    if (!data) {
        take_gap(d, s, len);
        return;
    }
    /* A message that began in an earlier piece is put together first, without copying what stands behind it. */
    while (len && s->bytes.len) {
        size_t size = framed((const uint8_t *)s->bytes.p, s->bytes.len), want, done;

        want = s->searching || size == 0 ? 1 : size - s->bytes.len;
        if (want > len)
            want = (size_t)len;
        buf_add(&s->bytes, data, want);
        data += want;
        len -= want;
        done = take_stream(d, s, (const uint8_t *)s->bytes.p, s->bytes.len, &t);
        s->bytes.len -= done;
        memmove(s->bytes.p, s->bytes.p + done, s->bytes.len);
        if (s->bytes.len == 0)
            buf_free(&s->bytes);
    }
    if (len) {
        size_t done = take_stream(d, s, data, (size_t)len, &t);

        if (done < len)
            buf_add(&s->bytes, data + done, (size_t)len - done);
    }
}

void dns_free(struct dns *d, uint64_t time_ns)
{
    if (!d)
        return;
    for (int dir = 0; dir < PROTO_DIRS; dir++) {
        note(d, DNS_NOTE_LOST, d->streams[dir].bytes.len);
        buf_free(&d->streams[dir].bytes);
    }
    give_up(d, d->count, time_ns, DNS_END_CLOSED);
    free(d->table);
    free(d);
}
