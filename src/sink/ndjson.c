/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/ndjson.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "event/fields.h"
#include "sink/internal.h"
#include "version.h"

#define LITERAL(b, s) buf_add(b, s, sizeof(s) - 1)

#define BUCKETS        256  /* a power of two */
#define IDENTITIES_MAX 1024 /* then all are forgotten, and those that are still met are made anew */

enum part {
    PART_HEAD,  /* {"type":"evt","id":"...","_channel":" */
    PART_BODY,  /* ,"host":"...","proc":"...","cmd":"...","pid":1 */
    PART_WHO,   /* TM_WHO: "proc":"...","pid":1,"host":"..." */
    PART_OWNER, /* TM_OWNER */
    PARTS
};

struct identity {
    const struct tm_process *who;
    struct identity *next;
    struct {
        const char *p;
        size_t len;
    } part[PARTS];
    char text[];
};

struct ndjson {
    struct identity *bucket[BUCKETS];
    struct identity *last; /* found last */
    size_t count;
    bool plain_names;
    struct buf scratch;
};

struct ndjson *ndjson_new(void)
{
    return xcalloc(1, sizeof(struct ndjson));
}

void ndjson_plain_names(struct ndjson *n)
{
    n->plain_names = true;
}

static void forget_all(struct ndjson *n)
{
    for (int i = 0; i < BUCKETS; i++) {
        for (struct identity *id = n->bucket[i], *next; id; id = next) {
            next = id->next;
            free(id);
        }
        n->bucket[i] = NULL;
    }
    n->last = NULL;
    n->count = 0;
}

void ndjson_free(struct ndjson *n)
{
    if (!n)
        return;
    forget_all(n);
    buf_free(&n->scratch);
    free(n);
}

/* --- values and members --- */

static void json_or_empty(struct buf *b, const char *s)
{
    buf_json_str(b, s ? s : "");
}

static void encode_double(struct buf *b, double v)
{
    char text[40];

    if (!isfinite(v)) {
        LITERAL(b, "null");
        return;
    }
    snprintf(text, sizeof(text), "%.15g", v);
    if (strtod(text, NULL) != v)
        snprintf(text, sizeof(text), "%.17g", v);
    buf_str(b, text);
}

static void encode_hundredths(struct buf *b, int64_t v)
{
    uint64_t magnitude = v < 0 ? -(uint64_t)v : (uint64_t)v;

    if (v < 0)
        buf_char(b, '-');
    buf_uint(b, magnitude / 100);
    buf_char(b, '.');
    buf_char(b, (char)('0' + magnitude % 100 / 10));
    buf_char(b, (char)('0' + magnitude % 10));
}

void ndjson_value(struct buf *b, const struct tm_field *f)
{
    switch (f->type) {
    case TM_STR:
        buf_json(b, f->v.str.p, f->v.str.p ? f->v.str.len : 0);
        break;
    case TM_INT:
        buf_int(b, f->v.i);
        break;
    case TM_UINT:
        buf_uint(b, f->v.u);
        break;
    case TM_NUM:
        encode_double(b, f->v.num);
        break;
    case TM_HUNDREDTHS:
        encode_hundredths(b, f->v.i);
        break;
    case TM_BOOL:
        buf_str(b, f->v.b ? "true" : "false");
        break;
    case TM_STRLIST:
        buf_char(b, '[');
        for (size_t i = 0; i < f->v.list.count; i++) {
            if (i)
                buf_char(b, ',');
            json_or_empty(b, f->v.list.p[i]);
        }
        buf_char(b, ']');
        break;
    case TM_WHO: case TM_OWNER:
        break; /* members, not a value */
    }
}

static void encode_member(struct buf *b, const struct tm_field *f, bool plain_name)
{
    size_t len = f->name_len ? f->name_len : strlen(f->name);
    char *p;

    if (plain_name && f->name_len) {
        p = buf_room(b, len + 3);
        *p++ = '"';
        p = mempcpy(p, f->name, len);
        *p++ = '"';
        *p = ':';
        b->len += len + 3;
    } else {
        buf_json(b, f->name, len);
        buf_char(b, ':');
    }
    ndjson_value(b, f);
}

