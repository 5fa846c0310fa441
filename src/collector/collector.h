/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector: one process per session. Accepts processes on the session's
 * socket, drains their rings, keeps the model of processes, descriptors and
 * connections, and feeds telemetry. Ends when every observed process has ended.
 */
#ifndef SCOPE_COLLECTOR_COLLECTOR_H
#define SCOPE_COLLECTOR_COLLECTOR_H

#include "collector/options.h"

/* Runs until done. Returns the exit status of the collector process. */
int collector_run(const struct collector_options *);

#endif
