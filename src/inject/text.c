/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/text.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "plan/plan.h"

#define PAGE ARCH_PAGE
#define PHDR_MAX 128
#define CHUNK 65536u

static const struct plan_patch *patches(const struct plan_header *h)
{
    return (const struct plan_patch *)(const void *)((const char *)h + h->patch_off);
}

static const struct plan_site *sites(const struct plan_header *h)
{
    return (const struct plan_site *)(const void *)((const char *)h + h->site_off);
}

/* --- reading --- */

static bool pread_all(int fd, void *to, size_t len, uint64_t offset)
{
    return offset <= INT64_MAX && pread(fd, to, len, (off_t)offset) == (ssize_t)len;
}

/* Where the mapping lies in its image: false if it is no text of an ELF image. */
static bool locate(int fd, const struct process_map *m, struct text *t)
{
    Elf64_Phdr ph[PHDR_MAX];
    Elf64_Ehdr eh;

    if (!pread_all(fd, &eh, sizeof(eh), 0) || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 ||
        eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_phentsize != sizeof(*ph) || eh.e_phnum > PHDR_MAX ||
        !pread_all(fd, ph, eh.e_phnum * sizeof(*ph), eh.e_phoff))
        return false;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        const Elf64_Phdr *p = &ph[i];
        uint64_t start = p->p_offset & ~(PAGE - 1);

        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X) || (p->p_flags & PF_W) || m->offset < start ||
            m->offset >= p->p_offset + p->p_filesz)
            continue;
        t->bias = m->lo - m->offset + p->p_offset - p->p_vaddr;
        t->text_lo = t->bias + p->p_vaddr > m->lo ? t->bias + p->p_vaddr : m->lo;
        t->text_hi = t->bias + p->p_vaddr + p->p_filesz < m->hi ? t->bias + p->p_vaddr + p->p_filesz : m->hi;
        return t->text_lo < t->text_hi;
    }
    return false;
}

static int key_of(int fd, char key[PLAN_KEY_MAX])
{
    struct stat st;
    void *map;
    int rc;

    if (fstat(fd, &st) < 0)
        return -errno;
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    rc = plan_key(map, (size_t)st.st_size, &st, key);
    munmap(map, (size_t)st.st_size);
    return rc;
}

/* The image's plan, read into memory: what is applied is what was checked. */
static int get_plan(int fd, const char *plan_dir, bool trusted, struct text *t)
{
    char key[PLAN_KEY_MAX];
    struct stat st;
    size_t size;
    int plan, rc = key_of(fd, key);

    if (rc < 0)
        return rc;
    plan = plan_cache_open(plan_dir, key);
    if (plan < 0)
        plan = plan_cache_get(trusted ? plan_dir : NULL, fd, key);
    if (plan < 0)
        return plan;
    rc = -EINVAL;
    if (fstat(plan, &st) == 0 && st.st_size > 0) {
        size = (size_t)st.st_size;
        t->plan = xmalloc(size);
        if (pread_all(plan, t->plan, size, 0) && plan_check(t->plan, size) && t->plan->sum == plan_sum(t->plan, size) &&
            t->plan->table_hash == syscall_table_hash())
            rc = 0;
    }
    close(plan);
    return rc;
}

static void text_free(struct text *t)
{
    free(t->name);
    free(t->plan);
    free(t->filled);
    free(t->applied);
    if (t->fd >= 0)
        close(t->fd);
}

static void mark_wanted(struct text *t, unsigned when)
{
    const struct plan_patch *p = patches(t->plan);

    t->applied = xcalloc(t->plan->patch_count + 1, 1);
    for (uint32_t i = 0; i < t->plan->patch_count; i++) {
        uint64_t at = t->bias + p[i].vaddr;

        t->applied[i] = p[i].len <= PLAN_PATCH_MAX && at >= t->text_lo && at + p[i].len <= t->text_hi &&
                        p[i].site < t->plan->site_count && p[i].when < 32 && (when & TEXTS_WHEN(p[i].when));
    }
}

static bool has_go(const struct plan_header *h)
{
    for (uint32_t i = 0; i < h->site_count; i++)
        if ((sites(h)[i].flags & PLAN_F_GO) && sites(h)[i].method != PLAN_NONE)
            return true;
    return false;
}

static bool is_library(const char *name)
{
    const char *slash = strrchr(name, '/');

    return slash && strncmp(slash, "/libscope.so", strlen("/libscope.so")) == 0;
}

