/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration in the start message: member order and string booleans as docs/data-model.md says. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "config/schema.h"

static void name(struct buf *b, const char *s)
{
    buf_json_str(b, s);
    buf_char(b, ':');
}

static void text(struct buf *b, const char *key, const char *value)
{
    name(b, key);
    buf_json_str(b, value ? value : "");
}

static void boolean(struct buf *b, const char *key, bool value)
{
    text(b, key, value ? "true" : "false");
}

static void number(struct buf *b, const char *key, uint64_t value)
{
    name(b, key);
    buf_uint(b, value);
}

static void transport(struct buf *b, const char *path, const struct cfg_transport *t)
{
    const struct key *type = key_find_child(key_find(path), "type");

    name(b, "transport");
    buf_char(b, '{');
    text(b, "type", type->words[t->type]);
    switch (t->type) {
    case CFG_UDP:
    case CFG_TCP:
        buf_char(b, ',');
        text(b, "host", t->host);
        buf_char(b, ',');
        text(b, "port", t->port);
        buf_str(b, ",\"tls\":{");
        boolean(b, "enable", t->tls.enable);
        buf_char(b, ',');
        boolean(b, "validateserver", t->tls.validateserver);
        buf_char(b, ',');
        text(b, "cacertpath", t->tls.cacertpath);
        buf_char(b, '}');
        break;
    case CFG_PROMETHEUS:
        buf_char(b, ',');
        text(b, "host", t->host);
        buf_char(b, ',');
        text(b, "port", t->port);
        break;
    case CFG_FILE:
        buf_char(b, ',');
        text(b, "path", t->path);
        buf_char(b, ',');
        text(b, "buffering", t->buffering == CFG_BUFFER_FULL ? "full" : "line");
        break;
    case CFG_UNIX:
    case CFG_JOURNAL:
        buf_char(b, ',');
        text(b, "path", t->path);
        break;
    case CFG_EDGE:
    case CFG_OTLP:
        break;
    }
    buf_char(b, '}');
}

static const char *watch_name(const char *list, size_t offset)
{
    for (size_t i = 0; i < schema_count; i++)
        if (schema[i].base == BASE_CONFIG && schema[i].offset == offset && key_is_child(&schema[i], list))
            return key_name(&schema[i]);
    return "";
}

static void metric(struct buf *b, const struct config *c)
{
    bool first = true;

    buf_str(b, "\"metric\":{");
    boolean(b, "enable", c->metric.enable);
    buf_char(b, ',');
    transport(b, "metric.transport", &c->metric.transport);
    buf_str(b, ",\"format\":{");
    text(b, "type", c->metric.format == CFG_NDJSON ? "ndjson" : "statsd");
    buf_char(b, ',');
    text(b, "statsdprefix", c->metric.statsdprefix);
    buf_char(b, ',');
    number(b, "statsdmaxlen", c->metric.statsdmaxlen);
    buf_char(b, ',');
    number(b, "verbosity", c->metric.verbosity);
    buf_str(b, "},\"watch\":[");
    for (size_t i = 0; i < CFG_MW_MAX; i++) {
        if (!c->metric.watch[i])
            continue;
        buf_str(b, first ? "{" : ",{");
        text(b, "type", watch_name("metric.watch", offsetof(struct config, metric.watch) + i * sizeof(bool)));
        buf_char(b, '}');
        first = false;
    }
    buf_str(b, "]}");
}

static void event_watch(struct buf *b, const struct cfg_watch *w, size_t i)
{
    buf_char(b, '{');
    text(b, "type",
         watch_name("event.watch",
                    offsetof(struct config, event.watch) + i * sizeof(*w) + offsetof(struct cfg_watch, enable)));
    buf_char(b, ',');
    text(b, "name", w->name);
    buf_char(b, ',');
    text(b, "field", w->field);
    buf_char(b, ',');
    text(b, "value", w->value);
    if (i == CFG_EW_CONSOLE) {
        buf_char(b, ',');
        boolean(b, "allowbinary", w->allowbinary);
    }
    if (i == CFG_EW_HTTP) {
        buf_str(b, ",\"headers\":[");
        for (size_t n = 0; w->headers && w->headers[n]; n++) {
            if (n)
                buf_char(b, ',');
            buf_json_str(b, w->headers[n]);
        }
        buf_char(b, ']');
    }
    buf_char(b, '}');
}

