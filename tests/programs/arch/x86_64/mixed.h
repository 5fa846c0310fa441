/* SPDX-License-Identifier: Apache-2.0 */
/* tests/attach/mixed.c: a table that is no code, and a copy of musl's function for system calls, as somebody keeps
 * it who wants to run it elsewhere. */
#ifndef TESTS_MIXED_H
#define TESTS_MIXED_H

__asm__(".pushsection .text\n"
        "table: .rept 64\n .byte 0x06,0x07,0x0e,0x16,0x17,0x1e,0x0f,0x05\n .endr\n"
        "copy: mov %rdi,%rax\n mov %r8,%r10\n mov %rsi,%rdi\n mov %r9,%r8\n mov %rdx,%rsi\n mov 8(%rsp),%r9\n"
        " mov %rcx,%rdx\n syscall\n ret\n .p2align 4\n"
        " push %rax\n call copy\n pop %rdx\n ret\n .p2align 4\n"
        "copy_end: .byte 0x06\n .popsection\n");

#endif
