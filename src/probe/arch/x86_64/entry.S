/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where trampolines jump to, and the pool of memory that they live in.
 *
 * The hooks run on the program's stack, below its red zone (System V ABI,
 * 3.2.2); those of Go code run on one of the probe's (stacks.h). Every instruction here and in the pool has unwind information that
 * makes it look like a signal frame whose caller is the system call itself:
 * CFA = the program's stack pointer, return address = plan_slot.resume_pc. So
 * thread cancellation and exceptions pass through a hook as through the bare
 * instruction.
 *
 * DW_CFA_val_expression (0x16) gives register 16 (return address) a value:
 *   in registers  DW_OP_breg2 (rcx) 0, DW_OP_deref
 *   in the frame  DW_OP_breg7 (rsp) 56, DW_OP_deref, DW_OP_deref
 * On a stack of the probe's the CFA is DW_OP_breg7 (rsp) 64, DW_OP_deref, too.
 * (DWARF 4, 2.5 and 6.4.2; x86-64 psABI table 3.36)
 */
#define FRAME 224
#define RA_RCX   .cfi_escape 0x16, 0x10, 3, 0x72, 0x00, 0x06
#define RA_RAX   .cfi_escape 0x16, 0x10, 3, 0x70, 0x00, 0x06
#define RA_R11   .cfi_escape 0x16, 0x10, 3, 0x7b, 0x00, 0x06
#define RA_R12   .cfi_escape 0x16, 0x10, 3, 0x7c, 0x00, 0x06
#define RA_FRAME .cfi_escape 0x16, 0x10, 4, 0x77, 0x38, 0x06, 0x06

#define CFA_FRAME .cfi_escape 0x0f, 4, 0x77, 0xc0, 0x00, 0x06

#define SLOT_TAIL 8
#define SLOT_FLAGS 20
#define SLOT_SITE_PC 24
#define SLOT_F_TIMED_ONLY 0x8000
#define SLOT_F_NR_KEPT 0x100        /* PLAN_F_NR_KEPT */

/* The first members of struct regs, at `at`. */
        .macro  save_regs at:vararg
        mov     %rax, 0 + \at
        mov     %rdi, 8 + \at
        mov     %rsi, 16 + \at
        mov     %rdx, 24 + \at
        mov     %r10, 32 + \at
        mov     %r8, 40 + \at
        mov     %r9, 48 + \at
        mov     %rcx, 56 + \at
        .endm

/* ... and back, from where the stack pointer is; r11 = slot. */
        .macro  restore_regs
        mov     0(%rsp), %rax
        mov     8(%rsp), %rdi
        mov     16(%rsp), %rsi
        mov     24(%rsp), %rdx
        mov     32(%rsp), %r10
        mov     40(%rsp), %r8
        mov     48(%rsp), %r9
        mov     56(%rsp), %r11
        RA_R11
        .endm

        .macro  save_frame
        lea     -FRAME(%rsp), %rsp
        .cfi_def_cfa_offset FRAME
        save_regs 0(%rsp)
        RA_FRAME
        lea     FRAME(%rsp), %rax
        mov     %rax, 64(%rsp)
        .endm

        .macro  restore_frame
        restore_regs
        lea     FRAME(%rsp), %rsp
        .cfi_def_cfa_offset 0
        .endm

/* Changes to a free stack of the probe's (struct stack_head), with the program's
 * registers in its head; goes to `lost` if there is none. Only r11 is free: the
 * program may hold a value in any other register, and nothing may be written to
 * its stack, not even below the red zone. rcx = slot. */
#define STACK_SIZE 0x4000
#define STACK_HEAD (STACK_SIZE - 128)
#define HEAD_TAKEN 96
#define HEAD_GUARDED 100
#define SEGMENT_LOSS_SLOT 344 /* in struct segment_header */
        .macro  take_stack lost
        rdfsbase %r11
        imul    $-0x61c88647, %r11, %r11    /* 2^32 divided by the golden ratio: neighbours begin far apart */
        shr     $32 - 14, %r11
        and     $127 << 14, %r11d
        add     scope_stacks(%rip), %r11
