/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/load.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inject/exe.h"
#include "inject/process.h"
#include "inject/probe_image.h"
#include "inject/yama.h"
#include "wire/join.h"

#define PAGE ARCH_PAGE
#define LOWEST UINT64_C(0x10000)   /* vm.mmap_min_addr, as most have it */
#define PLACES 64                  /* that are tried */
#define STACK_NEED 32768u          /* several times what the probe's start uses */
#define PHDR_MAX 128

int load_possible(void)
{
    return arch_probe_runs_early() ? 0 : -ENOTSUP;
}

/* --- the program --- */

struct target {
    uint64_t vdso, execfn, bias;
    uint64_t loader;               /* where that lies; 0: there is none */
    uint64_t lo, hi;               /* its image */
    uint64_t text_lo, text_hi;     /* its code */
};

static int read_auxv(pid_t pid, Elf64_auxv_t aux[64], size_t *ret_count)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/auxv", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    n = read(fd, aux, 64 * sizeof(*aux));
    close(fd);
    *ret_count = n > 0 ? (size_t)n / sizeof(*aux) : 0;
    return n > 0 ? 0 : -EIO;
}

/* What the headers of the program's file say; entry: where it begins in memory. */
static int read_image(int fd, uint64_t entry, struct target *ret)
{
    Elf64_Phdr ph[PHDR_MAX];
    Elf64_Ehdr eh;
    struct exe e;
    size_t size;
    char packed[4] = "";
    int rc = exe_read(fd, &e);

    if (rc == 0 && e.kind != (ret->loader ? EXE_DYNAMIC : EXE_STATIC))
        rc = -ENOEXEC;
    exe_clear(&e);
    if (rc < 0)
        return rc;
    if (pread(fd, &eh, sizeof(eh), 0) != (ssize_t)sizeof(eh) || !eh.e_phnum || eh.e_phnum > PHDR_MAX)
        return -ENOEXEC;
    size = eh.e_phnum * sizeof(*ph);
    if (eh.e_phoff > INT_MAX || pread(fd, ph, size, (off_t)eh.e_phoff) != (ssize_t)size)
        return -ENOEXEC;
    ret->bias = entry - eh.e_entry;
    ret->lo = ret->text_lo = UINT64_MAX;
    ret->hi = ret->text_hi = 0;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        if (ph[i].p_type != PT_LOAD)
            continue;
        if ((ph[i].p_flags & PF_X) && (ph[i].p_flags & PF_W))
            return -ETXTBSY;
        if (ret->bias + ph[i].p_vaddr < ret->lo)
            ret->lo = ret->bias + ph[i].p_vaddr;
        if (ret->bias + ph[i].p_vaddr + ph[i].p_memsz > ret->hi)
            ret->hi = ret->bias + ph[i].p_vaddr + ph[i].p_memsz;
        if ((ph[i].p_flags & PF_X) && ret->bias + ph[i].p_vaddr < ret->text_lo)
            ret->text_lo = ret->bias + ph[i].p_vaddr;
        if ((ph[i].p_flags & PF_X) && ret->bias + ph[i].p_vaddr + ph[i].p_memsz > ret->text_hi)
            ret->text_hi = ret->bias + ph[i].p_vaddr + ph[i].p_memsz;
    }
    if (!ret->text_hi || ret->bias % PAGE || ret->lo >= ret->text_hi)
        return -ENOEXEC;
    /* UPX leaves its mark behind the program headers: struct l_info in its src/stub/src/include/linux.h */
    if (pread(fd, packed, sizeof(packed), (off_t)(eh.e_phoff + size + 4)) == (ssize_t)sizeof(packed) &&
        memcmp(packed, "UPX!", sizeof(packed)) == 0)
        return -ETXTBSY;
    return 0;
}

static int read_target(pid_t pid, struct target *ret)
{
    Elf64_auxv_t aux[64];
    uint64_t entry = 0;
    char path[64];
    size_t count = 0;
    int fd, rc = read_auxv(pid, aux, &count);

    if (rc < 0)
        return rc;
    *ret = (struct target){0};
    for (size_t i = 0; i < count && aux[i].a_type != AT_NULL; i++) {
        if (aux[i].a_type == AT_ENTRY)
            entry = aux[i].a_un.a_val;
        else if (aux[i].a_type == AT_SYSINFO_EHDR)
            ret->vdso = aux[i].a_un.a_val;
        else if (aux[i].a_type == AT_EXECFN)
            ret->execfn = aux[i].a_un.a_val;
        else if (aux[i].a_type == AT_BASE)
            ret->loader = aux[i].a_un.a_val;
        else if (aux[i].a_type == AT_SECURE && aux[i].a_un.a_val)
            return -EPERM;
    }
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = read_image(fd, entry, ret);
    close(fd);
    return rc;
}

