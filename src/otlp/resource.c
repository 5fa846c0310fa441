/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/resource.h"

#include <ctype.h>
#include <stdlib.h>

#include "base/mem.h"
#include "event/fields.h"
#include "otlp/attribute.h"
#include "version.h"

enum { RESOURCE = 1, SCOPE = 1, SCHEMA_URL = 3 }; /* of ResourceSpans, ScopeSpans and the others */
enum { ATTRIBUTES = 1, DROPPED = 2 };             /* Resource */
enum { SCOPE_NAME = 1, SCOPE_VERSION_FIELD = 2 };      /* InstrumentationScope */
#define OURS "appscope"

struct otlp_common {
    char *service_name;
    struct pair {
        char *name, *value;
    } *pairs;
    size_t count;
};

static void add_pairs(struct otlp_common *c, const struct cfg_tag *tags, size_t count)
{
    c->pairs = xrealloc(c->pairs, c->count + count, sizeof(*c->pairs));
    for (size_t i = 0; i < count; i++)
        c->pairs[c->count++] = (struct pair){xstrdup(tags[i].name), xstrdup(tags[i].value)};
}

struct otlp_common *otlp_common_new(const struct config *cfg)
{
    struct otlp_common *c = xcalloc(1, sizeof(*c));

    if (cfg->otlp.service_name)
        c->service_name = xstrdup(cfg->otlp.service_name);
    if (cfg->otlp.resource_count + cfg->tag_count) {
        add_pairs(c, cfg->otlp.resource, cfg->otlp.resource_count);
        add_pairs(c, cfg->tags, cfg->tag_count);
    }
    return c;
}

void otlp_common_free(struct otlp_common *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++) {
        free(c->pairs[i].name);
        free(c->pairs[i].value);
    }
    free(c->pairs);
    free(c->service_name);
    free(c);
}

/* --- a list in which each key comes once --- */

struct list {
    struct {
        const char *key;
        struct tm_field value;
    } item[OTLP_ATTRIBUTES_MAX];
    size_t count;
    unsigned dropped;
};

/* from: what was added from there on gives way. */
static void add_over(struct list *l, size_t from, const char *key, struct tm_field value)
{
    if (!*key)
        return;
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->item[i].key, key) == 0) {
            if (i >= from)
                l->item[i].value = value;
            return;
        }
    if (l->count == OTLP_ATTRIBUTES_MAX) {
        l->dropped++;
        return;
    }
    l->item[l->count].key = key;
    l->item[l->count++].value = value;
}

static void add(struct list *l, const char *key, struct tm_field value)
{
    add_over(l, SIZE_MAX, key, value);
}

static void add_text(struct list *l, const char *key, const char *text)
{
    if (text && *text)
        add(l, key, (struct tm_field){.type = TM_STR, .v.str = {text, strlen(text)}});
}

static void add_number(struct list *l, const char *key, uint64_t n)
{
    add(l, key, (struct tm_field){.type = TM_UINT, .v.u = n});
}

/* --- OTEL_RESOURCE_ATTRIBUTES: specification/resource/sdk.md --- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Decodes from..to where it stands, without blanks around it. The text, NUL-terminated, or NULL: it isn't what it should
 * be. */
static char *decode(char *from, char *to)
{
    char *text, *out;

    while (from < to && isspace((unsigned char)*from))
        from++;
    while (to > from && isspace((unsigned char)to[-1]))
        to--;
    for (text = out = from; from < to; from++) {
        char c = *from;

        if (c == '%') {
            if (to - from < 3 || hex(from[1]) < 0 || hex(from[2]) < 0)
                return NULL;
            c = (char)(hex(from[1]) << 4 | hex(from[2]));
            if (!c)
                return NULL;
            from += 2;
        }
        *out++ = c;
    }
    *out = 0;
    return text;
}

/* text is changed and must live as long as the list. Of a key that comes twice the last one counts. With an error in it all
 * of it is left out, as the specification asks. */
