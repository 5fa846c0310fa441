/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: catalogue, tags and aggregation. docs/data-model.md, "Metrics". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "event/fields.h"
#include "telemetry/internal.h"

#define NEVER 10
#define TAG_MAX (TM_MAX_FIELDS + 16)
#define CLASS_OTHER (CLASS_MAX + 1)

#define FS   CFG_MW_FS
#define NET  CFG_MW_NET
#define HTTP CFG_MW_HTTP
#define DNS  CFG_MW_DNS
#define PROC CFG_MW_PROCESS
#define KEYED_SLOTS 4096 /* a power of two, at least twice KEYED_MAX */

const struct metric_def metric_defs[TM_METRIC_MAX] = {
    /* name, unit, type, watch, per operation from verbosity, flags, raw event only without watch */
    [TM_FS_OPEN] = {"fs.open", "operation", METRIC_COUNTER, FS, 6, 0, CFG_EW_FS},
    [TM_FS_CLOSE] = {"fs.close", "operation", METRIC_COUNTER, FS, 6, 0, CFG_EW_FS},
    [TM_FS_READ] = {"fs.read", "byte", METRIC_COUNTER, FS, 9, METRIC_NUMOPS, CFG_EW_MAX},
    [TM_FS_WRITE] = {"fs.write", "byte", METRIC_COUNTER, FS, 9, METRIC_NUMOPS, CFG_EW_MAX},
    [TM_FS_SEEK] = {"fs.seek", "operation", METRIC_COUNTER, FS, 8, 0, CFG_EW_MAX},
    [TM_FS_STAT] = {"fs.stat", "operation", METRIC_COUNTER, FS, 7, 0, CFG_EW_MAX},
    [TM_FS_DURATION] = {"fs.duration", "microsecond", METRIC_HISTOGRAM, FS, 9, METRIC_NUMOPS | METRIC_MEAN, CFG_EW_MAX},
    [TM_FS_ERROR] = {"fs.error", "operation", METRIC_COUNTER, FS, 5, METRIC_OP_CLASS, CFG_EW_MAX},
    [TM_FS_DELETE] = {"fs.delete", "operation", METRIC_COUNTER, FS, 6, 0, CFG_EW_FS},
    [TM_FS_CREATE] = {"fs.create", "operation", METRIC_COUNTER, FS, 6, 0, CFG_EW_FS},
    [TM_FS_RENAME] = {"fs.rename", "operation", METRIC_COUNTER, FS, 6, 0, CFG_EW_FS},
    [TM_FS_CHANGE] = {"fs.change", "operation", METRIC_COUNTER, FS, 6, 0, CFG_EW_FS},
    [TM_FS_SYNC] = {"fs.sync", "operation", METRIC_COUNTER, FS, 8, 0, CFG_EW_MAX},

    [TM_NET_RX] = {"net.rx", "byte", METRIC_COUNTER, NET, 9, METRIC_NUMOPS | METRIC_CLASS_LAST, CFG_EW_MAX},
    [TM_NET_TX] = {"net.tx", "byte", METRIC_COUNTER, NET, 9, METRIC_NUMOPS | METRIC_CLASS_LAST, CFG_EW_MAX},
    [TM_NET_OPEN] = {"net.open", "connection", METRIC_COUNTER, NET, 7, 0, CFG_EW_NET},
    [TM_NET_CLOSE] = {"net.close", "connection", METRIC_COUNTER, NET, 7, 0, CFG_EW_NET},
    [TM_NET_DURATION] = {"net.duration", "millisecond", METRIC_TIMER, NET, 7, METRIC_NUMOPS | METRIC_MEAN, CFG_EW_MAX},
    [TM_NET_PORT] = {"net.port", "instance", METRIC_GAUGE, NET, 7, 0, CFG_EW_MAX},
    [TM_NET_TCP] = {"net.tcp", "connection", METRIC_GAUGE, NET, 7, 0, CFG_EW_MAX},
    [TM_NET_UDP] = {"net.udp", "connection", METRIC_GAUGE, NET, 7, 0, CFG_EW_MAX},
    [TM_NET_OTHER] = {"net.other", "connection", METRIC_GAUGE, NET, 7, 0, CFG_EW_MAX},
    [TM_NET_ERROR] = {"net.error", "operation", METRIC_COUNTER, NET, 5, METRIC_OP_CLASS, CFG_EW_MAX},

    [TM_HTTP_REQ] = {"http.req", "request", METRIC_COUNTER, HTTP, NEVER, METRIC_KEYED, CFG_EW_HTTP},
    [TM_HTTP_DURATION_SERVER] = {"http.duration.server", "millisecond", METRIC_TIMER, HTTP, NEVER,
                                 METRIC_KEYED | METRIC_NUMOPS | METRIC_MEAN | METRIC_THOUSANDTH, CFG_EW_HTTP},
    [TM_HTTP_DURATION_CLIENT] = {"http.duration.client", "millisecond", METRIC_TIMER, HTTP, NEVER,
                                 METRIC_KEYED | METRIC_NUMOPS | METRIC_MEAN | METRIC_THOUSANDTH, CFG_EW_HTTP},
    [TM_HTTP_REQ_LENGTH] = {"http.req.content_length", "byte", METRIC_COUNTER, HTTP, NEVER,
                            METRIC_KEYED | METRIC_NUMOPS, CFG_EW_HTTP},
    [TM_HTTP_RESP_LENGTH] = {"http.resp.content_length", "byte", METRIC_COUNTER, HTTP, NEVER,
                             METRIC_KEYED | METRIC_NUMOPS, CFG_EW_HTTP},

    [TM_DNS_REQ] = {"dns.req", "request", METRIC_COUNTER, DNS, 6, 0, CFG_EW_DNS},
    [TM_DNS_DURATION] = {"dns.duration", "millisecond", METRIC_TIMER, DNS, 6,
                         METRIC_NUMOPS | METRIC_MEAN | METRIC_THOUSANDTH, CFG_EW_DNS},

    [TM_PROC_START] = {"proc.start", "process", METRIC_COUNTER, PROC, 0, METRIC_AT_ONCE, CFG_EW_PROCESS},
    [TM_PROC_CPU] = {"proc.cpu", "microsecond", METRIC_COUNTER, PROC, 0, METRIC_AT_ONCE, CFG_EW_MAX},
    [TM_PROC_CPU_PERC] = {"proc.cpu_perc", "percent", METRIC_GAUGE, PROC, 0, METRIC_AT_ONCE | METRIC_HUNDREDTHS,
                          CFG_EW_MAX},
    [TM_PROC_MEM] = {"proc.mem", "kibibyte", METRIC_GAUGE, PROC, 0, METRIC_AT_ONCE, CFG_EW_MAX},
    [TM_PROC_THREAD] = {"proc.thread", "thread", METRIC_GAUGE, PROC, 0, METRIC_AT_ONCE, CFG_EW_MAX},
    [TM_PROC_FD] = {"proc.fd", "file", METRIC_GAUGE, PROC, 0, METRIC_AT_ONCE, CFG_EW_MAX},
    [TM_PROC_CHILD] = {"proc.child", "process", METRIC_GAUGE, PROC, 0, METRIC_AT_ONCE, CFG_EW_MAX},

    [TM_LOST] = {"scope.lost", "record", METRIC_COUNTER, CFG_MW_MAX, NEVER, METRIC_AT_ONCE, CFG_EW_MAX},
};

