/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/process.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"
#include "inject/exe.h"
#include "inject/regs.h"

#define PAGE ARCH_PAGE
#define LOWEST UINT64_C(0x10000)   /* vm.mmap_min_addr, as most have it */
#define PF_KTHREAD 0x00200000u /* field "flags" of /proc/PID/stat */
#define PF_EXITING 0x00000004 /* it is in exit(2) for good: its memory may be gone already */
#define SEGMENT_NAME "/memfd:" SEG_NAME " (deleted)"
#define LIB_NAME "/libscope.so"

static FILE *open_proc(pid_t pid, const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return fopen(path, "re");
}

char *process_link(pid_t pid, const char *name)
{
    char path[64], to[PATH_MAX];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    n = readlink(path, to, sizeof(to) - 1);
    return xstrndup(to, n > 0 ? (size_t)n : 0);
}

/* A number of /proc/PID/stat, by its place in proc(5); 0 if it isn't there. */
static uint64_t stat_field(pid_t pid, int wanted)
{
    char text[1024], *p;
    FILE *f = open_proc(pid, "stat");
    size_t n;

    if (!f)
        return 0;
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    p = strrchr(text, ')');
    for (int field = 2; p && field < wanted; field++)
        p = strchr(p + 1, ' ');
    return p ? strtoull(p, NULL, 10) : 0;
}

uint64_t process_start_stack(pid_t pid)
{
    return stat_field(pid, 28);
}

uint64_t process_heap(pid_t pid)
{
    return stat_field(pid, 47);
}

void process_read_status(FILE *f, struct process_facts *ret, bool all)
{
    char line[512];

    while (fgets(line, sizeof(line), f)) {
        char *value = strchr(line, ':');
        unsigned long n;

        if (!value)
            continue;
        *value++ = '\0';
        value += strspn(value, " \t");
        value[strcspn(value, "\n")] = '\0';
        n = strtoul(value, NULL, 10);
        if (strcmp(line, "Seccomp") == 0 && (int)n > ret->seccomp)
            ret->seccomp = (int)n;
        ret->shadow_stack |= arch_status_shadow_stack(line, value) != 0;
        if (!all)
            continue;
        if (strcmp(line, "Name") == 0)
            snprintf(ret->name, sizeof(ret->name), "%s", value);
        else if (strcmp(line, "State") == 0)
            ret->state = *value;
        else if (strcmp(line, "PPid") == 0)
            ret->ppid = (uint32_t)n;
        else if (strcmp(line, "TracerPid") == 0)
            ret->tracer = (pid_t)n;
        else if (strcmp(line, "Uid") == 0)
            sscanf(value, "%u %u", &ret->uid, &ret->euid); // NOLINT(cert-err34-c): the kernel wrote it
        else if (strcmp(line, "Gid") == 0)
            sscanf(value, "%u %u", &ret->gid, &ret->egid); // NOLINT(cert-err34-c)
        else if (strcmp(line, "Threads") == 0)
            ret->threads = (unsigned)n;
        else if (strcmp(line, "NSpid") == 0)
            ret->pid = (uint32_t)strtoul(strrchr(value, '\t') ? strrchr(value, '\t') : value, NULL, 10);
    }
}

static int read_status(pid_t pid, const char *name, struct process_facts *ret, bool all)
{
    FILE *f = open_proc(pid, name);

    if (!f)
        return errno == ENOENT ? -ESRCH : -errno;
    process_read_status(f, ret, all);
    fclose(f);
    return 0;
}

int process_facts(pid_t pid, struct process_facts *ret)
{
    char name[64];
    struct dirent *e;
    int rc;
    DIR *d;

    *ret = (struct process_facts){.pid = (uint32_t)pid};
    rc = read_status(pid, "status", ret, true);
    if (rc < 0)
        return rc;
    ret->kernel_thread = (stat_field(pid, 9) & PF_KTHREAD) != 0;
    snprintf(name, sizeof(name), "/proc/%d/task", (int)pid);
    d = opendir(name);
    while (d && ret->threads > 1 && (e = readdir(d))) {
        if (*e->d_name == '.')
            continue;
        snprintf(name, sizeof(name), "task/%.20s/status", e->d_name);
        if (read_status(pid, name, ret, false) < 0)
            continue; /* has ended */
    }
    if (d)
        closedir(d);
    return 0;
}

bool process_is_trusted(const struct process_facts *f)
{
    return f->uid == 0 || f->uid == geteuid();
}

