/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the vector registers change while nothing but counting is done. */
#ifndef TESTS_VECTORS_H
#define TESTS_VECTORS_H

#include <string.h>

/* The 16 vector registers, as wide as this CPU has them (AVX), across a while. */
__attribute__((noinline)) static int vectors_change(const unsigned char in[512], unsigned char out[512])
{
    long n = 200000;

    if (!__builtin_cpu_supports("avx"))
        return 0;

#define EACH(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define LOAD(i) "vmovdqu 32*" #i "(%1), %%ymm" #i "\n"
#define STORE(i) "vmovdqu %%ymm" #i ", 32*" #i "(%2)\n"
    __asm__ volatile(EACH(LOAD) "1: dec %0\njnz 1b\n" EACH(STORE) "vzeroupper\n"
                     : "+r"(n)
                     : "r"(in), "r"(out)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    return memcmp(in, out, 512) != 0;
}

#endif