static const char *const type_names[] = {"counter", "gauge", "timer", "histogram"};

enum tag_flag {
    TAG_TAKEN       = 1 << 0, /* a custom tag of this name wins */
    TAG_BEFORE_HOST = 1 << 1, /* stands between `pid` and `host` */
    TAG_HTTP        = 1 << 2, /* http_...: first in metrics of HTTP */
    TAG_UNIT        = 1 << 3,
    TAG_CLASS       = 1 << 4,
    TAG_NUMOPS      = 1 << 5,
    TAG_ARGS        = 1 << 6,
};

/* Verbosity from which on a tag is attached; for fields that come without a level of their own. */
static const struct {
    const char *name;
    uint8_t level;
} levels[] = {
    {"data", 1}, {"unit", 1}, {"summary", 1}, {"http_status_code", 1}, {"kind", 1},
    {"class", 2}, {"proto", 2},
    {"op", 3}, {"errno", 3},
    {"pid", 4}, {"host", 4}, {"proc", 4}, {"http_target", 4}, {"gid", 4}, {"groupname", 4}, {"uid", 4},
    {"username", 4},
    {"file", 5}, {"file_to", 5}, {"domain", 5},
    {"localip", 6}, {"remoteip", 6}, {"localp", 6}, {"remotep", 6}, {"localn", 6}, {"remoten", 6}, {"port", 6},
    {"fd", 7}, {"args", 7},
    {"duration", 8}, {"numops", 8},
};

