/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the images of this process, getting their plans, applying them.
 */
#ifndef SCOPE_PROBE_IMAGES_H
#define SCOPE_PROBE_IMAGES_H

#include "state.h"

/* Before any of these: AT_HWCAP2. Text whose landing pads are checked (BTI on arm64) stays so when it is changed. */
void images_landing(uint64_t hwcap2);

/* Patches everything that the dynamic loader has mapped so far, found through
 * the loader's link map (<link.h>: DT_DEBUG of the program, whose headers are at
 * `phdr`, the AT_PHDR of the auxiliary vector; base: AT_BASE). Called once, before the program
 * has threads. */
void images_loaded(struct segment_header *s, const void *phdr, size_t phnum, uint64_t vdso, uint64_t base);
/* The path of this library, as the loader has it; "" if it isn't there. *ret_other: another file of that name was loaded
 * before this one. Every program of a host that is observed comes here: touches nothing but what is needed for
 * programs with AddressSanitizer to go on. */
const char *images_find_self(const void *phdr, size_t phnum, bool *ret_other);

/* The same before anything has run: there is the program's image, whose addresses differ by bias from those in its
 * headers, and its loader's at `base` (AT_BASE; 0: a static program). What that maps comes to image_mapped(). file: a
 * name of the program where there is no /proc. */
void images_alone(struct segment_header *s, const void *phdr, size_t phnum, uint64_t bias, uint64_t base, const char *file);

/* A file was mapped executable (dlopen), with this protection: patches it before the caller of mmap
 * gets to know the address. */
void image_mapped(struct segment_header *s, uint64_t addr, size_t len, int prot, int fd, uint64_t offset);

#endif
