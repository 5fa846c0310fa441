/* SPDX-License-Identifier: Apache-2.0 */
/* Registers of arm64 Linux: inject/regs.h. */
#ifndef SCOPE_INJECT_ARCH_REGS_H
#define SCOPE_INJECT_ARCH_REGS_H

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/user.h>
#include <unistd.h>

#define ARCH_RED_ZONE 0u /* AAPCS64, 6.4.5 */
#define ARCH_RELATIVE R_AARCH64_RELATIVE
#define ARCH_SYSCALL_SIZE 4u
#define ARCH_WAITS_BEHIND 0u    /* do_signal() of arch/arm64/kernel/signal.c steps back before it stops for a tracer */
#define ARCH_LOSES_ARGUMENT 1   /* the result comes in x0 */
#define ARCH_MARKS_CALL_STOPS 1 /* x7: report_syscall() of arch/arm64/kernel/ptrace.c */
#define ARCH_GADGET_SIZE 12
#define ARCH_GADGET_CALL 0
#define ARCH_GADGET_RETURN 4
#define ARCH_FRAME_MAX 16384u                     /* 13,568 with SVE registers of 2048 bits */
#define ARCH_PAGE ((uint64_t)getpagesize())       /* 4, 16 or 64 KiB, as the kernel was built */
#define ARCH_JUMP ((UINT64_C(128) << 20) - 4)     /* B: Arm ARM, C6.2.26 */
#define ARCH_SHORT_JUMPS 1                        /* less than large programs have code */
#define ARCH_LOW_IMAGES 1                         /* Go's: 0x10000 */
#define ARCH_HIGHEST UINT64_C(0x0000ffffffff0000) /* where nothing is asked for above 48 bits */
#define ARCH_CLOCKS "arch_sys_counter\0"

struct arch_regs {
    struct user_regs_struct user; /* as the kernel's struct user_pt_regs */
    uint64_t tls;                 /* NT_ARM_TLS: TPIDR_EL0 */
    /* Of the call that it was in when it was stopped; since the stop no register tells. */
    bool waited; /* it was in one, whose number and arguments but the first are in the registers */
    bool hidden; /* it is in restart_syscall(2) as soon as it goes on */
    uint64_t x0; /* the first argument */
};

/* /proc/PID/task/TID/syscall, and how often it has gone to sleep. */
struct arch_call {
    bool known;
    uint64_t nr, arg[6], sp, pc, sleeps;
};

/* A system call destroys what SVE has added to the vector registers (Documentation/arm64/sve.rst, 4). */
struct arch_vectors {
    unsigned set; /* NT_ARM_SVE or NT_ARM_SSVE */
    void *bytes;  /* malloc'ed; NULL: there is nothing to be kept */
    uint64_t size;
};

#endif
