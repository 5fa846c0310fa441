/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the probe needs to know about arm64 Linux: the raw system call, the
 * clock, the thread pointer and the frame that entry.S hands to the hooks.
 * Everything else in src/probe is the same on every architecture.
 */
#ifndef SCOPE_PROBE_ARCH_H
#define SCOPE_PROBE_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#define PROBE_ARCH PLAN_ARCH_AARCH64

/* Kernels have pages of 4, 16 or 64 KiB. Set at start from AT_PAGESZ. */
extern uint64_t probe_page __attribute__((visibility("hidden")));
#define PROBE_PAGE probe_page
#define ARCH_PAGE_SIZE (&probe_page)
#define ARCH_MACHINE EM_AARCH64

/* Where the program's addresses end: 48 bits, as the kernel gives them where nobody asks for more; 52, where somebody
 * does (Documentation/arch/arm64/memory.rst). */
#define ARCH_USER_END (UINT64_C(1) << 52)

/* The address that a pointer of the program's stands for: the CPU looks at the upper 8 bits nowhere (TBI, Arm ARM,
 * D5.1.4), the kernel only where a program has agreed that with it (Documentation/arch/arm64/tagged-address-abi.rst).
 * So who is asked, or reads, gets the pointer with its tag. */
static inline uint64_t arch_untagged(uint64_t p)
{
    return p & ((UINT64_C(1) << 56) - 1);
}

static inline void arch_set_page(uint64_t size)
{
    if (size)
        probe_page = size;
}

/* How far a branch reaches (B and BL: 26 bits of words), less some room. */
#define ARCH_REACH ((UINT64_C(128) << 20) - (UINT64_C(1) << 20))

/* Protection of code in which indirect branches may only lead to landing pads (PROT_BTI, asm/mman.h), which mprotect(2)
 * takes away if it isn't told to keep it. */
#define ARCH_PROT_LANDING 0x10
static inline bool arch_checks_landing(uint64_t hwcap2)
{
    return (hwcap2 & 1 << 17) != 0; /* HWCAP2_BTI, asm/hwcap.h */
}

/* The property of an image (in PT_GNU_PROPERTY) that says so: GNU_PROPERTY_AARCH64_FEATURE_1_AND and its bit (ELF for
 * the Arm 64-bit Architecture, 5.3.4). */
#define ARCH_NOTE_FEATURES 0xc0000000u
#define ARCH_FEATURE_LANDING 1u

/* Arguments of clone(2), whose order is the architecture's (CONFIG_CLONE_BACKWARDS). */
#define ARCH_CLONE_TLS 3
#define ARCH_CLONE_CHILD_TID 4

/* The C library's descriptor of a thread, around its thread pointer: no more of it than that. It ends where thread-local
 * variables begin (TLS variant I). */
#define ARCH_DESCRIPTOR_BELOW 2048
#define ARCH_DESCRIPTOR_ABOVE 0

/* Offsets used by entry.S; asserted in calls.c. */
#define FRAME_SIZE 224      /* struct regs (96), x6 to x18, x30, nzcv */

/* Registers of the program around a system call (Linux: number in x8, arguments in x0 to x5, result in x0). Changing a
 * member changes what the program's register will be. There is no red zone (AAPCS64, 6.4.5): everything below the stack
 * pointer may be overwritten by signal handlers, so what the enter side of a merely timed call leaves there has a key. */
struct regs {
    uint64_t result;        /* number before, result after the call */
    uint64_t arg0, arg1, arg2, arg3, arg4, arg5;
    uint64_t slot;
    uint64_t sp;            /* stack pointer of the program */
    uint64_t go_g;          /* hooks of Go code: x28, the current goroutine */
    uint64_t stash_key;     /* stash_time ^ sp when valid */
    uint64_t stash_time;
};

/* Functions of Go are not hooked here yet: the planner leaves them alone, and nothing comes to their entry. */
#define ARCH_ENTRY_GO_FUNCTION 0
struct go_call {
    uint64_t g, object, buffer, length;
    int64_t result;
    uint64_t caller;
};
static inline uint64_t arch_go_thread_word(void)
{
    return 0;
}
static inline void arch_go_call(const struct regs *r, bool on_stack, struct go_call *ret)
{
    *ret = (struct go_call){0};
}

