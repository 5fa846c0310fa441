/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C by an instruction of the CPU: arch/<machine>/crc.c. */
#ifndef SCOPE_JOURNAL_CRC_H
#define SCOPE_JOURNAL_CRC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool arch_has_crc32c(void);
/* Goes on with a sum, which is neither inverted before nor afterwards. */
uint32_t arch_crc32c(uint32_t v, const uint8_t *p, size_t len);

#endif
