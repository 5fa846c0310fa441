/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the page have in common. */
#ifndef SCOPE_PAGE_PARTS_H
#define SCOPE_PAGE_PARTS_H

#include "page/html.h"
#include "page/page.h"

/*
 * Where in the page no more rows are begun, of tables and of charts' data: with scripts and d3 behind them it has less
 * than 2 MB. (A row is some 100 bytes; in the worst case, of nothing but texts that have to be escaped, 20 kB.)
 */
#define PAGE_TABLES_END 1100000u
#define PAGE_DATA_END 1600000u

/* Sections with their tables. */
void page_http(struct html *h, const struct page *p);
void page_services(struct html *h, const struct page *p);
void page_dns(struct html *h, const struct page *p);
void page_files(struct html *h, const struct page *p);
void page_processes(struct html *h, const struct page *p);
void page_errors(struct html *h, const struct page *p);
void page_flows(struct html *h, const struct page *p);
void page_notes(struct html *h, const struct page *p);
bool page_has_notes(const struct page *p); /* whether there is the section of notices and crashes */

bool page_touched_any(const struct page *p); /* whether that section has anything to tell */
void page_touched(struct html *h, const struct page *p);

/* The beginning of a section, up to its tables; </section> ends it. */
void page_section(struct html *h, const char *id, const char *title, const char *lead);
/* A cell with a time: seconds since the session's beginning; 0: not known. */
void page_cell_time(struct html *h, const struct page *p, uint64_t ns);
/* What isn't in a table: nothing if it has all. unknown: how many more rows there would have been that had no room in
 * memory. */
void page_cut_note(struct html *h, size_t shown, size_t count, const char *what, const char *order, uint64_t unknown);

/* "exit 1", "SIGSEGV"; NULL: it hasn't ended, or that isn't known. */
struct ov_process;
const char *page_end_of(char text[64], const struct ov_process *p);

/* A JSON object: what the charts show. */
void page_data(struct html *h, const struct page *p);

#endif
