/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/emit.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"

void emit_free(struct emit *e)
{
    buf_free(&e->sites);
    buf_free(&e->blob);
    buf_free(&e->fixups);
    buf_free(&e->patches);
}

struct emit_mark emit_mark(const struct emit *e)
{
    return (struct emit_mark){e->blob.len, e->fixups.len, e->patches.len};
}

void emit_rollback(struct emit *e, struct emit_mark mark)
{
    e->blob.len = mark.blob;
    e->fixups.len = mark.fixups;
    e->patches.len = mark.patches;
    e->overflow = 0;
}

static void fixup(struct emit *e, uint32_t at, enum plan_fix_kind kind)
{
    struct plan_fixup f = {at, kind};

    buf_add(&e->fixups, &f, sizeof(f));
}

/* Of a word of a slot's head, whose last one counts. Slots are written one or two at a time. */
static void fixup_word(struct emit *e, uint32_t at, enum plan_fix_kind kind)
{
    struct plan_fixup *f = (struct plan_fixup *)(void *)e->fixups.p;

    for (size_t i = e->fixups.len / sizeof(*f); i-- > 0 && f[i].at + 2 * PLAN_SLOT >= (at & ~(PLAN_SLOT - 1));)
        if (f[i].at == at) {
            f[i].kind = kind;
            return;
        }
    fixup(e, at, kind);
}

static struct plan_slot *slot_at(struct emit *e, uint32_t slot)
{
    return (struct plan_slot *)(void *)(e->blob.p + slot);
}

uint32_t emit_slot(struct emit *e, int32_t nr, unsigned flags, uint64_t resume_pc, uint64_t site_pc)
{
    if (!e->blob.len) { /* the entry table */
        memset(buf_room(&e->blob, PLAN_SLOT), 0, PLAN_SLOT);
        e->blob.len += PLAN_SLOT;
    }
    e->slot = (uint32_t)e->blob.len;
    e->at = e->slot + PLAN_SLOT_CODE;
    memset(buf_room(&e->blob, PLAN_SLOT), 0xcc, PLAN_SLOT); /* int3 where nothing may run */
    e->blob.len += PLAN_SLOT;
    *slot_at(e, e->slot) = (struct plan_slot){.resume_pc = resume_pc, .nr = nr, .flags = flags, .site_pc = site_pc};
    fixup(e, e->slot + offsetof(struct plan_slot, resume_pc), PLAN_FIX_ABS64);
    fixup(e, e->slot + offsetof(struct plan_slot, site_pc), PLAN_FIX_ABS64);
    return e->slot;
}

void emit_slot_flags(struct emit *e, uint32_t slot, uint32_t flags)
{
    slot_at(e, slot)->flags |= flags;
}

void emit_tail_vaddr(struct emit *e, uint32_t slot, uint64_t vaddr)
{
    slot_at(e, slot)->tail = vaddr;
    fixup_word(e, slot + offsetof(struct plan_slot, tail), PLAN_FIX_ABS64);
}

void emit_tail_blob(struct emit *e, uint32_t slot, uint32_t offset)
{
    slot_at(e, slot)->tail = offset;
    fixup_word(e, slot + offsetof(struct plan_slot, tail), PLAN_FIX_BLOB64);
}

void emit_site_pc_blob(struct emit *e, uint32_t slot, uint32_t offset)
{
    slot_at(e, slot)->site_pc = offset;
    fixup_word(e, slot + offsetof(struct plan_slot, site_pc), PLAN_FIX_BLOB64);
}

void emit_code(struct emit *e, const void *p, size_t n)
{
    if (e->overflow || n > e->slot + PLAN_SLOT - e->at) {
        e->overflow = 1;
        return;
    }
    memcpy(e->blob.p + e->at, p, n);
    e->at += (uint32_t)n;
}

/* The blob has to be where a jump to vaddr reaches. */
static void leads_to(struct emit *e, uint64_t vaddr)
{
    if (!e->hi || vaddr < e->lo)
        e->lo = vaddr;
    if (vaddr >= e->hi)
        e->hi = vaddr + 1;
}

void emit_rel_vaddr(struct emit *e, uint64_t vaddr, unsigned after)
{
    uint32_t at = e->at, rel = (uint32_t)(vaddr - (at + 4 + after));

    emit_code(e, &rel, sizeof(rel));
    if (!e->overflow)
        fixup(e, at, PLAN_FIX_TEXT32);
    leads_to(e, vaddr);
}

void emit_rel_blob(struct emit *e, uint32_t offset, unsigned after)
{
    uint32_t rel = offset - (e->at + 4 + after);

    emit_code(e, &rel, sizeof(rel));
}