/* ... each but the first behind a comma; the first, too, unless `first`. */
static void encode_members(struct buf *b, const struct identity *id, const struct ev_record *r, bool first, bool plain_names)
{
    for (size_t i = 0; i < r->field_count; i++) {
        const struct tm_field *f = &r->fields[i];

        if (!first)
            buf_char(b, ',');
        first = false;
        if (f->type == TM_WHO)
            buf_add(b, id->part[PART_WHO].p, id->part[PART_WHO].len);
        else if (f->type == TM_OWNER)
            buf_add(b, id->part[PART_OWNER].p, id->part[PART_OWNER].len);
        else
            encode_member(b, f, plain_names);
    }
}

static void encode_tags(struct buf *b, const struct ev_record *r)
{
    for (size_t i = 0; i < r->tag_count; i++) {
        buf_char(b, ',');
        buf_json_str(b, r->tags[i].name);
        buf_char(b, ':');
        buf_json_str(b, r->tags[i].value);
    }
}

/* --- processes --- */

static void encode_head(struct buf *b, const struct tm_process *who)
{
    LITERAL(b, "{\"type\":\"evt\",\"id\":");
    buf_json(b, who->id, strnlen(who->id, sizeof(who->id)));
    LITERAL(b, ",\"_channel\":\"");
}

static void encode_body(struct buf *b, const struct tm_process *who)
{
    LITERAL(b, ",\"host\":");
    json_or_empty(b, who->host);
    LITERAL(b, ",\"proc\":");
    json_or_empty(b, who->proc);
    LITERAL(b, ",\"cmd\":");
    buf_json_str(b, who->cmd && who->cmd[0] ? who->cmd : "none");
    LITERAL(b, ",\"pid\":");
    buf_uint(b, who->pid);
    if (tm_two_pids(who)) {
        LITERAL(b, ",\"hostPid\":");
        buf_uint(b, who->host_pid);
    }
}

static void encode_group(struct buf *b, const struct tm_process *who, enum tm_type group)
{
    struct tm_field f[TM_GROUP_FIELDS];

    tm_expand_group(who, group, f);
    for (int i = 0; i < TM_GROUP_FIELDS; i++) {
        if (i)
            buf_char(b, ',');
        encode_member(b, &f[i], true);
    }
}

static struct identity *identity_new(struct ndjson *n, const struct tm_process *who)
{
    struct buf *b = &n->scratch;
    struct identity *id;
    size_t end[PARTS];

    buf_reset(b);
    encode_head(b, who);
    end[PART_HEAD] = b->len;
    encode_body(b, who);
    end[PART_BODY] = b->len;
    encode_group(b, who, TM_WHO);
    end[PART_WHO] = b->len;
    encode_group(b, who, TM_OWNER);
    end[PART_OWNER] = b->len;
    id = xmalloc(sizeof(*id) + b->len);
    memcpy(id->text, b->p, b->len);
    id->who = who;
    for (int i = 0; i < PARTS; i++) {
        size_t start = i ? end[i - 1] : 0;

        id->part[i].p = id->text + start;
        id->part[i].len = end[i] - start;
    }
    return id;
}

static struct identity **bucket_of(struct ndjson *n, const struct tm_process *who)
{
    uint64_t h = (uintptr_t)who * UINT64_C(0x9e3779b97f4a7c15);

    return &n->bucket[h >> 32 & (BUCKETS - 1)];
}

static const struct identity *identity_of(struct ndjson *n, const struct tm_process *who)
{
    struct identity **bucket, *id;

    if (n->last && n->last->who == who)
        return n->last;
    bucket = bucket_of(n, who);
    for (id = *bucket; id && id->who != who; id = id->next)
        ;
    if (!id) {
        if (n->count == IDENTITIES_MAX)
            forget_all(n);
        id = identity_new(n, who);
        id->next = *bucket;
        *bucket = id;
        n->count++;
    }
    n->last = id;
    return id;
}