bool process_has_ended(pid_t pid)
{
    struct process_facts f;

    if (process_facts(pid, &f) == -ESRCH || f.state == 'X')
        return true;
    return f.threads <= 1 && (f.state == 'Z' || (stat_field(pid, 9) & PF_EXITING));
}

/* What kind of program it is, from its file. */
static enum exe_kind kind_of(pid_t pid)
{
    struct exe e = {.kind = EXE_UNKNOWN};
    enum exe_kind kind;
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return EXE_UNKNOWN;
    if (exe_read(fd, &e) < 0)
        e.kind = EXE_UNKNOWN;
    kind = e.kind;
    exe_clear(&e);
    close(fd);
    return kind;
}

/* It maps the segments of others; a process that does may also be one that somebody was killed while attaching to. */
static bool is_collector(pid_t pid, const struct process_facts *f)
{
    char *theirs = process_link(pid, "exe"), *ours = process_link(getpid(), "exe");
    bool same = *theirs && strcmp(theirs, ours) == 0;

    free(theirs);
    free(ours);
    return same || strcmp(f->name, "scope-collector") == 0;
}

/* Valgrind, and the program in it, whose code it translates: patches would be errors. Its launcher leaves a variable. */
static bool is_valgrind(pid_t pid)
{
    FILE *f = open_proc(pid, "environ");
    char *name = NULL;
    size_t cap = 0;
    bool found = false;

    while (f && !found && getdelim(&name, &cap, '\0', f) > 0)
        found = strncmp(name, "VALGRIND_LAUNCHER=", strlen("VALGRIND_LAUNCHER=")) == 0;
    free(name);
    if (f)
        fclose(f);
    return found;
}

static char *traced_by(pid_t pid)
{
    struct process_facts tracer;

    if (process_facts(pid, &tracer) < 0)
        *tracer.name = '\0';
    return xasprintf("it is traced by process %d%s%s%s; end that first", (int)pid, *tracer.name ? " (" : "", tracer.name,
                     *tracer.name ? ")" : "");
}

char *process_tracer(pid_t pid)
{
    struct process_facts f;

    return process_facts(pid, &f) == 0 && f.tracer ? traced_by(f.tracer) : NULL;
}

char *process_objection(pid_t pid, const struct process_facts *f)
{
    enum exe_kind kind;

    if (f->kernel_thread)
        return xstrdup("it is a kernel thread");
    if (f->state == 'Z' && f->threads > 1)
        return xstrdup("its first thread has ended, with which its memory can't be seen any more");
    if (pid == getpid())
        return xstrdup("it is this very command");
    if (f->tracer)
        return traced_by(f->tracer);
    if (is_collector(pid, f))
        return xstrdup("it is a collector");
    if (is_valgrind(pid))
        return xstrdup("it runs in Valgrind, which executes no code of its own");
    if (f->shadow_stack) /* they know nothing of the frame that leads a borrowed thread back, nor of calls that moved */
        return xstrdup("it runs with shadow stacks, under which its threads can't be borrowed; start it without them "
                       "(GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)");
    kind = kind_of(pid);
    if (launch_reason(kind))
        return xasprintf("it %s", launch_reason(kind));
    if (f->seccomp && geteuid() != 0)
        return xasprintf("it has a seccomp filter, which only root can suspend for the moment that is needed");
    if (f->seccomp && prctl(PR_GET_SECCOMP) != 0) /* check_ptrace_options() in the kernel's kernel/ptrace.c */
        return xasprintf("it has a seccomp filter, which scope can't suspend because it has one itself (containers: "
                         "--security-opt seccomp=unconfined)");
    return NULL;
}

/* --- what is mapped --- */

int process_maps(pid_t pid, struct process_maps *ret)
{
    FILE *f = open_proc(pid, "maps");
    size_t cap = 0, room = 0;
    char *line = NULL;

    *ret = (struct process_maps){0};
    if (!f)
        return errno == ENOENT ? -ESRCH : -errno;
    while (getline(&line, &cap, f) > 0) {
        struct process_map m = {0};
        unsigned major, minor;
        char perms[5];
        int name = 0;

        line[strcspn(line, "\n")] = '\0';
        // NOLINTNEXTLINE(cert-err34-c): the kernel wrote it
        if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &m.lo, &m.hi, perms, &m.offset, &major, &minor, &m.inode,
                   &name) < 7)
            continue;
        m.dev = makedev(major, minor);
        m.read = perms[0] == 'r';
        m.write = perms[1] == 'w';
        m.execute = perms[2] == 'x';
        m.shared = perms[3] == 's';
        m.name = xstrdup(name ? line + name : "");
        if (ret->count == room) {
            room = room ? 2 * room : 64;
            ret->v = xrealloc(ret->v, room, sizeof(m));
        }
        ret->v[ret->count++] = m;
    }
    free(line);
    fclose(f);
    return 0;
}

