/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lays a model out on a grid of any size. No terminal, no clock: what is shown follows from model, view and size, so
 * that tests can compare it.
 */
#ifndef SCOPE_DASH_VIEW_H
#define SCOPE_DASH_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "dash/grid.h"
#include "dash/model.h"

#define VIEW_MIN_WIDTH 80
#define VIEW_MIN_HEIGHT 24

enum view_panel {
    PANEL_NONE, /* all of them */
    PANEL_PROCESSES,
    PANEL_NETWORK,
    PANEL_CONNECTIONS,
    PANEL_HTTP,
    PANEL_DNS,
    PANEL_FILES,
    PANEL_CONSOLE,
    PANEL_EVENTS,
    PANEL_COUNT,
};

struct view {
    enum view_panel zoom;
    enum dash_order order;
    size_t scroll;   /* rows of the zoomed panel that are above it; view_draw() keeps it within what there is */
    size_t selected; /* the process, a row of the list; kept likewise */
    bool help;
    const char *what;  /* what is observed: "session 12: nginx" */
    const char *state; /* "LIVE", "PAUSED", "ENDED", "x4", "READING" */
    bool live;
    const char *losses; /* "" if there are none */
    const char *note;   /* about what is shown, such as sessions that can't be read; "" for none */
    const char *filter; /* that is in force, or "" */
    const char *typing; /* a filter that is being typed; NULL: none is */
};

void view_draw(struct view *v, const struct model *m, struct grid *g);
/* The process that is selected in the list of processes, which has to be zoomed or in sight; 0: there is none. */
uint32_t view_selected_pid(const struct view *v, const struct model *m);

#endif
