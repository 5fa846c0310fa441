/* SPDX-License-Identifier: Apache-2.0 */
/* Registers of x86_64 Linux: inject/regs.h. */
#ifndef SCOPE_INJECT_ARCH_REGS_H
#define SCOPE_INJECT_ARCH_REGS_H

#include <elf.h>
#include <stdint.h>
#include <sys/user.h>

#define ARCH_RED_ZONE 128u /* System V ABI, 3.2.2 */
#define ARCH_RELATIVE R_X86_64_RELATIVE
#define ARCH_SYSCALL_SIZE 2u
#define ARCH_WAITS_BEHIND ARCH_SYSCALL_SIZE
#define ARCH_LOSES_ARGUMENT 0 /* all arguments stay where they are */
#define ARCH_MARKS_CALL_STOPS 0
#define ARCH_GADGET_SIZE 9
#define ARCH_GADGET_CALL 0
#define ARCH_GADGET_RETURN 2
#define ARCH_XSTATE_MAX 16384u /* of the largest set of vector registers there is (with AMX: 11,008) */
#define ARCH_FRAME_MAX (1024u + ARCH_XSTATE_MAX)
#define ARCH_PAGE UINT64_C(4096)
#define ARCH_JUMP UINT64_C(0x7ff00000) /* 32 bits, less the largest blob */
#define ARCH_SHORT_JUMPS 0
#define ARCH_LOW_IMAGES 0
#define ARCH_HIGHEST UINT64_C(0x00007ffffffff000)
#define ARCH_CLOCKS "tsc\0kvm-clock\0hyperv_\0"

struct arch_regs {
    struct user_regs_struct user;
};

/* Whether it stands at the end of a system call. */
int arch_in_call(const struct arch_regs *regs);

/* The kernel shows all that there is to know in the registers. */
struct arch_call {
};

/* A system call leaves them alone. */
struct arch_vectors {
};

#endif
