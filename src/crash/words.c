/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/words.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

#define NULL_SPAN UINT64_C(0x10000) /* nothing is mapped below (vm.mmap_min_addr, as most have it) */
#define NEAR (UINT64_C(1) << 20)

static const struct {
    int signo;
    const char *name;
} signals[] = {
#define S(name) \
    { \
        name, #name \
    }
    S(SIGHUP),  S(SIGINT),    S(SIGQUIT), S(SIGILL),   S(SIGTRAP), S(SIGABRT), S(SIGBUS),  S(SIGFPE),
    S(SIGKILL), S(SIGUSR1),   S(SIGSEGV), S(SIGUSR2),  S(SIGPIPE), S(SIGALRM), S(SIGTERM), S(SIGSTKFLT),
    S(SIGCHLD), S(SIGCONT),   S(SIGSTOP), S(SIGTSTP),  S(SIGTTIN), S(SIGTTOU), S(SIGURG),  S(SIGXCPU),
    S(SIGXFSZ), S(SIGVTALRM), S(SIGPROF), S(SIGWINCH), S(SIGIO),   S(SIGPWR),  S(SIGSYS),
#undef S
};

const char *words_signal(int signo)
{
    static char text[32];

    for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        if (signals[i].signo == signo)
            return signals[i].name;
    if (signo >= 34 && signo <= 64)
        snprintf(text, sizeof(text), signo == 34 ? "SIGRTMIN" : "SIGRTMIN+%d", signo - 34);
    else
        snprintf(text, sizeof(text), "signal %d", signo);
    return text;
}

/* si_code: sigaction(2), include/uapi/asm-generic/siginfo.h. signo 0: with any. */
static const struct {
    int signo, code;
    const char *name, *words;
} codes[] = {
    {0, 0, "SI_USER", "sent by kill(2)"},
    {0, 0x80, "SI_KERNEL", "sent by the kernel"},
    {0, -1, "SI_QUEUE", "sent by sigqueue(3)"},
    {0, -2, "SI_TIMER", "a timer has expired"},
    {0, -3, "SI_MESGQ", "a message queue has got a message"},
    {0, -4, "SI_ASYNCIO", "asynchronous input or output is complete"},
    {0, -5, "SI_SIGIO", "a descriptor is ready"},
    {0, -6, "SI_TKILL", "sent to the thread (raise(3), abort(3), tgkill(2))"},
    {SIGILL, 1, "ILL_ILLOPC", "illegal opcode"},
    {SIGILL, 2, "ILL_ILLOPN", "illegal operand"},
    {SIGILL, 3, "ILL_ILLADR", "illegal addressing mode"},
    {SIGILL, 4, "ILL_ILLTRP", "illegal trap"},
    {SIGILL, 5, "ILL_PRVOPC", "privileged opcode"},
    {SIGILL, 6, "ILL_PRVREG", "privileged register"},
    {SIGILL, 7, "ILL_COPROC", "coprocessor error"},
    {SIGILL, 8, "ILL_BADSTK", "internal stack error"},
    {SIGFPE, 1, "FPE_INTDIV", "integer division by zero"},
    {SIGFPE, 2, "FPE_INTOVF", "integer overflow"},
    {SIGFPE, 3, "FPE_FLTDIV", "floating-point division by zero"},
    {SIGFPE, 4, "FPE_FLTOVF", "floating-point overflow"},
    {SIGFPE, 5, "FPE_FLTUND", "floating-point underflow"},
    {SIGFPE, 6, "FPE_FLTRES", "floating-point result is inexact"},
    {SIGFPE, 7, "FPE_FLTINV", "invalid floating-point operation"},
    {SIGFPE, 8, "FPE_FLTSUB", "subscript out of range"},
    {SIGSEGV, 1, "SEGV_MAPERR", "nothing is mapped at the address"},
    {SIGSEGV, 2, "SEGV_ACCERR", "the mapping at the address doesn't allow that"},
    {SIGSEGV, 3, "SEGV_BNDERR", "an address bound was exceeded"},
    {SIGSEGV, 4, "SEGV_PKUERR", "a protection key doesn't allow that"},
    {SIGSEGV, 10, "SEGV_CPERR", "return to another address than was called from (shadow stack)"},
    {SIGBUS, 1, "BUS_ADRALN", "the address isn't aligned"},
    {SIGBUS, 2, "BUS_ADRERR", "there is no such memory: a mapped file may have become shorter"},
    {SIGBUS, 3, "BUS_OBJERR", "hardware error"},
    {SIGBUS, 4, "BUS_MCEERR_AR", "memory is broken (machine check)"},
    {SIGBUS, 5, "BUS_MCEERR_AO", "memory was found broken (machine check)"},
    {SIGTRAP, 1, "TRAP_BRKPT", "breakpoint"},
    {SIGTRAP, 2, "TRAP_TRACE", "trace trap"},
    {SIGTRAP, 3, "TRAP_BRANCH", "branch trap"},
    {SIGTRAP, 4, "TRAP_HWBKPT", "hardware breakpoint"},
    {SIGTRAP, 6, "TRAP_PERF", "perf event"},
    {SIGSYS, 1, "SYS_SECCOMP", "a seccomp filter doesn't allow the system call"},
    {SIGSYS, 2, "SYS_USER_DISPATCH", "the system call is to be dispatched by the program"},
};

