/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/x86_64/code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* How far around a syscall jumps are remembered with their sources. */
#define NEAR_BEFORE 1024
#define NEAR_AFTER 64
/* Jump tables of one image may have so many entries together; only a file made to waste time has more. */
#define MAX_TABLE_ENTRIES (64u << 20)

static const uint8_t syscall_bytes[2] = {0x0f, 0x05};

static int range_of(const struct code *c, uint64_t vaddr)
{
    for (unsigned i = 0; i < c->elf->text_count; i++)
        if (vaddr - c->elf->text[i].vaddr < c->elf->text[i].size)
            return (int)i;
    return -1;
}

uint8_t *code_marks(const struct code *c, uint64_t vaddr)
{
    int i = range_of(c, vaddr);

    return i < 0 ? NULL : c->marks[i] + (vaddr - c->elf->text[i].vaddr);
}

const uint8_t *code_bytes(const struct code *c, uint64_t vaddr, size_t *left)
{
    int i = range_of(c, vaddr);

    if (i < 0)
        return NULL;
    *left = c->elf->text[i].size - (vaddr - c->elf->text[i].vaddr);
    return c->elf->text[i].bytes + (vaddr - c->elf->text[i].vaddr);
}

unsigned code_decode(const struct code *c, uint64_t vaddr, struct x86_instr *in)
{
    size_t left;
    const uint8_t *p = code_bytes(c, vaddr, &left);

    return p ? x86_decode(p, left, in) : 0;
}

uint64_t code_prev(const struct code *c, uint64_t vaddr, struct x86_instr *in)
{
    int i = range_of(c, vaddr - 1);
    uint64_t base;

    if (i < 0)
        return 0;
    base = c->elf->text[i].vaddr;
    for (unsigned k = 1; k <= X86_INSN_MAX && k <= vaddr - base; k++) {
        uint64_t off = vaddr - base - k;

        if (!(c->marks[i][off] & CODE_START))
            continue;
        if (x86_decode(c->elf->text[i].bytes + off, c->elf->text[i].size - off, in) != k)
            return 0;
        return vaddr - k;
    }
    return 0;
}

