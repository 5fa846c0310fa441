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
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

/* vfork(2), here clone(2) with CLONE_VM | CLONE_VFORK | SIGCHLD, from own text; the child ends at once with
 * exit_group(status), in the same instruction stream, since it shares the stack with its waiting parent. The numbers are
 * constants of the instructions. */
#define RAW_VFORK_OP "clone"
#define RAW_VFORK_EXIT(status) \
    __extension__({ \
        register long vfork_result __asm__("x0"); \
        __asm__ volatile("mov x0, #0x4111\n\t" \
                         "mov x1, #0\n\t" \
                         "mov x2, #0\n\t" \
                         "mov x3, #0\n\t" \
                         "mov x4, #0\n\t" \
                         "mov x8, %1\n\t" \
                         "svc #0\n\t" \
                         "cbnz x0, 1f\n\t" \
                         "mov x0, %3\n\t" \
                         "mov x8, %2\n\t" \
                         "svc #0\n\t" \
                         "brk #1\n" \
                         "1:" \
                         : "=r"(vfork_result) \
                         : "i"(__NR_clone), "i"(__NR_exit_group), "i"(status) \
                         : "x1", "x2", "x3", "x4", "x8", "memory", "cc"); \
        vfork_result; \
    })

#endif