static bool one_of(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool has_tag(const struct telemetry *t, const char *name)
{
    for (size_t i = 0; i < t->tag_count; i++)
        if (strcmp(t->tags[i].name, name) == 0)
            return true;
    return false;
}

static struct tag_name look_up(const struct telemetry *t, const char *name)
{
    static const char *const before_host[] = {"fd", "gid", "groupname", "uid", "username"};
    struct tag_name n = {.name = name};

    for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
        if (strcmp(levels[i].name, name) == 0)
            n.level = levels[i].level;
    if (has_tag(t, name))
        n.flags |= TAG_TAKEN;
    if (one_of(name, before_host, sizeof(before_host) / sizeof(*before_host)))
        n.flags |= TAG_BEFORE_HOST;
    if (strncmp(name, "http_", 5) == 0)
        n.flags |= TAG_HTTP;
    if (strcmp(name, "unit") == 0)
        n.flags |= TAG_UNIT;
    if (strcmp(name, "class") == 0)
        n.flags |= TAG_CLASS;
    if (strcmp(name, "numops") == 0)
        n.flags |= TAG_NUMOPS;
    if (strcmp(name, "args") == 0)
        n.flags |= TAG_ARGS;
    return n;
}

/* Names of tags are constants and few: what they say is remembered by their addresses. */
static struct tag_name name_of(struct telemetry *t, const struct tm_field *f)
{
    struct tag_name *n = &t->names[((uintptr_t)f->name * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & (TAG_NAMES - 1)];

    if (n->name != f->name)
        *n = look_up(t, f->name);
    return *n;
}

/* --- the tags of one sample, in their order --- */

struct tags {
    struct tm_field f[TAG_MAX];
    size_t count;
};

static void add(struct tags *tags, const struct tm_field *f)
{
    if (tags->count < TAG_MAX)
        tags->f[tags->count++] = *f;
}

static void add_str(struct tags *tags, const char *name, uint8_t level, const char *value)
{
    if (value)
        add(tags, &(struct tm_field){.name = name, .type = TM_STR, .level = level, .v.str = {value, strlen(value)}});
}

static void add_uint(struct tags *tags, const char *name, uint8_t level, uint64_t value)
{
    add(tags, &(struct tm_field){.name = name, .type = TM_UINT, .level = level, .v.u = value});
}

struct what {
    const struct metric_def *def;
    const struct tm_field *fields;
    size_t field_count;
    const char *class_;
    uint64_t numops;
    bool summary;
};

static void gather(struct telemetry *t, struct tags *tags, const struct tm_process *who, const struct what *w)
{
    bool class_last = w->summary && w->def->flags & METRIC_CLASS_LAST;
    uint8_t given = 0; /* enum tag_flag of the fields */
    size_t i = 0;

    tags->count = 0;
    for (; w->def->flags & METRIC_KEYED && i < w->field_count && name_of(t, &w->fields[i]).flags & TAG_HTTP; i++)
        add(tags, &w->fields[i]);
    add_str(tags, "proc", 4, who->proc ? who->proc : "");
    add_uint(tags, "pid", 4, who->pid);
    if (tm_two_pids(who))
        add_uint(tags, "hostPid", 4, who->host_pid);
    for (; i < w->field_count && name_of(t, &w->fields[i]).flags & TAG_BEFORE_HOST; i++)
        add(tags, &w->fields[i]);
    if (w->def == &metric_defs[TM_PROC_START] && !w->field_count) {
        add_uint(tags, "gid", 4, who->gid);
        add_str(tags, "groupname", 4, who->groupname);
        add_uint(tags, "uid", 4, who->uid);
        add_str(tags, "username", 4, who->username);
    }
    add_str(tags, "host", 4, who->host ? who->host : "");
    for (; i < w->field_count; i++) {
        uint8_t flags = name_of(t, &w->fields[i]).flags;

        given |= flags;
        if (!(flags & TAG_UNIT))
            add(tags, &w->fields[i]);
    }
    if (w->def == &metric_defs[TM_PROC_START] && !(given & TAG_ARGS))
        add_str(tags, "args", 7, who->cmd);
    if (!class_last && !(given & TAG_CLASS))
        add_str(tags, "class", 2, w->class_);
    if (w->numops && w->def->flags & METRIC_NUMOPS && !(given & TAG_NUMOPS))
        add_uint(tags, "numops", 8, w->numops);
    add_str(tags, "unit", 1, w->def->unit);
    if (class_last)
        add_str(tags, "class", 2, w->class_);
    if (w->summary)
        add_str(tags, "summary", 1, "true");
}

/* Whether a field is attached at the configured verbosity; a custom tag of the same name wins. Sets its level. */
static bool selected(struct telemetry *t, const struct tm_field *f, uint8_t *ret_level)
{
    struct tag_name n = name_of(t, f);

    *ret_level = f->level ? f->level : n.level;
    return *ret_level <= t->verbosity && !(n.flags & TAG_TAKEN) && (f->type != TM_STR || f->v.str.p);
}

static void select_tags(struct telemetry *t, struct tags *tags)
{
    size_t kept = 0;

    for (size_t i = 0; i < tags->count; i++)
        if (selected(t, &tags->f[i], &tags->f[i].level)) {
            if (kept != i)
                tags->f[kept] = tags->f[i];
            kept++;
        }
    tags->count = kept;
}

/* --- sinks that sum up themselves --- */

/* Whether all of them do. */
static bool hand_over(struct telemetry *t, struct process *p, const struct tm_sample *s)
{
    size_t taken = 0;

    for (size_t i = 0; i < t->to[TO_METRICS].count; i++) {
        struct sink *sink = t->to[TO_METRICS].sink[i];

        if (sink->format->sample) {
            sink->format->sample(sink, p->who, s);
            taken++;
        }
    }
    t->stats.metrics += taken;
    return taken && taken == t->to[TO_METRICS].count;
}

/* --- values --- */

static struct tm_field value_of(int64_t value, uint8_t flags)
{
    uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;

    if (flags & METRIC_THOUSANDTH) { /* two decimals are enough */
        magnitude = (magnitude + 5) / 10;
        value = value < 0 ? -(int64_t)magnitude : (int64_t)magnitude;
    }
    return (struct tm_field){.type = flags & (METRIC_HUNDREDTHS | METRIC_THOUSANDTH) ? TM_HUNDREDTHS : TM_INT, .v.i = value};
}

static bool emit(struct telemetry *t, struct process *p, const struct what *w, struct tm_field value, uint64_t time_ns,
                 bool notice)
{
    struct tags tags; /* not filled with zeros, which takes longer than all that follows */
    struct ev_record r = {.kind = EV_METRIC, .time_ns = time_ns, .tags = t->tags, .tag_count = t->tag_count,
                          .fields = tags.f, .name = w->def->name, .type = type_names[w->def->type], .value = value};

    gather(t, &tags, p->who, w);
    select_tags(t, &tags);
    r.field_count = tags.count;
    return telemetry_write(t, &t->to[TO_METRICS], p->who, &r, notice);
}

/* Name of a type that a StatsD line has; letters that are none are told as they are. */
static const char *captured_type(const char *letters)
{
    static const char *const types[][2] = {{"c", "counter"}, {"g", "gauge"}, {"ms", "timer"},
                                           {"h", "histogram"}, {"s", "set"}, {"d", "distribution"}};

    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
        if (strcmp(letters, types[i][0]) == 0)
            return types[i][1];
    return letters;
}

static bool has(const struct tags *tags, const char *name)
{
    for (size_t i = 0; i < tags->count; i++)
        if (strcmp(tags->f[i].name, name) == 0)
            return true;
    return false;
}

void metric_captured(struct telemetry *t, struct process *p, const struct tm_captured *m)
{
    const struct tm_process *who = p->who;
    struct tags tags, ours;
    struct ev_record r = {.kind = EV_METRIC, .time_ns = m->time_ns, .tags = t->tags, .tag_count = t->tag_count,
                          .fields = tags.f, .name = m->name, .type = captured_type(m->type), .text = m->text,
                          .text_len = strlen(m->text)};

    tags.count = ours.count = 0;
    add_str(&ours, "proc", 4, who->proc ? who->proc : "");
    add_uint(&ours, "pid", 4, who->pid);
    add_str(&ours, "host", 4, who->host ? who->host : "");
    select_tags(t, &ours);
    for (size_t i = 0; i < m->field_count; i++) /* its own dimensions stay, whatever the verbosity */
        if (!has(&tags, m->fields[i].name) && !has_tag(t, m->fields[i].name))
            add(&tags, &m->fields[i]);
    for (size_t i = 0; i < ours.count; i++)
        if (!has(&tags, ours.f[i].name))
            add(&tags, &ours.f[i]);
    r.field_count = tags.count;
    if (strcmp(m->type, "s") == 0)
        r.value = (struct tm_field){.type = TM_STR, .v.str = {m->text, strlen(m->text)}};
    else
        r.value = (struct tm_field){.type = TM_NUM, .v.num = m->value};
    telemetry_write(t, &t->to[TO_METRICS], p->who, &r, false);
}

/* --- samples --- */

bool metric_raw_wanted(const struct telemetry *t, enum tm_metric m)
{
    const struct watch *w = &t->watch[CFG_EW_METRIC];
    const struct metric_def *def = &metric_defs[m];

    if (!t->events_on || !w->enable || m == TM_LOST)
        return false;
    if (def->instead_of != CFG_EW_MAX && t->watch[def->instead_of].enable)
        return false;
    return filter_match_name(w->name, def->name, strlen(def->name));
}

static size_t class_index(struct telemetry *t, const char *class_)
{
    if (!class_)
        return 0;
    for (size_t i = 0; i < t->class_count; i++)
        if (strcmp(t->classes[i], class_) == 0)
            return i + 1;
    if (t->class_count == CLASS_MAX)
        return CLASS_OTHER;
    t->classes[t->class_count++] = xstrdup(class_);
    return t->class_count;
}

static int64_t add_saturating(int64_t a, int64_t b)
{
    int64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? (b > 0 ? INT64_MAX : INT64_MIN) : sum;
}

static void sum_up(struct cell *c, const struct tm_sample *s)
{
    const struct metric_def *def = &metric_defs[s->metric];

    c->value = def->type == METRIC_GAUGE ? s->value : add_saturating(c->value, s->value);
    c->numops += def->flags & METRIC_MEAN && !s->numops ? 1 : s->numops;
    c->seen = true;
}

static void aggregate(struct telemetry *t, struct process *p, const struct tm_sample *s)
{
    size_t at = class_index(t, s->class_), had = p->sums[s->metric].count;
    struct cell *c;

    if (at >= had) {
        c = p->sums[s->metric].cell = xrealloc(p->sums[s->metric].cell, at + 1, sizeof(*c));
        memset(c + had, 0, (at + 1 - had) * sizeof(*c));
        p->sums[s->metric].count = at + 1;
    }
    sum_up(&p->sums[s->metric].cell[at], s);
}

/* --- sums for each combination of tags --- */

static bool same_text(const char *a, const char *b, size_t len)
{
    return !len || a == b || memcmp(a, b, len) == 0;
}

static bool same_value(const struct tm_field *a, const struct tm_field *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case TM_STR:
        return a->v.str.len == b->v.str.len && same_text(a->v.str.p, b->v.str.p, a->v.str.len);
    case TM_BOOL:
        return a->v.b == b->v.b;
    default: /* nothing else tells combinations apart but numbers */
        return a->v.u == b->v.u;
    }
}

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29; /* the upper bits of a product never reach the lower ones */
}