8:      lock btsl $0, STACK_HEAD + HEAD_TAKEN(%r11)
        jnc     9f
        add     $STACK_SIZE, %r11
        cmp     scope_stacks_end(%rip), %r11
        jb      8b
        jmp     \lost
9:      save_regs STACK_HEAD(%r11)
        mov     %rsp, STACK_HEAD + 64(%r11)
        movq    $0, STACK_HEAD + 80(%r11)   /* no time was left here: stash_key, stash_time */
        movq    $0, STACK_HEAD + 88(%r11)
        lea     STACK_HEAD(%r11), %rsp
        CFA_FRAME
        RA_FRAME
        cmpl    $0, HEAD_GUARDED(%rsp)
        jne     9f
        mov     %rsp, %rdi
        call    scope_stack_guard
9:      mov     %rsp, %rdi
        mov     56(%rsp), %rsi
        .endm

/* Back to the program's stack; r11 = slot. The stack may be another's as soon as it is marked free. */
        .macro  give_stack
        restore_regs
        mov     %rsp, %rcx
        mov     64(%rsp), %rsp
        .cfi_def_cfa 7, 0
        movl    $0, HEAD_TAKEN(%rcx)
        .endm

/*
 * Where a site is given its number and its function leaves r12 and r13 alone (PLAN_F_NR_KEPT), they carry what the exit
 * side must know across the call: r12 the stack pointer and the number as CALL_KEY() has them, so that it is known
 * whether the enter side was passed at all; r13 when the call began, or 0. Nothing is written to memory, and most calls
 * need no stack here.
 */
#define NR_MAX 512                  /* OP_NR_MAX */
#define NR_NOT_OBSERVED 0xffff
#define NRF_ENTER 2
#define NRF_TIMED 4
#define PROBE_TIMING 41             /* struct probe.timing */

/* A call that no hook sees, for want of a stack. rcx = slot. */
        .macro  count_lost
        mov     process(%rip), %r11
        mov     (%r11), %r11                /* process->segment */
        test    %r11, %r11
        jz      9f
        lock incq SEGMENT_LOSS_SLOT(%r11)
9:      mov     %rcx, %r11
        RA_R11
        .endm

        .text

/* After a system call. rcx = slot; rcx and r11 are dead (the kernel uses them). */
        .globl  scope_entry_exit
        .hidden scope_entry_exit
        .type   scope_entry_exit, @function
        .balign 64
scope_entry_exit:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_def_cfa 7, 0
        RA_RCX
        endbr64
        save_frame
        mov     %rsp, %rdi
        mov     %rcx, %rsi
        call    scope_hook_exit
        restore_frame
        jmp     *SLOT_TAIL(%r11)
        .cfi_endproc
        .size   scope_entry_exit, . - scope_entry_exit

/* The same for Go code. */
        .globl  scope_entry_go_exit
        .hidden scope_entry_go_exit
        .type   scope_entry_go_exit, @function
        .balign 64
scope_entry_go_exit:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_def_cfa 7, 0
        RA_RCX
        endbr64
        testl   $SLOT_F_NR_KEPT, SLOT_FLAGS(%rcx)
        jz      2f
        mov     %rsp, %r11
        shl     $16, %r11
        xor     %r12, %r11
        cmp     $NR_NOT_OBSERVED, %r11
        je      3f
2:      .cfi_remember_state
        take_stack 1f
        mov     %r14, 72(%rsp)              /* go_g */
        testl   $SLOT_F_NR_KEPT, SLOT_FLAGS(%rsi)
        jz      9f
        mov     %r12, 80(%rsp)              /* stash_key, stash_time */
        mov     %r13, 88(%rsp)
9:      call    scope_hook_exit
        give_stack
        jmp     *SLOT_TAIL(%r11)
        .cfi_restore_state
        .cfi_remember_state
1:      count_lost
        jmp     *SLOT_TAIL(%r11)
        .cfi_restore_state
