/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The patch plan: what the planner (src/plan) decides about one ELF image and
 * the probe (src/probe) applies to a mapping of it.
 *
 * A plan is a flat, position-independent byte block: it is written to a file,
 * mapped read-only and applied without parsing anything else. The planner has
 * already encoded the replacement code; applying a plan is
 *
 *     copy blob to a place within +-2 GiB of the image's text (T),
 *     fill the entry-point table at the start of blob,
 *     for each fixup   add the run-time displacement to a rel32 or abs64,
 *     for each patch   replace `len` bytes of text at bias + vaddr.
 *
 * All references are offsets from the start of the plan and are checked by
 * plan_check() on both sides before use. Integers are little-endian and
 * naturally aligned. "vaddr" is an address as the ELF file states it; the
 * run-time address is bias + vaddr.
 *
 *   +--------------+ 0
 *   | plan_header  |
 *   +--------------+ site_off   plan_site  [site_count]   (what and why; for people)
 *   +--------------+ blob_off   bytes      [blob_size]    (trampolines, PLAN_SLOT-aligned)
 *   +--------------+ fix_off    plan_fixup [fix_count]
 *   +--------------+ patch_off  plan_patch [patch_count]  (sorted by vaddr)
 *   +--------------+ size
 *
 * The blob starts with one reserved slot, the entry table: PLAN_ENTRY_MAX
 * 8-byte pointers that the probe fills in with the addresses of its common
 * entry code. Every other slot belongs to one hook of one site:
 *
 *   slot + 0   struct plan_slot (32 bytes: data of the hook)
 *   slot + 32  code
 *
 * A slot is PLAN_SLOT bytes and aligned to PLAN_SLOT, so that an unwinder can
 * get from any PC in it to plan_slot.resume_pc by masking; the probe's unwind
 * tables do exactly that (src/probe/arch/<arch>/entry.S).
 */
#ifndef SCOPE_WIRE_PLAN_FORMAT_H
#define SCOPE_WIRE_PLAN_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/syscalls.h"

#define PLAN_MAGIC   UINT64_C(0x316e616c50706353) /* "ScpPlan1" */
#define PLAN_VERSION 11u     /* raised whenever a plan made by an older planner must not be applied */
#define PLAN_SLOT    128u   /* bytes per trampoline slot */
#define PLAN_SLOT_CODE 32u  /* code starts here in a slot */
#define PLAN_KEY_MAX 64u    /* bytes of plan_header.key, NUL included */
#define PLAN_PATCH_MAX 16u  /* longest replaced region */

enum plan_arch { PLAN_ARCH_X86_64 = 1, PLAN_ARCH_AARCH64 = 2 };

/* Entry points of the probe, by index into the table at the start of the blob. */
enum plan_entry {
    PLAN_ENTRY_EXIT,      /* after a syscall: rcx = slot */
    PLAN_ENTRY_ENTER,     /* before a syscall: rcx = slot */
    PLAN_ENTRY_CALL,      /* instead of a call to a leaf that makes the syscall (musl): rax = slot */
    PLAN_ENTRY_GO_EXIT,   /* as the first two, from code that has no stack to spare (PLAN_F_GO) */
    PLAN_ENTRY_GO_ENTER,
    PLAN_ENTRY_FUNCTION,  /* instead of a function: r11 = slot, everything else as it was called */
    PLAN_ENTRY_TIMED,     /* arm64: as ENTER, to take the time only; 0 where calls aren't timed */
    PLAN_ENTRY_GO_FUNCTION, /* in a function of Go (PLAN_F_GO and PLAN_F_FUNCTION): r12 = slot; 0 where none is hooked */
    PLAN_ENTRIES,
    PLAN_ENTRY_MAX = 16,  /* the table is exactly one slot: 16 * 8 == PLAN_SLOT */
};

/* How a site is reached; also the reason when it is not. */
enum plan_method {
    PLAN_NONE,            /* left alone, see enum plan_reason */
    PLAN_AFTER,           /* jump in place of the bytes after the syscall */
    PLAN_SHORT,           /* 2-byte jump to padding that holds the 5-byte jump */
    PLAN_MOVE,            /* the syscall itself runs in the trampoline */
    PLAN_CALLER,          /* hooked around the only call of a leaf function */
    PLAN_SPAN,            /* region spans the syscall (calls that never return) */
    PLAN_BEFORE,          /* calls that never return: jump in place of the bytes before the syscall, no exit hook */
    PLAN_FUNCTION,        /* a function of wire/functions.def: jump in place of its first instructions */
    PLAN_METHODS,
};

