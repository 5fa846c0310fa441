/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/trace.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "base/mem.h"

#define NS_PER_MS UINT64_C(1000000)
#define SYSCALL_STOP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */
#define ALL_SIGNALS (~UINT64_C(0))

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 * NS_PER_MS + (uint64_t)ts.tv_nsec;
}

static void on_child(int sig)
{
    (void)sig; /* it is enough that it interrupts ppoll() */
}

void trace_init(struct trace *t, pid_t pid, unsigned timeout_ms)
{
    struct sigaction act = {.sa_handler = on_child};
    sigset_t child;

    *t = (struct trace){.pid = pid, .deadline = now_ns() + timeout_ms * NS_PER_MS};
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    sigaction(SIGCHLD, &act, NULL);
}

void trace_fault_point(void)
{
    static int left = -1;

    if (left < 0) {
        const char *n = getenv("SCOPE_FAULT");

        left = n ? atoi(n) : 0; // NOLINT(cert-err34-c): what is no number is 0
    }
    if (left > 0 && --left == 0)
        raise(SIGKILL);
}

static int seize(struct trace_thread *th, pid_t tid, long options)
{
    *th = (struct trace_thread){.tid = tid};
    return ptrace(PTRACE_SEIZE, tid, NULL, options | PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD) < 0 ? -errno : 0;
}

int trace_seize(struct trace_thread *th, pid_t tid)
{
    return seize(th, tid, 0);
}

int trace_detach(struct trace_thread *th)
{
    return ptrace(PTRACE_DETACH, th->tid, NULL, NULL) < 0 ? -errno : 0;
}

/* --- stops --- */

/* Waits for the next report of a tracee: 0. sock (-1: none): -ECANCELED when it was shut down. A hang-up ends looking
 * at it: *sock becomes -1. */
static int next_stop(const struct trace *t, int *sock, pid_t *ret_tid, int *ret_status)
{
    sigset_t mask;

    sigprocmask(SIG_SETMASK, NULL, &mask);
    sigdelset(&mask, SIGCHLD);
    for (;;) {
        struct pollfd pfd = {.fd = *sock, .events = POLLRDHUP};
        uint64_t now = now_ns(), left = now < t->deadline ? t->deadline - now : 0;
        struct timespec wait = {(time_t)(left / 1000 / NS_PER_MS), (long)(left % (1000 * NS_PER_MS))};
        pid_t tid = waitpid(-1, ret_status, __WALL | WNOHANG);

        if (tid > 0) {
            *ret_tid = tid;
            return 0;
        }
        if (tid < 0)
            return errno == ECHILD ? -ESRCH : -errno;
        if (!left)
            return -ETIMEDOUT;
        if (ppoll(&pfd, 1, &wait, &mask) < 0 && errno != EINTR)
            return -errno;
        if (pfd.revents & POLLHUP)
            *sock = -1;
        else if (pfd.revents & (POLLRDHUP | POLLERR | POLLNVAL))
            return -ECANCELED;
    }
}

static bool ended(int status)
{
    return WIFEXITED(status) || WIFSIGNALED(status);
}

/* Whether a stopped thread stands because its process was stopped by a signal (ptrace(2), "Group-stop"). */
static bool is_group_stop(int status)
{
    int sig = WSTOPSIG(status);

    return status >> 16 == PTRACE_EVENT_STOP && (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU);
}

/* Lets a thread go on from a stop that isn't the one waited for: as it would without us. request: PTRACE_CONT, or
 * PTRACE_SYSCALL. */
static int pass(pid_t tid, int status, int request)
{
    int sig = status >> 16 ? 0 : WSTOPSIG(status);

    if (is_group_stop(status))
        request = PTRACE_LISTEN;
    return ptrace((enum __ptrace_request)request, tid, NULL, (void *)(long)sig) < 0 ? -errno : 0;
}

/* From a stop to the next entry or end of a system call. The thread's signals are blocked or can't arrive there,
 * except SIGSTOP, and what our own doings bring about, which it must never get: -EFAULT. */
static int next_call_stop(struct trace *t, struct trace_thread *th)
{
    int none = -1, status = 0, ret;
    pid_t tid = 0;

    if (ptrace(PTRACE_SYSCALL, th->tid, NULL, NULL) < 0)
        return -errno;
    for (;;) {
        ret = next_stop(t, &none, &tid, &status);
        if (ret < 0)
            return ret;
        if (tid != th->tid)
            continue;
        if (ended(status))
            return -ESRCH;
        if (WSTOPSIG(status) == SYSCALL_STOP)
            return 0;
        if (!(status >> 16) && WSTOPSIG(status) != SIGSTOP)
            return -EFAULT;
        /* The call is made even while the process is stopped by job control: letting go of it stops it again. */
        if (ptrace(PTRACE_SYSCALL, tid, NULL, (void *)(long)(status >> 16 ? 0 : SIGSTOP)) < 0)
            return -errno;
    }
}

