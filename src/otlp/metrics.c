/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "event/fields.h"
#include "otlp/attribute.h"
#include "otlp/batch.h"
#include "otlp/metrics_series.h"
#include "otlp/metrics_table.h"
#include "otlp/texts.h"

#define ATTRIBUTES_MAX 8192u /* bytes of all those that the program has given a metric of its own */
#define CAPTURED_FIELDS 160  /* so many attributes; what has more has no series of its own */
#define TYPE_OWN       OTLP_FAMILIES
#define RECENT         32u   /* a power of two */

/* The series of one metric of a process. */
struct set {
    struct series *first, *last;
    size_t count;
    struct series *overflow;
};

/* A metric that the program sends itself. */
struct captured {
    struct captured *next;
    const struct text *name;
    struct otlp_metric metric; /* its name is its own */
    struct set set;
};

/* What one process does. */
struct group {
    struct group *same_slot;
    struct group *prev, *next;
    const struct tm_process *who;
    struct buf resource;
    uint64_t start_ns, told_ns; /* when its observation began; end of the last interval */
    struct set sets[OTLP_FAMILIES];
    struct captured *captured;  /* that was met last comes first */
    size_t captured_count;
    struct series *recent[RECENT]; /* found before the table is asked; NULL: none */
};

struct otlp_metrics {
    struct otlp_metrics_user user;
    size_t limit, bytes;        /* of series and what they are made of, but for their texts */
    uint64_t random;
    struct texts texts;         /* of attributes, as they are told */
    struct slots series, groups; /* series: of all groups, by group and key */
    struct group *first, *last, *recent, *own;
    struct otlp_batch batch;
    struct series *pending[OTLP_RECORD_POINTS]; /* in the record that is being made */
    size_t pending_count;
    struct buf scratch;         /* attributes of a captured metric */
    uint64_t alive, overflowed, overflow_told, lost;
    bool news;
};

/* --- series --- */

/* A text of a key; NULL: none is given, or it is new and none shall be made. */
static const struct text *key_text(struct otlp_metrics *m, const char *p, size_t len, bool make, bool *ret_missing)
{
    const struct text *t = p ? text_cleaned(&m->texts, p, len, make) : NULL;

    *ret_missing |= p && !t;
    return t;
}

static uint64_t hash_series(const void *series)
{
    return ((const struct series *)series)->hash;
}

static uint64_t hash_key(const struct otlp_metrics *m, const struct group *g, const struct key *k)
{
    uint64_t word[sizeof(*k) / sizeof(uint64_t)], h = m->texts.seed ^ (uintptr_t)g;

    memcpy(word, k, sizeof(*k));
    for (size_t i = 0; i < sizeof(word) / sizeof(*word); i++)
        h = hash_mix(h, word[i]);
    return h;
}

/* Where it stands among the recent ones of its group. */
static struct series **recent_of(struct group *g, const struct key *k)
{
    return &g->recent[(k->family + k->word * 5u + k->status) & (RECENT - 1)];
}

static struct series *series_find(const struct otlp_metrics *m, const struct group *g, const struct key *k, uint64_t hash)
{
    struct series *s = slots_first(&m->series, hash);

    while (s && (s->hash != hash || s->group != g || memcmp(&s->key, k, sizeof(*k)) != 0))
        s = s->same_slot;
    return s;
}

static struct series *series_add(struct otlp_metrics *m, struct group *g, struct set *set, const struct otlp_metric *metric,
                                 const struct key *k, uint64_t hash)
{
    struct series *s = xcalloc(1, sizeof(*s));

    s->key = *k;
    s->hash = hash;
    s->group = g;
    s->metric = metric;
    s->start_ns = g->told_ns;
    if (metric->kind == OTLP_HISTOGRAM)
        s->histogram = histogram_new(metric->counts, m->user.exponential, &m->bytes);
    text_ref(k->name);
    text_ref(k->server);
    text_ref(k->error);
    slots_add(&m->series, s, hash_series);
    *(set->last ? &set->last->next : &set->first) = s;
    set->last = s;
    set->count++;
    m->bytes += sizeof(*s);
    if (k->overflow)
        set->overflow = s;
    return s;
}