static void event(struct buf *b, const struct config *c)
{
    bool first = true;

    buf_str(b, ",\"event\":{");
    boolean(b, "enable", c->event.enable);
    buf_char(b, ',');
    transport(b, "event.transport", &c->event.transport);
    buf_str(b, ",\"format\":{");
    text(b, "type", "ndjson");
    buf_char(b, ',');
    number(b, "maxeventpersec", c->event.maxeventpersec);
    buf_char(b, ',');
    boolean(b, "enhancefs", c->event.enhancefs);
    buf_str(b, "},\"watch\":[");
    for (size_t i = 0; i < CFG_EW_MAX; i++) {
        if (!c->event.watch[i].enable || i == CFG_EW_NOTICE)
            continue;
        if (!first)
            buf_char(b, ',');
        event_watch(b, &c->event.watch[i], i);
        first = false;
    }
    buf_str(b, "]}");
}

static void libscope(struct buf *b, const struct config *c)
{
    buf_str(b, ",\"libscope\":{\"log\":{");
    text(b, "level", key_find("libscope.log.level")->words[c->libscope.log.level]);
    buf_char(b, ',');
    transport(b, "libscope.log.transport", &c->libscope.log.transport);
    buf_str(b, "},\"snapshot\":{");
    boolean(b, "coredump", c->libscope.snapshot.coredump);
    buf_char(b, ',');
    boolean(b, "backtrace", c->libscope.snapshot.backtrace);
    buf_char(b, ',');
    number(b, "coremax", c->libscope.snapshot.coremax);
    buf_str(b, "},");
    boolean(b, "configevent", c->libscope.configevent);
    buf_char(b, ',');
    number(b, "summaryperiod", c->libscope.summaryperiod);
    buf_char(b, ',');
    text(b, "commanddir", c->libscope.commanddir);
    buf_char(b, ',');
    boolean(b, "lossless", c->libscope.lossless);
    buf_char(b, '}');
}

static void list(struct buf *b, const char *key, const char *items)
{
    const char *comma = "";
    char *item;

    name(b, key);
    buf_char(b, '[');
    for (; (item = cfg_list_item(&items)); free(item), comma = ",") {
        buf_str(b, comma);
        buf_json_str(b, item);
    }
    buf_char(b, ']');
}

static void collector(struct buf *b, const struct config *c)
{
    buf_str(b, ",\"collector\":{");
    name(b, "priority");
    buf_int(b, c->collector.priority);
    buf_char(b, '}');
}

static void notice(struct buf *b, const struct config *c)
{
    const struct cfg_watch *w = &c->event.watch[CFG_EW_NOTICE];

    buf_str(b, ",\"notice\":{");
    boolean(b, "enable", w->enable);
    if (!w->enable) { /* what it would tell is long, and of no use */
        buf_char(b, '}');
        return;
    }
    buf_char(b, ',');
    text(b, "name", w->name);
    buf_char(b, ',');
    text(b, "field", w->field);
    buf_char(b, ',');
    text(b, "value", w->value);
    buf_char(b, ',');
    number(b, "maxpersec", c->notice.maxpersec);
    buf_char(b, ',');
    number(b, "maxperrule", c->notice.maxperrule);
    buf_str(b, ",\"file\":{");
    list(b, "write", c->notice.file.write);
    buf_char(b, ',');
    list(b, "read", c->notice.file.read);
    buf_char(b, ',');
    list(b, "send", c->notice.file.send);
    buf_char(b, ',');
    list(b, "system", c->notice.file.system);
    buf_str(b, "},\"exec\":{");
    boolean(b, "writable", c->notice.exec.writable);
    buf_char(b, ',');
    boolean(b, "deleted", c->notice.exec.deleted);
    buf_str(b, "},\"net\":{");
    list(b, "allow", c->notice.net.allow);
    buf_char(b, ',');
    list(b, "deny", c->notice.net.deny);
    buf_str(b, "},\"dns\":{");
    boolean(b, "malformed", c->notice.dns.malformed);
    buf_char(b, ',');
    number(b, "maxlength", c->notice.dns.maxlength);
    buf_char(b, ',');
    number(b, "maxname", c->notice.dns.maxname);
    buf_char(b, ',');
    number(b, "maxlabels", c->notice.dns.maxlabels);
    buf_char(b, ',');
    list(b, "types", c->notice.dns.types);
    buf_str(b, "}}");
}

