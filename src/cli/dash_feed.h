/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions as they are recorded, or were, into the model of the dashboard: up to a point in time. */
#ifndef SCOPE_CLI_DASH_FEED_H
#define SCOPE_CLI_DASH_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "session/session.h"

struct model;
struct feed;

/* One session, which is taken; NULL: all that are being recorded, in every store that may be read, and those that come.
 */
struct feed *feed_new(struct session *s);
void feed_free(struct feed *f);
/* How many sessions there are, and how many couldn't be read; *ret_why: an error of the last one of these. */
size_t feed_sessions(const struct feed *f);
size_t feed_unreadable(const struct feed *f, int *ret_why);
/* Whether one of them is still being recorded, as of the last feed_look(). */
bool feed_running(const struct feed *f);
/* Looks what has come, what has ended and what was lost. Cheap enough for each second. */
void feed_look(struct feed *f);
/* From when to when there are records. */
void feed_span(const struct feed *f, uint64_t *ret_from_ns, uint64_t *ret_to_ns);
/* The model is what it was at that time, once feed_take() has caught up. */
void feed_seek(struct feed *f, struct model *m, uint64_t to_ns);
/* Takes records until to_ns, for about budget_ms at most. to_ns 0: all that there are. True: it has caught up. */
bool feed_take(struct feed *f, struct model *m, uint64_t to_ns, unsigned budget_ms);
/* "record 12, data 5": what was lost in all of them; nothing if nothing was. */
void feed_losses(const struct feed *f, struct buf *ret);
/* What can't be shown: sessions that can't be read, damaged blocks. */
void feed_note(const struct feed *f, struct buf *ret);

#endif
