/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of arm64's system calls on machines of another kind: what the kernel's arch/arm64/include/uapi/asm/unistd.h
 * chooses of the common list. */
#define __ARCH_WANT_RENAMEAT
#define __ARCH_WANT_NEW_STAT
#define __ARCH_WANT_SET_GET_RLIMIT
#define __ARCH_WANT_TIME32_SYSCALLS
#define __ARCH_WANT_SYS_CLONE3
#define __ARCH_WANT_MEMFD_SECRET
#include <asm-generic/unistd.h>