static int find_code(int signo, int code)
{
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        if (codes[i].code == code && (!codes[i].signo || codes[i].signo == signo))
            return (int)i;
    return -1;
}

const char *words_code(int signo, int code)
{
    int i = find_code(signo, code);

    return i < 0 ? "" : codes[i].words;
}

const char *words_code_name(int signo, int code)
{
    int i = find_code(signo, code);

    return i < 0 ? "" : codes[i].name;
}

bool words_has_address(int signo, int code)
{
    return code > 0 && code != 0x80 &&
           (signo == SIGSEGV || signo == SIGBUS || signo == SIGILL || signo == SIGFPE || signo == SIGTRAP ||
            signo == SIGSYS);
}

/* --- addresses --- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

/* The number of the thread (from 1) whose stack this mapping is: its stack pointer is there, or its C library has put
 * what belongs to the thread at the upper end. 0: no thread's. */
static size_t stack_of(const struct crash_view *v, const struct process_map *m)
{
    if (!m->read || !m->write || m->inode)
        return 0;
    for (size_t i = 0; i < v->thread_count; i++) {
        const struct crash_thread *th = &v->threads[i];
        uint64_t sp = machine_sp(&th->regs), tp = machine_thread_pointer(&th->regs, &th->more);

        if (strcmp(m->name, "[stack]") == 0
                ? th->tid == v->pid
                : th->stands && *m->name != '[' && (sp - m->lo < m->hi - m->lo || tp - m->lo < m->hi - m->lo))
            return i + 1;
    }
    return 0;
}

/* "the stack of thread 3", "libfoo.so's code". */
static void name_mapping(const struct crash_view *v, const struct process_map *m, char *ret, size_t size)
{
    size_t thread = stack_of(v, m);

    if (thread)
        snprintf(ret, size, "the stack of thread %zu", thread);
    else if (strcmp(m->name, "[stack]") == 0 || (*m->name == '[' && !m->inode))
        snprintf(ret, size, "%.60s", m->name);
    else if (m->inode)
        snprintf(ret, size, "%.60s's %s", base_name(m->name),
                 m->execute ? "code"
                 : m->write ? "data"
                            : "read-only data");
    else
        snprintf(ret, size, "%s memory at 0x%llx",
                 m->execute ? "generated code in"
                 : m->write ? "anonymous"
                 : m->read  ? "read-only"
                            : "inaccessible",
                 (unsigned long long)m->lo);
}

