/* SPDX-License-Identifier: Apache-2.0 */
/* Crashes of sessions that are being recorded, of which not everything is known yet: JOIN_CRASHES (wire/join.h). */
#ifndef SCOPE_CLI_PENDING_H
#define SCOPE_CLI_PENDING_H

#include <stdint.h>

struct json_t;
struct session;

/* An array of objects as crashes_describe() (collector/crashes.h) makes them; a reference for the caller. Empty if
 * there are none, or nobody knows. */
struct json_t *pending_crashes(const struct session *s);

/* Waits until the crashes that are pending now are told, and complete on disk: those of a process, by either of its
 * numbers, or all (0). Who waits for more than a moment is told why. Then has the session written out and loaded again,
 * as cli_refresh(). 0, or -ETIMEDOUT after a message: one is pending still. */
int pending_wait(struct session *s, uint32_t pid);

#endif
