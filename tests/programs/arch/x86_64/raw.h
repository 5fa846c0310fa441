/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls from this program's own text, so that sites outside every libc
 * are observed too. Inlined: with optimisation the number is a constant right
 * before the instruction, without it comes from memory.
 * Calling convention: syscall(2), "Architecture calling conventions".
 */
#ifndef TESTS_RAW_H
#define TESTS_RAW_H

static inline __attribute__((always_inline)) long raw_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

/* vfork(2) from own text; the child ends at once with exit_group(status), in the same instruction stream, since
 * it shares the stack with its waiting parent. The numbers are constants of the instructions. */
#define RAW_VFORK_OP "vfork"
#define RAW_VFORK_EXIT(status) \
    __extension__({ \
        long vfork_result; \
        __asm__ volatile("mov %1, %%eax\n\t" \
                         "syscall\n\t" \
                         "test %%rax, %%rax\n\t" \
                         "jnz 1f\n\t" \
                         "mov %3, %%edi\n\t" \
                         "mov %2, %%eax\n\t" \
                         "syscall\n\t" \
                         "hlt\n" \
                         "1:" \
                         : "=&a"(vfork_result) \
                         : "i"(__NR_vfork), "i"(__NR_exit_group), "i"(status) \
                         : "rcx", "r11", "rdi", "memory", "cc"); \
        vfork_result; \
    })

#endif