/* before: that which comes before it in its set, or NULL. */
static void series_remove(struct otlp_metrics *m, struct group *g, struct set *set, struct series *s, struct series *before)
{
    struct series **recent = recent_of(g, &s->key);

    if (*recent == s)
        *recent = NULL;
    *(before ? &before->next : &set->first) = s->next;
    if (set->last == s)
        set->last = before;
    if (set->overflow == s)
        set->overflow = NULL;
    set->count--;
    slots_remove(&m->series, s, s->hash);
    if (s->metric->kind == OTLP_HISTOGRAM) {
        m->bytes -= histogram_bytes(s->histogram, s->metric->counts);
        histogram_free(s->histogram);
    }
    text_put(&m->texts, s->key.name);
    text_put(&m->texts, s->key.server);
    text_put(&m->texts, s->key.error);
    m->bytes -= sizeof(*s);
    free(s);
}

static bool has_memory(const struct otlp_metrics *m)
{
    return m->bytes + m->texts.bytes < m->limit;
}

/* One is kept for the overflow. */
static bool has_room(const struct otlp_metrics *m, const struct set *set)
{
    return set->count + !set->overflow < OTLP_SERIES_MAX && has_memory(m);
}

/* For what has no series of its own; NULL: what it is now can't be told together with others. */
static struct series *overflow_of(struct otlp_metrics *m, struct group *g, struct set *set, const struct otlp_metric *metric,
                                  const struct key *like)
{
    struct key k = {.family = like->family, .overflow = true};

    m->overflowed++;
    if (metric->kind == OTLP_UPDOWN || metric->kind == OTLP_GAUGE)
        return NULL;
    if (like->family == TYPE_OWN)
        k.name = like->name;
    return set->overflow ? set->overflow : series_add(m, g, set, metric, &k, hash_key(m, g, &k));
}

static struct series *series_search(struct otlp_metrics *m, struct group *g, struct set *set,
                                    const struct otlp_metric *metric, const struct key *k, bool missing)
{
    uint64_t hash = hash_key(m, g, k);
    struct series *s = missing ? NULL : series_find(m, g, k, hash);

    if (s)
        return *recent_of(g, k) = s;
    text_ref(k->name);
    text_ref(k->server);
    text_ref(k->error);
    s = has_room(m, set) && !missing ? series_add(m, g, set, metric, k, hash) : overflow_of(m, g, set, metric, k);
    text_put(&m->texts, k->name); /* it may have been made in vain, and be another of them, too */
    text_put(&m->texts, k->server);
    text_put(&m->texts, k->error);
    return s;
}

/* missing: a text of the key is new, and there was no room. */
static inline struct series *series_of(struct otlp_metrics *m, struct group *g, struct set *set,
                                       const struct otlp_metric *metric, const struct key *k, bool missing)
{
    struct series *s = *recent_of(g, k);

    return s && !missing && memcmp(&s->key, k, sizeof(*k)) == 0 ? s : series_search(m, g, set, metric, k, missing);
}

/* --- groups --- */

static uint64_t hash_who(const struct tm_process *who)
{
    return hash_mix((uintptr_t)who, 0);
}

static uint64_t hash_group(const void *group)
{
    return hash_who(((const struct group *)group)->who);
}

static struct group *group_find(struct otlp_metrics *m, const struct tm_process *who)
{
    struct group *g = m->recent;

    if (g && g->who == who)
        return g;
    for (g = slots_first(&m->groups, hash_who(who)); g; g = g->same_slot)
        if (g->who == who)
            return m->recent = g;
    return NULL;
}

static struct group *group_new(struct otlp_metrics *m, const struct tm_process *who, uint64_t now_ns)
{
    struct group *g = xcalloc(1, sizeof(*g));

    g->who = who;
    g->start_ns = g->told_ns = now_ns;
    otlp_resource(m->user.common, who, &g->resource);
    slots_add(&m->groups, g, hash_group);
    g->prev = m->last;
    *(m->last ? &m->last->next : &m->first) = g;
    m->last = g;
    return g;
}

static struct group *group_of(struct otlp_metrics *m, const struct tm_process *who, uint64_t now_ns)
{
    struct group *g = group_find(m, who);