void texts_read(pid_t pid, const struct process_maps *m, const char *plan_dir, bool trusted, unsigned when,
                struct texts *ret)
{
    *ret = (struct texts){0};
    for (size_t i = 0; i < m->count; i++) {
        const struct process_map *v = &m->v[i];
        struct text t = {.lo = v->lo, .hi = v->hi, .offset = v->offset, .fd = -1};
        int rc;

        if (!v->execute || v->write || v->shared || !v->inode || *v->name != '/' || is_library(v->name))
            continue;
        t.fd = process_open_map(pid, v);
        if (t.fd < 0) { /* replaced since it was loaded */
            ret->unknown++;
            continue;
        }
        t.name = xstrdup(v->name);
        if (!locate(t.fd, v, &t)) {
            text_free(&t);
            continue;
        }
        rc = get_plan(t.fd, plan_dir, trusted, &t);
        if (rc < 0 || !t.plan) {
            text_free(&t);
            ret->unknown++;
            continue;
        }
        mark_wanted(&t, when | TEXTS_WHEN(PLAN_ALWAYS));
        ret->go |= has_go(t.plan);
        ret->v = xrealloc(ret->v, ret->count + 1, sizeof(t));
        ret->v[ret->count++] = t;
    }
}

void texts_free(struct texts *t)
{
    for (size_t i = 0; i < t->count; i++)
        text_free(&t->v[i]);
    free(t->v);
    *t = (struct texts){0};
}

int texts_check(pid_t pid, struct texts *t)
{
    for (size_t k = 0; k < t->count; k++) {
        const struct text *x = &t->v[k];
        const struct plan_patch *p = patches(x->plan);
        uint8_t now[PLAN_PATCH_MAX];

        for (uint32_t i = 0; i < x->plan->patch_count; i++) {
            int rc = x->applied[i] ? process_read(pid, x->bias + p[i].vaddr, now, p[i].len) : 0;

            if (rc < 0)
                return rc;
            if (x->applied[i] && memcmp(now, p[i].old, p[i].len) != 0)
                text_skip_site(&t->v[k], i, PLAN_R_CHANGED);
        }
    }
    return 0;
}

int texts_find_applied(pid_t pid, struct texts *t)
{
    for (size_t k = 0; k < t->count; k++) {
        struct text *x = &t->v[k];
        const struct plan_patch *p = patches(x->plan);
        uint8_t now[PLAN_PATCH_MAX], ours[PLAN_PATCH_MAX];
        int rc;

        x->blob = 0;
        for (unsigned pass = 0; pass < 2; pass++) /* the blob's address first, from any patch that leads there */
            for (uint32_t i = 0; i < x->plan->patch_count; i++) {
                uint32_t target = plan_patch_target(x->plan, &p[i]);
                uint64_t at = x->bias + p[i].vaddr;

                if (p[i].len > PLAN_PATCH_MAX || at < x->text_lo || at + p[i].len > x->text_hi ||
                    (pass == 0 && x->blob) || (pass == 0 && target >= x->plan->blob_size))
                    continue;
                rc = process_read(pid, at, now, p[i].len);
                if (rc < 0)
                    return rc;
                if (pass == 0) {
                    uint64_t blob = plan_rel_target(p[i].rel, now + p[i].rel_at, at + p[i].rel_at) - target;

                    plan_patch_bytes(&p[i], x->bias, blob, ours);
                    if (memcmp(now, p[i].old, p[i].len) != 0 && memcmp(now, ours, p[i].len) == 0)
                        x->blob = blob;
                    continue;
                }
                plan_patch_bytes(&p[i], x->bias, x->blob, ours);
                x->applied[i] = x->blob && memcmp(now, ours, p[i].len) == 0;
            }
        free(x->filled);
        x->filled = NULL;
        if (!x->blob)
            continue;
        x->filled = xmalloc(x->plan->blob_size + 1);
        if (process_read(pid, x->blob, x->filled, x->plan->blob_size) < 0) { /* somebody else's jump led elsewhere */
            memset(x->applied, 0, x->plan->patch_count);
            x->blob = 0;
        }
    }
    return 0;
}

/* --- where threads stand --- */

/* Where the moved call of a patch ends, in the text and in its slot; false if the call stays where it is. A thread that
 * waits in it is ARCH_SYSCALL_SIZE - ARCH_WAITS_BEHIND before that. */
