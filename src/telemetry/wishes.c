/* SPDX-License-Identifier: Apache-2.0 */
/* What a configuration wants to be told, and what a pipeline waits for. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "telemetry/internal.h"

static const char *const sourcetypes[CFG_EW_MAX] = {
    [CFG_EW_FILE] = "file",       [CFG_EW_CONSOLE] = "console", [CFG_EW_SYSLOG] = "syslog", [CFG_EW_METRIC] = "metric",
    [CFG_EW_HTTP] = "http",       [CFG_EW_NET] = "net",         [CFG_EW_FS] = "fs",         [CFG_EW_DNS] = "dns",
    [CFG_EW_PROCESS] = "process", [CFG_EW_SYSCALL] = "syscall",
    [CFG_EW_NOTICE] = "notice",
};

static void set_watches(struct telemetry *t, const struct config *cfg)
{
    for (int i = 0; i < CFG_EW_MAX; i++) {
        const struct cfg_watch *from = &cfg->event.watch[i];
        struct watch *w = &t->watch[i];
        const char *name = i == CFG_EW_FILE      ? "(\\/logs?\\/)|(\\.log$)|(\\.log[.\\d])"
                           : i == CFG_EW_CONSOLE ? "(stdout)|(stderr)"
                                                 : ".*";

        w->enable = cfg->event.enable && from->enable;
        w->allowbinary = from->allowbinary;
        w->name = filter_new(from->name ? from->name : name, name);
        w->field = filter_new(from->field ? from->field : ".*", i == CFG_EW_METRIC ? "^[^h]+" : ".*");
        w->value = filter_new(from->value ? from->value : ".*", ".*");
        w->all = filter_matches_all(w->name) && filter_matches_all(w->field) && filter_matches_all(w->value);
        w->sourcetype = sourcetypes[i];
    }
}

struct telemetry *telemetry_new_wishes(const struct config *cfg)
{
    struct telemetry *t = xcalloc(1, sizeof(*t));

    t->events_on = cfg->event.enable;
    t->metrics_on = cfg->metric.enable;
    t->spans_on = cfg->otlp.to[CFG_OTLP_TRACES].enable;
    t->verbosity = cfg->metric.verbosity < 9 ? cfg->metric.verbosity : 9;
    if (cfg->metric.transport.type == CFG_PROMETHEUS)
        t->verbosity = 0; /* its labels are always the same: nobody needs single operations */
    memcpy(t->metric_watch, cfg->metric.watch, sizeof(t->metric_watch));
    set_watches(t, cfg);
    t->to[TO_EVENTS].lost_queue = "event_queue";
    t->to[TO_EVENTS].lost_destination = "event_destination";
    t->to[TO_EVENTS].taken = &t->stats.events;
    t->to[TO_METRICS].lost_queue = "metric_queue";
    t->to[TO_METRICS].lost_destination = "metric_destination";
    t->to[TO_METRICS].taken = &t->stats.metrics;
    t->to[TO_TRACES].lost_queue = "span_queue";
    t->to[TO_TRACES].lost_destination = "span_destination";
    t->to[TO_TRACES].taken = &t->stats.spans;
    return t;
}

bool telemetry_stuck(const struct telemetry *t)
{
    for (size_t i = 0; i < ROUTES; i++)
        for (size_t k = 0; k < t->to[i].count; k++) {
            const struct sink *sink = t->to[i].sink[k];
            struct sink_stats s;

            sink->format->stats(sink, &s);
            if (s.connected && s.queued)
                return false;
        }
    return true;
}
