/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/attach.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "inject/handlers.h"
#include "inject/launch.h"
#include "inject/probe_image.h"
#include "inject/worker.h"
#include "session/session.h"
#include "wire/join.h"
#include "wire/record.h"
#include "wire/segment.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#define PAGE ARCH_PAGE
#define TRIES 20 /* when it execs, loads libraries, or can't be stopped or borrowed from just now */
#define PAUSE_US 20000
#define TOTAL_MS 10000
#define ANSWER_MS 5000

struct attach {
    pid_t pid;
    uint32_t mode, clock;
    struct process_facts facts;
    struct process_maps maps; /* with the places that are taken */
    struct process_maps seen; /* as they were */
    bool mapped;              /* both were read */
    struct texts texts;
    struct probe_image image;
    uint64_t base, page; /* of the probe; of its struct process, behind it */
    uint64_t segment;
    uint64_t stacks, stacks_size; /* for hooks of Go code; 0: none */
    uint64_t notes, notes_size;   /* for functions of Go, likewise; behind the stacks */
    uint32_t no_room;             /* images without room for slots */
    struct segment_header *header;
    const char *plan_dir;
    uint64_t prepared_ns;
};

/* --- preparation --- */

/* As the probe's own start decides it. */
static uint32_t choose_clock(uint32_t mode)
{
    return mode & SEG_M_TSC || launch_kernel_uses_counter() ? SEG_CLOCK_TSC : SEG_CLOCK_NONE;
}

static void read_cmdline(pid_t pid, struct segment_header *h)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd >= 0 ? read(fd, h->argv, sizeof(h->argv)) : 0;
    if (fd >= 0)
        close(fd);
    h->argv_len = n > 0 ? (uint32_t)n : 0;
    h->argv_cut = n == (ssize_t)sizeof(h->argv) && h->argv[n - 1] != 0;
}

/* What the probe's describe() would have written. Its time is the one at which the collector gets it. */
static int make_header(struct attach *a)
{
    struct segment_header *h = a->header = xcalloc(1, sizeof(*h));
    const struct process_facts *f = &a->facts;
    char *exe = process_link(a->pid, "exe"), *cwd = process_link(a->pid, "cwd");
    uint64_t files = process_max_files(a->pid);

    snprintf(h->exe, sizeof(h->exe), "%s", exe);
    snprintf(h->comm, sizeof(h->comm), "%.15s", f->name);
    snprintf(h->cwd, sizeof(h->cwd), "%s", cwd);
    free(exe);
    free(cwd);
    segment_layout(h, files < FD_CAP_MAX ? (uint32_t)files : FD_CAP_MAX, syscall_table_hash());
    h->start = SEG_START_ATTACH;
    h->clock = a->clock;
    h->mode = a->mode;
    h->wakes = f->seccomp == 0;
    h->pid = f->pid;
    h->ppid = f->ppid;
    h->uid = f->uid;
    h->gid = f->gid;
    h->euid = f->euid;
    h->egid = f->egid;
    read_cmdline(a->pid, h);
    if (getrandom(h->uuid, sizeof(h->uuid), 0) != (ssize_t)sizeof(h->uuid))
        return -EIO;
    h->uuid[6] = (uint8_t)((h->uuid[6] & 0x0f) | 0x40); /* RFC 9562, 5.4 */
    h->uuid[8] = (uint8_t)((h->uuid[8] & 0x3f) | 0x80);
    return 0;
}

/* What the probe finds out about a descriptor at its first use, which it can't in a sandbox: before the process goes on. */
static int write_descriptors(int segment, pid_t pid, struct segment_header *h)
{
    char path[64];
    struct dirent *d;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    if (!dir)
        return -errno;
    while ((d = readdir(dir))) {
        struct fd_entry e = {0};
        char *end;
        unsigned long fd = strtoul(d->d_name, &end, 10);
        struct stat st;

        if (*end || end == d->d_name || fd >= h->fd_cap || fstatat(dirfd(dir), d->d_name, &st, 0))
            continue;
        e.kind = S_ISSOCK(st.st_mode)  ? FDK_SOCKET
                 : S_ISREG(st.st_mode) ? FDK_FILE
                 : S_ISDIR(st.st_mode) ? FDK_DIR
                 : S_ISFIFO(st.st_mode) ? FDK_PIPE
                                        : FDK_OTHER;
        if (!S_ISCHR(st.st_mode)) /* a device may not look at what is written to it */
            e.state = FDS_READS;
        if (pwrite(segment, &e, sizeof(e), (off_t)(h->fd_off + fd * sizeof(e))) != (ssize_t)sizeof(e))
            continue;
        if (fd >= h->fd_high)
            h->fd_high = fd + 1;
    }
    closedir(dir);
    return 0;
}

