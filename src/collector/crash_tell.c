/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/crash_tell.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "collector/crash_state.h"
#include "collector/segments.h"
#include "crash/words.h"
#include "model/process.h"
#include "report/crash.h"
#include "report/pipeline.h"

static void frame_text(const struct crash_frame *f, char *to, size_t size)
{
    int n;

    if (f->function[0])
        n = snprintf(to, size, "%s+0x%llx", f->function, (unsigned long long)f->offset);
    else if (f->module[0])
        n = snprintf(to, size, "0x%llx", (unsigned long long)f->pc);
    else
        n = snprintf(to, size, "0x%llx, which is no code", (unsigned long long)f->pc);
    if (n > 0 && (size_t)n < size && f->file[0])
        n += snprintf(to + n, size - (size_t)n, " at %s:%u", f->file, f->line);
    if (n > 0 && (size_t)n < size && f->module[0]) {
        if (f->function[0])
            n += snprintf(to + n, size - (size_t)n, " in %s", f->module);
        else
            n += snprintf(to + n, size - (size_t)n, " in %s+0x%llx", f->module, (unsigned long long)f->offset);
    }
    if (n > 0 && (size_t)n < size && f->guessed)
        snprintf(to + n, size - (size_t)n, " (guessed)");
}

static bool begins_with_one(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (strncmp(text, *list, strlen(*list)) == 0)
            return true;
    return false;
}

/* Part of how languages give up by themselves, not of what has gone wrong. */
static bool is_giving_up(const struct crash_frame *f)
{
    static const char *const modules[] = {"libc.", "libc-", "ld-musl", "libpthread", "libstdc++", "libgcc_s", NULL};
    static const char *const functions[] = {"abort",
                                            "raise",
                                            "__pthread_kill",
                                            "pthread_kill",
                                            "tkill",
                                            "tgkill",
                                            "__GI_",
                                            "__assert",
                                            "__libc_message",
                                            "__fortify_fail",
                                            "__stack_chk_fail",
                                            "std::",
                                            "core::",
                                            "alloc::",
                                            "<",
                                            "__cxa_",
                                            "__gnu_cxx::",
                                            "__cxxabiv1::",
                                            "rust_",
                                            "__rust",
                                            "panic_abort",
                                            "runtime.",
                                            NULL};

    return !f->function[0] || begins_with_one(f->module, modules) || begins_with_one(f->function, functions);
}

/* The frame that says most of where it is: of a fault the innermost one. */
static size_t telling_frame(const struct crash *crash)
{
    bool by_itself = !crash->cause.signo || crash->cause.code == SI_TKILL;

    for (size_t i = 0; by_itself && i < crash->sum.top_count && i < CRASH_TOP; i++)
        if (!is_giving_up(&crash->sum.top[i]))
            return i;
    return 0;
}

/* Why something is missing: what the worker says, or we. */
static const char *missing_text(const struct crash *crash, char *to, size_t size)
{
    const char *worker = crash->sum.why;
    int err = crash->sum.backtrace_error ? crash->sum.backtrace_error : crash->sum.core_error;

    if (crash->why && crash->why_errno)
        snprintf(to, size, "%s: %s", crash->why, strerror(crash->why_errno));
    else if (crash->why)
        snprintf(to, size, "%s%s%s", crash->why, *worker ? "; " : "", worker);
    else if (*worker)
        snprintf(to, size, "%s", worker);
    else if (err)
        snprintf(to, size, "%s: %s", crash->sum.backtrace_error ? "the trace" : "the core", strerror(-err));
    else
        return NULL;
    return to;
}

static size_t list_files(const struct crash *crash, const char *ret[4])
{
    static const char *const names[] = {"snapshot.json", "backtrace.txt", "core"};
    size_t n = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(*names) && crash->dir >= 0; i++)
        if (faccessat(crash->dir, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            ret[n++] = names[i];
    if (crash->journal)
        ret[n++] = "events.json";
    return n;
}

const char *crash_cause_name(const struct crash *crash, char buf[24])
{
    const char *name = sigabbrev_np(crash->cause.signo);

    if (!crash->cause.signo)
        snprintf(buf, 24, "exit status %d", crash->cause.status);
    else if (name)
        snprintf(buf, 24, "SIG%s", name);
    else
        snprintf(buf, 24, "signal %d", crash->cause.signo);
    return buf;
}

/* si_code of sigaction(2): si_pid and si_uid crash_tell who has. */
static bool is_sent(int code)
{
    return code == SI_USER || code == SI_TKILL || code == SI_QUEUE;
}

void crash_tell(struct crash *crash, struct proc *p)
{
    char texts[CRASH_TOP][400], missing[400], name[24], code[128] = "";
    const char *frames[CRASH_TOP], *files[4];
    const struct crash_summary *sum = &crash->sum;
    struct report_crash r = {
        .signo = crash->cause.signo,
        .status = crash->cause.status,
        .code = code,
        .addr = crash->cause.addr,
        .has_addr = words_has_address(crash->cause.signo, crash->cause.code),
        .sender = crash->cause.sender,
        .sent = crash->cause.signo && is_sent(crash->cause.code),
        .sender_uid = crash->cause.sender_uid,
        .tid = crash->tid,
        .thread = crash->thread,
        .where = sum->where,
        .goroutine = sum->goroutine,
        .threads = sum->threads,
        .stopped_ns = sum->stopped_ns,
        .dir = crash->path,
        .core_bytes = sum->core_bytes,
    };

    if (crash->cause.signo)
        snprintf(code, sizeof(code), "%s%s%s", words_code_name(crash->cause.signo, crash->cause.code),
                 *words_code_name(crash->cause.signo, crash->cause.code) ? ": " : "",
                 words_code(crash->cause.signo, crash->cause.code));
    for (; r.frame_count < sum->top_count && r.frame_count < CRASH_TOP; r.frame_count++) {
        frame_text(&sum->top[r.frame_count], texts[r.frame_count], sizeof(texts[0]));
        frames[r.frame_count] = texts[r.frame_count];
    }
    r.frames = frames;
    r.at = telling_frame(crash);
    r.files = files;
    r.file_count = list_files(crash, files);
    r.missing = missing_text(crash, missing, sizeof(missing));
    report_crash(p, &r, crash->cause.time_ns);
    log_warning("%s[%u] has crashed: %s%s%s%s%s", p->tm.proc ? p->tm.proc : "?", crash->pid, crash_cause_name(crash, name),
                r.frame_count ? " in " : "", r.frame_count ? frames[r.at] : "", r.missing ? ": " : "",
                r.missing ? r.missing : "");
}

/* Whether one of those that found no place isn't told yet. Which one it was they could not say. */
static bool found_no_place(struct segment *seg)
{
    if (segment_crashes_refused(&seg->map) == seg->refused_seen)
        return false;
    seg->refused_seen++;
    return true;
}

void crash_tell_end(struct proc *p, int status, uint64_t time_ns)
{
    struct report_crash r = {.missing = p->crash_missed};

    if (!p->pl || !(p->pl->mode & SEG_M_CRASH) || p->crash_told || !WIFSIGNALED(status) ||
        !report_is_crash(WTERMSIG(status)))
        return;
    r.signo = WTERMSIG(status);
    if (!r.missing)
        r.missing = p->sandboxed             ? "no trace: it had entered seccomp, where nothing of ours may act"
                    : !p->seg                ? "no trace: the program wasn't observed any more"
                    : found_no_place(p->seg) ? "no trace: too many crashed at once"
                                             : "no trace: it has died without being able to say so";
    report_crash(p, &r, time_ns);
}
