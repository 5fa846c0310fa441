/* SPDX-License-Identifier: Apache-2.0 */
#include "images.h"

#include <asm/errno.h>
#include <linux/elf.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/stat.h>

#include "go_functions.h"
#include "join.h"
#include "ring.h"
#include "stacks.h"

#ifndef PT_GNU_PROPERTY
#define PT_GNU_PROPERTY 0x6474e553
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define HIDDEN __attribute__((visibility("hidden")))
#define NEAR ((int64_t)ARCH_REACH)
#define PHDRS 24

extern char scope_pool[] HIDDEN, scope_pool_end[] HIDDEN;
extern const Elf64_Dyn _DYNAMIC[] HIDDEN;

/* <link.h>, common to glibc and musl */
struct link_map {
    uint64_t addr;
    const char *name;
    const Elf64_Dyn *ld;
    struct link_map *next, *prev;
};
struct r_debug {
    int version;
    struct link_map *map;
};

struct image {
    uint64_t bias;
    uint64_t text_lo, text_hi;  /* run-time range of the executable segment */
    long landing;               /* ARCH_PROT_LANDING, if that is how its text is protected, else 0 */
    char key[PLAN_KEY_MAX];
};

/* The program itself, where there is a /proc. */
static const char exe_link[] = "/proc/self/exe";

/* ---- identity: the same as plan_key() in src/plan ---- */

static bool note_build_id(const char *p, size_t n, char *key)
{
    while (n >= sizeof(Elf64_Nhdr)) {
        const Elf64_Nhdr *h = (const Elf64_Nhdr *)(const void *)p;
        size_t name = ROUND_UP((size_t)h->n_namesz, 4), desc = ROUND_UP((size_t)h->n_descsz, 4);

        if (name > n || desc > n || sizeof(*h) + name + desc > n)
            return false;
        if (h->n_type == 3 && h->n_namesz == 4 && !memcmp(p + sizeof(*h), "GNU", 4) && h->n_descsz &&
            h->n_descsz * 2 < PLAN_KEY_MAX) {
            const unsigned char *d = (const unsigned char *)p + sizeof(*h) + name;

            for (uint32_t i = 0; i < h->n_descsz; i++) {
                key[2 * i] = "0123456789abcdef"[d[i] >> 4];
                key[2 * i + 1] = "0123456789abcdef"[d[i] & 15];
            }
            key[2 * h->n_descsz] = 0;
            return true;
        }
        p += sizeof(*h) + name + desc;
        n -= sizeof(*h) + name + desc;
    }
    return false;
}

/* Whether a PT_GNU_PROPERTY says that all indirect branches into the image lead to landing pads: a note of type
 * NT_GNU_PROPERTY_TYPE_0 with entries of type, size and data, each padded to 8 bytes (Linux Extensions to gABI, 2.1). */
static bool note_has_landing(const char *p, size_t n)
{
    const Elf64_Nhdr *h = (const Elf64_Nhdr *)(const void *)p;
    const uint32_t *entry = (const uint32_t *)(const void *)(p + sizeof(*h) + 4);
    size_t left;

    if (n < sizeof(*h) + 4 || h->n_type != 5 || h->n_namesz != 4 || h->n_descsz > n - sizeof(*h) - 4)
        return false;
    for (left = h->n_descsz; left >= 12; entry += 2 + ROUND_UP(entry[1], 8u) / 4) {
        if (entry[0] == ARCH_NOTE_FEATURES && entry[1] == 4)
            return (entry[2] & ARCH_FEATURE_LANDING) != 0;
        if (entry[1] > left - 8 || ROUND_UP(entry[1], 8u) > left - 8)
            return false;
        left -= 8 + ROUND_UP(entry[1], 8u);
    }
    return false;
}