/* Whether slots that begin anywhere in [lo, hi) can jump to all that the plan has them jump to, and back. */
static bool reaches(const struct text *x, uint64_t lo, uint64_t hi)
{
    uint64_t from = x->bias + x->plan->reach_lo, to = x->bias + x->plan->reach_hi;

    hi += x->plan->blob_size;
    return (hi > to ? hi : to) - (lo < from ? lo : from) <= ARCH_JUMP;
}

/* Chooses addresses for everything and puts the bytes together. */
static int lay_out(struct attach *a, char **ret_why)
{
    const struct probe_info *info;
    bool any = false;
    int rc = probe_image_make(&a->image);

    if (rc < 0)
        return rc;
    a->base = process_maps_reserve(&a->maps, 0, 0, ((a->image.span + PAGE - 1) & ~(PAGE - 1)) + PAGE);
    if (!a->base)
        return -ENOSPC;
    a->segment = process_maps_reserve(&a->maps, 0, 0, a->header->seg_size);
    if (!a->segment)
        return -ENOSPC;
    a->page = a->base + ((a->image.span + PAGE - 1) & ~(PAGE - 1));
    rc = probe_image_relocate(&a->image, a->base, a->page + PAGE - a->base);
    if (rc < 0)
        return rc;
    info = probe_image_info(&a->image);
    if (!info)
        return -ELIBBAD;
    if (a->texts.go) {
        a->stacks_size = info->stacks_size;
        a->notes_size = a->mode & SEG_M_TRAFFIC ? info->go_notes_size : 0;
        a->stacks = process_maps_reserve(&a->maps, 0, 0, a->stacks_size + a->notes_size);
        a->notes = a->notes_size ? a->stacks + a->stacks_size : 0;
        if (!a->stacks)
            return -ENOSPC;
    }
    for (size_t k = 0; k < a->texts.count; k++) {
        struct text *x = &a->texts.v[k];
        bool wanted = false;
        uint64_t lo, hi;

        for (uint32_t i = 0; i < x->plan->patch_count; i++)
            wanted |= x->applied[i];
        if (!wanted)
            continue;
        x->blob = text_blob_range(x, &lo, &hi) && reaches(x, lo, hi)
                      ? process_maps_reserve_in(&a->maps, lo, hi, x->plan->blob_size)
                      : 0;
        if (!x->blob)
            x->blob = process_maps_reserve(&a->maps, x->bias + x->plan->reach_lo, x->bias + x->plan->reach_hi,
                                           x->plan->blob_size);
        if (!x->blob) {
            text_skip_all(x, PLAN_R_PROTECTED);
            a->no_room++;
            continue;
        }
        any = true;
        text_skip_unsafe(x);
        x->filled = xmalloc(x->plan->blob_size);
        plan_fill_blob(x->plan, x->filled, x->blob, x->bias, info->entry);
    }
    if (!any && a->no_room)
        return -ENOSPC;
    if (!any) {
        *ret_why = xstrdup("no system call in its code can be observed (it is packed, or makes its code as it runs)");
        return -ENOTSUP;
    }
    return 0;
}

/* Not in a sandbox: nothing has prepared for the death in one (probe/crash.h). */
static bool tells_crashes(const struct attach *a)
{
    return a->mode & SEG_M_CRASH && !a->facts.seccomp;
}

#define OBSERVED "it is observed already; `scope ps` shows the session"