void words_address(const struct crash_view *v, uint64_t address, char *ret, size_t size)
{
    const struct process_map *m = process_map_at(&v->maps, address), *below = NULL, *above = NULL;
    char name[120];

    for (size_t i = 0; i < v->maps.count; i++) {
        if (v->maps.v[i].hi <= address)
            below = &v->maps.v[i];
        if (v->maps.v[i].lo > address) {
            above = &v->maps.v[i];
            break;
        }
    }
    if (m && (m->read || m->write || m->execute)) {
        name_mapping(v, m, name, sizeof(name));
        snprintf(ret, size, "%s %s", stack_of(v, m) ? "on" : "inside", name);
        return;
    }
    if (address < NULL_SPAN && !m) {
        snprintf(ret, size, address ? "NULL + 0x%llx" : "NULL", (unsigned long long)address);
        return;
    }
    if (address >> MACHINE_ADDRESS_BITS) {
        snprintf(ret, size, "no address of a program (%s half)",
                 address >> MACHINE_ADDRESS_BITS == UINT64_MAX >> MACHINE_ADDRESS_BITS ? "the kernel's" : "in no");
        return;
    }
    if (above && stack_of(v, above) && above->lo - address <= NEAR && (m || !below || above->lo - below->hi > 0)) {
        name_mapping(v, above, name, sizeof(name));
        snprintf(ret, size, "%llu bytes below %s%s", (unsigned long long)(above->lo - address), name,
                 m ? " (guard page)" : "");
        return;
    }
    if (m) {
        name_mapping(v, m, name, sizeof(name));
        snprintf(ret, size, "inside %s", name);
        return;
    }
    if (below && address - below->hi <= NEAR && (!above || address - below->hi <= above->lo - address)) {
        name_mapping(v, below, name, sizeof(name));
        snprintf(ret, size, "not mapped, %llu bytes above the end of %s", (unsigned long long)(address - below->hi),
                 name);
    } else if (above && above->lo - address <= NEAR) {
        name_mapping(v, above, name, sizeof(name));
        snprintf(ret, size, "not mapped, %llu bytes below %s", (unsigned long long)(above->lo - address), name);
    } else {
        snprintf(ret, size, "not mapped");
    }
}

void words_where(const struct crash_view *v, char *ret, size_t size)
{
    const struct crash_cause *c = v->cause;

    *ret = '\0';
    if (words_has_address(c->signo, c->code))
        words_address(v, c->addr, ret, size);
    else if (c->signo == SIGSEGV && c->code == 0x80)
        snprintf(ret, size, "unknown: the CPU tells no address where one isn't canonical");
}

/* --- secrets --- */

static bool contains(const char *s, size_t len, const char *word)
{
    size_t n = strlen(word);

    for (size_t i = 0; i + n <= len; i++)
        if (strncasecmp(s + i, word, n) == 0)
            return true;
    return false;
}

bool words_is_secret(const char *name, size_t len)
{
    static const char *const words[] = {"TOKEN",   "SECRET",     "PASSW",      "PASSPHRASE", "PWD_",
                                        "_PWD",    "KEY",        "CREDENTIAL", "AUTH",       "COOKIE",
                                        "PRIVATE", "SESSION_ID", "SIGNATURE",  "DSN",        "HEADERS"};

    if ((len == 3 && strncmp(name, "PWD", 3) == 0) || (len == 6 && strncmp(name, "OLDPWD", 6) == 0))
        return false;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (contains(name, len, words[i]))
            return true;
    return false;
}

size_t words_credentials(const char *s, size_t len, size_t *ret_at)
{
    for (size_t i = 0; i + 3 < len; i++) {
        size_t at = i + 3, end = at;

        if (memcmp(s + i, "://", 3) != 0)
            continue;
        while (end < len && !strchr("/?# \t\"'", s[end]) && s[end])
            end++;
        for (size_t k = end; k > at; k--)
            if (s[k - 1] == '@') {
                *ret_at = at;
                return k - 1 - at;
            }
    }
    return 0;
}
