/* SPDX-License-Identifier: Apache-2.0 */
/* The executable files that a process has mapped, kept open so that they can be read when the process is gone. */
#ifndef SCOPE_CRASH_MODULES_H
#define SCOPE_CRASH_MODULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "inject/process.h"

#define MODULES_MAX 1024u
#define MODULE_IMAGE_MAX (UINT64_C(16) << 20) /* of one whose file can't be opened, read from memory */
#define MODULE_IMAGES_MAX (UINT64_C(48) << 20)

struct module {
    char *name; /* path, "[vdso]", or "" for code of the probe's without a file */
    uint64_t lo, hi;
    int fd;      /* its file, or -1 */
    void *image; /* else its bytes as a file, as far as memory has them: malloc'ed, or NULL */
    size_t image_size;
    bool probe; /* ours: its frames aren't shown */
};
struct modules {
    struct module *v; /* by address */
    size_t count, left_out;
};

void modules_take(struct modules *m, pid_t pid, const struct process_maps *maps);
const struct module *modules_at(const struct modules *m, uint64_t address);
void modules_free(struct modules *m);

/*
 * An ELF file made of the memory of its segments (elf(5)): read() copies exactly `size` bytes at an address. Its
 * section headers are lost, unless they lie in a segment. *ret is malloc'ed. 0, -ENOEXEC, -EFAULT, or -EFBIG: more than
 * max.
 */
int module_rebuild(int (*read)(void *ctx, uint64_t address, void *to, size_t size), void *ctx, uint64_t base,
                   uint64_t end, size_t max, void **ret, size_t *ret_size);

#endif
