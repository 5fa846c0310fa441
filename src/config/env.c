/* SPDX-License-Identifier: Apache-2.0 */
/* The environment and the flags as settings, and which file is used. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "config/schema.h"

#define TAG_PREFIX "SCOPE_TAG_"
#define CLOUD "SCOPE_CRIBL_CLOUD"

/* Variables of ours that aren't configuration keys: a name like these is no typing mistake. */
static const char *const other_variables[] = {
    "SCOPE_HOME",
    "SCOPE_CONF_PATH",
    "SCOPE_RULES",
    "SCOPE_PAYLOAD_TO_DISK",
    "SCOPE_PAYLOAD_HEADER",
    "SCOPE_QUEUE_LENGTH",
    "SCOPE_EXECVE",
    "SCOPE_EXEC_PATH",
    "SCOPE_CONNECT_TIMEOUT_SECS",
    "SCOPE_CRIBL_NO_BREAKER",
    CLOUD,
    "SCOPE_LIB_PATH",
    "SCOPE_PID",
    "SCOPE_APP_TYPE",
    "SCOPE_EXEC_TYPE",
    "SCOPE_SETUP_DONE",
    "SCOPE_SOCKET",
    "SCOPE_PLANS",
    "SCOPE_MODE",
    "SCOPE_CMD_ATTACH",
    "SCOPE_CMD_DBG_PATH",
    "SCOPE_CONF_RELOAD",
    "SCOPE_HOST_WORKDIR_PATH",
};

static const char *get(const char *const *envp, const char *name)
{
    return environ_get(envp, name, strlen(name));
}

static struct setting *add(struct config_sources *s, struct layer *to, const struct key *k, enum setting_op op,
                           const char *value, const char *name, enum origin_kind kind, struct reporter *r,
                           const char *shown, const char *tag)
{
    struct setting *t = layer_add(to, k, op, value, (struct origin){.kind = kind, .name = sources_name(s, name)});

    t->name = xstrdup(tag);
    t->literal = t->literal || kind == FROM_FLAG; /* the shell has substituted already */
    if (check_setting(s, t, r, shown) == 0)
        return t;
    free(t->name);
    free(t->text);
    to->n--;
    return NULL;
}

/* A source of events whose filter can't be used sends nothing rather than everything. */
static void switch_off(struct config_sources *s, const struct key *pattern, const char *name, struct reporter *r)
{
    const char *dot = strrchr(pattern->path, '.');
    char *path = xstrndup(pattern->path, (size_t)(dot - pattern->path));
    const struct key *watch = key_find(path);

    if (watch && watch->kind == KEY_BOOL) {
        layer_add(&s->env, watch, SET_VALUE, "false", (struct origin){.kind = FROM_ENV, .name = sources_name(s, name)});
        report(r, 0, watch->path, true, "is off because the filter in %s can't be used", name);
    }
    free(path);
}

static void add_cribl(struct config_sources *s, const char *const *envp, struct reporter *r)
{
    const struct key *enable = key_find("cribl.enable"), *k = key_find("cribl.transport");
    const char *plain = get(envp, k->env), *cloud = get(envp, CLOUD), *name = cloud ? CLOUD : k->env;
    const char *explicit_ = get(envp, enable->env);
    bool on;

    if (plain && cloud)
        report(r, 0, k->path, false, "%s is ignored because %s is set", k->env, CLOUD);
    if (!cloud && !plain)
        return;
    if (!add(s, &s->env, k, cloud ? SET_URL_CLOUD : SET_URL, cloud ? cloud : plain, name, FROM_ENV, r, name, NULL))
        return;
    add(s, &s->env, enable, SET_VALUE, "true", name, FROM_ENV, r, name, NULL);
    if (explicit_ && parse_bool(explicit_, &on) && !on)
        report(r, 0, enable->path, false, "%s=%s wins over %s: nothing is sent there", enable->env, explicit_, name);
}