    if (!g) {
        g = group_new(m, who, now_ns);
        m->alive++;
    }
    return g;
}

static void set_clear(struct otlp_metrics *m, struct group *g, struct set *set)
{
    while (set->first)
        series_remove(m, g, set, set->first, NULL);
}

static void group_clear(struct otlp_metrics *m, struct group *g)
{
    for (unsigned f = 0; f < OTLP_FAMILIES; f++)
        set_clear(m, g, &g->sets[f]);
    for (struct captured *c; (c = g->captured);) {
        set_clear(m, g, &c->set);
        g->captured = c->next;
        m->bytes -= sizeof(*c);
        free((char *)c->metric.name);
        text_put(&m->texts, c->name);
        free(c);
    }
    g->captured_count = 0;
}

static void group_free(struct otlp_metrics *m, struct group *g)
{
    group_clear(m, g);
    slots_remove(&m->groups, g, hash_group(g));
    *(g->prev ? &g->prev->next : &m->first) = g->next;
    *(g->next ? &g->next->prev : &m->last) = g->prev;
    if (m->recent == g)
        m->recent = NULL;
    buf_free(&g->resource);
    free(g);
}

/* --- samples --- */

static uint64_t random_number(struct otlp_metrics *m)
{
    m->random ^= m->random << 13; /* xorshift64 */
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return m->random;
}

static void add_number(struct otlp_metrics *m, struct group *g, unsigned family, struct key *k, uint64_t value, bool missing)
{
    const struct otlp_metric *metric = &otlp_metrics_table[family];
    struct series *s;

    k->family = (uint8_t)family;
    s = series_of(m, g, &g->sets[family], metric, k, missing);
    if (!s)
        return;
    s->touched = true;
    s->value = metric->kind == OTLP_SUM ? s->value + value : value;
}

static void add_to_histogram(struct otlp_metrics *m, struct group *g, unsigned family, struct key *k, double value,
                             const struct tm_sample *sample, bool missing)
{
    const struct otlp_metric *metric = &otlp_metrics_table[family];
    const struct tm_context *trace = sample->exchange ? sample->exchange->trace : NULL;
    uint64_t count = sample->numops ? sample->numops : 1;
    struct series *s;

    k->family = (uint8_t)family;
    s = series_of(m, g, &g->sets[family], metric, k, missing);
    s->touched = true;
    m->bytes += histogram_add(s->histogram, metric->counts, value / (double)count, count, trace, sample->time_ns,
                              trace ? random_number(m) : 0);
}

/* An HTTP exchange or a gRPC call: its attributes, and what is to be told of it. */
static unsigned exchange_key(struct otlp_metrics *m, struct group *g, const struct tm_sample *sample, struct key *k,
                             bool *ret_missing)
{
    static const struct tm_exchange unknown = {.rpc_status = -1};
    const struct tm_exchange *x = sample->exchange ? sample->exchange : &unknown;
    bool length = sample->metric == TM_HTTP_REQ_LENGTH || sample->metric == TM_HTTP_RESP_LENGTH;
    bool server = length ? x->is_server : sample->metric == TM_HTTP_DURATION_SERVER;
    bool rpc = x->rpc_method.p && !length, make;
    unsigned family;

    if (length)
        family = sample->metric == TM_HTTP_REQ_LENGTH
                     ? (server ? OTLP_HTTP_SERVER_REQUEST_SIZE : OTLP_HTTP_CLIENT_REQUEST_SIZE)
                     : (server ? OTLP_HTTP_SERVER_RESPONSE_SIZE : OTLP_HTTP_CLIENT_RESPONSE_SIZE);
    else if (rpc)
        family = server ? OTLP_RPC_SERVER_DURATION : OTLP_RPC_CLIENT_DURATION;
    else
        family = server ? OTLP_HTTP_SERVER_DURATION : OTLP_HTTP_CLIENT_DURATION;
    make = (rpc || !server || x->error.p) && has_room(m, &g->sets[family]);
    if (rpc) {
        enum { UNKNOWN = 2 }; /* what a client takes codes for that it doesn't know */

        k->name = key_text(m, x->rpc_method.p, x->rpc_method.len, make, ret_missing);
        if (x->rpc_status >= 0)
            k->status = (uint16_t)(x->rpc_status < OTLP_RPC_CODES ? x->rpc_status + 1 : UNKNOWN + 1);
    } else {
        k->word = (uint8_t)(x->method.p ? otlp_method(x->method.p, x->method.len) : 0);
        k->status = (uint16_t)(x->status >= 100 && x->status <= 599 ? x->status : 0); /* RFC 9110, 15 */
        k->scheme = (uint8_t)series_scheme(&x->scheme);
        k->version = (uint8_t)series_version(&x->version);
    }
    k->error = key_text(m, x->error.p, x->error.len, make, ret_missing);
    if (server) /* names that peers call it are theirs to choose */
        return family;
    k->server = key_text(m, x->server.p, x->server.len, make, ret_missing);
    k->port = x->server_port;
    return family;
}

