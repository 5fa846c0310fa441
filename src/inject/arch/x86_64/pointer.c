/* SPDX-License-Identifier: Apache-2.0 */
/* Whether programs can read their thread pointer with an instruction. */
#include <signal.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <ucontext.h>

#include "inject/regs.h"

#define HWCAP2_FSGSBASE 2 /* <asm/hwcap2.h> */

static void skip_rdfsbase(int sig, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

    (void)sig;
    (void)info;
    regs[REG_RIP] += 5; /* f3 48 0f ae c0 */
    regs[REG_RAX] = 0;
}

/* A thread pointer is never 0 here. */
static int rdfsbase_works(void)
{
    struct sigaction act = {.sa_sigaction = skip_rdfsbase, .sa_flags = SA_SIGINFO | SA_RESETHAND}, old;
    uint64_t base = 0;

    if (sigaction(SIGILL, &act, &old) < 0)
        return 0;
    __asm__ volatile("rdfsbase %%rax" : "=a"(base));
    sigaction(SIGILL, &old, NULL);
    return base != 0;
}

/* The kernel tells where it has switched the instruction on. Where a virtual machine's kernel runs in user mode itself
 * (PVM), it is the host's that has, and ours knows nothing of it. */
int arch_probe_runs_early(void)
{
    static int works = -1;

    if (works < 0)
        works = (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) != 0 || rdfsbase_works();
    return works;
}
