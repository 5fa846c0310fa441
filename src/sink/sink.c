/* SPDX-License-Identifier: Apache-2.0 */
/* Which sink a configuration means, and what sinks of lines have in common. */
#include "sink/sink.h"

#include "sink/internal.h"

static struct sink *main_events(const struct sink_user *user, const struct config *cfg)
{
    if (cfg->cribl.enable)
        return ndjson_sink_new(user, &cfg->cribl.transport, cfg, true);
    if (cfg->event.transport.type == CFG_JOURNAL)
        return journal_sink_new(user, &cfg->event.transport);
    return ndjson_sink_new(user, &cfg->event.transport, cfg, true);
}

static struct sink *main_metrics(const struct sink_user *user, const struct config *cfg)
{
    if (cfg->cribl.enable)
        return ndjson_sink_new(user, &cfg->cribl.transport, cfg, false);
    if (cfg->metric.transport.type == CFG_JOURNAL)
        return journal_sink_new(user, &cfg->metric.transport);
    if (cfg->metric.transport.type == CFG_PROMETHEUS)
        return prometheus_sink_new(user, &cfg->metric.transport, cfg);
    if (cfg->metric.format == CFG_NDJSON)
        return ndjson_sink_new(user, &cfg->metric.transport, cfg, false);
    return statsd_sink_new(user, &cfg->metric.transport, cfg);
}

size_t sinks_for_events(const struct sink_user *user, const struct config *cfg, struct sink *ret[SINKS_MAX])
{
    size_t n = 0;

    ret[n++] = main_events(user, cfg);
    if (cfg->otlp.to[CFG_OTLP_LOGS].enable)
        ret[n++] = otlp_logs_sink_new(user, cfg);
    return n;
}

size_t sinks_for_metrics(const struct sink_user *user, const struct config *cfg, struct sink *ret[SINKS_MAX])
{
    size_t n = 0;

    ret[n++] = main_metrics(user, cfg);
    if (cfg->otlp.to[CFG_OTLP_METRICS].enable)
        ret[n++] = otlp_metrics_sink_new(user, cfg);
    return n;
}

size_t sinks_for_traces(const struct sink_user *user, const struct config *cfg, struct sink *ret[SINKS_MAX])
{
    if (!cfg->otlp.to[CFG_OTLP_TRACES].enable)
        return 0;
    ret[0] = otlp_traces_sink_new(user, cfg);
    return 1;
}

static struct output *output_of(const struct sink *s)
{
    return ((const struct line_sink *)s)->output;
}

bool line_flush(struct sink *s)
{
    return output_flush(output_of(s));
}

bool line_wait(struct sink *s, unsigned ms)
{
    return output_wait(output_of(s), ms);
}

void line_abandon(struct sink *s)
{
    output_abandon(output_of(s));
}

uint64_t line_claim_lost(struct sink *s)
{
    return output_claim_lost(output_of(s));
}

void line_stats(const struct sink *s, struct sink_stats *ret)
{
    struct output_stats o;

    output_stats(output_of(s), &o);
    *ret = (struct sink_stats){.queued = o.queued, .connected = o.connected};
}

void line_describe(const struct sink *s, const char *name, struct buf *b)
{
    output_describe(output_of(s), name, b);
}

void line_release(struct line_sink *l)
{
    output_put(l->output);
    buf_free(&l->line);
}

enum sink_result line_write(struct line_sink *l)
{
    return output_write(l->output, l->line.p, l->line.len) ? SINK_TAKEN : SINK_FULL;
}
