/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/core.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "core_arch.h"
#include "inject/regs.h"
#include "machine.h"

#define PAGE ARCH_PAGE
#define PIECE (1u << 20) /* read and written at once */
#define MAPS_MAX (1u << 20)
#define DISK_REST_MIN (UINT64_C(256) << 10) /* of an eighth of what a disk has left, which no core takes */
#define DISK_REST_MAX (UINT64_C(64) << 20)
#define FILES_MAX (4u << 20) /* of NT_FILE: the kernel's own bound (MAX_FILE_NOTE_SIZE) */
#define AUXV_MAX 65536u
#define ENTRIES 65536u                 /* of /proc/PID/pagemap that are read at once */
#define PAGE_THERE (UINT64_C(3) << 62) /* there, or swapped out */

/* coredump_filter: core(5) */
enum {
    FILTER_ANON_PRIVATE = 1,
    FILTER_ANON_SHARED = 2,
    FILTER_FILE_PRIVATE = 4,
    FILTER_FILE_SHARED = 8,
    FILTER_ELF_HEADERS = 16,
    FILTER_HUGE_PRIVATE = 32,
    FILTER_HUGE_SHARED = 64,
    FILTER_DEFAULT = FILTER_ANON_PRIVATE | FILTER_ANON_SHARED | FILTER_ELF_HEADERS | FILTER_HUGE_PRIVATE,
};

enum order { ITS_STACK, STACKS, DATA, REST }; /* of the thread that it is about; of all; of programs and libraries */

struct area {
    uint64_t lo, hi, offset;
    bool read, write, execute, shared;
    bool file;                /* of a file, memory that has one (memfd) included */
    bool deleted;             /* that has no name */
    bool dont_dump, io, huge; /* VmFlags of proc_pid_smaps(5) */
    bool written_to;          /* has pages of its own */
    char *name;
    /* what becomes of it */
    uint64_t want, have; /* bytes from its beginning */
    uint64_t at;         /* in the file */
    enum order order;
};

