/* SPDX-License-Identifier: Apache-2.0 */
/* The sources of a session, and the configuration of one process from them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/schema.h"

#define TRANSPORTS 4

static struct cfg_transport *transport_at(struct config *cfg, unsigned i)
{
    struct cfg_transport *const all[TRANSPORTS] = {&cfg->metric.transport, &cfg->event.transport,
                                                   &cfg->libscope.log.transport, &cfg->cribl.transport};

    return all[i];
}

/* Layers --------------------------------------------------------------- */

struct setting *layer_add(struct layer *l, const struct key *k, enum setting_op op, const char *text,
                          struct origin from)
{
    struct setting *t;

    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->v = xrealloc(l->v, l->cap, sizeof(*l->v));
    }
    t = &l->v[l->n++];
    *t = (struct setting){.key = k, .op = op, .text = xstrdup(text), .from = from};
    t->literal = k && (k->kind == KEY_REGEX || k->kind == KEY_PATTERNS);
    return t;
}

void layer_clear(struct layer *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].name);
        free(l->v[i].text);
    }
    free(l->v);
    *l = (struct layer){0};
}

const char *sources_name(struct config_sources *s, const char *text)
{
    s->names = xrealloc(s->names, s->name_count + 1, sizeof(*s->names));
    s->names[s->name_count] = xstrdup(text);
    return s->names[s->name_count++];
}

struct config_sources *config_sources_new(void)
{
    struct config_sources *s = xcalloc(1, sizeof(*s));
    struct origin from = {.kind = FROM_DEFAULT};

    s->cwd = getcwd(NULL, 0);
    if (!s->cwd || *s->cwd != '/') {
        free(s->cwd);
        s->cwd = xstrdup("/");
    }
    for (size_t i = 0; i < schema_count; i++)
        if (schema[i].base == BASE_CONFIG && schema[i].def) {
            struct setting *t = layer_add(&s->defaults, &schema[i], SET_VALUE, schema[i].def, from);

            t->literal = true;
            t->clean = schema[i].kind == KEY_LIST;
        }
    return s;
}

void config_sources_start_at(struct config_sources *s, const char *directory)
{
    if (*directory != '/')
        return;
    free(s->cwd);
    s->cwd = xstrdup(directory);
}

void config_sources_free(struct config_sources *s)
{
    if (!s)
        return;
    layer_clear(&s->defaults);
    for (size_t i = 0; i < s->file_count; i++) {
        struct source_file *f = s->files[i];

        layer_clear(&f->layer);
        for (size_t j = 0; j < f->custom_count; j++) {
            for (size_t n = 0; n < f->customs[j].filter_count; n++)
                free(f->customs[j].filter[n].text);
            layer_clear(&f->customs[j].layer);
            free(f->customs[j].name);
        }
        free(f->customs);
        free(f->name);
        free(f);
    }
    free(s->files);
    layer_clear(&s->otel);
    layer_clear(&s->env);
    layer_clear(&s->flags);
    for (char **p = s->environ_; p && *p; p++)
        free(*p);
    free(s->environ_);
    for (size_t i = 0; i < s->name_count; i++)
        free(s->names[i]);
    free(s->names);
    free(s->cwd);
    free(s);
}

/* Substitution --------------------------------------------------------- */

struct lookup {
    const struct config_sources *s;
    const struct cfg_process *proc; /* NULL: only the session's environment */
};

static const char *look_up(void *ctx, const char *name, size_t len)
{
    const struct lookup *l = ctx;
    const char *value = l->proc ? environ_get(l->proc->environ_, name, len) : NULL;

    return value ? value : environ_get((const char *const *)l->s->environ_, name, len);
}

static char *expand_for(const struct config_sources *s, const struct cfg_process *proc, const struct setting *t,
                        const char *text)
{
    struct lookup l = {s, proc};

    if (t->literal)
        return xstrdup(text);
    return t->key && t->key->kind == KEY_PAIRS ? pairs_expand(text, look_up, &l) : expand(text, look_up, &l);
}

char *setting_text(const struct config_sources *s, const struct setting *t)
{
    return expand_for(s, NULL, t, t->text);
}

/* Merging -------------------------------------------------------------- */

struct state {
    const struct config_sources *s;
    const struct cfg_process *proc;
    struct merged *m;
    struct cfg_protocol protocol; /* being put together */
    bool in_protocol;
};