3:      mov     %rcx, %r11
        RA_R11
        jmp     *SLOT_TAIL(%r11)
        .cfi_endproc
        .size   scope_entry_go_exit, . - scope_entry_go_exit

/* At the entry of a function of Go, or behind the last of its instructions but `ret`: r12 = slot, and r8 to r13 and rsi
 * are free at both. What arguments and results are in is left as it was: rax, rbx, rcx and rdi, and g in r14. Go's vector
 * registers are left alone, as all code of the probe does. */
        .globl  scope_entry_go_function
        .hidden scope_entry_go_function
        .type   scope_entry_go_function, @function
        .balign 64
scope_entry_go_function:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_def_cfa 7, 0
        RA_R12
        mov     %rcx, %r13
        mov     %r12, %rcx
        .cfi_remember_state
        take_stack 1f
        mov     %r14, 72(%rsp)              /* go_g */
        mov     %rbx, 80(%rsp)              /* go_rbx, go_rcx */
        mov     %r13, 88(%rsp)
        call    scope_hook_go_function
        give_stack
        mov     %r13, %rcx
        jmp     *SLOT_TAIL(%r11)
        .cfi_restore_state
1:      count_lost
        mov     %r13, %rcx
        jmp     *SLOT_TAIL(%r11)
        .cfi_endproc
        .size   scope_entry_go_function, . - scope_entry_go_function

/* Before a system call. Leaves with rcx = the address after the syscall
 * instruction, which is what the kernel would put there: on CPUs with FRED it
 * keeps rcx, and stubs that prove their origin compare it. */
        .globl  scope_entry_enter
        .hidden scope_entry_enter
        .type   scope_entry_enter, @function
        .balign 64
scope_entry_enter:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_def_cfa 7, 0
        RA_RCX
        endbr64
        testl   $SLOT_F_TIMED_ONLY, SLOT_FLAGS(%rcx)
        jz      1f
        /* Only the time is wanted: leave it below the red zone, where a signal
         * handler may overwrite it (the key tells). */
        cmpb    $0, probe_no_ticks(%rip)
        jne     2f
        lea     -160(%rsp), %rsp
        .cfi_def_cfa_offset 160
        mov     %rax, %r11
        mov     %rdx, (%rsp)
        rdtsc
        shl     $32, %rdx
        or      %rax, %rdx
        lea     160(%rsp), %rax
        xor     %rdx, %rax
        mov     %rdx, 24(%rsp)
        mov     %rax, 16(%rsp)
        mov     (%rsp), %rdx
        mov     %r11, %rax
        lea     160(%rsp), %rsp
        .cfi_def_cfa_offset 0
2:      mov     %rcx, %r11
        RA_R11
        mov     SLOT_SITE_PC(%rcx), %rcx
        jmp     *SLOT_TAIL(%r11)
1:      RA_RCX
        save_frame
        mov     %rsp, %rdi
        mov     %rcx, %rsi
        call    scope_hook_enter
        restore_frame
        mov     SLOT_SITE_PC(%r11), %rcx
        jmp     *SLOT_TAIL(%r11)
        .cfi_endproc
        .size   scope_entry_enter, . - scope_entry_enter

        .globl  scope_entry_go_enter
        .hidden scope_entry_go_enter
        .type   scope_entry_go_enter, @function
        .balign 64
scope_entry_go_enter:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_def_cfa 7, 0
        RA_RCX
        endbr64
        testl   $SLOT_F_NR_KEPT, SLOT_FLAGS(%rcx)
        jz      6f
        mov     %rsp, %r12
        shl     $16, %r12
        mov     %eax, %r11d                 /* all that the kernel looks at */
        cmp     $NR_MAX, %r11d
        jae     3f
        lea     scope_nr_flags(%rip), %r13
        movzbl  (%r13, %r11), %r13d
        test    %r13d, %r13d
        jz      3f
        lea     1(%r12, %r11), %r12
        test    $NRF_ENTER, %r13b
        jnz     5f
        test    $NRF_TIMED, %r13b
        mov     $0, %r13d
        jz      4f
        cmpb    $0, probe_no_ticks(%rip)
        jne     4f
        cmpb    $0, probe + PROBE_TIMING(%rip)
        je      4f
        mov     %rax, %r11
        mov     %rdx, %r13
        rdtsc
        shl     $32, %rdx
        or      %rax, %rdx
        xchg    %rdx, %r13
        mov     %r11, %rax
        jmp     4f
