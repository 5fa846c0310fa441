/* SPDX-License-Identifier: Apache-2.0 */
/* Which architectures this planner knows. PLAN_MACHINES is MACHINE(NAME) for each, by the build. */
#include "plan/machine.h"

#define MACHINE(name) const struct plan_machine *plan_machine_##name(void);
PLAN_MACHINES
#undef MACHINE

const struct plan_machine *plan_machine(uint16_t elf)
{
    const struct plan_machine *m;

#define MACHINE(name)                \
    m = plan_machine_##name();       \
    if (m->elf == elf)               \
        return m;
    PLAN_MACHINES
#undef MACHINE
    return NULL;
}

const struct plan_machine *plan_machine_of_arch(unsigned arch)
{
    const struct plan_machine *m;

#define MACHINE(name)                \
    m = plan_machine_##name();       \
    if (m->arch == arch)             \
        return m;
    PLAN_MACHINES
#undef MACHINE
    return NULL;
}