struct core {
    const struct crash_view *v;
    int fd;
    uint64_t max;
    int over;          /* -errno that tells that max was reached */
    struct core_result *ret;
    struct area *areas;
    size_t count;
    int pagemap;       /* -1: not to be read */
    bool no_scan;      /* the kernel has no PAGEMAP_SCAN */
    char *piece;       /* PIECE bytes */
    uint64_t *entries; /* ENTRIES of pagemap, or NULL as yet */
    uint32_t uid, gid;
    int pgrp, sid; /* as the process sees them */
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static uint64_t page_up(uint64_t n)
{
    return (n + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static FILE *open_proc(pid_t pid, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return fopen(path, "re");
}

/* --- what there is --- */

static struct area *add_area(struct core *c)
{
    if (c->count % 256 == 0)
        c->areas = xrealloc(c->areas, c->count + 256, sizeof(*c->areas));
    c->areas[c->count] = (struct area){0};
    return &c->areas[c->count++];
}

static bool ends_with(const char *s, const char *end)
{
    size_t len = strlen(s), n = strlen(end);

    return len >= n && strcmp(s + len - n, end) == 0;
}

static bool flag_in(const char *flags, const char *flag)
{
    for (const char *at = flags; (at = strstr(at, flag)); at += 2)
        if (at > flags && at[-1] == ' ' && (at[2] == ' ' || at[2] == '\n' || at[2] == 0))
            return true;
    return false;
}

/* The mappings with what only smaps tells of them. */
static int read_smaps(struct core *c)
{
    FILE *f = open_proc(c->v->pid, "smaps");
    struct area *a = NULL;
    char *line = NULL;
    size_t cap = 0;
    int rc = 0;

    if (!f)
        return -errno;
    while (getline(&line, &cap, f) > 0) {
        uint64_t lo, hi, offset, inode, kb;
        char perms[5];
        int name = 0;

        // NOLINTNEXTLINE(cert-err34-c)
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*x:%*x %" SCNu64 " %n", &lo, &hi, perms, &offset,
                   &inode, &name) == 5 &&
            name) {
            if (c->count >= MAPS_MAX) {
                rc = -E2BIG;
                break;
            }
            a = add_area(c);
            *a = (struct area){.lo = lo,
                               .hi = hi,
                               .offset = offset,
                               .read = perms[0] == 'r',
                               .write = perms[1] == 'w',
                               .execute = perms[2] == 'x',
                               .shared = perms[3] == 's',
                               .name = xstrndup(line + name, strcspn(line + name, "\n"))};
            a->file = inode != 0 || a->name[0] == '/';
            a->deleted = ends_with(a->name, " (deleted)");
            // NOLINTNEXTLINE(cert-err34-c)
        } else if (a && (sscanf(line, "Anonymous: %" SCNu64, &kb) == 1 || sscanf(line, "Swap: %" SCNu64, &kb) == 1)) {
            a->written_to |= kb > 0;
        } else if (a && strncmp(line, "VmFlags:", 8) == 0) {
            a->dont_dump = flag_in(line, "dd");
            a->io = flag_in(line, "io");
            a->huge = flag_in(line, "ht");
            a->shared = flag_in(line, "sh"); /* not those of files that are open for reading only: mmap(2) */
        }
    }
    free(line);
    fclose(f);
    return rc ? rc : c->count ? 0 : -ESRCH;
}

/* The same from what is known anyway, for kernels without smaps. */
static void take_maps(struct core *c)
{
    for (size_t i = 0; i < c->v->maps.count; i++) {
        const struct process_map *m = &c->v->maps.v[i];
        struct area *a = add_area(c);

        *a = (struct area){.lo = m->lo,
                           .hi = m->hi,
                           .offset = m->offset,
                           .read = m->read,
                           .write = m->write,
                           .execute = m->execute,
                           .shared = m->shared,
                           .name = xstrdup(m->name),
                           .file = m->inode != 0 || m->name[0] == '/',
                           .deleted = ends_with(m->name, " (deleted)"),
                           .written_to = m->write};
    }
}

static bool starts_like_elf(const struct core *c, const struct area *a)
{
    char magic[SELFMAG] = "";

    return c->v->mem >= 0 && pread(c->v->mem, magic, SELFMAG, (off_t)a->lo) == SELFMAG &&
           memcmp(magic, ELFMAG, SELFMAG) == 0;
}

/* How much of it goes into a core: vma_dump_size() of Linux' fs/coredump.c. */
static uint64_t wanted(const struct core *c, const struct area *a, unsigned filter)
{
    uint64_t whole = a->hi - a->lo;

    if (strcmp(a->name, "[vdso]") == 0 || strcmp(a->name, "[vsyscall]") == 0)
        return whole;
    if (a->dont_dump)
        return 0;
    if (a->huge)
        return filter & (a->shared ? FILTER_HUGE_SHARED : FILTER_HUGE_PRIVATE) ? whole : 0;
    if (a->io)
        return 0;
    if (a->shared)
        return filter & (a->deleted ? FILTER_ANON_SHARED : FILTER_FILE_SHARED) ? whole : 0;
    if (a->written_to && filter & FILTER_ANON_PRIVATE)
        return whole;
    if (!a->file)
        return 0;
    if (filter & FILTER_FILE_PRIVATE)
        return whole;
    return filter & FILTER_ELF_HEADERS && a->offset == 0 && a->read && starts_like_elf(c, a) ? PAGE : 0;
}

static unsigned read_filter(pid_t pid)
{
    FILE *f = open_proc(pid, "coredump_filter");
    unsigned filter = FILTER_DEFAULT;

    if (f) {
        if (fscanf(f, "%x", &filter) != 1) // NOLINT(cert-err34-c)
            filter = FILTER_DEFAULT;
        fclose(f);
    }
    return filter;
}

static enum order order_of(const struct core *c, const struct area *a)
{
    for (size_t i = 0; i < c->v->thread_count; i++) {
        const struct crash_thread *th = &c->v->threads[i];

        if (th->stands && machine_sp(&th->regs) >= a->lo && machine_sp(&th->regs) < a->hi)
            return i == 0 ? ITS_STACK : STACKS;
    }
    return !a->shared && (a->file || *a->name) ? DATA : REST;
}

/* What is small comes first: what loaders and thread libraries keep to find their way lies there. */
static int by_order(const void *one, const void *other)
{
    const struct area *a = *(struct area *const *)one, *b = *(struct area *const *)other;

    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    if (a->want != b->want)
        return a->want < b->want ? -1 : 1;
    return a->lo < b->lo ? -1 : 1;
}

static int find_areas(struct core *c)
{
    unsigned filter = read_filter(c->v->pid);
    int rc = read_smaps(c);

    if (rc == -ENOENT && c->v->maps.count) {
        take_maps(c);
        rc = 0;
    }
    for (size_t i = 0; rc == 0 && i < c->count; i++) {
        struct area *a = &c->areas[i];

        a->want = wanted(c, a, filter);
        a->order = order_of(c, a);
    }
    return rc;
}

/* --- notes --- */

static void add_note(struct buf *b, const char *name, uint32_t type, const void *desc, size_t size)
{
    Elf64_Nhdr h = {.n_namesz = (uint32_t)strlen(name) + 1, .n_descsz = (uint32_t)size, .n_type = type};
    static const char zeros[4];

    buf_add(b, &h, sizeof(h));
    buf_add(b, name, h.n_namesz);
    buf_add(b, zeros, -h.n_namesz & 3);
    buf_add(b, desc, size);
    buf_add(b, zeros, -h.n_descsz & 3);
}

struct stat_line {
    char state;
    int ppid, pgrp, sid;
    unsigned long flags, utime, stime;
    long cutime, cstime, nice;
};

/* /proc/PID/task/TID/stat: proc_pid_stat(5) */
static struct stat_line read_stat(const struct core *c, pid_t tid)
{
    struct stat_line s = {0};
    char name[32], text[1024] = "";
    const char *at;
    FILE *f;