void emit_word(struct emit *e, uint32_t word)
{
    emit_code(e, &word, sizeof(word));
}

void emit_branch_vaddr(struct emit *e, uint32_t word, uint64_t vaddr)
{
    uint32_t at = e->at;

    plan_rel_add(PLAN_REL_26, &word, vaddr - at);
    emit_word(e, word);
    if (!e->overflow)
        fixup(e, at, PLAN_FIX_TEXT26);
    leads_to(e, vaddr);
}

void emit_branch_blob(struct emit *e, uint32_t word, uint32_t offset)
{
    plan_rel_add(PLAN_REL_26, &word, (uint64_t)offset - e->at);
    emit_word(e, word);
}

void emit_abs_vaddr(struct emit *e, uint64_t vaddr)
{
    uint32_t at = e->at;

    emit_code(e, &vaddr, sizeof(vaddr));
    if (!e->overflow)
        fixup(e, at, PLAN_FIX_ABS64);
}

void emit_patch(struct emit *e, const struct plan_patch *patch)
{
    buf_add(&e->patches, patch, sizeof(*patch));
}

void emit_patch_rel(struct plan_patch *patch, enum plan_rel rel, unsigned rel_at, uint32_t offset)
{
    uint64_t from = patch->vaddr + rel_at + (rel == PLAN_REL_26 ? 0 : 4);

    patch->rel = (uint8_t)rel;
    patch->rel_at = (uint8_t)rel_at;
    if (rel != PLAN_REL_26) /* of a word the rest is the instruction */
        memset(patch->new_ + rel_at, 0, 4);
    plan_rel_add(rel, patch->new_ + rel_at, offset - from);
}

uint32_t emit_site(struct emit *e, const struct plan_site *site)
{
    buf_add(&e->sites, site, sizeof(*site));
    return emit_site_count(e) - 1;
}

uint32_t emit_site_count(const struct emit *e)
{
    return (uint32_t)(e->sites.len / sizeof(struct plan_site));
}

static int compare_patches(const void *a, const void *b)
{
    const struct plan_patch *x = a, *y = b;

    return x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

int emit_finish(struct emit *e, enum plan_arch arch, uint64_t table_hash, const char *key, void **ret_plan,
                size_t *ret_size)
{
    struct plan_patch *patches = (struct plan_patch *)(void *)e->patches.p;
    size_t patch_count = e->patches.len / sizeof(*patches), off = sizeof(struct plan_header);
    uint64_t size;
    struct plan_header *h;
    char *p;

    size = ((off + e->sites.len + PLAN_SLOT - 1) & ~(uint64_t)(PLAN_SLOT - 1)) + e->blob.len + e->fixups.len +
           e->patches.len;
    if (size > UINT32_MAX / 2)
        return -EFBIG;
    p = xcalloc(1, size);
    h = (struct plan_header *)(void *)p;
    *h = (struct plan_header){
        .magic = PLAN_MAGIC,
        .version = PLAN_VERSION,
        .arch = (uint16_t)arch,
        .size = (uint32_t)size,
        .table_hash = table_hash,
        .site_off = (uint32_t)off,
        .site_count = emit_site_count(e),
        .blob_size = (uint32_t)e->blob.len,
        .fix_count = (uint32_t)(e->fixups.len / sizeof(struct plan_fixup)),
        .patch_count = (uint32_t)patch_count,
    };
    strncpy(h->key, key, sizeof(h->key) - 1);
    if (e->sites.len)
        memcpy(p + off, e->sites.p, e->sites.len);
    off = (off + e->sites.len + PLAN_SLOT - 1) & ~(size_t)(PLAN_SLOT - 1);
    h->blob_off = (uint32_t)off;
    if (e->blob.len)
        memcpy(p + off, e->blob.p, e->blob.len);
    off += e->blob.len;
    h->fix_off = (uint32_t)off;
    if (e->fixups.len)
        memcpy(p + off, e->fixups.p, e->fixups.len);
    off += e->fixups.len;
    h->patch_off = (uint32_t)off;
    if (patch_count) {
        qsort(patches, patch_count, sizeof(*patches), compare_patches);
        memcpy(p + off, patches, e->patches.len);
        h->text_lo = patches[0].vaddr;
        h->text_hi = patches[patch_count - 1].vaddr + patches[patch_count - 1].len;
        h->reach_lo = e->hi && e->lo < h->text_lo ? e->lo : h->text_lo;
        h->reach_hi = e->hi > h->text_hi ? e->hi : h->text_hi;
    }
    h->sum = plan_sum(p, size);
    *ret_plan = p;
    *ret_size = size;
    return 0;
}
