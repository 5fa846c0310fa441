/* SPDX-License-Identifier: Apache-2.0 */
/* Log records: opentelemetry/proto/logs/v1/logs.proto. Names of attributes: docs/otlp.md, "Logs". */
#ifndef SCOPE_OTLP_LOGS_H
#define SCOPE_OTLP_LOGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "config/config.h"
#include "event/event.h"

/* Whether an event is among the sources that are told as logs (cfg->log_events, log_crashes). Notices about losses count as
 * CFG_EW_NOTICE. */
bool otlp_log_wanted(const struct cfg_otlp *cfg, const struct ev_record *r);

/* Appends a LogRecord for an EV_EVENT or EV_NOTICE as an item of a batch. observed_ns: now. Allocates nothing but room in b. */
void otlp_log(struct buf *b, const struct ev_record *r, uint64_t observed_ns);

#endif