static void free_protocol(struct cfg_protocol *p)
{
    free(p->name);
    free(p->regex);
    *p = (struct cfg_protocol){0};
}

static void came_from(struct state *st, const struct key *k, const struct setting *t)
{
    if (k)
        st->m->key_from[key_index(k)] = &t->from;
}

static void child_from(struct state *st, const struct key *parent, const char *name, const struct setting *t)
{
    came_from(st, key_find_child(parent, name), t);
}

/* A URL replaces what it says, and that a transport of its type uses; the rest stays. */
static void apply_url(struct state *st, const struct setting *t, const char *text)
{
    struct cfg_transport *to = (struct cfg_transport *)((char *)st->m->cfg + t->key->offset), url;
    bool cloud, says_tls;

    if (cfg_transport_parse(text, t->op == SET_URL_FLAG, &url, NULL) < 0)
        return;
    cloud = t->op == SET_URL_CLOUD && url.type == CFG_TCP;
    says_tls = url.tls.enable || (t->op == SET_URL_FLAG && url.type == CFG_TCP);
    child_from(st, t->key, "type", t);
    if (url.host) {
        child_from(st, t->key, "host", t);
        child_from(st, t->key, "port", t);
    } else {
        url.host = xstrdup(to->host);
        url.port = xstrdup(to->port);
    }
    if (url.path)
        child_from(st, t->key, "path", t);
    else
        url.path = xstrdup(to->path);
    url.buffering = to->buffering;
    if (cloud)
        url.tls.enable = true;
    else if (!says_tls)
        url.tls.enable = to->tls.enable;
    if (cloud || says_tls)
        child_from(st, t->key, "tls.enable", t);
    if (cloud) {
        child_from(st, t->key, "tls.validateserver", t);
        child_from(st, t->key, "tls.cacertpath", t);
    } else {
        url.tls.validateserver = to->tls.validateserver;
        url.tls.cacertpath = xstrdup(to->tls.cacertpath);
    }
    cfg_transport_clear(to);
    *to = url;
}

static void clear_patterns(char ***list)
{
    for (char **p = *list; p && *p; p++)
        free(*p);
    free(*list);
    *list = NULL;
}

static void apply_pattern(struct state *st, const struct setting *t)
{
    char ***list = (char ***)((char *)st->m->cfg + t->key->offset);
    size_t n = 0;

    came_from(st, t->key, t);
    if (t->op == SET_LIST_CLEAR) {
        clear_patterns(list);
        return;
    }
    while (*list && (*list)[n])
        n++;
    if (n == MAX_PATTERNS)
        return;
    *list = xrealloc(*list, n + 2, sizeof(**list));
    (*list)[n] = xstrdup(t->text);
    (*list)[n + 1] = NULL;
}

/* A list replaces: every type off, every filter back at its default. */
static void apply_reset(struct state *st, const struct setting *t)
{
    size_t len = strlen(t->key->path);

    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];

        if (strncmp(k->path, t->key->path, len) != 0 || k->path[len] != '.')
            continue;
        if (k->kind == KEY_PATTERNS)
            clear_patterns((char ***)((char *)st->m->cfg + k->offset));
        else
            key_store(k, st->m->cfg, key_is_child(k, t->key->path) ? "false" : k->def, NULL);
        came_from(st, k, t);
    }
    came_from(st, t->key, t);
}

static void apply_tag(struct state *st, const struct setting *t)
{
    struct config *cfg = st->m->cfg;
    char *name = expand_for(st->s, NULL, t, t->name), *value = expand_for(st->s, st->proc, t, t->text);
    char *why = name ? check_tag_name(name) : NULL;
    size_t i;

    if (!name || !value || why || !valid_text(value, true)) {
        free(why);
        free(name);
        free(value);
        return;
    }
    for (i = 0; i < cfg->tag_count; i++)
        if (!strcmp(cfg->tags[i].name, name))
            break;
    if (i == MAX_TAGS) {
        free(name);
        free(value);
        return;
    }
    if (i == cfg->tag_count) {
        cfg->tags = xrealloc(cfg->tags, i + 1, sizeof(*cfg->tags));
        cfg->tags[i] = (struct cfg_tag){.name = name};
        cfg->tag_count++;
    } else {
        free(name);
        free(cfg->tags[i].value);
    }
    cfg->tags[i].value = value;
    st->m->tag_from[i] = t;
}