/* From a stop at a system call to one on the way back to the program, which is where the kernel looks whether a call has
 * to be restarted. No instruction of the program runs. */
static int next_return_stop(struct trace *t, struct trace_thread *th)
{
    int none = -1, status, ret;
    pid_t tid;

    if (ptrace(PTRACE_INTERRUPT, th->tid, NULL, NULL) < 0 || ptrace(PTRACE_CONT, th->tid, NULL, NULL) < 0)
        return -errno;
    for (;;) {
        ret = next_stop(t, &none, &tid, &status);
        if (ret < 0)
            return ret;
        if (tid != th->tid)
            continue;
        if (ended(status))
            return -ESRCH;
        if (status >> 16 == PTRACE_EVENT_STOP)
            return 0;
        if (WSTOPSIG(status) != SIGSTOP)
            return -EFAULT;
        if (ptrace(PTRACE_CONT, tid, NULL, (void *)(long)SIGSTOP) < 0)
            return -errno;
    }
}

int trace_until_exec(struct trace *t, struct trace_thread *th, int sock)
{
    int status = 0, ret;
    pid_t tid = 0;

    for (;;) {
        ret = next_stop(t, &sock, &tid, &status);
        if (ret < 0)
            return ret;
        if (ended(status)) {
            if (tid == th->tid)
                return -ESRCH;
            continue;
        }
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8))
            break;
        ret = pass(tid, status, PTRACE_CONT);
        if (ret < 0)
            return ret;
    }
    th->tid = tid;
    ret = next_call_stop(t, th); /* until then the kernel would put the result of execve into a register */
    return ret == 0 && ARCH_MARKS_CALL_STOPS ? next_return_stop(t, th) : ret;
}

/* --- all threads --- */

/* Whether a signal is about to be delivered to the thread: then a call may well fail with EINTR. */
static bool signal_waits(const struct trace *t, pid_t tid)
{
    uint64_t pending = 0, blocked = 0, v;
    char path[64], line[256];
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)t->pid, (int)tid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        char *value = strchr(line, ':');

        if (!value)
            continue;
        v = strtoull(value + 1, NULL, 16);
        if (strncmp(line, "SigPnd:", 7) == 0 || strncmp(line, "ShdPnd:", 7) == 0)
            pending |= v;
        else if (strncmp(line, "SigBlk:", 7) == 0)
            blocked = v;
    }
    if (f)
        fclose(f);
    return (pending & ~blocked) != 0;
}

/* proc_pid_stat(5), "state"; 'X' for a thread that is gone. */
static char state_of(const struct trace *t, pid_t tid)
{
    char path[64], text[512], *p;
    size_t n;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)t->pid, (int)tid);
    f = fopen(path, "re");
    if (!f)
        return 'X';
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    p = strrchr(text, ')');
    if (!p || !p[1] || !p[2])
        return 'X';
    return p[2];
}

/* True for a thread that has ended but is still listed. */
static bool has_ended(const struct trace *t, pid_t tid)
{
    return strchr("ZXx", state_of(t, tid)) != NULL;
}

static struct trace_thread *find(struct trace_thread *threads, size_t count, pid_t tid)
{
    for (size_t i = 0; i < count; i++)
        if (threads[i].tid == tid)
            return &threads[i];
    return NULL;
}

/* Seizes threads that are new. Returns how many, or -errno. */
static int seize_new(const struct trace *t, struct trace_thread **threads, size_t *count)
{
    char path[64];
    struct dirent *e;
    int added = 0, ret;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)t->pid);
    d = opendir(path);
    if (!d)
        return -ESRCH;
    while ((e = readdir(d))) {
        pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);
        struct trace_thread th;

        if (tid <= 0 || find(*threads, *count, tid))
            continue;
        ret = seize(&th, tid, t->unfiltered ? PTRACE_O_SUSPEND_SECCOMP : 0);
        if (ret == 0)
            arch_see(t->pid, tid, &th.seen);
        if (ret == 0 && ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0)
            ret = -errno;
        if (ret < 0) {
            if (ret == -ESRCH || has_ended(t, tid))
                continue;
            closedir(d);
            return ret;
        }
        *threads = xrealloc(*threads, *count + 1, sizeof(th));
        (*threads)[(*count)++] = th;
        added++;
    }
    closedir(d);
    return added;
}

