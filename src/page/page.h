/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session as one file of HTML that asks for nothing from anywhere: styles, scripts, data and d3 (with its licence)
 * are inside, and a Content-Security-Policy (CSP level 2) lets nothing else run. Tables and sentences are there without
 * scripts; charts are drawn by them. What the sections mean: docs/report.md. Not thread-safe.
 */
#ifndef SCOPE_PAGE_PAGE_H
#define SCOPE_PAGE_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct overview;
struct session;
struct touched;

struct page {
    const struct session *session;
    const struct overview *overview; /* finished */
    bool running;                    /* the program still runs */
    bool open;                       /* the session is still being recorded: of others, if not of the program */
    uint64_t now_ns;                 /* CLOCK_REALTIME: as of when this is */
    const struct touched *touched;   /* that has ended; NULL: that section is left out */
};

/* Appends the page. */
void page_write(struct buf *out, const struct page *p);

#endif