enum plan_reason {
    PLAN_OK,
    PLAN_R_UNINTERESTING, /* a constant number that is not observed */
    PLAN_R_BRANCH_TARGET, /* a branch lands inside the region */
    PLAN_R_RELOCATE,      /* an instruction in the region can't be moved */
    PLAN_R_NO_ROOM,       /* function ends too early and no padding is near */
    PLAN_R_OVERLAP,       /* region of a neighbouring site */
    PLAN_R_CANCEL_RANGE,  /* inside a PC range that the C library compares with */
    PLAN_R_RSEQ,          /* inside a restartable sequence */
    PLAN_R_DATA_IN_TEXT,  /* taken for data: nothing says that it is an instruction */
    PLAN_R_ENTER_ONLY,    /* exit hook placed, wanted enter hook could not be */
    PLAN_R_NO_STACK,      /* the program has given back its stack there */
    PLAN_R_MINOR,         /* no hook fits, and nothing would be told but that the call was made */
    PLAN_R_UNPROVEN,      /* looks like an instruction that is used, in text with data, but isn't proven to be one */
    PLAN_R_NO_REGISTER,   /* arm64: none is free to keep the first argument in while the call is made */
    PLAN_R_UNKNOWN_FORM,  /* AES keys are set up near here, by instructions that aren't known */
    PLAN_R_SELF_CHECK,    /* the image compares its own text with a hash (FIPS 140) */
    /* In no plan: known once it is applied, when a site's reason in a private copy becomes one of these. */
    PLAN_R_CHANGED,       /* the text is not what the planner saw */
    PLAN_R_OCCUPIED,      /* a thread stood in it while the process was attached to */
    PLAN_R_PROTECTED,     /* the image's text could not be changed, or no memory was to be had near it */
    PLAN_R_RUNNING,       /* somebody whom no thread's registers show may stand in it: it is for programs that start */
    PLAN_R_NO_POINTER,    /* Go code, and programs may not read the thread pointer (FSGSBASE) */
    PLAN_REASON_MAX,
};

/* plan_site.flags, also plan_slot.flags */
enum plan_flag {
    PLAN_F_NR_UNKNOWN   = 1u << 0, /* number not constant here: the enter hook passes it */
    PLAN_F_ENTER        = 1u << 1, /* an enter hook is part of the plan */
    PLAN_F_EXIT         = 1u << 2, /* an exit hook is part of the plan */
    PLAN_F_CHECK_ORIGIN = 1u << 3, /* exit stub proves (rcx) that it came from the syscall */
    PLAN_F_SP_BIAS8     = 1u << 4, /* enter hook sees sp 8 lower than the exit hook (PLAN_CALLER) */
    PLAN_F_NORETURN     = 1u << 5,
    PLAN_F_GO           = 1u << 6, /* may run on a goroutine's stack: the hooks run on one of the probe's */
    PLAN_F_FUNCTION     = 1u << 7, /* nr is an enum fn_id. With PLAN_F_GO: hooks at the entry (PLAN_F_ENTER) and in place of
                                    * what ends in each return (PLAN_F_EXIT) */
    PLAN_F_NR_KEPT      = 1u << 8, /* with PLAN_F_NR_UNKNOWN: the enter side leaves what the exit side must know in two
                                    * registers that nobody reads there (src/probe/arch) */
    PLAN_F_CRASH        = 1u << 9, /* a site of PLAN_CRASH */
    PLAN_F_GO_STACK     = 1u << 10, /* with PLAN_F_GO and PLAN_F_FUNCTION: arguments are passed on the stack (before Go
                                    * 1.17), not in registers */
    PLAN_F_GO_KEPT      = 1u << 11, /* with PLAN_F_GO and PLAN_F_FUNCTION: behind the return address are the arguments, to
                                    * the end */
};

/* plan_patch.when: the condition under which the probe applies a patch. */
enum plan_when {
    PLAN_ALWAYS,
    PLAN_TIMING,          /* enter hook needed only to time the call */
    PLAN_TRAFFIC,         /* function hook: needed only where traffic is captured */
    PLAN_TRAFFIC_START,   /* likewise, and only before the program runs: something may stand inside that no thread's
                           * registers show (a goroutine that waits for a thread) */
    PLAN_CRASH,           /* SCF_VIRTUAL: needed only where fatal signals are told */
};

