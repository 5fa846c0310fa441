/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded probe as it is to lie in another process: put together here, then written there. */
#ifndef SCOPE_INJECT_PROBE_IMAGE_H
#define SCOPE_INJECT_PROBE_IMAGE_H

#include <elf.h>

#include "inject/trace.h"
#include "wire/probe.h"

struct probe_image {
    const unsigned char *file;
    const Elf64_Ehdr *eh;
    const Elf64_Phdr *ph;
    uint64_t span;             /* from address 0, where its first segment lies, to the end of its last */
    const Elf64_Phdr *data_ph; /* the writable segment */
    unsigned char *data;       /* a copy of it, to be relocated; its end, which is zero, is left out */
};

/* Checks it and makes the copy. -ENOENT: built without a probe; -ELIBBAD: with one that isn't simple enough. */
TRACE_CHECK int probe_image_make(struct probe_image *ret);
void probe_image_free(struct probe_image *im);
/* Once, for the address that it will have, and the size of the mapping: 0 or -ELIBBAD. */
TRACE_CHECK int probe_image_relocate(struct probe_image *im, uint64_t base, uint64_t mapped);
/* What the relocated image says about itself, or NULL. Its addresses are those in the other process. */
const struct probe_info *probe_image_info(const struct probe_image *im);

/* Before it is written: calls will not be timed. */
void probe_image_untimed(struct probe_image *im);

/* Writes the image to fresh memory at base that the program may write to. */
TRACE_CHECK int probe_image_write(const struct trace *t, const struct probe_image *im, uint64_t base);
/* Makes its code executable and read-only; by a borrowed thread. -ELIBEXEC: the process may have no new code. */
TRACE_CHECK int probe_image_protect(struct trace *t, struct trace_thread *th, const struct probe_image *im,
                                    uint64_t base);

#endif
