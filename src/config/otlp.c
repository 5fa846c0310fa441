/* SPDX-License-Identifier: Apache-2.0 */
/* Where OpenTelemetry's protocol goes, from keys that say it for all signals and for each one (docs/otlp.md). */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/schema.h"

#define HTTP_ENDPOINT "http://localhost:4318"
#define GRPC_ENDPOINT "http://localhost:4317"

static const char *const signal_names[CFG_OTLP_MAX] = {
    [CFG_OTLP_TRACES] = "traces", [CFG_OTLP_METRICS] = "metrics", [CFG_OTLP_LOGS] = "logs"};

/* --- URLs --- */

static void endpoint_clear(struct endpoint *e)
{
    free(e->host);
    free(e->port);
    free(e->path);
    *e = (struct endpoint){0};
}

static bool is_url_text(const char *s)
{
    for (; *s; s++)
        if (*s <= ' ' || *s >= 0x7f || strchr("\"<>\\^`{|}", *s))
            return false;
    return true;
}

static int endpoint_error(struct endpoint *e, const char **ret_error, const char *why)
{
    endpoint_clear(e);
    *ret_error = why;
    return -EINVAL;
}

/* Host and port of "HOST", "HOST:PORT", "[ADDRESS]" or "[ADDRESS]:PORT". NULL or why not. */
static const char *parse_authority(const char *s, size_t len, struct endpoint *e)
{
    const struct key *host = key_find("metric.transport.host"), *port = key_find("metric.transport.port");
    const char *end = s + len, *host_end;

    if (memchr(s, '@', len))
        return "a user name or password can't stand in it; send them as a header, such as authorization";
    if (*s == '[') {
        host_end = memchr(s, ']', len);
        if (!host_end)
            return "the bracket of the IPv6 address isn't closed";
        e->host = xstrndup(s + 1, (size_t)(host_end - s) - 1);
        host_end++;
        if (!strchr(e->host, ':'))
            return "what stands in brackets is not an IPv6 address";
    } else {
        host_end = memchr(s, ':', len);
        host_end = host_end ? host_end : end;
        if (host_end < end && memchr(host_end + 1, ':', (size_t)(end - host_end) - 1))
            return "more than one colon; put an IPv6 address in brackets: [ADDRESS]:PORT";
        e->host = xstrndup(s, (size_t)(host_end - s));
    }
    if (!*e->host || key_store(host, NULL, e->host, NULL) < 0)
        return "the host is not a name or an address";
    if (host_end == end)
        return NULL;
    if (*host_end != ':')
        return "behind the bracket only :PORT can stand";
    e->port = xstrndup(host_end + 1, (size_t)(end - host_end) - 1);
    if (!*e->port) { /* RFC 3986, 3.2.3: as if it weren't there */
        free(e->port);
        e->port = NULL;
    } else if (strspn(e->port, "0123456789") != strlen(e->port) || key_store(port, NULL, e->port, NULL) < 0 ||
               strtoul(e->port, NULL, 10) == 0) {
        return "the port is not a number from 1 to 65535";
    }
    return NULL;
}

