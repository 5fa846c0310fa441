/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/eh_frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Ranges of calls with a landing pad or without; a large C++ program has a million. */
#define MAX_CALL_SITES (32u << 20)

/* DW_EH_PE_* pointer encodings. */
enum {
    PE_ABS = 0x00,
    PE_ULEB = 0x01,
    PE_UDATA2 = 0x02,
    PE_UDATA4 = 0x03,
    PE_UDATA8 = 0x04,
    PE_SLEB = 0x09,
    PE_SDATA2 = 0x0a,
    PE_SDATA4 = 0x0b,
    PE_SDATA8 = 0x0c,
    PE_PCREL = 0x10,
    PE_DATAREL = 0x30,
    PE_INDIRECT = 0x80,
    PE_OMIT = 0xff
};

/* A bounded reader: after the first read past the end, everything is 0 and `bad` is set. */
struct reader {
    const uint8_t *p;
    uint64_t left;
    uint64_t vaddr; /* of p */
    int bad;
};

static struct reader reader_at(const struct elf_image *elf, uint64_t vaddr)
{
    struct reader r = {NULL, 0, vaddr, 0};

    r.p = elf_at(elf, vaddr, 1, &r.left);
    r.bad = !r.p;
    return r;
}

static uint64_t take(struct reader *r, unsigned size)
{
    uint64_t v = 0;

    if (r->bad || r->left < size) {
        r->bad = 1;
        return 0;
    }
    memcpy(&v, r->p, size);
    r->p += size;
    r->left -= size;
    r->vaddr += size;
    return v;
}

static uint64_t take_uleb(struct reader *r)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint64_t byte = take(r, 1);

        if (shift < 64)
            v |= (byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return v;
    }
    r->bad = 1;
    return 0;
}

static uint64_t take_encoded(struct reader *r, unsigned enc)
{
    uint64_t at = r->vaddr, v;

    switch (enc & 0x0f) {
    case PE_ABS:
    case PE_UDATA8:
    case PE_SDATA8:
        v = take(r, 8);
        break;
    case PE_UDATA4:
        v = take(r, 4);
        break;
    case PE_SDATA4:
        v = (uint64_t)(int64_t)(int32_t)take(r, 4);
        break;
    case PE_UDATA2:
        v = take(r, 2);
        break;
    case PE_SDATA2:
        v = (uint64_t)(int64_t)(int16_t)take(r, 2);
        break;
    case PE_ULEB:
        v = take_uleb(r);
        break;
    default:
        r->bad = 1;
        return 0;
    }
    if ((enc & 0x70) == PE_PCREL)
        v += at;
    else if (enc & 0x70)
        r->bad = 1;
    return v;
}

/* What a CIE says about the FDEs that refer to it. */
struct cie {
    uint64_t vaddr;
    unsigned fde_enc, lsda_enc;
    int has_augmentation;
};

static int read_cie(const struct elf_image *elf, uint64_t vaddr, struct cie *cie)
{
    struct reader r = reader_at(elf, vaddr);
    uint64_t len = take(&r, 4), version;
    char aug[8] = "";
    unsigned n = 0;

    memset(cie, 0, sizeof(*cie));
    cie->vaddr = vaddr;
    cie->lsda_enc = PE_OMIT;
    if (r.bad || len == 0 || len == 0xffffffff || take(&r, 4) != 0)
        return 0;
    version = take(&r, 1);
    for (;;) {
        char c = (char)take(&r, 1);

        if (!c)
            break;
        if (n == sizeof(aug) - 1 || r.bad)
            return 0;
        aug[n++] = c;
    }
    take_uleb(&r); /* code alignment */
    take_uleb(&r); /* data alignment; sign doesn't matter */
    if (version == 1)
        take(&r, 1);
    else
        take_uleb(&r);
    if (aug[0] == 'z') {
        cie->has_augmentation = 1;
        take_uleb(&r);
        for (const char *a = aug + 1; *a; a++) {
            if (*a == 'R') {
                cie->fde_enc = (unsigned)take(&r, 1);
            } else if (*a == 'L') {
                cie->lsda_enc = (unsigned)take(&r, 1);
            } else if (*a == 'P') {
                unsigned enc = (unsigned)take(&r, 1);

                take_encoded(&r, enc & ~(unsigned)PE_INDIRECT);
            } else if (*a != 'S' && *a != 'B') {
                return 0;
            }
        }
    } else if (aug[0]) {
        return 0;
    }
    return !r.bad;
}

