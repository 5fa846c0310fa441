/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions of the event watches (PCRE2, unanchored), and remembered answers for names that recur. */
#ifndef SCOPE_TELEMETRY_FILTER_H
#define SCOPE_TELEMETRY_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct filter;

/* A pattern that doesn't compile is reported in the log and replaced by `fallback`. */
struct filter *filter_new(const char *pattern, const char *fallback);
void filter_free(struct filter *f);
/* True for patterns such as ".*" that match any text; those cost nothing. */
bool filter_matches_all(const struct filter *f);
bool filter_match(const struct filter *f, const char *text, size_t len);
/* The same with a small cache: for event names, field names and paths. */
bool filter_match_name(struct filter *f, const char *text, size_t len);

#endif