static void apply_protocol_end(struct state *st, const struct setting *t)
{
    struct config *cfg = st->m->cfg;
    size_t i;

    if (!st->in_protocol)
        return;
    st->in_protocol = false;
    for (i = 0; st->protocol.name && i < cfg->protocol_count; i++)
        if (!strcmp(cfg->protocols[i].name, st->protocol.name))
            break;
    if (!st->protocol.name || !st->protocol.regex || i == MAX_PROTOCOLS) {
        free_protocol(&st->protocol);
        return;
    }
    if (i == cfg->protocol_count) {
        cfg->protocols = xrealloc(cfg->protocols, i + 1, sizeof(*cfg->protocols));
        cfg->protocol_count++;
    } else {
        free_protocol(&cfg->protocols[i]);
    }
    cfg->protocols[i] = st->protocol;
    st->protocol = (struct cfg_protocol){0};
    st->m->protocol_from[i] = &t->from;
}

static void apply_value(struct state *st, const struct setting *t)
{
    void *obj = t->key->base == BASE_PROTOCOL ? (void *)&st->protocol : (void *)st->m->cfg;
    char *text;

    if (t->clean) {
        key_store_list(t->key, obj, t->text);
        came_from(st, t->key, t);
        return;
    }
    text = expand_for(st->s, NULL, t, t->text);
    if (text && key_store(t->key, obj, text, NULL) == 0)
        came_from(st, t->key, t);
    free(text);
}

static void apply(struct state *st, const struct setting *t)
{
    char *text;

    switch (t->op) {
    case SET_VALUE:
        apply_value(st, t);
        break;
    case SET_URL:
    case SET_URL_FLAG:
    case SET_URL_CLOUD:
        text = expand_for(st->s, NULL, t, t->text);
        if (text)
            apply_url(st, t, text);
        free(text);
        break;
    case SET_WATCH_RESET:
        apply_reset(st, t);
        break;
    case SET_LIST_CLEAR:
    case SET_LIST_ADD:
        apply_pattern(st, t);
        break;
    case SET_TAG:
        apply_tag(st, t);
        break;
    case SET_PROTOCOL_BEGIN:
        free_protocol(&st->protocol);
        st->protocol.detect = true;
        st->in_protocol = true;
        break;
    case SET_PROTOCOL_END:
        apply_protocol_end(st, t);
        break;
    }
}

static void apply_layer(struct state *st, const struct layer *l)
{
    for (size_t i = 0; i < l->n; i++)
        apply(st, &l->v[i]);
}

/* Filters --------------------------------------------------------------- */

static bool env_matches(const char *const *envp, const char *wanted)
{
    size_t len = strcspn(wanted, "=");
    const char *value = environ_get(envp, wanted, len);

    return value && (wanted[len] == 0 || !strcmp(value, wanted + len + 1));
}

static bool ancestor_matches(const char *const *names, const char *wanted)
{
    for (; names && *names; names++)
        if (!strcmp(*names, wanted))
            return true;
    return false;
}

static bool filter_matches(const struct config_sources *s, const struct custom *c, const struct cfg_process *p)
{
    struct filter f = {0};
    bool ok = c->usable && p;

    for (size_t i = 0; ok && i < c->filter_count; i++) {
        char *text = setting_text(s, &c->filter[i]);

        ok = text && key_store(c->filter[i].key, &f, text, NULL) == 0;
        free(text);
    }
    ok = ok && (!f.procname || (p->procname && !strcmp(p->procname, f.procname)));
    ok = ok && (!f.arg || (p->cmdline && strstr(p->cmdline, f.arg)));
    ok = ok && (!f.hostname || (p->hostname && !strcasecmp(p->hostname, f.hostname)));
    ok = ok && (!f.username || (p->username && !strcmp(p->username, f.username)));
    ok = ok && (!f.env || env_matches(p->environ_, f.env));
    ok = ok && (!f.ancestor || ancestor_matches(p->ancestors, f.ancestor));
    free(f.procname);
    free(f.arg);
    free(f.hostname);
    free(f.username);
    free(f.env);
    free(f.ancestor);
    return ok;
}

/* The effective configuration ------------------------------------------- */

