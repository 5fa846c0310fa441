/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel shows of a stopped thread: do_signal() of arch/arm64/kernel/signal.c has dealt with the call that the
 * stop has interrupted before the tracer sees anything. A call that is to be made again: the thread stands at the svc,
 * x0 is its first argument again. Let go there, untouched, it does what the kernel wants of it, restart_syscall(2) and
 * EINTR for a signal's handler included. A call that has failed: it stands behind the svc, and the first argument is
 * lost.
 */
#include "inject/regs.h"

#include <asm/ptrace.h>
#include <asm/sigcontext.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>

#include "base/mem.h"

#ifndef NT_ARM_SSVE
#define NT_ARM_SSVE 0x40b
#endif
#ifndef PSR_BTYPE_MASK
#define PSR_BTYPE_MASK 0x00000c00
#endif
#define SVC 0xd4000001u
#define B_OPCODE 0x14000000u

const unsigned char arch_gadget[ARCH_GADGET_SIZE] = {
    0x01, 0x00, 0x00, 0xd4, /* svc #0 */
    0x68, 0x11, 0x80, 0xd2, /* mov x8, #139 */
    0x01, 0x00, 0x00, 0xd4, /* svc #0 */
};

int arch_get_regs(pid_t tid, struct arch_regs *ret)
{
    struct iovec iov = {&ret->user, sizeof(ret->user)}, tls = {&ret->tls, sizeof(ret->tls)};

    *ret = (struct arch_regs){0};
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) < 0)
        return -errno;
    if (iov.iov_len != sizeof(ret->user)) /* 18 registers of 32 bits */
        return -ENOEXEC;
    return ptrace(PTRACE_GETREGSET, tid, NT_ARM_TLS, &tls) < 0 ? -errno : 0;
}

int arch_set_regs(pid_t tid, const struct arch_regs *regs)
{
    struct user_regs_struct user = regs->user;
    struct iovec iov = {&user, sizeof(user)};
    int none = -1; /* it stands at the end of no call: x0 isn't a result that says how to go on */
    struct iovec nr = {&none, sizeof(none)};

    if (ptrace(PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &nr) < 0)
        return -errno;
    return ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

uint64_t arch_pc(const struct arch_regs *regs)
{
    return regs->user.pc;
}

uint64_t arch_sp(const struct arch_regs *regs)
{
    return regs->user.sp;
}

uint64_t arch_thread_pointer(const struct arch_regs *regs)
{
    return regs->tls;
}

int64_t arch_result(const struct arch_regs *regs)
{
    return (int64_t)regs->user.regs[0];
}

/* Nobody else sets it: in Go programs without C it is 0. */
bool arch_is_libcs_pointer(uint64_t pointer, uint64_t first)
{
    (void)first;
    return pointer != 0;
}

void arch_regs_enter(struct arch_regs *regs, uint64_t pc, uint64_t sp, const uint64_t arg[3])
{
    regs->user.pc = pc;
    regs->user.sp = sp;
    memcpy(regs->user.regs, arg, 3 * sizeof(*arg));
    regs->user.pstate &= ~(uint64_t)PSR_BTYPE_MASK; /* it may stand between a jump and the landing pad */
}

void arch_regs_call(struct arch_regs *regs, uint64_t pc, uint64_t sp, long nr, const uint64_t arg[6])
{
    arch_regs_enter(regs, pc + ARCH_GADGET_CALL, sp, arg);
    memcpy(regs->user.regs, arg, 6 * sizeof(*arg));
    regs->user.regs[8] = (uint64_t)nr;
}

/* --- vector registers --- */

/* The SVE registers of a thread that has more in them than those of 128 bits show, in the form of this set: bytes, 0 if
 * there is nothing, or -errno. */
static int read_sve(pid_t tid, unsigned set, uint8_t buf[ARCH_FRAME_MAX])
{
    struct iovec iov = {buf, ARCH_FRAME_MAX};
    struct user_sve_header h;

    if (ptrace(PTRACE_GETREGSET, tid, set, &iov) < 0)
        return errno == ESRCH ? -ESRCH : 0; /* the CPU has none */
    if (iov.iov_len <= sizeof(h))           /* it is in the other mode */
        return 0;
    memcpy(&h, buf, sizeof(h));
    if ((h.flags & SVE_PT_REGS_MASK) != SVE_PT_REGS_SVE && set != NT_ARM_SSVE)
        return 0;
    return h.size <= iov.iov_len ? (int)h.size : -ENOTSUP;
}

int arch_vectors_get(pid_t tid, struct arch_vectors *ret)
{
    static const unsigned sets[] = {NT_ARM_SVE, NT_ARM_SSVE};
    static uint8_t buf[ARCH_FRAME_MAX];
    int size = 0;

    *ret = (struct arch_vectors){0};
    for (unsigned i = 0; size == 0 && i < sizeof(sets) / sizeof(*sets); i++) {
        size = read_sve(tid, sets[i], buf);
        ret->set = sets[i];
    }
    if (size <= 0)
        return size;
    ret->size = (uint64_t)size;
    ret->bytes = xmemdup(buf, (size_t)size);
    return 0;
}

int arch_vectors_set(pid_t tid, const struct arch_vectors *v)
{
    struct iovec iov = {v->bytes, v->size};

    return v->bytes && ptrace(PTRACE_SETREGSET, tid, v->set, &iov) < 0 ? -errno : 0;
}

void arch_vectors_free(struct arch_vectors *v)
{
    free(v->bytes);
    *v = (struct arch_vectors){0};
}

/* --- the call that was interrupted --- */

/* A number of /proc/PID/task/TID/status. */
static bool status_number(pid_t pid, pid_t tid, const char *name, uint64_t *ret)
{
    size_t len = strlen(name);
    bool found = false;
    char path[64], line[256];
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
    f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof(line), f))
        if (strncmp(line, name, len) == 0 && line[len] == ':') {
            *ret = strtoull(line + len + 1, NULL, 10);
            found = true;
        }
    if (f)
        fclose(f);
    return found;
}