/* Until all that were seized stand or have ended. */
static int await_all(struct trace *t, struct trace_thread *threads, size_t count)
{
    int none = -1, status, ret = 0;
    struct trace_thread *th;
    size_t left = 0;
    pid_t tid;

    for (size_t i = 0; i < count; i++)
        left += !threads[i].stands && threads[i].tid > 0;
    while (left) {
        ret = next_stop(t, &none, &tid, &status);
        if (ret == -ESRCH) /* none is left */
            return 0;
        if (ret < 0)
            return ret;
        th = find(threads, count, tid);
        if (!th || th->stands)
            continue;
        if (ended(status)) {
            th->tid = 0;
            left--;
        } else if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8)) {
            return -EAGAIN;
        } else if (status >> 16 == PTRACE_EVENT_STOP) {
            th->stands = true;
            left--;
        } else if (pass(tid, status, PTRACE_CONT) < 0) { /* its signal takes effect before it stops */
            return -errno;
        }
    }
    return 0;
}

/* A thread stands now in its own registers. */
static int look_at(const struct trace *t, struct trace_thread *th)
{
    int ret = arch_get_regs(th->tid, &th->regs);

    if (ret == 0)
        arch_recognize(t->pid, th->tid, &th->seen, &th->regs);
    if (ret == 0 && arch_interrupted(&th->regs) && !signal_waits(t, th->tid)) {
        arch_rewind(&th->regs);
        ret = arch_set_regs(th->tid, &th->regs);
    }
    return ret;
}

/* A thread that stands runs on as if it had never been stopped. */
static void drop(const struct trace *t, struct trace_thread *th)
{
    if (look_at(t, th) < 0 || trace_detach(th) < 0) {
        /* It has been killed. */
    }
    th->tid = 0;
}

#define GRACE_MS 1000

/* Gives up. Those that do not stand yet have been interrupted, too: they are waited for a little longer, since the end of
 * this process would let go of them with calls that fail with EINTR. */
static void drop_all(struct trace *t, struct trace_thread *threads, size_t count)
{
    uint64_t end = t->deadline;
    int none = -1, status;
    struct trace_thread *th;
    size_t left = 0;
    pid_t tid;

    for (size_t i = 0; i < count; i++) {
        if (threads[i].tid > 0 && threads[i].stands)
            drop(t, &threads[i]);
        left += threads[i].tid > 0;
    }
    t->deadline = now_ns() + GRACE_MS * NS_PER_MS;
    while (left && next_stop(t, &none, &tid, &status) == 0) {
        th = find(threads, count, tid);
        if (!th)
            continue;
        if (status >> 16 == PTRACE_EVENT_STOP)
            drop(t, th);
        else if (!ended(status) && pass(tid, status, PTRACE_CONT) == 0)
            continue;
        left--;
    }
    t->deadline = end;
}

/* Orders the array: those that stand, then those that may yet. Returns how many stand; *count loses those that ended. */
static size_t standing_first(struct trace_thread *threads, size_t *count)
{
    size_t standing = 0, kept = 0;

    for (size_t i = 0; i < *count; i++) {
        struct trace_thread th = threads[i];

        if (th.tid <= 0)
            continue;
        threads[kept] = th;
        if (th.stands) {
            threads[kept] = threads[standing];
            threads[standing++] = th;
        }
        kept++;
    }
    *count = kept;
    return standing;
}

/* Whether waiting for those that don't stand yet is worth more time: one that has left its sleep and only waits for a CPU
 * will stand as soon as it gets one. Where none stands, waiting holds nobody up. */
static bool worth_waiting(const struct trace *t, const struct trace_thread *threads, size_t count, bool patient)
{
    bool any_stands = false;

    for (size_t i = 0; i < count; i++) {
        if (threads[i].tid > 0 && !threads[i].stands && state_of(t, threads[i].tid) == 'R')
            return true;
        any_stands |= threads[i].tid > 0 && threads[i].stands;
    }
    return patient && !any_stands;
}