static uint64_t mix_text(uint64_t h, const char *text, size_t len)
{
    uint64_t word = 0;

    h = mix(h, len);
    for (; len >= sizeof(word); text += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, text, sizeof(word));
        h = mix(h, word);
    }
    word = 0;
    if (len)
        memcpy(&word, text, len);
    return mix(h, word);
}

/* One metric and the fields that tell its sums apart. */
struct key {
    enum tm_metric metric;
    const struct tm_field *field[TAG_MAX];
    size_t count;
};

static uint32_t hash_of(const struct key *key)
{
    uint64_t h = mix(0, key->metric);

    for (size_t i = 0; i < key->count; i++) {
        const struct tm_field *f = key->field[i];

        h = f->type == TM_STR ? mix_text(h, f->v.str.p, f->v.str.len) : mix(h, f->type == TM_BOOL ? f->v.b : f->v.u);
    }
    return (uint32_t)(h ^ h >> 32);
}

static bool is_of(const struct keyed *k, const struct key *key)
{
    if (!k || k->metric != key->metric || k->field_count != key->count)
        return false;
    for (size_t i = 0; i < key->count; i++) {
        const struct tm_field *f = key->field[i];

        if (!same_value(&k->fields[i], f) || (k->fields[i].name != f->name && strcmp(k->fields[i].name, f->name) != 0))
            return false;
    }
    return true;
}

