/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to src/rules: programs that only a rule with their name is for. What a rule without a name ("all programs",
 * or all with some text in their command line) means is what people run on a host; not what the host itself needs to
 * start, stop and log in, nor what starts containers, nor the desktop. docs/host.md has the list.
 */
#ifndef SCOPE_RULES_SPARE_H
#define SCOPE_RULES_SPARE_H

#include <stddef.h>

/* Names of programs; a '*' at the end stands for any further text. NULL-terminated. */
extern const char *const rules_spare[];
size_t rules_spare_count(void);

#endif