/* --- the two together --- */

/* Whether the probe's start has room on the stack; the name of the file is the topmost on it. Asked by the thread
 * itself: others need CAP_SYS_RESOURCE if it has become another user. */
static int check_stack(struct trace *t, struct trace_thread *th, uint64_t execfn)
{
    uint64_t sp = arch_sp(&th->regs), at = th->frame - 64;
    struct rlimit lim = {0};
    int64_t got;
    int ret = trace_call(t, th, SYS_prlimit64, (const uint64_t[6]){0, RLIMIT_STACK, 0, at}, &got);

    if (ret == 0)
        ret = got < 0 ? (int)got : trace_read(t, at, &lim, sizeof(lim));
    if (ret < 0)
        return ret;
    return lim.rlim_cur == RLIM_INFINITY || (execfn >= sp && lim.rlim_cur >= execfn - sp + PATH_MAX + STACK_NEED) ? 0 : -ENOMEM;
}

/* Fresh memory where the kernel likes to have it: near the loader. */
static int map_anywhere(struct trace *t, struct trace_thread *th, size_t size, uint64_t *ret_base)
{
    int64_t got;
    int ret = trace_call(t, th, SYS_mmap,
                         (const uint64_t[6]){0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, UINT64_MAX, 0},
                         &got);

    if (ret < 0 || got < 0)
        return ret < 0 ? ret : (int)got;
    *ret_base = (uint64_t)got;
    return 0;
}

/* Fresh memory at this very place: -EEXIST if it is taken. */
static int map_at(struct trace *t, struct trace_thread *th, uint64_t at, size_t size)
{
    int64_t got;
    int ret = trace_call(t, th, SYS_mmap,
                         (const uint64_t[6]){at, size, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, UINT64_MAX, 0},
                         &got);

    if (ret < 0 || (uint64_t)got == at)
        return ret;
    if (got < 0)
        return (int)got;
    /* Linux before 4.17 takes the address for a wish */
    ret = trace_call(t, th, SYS_munmap, (const uint64_t[6]){(uint64_t)got, size}, &got);
    return ret < 0 ? ret : -EEXIST;
}

/* Fresh memory below the image. */
static int map_below(struct trace *t, struct trace_thread *th, const struct target *target, size_t size, uint64_t *ret_base)
{
    uint64_t at = target->lo & ~(PAGE - 1);

    for (int i = 0; i < PLACES; i++) {
        int ret;

        if (at < LOWEST + size || target->text_hi - (at - size) > ARCH_JUMP)
            return -ENOSPC;
        at -= size;
        ret = map_at(t, th, at, size);
        if (ret != -EEXIST) {
            *ret_base = at;
            return ret;
        }
    }
    return -ENOSPC;
}

/* Fresh memory above an image that has nothing below it (Go's for arm64 begin at 0x10000): between it and where the heap
 * will begin, which the kernel has put at a distance; else as far above that as can be reached. */
static int map_above(struct trace *t, struct trace_thread *th, const struct target *target, size_t size, uint64_t *ret_base)
{
    uint64_t heap = process_heap(t->pid), at = (target->hi + PAGE - 1) & ~(PAGE - 1);
    uint64_t last = ((target->text_lo & ~(PAGE - 1)) + ARCH_JUMP - size) & ~(PAGE - 1);

    if (heap < at + size)
        at = last;
    for (int i = 0; i < PLACES && at >= target->hi && at <= last && (at + size <= heap || at > heap); i++) {
        int ret = map_at(t, th, at, size);

        if (ret != -EEXIST) {
            *ret_base = at;
            return ret;
        }
        at = at > heap ? at - size : at + size;
    }
    return -ENOSPC;
}

/* Where jumps are short, the probe may lie anywhere: slots, which jump to it by its whole address, get memory of their
 * own near what they lead to (probe/images.c). */
static int map_near(struct trace *t, struct trace_thread *th, const struct target *target, size_t size, uint64_t *ret_base)
{
    int ret = map_below(t, th, target, size, ret_base);

    if (ret == -ENOSPC && ARCH_LOW_IMAGES && target->lo < LOWEST + size)
        ret = map_above(t, th, target, size, ret_base);
    return ret == -ENOSPC && ARCH_SHORT_JUMPS ? map_anywhere(t, th, size, ret_base) : ret;
}