/* patient: it is no error that some can't be stopped. */
static int stop(struct trace *t, unsigned wait_ms, bool patient, struct trace_thread **ret_threads,
                size_t *ret_standing, size_t *ret_count)
{
    struct trace_thread *threads = NULL;
    uint64_t end = t->deadline, last = now_ns() + TRACE_BUSY_MS * NS_PER_MS;
    size_t count = 0, standing = 0;
    int ret;

    do {
        t->deadline = now_ns() + wait_ms * NS_PER_MS;
        ret = await_all(t, threads, count);
        while (ret == 0 && (ret = seize_new(t, &threads, &count)) > 0)
            ret = await_all(t, threads, count);
    } while (ret == -ETIMEDOUT && now_ns() < last && worth_waiting(t, threads, count, patient));
    t->deadline = end;
    if (ret == -ETIMEDOUT && patient)
        ret = 0;
    for (size_t i = 0; ret == 0 && i < count; i++)
        if (threads[i].stands)
            ret = look_at(t, &threads[i]);
    if (ret == 0) {
        standing = standing_first(threads, &count);
        if (standing) {
            *ret_threads = threads;
            *ret_standing = standing;
            *ret_count = count;
            return 0;
        }
        ret = count ? -ETIMEDOUT : -ESRCH;
    }
    drop_all(t, threads, count);
    free(threads);
    return ret;
}

int trace_stop_all(struct trace *t, unsigned wait_ms, struct trace_thread **ret_threads, size_t *ret_count)
{
    size_t all;

    return stop(t, wait_ms, false, ret_threads, ret_count, &all);
}

int trace_stop_those(struct trace *t, unsigned wait_ms, struct trace_thread **ret_threads, size_t *ret_standing,
                     size_t *ret_count)
{
    return stop(t, wait_ms, true, ret_threads, ret_standing, ret_count);
}

void trace_let_go_standing(struct trace_thread *threads, size_t standing)
{
    for (size_t i = 0; i < standing; i++) {
        if (trace_detach(&threads[i]) < 0) {
            /* It has been killed. */
        }
        threads[i].tid = 0;
    }
}

void trace_let_go_those(struct trace *t, struct trace_thread *threads, size_t standing, size_t count)
{
    drop_all(t, threads + standing, count - standing);
    free(threads);
}

void trace_let_go(struct trace_thread *threads, size_t count)
{
    trace_let_go_standing(threads, count);
    free(threads);
}

int trace_set_regs(struct trace_thread *th, const struct arch_regs *regs)
{
    int ret = arch_set_regs(th->tid, regs);

    if (ret == 0)
        th->regs = *regs;
    return ret;
}

/* --- memory --- */

