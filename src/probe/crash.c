/* SPDX-License-Identifier: Apache-2.0 */
#include "crash.h"

#include <asm/errno.h>
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/time.h>

#include "ring.h"

#define HIDDEN __attribute__((visibility("hidden")))

#ifndef SA_UNSUPPORTED
#define SA_UNSUPPORTED 0x00000400
#endif
#define SA_EXPOSE_TAGBITS_ 0x00000800
#define SS_DISABLE 2 /* no UAPI header that can be included here exports it */
/* What sigaction(2) keeps of the flags that it is given, since Linux 5.11. */
#define SA_KNOWN \
    (SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER | SA_RESETHAND | SA_RESTORER | \
     SA_EXPOSE_TAGBITS_)
#define BIT(sig) (UINT64_C(1) << ((sig)-1))
#define UNMASKABLE (BIT(SIGKILL) | BIT(SIGSTOP))
#define FATAL (BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGABRT) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGSEGV) | BIT(SIGSYS))

static void on_fatal(int sig, siginfo_t *info, void *uc);

/* entry.S: where a handler with SA_RESETHAND begins. Calls crash_once(), and then what that returns, as the kernel
 * would. */
extern char scope_once[] HIDDEN;
uint64_t crash_once(int sig);

/* What the kernel is given in place of SIG_DFL. SA_UNSUPPORTED has no effect; kernels that drop flags which they don't
 * know are known by it. */
static struct sigaction ours = {
    .sa_handler = (__sighandler_t)(uint64_t)on_fatal,
    .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER | SA_UNSUPPORTED,
    .sa_restorer = (__sigrestore_t)(uint64_t)scope_restorer,
    .sa_mask = ARCH_SIGSET(~UINT64_C(0)),
};

/* What the program believes. */
static struct {
    bool on;
    bool own_stack;            /* a thread of the program has set an alternate stack */
    bool sandbox;              /* the process is in one, or has just asked for it */
    uint64_t onstack;          /* BIT(): handlers with SA_ONSTACK, of which the kernel isn't told */
    struct sigaction dfl[32];  /* where ours is: what the program has set, SIG_DFL with its flags and mask */
    struct sigaction once[32]; /* where scope_once is: what the program has set */
} believed;

/* Of address space: of the memory a page or two are used, if ever. Beside what a signal frame needs (AT_MINSIGSTKSZ),
 * there is room for handlers of the program. Its lowest page can't be touched. */
#define STACK_BYTES (256u << 10)

/* By thread slot, and that of the first thread, which has none yet. They stay when a thread has ended. */
static uint64_t stacks[THREADS + 1];

_Static_assert(sizeof(struct probe_action) == sizeof(struct sigaction) &&
                   offsetof(struct probe_action, flags) == offsetof(struct sigaction, sa_flags) &&
                   offsetof(struct probe_action, mask) == offsetof(struct sigaction, sa_mask),
               "probe_action is the kernel's");

struct probe_crash crash_info = {
    .on = &believed.on,
    .own_stack = &believed.own_stack,
    .onstack = &believed.onstack,
    .ours = (struct probe_action *)(void *)&ours,
    .dfl = (struct probe_action *)(void *)believed.dfl,
    .once = (struct probe_action *)(void *)believed.once,
    .once_handler = (uint64_t)scope_once,
    .stacks = stacks,
    .stack_count = THREADS + 1,
    .stack_size = STACK_BYTES,
};

/* Calls of rt_sigaction(2) that are given another action than the program's. A stack pointer belongs to one of them at
 * a time, whatever thread, vfork child or signal handler makes it. */
#define CALLS 64u
static struct {
    uint64_t sp;  /* 0: free */
    uint64_t was; /* the program's own argument */
    struct sigaction theirs, given;
    struct sigaction once; /* believed.once as it was */
} calls[CALLS];

static long action(int sig, const struct sigaction *new_, struct sigaction *old)
{
    return SYS4(__NR_rt_sigaction, sig, new_, old, sizeof(sigset_t));
}

static bool is_ours(const struct sigaction *a)
{
    return a->sa_handler == ours.sa_handler;
}

static bool is_once(const struct sigaction *a)
{
    return (uint64_t)a->sa_handler == (uint64_t)scope_once;
}