void ndjson_forget(struct ndjson *n, const struct tm_process *who)
{
    for (struct identity **link = bucket_of(n, who), *id; (id = *link); link = &id->next)
        if (id->who == who) {
            *link = id->next;
            if (n->last == id)
                n->last = NULL;
            free(id);
            n->count--;
            return;
        }
}

/* --- records --- */

static void encode_event(struct buf *b, const struct identity *id, const struct ev_record *r, bool plain_names)
{
    buf_add(b, id->part[PART_HEAD].p, id->part[PART_HEAD].len);
    if (r->channel)
        buf_uint(b, r->channel);
    else
        LITERAL(b, "none");
    LITERAL(b, "\",\"body\":{\"sourcetype\":");
    buf_json_str(b, r->sourcetype);
    LITERAL(b, ",\"_time\":");
    buf_time(b, r->time_ns);
    LITERAL(b, ",\"source\":");
    buf_json_str(b, r->source);
    buf_add(b, id->part[PART_BODY].p, id->part[PART_BODY].len);
    encode_tags(b, r);
    LITERAL(b, ",\"data\":");
    if (r->kind == EV_NOTICE) {
        buf_json(b, r->text, r->text_len);
    } else {
        buf_char(b, '{');
        encode_members(b, id, r, true, plain_names);
        buf_char(b, '}');
    }
    LITERAL(b, "}}\n");
}

static void encode_metric(struct buf *b, const struct identity *id, const struct ev_record *r)
{
    LITERAL(b, "{\"type\":\"metric\",\"body\":{\"_metric\":");
    buf_json_str(b, r->name);
    LITERAL(b, ",\"_metric_type\":");
    buf_json_str(b, r->type);
    LITERAL(b, ",\"_value\":");
    ndjson_value(b, &r->value);
    encode_tags(b, r);
    encode_members(b, id, r, false, false); /* those of a program's own metric may be anything */
    LITERAL(b, ",\"_time\":");
    buf_time(b, r->time_ns);
    LITERAL(b, "}}\n");
}

void ndjson_record(struct ndjson *n, struct buf *to, const struct ev_record *r)
{
    const struct identity *id = identity_of(n, r->who);

    if (r->kind == EV_METRIC)
        encode_metric(to, id, r);
    else
        encode_event(to, id, r, n->plain_names);
}

/* --- start messages --- */

static void text_member(struct buf *b, const char *name, const char *value)
{
    buf_char(b, ',');
    buf_json_str(b, name);
    buf_char(b, ':');
    json_or_empty(b, value);
}

static void encode_token(struct buf *b, const char *auth_token)
{
    if (!auth_token)
        return;
    LITERAL(b, "\"authToken\":");
    buf_json_str(b, auth_token);
    buf_char(b, ',');
}

void ndjson_start_message(struct buf *b, const struct tm_process *who, const char *auth_token, const char *config_json)
{
    const char *no_breaker = getenv("SCOPE_CRIBL_NO_BREAKER");

    buf_char(b, '{');
    encode_token(b, auth_token);
    LITERAL(b, "\"format\":\"ndjson\"");
    if (no_breaker && strcmp(no_breaker, "true") == 0)
        LITERAL(b, ",\"breaker\":\"Cribl - Do Not Break Ruleset\"");
    LITERAL(b, ",\"info\":{\"process\":{\"libscopever\":\"" SCOPE_VERSION "\"");
    buf_printf(b, ",\"pid\":%" PRIu32 ",\"ppid\":%" PRIu32 ",\"gid\":%" PRIu32, who->pid, who->ppid, who->gid);
    if (tm_two_pids(who))
        buf_printf(b, ",\"hostPid\":%" PRIu32, who->host_pid);
    if (who->groupname)
        text_member(b, "groupname", who->groupname);
    buf_printf(b, ",\"uid\":%" PRIu32, who->uid);
    if (who->username)
        text_member(b, "username", who->username);
    text_member(b, "hostname", who->host);
    text_member(b, "procname", who->proc);
    if (who->cmd && who->cmd[0])
        text_member(b, "cmd", who->cmd);
    text_member(b, "id", who->id);
    text_member(b, "cgroup", who->cgroup);
    if (who->container[0])
        text_member(b, "containerId", who->container);
    text_member(b, "machine_id", who->machine_id);
    text_member(b, "uuid", who->uuid);
    LITERAL(b, "},\"configuration\":{\"current\":");
    buf_str(b, config_json);
    LITERAL(b, "},\"environment\":{");
    if (who->k8s_pod) {
        LITERAL(b, "\"CRIBL_K8S_POD\":");
        buf_json_str(b, who->k8s_pod);
    }
    LITERAL(b, "}}}\n");
}