    snprintf(name, sizeof(name), "task/%d/stat", (int)tid);
    f = open_proc(c->v->pid, name);
    if (!f)
        return s;
    text[fread(text, 1, sizeof(text) - 1, f)] = 0;
    fclose(f);
    at = strrchr(text, ')');
    // NOLINTNEXTLINE(cert-err34-c)
    if (at && sscanf(at + 1, " %c %d %d %d %*d %*d %lu %*u %*u %*u %*u %lu %lu %ld %ld %*d %ld", &s.state, &s.ppid,
                     &s.pgrp, &s.sid, &s.flags, &s.utime, &s.stime, &s.cutime, &s.cstime, &s.nice) != 10)
        s = (struct stat_line){0};
    if (c->v->own_pid && c->v->own_pid != c->v->pid) {
        s.pgrp = c->pgrp;
        s.sid = c->sid;
        s.ppid = 0; /* nothing tells its number there */
    }
    return s;
}

/* What only /proc/PID/status tells: its user, and in another pid namespace than ours (pid_namespaces(7)) its groups. */
static void read_status(struct core *c)
{
    FILE *f = open_proc(c->v->pid, "status");
    char line[512];

    while (f && fgets(line, sizeof(line), f)) {
        const char *last = strrchr(line, '\t');

        // NOLINTNEXTLINE(cert-err34-c)
        if (sscanf(line, "Uid: %u", &c->uid) == 1 || sscanf(line, "Gid: %u", &c->gid) == 1 || !last)
            continue;
        if (strncmp(line, "NSpgid:", 7) == 0)
            c->pgrp = (int)strtol(last + 1, NULL, 10);
        else if (strncmp(line, "NSsid:", 6) == 0)
            c->sid = (int)strtol(last + 1, NULL, 10);
    }
    if (f)
        fclose(f);
}

static struct timeval ticks(unsigned long n)
{
    unsigned long hz = (unsigned long)sysconf(_SC_CLK_TCK);