struct plan_header {
    uint64_t magic;
    uint32_t version;
    uint16_t arch;        /* enum plan_arch */
    uint16_t reserved;
    uint32_t size;        /* of the whole plan, bytes */
    uint32_t sum;         /* plan_sum() of the plan */
    uint64_t table_hash;  /* syscall_table_hash() of the table it was planned with */
    uint64_t text_lo, text_hi; /* vaddr range that contains every patch */
    uint32_t site_off, site_count;
    uint32_t blob_off, blob_size;
    uint32_t fix_off, fix_count;
    uint32_t patch_off, patch_count;
    char key[PLAN_KEY_MAX]; /* image identity, see plan_key() in src/plan/plan.h */
    uint64_t reach_lo, reach_hi; /* vaddr range that has to be near the blob: every patch, all that slots jump to */
};

struct plan_site {
    uint64_t vaddr;       /* of the syscall instruction (of the call for PLAN_CALLER, of the function) */
    int32_t nr;           /* syscall number, -1 if not constant; enum fn_id (PLAN_F_FUNCTION) */
    uint8_t method;       /* enum plan_method */
    uint8_t reason;       /* enum plan_reason */
    uint16_t flags;       /* enum plan_flag */
};

/* First bytes of a trampoline slot. resume_pc and site_pc hold vaddrs in the
 * plan and are made absolute by fixups. */
struct plan_slot {
    uint64_t resume_pc;   /* where an unwinder shall say that this frame is */
    uint64_t tail;        /* absolute: where the common entry code jumps when the hook is done */
    int32_t nr;
    uint32_t flags;       /* enum plan_flag; PLAN_SLOT_LOWERED; the operation, from bit 24 on, once it is filled in */
    uint64_t site_pc;     /* address of the instruction after the syscall; of the function (PLAN_F_FUNCTION) */
};

/* arm64, in plan_slot.flags: so many instructions of the slot run with the stack pointer lower than the program's, from that
 * one on, the first being 0; each less than 16. An unwinder must know (src/probe/arch/aarch64/entry.S). */
#define PLAN_SLOT_LOWERED(first, count) ((uint32_t)(first) << 16 | (uint32_t)(count) << 20)

enum plan_fix_kind {
    PLAN_FIX_ABS64,       /* *(u64 *)at += bias           (value was a vaddr) */
    PLAN_FIX_BLOB64,      /* *(u64 *)at += blob address   (value was an offset in the blob) */
    PLAN_FIX_TEXT32,      /* *(i32 *)at += bias - blob    (PLAN_REL_32 from blob to text, encoded for bias=blob=0) */
    PLAN_FIX_TEXT26,      /* PLAN_REL_26 likewise */
    PLAN_FIX_MAX,
};

/* How an instruction holds a distance to another place of code. */
enum plan_rel {
    PLAN_REL_32,          /* x86_64: 32 bits, in bytes, from their end */
    PLAN_REL_32_POP,      /* likewise. Its last byte takes the place of a `pop %rbp` (0x5d), at which somebody may go on
                           * whom no thread's registers show: in a process that runs it has to be that byte, too */
    PLAN_REL_26,          /* arm64, B and BL: the low 26 bits of the word, in words, from its beginning (Arm ARM, C6.2) */
};
#define PLAN_POP 0x5d
#define PLAN_REL_NONE 0xff /* plan_patch.rel_at: the bytes hold none */

struct plan_fixup {
    uint32_t at;          /* offset in the blob */
    uint32_t kind;        /* enum plan_fix_kind */
};

/* Replaces text. If rel_at is not PLAN_REL_NONE, the 4 bytes there hold a distance of the kind `rel` to the blob, encoded
 * as if bias and blob address were 0: add blob - bias. */
struct plan_patch {
    uint64_t vaddr;
    uint8_t len;          /* <= PLAN_PATCH_MAX */
    uint8_t rel_at;
    uint8_t when;         /* enum plan_when */
    uint8_t rel;          /* enum plan_rel */
    uint32_t site;        /* index of the site */
    uint8_t old[PLAN_PATCH_MAX]; /* what must be there now; checked before patching */
    uint8_t new_[PLAN_PATCH_MAX];
};

_Static_assert(offsetof(struct plan_header, sum) == offsetof(struct plan_header, size) + 4 &&
                   offsetof(struct plan_header, size) % 8 == 0,
               "plan_sum knows the word that holds both");