int endpoint_parse(const char *text, struct endpoint *ret, const char **ret_error)
{
    static const struct {
        const char *name;
        enum endpoint_scheme scheme;
    } schemes[] = {{"http", SCHEME_HTTP}, {"https", SCHEME_HTTPS}, {"grpc", SCHEME_GRPC}, {"grpcs", SCHEME_GRPCS}};
    const char *rest = strstr(text, "://"), *path, *why;
    size_t len, i;

    *ret = (struct endpoint){0};
    if (strlen(text) > MAX_VALUE)
        return endpoint_error(ret, ret_error, "it is too long");
    if (!is_url_text(text))
        return endpoint_error(ret, ret_error, "it has blanks or other characters that no URL has (%20 is a blank)");
    if (rest) {
        len = (size_t)(rest - text);
        for (i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
            if (strlen(schemes[i].name) == len && !strncasecmp(schemes[i].name, text, len))
                break;
        if (i == sizeof(schemes) / sizeof(*schemes))
            return endpoint_error(ret, ret_error, "unknown scheme; expected http://, https://, grpc:// or grpcs://");
        ret->scheme = schemes[i].scheme;
        rest += 3;
    } else {
        rest = text;
    }
    path = rest + strcspn(rest, "/?#");
    if (strchr(path, '#'))
        return endpoint_error(ret, ret_error, "what stands behind # is never sent");
    if (strstr(path, MASK))
        return endpoint_error(ret, ret_error, MASK " is what is printed in place of a secret, not the secret itself");
    if (ret->scheme == SCHEME_NONE && *path && strcmp(path, "/") != 0)
        return endpoint_error(ret, ret_error, "the scheme is missing; expected http:// or https://");
    why = parse_authority(rest, (size_t)(path - rest), ret);
    if (why)
        return endpoint_error(ret, ret_error, why);
    ret->path = xstrdup(path);
    return 0;
}

char *cfg_endpoint_shown(const char *text)
{
    const char *rest = strstr(text, "://"), *query, *at = NULL, *why;
    struct endpoint e;
    bool good = endpoint_parse(text, &e, &why) == 0;
    size_t len;

    endpoint_clear(&e);
    rest = rest ? rest + 3 : text;
    query = strchr(rest, '?');
    len = query ? (size_t)(query - rest) : strlen(rest);
    for (size_t i = 0; i < len && !good; i++) /* in a good one it can only stand in the path */
        at = rest[i] == '@' ? rest + i : at;
    return xasprintf("%.*s%s%.*s%s", (int)(rest - text), text, at ? MASK : "", (int)(at ? rest + len - at : (ptrdiff_t)len),
                     at ? at : rest, query ? "?" MASK : "");
}

int cfg_endpoint_check(const char *url, bool *ret_http, const char **ret_error)
{
    struct endpoint e;
    int rc;

    if (!strstr(url, "://")) {
        *ret_error = "the scheme is missing; expected http://HOST:PORT, https://HOST:PORT, grpc://HOST:PORT or "
                     "grpcs://HOST:PORT";
        return -EINVAL;
    }
    rc = endpoint_parse(url, &e, ret_error);
    if (rc < 0)
        return rc;
    *ret_http = e.scheme == SCHEME_HTTP || e.scheme == SCHEME_HTTPS;
    if (!*ret_http && *e.path && strcmp(e.path, "/") != 0) {
        rc = -EINVAL;
        *ret_error = "gRPC has no path; expected grpc://HOST:PORT or grpcs://HOST:PORT";
    }
    endpoint_clear(&e);
    return rc;
}

/* One that can't be used stays what is set: nothing may go to where a weaker source, or nobody, says instead. */
char *endpoint_check(const struct key *k, const char *text, struct complaint *c)
{
    struct endpoint e;
    const char *why = "";
    char *shown;

    if (endpoint_parse(text, &e, &why) == 0) {
        endpoint_clear(&e);
        return xstrdup(text);
    }
    shown = cfg_endpoint_shown(text);
    if (!valid_text(shown, false) || strlen(shown) > 200) {
        free(shown);
        shown = xstrdup(MASK);
    }
    if (c) {
        c->fatal = true;
        c->text = xasprintf("\"%s\": %s; %s", shown, why,
                            key_is_child(k, "otlp") ? "signals that have no endpoint of their own are off"
                                                    : "this signal is off");
    }
    return shown;
}

/* --- which of several sources counts --- */

/* Rows of the schema that all signals and each one have, in this order; those between them and the last are settled by
 * their values alone. */
enum { ROW_ENABLE, ROW_ENDPOINT, ROW_LAST = 11 };

/* Where the rows of a signal begin, or of all. */
static const struct key *rows_of(int s)
{
    static const char *const first[CFG_OTLP_MAX + 1] = {"otlp.traces.enable", "otlp.metrics.enable", "otlp.logs.enable",
                                                        "otlp.enable"};

    return key_find(first[s]);
}

static char **text_at(const struct merged *m, const struct key *k)
{
    return (char **)((char *)m->cfg + k->offset);
}

static enum origin_kind rank(const struct merged *m, const struct key *k)
{
    const struct origin *o = m->key_from[key_index(k)];

    return *text_at(m, k) && o ? o->kind : FROM_DEFAULT;
}

static void put(struct merged *m, const struct key *k, const char *text, const struct key *like)
{
    char **at = text_at(m, k);

    free(*at);
    *at = xstrdup(text);
    m->key_from[key_index(k)] = like ? m->key_from[key_index(like)] : NULL;
}

static bool is_true(const char *text)
{
    bool b = false;

    return text && parse_bool(text, &b) && b;
}

static bool says_no(const struct merged *m, const struct key *k)
{
    const char *text = *text_at(m, k);

    return text && !is_true(text);
}

/* Who names an endpoint wants something sent there: what a weaker source says against it doesn't count. */
static void settle_switch(struct merged *m, const struct key *one, const struct key *all)
{
    const struct key *enable = one + ROW_ENABLE, *endpoint = one + ROW_ENDPOINT, *master = all + ROW_ENABLE;

    if (says_no(m, master) && *text_at(m, enable) && rank(m, master) > rank(m, enable))
        put(m, enable, NULL, NULL);
    if (rank(m, endpoint) > rank(m, enable) && rank(m, endpoint) > rank(m, master) &&
        (says_no(m, enable) || says_no(m, master)))
        put(m, enable, "true", endpoint);
}

void otlp_settle(struct merged *m)
{
    const struct key *all = rows_of(CFG_OTLP_MAX);

    settle_switch(m, all, all);
    for (int s = 0; s < CFG_OTLP_MAX; s++) {
        const struct key *one = rows_of(s);

        settle_switch(m, one, all);
        for (int i = ROW_ENDPOINT; i <= ROW_LAST; i++)
            if (one[i].kind != KEY_SECTION && *text_at(m, one + i) && rank(m, all + i) > rank(m, one + i))
                put(m, one + i, NULL, NULL);
    }
}

/* --- what comes of it --- */

struct problem {
    const struct key *key;
    enum { ENDPOINT_NEEDS_SCHEME, GRPC_HAS_NO_PATH, CERTIFICATE_ALONE } what;
};

struct resolver {
    const struct config *cfg;
    struct problem problem[8];
    size_t problem_count;
};

static void note(struct resolver *r, const char *section, bool general, const char *name, int what)
{
    const struct key *k = key_find_child(key_find(general ? "otlp" : section), name);

    for (size_t i = 0; i < r->problem_count; i++)
        if (r->problem[i].key == k)
            return;
    if (r->problem_count < sizeof(r->problem) / sizeof(*r->problem))
        r->problem[r->problem_count++] = (struct problem){.key = k, .what = what};
}

#define PICK(NAME) (one->NAME ? one->NAME : all->NAME)

static bool is_on(const struct cfg_otlp_keys *all, const struct cfg_otlp_keys *one)
{
    if (one->enable)
        return is_true(one->enable);
    if (all->enable && !is_true(all->enable))
        return false;
    return one->endpoint || all->enable || all->endpoint;
}

bool otlp_wanted(const struct config *cfg)
{
    for (int s = 0; s < CFG_OTLP_MAX; s++)
        if (is_on(&cfg->otlp_keys.all, &cfg->otlp_keys.to[s]))
            return true;
    return false;
}

/* "http://host/base/" and "v1/traces" become "/base/v1/traces"; a query stays behind. */
static char *path_of(const struct endpoint *e, bool general, enum cfg_otlp_signal s)
{
    size_t len = strcspn(e->path, "?");

    if (!general)
        return xasprintf("%s%s", *e->path == '/' ? "" : "/", e->path);
    while (len && e->path[len - 1] == '/')
        len--;
    return xasprintf("%.*s/v1/%s%s", (int)len, e->path, signal_names[s], e->path + strcspn(e->path, "?"));
}

static void resolve_tls(struct resolver *r, const char *section, const struct cfg_otlp_keys *all,
                        const struct cfg_otlp_keys *one, struct cfg_tls *tls)
{
    const char *cert = PICK(certpath), *key = PICK(keypath);

    tls->validateserver = is_true(PICK(validateserver));
    tls->cacertpath = xstrdup(PICK(cacertpath));
    if (!cert != !key) {
        note(r, section, cert ? !one->certpath : !one->keypath, cert ? "tls.certpath" : "tls.keypath", CERTIFICATE_ALONE);
        return;
    }
    tls->certpath = xstrdup(cert);
    tls->keypath = xstrdup(key);
}

static void resolve_signal(struct resolver *r, enum cfg_otlp_signal s, struct cfg_otlp_to *to)
{
    const struct cfg_otlp_keys *all = &r->cfg->otlp_keys.all, *one = &r->cfg->otlp_keys.to[s];
    const char *text = PICK(endpoint), *why, *protocol = PICK(protocol);
    bool general = !one->endpoint, grpc = protocol && !strcmp(protocol, "grpc"), secure;
    struct endpoint e;
    char section[32];

    *to = (struct cfg_otlp_to){.transport = {.type = CFG_OTLP, .tls = {.validateserver = true}}};
    if (!is_on(all, one))
        return;
    snprintf(section, sizeof(section), "otlp.%s", signal_names[s]);
    if (endpoint_parse(text ? text : grpc ? GRPC_ENDPOINT : HTTP_ENDPOINT, &e, &why) < 0)
        return; /* told when it was set */
    if (e.scheme == SCHEME_NONE && !grpc) {
        note(r, section, general, "endpoint", ENDPOINT_NEEDS_SCHEME);
        endpoint_clear(&e);
        return;
    }
    grpc = grpc || e.scheme == SCHEME_GRPC || e.scheme == SCHEME_GRPCS;
    secure = e.scheme == SCHEME_HTTPS || e.scheme == SCHEME_GRPCS ||
             (e.scheme == SCHEME_NONE && !is_true(PICK(insecure)));
    if (grpc && *e.path && strcmp(e.path, "/") != 0)
        note(r, section, general, "endpoint", GRPC_HAS_NO_PATH);
    to->enable = true;
    to->protocol = grpc ? CFG_OTLP_GRPC : CFG_OTLP_HTTP;
    to->path = grpc ? xstrdup("/") : path_of(&e, general, s);
    to->transport.host = e.host;
    to->transport.port = e.port ? e.port
                                : xstrdup(e.scheme == SCHEME_HTTP    ? "80"
                                          : e.scheme == SCHEME_HTTPS ? "443"
                                                                     : "4317");
    e.host = e.port = NULL;
    endpoint_clear(&e);
    to->transport.tls.enable = secure;
    resolve_tls(r, section, all, one, &to->transport.tls);
    to->gzip = PICK(compression) && !strcmp(PICK(compression), "gzip");
    to->timeout_ms = PICK(timeout) ? (unsigned)strtoul(PICK(timeout), NULL, 10) : 10000;
    pairs_store(PICK(headers), true, &to->headers, &to->header_count);
}

static void resolve_resource(struct cfg_otlp *o, const struct config *cfg)
{
    o->service_name = xstrdup(cfg->otlp_keys.servicename);
    pairs_store(cfg->otlp_keys.resource, false, &o->resource, &o->resource_count);
    for (size_t i = 0; i < o->resource_count; i++) {
        struct cfg_tag *t = &o->resource[i];

        if (strcmp(t->name, "service.name") != 0)
            continue;
        if (!o->service_name && *t->value)
            o->service_name = xstrdup(t->value);
        free(t->name);
        free(t->value);
        memmove(t, t + 1, (--o->resource_count - i) * sizeof(*t));
        i--;
    }
}

static void resolve_logs(struct cfg_otlp *o, const char *list)
{
    char *item;

    while ((item = cfg_list_item(&list))) {
        int source = otlp_log_source(item);

        if (source == OTLP_LOG_CRASHES)
            o->log_crashes = true;
        else if (source >= 0)
            o->log_events[source] = true;
        free(item);
    }
    o->log_crashes |= o->log_events[CFG_EW_PROCESS];
}

static void resolve(struct resolver *r, struct cfg_otlp *o)
{
    const struct config *cfg = r->cfg;
    const char *temporality = cfg->otlp_keys.temporality;

    for (int s = 0; s < CFG_OTLP_MAX; s++)
        resolve_signal(r, s, &o->to[s]);
    resolve_resource(o, cfg);
    o->interval_ms = (unsigned)strtoul(cfg->otlp_keys.interval, NULL, 10);
    o->lowmemory = !strcmp(temporality, "lowmemory");
    o->delta = o->lowmemory || !strcmp(temporality, "delta");
    o->exponential = !strcmp(cfg->otlp_keys.histogram, "exponential");
    o->ratio = strtod(cfg->otlp_keys.ratio, NULL);
    o->parent_based = is_true(cfg->otlp_keys.parentbased);
    o->processes = is_true(cfg->otlp_keys.processes);
    resolve_logs(o, cfg->otlp_keys.events);
}

int otlp_log_source(const char *word)
{
    static const struct {
        const char *name;
        int source;
    } sources[] = {
        {"console", CFG_EW_CONSOLE}, {"file", CFG_EW_FILE}, {"notice", CFG_EW_NOTICE}, {"crash", OTLP_LOG_CRASHES},
        {"process", CFG_EW_PROCESS}, {"fs", CFG_EW_FS},     {"net", CFG_EW_NET},       {"http", CFG_EW_HTTP},
        {"dns", CFG_EW_DNS},         {"syscall", CFG_EW_SYSCALL},
    };

    for (size_t i = 0; i < sizeof(sources) / sizeof(*sources); i++)
        if (!strcmp(word, sources[i].name))
            return sources[i].source;
    return -1;
}

void otlp_resolve(struct config *cfg)
{
    struct resolver r = {.cfg = cfg};

    otlp_clear(&cfg->otlp);
    resolve(&r, &cfg->otlp);
}

static void free_pairs(struct cfg_tag *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(list[i].name);
        free(list[i].value);
    }
    free(list);
}

