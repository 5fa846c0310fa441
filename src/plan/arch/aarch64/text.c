/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/aarch64/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int range_of(const struct text *c, uint64_t vaddr)
{
    for (unsigned i = 0; i < c->elf->text_count; i++)
        if (vaddr - c->elf->text[i].vaddr < c->elf->text[i].size)
            return (int)i;
    return -1;
}

uint8_t *text_marks(const struct text *c, uint64_t vaddr)
{
    int i = range_of(c, vaddr);

    return i < 0 ? NULL : c->marks[i] + (vaddr - c->elf->text[i].vaddr) / A64_SIZE;
}

bool text_word(const struct text *c, uint64_t vaddr, uint32_t *ret)
{
    int i = range_of(c, vaddr);
    const struct elf_range *t;

    if (i < 0)
        return false;
    t = &c->elf->text[i];
    if (t->size - (vaddr - t->vaddr) < A64_SIZE)
        return false;
    memcpy(ret, t->bytes + (vaddr - t->vaddr), A64_SIZE);
    return true;
}

bool text_arrives(const struct text *c, uint64_t vaddr)
{
    const uint8_t *m = text_marks(c, vaddr);

    return m && (*m & TEXT_ARRIVES);
}

/* The first function above vaddr, as an index. */
static size_t function_above(const struct text *c, uint64_t vaddr)
{
    size_t lo = 0, hi = c->functions.count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (c->functions.v[mid] <= vaddr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool text_function(const struct text *c, uint64_t vaddr, uint64_t *ret_lo, uint64_t *ret_hi)
{
    const struct eh_function *eh = eh_function_at(&c->eh, vaddr);
    size_t above = function_above(c, vaddr);
    int i = range_of(c, vaddr);

    if (eh) {
        *ret_lo = eh->start;
        *ret_hi = eh->start + eh->size;
        return true;
    }
    if (i < 0 || above == 0 || c->functions.v[above - 1] < c->elf->text[i].vaddr)
        return false;
    *ret_lo = c->functions.v[above - 1];
    *ret_hi = c->elf->text[i].vaddr + c->elf->text[i].size;
    if (above < c->functions.count && c->functions.v[above] < *ret_hi)
        *ret_hi = c->functions.v[above];
    return true;
}

bool text_body(const struct text *c, uint64_t vaddr, uint64_t *ret_lo, uint64_t *ret_hi)
{
    int i = range_of(c, vaddr);
    const struct elf_range *t;
    const uint8_t *m;
    uint64_t lo, hi, words;

    if (text_function(c, vaddr, ret_lo, ret_hi))
        return true;
    if (i < 0)
        return false;
    t = &c->elf->text[i];
    m = c->marks[i];
    words = t->size / A64_SIZE;
    lo = (vaddr - t->vaddr) / A64_SIZE;
    for (hi = lo + 1; hi < words && !(m[hi] & TEXT_CALLED); hi++)
        ;
    while (lo && !(m[lo] & TEXT_CALLED))
        lo--;
    *ret_lo = t->vaddr + lo * A64_SIZE;
    *ret_hi = t->vaddr + hi * A64_SIZE;
    return true;
}

static void mark(struct text *c, uint64_t vaddr, unsigned marks)
{
    uint8_t *m = vaddr % A64_SIZE ? NULL : text_marks(c, vaddr);

    if (m)
        *m |= (uint8_t)marks;
}

/* GNU_PROPERTY_AARCH64_FEATURE_1_AND of the image's note (System V ABI for the Arm 64-bit Architecture, 6.2.1). */
static bool wants_gcs(const struct elf_image *elf)
{
    enum { NOTE_PROPERTY = 5, FEATURE_1_AND = (int)0xc0000000, FEATURE_1_GCS = 4 };
    const uint8_t *p;
    size_t left = elf_note(elf->image, elf->size, "GNU", NOTE_PROPERTY, &p);

    while (left >= 8) {
        uint32_t head[2], value;
        size_t size;

        memcpy(head, p, sizeof(head));
        size = ((size_t)head[1] + 7) & ~(size_t)7;
        if (left - 8 < size)
            return false;
        if (head[0] == (uint32_t)FEATURE_1_AND && head[1] >= 4) {
            memcpy(&value, p + 8, sizeof(value));
            return value & FEATURE_1_GCS;
        }
        p += 8 + size;
        left -= 8 + size;
    }
    return false;
}

/* Branches, calls and addresses that code takes: adr alone, or adrp with an add close behind. */
static void sweep(struct text *c, const struct elf_range *t)
{
    uint64_t page[32] = {0}, at[32] = {0}; /* by register: what an adrp has left there, and where that stands + 1 */

    for (uint64_t off = 0; off + A64_SIZE <= t->size; off += A64_SIZE) {
        uint64_t pc = t->vaddr + off;
        enum a64_kind kind;
        uint32_t w;

        memcpy(&w, t->bytes + off, sizeof(w));
        kind = a64_kind(w);
        c->bad_words += kind == A64_BAD;
        if (kind == A64_JUMP || kind == A64_BRANCH) {
            mark(c, a64_target(w, pc), TEXT_TARGET);
        } else if (kind == A64_CALL) {
            mark(c, a64_target(w, pc), TEXT_CALLED);
        } else if (kind == A64_ADR) {
            mark(c, a64_target(w, pc), TEXT_ENTRY);
        } else if (kind == A64_ADRP) {
            page[w & 31] = a64_target(w, pc);
            at[w & 31] = pc + 1;
        } else if ((w & 0xff800000) == 0x91000000) { /* add (immediate), 64 bits */
            unsigned n = w >> 5 & 31;

            if (at[n] && pc - at[n] < 64 * A64_SIZE)
                mark(c, page[n] + (uint64_t)(w >> 10 & 0xfff), TEXT_ENTRY);
        }
    }
}

int text_read(const struct elf_image *elf, struct text *c)
{
    struct elf_addresses more = {0};
    struct elf_rseq rseq[64];
    size_t count;
    int r;

    memset(c, 0, sizeof(*c));
    c->elf = elf;
    c->gcs = wants_gcs(elf);
    for (unsigned i = 0; i < elf->text_count; i++) {
        if (elf->text[i].vaddr % A64_SIZE)
            return -ENOEXEC;
        c->marks[i] = calloc(elf->text[i].size / A64_SIZE + 1, 1);
        if (!c->marks[i])
            return -ENOMEM;
    }
    r = eh_read(elf, &c->eh);
    if (r < 0)
        return r;
    c->go = go_read(elf, &c->functions);
    elf_functions(elf, 0, &c->functions);
    for (size_t i = 0; i < c->eh.count; i++)
        elf_addresses_add(&c->functions, c->eh.v[i].start);
    elf_addresses_sort(&c->functions);
    for (unsigned i = 0; i < elf->text_count; i++)
        sweep(c, &elf->text[i]);
    r = elf_address_constants(elf, &more);
    for (size_t i = 0; i < more.count; i++)
        mark(c, more.v[i], TEXT_ENTRY);
    elf_addresses_free(&more);
    if (r < 0)
        return r;
    for (size_t i = 0; i < c->functions.count; i++)
        mark(c, c->functions.v[i], TEXT_ENTRY);
    for (size_t i = 0; i < c->eh.landing_pads.count; i++)
        mark(c, c->eh.landing_pads.v[i], TEXT_ENTRY);
    count = elf_rseq(elf, rseq, sizeof(rseq) / sizeof(rseq[0]));
    for (size_t i = 0; i < count; i++) {
        for (uint64_t k = 0; k <= rseq[i].size && k < 4096; k += A64_SIZE)
            mark(c, rseq[i].start + k, TEXT_FIXED);
        mark(c, rseq[i].start, TEXT_ENTRY);
        mark(c, rseq[i].abort, TEXT_ENTRY);
        mark(c, rseq[i].abort - A64_SIZE, TEXT_FIXED); /* the signature before the abort handler */
    }
    return 0;
}

void text_free(struct text *c)
{
    for (unsigned i = 0; i < ELF_MAX_TEXT; i++)
        free(c->marks[i]);
    elf_addresses_free(&c->functions);
    eh_free(&c->eh);
    memset(c, 0, sizeof(*c));
}
