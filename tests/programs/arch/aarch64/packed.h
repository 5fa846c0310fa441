/* SPDX-License-Identifier: Apache-2.0 */
/* tests/static/packed.c: system calls, as C functions, and the start: unpack() gets the stack and returns where to
 * go on with it. Instructions are whole words here, so that none lies in the middle of another; but the kernel
 * doesn't look at the number that svc has, which everybody else makes 0. */
#ifndef TESTS_PACKED_H
#define TESTS_PACKED_H

__asm__(
    "call3: mov x8,x0; mov x0,x1; mov x1,x2; mov x2,x3; b do_call\n"
    "call6: mov x8,x0; mov x0,x1; mov x1,x2; mov x2,x3; mov x3,x4; mov x4,x5; mov x5,x6; b do_call\n"
#ifdef HIDDEN
    "do_call: svc #1; ret\n"
#else
    "do_call: svc #0; ret\n"
#endif
    ".globl _start\n_start: mov x19, sp; mov x0, sp; bl unpack\n"
    "mov sp, x19; mov x16, x0; mov x0, #0; br x16\n");

#endif