static void add_tags(struct config_sources *s, const char *const *envp, struct reporter *r)
{
    size_t prefix = strlen(TAG_PREFIX);

    for (const char *const *p = envp; p && *p; p++) {
        const char *eq = strchr(*p, '=');
        char *name;

        if (!eq || strncmp(*p, TAG_PREFIX, prefix) != 0)
            continue;
        name = xstrndup(*p, (size_t)(eq - *p));
        /* As getenv() does, the first of two equal names counts. */
        if (get(envp, name) == eq + 1)
            add(s, &s->env, key_find("tags"), SET_TAG, eq + 1, name, FROM_ENV, r, name, name + prefix);
        free(name);
    }
}

static void guess_unknown(const char *const *envp, struct reporter *r)
{
    for (const char *const *p = envp; p && *p; p++) {
        size_t len = strcspn(*p, "=");
        struct guess g = {0};
        bool known = false;
        char *name;

        if (strncmp(*p, "SCOPE_", 6) != 0 || !strncmp(*p, TAG_PREFIX, strlen(TAG_PREFIX)))
            continue;
        name = xstrndup(*p, len);
        g.word = name;
        for (size_t i = 0; i < schema_count && !known; i++) {
            if (!schema[i].env)
                continue;
            known = !strcmp(schema[i].env, name);
            guess_try(&g, schema[i].env);
        }
        for (size_t i = 0; i < sizeof(other_variables) / sizeof(*other_variables) && !known; i++)
            known = !strcmp(other_variables[i], name);
        /* Other programs may have SCOPE_ variables too: only what looks like a slip is worth a remark. */
        if (!known && g.ret && g.best <= 2)
            report(r, 0, name, false, "unknown variable; did you mean %s?", g.ret);
        free(name);
    }
}

/* Settings from files that waited for the environment. True if there were any. */
static bool check_waiting(struct config_sources *s, struct layer *l, const char *prefix, struct reporter *r)
{
    bool any = false;

    for (size_t i = 0; i < l->n; i++) {
        struct setting *t = &l->v[i];
        char *shown;

        if (!t->unchecked)
            continue;
        shown = xasprintf("%s%s%s%s", prefix, t->key->path, t->name ? "." : "", t->name ? t->name : "");
        check_setting(s, t, r, shown);
        free(shown);
        any = true;
    }
    return any;
}

static void check_file(struct config_sources *s, struct source_file *f, cfg_problem_fn fn, void *ctx)
{
    struct reporter r = {.fn = fn, .ctx = ctx, .file = f->name};

    s->checked = f;
    if (check_waiting(s, &f->layer, "", &r))
        check_merged(s, &f->layer, NULL, &r, "");
    for (size_t i = 0; i < f->custom_count; i++) {
        struct custom *c = &f->customs[i];
        struct layer filter = {.v = c->filter, .n = c->filter_count};
        char *prefix = xasprintf("custom.%.200s.config.", c->name);

        check_waiting(s, &filter, "", &r);
        if (check_waiting(s, &c->layer, prefix, &r))
            check_merged(s, &c->layer, &c->layer, &r, prefix);
        free(prefix);
    }
    s->checked = NULL;
    report_end(&r);
}

static void keep_environ(struct config_sources *s, const char *const *envp)
{
    size_t n = 0;

    for (char **p = s->environ_; p && *p; p++)
        free(*p);
    free(s->environ_);
    while (envp && envp[n])
        n++;
    s->environ_ = xcalloc(n + 1, sizeof(*s->environ_));
    for (size_t i = 0; i < n; i++)
        s->environ_[i] = xstrdup(envp[i]);
}

static bool names_otlp(const struct layer *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strncmp(l->v[i].key->path, "otlp.", 5))
            return true;
    return false;
}