#define SLEEPS "voluntary_ctxt_switches"

void arch_see(pid_t pid, pid_t tid, struct arch_call *ret)
{
    unsigned long long v[8];
    char path[64], line[256];
    long long nr;
    FILE *f;

    *ret = (struct arch_call){0};
    if (!status_number(pid, tid, SLEEPS, &ret->sleeps))
        return;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", (int)pid, (int)tid);
    f = fopen(path, "re");
    if (!f)
        return;
    /* "running", or "-1 sp pc" */
    if (fgets(line, sizeof(line), f) &&
        // NOLINTNEXTLINE(cert-err34-c): the kernel wrote it
        sscanf(line, "%lld %llx %llx %llx %llx %llx %llx %llx %llx", &nr, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5],
               &v[6], &v[7]) == 9 &&
        nr >= 0) {
        ret->known = true;
        ret->nr = (uint64_t)nr;
        for (int i = 0; i < 6; i++)
            ret->arg[i] = v[i];
        ret->sp = v[6];
        ret->pc = v[7];
    }
    fclose(f);
}

/* Calls that end with ERESTART_RESTARTBLOCK: hrtimer_nanosleep() and its like of kernel/time, futex_wait(). ppoll,
 * select and absolute times end with ERESTARTNOHAND, and poll has no number here. */
