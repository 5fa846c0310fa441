/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the planner asks of an architecture. Each has its own below arch/; which ones are there is decided when the
 * planner is built (machines.c): in scope that of the machine, in the developers' plan-explain and the tests all whose
 * kernel headers are at hand. Pure: nothing here depends on the machine that it runs on.
 */
#ifndef SCOPE_PLAN_MACHINE_H
#define SCOPE_PLAN_MACHINE_H

#include "plan/elf.h"
#include "plan/emit.h"
#include "plan/functions.h"

struct plan_machine {
    uint16_t elf;         /* e_machine of its images */
    enum plan_arch arch;
    uint64_t (*table_hash)(void); /* syscall_table_hash() with its numbers */
    enum op_id (*op)(int64_t nr); /* op_of_nr() with its numbers */
    /* Bytes of the instruction that makes a system call, wherever they lie: a file without them makes none. */
    uint8_t call[4];
    size_t call_size;
    /* Adds where AES keys are set up, as the instructions tell; NULL: not yet known on this architecture. */
    void (*keys)(const struct elf_image *elf, struct functions *ret);
    /* Decides for each such instruction and each function of an image whether and how it is hooked, and writes sites,
     * slots, fixups and patches. 0; -ENOMEM; -EFBIG if there are more calls than any program has. */
    int (*sites)(const struct elf_image *elf, const struct functions *functions, struct emit *e);
};

/* Of an image's e_machine; NULL: this planner doesn't know it. */
const struct plan_machine *plan_machine(uint16_t elf);
/* Of a plan; likewise. */
const struct plan_machine *plan_machine_of_arch(unsigned arch /* enum plan_arch */);

#endif
