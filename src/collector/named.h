/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rules of a whole host (wire/rules.h) say of a program that a tracer holds at the end of its exec: its new
 * memory is the kernel's work, so all of it can be asked and believed.
 */
#ifndef SCOPE_COLLECTOR_NAMED_H
#define SCOPE_COLLECTOR_NAMED_H

#include "inject/load.h"

/* Fills in the collector's socket, plans and mode as the compiled rules (HOST_RULES_MAPPED) say; the texts stay as long
 * as the process. 0; -ENOENT: no rule names it, or there are none that can be used. */
int named_by_rules(const struct trace *t, struct load_told *ret);

#endif
