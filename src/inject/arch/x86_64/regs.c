/* SPDX-License-Identifier: Apache-2.0 */
#include "regs.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#define CS_64BIT 0x33 /* the kernel's __USER_CS; 32-bit code has 0x23 */
#define HWCAP2_FSGSBASE 2

/* arch/x86/include/uapi/asm/ucontext.h: the frame has a good ss, and ss shall be as it says */
#define UC_SIGCONTEXT_SS 2
#define UC_STRICT_RESTORE_SS 4

const unsigned char arch_gadget[9] = {
    0x0f, 0x05,                   /* syscall */
    0xb8, 0x0f, 0x00, 0x00, 0x00, /* mov $15, %eax */
    0x0f, 0x05,                   /* syscall */
};

int arch_get_regs(pid_t tid, struct arch_regs *ret)
{
    struct iovec iov = {&ret->user, sizeof(ret->user)};

    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) < 0)
        return -errno;
    return iov.iov_len == sizeof(ret->user) && ret->user.cs == CS_64BIT ? 0 : -ENOEXEC;
}

int arch_set_regs(pid_t tid, const struct arch_regs *regs)
{
    struct user_regs_struct user = regs->user;
    struct iovec iov = {&user, sizeof(user)};

    return ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

uint64_t arch_pc(const struct arch_regs *regs)
{
    return regs->user.rip;
}

uint64_t arch_sp(const struct arch_regs *regs)
{
    return regs->user.rsp;
}

int64_t arch_result(const struct arch_regs *regs)
{
    return (int64_t)regs->user.rax;
}

void arch_regs_enter(struct arch_regs *regs, uint64_t pc, uint64_t sp, const uint64_t arg[3])
{
    regs->user.rip = pc;
    regs->user.rsp = sp;
    regs->user.rdi = arg[0];
    regs->user.rsi = arg[1];
    regs->user.rdx = arg[2];
    regs->user.orig_rax = ~0ull; /* no system call to be restarted */
}

void arch_regs_call(struct arch_regs *regs, uint64_t pc, uint64_t sp, long nr, const uint64_t arg[6])
{
    arch_regs_enter(regs, pc + ARCH_GADGET_CALL, sp, arg);
    regs->user.rax = (unsigned long long)nr;
    regs->user.r10 = arg[3];
    regs->user.r8 = arg[4];
    regs->user.r9 = arg[5];
}

void arch_frame(struct arch_frame *ret, const struct arch_regs *regs, uint64_t mask)
{
    const struct user_regs_struct *u = &regs->user;
    ucontext_t uc = {.uc_flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS};
    greg_t *g = uc.uc_mcontext.gregs;

    uc.uc_stack.ss_flags = -1; /* sigaltstack(2) refuses it, which rt_sigreturn passes over: nothing is changed */
    g[REG_R8] = (greg_t)u->r8;
    g[REG_R9] = (greg_t)u->r9;
    g[REG_R10] = (greg_t)u->r10;
    g[REG_R11] = (greg_t)u->r11;
    g[REG_R12] = (greg_t)u->r12;
    g[REG_R13] = (greg_t)u->r13;
    g[REG_R14] = (greg_t)u->r14;
    g[REG_R15] = (greg_t)u->r15;
    g[REG_RDI] = (greg_t)u->rdi;
    g[REG_RSI] = (greg_t)u->rsi;
    g[REG_RBP] = (greg_t)u->rbp;
    g[REG_RBX] = (greg_t)u->rbx;
    g[REG_RDX] = (greg_t)u->rdx;
    g[REG_RAX] = (greg_t)u->rax;
    g[REG_RCX] = (greg_t)u->rcx;
    g[REG_RSP] = (greg_t)u->rsp;
    g[REG_RIP] = (greg_t)u->rip;
    g[REG_EFL] = (greg_t)u->eflags;
    g[REG_CSGSFS] = (greg_t)(u->cs | u->ss << 48);
    /* fpregs is NULL: initial state */
    memcpy(ret->ucontext, &uc, sizeof(ret->ucontext));
    memcpy(ret->ucontext + offsetof(ucontext_t, uc_sigmask), &mask, sizeof(mask));
}

int arch_probe_runs_early(void)
{
    return (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) != 0;
}
