/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whom telemetry is about: Resource and InstrumentationScope of OTLP
 * (opentelemetry/proto/resource/v1/resource.proto, common/v1/common.proto).
 * Names: docs/otlp.md, "Resource".
 */
#ifndef SCOPE_OTLP_RESOURCE_H
#define SCOPE_OTLP_RESOURCE_H

#include "base/buf.h"
#include "config/config.h"
#include "event/event.h"

/* Semantic conventions that the names of all signals follow. Since this version the names of rpc.* are stable; the status of
 * a call is rpc.status_code (rpc.response.status_code before). */
#define OTLP_SCHEMA_URL "https://opentelemetry.io/schemas/1.45.0"

/* What the resources of all processes have in common. */
struct otlp_common;
/* Copies what it needs. Never fails. */
struct otlp_common *otlp_common_new(const struct config *cfg);
void otlp_common_free(struct otlp_common *);

/* Appends what ResourceSpans, ResourceMetrics and ResourceLogs say of a process: `resource` (field 1) and `schema_url`
 * (field 3). An attribute's key comes once: what the configuration says (otlp.service_name, otlp.resource, tags) goes
 * before the process's environment (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES), that before what is observed. Takes a few
 * microseconds: its user keeps the result until the process executes something else. */
void otlp_resource(const struct otlp_common *, const struct tm_process *who, struct buf *b);
/* Appends what ScopeSpans, ScopeMetrics and ScopeLogs begin with: `scope` (field 1) and `schema_url` (field 3). */
void otlp_scope(struct buf *b);

#endif
