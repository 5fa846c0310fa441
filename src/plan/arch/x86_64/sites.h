/* SPDX-License-Identifier: Apache-2.0 */
/* Decides for each syscall instruction and each function of an image whether and how it is hooked, and writes the plan. */
#ifndef SCOPE_PLAN_X86_SITES_H
#define SCOPE_PLAN_X86_SITES_H

#include "plan/elf.h"
#include "plan/emit.h"
#include "plan/functions.h"

/* 0; -ENOMEM; -EFBIG if there are more syscalls than any program has. */
int x86_plan_sites(const struct elf_image *elf, const struct functions *functions, struct emit *e);

#endif
