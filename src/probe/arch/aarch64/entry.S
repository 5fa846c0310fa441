/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where trampolines jump to, and the pool of memory that they live in. What is agreed with the slots stands at the
 * beginning of src/plan/arch/aarch64/sites.c.
 *
 * The hooks run on the program's stack; those of Go code run on one of the probe's (stacks.h). Everything here and in
 * the pool has unwind information that makes it look like a signal frame whose caller is the system call itself: CFA =
 * the program's stack pointer, return address = plan_slot.resume_pc. The return address is not x30, which is the
 * program's and kept: unwinders have a column of its own for the program counter of an interrupted frame (96,
 * DWARF_ALT_FRAME_RETURN_COLUMN of libgcc).
 *
 * DW_CFA_val_expression (0x16) gives column 96 (0x60) a value:
 *   in registers  DW_OP_breg0 (x0) or DW_OP_breg18 (x18) 0, DW_OP_deref
 *   in the frame  DW_OP_breg31 (sp) 56, DW_OP_deref, DW_OP_deref
 * (DWARF 4, 2.5 and 6.4.2; DWARF for the Arm 64-bit Architecture, 4.1)
 */
#define FRAME 224
#define RA_X0    .cfi_escape 0x16, 0x60, 3, 0x70, 0x00, 0x06
#define RA_X18   .cfi_escape 0x16, 0x60, 3, 0x82, 0x00, 0x06
#define RA_FRAME .cfi_escape 0x16, 0x60, 4, 0x8f, 0x38, 0x06, 0x06
#define CFA_FRAME .cfi_escape 0x0f, 4, 0x8f, 0xc0, 0x00, 0x06 /* what is at 64(sp) */

#define SLOT_TAIL 8
#define REGS_SLOT 56
#define REGS_SP 64
#define REGS_G 72
#define REGS_STASH 80
#define SAVED 96                    /* behind struct regs */
#define SAVED_X30 200
#define SAVED_FLAGS 208

        .macro  function name
        .globl  \name
        .hidden \name
        .type   \name, @function
        .balign 64
\name:
        .endm

