/* SPDX-License-Identifier: Apache-2.0 */
/* Names and words for why TLS could not be read (event/unread.h). Constants, for any thread. */
#ifndef SCOPE_TRAFFIC_UNREAD_H
#define SCOPE_TRAFFIC_UNREAD_H

#include "event/unread.h"

/* A word for programs to go by (scope history -j, index.ndjson); NULL: UNREAD_NONE, or no reason. A constant. */
const char *unread_name(enum unread_reason why);
/* For people: what follows "can't be read:", with the remedy if there is one. A constant. */
const char *unread_text(enum unread_reason why);
/* The reason of that name; UNREAD_NONE: there is none. NULL is fine. */
enum unread_reason unread_find(const char *name);

#endif