static void dns_key(struct otlp_metrics *m, struct group *g, const struct tm_sample *sample, struct key *k, bool *ret_missing)
{
    bool make = has_room(m, &g->sets[OTLP_DNS_DURATION]);

    for (size_t i = 0; i < sample->field_count; i++)
        if (sample->fields[i].type == TM_STR && strcmp(sample->fields[i].name, "domain") == 0)
            k->name = key_text(m, sample->fields[i].v.str.p, sample->fields[i].v.str.len, make, ret_missing);
    if (sample->exchange)
        k->error = key_text(m, sample->exchange->error.p, sample->exchange->error.len, make, ret_missing);
}

/* Operations by class. */
static void class_key(struct otlp_metrics *m, struct group *g, unsigned family, const struct tm_sample *sample, struct key *k,
                      bool *ret_missing)
{
    enum otlp_labels labels = otlp_metrics_table[family].labels;

    if ((labels == OTLP_CLASS || labels == OTLP_NET_WAY_CLASS) && sample->class_)
        k->name = key_text(m, sample->class_, strlen(sample->class_), has_room(m, &g->sets[family]), ret_missing);
}

static void add_value(struct otlp_metrics *m, struct group *g, unsigned family, unsigned word, const struct tm_sample *sample,
                      uint64_t value)
{
    struct key k = {.word = (uint8_t)word};
    bool missing = false;

    switch (otlp_metrics_table[family].labels) {
    case OTLP_HTTP_SERVER:
    case OTLP_HTTP_CLIENT:
        k.word = 0;
        family = exchange_key(m, g, sample, &k, &missing);
        break;
    case OTLP_DNS: dns_key(m, g, sample, &k, &missing); break;
    default: class_key(m, g, family, sample, &k, &missing); break;
    }
    if (otlp_metrics_table[family].kind == OTLP_HISTOGRAM)
        add_to_histogram(m, g, family, &k, (double)value, sample, missing);
    else
        add_number(m, g, family, &k, value, missing);
}

/* Sockets of the internet, or those of which it isn't known. */
static bool is_network(const struct tm_sample *sample)
{
    return !sample->class_ || strncmp(sample->class_, "inet", 4) == 0;
}

void otlp_metrics_sample(struct otlp_metrics *m, const struct tm_process *who, const struct tm_sample *sample)
{
    const struct otlp_target *t = &otlp_targets[sample->metric];
    uint64_t value = sample->value > 0 ? (uint64_t)sample->value * t->times : 0;
    struct group *g;

    if (t->value == OTLP_FAMILIES)
        return;
    g = group_of(m, who, sample->time_ns);
    m->news = true;
    add_value(m, g, t->value, t->value_word, sample, value);
    if (t->also && is_network(sample))
        add_value(m, g, t->also, t->value_word, sample, value);
    if (t->count != OTLP_FAMILIES && sample->numops)
        add_value(m, g, t->count, t->count_word, sample, sample->numops);
}

/* --- what programs count themselves --- */

