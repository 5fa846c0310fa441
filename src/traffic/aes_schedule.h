/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds AES keys in memory: who uses one has it expanded (FIPS 197, section 5.2),
 * and an expanded key proves itself, as each of its words follows from earlier
 * ones. Bytes in the order of that standard, as implementations with AES
 * instructions have them; not those that slice bits or permute bytes.
 * Pure; any thread.
 */
#ifndef SCOPE_TRAFFIC_AES_SCHEDULE_H
#define SCOPE_TRAFFIC_AES_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

#define AES_SCHEDULE_MAX 240u /* bytes, of a 256-bit key: 15 round keys */

/* Calls fn for each expanded key of 128 or 256 bits that lies whole in `size` bytes at p and begins at a multiple of 4
 * bytes from there: with the key, which is its beginning, of len 16 or 32 bytes. p: a multiple of 4. Time is linear. */
void aes_schedules(const uint8_t *p, size_t size, void (*fn)(void *ctx, const uint8_t *key, size_t len), void *ctx);

#endif
