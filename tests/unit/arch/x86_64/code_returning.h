/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <string.h>

/* A function that returns n: mov $n, %eax; ret. */
static inline void code_returning(unsigned char *at, uint16_t n)
{
    const unsigned char code[] = {0xb8, (unsigned char)n, (unsigned char)(n >> 8), 0, 0, 0xc3};

    memcpy(at, code, sizeof(code));
}
