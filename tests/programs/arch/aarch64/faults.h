/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions that programs of the tests need and C has no word for. */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <signal.h>

#define ILLEGAL() __asm__ volatile("udf #0")
#define TRAP() __asm__ volatile("brk #1")
/* A division by zero is no fault here (Arm ARM, UDIV): the signal is sent. */
#define DIVIDE_BY_ZERO() raise(SIGFPE)
/* A fault with no room for the frame of a handler. */
#define FAULT_WITHOUT_STACK() __asm__ volatile("mov x9, #4096; mov sp, x9; udf #0" : : : "x9", "memory")

/* rt_sigaction(sig, at, NULL, 8), and what is in the register of its second argument after it. */
#define SIGACTION_KEEPS(ret, sig, at) \
    __extension__({ \
        register long x0_ __asm__("x0") = (sig); \
        register const void *x1_ __asm__("x1") = (at); \
        register long x2_ __asm__("x2") = 0; \
        register long x3_ __asm__("x3") = 8; \
        __asm__ volatile("mov x8, #134; svc #0" : "+r"(x0_), "+r"(x1_) : "r"(x2_), "r"(x3_) : "x8", "memory"); \
        (ret) = x0_; \
        (at) = x1_; \
    })

#endif