void otlp_clear(struct cfg_otlp *o)
{
    for (int s = 0; s < CFG_OTLP_MAX; s++) {
        cfg_transport_clear(&o->to[s].transport);
        free(o->to[s].path);
        free_pairs(o->to[s].headers, o->to[s].header_count);
    }
    free(o->service_name);
    free_pairs(o->resource, o->resource_count);
    *o = (struct cfg_otlp){0};
}

/* Reports what only several keys together show. */
void otlp_check(const struct merged *m, struct reporter *r, const char *prefix)
{
    struct resolver found = {.cfg = m->cfg};
    struct cfg_otlp o = {0};

    resolve(&found, &o);
    otlp_clear(&o);
    for (size_t i = 0; i < found.problem_count; i++) {
        const struct key *k = found.problem[i].key;
        const struct origin *from = m->key_from[key_index(k)];
        bool variable = from && (from->kind == FROM_ENV || from->kind == FROM_OTEL), all = key_is_child(k, "otlp");
        char *text = cfg_endpoint_shown(*text_at(m, k));
        char *shown = variable ? xstrdup(from->name) : xasprintf("%s%s", prefix, k->path);
        unsigned line = from && from->kind == FROM_FILE ? from->line : 0;

        switch (found.problem[i].what) {
        case ENDPOINT_NEEDS_SCHEME:
            report(r, line, shown, true,
                   "\"%.200s\": the scheme is missing; expected http:// or https:// (only grpc takes HOST:PORT); %s", text,
                   all ? "signals that have no endpoint of their own are off" : "this signal is off");
            break;
        case GRPC_HAS_NO_PATH:
            report(r, line, shown, false, "\"%.200s\": gRPC has no path; it is left out", text);
            break;
        case CERTIFICATE_ALONE:
            report(r, line, shown, true,
                   "a client's certificate needs its key, and the other way round; connections are made without one");
            break;
        }
        free(shown);
        free(text);
    }
}

