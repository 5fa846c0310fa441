/* SPDX-License-Identifier: Apache-2.0 */
/* What was read from the rings is looked at, in order. */
#ifndef SCOPE_COLLECTOR_WORK_H
#define SCOPE_COLLECTOR_WORK_H

#include <stdbool.h>
#include <stdint.h>

struct collector;

/* How long one waits for the wait status of a process that died without a word. */
#define STATUS_WAIT_NS UINT64_C(500000000)

/* Works through the backlog until it is empty or the deadline (CLOCK_MONOTONIC ns) has passed. True if empty. */
bool core_process(struct collector *c, uint64_t deadline);

#endif