static int plan_attach(struct attach *a, char **ret_why)
{
    struct process_probe probe;
    int rc = process_facts(a->pid, &a->facts);

    if (rc < 0)
        return rc;
    *ret_why = process_objection(a->pid, &a->facts);
    if (*ret_why)
        return -ENOTSUP;
    rc = process_maps(a->pid, &a->seen);
    if (rc == 0)
        rc = process_maps(a->pid, &a->maps);
    a->mapped = rc == 0;
    if (rc == 0 && !a->seen.count) /* no memory is shown of what may not be traced */
        rc = -EPERM;
    if (rc < 0)
        return rc;
    if (process_find_probe(a->pid, &a->seen, &probe, NULL)) {
        *ret_why = xstrdup(OBSERVED);
        return -EALREADY;
    }
    texts_read(a->pid, &a->seen, a->plan_dir, process_is_trusted(&a->facts),
               ((a->mode & SEG_M_TIMING) && a->clock == SEG_CLOCK_TSC ? TEXTS_WHEN(PLAN_TIMING) : 0) |
                   (a->mode & SEG_M_TRAFFIC ? TEXTS_WHEN(PLAN_TRAFFIC) | TEXTS_WHEN(PLAN_TRAFFIC_START) : 0) |
                   (tells_crashes(a) ? TEXTS_WHEN(PLAN_CRASH) : 0),
               &a->texts);
    if (a->texts.go && !arch_probe_runs_early()) {
        *ret_why = xstrdup("it contains Go code, for which Linux 5.9 and a CPU with FSGSBASE are needed");
        return -ENOTSUP;
    }
    rc = texts_check(a->pid, &a->texts);
    if (rc == 0)
        rc = make_header(a);
    return rc < 0 ? rc : lay_out(a, ret_why);
}

/* Whether it execs just now, or has done so, or loaded a library, since its maps were read. */
static bool has_changed(const struct attach *a)
{
    struct process_maps now;
    bool changed;

    if (process_maps(a->pid, &now) < 0)
        return false;
    /* The auxiliary vector is the last that an exec gives, when the new program is mapped. */
    changed = (now.count && !process_auxv(a->pid, AT_PHDR)) || !now.count != !a->seen.count ||
              !process_maps_same_code(&now, &a->seen) || !process_maps_same_code(&now, &a->maps);
    process_maps_free(&now);
    return changed;
}

static void forget(struct attach *a)
{
    process_maps_free(&a->maps);
    process_maps_free(&a->seen);
    texts_free(&a->texts);
    probe_image_free(&a->image);
    free(a->header);
    a->header = NULL;
    a->mapped = false;
    a->no_room = 0;
}

/* What was found wrong with a process that changed meanwhile means nothing: -EAGAIN then. */
static int prepare(struct attach *a, char **ret_why)
{
    int rc = plan_attach(a, ret_why);

    if (rc == 0 || process_has_ended(a->pid) || (rc != -EFAULT && !(a->mapped && has_changed(a))))
        return rc;
    free(*ret_why);
    *ret_why = NULL;
    return -EAGAIN;
}

static bool is_observed(pid_t pid)
{
    struct process_probe probe;
    struct process_maps m;
    bool found;

    if (process_maps(pid, &m) < 0)
        return false;
    found = process_find_probe(pid, &m, &probe, NULL);
    process_maps_free(&m);
    return found;
}

/* That it has ended, or that another command attaches to it, makes the most different things fail. */
static int explain(pid_t pid, int rc, char **ret_why)
{
    char *tracer;

    if (rc == -ENOTSUP && (tracer = process_tracer(pid))) {
        free(*ret_why);
        *ret_why = tracer;
    } else if (rc < 0 && rc != -EALREADY && process_has_ended(pid)) {
        rc = -ESRCH;
        free(*ret_why);
        *ret_why = NULL;
    } else if (rc == -EALREADY || ((rc == -ENOTSUP || rc == -EPERM || rc == -EAGAIN) && is_observed(pid))) {
        rc = -EALREADY;
        free(*ret_why);
        *ret_why = xstrdup(OBSERVED);
    }
    return worker_explain(rc, pid, ret_why);
}