static int transfer(const struct trace *t, uint64_t addr, void *ours, size_t len, bool write)
{
    char *p = ours;

    while (len) {
        struct iovec local = {p, len}, remote = {(void *)(uintptr_t)addr, len}; // NOLINT(performance-no-int-to-ptr)
        ssize_t n = write ? process_vm_writev(t->pid, &local, 1, &remote, 1, 0)
                          : process_vm_readv(t->pid, &local, 1, &remote, 1, 0);

        if (n <= 0)
            return n < 0 ? -errno : -EFAULT;
        p += n;
        addr += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int trace_read(const struct trace *t, uint64_t addr, void *to, size_t len)
{
    return transfer(t, addr, to, len, false);
}

int trace_write(const struct trace *t, uint64_t addr, const void *from, size_t len)
{
    return transfer(t, addr, (void *)(uintptr_t)from, len, true); // NOLINT(performance-no-int-to-ptr)
}

/* Two words, also where the program itself may not write. */
static int poke(const struct trace_thread *th, uint64_t addr, const uint64_t word[2])
{
    for (int i = 0; i < 2; i++)
        if (ptrace(PTRACE_POKEDATA, th->tid, (void *)(uintptr_t)(addr + 8 * (uint64_t)i), (void *)(uintptr_t)word[i]) < 0)
            return -errno;
    return 0;
}

/* --- borrowing a thread --- */

static int gadget_place(struct trace *t, const struct trace_thread *th, uint64_t vdso)
{
    uint64_t at = vdso + offsetof(Elf64_Ehdr, e_shoff), with[2];
    char magic[SELFMAG];
    int ret;

    _Static_assert(sizeof(arch_gadget) <= sizeof(Elf64_Off) + sizeof(Elf64_Word), "covers e_shoff and e_flags");
    if (t->borrowed++)
        return 0;
    t->gadget = at;
    ret = !vdso ? -ENOTSUP : trace_read(t, vdso, magic, sizeof(magic));
    if (ret == 0 && memcmp(magic, ELFMAG, SELFMAG) != 0)
        ret = -ENOTSUP;
    if (ret == 0)
        ret = trace_read(t, at, t->gadget_was, sizeof(t->gadget_was));
    if (ret == 0) {
        memcpy(with, t->gadget_was, sizeof(with));
        memcpy(with, arch_gadget, sizeof(arch_gadget));
        ret = poke(th, at, with);
    }
    if (ret < 0)
        t->borrowed--;
    return ret;
}

/* The thread's registers don't lead there any more. */
static int gadget_remove(struct trace *t, const struct trace_thread *th)
{
    return --t->borrowed ? 0 : poke(th, t->gadget, t->gadget_was);
}

static int set_mask(const struct trace_thread *th, uint64_t mask)
{
    return ptrace(PTRACE_SETSIGMASK, th->tid, (void *)sizeof(mask), &mask) < 0 ? -errno : 0;
}

static void forget_frame(struct trace_thread *th)
{
    free(th->below);
    th->below = NULL;
    arch_vectors_free(&th->vectors);
}

/* The memory that the frame was written over. */
static int give_back(struct trace *t, struct trace_thread *th)
{
    int ret = th->below ? trace_write(t, th->frame, th->below, th->below_size) : 0;

    forget_frame(th);
    return ret;
}

int trace_borrow(struct trace *t, struct trace_thread *th, uint64_t vdso, uint64_t sp)
{
    static char frame[ARCH_FRAME_MAX];
    struct arch_regs regs = th->regs;
    int ret = arch_get_regs(th->tid, &th->regs);

    if (ret == 0)
        arch_recognize_again(&regs, &th->regs);
    if (ret == 0 && ptrace(PTRACE_GETSIGMASK, th->tid, (void *)sizeof(th->mask), &th->mask) < 0)
        ret = -errno;
    if (ret == 0)
        ret = arch_frame(th->tid, &th->regs, sp ? sp : arch_sp(&th->regs), th->mask, frame, &th->frame, &th->below_size);
    if (ret == 0)
        ret = arch_vectors_get(th->tid, &th->vectors);
    if (ret < 0)
        return ret;
    th->below = xmalloc(th->below_size);
    ret = trace_read(t, th->frame, th->below, th->below_size);
    if (ret < 0) {
        forget_frame(th);
        return ret;
    }
    ret = trace_write(t, th->frame, frame, th->below_size);
    if (ret == 0)
        ret = gadget_place(t, th, vdso);
    if (ret < 0) {
        give_back(t, th);
        return ret;
    }
    trace_fault_point();
    regs = th->regs;
    arch_regs_enter(&regs, t->gadget + ARCH_GADGET_RETURN, th->frame, (const uint64_t[3]){0, 0, 0});
    ret = arch_set_regs(th->tid, &regs); /* before the mask: from now on it would come back by itself */
    if (ret == 0)
        ret = set_mask(th, ALL_SIGNALS);
    if (ret < 0 && trace_return(t, th) < 0) {
        /* It goes back to its registers when it runs. */
    }
    return ret;
}

int trace_call(struct trace *t, struct trace_thread *th, long nr, const uint64_t arg[6], int64_t *ret_result)
{
    struct arch_regs regs = th->regs;
    int ret;

    trace_fault_point();
    arch_regs_call(&regs, t->gadget, th->frame, nr, arg);
    ret = arch_set_regs(th->tid, &regs);
    if (ret == 0)
        ret = next_call_stop(t, th); /* entry */
    if (ret == 0)
        ret = next_call_stop(t, th); /* end */
    if (ret == 0)
        ret = arch_get_regs(th->tid, &regs);
    if (ret == 0)
        *ret_result = arch_result(&regs);
    return ret;
}

int trace_return(struct trace *t, struct trace_thread *th)
{
    int ret;

    trace_fault_point();
    ret = next_return_stop(t, th);
    if (ret == 0)
        ret = set_mask(th, th->mask); /* while its registers still lead to the frame, which would do the same */
    trace_fault_point();
    if (ret == 0)
        ret = arch_vectors_set(th->tid, &th->vectors);
    arch_regs_back(&th->regs);
    if (ret == 0)
        ret = arch_set_regs(th->tid, &th->regs);
    trace_fault_point();
    if (ret == 0)
        ret = gadget_remove(t, th);
    if (ret == 0)
        ret = give_back(t, th);
    forget_frame(th);
    return ret;
}

int trace_enter(struct trace *t, struct trace_thread *th, uint64_t pc, const uint64_t arg[3])
{
    struct arch_regs regs = th->regs;
    int ret;

    arch_regs_enter(&regs, pc, th->frame, arg);
    ret = arch_set_regs(th->tid, &regs);
    forget_frame(th); /* it has its frame there now */
    if (ret == 0)
        ret = gadget_remove(t, th);
    return ret < 0 ? ret : set_mask(th, th->mask);
}