void ndjson_payload_start(struct buf *b, const struct tm_process *who, const char *auth_token)
{
    buf_char(b, '{');
    encode_token(b, auth_token);
    LITERAL(b, "\"format\":\"scope\",\"info\":{\"process\":{\"libscopever\":\"" SCOPE_VERSION "\"");
    buf_printf(b, ",\"pid\":%" PRIu32 ",\"ppid\":%" PRIu32 ",\"gid\":%" PRIu32 ",\"uid\":%" PRIu32, who->pid,
               who->ppid, who->gid, who->uid);
    text_member(b, "hostname", who->host);
    text_member(b, "procname", who->proc);
    text_member(b, "id", who->id);
    LITERAL(b, "}}}\n");
}

/* --- the sink --- */

struct ndjson_sink {
    struct line_sink lines;
    struct ndjson *encoder;
    struct sink_user user;
    char *config_json; /* NULL: no start messages */
    char *auth_token;  /* only for the destination that asks for it */
};

static bool sink_begin(struct sink *sink, const struct tm_process *who)
{
    struct ndjson_sink *s = (struct ndjson_sink *)sink;

    ndjson_forget(s->encoder, who);
    if (!s->config_json)
        return true;
    buf_reset(&s->lines.line);
    ndjson_start_message(&s->lines.line, who, s->auth_token, s->config_json);
    return line_write(&s->lines) == SINK_TAKEN;
}

static void sink_end(struct sink *sink, const struct tm_process *who)
{
    ndjson_forget(((struct ndjson_sink *)sink)->encoder, who);
}

static enum sink_result sink_write(struct sink *sink, const struct ev_record *r)
{
    struct ndjson_sink *s = (struct ndjson_sink *)sink;

    buf_reset(&s->lines.line);
    ndjson_record(s->encoder, &s->lines.line, r);
    return line_write(&s->lines);
}

static void sink_free(struct sink *sink)
{
    struct ndjson_sink *s = (struct ndjson_sink *)sink;

    output_forget(s->lines.output, s);
    line_release(&s->lines);
    ndjson_free(s->encoder);
    free(s->config_json);
    free(s->auth_token);
    free(s);
}

static void on_connected(void *ctx, struct output *o)
{
    struct ndjson_sink *s = ctx;

    s->user.anew(s->user.ctx, &s->lines.sink);
}

static const struct sink_format ndjson_format = {
    .begin = sink_begin, .end = sink_end, .write = sink_write, .free = sink_free, LINE_FUNCTIONS,
};

struct sink *ndjson_sink_new(const struct sink_user *user, const struct cfg_transport *to, const struct config *cfg,
                             bool start)
{
    struct ndjson_sink *s = xcalloc(1, sizeof(*s));

    s->encoder = ndjson_new();
    ndjson_plain_names(s->encoder);
    s->user = *user;
    s->lines.output = output_get(user->base, to, 0);
    s->lines.sink = (struct sink){.format = &ndjson_format, .place = s->lines.output};
    if (!start || !(cfg->libscope.configevent || cfg->cribl.enable))
        return &s->lines.sink;
    s->config_json = config_to_json(cfg);
    if (cfg->cribl.enable && cfg->cribl.transport.type != CFG_FILE)
        s->auth_token = xstrdup(cfg->cribl.authtoken);
    output_on_connect(s->lines.output, on_connected, s);
    return &s->lines.sink;
}
