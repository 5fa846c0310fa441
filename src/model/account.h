/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes and operations. Each is counted exactly once: either in the counters
 * that the observed process keeps for each of its descriptors, of which
 * differences are taken here, or by a record without REC_F_COUNTED.
 */
#ifndef SCOPE_MODEL_ACCOUNT_H
#define SCOPE_MODEL_ACCOUNT_H

#include "model/process.h"

/* Something was transferred through a descriptor: the descriptor's and the connection's totals. */
void account_desc(struct desc *d, const struct io_count *n);
/* The period's metrics. */
void account_sums(struct proc *p, const struct desc *d, const struct io_count *n);
/* Takes the difference of cumulative counters since they were last looked at; their times are ticks of a clock of this
 * kind (enum seg_clock). known: of what the descriptor is now, or can be looked up in /proc; else it counts for the
 * process only. */
void account_counters(struct proc *p, int fd, struct desc *d, const struct io_count *cumulative, uint32_t kind, bool known);
/* s may be NULL. */
enum net_class net_class_of(const struct sock *s);

#endif