3:      lea     NR_NOT_OBSERVED(%r12), %r12
        xor     %r13d, %r13d
4:      .cfi_remember_state
        mov     %rcx, %r11
        RA_R11
        mov     SLOT_SITE_PC(%rcx), %rcx
        jmp     *SLOT_TAIL(%r11)
        .cfi_restore_state
5:      xor     %r13d, %r13d
6:      .cfi_remember_state
        take_stack 1f
        mov     %r14, 72(%rsp)              /* go_g */
        call    scope_hook_enter
        give_stack
        mov     SLOT_SITE_PC(%r11), %rcx
        jmp     *SLOT_TAIL(%r11)
        .cfi_restore_state
1:      count_lost
        mov     SLOT_SITE_PC(%r11), %rcx
        jmp     *SLOT_TAIL(%r11)
        .cfi_endproc
        .size   scope_entry_go_enter, . - scope_entry_go_enter

/* Instead of `call leaf`, where the leaf (musl's __syscall_cp_asm, glibc's
 * __syscall_cancel_arch) makes the call inside a cancellation range. rax = slot.
 * The function arguments are: pointer, number, the six arguments of the call,
 * the last two on the stack. The hook sees them as if before the syscall. */
        .globl  scope_entry_call
        .hidden scope_entry_call
        .type   scope_entry_call, @function
        .balign 64
scope_entry_call:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_def_cfa 7, 0
        RA_RAX
        endbr64
        lea     -(FRAME + 64)(%rsp), %rsp
        .cfi_def_cfa_offset FRAME + 64
        mov     %rax, 56(%rsp)
        RA_FRAME
        mov     %rdi, 104(%rsp)
        mov     %rsi, 112(%rsp)
        mov     %rdx, 120(%rsp)
        mov     %rcx, 128(%rsp)
        mov     %r8, 136(%rsp)
        mov     %r9, 144(%rsp)
        mov     %rsi, 0(%rsp)
        mov     %rdx, 8(%rsp)
        mov     %rcx, 16(%rsp)
        mov     %r8, 24(%rsp)
        mov     %r9, 32(%rsp)
        mov     (FRAME + 64 + 8)(%rsp), %rcx
        mov     %rcx, 40(%rsp)
        mov     (FRAME + 64 + 16)(%rsp), %rcx
        mov     %rcx, 48(%rsp)
        lea     (FRAME + 64)(%rsp), %rcx
        mov     %rcx, 64(%rsp)
        mov     %rsp, %rdi
        mov     %rax, %rsi
        call    scope_hook_enter
        mov     104(%rsp), %rdi
        mov     112(%rsp), %rsi
        mov     120(%rsp), %rdx
        mov     128(%rsp), %rcx
        mov     136(%rsp), %r8
        mov     144(%rsp), %r9
        mov     56(%rsp), %rax
        RA_RAX
        lea     (FRAME + 64)(%rsp), %rsp
        .cfi_def_cfa_offset 0
        jmp     *SLOT_TAIL(%rax)
        .cfi_endproc
        .size   scope_entry_call, . - scope_entry_call

/* The wrapper of a function: instead of its first instruction, r11 = slot. It is a function of its own, which calls
 * the original, whose beginning was moved to the slot. Where no hook is wanted afterwards it is not there at all. */
#define FUNCTION_FRAME 136
        .macro  function_arguments
        mov     0(%rsp), %rax
        mov     8(%rsp), %rdi
        mov     16(%rsp), %rsi
        mov     24(%rsp), %rdx
        mov     32(%rsp), %rcx
        mov     40(%rsp), %r8
        mov     48(%rsp), %r9
        mov     56(%rsp), %r11
        mov     72(%rsp), %r10
        .endm

        .globl  scope_entry_function
        .hidden scope_entry_function
        .type   scope_entry_function, @function
        .balign 64
