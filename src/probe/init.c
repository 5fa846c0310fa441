/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe's start: the dynamic loader runs this before any other constructor
 * (-z initfirst); in a static program the kernel seems to (inject/load.h). If
 * anything is missing the program runs unobserved.
 */
#include <linux/auxvec.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/resource.h>

#include "crash.h"
#include "images.h"
#include "join.h"
#include "ring.h"
#include "rules.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* What the kernel put on the new program's stack. */
struct start {
    const char *const *argv; /* NULL: musl's loader, which doesn't tell */
    const char *const *envp;
    const uint64_t *auxv;
    const char *lib;         /* the path of this library; "": not known */
    bool alone;              /* a tracer brought us: the loader, if there is any, has not run yet */
    uint64_t bias;           /* ... and the program's own, which no loader can tell */
};

/* What the environment says of a session. */
struct settings {
    const char *plans;       /* NULL: none */
    uint32_t mode;           /* 0: without the CLI, and nobody has said */
};

/* ... from where it begins: the kernel's struct is argc, argv, NULL, envp, NULL, auxv (System V ABI, 3.4.1). */
static void start_from_stack(struct start *st, const char *const *argv, const char *const *envp)
{
    st->argv = argv;
    st->envp = envp;
    while (*envp)
        envp++;
    st->auxv = (const uint64_t *)(const void *)(envp + 1);
}

/* musl passes nothing to constructors: read what the kernel keeps. The buffers stay for the process's life only
 * in so far as they are used below. */
