/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: catalogue, aggregation and the two encodings. docs/data-model.md, "Metrics". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
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
static const char *const type_letters[] = {"c", "g", "ms", "h"};

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

static uint8_t level_of(const struct tm_field *f)
{
    if (f->level)
        return f->level;
    for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
        if (strcmp(levels[i].name, f->name) == 0)
            return levels[i].level;
    return 0;
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

static bool has(const struct tm_field *fields, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(fields[i].name, name) == 0)
            return true;
    return false;
}

/* These stand between `pid` and `host`. */
static bool before_host(const char *name)
{
    static const char *const names[] = {"fd", "gid", "groupname", "uid", "username"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

struct what {
    const struct metric_def *def;
    const struct tm_field *fields;
    size_t field_count;
    const char *class_;
    uint64_t numops;
    bool summary;
};

static void gather(struct tags *tags, const struct tm_process *who, const struct what *w)
{
    bool class_last = w->summary && w->def->flags & METRIC_CLASS_LAST;
    size_t i = 0;

    tags->count = 0;
    for (; w->def->flags & METRIC_KEYED && i < w->field_count && !strncmp(w->fields[i].name, "http_", 5); i++)
        add(tags, &w->fields[i]);
    add_str(tags, "proc", 4, who->proc ? who->proc : "");
    add_uint(tags, "pid", 4, who->pid);
    if (tm_two_pids(who))
        add_uint(tags, "hostPid", 4, who->host_pid);
    for (; i < w->field_count && before_host(w->fields[i].name); i++)
        add(tags, &w->fields[i]);
    if (w->def == &metric_defs[TM_PROC_START] && !w->field_count) {
        add_uint(tags, "gid", 4, who->gid);
        add_str(tags, "groupname", 4, who->groupname);
        add_uint(tags, "uid", 4, who->uid);
        add_str(tags, "username", 4, who->username);
    }
    add_str(tags, "host", 4, who->host ? who->host : "");
    for (; i < w->field_count; i++)
        if (strcmp(w->fields[i].name, "unit") != 0)
            add(tags, &w->fields[i]);
    if (w->def == &metric_defs[TM_PROC_START] && !has(w->fields, w->field_count, "args"))
        add_str(tags, "args", 7, who->cmd);
    if (!class_last && !has(w->fields, w->field_count, "class"))
        add_str(tags, "class", 2, w->class_);
    if (w->numops && w->def->flags & METRIC_NUMOPS && !has(w->fields, w->field_count, "numops"))
        add_uint(tags, "numops", 8, w->numops);
    add_str(tags, "unit", 1, w->def->unit);
    if (class_last)
        add_str(tags, "class", 2, w->class_);
    if (w->summary)
        add_str(tags, "summary", 1, "true");
}

/* Keeps those of the configured verbosity; a custom tag of the same name wins. */
static void select_tags(const struct telemetry *t, struct tags *tags)
{
    size_t kept = 0;

    for (size_t i = 0; i < tags->count; i++) {
        bool taken = false;

        tags->f[i].level = level_of(&tags->f[i]);
        if (tags->f[i].level > t->verbosity)
            continue;
        if (tags->f[i].type == TM_STR && !tags->f[i].v.str.p)
            continue;
        for (size_t j = 0; j < t->tag_count && !taken; j++)
            taken = strcmp(t->tags[j].name, tags->f[i].name) == 0;
        if (!taken)
            tags->f[kept++] = tags->f[i];
    }
    tags->count = kept;
}

/* --- encodings --- */

static void encode_ndjson(struct telemetry *t, const char *name, const char *type, const char *value, uint64_t time_ns,
                          const struct tags *tags)
{
    struct buf *b = &t->out;

    buf_reset(b);
    buf_str(b, "{\"type\":\"metric\",\"body\":{\"_metric\":");
    buf_json_str(b, name);
    buf_str(b, ",\"_metric_type\":\"");
    buf_str(b, type);
    buf_str(b, "\",\"_value\":");
    buf_str(b, value);
    buf_add(b, t->tags_json.p, t->tags_json.len);
    for (size_t i = 0; i < tags->count; i++) {
        buf_char(b, ',');
        buf_json_str(b, tags->f[i].name); /* a captured metric's may be anything */
        buf_char(b, ':');
        encode_value(b, &tags->f[i]);
    }
    buf_str(b, ",\"_time\":");
    buf_time(b, time_ns);
    buf_add(b, "}}\n", 3);
}

/* Bytes that mean something in a StatsD line, control characters and what isn't UTF-8 become %XX. */
static void statsd_escape(struct buf *b, const char *s, size_t len)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)s[i];
        unsigned n = utf8_sequence(s + i, len - i);

        if (n && c >= 0x20 && c != 0x7f && !(c < 0x80 && strchr("%,|#:", c))) {
            buf_add(b, s + i, n);
            i += n;
            continue;
        }
        buf_add(b, (char[3]){'%', hex[c >> 4], hex[c & 15]}, 3);
        i++;
    }
}

