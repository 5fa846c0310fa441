/* SPDX-License-Identifier: Apache-2.0 */
/* OpenTelemetry's variables as settings of the keys below otlp: "OpenTelemetry Protocol Exporter" and "Environment
 * Variable Specification" of the OpenTelemetry specification 1.55. An empty variable is one that isn't set. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "config/schema.h"

/* Problems wait: nobody is interested in them unless something is sent. */
struct waiting {
    char *variable, *text;
    bool fatal;
    struct waiting *next;
};

struct otel {
    struct config_sources *s;
    const char *const *envp;
    struct waiting *first, **last;
};

static const char *get(const struct otel *o, const char *name)
{
    const char *value = environ_get(o->envp, name, strlen(name));

    return value && *value ? value : NULL;
}

static void __attribute__((format(printf, 4, 5)))
complain(struct otel *o, const char *variable, bool fatal, const char *fmt, ...)
{
    struct waiting *w = xcalloc(1, sizeof(*w));
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&w->text, fmt, ap) < 0)
        w->text = xstrdup(fmt);
    va_end(ap);
    w->variable = xstrdup(variable);
    w->fatal = fatal;
    *o->last = w;
    o->last = &w->next;
}

static void keep(void *ctx, const struct cfg_problem *p)
{
    struct complaint *c = ctx;

    if (c->text)
        return;
    c->text = xstrdup(p->text);
    c->fatal = p->fatal;
}

/* What becomes of a key whose variable can't be used. */
static char *instead(const struct key *k)
{
    if (k->def)
        return xasprintf("%s is used instead", k->def);
    return xstrdup(k->optional && k->text ? "what counts for all signals is used instead" : "it counts as not set");
}

static void set(struct otel *o, const char *variable, const char *key, const char *value)
{
    const struct key *k = key_find(key);
    struct complaint c = {0};
    struct reporter r = {.fn = keep, .ctx = &c};
    struct setting *t = layer_add(&o->s->otel, k, SET_VALUE, value,
                                  (struct origin){.kind = FROM_OTEL, .name = sources_name(o->s, variable)});
    char *rest;

    t->literal = true;
    if (check_setting(o->s, t, &r, variable) == 0) {
        if (c.text)
            complain(o, variable, c.fatal, "%s", c.text);
        free(c.text);
        return;
    }
    free(t->text);
    o->s->otel.n--;
    rest = instead(k);
    complain(o, variable, true, "%s; %s", c.text ? c.text : "", rest);
    free(rest);
    free(c.text);
}

/* --- what is said for all signals and for each one --- */

enum form { FORM_AS_IT_IS, FORM_LOWER, FORM_BOOL };

static void lower(char *s)
{
    for (; *s; s++)
        if (*s >= 'A' && *s <= 'Z')
            *s = (char)(*s - 'A' + 'a');
}

static void set_as(struct otel *o, const char *variable, const char *key, const char *value, enum form form)
{
    char *text = xstrdup(value);

    if (form != FORM_AS_IT_IS)
        lower(text);
    /* Of truth values the specification knows these two. */
    if (form == FORM_BOOL && strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        complain(o, variable, true, "\"%.200s\" can't be used; expected true or false; false is used instead", value);
        free(text);
        text = xstrdup("false");
    }
    set(o, variable, key, text);
    free(text);
}

static void add_exporter(struct otel *o, const char *infix, const char *section)
{
    static const struct {
        const char *variable, *key;
        enum form form;
    } options[] = {
        {"ENDPOINT", "endpoint", FORM_AS_IT_IS},
        {"PROTOCOL", "protocol", FORM_LOWER},
        {"HEADERS", "headers", FORM_AS_IT_IS},
        {"COMPRESSION", "compression", FORM_LOWER},
        {"TIMEOUT", "timeout", FORM_AS_IT_IS},
        {"INSECURE", "tls.insecure", FORM_BOOL},
        {"CERTIFICATE", "tls.cacertpath", FORM_AS_IT_IS},
        {"CLIENT_CERTIFICATE", "tls.certpath", FORM_AS_IT_IS},
        {"CLIENT_KEY", "tls.keypath", FORM_AS_IT_IS},
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++) {
        char *variable = xasprintf("OTEL_EXPORTER_OTLP_%s%s", infix, options[i].variable);
        char *key = xasprintf("%s.%s", section, options[i].key);
        const char *value = get(o, variable);

        if (value)
            set_as(o, variable, key, value, options[i].form);
        free(variable);
        free(key);
    }
}

/* OTEL_TRACES_EXPORTER and the like: a list, of which we are one. */
static void add_selection(struct otel *o, const char *variable, const char *signal)
{
    const char *value = get(o, variable), *at = value;
    char *key, *item;
    bool ours = false, none = false;

    if (!value)
        return;
    while ((item = cfg_list_item(&at))) {
        char *word = item + strspn(item, " \t");

        word[strcspn(word, " \t")] = 0;
        lower(word);
        ours |= !strcmp(word, "otlp");
        none |= !strcmp(word, "none");
        free(item);
    }
    if (ours)
        return;
    if (!none)
        complain(o, variable, false, "\"%.200s\" names other exporters than otlp: %s are off", value, signal);
    key = xasprintf("otlp.%s.enable", signal);
    set(o, variable, key, "false");
    free(key);
}