static void make_absolute(const struct config_sources *s, char **path)
{
    char *p;

    if (!*path || !**path || **path == '/')
        return;
    p = xasprintf("%s/%s", strcmp(s->cwd, "/") != 0 ? s->cwd : "", !strncmp(*path, "./", 2) ? *path + 2 : *path);
    free(*path);
    *path = p;
}

static void finish_paths(const struct config_sources *s, struct config *cfg)
{
    for (unsigned i = 0; i < TRANSPORTS; i++) {
        struct cfg_transport *t = transport_at(cfg, i);
        const char *path = t->path ? t->path : "";

        if (t->type == CFG_FILE   ? strcmp(path, "stdout") != 0 && strcmp(path, "stderr") != 0
            : t->type == CFG_UNIX ? *path != '@'
                                  : true)
            make_absolute(s, &t->path);
        make_absolute(s, &t->tls.cacertpath);
    }
    for (int i = 0; i <= CFG_OTLP_MAX; i++) {
        struct cfg_otlp_keys *k = i == CFG_OTLP_MAX ? &cfg->otlp_keys.all : &cfg->otlp_keys.to[i];

        make_absolute(s, &k->cacertpath);
        make_absolute(s, &k->certpath);
        make_absolute(s, &k->keypath);
    }
    make_absolute(s, &cfg->payload.dir);
    make_absolute(s, &cfg->libscope.commanddir);
}

static void copy_transport(struct cfg_transport *to, const struct cfg_transport *from)
{
    cfg_transport_clear(to);
    *to = *from;
    to->host = xstrdup(from->host);
    to->port = xstrdup(from->port);
    to->path = xstrdup(from->path);
    to->tls.cacertpath = xstrdup(from->tls.cacertpath);
}

/* With cribl on, its destination takes everything but the log. */
static void force_cribl(struct merged *m)
{
    static const struct origin from = {.kind = FROM_CRIBL};
    struct config *cfg = m->cfg;

    copy_transport(&cfg->event.transport, &cfg->cribl.transport);
    copy_transport(&cfg->metric.transport, &cfg->cribl.transport);
    for (size_t i = 0; i < schema_count; i++)
        if (!strncmp(schema[i].path, "event.transport.", 16) || !strncmp(schema[i].path, "metric.transport.", 17))
            m->key_from[i] = &from;
    if (cfg->metric.format != CFG_NDJSON) {
        cfg->metric.format = CFG_NDJSON;
        m->key_from[key_index(key_find("metric.format.type"))] = &from;
    }
    if (!cfg->libscope.configevent) {
        cfg->libscope.configevent = true;
        m->key_from[key_index(key_find("libscope.configevent"))] = &from;
    }
    if (cfg->libscope.log.level > CFG_LOG_WARNING) {
        cfg->libscope.log.level = CFG_LOG_WARNING;
        m->key_from[key_index(key_find("libscope.log.level"))] = &from;
    }
}

/* What a type needs is never NULL, so that users of the configuration need not ask. */
static void fill_transports(struct config *cfg)
{
    for (unsigned i = 0; i < TRANSPORTS; i++) {
        struct cfg_transport *t = transport_at(cfg, i);

        if (transport_uses(t->type, "host") && !t->host)
            t->host = xstrdup("");
        if (transport_uses(t->type, "port") && !t->port)
            t->port = xstrdup("");
        if (transport_uses(t->type, "path") && !t->path)
            t->path = xstrdup("");
    }
}

/* That of other types is where StatsD is. */
static void set_prometheus_port(struct merged *m)
{
    const struct origin *from = m->key_from[key_index(key_find("metric.transport.port"))];
    struct cfg_transport *t = &m->cfg->metric.transport;

    if (t->type != CFG_PROMETHEUS || (from && from->kind != FROM_DEFAULT))
        return;
    free(t->port);
    t->port = xstrdup(PROMETHEUS_PORT);
}

static void begin(struct state *st, const struct config_sources *s, const struct cfg_process *proc, struct merged *ret)
{
    *st = (struct state){.s = s, .proc = proc, .m = ret};
    *ret = (struct merged){.cfg = xcalloc(1, sizeof(struct config))};
    ret->key_from = xcalloc(schema_count, sizeof(*ret->key_from));
    ret->tag_from = xcalloc(MAX_TAGS, sizeof(*ret->tag_from));
    ret->protocol_from = xcalloc(MAX_PROTOCOLS, sizeof(*ret->protocol_from));
    apply_layer(st, &s->defaults);
}

