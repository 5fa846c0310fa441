/* SPDX-License-Identifier: Apache-2.0 */
#include "report/pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "inject/launch.h"
#include "wire/segment.h"

static bool wants(const struct pipeline *pl, enum cfg_event_watch w, const char *source)
{
    return pl->event[w] && telemetry_wants_event(pl->tm, w, source, strlen(source));
}

struct pipeline *pipeline_for(struct pipelines *all, const struct config_sources *config, const struct cfg_process *who)
{
    const struct config_sources *common = config_is_common(config) ? config : NULL;
    struct config *cfg;
    struct pipeline *pl;

    for (pl = all->first; pl; pl = pl->next)
        if (common && pl->common == common)
            return pl;
    cfg = config_for(config, who);
    for (pl = all->first; pl; pl = pl->next) {
        if (config_equal(pl->cfg, cfg)) {
            config_free(cfg);
            pl->common = common;
            return pl;
        }
    }
    pl = xcalloc(1, sizeof(*pl));
    pl->cfg = cfg;
    pl->common = common;
    pl->tm = telemetry_new(all->base, cfg);
    for (int i = 0; i < CFG_EW_MAX; i++)
        pl->event[i] = cfg->event.enable && cfg->event.watch[i].enable;
    for (int i = 0; i < TM_METRIC_MAX; i++) {
        pl->metric[i] = telemetry_wants_metric(pl->tm, i);
        pl->per_op[i] = telemetry_per_op(pl->tm, i);
    }
    pl->ev_fs_open = wants(pl, CFG_EW_FS, "fs.open");
    pl->ev_fs_close = wants(pl, CFG_EW_FS, "fs.close");
    pl->ev_fs_delete = wants(pl, CFG_EW_FS, "fs.delete");
    pl->ev_fs_rename = wants(pl, CFG_EW_FS, "fs.rename");
    pl->ev_fs_create = wants(pl, CFG_EW_FS, "fs.create");
    pl->ev_fs_change = wants(pl, CFG_EW_FS, "fs.change");
    pl->ev_net_open = wants(pl, CFG_EW_NET, "net.open");
    pl->ev_net_close = wants(pl, CFG_EW_NET, "net.close");
    pl->ev_net_listen = wants(pl, CFG_EW_NET, "net.listen");
    pl->ev_proc_start = wants(pl, CFG_EW_PROCESS, "proc.start");
    pl->ev_proc_exit = wants(pl, CFG_EW_PROCESS, "proc.exit");
    pl->ev_proc_crash = wants(pl, CFG_EW_PROCESS, "proc.crash");
    pl->ev_proc_note = wants(pl, CFG_EW_PROCESS, "proc.note");
    pl->ev_net_app = wants(pl, CFG_EW_NET, "net.app");
    pl->ev_http_req = wants(pl, CFG_EW_HTTP, "http.req");
    pl->ev_http_resp = wants(pl, CFG_EW_HTTP, "http.resp");
    pl->ev_http_note = wants(pl, CFG_EW_HTTP, "http.note");
    pl->ev_dns_req = wants(pl, CFG_EW_DNS, "dns.req");
    pl->ev_dns_resp = wants(pl, CFG_EW_DNS, "dns.resp");
    pl->spans = telemetry_wants_spans(pl->tm);
    pl->exchanges = cfg->otlp.to[CFG_OTLP_METRICS].enable;
    all->prepare(all->ctx, pl);
    pl->mode = launch_mode_for(cfg, pl->tm) | (pl->runtime ? SEG_M_TRAFFIC : 0);
    pl->next = all->first;
    all->first = pl;
    return pl;
}

void pipelines_rename(struct pipelines *all, const struct config_sources *was, const struct config_sources *now)
{
    for (struct pipeline *pl = all->first; pl; pl = pl->next)
        if (pl->common == was)
            pl->common = now;
}

void pipelines_move(struct pipelines *all, const char *from, const char *to,
                    void (*old)(void *ctx, struct telemetry *), void *ctx)
{
    for (struct pipeline *pl = all->first; pl; pl = pl->next) {
        struct telemetry *tm = pl->tm;

        config_move(pl->cfg, from, to);
        pl->tm = telemetry_new(all->base, pl->cfg); /* first: outputs that both have go on */
        telemetry_end(tm);
        old(ctx, tm);
        all->moved(all->ctx, pl);
    }
}

/* Without its telemetry. */
static void pipeline_free(struct pipelines *all, struct pipeline *pl)
{
    all->unprepare(all->ctx, pl);
    config_free(pl->cfg);
    free(pl);
}

void pipeline_retire(struct pipelines *all, struct pipeline *pl, void (*old)(void *ctx, struct telemetry *), void *ctx)
{
    struct pipeline **at = &all->first;

    while (*at != pl)
        at = &(*at)->next;
    *at = pl->next;
    all->retire(all->ctx, pl);
    telemetry_end(pl->tm);
    telemetry_forget_rules(pl->tm);
    old(ctx, pl->tm);
    pipeline_free(all, pl);
}

void pipelines_free(struct pipelines *all)
{
    while (all->first) {
        struct pipeline *pl = all->first;

        all->first = pl->next;
        telemetry_free(pl->tm, 0);
        pipeline_free(all, pl);
    }
}
