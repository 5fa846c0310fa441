/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the probe needs to know about x86_64 Linux: the raw system call, the
 * clock, the thread pointer and the frame that entry.S hands to the hooks.
 * Everything else in src/probe is the same on every architecture.
 */
#ifndef SCOPE_PROBE_ARCH_H
#define SCOPE_PROBE_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#define PROBE_ARCH PLAN_ARCH_X86_64
#define PROBE_PAGE 4096ul
#define ARCH_PAGE_SIZE 0
#define ARCH_MACHINE EM_X86_64

/* Where the program's addresses end (the kernel's TASK_SIZE, Documentation/arch/x86/x86_64/mm.rst). */
#define ARCH_USER_END UINT64_C(0x00007ffffffff000)

/* The address that a pointer of the program's stands for. */
static inline uint64_t arch_untagged(uint64_t p)
{
    return p;
}

/* AT_PAGESZ. */
static inline void arch_set_page(uint64_t size)
{
}

/* Go gives each thread a pointer of its own. */
#define ARCH_SHARED_POINTER 0
static inline void arch_go_begins(void)
{
}

/* How far a jump reaches (rel32), less some room. */
#define ARCH_REACH ((UINT64_C(1) << 31) - (UINT64_C(1) << 24))

/* Protection of code that nothing but a system call can change; of an image that is marked so, by its loader. */
#define ARCH_PROT_LANDING 0
static inline bool arch_checks_landing(uint64_t hwcap2)
{
    return false;
}
#define ARCH_NOTE_FEATURES 0
#define ARCH_FEATURE_LANDING 0u

/* Arguments of clone(2), whose order is the architecture's. */
#define ARCH_CLONE_CHILD_TID 3
#define ARCH_CLONE_TLS 4

/* The C library's descriptor of a thread, around its thread pointer: no more of it than that. */
#define ARCH_DESCRIPTOR_BELOW 0
#define ARCH_DESCRIPTOR_ABOVE 2048

/* Offsets used by entry.S; asserted in calls.c. */
#define FRAME_SIZE 224      /* red zone (128) and struct regs (96) */

/* Registers of the program around a system call (System V ABI, A.2.1), and a
 * place below the red zone where the enter side of a merely timed call leaves
 * the time. Changing a member changes what the program's register will be. */
struct regs {
    uint64_t result;        /* number before, result after the call */
    uint64_t arg0, arg1, arg2, arg3, arg4, arg5;
    uint64_t slot;
    uint64_t sp;            /* stack pointer of the program */
    uint64_t go_g;          /* hooks of Go code: r14, the current goroutine since Go 1.17 */
    /* stash_time ^ sp when valid; PLAN_F_NR_KEPT: r12, sp and number as CALL_KEY() has them; functions of Go: rbx */
    uint64_t stash_key;
    uint64_t stash_time;    /* PLAN_F_NR_KEPT: r13; functions of Go: rcx */
};

/* Entry for functions of Go (entry.S). */
extern char scope_entry_go_function[] __attribute__((visibility("hidden")));
#define ARCH_ENTRY_GO_FUNCTION (uint64_t)scope_entry_go_function

/* A call of a method of Go: at its entry the receiver and a slice, behind it the first result. */
struct go_call {
    uint64_t g;             /* the goroutine */
    uint64_t object, buffer, length;
    int64_t result;
    uint64_t caller;        /* where it returns to */
};

/* The goroutine of the calling thread before Go 1.17: the thread's word at fs:-8, where Go's own linker has put it. */
static inline uint64_t arch_go_thread_word(void)
{
    uint64_t g;

    __asm__ volatile("mov %%fs:-8, %0" : "=r"(g));
    return g;
}

/* on_stack: arguments and results are words behind the return address, as before Go 1.17 (ABI0); else they are in rax,
 * rbx, rcx, rdi and rax ("Go internal ABI specification", amd64). The stack pointer is where the return address is. */
static inline void arch_go_call(const struct regs *r, bool on_stack, struct go_call *ret)
{
    const uint64_t *word = (const uint64_t *)r->sp;

    if (on_stack)
        *ret = (struct go_call){arch_go_thread_word(), word[1], word[2], word[3], (int64_t)word[5], word[0]};
    else
        *ret = (struct go_call){r->go_g, r->result, r->stash_key, r->stash_time, (int64_t)r->result, word[0]};
}

/* The frame of a wrapper: the arguments that a function was called with, and afterwards what it returned. Its caller
 * may rely on what the ABI says, or on what a compiler that saw both knows of the function's registers: nothing but
 * r11 is changed. */
#define FUNCTION_FRAME 136
#define ARCH_RETURN_SIZE 8u /* what a call leaves on the stack */
#define ARCH_JSSE true /* plaintext of Java's own TLS is read (jsse.h) */
struct function_regs {
    uint64_t result;        /* rax */
    uint64_t arg0, arg1, arg2, arg3, arg4, arg5;
    uint64_t slot;
    uint64_t sp;            /* where the return address is; 0 once the call is over */
    uint64_t saved[8];      /* all other registers that a hook may change */
};
/* Where the function will return to. */
static inline uint64_t function_caller(const struct function_regs *r)
{
    return *(const uint64_t *)r->sp;
}

