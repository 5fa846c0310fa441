/* SPDX-License-Identifier: Apache-2.0 */
/* What a core file needs to know of the machine (elf(5)). */
#ifndef SCOPE_CRASH_ARCH_CORE_ARCH_H
#define SCOPE_CRASH_ARCH_CORE_ARCH_H

#include <elf.h>

#define CORE_MACHINE EM_AARCH64
#define CORE_XSTATE NT_ARM_SVE /* crash_thread.xstate */

#endif
