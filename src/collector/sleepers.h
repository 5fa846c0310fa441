/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings that have been empty for a while, where there are many: they aren't looked at until their writers wake us. Of
 * thousands of processes most are idle, and whoever is busy must not have us look at all of them. They are out of the
 * list collector.segments, in groups of as many as one thread can wait for (doze.h). Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_SLEEPERS_H
#define SCOPE_COLLECTOR_SLEEPERS_H

#include <stdbool.h>

struct collector;
struct event_base;
struct segment;
struct sleepers;

#define SLEEPERS_FROM 64u /* segments: with fewer, looking at all of them is cheap */

/* woken: a ring has something, or a process something to ask. NULL if nobody can be waited for here. */
struct sleepers *sleepers_new(struct collector *c, struct event_base *base, void (*woken)(void *ctx), void *ctx);
/* Wakes all. */
void sleepers_free(struct sleepers *s);
/* Takes those to sleep that may. */
void sleepers_look(struct sleepers *s);
/* It is to be looked at again, for whatever reason. Nothing happens if it is awake. */
void sleepers_rouse(struct segment *seg);
/* Those whose writers have something by now, whether they have said so yet or not. */
void sleepers_rouse_written(struct sleepers *s);

#endif