/* The kernel's struct stat on every 64-bit architecture has what we need through statx(2). */
static bool key_of_file(int dirfd, const char *path, int flags, char *key)
{
    struct statx st;
    size_t n = 0;

    if (SYS6(__NR_statx, dirfd, path, flags, STATX_BASIC_STATS, &st, 0) < 0)
        return false;
    n = str_add(key, n, PLAN_KEY_MAX, "f-");
    /* dev_t as glibc's makedev(3) packs it */
    n = str_add_hex(key, n, PLAN_KEY_MAX,
                    ((uint64_t)(st.stx_dev_major & 0xfffff000u) << 32) | ((st.stx_dev_major & 0xfffu) << 8) |
                        ((uint64_t)(st.stx_dev_minor & 0xffffff00u) << 12) | (st.stx_dev_minor & 0xffu));
    n = str_add(key, n, PLAN_KEY_MAX, "-");
    n = str_add_hex(key, n, PLAN_KEY_MAX, st.stx_ino);
    n = str_add(key, n, PLAN_KEY_MAX, "-");
    n = str_add_hex(key, n, PLAN_KEY_MAX, (uint64_t)st.stx_mtime.tv_sec * 1000000000u + st.stx_mtime.tv_nsec);
    n = str_add(key, n, PLAN_KEY_MAX, "-");
    n = str_add_hex(key, n, PLAN_KEY_MAX, st.stx_size);
    return n < PLAN_KEY_MAX;
}

/* ---- plans ---- */

/* Most images have nothing to patch; their plans all look like this one. */
static const struct plan_header plan_empty = {.magic = PLAN_MAGIC};

/* Maps a plan read-only; NULL if it can't be trusted. sent: by the collector, which has looked itself, and whose user
 * may have no number in our user namespace. */
static const struct plan_header *plan_map(int fd, bool sent, size_t *ret_size)
{
    struct plan_header head;
    struct statx st;
    long at;

    if (SYS6(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st, 0) < 0 ||
        st.stx_size < sizeof(head) || st.stx_size > 64u << 20)
        return NULL;
    /* Whoever may write the plan may write our code: only root or ourselves. */
    if (!sent && ((st.stx_uid != 0 && st.stx_uid != probe.euid) || (st.stx_mode & 0022)))
        return NULL;
    if (SYS4(__NR_pread64, fd, &head, sizeof(head), 0) != (long)sizeof(head) || head.magic != PLAN_MAGIC ||
        head.version != PLAN_VERSION || head.arch != PROBE_ARCH || head.table_hash != probe.table_hash)
        return NULL;
    if (!head.patch_count && !head.site_count)
        return &plan_empty;
    at = SYS6(__NR_mmap, 0, st.stx_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (sys_failed(at))
        return NULL;
    *ret_size = st.stx_size;
    if (plan_check((const void *)at, st.stx_size) && head.sum == plan_sum((const void *)at, st.stx_size))
        return (const struct plan_header *)at;
    SYS2(__NR_munmap, at, st.stx_size);
    return NULL;
}

static int plans_open(void)
{
    return probe_plans()[0] ? own_fd(SYS4(__NR_openat, AT_FDCWD, probe_plans(), O_PATH | O_DIRECTORY | O_CLOEXEC, 0)) : -1;
}

/* From the cache directory (descriptor, or -1), else from the collector. image_fd may be -1: then `path` is opened. */
static const struct plan_header *plan_get(int plans, const char *key, int image_fd, const char *path, size_t *ret_size)
{
    char file[PLAN_KEY_MAX + 8];
    const struct plan_header *h = NULL;
    size_t n = str_add(file, 0, sizeof(file), key);
    int fd, opened = -1;

    str_add(file, n, sizeof(file), ".plan");
    if (plans >= 0) {
        fd = own_fd(SYS4(__NR_openat, plans, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0));
        if (fd >= 0) {
            h = plan_map(fd, false, ret_size);
            own_close(fd);
            if (h)
                return h;
        }
    }
    if (image_fd < 0) {
        opened = own_fd(SYS4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0));
        image_fd = opened;
    }
    if (image_fd >= 0 || path == exe_link) { /* without a /proc here the collector opens it there */
        fd = join_plan(image_fd, key, path);
        if (fd >= 0) {
            h = plan_map(fd, true, ret_size);
            own_close(fd);
        }
    }
    if (opened >= 0)
        own_close(opened);
    return h;
}

/* ---- applying ---- */

HOT_DATA static uint64_t pool_used;

static bool reaches(uint64_t a, uint64_t size, const struct plan_header *h, const struct image *im)
{
    int64_t lo = (int64_t)(a - im->bias - h->reach_hi), hi = (int64_t)(a + size - im->bias - h->reach_lo);

    return lo > -NEAR && lo < NEAR && hi > -NEAR && hi < NEAR;
}

