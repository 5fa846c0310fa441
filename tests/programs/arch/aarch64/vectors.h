/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the vector registers change while nothing but counting is done. */
#ifndef TESTS_VECTORS_H
#define TESTS_VECTORS_H

#include <string.h>

/* The 32 vector registers of 16 bytes across a while. */
__attribute__((noinline)) static int vectors_change(const unsigned char in[512], unsigned char out[512])
{
    long n = 200000;

#define EACH(op) \
    op(0, 1) op(2, 3) op(4, 5) op(6, 7) op(8, 9) op(10, 11) op(12, 13) op(14, 15) op(16, 17) op(18, 19) op(20, 21) \
    op(22, 23) op(24, 25) op(26, 27) op(28, 29) op(30, 31)
#define LOAD(i, j) "ldp q" #i ", q" #j ", [%1, #16 * " #i "]\n"
#define STORE(i, j) "stp q" #i ", q" #j ", [%2, #16 * " #i "]\n"
    __asm__ volatile(EACH(LOAD) "1: subs %0, %0, #1\nb.ne 1b\n" EACH(STORE)
                     : "+r"(n)
                     : "r"(in), "r"(out)
                     : "memory", "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",
                       "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28",
                       "v29", "v30", "v31");
    return memcmp(in, out, 512) != 0;
}

#endif
