/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sixteen bytes of text at a time, for what is looked for in all that passes: a
 * third of the instructions of a loop over bytes. Comparing blocks gives 0xff
 * where it is true, which block_mask() makes bits of.
 */
#ifndef SCOPE_BASE_BLOCK_H
#define SCOPE_BASE_BLOCK_H

#include <stdint.h>
#include <string.h>

#define BLOCK 16u
typedef uint8_t block __attribute__((vector_size(BLOCK)));

static inline block block_load(const char *p)
{
    block b;

    memcpy(&b, p, BLOCK);
    return b;
}

#include "block_mask.h"

#endif