scope_entry_function:
        .cfi_startproc
        endbr64
        lea     -FUNCTION_FRAME(%rsp), %rsp
        .cfi_def_cfa_offset FUNCTION_FRAME + 8
        mov     %rax, 0(%rsp)
        mov     %rdi, 8(%rsp)
        mov     %rsi, 16(%rsp)
        mov     %rdx, 24(%rsp)
        mov     %rcx, 32(%rsp)
        mov     %r8, 40(%rsp)
        mov     %r9, 48(%rsp)
        mov     %r11, 56(%rsp)
        mov     %r10, 72(%rsp)
        lea     FUNCTION_FRAME(%rsp), %rax
        mov     %rax, 64(%rsp)
        mov     %rsp, %rdi
        mov     %r11, %rsi
        call    scope_hook_function_enter
        test    %al, %al
        jz      1f
        function_arguments
        call    *SLOT_TAIL(%r11)
        mov     %rax, 0(%rsp)
        mov     %rcx, 72(%rsp)
        mov     %rdx, 80(%rsp)
        mov     %rsi, 88(%rsp)
        mov     %rdi, 96(%rsp)
        mov     %r8, 104(%rsp)
        mov     %r9, 112(%rsp)
        mov     %r10, 120(%rsp)
        mov     %r11, 128(%rsp)
        mov     %rsp, %rdi
        mov     56(%rsp), %rsi
        call    scope_hook_function_exit
        mov     0(%rsp), %rax
        mov     72(%rsp), %rcx
        mov     80(%rsp), %rdx
        mov     88(%rsp), %rsi
        mov     96(%rsp), %rdi
        mov     104(%rsp), %r8
        mov     112(%rsp), %r9
        mov     120(%rsp), %r10
        mov     128(%rsp), %r11
        movq    $0, 64(%rsp)                /* no frame of ours any more, should it be looked at */
        .cfi_remember_state
        lea     FUNCTION_FRAME(%rsp), %rsp
        .cfi_def_cfa_offset 8
        ret
        .cfi_restore_state
1:      function_arguments
        movq    $0, 64(%rsp)
        lea     FUNCTION_FRAME(%rsp), %rsp
        .cfi_def_cfa_offset 8
        jmp     *SLOT_TAIL(%r11)
        .cfi_endproc
        .size   scope_entry_function, . - scope_entry_function

/* The ELF entry point of this library: where a static program starts that was stopped at the end of its exec
 * (inject/load.h). rdi, rsi, rdx: the arguments of scope_start_exec(). rsp: a struct ucontext with the registers that
 * the kernel had given to the program, for rt_sigreturn(2); nothing is above it in this call chain. */
        .globl  scope_entry_exec
        .hidden scope_entry_exec
        .type   scope_entry_exec, @function
        .long   scope_info - 0f         /* struct probe_info (wire/probe.h), for who looks at the image from outside */
0:
scope_entry_exec:
        .cfi_startproc
        .cfi_undefined rip
        endbr64
        mov     %rsp, %rbx
        and     $-16, %rsp
        call    scope_start_exec
        mov     %rbx, %rsp
        mov     $15, %eax               /* rt_sigreturn */
        syscall
        hlt
        .cfi_endproc
        .size   scope_entry_exec, . - scope_entry_exec

