/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names in /etc/ld.so.preload: as on x86_64 (there), a library for each value of $PLATFORM, ours, or for 32-bit programs
 * one that has nothing in it.
 *
 * Values: AT_PLATFORM of getauxval(3) (the kernel's arch/arm64/include/asm/elf.h: "aarch64" and, for 32-bit programs,
 * "v8l"; kernels for 32-bit machines had others).
 */
#include "host/internal.h"

#include <elf.h>

const char *const preload_platforms[] = {"aarch64", NULL};
const char *const preload_other_platforms[] = {"v8l", "v7l", "v6l", NULL};
const char preload_other_loader[] = "/lib/ld-linux-armhf.so.3";
const uint16_t preload_other_machine = EM_ARM;
const uint32_t preload_other_flags = EF_ARM_EABI_VER5 | EF_ARM_ABI_FLOAT_HARD;
