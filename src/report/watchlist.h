/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of peers that notices are told about (docs/notices.md), made once for a
 * configuration and asked for each event; those of files are config/path_set.h's.
 * Single-threaded.
 */
#ifndef SCOPE_REPORT_WATCHLIST_H
#define SCOPE_REPORT_WATCHLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/file.h"

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
