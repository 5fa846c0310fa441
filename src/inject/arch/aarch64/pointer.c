/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/regs.h"

/* The thread pointer is a register that programs read and write with instructions (TPIDR_EL0). */
int arch_probe_runs_early(void)
{
    return 1;
}