    return (struct timeval){.tv_sec = (time_t)(n / hz), .tv_usec = (suseconds_t)(n % hz * 1000000 / hz)};
}

static void add_prstatus(struct core *c, struct buf *b, const struct crash_thread *th)
{
    struct elf_prstatus p = {0};
    struct stat_line s = read_stat(c, th->tid);

    if (c->v->cause) {
        p.pr_info.si_signo = c->v->cause->signo;
        p.pr_cursig = (short)c->v->cause->signo;
    }
    p.pr_sigpend = th->sigpending;
    p.pr_sighold = th->sigmask;
    p.pr_pid = th->own_tid ? th->own_tid : th->tid;
    p.pr_ppid = s.ppid;
    p.pr_pgrp = s.pgrp;
    p.pr_sid = s.sid;
    p.pr_utime = ticks(s.utime);
    p.pr_stime = ticks(s.stime);
    p.pr_cutime = ticks((unsigned long)s.cutime);
    p.pr_cstime = ticks((unsigned long)s.cstime);
    _Static_assert(sizeof(p.pr_reg) == sizeof(th->regs), "the registers of ptrace(2) and of a core are the same");
    memcpy(&p.pr_reg, &th->regs, sizeof(p.pr_reg));
    p.pr_fpvalid = 1;
    add_note(b, "CORE", NT_PRSTATUS, &p, sizeof(p));
}

static void add_more(struct buf *b, const struct crash_thread *th, size_t i)
{
    const struct machine_note *n = &machine_notes[i];

    if (th->more.have >> i & 1)
        add_note(b, "LINUX", n->type, (const char *)&th->more + n->offset, n->size);
}

static void add_vectors(struct buf *b, const struct crash_thread *th)
{
    add_note(b, "CORE", NT_PRFPREG, &th->fp, sizeof(th->fp));
    for (size_t i = 0; i < machine_note_count; i++) /* by type, as the kernel writes them */
        if (machine_notes[i].type < CORE_XSTATE)
            add_more(b, th, i);
    if (th->xstate)
        add_note(b, "LINUX", CORE_XSTATE, th->xstate, th->xstate_size);
    for (size_t i = 0; i < machine_note_count; i++)
        if (machine_notes[i].type > CORE_XSTATE)
            add_more(b, th, i);
}

static void add_prpsinfo(struct core *c, struct buf *b, const struct crash_thread *th)
{
    static const char states[] = "RSDTZW";
    struct elf_prpsinfo p = {0};
    struct stat_line s = read_stat(c, th->tid);
    const char *state;
    FILE *f;

    state = strchr(states, th->state ? th->state : 'R');
    p.pr_state = (char)(state && *state ? state - states : 1);
    p.pr_sname = states[(unsigned char)p.pr_state];
    p.pr_zomb = (char)(p.pr_sname == 'Z');
    p.pr_nice = (char)s.nice;
    p.pr_flag = s.flags;
    p.pr_uid = c->uid;
    p.pr_gid = c->gid;
    p.pr_pid = c->v->own_pid ? c->v->own_pid : c->v->pid;
    p.pr_ppid = s.ppid;
    p.pr_pgrp = s.pgrp;
    p.pr_sid = s.sid;
    snprintf(p.pr_fname, sizeof(p.pr_fname), "%s", th->comm);
    f = open_proc(c->v->pid, "cmdline");
    if (f) {
        size_t n = fread(p.pr_psargs, 1, sizeof(p.pr_psargs) - 1, f);

        for (size_t i = 0; i < n; i++)
            if (!p.pr_psargs[i])
                p.pr_psargs[i] = ' ';
        fclose(f);
    }
    add_note(b, "CORE", NT_PRPSINFO, &p, sizeof(p));
}

/* count, page size, (start, end, page in the file) of each, then their names: fill_files_note() of Linux. */
static void add_files(struct core *c, struct buf *b)
{
    struct buf names = BUF_INIT, all = BUF_INIT;
    uint64_t head[2] = {0, PAGE};

    buf_add(&all, head, sizeof(head));
    for (size_t i = 0; i < c->count && all.len + names.len < FILES_MAX; i++) {
        const struct area *a = &c->areas[i];
        uint64_t words[3] = {a->lo, a->hi, a->offset / PAGE};

        if (!a->file)
            continue;
        head[0]++;
        buf_add(&all, words, sizeof(words));
        buf_add(&names, a->name, strlen(a->name) + 1);
    }
    memcpy(all.p, head, sizeof(head));
    buf_add(&all, names.p, names.len);
    if (head[0])
        add_note(b, "CORE", NT_FILE, all.p, all.len);
    buf_free(&names);
    buf_free(&all);
}

static void add_notes(struct core *c, struct buf *b)
{
    bool first = true;

    read_status(c);
    for (size_t i = 0; i < c->v->thread_count; i++) {
        const struct crash_thread *th = &c->v->threads[i];

        if (!th->stands)
            continue;
        add_prstatus(c, b, th);
        if (first) {
            add_prpsinfo(c, b, th);
            if (th->has_siginfo)
                add_note(b, "CORE", NT_SIGINFO, &th->siginfo, sizeof(th->siginfo));
            if (c->v->auxv_size && c->v->auxv_size <= AUXV_MAX)
                add_note(b, "CORE", NT_AUXV, c->v->auxv, c->v->auxv_size);
            add_files(c, b);
            first = false;
        }
        add_vectors(b, th);
        c->ret->threads++;
    }
}

/* --- the file --- */

/* All of it, within max. */
static int put(struct core *c, const void *bytes, size_t size, uint64_t at)
{
    const char *p = bytes;

    if (c->max && c->ret->written + size > c->max)
        return c->over;
    while (size) {
        ssize_t n = pwrite(c->fd, p, size, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENOSPC;
        c->ret->written += (uint64_t)n;
        p += n;
        at += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static bool is_zero(const char *page, size_t size)
{
    uint64_t first;

    memcpy(&first, page, sizeof(first));
    return first == 0 && memcmp(page, page + sizeof(first), size - sizeof(first)) == 0;
}

/* A piece of whole pages, but for those that are zero. *ret_done: bytes of it that are in the file, holes included. */
static int put_piece(struct core *c, const char *piece, size_t size, uint64_t at, size_t *ret_done)
{
    size_t from = 0;
    int rc = 0;

    while (rc == 0 && from < size) {
        size_t to = from;

        while (to < size && !is_zero(piece + to, PAGE))
            to += PAGE;
        if (c->max && c->max - c->ret->written < to - from) { /* as much as there may be */
            size_t some = (size_t)(c->max - c->ret->written) & ~(size_t)(PAGE - 1);

            rc = some ? put(c, piece + from, some, at + from) : 0;
            from += rc ? 0 : some;
            rc = rc ? rc : c->over;
            break;
        }
        if (to > from)
            rc = put(c, piece + from, to - from, at + from);
        if (rc == 0)
            from = to;
        while (rc == 0 && from < size && is_zero(piece + from, PAGE))
            from += PAGE;
    }
    *ret_done = from;
    return rc;
}

/* Memory of the process; what can't be read is zero, and counted. 0 or -ESRCH. */
static int read_piece(struct core *c, uint64_t lo, char *to, size_t size)
{
    size_t done = 0;

    while (done < size) {
        struct iovec local = {to + done, size - done};
        struct iovec remote = {(void *)(uintptr_t)(lo + done), size - done}; // NOLINT(performance-no-int-to-ptr)
        ssize_t n = process_vm_readv(c->v->pid, &local, 1, &remote, 1, 0);

        if (n < 0 && errno == ESRCH)
            return -ESRCH;
        if (n <= 0 && c->v->mem >= 0) /* also what the process itself may not read */
            n = pread(c->v->mem, to + done, size - done, (off_t)(lo + done));
        if (n <= 0) {
            n = (ssize_t)(PAGE - (lo + done) % PAGE);
            memset(to + done, 0, (size_t)n);
            c->ret->unreadable += (uint64_t)n;
        }
        done += (size_t)n;
    }
    return 0;
}

/* PAGEMAP_SCAN of Documentation/admin-guide/mm/pagemap.rst (Linux 6.7), which the C library may not have yet. */
struct page_scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct page_range {
    uint64_t start, end, categories;
};
#define SCAN_PAGES _IOWR('f', 16, struct page_scan)
#define SCAN_PRESENT (UINT64_C(1) << 3)
#define SCAN_SWAPPED (UINT64_C(1) << 4)
#define SCAN_STEP (UINT64_C(1) << 40) /* bytes of addresses between two looks at the clock */

static int scan_pages(struct core *c, uint64_t from, uint64_t to, uint64_t *ret_lo, uint64_t *ret_hi)
{
    struct page_range range = {0};
    struct page_scan scan = {.size = sizeof(scan),
                             .start = from,
                             .end = to,
                             .vec = (uint64_t)(uintptr_t)&range,
                             .vec_len = 1,
                             .category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
                             .return_mask = SCAN_PRESENT}; /* one range may not mix, so it is asked for one thing */
    int n = ioctl(c->pagemap, SCAN_PAGES, &scan);

    *ret_lo = range.start;
    *ret_hi = range.end;
    return n < 0 ? -errno : n;
}

static bool is_late(const struct core *c)
{
    return c->v->deadline && now_ns() > c->v->deadline;
}

/* The next pages from `from` on that the process has used. False: there are none, or it is_late(). */
static bool next_pages(struct core *c, uint64_t from, uint64_t to, uint64_t *ret_lo, uint64_t *ret_hi)
{
    while (c->pagemap >= 0 && !c->no_scan && from < to && !is_late(c)) {
        uint64_t end = to - from < SCAN_STEP ? to : from + SCAN_STEP;
        int n = scan_pages(c, from, end, ret_lo, ret_hi);

        if (n > 0)
            return *ret_lo >= from && *ret_hi <= end && *ret_lo < *ret_hi;
        c->no_scan = n < 0;
        if (n == 0)
            from = end;
    }
    if (c->pagemap < 0) {
        *ret_lo = from;
        *ret_hi = to;
        return from < to;
    }
    if (!c->entries)
        c->entries = xmalloc(ENTRIES * sizeof(*c->entries));
    while (from < to && !is_late(c)) {
        uint64_t pages = (to - from) / PAGE;
        size_t want = pages < ENTRIES ? (size_t)pages : ENTRIES, i = 0, k;
        ssize_t got =
            pread(c->pagemap, c->entries, want * sizeof(*c->entries), (off_t)(from / PAGE * sizeof(*c->entries)));

        if (got <= 0)
            return false;
        want = (size_t)got / sizeof(*c->entries);
        while (i < want && !(c->entries[i] & PAGE_THERE))
            i++;
        for (k = i; k < want && c->entries[k] & PAGE_THERE;)
            k++;
        *ret_lo = from + i * PAGE;
        *ret_hi = from + k * PAGE;
        if (k > i)
            return true;
        from = *ret_lo;
    }
    return false;
}

/* A run of pages into the file. */
static int put_run(struct core *c, struct area *a, uint64_t lo, uint64_t hi, int file)
{
    int rc = 0;

    while (rc == 0 && lo < hi) {
        size_t size = hi - lo < PIECE ? (size_t)(hi - lo) : PIECE, done = 0;
        ssize_t n = 0;

        if (is_late(c))
            return -ETIMEDOUT;
        if (file >= 0) {
            n = pread(file, c->piece, size, (off_t)(lo - a->lo + a->offset));
            memset(c->piece + (n > 0 ? n : 0), 0, size - (size_t)(n > 0 ? n : 0));
        } else {
            rc = read_piece(c, lo, c->piece, size);
        }
        if (rc == 0)
            rc = put_piece(c, c->piece, size, a->at + (lo - a->lo), &done);
        lo += done;
        a->have = lo - a->lo;
    }
    return rc;
}

/* The file of shared memory, if we may: its holes can be told from what is in it, and nothing changes by reading. */
static int open_shared(const struct core *c, const struct area *a)
{
    char path[96];
    struct stat st;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)c->v->pid, a->lo, a->hi);
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode)) /* a device might do something when it is opened */
        return -1;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return fd;
}