static bool moved_call(const struct text *t, const struct plan_patch *p, uint64_t *ret_text, uint64_t *ret_slot)
{
    const struct plan_site *s = &sites(t->plan)[p->site];
    uint32_t slot = plan_patch_target(t->plan, p) & ~(PLAN_SLOT - 1);

    if ((s->method != PLAN_MOVE && s->method != PLAN_SPAN) || !slot || slot >= t->plan->blob_size || !t->filled)
        return false;
    *ret_text = t->bias + s->vaddr + ARCH_SYSCALL_SIZE;
    *ret_slot = arch_moved_end(t->filled, t->plan->blob_size, t->blob, slot);
    return *ret_slot != 0;
}

enum text_place texts_before(const struct texts *t, uint64_t pc, uint64_t *ret_to, struct text **ret_text,
                             uint32_t *ret_patch)
{
    for (size_t k = 0; k < t->count; k++) {
        struct text *x = &t->v[k];
        const struct plan_patch *p = patches(x->plan);

        if (pc < x->text_lo || pc >= x->text_hi)
            continue;
        for (uint32_t i = 0; i < x->plan->patch_count; i++) {
            uint64_t at = x->bias + p[i].vaddr, text, slot;

            /* Behind the last byte, too, if that is the call's: the kernel may let it begin again. */
            if (!x->applied[i] || pc <= at || pc > at + p[i].len)
                continue;
            if (ARCH_WAITS_BEHIND && moved_call(x, &p[i], &text, &slot) &&
                (pc == text || pc == text - ARCH_SYSCALL_SIZE)) {
                *ret_to = slot - (text - pc);
                return TEXT_MOVES;
            }
            if (pc == at + p[i].len)
                continue;
            *ret_text = x;
            *ret_patch = i;
            return TEXT_INSIDE;
        }
    }
    return TEXT_ELSEWHERE;
}

enum text_place texts_after(const struct texts *t, uint64_t pc, uint64_t *ret_to)
{
    for (size_t k = 0; k < t->count; k++) {
        const struct text *x = &t->v[k];
        const struct plan_patch *p = patches(x->plan);

        if (!x->blob || pc < x->blob || pc >= x->blob + x->plan->blob_size)
            continue;
        for (uint32_t i = 0; i < x->plan->patch_count; i++) {
            uint64_t text, slot;

            if (x->applied[i] && moved_call(x, &p[i], &text, &slot) && (pc == slot || pc == slot - ARCH_SYSCALL_SIZE)) {
                *ret_to = text - (slot - pc);
                return TEXT_MOVES;
            }
        }
        return TEXT_INSIDE;
    }
    return TEXT_ELSEWHERE;
}

bool texts_argument(const struct texts *t, uint64_t pc, unsigned *ret_register, bool *ret_over)
{
    for (size_t k = 0; k < t->count; k++) {
        const struct text *x = &t->v[k];
        const struct plan_patch *p = patches(x->plan);

        if (pc < x->text_lo || pc > x->text_hi || !x->filled)
            continue;
        for (uint32_t i = 0; i < x->plan->patch_count; i++) {
            uint64_t end = x->bias + p[i].vaddr;
            uint32_t slot = plan_patch_target(x->plan, &p[i]) & ~(PLAN_SLOT - 1);
            int n;

            if (!x->applied[i] || (pc != end && pc != end - ARCH_SYSCALL_SIZE) || !slot || slot >= x->plan->blob_size ||
                end - x->bias != sites(x->plan)[p[i].site].vaddr + ARCH_SYSCALL_SIZE)
                continue;
            n = arch_hook_register((const struct plan_slot *)(const void *)(x->filled + slot));
            if (n < 0)
                continue;
            *ret_register = (unsigned)n;
            *ret_over = pc == end;
            return true;
        }
    }
    return false;
}

void text_skip_site(struct text *t, uint32_t patch, enum plan_reason why)
{
    const struct plan_patch *p = patches(t->plan);

    ((struct plan_site *)(void *)((char *)t->plan + t->plan->site_off))[p[patch].site].reason = (uint8_t)why;

    for (uint32_t i = 0; i < t->plan->patch_count; i++)
        if (p[i].site == p[patch].site)
            t->applied[i] = 0;
}