/* Their types in OTLP; false: it has none. */
static bool captured_kind(const struct ev_record *r, struct otlp_metric *metric, const char **ret_unit)
{
    *ret_unit = "";
    metric->help = "";
    metric->counts = OTLP_OWN;
    metric->labels = OTLP_CAPTURED;
    if (r->value.type != TM_NUM || !isfinite(r->value.v.num))
        return false;
    if (strcmp(r->type, "counter") == 0) {
        metric->kind = OTLP_SUM;
        return r->value.v.num >= 0;
    }
    metric->kind = strcmp(r->type, "gauge") == 0 ? OTLP_GAUGE : OTLP_HISTOGRAM;
    if (strcmp(r->type, "timer") == 0)
        *ret_unit = "ms";
    return metric->kind == OTLP_GAUGE || **ret_unit || strcmp(r->type, "histogram") == 0 || strcmp(r->type, "distribution") == 0;
}

static bool is_ours(const char *name)
{
    for (unsigned f = 0; f < OTLP_FAMILIES; f++)
        if (strcmp(otlp_metrics_table[f].name, name) == 0)
            return true;
    return false;
}

/* Found or made; NULL: it contradicts what it was before, or there are too many. */
static struct captured *captured_of(struct otlp_metrics *m, struct group *g, const struct ev_record *r)
{
    struct captured *c, *before = NULL;
    struct otlp_metric metric;
    const struct text *name;
    bool missing = false;
    const char *unit;

    if (!captured_kind(r, &metric, &unit))
        return NULL;
    name = key_text(m, r->name, strlen(r->name), g->captured_count < OTLP_NAMES_MAX && has_memory(m), &missing);
    if (missing)
        return NULL;
    for (c = g->captured; c && c->name != name; c = c->next)
        before = c;
    if (c) {
        if (before) { /* asked for next time, too */
            before->next = c->next;
            c->next = g->captured;
            g->captured = c;
        }
        return c->metric.kind == metric.kind && strcmp(c->metric.unit, unit) == 0 ? c : NULL;
    }
    if (g->captured_count == OTLP_NAMES_MAX || !has_memory(m) || is_ours(r->name)) {
        text_drop(&m->texts, name);
        return NULL;
    }
    c = xcalloc(1, sizeof(*c));
    c->name = name;
    text_ref(name);
    c->metric = metric;
    c->metric.name = xstrndup(name->p, name->len);
    c->metric.unit = unit;
    c->next = g->captured;
    g->captured = c;
    g->captured_count++;
    m->bytes += sizeof(*c);
    return c;
}

/* What its resource says already. */
static bool says_who(const struct tm_field *f, const struct tm_process *who)
{
    if (f->type == TM_UINT)
        return strcmp(f->name, "pid") == 0 && f->v.u == who->pid;
    return f->type == TM_STR && ((strcmp(f->name, "proc") == 0 && f->v.str.p == who->proc) ||
                                 (strcmp(f->name, "host") == 0 && f->v.str.p == who->host));
}

