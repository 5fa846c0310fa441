/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions that programs of the tests need and C has no word for. */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#define ILLEGAL() __asm__ volatile("ud2")
#define TRAP() __asm__ volatile("int3")
/* Ends with SIGFPE. */
#define DIVIDE_BY_ZERO() __asm__ volatile("xor %%ecx, %%ecx; div %%ecx" : : : "eax", "ecx", "edx")
/* A fault with no room for the frame of a handler. */
#define FAULT_WITHOUT_STACK() __asm__ volatile("mov $4096, %%rsp; ud2" : : : "memory")

/* rt_sigaction(sig, at, NULL, 8), and what is in the register of its second argument after it. */
#define SIGACTION_KEEPS(ret, sig, at) \
    __extension__({ \
        register long size_ __asm__("r10") = 8; \
        __asm__ volatile("mov $13, %%eax; syscall" \
                         : "=&a"(ret), "+S"(at) \
                         : "D"((long)(sig)), "d"(0L), "r"(size_) \
                         : "rcx", "r11", "memory"); \
    })

#endif
