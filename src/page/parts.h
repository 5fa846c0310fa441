/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the page have in common. */
#ifndef SCOPE_PAGE_PARTS_H
#define SCOPE_PAGE_PARTS_H

#include "page/html.h"
#include "page/page.h"

/* Sections with their tables. */
void page_http(struct html *h, const struct page *p);
void page_services(struct html *h, const struct page *p);
void page_dns(struct html *h, const struct page *p);
void page_files(struct html *h, const struct page *p);
void page_processes(struct html *h, const struct page *p);
void page_errors(struct html *h, const struct page *p);
void page_flows(struct html *h, const struct page *p);
void page_notes(struct html *h, const struct page *p);

/* "status 1", "SIGSEGV"; NULL: it hasn't ended, or that isn't known. */
struct ov_process;
const char *page_end_of(char text[64], const struct ov_process *p);

/* A JSON object: what the charts show. */
void page_data(struct html *h, const struct page *p);

#endif