static void statsd_tag(struct buf *b, const struct tm_field *f)
{
    statsd_escape(b, f->name, strlen(f->name));
    buf_char(b, ':');
    switch (f->type) {
    case TM_STR:
        statsd_escape(b, f->v.str.p, f->v.str.len);
        break;
    case TM_NUM:
        buf_printf(b, "%.2f", f->v.num);
        break;
    case TM_STRLIST:
        for (size_t i = 0; i < f->v.list.count; i++) {
            if (i)
                buf_char(b, ';');
            statsd_escape(b, f->v.list.p[i], strlen(f->v.list.p[i]));
        }
        break;
    default:
        encode_value(b, f);
    }
}

/* False if not even the bare line fits into a datagram. A line that is too long loses the tags of the highest level
 * first, and of those the last ones. */
static bool encode_statsd(struct telemetry *t, const char *name, const char *type, const char *value,
                          const struct tags *tags)
{
    struct {
        size_t at, len;
        uint8_t level;
    } part[TAG_MAX + 64];
    struct buf *b = &t->out, *s = &t->scratch;
    size_t parts = 0, total;

    buf_reset(s);
    for (size_t i = 0; i < t->tag_count + tags->count && parts < sizeof(part) / sizeof(*part); i++) {
        struct tm_field custom;
        const struct tm_field *f = &custom;

        if (i < t->tag_count)
            custom = (struct tm_field){.name = t->tags[i].name, .type = TM_STR,
                                       .v.str = {t->tags[i].value, strlen(t->tags[i].value)}};
        else
            f = &tags->f[i - t->tag_count];
        part[parts].at = s->len;
        statsd_tag(s, f);
        part[parts].len = s->len - part[parts].at;
        part[parts++].level = f->level;
    }

    buf_reset(b);
    buf_str(b, t->prefix);
    buf_str(b, name);
    buf_char(b, ':');
    buf_str(b, value);
    buf_char(b, '|');
    buf_str(b, type);
    if (b->len + 1 > t->statsd_max)
        return false;

    total = b->len + 1 + (parts ? 1 : 0); /* "|#" replaces the first "," */
    for (size_t i = 0; i < parts; i++)
        total += part[i].len + 1;
    while (total > t->statsd_max && parts) {
        size_t worst = 0;

        for (size_t i = 1; i < parts; i++)
            if (part[i].level >= part[worst].level)
                worst = i;
        total -= part[worst].len + 1;
        memmove(&part[worst], &part[worst + 1], (parts - worst - 1) * sizeof(*part));
        parts--;
    }
    for (size_t i = 0; i < parts; i++) {
        buf_str(b, i ? "," : "|#");
        buf_add(b, s->p + part[i].at, part[i].len);
    }
    buf_char(b, '\n');
    return true;
}

static void format_value(char *text, size_t size, int64_t value, uint8_t flags)
{
    uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;

    if (flags & METRIC_THOUSANDTH) /* two decimals are enough */
        magnitude = (magnitude + 5) / 10;
    if (flags & (METRIC_HUNDREDTHS | METRIC_THOUSANDTH))
        snprintf(text, size, "%s%llu.%02u", value < 0 ? "-" : "", (unsigned long long)(magnitude / 100),
                 (unsigned)(magnitude % 100));
    else
        snprintf(text, size, "%lld", (long long)value);
}

static bool too_long(struct telemetry *t)
{
    t->stats.lost_queue++;
    telemetry_lost(t, NULL, "metric_length", 1);
    return true; /* trying again wouldn't help */
}

static bool emit(struct telemetry *t, struct process *p, const struct what *w, const char *value, uint64_t time_ns,
                 bool notice)
{
    struct tags tags;

    gather(&tags, p->who, w);
    select_tags(t, &tags);
    if (t->metric_format == CFG_NDJSON)
        encode_ndjson(t, w->def->name, type_names[w->def->type], value, time_ns, &tags);
    else if (!encode_statsd(t, w->def->name, type_letters[w->def->type], value, &tags))
        return too_long(t);
    return telemetry_write_metric(t, p, notice);
}

