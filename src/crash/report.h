/* SPDX-License-Identifier: Apache-2.0 */
/* What was found, as files: for people and for programs (docs/crashes.md). */
#ifndef SCOPE_CRASH_REPORT_H
#define SCOPE_CRASH_REPORT_H

#include "base/buf.h"
#include "crash/look.h"
#include "crash/results.h"

struct report {
    const struct look *look;
    const struct results *results; /* NULL: nothing was unwound */
    const struct crash_wishes *wishes;
    const struct crash_summary *summary; /* where, stopped_ns, goroutine, core_*, why */
    uint64_t time_ns;                    /* CLOCK_REALTIME */
};

void report_text(const struct report *r, struct buf *to);
void report_json(const struct report *r, struct buf *to);
/* Fills in threads, frames_total, top, top_count, where. */
void report_summary(const struct look *l, const struct results *results, struct crash_summary *ret);

#endif