/* The frame of a wrapper: the arguments that a function was called with, and afterwards what it returned. */
#define FUNCTION_FRAME 240
#define ARCH_RETURN_SIZE 0u /* what a call leaves on the stack */
#define ARCH_JSSE false /* not yet: nothing in it is of one architecture, but no VM of this one has tried it (jsse.h) */
struct function_regs {
    uint64_t result;        /* x0 */
    uint64_t arg0, arg1, arg2, arg3, arg4, arg5;
    uint64_t slot;
    uint64_t sp;            /* of the caller; 0 once the call is over */
    uint64_t saved[21];     /* other registers that a hook may change; x29 and x30 at the end */
};
/* Where the function will return to. */
static inline uint64_t function_caller(const struct function_regs *r)
{
    return r->saved[20];
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

/* Adds so that it is whole for a signal handler of this thread. There is no such instruction on memory but the atomic
 * ones (Armv8.1), so a pair of exclusive accesses does it on every CPU; the handler's own accesses break the pair. */
static inline void arch_add64(uint64_t *p, uint64_t n)
{
    __atomic_fetch_add(p, n, __ATOMIC_RELAXED);
}

/* Likewise; returns what was there before. */
static inline uint64_t arch_fetch_add64(uint64_t *p, uint64_t n)
{
    return __atomic_fetch_add(p, n, __ATOMIC_RELAXED);
}

/* Likewise; returns the sum. Who sees it sees what was written before: the collector is a process of its own, also where
 * the program has one thread. */
static inline uint32_t arch_add32(uint32_t *p, uint32_t n)
{
    return __atomic_add_fetch(p, n, __ATOMIC_RELEASE);
}

static inline void arch_pause(void)
{
    __asm__ volatile("yield");
}

/* The virtual count of the generic timer. May be read early: what matters is the order within a thread, and records of
 * one thread are microseconds apart at the counter's usual 24 MHz to 1 GHz. */
static inline uint64_t arch_ticks(void)
{
    uint64_t v;

    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
    return v;
}

/* Whether arch_ticks() is allowed: prctl(PR_GET_TSC), which Linux has here since 6.12. Before, nobody could forbid it. */
static inline bool arch_may_read_ticks(long asked, int on)
{
    return asked < 0 || on == 1;
}

/* Clocks of the kernel (the beginnings of their names, of 7 characters at most) that are arch_ticks(): the generic timer. */
#define ARCH_CLOCKS {"arch_sy"}

/* Whether Go code can be observed: its threads are told apart by an instruction that always works here. */
extern uint8_t probe_fsgsbase __attribute__((visibility("hidden")));
static inline bool arch_reads_pointer(uint64_t hwcap2)
{
    return true;
}

/* Where a goroutine has its thread's struct m, since there is Go for arm64 (1.5); "offset known to arm liblink"
 * (runtime/runtime2.go). */
#define ARCH_GO_M 48

/* The thread pointer that Go's threads have together, where there is no C: the first thread's, which Go's clone(2)
 * leaves as it is. 0 in a static program; with a loader (-buildmode=pie) what that has set. */
extern uint64_t probe_shared_pointer __attribute__((visibility("hidden")));
#define ARCH_SHARED_POINTER (&probe_shared_pointer)

/* Before the first hook of Go code, in a thread of the program. */
static inline void arch_go_begins(void)
{
    __asm__ volatile("mrs %0, tpidr_el0" : "=r"(probe_shared_pointer));
}

/* What tells threads apart: the thread pointer. Where threads share one, hooks of Go code run on stacks of the
 * probe's, whose head (stacks.h) has the goroutine. There may be any number of these, and they go from thread to
 * thread; what stays with a thread is its m. (With cgo, where the first thread alone has the first pointer, its Go
 * code and its C code count as two.) */
extern uint64_t scope_stacks __attribute__((visibility("hidden"))), scope_stacks_end __attribute__((visibility("hidden")));
static inline uint64_t arch_thread_pointer(void)
{
    uint64_t tp, sp;

    __asm__ volatile("mrs %0, tpidr_el0" : "=r"(tp));
    if (__builtin_expect(tp == probe_shared_pointer, 0)) {
        __asm__ volatile("mov %0, sp" : "=r"(sp));
        if (sp - scope_stacks < scope_stacks_end - scope_stacks) { /* they are aligned to pages only */
            uint64_t g = ((const struct regs *)(scope_stacks + ((sp - scope_stacks) | (16384 - 1)) + 1 - 128))->go_g;
            uint64_t m = g > 4096 && !(g & 7) ? *(const uint64_t *)(g + ARCH_GO_M) : 0;

            tp = m ? m : g;
        }
    }
    return tp;
}

extern char scope_entry_timed[] __attribute__((visibility("hidden")));
#define ARCH_ENTRY_TIMED (uint64_t)scope_entry_timed

/* Code that was written at this address may be run by this thread from now on: data is cleaned to where instructions are
 * fetched from, what is cached of them there is invalidated, and nothing older is in the pipeline (Arm ARM, B2.4.4,
 * "Ordering of instruction fetches"; sizes of lines by CTR_EL0). */
static inline void arch_sync_code(const void *p, uint64_t size)
{
    uint64_t ctr, at = (uint64_t)p, end = at + size, line;

    __asm__ volatile("mrs %0, ctr_el0" : "=r"(ctr));
    line = UINT64_C(4) << (ctr >> 16 & 15);
    for (uint64_t v = at & ~(line - 1); v < end; v += line)
        __asm__ volatile("dc cvau, %0" : : "r"(v) : "memory");
    __asm__ volatile("dsb ish" : : : "memory");
    line = UINT64_C(4) << (ctr & 15);
    for (uint64_t v = at & ~(line - 1); v < end; v += line)
        __asm__ volatile("ic ivau, %0" : : "r"(v) : "memory");
    __asm__ volatile("dsb ish\n\tisb" : : : "memory");
}

#define ARCH_SIGSET(bits) {{bits}}

/* ---- fatal signals (crash.c) ---- */

/* Where a signal handler of ours returns to (entry.S). */
extern char scope_restorer[] __attribute__((visibility("hidden")));
extern char scope_faults[] __attribute__((visibility("hidden")));

/* Instructions that end in this signal; NULL: there are none. Division by zero is no fault here. */
static inline const char *arch_fault(int sig)
{
    switch (sig) {
    case 4: return scope_faults;       /* SIGILL */
    case 5: return scope_faults + 16;  /* SIGTRAP */
    case 11: return scope_faults + 32; /* SIGSEGV */
    case 7: return scope_faults + 48;  /* SIGBUS */
    default: return 0;
    }
}

/* Registers of the interrupted thread, in what the kernel hands to a handler: struct ucontext, in which struct
 * sigcontext begins at 176 (asm/ucontext.h, asm/sigcontext.h). */
#define ARCH_UC_SP 432
#define ARCH_UC_PC 440
static inline uint64_t *arch_uc(void *uc, unsigned at)
{
    return (uint64_t *)(void *)((char *)uc + at);
}
static inline const char *arch_uc_pc(void *uc) { return (const char *)*arch_uc(uc, ARCH_UC_PC); }
static inline uint64_t arch_uc_sp(void *uc) { return *arch_uc(uc, ARCH_UC_SP); }
static inline void arch_uc_jump(void *uc, const char *pc) { *arch_uc(uc, ARCH_UC_PC) = (uint64_t)pc; }

/* With si_code SI_KERNEL: whether the CPU has reported a fault. It always says which, here. */
static inline bool arch_uc_faulted(void *uc)
{
    return false;
}

/* Whether this word is a system call. */
#define ARCH_SYSCALL_SIZE 4u
static inline bool arch_is_syscall(const char *pc)
{
    return pc[0] == 0x01 && pc[1] == 0 && pc[2] == 0 && (unsigned char)pc[3] == 0xd4;
}

#endif