static bool file_applies(const struct config_sources *s, const struct source_file *f, const struct cfg_process *p)
{
    if (!f->of_rule || f == s->checked)
        return true;
    for (size_t i = 0; p && i < p->rule_count; i++)
        if (p->rules[i] == f->rule)
            return true;
    return false;
}

static void apply_sources(struct state *st)
{
    const struct config_sources *s = st->s;

    apply_layer(st, &s->otel);
    for (size_t i = 0; i < s->file_count; i++) {
        const struct source_file *f = s->files[i];

        if (!file_applies(s, f, st->proc))
            continue;
        apply_layer(st, &f->layer);
        for (size_t j = 0; j < f->custom_count; j++)
            if (filter_matches(s, &f->customs[j], st->proc))
                apply_layer(st, &f->customs[j].layer);
    }
    apply_layer(st, &s->env);
    apply_layer(st, &s->flags);
}

static void end(struct state *st)
{
    free_protocol(&st->protocol);
    set_prometheus_port(st->m);
    finish_paths(st->s, st->m->cfg);
    otlp_resolve(st->m->cfg);
}

void merge(const struct config_sources *s, const struct cfg_process *proc, bool cribl, struct merged *ret)
{
    struct state st;

    begin(&st, s, proc, ret);
    apply_sources(&st);
    otlp_settle(ret);
    end(&st);
    if (cribl && ret->cfg->cribl.enable)
        force_cribl(ret);
}

void merge_layer(const struct config_sources *s, const struct layer *l, bool only, struct merged *ret)
{
    struct state st;
    size_t tags;
    bool *set;

    begin(&st, s, NULL, ret);
    if (!only) {
        apply_sources(&st);
        apply_layer(&st, l);
        otlp_settle(ret);
        end(&st);
        return;
    }
    memset(ret->key_from, 0, schema_count * sizeof(*ret->key_from));
    apply_layer(&st, l);
    set = xcalloc(schema_count, sizeof(*set));
    for (size_t i = 0; i < schema_count; i++)
        set[i] = ret->key_from[i] != NULL;
    tags = ret->cfg->tag_count;
    apply_layer(&st, &s->env);
    apply_layer(&st, &s->flags);
    otlp_settle(ret);
    for (size_t i = 0; i < schema_count; i++)
        if (!set[i])
            ret->key_from[i] = NULL;
    while (ret->cfg->tag_count > tags) {
        struct cfg_tag *tag = &ret->cfg->tags[--ret->cfg->tag_count];

        free(tag->name);
        free(tag->value);
    }
    free(set);
    end(&st);
}

void merged_clear(struct merged *m)
{
    config_free(m->cfg);
    free(m->key_from);
    free(m->tag_from);
    free(m->protocol_from);
    *m = (struct merged){0};
}

struct config *config_for(const struct config_sources *s, const struct cfg_process *proc)
{
    struct merged m;
    struct config *cfg;

    merge(s, proc, true, &m);
    cfg = m.cfg;
    m.cfg = NULL;
    merged_clear(&m);
    fill_transports(cfg);
    return cfg;
}

/* Values of tags are looked up in each process's own environment. */
static bool asks_for_environ(const struct layer *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].op == SET_TAG && !l->v[i].literal && l->v[i].text && strchr(l->v[i].text, '$'))
            return true;
    return false;
}

bool config_is_common(const struct config_sources *s)
{
    for (size_t i = 0; i < s->file_count; i++)
        if (s->files[i]->custom_count || s->files[i]->of_rule || asks_for_environ(&s->files[i]->layer))
            return false;
    return !asks_for_environ(&s->env) && !asks_for_environ(&s->flags);
}

bool config_sets(const struct config_sources *s, const char *key)
{
    size_t len = strlen(key);
    struct merged m;
    bool found = false;

    merge(s, NULL, false, &m);
    for (size_t i = 0; i < schema_count; i++)
        if (!strncmp(schema[i].path, key, len) && (!schema[i].path[len] || schema[i].path[len] == '.'))
            found |= m.key_from[i] && m.key_from[i]->kind != FROM_DEFAULT;
    merged_clear(&m);
    return found;
}

