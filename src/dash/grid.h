/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rectangle of cells, as a terminal has them. Text is cleaned here (buf_visible()): nothing that stands in a cell
 * acts on a terminal or on its neighbours. Widths are those of wcwidth(3), so LC_CTYPE has to be set.
 */
#ifndef SCOPE_DASH_GRID_H
#define SCOPE_DASH_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <wchar.h>

enum grid_style { STYLE_PLAIN, STYLE_TITLE, STYLE_DIM, STYLE_GOOD, STYLE_BAD, STYLE_BAR, STYLE_SELECTED, STYLE_COUNT };

#define GRID_MARKS 2 /* combining characters kept for each cell; further ones are left out */

struct grid_cell {
    wchar_t ch[1 + GRID_MARKS + 1]; /* NUL-terminated; empty: the right half of a wide character */
    unsigned char style;
};

struct grid {
    unsigned width, height;
    bool utf8; /* else only ASCII is put */
    struct grid_cell *cells;
};

/* All blank. */
void grid_resize(struct grid *g, unsigned width, unsigned height);
void grid_free(struct grid *g);
/* Puts text into columns x to x + width - 1 of a row, cut where it doesn't fit; returns the column behind it. Outside
 * of the grid nothing is put. */
unsigned grid_put(struct grid *g, unsigned y, unsigned x, unsigned width, enum grid_style style, const char *text,
                  size_t len);
unsigned grid_putf(struct grid *g, unsigned y, unsigned x, unsigned width, enum grid_style style, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
/* One character of width 1, as it is. */
void grid_char(struct grid *g, unsigned y, unsigned x, enum grid_style style, wchar_t ch);
/* The style of a stretch of a row. */
void grid_paint(struct grid *g, unsigned y, unsigned x, unsigned width, enum grid_style style);
/* A row as text, for tests: malloc'ed multibyte text without blanks at its end. */
char *grid_row(const struct grid *g, unsigned y);

#endif