static int put_shared(struct core *c, struct area *a, int file)
{
    uint64_t end = a->offset + a->want;
    off_t at = (off_t)a->offset, to;
    int rc = 0;

    while (rc == 0 && (uint64_t)at < end && (at = lseek(file, at, SEEK_DATA)) >= 0 && (uint64_t)at < end) {
        to = lseek(file, at, SEEK_HOLE);
        if (to < 0)
            return -EIO;
        at &= ~(off_t)(PAGE - 1);
        if ((uint64_t)to > end)
            to = (off_t)end;
        to = (off_t)page_up((uint64_t)to);
        rc = put_run(c, a, a->lo + ((uint64_t)at - a->offset), a->lo + ((uint64_t)to - a->offset), file);
        at = to;
    }
    return rc;
}

static int put_area(struct core *c, struct area *a)
{
    bool sparse = !a->file || (a->shared && a->deleted);
    uint64_t end = a->lo + a->want, from = a->lo, lo, hi;
    int file = a->shared && a->deleted ? open_shared(c, a) : -1, rc = 0;

    if (file >= 0) {
        rc = put_shared(c, a, file);
        close(file);
    } else if (a->huge || !sparse || strcmp(a->name, "[vdso]") == 0 || strcmp(a->name, "[vsyscall]") == 0) {
        rc = put_run(c, a, a->lo, end, -1);
    } else {
        for (; rc == 0 && next_pages(c, from, end, &lo, &hi); from = hi)
            rc = put_run(c, a, lo, hi, -1);
        if (rc == 0 && is_late(c)) /* there may be more */
            rc = -ETIMEDOUT;
    }
    if (rc == 0)
        a->have = a->want;
    return rc;
}

