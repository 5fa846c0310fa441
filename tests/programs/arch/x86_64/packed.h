/* SPDX-License-Identifier: Apache-2.0 */
/* tests/static/packed.c: system calls, as C functions, and the start: unpack() gets the stack and returns where to
 * go on with it. */
#ifndef TESTS_PACKED_H
#define TESTS_PACKED_H

__asm__(
    "call3: mov %rdi,%rax; mov %rsi,%rdi; mov %rdx,%rsi; mov %rcx,%rdx; jmp do_call\n"
    "call6: mov %rdi,%rax; mov %rsi,%rdi; mov %rdx,%rsi; mov %rcx,%rdx; mov %r8,%r10; mov %r9,%r8; mov 8(%rsp),%r9\n"
#ifdef HIDDEN
    "do_call: lea carrier(%rip),%r11; inc %r11; jmp *%r11\n"
    "carrier: .byte 0xb8, 0x0f, 0x05, 0xc3, 0x90\n" /* mov $0x90c3050f,%eax; within it: syscall; ret */
    "ret\n"
#else
    "do_call: syscall; ret\n"
#endif
    ".globl _start\n_start: mov %rsp,%rbx; mov %rsp,%rdi; and $-16,%rsp; call unpack\n"
    "mov %rbx,%rsp; xor %edx,%edx; jmp *%rax\n");

#endif
