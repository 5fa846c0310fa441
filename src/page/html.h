/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text that came from elsewhere, put into a page: nothing of it is markup, moves or hides what stands beside it, or is
 * longer than it may be. What a browser wouldn't show is made visible (buf_visible()). Not thread-safe.
 */
#ifndef SCOPE_PAGE_HTML_H
#define SCOPE_PAGE_HTML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define HTML_CUT 240 /* bytes of a text that are shown; the middle of a longer one is left out */

struct html {
    struct buf out;
    struct buf text; /* private: the one that is being put there */
};

void html_free(struct html *h);
/* As it is: our own. */
void html_raw(struct html *h, const char *markup);
void html_printf(struct html *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Escaped (HTML Living Standard, 13.3), for elements and for attributes in quotes. NULL: a dash. */
void html_text(struct html *h, const char *text);
/* The same of at most so many bytes, cut at the end. */
void html_text_cut(struct html *h, const char *text, size_t most);
/* A string in JSON that stands in a script element: `<`, `>` and `&` are escaped, too. NULL: null. */
void html_json(struct html *h, const char *text, size_t most);

/* --- numbers as people read them, always with one form --- */

void html_count(struct html *h, uint64_t n);           /* 12,345 */
const char *html_bytes(char text[32], uint64_t n);     /* 12.3 MB, of 1000 */
const char *html_duration(char text[32], uint64_t ns); /* 12.3 ms */

/* --- tables --- */

struct html_column {
    const char *title;
    char kind; /* 'n': number, 't': text, 'm': text of a machine */
};

/* A table that a script makes sortable. Its caption is ours; filter: it gets a field for words to look for. */
void html_table(struct html *h, const char *id, const char *caption, const struct html_column *columns, size_t count,
                bool filter);
void html_table_end(struct html *h);
void html_cell(struct html *h, char kind, const char *text);           /* of others */
void html_cell_number(struct html *h, double value, const char *text); /* text is ours; it is sorted by value */
void html_cell_count(struct html *h, uint64_t n);
void html_cell_bytes(struct html *h, uint64_t n);
void html_cell_duration(struct html *h, bool known, uint64_t ns);

#endif