static void add_environment(struct list *l, char *text)
{
    const char *end = text + strlen(text);
    size_t count = l->count;
    unsigned dropped = l->dropped;
    bool good = true;

    for (char *p = text, *next; good && p < end; p = next + 1) {
        char *equals, *key, *value;

        next = strchrnul(p, ',');
        equals = memchr(p, '=', (size_t)(next - p));
        if (!equals) {
            good = strspn(p, " \t") >= (size_t)(next - p); /* a comma at the end */
            continue;
        }
        value = decode(equals + 1, next);
        key = decode(p, equals);
        good = key && *key && value;
        if (good)
            add_over(l, count, key, (struct tm_field){.type = TM_STR, .v.str = {value, strlen(value)}});
    }
    if (!good) {
        l->count = count;
        l->dropped = dropped;
    }
}

/* --- what is observed --- */

/* The pod's UID as the kubelet has it in the name of its control group: "...pod<UID>...", with _ for - where systemd made
 * the group. Into ret, false: there is none. */
static bool pod_uid(const char *cgroup, char ret[37])
{
    static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    for (const char *p = cgroup ? strstr(cgroup, "kubepods") : NULL; p && (p = strstr(p, "pod")); p++) {
        size_t i = 0;

        while (shape[i] && (shape[i] == 'x' ? hex(p[3 + i]) >= 0 : p[3 + i] == '-' || p[3 + i] == '_')) {
            ret[i] = p[3 + i];
            if (ret[i] == '_')
                ret[i] = '-';
            i++;
        }
        ret[i] = 0;
        if (!shape[i])
            return true;
    }
    return false;
}

static const char *base_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;

    return slash ? slash + 1 : path;
}

static void add_observed(struct list *l, const struct tm_process *who, char pod[37])
{
    add_text(l, "service.name", who->proc);
    add_text(l, "service.instance.id", who->uuid);
    add_text(l, "host.name", who->host);
    add_text(l, "host.id", who->machine_id);
    add_text(l, "host.arch", OTLP_HOST_ARCH);
    add_text(l, "os.type", "linux");
    if (tm_two_pids(who)) {
        add_number(l, "process.pid", who->host_pid);
        add_number(l, "process.vpid", who->pid);
    } else {
        add_number(l, "process.pid", who->pid);
        add_number(l, "process.parent_pid", who->ppid);
    }
    add_text(l, "process.executable.name", who->exe && *who->exe ? base_name(who->exe) : who->proc);
    add_text(l, "process.executable.path", who->exe);
    add_number(l, "process.user.id", who->uid);
    add_text(l, "process.owner", who->username);
    add_text(l, "process.linux.cgroup", who->cgroup);
    add_text(l, "container.id", who->container);
    add_text(l, "k8s.pod.name", who->k8s_pod);
    if (pod_uid(who->cgroup, pod))
        add_text(l, "k8s.pod.uid", pod);
    add_text(l, "telemetry.distro.name", OURS);
    add_text(l, "telemetry.distro.version", SCOPE_VERSION);
}

void otlp_resource(const struct otlp_common *c, const struct tm_process *who, struct buf *b)
{
    struct list l = {.count = 0};
    char pod[37], *environment = who->resource_attributes ? xstrdup(who->resource_attributes) : NULL;
    size_t at;

    add_text(&l, "service.name", c->service_name);
    for (size_t i = 0; i < c->count; i++)
        add(&l, c->pairs[i].name, tm_text_field(NULL, c->pairs[i].value));
    add_text(&l, "service.name", who->service_name);
    if (environment)
        add_environment(&l, environment);
    add_observed(&l, who, pod);
    at = pb_begin(b, RESOURCE);
    for (size_t i = 0; i < l.count; i++)
        otlp_attr_field(b, ATTRIBUTES, l.item[i].key, &l.item[i].value);
    if (l.dropped)
        pb_uint(b, DROPPED, l.dropped);
    pb_end(b, at);
    pb_str(b, SCHEMA_URL, OTLP_SCHEMA_URL);
    free(environment);
}

void otlp_scope(struct buf *b)
{
    size_t at = pb_begin(b, SCOPE);

    pb_str(b, SCOPE_NAME, OURS);
    pb_str(b, SCOPE_VERSION_FIELD, SCOPE_VERSION);
    pb_end(b, at);
    pb_str(b, SCHEMA_URL, OTLP_SCHEMA_URL);
}
