/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the overview (overview.h) have in common. */
#ifndef SCOPE_SUMMARY_OVERVIEW_PARTS_H
#define SCOPE_SUMMARY_OVERVIEW_PARTS_H

#include "summary/overview.h"

/* The overview's own copy of a text, the same for equal ones, so that pointers can be compared. NULL gives NULL; a
 * constant text once there are too many. */
const char *ov_text(struct overview *o, const char *text);
const char *ov_text_part(struct overview *o, const char *text, size_t len);

/* Index of the process that an event is of, made if it isn't there; -1: there is no room. */
int ov_process_of(struct overview *o, const struct sum_event *e);
void ov_process_init(struct overview *o);
void ov_process_event(struct overview *o, const struct sum_event *e);

/* Takes note of what a process (its index, or -1) did at a time. */
void ov_mark(struct overview *o, int process, uint64_t time_ns, enum ov_doing doing, uint64_t bytes);
/* One more note of a kind: those of one key are one row. NULL: there is no room. */
struct ov_note *ov_note(struct overview *o, const char *key, size_t key_len, const char *kind,
                        const struct sum_event *e);

void ov_net_event(struct overview *o, const struct sum_event *e);
void ov_http_event(struct overview *o, const struct sum_event *e);
/* Of a DNS answer: what an address is called. */
void ov_name(struct overview *o, const char *address, const char *name);
void ov_net_finish(struct overview *o);
void ov_net_init(struct overview *o);
void ov_net_clear(struct overview *o);

#endif