static bool restarts_hidden(uint64_t nr, const uint64_t arg[6])
{
    switch (nr) {
    case SYS_restart_syscall:
    case SYS_nanosleep:
        return true;
    case SYS_clock_nanosleep:
        return !(arg[1] & TIMER_ABSTIME);
    case SYS_futex:
        return ((arg[1] & FUTEX_CMD_MASK) == FUTEX_WAIT || (arg[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET) && arg[3];
    default:
        return false;
    }
}

/* It has slept in that call, was woken by the stop, which is one more sleep, and has done nothing else. */
void arch_recognize(pid_t pid, pid_t tid, const struct arch_call *seen, struct arch_regs *regs)
{
    const struct user_regs_struct *u = (const struct user_regs_struct *)&regs->user;
    bool again = u->pc == seen->pc - ARCH_SYSCALL_SIZE;
    uint64_t sleeps;

    if (!seen->known || u->sp != seen->sp || u->regs[8] != seen->nr || (u->pc != seen->pc && !again) ||
        (again && u->regs[0] != seen->arg[0]) || memcmp(&u->regs[1], &seen->arg[1], 5 * sizeof(*seen->arg)) != 0 ||
        !status_number(pid, tid, SLEEPS, &sleeps) || sleeps != seen->sleeps + 1)
        return;
    regs->waited = true;
    regs->x0 = seen->arg[0];
    regs->hidden = again && restarts_hidden(seen->nr, seen->arg);
}

void arch_recognize_again(const struct arch_regs *before, struct arch_regs *regs)
{
    if (memcmp(&before->user, &regs->user, sizeof(regs->user)) != 0)
        return;
    regs->waited = before->waited;
    regs->hidden = before->hidden;
    regs->x0 = before->x0;
}

int arch_interrupted(const struct arch_regs *regs)
{
    /* signal(7), "Interruption of system calls and library functions by stop signals" and the ones with a timeout */
    static const uint16_t calls[] = {SYS_epoll_pwait, SYS_epoll_pwait2, SYS_rt_sigtimedwait, SYS_semop,
                                     SYS_semtimedop,  SYS_io_getevents, SYS_io_pgetevents,   SYS_io_uring_enter,
                                     SYS_read,        SYS_write,        SYS_readv,           SYS_writev,
                                     SYS_recvfrom,    SYS_recvmsg,      SYS_recvmmsg,        SYS_sendto,
                                     SYS_sendmsg,     SYS_sendmmsg,     SYS_accept,          SYS_accept4,
                                     SYS_connect};

    if (!regs->waited || regs->hidden || (int64_t)regs->user.regs[0] != -EINTR)
        return 0;
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
        if (regs->user.regs[8] == calls[i])
            return 1;
    return 0;
}

void arch_rewind(struct arch_regs *regs)
{
    regs->user.pc -= ARCH_SYSCALL_SIZE;
    regs->user.regs[0] = regs->x0;
}

int arch_restart_hidden(const struct arch_regs *regs)
{
    return regs->hidden;
}

/* As setup_restart_syscall() of the kernel does it, which it doesn't where it finds other registers than it has left.
 */
void arch_regs_back(struct arch_regs *regs)
{
    if (regs->hidden)
        regs->user.regs[8] = SYS_restart_syscall;
}

void arch_set_pc(struct arch_regs *regs, uint64_t pc)
{
    arch_regs_back(regs);
    regs->user.pc = pc;
    regs->user.pstate &= ~(uint64_t)PSR_BTYPE_MASK;
}

/* --- frames --- */

/* struct rt_sigframe of arch/arm64/kernel/signal.c */
#define SIGINFO 128u
#define UCONTEXT_PC offsetof(ucontext_t, uc_mcontext.pc)
#define RECORDS (SIGINFO + (unsigned)offsetof(ucontext_t, uc_mcontext.__reserved))
#define SIGFRAME (SIGINFO + (unsigned)offsetof(ucontext_t, uc_mcontext) + (unsigned)sizeof(struct sigcontext))
#define TERMINATOR 16u /* a head of zeros, rounded up */

/* What the kernel would have written of SVE registers behind the other records: bytes, or -errno. */
static int put_sve(pid_t tid, uint8_t *to)
{
    struct arch_vectors v;
    struct user_sve_header h;
    struct sve_context c = {.head = {.magic = SVE_MAGIC}};
    struct user_fpsimd_state fp;
    unsigned vq;
    int rc = arch_vectors_get(tid, &v);

    if (rc < 0 || !v.bytes)
        return rc;
    memcpy(&h, v.bytes, sizeof(h));
    vq = sve_vq_from_vl(h.vl);
    c.vl = h.vl;
    c.flags = v.set == NT_ARM_SSVE ? SVE_SIG_FLAG_SM : 0;
    c.head.size = (uint32_t)(SVE_SIG_CONTEXT_SIZE(vq) + 15) & ~15u;
    if (sve_vl_valid(h.vl) &&
        RECORDS + sizeof(struct fpsimd_context) + 64 + c.head.size + TERMINATOR <= ARCH_FRAME_MAX) {
        memset(to, 0, c.head.size);
        memcpy(to, &c, sizeof(c));
        if ((h.flags & SVE_PT_REGS_MASK) == SVE_PT_REGS_SVE) { /* the same order in both */
            memcpy(to + SVE_SIG_REGS_OFFSET, (const uint8_t *)v.bytes + SVE_PT_REGS_OFFSET, SVE_SIG_REGS_SIZE(vq));
        } else {
            memcpy(&fp, (const uint8_t *)v.bytes + SVE_PT_FPSIMD_OFFSET, sizeof(fp));
            for (unsigned i = 0; i < 32; i++)
                memcpy(to + SVE_SIG_ZREG_OFFSET(vq, i), &fp.vregs[i], sizeof(fp.vregs[i]));
        }
        rc = (int)c.head.size;
    } else {
        rc = -ENOTSUP;
    }
    arch_vectors_free(&v);
    return rc;
}

/* ZA and what else SME has survives system calls; a frame that doesn't mention it leaves it alone. */
int arch_frame(pid_t tid, const struct arch_regs *regs, uint64_t sp, uint64_t mask, void *buf, uint64_t *ret_at,
               size_t *ret_size)
{
    enum {
        FP = RECORDS,
        EXTRA = FP + sizeof(struct fpsimd_context),
        MORE = EXTRA + sizeof(struct extra_context) + TERMINATOR,
    };
    const stack_t none = {.ss_flags =
                              -1}; /* sigaltstack(2) refuses it, which rt_sigreturn passes over: nothing changes */
    struct user_regs_struct u = regs->user;
    struct fpsimd_context fp = {.head = {.magic = FPSIMD_MAGIC, .size = sizeof(fp)}};
    struct user_fpsimd_state now;
    struct iovec iov = {&now, sizeof(now)};
    uint8_t *frame = buf;
    size_t size = SIGFRAME;
    int sve;

    _Static_assert(sizeof(struct extra_context) == 32 && sizeof(fp) == 528, "as the kernel has them");
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRFPREG, &iov) < 0)
        return -errno;
    memset(frame, 0, SIGFRAME);
    sve = put_sve(tid, frame + MORE);
    if (sve < 0)
        return sve;
    if (sve && MORE + (size_t)sve + TERMINATOR > size)
        size = MORE + (size_t)sve + TERMINATOR;
    *ret_at = (sp - ARCH_RED_ZONE - size) & ~UINT64_C(15);
    *ret_size = size;
    if (sve) { /* it must lie right behind the others */
        struct extra_context extra = {.head = {.magic = EXTRA_MAGIC, .size = sizeof(extra)},
                                      .datap = *ret_at + MORE,
                                      .size = (uint32_t)sve + TERMINATOR};

        memcpy(frame + EXTRA, &extra, sizeof(extra));
        memset(frame + MORE + sve, 0, TERMINATOR);
    }
    fp.fpsr = now.fpsr;
    fp.fpcr = now.fpcr;
    memcpy(fp.vregs, now.vregs, sizeof(fp.vregs));
    memcpy(frame + FP, &fp, sizeof(fp));
    if (regs->hidden) {
        u.pc += ARCH_SYSCALL_SIZE;
        u.regs[0] = (uint64_t)-EINTR;
    }
    memcpy(frame + SIGINFO + offsetof(ucontext_t, uc_stack), &none, sizeof(none));
    memcpy(frame + SIGINFO + offsetof(ucontext_t, uc_sigmask), &mask, sizeof(mask));
    memcpy(frame + SIGINFO + offsetof(ucontext_t, uc_mcontext.regs), &u,
           sizeof(u)); /* sp, pc and pstate follow in both */
    return 0;
}

