/* SPDX-License-Identifier: Apache-2.0 */
/* Part of base/block.h: SSE2, which every CPU of this architecture has. */
#ifndef SCOPE_BASE_ARCH_BLOCK_MASK_H
#define SCOPE_BASE_ARCH_BLOCK_MASK_H

#include <emmintrin.h>

/* A bit for each byte: its highest one. */
static inline unsigned block_mask(block b)
{
    return (unsigned)_mm_movemask_epi8((__m128i)b);
}

#endif
