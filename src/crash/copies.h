/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of a process's memory that were copied while its threads stood, for looking at afterwards. */
#ifndef SCOPE_CRASH_COPIES_H
#define SCOPE_CRASH_COPIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define COPIES_MAX (UINT64_C(64) << 20) /* bytes of all together */

struct copy {
    uint64_t lo, hi;
    uint8_t *bytes;
};
struct copies {
    struct copy *v;
    size_t count, room;
    uint64_t total;
};

/* Copies as much of [lo, hi) as can be read from lo on; returns how much. What is there already isn't copied twice. */
uint64_t copies_take(struct copies *c, pid_t pid, uint64_t lo, uint64_t hi);
/* Exactly `size` bytes at the address, if they were copied. */
bool copies_read(const struct copies *c, uint64_t address, void *to, size_t size);
/* The piece that holds the address, or NULL. */
const struct copy *copies_at(const struct copies *c, uint64_t address);
void copies_free(struct copies *c);

#endif