void process_maps_free(struct process_maps *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->v[i].name);
    free(m->v);
    *m = (struct process_maps){0};
}

const struct process_map *process_map_at(const struct process_maps *m, uint64_t address)
{
    size_t lo = 0, hi = m->count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (m->v[mid].hi <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < m->count && m->v[lo].lo <= address ? &m->v[lo] : NULL;
}

static size_t next_code(const struct process_maps *m, size_t i)
{
    while (i < m->count && !(m->v[i].execute && m->v[i].inode))
        i++;
    return i;
}

bool process_maps_same_code(const struct process_maps *a, const struct process_maps *b)
{
    size_t i = next_code(a, 0), j = next_code(b, 0);

    for (; i < a->count && j < b->count; i = next_code(a, i + 1), j = next_code(b, j + 1)) {
        const struct process_map *x = &a->v[i], *y = &b->v[j];

        if (x->lo != y->lo || x->hi != y->hi || x->offset != y->offset || x->inode != y->inode || x->dev != y->dev)
            return false;
    }
    return i == a->count && j == b->count;
}

bool process_map_is_segment(const struct process_map *m)
{
    return strcmp(m->name, SEGMENT_NAME) == 0;
}

static bool is_near(uint64_t at, uint64_t size, uint64_t lo, uint64_t hi)
{
    uint64_t from = at < lo ? at : lo, to = at + size > hi ? at + size : hi;

    return !hi || to - from <= ARCH_JUMP;
}

/* The hole below mapping i (m->count: above all), at its upper end: what lies below may be a heap, which grows. */
static uint64_t hole(const struct process_maps *m, size_t i, uint64_t size)
{
    uint64_t end = i < m->count ? m->v[i].lo : ARCH_HIGHEST, begin = i ? m->v[i - 1].hi : LOWEST;

    if (end > ARCH_HIGHEST)
        end = ARCH_HIGHEST;
    if (begin < LOWEST)
        begin = LOWEST;
    if (i < m->count && strncmp(m->v[i].name, "[stack", 6) == 0)
        return 0;
    return end > begin && end - begin >= size + PAGE ? end - size : 0;
}

static void reserve(struct process_maps *m, size_t i, uint64_t at, uint64_t size)
{
    m->v = xrealloc(m->v, m->count + 1, sizeof(*m->v));
    memmove(m->v + i + 1, m->v + i, (m->count - i) * sizeof(*m->v));
    m->v[i] = (struct process_map){.lo = at, .hi = at + size, .name = xstrdup("")};
    m->count++;
}

uint64_t process_maps_reserve(struct process_maps *m, uint64_t lo, uint64_t hi, uint64_t size)
{
    size_t start = 0;

    size = (size + PAGE - 1) & ~(PAGE - 1);
    while (start < m->count && m->v[start].hi <= lo)
        start++;
    for (size_t i = start + 1; i-- > 0;) { /* below first */
        uint64_t at = hole(m, i, size);

        if (at && is_near(at, size, lo, hi)) {
            reserve(m, i, at, size);
            return at;
        }
    }
    for (size_t i = start + 1; i <= m->count; i++) {
        uint64_t at = hole(m, i, size);

        if (at && is_near(at, size, lo, hi)) {
            reserve(m, i, at, size);
            return at;
        }
    }
    return 0;
}

uint64_t process_maps_reserve_in(struct process_maps *m, uint64_t lo, uint64_t hi, uint64_t size)
{
    size_t i = 0;

    lo = (lo + PAGE - 1) & ~(PAGE - 1);
    size = (size + PAGE - 1) & ~(PAGE - 1);
    while (i < m->count && m->v[i].hi <= lo)
        i++;
    if (lo < PAGE || hi <= lo || hi - lo < size || (i < m->count && m->v[i].lo < hi))
        return 0;
    reserve(m, i, lo, size);
    return lo;
}

uint64_t process_auxv(pid_t pid, uint64_t type)
{
    FILE *f = open_proc(pid, "auxv");
    uint64_t value = 0;
    Elf64_auxv_t a;

    while (f && fread(&a, sizeof(a), 1, f) == 1 && a.a_type != AT_NULL)
        if (a.a_type == type)
            value = a.a_un.a_val;
    if (f)
        fclose(f);
    return value;
}

uint64_t process_max_files(pid_t pid)
{
    FILE *f = open_proc(pid, "limits");
    uint64_t max = UINT64_MAX;
    char line[128], hard[32];

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "Max open files %*s %31s", hard) == 1 && strcmp(hard, "unlimited") != 0)
            max = strtoull(hard, NULL, 10);
    if (f)
        fclose(f);
    return max;
}