const struct code_edge *code_edges_to(const struct code *c, uint64_t vaddr)
{
    size_t lo = 0, hi = c->edge_count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (c->edges[mid].target < vaddr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < c->edge_count && c->edges[lo].target == vaddr ? &c->edges[lo] : NULL;
}

static int compare_edges(const void *a, const void *b)
{
    const struct code_edge *x = a, *y = b;

    if (x->target != y->target)
        return x->target < y->target ? -1 : 1;
    return x->source < y->source ? -1 : x->source > y->source;
}

static void mark(struct code *c, uint64_t vaddr, unsigned marks)
{
    uint8_t *m = code_marks(c, vaddr);

    if (m)
        *m |= (uint8_t)marks;
}

static void mark_near(struct code *c)
{
    for (unsigned i = 0; i < c->elf->text_count; i++) {
        const struct elf_range *t = &c->elf->text[i];
        uint64_t done = 0, off = 0;
        const uint8_t *p;

        while ((p = memmem(t->bytes + off, t->size - off, syscall_bytes, sizeof(syscall_bytes)))) {
            uint64_t at = (uint64_t)(p - t->bytes), end = at + NEAR_AFTER < t->size ? at + NEAR_AFTER : t->size;

            for (uint64_t k = at > done + NEAR_BEFORE ? at - NEAR_BEFORE : done; k < end; k++)
                c->marks[i][k] |= CODE_NEAR;
            done = end > done ? end : done;
            off = at + 2;
        }
    }
}

struct sweep {
    struct code *c;
    struct elf_addresses leas; /* rip-relative addresses taken */
    const struct elf_range *t; /* the range being swept */
    uint8_t *marks;
};

static void branch(struct sweep *s, uint64_t vaddr, const struct x86_instr *in)
{
    struct code *c = s->c;
    uint64_t target = x86_rel_target(vaddr, in);
    uint8_t *m = target - s->t->vaddr < s->t->size ? s->marks + (target - s->t->vaddr) : code_marks(c, target);

    if (!m)
        return;
    *m |= in->kind == X86_CALL || in->kind == X86_XBEGIN ? CODE_ENTRY : CODE_TARGET;
    if (!(*m & CODE_NEAR))
        return;
    if (c->edge_count == c->edge_cap) {
        c->edge_cap = c->edge_cap ? c->edge_cap * 2 : 1024;
        c->edges = xrealloc(c->edges, c->edge_cap, sizeof(*c->edges));
    }
    c->edges[c->edge_count++] = (struct code_edge){target, vaddr};
}

/* glibc and musl start the unwind information of their signal return trampolines one byte early, inside the
 * padding, because unwinders look up pc - 1. */
static int early_fde(const struct code *c, uint64_t boundary, uint64_t next)
{
    return next == boundary + 1 && eh_function_at(&c->eh, boundary) &&
           eh_function_at(&c->eh, boundary)->start == boundary;
}

static void sweep_range(struct sweep *s)
{
    struct code *c = s->c;
    const struct elf_range *t = s->t;
    size_t next = 0;
    uint64_t off = 0;

    while (next < c->functions.count && c->functions.v[next] < t->vaddr)
        next++;
    while (off < t->size) {
        struct x86_instr in;
        uint64_t boundary, v = t->vaddr + off;
        unsigned len = x86_decode(t->bytes + off, t->size - off, &in);

        while (next < c->functions.count && c->functions.v[next] <= v)
            next++;
        if (!len) {
            s->marks[off++] |= CODE_BAD;
            c->bad_bytes++;
            continue;
        }
        boundary = next < c->functions.count ? c->functions.v[next] : UINT64_MAX;
        if (v + len > boundary && !early_fde(c, boundary, v + len)) {
            /* The bytes before a function are data that looked like an instruction. */
            for (; v < boundary; v++) {
                s->marks[off++] |= CODE_BAD;
                c->bad_bytes++;
            }
            continue;
        }
        s->marks[off] |= CODE_START;
        if (in.rel_size)
            branch(s, v, &in);
        else if (in.rip_at && in.map == 0 && in.opcode == 0x8d)
            elf_addresses_add(&s->leas, v + len + (uint64_t)(int64_t)in.rel);
        else if (c->elf->position_dependent && in.imm_size >= 4 && in.map == 0) {
            uint64_t imm = 0;

            memcpy(&imm, t->bytes + off + in.imm_at, in.imm_size);
            mark(c, imm, CODE_ENTRY);
        }
        off += len;
    }
}

/* An address that code takes is a function, a label, or a table of 4-byte distances from itself to labels
 * (switch statements of position-independent code). */
static void mark_address_taken(struct code *c, uint64_t address, uint64_t *entries)
{
    uint8_t *m = code_marks(c, address);

    if (m && (*m & CODE_START)) {
        *m |= CODE_ENTRY;
        return;
    }
    for (uint64_t entry = address;; entry += 4) {
        const uint8_t *p = elf_at(c->elf, entry, 4, NULL);
        int32_t distance;

        if (!p)
            return;
        memcpy(&distance, p, sizeof(distance));
        m = code_marks(c, address + (uint64_t)(int64_t)distance);
        if (!m || !(*m & CODE_START) || ++*entries > MAX_TABLE_ENTRIES)
            return;
        *m |= CODE_ENTRY;
    }
}

int code_sweep(const struct elf_image *elf, struct code *c)
{
    struct elf_addresses more = {0};
    struct elf_rseq rseq[64];
    struct sweep s = {.c = c};
    uint64_t entries = 0;
    size_t rseq_count;
    int r;

    memset(c, 0, sizeof(*c));
    c->elf = elf;
    for (unsigned i = 0; i < elf->text_count; i++) {
        c->marks[i] = calloc(elf->text[i].size, 1);
        if (!c->marks[i]) {
            code_free(c);
            return -ENOMEM;
        }
    }
    r = eh_read(elf, &c->eh);
    if (r < 0) {
        code_free(c);
        return r;
    }
    c->go = go_read(elf, &c->functions);
    elf_functions(elf, 0, &c->functions);
    for (size_t i = 0; i < c->eh.count; i++)
        elf_addresses_add(&c->functions, c->eh.v[i].start);
    elf_addresses_sort(&c->functions);
    mark_near(c);
    for (unsigned i = 0; i < elf->text_count; i++) {
        s.t = &elf->text[i];
        s.marks = c->marks[i];
        sweep_range(&s);
    }
    elf_addresses_sort(&s.leas);
    for (size_t i = 0; i < s.leas.count; i++)
        mark_address_taken(c, s.leas.v[i], &entries);
    elf_addresses_free(&s.leas);
    if (entries > MAX_TABLE_ENTRIES) {
        code_free(c);
        return -EFBIG;
    }
    elf_functions(elf, 1, &more);
    r = elf_address_constants(elf, &more);
    if (r < 0) {
        elf_addresses_free(&more);
        code_free(c);
        return r;
    }
    for (size_t i = 0; i < more.count; i++)
        mark(c, more.v[i], CODE_ENTRY);
    elf_addresses_free(&more);
    for (size_t i = 0; i < c->functions.count; i++)
        mark(c, c->functions.v[i], CODE_ENTRY);
    for (size_t i = 0; i < c->eh.landing_pads.count; i++)
        mark(c, c->eh.landing_pads.v[i], CODE_ENTRY);
    rseq_count = elf_rseq(elf, rseq, sizeof(rseq) / sizeof(rseq[0]));
    for (size_t i = 0; i < rseq_count; i++) {
        for (uint64_t k = 0; k <= rseq[i].size && k < 4096; k++)
            mark(c, rseq[i].start + k, CODE_FIXED);
        mark(c, rseq[i].start, CODE_ENTRY);
        mark(c, rseq[i].abort, CODE_ENTRY);
        for (uint64_t k = 1; k <= 4; k++) /* the signature before the abort handler */
            mark(c, rseq[i].abort - k, CODE_FIXED);
    }
    if (c->edge_count)
        qsort(c->edges, c->edge_count, sizeof(*c->edges), compare_edges);
    return 0;
}

void code_free(struct code *c)
{
    for (unsigned i = 0; i < ELF_MAX_TEXT; i++)
        free(c->marks[i]);
    free(c->edges);
    elf_addresses_free(&c->functions);
    eh_free(&c->eh);
    memset(c, 0, sizeof(*c));
}
