/* SPDX-License-Identifier: Apache-2.0 */
#include "report/crash.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "model/process.h"
#include "report/fields.h"
#include "report/pipeline.h"
#include "report/report.h"

bool report_is_crash(int signo)
{
    return signo == SIGSEGV || signo == SIGBUS || signo == SIGILL || signo == SIGFPE || signo == SIGABRT || signo == SIGSYS ||
           signo == SIGTRAP;
}

/* Those that say so have a code of 0 or less, but for SI_KERNEL: no address, nobody has sent it. */
bool report_has_addr(int signo, int code)
{
    return code > 0 && code != SI_KERNEL && report_is_crash(signo) && signo != SIGABRT;
}

bool report_has_sender(int code)
{
    return code == SI_USER || code == SI_TKILL || code == SI_QUEUE;
}

/* signal(7) and sigaction(2); numbers that the C library's headers may not have yet stand as such (asm-generic/siginfo.h). */
static const struct {
    int signo, code; /* signo 0: of every signal */
    const char *text;
} codes[] = {
    {0, SI_USER, "SI_USER: sent by kill(2)"},
    {0, SI_TKILL, "SI_TKILL: sent by tgkill(2), as abort(3) and raise(3) do"},
    {0, SI_QUEUE, "SI_QUEUE: sent by sigqueue(3)"},
    {0, SI_KERNEL, "SI_KERNEL: sent by the kernel"},
    {0, SI_TIMER, "SI_TIMER: a timer has expired"},
    {0, SI_MESGQ, "SI_MESGQ: a message has come"},
    {0, SI_ASYNCIO, "SI_ASYNCIO: an asynchronous operation is done"},
    {0, SI_SIGIO, "SI_SIGIO: a descriptor is ready"},
    {SIGSEGV, SEGV_MAPERR, "SEGV_MAPERR: address not mapped"},
    {SIGSEGV, SEGV_ACCERR, "SEGV_ACCERR: access not allowed"},
    {SIGSEGV, 3, "SEGV_BNDERR: outside of the bounds"},
    {SIGSEGV, 4, "SEGV_PKUERR: forbidden by a protection key"},
    {SIGSEGV, 10, "SEGV_CPERR: return to another address"},
    {SIGBUS, BUS_ADRALN, "BUS_ADRALN: address not aligned"},
    {SIGBUS, BUS_ADRERR, "BUS_ADRERR: nothing there, as behind a file's end"},
    {SIGBUS, BUS_OBJERR, "BUS_OBJERR: hardware error"},
    {SIGBUS, BUS_MCEERR_AR, "BUS_MCEERR_AR: broken memory was used"},
    {SIGBUS, BUS_MCEERR_AO, "BUS_MCEERR_AO: broken memory was found"},
    {SIGILL, ILL_ILLOPC, "ILL_ILLOPC: illegal opcode"},
    {SIGILL, ILL_ILLOPN, "ILL_ILLOPN: illegal operand"},
    {SIGILL, ILL_ILLADR, "ILL_ILLADR: illegal addressing mode"},
    {SIGILL, ILL_ILLTRP, "ILL_ILLTRP: illegal trap"},
    {SIGILL, ILL_PRVOPC, "ILL_PRVOPC: privileged opcode"},
    {SIGILL, ILL_PRVREG, "ILL_PRVREG: privileged register"},
    {SIGILL, ILL_COPROC, "ILL_COPROC: coprocessor error"},
    {SIGILL, ILL_BADSTK, "ILL_BADSTK: internal stack error"},
    {SIGFPE, FPE_INTDIV, "FPE_INTDIV: integer division by zero"},
    {SIGFPE, FPE_INTOVF, "FPE_INTOVF: integer overflow"},
    {SIGFPE, FPE_FLTDIV, "FPE_FLTDIV: division by zero"},
    {SIGFPE, FPE_FLTOVF, "FPE_FLTOVF: overflow"},
    {SIGFPE, FPE_FLTUND, "FPE_FLTUND: underflow"},
    {SIGFPE, FPE_FLTRES, "FPE_FLTRES: inexact result"},
    {SIGFPE, FPE_FLTINV, "FPE_FLTINV: invalid operation"},
    {SIGFPE, FPE_FLTSUB, "FPE_FLTSUB: subscript out of range"},
    {SIGTRAP, TRAP_BRKPT, "TRAP_BRKPT: breakpoint"},
    {SIGTRAP, TRAP_TRACE, "TRAP_TRACE: single step"},
    {SIGTRAP, 3, "TRAP_BRANCH: branch"},
    {SIGTRAP, 4, "TRAP_HWBKPT: hardware breakpoint"},
    {SIGSYS, 1, "SYS_SECCOMP: call forbidden by a seccomp filter"},
    {SIGSYS, 2, "SYS_USER_DISPATCH: call dispatched to the program"},
};

const char *report_code(int signo, int code, char buf[64])
{
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        if (codes[i].code == code && (!codes[i].signo || codes[i].signo == signo))
            return codes[i].text;
    snprintf(buf, 64, "code %d", code);
    return buf;
}

void report_crash(struct proc *p, const struct report_crash *c, uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);
    const char *name = c->signo ? sigabbrev_np(c->signo) : NULL;
    char signal[24], code[64], addr[24];

    if (!p->pl || !p->pl->ev_proc_crash)
        return;
    if (c->signo) {
        if (name)
            snprintf(signal, sizeof(signal), "SIG%s", name);
        else
            snprintf(signal, sizeof(signal), "SIG%d", c->signo);
        add_str(&f, "signal", 0, signal);
        add_int(&f, "signo", 0, c->signo);
    } else {
        add_int(&f, "exit_code", 0, c->status);
    }
    if (c->signo && c->told) {
        add_str(&f, "code", 0, report_code(c->signo, c->code, code));
        if (report_has_addr(c->signo, c->code)) {
            snprintf(addr, sizeof(addr), "0x%" PRIx64, c->addr);
            add_str(&f, "address", 0, addr);
        }
        if (report_has_sender(c->code)) {
            add_uint(&f, "sender_pid", 0, (uint32_t)c->sender);
            add_uint(&f, "sender_uid", 0, c->sender_uid);
        }
    }
    if (c->where && *c->where)
        add_str(&f, "where", 0, c->where);
    if (c->tid)
        add_uint(&f, "tid", 0, c->tid);
    if (c->thread && *c->thread)
        add_str(&f, "thread", 0, c->thread);
    if (c->goroutine && *c->goroutine)
        add_str(&f, "goroutine", 0, c->goroutine);
    if (c->frame_count) {
        add_str(&f, "at", 0, c->frames[0]);
        add_list(&f, "frames", c->frames, c->frame_count);
    }
    if (c->threads)
        add_uint(&f, "threads", 0, c->threads);
    if (c->stopped_ns)
        add(&f, "stopped_ms", TM_HUNDREDTHS, 0)->v.i = (int64_t)(c->stopped_ns / 10000);
    if (c->dir) {
        add_str(&f, "dir", 0, c->dir);
        add_list(&f, "files", c->files, c->file_count);
    }
    if (c->core_bytes)
        add_uint(&f, "core_bytes", 0, c->core_bytes);
    if (c->missing && *c->missing)
        add_str(&f, "missing", 0, c->missing);
    report_event(p, CFG_EW_PROCESS, "proc.crash", 0, time_ns, &f);
}
