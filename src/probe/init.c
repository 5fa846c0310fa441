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

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* What the kernel put on the new program's stack. */
struct start {
    const char *const *envp;
    const uint64_t *auxv;
    bool alone;     /* a tracer brought us: the loader, if there is any, has not run yet */
    uint64_t bias;  /* ... and the program's own, which no loader can tell */
};

/* ... from where it begins: the kernel's struct is argc, argv, NULL, envp, NULL, auxv (System V ABI, 3.4.1). */
static void start_from_stack(struct start *st, const char *const *argv, const char *const *envp)
{
    probe.argv = argv;
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

/* A program can have forbidden it to itself, and so to those that it execs. */
static bool may_read_counter(void)
{
    int on = 0;

    return SYS2(__NR_prctl, PR_GET_TSC, &on) >= 0 && on == PR_TSC_ENABLE;
}

/* The CPU's counter is used only when the kernel itself keeps time with it: then it is constant, synchronous and
 * not trapped. */
static uint32_t choose_clock(void)
{
    char name[8] = {0};
    long fd = SYS4(__NR_openat, AT_FDCWD, "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                   O_RDONLY | O_CLOEXEC, 0);

    if (fd < 0)
        return SEG_CLOCK_TSC; /* no /sys in this container; the collector checks what it gets */
    SYS3(__NR_read, fd, name, sizeof(name) - 1);
    SYS1(__NR_close, fd);
    return str_after(name, "tsc") || str_after(name, "kvm-clo") || str_after(name, "hyperv_") ? SEG_CLOCK_TSC
                                                                                                : SEG_CLOCK_NONE;
}

/* Valgrind translates a program's code and runs what comes out: patches would be its errors, in its own process as in
 * the program's. It knows itself by a variable of its launcher's, the program by a library that it loads first. */
static bool translated(const struct start *st)
{
    const char *preload = env_get(st->envp, "LD_PRELOAD");

    return st->alone ? env_get(st->envp, "VALGRIND_LAUNCHER") != NULL : preload && str_contains(preload, "/vgpreload_");
}

/* Reads the environment; true if this process is to be observed. */
static bool configure(const struct start *st)
{
    const char *socket = env_get(st->envp, ENV_SOCKET), *plans = env_get(st->envp, ENV_PLANS);
    const char *mode = env_get(st->envp, ENV_MODE), *lossless;
    struct rlimit64 limit;

    if ((mode && *mode == MODE_SANDBOXED) || translated(st))
        return false;
    if (mode)
        probe.mode = parse_hex(mode);
    if (!probe.mode) /* alone, without the CLI: until the collector says otherwise */
        probe.mode = SEG_M_ON | SEG_M_TIMING | SEG_M_CAPTURE | SEG_M_ENHANCEFS;
    lossless = env_get(st->envp, "SCOPE_LOSSLESS");
    if (lossless && str_eq(lossless, "true"))
        probe.mode |= SEG_M_LOSSLESS;
    if (!(probe.mode & SEG_M_ON))
        return false;
    if (plans && str_add(probe.plans, 0, sizeof(probe.plans), plans) == sizeof(probe.plans))
        probe.plans[0] = 0;
    if (socket && str_add(probe.socket, 0, sizeof(probe.socket), socket) == sizeof(probe.socket))
        return false;
    if (SYS4(__NR_prlimit64, 0, RLIMIT_NOFILE, 0, &limit) < 0)
        return false;
    probe.fd_cap = limit.rlim_max < FD_CAP_MAX ? (uint32_t)limit.rlim_max : FD_CAP_MAX;
    probe.ring_off = (uint32_t)segment_ring(probe.fd_cap);
    probe.clock = !may_read_counter()                   ? SEG_CLOCK_NONE
                  : mode && (probe.mode & SEG_M_TSC)    ? SEG_CLOCK_TSC
                                                        : choose_clock();
    probe_no_ticks = probe.clock != SEG_CLOCK_TSC;
    probe.timing = (probe.mode & SEG_M_TIMING) && !probe_no_ticks;
    probe_fsgsbase = st->alone || /* else no tracer would have brought us */
                     (aux_get(st->auxv, AT_HWCAP2) & ARCH_HWCAP2_FSGSBASE) != 0 || (mode && (probe.mode & SEG_M_POINTER));
    return socket || (!st->alone && join_spawn(env_get(st->envp, "SCOPE_EXEC_PATH"), st->envp));
}

static void start(const struct start *st)
{
    const void *phdr = (const void *)aux_get(st->auxv, AT_PHDR);
    size_t phnum = aux_get(st->auxv, AT_PHNUM);
    struct segment_header *s;
    long at;

    if (!phdr || aux_get(st->auxv, AT_SECURE))
        return;
    if (!st->alone)
        images_find_self(phdr, phnum);
    probe.table_hash = syscall_table_hash();
    probe.euid = (uint32_t)aux_get(st->auxv, AT_EUID);
    if (!configure(st))
        return;
    at = SYS6(__NR_mmap, 0, PROBE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys_failed(at))
        return;
    if (SYS3(__NR_madvise, at, PROBE_PAGE, MADV_WIPEONFORK) < 0) {
        SYS2(__NR_munmap, at, PROBE_PAGE);
        return;
    }
    process = (struct process *)at;
    s = join_segment(SEG_START_EXEC);
    if (!s) {
        SYS2(__NR_munmap, at, PROBE_PAGE);
        process = NULL;
        return;
    }
    process->pid = s->pid;
    probe.segment = s;
    process->segment = s;
    if (st->alone)
        images_alone(s, phdr, phnum, st->bias, aux_get(st->auxv, AT_BASE), (const char *)aux_get(st->auxv, AT_EXECFN));
    else
        images_loaded(s, phdr, phnum, aux_get(st->auxv, AT_SYSINFO_EHDR));
    if (probe.mode & SEG_M_CRASH)
        crash_start();
}

/* Called by scope_entry_exec before the first instruction of a program, with the stack pointer that the kernel gave it,
 * the difference between the addresses of its image in memory and in its file, and what the tracer left. */
void scope_start_exec(const char *const *sp, uint64_t bias, struct join_load *load) __attribute__((used, visibility("hidden")));

void scope_start_exec(const char *const *sp, uint64_t bias, struct join_load *load)
{
    struct start st = {.alone = true, .bias = bias};
    const char *const *argv = sp + 1;

    str_add(probe.lib, 0, sizeof(probe.lib), load->lib);
    probe.mail = &load->mail;
    start_from_stack(&st, argv, argv + (uintptr_t)sp[0] + 1);
    start(&st);
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
        start(&st);
        return;
    }
    at = SYS6(__NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys_failed(at))
        return;
    if (start_from_proc(&st, (const char **)at, ENV_COUNT, (char *)at + ENV_COUNT * sizeof(char *) + AUX_BYTES, ENV_TEXT,
                        (uint64_t *)(at + (long)(ENV_COUNT * sizeof(char *))), AUX_BYTES))
        start(&st);
    SYS2(__NR_munmap, at, size);
}