static Elf64_Phdr load_header(const struct area *a)
{
    return (Elf64_Phdr){.p_type = PT_LOAD,
                        .p_flags = (a->read ? PF_R : 0u) | (a->write ? PF_W : 0u) | (a->execute ? PF_X : 0u),
                        .p_offset = a->at,
                        .p_vaddr = a->lo,
                        .p_filesz = a->have,
                        .p_memsz = a->hi - a->lo,
                        .p_align = PAGE};
}

/* Headers and notes; *ret_loads: where the headers of PT_LOAD are. Each area gets its place. */
static int put_head(struct core *c, uint64_t *ret_loads)
{
    struct buf notes = BUF_INIT, b = BUF_INIT;
    size_t segments = c->count + 1;
    bool many = segments >= PN_XNUM; /* elf(5), e_phnum */
    Elf64_Ehdr e = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT, ELFOSABI_NONE},
                    .e_type = ET_CORE,
                    .e_machine = CORE_MACHINE,
                    .e_version = EV_CURRENT,
                    .e_phoff = sizeof(e),
                    .e_ehsize = sizeof(e),
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = (uint16_t)(many ? PN_XNUM : segments)};
    Elf64_Shdr s = {.sh_size = 1, .sh_info = (uint32_t)segments};
    Elf64_Phdr note = {.p_type = PT_NOTE, .p_align = 4};
    uint64_t at;
    int rc;

    add_notes(c, &notes);
    if (!c->ret->threads) {
        buf_free(&notes);
        return -ESRCH;
    }
    note.p_offset = sizeof(e) + segments * sizeof(Elf64_Phdr) + (many ? sizeof(s) : 0);
    note.p_filesz = notes.len;
    if (many) {
        e.e_shoff = note.p_offset - sizeof(s);
        e.e_shnum = 1;
        e.e_shentsize = sizeof(s);
    }
    at = page_up(note.p_offset + note.p_filesz);
    buf_add(&b, &e, sizeof(e));
    buf_add(&b, &note, sizeof(note));
    *ret_loads = b.len;
    for (size_t i = 0; i < c->count; i++) {
        Elf64_Phdr p;

        c->areas[i].at = at;
        at += c->areas[i].want;
        p = load_header(&c->areas[i]);
        buf_add(&b, &p, sizeof(p));
    }
    if (many)
        buf_add(&b, &s, sizeof(s));
    buf_add(&b, notes.p, notes.len);
    rc = put(c, b.p, b.len, 0);
    buf_free(&notes);
    buf_free(&b);
    return rc;
}

