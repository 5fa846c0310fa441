/* SPDX-License-Identifier: Apache-2.0 */
/* From DNS messages to events and metrics: docs/data-model.md, "DNS". */
#include <string.h>

#include "base/mem.h"
#include "collector/core.h"
#include "collector/fields.h"
#include "collector/stream.h"
#include "protocol/dns.h"

/* Types of the address records (IANA, "Resource Record (RR) TYPEs"). */
#define TYPE_A 1
#define TYPE_AAAA 28

/* What both messages say, but `domain`: what is asked. role: of this process. */
static void add_question(struct fields *f, const struct dns_message *m, bool client, char word[DNS_WORD])
{
    if (m->question_count)
        add_str(f, "qtype", 0, dns_type_text(m->questions[0].type, word));
    add_str(f, "role", 0, client ? "client" : "server");
}

static struct slice domain_of(const struct dns_message *m)
{
    if (m->question_count)
        return m->questions[0].name;
    return m->answer_count ? m->answers[0].name : (struct slice){"", 0};
}

static void *query(void *owner, const struct dns_message *m, const struct dns_transit *way)
{
    struct stream *s = owner;
    struct proc *p = s->p;
    struct slice domain = domain_of(m);
    struct address_texts t;
    char word[DNS_WORD];

    FIELDS(f, TM_MAX_FIELDS);
    if (!p)
        return NULL;
    add_mem(&f, "domain", 5, domain.p, domain.len);
    report_sample(p, TM_DNS_REQ, 1, 0, NULL, &f, false, way->time_ns);
    if (!p->pl->ev_dns_req)
        return NULL;
    add_question(&f, m, way->dir == PROTO_TX, word);
    stream_net_fields(&f, s, &t);
    report_event(p, CFG_EW_DNS, "dns.req", s->channel, way->time_ns, &f);
    return NULL;
}

/* Addresses as a list of terminated texts; they are at most so long. */
struct addrs {
    char text[DNS_ANSWERS_MAX][48];
    const char *list[DNS_ANSWERS_MAX];
    size_t count;
};

static void collect(struct addrs *a, const struct dns_message *m)
{
    a->count = 0;
    for (size_t i = 0; i < m->answer_count; i++) {
        const struct dns_record *r = &m->answers[i];

        if ((r->type != TYPE_A && r->type != TYPE_AAAA) || r->text.len >= sizeof(a->text[0]))
            continue;
        memcpy(a->text[a->count], r->text.p, r->text.len);
        a->text[a->count][r->text.len] = 0;
        a->list[a->count] = a->text[a->count];
        a->count++;
    }
}

static void response(void *owner, const struct dns_message *m, const struct dns_transit *way,
                     const struct dns_exchange *exchange)
{
    struct stream *s = owner;
    struct proc *p = s->p;
    struct slice domain = domain_of(m);
    char word[DNS_WORD], code[DNS_WORD];
    struct address_texts t;
    struct addrs addrs;

    FIELDS(f, TM_MAX_FIELDS);
    if (!p)
        return;
    add_mem(&f, "domain", 5, domain.p, domain.len);
    if (exchange)
        report_sample(p, TM_DNS_DURATION, (int64_t)(exchange->duration_ns / 1000), 1, NULL, &f, false, way->time_ns);
    if (!p->pl->ev_dns_resp)
        return;
    if (exchange)
        add_uint(&f, "duration", 0, exchange->duration_ns / 1000000);
    if (m->answer_count) {
        collect(&addrs, m);
        add(&f, (struct tm_field){.name = "addrs", .type = TM_STRLIST, .v.list = {addrs.list, addrs.count}});
    }
    add_str(&f, "rcode", 0, dns_rcode_text(m->rcode, code));
    if (m->ttl_known)
        add_uint(&f, "ttl", 0, m->ttl);
    add_question(&f, m, way->dir == PROTO_RX, word);
    stream_net_fields(&f, s, &t);
    report_event(p, CFG_EW_DNS, "dns.resp", s->channel, way->time_ns, &f);
}

static void note(void *owner, enum dns_note what, uint64_t count)
{
    struct stream *s = owner;

    if (s->p)
        report_loss(s->p->c, s->p, what == DNS_NOTE_LOST ? LK_TRAFFIC : LK_MESSAGE, count);
}

const struct dns_sink dns_sink = {.query = query, .response = response, .note = note};