static inline uint64_t regs_arg(const struct regs *r, unsigned n)
{
    return (&r->arg0)[n];
}

/* Number register of a site whose number isn't constant. */
static inline int64_t regs_nr(const struct regs *r)
{
    return (int32_t)r->result;
}

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

/* Adds in one instruction: whole for a signal handler of this thread, not for other threads. */
static inline void arch_add64(uint64_t *p, uint64_t n)
{
    __asm__ volatile("addq %1, %0" : "+m"(*p) : "er"(n) : "cc");
}

/* Likewise; returns what was there before. */
static inline uint64_t arch_fetch_add64(uint64_t *p, uint64_t n)
{
    __asm__ volatile("xaddq %0, %1" : "+r"(n), "+m"(*p) : : "cc");
    return n;
}

/* Likewise; returns the sum. Stores are seen in their order here, so who sees it sees what was written before. */
static inline uint32_t arch_add32(uint32_t *p, uint32_t n)
{
    uint32_t was = n;

    __asm__ volatile("xaddl %0, %1" : "+r"(was), "+m"(*p) : : "cc");
    return was + n;
}

static inline void arch_pause(void)
{
    __asm__ volatile("pause");
}

static inline uint64_t arch_ticks(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return lo | (uint64_t)hi << 32;
}

/* Whether arch_ticks() is allowed. A program can have forbidden it to itself, and so to those that it execs:
 * prctl(PR_GET_TSC) of Linux says so. */
static inline bool arch_may_read_ticks(long asked, int on)
{
    return asked >= 0 && on == 1;
}

/* Clocks of the kernel (the beginnings of their names, of 7 characters at most) that are arch_ticks(). */
#define ARCH_CLOCKS {"tsc", "kvm-clo", "hyperv_"}

/* Set at start from AT_HWCAP2: user code may read the FS base (Linux >= 5.9). */
extern uint8_t probe_fsgsbase __attribute__((visibility("hidden")));

/* The thread pointer. Without FSGSBASE: word 0 of the thread control block,
 * which the ABI (ELF TLS, variant II) defines to be its own address. */
static inline uint64_t arch_thread_pointer(void)
{
    uint64_t tp;

    if (__builtin_expect(probe_fsgsbase, 1))
        __asm__ volatile("rdfsbase %0" : "=r"(tp));
    else
        __asm__ volatile("mov %%fs:0, %0" : "=r"(tp));
    return tp;
}

/* By AT_HWCAP2 (HWCAP2_FSGSBASE of asm/hwcap2.h). */
static inline bool arch_reads_pointer(uint64_t hwcap2)
{
    return (hwcap2 & 2) != 0;
}

/* Entry for calls of which the time is wanted only: here the enter side knows by itself (SLOT_F_TIMED_ONLY). */
#define ARCH_ENTRY_TIMED 0

/* Code that was written at this address may be run by this thread from now on. Here that needs nothing but a jump (SDM
 * volume 3, 9.1.3). */
static inline void arch_sync_code(const void *p, uint64_t size)
{
}

#define ARCH_SIGSET(bits) (bits)

/* ---- fatal signals (crash.c) ---- */

/* Where a signal handler of ours returns to (entry.S). */
extern char scope_restorer[] __attribute__((visibility("hidden")));
extern char scope_faults[] __attribute__((visibility("hidden")));

/* Instructions that end in this signal; NULL: there are none. */
static inline const char *arch_fault(int sig)
{
    switch (sig) {
    case 4: return scope_faults;       /* SIGILL */
    case 5: return scope_faults + 16;  /* SIGTRAP */
    case 8: return scope_faults + 32;  /* SIGFPE */
    case 11: return scope_faults + 48; /* SIGSEGV */
    case 7: return scope_faults + 64;  /* SIGBUS */
    default: return 0;
    }
}

/* Registers of the interrupted thread, in what the kernel hands to a handler (struct ucontext). */
#define ARCH_UC_SP 160
#define ARCH_UC_PC 168
#define ARCH_UC_TRAP 200
static inline uint64_t *arch_uc(void *uc, unsigned at)
{
    return (uint64_t *)(void *)((char *)uc + at);
}
static inline const char *arch_uc_pc(void *uc) { return (const char *)*arch_uc(uc, ARCH_UC_PC); }
static inline uint64_t arch_uc_sp(void *uc) { return *arch_uc(uc, ARCH_UC_SP); }
static inline void arch_uc_jump(void *uc, const char *pc) { *arch_uc(uc, ARCH_UC_PC) = (uint64_t)pc; }

/* With si_code SI_KERNEL: whether the CPU has reported a fault (#SS, #GP), not the kernel that it can't go on. */
static inline bool arch_uc_faulted(void *uc)
{
    uint64_t trap = *arch_uc(uc, ARCH_UC_TRAP);

    return trap == 12 || trap == 13;
}

/* Whether these two bytes are a system call. */
#define ARCH_SYSCALL_SIZE 2u
static inline bool arch_is_syscall(const char *pc) { return pc[0] == 0x0f && pc[1] == 0x05; }

#endif
