/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks of the functions of wire/functions.def. */
#ifndef SCOPE_PLAN_A64_FUNCTIONS_H
#define SCOPE_PLAN_A64_FUNCTIONS_H

#include "plan/arch/aarch64/text.h"
#include "plan/emit.h"
#include "plan/functions.h"

void a64_plan_functions(const struct text *c, const struct functions *functions, struct emit *e);

#endif