static void otlp(struct buf *b, const struct config *c)
{
    const struct cfg_otlp *o = &c->otlp;
    bool first = true;

    buf_str(b, ",\"otlp\":{");
    for (int s = 0; s < CFG_OTLP_MAX; s++) {
        const struct cfg_otlp_to *to = &o->to[s];
        char *url;

        if (s)
            buf_char(b, ',');
        name(b, cfg_otlp_name((enum cfg_otlp_signal)s));
        buf_char(b, '{');
        boolean(b, "enable", to->enable);
        if (!to->enable) {
            buf_char(b, '}');
            continue;
        }
        buf_char(b, ',');
        url = cfg_otlp_url(to);
        text(b, "endpoint", url);
        free(url);
        buf_char(b, ',');
        text(b, "protocol", to->protocol == CFG_OTLP_GRPC ? "grpc" : "http/protobuf");
        buf_str(b, ",\"headers\":{");
        for (size_t i = 0; i < to->header_count; i++) {
            if (i)
                buf_char(b, ',');
            text(b, to->headers[i].name, MASK);
        }
        buf_str(b, "},");
        text(b, "compression", to->gzip ? "gzip" : "none");
        buf_char(b, ',');
        number(b, "timeout", to->timeout_ms);
        if (to->transport.tls.enable) {
            buf_str(b, ",\"tls\":{");
            boolean(b, "validateserver", to->transport.tls.validateserver);
            buf_char(b, ',');
            text(b, "cacertpath", to->transport.tls.cacertpath);
            buf_char(b, ',');
            text(b, "certpath", to->transport.tls.certpath);
            buf_char(b, ',');
            text(b, "keypath", to->transport.tls.keypath);
            buf_char(b, '}');
        }
        if (s == CFG_OTLP_TRACES) {
            buf_char(b, ',');
            text(b, "ratio", c->otlp_keys.ratio);
            buf_char(b, ',');
            boolean(b, "parentbased", o->parent_based);
            buf_char(b, ',');
            boolean(b, "processes", o->processes);
        } else if (s == CFG_OTLP_METRICS) {
            buf_char(b, ',');
            number(b, "interval", o->interval_ms);
            buf_char(b, ',');
            text(b, "temporality", c->otlp_keys.temporality);
            buf_char(b, ',');
            text(b, "histogram", c->otlp_keys.histogram);
        } else {
            buf_char(b, ',');
            list(b, "events", c->otlp_keys.events);
        }
        buf_char(b, '}');
        first = false;
    }
    if (!first) {
        buf_char(b, ',');
        text(b, "servicename", o->service_name);
        buf_str(b, ",\"resource\":{");
        for (size_t i = 0; i < o->resource_count; i++) {
            if (i)
                buf_char(b, ',');
            text(b, o->resource[i].name, o->resource[i].value);
        }
        buf_char(b, '}');
    }
    buf_char(b, '}');
}

static void lists(struct buf *b, const struct config *c)
{
    buf_str(b, ",\"tags\":{");
    for (size_t i = 0; i < c->tag_count; i++) {
        if (i)
            buf_char(b, ',');
        text(b, c->tags[i].name, c->tags[i].value);
    }
    buf_str(b, "},\"protocol\":[");
    for (size_t i = 0; i < c->protocol_count; i++) {
        const struct cfg_protocol *p = &c->protocols[i];

        buf_str(b, i ? ",{" : "{");
        text(b, "name", p->name);
        buf_char(b, ',');
        text(b, "regex", p->regex);
        buf_char(b, ',');
        boolean(b, "binary", p->binary);
        buf_char(b, ',');
        number(b, "len", p->len);
        buf_char(b, ',');
        boolean(b, "detect", p->detect);
        buf_char(b, ',');
        boolean(b, "payload", p->payload);
        buf_char(b, '}');
    }
    buf_char(b, ']');
}

char *config_to_json(const struct config *c)
{
    struct buf b = BUF_INIT;

    buf_char(&b, '{');
    metric(&b, c);
    libscope(&b, c);
    event(&b, c);
    buf_str(&b, ",\"payload\":{");
    boolean(&b, "enable", c->payload.enable);
    buf_char(&b, ',');
    text(&b, "dir", c->payload.dir);
    buf_char(&b, '}');
    collector(&b, c);
    notice(&b, c);
    otlp(&b, c);
    lists(&b, c);
    buf_str(&b, ",\"cribl\":{");
    boolean(&b, "enable", c->cribl.enable);
    buf_char(&b, ',');
    transport(&b, "cribl.transport", &c->cribl.transport);
    buf_char(&b, ',');
    text(&b, "authtoken", c->cribl.authtoken ? MASK : "");
    buf_str(&b, "}}");
    return buf_cstr(&b);
}
