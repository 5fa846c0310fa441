/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changes of the model cause elsewhere: reports, streams, and words to the
 * observed processes (model_watch in model/model.h). The order in which several
 * act is decided here.
 */
#ifndef SCOPE_COLLECTOR_WATCH_H
#define SCOPE_COLLECTOR_WATCH_H

#include "model/model.h"

extern const struct model_watch watch_model;

/* Telemetry begins or ends to be made of some configuration: report/pipeline.h. */
struct pipeline;
void watch_prepare(void *collector, struct pipeline *pl);
void watch_unprepare(void *collector, struct pipeline *pl);
void watch_moved(void *collector, struct pipeline *pl);
void watch_retire(void *collector, struct pipeline *pl);

#endif
