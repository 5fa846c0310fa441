/* SPDX-License-Identifier: Apache-2.0 */
/* Part of base/block.h: Advanced SIMD, which every CPU of this architecture that runs Linux programs has. */
#ifndef SCOPE_BASE_ARCH_BLOCK_MASK_H
#define SCOPE_BASE_ARCH_BLOCK_MASK_H

#include <arm_neon.h>

/* A bit for each byte: its highest one. There is no instruction for it: each byte's bit is moved to where the sum of
 * eight bytes has it. */
static inline unsigned block_mask(block b)
{
    static const int8_t places[16] = {-7, -6, -5, -4, -3, -2, -1, 0, -7, -6, -5, -4, -3, -2, -1, 0};
    uint8x16_t high = vandq_u8((uint8x16_t)b, vdupq_n_u8(0x80)), bits = vshlq_u8(high, vld1q_s8(places));

    return vaddv_u8(vget_low_u8(bits)) | (unsigned)vaddv_u8(vget_high_u8(bits)) << 8;
}

#endif