static struct keyed *keyed_new(const struct key *key, uint32_t hash)
{
    struct keyed *k = xcalloc(1, sizeof(*k) + key->count * sizeof(*k->fields));

    k->hash = hash;
    k->metric = key->metric;
    k->field_count = key->count;
    for (size_t i = 0; i < key->count; i++) {
        k->fields[i] = *key->field[i];
        if (k->fields[i].type == TM_STR)
            k->fields[i].v.str.p = xstrndup(k->fields[i].v.str.p, k->fields[i].v.str.len);
    }
    return k;
}

static void keyed_free(struct keyed *k)
{
    for (size_t i = 0; i < k->field_count; i++)
        if (k->fields[i].type == TM_STR)
            free((char *)k->fields[i].v.str.p);
    free(k);
}

/* Where the sums of a key are, or are to be. */
static struct keyed **slot_of(struct process *p, const struct key *key, uint32_t hash)
{
    struct keyed **at, *k;

    if (!p->keyed.slot)
        p->keyed.slot = xcalloc(KEYED_SLOTS, sizeof(struct keyed *));
    for (at = &p->keyed.slot[hash % KEYED_SLOTS]; (k = *at);
         at = at + 1 < p->keyed.slot + KEYED_SLOTS ? at + 1 : p->keyed.slot)
        if (k->hash == hash && is_of(k, key))
            break;
    return at;
}

