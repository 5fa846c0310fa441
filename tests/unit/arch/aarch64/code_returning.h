/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <string.h>

/* A function that returns n: mov w0, #n; ret. */
static inline void code_returning(unsigned char *at, uint16_t n)
{
    const uint32_t code[] = {0x52800000u | (uint32_t)n << 5, 0xd65f03c0u};

    memcpy(at, code, sizeof(code));
}