void config_add_environ(struct config_sources *s, const char *const *envp, cfg_problem_fn fn, void *ctx)
{
    struct reporter r = {.fn = fn, .ctx = ctx, .file = "environment"};
    size_t first = s->env.n;
    struct layer added;

    keep_environ(s, envp);
    for (size_t i = 0; i < s->file_count; i++)
        check_file(s, s->files[i], fn, ctx);
    otel_add(s, envp, &r);
    add_cribl(s, envp, &r);
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];
        const char *value = k->env && k->kind != KEY_TAGS ? get(envp, k->env) : NULL;
        enum setting_op op = k->kind == KEY_TRANSPORT ? SET_URL : k->kind == KEY_PATTERNS ? SET_LIST_ADD : SET_VALUE;

        if (!value || !strcmp(k->path, "cribl.transport"))
            continue;
        /* The cloud is reached with TLS and validation only. */
        if (!strncmp(k->path, "cribl.transport.tls.", 20) && get(envp, CLOUD)) {
            report(&r, 0, k->env, false, "is ignored because %s is set", CLOUD);
            continue;
        }
        if (!add(s, &s->env, k, op, value, k->env, FROM_ENV, &r, k->env, NULL) && k->kind == KEY_REGEX)
            switch_off(s, k, k->env, &r);
    }
    add_tags(s, envp, &r);
    guess_unknown(envp, &r);
    added = (struct layer){.v = s->env.n > first ? s->env.v + first : NULL, .n = s->env.n - first};
    check_merged(s, &added, NULL, &r, "");
    if (s->otel.n && !names_otlp(&added))
        check_merged(s, &s->otel, NULL, &r, "");
    report_end(&r);
}

int config_set(struct config_sources *s, const char *key, const char *value, const char *origin, cfg_problem_fn fn,
               void *ctx)
{
    struct reporter r = {.fn = fn, .ctx = ctx, .file = "command line"};
    const struct key *k = key_find(key);
    enum setting_op op = SET_VALUE;
    const char *tag = NULL;

    if (!strncmp(key, "tags.", 5)) {
        k = key_find("tags");
        tag = key + 5;
        op = SET_TAG;
    }
    if (!k || (k->base != BASE_CONFIG && k->base != BASE_NONE) || strchr(k->path, '[')) {
        struct guess g = {.word = key};

        for (size_t i = 0; i < schema_count; i++)
            if (schema[i].base == BASE_CONFIG)
                guess_try(&g, schema[i].path);
        report(&r, 0, key, true, "unknown key%s%s%s", g.ret ? "; did you mean " : "", g.ret ? g.ret : "",
               g.ret ? "?" : "");
        return -ENOENT;
    }
    if (k->kind == KEY_TRANSPORT) {
        op = SET_URL_FLAG;
    } else if (k->kind == KEY_PATTERNS) {
        op = SET_LIST_ADD;
    } else if (op != SET_TAG && (k->kind == KEY_SECTION || k->kind == KEY_WATCH || k->kind == KEY_TAGS ||
                                 k->kind == KEY_PROTOCOLS || k->kind == KEY_CUSTOM)) {
        report(&r, 0, key, true, "has no single value; name one of the keys below it");
        return -EINVAL;
    }
    return add(s, &s->flags, k, op, value, origin ? origin : key, FROM_FLAG, &r, key, tag) ? 0 : -EINVAL;
}

static bool readable(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return false;
    close(fd);
    return true;
}

char *config_find_file(const char *const *envp)
{
    const char *explicit_ = get(envp, "SCOPE_CONF_PATH"), *base = get(envp, "SCOPE_HOME"), *home = get(envp, "HOME");
    const struct {
        const char *dir, *name;
    } places[] = {
        {base, "conf/scope.yml"}, {base, "scope.yml"},     {"/etc/scope", "scope.yml"}, {home, "conf/scope.yml"},
        {home, "scope.yml"},      {".", "conf/scope.yml"}, {".", "scope.yml"},
    };

    if (explicit_ && *explicit_)
        return xstrdup(explicit_);
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        char *path;

        if (!places[i].dir || !*places[i].dir)
            continue;
        path = xasprintf("%s/%s", places[i].dir, places[i].name);
        if (readable(path))
            return path;
        free(path);
    }
    return NULL;
}
