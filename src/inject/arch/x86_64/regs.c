/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/regs.h"

#include <asm/sigcontext.h>
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>

#define CS_64BIT 0x33 /* the kernel's __USER_CS; 32-bit code has 0x23 */

/* arch/x86/include/uapi/asm/ucontext.h: the frame has a good ss, and ss shall be as it says */
#define UC_FP_XSTATE 1
#define UC_SIGCONTEXT_SS 2
#define UC_STRICT_RESTORE_SS 4

const unsigned char arch_gadget[ARCH_GADGET_SIZE] = {
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

uint64_t arch_thread_pointer(const struct arch_regs *regs)
{
    return regs->user.fs_base;
}

int64_t arch_result(const struct arch_regs *regs)
{
    return (int64_t)regs->user.rax;
}

/* What it points to begins with its own address: tcbhead_t of glibc, struct pthread of musl. */
bool arch_is_libcs_pointer(uint64_t pointer, uint64_t first)
{
    return pointer == first;
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

/* What the kernel leaves in rax of a call that it will restart when the thread goes on: include/linux/errno.h. */
enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516 };

int arch_in_call(const struct arch_regs *regs)
{
    return (int64_t)regs->user.orig_rax >= 0;
}

int arch_restart_hidden(const struct arch_regs *regs)
{
    return arch_in_call(regs) && (int64_t)regs->user.rax == -ERESTART_RESTARTBLOCK;
}

void arch_rewind(struct arch_regs *regs)
{
    regs->user.rip -= ARCH_SYSCALL_SIZE;
    regs->user.rax = regs->user.orig_rax;
    regs->user.orig_rax = ~0ull;
}

void arch_set_pc(struct arch_regs *regs, uint64_t pc)
{
    regs->user.rip = pc;
}

void arch_regs_back(struct arch_regs *regs)
{
    (void)regs; /* the kernel looks at them when it lets the thread go: orig_rax and rax say what is to be done */
}

void arch_see(pid_t pid, pid_t tid, struct arch_call *ret)
{
    (void)pid;
    (void)tid;
    (void)ret;
}

void arch_recognize(pid_t pid, pid_t tid, const struct arch_call *seen, struct arch_regs *regs)
{
    (void)pid;
    (void)tid;
    (void)seen;
    (void)regs;
}

void arch_recognize_again(const struct arch_regs *before, struct arch_regs *regs)
{
    (void)before;
    (void)regs;
}

int arch_vectors_get(pid_t tid, struct arch_vectors *ret)
{
    (void)tid;
    (void)ret;
    return 0;
}

int arch_vectors_set(pid_t tid, const struct arch_vectors *v)
{
    (void)tid;
    (void)v;
    return 0;
}

void arch_vectors_free(struct arch_vectors *v)
{
    (void)v;
}

/* All arguments are where they were. */
int arch_hook_register(const struct plan_slot *slot)
{
    (void)slot;
    return -1;
}

uint64_t arch_register(const struct arch_regs *regs, unsigned n)
{
    (void)regs;
    (void)n;
    return 0;
}

void arch_set_register(struct arch_regs *regs, unsigned n, uint64_t value)
{
    (void)regs;
    (void)n;
    (void)value;
}

uint64_t arch_context_register(uint64_t pc_at, unsigned n)
{
    (void)pc_at;
    (void)n;
    return 0;
}

uint64_t arch_moved_end(const char *blob, uint32_t size, uint64_t blob_at, uint32_t slot)
{
    (void)size;
    (void)blob_at;
    return ((const struct plan_slot *)(const void *)(blob + slot))->site_pc;
}

/* arch/x86/kernel/process.c: the time stamp counter can be forbidden. */
bool arch_reads_counter(int64_t rc, int on)
{
    return rc == 0 && on == PR_TSC_ENABLE;
}

int arch_interrupted(const struct arch_regs *regs)
{
    /* signal(7), "Interruption of system calls and library functions by stop signals" and the ones with a timeout */
    static const uint16_t calls[] = {SYS_epoll_wait,     SYS_epoll_pwait, SYS_epoll_pwait2, SYS_rt_sigtimedwait,
                                     SYS_semop,          SYS_semtimedop,  SYS_io_getevents, SYS_io_pgetevents,
                                     SYS_io_uring_enter, SYS_read,        SYS_write,        SYS_readv,
                                     SYS_writev,         SYS_recvfrom,    SYS_recvmsg,      SYS_recvmmsg,
                                     SYS_sendto,         SYS_sendmsg,     SYS_sendmmsg,     SYS_accept,
                                     SYS_accept4,        SYS_connect};

    if (!arch_in_call(regs) || (int64_t)regs->user.rax != -EINTR)
        return 0;
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
        if (regs->user.orig_rax == calls[i])
            return 1;
    return 0;
}

/* The kernel's FPU state in memory as NT_X86_XSTATE has it: the legacy area, of which the last words are for software,
 * and the header (SDM volume 1, 13.4). */
#define XSTATE_SW 464
#define XSTATE_HEADER 512
#define XSTATE_EXTENDED 576
#define XFEATURE_AMX UINT64_C(0x60000) /* a thread has room for these only once it has asked for them */

/* How much of it a frame must have, and the components in that. */
static size_t xstate_needed(const unsigned char *xstate, size_t size, uint64_t *ret_features)
{
    uint64_t enabled, used;
    size_t need = XSTATE_EXTENDED;

    memcpy(&enabled, xstate + XSTATE_SW, sizeof(enabled));
    memcpy(&used, xstate + XSTATE_HEADER, sizeof(used));
    enabled &= ~XFEATURE_AMX | used;
    for (unsigned i = 2; i < 63; i++) {
        unsigned len, at, flags, rest;

        if (!(enabled >> i & 1))
            continue;
        __cpuid_count(0xd, i, len, at, flags, rest);
        (void)flags;
        (void)rest;
        if ((size_t)at + len > size)
            enabled &= ~(UINT64_C(1) << i);
        else if ((size_t)at + len > need)
            need = (size_t)at + len;
    }
    *ret_features = enabled;
    return need;
}

int arch_frame(pid_t tid, const struct arch_regs *regs, uint64_t sp, uint64_t mask, void *buf, uint64_t *ret_at,
               size_t *ret_size)
{
    enum { UCONTEXT = offsetof(ucontext_t, uc_sigmask) + 8 }; /* the kernel's struct ucontext, with 64 signals */
    struct user_regs_struct u = regs->user;
    ucontext_t uc = {.uc_flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | UC_FP_XSTATE};
    greg_t *g = uc.uc_mcontext.gregs;
    _Alignas(64) static unsigned char xstate[ARCH_XSTATE_MAX];
    struct iovec iov = {xstate, sizeof(xstate)};
    struct _fpx_sw_bytes sw = {.magic1 = FP_XSTATE_MAGIC1};
    const uint32_t magic2 = FP_XSTATE_MAGIC2;
    unsigned char *frame = buf;
    uint64_t at, fp, features;
    size_t size;

    if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &iov) < 0)
        return -errno;
    if (iov.iov_len < XSTATE_EXTENDED || iov.iov_len == sizeof(xstate))
        return -ENOTSUP;
    size = xstate_needed(xstate, iov.iov_len, &features);
    sw.xstate_size = (uint32_t)size;
    sw.xfeatures = features;
    sw.extended_size = sw.xstate_size + (uint32_t)sizeof(magic2);
    memcpy(xstate + XSTATE_SW, &sw, sizeof(sw));
    fp = (sp - ARCH_RED_ZONE - sw.extended_size) & ~UINT64_C(63);
    at = (fp - UCONTEXT) & ~UINT64_C(15);

    if (arch_in_call(regs)) {
        switch (-(int64_t)u.rax) {
        case ERESTARTSYS:
        case ERESTARTNOINTR:
        case ERESTARTNOHAND:
            u.rip -= ARCH_SYSCALL_SIZE;
            u.rax = u.orig_rax;
            break;
        case ERESTART_RESTARTBLOCK:
            u.rax = (unsigned long long)-EINTR;
            break;
        }
    }
    uc.uc_stack.ss_flags = -1; /* sigaltstack(2) refuses it, which rt_sigreturn passes over: nothing is changed */
    g[REG_R8] = (greg_t)u.r8;
    g[REG_R9] = (greg_t)u.r9;
    g[REG_R10] = (greg_t)u.r10;
    g[REG_R11] = (greg_t)u.r11;
    g[REG_R12] = (greg_t)u.r12;
    g[REG_R13] = (greg_t)u.r13;
    g[REG_R14] = (greg_t)u.r14;
    g[REG_R15] = (greg_t)u.r15;
    g[REG_RDI] = (greg_t)u.rdi;
    g[REG_RSI] = (greg_t)u.rsi;
    g[REG_RBP] = (greg_t)u.rbp;
    g[REG_RBX] = (greg_t)u.rbx;
    g[REG_RDX] = (greg_t)u.rdx;
    g[REG_RAX] = (greg_t)u.rax;
    g[REG_RCX] = (greg_t)u.rcx;
    g[REG_RSP] = (greg_t)u.rsp;
    g[REG_RIP] = (greg_t)u.rip;
    g[REG_EFL] = (greg_t)u.eflags;
    g[REG_CSGSFS] = (greg_t)(u.cs | u.ss << 48);
    uc.uc_mcontext.fpregs = (fpregset_t)(uintptr_t)fp; // NOLINT(performance-no-int-to-ptr)
    memset(frame, 0, (size_t)(fp - at));
    memcpy(frame, &uc, offsetof(ucontext_t, uc_sigmask));
    memcpy(frame + offsetof(ucontext_t, uc_sigmask), &mask, sizeof(mask));
    memcpy(frame + (fp - at), xstate, size);
    memcpy(frame + (fp - at) + size, &magic2, sizeof(magic2));
    *ret_at = at;
    *ret_size = (size_t)(fp - at) + sw.extended_size;
    return 0;
}