/* The headers once more, as it is known how much there is of each mapping. Takes no room that isn't there. */
static int finish(struct core *c, uint64_t loads, uint64_t *ret_end)
{
    struct buf b = BUF_INIT;
    uint64_t max = c->max, written = c->ret->written;
    int rc;

    for (size_t i = 0; i < c->count; i++) {
        Elf64_Phdr p = load_header(&c->areas[i]);

        buf_add(&b, &p, sizeof(p));
        c->ret->cut += c->areas[i].want - c->areas[i].have;
        if (p.p_filesz && p.p_offset + p.p_filesz > *ret_end)
            *ret_end = p.p_offset + p.p_filesz;
    }
    c->max = 0;
    rc = put(c, b.p, b.len, loads);
    c->max = max;
    c->ret->written = written;
    buf_free(&b);
    return rc;
}

static int write_all_of_it(struct core *c)
{
    uint64_t loads = 0, end;
    int rc = find_areas(c), more;
    struct area **sorted;

    if (rc < 0)
        return rc;
    rc = put_head(c, &loads);
    if (rc < 0) {
        c->ret->cut = 0;
        return ftruncate(c->fd, 0) < 0 ? -errno : rc;
    }
    end = c->ret->written;
    sorted = xcalloc(c->count, sizeof(struct area *));
    for (size_t i = 0; i < c->count; i++)
        sorted[i] = &c->areas[i];
    qsort(sorted, c->count, sizeof(struct area *), by_order);
    for (size_t i = 0; rc == 0 && i < c->count; i++)
        if (sorted[i]->want)
            rc = put_area(c, sorted[i]);
    free(sorted);
    more = finish(c, loads, &end);
    rc = rc ? rc : more;
    more = ftruncate(c->fd, (off_t)end) < 0 ? -errno : 0; /* holes at the end belong to it */
    c->ret->size = end;
    return rc ? rc : more;
}