static struct keyed *keyed_of(struct process *p, struct key *key)
{
    static const struct {
        const char *p;
        size_t len;
    } other = {"other", 5};
    uint32_t hash = hash_of(key);
    struct keyed **at = slot_of(p, key, hash);
    struct tm_field first;

    if (!*at && p->keyed.count >= KEYED_MAX && key->count) {
        first = *key->field[0];
        first.type = TM_STR;
        first.v.str.p = other.p;
        first.v.str.len = other.len;
        key->field[0] = &first; /* few: one for each status code */
        hash = hash_of(key);
        at = slot_of(p, key, hash);
    }
    if (!*at) {
        *at = keyed_new(key, hash);
        *(p->keyed.last ? &p->keyed.last->next : &p->keyed.first) = *at;
        p->keyed.last = *at;
        p->keyed.count++;
    }
    return *at;
}

static bool tells_apart(struct telemetry *t, const struct tm_field *f)
{
    uint8_t level;

    return selected(t, f, &level) && !(name_of(t, f).flags & TAG_NUMOPS);
}

static bool has_shape(const struct shape *shape, const struct tm_sample *s)
{
    if (shape->count != s->field_count)
        return false;
    for (size_t i = 0; i < s->field_count; i++)
        if (shape->field[i].name != s->fields[i].name || shape->field[i].level != s->fields[i].level)
            return false;
    return true;
}