/* The attributes by their names, so that their order makes no difference. */
static const struct text *captured_attributes(struct otlp_metrics *m, const struct captured *c, const struct ev_record *r,
                                              bool make, bool *ret_missing)
{
    const struct tm_field *sorted[CAPTURED_FIELDS];
    unsigned field = series_attributes_field(&c->metric, m->user.exponential);
    struct buf *b = &m->scratch;
    const struct text *t;
    size_t count = 0;

    for (size_t i = 0; i < r->field_count && count < CAPTURED_FIELDS; i++) {
        const struct tm_field *f = &r->fields[i];
        size_t at = count;

        if (tm_is_group(f) || says_who(f, r->who))
            continue;
        for (; at && strcmp(sorted[at - 1]->name, f->name) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = f;
        count++;
    }
    if (!count)
        return NULL;
    buf_reset(b);
    for (size_t i = 0; i < count; i++)
        otlp_attr_field(b, field, sorted[i]->name, sorted[i]);
    t = text_of(&m->texts, b->p, b->len, make && b->len <= ATTRIBUTES_MAX && count < CAPTURED_FIELDS);
    *ret_missing |= !t;
    return t;
}

/* A gauge's value with a sign in front is added to what it was: as StatsD has it. */
static bool is_relative(const struct captured *c, const struct ev_record *r)
{
    return c->metric.kind == OTLP_GAUGE && r->text_len && (*r->text == '+' || *r->text == '-');
}

bool otlp_metrics_captured(struct otlp_metrics *m, const struct ev_record *r)
{
    struct group *g = group_of(m, r->who, r->time_ns);
    struct captured *c = captured_of(m, g, r);
    struct key k = {.family = TYPE_OWN};
    bool missing = false;
    struct series *s;

    if (!c)
        return false;
    k.name = c->name;
    k.error = captured_attributes(m, c, r, has_room(m, &c->set), &missing);
    s = series_of(m, g, &c->set, &c->metric, &k, missing);
    m->news = true;
    if (!s)
        return false;
    s->touched = true;
    if (c->metric.kind == OTLP_HISTOGRAM)
        m->bytes += histogram_add(s->histogram, OTLP_OWN, r->value.v.num, 1, NULL, 0, 0);
    else if (c->metric.kind == OTLP_SUM || is_relative(c, r))
        s->number += r->value.v.num;
    else
        s->number = r->value.v.num;
    return true;
}

/* --- export --- */

static bool is_delta(const struct otlp_metrics *m, const struct otlp_metric *metric)
{
    bool is_read = metric == &otlp_metrics_table[OTLP_PROCESS_CPU]; /* as a sum, from the kernel */

    return m->user.delta && (metric->kind == OTLP_SUM || metric->kind == OTLP_HISTOGRAM) && !(m->user.lowmemory && is_read);
}

/* A series has been told up to then. */
static void series_told(struct otlp_metrics *m, struct series *s, uint64_t time_ns)
{
    s->touched = false;
    if (s->metric->kind == OTLP_HISTOGRAM)
        histogram_told(s->histogram);
    if (!is_delta(m, s->metric))
        return;
    s->start_ns = time_ns;
    if (s->metric->kind == OTLP_HISTOGRAM)
        histogram_reset(s->histogram, s->metric->counts);
    else
        s->value = 0; /* the number 0, too */
}

/* Hands over the record that is being made. What there is no room for goes on to be summed up. */
static bool hand_over(struct otlp_metrics *m, uint64_t time_ns, bool last)
{
    const char *record;
    size_t len;
    bool taken;

    if (!m->batch.count)
        return true;
    record = otlp_batch_record(&m->batch, &len);
    taken = m->user.record(m->user.ctx, record, len);
    if (!taken && last)
        m->lost += m->batch.count;
    for (size_t i = 0; taken && i < m->pending_count; i++)
        series_told(m, m->pending[i], time_ns);
    m->pending_count = 0;
    otlp_batch_reset(&m->batch);
    return taken;
}

static void export_point(struct otlp_metrics *m, const struct group *g, struct series *s, uint64_t time_ns)
{
    uint64_t start = s->metric->kind == OTLP_GAUGE ? 0 : is_delta(m, s->metric) ? s->start_ns : g->start_ns;

    series_write(&m->batch.b, s, start, time_ns);
    m->batch.count++;
    m->pending[m->pending_count++] = s;
}

static bool export_set(struct otlp_metrics *m, struct group *g, struct set *set, const struct otlp_metric *metric,
                       uint64_t time_ns, bool last)
{
    bool exponential = m->user.exponential, delta = is_delta(m, metric), open = false, all = true;
    struct series *before = NULL;
    size_t begin = 0, data = 0;

    for (struct series *s = set->first, *next; s; s = next) {
        next = s->next;
        if (delta && !s->touched) { /* nobody waits for what hasn't changed */
            series_remove(m, g, set, s, before);
            continue;
        }
        before = s;
        if (!open)
            begin = metric_begin(&m->batch.b, metric, exponential, &data);
        open = true;
        export_point(m, g, s, time_ns);
        if (m->batch.count < OTLP_RECORD_POINTS && otlp_batch_bytes(&m->batch) < OTLP_RECORD_BYTES)
            continue;
        metric_end(&m->batch.b, metric, delta, begin, data);
        open = false;
        all = hand_over(m, time_ns, last) && all;
    }
    if (open)
        metric_end(&m->batch.b, metric, delta, begin, data);
    return all;
}

/* last: it won't be asked again. */
static bool export_group(struct otlp_metrics *m, struct group *g, uint64_t now_ns, bool last)
{
    uint64_t time_ns = now_ns > g->told_ns ? now_ns : g->told_ns + 1;
    bool all = true;

    buf_reset(&m->batch.resource);
    buf_add(&m->batch.resource, g->resource.p, g->resource.len);
    otlp_batch_reset(&m->batch);
    for (unsigned f = 0; f < OTLP_FAMILIES; f++)
        if (g->sets[f].first)
            all = export_set(m, g, &g->sets[f], &otlp_metrics_table[f], time_ns, last) && all;
    for (struct captured *c = g->captured; c; c = c->next)
        if (c->set.first)
            all = export_set(m, g, &c->set, &c->metric, time_ns, last) && all;
    all = hand_over(m, time_ns, last) && all;
    g->told_ns = time_ns;
    return all;
}

static void add_own(struct otlp_metrics *m, unsigned family, uint64_t value)
{
    struct key k = {.word = 0};

    add_number(m, m->own, family, &k, value, false);
}

bool otlp_metrics_export(struct otlp_metrics *m, uint64_t now_ns)
{
    bool all = true;

    for (struct group *g = m->first; g; g = g->next)
        if (g != m->own)
            all = export_group(m, g, now_ns, false) && all;
    add_own(m, OTLP_PROCESSES, m->alive);
    add_own(m, OTLP_SERIES, m->series.count);
    if (m->overflowed != m->overflow_told)
        add_own(m, OTLP_OVERFLOWED, m->overflowed - m->overflow_told);
    m->overflow_told = m->overflowed;
    all = export_group(m, m->own, now_ns, false) && all;
    m->news = !all;
    return all;
}

bool otlp_metrics_news(const struct otlp_metrics *m)
{
    return m->news;
}

uint64_t otlp_metrics_claim_lost(struct otlp_metrics *m)
{
    uint64_t lost = m->lost;

    m->lost = 0;
    return lost;
}

void otlp_metrics_lost(struct otlp_metrics *m, const char *kind, size_t len, uint64_t count)
{
    struct key k = {.word = 0};
    bool missing = false;

    k.name = key_text(m, kind, len, has_room(m, &m->own->sets[OTLP_LOST]), &missing);
    add_number(m, m->own, OTLP_LOST, &k, count, missing);
    m->news = true;
}

/* --- life --- */

void otlp_metrics_begin(struct otlp_metrics *m, const struct tm_process *who, uint64_t now_ns)
{
    struct group *g = group_find(m, who);
    struct buf resource = BUF_INIT;

    add_own(m, OTLP_STARTED, 1);
    m->news = true;
    if (!g) {
        group_of(m, who, now_ns);
        return;
    }
    otlp_resource(m->user.common, who, &resource);
    if (resource.len == g->resource.len && memcmp(resource.p, g->resource.p, resource.len) == 0) {
        buf_free(&resource);
        return;
    }
    export_group(m, g, now_ns, true);
    group_clear(m, g);
    buf_free(&g->resource);
    g->resource = resource;
    g->start_ns = g->told_ns;
}

void otlp_metrics_end(struct otlp_metrics *m, const struct tm_process *who, uint64_t now_ns)
{
    struct group *g = group_find(m, who);

    if (!g)
        return;
    export_group(m, g, now_ns, true);
    group_free(m, g);
    m->alive--;
    m->news = true;
}

struct otlp_metrics *otlp_metrics_new(const struct otlp_metrics_user *user, size_t bytes, uint64_t now_ns)
{
    struct otlp_metrics *m = xcalloc(1, sizeof(*m));

    m->user = *user;
    m->limit = bytes;
    if (getrandom(&m->texts.seed, sizeof(m->texts.seed), GRND_NONBLOCK) != sizeof(m->texts.seed))
        m->texts.seed = hash_mix(now_ns, (uintptr_t)m);
    m->random = m->texts.seed | 1;
    m->own = group_new(m, user->self, now_ns);
    return m;
}

void otlp_metrics_free(struct otlp_metrics *m)
{
    while (m->first)
        group_free(m, m->first);
    otlp_batch_release(&m->batch);
    buf_free(&m->scratch);
    texts_release(&m->texts);
    slots_free(&m->series);
    slots_free(&m->groups);
    free(m);
}