_Static_assert(sizeof(struct plan_header) == 160, "plan_header is on disk");
_Static_assert(sizeof(struct plan_site) == 16, "plan_site is on disk");
_Static_assert(sizeof(struct plan_slot) == PLAN_SLOT_CODE, "code follows plan_slot");
_Static_assert(sizeof(struct plan_fixup) == 8, "plan_fixup is on disk");
_Static_assert(sizeof(struct plan_patch) == 48, "plan_patch is on disk");
_Static_assert(PLAN_ENTRY_MAX * 8 == PLAN_SLOT, "entry table fills one slot");

/* plan_slot.flags of a blob that is in use, beside enum plan_flag: bits 24 to 31 hold the enum op_id of plan_slot.nr. */
#define SLOT_F_TIMED_ONLY 0x8000u /* the hook before the syscall only takes the time (the probe's entry.S) */

/*
 * A checksum against damaged files (not against malice: who may write a plan is
 * checked by owner and mode). Every observed process verifies its plans, so it
 * has to be fast without vector instructions: four lanes of FNV-1a over 64-bit
 * words, folded. plan_header.sum counts as zero.
 */
static inline uint32_t plan_sum(const void *p, size_t size)
{
    const uint64_t prime = UINT64_C(0x100000001b3);
    uint64_t lane[4] = {1, 2, 3, 4}, h = UINT64_C(0xcbf29ce484222325);
    const unsigned char *b = (const unsigned char *)p;
    size_t i = 0;

    for (; size - i >= 32; i += 32)
        for (unsigned k = 0; k < 4; k++) {
            uint64_t w;

            __builtin_memcpy(&w, b + i + 8 * k, 8);
            if (i + 8 * k == offsetof(struct plan_header, size)) /* the word that holds sum too */
                w &= UINT32_MAX;
            lane[k] = (lane[k] ^ w) * prime;
            lane[k] ^= lane[k] >> 29;
        }
    for (; i < size; i++)
        h = (h ^ b[i]) * prime;
    for (unsigned k = 0; k < 4; k++)
        h = (h ^ lane[k]) * prime;
    return (uint32_t)(h ^ h >> 32);
}

/*
 * Checks that every reference of the plan at p lies inside its `size` bytes.
 * Pure; safe in signal handlers. Returns 1 if the plan may be applied once
 * plan_sum() agrees too, 0 if not.
 */
static inline int plan_check(const void *p, size_t size)
{
    const struct plan_header *h = p;

    if (size < sizeof(*h) || h->magic != PLAN_MAGIC || h->version != PLAN_VERSION || h->size != size)
        return 0;
    if ((h->site_off | h->blob_off | h->fix_off | h->patch_off) & 7)
        return 0;
#define PLAN_RANGE(off, count, elem) \
    ((uint64_t)(off) + (uint64_t)(count) * (elem) <= size)
    if (!PLAN_RANGE(h->site_off, h->site_count, sizeof(struct plan_site)) ||
        !PLAN_RANGE(h->blob_off, h->blob_size, 1) ||
        !PLAN_RANGE(h->fix_off, h->fix_count, sizeof(struct plan_fixup)) ||
        !PLAN_RANGE(h->patch_off, h->patch_count, sizeof(struct plan_patch)))
        return 0;
#undef PLAN_RANGE
    if (h->blob_size % PLAN_SLOT)
        return 0;
    return 1;
}

/* Adds to the distance that 4 bytes of code hold. */
static inline void plan_rel_add(enum plan_rel kind, void *at, uint64_t delta)
{
    uint32_t word;

    __builtin_memcpy(&word, at, 4);
    if (kind == PLAN_REL_26)
        word = (word & 0xfc000000u) | ((word + (uint32_t)(delta >> 2)) & 0x03ffffffu);
    else
        word += (uint32_t)delta;
    __builtin_memcpy(at, &word, 4);
}

/* Where the 4 bytes of code at `at`, whose address is pc, lead to. */
static inline uint64_t plan_rel_target(enum plan_rel kind, const void *at, uint64_t pc)
{
    uint32_t word;

    __builtin_memcpy(&word, at, 4);
    if (kind == PLAN_REL_26)
        return pc + (uint64_t)((int64_t)((uint64_t)word << 38) >> 36);
    return pc + 4 + (uint64_t)(int64_t)(int32_t)word;
}

