/* SPDX-License-Identifier: Apache-2.0 */
/* tests/attach/mixed.c: a table of words that are no code, in which the word of a system call comes again and again. */
#ifndef TESTS_MIXED_H
#define TESTS_MIXED_H

__asm__(".pushsection .text\n"
        "table: .rept 65\n .word 0x00000607, 0xd4000001, 0x0000161e\n .endr\n"
        "copy_end: .word 0x00000607\n .popsection\n");

#endif