/* --- for people --- */

static char *url_of(const struct cfg_otlp_to *to)
{
    char *url = cfg_transport_url(&to->transport), *ret;

    if (to->protocol == CFG_OTLP_GRPC) {
        ret = xasprintf("grpc%s%s", to->transport.tls.enable ? "s" : "", url + strcspn(url, ":"));
    } else {
        char *whole = xasprintf("%s%s", url, to->path);

        ret = cfg_endpoint_shown(whole);
        free(whole);
    }
    free(url);
    return ret;
}

char *cfg_otlp_url(const struct cfg_otlp_to *to)
{
    return url_of(to);
}

/* Where the path of a signal is the usual one, the URL up to there tells it: signals that go to one place are told
 * together. */
static char *base_of(const struct cfg_otlp_to *to, int s)
{
    char *url = url_of(to), *usual = xasprintf("/v1/%s", signal_names[s]);
    size_t len = strcspn(url, "?"), tail = strlen(usual);

    url[len] = 0;
    if (to->protocol == CFG_OTLP_HTTP && len > tail && !strcmp(url + len - tail, usual))
        url[len - tail] = 0;
    free(usual);
    return url;
}

char *cfg_otlp_text(const struct cfg_otlp *o)
{
    char *base[CFG_OTLP_MAX] = {NULL}, *ret = NULL;
    struct buf b = BUF_INIT;

    for (int s = 0; s < CFG_OTLP_MAX; s++)
        if (o->to[s].enable)
            base[s] = base_of(&o->to[s], s);
    for (int s = 0; s < CFG_OTLP_MAX; s++) {
        if (!base[s])
            continue;
        buf_printf(&b, "%s%s", b.len ? "; " : "", signal_names[s]);
        for (int other = s + 1; other < CFG_OTLP_MAX; other++) {
            if (!base[other] || strcmp(base[s], base[other]) != 0)
                continue;
            buf_printf(&b, ", %s", signal_names[other]);
            free(base[other]);
            base[other] = NULL;
        }
        buf_printf(&b, " to %s", base[s]);
    }
    for (int s = 0; s < CFG_OTLP_MAX; s++)
        free(base[s]);
    if (b.len)
        ret = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return ret;
}

const char *cfg_otlp_name(enum cfg_otlp_signal s)
{
    return signal_names[s];
}