int process_open_map(pid_t pid, const struct process_map *m)
{
    char *path = xasprintf("/proc/%d/map_files/%lx-%lx", (int)pid, m->lo, m->hi);
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    free(path);
    if (fd < 0) { /* that needs CAP_CHECKPOINT_RESTORE */
        path = xasprintf("/proc/%d/root%s", (int)pid, m->name);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        free(path);
    }
    if (fd < 0)
        return -errno;
    /* Some file systems (overlayfs, btrfs) show another device in maps than stat(2) does: then the inode must do. */
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_ino != m->inode) {
        close(fd);
        return -ESTALE;
    }
    return fd;
}

int process_read(pid_t pid, uint64_t addr, void *to, size_t len)
{
    struct iovec local = {to, len}, remote = {(void *)(uintptr_t)addr, len}; // NOLINT(performance-no-int-to-ptr)
    ssize_t n = process_vm_readv(pid, &local, 1, &remote, 1, 0);

    return n < 0 ? -errno : (size_t)n == len ? 0 : -EFAULT;
}

/* --- the probe in it --- */

#define PHDRS 16

static bool probe_at(pid_t pid, uint64_t base, struct process_probe *ret)
{
    Elf64_Ehdr e;
    Elf64_Phdr ph[PHDRS];
    int32_t distance;

    *ret = (struct process_probe){.base = base};
    if (process_read(pid, base, &e, sizeof(e)) < 0 || memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_phnum > PHDRS ||
        e.e_entry < sizeof(distance) || e.e_entry > INT_MAX ||
        process_read(pid, base + e.e_phoff, ph, e.e_phnum * sizeof(*ph)) < 0 ||
        process_read(pid, base + e.e_entry - sizeof(distance), &distance, sizeof(distance)) < 0 ||
        process_read(pid, base + e.e_entry + (uint64_t)(int64_t)distance, &ret->info, sizeof(ret->info)) < 0 ||
        ret->info.magic != PROBE_INFO_MAGIC || ret->info.probe_size != sizeof(ret->probe) ||
        ret->info.process_size != sizeof(struct process))
        return false;
    for (unsigned i = 0; i < e.e_phnum; i++)
        if (ph[i].p_type == PT_LOAD && ph[i].p_vaddr + ph[i].p_memsz > ret->span)
            ret->span = ph[i].p_vaddr + ph[i].p_memsz;
    ret->span = (ret->span + PAGE - 1) & ~(PAGE - 1);
    return process_read(pid, (uint64_t)(uintptr_t)ret->info.probe, &ret->probe, sizeof(ret->probe)) == 0 &&
           process_read(pid, (uint64_t)(uintptr_t)ret->info.process, &ret->process, sizeof(ret->process)) == 0;
}

static bool is_lib(const struct process_map *v)
{
    size_t len = strlen(v->name);

    return len >= sizeof(LIB_NAME) - 1 && strcmp(v->name + len - (sizeof(LIB_NAME) - 1), LIB_NAME) == 0;
}

bool process_starts_probe(pid_t pid, const struct process_maps *m, uint64_t pc)
{
    struct process_probe probe;

    for (size_t i = 0; i < m->count; i++) {
        const struct process_map *v = &m->v[i];

        if (pc >= v->lo && pc < v->hi)
            return v->execute && !v->offset && is_lib(v) && probe_at(pid, v->lo, &probe) && !probe.probe.segment &&
                   !probe.probe.off;
    }
    return false;
}

bool process_find_probe(pid_t pid, const struct process_maps *m, struct process_probe *ret, bool *ret_passive)
{
    struct process_probe probe;
    bool active = false, passive = false;

    for (size_t i = 0; i < m->count; i++) {
        const struct process_map *v = &m->v[i];
        bool lib = is_lib(v);

        if (!v->read || !v->execute || v->shared || v->offset || (!lib && *v->name) || !probe_at(pid, v->lo, &probe))
            continue;
        probe.file = lib;
        if (!probe.probe.segment || probe.probe.off) {
            passive = true;
        } else if (!active) {
            active = true;
            *ret = probe;
        }
    }
    if (ret_passive)
        *ret_passive = passive;
    return active;
}
