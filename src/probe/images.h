/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the images of this process, getting their plans, applying them.
 */
#ifndef SCOPE_PROBE_IMAGES_H
#define SCOPE_PROBE_IMAGES_H

#include "state.h"

/* Patches everything that the dynamic loader has mapped so far, found through
 * the loader's link map (<link.h>: DT_DEBUG of the program, whose headers are at
 * `phdr`, the AT_PHDR of the auxiliary vector). Called once, before the program
 * has threads. Also fills probe.lib with the path of this library. */
void images_loaded(struct segment_header *s, const void *phdr, size_t phnum, uint64_t vdso);
void images_find_self(const void *phdr, size_t phnum);

/* The same before anything has run: there is the program's image, whose addresses differ by bias from those in its
 * headers, and its loader's at `base` (AT_BASE; 0: a static program). What that maps comes to image_mapped(). file: a
 * name of the program where there is no /proc. */
void images_alone(struct segment_header *s, const void *phdr, size_t phnum, uint64_t bias, uint64_t base, const char *file);

/* A file was mapped executable (dlopen): patches it before the caller of mmap
 * gets to know the address. */
void image_mapped(struct segment_header *s, uint64_t addr, size_t len, int fd, uint64_t offset);

#endif
