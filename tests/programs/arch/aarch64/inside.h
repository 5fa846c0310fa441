/* SPDX-License-Identifier: Apache-2.0 */
/* tests/attach/inside.c: the words at the label `number` and 8 bytes behind it are replaced, each as a whole;
 * between them is the call. */
#ifndef TESTS_INSIDE_H
#define TESTS_INSIDE_H

/* Once in the program, or the label were there twice. */
__attribute__((noinline, noclone)) static long call(long *count)
{
    register long x0 __asm__("x0") = 0;
    register long x1 __asm__("x1") = 0;
    register long x2 __asm__("x2") = 1;
    long ret;

    __asm__ volatile(".globl number\n"
                     "number: mov x8, #62\n" /* lseek */
                     "svc #0\n"
                     "mov x9, x0\n"
                     "add %1, %1, #1\n" /* here */
                     "mov %0, x9\n"
                     : "=r"(ret), "+r"(*count), "+r"(x0)
                     : "r"(x1), "r"(x2)
                     : "x8", "x9", "x16", "x17", "memory");
    return ret;
}

#endif