int attach_prepare(pid_t pid, const char *plan_dir, uint32_t mode, struct attach **ret, char **ret_why)
{
    struct attach *a = xcalloc(1, sizeof(*a));
    uint64_t began = worker_now();
    int rc;

    *ret_why = NULL;
    *a = (struct attach){.pid = pid, .mode = mode, .clock = choose_clock(mode), .plan_dir = plan_dir};
    rc = prepare(a, ret_why);
    for (int i = 1; i < TRIES && rc == -EAGAIN; i++) {
        usleep(PAUSE_US);
        forget(a);
        rc = prepare(a, ret_why);
    }
    if (rc < 0) {
        rc = explain(pid, rc, ret_why);
        attach_free(a);
        return rc;
    }
    a->prepared_ns = worker_now() - began;
    *ret = a;
    return 0;
}

void attach_free(struct attach *a)
{
    forget(a);
    free(a);
}

const char *attach_name(const struct attach *a)
{
    return a->facts.name;
}

/* --- while it stands --- */

struct job {
    struct attach *a;
    const char *socket, *lib;
    struct attach_result *result;
    struct trace t;
    struct trace_thread *threads, *th; /* th: borrowed */
    size_t count;
    int mem, segment, conn;
    struct mapped {
        uint64_t at, size;
    } * mapped; /* by us, so far */
    size_t mapped_count;
};

static struct segment_header *at_address(uint64_t address)
{
    return (struct segment_header *)(uintptr_t)address; // NOLINT(performance-no-int-to-ptr)
}

static int call(struct job *j, long nr, const uint64_t arg[6], int64_t *ret_result)
{
    int rc;

    *ret_result = 0;
    rc = trace_call(&j->t, j->th, nr, arg, ret_result);
    return rc < 0 ? rc : *ret_result < 0 && *ret_result >= -4095 ? (int)*ret_result : 0;
}