/* The offset in the blob that a patch jumps or calls to; blob_size if it doesn't lead there. */
static inline uint32_t plan_patch_target(const struct plan_header *h, const struct plan_patch *p)
{
    uint32_t to;

    if (p->rel_at > PLAN_PATCH_MAX - 4)
        return h->blob_size;
    to = (uint32_t)plan_rel_target(p->rel, p->new_ + p->rel_at, p->vaddr + p->rel_at);
    if (p->rel == PLAN_REL_26) /* it holds no more of the address */
        to &= 0x0fffffffu;
    return to < h->blob_size ? to : h->blob_size;
}

/* The bytes that a patch puts into the text of an image at bias, with its blob at address blob. */
static inline void plan_patch_bytes(const struct plan_patch *p, uint64_t bias, uint64_t blob, uint8_t ret[PLAN_PATCH_MAX])
{
    __builtin_memcpy(ret, p->new_, PLAN_PATCH_MAX);
    if (p->rel_at <= PLAN_PATCH_MAX - 4)
        plan_rel_add(p->rel, ret + p->rel_at, blob - bias);
}

/*
 * Makes the plan's blob ready for address `blob`, beside an image at bias: `to` has room for blob_size bytes and is that
 * place or a copy for it. entry: addresses of the probe's entry points, by enum plan_entry.
 */
static inline void plan_fill_blob(const struct plan_header *h, char *to, uint64_t blob, uint64_t bias, const uint64_t entry[PLAN_ENTRIES])
{
    const struct plan_fixup *fix = (const struct plan_fixup *)(const void *)((const char *)h + h->fix_off);
    const struct plan_patch *patch = (const struct plan_patch *)(const void *)((const char *)h + h->patch_off);

    __builtin_memcpy(to, (const char *)h + h->blob_off, h->blob_size);
    for (uint32_t i = 0; i < h->fix_count; i++) {
        bool code = fix[i].kind == PLAN_FIX_TEXT32 || fix[i].kind == PLAN_FIX_TEXT26;
        uint32_t width = code ? 4 : 8;
        char *at = to + fix[i].at;
        uint64_t v = 0;

        if (h->blob_size < width || fix[i].at > h->blob_size - width)
            continue;
        if (code) {
            plan_rel_add(fix[i].kind == PLAN_FIX_TEXT26 ? PLAN_REL_26 : PLAN_REL_32, at, bias - blob);
            continue;
        }
        __builtin_memcpy(&v, at, 8);
        v += fix[i].kind == PLAN_FIX_ABS64 ? bias : blob;
        __builtin_memcpy(at, &v, 8);
    }
    for (uint32_t i = 0; i < PLAN_ENTRIES && h->blob_size; i++)
        ((uint64_t *)(void *)to)[i] = entry[i];
    for (uint32_t o = PLAN_SLOT; o < h->blob_size; o += PLAN_SLOT) {
        struct plan_slot *slot = (struct plan_slot *)(void *)(to + o);

        if (!(slot->flags & PLAN_F_FUNCTION))
            slot->flags = (slot->flags & 0xffffffu) | (uint32_t)op_of_nr(slot->nr) << 24;
    }
    for (uint32_t i = 0; i < h->patch_count; i++) {
        uint32_t target = plan_patch_target(h, &patch[i]) & ~(PLAN_SLOT - 1);

        if (patch[i].when == PLAN_TIMING && target && target < h->blob_size)
            ((struct plan_slot *)(void *)(to + target))->flags |= SLOT_F_TIMED_ONLY;
    }
}

/* Sites of one image, counted. */
struct plan_sites {
    uint32_t patched[PLAN_METHODS];    /* by enum plan_method; [PLAN_NONE] is 0 */
    uint32_t refused[PLAN_REASON_MAX]; /* by enum plan_reason; [PLAN_OK] and [PLAN_R_UNINTERESTING] are 0 */
    uint32_t partly;                   /* of those patched: without the enter hook that was wanted */
    uint32_t go;                       /* ... in Go code */
    uint32_t functions, hooked;        /* of TLS libraries, which tell plaintext: all, wanted or not; those patched */
    uint32_t go_functions, go_hooked;  /* ... of these, those of Go's crypto/tls */
    uint32_t keys;                     /* of those patched: where keys of linked-in libraries are set up */
    uint32_t natives;                  /* ... native methods of Java's network, by which its classes are reached */
};