static bool start_from_proc(struct start *st, const char **env, size_t env_max, char *text, size_t text_size,
                            uint64_t *aux, size_t aux_size)
{
    size_t used = 0, n = 0;
    long fd = SYS4(__NR_openat, AT_FDCWD, "/proc/self/environ", O_RDONLY | O_CLOEXEC, 0), got;

    if (fd < 0)
        return false;
    while (used < text_size - 1 && (got = SYS3(__NR_read, fd, text + used, text_size - 1 - used)) > 0)
        used += (size_t)got;
    SYS1(__NR_close, fd);
    text[used] = 0;
    for (size_t at = 0; at < used && n < env_max - 1; at += str_len(text + at, used - at) + 1)
        env[n++] = text + at;
    env[n] = NULL;
    fd = SYS4(__NR_openat, AT_FDCWD, "/proc/self/auxv", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return false;
    got = SYS3(__NR_read, fd, aux, aux_size - 16);
    SYS1(__NR_close, fd);
    if (got < 16)
        return false;
    memset((char *)aux + got, 0, aux_size - (size_t)got);
    st->envp = env;
    st->auxv = aux;
    return true;
}

static const char *env_get(const char *const *envp, const char *name)
{
    for (; *envp; envp++) {
        const char *v = str_after(*envp, name);

        if (v && *v++ == '=')
            return v;
    }
    return NULL;
}

static uint64_t aux_get(const uint64_t *aux, uint64_t type)
{
    for (; aux[0] != AT_NULL; aux += 2)
        if (aux[0] == type)
            return aux[1];
    return 0;
}

static uint32_t parse_hex(const char *s)
{
    uint32_t v = 0;

    for (; *s; s++) {
        if (*s >= '0' && *s <= '9')
            v = v << 4 | (uint32_t)(*s - '0');
        else if (*s >= 'a' && *s <= 'f')
            v = v << 4 | (uint32_t)(*s - 'a' + 10);
        else
            return 0;
    }
    return v;
}

static bool may_read_counter(void)
{
    int on = 0;
    long asked = SYS2(__NR_prctl, PR_GET_TSC, &on);

    return arch_may_read_ticks(asked, on);
}

/* The CPU's counter is used only when the kernel itself keeps time with it: then it is constant, synchronous and
 * not trapped. */
static uint32_t choose_clock(void)
{
    static const char clocks[][8] = ARCH_CLOCKS;
    char name[8] = {0};
    long fd = SYS4(__NR_openat, AT_FDCWD, "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                   O_RDONLY | O_CLOEXEC, 0);

    if (fd < 0)
        return SEG_CLOCK_TSC; /* no /sys in this container; the collector checks what it gets */
    SYS3(__NR_read, fd, name, sizeof(name) - 1);
    SYS1(__NR_close, fd);
    for (size_t i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++)
        if (str_after(name, clocks[i]))
            return SEG_CLOCK_TSC;
    return SEG_CLOCK_NONE;
}

/* Valgrind translates a program's code and runs what comes out: patches would be its errors, in its own process as in
 * the program's. It knows itself by a variable of its launcher's, the program by a library that it loads first. */
static bool translated(const struct start *st)
{
    const char *preload = env_get(st->envp, "LD_PRELOAD");

    return st->alone ? env_get(st->envp, "VALGRIND_LAUNCHER") != NULL : preload && str_contains(preload, "/vgpreload_");
}

/* What the environment says of a session; false if this process is not to be observed. */
static bool session_settings(const struct start *st, struct settings *ret)
{
    const char *mode = env_get(st->envp, ENV_MODE), *lossless = env_get(st->envp, "SCOPE_LOSSLESS");

    if (mode && *mode == MODE_SANDBOXED)
        return false;
    *ret = (struct settings){.plans = env_get(st->envp, ENV_PLANS), .mode = mode ? parse_hex(mode) : 0};
    probe.mode = ret->mode ? ret->mode : SEG_M_ON | SEG_M_TIMING | SEG_M_CAPTURE | SEG_M_ENHANCEFS;
    if (lossless && str_eq(lossless, "true"))
        probe.mode |= SEG_M_LOSSLESS;
    return true;
}

/* What follows from probe.mode and what the machine is like. told: by somebody who knows the machine. */
static bool configure(const struct start *st, bool told)
{
    struct rlimit64 limit;

    if (SYS4(__NR_prlimit64, 0, RLIMIT_NOFILE, 0, &limit) < 0)
        return false;
    probe.argv = st->argv;
    probe.table_hash = syscall_table_hash();
    probe.euid = (uint32_t)aux_get(st->auxv, AT_EUID);
    probe.fd_cap = limit.rlim_max < FD_CAP_MAX ? (uint32_t)limit.rlim_max : FD_CAP_MAX;
    probe.ring_off = (uint32_t)segment_ring(probe.fd_cap);
    probe.clock = !may_read_counter()                   ? SEG_CLOCK_NONE
                  : told && (probe.mode & SEG_M_TSC)    ? SEG_CLOCK_TSC
                                                        : choose_clock();
    probe_no_ticks = probe.clock != SEG_CLOCK_TSC;
    probe.timing = (probe.mode & SEG_M_TIMING) && !probe_no_ticks;
    if (!probe.timing)
        scope_info.entry[PLAN_ENTRY_TIMED] = 0;
    images_landing(aux_get(st->auxv, AT_HWCAP2));
    probe_fsgsbase = st->alone || /* else no tracer would have brought us */
                     arch_reads_pointer(aux_get(st->auxv, AT_HWCAP2)) || (told && (probe.mode & SEG_M_POINTER));
    return true;
}

/* What every process uses of our own image: code, constants, this thread's slot. */
static void populate_own(void)
{
    extern char __ehdr_start[] __attribute__((visibility("hidden")));
    extern char scope_pool[] __attribute__((visibility("hidden")));
    extern char scope_pool_end[] __attribute__((visibility("hidden")));

    populate_read(__ehdr_start, (size_t)(scope_pool - __ehdr_start));
    populate_read(scope_pool_end, 2 * PROBE_PAGE);
    populate(&threads[thread_hash(arch_thread_pointer() | 1)], sizeof(*threads));
}

/* Joins the collector at probe.socket and patches what there is. False: nothing has changed. */
static bool observe(const struct start *st)
{
    const void *phdr = (const void *)aux_get(st->auxv, AT_PHDR);
    size_t phnum = aux_get(st->auxv, AT_PHNUM);
    struct segment_header *s;
    long at;

    populate_own();
    at = SYS6(__NR_mmap, 0, PROBE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (sys_failed(at))
        return false;
    if (SYS3(__NR_madvise, at, PROBE_PAGE, MADV_WIPEONFORK) < 0) {
        SYS2(__NR_munmap, at, PROBE_PAGE);
        return false;
    }
    process = (struct process *)at;
    s = join_segment(SEG_START_EXEC);
    if (!s) {
        SYS2(__NR_munmap, at, PROBE_PAGE);
        process = NULL;
        return false;
    }
    process->pid = s->pid;
    probe.segment = s;
    process->segment = s;
    if (st->alone)
        images_alone(s, phdr, phnum, st->bias, aux_get(st->auxv, AT_BASE), (const char *)aux_get(st->auxv, AT_EXECFN));
    else
        images_loaded(s, phdr, phnum, aux_get(st->auxv, AT_SYSINFO_EHDR), aux_get(st->auxv, AT_BASE));
    if (probe.mode & SEG_M_CRASH)
        crash_start();
    return true;
}

/* Whether a word of LD_PRELOAD leads to our file: *ret_sure, or perhaps, by a search path or by what the loader replaces
 * (ld.so(8): $ORIGIN, $LIB, $PLATFORM). */
static bool word_is_us(const char *word, size_t n, const char *lib, bool *ret_sure)
{
    size_t whole = str_len(lib, SEG_PATH_MAX), base = whole, last = n;
    bool means_what_it_says = false;

    *ret_sure = n == whole && !memcmp(word, lib, n);
    while (base && lib[base - 1] != '/')
        base--;
    while (last && word[last - 1] != '/')
        last--;
    if (last) {
        means_what_it_says = true;
        for (size_t i = 0; i < n; i++)
            means_what_it_says &= word[i] != '$';
    }
    return *ret_sure || (!means_what_it_says && n - last == whole - base && !memcmp(word + last, lib + base, n - last));
}

/* Whether LD_PRELOAD has brought us, alone or perhaps with /etc/ld.so.preload. musl knows nothing else. */
static bool preloaded_by_hand(const struct start *st, bool *ret_sure)
{
    const char *list = env_get(st->envp, "LD_PRELOAD");
    bool perhaps = false;

    *ret_sure = !st->argv;
    while (list && *list && !*ret_sure) {
        size_t n = 0;

        while (list[n] && list[n] != ':' && list[n] != ' ')
            n++;
        perhaps |= n && word_is_us(list, n, st->lib, ret_sure);
        list += n + (list[n] != 0);
    }
    return *ret_sure || perhaps;
}

/* What /etc/ld.so.preload brings must never start a collector by itself, so it has to be certain where both may have. And
 * it believes the environment as far as the loader does: a program that has gained rights, and executes another with them,
 * has lost its starter's LD_PRELOAD (ld.so(8), secure-execution mode), but not its SCOPE_SOCKET and SCOPE_PLANS. */
static bool is_of_session(const struct start *st, const char *socket)
{
    bool sure, by_hand = preloaded_by_hand(st, &sure);

    return st->alone ? socket != NULL : sure || (socket && by_hand) || ((socket || by_hand) && !rules_preloaded(st->lib));
}

/* A session goes first. True if there is no more to be done. */
static bool start_session(const struct start *st)
{
    const char *socket = env_get(st->envp, ENV_SOCKET);
    struct settings set;

    if (!is_of_session(st, socket))
        return st->alone;
    if ((socket && *socket == '/') || !session_settings(st, &set) || !(probe.mode & SEG_M_ON))
        return true; /* a path comes from rules only */
    probe_set_paths(st->lib, set.plans ? set.plans : "");
    if (socket && str_add(probe.socket, 0, sizeof(probe.socket), socket) == sizeof(probe.socket))
        return true;
    if (!configure(st, set.mode != 0))
        return true;
    if (!socket && !join_spawn(env_get(st->envp, "SCOPE_EXEC_PATH"), st->envp))
        return true;
    return observe(st) || st->alone;
}

/* What no session observes may be named by the host's rules. */
static void start_by_rules(const struct start *st)
{
    const char *off = env_get(st->envp, "SCOPE_RULES");
    struct rules_self self = {.argv = st->argv, .headers = aux_get(st->auxv, AT_PHDR),
                              .execfn = (const char *)aux_get(st->auxv, AT_EXECFN)};

    /* A loader that was started by hand has told us of its program, the kernel tells others of the loader. */
    if (!st->argv || (off && str_eq(off, "false")) || !aux_get(st->auxv, AT_BASE))
        return;
    while (st->argv[self.argc])
        self.argc++;
    if (rules_name_self(&self, st->lib) && (probe.mode & SEG_M_ON) && configure(st, true))
        observe(st);
}

static void start(struct start *st, const struct join_load *load)
{
    const void *phdr = (const void *)aux_get(st->auxv, AT_PHDR);
    bool other = false;

    if (!phdr || aux_get(st->auxv, AT_SECURE) || translated(st))
        return;
    arch_set_page(aux_get(st->auxv, AT_PAGESZ));
    if (load) {
        st->lib = load->paths;
        if (*load->socket) { /* as the host's rules say */
            probe_set_paths(st->lib, st->lib + load->plans_at);
            str_add(probe.socket, 0, sizeof(probe.socket), load->socket);
            probe.mode = load->mode;
            if ((probe.mode & SEG_M_ON) && configure(st, true))
                observe(st);
            return;
        }
    } else {
        st->lib = images_find_self(phdr, aux_get(st->auxv, AT_PHNUM), &other);
    }
    if (!other && !start_session(st))
        start_by_rules(st);
}

/* Called by scope_entry_exec before the first instruction of a program, with the stack pointer that the kernel gave it,
 * the difference between the addresses of its image in memory and in its file, and what the tracer left. */
void scope_start_exec(const char *const *sp, uint64_t bias, struct join_load *load) __attribute__((used, visibility("hidden")));

void scope_start_exec(const char *const *sp, uint64_t bias, struct join_load *load)
{
    struct start st = {.alone = true, .bias = bias};
    const char *const *argv = sp + 1;

    probe.mail = &load->mail;
    start_from_stack(&st, argv, argv + (uintptr_t)sp[0] + 1);
    start(&st, load);
    __atomic_store_n(&load->mail, JOIN_MAIL_NONE, __ATOMIC_RELEASE); /* from now on there is the segment's, if any */
}

#define ENV_TEXT (256u << 10)
#define ENV_COUNT 8192u
#define AUX_BYTES 1024u

/* glibc calls constructors with main's arguments, musl without any. */
__attribute__((constructor)) static void scope_init(int argc, char **argv, char **envp)
{
    struct start st = {0};
    long at = 0;
    size_t size = ENV_TEXT + ENV_COUNT * sizeof(char *) + AUX_BYTES;

    if (process)
        return;
    if (argv && argc >= 0 && envp == argv + argc + 1 && !argv[argc]) {
        start_from_stack(&st, (const char *const *)argv, (const char *const *)envp);
        start(&st, NULL);
        return;
    }
    at = SYS6(__NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys_failed(at))
        return;
    if (start_from_proc(&st, (const char **)at, ENV_COUNT, (char *)at + ENV_COUNT * sizeof(char *) + AUX_BYTES, ENV_TEXT,
                        (uint64_t *)(at + (long)(ENV_COUNT * sizeof(char *))), AUX_BYTES))
        start(&st, NULL);
    SYS2(__NR_munmap, at, size);
}