size_t arch_find_context(const uint64_t *words, size_t from, size_t count, uint64_t *ret_sp)
{
    /* Behind pc and pstate, and a word of padding, is the first record: setup_sigframe_layout() of the kernel. */
    const uint64_t first = FPSIMD_MAGIC | (uint64_t)sizeof(struct fpsimd_context) << 32;

    for (size_t i = from < 1 ? 1 : from; i + 3 < count; i++)
        if (words[i + 3] == first && !(words[i + 1] >> 32) && !(words[i + 1] & (PSR_MODE_MASK | PSR_MODE32_BIT))) {
            *ret_sp = words[i - 1];
            return i;
        }
    return count;
}

int arch_context_alternate(const uint64_t *words, size_t at, uint64_t address, uint64_t sp)
{
    enum {
        BASE = (UCONTEXT_PC - offsetof(ucontext_t, uc_stack.ss_sp)) / sizeof(*words),
        SIZE = (UCONTEXT_PC - offsetof(ucontext_t, uc_stack.ss_size)) / sizeof(*words),
    };

    return at >= BASE && sp - words[at - BASE] < words[at - SIZE] && address - words[at - BASE] < words[at - SIZE];
}

uint64_t arch_context_stack(uint64_t pc_at)
{
    return pc_at - UCONTEXT_PC + offsetof(ucontext_t, uc_stack);
}