/* x6 to x18, x30 and the flags; x2 is free. */
        .macro  save_rest
        stp     x6, x7, [sp, #SAVED]
        stp     x8, x9, [sp, #SAVED + 16]
        stp     x10, x11, [sp, #SAVED + 32]
        stp     x12, x13, [sp, #SAVED + 48]
        stp     x14, x15, [sp, #SAVED + 64]
        stp     x16, x17, [sp, #SAVED + 80]
        stp     x18, x30, [sp, #SAVED + 96]
        .cfi_offset x30, SAVED_X30 - FRAME
        mrs     x2, nzcv
        str     x2, [sp, #SAVED_FLAGS]
        .endm

        .macro  restore_rest
        ldr     x2, [sp, #SAVED_FLAGS]
        msr     nzcv, x2
        ldp     x6, x7, [sp, #SAVED]
        ldp     x8, x9, [sp, #SAVED + 16]
        ldp     x10, x11, [sp, #SAVED + 32]
        ldp     x12, x13, [sp, #SAVED + 48]
        ldp     x14, x15, [sp, #SAVED + 64]
        ldp     x16, x17, [sp, #SAVED + 80]
        ldp     x18, x30, [sp, #SAVED + 96]
        .cfi_same_value x30
        .endm

        .text

/* After a system call. */
        function scope_entry_exit
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_return_column 96
        .cfi_def_cfa sp, FRAME
        RA_X0
        hint    #38                         /* bti jc */
        stp     x2, x3, [sp, #24]
        stp     x4, x5, [sp, #40]
        str     x0, [sp, #REGS_SLOT]
        RA_FRAME
        save_rest
        add     x2, sp, #FRAME
        str     x2, [sp, #REGS_SP]
        mov     x1, x0
        mov     x0, sp
        bl      scope_hook_exit
        restore_rest
        ldp     x2, x3, [sp, #24]
        ldp     x4, x5, [sp, #40]
        ldr     x1, [sp, #REGS_SLOT]
        ldr     x1, [x1, #SLOT_TAIL]
        br      x1
        .cfi_endproc
        .size   scope_entry_exit, . - scope_entry_exit

/* Before a system call. */
        function scope_entry_enter
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_return_column 96
        .cfi_def_cfa sp, FRAME
        RA_X0
        hint    #38
        stp     x2, x3, [sp, #24]
        stp     x4, x5, [sp, #40]
        str     x0, [sp, #REGS_SLOT]
        RA_FRAME
        save_rest
        add     x2, sp, #FRAME
        str     x8, [sp]
        str     x2, [sp, #REGS_SP]
        mov     x1, x0
        mov     x0, sp
        bl      scope_hook_enter
        restore_rest
        ldp     x2, x3, [sp, #24]
        ldp     x4, x5, [sp, #40]
        ldr     x8, [sp]
        ldr     x1, [sp, #REGS_SLOT]
        ldr     x1, [x1, #SLOT_TAIL]
        br      x1
        .cfi_endproc
        .size   scope_entry_enter, . - scope_entry_enter

/* Before a call of which only the time is wanted: it is left below the program's stack pointer, where the exit side will
 * have its frame, and where a signal handler may overwrite it (the key tells). */
        function scope_entry_timed
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_return_column 96
        .cfi_def_cfa sp, FRAME
        RA_X0
        hint    #38
        str     x0, [sp, #REGS_SLOT]
        RA_FRAME
        add     x1, sp, #FRAME
        mrs     x0, cntvct_el0
        eor     x1, x1, x0
        stp     x1, x0, [sp, #REGS_STASH]
        ldr     x1, [sp, #REGS_SLOT]
        ldr     x1, [x1, #SLOT_TAIL]
        br      x1
        .cfi_endproc
        .size   scope_entry_timed, . - scope_entry_timed

/* Instead of a call of a leaf (musl's __syscall_cp_asm, glibc's __syscall_cancel_arch) that makes the system call inside
 * of a cancellation range. Its arguments are: pointer, number, the six arguments of the call. The hook sees them as if
 * before the call. The slot has saved x0 to x7. */
        function scope_entry_call
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_return_column 96
        .cfi_def_cfa sp, FRAME
        RA_X0
        hint    #38
        str     x0, [sp, #REGS_SLOT]
        RA_FRAME
        stp     x8, x9, [sp, #SAVED + 16]
        stp     x10, x11, [sp, #SAVED + 32]
        stp     x12, x13, [sp, #SAVED + 48]
        stp     x14, x15, [sp, #SAVED + 64]
        stp     x16, x17, [sp, #SAVED + 80]
        stp     x18, x30, [sp, #SAVED + 96]
        .cfi_offset x30, SAVED_X30 - FRAME
        mrs     x2, nzcv
        str     x2, [sp, #SAVED_FLAGS]
        add     x2, sp, #FRAME
        str     x2, [sp, #REGS_SP]
        mov     x1, x0
        mov     x0, sp
        bl      scope_hook_enter
        ldr     x2, [sp, #SAVED_FLAGS]
        msr     nzcv, x2
        ldp     x8, x9, [sp, #SAVED + 16]
        ldp     x10, x11, [sp, #SAVED + 32]
        ldp     x12, x13, [sp, #SAVED + 48]
        ldp     x14, x15, [sp, #SAVED + 64]
        ldp     x16, x17, [sp, #SAVED + 80]
        ldp     x18, x30, [sp, #SAVED + 96]
        .cfi_same_value x30
        ldp     x3, x4, [sp, #16]
        ldp     x5, x6, [sp, #32]
        ldr     x7, [sp, #48]
        ldr     x1, [sp, #REGS_SLOT]
        ldr     x1, [x1, #SLOT_TAIL]
        br      x1
        .cfi_endproc
        .size   scope_entry_call, . - scope_entry_call

/*
 * Go code: nothing may be written to the program's stack, not even below its pointer. x18 = slot (Go leaves x18 alone);
 * x16, x17 (the first argument of a call that is over) and x27 (the assembler's own) hold nothing of the program's.
 * Changes to a free stack of the probe's (struct stack_head), with the program's registers in its head; goes to `lost` if
 * there is none.
 */
#define STACK_SIZE 0x4000
#define STACK_HEAD (STACK_SIZE - 128)
#define HEAD_TAKEN 96
#define HEAD_GUARDED 100
#define REST 144                    /* x6 to x15, x17, x30, flags, below the head */
        .macro  take_stack arg0, lost
        mov     w16, #0x8647
        movk    w16, #0x61c8, lsl #16       /* 2^32 divided by the golden ratio, negative: neighbours begin far apart */
        mul     w16, w16, w28
        lsr     w16, w16, #32 - 7
        adrp    x27, scope_stacks
        ldr     x27, [x27, #:lo12:scope_stacks]
        add     x27, x27, x16, lsl #14
        add     x27, x27, #STACK_HEAD & 0xfff
        add     x27, x27, #STACK_HEAD & 0xfff000
        add     x27, x27, #HEAD_TAKEN
8:      ldaxr   w16, [x27]
        cbnz    w16, 7f
        stxr    w16, w27, [x27]             /* its own address: never 0, as it is at the end of a page */
        cbnz    w16, 8b
        b       9f
7:      clrex
        add     x27, x27, #STACK_SIZE & 0xfff000
        adrp    x16, scope_stacks_end
        ldr     x16, [x16, #:lo12:scope_stacks_end]
        cmp     x27, x16
        b.lo    8b
        b       \lost
9:      sub     x27, x27, #HEAD_TAKEN
        stp     x0, \arg0, [x27]
        stp     x1, x2, [x27, #16]
        stp     x3, x4, [x27, #32]
        stp     x5, x18, [x27, #48]
        mov     x16, sp
        stp     x16, x28, [x27, #REGS_SP]
        stp     xzr, xzr, [x27, #REGS_STASH] /* no time was left here */
        mov     sp, x27
        CFA_FRAME
        RA_FRAME
        .endm

/* The registers that hooks may change and flags, below the head. */
        .macro  save_go
        stp     x6, x7, [sp, #-REST]!
        .cfi_escape 0x0f, 5, 0x8f, 0xd0, 0x01, 0x06, 0x96 /* what is at 208(sp); DW_OP_nop */
        .cfi_escape 0x16, 0x60, 5, 0x8f, 0xc8, 0x01, 0x06, 0x06 /* slot at 200(sp) */
        stp     x8, x9, [sp, #16]
        stp     x10, x11, [sp, #32]
        stp     x12, x13, [sp, #48]
        stp     x14, x15, [sp, #64]
        stp     x17, x30, [sp, #80]
        mrs     x2, nzcv
        str     x2, [sp, #96]
        add     x0, sp, #REST
        ldr     w3, [x0, #HEAD_GUARDED]
        cbnz    w3, 6f
        bl      scope_stack_guard
        add     x0, sp, #REST
6:      ldr     x1, [x0, #REGS_SLOT]
        .endm

        .macro  restore_go
        ldr     x2, [sp, #96]
        msr     nzcv, x2
        ldp     x17, x30, [sp, #80]
        ldp     x14, x15, [sp, #64]
        ldp     x12, x13, [sp, #48]
        ldp     x10, x11, [sp, #32]
        ldp     x8, x9, [sp, #16]
        ldp     x6, x7, [sp], #REST
        CFA_FRAME
        RA_FRAME
        ldp     x1, x2, [sp, #16]
        ldp     x3, x4, [sp, #32]
        ldp     x5, x18, [sp, #48]
        .endm

/* Leaves the stack, which may be another's as soon as it is marked free, and goes on in the slot. */
        .macro  leave_stack
        RA_X18
        mov     x27, sp
        ldr     x16, [x27, #REGS_SP]
        mov     sp, x16
        .cfi_def_cfa sp, 0
        add     x27, x27, #HEAD_TAKEN
        stlr    wzr, [x27]
        ldr     x27, [x18, #SLOT_TAIL]
        br      x27
        .endm

/* A call that no hook sees, for want of a stack. */
#define SEGMENT_LOSS_SLOT 344       /* in struct segment_header */
        .macro  count_lost
        adrp    x27, process
        ldr     x27, [x27, #:lo12:process]
        ldr     x27, [x27]                  /* process->segment */
        cbz     x27, 9f
        add     x27, x27, #SEGMENT_LOSS_SLOT
        b       scope_count_lost
9:      ldr     x27, [x18, #SLOT_TAIL]
        br      x27
        .endm

        function scope_entry_go_exit
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_return_column 96
        .cfi_def_cfa sp, 0
        RA_X18
        hint    #38
        .cfi_remember_state
        take_stack x17, 1f
        save_go
        bl      scope_hook_exit
        restore_go
        ldr     x0, [sp]                    /* the result */
        leave_stack
        .cfi_restore_state
1:      count_lost
        .cfi_endproc
        .size   scope_entry_go_exit, . - scope_entry_go_exit

        function scope_entry_go_enter
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_return_column 96
        .cfi_def_cfa sp, 0
        RA_X18
        hint    #38
        .cfi_remember_state
        take_stack x0, 1f
        str     x8, [x27]
        save_go
        bl      scope_hook_enter
        restore_go
        ldp     x8, x0, [sp]                /* the number; the first argument */
        leave_stack
        .cfi_restore_state
1:      count_lost
        .cfi_endproc
        .size   scope_entry_go_enter, . - scope_entry_go_enter

/* x27: the counter. An exact addition would take one more register than there are: of two threads that lose a call in the
 * same moment one may not be counted. */
        function scope_count_lost
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_return_column 96
        .cfi_def_cfa sp, 0
        RA_X18
        ldr     x16, [x27]
        add     x16, x16, #1
        str     x16, [x27]
        ldr     x27, [x18, #SLOT_TAIL]
        br      x27
        .cfi_endproc
        .size   scope_count_lost, . - scope_count_lost

/* The wrapper of a function: instead of its first instruction, x16 = slot. It is a function of its own, which calls the
 * original, whose beginning was moved to the slot. Where no hook is wanted afterwards it is not there at all. Registers
 * of vectors are arguments and results, too, and nobody here touches them. */
#define FUNCTION_FRAME 240
#define FUNCTION_SAVED 72
        function scope_entry_function
        .cfi_startproc
        hint    #38
        sub     sp, sp, #FUNCTION_FRAME
        .cfi_def_cfa_offset FUNCTION_FRAME
        stp     x29, x30, [sp, #224]
        .cfi_offset x29, -16
        .cfi_offset x30, -8
        add     x29, sp, #224
        stp     x0, x1, [sp, #8]
        stp     x2, x3, [sp, #24]
        stp     x4, x5, [sp, #40]
        str     x16, [sp, #REGS_SLOT]
        add     x17, sp, #FUNCTION_FRAME
        str     x17, [sp, #REGS_SP]
        stp     x6, x7, [sp, #FUNCTION_SAVED]
        str     x8, [sp, #FUNCTION_SAVED + 16]
        stp     x9, x10, [sp, #FUNCTION_SAVED + 24]
        stp     x11, x12, [sp, #FUNCTION_SAVED + 40]
        stp     x13, x14, [sp, #FUNCTION_SAVED + 56]
        stp     x15, x18, [sp, #FUNCTION_SAVED + 72]
        mov     x0, sp
        mov     x1, x16
        bl      scope_hook_function_enter
        and     w17, w0, #0xff
        ldp     x6, x7, [sp, #FUNCTION_SAVED]
        ldr     x8, [sp, #FUNCTION_SAVED + 16]
        ldp     x9, x10, [sp, #FUNCTION_SAVED + 24]
        ldp     x11, x12, [sp, #FUNCTION_SAVED + 40]
        ldp     x13, x14, [sp, #FUNCTION_SAVED + 56]
        ldp     x15, x18, [sp, #FUNCTION_SAVED + 72]
        ldp     x0, x1, [sp, #8]
        ldp     x2, x3, [sp, #24]
        ldp     x4, x5, [sp, #40]
        ldr     x16, [sp, #REGS_SLOT]
        cbz     w17, 1f
        ldr     x17, [x16, #SLOT_TAIL]
        blr     x17
        str     x0, [sp]
        stp     x1, x2, [sp, #FUNCTION_SAVED]
        stp     x3, x4, [sp, #FUNCTION_SAVED + 16]
        stp     x5, x6, [sp, #FUNCTION_SAVED + 32]
        stp     x7, x8, [sp, #FUNCTION_SAVED + 48]
        stp     x9, x10, [sp, #FUNCTION_SAVED + 64]
        stp     x11, x12, [sp, #FUNCTION_SAVED + 80]
        stp     x13, x14, [sp, #FUNCTION_SAVED + 96]
        stp     x15, x16, [sp, #FUNCTION_SAVED + 112]
        stp     x17, x18, [sp, #FUNCTION_SAVED + 128]
        mov     x0, sp
        ldr     x1, [sp, #REGS_SLOT]
        bl      scope_hook_function_exit
        ldr     x0, [sp]
        ldp     x1, x2, [sp, #FUNCTION_SAVED]
        ldp     x3, x4, [sp, #FUNCTION_SAVED + 16]
        ldp     x5, x6, [sp, #FUNCTION_SAVED + 32]
        ldp     x7, x8, [sp, #FUNCTION_SAVED + 48]
        ldp     x9, x10, [sp, #FUNCTION_SAVED + 64]
        ldp     x11, x12, [sp, #FUNCTION_SAVED + 80]
        ldp     x13, x14, [sp, #FUNCTION_SAVED + 96]
        ldp     x15, x16, [sp, #FUNCTION_SAVED + 112]
        ldp     x17, x18, [sp, #FUNCTION_SAVED + 128]
        str     xzr, [sp, #REGS_SP]         /* no frame of ours any more, should it be looked at */
        .cfi_remember_state
        ldp     x29, x30, [sp, #224]
        .cfi_restore x29
        .cfi_restore x30
        add     sp, sp, #FUNCTION_FRAME
        .cfi_def_cfa_offset 0
        ret
        .cfi_restore_state
1:      str     xzr, [sp, #REGS_SP]
        ldp     x29, x30, [sp, #224]
        .cfi_restore x29
        .cfi_restore x30
        add     sp, sp, #FUNCTION_FRAME
        .cfi_def_cfa_offset 0
        ldr     x17, [x16, #SLOT_TAIL]
        br      x17
        .cfi_endproc
        .size   scope_entry_function, . - scope_entry_function

/* The ELF entry point of this library: where a static program starts that was stopped at the end of its exec
 * (inject/load.h). x0 to x2: the arguments of scope_start_exec(). sp: a struct rt_sigframe with the registers that the
 * kernel had given to the program, for rt_sigreturn(2); nothing is above it in this call chain. */
        .globl  scope_entry_exec
        .hidden scope_entry_exec
        .type   scope_entry_exec, @function
        .balign 8
        nop
        .long   scope_info - 0f             /* struct probe_info (wire/probe.h), for who looks at the image from outside */
0:
scope_entry_exec:
        .cfi_startproc
        .cfi_undefined x30
        hint    #38
        mov     x19, sp
        bl      scope_start_exec
        mov     sp, x19
        mov     x8, #139                    /* rt_sigreturn */
        svc     #0
        brk     #0
        .cfi_endproc
        .size   scope_entry_exec, . - scope_entry_exec

/* Where the handler of fatal signals (crash.c) returns to. Unwinders know the frame by these two instructions, as they do
 * the kernel's own. */
        .globl  scope_restorer
        .hidden scope_restorer
        .type   scope_restorer, @function
        .balign 16
        nop
scope_restorer:
        mov     x8, #139
        svc     #0
        brk     #0
        .size   scope_restorer, . - scope_restorer

/* A handler of the program for a fatal signal, with SA_RESETHAND: what the kernel would do before it calls it is done
 * here, and then it is as if it had been called by the kernel. */
        function scope_once
        .cfi_startproc
        hint    #34                         /* bti c */
        stp     x0, x1, [sp, #-32]!
        .cfi_def_cfa_offset 32
        stp     x2, x30, [sp, #16]
        .cfi_offset x30, -8
        bl      crash_once
        mov     x16, x0
        ldp     x2, x30, [sp, #16]
        .cfi_restore x30
        ldp     x0, x1, [sp], #32
        .cfi_def_cfa_offset 0
        br      x16
        .cfi_endproc
        .size   scope_once, . - scope_once

/* Instructions that end in a signal. A load by a stack pointer that isn't aligned is SIGBUS (Arm ARM, D1.8.2). */
        .globl  scope_faults
        .hidden scope_faults
        .type   scope_faults, @function
        .balign 16
scope_faults:
        .cfi_startproc
        .cfi_undefined x30
        udf     #0
        .balign 16
        brk     #0
        .balign 16
        mov     x0, #0
        ldr     w0, [x0]
        .balign 16
        sub     sp, sp, #8
        ldr     x0, [sp]
        .cfi_endproc
        .size   scope_faults, . - scope_faults

/* The trampoline pool. In it the slot is PC & -128 and resume_pc its first word:
 * DW_OP_bregx 96 (the program counter) 0, DW_OP_const1s -128, DW_OP_and, DW_OP_deref.
 *
 * The CFA is sp, or sp + FRAME where the slot's flags say that it is lowered (PLAN_SLOT_LOWERED). With d, how many
 * instructions the program counter is behind the first one of these: d >= 0 and d < count, times FRAME, plus sp. */
#define OP_PC     0x92, 0x60, 0x00
#define OP_SLOT   OP_PC, 0x09, 0x80, 0x1a                       /* const1s -128, and */
#define OP_N      OP_PC, 0x08, 0x7f, 0x1a, 0x32, 0x25           /* const1u 127, and, lit2, shr */
#define OP_FLAGS  OP_SLOT, 0x23, 20, 0x94, 4                    /* plus_uconst, deref_size */
#define OP_4BITS(from) 0x08, from, 0x25, 0x08, 15, 0x1a         /* const1u, shr, const1u, and */
/* In a section of its own: what comes before it needs no such alignment, which would cost room in the file. */
        .section .pool, "ax", @progbits
        .globl  scope_pool
        .hidden scope_pool
        .balign 65536
scope_pool:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_return_column 96
        /* DW_CFA_def_cfa_expression: breg31 0; plus_uconst 8 (the first instruction), minus, dup, lit0, ge, swap; lt, and;
         * const1u, mul, plus */
        .cfi_escape 0x0f, 55, 0x8f, 0x00, OP_N, OP_FLAGS, OP_4BITS(16), 0x23, 8, 0x1c, 0x12, 0x30, 0x2a, 0x16, \
                    OP_FLAGS, OP_4BITS(20), 0x2d, 0x1a, 0x08, FRAME, 0x1e, 0x22
        .cfi_escape 0x16, 0x60, 7, OP_SLOT, 0x06
        .skip   262144
        .cfi_endproc
        .globl  scope_pool_end
        .hidden scope_pool_end
scope_pool_end:
        .section .note.GNU-stack, "", @progbits