static void remember_shape(struct telemetry *t, struct shape *shape, const struct tm_sample *s)
{
    shape->count = s->field_count;
    shape->kept = 0;
    for (size_t i = 0; i < s->field_count; i++) {
        shape->field[i].name = s->fields[i].name;
        shape->field[i].level = s->fields[i].level;
        shape->field[i].keep = tells_apart(t, &s->fields[i]);
        shape->kept += shape->field[i].keep;
    }
}

/* Whether a sample is of the same fields as the last one, and those of them that tell sums apart are what they are in k:
 * found out without putting its key together. */
static inline bool goes_to(const struct keyed *k, const struct shape *shape, const struct tm_sample *s)
{
    const struct tm_field *kept;

    if (!k || shape->count != s->field_count || k->field_count != shape->kept)
        return false;
    kept = k->fields;
    for (size_t i = 0; i < s->field_count; i++) {
        const struct tm_field *f = &s->fields[i];

        if (shape->field[i].name != f->name || shape->field[i].level != f->level)
            return false;
        if (!shape->field[i].keep)
            continue;
        if (kept->name != f->name || (f->type == TM_STR && !f->v.str.p) || !same_value(kept, f))
            return false;
        kept++;
    }
    return true;
}

/* The sums that a sample goes to, by its key. */
static __attribute__((noinline)) struct keyed *look_up_keyed(struct telemetry *t, struct process *p,
                                                             const struct tm_sample *s)
{
    struct key key; /* not filled with zeros, which takes longer than all that follows */
    struct keyed *k = p->keyed.recent[s->metric];
    struct shape *shape = &t->shapes[s->metric];
    bool known = has_shape(shape, s);

    if (!known && s->field_count <= SHAPE_MAX)
        remember_shape(t, shape, s);
    key.metric = s->metric;
    key.count = 0;
    for (size_t i = 0; i < s->field_count && key.count < TAG_MAX; i++) {
        const struct tm_field *f = &s->fields[i];

        if (known ? shape->field[i].keep && (f->type != TM_STR || f->v.str.p) : tells_apart(t, f))
            key.field[key.count++] = f;
    }
    if (!is_of(k, &key))
        k = p->keyed.recent[s->metric] = keyed_of(p, &key);
    return k;
}

static void aggregate_keyed(struct telemetry *t, struct process *p, const struct tm_sample *s)
{
    struct keyed *k = p->keyed.recent[s->metric];

    if (!goes_to(k, &t->shapes[s->metric], s))
        k = look_up_keyed(t, p, s);
    sum_up(&k->sum, s);
}

static struct what single(const struct metric_def *def, const struct tm_sample *s)
{
    return (struct what){.def = def, .fields = s->fields, .field_count = s->field_count, .numops = s->numops,
                         .class_ = def->flags & METRIC_OP_CLASS ? s->class_ : NULL};
}

static __attribute__((noinline)) void tell_raw(struct telemetry *t, struct process *p, const struct tm_sample *s)
{
    const struct metric_def *def = &metric_defs[s->metric];
    struct what w = single(def, s);
    struct tm_field value = value_of(s->value, def->flags);
    struct tags tags;

    gather(t, &tags, p->who, &w);
    event_metric(t, p, def->name, type_names[def->type], &value, s->time_ns, tags.f, tags.count);
}

