/* SPDX-License-Identifier: Apache-2.0 */
/* Assembles a plan (wire/plan_format.h): slots, fixups, patches, sites. */
#ifndef SCOPE_PLAN_EMIT_H
#define SCOPE_PLAN_EMIT_H

#include "base/buf.h"
#include "wire/plan_format.h"

struct emit {
    struct buf sites, blob, fixups, patches;
    uint32_t slot; /* offset in the blob of the slot being written */
    uint32_t at;   /* offset in the blob of the next code byte */
    int overflow;  /* the slot was too small for what was written to it */
    uint64_t lo, hi; /* vaddrs that slots jump to; hi 0: none */
};

/* A state to go back to when a site turns out not to be possible. */
struct emit_mark {
    size_t blob, fixups, patches;
};

void emit_free(struct emit *e);
struct emit_mark emit_mark(const struct emit *e);
void emit_rollback(struct emit *e, struct emit_mark mark);

/* Opens a new slot, fills its head in (resume_pc and site_pc are vaddrs) and points `at` at its code.
 * Returns its offset in the blob. */
uint32_t emit_slot(struct emit *e, int32_t nr, unsigned flags, uint64_t resume_pc, uint64_t site_pc);
/* Adds to a slot's flags. */
void emit_slot_flags(struct emit *e, uint32_t slot, uint32_t flags);
/* Sets plan_slot.tail of a slot to a vaddr, or to an offset in the blob. */
void emit_tail_vaddr(struct emit *e, uint32_t slot, uint64_t vaddr);
void emit_tail_blob(struct emit *e, uint32_t slot, uint32_t offset);
/* Sets plan_slot.site_pc to an offset in the blob: the syscall runs there. */
void emit_site_pc_blob(struct emit *e, uint32_t slot, uint32_t offset);

/* Code bytes at `at`. */
void emit_code(struct emit *e, const void *p, size_t n);
/* A distance (PLAN_REL_32) to vaddr or to an offset in the blob, counted from `after` bytes behind its own end. */
void emit_rel_vaddr(struct emit *e, uint64_t vaddr, unsigned after);
void emit_rel_blob(struct emit *e, uint32_t offset, unsigned after);
/* An instruction of arm64, and one that holds a distance (PLAN_REL_26) to vaddr or to an offset in the blob. */
void emit_word(struct emit *e, uint32_t word);
void emit_branch_vaddr(struct emit *e, uint32_t word, uint64_t vaddr);
void emit_branch_blob(struct emit *e, uint32_t word, uint32_t offset);
/* An 8-byte address in the code. */
void emit_abs_vaddr(struct emit *e, uint64_t vaddr);

/* Adds a patch; rel_at as in plan_patch. For a patch that leads to the blob, encode the distance with
 * emit_patch_rel(). Patches are sorted when the plan is finished. */
void emit_patch(struct emit *e, const struct plan_patch *patch);
/* Stores at patch->new_[rel_at] the distance from there to an offset in the blob. */
void emit_patch_rel(struct plan_patch *patch, enum plan_rel rel, unsigned rel_at, uint32_t offset);
/* Returns the site's index. */
uint32_t emit_site(struct emit *e, const struct plan_site *site);
uint32_t emit_site_count(const struct emit *e);

/* Makes the plan: a malloc'ed block of *ret_size bytes. table_hash: of that architecture. 0 or -EFBIG. */
int emit_finish(struct emit *e, enum plan_arch arch, uint64_t table_hash, const char *key, void **ret_plan,
                size_t *ret_size);

#endif
