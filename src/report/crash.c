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

void report_crash(struct proc *p, const struct report_crash *c, uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);
    char signal[24], addr[24];

    if (!p->pl || !p->pl->ev_proc_crash)
        return;
    if (c->signo) {
        add_str(&f, "signal", 0, signal_text(c->signo, signal));
        add_int(&f, "signo", 0, c->signo);
    } else {
        add_int(&f, "exit_code", 0, c->status);
    }
    if (c->code && *c->code)
        add_str(&f, "code", 0, c->code);
    if (c->has_addr) {
        snprintf(addr, sizeof(addr), "0x%" PRIx64, c->addr);
        add_str(&f, "address", 0, addr);
    }
    if (c->sent) {
        add_uint(&f, "sender_pid", 0, (uint32_t)c->sender);
        add_uint(&f, "sender_uid", 0, c->sender_uid);
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
        add_str(&f, "at", 0, c->frames[c->at]);
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