/* Maps memory, or a descriptor if it isn't -1, at a place that was chosen. -EAGAIN: it is taken by now. */
static int map_at(struct job *j, uint64_t at, uint64_t size, int prot, int64_t fd)
{
    int flags = (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | MAP_FIXED_NOREPLACE;
    int64_t got;
    int rc = call(j, SYS_mmap, (const uint64_t[6]){at, size, (uint64_t)prot, (uint64_t)flags, (uint64_t)fd, 0}, &got);

    if (rc == 0 && (uint64_t)got != at) { /* Linux before 4.17 takes the address for a wish */
        rc = call(j, SYS_munmap, (const uint64_t[6]){(uint64_t)got, size}, &got);
        return rc < 0 ? rc : -EAGAIN;
    }
    if (rc == 0) {
        j->mapped = xrealloc(j->mapped, j->mapped_count + 1, sizeof(*j->mapped));
        j->mapped[j->mapped_count++] = (struct mapped){at, size};
    }
    return rc == -EEXIST ? -EAGAIN : rc;
}

/* One item of a record; returns where the next one begins. */
static char *put_item(char *at, enum item_type type, const void *data, size_t len)
{
    struct rec_item item = {.type = (uint16_t)type, .len = (uint32_t)len};

    memcpy(at, &item, sizeof(item));
    memcpy(at + sizeof(item), data, len);
    return at + sizeof(item) + ((len + 7) & ~(size_t)7);
}

#define IMAGE_RECORD_MAX                                                                                               \
    (sizeof(struct record) + 2 * sizeof(struct rec_item) + SEG_PATH_MAX + sizeof(struct rec_sites))

/* What the probe's image_patch() would have counted and recorded, at the start of the ring. 0, or -1 with errno. */
static int write_images(int segment, const struct texts *t, bool crash, struct segment_header *h)
{
    _Alignas(struct record) char bytes[IMAGE_RECORD_MAX];

    for (size_t k = 0; k < t->count; k++) {
        const struct text *x = &t->v[k];
        struct record *r = (struct record *)(void *)bytes;
        struct rec_sites sites = {0};
        char *end;

        plan_count_sites(x->plan, !!(h->mode & SEG_M_TRAFFIC), crash, PLAN_OK, &sites.sites);
        h->images++;
        h->sites_patched += plan_sites_patched(&sites.sites);
        h->sites_left += plan_sites_refused(&sites.sites);
        if (!plan_sites_patched(&sites.sites) && !plan_sites_refused(&sites.sites))
            continue;
        if (h->ring_head > RING_CELLS / 2) { /* thousands of images: room for what the program does is left */
            h->loss[LOSS_RECORD]++;
            continue;
        }
        memset(bytes, 0, sizeof(bytes));
        memcpy(sites.key, x->plan->key, sizeof(sites.key));
        end = put_item(bytes + sizeof(*r), ITEM_PATH, x->name, strnlen(x->name, SEG_PATH_MAX));
        end = put_item(end, ITEM_SITES, &sites, sizeof(sites));
        *r = (struct record){.seq = h->ring_head + 1,
                             .size = (uint32_t)(end - bytes),
                             .kind = REC_IMAGE,
                             .pid = h->pid,
                             .arg = {x->bias}};
        if (pwrite(segment, bytes, r->size, (off_t)(h->ring_off + h->ring_head * RING_CELL)) != (ssize_t)r->size)
            return -1;
        h->ring_head += (r->size + RING_CELL - 1) / RING_CELL;
    }
    return 0;
}

/* A memfd that the process makes and we take out of it. */
static int make_segment(struct job *j)
{
    const struct attach *a = j->a;
    uint64_t size = a->header->seg_size;
    int64_t fd = -1, got = 0;
    int pidfd, closed, rc = trace_write(&j->t, a->page, SEG_NAME, sizeof(SEG_NAME));

    if (rc == 0)
        rc = call(j, SYS_memfd_create, (const uint64_t[6]){a->page, MFD_CLOEXEC | MFD_ALLOW_SEALING}, &fd);
    if (rc < 0)
        return rc;
    pidfd = (int)syscall(SYS_pidfd_open, a->pid, 0);
    j->segment = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, (int)fd, 0);
    rc = j->segment < 0 ? -errno : 0;
    if (pidfd >= 0)
        close(pidfd);
    if (rc == 0 && (ftruncate(j->segment, (off_t)size) < 0 ||
                    fcntl(j->segment, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ||
                    write_images(j->segment, &a->texts, tells_crashes(a), a->header) < 0 ||
                    (a->facts.seccomp && write_descriptors(j->segment, a->pid, a->header) < 0) ||
                    pwrite(j->segment, a->header, sizeof(*a->header), 0) != (ssize_t)sizeof(*a->header)))
        rc = -errno;
    if (rc == 0)
        rc = map_at(j, a->segment, size, PROT_READ | PROT_WRITE, fd);
    closed = call(j, SYS_close, (const uint64_t[6]){(uint64_t)fd}, &got);
    return rc < 0 ? rc : closed;
}

/* Whether the program can read the CPU's counter; prctl(2), PR_GET_TSC. */
static int has_counter(struct job *j, bool *ret)
{
    int64_t got;
    int on = 0, rc = call(j, SYS_prctl, (const uint64_t[6]){PR_GET_TSC, j->a->page}, &got);

    *ret = false;
    if (rc == -ESRCH || rc == -ETIMEDOUT)
        return rc;
    if (rc == 0)
        rc = trace_read(&j->t, j->a->page, &on, sizeof(on));
    *ret = arch_reads_counter(rc, on);
    return 0;
}

/* No hook shall be made to take the time. */
static void forget_times(struct attach *a)
{
    probe_image_untimed(&a->image);
    for (size_t k = 0; k < a->texts.count; k++)
        if (a->texts.v[k].blob)
            ((uint64_t *)(void *)a->texts.v[k].filled)[PLAN_ENTRY_TIMED] = 0;
}

/* What the probe's start would have found out, into the image that was written. */
static int set_up(const struct job *j, bool ticks)
{
    const struct attach *a = j->a;
    const struct probe_info *info = probe_image_info(&a->image);
    const uint8_t no_ticks = !ticks, fsgsbase = arch_probe_runs_early() != 0;
    const struct process process = {.segment = at_address(a->segment),
                                    .pid = a->facts.pid,
                                    .multi = j->count > 1,
                                    .begun = (uint32_t)j->count /* at most */};
    const uint64_t stacks_end = a->stacks + a->stacks_size;
    static struct probe p;
    int rc;

    p = (struct probe){.segment = at_address(a->segment),
                       .table_hash = syscall_table_hash(),
                       .euid = a->facts.euid,
                       .fd_cap = a->header->fd_cap,
                       .ring_off = (uint32_t)segment_ring(a->header->fd_cap),
                       .mode = a->mode,
                       .clock = a->clock,
                       .timing = (a->mode & SEG_M_TIMING) && ticks,
                       .sandboxed = a->facts.seccomp ? SANDBOX_SECCOMP : 0};
    snprintf(p.lib, sizeof(p.lib), "%s", j->lib);
    snprintf(p.socket, sizeof(p.socket), "%s", j->socket);
    p.plans_at = (uint32_t)strlen(p.lib) + 1;
    snprintf(p.paths + p.plans_at, sizeof(p.paths) - p.plans_at, "%s", a->plan_dir);
    rc = trace_write(&j->t, a->page, &process, sizeof(process));
    if (rc == 0)
        rc = trace_write(&j->t, (uint64_t)(uintptr_t)info->process, &a->page, sizeof(a->page));
    if (rc == 0)
        rc = trace_write(&j->t, (uint64_t)(uintptr_t)info->no_ticks, &no_ticks, sizeof(no_ticks));
    if (rc == 0)
        rc = trace_write(&j->t, (uint64_t)(uintptr_t)info->fsgsbase, &fsgsbase, sizeof(fsgsbase));
    if (rc == 0 && info->page)
        rc = trace_write(&j->t, (uint64_t)(uintptr_t)info->page, &(uint64_t){PAGE}, sizeof(uint64_t));
    for (size_t i = 0; rc == 0 && info->shared_pointer && a->stacks && i < j->count; i++) {
        const uint64_t pointer = arch_thread_pointer(&j->threads[i].regs);

        if (j->threads[i].tid == a->pid)
            rc = trace_write(&j->t, (uint64_t)(uintptr_t)info->shared_pointer, &pointer, sizeof(pointer));
    }
    if (rc == 0)
        rc = trace_write(&j->t, (uint64_t)(uintptr_t)info->stacks, &a->stacks, sizeof(a->stacks));
    if (rc == 0)
        rc = trace_write(&j->t, (uint64_t)(uintptr_t)info->stacks_end, &stacks_end, sizeof(stacks_end));
    if (rc == 0)
        rc = trace_write(&j->t, (uint64_t)(uintptr_t)info->go_notes, &a->notes, sizeof(a->notes));
    return rc < 0 ? rc : trace_write(&j->t, (uint64_t)(uintptr_t)info->probe, &p, sizeof(p));
}

/* As stacks_open() and go_functions_open() of the probe make them. */
static int make_stacks(struct job *j)
{
    const struct attach *a = j->a;
    int64_t got;
    const uint64_t size = a->stacks_size + a->notes_size;
    int rc = map_at(j, a->stacks, size, PROT_READ | PROT_WRITE, -1);

    if (rc == 0)
        rc = call(j, SYS_madvise, (const uint64_t[6]){a->stacks, size, MADV_WIPEONFORK}, &got);
    if (rc == 0 && call(j, SYS_madvise, (const uint64_t[6]){a->stacks, size, MADV_NOHUGEPAGE}, &got) == -ESRCH)
        rc = -ESRCH; /* that the kernel has no huge pages is no error */
    return rc;
}

/* Everything but the patches. */
static int bring(struct job *j)
{
    struct attach *a = j->a;
    bool ticks = false;
    int64_t got;
    int rc = map_at(j, a->base, a->page + PAGE - a->base, PROT_READ | PROT_WRITE, -1);

    if (rc == 0)
        rc = call(j, SYS_madvise, (const uint64_t[6]){a->page, PAGE, MADV_WIPEONFORK}, &got);
    if (rc == 0)
        rc = has_counter(j, &ticks);
    ticks = ticks && a->clock == SEG_CLOCK_TSC && a->facts.seccomp != 1;
    if (!(ticks && a->mode & SEG_M_TIMING))
        forget_times(a);
    if (rc == 0 && a->stacks)
        rc = make_stacks(j);
    if (rc == 0)
        rc = make_segment(j);
    if (rc < 0)
        return rc;
    rc = probe_image_write(&j->t, &a->image, a->base);
    if (rc == 0)
        rc = probe_image_protect(&j->t, j->th, &a->image, a->base);
    if (rc == 0)
        rc = set_up(j, ticks);
    for (size_t k = 0; k < a->texts.count && rc == 0; k++) {
        const struct text *x = &a->texts.v[k];

        if (!x->blob)
            continue;
        rc = map_at(j, x->blob, SEG_ROUND(x->plan->blob_size), PROT_READ | PROT_EXEC, -1);
        if (rc == 0 && pwrite(j->mem, x->filled, x->plan->blob_size, (off_t)x->blob) != (ssize_t)x->plan->blob_size)
            rc = -EIO;
    }
    return rc;
}

/* Undoes what bring() has done, and no more: the program may have taken a place that was free when it was chosen. */
static void take_away(struct job *j)
{
    int64_t got;

    while (j->mapped_count) {
        const struct mapped *m = &j->mapped[--j->mapped_count];

        if (call(j, SYS_munmap, (const uint64_t[6]){m->at, m->size}, &got) < 0)
            break;
    }
}

static int hand_over(struct job *j)
{
    static struct join_request req;
    int pidfd = (int)syscall(SYS_pidfd_open, j->a->pid, 0);

    if (pidfd < 0)
        return -errno;
    req = (struct join_request){.type = JOIN_ATTACH, .tid = (uint32_t)j->a->pid};
    j->conn = session_send(j->socket, &req, (const int[2]){j->segment, pidfd}, 2, 1000);
    close(pidfd);
    return j->conn < 0 ? j->conn : 0;
}

/* --- threads in the way --- */

/* Sites in which a thread stands, or will when a signal handler returns, stay as they are. */
static int clear_way(struct job *j)
{
    struct text *x;
    uint64_t to;
    uint32_t patch;

    for (size_t i = 0; i < j->count; i++) {
        struct worker_context *contexts;
        size_t n;
        int rc = worker_contexts(&j->t, &j->a->seen, &j->threads[i], j->a->texts.go, &contexts, &n);

        if (rc < 0)
            return rc;
        for (size_t k = 0; k <= n; k++)
            if (texts_before(&j->a->texts, k < n ? contexts[k].pc : arch_pc(&j->threads[i].regs), &to, &x, &patch) ==
                TEXT_INSIDE) {
                text_skip_site(x, patch, PLAN_R_OCCUPIED);
                j->result->left++;
            }
        free(contexts);
    }
    return 0;
}

/* A thread that waits in a call that moves moves along: before the text changes. */
static bool moves_along(void *ctx, uint64_t pc, uint64_t *ret_to)
{
    const struct job *j = ctx;
    struct text *x;
    uint32_t patch;

    return texts_before(&j->a->texts, pc, ret_to, &x, &patch) == TEXT_MOVES;
}

/* For hooks that the program's threads come to without having been at the one before the call. A call that is over has no
 * first argument any more: it gets one that nothing has. */
static int keep_argument(struct job *j, struct trace_thread *th)
{
    const uint64_t lost = UINT64_MAX;
    struct worker_context *contexts;
    unsigned reg;
    bool over;
    size_t n;
    int rc = worker_contexts(&j->t, &j->a->seen, th, j->a->texts.go, &contexts, &n);

    for (size_t k = 0; rc == 0 && k < n; k++) {
        uint64_t arg = lost;

        if (!texts_argument(&j->a->texts, contexts[k].pc, &reg, &over))
            continue;
        if (!over)
            rc = trace_read(&j->t, arch_context_register(contexts[k].at, 0), &arg, sizeof(arg));
        if (rc == 0)
            rc = trace_write(&j->t, arch_context_register(contexts[k].at, reg), &arg, sizeof(arg));
    }
    free(contexts);
    if (rc == 0 && texts_argument(&j->a->texts, arch_pc(&th->regs), &reg, &over)) {
        struct arch_regs regs = th->regs;

        arch_set_register(&regs, reg, over ? lost : arch_register(&regs, 0));
        rc = trace_set_regs(th, &regs);
    }
    return rc;
}

static int keep_arguments(struct job *j)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && ARCH_LOSES_ARGUMENT && i < j->count; i++)
        rc = keep_argument(j, &j->threads[i]);
    return rc;
}