/* Names of types that StatsD has and we don't make ourselves. */
static const char *captured_type(const char *letter)
{
    for (size_t i = 0; i < sizeof(type_letters) / sizeof(*type_letters); i++)
        if (strcmp(letter, type_letters[i]) == 0)
            return type_names[i];
    return strcmp(letter, "s") == 0 ? "set" : strcmp(letter, "d") == 0 ? "distribution" : letter;
}

void metric_captured(struct telemetry *t, struct process *p, const struct tm_captured *m)
{
    const struct tm_process *who = p->who;
    struct tags tags = {.count = 0}, ours = {.count = 0};
    struct buf value = BUF_INIT;

    add_str(&ours, "proc", 4, who->proc ? who->proc : "");
    add_uint(&ours, "pid", 4, who->pid);
    add_str(&ours, "host", 4, who->host ? who->host : "");
    select_tags(t, &ours);
    for (size_t i = 0; i < m->field_count; i++) { /* its own dimensions stay, whatever the verbosity */
        bool taken = has(tags.f, tags.count, m->fields[i].name);

        for (size_t j = 0; j < t->tag_count && !taken; j++)
            taken = strcmp(t->tags[j].name, m->fields[i].name) == 0;
        if (!taken)
            add(&tags, &m->fields[i]);
    }
    for (size_t i = 0; i < ours.count; i++)
        if (!has(tags.f, tags.count, ours.f[i].name))
            add(&tags, &ours.f[i]);
    if (t->metric_format == CFG_NDJSON) {
        if (strcmp(m->type, "s") == 0)
            buf_json_str(&value, m->text);
        else
            encode_value(&value, &(struct tm_field){.type = TM_NUM, .v.num = m->value});
        encode_ndjson(t, m->name, captured_type(m->type), buf_cstr(&value), m->time_ns, &tags);
    } else if (!encode_statsd(t, m->name, m->type, m->text, &tags)) {
        too_long(t);
        buf_free(&value);
        return;
    }
    buf_free(&value);
    telemetry_write_metric(t, p, false);
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

/* FNV-1a by words of eight bytes, to which the key is filled up. */
static uint32_t hash_of(enum tm_metric metric, const struct buf *key)
{
    const uint64_t prime = UINT64_C(0x100000001b3);
    uint64_t h = (UINT64_C(0xcbf29ce484222325) ^ (uint64_t)metric) * prime, word;

    for (size_t i = 0; i < key->len; i += sizeof(word)) {
        memcpy(&word, key->p + i, sizeof(word));
        h = (h ^ word) * prime;
        h ^= h >> 29; /* the upper bits of a product never reach the lower ones */
    }
    return (uint32_t)(h ^ h >> 32);
}

static struct keyed *keyed_new(enum tm_metric metric, uint32_t hash, const struct buf *key, const struct tags *tags)
{
    struct keyed *k = xcalloc(1, sizeof(*k) + key->len);

    k->hash = hash;
    k->metric = metric;
    k->key_len = key->len;
    if (key->len)
        memcpy(k->key, key->p, key->len);
    k->field_count = tags->count;
    k->fields = xcalloc(tags->count ? tags->count : 1, sizeof(*k->fields));
    for (size_t i = 0; i < tags->count; i++) {
        k->fields[i] = tags->f[i];
        if (tags->f[i].type == TM_STR)
            k->fields[i].v.str.p = xstrndup(tags->f[i].v.str.p, tags->f[i].v.str.len);
    }
    return k;
}

static void keyed_free(struct keyed *k)
{
    for (size_t i = 0; i < k->field_count; i++)
        if (k->fields[i].type == TM_STR)
            free((char *)k->fields[i].v.str.p);
    free(k->fields);
    free(k);
}

/* What tells combinations apart; filled up with zeros to words of eight bytes. */
static void encode_key(struct buf *b, const struct tags *tags)
{
    static const char zeros[8];

    buf_reset(b);
    for (size_t i = 0; i < tags->count; i++) {
        const struct tm_field *f = &tags->f[i];

        buf_add(b, f->name, (f->name_len ? f->name_len : strlen(f->name)) + 1);
        buf_char(b, (char)f->type);
        switch (f->type) {
        case TM_STR:
            buf_add(b, &f->v.str.len, sizeof(f->v.str.len));
            buf_add(b, f->v.str.p, f->v.str.len);
            break;
        case TM_INT:
        case TM_UINT:
            buf_add(b, &f->v.u, sizeof(f->v.u));
            break;
        default:
            encode_value(b, f);
        }
    }
    buf_add(b, zeros, -b->len & 7u);
}

static void aggregate_keyed(struct telemetry *t, struct process *p, const struct tm_sample *s)
{
    struct tags tags; /* not filled with zeros, which takes longer than all that follows */
    struct keyed **at, *k;
    uint32_t hash;

    tags.count = 0;
    for (size_t i = 0; i < s->field_count; i++)
        if (strcmp(s->fields[i].name, "numops") != 0)
            add(&tags, &s->fields[i]);
    select_tags(t, &tags);
    if (!p->keyed.slot)
        p->keyed.slot = xcalloc(KEYED_SLOTS, sizeof(struct keyed *));
    for (;;) {
        encode_key(&t->scratch, &tags);
        hash = hash_of(s->metric, &t->scratch);
        for (at = &p->keyed.slot[hash % KEYED_SLOTS]; (k = *at);
             at = at + 1 < p->keyed.slot + KEYED_SLOTS ? at + 1 : p->keyed.slot)
            if (k->hash == hash && k->metric == s->metric && k->key_len == t->scratch.len &&
                (!k->key_len || !memcmp(k->key, t->scratch.p, k->key_len)))
                break;
        if (k || p->keyed.count < KEYED_MAX || !tags.count)
            break;
        if (tags.f[0].type == TM_STR && tags.f[0].v.str.len == 5 && !memcmp(tags.f[0].v.str.p, "other", 5))
            break; /* few: one for each status code */
        tags.f[0].type = TM_STR;
        tags.f[0].v.str.p = "other";
        tags.f[0].v.str.len = 5;
    }
    if (!k) {
        k = *at = keyed_new(s->metric, hash, &t->scratch, &tags);
        *(p->keyed.last ? &p->keyed.last->next : &p->keyed.first) = k;
        p->keyed.last = k;
        p->keyed.count++;
    }
    sum_up(&k->sum, s);
}

void metric_sample(struct telemetry *t, struct process *p, const struct tm_sample *s)
{
    const struct metric_def *def = &metric_defs[s->metric];
    bool at_once = def->flags & METRIC_AT_ONCE;
    struct what w = {.def = def, .fields = s->fields, .field_count = s->field_count, .numops = s->numops,
                     .class_ = def->flags & METRIC_OP_CLASS ? s->class_ : NULL};
    char value[48];

    if ((at_once || !s->summary_only) && metric_raw_wanted(t, s->metric)) {
        struct tags tags;

        format_value(value, sizeof(value), s->value, def->flags);
        gather(&tags, p->who, &w);
        event_metric(t, p, def->name, type_names[def->type], value, s->time_ns, tags.f, tags.count);
    }
    if (!telemetry_wants_metric(t, s->metric))
        return;
    if (at_once || (t->verbosity >= def->per_op && !s->summary_only)) {
        format_value(value, sizeof(value), s->value, def->flags);
        emit(t, p, &w, value, s->time_ns, false);
    } else if (def->flags & METRIC_KEYED) {
        aggregate_keyed(t, p, s);
    } else {
        aggregate(t, p, s);
    }
}

static void mean(char *text, size_t size, int64_t sum, uint64_t numops)
{
    __int128 hundredths = (__int128)sum * 100 / (numops ? numops : 1);

    if (!numops || sum % (int64_t)numops == 0)
        format_value(text, size, numops ? sum / (int64_t)numops : sum, 0);
    else
        format_value(text, size, (int64_t)hundredths, METRIC_HUNDREDTHS);
}

static void summary_text(char *text, size_t size, const struct metric_def *def, const struct cell *c)
{
    if (def->flags & METRIC_MEAN)
        mean(text, size, c->value, c->numops * (def->flags & METRIC_THOUSANDTH ? 1000 : 1));
    else
        format_value(text, size, c->value, def->flags);
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
    char value[48];

    for (const struct keyed *k = p->keyed.first; k; k = k->next) {
        struct what w = {.def = &metric_defs[k->metric], .numops = k->sum.numops, .summary = true, .fields = k->fields,
                         .field_count = k->field_count};

        summary_text(value, sizeof(value), w.def, &k->sum);
        emit(t, p, &w, value, time_ns, false);
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
            summary_text(value, sizeof(value), def, c);
            emit(t, p, &w, value, time_ns, false);
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
    char value[48];

    format_value(value, sizeof(value), count < INT64_MAX ? (int64_t)count : INT64_MAX, 0);
    return emit(t, p, &w, value, time_ns, true);
}