bool text_blob_range(const struct text *t, uint64_t *ret_lo, uint64_t *ret_hi)
{
    const struct plan_patch *p = patches(t->plan);
    bool any = false;

    *ret_lo = 0;
    *ret_hi = UINT64_MAX;
    for (uint32_t i = 0; i < t->plan->patch_count; i++) {
        /* The jump counts from its end. */
        uint64_t from = t->bias + p[i].vaddr + p[i].rel_at + 4 - plan_patch_target(t->plan, &p[i]);
        uint64_t lo = from + ((uint64_t)PLAN_POP << 24), hi = lo + (1u << 24);

        if (!t->applied[i] || p[i].rel != PLAN_REL_32_POP)
            continue;
        any = true;
        *ret_lo = lo > *ret_lo ? lo : *ret_lo;
        *ret_hi = hi < *ret_hi ? hi : *ret_hi;
    }
    return any && *ret_lo < *ret_hi;
}

void text_skip_unsafe(struct text *t)
{
    const struct plan_patch *p = patches(t->plan);
    uint8_t bytes[PLAN_PATCH_MAX];

    for (uint32_t i = 0; i < t->plan->patch_count; i++) {
        bool unsafe = p[i].when == PLAN_TRAFFIC_START;

        if (!t->applied[i])
            continue;
        if (p[i].rel == PLAN_REL_32_POP) {
            plan_patch_bytes(&p[i], t->bias, t->blob, bytes);
            unsafe |= bytes[p[i].len - 1] != PLAN_POP || p[i].old[p[i].len - 1] != PLAN_POP;
        }
        if (unsafe)
            text_skip_site(t, i, PLAN_R_RUNNING);
    }
}

void text_skip_all(struct text *t, enum plan_reason why)
{
    for (uint32_t i = 0; i < t->plan->patch_count; i++)
        if (t->applied[i])
            text_skip_site(t, i, why);
}

/* --- writing --- */

int texts_write(const struct texts *t, int mem, bool undo)
{
    for (unsigned pass = 0; pass < 2; pass++)
        for (size_t k = 0; k < t->count; k++) {
            const struct text *x = &t->v[k];
            const struct plan_patch *p = patches(x->plan);

            for (uint32_t i = 0; i < x->plan->patch_count; i++) {
                bool leads =
                    p[i].rel_at <= PLAN_PATCH_MAX - 4; /* to a slot; else to another patch, with a short jump */
                uint8_t bytes[PLAN_PATCH_MAX];

                if (!x->applied[i] || leads != (pass == (undo ? 1 : 0)))
                    continue;
                if (undo)
                    memcpy(bytes, p[i].old, sizeof(bytes));
                else
                    plan_patch_bytes(&p[i], x->bias, x->blob, bytes);
                if (pwrite(mem, bytes, p[i].len, (off_t)(x->bias + p[i].vaddr)) != (ssize_t)p[i].len)
                    return errno ? -errno : -EIO;
            }
            trace_fault_point();
        }
    return 0;
}

/* Puts old bytes into a piece of memory, [at, at + n), where a patch is in place. */
static void without_patches(const struct text *x, uint64_t at, size_t n, char *memory)
{
    const struct plan_patch *p = patches(x->plan);

    for (uint32_t i = 0; i < x->plan->patch_count; i++)
        for (unsigned k = 0; x->applied[i] && k < p[i].len; k++)
            if (x->bias + p[i].vaddr + k - at < n)
                memory[x->bias + p[i].vaddr + k - at] = (char)p[i].old[k];
}

int texts_compare(pid_t pid, const struct texts *t, bool patched, uint64_t *ret_bytes, uint64_t *ret_differ)
{
    char *file = xmalloc(CHUNK), *memory = xmalloc(CHUNK);
    int rc = 0;

    *ret_bytes = *ret_differ = 0;
    for (size_t k = 0; k < t->count && rc == 0; k++) {
        const struct text *x = &t->v[k];

        for (uint64_t at = x->text_lo; at < x->text_hi && rc == 0;) {
            size_t n = x->text_hi - at < CHUNK ? (size_t)(x->text_hi - at) : CHUNK;

            rc = process_read(pid, at, memory, n);
            if (rc == 0 && !pread_all(x->fd, file, n, x->offset + (at - x->lo)))
                rc = -EIO;
            if (rc == 0 && patched)
                without_patches(x, at, n, memory);
            if (rc == 0 && memcmp(file, memory, n) != 0)
                for (size_t i = 0; i < n; i++)
                    *ret_differ += file[i] != memory[i];
            *ret_bytes += n;
            at += n;
        }
    }
    free(file);
    free(memory);
    return rc;
}