static bool holds_string(const struct key *k)
{
    if (k->text)
        return k->base == BASE_CONFIG;
    switch (k->kind) {
    case KEY_STRING:
    case KEY_PREFIX:
    case KEY_PATH:
    case KEY_HOST:
    case KEY_PORT:
    case KEY_REGEX:
    case KEY_LIST:
    case KEY_RATIO:
    case KEY_PAIRS:
    case KEY_ENDPOINT:
        return k->base == BASE_CONFIG;
    default:
        return false;
    }
}

void config_free(struct config *cfg)
{
    if (!cfg)
        return;
    for (size_t i = 0; i < schema_count; i++) {
        if (holds_string(&schema[i])) {
            char *p;

            memcpy(&p, (char *)cfg + schema[i].offset, sizeof(p));
            free(p);
        }
    }
    otlp_clear(&cfg->otlp);
    clear_patterns(&cfg->event.watch[CFG_EW_HTTP].headers);
    for (size_t i = 0; i < cfg->tag_count; i++) {
        free(cfg->tags[i].name);
        free(cfg->tags[i].value);
    }
    free(cfg->tags);
    for (size_t i = 0; i < cfg->protocol_count; i++)
        free_protocol(&cfg->protocols[i]);
    free(cfg->protocols);
    free(cfg);
}

/* Equality --------------------------------------------------------------- */

static bool headers_equal(char *const *a, char *const *b)
{
    size_t i = 0;

    for (; a && a[i] && b && b[i]; i++)
        if (strcmp(a[i], b[i]) != 0)
            return false;
    return !(a && a[i]) && !(b && b[i]);
}

static bool watch_equal(const struct cfg_watch *a, const struct cfg_watch *b)
{
    if (a->enable != b->enable)
        return false;
    if (!a->enable) /* its filters don't matter */
        return true;
    return !strcmp(a->name, b->name) && !strcmp(a->field, b->field) && !strcmp(a->value, b->value) &&
           a->allowbinary == b->allowbinary && headers_equal(a->headers, b->headers);
}

static bool lists_equal(const struct config *a, const struct config *b)
{
    if (a->tag_count != b->tag_count || a->protocol_count != b->protocol_count)
        return false;
    for (size_t i = 0; i < a->tag_count; i++) { /* their order doesn't matter */
        size_t j = 0;

        while (j < b->tag_count && strcmp(a->tags[i].name, b->tags[j].name) != 0)
            j++;
        if (j == b->tag_count || strcmp(a->tags[i].value, b->tags[j].value) != 0)
            return false;
    }
    for (size_t i = 0; i < a->protocol_count; i++) {
        const struct cfg_protocol *p = &a->protocols[i], *q = &b->protocols[i];

        if (strcmp(p->name, q->name) != 0 || strcmp(p->regex, q->regex) != 0 || p->binary != q->binary ||
            p->detect != q->detect || p->payload != q->payload || p->len != q->len)
            return false;
    }
    return true;
}

bool config_equal(const struct config *a, const struct config *b)
{
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];
        char *p, *q;
        bool same;

        if (k->base != BASE_CONFIG || k->kind == KEY_PATTERNS || strstr(k->path, ".transport.") ||
            !strncmp(k->path, "event.watch.", 12))
            continue;
        if (k->kind == KEY_TRANSPORT) {
            if (!transport_equal((const struct cfg_transport *)((const char *)a + k->offset),
                                 (const struct cfg_transport *)((const char *)b + k->offset)))
                return false;
            continue;
        }
        p = key_text(k, a);
        q = key_text(k, b);
        same = !p == !q && (!p || !strcmp(p, q));
        free(p);
        free(q);
        if (!same)
            return false;
    }
    for (int i = 0; i < CFG_EW_MAX; i++)
        if (!watch_equal(&a->event.watch[i], &b->event.watch[i]))
            return false;
    return lists_equal(a, b);
}

/* --- another place --- */

static void move_path(char **path, const char *from, const char *to)
{
    const size_t len = strlen(from);
    char *moved;

    if (!*path || strncmp(*path, from, len) != 0 || (*path)[len] != '/')
        return;
    moved = xasprintf("%s%s", to, *path + len);
    free(*path);
    *path = moved;
}

void config_move(struct config *c, const char *from, const char *to)
{
    move_path(&c->metric.transport.path, from, to);
    move_path(&c->event.transport.path, from, to);
    move_path(&c->payload.dir, from, to);
    move_path(&c->libscope.commanddir, from, to);
    move_path(&c->libscope.log.transport.path, from, to);
}
