/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as DNS: as a TCP connection (passages.h), and each passage as a datagram. */
#include "passages.h"
#include "protocol/dns.h"

struct told {
    struct buf *text;
    uint64_t lost, malformed;
    uintptr_t kept; /* queries that were told and not given back */
};

static void check_slice(const struct dns_message *m, struct slice s)
{
    if (!s.p || s.p < m->text || s.p + s.len > m->text + DNS_TEXT_MAX)
        abort();
}

static void tell(struct buf *b, const struct dns_message *m, const struct dns_transit *way)
{
    char word[DNS_WORD];

    buf_printf(b, "%d %u %u %u %s %zu %zu %u %d%d%d ", way->dir, (unsigned)way->time_ns, m->id, m->ttl,
               dns_rcode_text(m->rcode, word), m->question_count, m->answer_count, m->edns_size, m->cut, m->malformed,
               m->ttl_known);
    for (size_t i = 0; i < m->question_count; i++) {
        check_slice(m, m->questions[i].name);
        if (m->questions[i].name.len == 0)
            abort();
        add_slice(b, m->questions[i].name);
        buf_str(b, dns_type_text(m->questions[i].type, word));
        buf_str(b, dns_class_text(m->questions[i].class_, word));
    }
    for (size_t i = 0; i < m->answer_count; i++) {
        check_slice(m, m->answers[i].name);
        check_slice(m, m->answers[i].text);
        add_slice(b, m->answers[i].name);
        add_slice(b, m->answers[i].text);
        if (utf8_sequence(m->answers[i].text.p, m->answers[i].text.len) == 0 && m->answers[i].text.len)
            abort();
    }
    buf_char(b, '\n');
}

static void *on_query(void *owner, const struct dns_message *m, const struct dns_transit *way)
{
    struct told *t = owner;

    tell(t->text, m, way);
    t->kept++;
    return t;
}

static void give_back(struct told *t, const struct dns_exchange *e)
{
    if (e->kept != t || t->kept == 0 || e->transmissions == 0)
        abort();
    t->kept--;
    buf_printf(t->text, "%u %u\n", (unsigned)e->duration_ns, e->transmissions);
}

static void on_response(void *owner, const struct dns_message *m, const struct dns_transit *way,
                        const struct dns_exchange *e)
{
    struct told *t = owner;

    tell(t->text, m, way);
    if (e)
        give_back(t, e);
}

static void on_unanswered(void *owner, const struct dns_exchange *e, enum dns_end why)
{
    give_back(owner, e);
}

static void on_note(void *owner, enum dns_note what, uint64_t count)
{
    struct told *t = owner;

    *(what == DNS_NOTE_LOST ? &t->lost : &t->malformed) += count;
}

static const struct dns_sink sink = {on_query, on_response, on_unanswered, on_note};

static void feed(void *decoder, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    dns_feed(decoder, dir, data, len, time_ns);
}

static void run(const uint8_t *data, size_t size, size_t chunk, struct buf *text)
{
    struct told t = {.text = text};
    struct dns *d = dns_new(&sink, &t, true, size && data[0] & 4);

    feed_passages(data, size, chunk, feed, d);
    dns_sweep(d, 4, 2);
    dns_free(d, 1000);
    if (t.kept)
        abort();
    buf_printf(text, "%zu %zu", (size_t)t.lost, (size_t)t.malformed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dns_message m;
    struct told t = {.text = &(struct buf)BUF_INIT};
    struct dns *d = dns_new(&sink, &t, false, false);
    struct passage p;

    expect_same(run, data, size);
    for (uint64_t now = 1; next_passage(&data, &size, &p); now++) {
        uint8_t *copy = malloc(p.len ? p.len : 1);

        memcpy(copy, p.data, p.len);
        if (dns_detect(copy, p.len) && (dns_parse(copy, p.len, p.len, &m) < 0 || m.malformed))
            abort();
        dns_datagram(d, p.dir, p.len % 3, copy, p.gap ? p.len / 2 : p.len, p.len, now);
        free(copy);
    }
    dns_free(d, 1000);
    if (t.kept)
        abort();
    buf_free(t.text);
    return 0;
}