static void add_sampler(struct otel *o)
{
    static const struct {
        const char *name, *ratio; /* NULL: what OTEL_TRACES_SAMPLER_ARG says */
        const char *parent;
    } samplers[] = {
        {"always_on", "1", "false"},
        {"always_off", "0", "false"},
        {"traceidratio", NULL, "false"},
        {"parentbased_always_on", "1", "true"},
        {"parentbased_always_off", "0", "true"},
        {"parentbased_traceidratio", NULL, "true"},
    };
    static const char variable[] = "OTEL_TRACES_SAMPLER", argument[] = "OTEL_TRACES_SAMPLER_ARG";
    const char *value = get(o, variable), *ratio = get(o, argument);

    for (size_t i = 0; value && i < sizeof(samplers) / sizeof(*samplers); i++) {
        if (strcasecmp(value, samplers[i].name) != 0)
            continue;
        set(o, variable, "otlp.traces.parentbased", samplers[i].parent);
        if (samplers[i].ratio)
            set(o, variable, "otlp.traces.ratio", samplers[i].ratio);
        else if (ratio)
            set(o, argument, "otlp.traces.ratio", ratio);
        return;
    }
    if (value)
        complain(o, variable, true,
                 "\"%.200s\" can't be used; expected one of always_on, always_off, traceidratio, parentbased_always_on, "
                 "parentbased_always_off, parentbased_traceidratio; parentbased_always_on is used instead",
                 value);
}

static void add_metrics(struct otel *o)
{
    static const struct {
        const char *name, *word;
    } histograms[] = {{"explicit_bucket_histogram", "explicit"}, {"base2_exponential_bucket_histogram", "exponential"}};
    static const char interval[] = "OTEL_METRIC_EXPORT_INTERVAL",
                      temporality[] = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
                      histogram[] = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    const char *value;

    if ((value = get(o, interval)))
        set(o, interval, "otlp.metrics.interval", value);
    if ((value = get(o, temporality)))
        set_as(o, temporality, "otlp.metrics.temporality", value, FORM_LOWER);
    if (!(value = get(o, histogram)))
        return;
    for (size_t i = 0; i < 2; i++)
        if (!strcasecmp(value, histograms[i].name)) {
            set(o, histogram, "otlp.metrics.histogram", histograms[i].word);
            return;
        }
    complain(o, histogram, true, "\"%.200s\" can't be used; expected %s or %s; the former is used instead", value,
             histograms[0].name, histograms[1].name);
}

/* What processes say of themselves is read from their own environment; this one counts for those that say nothing. */
static void check_resource(struct otel *o)
{
    static const char name[] = "OTEL_SERVICE_NAME", attributes[] = "OTEL_RESOURCE_ATTRIBUTES";
    const char *value = get(o, name);
    char *why, *used;

    if (value && (strlen(value) > 1024 || !valid_text(value, false)))
        complain(o, name, true, "the value is longer than 1024 bytes, has control characters or isn't UTF-8; it counts as "
                                "not set");
    value = get(o, attributes);
    if (!value)
        return;
    used = pairs_check(key_find("otlp.resource"), value, &why);
    if (why)
        complain(o, attributes, true, "%s; none of them is used", why);
    free(used);
    free(why);
}

void otel_add(struct config_sources *s, const char *const *envp, struct reporter *r)
{
    struct otel o = {.s = s, .envp = envp};
    const char *disabled;
    struct merged m;
    bool wanted;

    o.last = &o.first;
    disabled = get(&o, "OTEL_SDK_DISABLED");
    add_exporter(&o, "", "otlp");
    add_exporter(&o, "TRACES_", "otlp.traces");
    add_exporter(&o, "METRICS_", "otlp.metrics");
    add_exporter(&o, "LOGS_", "otlp.logs");
    add_selection(&o, "OTEL_TRACES_EXPORTER", "traces");
    add_selection(&o, "OTEL_METRICS_EXPORTER", "metrics");
    add_selection(&o, "OTEL_LOGS_EXPORTER", "logs");
    add_sampler(&o);
    add_metrics(&o);
    check_resource(&o);
    if (disabled && !strcasecmp(disabled, "true"))
        set(&o, "OTEL_SDK_DISABLED", "otlp.enable", "false");
    else if (disabled && strcasecmp(disabled, "false") != 0)
        complain(&o, "OTEL_SDK_DISABLED", true, "\"%.200s\" can't be used; expected true or false; false is used instead",
                 disabled);
    merge(s, NULL, false, &m);
    wanted = otlp_wanted(m.cfg);
    merged_clear(&m);
    while (o.first) {
        struct waiting *w = o.first;

        o.first = w->next;
        if (wanted)
            report(r, 0, w->variable, w->fatal, "%s", w->text);
        free(w->variable);
        free(w->text);
        free(w);
    }
}