/* No thread runs what is written: the process starts, or the mapping is new and nobody knows its address yet. So there
 * is nobody whose pipeline would have to be told (membarrier(2), SYNC_CORE), and any instruction may replace any other
 * (Arm ARM, B2.2.5). Caches: arch_sync_code(), or the kernel (inject/text.h).
 *
 * How code is changed. Usually it is made writable for a moment. Where that is refused (MemoryDenyWriteExecute,
 * which is PR_SET_MDWE or a seccomp filter; a security module), by /proc/self/mem, which goes by what the memory may
 * become: proc_pid_mem(5). */
struct writer {
    int mem; /* descriptor of that file, or -1 */
};

/* 0 or -errno. */
static int writer_put(const struct writer *w, uint64_t at, const void *from, uint64_t size)
{
    const char *p = from;

    if (w->mem < 0) {
        memcpy((void *)at, from, size);
        arch_sync_code((const void *)at, size);
        return 0;
    }
    while (size) {
        long n = SYS4(__NR_pwrite64, w->mem, p, size, at);

        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        p += n;
        at += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

/* Room for a blob within reach of what it leads to: from the pool, whose unwind information is known to the
 * C library, else anonymous memory. 0 if there is none. */
static uint64_t blob_place(const struct plan_header *h, const struct image *im, uint64_t size, const struct writer *w)
{
    const long prot = w->mem < 0 ? PROT_READ | PROT_WRITE : PROT_READ | PROT_EXEC;

    if (reaches((uint64_t)scope_pool, (uint64_t)(scope_pool_end - scope_pool), h, im)) {
        uint64_t at = __atomic_fetch_add(&pool_used, size, __ATOMIC_RELAXED);

        if (at + size <= (uint64_t)(scope_pool_end - scope_pool)) {
            if (w->mem < 0 && SYS3(__NR_mprotect, scope_pool + at, size, prot) < 0)
                return 0;
            return (uint64_t)scope_pool + at;
        }
    }
    for (uint64_t d = 1 << 20; d < ARCH_REACH; d += 4 << 20) {
        /* Below first: above a program's image its heap may want to grow. */
        uint64_t hints[2] = {im->text_lo - d - size, im->text_hi + d};

        for (int i = 0; i < 2; i++) {
            uint64_t want = hints[i] & ~(PROBE_PAGE - 1);
            long at;

            if (want < 0x10000 || want > ARCH_USER_END - (1u << 16))
                continue;
            at = SYS6(__NR_mmap, want, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (!sys_failed(at) && reaches((uint64_t)at, size, h, im))
                return (uint64_t)at;
            if (!sys_failed(at))
                SYS2(__NR_munmap, at, size);
        }
    }
    return 0;
}

/* Whether this patch is for this process and stays in the segment. */
static bool patch_wanted(const struct plan_patch *p, const struct plan_header *h, const struct image *im)
{
    uint64_t at = im->bias + p->vaddr;

    return p->len <= PLAN_PATCH_MAX && p->site < h->site_count && at >= im->text_lo && at + p->len <= im->text_hi &&
           (p->when != PLAN_TIMING || probe.timing) &&
           ((p->when != PLAN_TRAFFIC && p->when != PLAN_TRAFFIC_START) || (probe.mode & SEG_M_TRAFFIC)) &&
           (p->when != PLAN_CRASH || (probe.mode & SEG_M_CRASH));
}

/* Whether the text is still what the planner saw. */
static bool patch_fits(const struct plan_patch *p, const struct image *im)
{
    return !memcmp((const void *)(im->bias + p->vaddr), p->old, p->len);
}

static int patch_apply(const struct plan_patch *p, const struct image *im, uint64_t blob, const struct writer *w)
{
    uint8_t bytes[PLAN_PATCH_MAX];

    plan_patch_bytes(p, im->bias, blob, bytes);
    return writer_put(w, im->bias + p->vaddr, bytes, p->len);
}

/* Makes the slots. Their address, or -errno: nothing was changed. */
static int64_t blob_make(const struct plan_header *h, const struct image *im, const struct writer *w)
{
    uint64_t size = ROUND_UP((uint64_t)h->blob_size, PROBE_PAGE), blob = blob_place(h, im, size, w);
    long at, ret;

    if (!blob)
        return -ENOMEM;
    if (w->mem < 0) {
        populate((const void *)blob, size);
        plan_fill_blob(h, (char *)blob, blob, im->bias, scope_info.entry);
        arch_sync_code((const void *)blob, size);
        ret = SYS3(__NR_mprotect, blob, size, PROT_READ | PROT_EXEC);
        return ret < 0 ? ret : (int64_t)blob; /* not: no executable memory for us (SELinux execmem) */
    }
    at = SYS6(__NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys_failed(at))
        return at;
    plan_fill_blob(h, (char *)at, blob, im->bias, scope_info.entry);
    ret = writer_put(w, blob, (const void *)at, h->blob_size);
    SYS2(__NR_munmap, at, size);
    return ret < 0 ? ret : (int64_t)blob;
}

/* A site whose bytes are others than the planner saw stays as it is altogether: one patch of it may lead to another.
 * Noted in our copy of the plan, which is made writable for that. 0 or -errno. */
static int site_refuse(const struct plan_header *h, size_t size, uint32_t site)
{
    long ret = SYS3(__NR_mprotect, h, size, PROT_READ | PROT_WRITE);

    if (ret < 0)
        return (int)ret;
    ((struct plan_site *)(uint64_t)((const char *)h + h->site_off))[site].reason = PLAN_R_CHANGED;
    return 0;
}

/* The pages that patches lie in get memory of their own, neighbours in one go. */
static void patches_populate(const struct plan_header *h, const struct image *im)
{
    const struct plan_patch *patch = (const void *)((const char *)h + h->patch_off);
    uint64_t lo = 0, hi = 0;

    for (uint32_t i = 0; i < h->patch_count; i++) {
        uint64_t at = (im->bias + patch[i].vaddr) & ~(PROBE_PAGE - 1);
        uint64_t end = ROUND_UP(im->bias + patch[i].vaddr + patch[i].len, PROBE_PAGE);

        if (!patch_wanted(&patch[i], h, im))
            continue;
        if (at < lo || at > hi) {
            if (hi > lo)
                populate((const void *)lo, hi - lo);
            lo = at;
            hi = at;
        }
        hi = end > hi ? end : hi;
    }
    if (hi > lo)
        populate((const void *)lo, hi - lo);
}

/* Writes the patches of [lo, hi), unless one doesn't fit: 0 or -errno. */
static int patches_apply(const struct plan_header *h, size_t plan_size, const struct image *im, uint64_t blob,
                         const struct writer *w)
{
    const struct plan_site *site = (const void *)((const char *)h + h->site_off);
    const struct plan_patch *patch = (const void *)((const char *)h + h->patch_off);
    int ret = 0;

    if (w->mem < 0)
        patches_populate(h, im);
    for (uint32_t i = 0; i < h->patch_count && !ret; i++) {
        if (!patch_wanted(&patch[i], h, im))
            continue;
        if (!patch_fits(&patch[i], im))
            ret = site_refuse(h, plan_size, patch[i].site);
    }
    for (uint32_t i = 0; i < h->patch_count && !ret; i++)
        if (patch_wanted(&patch[i], h, im) && !plan_site_refused(&site[patch[i].site]))
            ret = patch_apply(&patch[i], im, blob, w);
    return ret;
}

/* 0, or -errno: nothing was patched. */
static int plan_apply(const struct plan_header *h, size_t plan_size, const struct image *im)
{
    const struct plan_patch *patch = (const void *)((const char *)h + h->patch_off);
    uint64_t lo = (im->bias + h->text_lo) & ~(PROBE_PAGE - 1), hi = ROUND_UP(im->bias + h->text_hi, PROBE_PAGE);
    struct writer w = {.mem = -1};
    bool wanted = false;
    int64_t blob;
    long ret, back;

    for (uint32_t i = 0; i < h->patch_count && !wanted; i++)
        wanted = patch_wanted(&patch[i], h, im);
    if (!wanted)
        return 0;
    lo = lo < (im->text_lo & ~(PROBE_PAGE - 1)) ? im->text_lo & ~(PROBE_PAGE - 1) : lo;
    hi = MIN(hi, ROUND_UP(im->text_hi, PROBE_PAGE));
    if (lo >= hi)
        return 0;
    /* No other thread runs this text yet: the process is starting, or the mapping is new. Keeping the right to
     * execute on the way means that a security module refuses now, if at all, and not when it is to come back. */
    ret = SYS3(__NR_mprotect, lo, hi - lo, PROT_READ | PROT_WRITE | PROT_EXEC | im->landing);
    if (ret < 0) {
        w.mem = own_fd(SYS4(__NR_openat, AT_FDCWD, "/proc/self/mem", O_RDWR | O_CLOEXEC, 0));
        if (w.mem < 0)
            return (int)ret;
    }
    blob = blob_make(h, im, &w);
    back = blob < 0 ? (long)blob : patches_apply(h, plan_size, im, (uint64_t)blob, &w);
    if (w.mem >= 0) {
        own_close(w.mem);
        return back < 0 && back != -ENOMEM ? (int)ret : (int)back; /* why it had to be written so */
    }
    ret = SYS3(__NR_mprotect, lo, hi - lo, PROT_READ | PROT_EXEC | im->landing);
    return back ? (int)back : (int)ret;
}

/* What Go code needs besides a plan: stacks for its hooks, and the thread pointer from the CPU, as Go's own threads
 * keep something else where the ABI has a copy of it. 0 or -errno. */
static int plan_go(const struct plan_header *h)
{
    const struct plan_site *site = (const void *)((const char *)h + h->site_off);
    bool go = false;

    for (uint32_t i = 0; i < h->site_count; i++) {
        if (!(site[i].flags & PLAN_F_GO) || site[i].method == PLAN_NONE)
            continue;
        go = true;
        if (probe_fsgsbase && (site[i].flags & PLAN_F_FUNCTION) && (probe.mode & SEG_M_TRAFFIC))
            go_functions_open();
    }
    return !go ? 0 : probe_fsgsbase ? stacks_open() : -EOPNOTSUPP;
}

static void image_patch(struct segment_header *s, int plans, const struct image *im, int fd, const char *name)
{
    size_t size = 0;
    const struct plan_header *h = plan_get(plans, im->key, fd, name, &size);
    struct record r = {.kind = REC_IMAGE, .time = now(), .arg = {im->bias}};
    struct rec_sites sites;
    struct ring_item items[] = {{ITEM_PATH, (uint32_t)str_len(name, SEG_PATH_MAX), name},
                                {ITEM_SITES, sizeof(sites), &sites}};
    uint32_t patched, left;
    int ret;

    if (!h) {
        ring_note(s, NOTE_IMAGE_NOPLAN, name, 0);
        return;
    }
    ret = plan_go(h);
    if (!ret && h->patch_count)
        ret = plan_apply(h, size, im);
    plan_count_sites(h, !!(probe.mode & SEG_M_TRAFFIC), !!(probe.mode & SEG_M_CRASH),
                     !ret ? PLAN_OK : ret == -EOPNOTSUPP ? PLAN_R_NO_POINTER : PLAN_R_PROTECTED, &sites.sites);
    if (h != &plan_empty)
        SYS2(__NR_munmap, h, size);
    if (ret < 0)
        ring_note(s, ret == -EOPNOTSUPP ? NOTE_IMAGE_GO : NOTE_IMAGE_PATCH, name, (uint64_t)-ret);
    else
        s->images++;
    patched = plan_sites_patched(&sites.sites);
    left = plan_sites_refused(&sites.sites);
    s->sites_patched += patched;
    s->sites_left += left;
    if (!patched && !left)
        return;
    memcpy(sites.key, im->key, sizeof(sites.key));
    ring_write(s, &r, items, 2);
}

/* ---- which images ---- */

static const Elf64_Dyn *dynamic_find(const Elf64_Dyn *d, int64_t tag)
{
    for (; d && d->d_tag; d++)
        if (d->d_tag == tag)
            return d;
    return NULL;
}

/* The bias of the program, by its headers in memory. Not all have a PT_PHDR: musl's loader, started by hand. */
static uint64_t bias_of(const Elf64_Phdr *ph, size_t phnum)
{
    const Elf64_Ehdr *e = (const Elf64_Ehdr *)((uint64_t)ph & ~(PROBE_PAGE - 1));

    for (size_t i = 0; i < phnum; i++)
        if (ph[i].p_type == PT_PHDR)
            return (uint64_t)ph - ph[i].p_vaddr;
    if (memcmp(e->e_ident, ELFMAG, SELFMAG) || e->e_type != ET_DYN)
        return 0;
    for (size_t i = 0; i < phnum; i++)
        if (ph[i].p_type == PT_LOAD && ph[i].p_offset == 0)
            return (uint64_t)e - ph[i].p_vaddr;
    return 0;
}

static struct link_map *link_maps(const Elf64_Phdr *ph, size_t phnum)
{
    uint64_t bias = bias_of(ph, phnum);
    const Elf64_Dyn *dyn = NULL, *debug;
    const struct r_debug *r;

    for (size_t i = 0; i < phnum; i++)
        if (ph[i].p_type == PT_DYNAMIC)
            dyn = (const Elf64_Dyn *)(bias + ph[i].p_vaddr);
    debug = dynamic_find(dyn, DT_DEBUG);
    r = debug ? (const struct r_debug *)debug->d_un.d_ptr : NULL;
    return r ? r->map : NULL;
}

static const char *last_component(const char *path)
{
    const char *base = path;

    for (; *path; path++)
        if (*path == '/')
            base = path + 1;
    return base;
}

HIDDEN const char *images_find_self(const void *phdr, size_t phnum, bool *ret_other)
{
    struct link_map *own = NULL;
    const char *name = "";
    bool sanitizer = false;

    *ret_other = false;
    for (struct link_map *m = link_maps(phdr, phnum); m; m = m->next) {
        const char *base = m->name ? last_component(m->name) : "";

        if (m->ld == _DYNAMIC && m->name) {
            own = m;
            name = m->name;
        } else {
            sanitizer |= str_after(base, "libasan.so") || str_after(base, "libclang_rt.asan");
            *ret_other |= !own && str_eq(base, "libscope.so");
        }
    }
    /* AddressSanitizer ends the program when the first library that it finds isn't itself; it passes over those
     * without a name. */
    if (own && sanitizer)
        own->name = "";
    return name;
}

/* Whether what a header describes is part of what was mapped. */
static bool is_loaded(const Elf64_Phdr *h, const Elf64_Phdr *ph, size_t phnum)
{
    for (size_t i = 0; i < phnum; i++)
        if (ph[i].p_type == PT_LOAD && h->p_vaddr >= ph[i].p_vaddr && h->p_memsz <= ph[i].p_filesz &&
            h->p_vaddr - ph[i].p_vaddr <= ph[i].p_filesz - h->p_memsz)
            return true;
    return false;
}

/* ---- how text is protected ---- */

HOT_DATA static bool landing_checked; /* by this CPU and kernel */

/* Of images that are marked, the kernel protects the one that it starts: the loader, or a static program. All others are
 * the loader's to protect, which only newer ones do. */
HOT_DATA static enum { LOADER_UNKNOWN, LOADER_PROTECTS, LOADER_DOES_NOT } loader_habit;

HIDDEN void images_landing(uint64_t hwcap2)
{
    if (arch_checks_landing(hwcap2))
        landing_checked = true;
}

static uint64_t take_hex(const char **s)
{
    uint64_t v = 0;

    for (;; (*s)++) {
        if (**s >= '0' && **s <= '9')
            v = v << 4 | (uint64_t)(**s - '0');
        else if (**s >= 'a' && **s <= 'f')
            v = v << 4 | (uint64_t)(**s - 'a' + 10);
        else
            return v;
    }
}

/* Whether the mapping at this address has a flag in /proc/self/smaps, which says what no system call does (proc_pid_smaps(5)).
 * `unknown`, where there is no such file. */
static bool mapping_has(uint64_t at, const char *flag, bool unknown)
{
    char buf[512], line[192];
    size_t len = 0;
    bool inside = false, found = unknown, more = true;
    long fd = own_fd(SYS4(__NR_openat, AT_FDCWD, "/proc/self/smaps", O_RDONLY | O_CLOEXEC, 0)), n;

    if (fd < 0)
        return unknown;
    while (more && (n = SYS3(__NR_read, fd, buf, sizeof(buf))) > 0)
        for (long i = 0; i < n && more; i++) {
            const char *s = line;

            if (buf[i] != '\n') {
                if (len < sizeof(line) - 1)
                    line[len++] = buf[i];
                continue;
            }
            line[len] = 0;
            len = 0;
            if (inside && (s = str_after(line, "VmFlags:"))) {
                found = str_contains(s, flag);
                more = false;
            } else if (line[0] < 'A' || line[0] > 'Z') { /* "from-to ..." */
                s = line;
                inside = take_hex(&s) <= at && *s++ == '-' && take_hex(&s) > at;
            }
        }
    own_close((int)fd);
    return found;
}

/* ARCH_PROT_LANDING, or 0: of an image that the kernel has mapped to start it, or that a loader has mapped. */
static long landing_of(uint64_t text, bool marked, bool by_kernel)
{
    if (!landing_checked || !marked)
        return 0;
    if (by_kernel)
        return ARCH_PROT_LANDING;
    if (loader_habit == LOADER_UNKNOWN)
        loader_habit = mapping_has(text, " bt", true) ? LOADER_PROTECTS : LOADER_DOES_NOT;
    return loader_habit == LOADER_PROTECTS ? ARCH_PROT_LANDING : 0;
}

/* Who has mapped an image. */
enum mapper { BY_LOADER, BY_KERNEL, NOT_YET /* the loader will protect it */ };

/* Fills im from the headers of a mapped image. */
static bool image_from_headers(struct image *im, uint64_t bias, const Elf64_Phdr *ph, size_t phnum, const char *name,
                               enum mapper mapper)
{
    bool keyed = false, marked = false;

    im->bias = bias;
    im->text_lo = im->text_hi = 0;
    for (size_t i = 0; i < phnum; i++) {
        if (ph[i].p_type == PT_LOAD && (ph[i].p_flags & PF_X)) {
            uint64_t lo = bias + ph[i].p_vaddr;

            if ((ph[i].p_flags & PF_W)) /* self-modifying or old: not ours to touch */
                return false;
            if (!im->text_hi)
                im->text_lo = lo;
            im->text_hi = lo + ph[i].p_filesz;
        }
        if (ph[i].p_type == PT_NOTE && !keyed && is_loaded(&ph[i], ph, phnum))
            keyed = note_build_id((const char *)(bias + ph[i].p_vaddr), ph[i].p_memsz, im->key);
        if (ARCH_PROT_LANDING && ph[i].p_type == PT_GNU_PROPERTY && is_loaded(&ph[i], ph, phnum))
            marked = note_has_landing((const char *)(bias + ph[i].p_vaddr), ph[i].p_memsz);
    }
    if (!im->text_hi)
        return false;
    im->landing = mapper == NOT_YET ? 0 : landing_of(im->text_lo, marked, mapper == BY_KERNEL);
    return keyed || key_of_file(AT_FDCWD, name, 0, im->key);
}

HIDDEN void images_loaded(struct segment_header *s, const void *phdr, size_t phnum, uint64_t vdso, uint64_t base)
{
    const Elf64_Phdr *exe = phdr;
    int plans = plans_open();
    bool first = true;

    for (struct link_map *m = link_maps(exe, phnum); m; m = m->next, first = false) {
        const Elf64_Ehdr *e = (const Elf64_Ehdr *)m->addr;
        const char *name = m->name && m->name[0] ? m->name : exe_link;
        struct image im;

        if (m->ld == _DYNAMIC || (vdso && m->addr == vdso))
            continue;
        if (first) {
            if (image_from_headers(&im, m->addr, exe, phnum, exe_link, BY_LOADER))
                image_patch(s, plans, &im, -1, exe_link);
            continue;
        }
        if (!e || memcmp(e->e_ident, ELFMAG, SELFMAG) || e->e_phentsize != sizeof(Elf64_Phdr))
            continue;
        if (image_from_headers(&im, m->addr, (const Elf64_Phdr *)(m->addr + e->e_phoff), e->e_phnum, name,
                               base && m->addr == base ? BY_KERNEL : BY_LOADER))
            image_patch(s, plans, &im, -1, name);
    }
    if (plans >= 0)
        own_close(plans);
}

/* The loader as the program's headers name it. */
static const char *interpreter_of(const Elf64_Phdr *ph, size_t phnum, uint64_t bias)
{
    for (size_t i = 0; i < phnum; i++)
        if (ph[i].p_type == PT_INTERP && is_loaded(&ph[i], ph, phnum))
            return (const char *)(bias + ph[i].p_vaddr);
    return "";
}

HIDDEN void images_alone(struct segment_header *s, const void *phdr, size_t phnum, uint64_t bias, uint64_t base, const char *file)
{
    const Elf64_Ehdr *e = (const Elf64_Ehdr *)base;
    struct image im;
    int plans = plans_open();

    if (s->exe[0] || !file)
        file = exe_link;
    if (image_from_headers(&im, bias, phdr, phnum, file, base ? NOT_YET : BY_KERNEL))
        image_patch(s, plans, &im, -1, exe_link);
    else
        ring_note(s, NOTE_IMAGE_NOPLAN, file, 0);
    if (base) {
        const char *name = interpreter_of(phdr, phnum, bias);

        if (!memcmp(e->e_ident, ELFMAG, SELFMAG) && e->e_phentsize == sizeof(Elf64_Phdr) &&
            image_from_headers(&im, base, (const Elf64_Phdr *)(base + e->e_phoff), e->e_phnum, name, BY_KERNEL))
            image_patch(s, plans, &im, -1, name);
        else
            ring_note(s, NOTE_IMAGE_NOPLAN, name, 0);
    }
    if (plans >= 0)
        own_close(plans);
    if (!base && s->images && !s->sites_patched)
        ring_note(s, NOTE_IMAGE_NO_SITE, file, 0);
}

HIDDEN void image_mapped(struct segment_header *s, uint64_t addr, size_t len, int prot, int fd, uint64_t offset)
{
    struct image im = {.landing = prot & ARCH_PROT_LANDING};
    Elf64_Ehdr e;
    Elf64_Phdr ph[PHDRS];
    char note[512], link[32], name[512];
    bool keyed = false, found = false;
    int plans;
    long n;

    if (probe.sandboxed)
        return;
    if (SYS4(__NR_pread64, fd, &e, sizeof(e), 0) != (long)sizeof(e) || memcmp(e.e_ident, ELFMAG, SELFMAG) ||
        e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_phentsize != sizeof(Elf64_Phdr) || !e.e_phnum || e.e_phnum > PHDRS)
        return;
    n = (long)(e.e_phnum * sizeof(Elf64_Phdr));
    if (SYS4(__NR_pread64, fd, ph, n, e.e_phoff) != n)
        return;
    for (unsigned i = 0; i < e.e_phnum; i++) {
        uint64_t start = ph[i].p_offset & ~(PROBE_PAGE - 1);

        if (ph[i].p_type == PT_LOAD && (ph[i].p_flags & PF_X) && !(ph[i].p_flags & PF_W) && start == offset) {
            im.bias = addr - (ph[i].p_vaddr - (ph[i].p_offset - offset));
            im.text_lo = im.bias + ph[i].p_vaddr;
            im.text_hi = MIN(im.text_lo + ph[i].p_filesz, addr + len);
            found = true;
        }
        if (ph[i].p_type == PT_NOTE && !keyed) {
            n = SYS4(__NR_pread64, fd, note, MIN(ph[i].p_filesz, sizeof(note)), ph[i].p_offset);
            keyed = n > 0 && note_build_id(note, (size_t)n, im.key);
        }
    }
    if (!found || (!keyed && !key_of_file(fd, "", AT_EMPTY_PATH, im.key)))
        return;
    n = (long)str_add(link, 0, sizeof(link), "/proc/self/fd/");
    {
        char digits[12];
        unsigned v = (unsigned)fd, i = sizeof(digits);

        digits[--i] = 0;
        do
            digits[--i] = (char)('0' + v % 10);
        while (v /= 10);
        str_add(link, (size_t)n, sizeof(link), digits + i);
    }
    n = SYS4(__NR_readlinkat, AT_FDCWD, link, name, sizeof(name) - 1);
    name[n > 0 ? n : 0] = 0;
    plans = plans_open();
    image_patch(s, plans, &im, fd, name);
    if (plans >= 0)
        own_close(plans);
}