static __attribute__((noinline)) void tell_single(struct telemetry *t, struct process *p, const struct tm_sample *s)
{
    const struct metric_def *def = &metric_defs[s->metric];
    struct what w = single(def, s);

    emit(t, p, &w, value_of(s->value, def->flags), s->time_ns, false);
}

void metric_sample(struct telemetry *t, struct process *p, const struct tm_sample *s)
{
    const struct metric_def *def = &metric_defs[s->metric];
    bool at_once = def->flags & METRIC_AT_ONCE;

    if ((at_once || !s->summary_only) && metric_raw_wanted(t, s->metric))
        tell_raw(t, p, s);
    if (!telemetry_wants_metric(t, s->metric) || hand_over(t, p, s))
        return;
    if (at_once || (t->verbosity >= def->per_op && !s->summary_only))
        tell_single(t, p, s);
    else if (def->flags & METRIC_KEYED)
        aggregate_keyed(t, p, s);
    else
        aggregate(t, p, s);
}

static struct tm_field mean(int64_t sum, uint64_t numops)
{
    __int128 hundredths = (__int128)sum * 100 / (numops ? numops : 1);

    if (!numops || sum % (int64_t)numops == 0)
        return value_of(numops ? sum / (int64_t)numops : sum, 0);
    return value_of((int64_t)hundredths, METRIC_HUNDREDTHS);
}

static struct tm_field summary_value(const struct metric_def *def, const struct cell *c)
{
    if (def->flags & METRIC_MEAN)
        return mean(c->value, c->numops * (def->flags & METRIC_THOUSANDTH ? 1000 : 1));
    return value_of(c->value, def->flags);
}

static void keyed_clear(struct process *p)
{
    for (struct keyed *k = p->keyed.first, *next; k; k = next) {
        next = k->next;
        keyed_free(k);
    }
    free(p->keyed.slot);
    memset(&p->keyed, 0, sizeof(p->keyed));
}

void metric_forget(struct process *p)
{
    keyed_clear(p);
    for (int m = 0; m < TM_METRIC_MAX; m++)
        free(p->sums[m].cell);
}

void metric_summarise(struct telemetry *t, struct process *p, uint64_t time_ns)
{
    for (const struct keyed *k = p->keyed.first; k; k = k->next) {
        struct what w = {.def = &metric_defs[k->metric], .numops = k->sum.numops, .summary = true, .fields = k->fields,
                         .field_count = k->field_count};

        emit(t, p, &w, summary_value(w.def, &k->sum), time_ns, false);
    }
    keyed_clear(p);
    for (int m = 0; m < TM_METRIC_MAX; m++) {
        const struct metric_def *def = &metric_defs[m];

        for (size_t i = 0; i < p->sums[m].count; i++) {
            struct cell *c = &p->sums[m].cell[i];
            struct what w = {.def = def, .numops = c->numops, .summary = true,
                             .class_ = !i ? NULL : i == CLASS_OTHER ? "other" : t->classes[i - 1]};

            /* A gauge is told in each period once it is known; the others when something happened. */
            if (!c->seen || (def->type == METRIC_COUNTER && !c->value && !c->numops))
                continue;
            emit(t, p, &w, summary_value(def, c), time_ns, false);
            if (def->type != METRIC_GAUGE)
                *c = (struct cell){0};
            c->numops = 0;
        }
    }
}

bool metric_lost(struct telemetry *t, struct process *p, const char *kind, uint64_t count, uint64_t time_ns)
{
    struct tm_field f = {.name = "kind", .type = TM_STR, .level = 1, .v.str = {kind, strlen(kind)}};
    struct what w = {.def = &metric_defs[TM_LOST], .fields = &f, .field_count = 1};

    return emit(t, p, &w, value_of(count < INT64_MAX ? (int64_t)count : INT64_MAX, 0), time_ns, true);
}