/* --- the whole --- */

/* A loader may have brought a probe since the maps were read, or be about to: the code that is mapped is the same. */
static int look_for_probe(const struct job *j)
{
    const struct attach *a = j->a;
    struct process_probe probe;

    if (process_find_probe(a->pid, &a->seen, &probe, NULL))
        return -EALREADY;
    for (size_t i = 0; i < j->count; i++)
        if (process_starts_probe(a->pid, &a->seen, arch_pc(&j->threads[i].regs)))
            return -EAGAIN;
    return 0;
}

static int work_stopped(struct job *j)
{
    struct attach *a = j->a;
    struct process_maps now;
    int undo, rc = process_maps(a->pid, &now);

    if (rc < 0)
        return rc;
    rc = process_maps_same_code(&now, &a->seen) ? 0 : -EAGAIN;
    process_maps_free(&a->seen);
    a->seen = now; /* stacks may have grown */
    if (rc == 0)
        rc = look_for_probe(j);
    if (rc == 0)
        rc = clear_way(j);
    if (rc == 0)
        rc = worker_borrow(&j->t, j->threads, j->count, &a->seen, a->texts.go, process_auxv(a->pid, AT_SYSINFO_EHDR),
                           &j->th);
    if (rc < 0)
        return rc;
    rc = bring(j);
    if (rc == 0)
        rc = hand_over(j);
    if (rc < 0)
        take_away(j);
    else if (tells_crashes(a) && handlers_install(&j->t, j->th, probe_image_info(&a->image)) < 0) {
        /* trace_return() says what is wrong with the thread. */
    }
    undo = trace_return(&j->t, j->th);
    if (rc == 0)
        rc = undo;
    if (rc == 0)
        rc = worker_move_threads(&j->t, &a->seen, j->threads, j->count, a->texts.go, moves_along, j);
    if (rc == 0)
        rc = keep_arguments(j);
    if (rc == 0)
        rc = texts_write(&a->texts, j->mem, false);
    j->result->images = a->header->images;
    j->result->patched = a->header->sites_patched;
    j->result->unknown = (uint32_t)a->texts.unknown;
    j->result->no_room = a->no_room;
    return rc;
}

