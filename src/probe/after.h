/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done after a call, by the shape of its arguments: what it has opened,
 * moved, sent or closed is entered and counted, and its record is written.
 */
#ifndef SCOPE_PROBE_AFTER_H
#define SCOPE_PROBE_AFTER_H

#include "call.h"

/* A connection was begun without waiting for it: some may be without an outcome when the process ends. */
extern uint8_t pending_seen;

/* The larger part of the exit hook: everything that isn't a plain read or write of a known descriptor. */
void call_end(struct call *c);

#endif
