/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a JIT compiler says that it has made: lines of "START SIZE NAME" with hexadecimal numbers (the kernel's
 * tools/perf/Documentation/jit-interface.txt). The text is the program's. Pure.
 */
#ifndef SCOPE_CRASH_PERFMAP_H
#define SCOPE_CRASH_PERFMAP_H

#include <stddef.h>
#include <stdint.h>

#define PERFMAP_ENTRIES (1u << 20) /* those beyond are left out */

struct perfmap_entry {
    uint64_t lo, hi;
    const char *name; /* in the text, not terminated */
    uint32_t len;
};
struct perfmap {
    struct perfmap_entry *v;
    size_t count;
};

/* Lines that are none are left out. The text must outlive the map. Undo: perfmap_free(). */
void perfmap_read(struct perfmap *m, const char *text, size_t size);
/* The entry that holds the address, of several the last: memory is used again. NULL: none. */
const struct perfmap_entry *perfmap_at(const struct perfmap *m, uint64_t address);
void perfmap_free(struct perfmap *m);

#endif