static int work(void *arg)
{
    struct job *j = arg;
    struct attach *a = j->a;
    uint64_t began;
    int rc;

    trace_init(&j->t, a->pid, TOTAL_MS);
    j->t.unfiltered = a->facts.seccomp != 0;
    j->conn = j->segment = -1;
    began = worker_now();
    rc = trace_stop_all(&j->t, STOP_MS, &j->threads, &j->count);
    if (rc < 0)
        return rc;
    j->mem = worker_open_mem(a->pid); /* not before: an exec gives it other memory */
    rc = j->mem < 0 ? j->mem : work_stopped(j);
    j->result->threads = (unsigned)j->count;
    trace_let_go(j->threads, j->count);
    j->result->stopped_ns = worker_now() - began;
    if (rc == 0)
        rc = session_answer(j->conn, ANSWER_MS);
    return rc;
}

int attach_run(struct attach *a, const char *socket, const char *lib, struct attach_result *ret, char **ret_why)
{
    struct job j = {.a = a, .socket = socket, .lib = lib};
    int late = 0, rc = 0;

    *ret_why = NULL;
    for (int i = 0; i < TRIES && late < LATE_MAX; i++) {
        if (i) { /* anew: what it has mapped has changed */
            usleep(PAUSE_US);
            forget(a);
            free(*ret_why);
            *ret_why = NULL;
            rc = prepare(a, ret_why);
            if (rc == -EAGAIN)
                continue;
            if (rc < 0)
                break;
        }
        rc = worker_run(work, &j, &j.result, sizeof(*j.result));
        if (rc != -EAGAIN && rc != -ETIMEDOUT && rc != -EBUSY)
            break;
        late += rc == -ETIMEDOUT;
    }
    if (j.result)
        *ret = *j.result;
    ret->prepared_ns = a->prepared_ns;
    worker_done(&j.result, sizeof(*j.result));
    return explain(a->pid, rc, ret_why);
}
