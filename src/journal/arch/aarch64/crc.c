/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/auxv.h>

#include "journal/crc.h"

#define HWCAP_CRC32_ (1u << 7) /* HWCAP_CRC32 of asm/hwcap.h: optional before Armv8.1 */

bool arch_has_crc32c(void)
{
    return getauxval(AT_HWCAP) & HWCAP_CRC32_;
}

__attribute__((target("+crc"))) uint32_t arch_crc32c(uint32_t v, const uint8_t *p, size_t len)
{
    uint64_t word;

    for (; len >= 8; len -= 8, p += 8) {
        memcpy(&word, p, sizeof(word));
        v = __builtin_aarch64_crc32cx(v, word);
    }
    for (; len; len--)
        v = __builtin_aarch64_crc32cb(v, *p++);
    return v;
}