static bool has_handler(const struct sigaction *a)
{
    return a->sa_handler != SIG_DFL && a->sa_handler != SIG_IGN;
}

static bool is_fatal(uint64_t sig)
{
    return sig >= 1 && sig <= 31 && FATAL & BIT(sig);
}

/* Whether our handler may take the place of SIG_DFL. */
static bool is_told(uint64_t sig)
{
    return is_fatal(sig) && (!believed.sandbox || arch_fault((int)sig) || sig == SIGSYS);
}

/* Whether the caller runs in the memory of another process, which has handlers of its own: in its parent's, until it
 * execs. */
static bool is_visitor(void)
{
    const struct thread *t = process->vforks || process->slow & SLOW_FOREIGN ? thread_left() : NULL;

    if (process->slow & SLOW_FOREIGN && !probe.sandboxed) /* who may have its parent's thread pointer */
        return (uint32_t)SYS1(__NR_getpid, 0) != process->pid;
    return t && t->child_pid;
}

/* Whether the caller is one that has entered a sandbox, which its parent hasn't. */
static bool is_visitor_in_sandbox(void)
{
    return probe.sandboxed && !believed.sandbox && is_visitor();
}

/* ---- a thread dies ---- */

static uint64_t monotonic_ns(void)
{
    struct __kernel_timespec t = {0};

    SYS2(__NR_clock_gettime, CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* In a sandbox the counter tells the time, whose rate was measured before: in ticks a ms. Where it may not be read
 * there are only the turns of a loop to count: a second, more or less, if the CPU has nothing else to do. */
static uint64_t rate;
#define RATE_NS 30000u
#define SPINS_A_MS 20000u

/* Who is interrupted meanwhile finds too much: the least counts. */
static void measure_rate(void)
{
    for (int i = 0; i < 3; i++) {
        uint64_t ticks = now(), ns = monotonic_ns(), passed, found;

        do
            passed = monotonic_ns() - ns;
        while (passed < RATE_NS);
        found = (now() - ticks) * 1000000u / passed;
        rate = !rate || found < rate ? found : rate;
    }
}

struct patience {
    uint64_t until; /* ns, or ticks */
    uint64_t spins; /* 0: no matter */
};

static struct patience patience(uint32_t ms)
{
    if (!probe.sandboxed)
        return (struct patience){monotonic_ns() + ms * UINT64_C(1000000), 0};
    return now() && rate ? (struct patience){now() + ms * rate, 0} : (struct patience){0, (uint64_t)ms * SPINS_A_MS};
}

/* Waits while *word is value. False when it is time to give up. */
static bool wait_while(const uint32_t *word, uint32_t value, struct patience *p)
{
    struct __kernel_timespec t = {(long long)(p->until / 1000000000u), (long long)(p->until % 1000000000u)};
    long ret;

    if (probe.sandboxed) {
        arch_pause();
        return p->spins ? --p->spins > 0 : now() < p->until;
    }
    ret = SYS6(__NR_futex, word, FUTEX_WAIT_BITSET, value, &t, 0, FUTEX_BITSET_MATCH_ANY);
    return !sys_failed(ret) || ret == -EINTR || ret == -EAGAIN;
}

/* Takes a place; NULL if there is none. */
static struct seg_crash *place_take(struct segment_header *s)
{
    for (unsigned i = 0; i < SEG_CRASHES; i++) {
        uint32_t none = CRASH_FREE;

        if (__atomic_compare_exchange_n(&s->crash[i].state, &none, CRASH_FILLING, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return &s->crash[i];
    }
    __atomic_fetch_add(&s->crashes_refused, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* Tells of a place that is filled in, and waits until the collector has looked at the process. */
static void place_tell(struct segment_header *s, struct seg_crash *c)
{
    struct patience p = patience(CRASH_SEEN_MS);
    uint32_t was = CRASH_TOLD, state;
    const struct thread *t;

    if (probe.sandboxed) {
        t = thread_left();
        c->pid = t && t->child_pid ? t->child_pid : process->pid;
        c->tid = t && t->child_pid ? t->child_tid : t ? t->tid : 0;
    } else {
        c->pid = (uint32_t)SYS1(__NR_getpid, 0);
        c->tid = (uint32_t)SYS1(__NR_gettid, 0);
    }
    c->ticks = now();
    __atomic_store_n(&c->state, CRASH_TOLD, ORDER_CRASH_TELL); /* before `asleep` is looked at */
    ring_rouse_slow(s);
    for (;;) {
        state = __atomic_load_n(&c->state, __ATOMIC_ACQUIRE);
        if (state == CRASH_SEEN && was == CRASH_TOLD) {
            was = CRASH_SEEN;
            p = patience(CRASH_WAIT_MS);
        }
        if (state != was || !wait_while(&c->state, was, &p))
            return;
    }
}

/* Where it is told: a forked child has no segment of its own at first. NULL: nobody listens. */
static struct segment_header *listener(void)
{
    struct segment_header *s = process && process->segment ? process->segment : probe.segment;

    return s && !probe.off && !(~__atomic_load_n(&s->mode, __ATOMIC_RELAXED) & (SEG_M_ON | SEG_M_CRASH)) ? s : NULL;
}

/* Whether the thread, if it goes on, will cause the signal again. Not behind a system call: then somebody has sent what
 * looks like a fault, to himself, as handlers do that pass on what they were told. */
static bool happens_again(int sig, const siginfo_t *info, void *uc)
{
    const char *call = arch_uc_pc(uc) - ARCH_SYSCALL_SIZE;

    if (info->si_code <= 0 || !(BIT(sig) & (BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGILL) | BIT(SIGFPE))))
        return false;
    if (info->si_code == SI_KERNEL ? !arch_uc_faulted(uc) : sig == SIGBUS && info->si_code == BUS_MCEERR_AO)
        return false;
    return !((probe.sandboxed || mem_readable(call, ARCH_SYSCALL_SIZE)) && arch_is_syscall(call));
}

/* The same in a sandbox, where the kernel has set SIG_DFL already. */
static void die_in_sandbox(int sig, siginfo_t *info, void *uc)
{
    const char *call = arch_uc_pc(uc) - ARCH_SYSCALL_SIZE;

    if (sig == SIGSYS && info->si_code > 0 && arch_is_syscall(call)) { /* its registers are as before the call */
        arch_uc_jump(uc, call);
    } else if (sig == SIGSYS) { /* whether we may do this or not: that is the signal */
        SYS3(__NR_tgkill, SYS1(__NR_getpid, 0), SYS1(__NR_gettid, 0), sig);
    } else if (!happens_again(sig, info, uc)) {
        arch_uc_jump(uc, arch_fault(sig));
    }
}

/* How often the same thread has died of the same signal at the same instruction: more than once, if what should have
 * ended it did not. Another thread may overwrite it; then this is found out a turn later. */
static unsigned deaths(int sig, void *uc)
{
    static struct death {
        uint64_t pc, sp;
        uint32_t who;
        int sig;
        unsigned count;
    } seen[16];
    const struct thread *t = thread_left();
    uint64_t pc = (uint64_t)arch_uc_pc(uc), sp = arch_uc_sp(uc);
    uint32_t who = !believed.sandbox     ? (uint32_t)SYS1(__NR_getpid, 0)
                   : t && t->child_pid ? t->child_pid
                                       : process->pid;
    struct death *d = &seen[(sp >> 12 ^ (uint64_t)sig) % (sizeof(seen) / sizeof(seen[0]))];

    if (d->pc != pc || d->sp != sp || d->who != who || d->sig != sig)
        *d = (struct death){pc, sp, who, sig, 0};
    return ++d->count;
}

#define DEATHS 8 /* in a sandbox strangers in our memory (clone(CLONE_VM)) can't be told from each other */

/* Makes the signal end the process as soon as the handler returns. Doing so once must be enough; but whatever is wrong,
 * a fault without end is worse than what a forbidden call does. */
static void die(int sig, siginfo_t *info, void *uc, unsigned count)
{
    static const struct sigaction dfl;
    const char *fault = arch_fault(sig);
    long pid, tid;

    if (believed.sandbox && count <= DEATHS) {
        die_in_sandbox(sig, info, uc);
        return;
    }
    action(sig, &dfl, NULL);
    if (count > DEATHS + 1)
        SYS2(__NR_kill, SYS1(__NR_getpid, 0), SIGKILL);
    if (happens_again(sig, info, uc))
        return;
    pid = SYS1(__NR_getpid, 0);
    tid = SYS1(__NR_gettid, 0);
    if (pid == 1 && fault) /* what the first process of a namespace is sent it ignores, but not what it does */
        arch_uc_jump(uc, fault);
    else if (SYS4(__NR_rt_tgsigqueueinfo, pid, tid, sig, info) < 0)
        SYS3(__NR_tgkill, pid, tid, sig);
}

/* All signals are blocked meanwhile: if this faults the kernel ends the process. */
static void on_fatal(int sig, siginfo_t *info, void *uc)
{
    struct segment_header *s = listener();
    struct seg_crash *c;
    bool sent = info->si_code <= 0;
    unsigned count;

    if (sent && !probe.sandboxed &&
        SYS1(__NR_getpid, 0) == 1) /* the first process of a namespace: ignored (pid_namespaces(7)) */
        return;
    count = deaths(sig, uc);
    c = s && count == 1 ? place_take(s) : NULL;
    if (c) {
        c->kind = CRASH_SIGNAL;
        c->signo = sig;
        c->code = info->si_code;
        c->err = info->si_errno;
        c->status = 0;
        c->sender = sent ? info->si_pid : 0;
        c->sender_uid = sent ? info->si_uid : 0;
        c->addr = sent ? 0 : (uint64_t)info->si_addr;
        c->context = (uint64_t)uc;
        place_tell(s, c);
    }
    die(sig, info, uc, count);
}

/* The first members of the runtime's g and m, in words: src/runtime/runtime2.go, all releases that have the register. */
enum { G_STACK_LO, G_STACK_HI, G_M = 6, G_WORDS, M_G0 = 0 };

/* Whether a goroutine exits, beyond doubt. Go's runtime gives up elsewhere: on the thread's own stack (systemstack() in
 * its src/runtime/panic.go), whose g its m knows as g0, or, after a signal, on the alternate one. */
static bool on_goroutine(uint64_t g, uint64_t sp)
{
    const uint64_t *at = (const uint64_t *)g, *m, *g0;
    stack_t st;

    if (probe.sandboxed || g % sizeof(*at) || !mem_readable(at, G_WORDS * sizeof(*at)) || sp <= at[G_STACK_LO] ||
        sp > at[G_STACK_HI])
        return false;
    m = (const uint64_t *)at[G_M];
    if ((uint64_t)m % sizeof(*m) || !mem_readable(m, sizeof(*m)))
        return false;
    g0 = (const uint64_t *)m[M_G0];
    if (g0 == at || (uint64_t)g0 % sizeof(*g0) || !mem_readable(g0, G_WORDS * sizeof(*g0)) || g0[G_M] != (uint64_t)m)
        return false;
    return SYS2(__NR_sigaltstack, 0, &st) == 0 && (st.ss_flags & SS_DISABLE || sp - (uint64_t)st.ss_sp > st.ss_size);
}

HIDDEN void crash_go_exit(struct segment_header *s, int status, uint64_t g, uint64_t sp)
{
    struct seg_crash *c;

    if (!(__atomic_load_n(&s->mode, __ATOMIC_RELAXED) & SEG_M_CRASH) || on_goroutine(g, sp))
        return;
    c = place_take(s);
    if (!c)
        return;
    c->kind = CRASH_EXIT;
    c->signo = c->code = c->err = c->sender = 0;
    c->sender_uid = 0;
    c->status = status;
    c->addr = sp;
    c->context = 0;
    place_tell(s, c);
}

/* ---- alternate stacks ---- */

static stack_t own_stack_of(uint64_t at)
{
    return (stack_t){.ss_sp = (void *)(at + PROBE_PAGE), .ss_size = STACK_BYTES - PROBE_PAGE};
}

static bool is_our_stack(const stack_t *st)
{
    const struct thread *t = thread_left();
    uint64_t at = (uint64_t)st->ss_sp - PROBE_PAGE;

    return st->ss_sp && (at == stacks[THREADS] || (t && at == stacks[t - threads]));
}

static void stack_give(uint64_t *place)
{
    stack_t st;
    long at;

    if (SYS2(__NR_sigaltstack, 0, &st) < 0 || !(st.ss_flags & SS_DISABLE))
        return;
    if (!*place) {
        at =
            SYS6(__NR_mmap, 0, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (sys_failed(at))
            return;
        SYS3(__NR_mprotect, at, PROBE_PAGE, PROT_NONE);
        *place = (uint64_t)at;
    }
    st = own_stack_of(*place);
    SYS2(__NR_sigaltstack, &st, 0);
}

HIDDEN void crash_thread(const struct thread *t)
{
    if (believed.on && !believed.own_stack && !probe.sandboxed)
        stack_give(&stacks[t - threads]);
}

HIDDEN void crash_thread_end(void)
{
    stack_t st, none = {.ss_flags = SS_DISABLE};

    if (believed.on && !probe.sandboxed && SYS2(__NR_sigaltstack, 0, &st) == 0 && is_our_stack(&st))
        SYS2(__NR_sigaltstack, &none, 0);
}

/* Tells the kernel of SA_ONSTACK for these handlers of the program, or takes it back. */
static void onstack_set(uint64_t which, bool on)
{
    struct sigaction a;

    for (int sig = 1; sig <= 64; sig++) {
        if (!(which & BIT(sig)) || action(sig, NULL, &a) < 0 || !has_handler(&a) || is_ours(&a))
            continue;
        a.sa_flags = on ? a.sa_flags | SA_ONSTACK : a.sa_flags & ~(unsigned long)SA_ONSTACK;
        action(sig, &a, NULL);
    }
}

static void onstack_tell(void)
{
    uint64_t which = __atomic_exchange_n(&believed.onstack, 0, __ATOMIC_SEQ_CST);

    onstack_set(which, true);
}

/* ---- virtual handlers ---- */

/* Puts ours where SIG_DFL is, or ours with other flags. */
static void install(void)
{
    struct sigaction a;

    for (unsigned sig = 1; sig <= 31; sig++) {
        if (!is_fatal(sig) || action((int)sig, NULL, &a) < 0)
            continue;
        if (a.sa_handler == SIG_DFL)
            believed.dfl[sig] = a;
        else if (is_once(&a) && believed.sandbox)
            action((int)sig, &believed.once[sig], NULL);
        if (a.sa_handler != SIG_DFL && !is_ours(&a))
            continue;
        if (is_told(sig))
            action((int)sig, &ours, NULL);
        else if (is_ours(&a))
            action((int)sig, &believed.dfl[sig], NULL);
    }
}

HIDDEN void crash_start(void)
{
    believed.on = true;
    stack_give(&stacks[THREADS]);
    install();
}

/* The kernel gets what the program has set. Enough for a visitor that enters a sandbox: what is remembered belongs to the
 * process whose memory this is. */
static void handlers_leave(void)
{
    struct sigaction a;

    for (int sig = 1; sig <= 31; sig++)
        if (is_fatal((uint64_t)sig) && action(sig, NULL, &a) == 0 && (is_ours(&a) || is_once(&a)))
            action(sig, is_ours(&a) ? &believed.dfl[sig] : &believed.once[sig], NULL);
}

static void handlers_return(void)
{
    struct sigaction a;

    for (int sig = 1; sig <= 31; sig++)
        if (is_fatal((uint64_t)sig) && action(sig, NULL, &a) == 0 && a.sa_handler == SIG_DFL)
            action(sig, &ours, NULL);
}

static bool may_read(uint64_t at, size_t n)
{
    return probe.sandboxed ? mem_plausible((const void *)at) : mem_readable((const void *)at, n);
}

/* The program's argument is another one from now on, until give_back(). */
static bool give(struct regs *r, const struct sigaction *theirs, const struct sigaction *given)
{
    unsigned at = CALLS;

    for (unsigned i = 0; i < CALLS; i++)
        if (calls[i].sp == r->sp) /* a handler that came in between has left it for good */
            at = i;
    for (unsigned i = 0; i < CALLS && at == CALLS; i++) {
        uint64_t none = 0;

        if (__atomic_compare_exchange_n(&calls[i].sp, &none, r->sp, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            at = i;
    }
    if (at == CALLS)
        return false;
    calls[at].was = r->arg1;
    calls[at].once = believed.once[r->arg0 & 31];
    calls[at].theirs = *theirs;
    calls[at].given = *given;
    r->arg1 = (uint64_t)&calls[at].given;
    return true;
}

/* False if it was not. */
static bool give_back(struct regs *r, struct sigaction *theirs, struct sigaction *once)
{
    for (unsigned i = 0; i < CALLS; i++) {
        if (calls[i].sp != r->sp)
            continue;
        if (r->arg1 != (uint64_t)&calls[i].given)
            return false;
        r->arg1 = calls[i].was;
        *theirs = calls[i].theirs;
        *once = calls[i].once;
        __atomic_store_n(&calls[i].sp, 0, __ATOMIC_RELEASE);
        return true;
    }
    return false;
}

/* On some architectures a struct of one word. */
static uint64_t *mask_of(struct sigaction *a)
{
    return (uint64_t *)(void *)&a->sa_mask;
}

/* As the kernel would keep it. */
static void keep(struct sigaction *place, unsigned sig, struct sigaction a)
{
    struct sigaction now_;

    *mask_of(&a) &= ~UNMASKABLE;
    if (a.sa_flags & ~(unsigned long)SA_KNOWN && action((int)sig, NULL, &now_) == 0 &&
        !(now_.sa_flags & SA_UNSUPPORTED))
        a.sa_flags &= SA_KNOWN;
    *place = a;
}

HIDDEN bool crash_lent(const struct regs *r)
{
    uint64_t at = r->arg1 - (uint64_t)calls;

    return at < sizeof(calls) && calls[at / sizeof(calls[0])].sp == r->sp;
}

HIDDEN void crash_enter(enum op_id op, struct regs *r)
{
    uint64_t sig = (uint32_t)r->arg0;
    struct sigaction a, given;
    bool once;

    if (op != OP_rt_sigaction || !believed.on || !r->arg1 || r->arg3 != sizeof(sigset_t) || sig < 1 || sig > 64 ||
        UNMASKABLE & BIT(sig) || is_visitor_in_sandbox() || !may_read(r->arg1, sizeof(a)))
        return;
    a = *(const struct sigaction *)r->arg1;
    if (a.sa_handler == SIG_DFL && is_told(sig)) {
        give(r, &a, &ours);
        return;
    }
    if (!has_handler(&a))
        return;
    given = a;
    if (!believed.own_stack)
        given.sa_flags &= ~(unsigned long)SA_ONSTACK;
    /* There is one place for what it is to call, and a visitor isn't it. */
    once = a.sa_flags & SA_RESETHAND && is_fatal(sig) && !believed.sandbox && !is_visitor();
    if (once) {
        given.sa_handler = (__sighandler_t)(uint64_t)scope_once;
        given.sa_flags &= ~(unsigned long)SA_RESETHAND;
    }
    if (given.sa_flags != a.sa_flags && give(r, &a, &given) && once)
        keep(&believed.once[sig], (unsigned)sig, a); /* it may be called before we hear of it */
}

/* The program's handler that is to be called, and that was to be called once only. */
HIDDEN __attribute__((used)) uint64_t crash_once(int sig)
{
    struct sigaction theirs = believed.once[sig & 31];
    uint64_t handler = (uint64_t)theirs.sa_handler;

    action(sig, &ours, NULL);
    if (!is_visitor()) {
        theirs.sa_handler = SIG_DFL;
        believed.dfl[sig & 31] = theirs;
        __atomic_fetch_and(&believed.onstack, ~BIT(sig), __ATOMIC_SEQ_CST);
    }
    return handler;
}

static void action_done(struct regs *r, bool entered)
{
    unsigned sig = (uint32_t)r->arg0;
    bool sets = r->arg1 != 0, given, others = is_visitor();
    int64_t ret = (int64_t)r->result;
    struct sigaction theirs, once, *old = ret == 0 ? (struct sigaction *)r->arg2 : NULL;

    given = give_back(r, &theirs, &once);
    if (sig < 1 || sig > 64)
        return;
    if (!given)
        once = believed.once[sig & 31];
    /* EFAULT: nothing was set; or the old one could not be told, but the new was set. */
    if (ret != 0 && ret != -EFAULT) {
        if (given && !others)
            believed.once[sig & 31] = once;
        return;
    }
    if (old && is_ours(old))
        *old = believed.dfl[sig & 31];
    else if (old && is_once(old))
        *old = once;
    else if (old && has_handler(old) && believed.onstack & BIT(sig))
        old->sa_flags |= SA_ONSTACK;
    if (!sets || others) /* a vfork child has handlers of its own, in the memory of its parent */
        return;
    if (given && has_handler(&theirs) && theirs.sa_flags & SA_ONSTACK) {
        __atomic_fetch_or(&believed.onstack, BIT(sig), __ATOMIC_SEQ_CST);
        if (believed.own_stack && !probe.sandboxed) /* a moment ago */
            onstack_tell();
        return;
    }
    __atomic_fetch_and(&believed.onstack, ~BIT(sig), __ATOMIC_SEQ_CST);
    if (given && theirs.sa_handler == SIG_DFL)
        keep(&believed.dfl[sig], sig, theirs);
    else if (!given && !entered && is_told(sig) && !probe.sandboxed && action((int)sig, NULL, &theirs) == 0 &&
             theirs.sa_handler == SIG_DFL) {
        believed.dfl[sig] = theirs;
        action((int)sig, &ours, NULL);
    }
}

static struct {
    uint64_t onstack;
    bool own_stack;
} before; /* what was, before the process asked for a sandbox */

static void stack_done(const struct regs *r)
{
    stack_t *old = (stack_t *)r->arg1, st;
    const stack_t none = {.ss_flags = SS_DISABLE};

    if ((int64_t)r->result != 0)
        return;
    if (old && is_our_stack(old))
        *old = none;
    if (r->arg0 && believed.sandbox && !(((const stack_t *)r->arg0)->ss_flags & SS_DISABLE) && !is_visitor())
        before.own_stack = true;
    if (!r->arg0 || believed.own_stack || probe.sandboxed || is_visitor() || SYS2(__NR_sigaltstack, 0, &st) < 0 ||
        is_our_stack(&st))
        return;
    if (st.ss_flags & SS_DISABLE) { /* it had none, and was to have none */
        const struct thread *t = thread_get(process);

        if (t)
            stack_give(&stacks[t - threads]);
        return;
    }
    believed.own_stack = true;
    onstack_tell();
}

HIDDEN void crash_exit(enum op_id op, struct regs *r, bool entered)
{
    struct sigaction theirs, once;

    if (op != OP_rt_sigaction) {
        if (believed.on)
            stack_done(r);
    } else if (believed.on) {
        action_done(r, entered);
    } else if (give_back(r, &theirs, &once) && (int64_t)r->result == 0) { /* crash_leave() came in between */
        action((int)r->arg0, &theirs, NULL);
    }
}

/* ---- rights ---- */

HIDDEN void crash_sandbox(void)
{
    if (!believed.on || believed.sandbox)
        return;
    if (is_visitor()) {
        handlers_leave();
        return;
    }
    /* No flag can be told later, when the program sets a stack. The thread keeps ours: where a signal frame finds no
     * room the kernel would change the signal. */
    before.own_stack = believed.own_stack;
    before.onstack = believed.onstack;
    believed.own_stack = true;
    onstack_tell();
    believed.sandbox = true;
    if (!rate)
        measure_rate();
    ours.sa_flags |= SA_RESETHAND;
    install();
}

HIDDEN void crash_no_sandbox(void)
{
    if (believed.on && is_visitor() && !believed.sandbox)
        handlers_return();
    if (!believed.on || !believed.sandbox || is_visitor())
        return;
    believed.sandbox = false;
    ours.sa_flags &= ~(unsigned long)SA_RESETHAND;
    install();
    if (before.own_stack) /* then, or by another thread meanwhile */
        return;
    believed.own_stack = false;
    __atomic_fetch_or(&believed.onstack, before.onstack, __ATOMIC_SEQ_CST);
    onstack_set(before.onstack, false);
}

HIDDEN void crash_leave(void)
{
    if (!believed.on)
        return;
    if (is_visitor()) {
        handlers_leave();
        return;
    }
    believed.own_stack = true;
    onstack_tell();
    crash_thread_end();
    believed.on = false;
    handlers_leave();
}
