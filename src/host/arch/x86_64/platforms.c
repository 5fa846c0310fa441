/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names in /etc/ld.so.preload. One file serves the loaders of all word sizes, and one that finds a library of another
 * size says so on the standard error of each program ("wrong ELF class"). So the name that is written has $PLATFORM in
 * it, and there is a library for each value: ours, or for i386 one that has nothing in it. $LIB won't do: "lib" is that
 * of i386 on Red Hat's systems and of x86-64 on Arch's and in Nix's store.
 *
 * Values: AT_PLATFORM of getauxval(3) (the kernel's arch/x86/include/asm/elf.h), in place of which glibc puts one of its
 * own on some CPUs (sysdeps/x86/cpu-features.c, up to 2.36). x32 has those of x86-64, and is not served.
 */
#include "host/internal.h"

#include <elf.h>

const char *const preload_platforms[] = {"x86_64", "haswell", "xeon_phi", NULL};
const char *const preload_other_platforms[] = {"i386", "i486", "i586", "i686", NULL};
const char preload_other_loader[] = "/lib/ld-linux.so.2";
const uint16_t preload_other_machine = EM_386;
const uint32_t preload_other_flags = 0;
