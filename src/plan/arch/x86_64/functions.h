/* SPDX-License-Identifier: Apache-2.0 */
/* Decides for each function that was found whether it is hooked, and writes the plan for it. */
#ifndef SCOPE_PLAN_X86_FUNCTIONS_H
#define SCOPE_PLAN_X86_FUNCTIONS_H

#include "plan/arch/x86_64/code.h"
#include "plan/emit.h"
#include "plan/functions.h"

/* Comes after the syscall sites: what is needed only where traffic is captured must not take their places. */
void x86_plan_functions(const struct code *c, const struct functions *functions, struct emit *e);

/* The same for Go's, which its function table has told (c->go): hooked at the entry and at each return, or not at all. */
void x86_plan_go_functions(const struct code *c, struct emit *e);

#endif