/* Where the join_load lies. */
static uint64_t load_offset(const struct probe_image *im)
{
    return (im->span + _Alignof(struct join_load) - 1) & ~(uint64_t)(_Alignof(struct join_load) - 1);
}

/* What the probe finds behind itself; *ret_size: of what there is. 0, or -ENAMETOOLONG. */
static int make_load(const struct load_told *told, struct join_load *ret, size_t *ret_size)
{
    const char *plans = told->socket && told->plans ? told->plans : "";
    size_t lib = strlen(told->lib) + 1, all = lib + strlen(plans) + 1;

    *ret = (struct join_load){.plans_at = (uint32_t)lib};
    if (all > sizeof(ret->paths) || (told->socket && strlen(told->socket) >= sizeof(ret->socket)))
        return -ENAMETOOLONG;
    memcpy(ret->paths, told->lib, lib);
    memcpy(ret->paths + lib, plans, all - lib);
    if (told->socket) {
        memcpy(ret->socket, told->socket, strlen(told->socket) + 1);
        ret->mode = told->mode;
    }
    *ret_size = offsetof(struct join_load, paths) + all;
    return 0;
}

/* Fills the mapping; a borrowed thread. */
static int fill(struct trace *t, struct trace_thread *th, struct probe_image *im, uint64_t base, size_t size,
                const struct join_load *load, size_t load_size)
{
    int ret = probe_image_relocate(im, base, size);

    if (ret == 0)
        ret = probe_image_write(t, im, base);
    if (ret == 0)
        ret = trace_write(t, base + load_offset(im), load, load_size);
    return ret < 0 ? ret : probe_image_protect(t, th, im, base);
}

int load_at_exec(struct trace *t, struct trace_thread *th, bool loader, const struct load_told *told,
                 uint64_t *ret_mail)
{
    static struct join_load load; /* a worker does this once */
    struct probe_image im = {0};
    struct target target;
    uint64_t base = 0;
    size_t size, load_size = 0;
    int64_t got;
    int ret = read_target(t->pid, &target);

    if (ret == 0 && loader != (target.loader != 0))
        ret = -ENOEXEC;
    if (ret == 0)
        ret = make_load(told, &load, &load_size);
    if (ret == 0)
        ret = probe_image_make(&im);
    if (ret == 0)
        ret = trace_borrow(t, th, target.vdso, 0);
    if (ret != 0)
        goto out;
    size = (load_offset(&im) + load_size + PAGE - 1) & ~(size_t)(PAGE - 1);
    ret = check_stack(t, th, target.execfn);
    if (ret == 0)
        ret = loader ? map_anywhere(t, th, size, &base) : map_near(t, th, &target, size, &base);
    if (ret == 0)
        ret = fill(t, th, &im, base, size, &load, load_size);
    if (ret == 0)
        ret = trace_enter(t, th, base + im.eh->e_entry,
                          (const uint64_t[3]){arch_sp(&th->regs), target.bias, base + load_offset(&im)});
    *ret_mail = base + load_offset(&im);
    if (ret < 0) {
        int undo = base ? trace_call(t, th, SYS_munmap, (const uint64_t[6]){base, size}, &got) : 0;

        if (undo == 0)
            undo = trace_return(t, th);
        if (undo < 0)
            ret = -ESRCH;
    }
out:
    probe_image_free(&im);
    return ret;
}

const char *load_reason(int err)
{
    switch (err) {
    case EPERM:
    case EACCES:
        return yama_scope() == YAMA_CLASSIC
                   ? "it may not be traced: a sandbox without ptrace, for which containers have --cap-add SYS_PTRACE"
                   : "it may not be traced, as kernel.yama.ptrace_scope isn't 0; root may unless it is 3";
    case EBUSY:
        return "it is traced already (by a debugger or strace)";
    case ENOTSUP:
        return "this kernel or CPU can't do it (needed: FSGSBASE, Linux 5.9; a vDSO)";
    case ETXTBSY:
        return "its code is packed or writable";
    case ELIBEXEC:
        return "it may have no new code: MemoryDenyWriteExecute (PR_SET_MDWE or a seccomp filter), or SELinux";
    case ENOSPC:
        return "there is no free memory below its image";
    case ENOMEM:
        return "there is too little memory or stack (ulimit -v, ulimit -s)";
    case EAGAIN:
        return "too many were started at once";
    case ETIMEDOUT:
        return "the collector did not answer in time";
    default:
        return strerror(err);
    }
}
