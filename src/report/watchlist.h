/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of files and of peers that notices are told about (docs/notices.md), made
 * once for a configuration and asked for each event: what a question costs does
 * not grow with the entries but for those with wildcards, and nothing is
 * allocated. Single-threaded.
 */
#ifndef SCOPE_REPORT_WATCHLIST_H
#define SCOPE_REPORT_WATCHLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/file.h"

/* --- files --- */

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

/* --- peers --- */

struct peer_list;

struct peer_list *peer_list_new(void);
void peer_list_free(struct peer_list *);
/* An entry as cfg_peer_parse() takes it; others are ignored. */
void peer_list_add(struct peer_list *, const char *entry, int32_t rule);
bool peer_list_empty(const struct peer_list *);
bool peer_list_has_names(const struct peer_list *);
/* The rule of the smallest network that an address is in, -1: in none. */
int32_t peer_list_find(const struct peer_list *, const union address *a);
/* The rule of an entry that is a name, or the nearest one above it; -1: there is none. Case doesn't matter, nor a dot
 * at the end. */
int32_t peer_list_find_name(const struct peer_list *, const char *name, size_t len);

/* Which address belongs to which name of the lists, as DNS answers have told the processes of a user: the latest
 * ADDRESS_NAMES of them. Answers can be forged by who gets them: what one user's processes were told says nothing of
 * another's connections, nor does it push out much of it. */
#define ADDRESS_NAMES 4096u
struct address_names;
struct address_names *address_names_new(void);
void address_names_free(struct address_names *);
/* text: an address; others are ignored. */
void address_names_add(struct address_names *, uint32_t uid, const char *text, size_t len, const char *name,
                       size_t name_len);
/* NULL: not known. */
const char *address_names_find(const struct address_names *, uint32_t uid, const union address *a);

#endif