static void read_landing_pads(const struct elf_image *elf, uint64_t lsda, uint64_t function, struct eh_functions *out)
{
    struct reader r = reader_at(elf, lsda);
    uint64_t start = function, length, end;
    unsigned enc = (unsigned)take(&r, 1);

    if (enc != PE_OMIT)
        start = take_encoded(&r, enc);
    enc = (unsigned)take(&r, 1);
    if (enc != PE_OMIT)
        take_uleb(&r); /* distance to the type table */
    enc = (unsigned)take(&r, 1);
    length = take_uleb(&r);
    end = r.vaddr + length;
    if (r.bad || length > r.left)
        return;
    while (r.vaddr < end && out->call_sites++ < MAX_CALL_SITES) {
        uint64_t pad;

        take_encoded(&r, enc);
        take_encoded(&r, enc);
        pad = take_encoded(&r, enc);
        take_uleb(&r);
        if (r.bad)
            return;
        if (pad && elf_text_at(elf, start + pad))
            elf_addresses_add(&out->landing_pads, start + pad);
    }
}

static void read_fde(const struct elf_image *elf, uint64_t vaddr, struct cie *cie, struct eh_functions *out)
{
    struct reader r = reader_at(elf, vaddr);
    uint64_t len = take(&r, 4), at = r.vaddr, back = take(&r, 4), start, size, aug_len, lsda;

    if (r.bad || len == 0 || len == 0xffffffff || back == 0 || back > at)
        return;
    if (cie->vaddr != at - back && !read_cie(elf, at - back, cie)) {
        cie->vaddr = 0;
        return;
    }
    start = take_encoded(&r, cie->fde_enc);
    size = take_encoded(&r, cie->fde_enc & 0x0f);
    if (r.bad || !elf_text_at(elf, start) || size > ELF_MAX_TEXT_SPAN)
        return;
    if (out->count == out->cap) {
        out->cap = out->cap ? out->cap * 2 : 256;
        out->v = xrealloc(out->v, out->cap, sizeof(*out->v));
    }
    out->v[out->count++] = (struct eh_function){start, size};
    if (!cie->has_augmentation || cie->lsda_enc == PE_OMIT)
        return;
    aug_len = take_uleb(&r);
    if (!aug_len)
        return;
    at = r.vaddr;
    lsda = take_encoded(&r, cie->lsda_enc);
    if (!r.bad && lsda && lsda != at)
        read_landing_pads(elf, lsda, start, out);
}

static int compare_functions(const void *a, const void *b)
{
    const struct eh_function *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

int eh_read(const struct elf_image *elf, struct eh_functions *out)
{
    Elf64_Ehdr eh;
    struct cie cie = {0};

    memset(out, 0, sizeof(*out));
    memcpy(&eh, elf->image, sizeof(eh)); /* elf_open() has checked it */
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        Elf64_Phdr ph;
        struct reader r;
        uint64_t count;
        unsigned ptr_enc, count_enc, table_enc;

        memcpy(&ph, elf->image + eh.e_phoff + (size_t)i * sizeof(ph), sizeof(ph));
        if (ph.p_type != PT_GNU_EH_FRAME)
            continue;
        r = reader_at(elf, ph.p_vaddr);
        if (take(&r, 1) != 1)
            continue;
        ptr_enc = (unsigned)take(&r, 1);
        count_enc = (unsigned)take(&r, 1);
        table_enc = (unsigned)take(&r, 1);
        take_encoded(&r, ptr_enc);
        count = take_encoded(&r, count_enc);
        /* The only table encoding that is in use, because the unwinder searches nothing else. */
        if (r.bad || table_enc != (PE_DATAREL | PE_SDATA4))
            continue;
        if (count > r.left / 8)
            count = r.left / 8;
        while (count--) {
            take(&r, 4);
            read_fde(elf, ph.p_vaddr + (uint64_t)(int64_t)(int32_t)take(&r, 4), &cie, out);
        }
        break;
    }
    if (out->count)
        qsort(out->v, out->count, sizeof(*out->v), compare_functions);
    return out->call_sites > MAX_CALL_SITES ? -EFBIG : 0;
}

void eh_free(struct eh_functions *f)
{
    free(f->v);
    elf_addresses_free(&f->landing_pads);
    memset(f, 0, sizeof(*f));
}

const struct eh_function *eh_function_at(const struct eh_functions *f, uint64_t vaddr)
{
    size_t lo = 0, hi = f->count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (f->v[mid].start <= vaddr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo && vaddr - f->v[lo - 1].start < f->v[lo - 1].size ? &f->v[lo - 1] : NULL;
}