size_t arch_find_context(const uint64_t *words, size_t from, size_t count, uint64_t *ret_sp)
{
    /* cs, gs, fs, ss as the kernel's setup_sigcontext() saves them, two words behind rip */
    const uint64_t segments = CS_64BIT | UINT64_C(0x2b) << 48;

    for (size_t i = from < 1 ? 1 : from; i + 2 < count; i++)
        if (words[i + 2] == segments) {
            *ret_sp = words[i - 1];
            return i;
        }
    return count;
}

int arch_context_alternate(const uint64_t *words, size_t at, uint64_t address, uint64_t sp)
{
    enum {
        PC = offsetof(ucontext_t, uc_mcontext.gregs[REG_RIP]),
        BASE = (PC - offsetof(ucontext_t, uc_stack.ss_sp)) / sizeof(*words),
        SIZE = (PC - offsetof(ucontext_t, uc_stack.ss_size)) / sizeof(*words),
    };

    return at >= BASE && sp - words[at - BASE] < words[at - SIZE] && address - words[at - BASE] < words[at - SIZE];
}

uint64_t arch_context_stack(uint64_t pc_at)
{
    return pc_at - offsetof(ucontext_t, uc_mcontext.gregs[REG_RIP]) + offsetof(ucontext_t, uc_stack);
}

int arch_status_shadow_stack(const char *name, const char *value)
{
    static const char word[] = "shstk";

    if (strcmp(name, "x86_Thread_features") != 0)
        return 0;
    while (*value) {
        size_t n = strcspn(value, " \t");

        if (n == sizeof(word) - 1 && strncmp(value, word, n) == 0)
            return 1;
        value += n;
        value += strspn(value, " \t");
    }
    return 0;
}