/* --- hooks --- */

/* The code of a hook behind a call begins with stp x0, F, [sp, #-N]!, or is Go's: src/plan/arch/aarch64/sites.c. */
int arch_hook_register(const struct plan_slot *slot)
{
    uint32_t w;

    if (slot->flags & PLAN_F_GO)
        return 17;
    memcpy(&w, (const char *)slot + PLAN_SLOT_CODE, sizeof(w));
    return (w & 0xffc003ff) == (0xa9800000 | 31 << 5) ? (int)(w >> 10 & 31) : -1;
}

uint64_t arch_register(const struct arch_regs *regs, unsigned n)
{
    return regs->user.regs[n];
}

void arch_set_register(struct arch_regs *regs, unsigned n, uint64_t value)
{
    regs->user.regs[n] = value;
}

uint64_t arch_context_register(uint64_t pc_at, unsigned n)
{
    return pc_at - UCONTEXT_PC + offsetof(ucontext_t, uc_mcontext.regs) + 8 * (uint64_t)n;
}

/* In the slot itself, or the next one, which it jumps to. */
uint64_t arch_moved_end(const char *blob, uint32_t size, uint64_t blob_at, uint32_t slot)
{
    bool goes_on = true;

    for (; goes_on && slot < size && size - slot >= PLAN_SLOT; slot += PLAN_SLOT) {
        goes_on = false;
        for (uint32_t at = slot + PLAN_SLOT_CODE; at < slot + PLAN_SLOT; at += sizeof(uint32_t)) {
            uint32_t w;

            memcpy(&w, blob + at, sizeof(w));
            if (w == SVC)
                return blob_at + at + ARCH_SYSCALL_SIZE;
            goes_on |= w == (B_OPCODE | (slot + PLAN_SLOT + PLAN_SLOT_CODE - at) / 4);
        }
    }
    return 0;
}

/* --- conditions --- */

/* Guarded control stacks (Linux 6.13) are not shown there. */
int arch_status_shadow_stack(const char *name, const char *value)
{
    (void)name;
    (void)value;
    return 0;
}

/* PR_GET_TSC is of x86 until Linux 6.12: before, nobody can forbid it. */
bool arch_reads_counter(int64_t rc, int on)
{
    return rc < 0 || on == PR_TSC_ENABLE;
}