/* Whether the patches of a site are not to be made, or were not. */
static inline int plan_site_refused(const struct plan_site *s)
{
    return s->method == PLAN_NONE || s->reason >= PLAN_R_CHANGED;
}

/* Whether it is a function by which plaintext of a TLS library is seen. */
static inline int plan_site_reads_tls(const struct plan_site *s)
{
    const struct fn_desc *fn = s->flags & PLAN_F_FUNCTION && s->nr >= 0 && s->nr < FN_MAX ? &fn_table[s->nr] : 0;

    /* BIOs and NSPR's descriptors are for other things, too; NSS has none but NSPR's. */
    return fn && (fn->family == FNF_NSS || (fn->shape == FNS_DATA && fn->family != FNF_BIO && fn->family != FNF_NSPR));
}

static inline int plan_site_is_of(const struct plan_site *s, enum fn_family family)
{
    return s->flags & PLAN_F_FUNCTION && s->nr >= 0 && s->nr < FN_MAX && fn_table[s->nr].family == family;
}

/* What became of the sites of a plan. functions, crash: those of functions count, those of PLAN_CRASH, too. all: why none of them could be patched,
 * else PLAN_OK. */
static inline void plan_count_sites(const struct plan_header *h, int functions, int crash, enum plan_reason all,
                                    struct plan_sites *ret)
{
    const struct plan_site *s = (const struct plan_site *)(const void *)((const char *)h + h->site_off);

    __builtin_memset(ret, 0, sizeof(*ret));
    for (uint32_t i = 0; i < h->site_count; i++) {
        unsigned reason = s[i].method != PLAN_NONE && all != PLAN_OK ? (unsigned)all : s[i].reason;

        if (!crash && (s[i].flags & PLAN_F_CRASH))
            continue;
        if (reason == PLAN_R_UNINTERESTING || reason >= PLAN_REASON_MAX || s[i].method >= PLAN_METHODS ||
            (!functions && (s[i].flags & PLAN_F_FUNCTION))) {
            ret->functions += !functions && plan_site_reads_tls(&s[i]);
            ret->go_functions += !functions && plan_site_reads_tls(&s[i]) && plan_site_is_of(&s[i], FNF_GO);
            continue;
        }
        ret->functions += plan_site_reads_tls(&s[i]);
        ret->go_functions += plan_site_reads_tls(&s[i]) && plan_site_is_of(&s[i], FNF_GO);
        if (s[i].method == PLAN_NONE || reason >= PLAN_R_CHANGED) {
            ret->refused[reason]++;
        } else {
            ret->hooked += plan_site_reads_tls(&s[i]);
            ret->go_hooked += plan_site_reads_tls(&s[i]) && plan_site_is_of(&s[i], FNF_GO);
            ret->keys += plan_site_is_of(&s[i], FNF_AES);
            ret->natives += plan_site_is_of(&s[i], FNF_JNI);
            ret->patched[s[i].method]++;
            ret->partly += reason != PLAN_OK;
            ret->go += s[i].flags & PLAN_F_GO ? 1 : 0;
        }
    }
}

static inline uint32_t plan_sites_patched(const struct plan_sites *n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < PLAN_METHODS; i++)
        sum += n->patched[i];
    return sum;
}

/* Whether calls that are observed may be made, unseen, at a site that was left alone for this reason. Not where there are
 * none (data), where they are known otherwise (a thread's end in musl), or where the user was told (by scope attach). */
static inline int plan_reason_hides(unsigned reason)
{
    return reason != PLAN_OK && reason != PLAN_R_UNINTERESTING && reason != PLAN_R_DATA_IN_TEXT &&
           reason != PLAN_R_ENTER_ONLY && reason != PLAN_R_NO_STACK && reason != PLAN_R_MINOR &&
           reason != PLAN_R_OCCUPIED && reason != PLAN_R_UNKNOWN_FORM && reason != PLAN_R_SELF_CHECK &&
           reason != PLAN_R_RUNNING;
}

/* How many sites hide calls. */
static inline uint32_t plan_sites_hidden(const struct plan_sites *n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < PLAN_REASON_MAX; i++)
        sum += plan_reason_hides(i) ? n->refused[i] : 0;
    return sum;
}

static inline uint32_t plan_sites_refused(const struct plan_sites *n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < PLAN_REASON_MAX; i++)
        sum += n->refused[i];
    return sum;
}

#endif
