/* SPDX-License-Identifier: Apache-2.0 */
/* Decides for each syscall instruction of an image whether and how it is hooked, and writes the plan for it. */
#ifndef SCOPE_PLAN_X86_SITES_H
#define SCOPE_PLAN_X86_SITES_H

#include "plan/elf.h"
#include "plan/emit.h"

/* 0; -ENOMEM; -EFBIG if there are more syscalls than any program has. */
int x86_plan_sites(const struct elf_image *elf, struct emit *e);

#endif