/* How much of its disk a core may take: the trace, the session's events and the program's heirs need some of it, too.
 * UINT64_MAX: unknown. */
static uint64_t room_on_disk(int fd)
{
    struct statvfs s;
    uint64_t available, rest;

    if (fstatvfs(fd, &s) < 0 || !s.f_blocks)
        return UINT64_MAX;
    available = (uint64_t)s.f_bavail * s.f_frsize;
    rest = available / 8;
    rest = rest < DISK_REST_MIN ? DISK_REST_MIN : rest > DISK_REST_MAX ? DISK_REST_MAX : rest;
    return available > rest ? available - rest : 1; /* 0 would be no bound */
}

int core_write(const struct crash_view *view, int fd, uint64_t max, struct core_result *ret)
{
    struct core c = {.v = view, .fd = fd, .max = max, .over = -EFBIG, .ret = ret};
    const uint64_t room = room_on_disk(fd);
    char path[64];

    *ret = (struct core_result){0};
    if (room != UINT64_MAX && (!max || room < max)) {
        c.max = room;
        c.over = -ENOSPC;
    }
    snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)view->pid);
    c.pagemap = open(path, O_RDONLY | O_CLOEXEC);
    c.piece = xmalloc(PIECE);
    ret->error = write_all_of_it(&c);
    if (c.pagemap >= 0)
        close(c.pagemap);
    for (size_t i = 0; i < c.count; i++)
        free(c.areas[i].name);
    free(c.areas);
    free(c.entries);
    free(c.piece);
    return ret->error;
}
