/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of files as the configuration has them (docs/notices.md, "Lists"), made once and asked for each name: what a
 * question costs does not grow with the entries but for those with wildcards, and nothing is allocated. Single-threaded.
 */
#ifndef SCOPE_CONFIG_PATH_SET_H
#define SCOPE_CONFIG_PATH_SET_H

#include <stddef.h>
#include <stdint.h>

#define PATH_LISTS 4 /* lists of one set, whose entries are looked for together */

struct path_set;

/* Never fails. */
struct path_set *path_set_new(void);
void path_set_free(struct path_set *);
/* An entry of a list (0..PATH_LISTS - 1) as docs/config.md has them; rule: what is found by it, 0 or more. home: what ~
 * stands for besides /root and /home/..., absolute; NULL: nothing. Of entries that fit the last added one counts. */
void path_set_add(struct path_set *, unsigned list, const char *entry, int32_t rule, const char *home);
/* For each list the rule by which a name is on it, -1: it isn't. Valid until the next call. */
const int32_t *path_set_find(struct path_set *, const char *path, size_t len);
/* How many components of names have been compared with wildcards so far. */
uint64_t path_set_steps(const struct path_set *);

#endif
