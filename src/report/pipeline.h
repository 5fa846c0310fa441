/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where what a process does is told, and how much of it: a configuration with
 * its telemetry, and what follows from it, looked up once. Processes with equal
 * configurations share one. Single-threaded.
 */
#ifndef SCOPE_REPORT_PIPELINE_H
#define SCOPE_REPORT_PIPELINE_H

#include "config/config.h"
#include "telemetry/telemetry.h"

struct detect_rules;
struct event_base;
struct header_rule;
struct notices;
struct payload_target;

/* Equal configurations share one. */
struct pipeline {
    struct pipeline *next;
    struct config *cfg;
    const struct config_sources *common; /* all processes with these share it; NULL: not known of any */
    struct telemetry *tm;
    uint32_t mode;                      /* enum seg_mode for its processes */
    bool event[CFG_EW_MAX];             /* watched at all */
    bool metric[TM_METRIC_MAX], per_op[TM_METRIC_MAX];
    bool ev_fs_open, ev_fs_close, ev_fs_delete, ev_fs_rename, ev_fs_create, ev_fs_change, ev_net_open, ev_net_close, ev_net_listen,
        ev_proc_start, ev_proc_exit, ev_proc_crash, ev_proc_note, ev_net_app, ev_http_req, ev_http_resp, ev_http_note, ev_dns_req, ev_dns_resp;
    uint32_t protocols;                 /* those of which something is wanted: a bit for each of traffic/protocols.h */
    bool spans;                         /* somebody takes them */
    bool exchanges;                     /* somebody wants to know all of struct tm_exchange */
    struct notices *notices;            /* of notices.c; NULL: they are off */
    bool payloads;                      /* of all connections, or of some protocol */
    struct detect_rules *detect;
    struct header_rule *headers;        /* of traffic/http.c; NULL: none */
    struct runtime_api *runtime;        /* of traffic/runtime_api.c; NULL: nobody wants to know */
    struct payload_target *payload_to;  /* of traffic/payloads.c; NULL: not known yet */
};

/* All of a session, and who prepares (and drops again) what each needs beyond telemetry. */
struct pipelines {
    struct event_base *base;
    struct pipeline *first;
    void *ctx;
    void (*prepare)(void *ctx, struct pipeline *pl);   /* telemetry is ready, mode isn't known yet */
    void (*unprepare)(void *ctx, struct pipeline *pl); /* telemetry has ended, and is gone or handed out */
    void (*moved)(void *ctx, struct pipeline *pl);     /* its files are elsewhere from now on */
    void (*retire)(void *ctx, struct pipeline *pl);    /* no process has it any more */
};

/* The one for a process that is to be observed as these sources say. */
struct pipeline *pipeline_for(struct pipelines *all, const struct config_sources *config, const struct cfg_process *who);
/* What goes into files below one directory goes below another one from now on: each gets other telemetry. The old one of
 * each is handed out, ended (telemetry_end()), and the caller's. Its processes must have ended there before. */
void pipelines_move(struct pipelines *all, const char *from, const char *to,
                    void (*old)(void *ctx, struct telemetry *), void *ctx);
/* These sources are no more, or say something else: `now` (NULL: none) says what they said. */
void pipelines_rename(struct pipelines *all, const struct config_sources *was, const struct config_sources *now);
/* A pipeline that no process has any more is freed: its telemetry is handed out likewise. */
void pipeline_retire(struct pipelines *all, struct pipeline *pl, void (*old)(void *ctx, struct telemetry *), void *ctx);
void pipelines_free(struct pipelines *all);

#endif
