/* SPDX-License-Identifier: Apache-2.0 */
/* Log records: opentelemetry/proto/logs/v1/logs.proto. Names of attributes: docs/otlp.md, "Logs". */
#ifndef SCOPE_OTLP_LOGS_H
#define SCOPE_OTLP_LOGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "config/config.h"
#include "event/event.h"

/* Which of the sources it comes from. Notices about losses count as CFG_EW_NOTICE. */
static inline enum cfg_event_watch otlp_log_watch(const struct ev_record *r)
{
    const char *s = r->sourcetype;

    if (r->kind == EV_NOTICE)
        return CFG_EW_NOTICE;
    switch (s[0]) { /* a closed list: docs/data-model.md, 1.1 */
    case 'f': return s[1] == 'i' ? CFG_EW_FILE : CFG_EW_FS;
    case 'n': return s[1] == 'e' ? CFG_EW_NET : CFG_EW_NOTICE;
    case 'c': return CFG_EW_CONSOLE;
    case 'm': return CFG_EW_METRIC;
    case 'h': return CFG_EW_HTTP;
    case 'd': return CFG_EW_DNS;
    case 'p': return CFG_EW_PROCESS;
    default: return CFG_EW_SYSCALL;
    }
}

/* An event about a crash. */
bool otlp_log_is_crash(const struct ev_record *r);
/* Whether an event is among the sources that are told as logs (cfg->log_events, log_crashes). Inlined: each event is asked
 * for. */
static inline bool otlp_log_wanted(const struct cfg_otlp *cfg, const struct ev_record *r)
{
    enum cfg_event_watch watch;

    if (r->kind == EV_METRIC)
        return false;
    watch = otlp_log_watch(r);
    return cfg->log_events[watch] || (watch == CFG_EW_PROCESS && cfg->log_crashes && otlp_log_is_crash(r));
}

/* Appends a LogRecord for an EV_EVENT or EV_NOTICE as an item of a batch. observed_ns: now. Allocates nothing but room in b. */
void otlp_log(struct buf *b, const struct ev_record *r, uint64_t observed_ns);

#endif
