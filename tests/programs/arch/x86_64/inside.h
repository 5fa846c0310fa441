/* SPDX-License-Identifier: Apache-2.0 */
/* tests/attach/inside.c: 10 bytes behind the label `number` (which, as any label, is a place that others may jump
 * to) is the middle of the bytes that are replaced. */
#ifndef TESTS_INSIDE_H
#define TESTS_INSIDE_H

/* Once in the program, or the label were there twice. */
__attribute__((noinline, noclone)) static long call(long *count)
{
    long ret;

    __asm__ volatile(".globl number\n"
                     "number: mov $8, %%eax\n" /* lseek */
                     "syscall\n"
                     "mov %%rax, %%rbx\n"
                     "lea 1(%1), %1\n" /* here */
                     "mov %%rbx, %0\n"
                     : "=r"(ret), "+r"(*count)
                     : "D"(0), "S"(0), "d"(1)
                     : "rax", "rbx", "rcx", "r11", "memory");
    return ret;
}

#endif
