/* SPDX-License-Identifier: Apache-2.0 */
/* scope report --html: a session read, summed up, and written as one file (src/page). */
#ifndef SCOPE_CLI_REPORT_PAGE_H
#define SCOPE_CLI_REPORT_PAGE_H

struct session;

/*
 * Writes the page of a session to a file ("-": stdout). The file is made, or replaced in one step, with mode 0600: who
 * has the old one open keeps it, and on errors it is untouched. Anything else than a regular file is refused, and so is
 * what the session itself is read from. A session whose program has ended
 * is waited for, a second at most, and loaded again. Returns an exit status, after a message if it isn't 0.
 */
int report_page(struct session *s, const char *file);

#endif
