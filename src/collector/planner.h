/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers PLAN requests (wire/join.h). Planning a large program takes seconds
 * and parses a file that anybody may have made, so that it runs in a worker
 * process; the event loop goes on meanwhile. Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_PLANNER_H
#define SCOPE_COLLECTOR_PLANNER_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/plan_format.h"

struct planner;

struct planner *planner_new(const char *plan_dir);
/* Ends running workers. */
void planner_free(struct planner *pl);
/* Both descriptors are taken: sock, on which the answer is sent (then it is closed), and the image; -1: the program of
 * the asker itself, which has no /proc to open it by. from: the asker; what is planned for it is bounded unless it is
 * trusted, is read with its rights and not put into the cache. */
struct peer;
void planner_request(struct planner *pl, int sock, int image_fd, const struct peer *from, bool trusted,
                     const char key[PLAN_KEY_MAX]);
/* Call now and then: ends what is done for guests that are gone; what others have asked for goes into the cache. */
void planner_sweep(struct planner *pl);
/* Call on SIGCHLD. */
void planner_reap(struct planner *pl);
bool planner_busy(const struct planner *pl);

/* Sends a join_reply, with a descriptor if fd >= 0 (stays the caller's). 0 or -errno, logged. */
int planner_reply(int sock, int32_t status, int fd);

#endif
