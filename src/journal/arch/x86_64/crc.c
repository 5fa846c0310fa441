/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "journal/crc.h"

bool arch_has_crc32c(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) uint32_t arch_crc32c(uint32_t v, const uint8_t *p, size_t len)
{
    uint64_t sum = v, word;

    for (; len >= 8; len -= 8, p += 8) {
        memcpy(&word, p, sizeof(word));
        sum = __builtin_ia32_crc32di(sum, word);
    }
    v = (uint32_t)sum;
    for (; len; len--)
        v = __builtin_ia32_crc32qi(v, *p++);
    return v;
}