/* Where the handler of fatal signals (crash.c) returns to, with rsp at the kernel's struct ucontext. Unwinders find all
 * registers of the interrupted thread there: DW_CFA_expression (0x10), DW_OP_breg7 (rsp) with the offset in struct
 * ucontext. They look at the byte before a return address: so the description begins with one. */
        .globl  scope_restorer
        .hidden scope_restorer
        .type   scope_restorer, @function
        .balign 16
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_escape 0x0f, 4, 0x77, 0xa0, 0x01, 0x06 /* CFA: what is at 160(%rsp), rsp */
        .cfi_escape 0x10, 8, 2, 0x77, 0x28 /* r8 at 40 */
        .cfi_escape 0x10, 9, 2, 0x77, 0x30 /* r9 at 48 */
        .cfi_escape 0x10, 10, 2, 0x77, 0x38 /* r10 at 56 */
        .cfi_escape 0x10, 11, 3, 0x77, 0xc0, 0x00 /* r11 at 64 */
        .cfi_escape 0x10, 12, 3, 0x77, 0xc8, 0x00 /* r12 at 72 */
        .cfi_escape 0x10, 13, 3, 0x77, 0xd0, 0x00 /* r13 at 80 */
        .cfi_escape 0x10, 14, 3, 0x77, 0xd8, 0x00 /* r14 at 88 */
        .cfi_escape 0x10, 15, 3, 0x77, 0xe0, 0x00 /* r15 at 96 */
        .cfi_escape 0x10, 5, 3, 0x77, 0xe8, 0x00 /* rdi at 104 */
        .cfi_escape 0x10, 4, 3, 0x77, 0xf0, 0x00 /* rsi at 112 */
        .cfi_escape 0x10, 6, 3, 0x77, 0xf8, 0x00 /* rbp at 120 */
        .cfi_escape 0x10, 3, 3, 0x77, 0x80, 0x01 /* rbx at 128 */
        .cfi_escape 0x10, 1, 3, 0x77, 0x88, 0x01 /* rdx at 136 */
        .cfi_escape 0x10, 0, 3, 0x77, 0x90, 0x01 /* rax at 144 */
        .cfi_escape 0x10, 2, 3, 0x77, 0x98, 0x01 /* rcx at 152 */
        .cfi_escape 0x10, 16, 3, 0x77, 0xa8, 0x01 /* rip at 168 */
        nop
scope_restorer:
        mov     $15, %eax               /* rt_sigreturn */
        syscall
        hlt
        .cfi_endproc
        .size   scope_restorer, . - scope_restorer

/* A handler of the program for a fatal signal, with SA_RESETHAND: what the kernel would do before it calls it is done
 * here, and then it is as if it had been called by the kernel. */
        .globl  scope_once
        .hidden scope_once
        .type   scope_once, @function
        .balign 16
scope_once:
        .cfi_startproc
        endbr64
        push    %rdi
        .cfi_adjust_cfa_offset 8
        push    %rsi
        .cfi_adjust_cfa_offset 8
        push    %rdx
        .cfi_adjust_cfa_offset 8
        call    crash_once
        pop     %rdx
        .cfi_adjust_cfa_offset -8
        pop     %rsi
        .cfi_adjust_cfa_offset -8
        pop     %rdi
        .cfi_adjust_cfa_offset -8
        mov     %rax, %r11
        xor     %eax, %eax
        jmp     *%r11
        .cfi_endproc
        .size   scope_once, . - scope_once

/* Instructions that end in a signal. A non-canonical address on the stack is #SS, which is SIGBUS here (SDM volume 3,
 * 6.15). */
        .globl  scope_faults
        .hidden scope_faults
        .type   scope_faults, @function
        .balign 16
scope_faults:
        .cfi_startproc
        .cfi_undefined rip
        ud2
        .balign 16
        int3
        .balign 16
        xor     %ecx, %ecx
        div     %ecx
        .balign 16
        xor     %eax, %eax
        mov     (%rax), %eax
        .balign 16
        mov     $1 << 62, %rbp
        mov     (%rbp), %eax
        .cfi_endproc
        .size   scope_faults, . - scope_faults

/* The trampoline pool. In it the slot is PC & -128 and resume_pc its first word:
 * DW_OP_breg16 (rip) 0, DW_OP_const1s -128, DW_OP_and, DW_OP_deref. */
        .globl  scope_pool
        .hidden scope_pool
        .balign 4096
scope_pool:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_def_cfa 7, 0
        .cfi_escape 0x16, 0x10, 6, 0x80, 0x00, 0x09, 0x80, 0x1a, 0x06
        .skip   262144
        .cfi_endproc
        .globl  scope_pool_end
        .hidden scope_pool_end
scope_pool_end:
        .section .note.GNU-stack, "", @progbits
